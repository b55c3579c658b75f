/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two snapshots of the ledger and the kernel -> the repairs that are made, and what is left alone
 * because it moves. Each row changes a ledger that equals the kernel, in one snapshot or in both.
 */
#include "kernel/ledger/audit/repair.h"

#include <glib.h>

#define CONTEXT 3
#define CONTEXT_ADDRESS 0xc000
#define TENANT 1
#define OWNER 20
#define MACHINE 7
#define PID 4711
#define START 55
#define IOAS 1
#define IOAS_ADDRESS 0x1000
#define HWPT 2
#define HWPT_ADDRESS 0x2000
#define DEVICE 4
#define DEVICE_ADDRESS 0x4000
#define RANGE_ADDRESS 0x9000
#define PAGES 16
#define CHARGE (5ull << LEDGER_CHARGE_BITS | PAGES)

/* What differs in a snapshot from a ledger that is right. */
typedef struct {
    /* The range: as the kernel has it, and as the ledger has it. */
    bool unmapped;       /* the kernel has it no more */
    uint64_t npages;     /* its length; 0: PAGES */
    uint64_t charged;    /* 0: PAGES */
    uint64_t charge;     /* the ledger's; 0: CHARGE, or as much more as the kernel has */
    bool unknown_range;  /* the ledger has no entry */
    bool taken;          /* the entry is out of all sums */
    bool pending;        /* something is being mapped */
    uint32_t in_context; /* where the ledger has it; 0: CONTEXT */
    uint32_t of_tenant;  /* whose the ledger has it; 0: TENANT */
    /* The sums. */
    int64_t pinned;        /* of the account, beside what is right, in pages */
    int64_t mapped;        /* likewise, in bytes */
    int64_t tenant_pinned; /* of the tenant */
    uint64_t moves;        /* of the account */
    int32_t objects;       /* of the owner, beside what is right */
    int32_t pages;
    /* Objects. */
    uint64_t ioas;     /* address in the ledger's entry; 0: IOAS_ADDRESS */
    bool unknown_ioas; /* the ledger has no entry */
    bool unowned_ioas; /* nor its owner */
    bool unknown_hwpt;
    bool unknown_device;
    bool no_ioas;        /* the kernel has it no more */
    bool reserved_ioas;  /* the kernel has only its id */
    bool unknown_mapper; /* the kernel does not say who has mapped */
    /* The rest. */
    bool closed; /* nobody has the context open */
    bool ended;  /* the process has */
} Change;

static void add_objects(Snapshot *snapshot, const Change *change)
{
    const struct ledger_context context = {.id = CONTEXT, .tenant = TENANT};
    const struct ledger_record ioas = {.kind = change->reserved_ioas ? LEDGER_RECORD_RESERVED
                                                                     : LEDGER_RECORD_OBJECT,
                                       .address = IOAS_ADDRESS,
                                       .id = IOAS,
                                       .type = LEDGER_OBJECT_IOAS};
    const struct ledger_record hwpt = {.kind = LEDGER_RECORD_OBJECT,
                                       .address = HWPT_ADDRESS,
                                       .id = HWPT,
                                       .type = LEDGER_OBJECT_HWPT_PAGING,
                                       .under = IOAS};
    const struct ledger_record device = {.kind = LEDGER_RECORD_OBJECT,
                                         .address = DEVICE_ADDRESS,
                                         .id = DEVICE,
                                         .type = LEDGER_OBJECT_DEVICE};
    const struct {
        bool known;
        struct ledger_object_key key;
        struct ledger_object object;
    } entries[] = {
        {!change->unknown_ioas,
         {CONTEXT, IOAS},
         {.object = change->ioas ? change->ioas : IOAS_ADDRESS,
          .owner = change->unowned_ioas ? LEDGER_OWNER_NONE : OWNER,
          .type = LEDGER_OBJECT_IOAS}},
        {!change->unknown_hwpt,
         {CONTEXT, HWPT},
         {.object = HWPT_ADDRESS, .owner = OWNER, .type = LEDGER_OBJECT_HWPT_PAGING}},
        {!change->unknown_device,
         {CONTEXT, DEVICE},
         {.object = DEVICE_ADDRESS, .owner = OWNER, .type = LEDGER_OBJECT_DEVICE}},
    };

    if (change->closed)
        return;
    if (!change->no_ioas)
        snapshot_add_record(snapshot, &context, &ioas);
    snapshot_add_record(snapshot, &context, &hwpt);
    snapshot_add_record(snapshot, &context, &device);
    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++)
        if (entries[i].known)
            snapshot_add_object(snapshot, &entries[i].key, &entries[i].object);
}

