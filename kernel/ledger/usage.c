/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/usage.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "kernel/ledger/order.h"

static uint64_t positive(int64_t value)
{
    return value > 0 ? (uint64_t)value : 0;
}

int ledger_tenant_usage(Ledger *ledger, uint32_t tenant, LedgerTenantUsage *ret_usage)
{
    struct ledger_tenant account;
    int r = map_get(bpf_ledger(ledger), MAP_TENANTS, &tenant, &account);
    if (r < 0)
        return r;
    *ret_usage = (LedgerTenantUsage){
        .limit = account.budget.limit,
        .count = account.count,
        .used = positive(account.budget.used - account.budget.credit),
        .pinned = positive(account.pinned) << LEDGER_PAGE_SHIFT,
        .peak = positive(account.peak) << LEDGER_PAGE_SHIFT,
        .maps = account.maps,
        .unmaps = account.unmaps,
        .refused = account.refused,
    };
    return 0;
}

/* A hook is skipped when another task is in it on the same processor. */
static int count_skipped(const BpfLedger *ledger, uint64_t *ret_skipped)
{
    uint64_t skipped = 0;

    for (guint i = 0; i < ledger->hooks->len; i++) {
        struct bpf_prog_info info = {0};
        uint32_t size = sizeof(info);

        if (bpf_obj_get_info_by_fd(g_array_index(ledger->hooks, int, i), &info, &size))
            return -errno;
        skipped += info.recursion_misses;
    }
    *ret_skipped = skipped;
    return 0;
}

int ledger_counters(Ledger *ledger, LedgerCounters *ret_counters)
{
    const uint32_t zero = 0;
    struct ledger_state state;
    uint64_t skipped = 0;

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    int r = map_get(bpf_ledger(ledger), MAP_STATE, &zero, &state);
    if (r >= 0)
        r = count_skipped(bpf_ledger(ledger), &skipped);
    if (r < 0)
        return r;
    *ret_counters = (LedgerCounters){
        .lost_contexts = state.lost_contexts,
        .lost_objects = state.lost_objects,
        .lost_ranges = state.lost_pages,
        .lost_usage = state.lost_accounts,
        .lost_owners = state.lost_owners,
        .lost_events = state.lost_events,
        .unknown_ioctls = state.unknown_ioctls,
        .changed_arguments = state.changed_arguments,
        .skipped = skipped,
        .corrected = bpf_ledger(ledger)->drift,
    };
    return 0;
}

typedef struct {
    GHashTable *owners;  /* id -> struct ledger_owner */
    GHashTable *tenants; /* context -> its tenant */
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

    g_hash_table_insert(reading->tenants, GUINT_TO_POINTER(context->id),
                        GUINT_TO_POINTER(context->tenant));
    return 0;
}

static int read_names(Ledger *ledger, Reading *reading)
{
    reading->owners = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    reading->tenants = g_hash_table_new(NULL, NULL);

    int r = map_each(bpf_ledger(ledger), MAP_OWNERS, note_owner, reading);
    return r < 0 ? r : map_each(bpf_ledger(ledger), MAP_CONTEXTS, note_context, reading);
}

