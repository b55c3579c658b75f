/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/devices.h"

#include <errno.h>
#include <string.h>

#include "kernel/base/pci-address.h"
#include "kernel/ledger/machines.h"

static int name_device(const char *address, struct ledger_device_key *ret_key)
{
    /* A name that fills the key up is cut off there, and then taken for none (guard.bpf.h). */
    G_STATIC_ASSERT(PCI_ADDRESS_SIZE < LEDGER_DEVICE_NAME);

    if (!pci_address_is_canonical(address))
        return -EINVAL;
    *ret_key = (struct ledger_device_key){0};
    memcpy(ret_key->name, address, strlen(address));
    return 0;
}

int ledger_admit_device(Ledger *ledger, const char *address, const LedgerClaim *claim,
                        uint32_t *ret_machine)
{
    struct control_admit_device args = {.tenant = claim->tenant,
                                        .machine = claim->machine,
                                        .unit = claim->unit,
                                        .flags = claim->flags};
    int r = name_device(address, &args.device);

    if (r >= 0)
        r = program_run(bpf_ledger(ledger), CONTROL_ADMIT_DEVICE, &args, sizeof(args));
    if (r == -EBUSY && ret_machine)
        *ret_machine = args.ret_machine;
    return r;
}

int ledger_dismiss_device(Ledger *ledger, const char *address, uint32_t machine)
{
    struct control_dismiss_device args = {.machine = machine};
    int r = name_device(address, &args.device);

    return r < 0 ? r : program_run(bpf_ledger(ledger), CONTROL_DISMISS_DEVICE, &args, sizeof(args));
}

int ledger_device(Ledger *ledger, const char *address, LedgerClaim *ret_claim)
{
    struct ledger_device_key key;
    struct ledger_device device;
    LedgerMachine machine;
    int r = name_device(address, &key);

    if (r >= 0)
        r = map_get(bpf_ledger(ledger), MAP_DEVICES, &key, &device);
    if (r >= 0 && !device.holder)
        r = -ENOENT;
    if (r >= 0 && device.machine)
        r = ledger_machine(ledger, device.machine, &machine);
    if (r < 0)
        return r;
    *ret_claim = (LedgerClaim){.tenant = device.tenant,
                               .machine = device.machine,
                               .unit = device.unit,
                               .flags = device.flags};
    return 0;
}
