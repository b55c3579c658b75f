/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the interfaces have in common: whom they work with, and how objects and replies are made. */
#pragma once

#include "dbus/base/names.h"
#include "dbus/base/paths.h"
#include "dbus/bus/pending-call.h"
#include "dbus/reaper/reaper.h"

/* What the methods of all interfaces work with: the userdata of the manager's vtable. The vtables
 * of tenants and machines have theirs, and find it as their Manager's. */
typedef struct {
    Manager *manager;
    Reaper *reaper;
    PendingCalls *pending;
} Service;

/* A kind of objects, all below one path. */
typedef struct {
    const char *prefix;
    const char *interface;
    const sd_bus_vtable *vtable; /* its userdata is the Service, also for a single object */
    /* Whether there is an object at the path. */
    bool (*exists)(Service *service, const char *path);
    /* The paths of all there are: paths that malloc() made, NULL-terminated, likewise. */
    char **(*list)(Service *service);
} BusKind;

/* kind stays where it is. 0 or negative errno. */
int bus_register_kind(Service *service, const BusKind *kind);

/* An array of strings; NULL-terminated, NULL is empty. 0 or negative errno. */
int bus_append_strings(sd_bus_message *message, const char *const *strings);
/* The property of a Usage by that name ("PinnedBytes" ...). 0 or negative errno. */
int bus_append_usage(sd_bus_message *reply, const char *property, const Usage *usage);
/* The call is answered with nothing, or with error's name and sentence. Takes call. */
void bus_answer(sd_bus_message *call, const GError *error);