static uint64_t recorded_charge(const Change *change)
{
    uint64_t charge = change->charge ? change->charge : CHARGE;

    return change->taken ? charge | LEDGER_CHARGE_TAKEN : charge;
}

static void add_range(Snapshot *snapshot, const Change *change)
{
    const struct ledger_context context = {.id = CONTEXT, .tenant = TENANT};
    const struct ledger_record area = {.kind = LEDGER_RECORD_AREA,
                                       .address = RANGE_ADDRESS,
                                       .id = IOAS,
                                       .npages = change->npages ? change->npages : PAGES,
                                       .pinned = change->charged ? change->charged : PAGES,
                                       .charged = change->charged ? change->charged : PAGES,
                                       .tgid = change->unknown_mapper ? 0 : PID,
                                       .start = START};
    const struct ledger_record pending = {.kind = LEDGER_RECORD_PENDING, .id = IOAS};
    const struct ledger_pages range = {.bytes = PAGES << LEDGER_PAGE_SHIFT,
                                       .charge = recorded_charge(change),
                                       .owner = OWNER,
                                       .context = change->in_context ? change->in_context : CONTEXT,
                                       .tenant = change->of_tenant ? change->of_tenant : TENANT};

    if (!change->unmapped && !change->closed)
        snapshot_add_record(snapshot, &context, &area);
    if (change->pending)
        snapshot_add_record(snapshot, &context, &pending);
    if (!change->unknown_range && !change->closed)
        snapshot_add_range(snapshot, RANGE_ADDRESS, &range);
}

/* Sums that are right but for the change. */
static void add_sums(Snapshot *snapshot, const Change *change)
{
    bool has_range = !change->unknown_range && !change->taken && !change->closed;
    int objects = change->closed ? 0
                                 : 3 - change->unknown_ioas - change->unowned_ioas -
                                       change->unknown_hwpt - change->unknown_device;
    int64_t pinned = has_range ? (int64_t)LEDGER_CHARGED(recorded_charge(change)) : 0;
    const struct ledger_account_key key = {
        .context = change->in_context ? change->in_context : CONTEXT, .owner = OWNER};
    const struct ledger_account account = {.pinned = pinned + change->pinned,
                                           .moves = 10 + change->moves,
                                           .mapped = (has_range ? PAGES << LEDGER_PAGE_SHIFT : 0) +
                                                     change->mapped};
    const struct ledger_tenant tenant = {.pinned = pinned + change->tenant_pinned, .moves = 10};
    const struct ledger_owner owner = {.machine = MACHINE,
                                       .objects = objects + change->objects,
                                       .pages = has_range + change->pages};

    snapshot_add_account(snapshot, &key, &account);
    snapshot_add_tenant(snapshot, change->of_tenant ? change->of_tenant : TENANT, &tenant);
    snapshot_add_owner(snapshot, OWNER, &owner);
}

static Snapshot *make_snapshot(const Change *change)
{
    const Context context = {.address = CONTEXT_ADDRESS,
                             .context = {.id = CONTEXT, .tenant = TENANT}};
    const struct ledger_opened files[] = {
        {.context = CONTEXT_ADDRESS, .tgid = PID, .start = START},
        {.context = CONTEXT_ADDRESS, .tgid = PID, .start = START, .device = DEVICE},
    };
    const EndedProcess process = {.tgid = PID, .start = START};
    Snapshot *snapshot = snapshot_new();

    add_sums(snapshot, change);
    if (!change->closed)
        g_array_append_vals(snapshot->opened, files, G_N_ELEMENTS(files));
    g_array_append_val(snapshot->contexts, context);
    snapshot_mark_opened(snapshot);
    add_objects(snapshot, change);
    add_range(snapshot, change);
    if (change->ended)
        g_array_append_val(snapshot->ended, process);
    snapshot_index(snapshot);
    return snapshot;
}

