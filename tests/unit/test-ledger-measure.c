/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What follows from a snapshot of ranges: what each process has, and what of a tenant's memory is
 * mapped more than once. */
#include "kernel/ledger/audit/measure.h"

#include <glib.h>
#include <string.h>

#define PAGE LEDGER_PAGE_SIZE
#define MAX_RANGES 6
#define OWNER 20
#define MACHINE 7

typedef struct {
    uint32_t context; /* 0: there is no more */
    uint32_t tenant;
    uint32_t pid;
    uint64_t source;
    uint64_t first; /* page of the source */
    uint64_t npages;
    uint64_t pinned;
    uint32_t extent;
    bool missed; /* the ledger has no entry */
} Range;

static Snapshot *make_snapshot(const Range *ranges, const struct ledger_tenant *tenant)
{
    const struct ledger_owner owner = {.machine = MACHINE};
    Snapshot *snapshot = snapshot_new();

    for (size_t i = 0; i < MAX_RANGES && ranges[i].context; i++) {
        const struct ledger_context context = {.id = ranges[i].context, .tenant = ranges[i].tenant};
        const struct ledger_record record = {.kind = LEDGER_RECORD_AREA,
                                             .address = 0x1000 * (i + 1),
                                             .id = 1,
                                             .npages = ranges[i].npages,
                                             .pinned = ranges[i].pinned,
                                             .charged = ranges[i].pinned,
                                             .source = ranges[i].source,
                                             .offset = ranges[i].first * PAGE,
                                             .tgid = ranges[i].pid,
                                             .start = 5};
        const struct ledger_pages entry = {.bytes = ranges[i].npages * PAGE,
                                           .context = ranges[i].context,
                                           .owner = OWNER,
                                           .tenant = ranges[i].tenant,
                                           .share = LEDGER_SHARE(0, ranges[i].extent)};

        snapshot_add_record(snapshot, &context, &record);
        if (!ranges[i].missed)
            snapshot_add_range(snapshot, record.address, &entry);
    }
    if (tenant)
        snapshot_add_tenant(snapshot, 1, tenant);
    snapshot_add_owner(snapshot, OWNER, &owner);
    snapshot_index(snapshot);
    return snapshot;
}

static void test_unique(void)
{
    static const struct {
        const char *what;
        Range ranges[MAX_RANGES];
        uint64_t mapped, mapped_unique, pinned, unique; /* pages, of the only process */
    } rows[] = {
        {"one range", {{1, 1, 9, 100, 0, 16, 16}}, 16, 16, 16, 16},
        {"nothing pinned", {{1, 1, 9, 100, 0, 16, 0}}, 16, 16, 0, 0},
        {"side by side", {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 16, 8, 8}}, 24, 24, 24, 24},
        {"the same twice", {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 0, 16, 16}}, 32, 16, 32, 16},
        {"half of it again",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 8, 16, 16}},
         32,
         24,
         32,
         24},
        {"a part of it again",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 4, 4, 4}},
         20,
         16,
         20,
         16},
        {"in any order", {{1, 1, 9, 100, 4, 4, 4}, {1, 1, 9, 100, 0, 16, 16}}, 20, 16, 20, 16},
        {"at the same place of others",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 200, 0, 16, 16}},
         32,
         32,
         32,
         32},
        {"source 0 is one, too", {{1, 1, 9, 0, 4, 4, 4}, {1, 1, 9, 0, 4, 4, 4}}, 8, 4, 8, 4},
        {"a second that is not all pinned",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 0, 16, 4}},
         32,
         16,
         20,
         20},
        {"a first that is not all pinned",
         {{1, 1, 9, 100, 0, 16, 4}, {1, 1, 9, 100, 0, 16, 16}},
         32,
         16,
         20,
         20},
        {"three times",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 8, 16, 16}},
         48,
         24,
         48,
         24},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Snapshot) snapshot = make_snapshot(rows[i].ranges, NULL);
        g_autoptr(GArray) measurements = snapshot_measure(snapshot);
        const LedgerMeasurement *sum = &g_array_index(measurements, LedgerMeasurement, 0);

        g_test_message("%s", rows[i].what);
        g_assert_cmpuint(measurements->len, ==, 1);
        g_assert_cmpuint(sum->mapped, ==, rows[i].mapped * PAGE);
        g_assert_cmpuint(sum->mapped_unique, ==, rows[i].mapped_unique * PAGE);
        g_assert_cmpuint(sum->pinned, ==, rows[i].pinned * PAGE);
        g_assert_cmpuint(sum->charged, ==, rows[i].pinned * PAGE);
        g_assert_cmpuint(sum->unique, ==, rows[i].unique * PAGE);
    }
}

/* Each process in each context for itself, in order. */
static void test_processes(void)
{
    const Range ranges[MAX_RANGES] = {{2, 1, 9, 100, 0, 8, 8},
                                      {1, 1, 9, 100, 0, 16, 16},
                                      {1, 1, 8, 100, 0, 4, 4},
                                      {1, 1, 9, 100, 0, 16, 16},
                                      {2, 1, 9, 100, 8, 8, 8, .missed = true}};
    const struct {
        uint32_t context, pid;
        uint64_t mapped, unique;
    } expected[] = {{1, 8, 4, 4}, {1, 9, 32, 16}, {2, 9, 16, 16}};
    g_autoptr(Snapshot) snapshot = make_snapshot(ranges, NULL);
    g_autoptr(GArray) measurements = snapshot_measure(snapshot);

    g_assert_cmpuint(measurements->len, ==, G_N_ELEMENTS(expected));
    for (guint i = 0; i < measurements->len; i++) {
        const LedgerMeasurement *sum = &g_array_index(measurements, LedgerMeasurement, i);

        g_assert_cmpuint(sum->context, ==, expected[i].context);
        g_assert_cmpint(sum->pid, ==, expected[i].pid);
        g_assert_cmpuint(sum->start, ==, 5);
        g_assert_cmpuint(sum->machine, ==, MACHINE);
        g_assert_cmpuint(sum->mapped, ==, expected[i].mapped * PAGE);
        g_assert_cmpuint(sum->unique, ==, expected[i].unique * PAGE);
    }
}

