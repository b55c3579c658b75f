/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose IOMMUFD each domain has, and what the agent does about it, without libvirt. */
#include "plugin/libvirt/agent/associations.h"

#define A "11111111-1111-1111-1111-111111111111"
#define B "22222222-2222-2222-2222-222222222222"

static Associations *table(void)
{
    return associations_new(g_free);
}

/* Does all jobs of the domain, with this result; returns which they were. */
static unsigned do_jobs(Associations *associations, const char *uuid, JobResult *result)
{
    Association *association = associations_find(associations, uuid);
    GPtrArray *callers;
    unsigned flags = associations_begin(associations, association, &callers);

    g_ptr_array_unref(callers);
    if (result->associated)
        result->epoch = associations_give(association);
    associations_done(associations, association, flags, result);
    return flags;
}

static JobResult associated(const char *name, const char *tenant)
{
    return (JobResult){.found = true,
                       .uses_iommud = true,
                       .associated = true,
                       .iommufd = 17,
                       .name = (char *)name,
                       .desired_tenant = (char *)tenant};
}

static char *listed(Associations *associations)
{
    g_autoptr(GPtrArray) list = associations_list(associations);
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < list->len; i++) {
        const Association *association = list->pdata[i];
        g_string_append_printf(text, "%s:%s ", association->name, association->tenant);
    }
    return g_strchomp(g_string_free(text, FALSE));
}

#define assert_listed(associations, expected)                                                      \
    G_STMT_START                                                                                   \
    {                                                                                              \
        g_autofree char *text_ = listed(associations);                                             \
        g_assert_cmpstr(text_, ==, expected);                                                      \
    }                                                                                              \
    G_STMT_END

static void associate(Associations *associations, const char *uuid, const char *name,
                      const char *tenant)
{
    JobResult result = associated(name, tenant);

    associations_request(associations, uuid, JOB_ASSOCIATE, NULL);
    g_assert_cmpuint(do_jobs(associations, uuid, &result), ==, JOB_ASSOCIATE);
}

static void test_associate(void)
{
    g_autoptr(Associations) associations = table();

    g_assert_null(associations_next(associations));
    associate(associations, B, "two", "acme");
    associate(associations, A, "one", "globex");
    assert_listed(associations, "one:globex two:acme");
    g_assert_null(associations_next(associations));
}

/* One domain's jobs are never handed out twice at a time; what comes meanwhile is collected. */
static void test_one_at_a_time(void)
{
    g_autoptr(Associations) associations = table();
    GPtrArray *callers;
    JobResult result = associated("one", "acme");

    Association *one =
        associations_request(associations, A, JOB_ASSOCIATE, g_strdup("first caller"));
    g_assert_true(associations_next(associations) == one);
    g_assert_cmpuint(associations_begin(associations, one, &callers), ==, JOB_ASSOCIATE);
    g_assert_cmpuint(callers->len, ==, 1);
    g_ptr_array_unref(callers);

    associations_request(associations, A, JOB_SYNC, NULL);
    associations_request(associations, A, JOB_ASSOCIATE, g_strdup("second caller"));
    associations_request(associations, A, JOB_ASSOCIATE, g_strdup("third caller"));
    g_assert_null(associations_next(associations));

    result.epoch = associations_give(one);
    associations_done(associations, one, JOB_ASSOCIATE, &result);
    g_assert_true(associations_next(associations) == one);
    g_assert_cmpuint(associations_begin(associations, one, &callers), ==, JOB_ASSOCIATE | JOB_SYNC);
    g_assert_cmpuint(callers->len, ==, 2);
    g_ptr_array_unref(callers);
    associations_done(associations, one, JOB_ASSOCIATE | JOB_SYNC, &result);
    g_assert_null(associations_next(associations));
}

static void test_forgets(void)
{
    g_autoptr(Associations) associations = table();
    JobResult plain = {.found = true, .name = (char *)"plain"};
    JobResult gone = {.found = false};

    associations_request(associations, A, JOB_ASSOCIATE, NULL);
    do_jobs(associations, A, &plain);
    g_assert_null(associations_find(associations, A));

    associate(associations, A, "one", "acme");
    associations_request(associations, A, JOB_SYNC, NULL);
    do_jobs(associations, A, &gone);
    g_assert_null(associations_find(associations, A));
    assert_listed(associations, "");
}

/* Following a running machine says nothing about its definition. */
static void test_sync_keeps(void)
{
    g_autoptr(Associations) associations = table();
    JobResult synced = {.found = true, .name = (char *)"one", .pinned_tenant = (char *)"acme"};

    associate(associations, A, "one", "acme");
    associations_request(associations, A, JOB_SYNC, NULL);
    do_jobs(associations, A, &synced);
    assert_listed(associations, "one:acme");
    g_assert_cmpstr(associations_find(associations, A)->pinned_tenant, ==, "acme");
}

/* libvirt keeps what it had when it can't be given anew. */
static void test_failure_keeps(void)
{
    g_autoptr(Associations) associations = table();
    JobResult failed = {.found = true,
                        .uses_iommud = true,
                        .name = (char *)"one",
                        .desired_tenant = (char *)"globex"};

    associate(associations, A, "one", "acme");
    associations_request(associations, A, JOB_ASSOCIATE, NULL);
    do_jobs(associations, A, &failed);
    assert_listed(associations, "one:acme");

    associations_request_tenant(associations, "acme");
    g_assert_null(associations_next(associations));
    associations_request_tenant(associations, "globex");
    g_assert_nonnull(associations_next(associations));
}

