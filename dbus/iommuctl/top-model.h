/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What 'iommuctl top' shows: who has pinned how much, and how busy everybody is. */
#pragma once

#include "dbus/client/managed-objects.h"
#include "dbus/iommuctl/base/table.h"

typedef enum {
    TOP_NAME,
    TOP_PINNED,
    TOP_LIMIT,
    TOP_SHARE,
    TOP_MAPS,
    TOP_UNMAPS,
    TOP_REFUSED,
    TOP_PEAK,
    _TOP_KEY_MAX,
} TopKey;

/* For people, by TopKey: "name", "pinned" and so on; NULL-terminated. */
extern const char *const top_key_names[];
/* The key that is typed for it. */
char top_key_letter(TopKey key);

/* Two answers of the service and the time between them. */
typedef struct {
    Managed now;
    Managed before; /* empty: there is none yet, and no rate */
    int64_t when;
    int64_t elapsed; /* µs */
} TopSample;

/* Makes what is there the answer before, and asks anew. When that fails all stays as it was. */
int top_sample(TopSample *sample, sd_bus *bus, sd_bus_error *error);
void top_sample_clear(TopSample *sample);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TopSample, top_sample_clear)

/* The rows, sorted. width: that much of a name is shown, 0: all of it. */
Table *top_table(const TopSample *sample, bool tenants, TopKey sort, unsigned width);
