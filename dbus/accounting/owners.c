/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who of the living has something of a machine whose leader nobody has named. */
#include "dbus/accounting/accounting.h"

#include "dbus/accounting/internal.h"
#include "kernel/base/process.h"

#include <unistd.h>

/* Of thousands of admissions that end one after another not each reads for itself what everybody
 * has: reading takes no more than 1/READING_SHARE of the time. */
#define READING_SHARE 20

static int64_t usual_age(const Accounting *accounting)
{
    return READING_SHARE * accounting->usage_duration;
}

static bool read_usage(Accounting *accounting)
{
    return accounting_read_usage(accounting, usual_age(accounting));
}

static bool has_something(const LedgerUsage *one)
{
    return one->alive && one->mapped > 0;
}

/* As of a reading that is no older than so many microseconds. */
static bool had_helper(Accounting *accounting, uint32_t machine, int64_t age)
{
    if (!accounting_read_usage(accounting, age))
        return true;
    for (size_t i = 0; i < accounting->n_usage; i++) {
        if (accounting->usage[i].machine == machine && has_something(&accounting->usage[i]))
            return true;
    }
    return false;
}

/* Whether a process of the machine's lives although its first one is dead: what that has forked. An
 * error says nothing, and so is none's death. What was read before that death would take the first
 * one itself for it: so only a reading of now says yes. */
static bool has_helper(Accounting *accounting, uint32_t machine)
{
    return had_helper(accounting, machine, usual_age(accounting)) &&
           had_helper(accounting, machine, 0);
}

/* The process that has bound a device of the machine, or that was named. */
static OwnerState find_shown(Accounting *accounting, uint32_t machine, PidRef *ret_owner)
{
    Ledger *ledger = accounting_ledger(accounting);
    LedgerMachine shown;
    int r = ledger->ops->machine(ledger, machine, &shown);
    if (r == -ENOENT || (r >= 0 && shown.pid == 0))
        return OWNER_NONE;
    if (r >= 0)
        r = pidref_from_pid(shown.pid, shown.start, ret_owner);
    if (r >= 0)
        return OWNER_FOUND;
    return r == -ESRCH && !has_helper(accounting, machine) ? OWNER_NONE : OWNER_UNKNOWN;
}

/*
 * Whether this one, which is nobody's, is the machine's. Its command line may say so, which a guest
 * that has broken out could forge. Where the guard checks, whoever binds a device has shown itself;
 * that the ledger does not know it is then the ledger's loss, or there is no device, and its word
 * is good for keeping the admission. Elsewhere a tenant is one trust domain and its word is
 * believed; and one that says nothing may be any machine.
 */
static OwnerState judge_stranger(Accounting *accounting, const LedgerUsage *one, const char *uuid,
                                 PidRef *ret_owner)
{
    bool guarded = accounting_guard_is_active(accounting);
    g_autofree char *said = NULL;
    int r = process_qemu_uuid(one->pid, &said);
    if (r == -ESRCH || (r >= 0 && !g_str_equal(said, uuid)))
        return OWNER_NONE;
    if (r == -ENXIO && guarded)
        return OWNER_NONE;
    if (r < 0 || guarded)
        return OWNER_UNKNOWN;
    r = pidref_from_pid(one->pid, one->start, ret_owner);
    return r >= 0 ? OWNER_FOUND : r == -ESRCH ? OWNER_NONE : OWNER_UNKNOWN;
}

/* A process that has mapped memory in an IOMMUFD of the tenant and is not known to be any machine.
 */
static OwnerState find_stranger(Accounting *accounting, uint32_t tenant, const char *uuid,
                                PidRef *ret_owner)
{
    OwnerState found = OWNER_NONE;
    if (!read_usage(accounting))
        return OWNER_UNKNOWN;
    for (size_t i = 0; found != OWNER_FOUND && i < accounting->n_usage; i++) {
        const LedgerUsage *one = &accounting->usage[i];
        if (one->tenant == tenant && one->machine == 0 && one->pid > 0 && one->pid != getpid() &&
            has_something(one))
            found = MAX(found, judge_stranger(accounting, one, uuid, ret_owner));
    }
    return found;
}

OwnerState accounting_find_owner(Accounting *accounting, uint32_t machine, uint32_t tenant,
                                 const char *uuid, PidRef *ret_owner)
{
    OwnerState found = find_shown(accounting, machine, ret_owner);
    return found != OWNER_NONE ? found : find_stranger(accounting, tenant, uuid, ret_owner);
}
