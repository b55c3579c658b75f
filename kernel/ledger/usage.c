/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading who has what. */
#include "kernel/ledger/internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

int ledger_tenant(Ledger *ledger, uint32_t tenant, struct ledger_tenant *ret_tenant)
{
    return ledger_get(ledger, MAP_TENANTS, &tenant, ret_tenant);
}

int ledger_state(Ledger *ledger, struct ledger_state *ret_state)
{
    const uint32_t zero = 0;

    return ledger_get(ledger, MAP_STATE, &zero, ret_state);
}

int ledger_missed(Ledger *ledger, uint64_t *ret_missed)
{
    uint64_t missed = 0;

    if (!ledger->report.active)
        return -EOPNOTSUPP;
    for (guint i = 0; i < ledger->hooks->len; i++) {
        struct bpf_prog_info info = {0};
        uint32_t size = sizeof(info);

        if (bpf_obj_get_info_by_fd(g_array_index(ledger->hooks, int, i), &info, &size))
            return -errno;
        missed += info.recursion_misses;
    }
    *ret_missed = missed;
    return 0;
}

typedef struct {
    GHashTable *owners;  /* id -> struct ledger_owner */
    GHashTable *tenants; /* serial of a context -> its tenant */
    GArray *list;
    uint32_t context;
} Reading;

static int note_owner(const void *key, const void *value, void *data)
{
    Reading *reading = data;

    g_hash_table_insert(reading->owners, GUINT_TO_POINTER(*(const uint32_t *)key),
                        g_memdup2(value, sizeof(struct ledger_owner)));
    return 0;
}

static int note_context(const void *key, const void *value, void *data)
{
    const struct ledger_context *context = value;
    Reading *reading = data;

    g_hash_table_insert(reading->tenants, GUINT_TO_POINTER(context->serial),
                        GUINT_TO_POINTER(context->tenant));
    return 0;
}

static int read_names(Ledger *ledger, Reading *reading)
{
    int r;

    reading->owners = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    reading->tenants = g_hash_table_new(NULL, NULL);
    r = ledger_each(ledger, MAP_OWNERS, note_owner, reading);
    return r ? r : ledger_each(ledger, MAP_CONTEXTS, note_context, reading);
}

