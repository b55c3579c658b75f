/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tells the kernel who is who: tenants, machines, devices, and those that pass descriptors on. */
#include "dbus/accounting/accounting.h"

#include "dbus/accounting/internal.h"
#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "kernel/base/process.h"

#include <errno.h>

/* The ledger's answer r as an error. key: of iommud.conf, which makes the table larger when that is
 * full (-E2BIG, or -ENOMEM from our own programs). */
G_GNUC_PRINTF(4, 5)
static gboolean set_error(GError **error, int r, const char *key, const char *format, ...)
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
    return FALSE;
}

/* ---- tenants ---- */

gboolean accounting_set_tenant(Accounting *accounting, uint32_t tenant, const TenantConfig *config,
                               GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    if (!ledger)
        return TRUE;
    int r = ledger->ops->set_limit(ledger, tenant, config->limit,
                                   config->count == COUNT_UNIQUE ? LEDGER_COUNT_MODE_UNIQUE
                                                                 : LEDGER_COUNT_MODE_CHARGED);
    return r >= 0 || set_error(error, r, "MaxIommufds",
                               "The kernel does not take the limit of tenant %s", config->id);
}

void accounting_remove_tenant(Accounting *accounting, uint32_t tenant)
{
    Ledger *ledger = accounting_ledger(accounting);
    if (ledger && tenant)
        (void)ledger->ops->remove_tenant(ledger, tenant);
}

gboolean accounting_register_iommufd(Accounting *accounting, int fd, uint32_t tenant, bool shared,
                                     uint32_t *ret_context, GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    unsigned flags = shared ? LEDGER_CONTEXT_FLAG_SHARED : 0;
    *ret_context = 0;
    if (!ledger)
        return TRUE;
    if (accounting_guard_is_active(accounting))
        flags |= LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_RESTRICTED;
    int r = ledger->ops->register_iommufd(ledger, fd, tenant, flags, ret_context);
    return r >= 0 || set_error(error, r, "MaxIommufds", "the IOMMUFD could not be put under guard");
}

/* ---- machines and devices ---- */

gboolean accounting_add_machine(Accounting *accounting, uint32_t machine, uint32_t tenant,
                                GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    int r = ledger ? ledger->ops->add_machine(ledger, machine, tenant) : 0;
    if (r < 0)
        return set_error(error, r, "MaxProcesses",
                         "it could not be made known to the kernel's guard");
    g_hash_table_insert(accounting->machines, GUINT_TO_POINTER(machine), GUINT_TO_POINTER(tenant));
    return TRUE;
}

void accounting_remove_machine(Accounting *accounting, uint32_t machine)
{
    Ledger *ledger = accounting_ledger(accounting);
    if (g_hash_table_remove(accounting->machines, GUINT_TO_POINTER(machine)) && ledger)
        (void)ledger->ops->remove_machine(ledger, machine);
}

void accounting_set_budget(Accounting *accounting, uint64_t bytes)
{
    Ledger *ledger = accounting_ledger(accounting);
    int r = ledger ? ledger->ops->set_budget(ledger, bytes) : 0;
    if (r < 0)
        journal_write(LOG_WARNING, MESSAGE_KERNEL_NOT_TOLD, NULL,
                      "The kernel does not take the host's budget (%s): mappings are checked "
                      "against the one it had. Reload iommud to try again.",
                      g_strerror(-r));
}

/* ---- what is promised to machines ---- */

gboolean accounting_promise(Accounting *accounting, const AccountingPromise *promise,
                            GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    LedgerShortage shortage;
    if (!ledger || promise->machine == 0)
        return TRUE;
    int r =
        ledger->ops->reserve_machine(ledger, promise->machine, promise->bytes, false, &shortage);
    if (r == -EDQUOT) {
        charge_refuse(promise->budget,
                      shortage.host ? IOMMUD_ERROR_HOST_BUDGET_EXCEEDED
                                    : IOMMUD_ERROR_LIMIT_EXCEEDED,
                      promise->bytes - promise->before, shortage.left, promise->what,
                      promise->before > 0, error);
        return FALSE;
    }
    if (r < 0)
        error_set_kernel(error, r, "The kernel's account does not take what %s is promised",
                         promise->what);
    return r >= 0;
}

void accounting_promise_again(Accounting *accounting, uint32_t machine, uint64_t bytes)
{
    Ledger *ledger = accounting_ledger(accounting);
    int r =
        ledger && machine ? ledger->ops->reserve_machine(ledger, machine, bytes, true, NULL) : 0;
    if (r < 0)
        journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD, NULL,
                      "The kernel's account does not take back what a machine was promised (%s): "
                      "its mappings are checked against what its tenant has left.",
                      g_strerror(-r));
}

