/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/bus.h"

#include "dbus/base/errors.h"

/* ---- kinds ---- */

/* What the callbacks of a kind get. */
typedef struct {
    Service *service;
    const BusKind *kind;
} KindSlot;

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *ret_error)
{
    KindSlot *slot = userdata;
    bool there = slot->kind->exists(slot->service, path);
    *ret_found = there ? slot->service : NULL;
    return there;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                     sd_bus_error *ret_error)
{
    KindSlot *slot = userdata;
    *ret_nodes = slot->kind->list(slot->service);
    return 0;
}

static void slot_free(void *slot)
{
    g_free(slot);
}

int bus_register_kind(Service *service, const BusKind *kind)
{
    sd_bus *bus = service->manager->bus;
    sd_bus_slot *vtable = NULL;
    KindSlot *slot = g_new0(KindSlot, 1);
    slot->service = service;
    slot->kind = kind;
    int r = sd_bus_add_fallback_vtable(bus, &vtable, kind->prefix, kind->interface, kind->vtable,
                                       find, slot);
    if (r < 0) {
        g_free(slot);
        return r;
    }
    /* The bus owns both vtable and slot: the callback frees slot with it. */
    (void)sd_bus_slot_set_destroy_callback(vtable, slot_free);
    (void)sd_bus_slot_set_floating(vtable, true);
    (void)sd_bus_slot_unref(vtable);
    return sd_bus_add_node_enumerator(bus, NULL, kind->prefix, enumerate, slot);
}

/* ---- replies ---- */

int bus_append_usage(sd_bus_message *reply, const char *property, const Usage *usage)
{
    static const struct {
        const char *property;
        size_t offset;
    } known[] = {
        {"PinnedBytes", offsetof(Usage, pinned)}, {"OrphanedBytes", offsetof(Usage, orphaned)},
        {"PeakBytes", offsetof(Usage, peak)},     {"UniqueBytes", offsetof(Usage, unique)},
        {"MappedBytes", offsetof(Usage, mapped)}, {"Maps", offsetof(Usage, maps)},
        {"Unmaps", offsetof(Usage, unmaps)},      {"Refusals", offsetof(Usage, refusals)},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_str_equal(property, known[i].property))
            return sd_bus_message_append(
                reply, "t", *(const uint64_t *)((const char *)usage + known[i].offset));
    }
    return -ENOENT;
}

int bus_append_strings(sd_bus_message *message, const char *const *strings)
{
    int r = sd_bus_message_open_container(message, 'a', "s");
    for (size_t i = 0; r >= 0 && strings && strings[i]; i++)
        r = sd_bus_message_append_basic(message, 's', strings[i]);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

void bus_answer(sd_bus_message *call, const GError *error)
{
    if (error)
        bus_error_reply(call, error);
    else
        (void)sd_bus_reply_method_return(call, "");
    sd_bus_message_unref(call);
}
