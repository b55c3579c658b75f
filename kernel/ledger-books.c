/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Naming who is who, and reading what they have. */
#include "kernel/ledger-internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/sysmacros.h>

int ledger_run(Ledger *ledger, struct bpf_program *program, void *args, size_t size)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = size);

    if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts))
        return -errno;
    return (int)opts.retval;
}

int ledger_each(const struct bpf_map *map, LedgerVisitor visit, void *data)
{
    g_autofree void *key = g_malloc0(bpf_map__key_size(map));
    g_autofree void *next = g_malloc0(bpf_map__key_size(map));
    g_autofree void *value = g_malloc0(bpf_map__value_size(map));
    int fd = bpf_map__fd(map), r = 0;
    /* Entries that come and go can send the search back to the start: it ends all the same. */
    uint64_t steps = 2ull * bpf_map__max_entries(map);

    if (bpf_map_get_next_key(fd, NULL, next))
        return errno == ENOENT ? 0 : -errno;
    do {
        memcpy(key, next, bpf_map__key_size(map));
        if (!bpf_map_lookup_elem(fd, key, value))
            r = visit(key, value, data);
    } while (!r && steps-- && !bpf_map_get_next_key(fd, key, next));
    return r;
}

static int put(const Ledger *ledger, const struct bpf_map *map, const void *key, const void *value)
{
    if (!ledger->skeleton)
        return -EOPNOTSUPP;
    return bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) ? -errno : 0;
}

static int get(const Ledger *ledger, const struct bpf_map *map, const void *key, void *value)
{
    if (!ledger->active)
        return -EOPNOTSUPP;
    return bpf_map_lookup_elem(bpf_map__fd(map), key, value) ? -errno : 0;
}

static int drop(const Ledger *ledger, const struct bpf_map *map, const void *key)
{
    if (!ledger->active)
        return -EOPNOTSUPP;
    return bpf_map_delete_elem(bpf_map__fd(map), key) ? -errno : 0;
}

int ledger_register(Ledger *ledger, int fd, uint32_t tenant, unsigned flags, uint32_t *ret_context)
{
    struct ledger_register args = {.fd = fd, .tenant = tenant, .flags = flags};
    int r;

    if (!ledger->active)
        return -EOPNOTSUPP;
    r = ledger_run(ledger, ledger->skeleton->progs.control_register, &args, sizeof(args));
    if (!r)
        *ret_context = args.ret_serial;
    return r;
}

int ledger_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes)
{
    struct ledger_limit args = {.tenant = tenant, .limit = bytes};

    if (!ledger->active)
        return -EOPNOTSUPP;
    return ledger_run(ledger, ledger->skeleton->progs.control_limit, &args, sizeof(args));
}

int ledger_remove_tenant(Ledger *ledger, uint32_t tenant)
{
    return ledger->active ? drop(ledger, ledger->skeleton->maps.tenants, &tenant) : -EOPNOTSUPP;
}

int ledger_add_machine(Ledger *ledger, uint32_t machine, uint32_t tenant)
{
    struct ledger_machine entry = {.tenant = tenant};

    if (!ledger->active)
        return -EOPNOTSUPP;
    if (!machine)
        return -EINVAL;
    return put(ledger, ledger->skeleton->maps.machines, &machine, &entry);
}

int ledger_remove_machine(Ledger *ledger, uint32_t machine)
{
    struct ledger_forget args = {.machine = machine};

    if (!ledger->active)
        return -EOPNOTSUPP;
    return ledger_run(ledger, ledger->skeleton->progs.control_forget, &args, sizeof(args));
}

int ledger_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant, uint32_t *ret_owner)
{
    struct ledger_name args = {
        .tgid = pid,
        .start = start,
        .machine = machine,
        .tenant = tenant,
        .role = LEDGER_ROLE_USER,
    };
    int r;

    if (!ledger->active)
        return -EOPNOTSUPP;
    r = ledger_run(ledger, ledger->skeleton->progs.control_name, &args, sizeof(args));
    if (!r && ret_owner)
        *ret_owner = args.ret_owner;
    return r;
}

int ledger_trust_process(Ledger *ledger, pid_t pid, uint64_t start, enum ledger_role role)
{
    struct ledger_name args = {.tgid = pid, .start = start, .role = role};

    if (!ledger->skeleton)
        return -EOPNOTSUPP;
    if (role == LEDGER_ROLE_USER)
        return -EINVAL;
    return ledger_run(ledger, ledger->skeleton->progs.control_name, &args, sizeof(args));
}

int ledger_add_cgroup(Ledger *ledger, uint64_t cgroup, uint32_t machine)
{
    return ledger->active ? put(ledger, ledger->skeleton->maps.cgroups, &cgroup, &machine)
                          : -EOPNOTSUPP;
}

int ledger_remove_cgroup(Ledger *ledger, uint64_t cgroup)
{
    return ledger->active ? drop(ledger, ledger->skeleton->maps.cgroups, &cgroup) : -EOPNOTSUPP;
}