static GArray *plan(const Change *first, const Change *second, uint64_t *ret_unstable)
{
    g_autoptr(Snapshot) one = make_snapshot(first), two = make_snapshot(second);

    return repairs_plan(one, two, ret_unstable);
}

#define MAX_REPAIRS 3

/* `first` and `second` in one: the same in both snapshots. */
#define BOTH(...)                                                                                  \
    {__VA_ARGS__},                                                                                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static void test_plans(void)
{
    static const struct {
        const char *what;
        Change first, second;
        unsigned n;
        RepairKind kinds[MAX_REPAIRS];
        uint64_t drift; /* pages, of all */
        uint64_t unstable;
    } rows[] = {
        {"a ledger that is right", BOTH(0), 0},

        {"a charge that is too small", BOTH(.charged = 20), 1, {REPAIR_SET_RANGE}, 4},
        {"and too large", BOTH(.charged = 10), 1, {REPAIR_SET_RANGE}, 6},
        {"one that came after the first", {0}, {.charged = 20}, .unstable = 1},
        {"one that was right again", {.charged = 20}, {0}},
        {"one that has moved on", {.charged = 20}, {.charged = 24}, .unstable = 1},
        {"one of another number each time",
         {.charged = 20},
         {.charged = 20, .charge = 6ull << LEDGER_CHARGE_BITS | PAGES},
         .unstable = 1},
        {"a range that was missed", BOTH(.unknown_range = true), 1, {REPAIR_SET_RANGE}, PAGES},
        {"one that came after the first",
         {.unmapped = true, .unknown_range = true},
         {.unknown_range = true},
         .unstable = 1},
        {"one in another context", BOTH(.in_context = 9), 1, {REPAIR_SET_RANGE}, 0},
        {"one of another tenant", BOTH(.of_tenant = 9), 1, {REPAIR_SET_RANGE}, 0},
        {"an older range at its address",
         BOTH(.npages = 2 * PAGES),
         1,
         {REPAIR_REMOVE_RANGE},
         PAGES},

        {"a range whose end was missed", BOTH(.unmapped = true), 1, {REPAIR_REMOVE_RANGE}, PAGES},
        {"one that was there at first", {0}, {.unmapped = true}, .unstable = 1},
        {"one that is not there yet", {.unmapped = true}, {0}},
        {"one that is being mapped", BOTH(.unmapped = true, .pending = true), .unstable = 1},
        {"or was at first", {.unmapped = true, .pending = true}, {.unmapped = true}, .unstable = 1},
        {"one that was charged in between",
         {.unmapped = true},
         {.unmapped = true, .charge = 5ull << LEDGER_CHARGE_BITS | 17},
         .unstable = 1},
        {"an entry that is taken", BOTH(.unmapped = true, .taken = true), 1, {REPAIR_DELETE_ENTRY}},
        {"also if only by now",
         {.unmapped = true},
         {.unmapped = true, .taken = true},
         1,
         {REPAIR_DELETE_ENTRY}},
        {"and another range is there",
         BOTH(.taken = true),
         2,
         {REPAIR_SET_RANGE, REPAIR_DELETE_ENTRY},
         PAGES},

        {"an account of too few pages", BOTH(.pinned = -3), 1, {REPAIR_SET_TOTALS}, 3},
        {"of too many bytes", BOTH(.mapped = 4096), 1, {REPAIR_SET_TOTALS}, 0},
        {"one that moves is right", {.pinned = 3}, {.pinned = 3, .moves = 1}},
        {"one that is wrong by something else", {.pinned = 3}, {.pinned = 2}},
        {"one that is right again", {.pinned = 3}, {0}},
        {"a tenant of too many pages", BOTH(.tenant_pinned = 8), 1, {REPAIR_SET_TOTALS}, 0},
        {"an owner of too many objects", BOTH(.objects = 1), 1, {REPAIR_SET_COUNTS}},
        {"of too few ranges", BOTH(.pages = -1), 1, {REPAIR_SET_COUNTS}},
        {"one that has changed", {.objects = 1}, {.objects = 2}},

        {"an address space that was missed", BOTH(.unknown_ioas = true), 1, {REPAIR_ADOPT_OBJECT}},
        {"one that is new",
         {.unknown_ioas = true, .no_ioas = true},
         {.unknown_ioas = true},
         .unstable = 1},
        {"one whose owner is not known", BOTH(.unowned_ioas = true), 1, {REPAIR_ADOPT_OBJECT}},
        {"and can't be", BOTH(.unowned_ioas = true, .unknown_mapper = true), 0},
        {"one that had the id before",
         BOTH(.ioas = 0x7000),
         2,
         {REPAIR_REMOVE_OBJECT, REPAIR_ADOPT_OBJECT}},
        {"one whose end was missed", BOTH(.no_ioas = true), 1, {REPAIR_REMOVE_OBJECT}},
        {"one that was there at first", {0}, {.no_ioas = true}, .unstable = 1},
        {"one that is in the making", BOTH(.reserved_ioas = true, .unknown_ioas = true), 0},
        {"or in its last moments", BOTH(.reserved_ioas = true), 0},
        {"a page table that was missed", BOTH(.unknown_hwpt = true), 1, {REPAIR_ADOPT_OBJECT}},
        {"a device that was missed", BOTH(.unknown_device = true), 1, {REPAIR_ADOPT_OBJECT}},

        {"a context whose end was missed", BOTH(.closed = true), 1, {REPAIR_REMOVE_CONTEXT}},
        {"one that was open at first", {0}, {.closed = true}},
        {"a process whose end was missed", BOTH(.ended = true), 1, {REPAIR_REMOVE_PROCESS}},
        {"one that has ended since", {0}, {.ended = true}},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint64_t unstable, drift = 0;
        g_autoptr(GArray) repairs = plan(&rows[i].first, &rows[i].second, &unstable);

        g_test_message("%zu: %s", i, rows[i].what);
        g_assert_cmpuint(repairs->len, ==, rows[i].n);
        for (guint j = 0; j < repairs->len; j++) {
            g_assert_cmpint(g_array_index(repairs, Repair, j).kind, ==, rows[i].kinds[j]);
            drift += g_array_index(repairs, Repair, j).drift;
        }
        g_assert_cmpuint(drift, ==, rows[i].drift);
        g_assert_cmpuint(unstable, ==, rows[i].unstable);
    }
}