static void reading_clear(Reading *reading)
{
    g_clear_pointer(&reading->owners, g_hash_table_unref);
    g_clear_pointer(&reading->tenants, g_hash_table_unref);
    g_clear_pointer(&reading->list, g_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

/* Says of an entry of the map what the caller may know; its tenant apart. */
static LedgerObject describe(const struct ledger_object_key *place,
                             const struct ledger_object *entry, const struct ledger_owner *owner)
{
    return (LedgerObject){
        .context = place->context,
        .id = place->id,
        .type = entry->type,
        .owner = entry->owner,
        .machine = owner ? owner->machine : 0,
        .pid = entry->tgid,
        .start = entry->start,
        .alive = entry->owner == LEDGER_OWNER_SERVICE || (owner && owner->processes > 0),
    };
}

static int note_object(const void *key, const void *value, void *data)
{
    const struct ledger_object_key *place = key;
    const struct ledger_object *entry = value;
    Reading *reading = data;
    LedgerObject object;

    if (!entry->object || (reading->context && reading->context != place->context))
        return 0;
    object = describe(place, entry,
                      g_hash_table_lookup(reading->owners, GUINT_TO_POINTER(entry->owner)));
    object.tenant =
        GPOINTER_TO_UINT(g_hash_table_lookup(reading->tenants, GUINT_TO_POINTER(place->context)));
    g_array_append_val(reading->list, object);
    return 0;
}

static int compare_objects(const void *a, const void *b)
{
    const LedgerObject *x = a, *y = b;

    if (x->context != y->context)
        return x->context < y->context ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int ledger_objects(Ledger *ledger, uint32_t context, LedgerObject **ret_objects, size_t *ret_n)
{
    g_auto(Reading) reading = {.context = context};
    int r;

    reading.list = g_array_new(FALSE, TRUE, sizeof(LedgerObject));
    r = read_names(ledger, &reading);
    if (!r)
        r = ledger_each(ledger, MAP_OBJECTS, note_object, &reading);
    if (r)
        return r;
    g_array_sort(reading.list, compare_objects);
    *ret_n = reading.list->len;
    *ret_objects = (LedgerObject *)g_array_free(g_steal_pointer(&reading.list), FALSE);
    return 0;
}

int ledger_lookup_object(const Ledger *ledger, uint32_t context, uint32_t id,
                         LedgerObject *ret_object)
{
    const struct ledger_object_key key = {.context = context, .id = id};
    struct ledger_object entry;
    struct ledger_owner owner;
    int r;

    r = ledger_get(ledger, MAP_OBJECTS, &key, &entry);
    if (r || !entry.object)
        return r ? r : -ENOENT;
    r = ledger_get(ledger, MAP_OWNERS, &entry.owner, &owner);
    *ret_object = describe(&key, &entry, r ? NULL : &owner);
    ret_object->tenant = ledger_context_tenant(ledger, context);
    return 0;
}

static int note_book(const void *key, const void *value, void *data)
{
    const struct ledger_book_key *place = key;
    Reading *reading = data;
    const struct ledger_owner *owner =
        g_hash_table_lookup(reading->owners, GUINT_TO_POINTER(place->owner));
    LedgerBook book = {
        .context = place->context,
        .owner = place->owner,
        .machine = owner ? owner->machine : 0,
        .tenant = GPOINTER_TO_UINT(
            g_hash_table_lookup(reading->tenants, GUINT_TO_POINTER(place->context))),
        .pid = owner ? (pid_t)owner->tgid : 0,
        .start = owner ? owner->start : 0,
        .alive = place->owner == LEDGER_OWNER_SERVICE || (owner && owner->processes > 0),
        .book = *(const struct ledger_book *)value,
    };

    g_array_append_val(reading->list, book);
    return 0;
}

static int compare_books(const void *a, const void *b)
{
    const LedgerBook *x = a, *y = b;

    if (x->context != y->context)
        return x->context < y->context ? -1 : 1;
    return x->owner < y->owner ? -1 : x->owner > y->owner;
}

int ledger_books(Ledger *ledger, LedgerBook **ret_books, size_t *ret_n)
{
    g_auto(Reading) reading = {0};
    int r;

    reading.list = g_array_new(FALSE, TRUE, sizeof(LedgerBook));
    r = read_names(ledger, &reading);
    if (!r)
        r = ledger_each(ledger, MAP_BOOKS, note_book, &reading);
    if (r)
        return r;
    g_array_sort(reading.list, compare_books);
    *ret_n = reading.list->len;
    *ret_books = (LedgerBook *)g_array_free(g_steal_pointer(&reading.list), FALSE);
    return 0;
}

int ledger_machine(Ledger *ledger, uint32_t machine, struct ledger_book *ret_book,
                   struct ledger_owner *ret_owner)
{
    struct ledger_owner owner = {0};
    struct ledger_machine entry;
    g_autofree LedgerBook *books = NULL;
    struct ledger_book sum = {0};
    size_t n;
    int r;

    r = ledger_get(ledger, MAP_MACHINES, &machine, &entry);
    if (!r)
        r = ledger_books(ledger, &books, &n);
    if (r)
        return r;
    for (size_t i = 0; i < n; i++) {
        if (books[i].machine != machine)
            continue;
        sum.pinned += books[i].book.pinned;
        sum.peak += books[i].book.peak;
        sum.mapped += books[i].book.mapped;
        sum.maps += books[i].book.maps;
        sum.unmaps += books[i].book.unmaps;
        sum.refused += books[i].book.refused;
    }
    if (ret_owner && entry.owner)
        ledger_get(ledger, MAP_OWNERS, &entry.owner, &owner);
    if (ret_owner)
        *ret_owner = owner;
    *ret_book = sum;
    return 0;
}
