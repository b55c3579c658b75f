/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the numbers of events and objects are called. */
#include "kernel/ledger/ledger.h"

#include <glib.h>

#include "kernel/bpf/ioctls.h"

/* By the low byte of their numbers, of which the others are the same for all. */
#define NAME(ioctl, ...) [_IOC_NR(ioctl)] = #ioctl,
static const char *const ioctls[] = {IOMMUFD_IOCTLS(NAME) VFIO_FILE_IOCTLS(NAME)};
#undef NAME

static const char *const types[] = {
    [LEDGER_OBJECT_TYPE_OTHER] = "other",       [LEDGER_OBJECT_TYPE_DEVICE] = "device",
    [LEDGER_OBJECT_TYPE_HWPT_PAGING] = "hwpt",  [LEDGER_OBJECT_TYPE_HWPT_NESTED] = "hwpt-nested",
    [LEDGER_OBJECT_TYPE_IOAS] = "ioas",         [LEDGER_OBJECT_TYPE_ACCESS] = "access",
    [LEDGER_OBJECT_TYPE_FAULT] = "fault",       [LEDGER_OBJECT_TYPE_VIOMMU] = "viommu",
    [LEDGER_OBJECT_TYPE_VDEVICE] = "vdevice",   [LEDGER_OBJECT_TYPE_VEVENTQ] = "veventq",
    [LEDGER_OBJECT_TYPE_HW_QUEUE] = "hw-queue",
};

const char *ledger_ioctl_name(uint32_t command)
{
    uint32_t number = _IOC_NR(command);

    return number < G_N_ELEMENTS(ioctls) && ioctls[number] ? ioctls[number] : "an unknown ioctl";
}

const char *ledger_object_type_name(LedgerObjectType type)
{
    return (unsigned)type < G_N_ELEMENTS(types) ? types[type] : types[LEDGER_OBJECT_TYPE_OTHER];
}
