/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel has refused, for the journal and the bus; and who has died, for the reaper. */
#pragma once

#include "dbus/core/manager.h"

/* For accounting_set_handler(), whose data is the Manager. */
void kernel_event_handle(const LedgerEvent *event, void *manager);
