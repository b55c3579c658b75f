/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ledger-promises.h"

#include <errno.h>

/* ---- tenants and the host ---- */

static uint64_t left_of(uint64_t limit, uint64_t used)
{
    if (limit == LEDGER_UNLIMITED)
        return LEDGER_UNLIMITED;
    return limit > used ? limit - used : 0;
}

static int check_budgets(SimLedger *ledger, uint32_t number, uint64_t bytes,
                         LedgerShortage *ret_shortage)
{
    const SimTenant *tenant = sim_store_get(ledger, SIM_TENANTS, number);
    const SimBudget *host = sim_store_host(ledger);
    uint64_t of_tenant = tenant ? left_of(tenant->limit, tenant->used) : 0;
    uint64_t of_host = left_of(LEDGER_UNLIMITED - host->unlimited_less, host->used);
    if (bytes <= of_tenant && bytes <= of_host)
        return 0;
    *ret_shortage =
        bytes > of_tenant ? (LedgerShortage){false, of_tenant} : (LedgerShortage){true, of_host};
    return -EDQUOT;
}

/* added - taken: one of them is 0. */
static void add_to_budgets(SimLedger *ledger, uint32_t number, uint64_t added, uint64_t taken)
{
    SimTenant *tenant = sim_store_get(ledger, SIM_TENANTS, number);
    if (tenant)
        tenant->used += added - taken;
    sim_store_host(ledger)->used += added - taken;
}

void sim_promise_set_budget(SimLedger *ledger, uint64_t bytes)
{
    sim_store_host(ledger)->unlimited_less = LEDGER_UNLIMITED - bytes;
}

/* ---- what is mapped ---- */

int sim_promise_check(SimLedger *ledger, uint32_t tenant, uint32_t number, uint64_t bytes,
                      LedgerShortage *ret_shortage)
{
    const SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    uint64_t room = machine ? machine->room : 0;
    if (bytes <= room)
        return 0;
    int r = check_budgets(ledger, tenant, bytes - room, ret_shortage);
    if (r < 0)
        ret_shortage->left += room;
    return r;
}

void sim_promise_count(SimLedger *ledger, uint32_t tenant, uint32_t number, uint64_t bytes)
{
    SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    uint64_t borrowed = bytes - (machine ? MIN(bytes, machine->room) : 0);
    if (tenant == 0)
        return;
    if (machine) {
        machine->room -= bytes - borrowed;
        machine->borrowed += borrowed;
    }
    add_to_budgets(ledger, tenant, borrowed, 0);
}

void sim_promise_uncount(SimLedger *ledger, uint32_t tenant, uint32_t number, uint64_t bytes)
{
    SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    uint64_t back = machine ? MIN(bytes, machine->borrowed) : bytes;
    if (tenant == 0)
        return;
    if (machine) {
        machine->borrowed -= back;
        machine->room += bytes - back;
    }
    add_to_budgets(ledger, tenant, 0, back);
}

/* ---- what is promised ---- */

/* Gives back what is borrowed and not mapped. */
static void trim(SimLedger *ledger, SimMachine *machine)
{
    uint64_t back = MIN(machine->borrowed, machine->room);
    machine->borrowed -= back;
    machine->room -= back;
    add_to_budgets(ledger, machine->tenant, 0, back);
}

int sim_promise_set(SimLedger *ledger, uint32_t number, uint64_t bytes, bool again,
                    LedgerShortage *ret_shortage)
{
    SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    LedgerShortage shortage;
    if (!machine || !sim_store_get(ledger, SIM_TENANTS, machine->tenant))
        return -ENOENT;
    if (bytes < machine->reserved) {
        machine->borrowed += machine->reserved - bytes;
        machine->reserved = bytes;
        trim(ledger, machine);
        return 0;
    }
    uint64_t more = bytes - machine->reserved, borrowed = MIN(more, machine->borrowed);
    int r = again || more == borrowed
                ? 0
                : check_budgets(ledger, machine->tenant, more - borrowed, &shortage);
    if (r < 0) {
        shortage.left += borrowed;
        if (ret_shortage)
            *ret_shortage = shortage;
        return r;
    }
    machine->borrowed -= borrowed;
    machine->room += more - borrowed;
    machine->reserved = bytes;
    add_to_budgets(ledger, machine->tenant, more - borrowed, 0);
    return 0;
}

void sim_promise_close(SimLedger *ledger, const SimMachine *machine)
{
    add_to_budgets(ledger, machine->tenant, 0, machine->room);
}

void sim_promise_begin(SimLedger *ledger)
{
    g_autoptr(GPtrArray) tenants = sim_store_list(ledger, SIM_TENANTS);
    g_autoptr(GPtrArray) machines = sim_store_list(ledger, SIM_MACHINES);
    for (guint i = 0; i < tenants->len; i++)
        ((SimTenant *)tenants->pdata[i])->used = 0;
    sim_store_host(ledger)->used = 0;
    for (guint i = 0; i < machines->len; i++) {
        SimMachine *machine = machines->pdata[i];
        machine->borrowed = 0;
        machine->room = machine->reserved;
        add_to_budgets(ledger, machine->tenant, machine->reserved, 0);
    }
}

/* ---- devices ---- */

static bool is_there(SimLedger *ledger, const SimLedgerDevice *device)
{
    return device->machine != 0 ? sim_store_get(ledger, SIM_MACHINES, device->machine) != NULL
                                : sim_store_get(ledger, SIM_TENANTS, device->tenant) != NULL;
}

/* A machine that is there, and not this one, has a device of the unit. */
static bool unit_is_held(SimLedger *ledger, const LedgerClaim *claim, uint32_t *ret_machine)
{
    if (claim->unit == 0)
        return false;
    g_autoptr(GPtrArray) devices = sim_store_list(ledger, SIM_DEVICES);
    for (guint i = 0; i < devices->len; i++) {
        const SimLedgerDevice *device = devices->pdata[i];
        if (device->unit != claim->unit || device->machine == claim->machine ||
            !is_there(ledger, device))
            continue;
        *ret_machine = device->machine;
        return true;
    }
    return false;
}

int sim_claim_device(SimLedger *ledger, uint64_t key, const LedgerClaim *claim,
                     uint32_t *ret_machine)
{
    SimLedgerDevice *device = sim_store_get(ledger, SIM_DEVICES, key);
    if (device && device->tenant == claim->tenant && device->machine == claim->machine) {
        device->flags = claim->flags;
        return 0;
    }
    if (device && is_there(ledger, device)) {
        *ret_machine = device->machine;
        return -EBUSY;
    }
    if (unit_is_held(ledger, claim, ret_machine))
        return -EBUSY;
    if (!device)
        device = sim_store_add(ledger, SIM_DEVICES, key);
    if (!device)
        return -E2BIG;
    *device = (SimLedgerDevice){.key = key,
                                .tenant = claim->tenant,
                                .machine = claim->machine,
                                .unit = claim->unit,
                                .flags = claim->flags};
    return 0;
}