/* A second snapshot is taken if, and only if, the first has anything that could be repaired. */
static void test_differs(void)
{
    static const struct {
        Change change;
        bool differs;
    } rows[] = {
        {{0}, false},
        {{.charged = 20}, true},
        {{.unmapped = true, .pending = true}, true},
        {{.unmapped = true, .taken = true}, true},
        {{.pinned = 1}, true},
        {{.objects = 1}, true},
        {{.unknown_hwpt = true}, true},
        {{.reserved_ioas = true}, false},
        {{.unowned_ioas = true, .unknown_mapper = true}, false},
        {{.closed = true}, true},
        {{.ended = true}, true},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Snapshot) snapshot = make_snapshot(&rows[i].change);

        g_test_message("%zu", i);
        g_assert_cmpint(snapshot_differs(snapshot), ==, rows[i].differs);
    }
}

static Repair only_repair(const Change *change)
{
    uint64_t unstable;
    g_autoptr(GArray) repairs = plan(change, change, &unstable);

    g_assert_cmpuint(repairs->len, ==, 1);
    g_assert_cmpuint(unstable, ==, 0);
    return g_array_index(repairs, Repair, 0);
}

/* What the kernel is told: what the entry has, and what it is to have. */
static void test_range_arguments(void)
{
    Repair repair = only_repair(&(Change){.charged = 20});

    g_assert_cmphex(repair.set_range.pages, ==, RANGE_ADDRESS);
    g_assert_cmphex(repair.set_range.expected_charge, ==, CHARGE);
    g_assert_cmpuint(repair.set_range.charged, ==, 20);
    g_assert_cmpuint(repair.set_range.bytes, ==, PAGES << LEDGER_PAGE_SHIFT);
    g_assert_true(repair.set_range.known);

    repair = only_repair(&(Change){.unknown_range = true});
    g_assert_false(repair.set_range.known);
    g_assert_cmpuint(repair.set_range.expected_charge, ==, 0);
    g_assert_cmpuint(repair.set_range.charged, ==, PAGES);
    g_assert_cmpuint(repair.set_range.context, ==, CONTEXT);
    g_assert_cmpuint(repair.set_range.tenant, ==, TENANT);
    g_assert_cmpuint(repair.set_range.tgid, ==, PID);
    g_assert_cmpuint(repair.set_range.start, ==, START);

    /* One whose end was missed may be ending just now; one with another in its place is not. */
    repair = only_repair(&(Change){.unmapped = true});
    g_assert_true(repair.may_end_by_itself);
    g_assert_cmphex(repair.remove_range.expected_charge, ==, CHARGE);
    repair = only_repair(&(Change){.npages = 2 * PAGES});
    g_assert_false(repair.may_end_by_itself);
}

