/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A writer of JSON: calls in the order of the text. Commas, indents and escapes are its business,
 * what is opened must be closed. Strings become valid UTF-8 whatever they were; numbers are whole.
 *
 *   g_autoptr(Json) json = json_new(true);
 *   json_open_object(json, NULL);
 *   json_string(json, "id", "acme");
 *   json_open_array(json, "machines");
 *   json_string(json, NULL, "web-1");
 *   json_close_array(json);
 *   json_close_object(json);
 *   g_autofree char *text = json_finish(json);
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Json Json;

/* pretty: two spaces per level and one value per line; else everything on one line. */
Json *json_new(bool pretty);
/* Accepts NULL. */
void json_free(Json *json);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Json, json_free)

/* In all of these key names the value inside an object, and is NULL inside an array or for the
 * outermost value. */
void json_open_object(Json *json, const char *key);
void json_close_object(Json *json);
void json_open_array(Json *json, const char *key);
void json_close_array(Json *json);

/* NULL becomes null. */
void json_string(Json *json, const char *key, const char *value);
void json_u64(Json *json, const char *key, uint64_t value);
void json_i64(Json *json, const char *key, int64_t value);
void json_bool(Json *json, const char *key, bool value);
void json_null(Json *json, const char *key);
/* Bytes: UINT64_MAX, "no limit", becomes null. */
void json_bytes(Json *json, const char *key, uint64_t value);
/* An array of strings; NULL-terminated, NULL is []. */
void json_strings(Json *json, const char *key, const char *const *values);

/* The text, without a newline at its end, to be freed with g_free(); json is empty then. Asserts
 * that everything was closed. */
char *json_finish(Json *json);