bool accounting_promised(Accounting *accounting, uint32_t machine, uint64_t *ret_bytes)
{
    Ledger *ledger = accounting_ledger(accounting);
    LedgerMachine account;
    if (!ledger || machine == 0 || ledger->ops->machine(ledger, machine, &account) < 0)
        return false;
    *ret_bytes = account.reserved;
    return true;
}

bool accounting_follow_limit(Accounting *accounting, uint32_t machine, uint64_t limit,
                             uint64_t reserved)
{
    Ledger *ledger = accounting_ledger(accounting);
    return ledger && machine != 0 &&
           ledger->ops->follow_limit(ledger, machine, limit, reserved) >= 0;
}

gboolean accounting_name_leader(Accounting *accounting, uint32_t machine, uint32_t tenant,
                                const PidRef *leader, GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    LedgerMachine shown = {0};
    int r =
        ledger ? ledger->ops->name_process(ledger, leader->pid, leader->start, machine, tenant) : 0;
    if (r != -EEXIST)
        return r >= 0 ||
               set_error(error, r, "MaxProcesses", "Process %d could not be named as the machine's",
                         (int)leader->pid);
    (void)ledger->ops->machine(ledger, machine, &shown);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "Process %d can't be the machine's leader: process %d (%.16s) has bound a device "
                "of that machine before it. Find out what that is, and end it.",
                (int)leader->pid, (int)shown.pid, shown.comm);
    return FALSE;
}

gboolean accounting_admit_device(Accounting *accounting, const char *address, uint32_t tenant,
                                 uint32_t machine, bool reset_shared, GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    const LedgerClaim claim = {.tenant = tenant,
                               .machine = machine,
                               .flags = reset_shared ? LEDGER_DEVICE_FLAG_RESET_SHARED : 0};
    int r = ledger ? ledger->ops->admit_device(ledger, address, &claim, NULL) : 0;
    if (r == -EBUSY) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                    "Device %s has been claimed by another machine meanwhile: try again, or choose "
                    "another device.",
                    address);
        return FALSE;
    }
    return r >= 0 || set_error(error, r, "MaxProcesses",
                               "Device %s could not be made known to the kernel's guard", address);
}

void accounting_dismiss_device(Accounting *accounting, const char *address, uint32_t machine)
{
    Ledger *ledger = accounting_ledger(accounting);
    if (ledger && machine)
        (void)ledger->ops->dismiss_device(ledger, address, machine);
}

uint32_t accounting_device_machine(Accounting *accounting, const char *address)
{
    Ledger *ledger = accounting_ledger(accounting);
    LedgerClaim claim;
    return ledger && ledger->ops->device(ledger, address, &claim) >= 0 ? claim.machine : 0;
}

/* ---- those who pass descriptors on ---- */

void accounting_set_relay_units(Accounting *accounting, const char *const *units)
{
    Ledger *ledger = accounting_ledger(accounting);
    int r = ledger ? ledger->ops->set_relay_units(ledger, units) : 0;
    if (r < 0)
        journal_write(LOG_WARNING, MESSAGE_KERNEL_NOT_TOLD, NULL,
                      "The kernel does not take what FdRelayUnits= says (%s): units that it no "
                      "longer names may still pass IOMMUFDs on. Reload iommud to try again.",
                      g_strerror(-r));
}

void accounting_trust_relay(Accounting *accounting, pid_t pid)
{
    Ledger *ledger = accounting_ledger(accounting);
    uint64_t start;
    if (ledger && process_start_time(pid, &start) >= 0)
        (void)ledger->ops->trust_relay(ledger, pid, start);
}

gboolean accounting_allow_receiver(Accounting *accounting, pid_t pid, uint32_t tenant,
                                   GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    uint64_t start;
    if (!ledger || !accounting_guard_is_active(accounting))
        return TRUE;
    int r = process_start_time(pid, &start);
    if (r >= 0)
        r = ledger->ops->allow_receiver(ledger, pid, start, tenant);
    if (r != -EEXIST)
        return r >= 0 ||
               set_error(error, r, "MaxProcesses",
                         "Process %d could not be made known to the kernel's guard", (int)pid);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                "Process %d holds another tenant's IOMMUFD and can't have this one: open it from "
                "another process.",
                (int)pid);
    return FALSE;
}
