/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The admission of a machine: policy's yes, the tenant's IOMMUFD, the record, the kernel's guard.
 */
#pragma once

#include "dbus/core/machine.h"

typedef enum {
    ADMISSION_DONE,
    ADMISSION_REFUSED, /* error is set; nothing has changed */
    ADMISSION_WAIT,    /* its last run is still being reaped: ask again when the queue says that it
                          is gone */
} AdmissionOutcome;

/* Admits a machine, all or nothing. One that is admitted already is admitted anew in place of the
 * old: its start was lost. MACHINE_EXISTS: it runs, or a living process owns something of it;
 * DEVICE_BUSY: one of the devices is being bound;
 * KERNEL_REFUSED; and what registry_check_admission() says. request: canonical. */
AdmissionOutcome machine_admit(Manager *manager, const AdmissionRequest *request, GError **error);