static void test_sum_arguments(void)
{
    Repair repair = only_repair(&(Change){.pinned = -3, .mapped = 4096, .moves = 5});

    g_assert_cmpuint(repair.set_totals.context, ==, CONTEXT);
    g_assert_cmpuint(repair.set_totals.owner, ==, OWNER);
    g_assert_cmpuint(repair.set_totals.tenant, ==, 0);
    g_assert_cmpuint(repair.set_totals.expected_moves, ==, 15);
    g_assert_cmpint(repair.set_totals.expected_pinned, ==, PAGES - 3);
    g_assert_cmpint(repair.set_totals.pinned, ==, PAGES);
    g_assert_cmpint(repair.set_totals.expected_mapped, ==, (PAGES + 1) << LEDGER_PAGE_SHIFT);
    g_assert_cmpint(repair.set_totals.mapped, ==, PAGES << LEDGER_PAGE_SHIFT);

    repair = only_repair(&(Change){.tenant_pinned = 8});
    g_assert_cmpuint(repair.set_totals.tenant, ==, TENANT);
    g_assert_cmpint(repair.set_totals.expected_pinned, ==, PAGES + 8);
    g_assert_cmpint(repair.set_totals.pinned, ==, PAGES);

    repair = only_repair(&(Change){.objects = 2, .pages = 1});
    g_assert_cmpuint(repair.set_counts.owner, ==, OWNER);
    g_assert_cmpint(repair.set_counts.expected_objects, ==, 5);
    g_assert_cmpint(repair.set_counts.objects, ==, 3);
    g_assert_cmpint(repair.set_counts.expected_pages, ==, 2);
    g_assert_cmpint(repair.set_counts.pages, ==, 1);
}

/* An address space is whose memory is mapped there, a page table goes with it, a device is whose
 * file it is. */
static void test_owners(void)
{
    static const struct {
        Change change;
        uint32_t id;
        uint32_t tgid;
    } rows[] = {
        {{.unknown_ioas = true}, IOAS, PID},
        {{.unowned_ioas = true}, IOAS, PID},
        {{.unknown_hwpt = true}, HWPT, PID},
        {{.unknown_device = true}, DEVICE, PID},
        {{.unknown_ioas = true, .unknown_mapper = true}, IOAS, 0},
        {{.unknown_device = true, .unknown_mapper = true}, DEVICE, PID},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Repair repair = only_repair(&rows[i].change);

        g_test_message("%zu", i);
        g_assert_cmpuint(repair.adopt_object.context, ==, CONTEXT);
        g_assert_cmphex(repair.adopt_object.ictx, ==, CONTEXT_ADDRESS);
        g_assert_cmpuint(repair.adopt_object.id, ==, rows[i].id);
        g_assert_cmpuint(repair.adopt_object.tgid, ==, rows[i].tgid);
        g_assert_cmpuint(repair.adopt_object.start, ==, rows[i].tgid ? START : 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/repair/plans", test_plans);
    g_test_add_func("/ledger/repair/differs", test_differs);
    g_test_add_func("/ledger/repair/range-arguments", test_range_arguments);
    g_test_add_func("/ledger/repair/sum-arguments", test_sum_arguments);
    g_test_add_func("/ledger/repair/owners", test_owners);
    return g_test_run();
}