static void test_nothing(void)
{
    const Range ranges[MAX_RANGES] = {{0}};
    g_autoptr(Snapshot) snapshot = make_snapshot(ranges, NULL);
    g_autoptr(GArray) measurements = snapshot_measure(snapshot);
    g_autoptr(GArray) credits = snapshot_dedup_credits(snapshot);

    g_assert_cmpuint(measurements->len, ==, 0);
    g_assert_cmpuint(credits->len, ==, 0);
}

static void test_credits(void)
{
    static const struct {
        const char *what;
        Range ranges[MAX_RANGES];
        int64_t credit; /* pages */
    } rows[] = {
        {"one range", {{1, 1, 9, 100, 0, 16, 16}}, 0},
        {"the same twice, each counted",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 0, 16, 16}},
         16},
        {"the same twice, counted once",
         {{1, 1, 9, 100, 0, 16, 16, 3}, {1, 1, 9, 100, 0, 16, 16, 3}},
         0},
        {"by two processes", {{1, 1, 9, 100, 0, 16, 16}, {2, 1, 8, 100, 0, 16, 16}}, 16},
        {"half of it again", {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 8, 16, 16}}, 8},
        {"half of it, one an extent's",
         {{1, 1, 9, 100, 0, 16, 16, 3}, {1, 1, 9, 100, 8, 16, 16}},
         8},
        {"what is not pinned counts, too",
         {{1, 1, 9, 100, 0, 16, 0}, {1, 1, 9, 100, 0, 16, 0}},
         16},
        {"of one that was missed nothing",
         {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 0, 16, 16, .missed = true}},
         0},
        {"another tenant's is its own", {{1, 1, 9, 100, 0, 16, 16}, {2, 2, 8, 100, 0, 16, 16}}, 0},
    };
    const struct ledger_tenant tenant = {.count = LEDGER_COUNT_UNIQUE, .releases = 12};

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Snapshot) snapshot = make_snapshot(rows[i].ranges, &tenant);
        g_autoptr(GArray) credits = snapshot_dedup_credits(snapshot);
        const struct control_set_dedup_credit *args =
            &g_array_index(credits, struct control_set_dedup_credit, 0);

        g_test_message("%s", rows[i].what);
        g_assert_cmpuint(credits->len, ==, 1);
        g_assert_cmpuint(args->tenant, ==, 1);
        g_assert_cmpuint(args->expected_releases, ==, 12);
        g_assert_cmpint(args->credit, ==, rows[i].credit * (int64_t)PAGE);
    }
}

/* Who counts every mapping has no credit. */
static void test_no_credit(void)
{
    const Range ranges[MAX_RANGES] = {{1, 1, 9, 100, 0, 16, 16}, {1, 1, 9, 100, 0, 16, 16}};
    const struct ledger_tenant tenant = {.count = LEDGER_COUNT_CHARGED};
    g_autoptr(Snapshot) snapshot = make_snapshot(ranges, &tenant);
    g_autoptr(GArray) credits = snapshot_dedup_credits(snapshot);

    g_assert_cmpuint(credits->len, ==, 0);
}

/* However often the same is mapped, not more than LEDGER_EXTENT_MAX_REFS mappings count once. */
static void test_credit_is_bounded(void)
{
    const unsigned copies = 3 * LEDGER_EXTENT_MAX_REFS;
    const struct ledger_tenant tenant = {.count = LEDGER_COUNT_UNIQUE};
    g_autoptr(Snapshot) snapshot = snapshot_new();

    for (unsigned i = 0; i < copies; i++) {
        const struct ledger_context context = {.id = 1, .tenant = 1};
        const struct ledger_record record = {.kind = LEDGER_RECORD_AREA,
                                             .address = 0x1000 * (i + 1),
                                             .id = 1,
                                             .npages = 1,
                                             .source = 100,
                                             .tgid = 9};
        const struct ledger_pages entry = {.bytes = PAGE, .context = 1, .tenant = 1};

        snapshot_add_record(snapshot, &context, &record);
        snapshot_add_range(snapshot, record.address, &entry);
    }
    snapshot_add_tenant(snapshot, 1, &tenant);
    snapshot_index(snapshot);

    g_autoptr(GArray) credits = snapshot_dedup_credits(snapshot);
    g_assert_cmpuint(credits->len, ==, 1);
    g_assert_cmpint(g_array_index(credits, struct control_set_dedup_credit, 0).credit, ==,
                    (int64_t)(copies - 3) * (int64_t)PAGE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/measure/unique", test_unique);
    g_test_add_func("/ledger/measure/processes", test_processes);
    g_test_add_func("/ledger/measure/nothing", test_nothing);
    g_test_add_func("/ledger/measure/credits", test_credits);
    g_test_add_func("/ledger/measure/no-credit", test_no_credit);
    g_test_add_func("/ledger/measure/credit-is-bounded", test_credit_is_bounded);
    return g_test_run();
}
