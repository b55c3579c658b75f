/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tells the kernel who is who: tenants, machines, devices, and those that pass descriptors on. */
#include "dbus/accounting/internal.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "kernel/base/pci-address.h"
#include "kernel/base/process.h"

#include <string.h>

/* ---- numbers ---- */

/* Both are kept before they are used: what is told to the kernel outlives the service. */
static bool next_number(Books *books, uint32_t *last, uint32_t *ret_number)
{
    g_autoptr(GError) error = NULL;
    ++*last;
    if (!state_save_numbers(books->manager, books->last_tenant, books->last_machine, &error)) {
        --*last;
        journal_write(LOG_ERR, MESSAGE_STATE_NOT_WRITTEN, NULL, "%s", error->message);
        return false;
    }
    *ret_number = *last;
    return true;
}

/* What the kernel said of somebody who was to be made known to it: where a map is full (-E2BIG, and
 * -ENOMEM from our own programs), by which key it gets larger. */
G_GNUC_PRINTF(4, 5)
static void set_error(GError **error, int r, const char *key, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    if (r == -E2BIG || r == -ENOMEM)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
                    "%s: the ledger has no room for one more. Raise %s= in iommud.conf and restart "
                    "iommud.",
                    what, key);
    else
        error_set_kernel(error, r, "%s", what);
}

/* ---- tenants ---- */

void books_set_tenant(Books *books, TenantLife *life)
{
    const TenantConfig *config = life->tenant->config;
    if (!books_count(books))
        return;
    if (life->number == 0) {
        if (!next_number(books, &books->last_tenant, &life->number))
            return;
        state_save_tenant(life);
    }
    g_hash_table_insert(books->tenants, GUINT_TO_POINTER(life->number), life);
    int r = books->ledger->ops->set_limit(
        books->ledger, life->number, config->limit,
        config->count == COUNT_UNIQUE ? LEDGER_COUNT_MODE_UNIQUE : LEDGER_COUNT_MODE_CHARGED);
    if (r >= 0)
        return;
    g_autoptr(GError) error = NULL;
    set_error(&error, r, "MaxIommufds", "The kernel does not take the limit of tenant %s",
              life->id);
    journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD, &(JournalAbout){.tenant = life->id}, "%s",
                  error->message);
}

void books_remove_tenant(Books *books, TenantLife *life)
{
    if (life->number == 0)
        return;
    g_hash_table_remove(books->tenants, GUINT_TO_POINTER(life->number));
    if (books_count(books))
        (void)books->ledger->ops->remove_tenant(books->ledger, life->number);
}

/* Without a number it would be nobody's, who has no limit. */
static gboolean need_number(const TenantLife *life, GError **error)
{
    if (life->number > 0)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
                "The kernel's guard does not know tenant %s, for no number could be kept for it in "
                "%s: make room there, and reload the service.",
                life->id, life->manager->runtime_dir);
    return FALSE;
}

gboolean books_register(Books *books, TenantLife *life, int fd, bool shared, GError **error)
{
    unsigned flags = LEDGER_CONTEXT_FLAG_RESTRICTED | (shared ? LEDGER_CONTEXT_FLAG_SHARED : 0);
    uint32_t context;
    if (!books_count(books))
        return TRUE;
    if (!need_number(life, error))
        return FALSE;
    if (books_guard(books))
        flags |= LEDGER_CONTEXT_FLAG_GUARDED;
    else
        flags &= ~(unsigned)LEDGER_CONTEXT_FLAG_RESTRICTED;
    int r = books->ledger->ops->register_iommufd(books->ledger, fd, life->number, flags, &context);
    if (r < 0) {
        set_error(error, r, "MaxIommufds", "The IOMMUFD of tenant %s could not be put under guard",
                  life->id);
        return FALSE;
    }
    if (shared)
        life->context = context;
    return TRUE;
}

/* ---- devices ---- */

/* Whether a reset of this device's bus or slot would reset others, too, as far as addresses tell:
 * those on its bus. What is behind a bridge on that bus is taken for affected. */
static bool reset_is_shared(Books *books, const MachineLife *life, const char *address)
{
    const HostDevice *devices;
    size_t n;
    if (!manager_devices(books->manager, &devices, &n, NULL))
        return true;
    for (size_t i = 0; i < n; i++) {
        if (!pci_address_same_bus(address, devices[i].address) || g_str_equal(address, devices[i].address))
            continue;
        const Machine *holder =
            registry_device_holder(books->manager->registry, devices[i].address);
        if (devices[i].bridge || (holder && holder != life->machine))
            return true;
    }
    return false;
}

static int admit_device(Books *books, const MachineLife *life, const char *address)
{
    unsigned flags = reset_is_shared(books, life, address) ? LEDGER_DEVICE_FLAG_RESET_SHARED : 0;
    return books->ledger->ops->admit_device(books->ledger, address, life->tenant->number,
                                            life->number, flags);
}

