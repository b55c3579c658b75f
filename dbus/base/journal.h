/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log of iommud and of its agents. With the journal as stderr (a unit), entries have fields to
 * search by: MESSAGE_ID=, IOMMUD_TENANT=, IOMMUD_MACHINE=, IOMMUD_DEVICE=, IOMMUD_BYTES=,
 * IOMMUD_LIMIT=, and of a refusal IOMMUD_PID=, IOMMUD_IOCTL=, IOMMUD_OBJECT=, IOMMUD_OWNER=.
 * Otherwise they are lines on stderr.
 */
#pragma once

#include "dbus/base/message-ids.h"
#include "dbus/base/refusal.h"

#include <glib.h>
#include <stdint.h>
#include <syslog.h>

/* What an entry is about; NULL, "" or 0 where it does not apply. */
typedef struct {
    const char *tenant;
    const char *machine;
    const char *device;
    const uint64_t *bytes;
    const uint64_t *limit;
    const Refusal *refusal; /* its tenant, machine, bytes and limit count, not those above */
} JournalFields;

/* Writes one entry in the name of the program. priority: LOG_ERR ... LOG_DEBUG. message_id and
 * fields may be NULL. */
void journal_write(int priority, const char *message_id, const JournalFields *fields,
                   const char *format, ...) G_GNUC_PRINTF(4, 5);
