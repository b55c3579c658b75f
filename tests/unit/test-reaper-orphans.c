/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may go, and when nothing is left of a machine. */
#include "dbus/reaper/orphans.h"

#include "policy/size.h"

#include <glib/gstdio.h>

#define CONTEXT 5

typedef struct {
    Manager manager;
    char *folder;
    Tenant *tenant;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer unused)
{
    static const RegistryTypes types = {
        .tenant_size = sizeof(Tenant),
        .tenant_clear = tenant_clear,
        .machine_size = sizeof(Machine),
        .machine_clear = machine_clear,
    };
    Manager *manager = &fixture->manager;
    g_assert_cmpint(sd_event_new(&manager->event), >=, 0);
    fixture->folder = g_dir_make_tmp("iommud-test-XXXXXX", NULL);
    manager->runtime_dir = fixture->folder;
    manager->writer = writer_new(manager->event);
    manager->tenant_ids = g_hash_table_new(NULL, NULL);
    manager->machine_ids = g_hash_table_new(NULL, NULL);
    manager->leaders = g_hash_table_new(NULL, NULL);
    manager->registry = registry_new(SIZE_INFINITY, &types);
    fixture->tenant =
        (Tenant *)registry_add_tenant(manager->registry, tenant_config_new("acme"), NULL);
    tenant_begin(fixture->tenant, manager);
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    Manager *manager = &fixture->manager;
    registry_free(manager->registry);
    writer_free(manager->writer);
    g_hash_table_unref(manager->tenant_ids);
    g_hash_table_unref(manager->machine_ids);
    g_hash_table_unref(manager->leaders);
    sd_event_unref(manager->event);
    g_assert_cmpint(g_rmdir(fixture->folder), ==, 0);
    g_free(fixture->folder);
}

static Machine *add_machine(Fixture *fixture, uint32_t ledger_id, MachineState state, bool shares)
{
    g_autofree char *uuid = g_strdup_printf("2c7a3b1e-0000-4000-8000-%012u", ledger_id);
    const AdmissionRequest request = {.uuid = uuid, .name = "vm", .tenant = "acme"};
    Machine *machine = (Machine *)registry_insert_admitted(fixture->manager.registry, &request,
                                                           &fixture->tenant->policy, 0);
    machine_begin(machine, &fixture->manager);
    machine_set_ledger_id(machine, ledger_id);
    machine->policy.state = state;
    machine->shares = shares;
    return machine;
}

static LedgerObject object(LedgerObjectType type, LedgerOwnerKind kind, bool alive,
                           uint32_t machine)
{
    return (LedgerObject){
        .context = CONTEXT,
        .id = 1,
        .type = type,
        .owner_kind = kind,
        .owner = 70 + machine,
        .machine = machine,
        .alive = alive,
    };
}

static bool goes(const Fixture *fixture, const LedgerObject *one)
{
    DestroyJob *job = destroy_job_new("acme", NULL, NULL, CONTEXT);
    orphans_choose(fixture->tenant, one, 1, job);
    bool chosen = !destroy_job_is_empty(job);
    destroy_job_free(job);
    return chosen;
}

/* ---- who may go ---- */

#define NO_MACHINE 0
#define ADMITTED 1
#define RUNNING 2
#define REAPING 3  /* its leader is dead */
#define RELEASED 4 /* it had none */
#define GONE 9     /* no machine has that number any more */

typedef struct {
    const char *what;
    LedgerOwnerKind kind;
    bool alive;
    uint32_t machine;
    bool goes;
    bool goes_alone; /* when no machine of the tenant lives in the IOMMUFD */
} Case;

static const Case cases[] = {
    {"what the service made", LEDGER_OWNER_KIND_SERVICE, true, NO_MACHINE, false, false},
    {"what an earlier service made", LEDGER_OWNER_KIND_SERVICE, false, NO_MACHINE, false, false},
    {"nobody's", LEDGER_OWNER_KIND_UNKNOWN, false, NO_MACHINE, false, true},
    {"a stranger's", LEDGER_OWNER_KIND_PROCESS, true, NO_MACHINE, false, false},
    {"a dead stranger's", LEDGER_OWNER_KIND_PROCESS, false, NO_MACHINE, true, true},
    {"a dead reaping machine's", LEDGER_OWNER_KIND_PROCESS, false, REAPING, true, true},
    {"a reaping machine's", LEDGER_OWNER_KIND_PROCESS, true, REAPING, true, true},
    {"a dead released machine's", LEDGER_OWNER_KIND_PROCESS, false, RELEASED, true, true},
    {"a released machine's that lives", LEDGER_OWNER_KIND_PROCESS, true, RELEASED, false, false},
    {"of a machine that is gone", LEDGER_OWNER_KIND_PROCESS, false, GONE, true, true},
    {"of who lives and was one", LEDGER_OWNER_KIND_PROCESS, true, GONE, false, false},
};

static const Case of_live_machines[] = {
    {"an admitted machine's", LEDGER_OWNER_KIND_PROCESS, true, ADMITTED, false, false},
    {"a running machine's", LEDGER_OWNER_KIND_PROCESS, true, RUNNING, false, false},
    /* A start that failed: its process is dead, whatever the machine's state says. */
    {"a failed start's", LEDGER_OWNER_KIND_PROCESS, false, ADMITTED, true, false},
    {"a dead process's of one that runs", LEDGER_OWNER_KIND_PROCESS, false, RUNNING, true, false},
};