/* Whoever has a device on the same bus may no longer reset it, or may again. */
static void update_neighbours(Books *books, const char *address)
{
    GHashTableIter iter;
    void *machine;
    g_hash_table_iter_init(&iter, books->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        const MachineLife *life = machine;
        const GPtrArray *devices = life->machine->devices;
        for (unsigned i = 0; i < devices->len; i++) {
            const char *other = g_ptr_array_index(devices, i);
            if (pci_address_same_bus(address, other) && !g_str_equal(address, other))
                (void)admit_device(books, life, other);
        }
    }
}

void books_dismiss_device(Books *books, const char *address)
{
    if (!books_count(books))
        return;
    (void)books->ledger->ops->dismiss_device(books->ledger, address);
    update_neighbours(books, address);
}

/* ---- machines ---- */

gboolean books_admit(Books *books, MachineLife *life, GError **error)
{
    const GPtrArray *devices = life->machine->devices;
    int r = 0;
    if (!books_count(books) || !life->machine->iommufd)
        return TRUE;
    if (!need_number(life->tenant, error))
        return FALSE;
    if (life->number == 0 && !next_number(books, &books->last_machine, &life->number)) {
        error_set_kernel(error, -EIO, "Machine %s could not get a number", life->uuid);
        return FALSE;
    }
    g_hash_table_insert(books->machines, GUINT_TO_POINTER(life->number), life);
    r = books->ledger->ops->add_machine(books->ledger, life->number, life->tenant->number);
    for (unsigned i = 0; r >= 0 && i < devices->len; i++) {
        r = admit_device(books, life, g_ptr_array_index(devices, i));
        update_neighbours(books, g_ptr_array_index(devices, i));
    }
    if (r < 0)
        set_error(error, r, "MaxProcesses",
                  "Machine %s could not be made known to the kernel's guard", life->uuid);
    return r >= 0;
}

void books_dismiss(Books *books, MachineLife *life, const char *const *devices)
{
    if (life->number == 0)
        return;
    g_hash_table_remove(books->machines, GUINT_TO_POINTER(life->number));
    for (size_t i = 0; devices[i]; i++)
        books_dismiss_device(books, devices[i]);
    if (books_count(books))
        (void)books->ledger->ops->remove_machine(books->ledger, life->number);
    life->number = 0;
}

gboolean books_start(Books *books, MachineLife *life, pid_t pid, uint64_t start, GError **error)
{
    LedgerMachine other = {.pid = 0};
    if (!books_count(books))
        return TRUE;
    const LedgerOps *ops = books->ledger->ops;
    int r = ops->name_process(books->ledger, pid, start, life->number, life->tenant->number);
    if (r >= 0)
        return TRUE;
    if (r != -EEXIST) {
        set_error(error, r, "MaxProcesses", "Process %d could not be named as machine %s", (int)pid,
                  life->uuid);
        return FALSE;
    }
    (void)ops->machine(books->ledger, life->number, &other);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "Process %d can't be the leader of machine %s (%s): process %d (%s) has bound a "
                "device of that machine before it: find out what that is, and end it.",
                (int)pid, life->machine->name, life->uuid, (int)other.pid, other.comm);
    return FALSE;
}

/* What the process has made stays its own, and is the machine's no more: the number can stay. */
void books_undo_start(Books *books, MachineLife *life)
{
    if (!books_count(books) || life->number == 0)
        return;
    (void)books->ledger->ops->remove_machine(books->ledger, life->number);
    int r = books->ledger->ops->add_machine(books->ledger, life->number, life->tenant->number);
    if (r < 0)
        journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD,
                      &(JournalAbout){.tenant = life->tenant->id, .machine = life->uuid},
                      "Machine %s can't be made known to the kernel's guard again: %s.", life->uuid,
                      g_strerror(-r));
}

MachineLife *books_find_machine(const Books *books, uint32_t number)
{
    return number ? g_hash_table_lookup(books->machines, GUINT_TO_POINTER(number)) : NULL;
}

/* ---- those who pass descriptors on ---- */

void books_set_relay_units(Books *books, const char *const *units)
{
    if (!books_guard(books))
        return;
    int r = books->ledger->ops->set_relay_units(books->ledger, units);
    if (r < 0)
        journal_write(LOG_WARNING, MESSAGE_KERNEL_NOT_TOLD, NULL,
                      "Units that FdRelayUnits= no longer names may still pass IOMMUFDs on: %s.",
                      g_strerror(-r));
}

void books_trust_bus(Books *books, pid_t pid)
{
    uint64_t start;
    if (books_guard(books) && process_start_time(pid, &start) >= 0)
        (void)books->ledger->ops->trust_relay(books->ledger, pid, start);
}

gboolean books_name_client(Books *books, TenantLife *life, pid_t pid, GError **error)
{
    uint64_t start;
    if (!books_guard(books))
        return TRUE;
    int r = process_start_time(pid, &start);
    if (r >= 0)
        r = books->ledger->ops->allow_receiver(books->ledger, pid, start, life->number);
    if (r == -EEXIST)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "Process %d holds another tenant's IOMMUFD and can't have that of tenant %s: "
                    "open it from another process.",
                    (int)pid, life->id);
    else if (r < 0)
        set_error(error, r, "MaxProcesses",
                  "Process %d could not be made known to the kernel's guard", (int)pid);
    return r >= 0;
}
