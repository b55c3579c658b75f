/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XML that somebody else wrote, made harmless before anybody looks at it. */
#pragma once

#include <glib.h>
#include <libxml/tree.h>
#include <stdbool.h>

/* A domain of libvirt is a few kilobytes; the largest that was ever seen is far below 1 MiB. */
#define XML_MAX_BYTES (4u * 1024 * 1024)

#define XML_ERROR (xml_error_quark())
GQuark xml_error_quark(void);

typedef enum {
    XML_ERROR_IO,      /* it can't be read */
    XML_ERROR_INVALID, /* it is not what it must be; the message is a sentence that says how */
} XmlError;

/* Sets error to INVALID with this sentence, and is FALSE. */
G_GNUC_PRINTF(2, 3) gboolean xml_invalid(GError **error, const char *format, ...);

/* All of fd up to XML_MAX_BYTES; a longer input is refused without reading its rest. */
char *xml_read(int fd, size_t *ret_length, GError **error);

/* The document in text. Refused: anything but UTF-8 without NUL bytes, a DOCTYPE (so that there is
 * no entity to expand and nothing to load), deep nesting (libxml2's limit of 256), more elements
 * and attributes than a domain can have. Comments and processing instructions are dropped. Freed
 * with xmlFreeDoc(). */
xmlDoc *xml_parse(const char *text, size_t length, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/* Whether node is an element of this name in this namespace (NULL: in none). */
bool xml_is(const xmlNode *node, const char *name, const char *ns);
/* The first such element at or after node among its siblings, or NULL. Walks children with
 * for (n = xml_first(parent->children, ...); n; n = xml_first(n->next, ...)). */
xmlNode *xml_first(xmlNode *node, const char *name, const char *ns);
/* The attribute's value, freed with g_free(), or NULL. */
char *xml_attribute(xmlNode *node, const char *name);
/* Whether the attribute is there and has this value. */
bool xml_attribute_is(xmlNode *node, const char *name, const char *value);
/* The text inside an element, freed with g_free(). */
char *xml_text(xmlNode *node);