static void check(const Fixture *fixture, const Case *one, bool expected)
{
    const LedgerObject ioas = object(LEDGER_OBJECT_TYPE_IOAS, one->kind, one->alive, one->machine);
    g_test_message("%s", one->what);
    g_assert_cmpint(goes(fixture, &ioas), ==, expected);
}

static void test_who(Fixture *fixture, gconstpointer unused)
{
    add_machine(fixture, REAPING, MACHINE_REAPING, true)->leader.pid = 1;
    add_machine(fixture, RELEASED, MACHINE_REAPING, true);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        check(fixture, &cases[i], cases[i].goes_alone);
    add_machine(fixture, ADMITTED, MACHINE_ADMITTED, true);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        check(fixture, &cases[i], cases[i].goes);
    add_machine(fixture, RUNNING, MACHINE_RUNNING, true);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        check(fixture, &cases[i], cases[i].goes);
    for (size_t i = 0; i < G_N_ELEMENTS(of_live_machines); i++)
        check(fixture, &of_live_machines[i], of_live_machines[i].goes);
}

/* A machine with an IOMMUFD of its own has nothing in this one, and keeps nobody from going. */
static void test_who_does_not_share(Fixture *fixture, gconstpointer unused)
{
    const LedgerObject nobodys =
        object(LEDGER_OBJECT_TYPE_IOAS, LEDGER_OWNER_KIND_UNKNOWN, false, NO_MACHINE);
    add_machine(fixture, RUNNING, MACHINE_RUNNING, false);
    g_assert_false(orphans_has_live(fixture->tenant));
    g_assert_true(goes(fixture, &nobodys));
    Machine *shares = add_machine(fixture, ADMITTED, MACHINE_ADMITTED, true);
    g_assert_true(orphans_has_live(fixture->tenant));
    g_assert_false(goes(fixture, &nobodys));
    shares->policy.state = MACHINE_REAPING;
    g_assert_false(orphans_has_live(fixture->tenant));
}

/* ---- what never goes by hand, and in which order the rest does ---- */

static void test_types(Fixture *fixture, gconstpointer unused)
{
    static const LedgerObjectType order[] = {
        LEDGER_OBJECT_TYPE_HW_QUEUE, LEDGER_OBJECT_TYPE_VEVENTQ,     LEDGER_OBJECT_TYPE_VDEVICE,
        LEDGER_OBJECT_TYPE_OTHER,    LEDGER_OBJECT_TYPE_HWPT_NESTED, LEDGER_OBJECT_TYPE_VIOMMU,
        LEDGER_OBJECT_TYPE_FAULT,    LEDGER_OBJECT_TYPE_HWPT_PAGING, LEDGER_OBJECT_TYPE_IOAS,
    };
    const LedgerObject device =
        object(LEDGER_OBJECT_TYPE_DEVICE, LEDGER_OWNER_KIND_PROCESS, false, GONE);
    const LedgerObject access =
        object(LEDGER_OBJECT_TYPE_ACCESS, LEDGER_OWNER_KIND_PROCESS, false, GONE);
    g_assert_false(goes(fixture, &device));
    g_assert_false(goes(fixture, &access));
    DestroyJob *job = destroy_job_new("acme", NULL, NULL, CONTEXT);
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        LedgerObject one = object(order[i], LEDGER_OWNER_KIND_PROCESS, false, GONE);
        one.id = (uint32_t)i + 1;
        orphans_choose(fixture->tenant, &one, 1, job);
    }
    g_assert_cmpuint(job->candidates->len, ==, G_N_ELEMENTS(order));
    for (unsigned i = 0; i < job->candidates->len; i++) {
        const DestroyCandidate *candidate = &g_array_index(job->candidates, DestroyCandidate, i);
        g_assert_cmpuint(candidate->id, ==, i + 1);
        g_assert_cmpuint(candidate->layer, ==, i);
        g_assert_cmpint(candidate->unmap, ==, order[i] == LEDGER_OBJECT_TYPE_IOAS);
        g_assert_cmpuint(candidate->owner, ==, 70 + GONE);
        g_assert_cmpuint(candidate->machine, ==, GONE);
    }
    destroy_job_free(job);
}

/* ---- the end of a machine ---- */

static bool is_left(const LedgerObject *objects, size_t n, uint32_t machine)
{
    g_autoptr(GHashTable) owners = orphans_owners(objects, n);
    return g_hash_table_contains(owners, GUINT_TO_POINTER(machine));
}

static void test_owners(Fixture *fixture, gconstpointer unused)
{
    const LedgerObject objects[] = {
        object(LEDGER_OBJECT_TYPE_IOAS, LEDGER_OWNER_KIND_UNKNOWN, false, NO_MACHINE),
        object(LEDGER_OBJECT_TYPE_IOAS, LEDGER_OWNER_KIND_PROCESS, true, RUNNING),
        object(LEDGER_OBJECT_TYPE_DEVICE, LEDGER_OWNER_KIND_PROCESS, false, REAPING),
    };
    g_assert_false(is_left(NULL, 0, REAPING));
    g_assert_false(is_left(objects, 2, REAPING));
    g_assert_true(is_left(objects, 2, RUNNING));
    /* What goes with the VFIO descriptor only holds it, too. */
    g_assert_true(is_left(objects, 3, REAPING));
    /* Of one that the kernel never heard of there is nothing. */
    g_assert_false(is_left(objects, 3, NO_MACHINE));
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    ADD("/orphans/who", test_who);
    ADD("/orphans/who-does-not-share", test_who_does_not_share);
    ADD("/orphans/types", test_types);
    ADD("/orphans/owners", test_owners);
    return g_test_run();
}
