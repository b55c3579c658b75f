/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* No CODE_FILE= and the like: all entries are sent from one function of this file. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#define FIELDS_MAX 14

typedef struct {
    struct iovec fields[FIELDS_MAX];
    size_t n;
} Entry;

static void entry_add(Entry *entry, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    g_assert_cmpuint(entry->n, <, FIELDS_MAX);
    char *field = g_strconcat(name, "=", value, NULL);
    entry->fields[entry->n++] = (struct iovec){.iov_base = field, .iov_len = strlen(field)};
}

static void entry_add_bytes(Entry *entry, const char *name, const uint64_t *value)
{
    if (!value)
        return;
    g_autofree char *text = g_strdup_printf("%" PRIu64, *value);
    entry_add(entry, name, text);
}

static void entry_add_number(Entry *entry, const char *name, uint32_t value)
{
    g_autofree char *text = value ? g_strdup_printf("%" PRIu32, value) : NULL;
    entry_add(entry, name, text);
}

/* systemd says in JOURNAL_STREAM which file it made stderr; somebody may have redirected it since
 * (sd_journal_stream_fd(3), "JOURNAL_STREAM"). */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t device;
    uint64_t inode;
    struct stat st;
    return stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* Those of a refusal, which has them in members of its own. */
static JournalFields fields_of_refusal(const Refusal *refusal)
{
    return (JournalFields){
        .tenant = refusal->tenant,
        .machine = refusal->machine,
        .bytes = refusal->requested > 0 ? &refusal->requested : NULL,
        .limit = refusal->requested > 0 ? &refusal->limit : NULL,
        .refusal = refusal,
    };
}

static void entry_add_fields(Entry *entry, const JournalFields *fields)
{
    static const Refusal none;
    const Refusal *refusal = fields->refusal ? fields->refusal : &none;
    entry_add(entry, "IOMMUD_TENANT", fields->tenant);
    entry_add(entry, "IOMMUD_MACHINE", fields->machine);
    entry_add(entry, "IOMMUD_DEVICE", fields->device);
    entry_add_bytes(entry, "IOMMUD_BYTES", fields->bytes);
    entry_add_bytes(entry, "IOMMUD_LIMIT", fields->limit);
    entry_add_number(entry, "IOMMUD_PID", refusal->pid);
    entry_add(entry, "IOMMUD_IOCTL", refusal->ioctl);
    entry_add_number(entry, "IOMMUD_OBJECT", refusal->object);
    entry_add(entry, "IOMMUD_OWNER", refusal->owner);
}

void journal_write(int priority, const char *message_id, const JournalFields *fields,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    if (!stderr_is_journal()) {
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, message);
        return;
    }
    char level[2] = {(char)('0' + priority), '\0'};
    Entry entry = {.n = 0};
    entry_add(&entry, "MESSAGE", message);
    entry_add(&entry, "PRIORITY", level);
    entry_add(&entry, "SYSLOG_IDENTIFIER", program_invocation_short_name);
    entry_add(&entry, "MESSAGE_ID", message_id);
    JournalFields all = fields && fields->refusal ? fields_of_refusal(fields->refusal)
                        : fields                  ? *fields
                                                  : (JournalFields){0};
    entry_add_fields(&entry, &all);
    (void)sd_journal_sendv(entry.fields, (int)entry.n);
    for (size_t i = 0; i < entry.n; i++)
        g_free(entry.fields[i].iov_base);
}
