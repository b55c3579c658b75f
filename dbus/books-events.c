/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel has refused, for the journal and the bus; and who has died, for the reaper. */
#include "dbus/books-internal.h"

#include "dbus/bus.h"
#include "dbus/journal.h"
#include "dbus/machine-life.h"
#include "dbus/reaper.h"
#include "dbus/tenant-life.h"
#include "kernel/uapi/iommufd.h"
#include "policy/size.h"

#include <inttypes.h>

/* An event, with the names of what it has numbers of. */
typedef struct {
    const struct ledger_event *event;
    TenantLife *tenant;   /* NULL: none, or gone */
    MachineLife *machine; /* NULL: none, or gone */
    const char *tenant_id;
    const char *uuid;
    const char *what; /* the ioctl's name */
    char *who;        /* "machine web-1 (UUID)", or "process 12 (qemu)" */
    char *victim;     /* UUID of the machine whose object was named, "" */
} Story;

/* Whose the object is that was named. */
static char *find_victim(Books *books, const struct ledger_event *event)
{
    LedgerObject object;
    if (!event->id || ledger_lookup_object(books->ledger, event->context, event->id, &object) < 0)
        return g_strdup("");
    const MachineLife *owner = books_find_machine(books, object.machine);
    return g_strdup(owner ? owner->uuid : "");
}

static void story_init(Story *story, Books *books, const struct ledger_event *event)
{
    g_autofree char *comm = g_strndup(event->comm, sizeof(event->comm));
    g_autofree char *quoted = error_quote(comm);
    story->event = event;
    story->tenant = g_hash_table_lookup(books->tenants, GUINT_TO_POINTER(event->tenant));
    story->machine = books_find_machine(books, event->machine);
    if (!story->tenant && story->machine)
        story->tenant = story->machine->tenant;
    story->tenant_id = story->tenant ? story->tenant->id : "";
    story->uuid = story->machine ? story->machine->uuid : "";
    story->what = event->command ? ledger_ioctl_name(event->command) : "";
    story->who = story->machine ? g_strdup_printf("Machine %s (%s), process %u (%s),",
                                                  story->machine->machine->name, story->uuid,
                                                  event->tgid, quoted)
                                : g_strdup_printf("Process %u (%s)", event->tgid, quoted);
    story->victim = find_victim(books, event);
}

static void story_clear(Story *story)
{
    g_free(story->who);
    g_free(story->victim);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Story, story_clear)

static BusRefusal refusal_of(const Story *story)
{
    return (BusRefusal){
        .tenant = story->tenant_id,
        .machine = story->uuid,
        .pid = story->event->tgid,
        .command = story->event->comm,
        .ioctl = story->what,
        .object = story->event->id,
        .owner = story->victim,
    };
}

static JournalAbout about(const Story *story)
{
    return (JournalAbout){
        .tenant = story->tenant_id,
        .machine = story->uuid,
        .pid = story->event->tgid,
        .ioctl = story->what,
        .object = story->event->id,
    };
}

/* ---- one kind each ---- */

static void tell_refused(const Books *books, const Story *story)
{
    const struct ledger_event *event = story->event;
    JournalAbout fields = about(story);
    BusRefusal refusal = refusal_of(story);
    /* QEMU asks for this at each of its starts, and goes on without. */
    if ((event->command & 0xff) == (IOMMU_IOAS_CHANGE_PROCESS & 0xff)) {
        journal_write(LOG_DEBUG, MESSAGE_REFUSED, &fields,
                      "%s was refused %s in an IOMMUFD that it shares.", story->who, story->what);
        return;
    }
    if (event->command == 0)
        journal_write(LOG_WARNING, MESSAGE_REFUSED, &fields,
                      "%s was refused %s: it is no machine of the tenant, nor a unit that stands "
                      "in Carriers= of iommud.conf.",
                      story->who, *story->tenant_id ? "a tenant's IOMMUFD" : "/dev/iommu");
    else if (event->id)
        journal_write(LOG_WARNING, MESSAGE_REFUSED, &fields,
                      "%s was refused %s on object %u of tenant %s's IOMMUFD, which is not its "
                      "own: %s.",
                      story->who, story->what, event->id, story->tenant_id,
                      g_strerror(-event->error));
    else
        journal_write(LOG_WARNING, MESSAGE_REFUSED, &fields, "%s was refused %s: %s.", story->who,
                      story->what, g_strerror(-event->error));
    bus_refused(books->manager, &refusal, g_strerror(-event->error));
}

static void tell_limit(const Story *story)
{
    const struct ledger_event *event = story->event;
    uint64_t asked = event->asked;
    uint64_t limit = story->tenant ? budget_limit(story->tenant->tenant->budget) : SIZE_INFINITY;
    g_autofree char *asked_text = size_format(event->asked);
    g_autofree char *left_text = size_format(event->left);
    g_autofree char *limit_text = size_format(limit);
    JournalAbout fields = about(story);
    BusRefusal refusal = refusal_of(story);
    fields.bytes = &asked;
    fields.limit = &limit;
    journal_write(LOG_WARNING, MESSAGE_LIMIT_EXCEEDED, &fields,
                  "%s was refused %s of %s (%" PRIu64 " bytes): tenant %s has %s (%" PRIu64
                  " bytes) left of its limit of %s. Raise it with 'iommuctl tenant set-limit', or "
                  "stop a machine.",
                  story->who, story->what, asked_text, asked, story->tenant_id, left_text,
                  (uint64_t)event->left, limit_text);
    if (!story->tenant)
        return;
    bus_limit_exceeded(story->tenant->manager, &refusal, event->asked, event->left);
    /* What it has mapped twice may have become known to count once. A machine can ask for this. */
    if (story->tenant->tenant->config->count == COUNT_UNIQUE)
        books_look(story->tenant->manager->books, G_USEC_PER_SEC);
}

static void tell_tampered(const Story *story)
{
    JournalAbout fields = about(story);
    journal_write(LOG_ALERT, MESSAGE_TAMPERED, &fields,
                  "%s changed the argument of %s while it was being checked, and was killed.",
                  story->who, story->what);
    if (story->tenant)
        reaper_wake(story->tenant);
}

static void tell_full(const Story *story)
{
    JournalAbout fields = about(story);
    bool object = story->event->asked == 0;
    journal_write(LOG_ERR, MESSAGE_REFUSED, &fields,
                  "%s was refused %s: what is left of the ledger's room for %s is kept for others. "
                  "Raise %s= in iommud.conf and restart iommud.",
                  story->who, story->what, object ? "objects" : "mappings",
                  object ? "MaxObjects" : "MaxMappings");
}

static void on_event(const struct ledger_event *event, void *data)
{
    Books *books = data;
    g_auto(Story) story = {0};
    story_init(&story, books, event);
    switch ((enum ledger_event_kind)event->kind) {
    case LEDGER_EVENT_REFUSED:
        tell_refused(books, &story);
        break;
    case LEDGER_EVENT_LIMIT:
        tell_limit(&story);
        break;
    case LEDGER_EVENT_TAMPERED:
        tell_tampered(&story);
        break;
    case LEDGER_EVENT_EXIT:
        if (story.tenant)
            reaper_wake(story.tenant);
        break;
    case LEDGER_EVENT_FULL:
        tell_full(&story);
        break;
    }
}

void books_dispatch(Books *books)
{
    (void)ledger_dispatch(books->ledger, on_event, books);
}