int ledger_admit_device(Ledger *ledger, dev_t rdev, uint32_t tenant, uint32_t machine,
                        unsigned flags)
{
    struct ledger_device device = {.tenant = tenant, .machine = machine, .flags = flags};
    struct ledger_device was;
    uint32_t key = major(rdev) << 20 | minor(rdev);

    if (!ledger->active)
        return -EOPNOTSUPP;
    /* The same again: only the flags are new, and who has bound it is kept. */
    if (!get(ledger, ledger->skeleton->maps.devices, &key, &was) && was.machine == machine &&
        was.tenant == tenant)
        device.owner = was.owner;
    return put(ledger, ledger->skeleton->maps.devices, &key, &device);
}

int ledger_dismiss_device(Ledger *ledger, dev_t rdev)
{
    uint32_t key = major(rdev) << 20 | minor(rdev);

    return ledger->active ? drop(ledger, ledger->skeleton->maps.devices, &key) : -EOPNOTSUPP;
}

int ledger_tenant(Ledger *ledger, uint32_t tenant, struct ledger_tenant *ret_tenant)
{
    return ledger->active ? get(ledger, ledger->skeleton->maps.tenants, &tenant, ret_tenant)
                          : -EOPNOTSUPP;
}

int ledger_state(Ledger *ledger, struct ledger_state *ret_state)
{
    uint32_t zero = 0;

    return ledger->active ? get(ledger, ledger->skeleton->maps.state, &zero, ret_state)
                          : -EOPNOTSUPP;
}

/* The hooks of this version, whoever loaded them: known by their names and by the map they use. */
int ledger_missed(Ledger *ledger, uint64_t *ret_missed)
{
    uint64_t missed = 0;
    uint32_t id = 0;

    if (!ledger->active)
        return -EOPNOTSUPP;
    while (!bpf_prog_get_next_id(id, &id)) {
        struct bpf_prog_info info = {0};
        uint32_t size = sizeof(info);
        int fd = bpf_prog_get_fd_by_id(id);

        if (fd < 0)
            continue;
        if (!bpf_obj_get_info_by_fd(fd, &info, &size) && g_str_has_prefix(info.name, "ledger_"))
            missed += info.recursion_misses;
        close(fd);
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
    r = ledger_each(ledger->skeleton->maps.owners, note_owner, reading);
    return r ? r : ledger_each(ledger->skeleton->maps.contexts, note_context, reading);
}

static void reading_clear(Reading *reading)
{
    g_clear_pointer(&reading->owners, g_hash_table_unref);
    g_clear_pointer(&reading->tenants, g_hash_table_unref);
    g_clear_pointer(&reading->list, g_array_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

static int note_object(const void *key, const void *value, void *data)
{
    const struct ledger_object_key *place = key;
    const struct ledger_object *entry = value;
    Reading *reading = data;
    const struct ledger_owner *owner;
    LedgerObject object = {
        .context = place->context,
        .id = place->id,
        .type = entry->type,
        .owner = entry->owner,
        .pid = entry->tgid,
        .start = entry->start,
    };

    if (!entry->object || (reading->context && reading->context != place->context))
        return 0;
    owner = g_hash_table_lookup(reading->owners, GUINT_TO_POINTER(entry->owner));
    object.tenant =
        GPOINTER_TO_UINT(g_hash_table_lookup(reading->tenants, GUINT_TO_POINTER(place->context)));
    object.machine = owner ? owner->machine : 0;
    object.alive = entry->owner == LEDGER_OWNER_SERVICE || (owner && owner->processes > 0);
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

    if (!ledger->active)
        return -EOPNOTSUPP;
    reading.list = g_array_new(FALSE, TRUE, sizeof(LedgerObject));
    r = read_names(ledger, &reading);
    if (!r)
        r = ledger_each(ledger->skeleton->maps.objects, note_object, &reading);
    if (r)
        return r;
    g_array_sort(reading.list, compare_objects);
    *ret_n = reading.list->len;
    *ret_objects = (LedgerObject *)g_array_free(g_steal_pointer(&reading.list), FALSE);
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

    if (!ledger->active)
        return -EOPNOTSUPP;
    reading.list = g_array_new(FALSE, TRUE, sizeof(LedgerBook));
    r = read_names(ledger, &reading);
    if (!r)
        r = ledger_each(ledger->skeleton->maps.books, note_book, &reading);
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

    if (!ledger->active)
        return -EOPNOTSUPP;
    r = get(ledger, ledger->skeleton->maps.machines, &machine, &entry);
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
        get(ledger, ledger->skeleton->maps.owners, &entry.owner, &owner);
    if (ret_owner)
        *ret_owner = owner;
    *ret_book = sum;
    return 0;
}

int ledger_set_credit(Ledger *ledger, uint32_t tenant, uint64_t bytes, uint64_t releases)
{
    struct ledger_credit args = {.tenant = tenant, .credit = bytes, .releases = releases};

    if (!ledger->active)
        return -EOPNOTSUPP;
    return ledger_run(ledger, ledger->skeleton->progs.control_credit, &args, sizeof(args));
}