/* A domain whose tenant could not even be found out is tried with every new tenant. */
static void test_unknown_tenant(void)
{
    g_autoptr(Associations) associations = table();
    JobResult failed = {.found = true, .uses_iommud = true, .name = (char *)"one"};

    associations_request(associations, A, JOB_ASSOCIATE, NULL);
    do_jobs(associations, A, &failed);
    assert_listed(associations, "");
    associations_request_tenant(associations, "acme");
    g_assert_nonnull(associations_next(associations));
}

/* What was handed over while the domain was undefined, or defined anew, may be a dead domain's. */
static void test_void(void)
{
    g_autoptr(Associations) associations = table();
    JobResult result = associated("one", "acme");
    GPtrArray *callers;

    associate(associations, A, "one", "acme");
    Association *one = associations_find(associations, A);
    g_assert_cmpuint(one->iommufd, ==, 17);
    associations_void(associations, A);
    associations_void(associations, B);
    assert_listed(associations, "");
    g_assert_cmpuint(one->iommufd, ==, 0);

    associations_request(associations, A, JOB_ASSOCIATE, NULL);
    associations_begin(associations, one, &callers);
    g_ptr_array_unref(callers);
    result.epoch = associations_give(one);
    associations_void(associations, A);
    associations_done(associations, one, JOB_ASSOCIATE, &result);
    g_assert_false(result.associated);
    assert_listed(associations, "");
}

/* While it is handed another one, nobody knows which it has; and what a start was told of is to be
 * replaced, but only once. */
static void test_give(void)
{
    g_autoptr(Associations) associations = table();
    JobResult result = associated("one", "acme");
    GPtrArray *callers;

    associate(associations, A, "one", "acme");
    Association *one = associations_find(associations, A);
    one->given = true;
    associations_request(associations, A, JOB_ASSOCIATE, NULL);
    associations_begin(associations, one, &callers);
    g_ptr_array_unref(callers);
    assert_listed(associations, "one:acme");
    result.iommufd = 18;
    result.epoch = associations_give(one);
    assert_listed(associations, "");
    associations_done(associations, one, JOB_ASSOCIATE, &result);
    assert_listed(associations, "one:acme");
    g_assert_cmpuint(one->iommufd, ==, 18);
    g_assert_false(one->given);
}

/* Why it has none is for whoever starts it. */
static void test_why(void)
{
    g_autoptr(Associations) associations = table();
    JobResult failed = {
        .found = true, .uses_iommud = true, .name = (char *)"one", .why = "There is no acme."};

    associations_request(associations, A, JOB_ASSOCIATE, NULL);
    do_jobs(associations, A, &failed);
    g_assert_cmpstr(associations_find(associations, A)->why, ==, "There is no acme.");
    associate(associations, A, "one", "acme");
    g_assert_null(associations_find(associations, A)->why);
}

static void test_lost(void)
{
    g_autoptr(Associations) associations = table();

    associate(associations, A, "one", "acme");
    associate(associations, B, "two", "globex");
    associations_lost(associations, "acme");
    assert_listed(associations, "two:globex");
    associations_lost(associations, NULL);
    assert_listed(associations, "");
}

/* Rewriting the definition of a running machine does not move it to another tenant. */
static void test_pinned(void)
{
    g_autoptr(Associations) associations = table();
    JobResult runs = associated("one", "acme"), moved = associated("one", "globex");

    runs.pinned_tenant = (char *)"acme";
    associations_request(associations, A, JOB_ASSOCIATE | JOB_SYNC, NULL);
    do_jobs(associations, A, &runs);
    moved.pinned_tenant = (char *)"globex";
    associations_request(associations, A, JOB_ASSOCIATE | JOB_SYNC, NULL);
    do_jobs(associations, A, &moved);
    g_assert_cmpstr(associations_find(associations, A)->pinned_tenant, ==, "acme");
    /* The next start is the new tenant's. */
    assert_listed(associations, "one:globex");
    associations_stopped(associations, A);
    g_assert_cmpstr(associations_find(associations, A)->pinned_tenant, ==, "");
    associations_stopped(associations, B);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/libvirt/associations/associate", test_associate);
    g_test_add_func("/libvirt/associations/one-at-a-time", test_one_at_a_time);
    g_test_add_func("/libvirt/associations/forgets", test_forgets);
    g_test_add_func("/libvirt/associations/sync-keeps", test_sync_keeps);
    g_test_add_func("/libvirt/associations/failure-keeps", test_failure_keeps);
    g_test_add_func("/libvirt/associations/unknown-tenant", test_unknown_tenant);
    g_test_add_func("/libvirt/associations/void", test_void);
    g_test_add_func("/libvirt/associations/give", test_give);
    g_test_add_func("/libvirt/associations/why", test_why);
    g_test_add_func("/libvirt/associations/lost", test_lost);
    g_test_add_func("/libvirt/associations/pinned", test_pinned);
    return g_test_run();
}