static void reading_clear(Reading *reading)
{
    g_clear_pointer(&reading->owners, g_hash_table_unref);
    g_clear_pointer(&reading->tenants, g_hash_table_unref);
    g_clear_pointer(&reading->list, g_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static LedgerOwnerKind owner_kind(uint32_t owner)
{
    return owner == LEDGER_OWNER_NONE      ? LEDGER_OWNER_KIND_UNKNOWN
           : owner == LEDGER_OWNER_SERVICE ? LEDGER_OWNER_KIND_SERVICE
                                           : LEDGER_OWNER_KIND_PROCESS;
}

static LedgerObject describe(const struct ledger_object_key *key, const struct ledger_object *entry,
                             const struct ledger_owner *owner)
{
    return (LedgerObject){
        .context = key->context,
        .id = key->id,
        .type = entry->type,
        .owner_kind = owner_kind(entry->owner),
        .owner = entry->owner,
        .machine = owner ? owner->machine : 0,
        .pid = entry->tgid,
        .start = entry->start,
        .alive = entry->owner == LEDGER_OWNER_SERVICE || (owner && owner->processes > 0),
    };
}

static int note_object(const void *key, const void *value, void *data)
{
    const struct ledger_object_key *object_key = key;
    const struct ledger_object *entry = value;
    Reading *reading = data;
    LedgerObject object;

    if (!entry->object || (reading->context && reading->context != object_key->context))
        return 0;
    object = describe(object_key, entry,
                      g_hash_table_lookup(reading->owners, GUINT_TO_POINTER(entry->owner)));
    g_array_append_val(reading->list, object);
    return 0;
}

int ledger_objects(Ledger *ledger, uint32_t context, LedgerObject **ret_objects, size_t *ret_n)
{
    g_auto(Reading) reading = {.context = context};

    reading.list = g_array_new(FALSE, TRUE, sizeof(LedgerObject));
    int r = read_names(ledger, &reading);
    if (r >= 0)
        r = map_each(bpf_ledger(ledger), MAP_OBJECTS, note_object, &reading);
    if (r < 0)
        return r;
    g_array_sort(reading.list, ledger_object_compare);
    *ret_n = reading.list->len;
    *ret_objects = (LedgerObject *)g_array_free(g_steal_pointer(&reading.list), FALSE);
    return 0;
}

int ledger_object(Ledger *ledger, uint32_t context, uint32_t id, LedgerObject *ret_object)
{
    const struct ledger_object_key key = {.context = context, .id = id};
    struct ledger_object entry;
    struct ledger_owner owner;
    int r = map_get(bpf_ledger(ledger), MAP_OBJECTS, &key, &entry);
    if (r || !entry.object)
        return r ? r : -ENOENT;
    r = map_get(bpf_ledger(ledger), MAP_OWNERS, &entry.owner, &owner);
    *ret_object = describe(&key, &entry, r ? NULL : &owner);
    return 0;
}

static int note_account(const void *key, const void *value, void *data)
{
    const struct ledger_account_key *account_key = key;
    const struct ledger_account *account = value;
    Reading *reading = data;
    const struct ledger_owner *owner =
        g_hash_table_lookup(reading->owners, GUINT_TO_POINTER(account_key->owner));
    LedgerUsage usage = {
        .context = account_key->context,
        .owner = account_key->owner,
        .machine = owner ? owner->machine : 0,
        .tenant = GPOINTER_TO_UINT(
            g_hash_table_lookup(reading->tenants, GUINT_TO_POINTER(account_key->context))),
        .pid = owner ? (pid_t)owner->tgid : 0,
        .start = owner ? owner->start : 0,
        .alive = account_key->owner == LEDGER_OWNER_SERVICE || (owner && owner->processes > 0),
        .pinned = positive(account->pinned) << LEDGER_PAGE_SHIFT,
        .peak = positive(account->peak) << LEDGER_PAGE_SHIFT,
        .mapped = positive(account->mapped),
        .maps = account->maps,
        .unmaps = account->unmaps,
        .refused = account->refused,
    };

    g_array_append_val(reading->list, usage);
    return 0;
}

int ledger_usage(Ledger *ledger, LedgerUsage **ret_usage, size_t *ret_n)
{
    g_auto(Reading) reading = {0};

    reading.list = g_array_new(FALSE, TRUE, sizeof(LedgerUsage));
    int r = read_names(ledger, &reading);
    if (r >= 0)
        r = map_each(bpf_ledger(ledger), MAP_ACCOUNTS, note_account, &reading);
    if (r < 0)
        return r;
    g_array_sort(reading.list, ledger_usage_compare);
    *ret_n = reading.list->len;
    *ret_usage = (LedgerUsage *)g_array_free(g_steal_pointer(&reading.list), FALSE);
    return 0;
}
