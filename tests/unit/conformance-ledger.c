/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Conformance of the ledger and the guard: whose things are whose, what counts against limits, what
 * is refused, and what is told of it. What happens, processes do. */
#include "tests/unit/conformance.h"

#include "kernel/base/cleanup.h"
#include "kernel/ledger/ledger.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#define MIB UINT64_C(0x100000)
#define MACHINE_MEMORY (16 * MIB)
#define TENANT 1
#define OTHER_TENANT 2
#define FIRST 11 /* machines */
#define SECOND 12
#define THIRD 13

typedef struct {
    Host *host;
    Ledger *ledger;
    const LedgerOps *ops;
    const char *address;
    int fd; /* the tenant's IOMMUFD */
    uint32_t context;
    Actor *first;  /* shows itself as the first machine by binding its device */
    Actor *second; /* is named as the second */
    GArray *events;
} Scene;

/* ---- reading ---- */

static void note_event(const LedgerEvent *event, void *data)
{
    g_array_append_vals(data, event, 1);
}

/* The last event of the kind since the last time; kind -1 forgets all. */
static LedgerEvent find_event(Scene *scene, int kind)
{
    LedgerEvent found = {.error = 0};
    g_array_set_size(scene->events, 0);
    for (int i = 0; i < 20; i++) {
        scene->ops->dispatch(scene->ledger, note_event, scene->events);
        for (guint k = 0; k < scene->events->len; k++)
            if ((int)g_array_index(scene->events, LedgerEvent, k).kind == kind)
                found = g_array_index(scene->events, LedgerEvent, k);
        if (kind < 0 || found.context != 0 || found.machine != 0)
            break;
        g_usleep(50 * 1000);
    }
    return found;
}

static LedgerUsage usage_of(const Scene *scene, const Actor *actor)
{
    g_autofree LedgerUsage *usage = NULL;
    LedgerUsage found = {.pid = 0};
    size_t n = 0;
    scene->ops->usage(scene->ledger, &usage, &n);
    for (size_t i = 0; i < n; i++)
        if (usage[i].context == scene->context && usage[i].pid == actor->pid &&
            usage[i].start == actor->start)
            found = usage[i];
    return found;
}

static LedgerTenantUsage tenant_usage(const Scene *scene)
{
    LedgerTenantUsage usage = {.limit = 0};
    scene->ops->tenant_usage(scene->ledger, TENANT, &usage);
    return usage;
}

/* How many objects of the type the process has, and the last one's id. */
static unsigned count_objects(const Scene *scene, pid_t pid, LedgerObjectType type,
                              LedgerObject *ret_last)
{
    g_autofree LedgerObject *objects = NULL;
    unsigned found = 0;
    size_t n = 0;
    scene->ops->objects(scene->ledger, scene->context, &objects, &n);
    for (size_t i = 0; i < n; i++) {
        if (objects[i].pid != pid || objects[i].type != type)
            continue;
        *ret_last = objects[i];
        found++;
    }
    return found;
}

/* ---- checks ---- */

static void check_errors(const Scene *scene)
{
    const LedgerOps *ops = scene->ops;
    Ledger *ledger = scene->ledger;
    LedgerTenantUsage usage;
    LedgerMachine machine;
    LedgerObject object;
    uint32_t context;

    check_result(ops->register_iommufd(ledger, -1, TENANT, 0, &context), -EBADF,
                 "register no descriptor");
    check_result(ops->add_machine(ledger, 0, TENANT), -EINVAL, "add a machine without a number");
    check_result(ops->add_machine(ledger, FIRST, TENANT), 0, "add a machine again");
    check_result(ops->add_machine(ledger, FIRST, OTHER_TENANT), -EEXIST, "add another tenant's");
    check_result(ops->remove_machine(ledger, 99), -ENOENT, "remove no machine");
    check_result(ops->machine(ledger, 99, &machine), -ENOENT, "who is no machine");
    check(ops->machine(ledger, FIRST, &machine) == 0 && machine.pid == 0,
          "nobody has shown itself as the machine");
    check_result(ops->admit_device(ledger, "01:00.0", &(LedgerClaim){TENANT, FIRST, 0, 0}, NULL),
                 -EINVAL, "admit half an address");
    check_result(
        ops->admit_device(ledger, "ffffffff:ff:1f.7", &(LedgerClaim){TENANT, FIRST, 0, 0}, NULL), 0,
        "admit a device of the longest address");
    check_result(ops->dismiss_device(ledger, "ffffffff:ff:1f.6", FIRST), -ENOENT,
                 "dismiss the function beside it");
    check_result(ops->dismiss_device(ledger, "ffffffff:ff:1f.7", FIRST), 0, "dismiss it");
    check_result(ops->dismiss_device(ledger, "ffff:00:01.0", FIRST), -ENOENT,
                 "dismiss a device that is not admitted");
    check_result(ops->dismiss_device(ledger, "x", FIRST), -EINVAL, "dismiss no device");
    check_result(ops->remove_tenant(ledger, OTHER_TENANT), -ENOENT, "remove no tenant");
    check_result(ops->tenant_usage(ledger, OTHER_TENANT, &usage), -ENOENT, "what no tenant has");
    check_result(ops->object(ledger, scene->context, 4711, &object), -ENOENT, "no object");
}

static int claim(const Scene *scene, const char *address, uint32_t machine, uint32_t unit,
                 uint32_t *ret_machine)
{
    const LedgerClaim wanted = {.tenant = TENANT, .machine = machine, .unit = unit};
    return scene->ops->admit_device(scene->ledger, address, &wanted, ret_machine);
}

/* Whoever claims a device has it, with all of its unit, until he gives it back or is removed. */
static void check_claims(const Scene *scene)
{
    static const char one[] = "ffff:00:01.0", two[] = "ffff:00:01.1", other[] = "ffff:00:02.0";
    const LedgerOps *ops = scene->ops;
    Ledger *ledger = scene->ledger;
    LedgerClaim found = {.tenant = 0};
    uint32_t holder = 0;

    check_result(ops->device(ledger, one, &found), -ENOENT, "who has a device that nobody has");
    check_result(claim(scene, one, 0, 7, NULL), -EINVAL, "claim a unit for no machine");
    check_result(claim(scene, one, FIRST, 7, NULL), 0, "claim a device and its unit");
    check_result(claim(scene, one, FIRST, 7, NULL), 0, "claim it again");
    check(ops->device(ledger, one, &found) == 0 && found.machine == FIRST && found.unit == 7 &&
              found.tenant == TENANT,
          "it says who has it");
    check_result(claim(scene, one, SECOND, 7, &holder), -EBUSY, "claim another's device");
    check(holder == FIRST, "which says whose it is");
    holder = 0;
    check_result(claim(scene, two, SECOND, 7, &holder), -EBUSY, "claim the rest of its unit");
    check(holder == FIRST, "the same");
    check_result(ops->device(ledger, two, &found), -ENOENT, "which leaves no trace");
    check_result(claim(scene, two, FIRST, 7, NULL), 0, "claim the rest oneself");
    check_result(claim(scene, other, SECOND, 8, NULL), 0, "claim another unit");
    check_result(ops->dismiss_device(ledger, one, SECOND), -EBUSY, "give back another's device");
    check_result(ops->dismiss_device(ledger, one, FIRST), 0, "give back the one");
    check_result(claim(scene, one, SECOND, 7, NULL), -EBUSY, "the other still holds the unit");
    check_result(ops->dismiss_device(ledger, two, FIRST), 0, "give back the rest");
    check_result(claim(scene, one, SECOND, 7, NULL), 0, "then another may have it");
    check_result(ops->dismiss_device(ledger, one, SECOND), 0, "give it back");
    check_result(ops->dismiss_device(ledger, other, SECOND), 0, "and the other");
    check_result(ops->add_machine(ledger, THIRD, TENANT), 0, "a machine that comes and goes");
    check_result(claim(scene, one, THIRD, 7, NULL), 0, "claims");
    check_result(ops->remove_machine(ledger, THIRD), 0, "and is removed");
    check_result(ops->device(ledger, one, &found), -ENOENT, "then it has nothing");
    check_result(claim(scene, two, SECOND, 7, NULL), 0, "and its unit is another's");
    check_result(claim(scene, one, SECOND, 7, NULL), 0, "with all devices");
    ops->dismiss_device(ledger, one, SECOND);
    ops->dismiss_device(ledger, two, SECOND);
}

static void check_service(const Scene *scene)
{
    LedgerObject object = {.owner = 0};
    uint32_t ioas = 0;
    check_result(scene->host->ops->ioas_alloc(scene->host, scene->fd, &ioas), 0,
                 "the service allocates an IOAS");
    check_result(scene->ops->object(scene->ledger, scene->context, ioas, &object), 0,
                 "the ledger knows it");
    check(object.owner_kind == LEDGER_OWNER_KIND_SERVICE && object.alive && object.machine == 0 &&
              object.type == LEDGER_OBJECT_TYPE_IOAS,
          "it is the service's");
    scene->host->ops->object_destroy(scene->host, scene->fd, ioas);
    check_result(scene->ops->object(scene->ledger, scene->context, ioas, &object), -ENOENT,
                 "and is not known any more when it is destroyed");
}

static void check_owner(Scene *scene)
{
    LedgerMachine machine = {.pid = 0};
    LedgerObject object = {.owner = 0};
    LedgerDrift drift = {.drift = 1};
    g_autofree LedgerMeasurement *measured = NULL;
    size_t n = 0, found = 0;

    check_result(actor_play(scene->first, scene->address, MACHINE_MEMORY), 0,
                 "a process binds the device that was admitted");
    check(count_objects(scene, scene->first->pid, LEDGER_OBJECT_TYPE_DEVICE, &object) == 1 &&
              count_objects(scene, scene->first->pid, LEDGER_OBJECT_TYPE_HWPT_PAGING, &object) ==
                  1 &&
              count_objects(scene, scene->first->pid, LEDGER_OBJECT_TYPE_IOAS, &object) == 1,
          "a device, a page table and an IOAS are its own");
    check(object.owner_kind == LEDGER_OWNER_KIND_PROCESS && object.machine == FIRST &&
              object.alive && object.start == scene->first->start,
          "which shows it as the machine");
    check(scene->ops->machine(scene->ledger, FIRST, &machine) == 0 &&
              machine.pid == scene->first->pid && machine.start == scene->first->start &&
              machine.comm[0] != '\0',
          "and the machine as that process");

    LedgerUsage usage = usage_of(scene, scene->first);
    check(usage.pinned == MACHINE_MEMORY && usage.mapped == MACHINE_MEMORY &&
              usage.peak == MACHINE_MEMORY && usage.maps == 1 && usage.alive &&
              usage.machine == FIRST && usage.tenant == TENANT,
          "it has pinned its memory: %" G_GUINT64_FORMAT " KiB", usage.pinned / 1024);
    LedgerTenantUsage tenant = tenant_usage(scene);
    check(tenant.used == MACHINE_MEMORY && tenant.pinned == MACHINE_MEMORY, "so has the tenant");
    check_result(scene->ops->reconcile(scene->ledger, &drift, &measured, &n), 0, "reconcile");
    check(drift.drift == 0 && drift.repaired == 0 && drift.adopted == 0,
          "the ledger is what the kernel says");
    for (size_t i = 0; i < n; i++)
        found += measured[i].pid == scene->first->pid && measured[i].machine == FIRST &&
                 measured[i].context == scene->context && measured[i].pinned == MACHINE_MEMORY &&
                 measured[i].unique == MACHINE_MEMORY;
    check(found == 1, "which measures the same");
}

static void check_naming(const Scene *scene)
{
    const LedgerOps *ops = scene->ops;
    Ledger *ledger = scene->ledger;
    const Actor *first = scene->first, *second = scene->second;
    LedgerObject object = {.owner = 0};
    uint32_t ioas = 0;

    check_result(actor_ioctl(scene->second, "IOMMU_IOAS_ALLOC", 0, 0, &ioas), 0,
                 "another process allocates an IOAS");
    check(ops->object(ledger, scene->context, ioas, &object) == 0 && object.machine == 0 &&
              object.owner_kind == LEDGER_OWNER_KIND_PROCESS && object.pid == second->pid,
          "it is no machine's");
    check_result(ops->name_process(ledger, second->pid, second->start, FIRST, TENANT), -EEXIST,
                 "name it as the machine that another is");
    check_result(ops->name_process(ledger, second->pid, second->start, 99, TENANT), -ENOENT,
                 "name it as no machine");
    check_result(ops->name_process(ledger, second->pid, second->start, SECOND, TENANT), 0,
                 "name it as the second machine");
    check_result(ops->name_process(ledger, second->pid, second->start, SECOND, TENANT), 0,
                 "name it again");
    check_result(ops->name_process(ledger, first->pid, first->start, SECOND, TENANT), -EEXIST,
                 "name the first as the second");
    check(ops->object(ledger, scene->context, ioas, &object) == 0 && object.machine == SECOND,
          "what it made is the machine's");
    check_result(ops->name_process(ledger, first->pid, first->start, FIRST, TENANT), 0,
                 "name the first as what it has shown itself to be");
}

static void check_trespass(Scene *scene)
{
    static const char *const global[] = {"IOMMU_IOAS_CHANGE_PROCESS", "IOMMU_OPTION"};
    LedgerObject theirs = {.id = 0}, own = {.id = 0};
    uint64_t refused = usage_of(scene, scene->second).refused;
    uint32_t id;

    count_objects(scene, scene->first->pid, LEDGER_OBJECT_TYPE_IOAS, &theirs);
    count_objects(scene, scene->second->pid, LEDGER_OBJECT_TYPE_IOAS, &own);
    find_event(scene, -1);
    check_result(actor_ioctl(scene->second, "IOMMU_IOAS_UNMAP", theirs.id, 0, &id), -EACCES,
                 "unmap another machine's memory");
    LedgerEvent event = find_event(scene, LEDGER_EVENT_KIND_REFUSED);
    check(event.error == -EACCES && event.id == theirs.id && event.object_machine == FIRST &&
              event.machine == SECOND && event.tenant == TENANT &&
              event.pid == scene->second->pid && event.context == scene->context &&
              strcmp(ledger_ioctl_name(event.command), "IOMMU_IOAS_UNMAP") == 0,
          "an event says who, what and whose");
    check_result(actor_ioctl(scene->second, "IOMMU_DESTROY", theirs.id, 0, &id), -EACCES,
                 "destroy another machine's IOAS");
    check_result(actor_ioctl(scene->second, "IOMMU_IOAS_MAP", theirs.id, MIB, &id), -EACCES,
                 "map into another machine's IOAS");
    for (size_t i = 0; i < G_N_ELEMENTS(global); i++) {
        int r = actor_ioctl(scene->second, global[i], 0, 0, &id);
        check(r == -EPERM || r == -ENOTTY, "%s of an IOMMUFD that others share: %s", global[i],
              g_strerror(-r));
    }
    check(usage_of(scene, scene->second).refused >= refused + 3, "refusals are counted");
    check(usage_of(scene, scene->first).pinned == MACHINE_MEMORY, "and nothing was unmapped");
    check_result(actor_ioctl(scene->second, "IOMMU_DESTROY", own.id, 0, &id), 0,
                 "destroy what is its own");
}

static void check_limit(Scene *scene)
{
    LedgerObject object = {.id = 0};
    uint32_t id;
    count_objects(scene, scene->first->pid, LEDGER_OBJECT_TYPE_IOAS, &object);
    check_result(scene->ops->set_limit(scene->ledger, TENANT, MACHINE_MEMORY + MIB,
                                       LEDGER_COUNT_MODE_CHARGED),
                 0, "lower the limit");
    find_event(scene, -1);
    check_result(actor_ioctl(scene->first, "IOMMU_IOAS_MAP", object.id, 2 * MIB, &id), -EDQUOT,
                 "map more than is left");
    LedgerEvent event = find_event(scene, LEDGER_EVENT_KIND_LIMIT);
    check(event.error == -EDQUOT && event.requested == 2 * MIB && event.left == MIB &&
              event.machine == FIRST && event.tenant == TENANT,
          "an event says how much was asked for and left");
    check_result(actor_ioctl(scene->first, "IOMMU_IOAS_MAP", object.id, MIB, &id), 0,
                 "map what is left");
    LedgerTenantUsage tenant = tenant_usage(scene);
    check(tenant.used == tenant.limit && tenant.peak == MACHINE_MEMORY + MIB,
          "then nothing is left");
    scene->ops->set_limit(scene->ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
}

static LedgerMachine account_of(const Scene *scene, uint32_t number)
{
    LedgerMachine machine = {.pid = 0};
    scene->ops->machine(scene->ledger, number, &machine);
    return machine;
}

static bool has_account(const Scene *scene, uint32_t number, uint64_t reserved, uint64_t borrowed,
                        uint64_t mapped)
{
    LedgerMachine machine = account_of(scene, number);
    return machine.reserved == reserved && machine.borrowed == borrowed && machine.mapped == mapped;
}

static int promise(const Scene *scene, uint32_t number, uint64_t bytes, LedgerShortage *ret_short)
{
    return scene->ops->reserve_machine(scene->ledger, number, bytes, false, ret_short);
}

static int map_more(const Scene *scene, uint32_t ioas, uint64_t bytes)
{
    uint32_t id;
    return actor_ioctl(scene->first, "IOMMU_IOAS_MAP", ioas, bytes, &id);
}

/* The first machine has mapped its memory, and nothing was promised to it. */
static void check_promises(Scene *scene, uint32_t ioas)
{
    const LedgerOps *ops = scene->ops;
    Ledger *ledger = scene->ledger;
    LedgerShortage left = {.left = 0};

    ops->set_limit(ledger, TENANT, 4 * MACHINE_MEMORY, LEDGER_COUNT_MODE_CHARGED);
    check(has_account(scene, FIRST, 0, MACHINE_MEMORY, MACHINE_MEMORY),
          "what nobody has promised is borrowed");
    check_result(ops->follow_limit(ledger, 4711, MIB, MIB), -ENOENT, "follow the limit of nobody");
    check_result(promise(scene, FIRST, 2 * MACHINE_MEMORY, NULL), 0, "promise twice as much");
    check(has_account(scene, FIRST, 2 * MACHINE_MEMORY, 0, MACHINE_MEMORY) &&
              tenant_usage(scene).used == 2 * MACHINE_MEMORY,
          "it is taken from the tenant at once, with what was borrowed");
    check_result(promise(scene, SECOND, 2 * MACHINE_MEMORY + 1, &left), -EDQUOT,
                 "promise a byte more than is left to the second machine");
    check(!left.host && left.left == 2 * MACHINE_MEMORY && has_account(scene, SECOND, 0, 0, 0) &&
              tenant_usage(scene).used == 2 * MACHINE_MEMORY,
          "which says how much that is, and changes nothing");
    check_result(promise(scene, SECOND, MACHINE_MEMORY, NULL), 0, "promise it less");
    ops->set_limit(ledger, TENANT, MIB, LEDGER_COUNT_MODE_CHARGED);
    check_result(map_more(scene, ioas, MACHINE_MEMORY), 0,
                 "map what was promised, when the limit is below all that is mapped");
    find_event(scene, -1);
    check_result(map_more(scene, ioas, MIB), -EDQUOT, "map more");
    LedgerEvent event = find_event(scene, LEDGER_EVENT_KIND_LIMIT);
    check(event.left == 0 && !event.host_is_short && event.machine == FIRST, "an event says so");
    check_result(promise(scene, FIRST, 2 * MACHINE_MEMORY + MIB, &left), -EDQUOT,
                 "promise more below the limit");
    check_result(ops->reserve_machine(ledger, SECOND, 2 * MACHINE_MEMORY, true, NULL), 0,
                 "promise what was promised before");
    check(tenant_usage(scene).used == 4 * MACHINE_MEMORY, "whatever the limit is");
}

static void check_budget(Scene *scene, uint32_t ioas)
{
    const LedgerOps *ops = scene->ops;
    Ledger *ledger = scene->ledger;
    LedgerShortage left = {.left = 1};

    ops->set_limit(ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    check_result(promise(scene, SECOND, MACHINE_MEMORY, NULL), 0, "promise the second less again");
    check_result(ops->set_budget(ledger, 3 * MACHINE_MEMORY), 0, "set the host's budget");
    check_result(promise(scene, SECOND, MACHINE_MEMORY + 1, &left), -EDQUOT,
                 "promise more than the host has left");
    check(left.host && left.left == 0, "which says whose it is");
    find_event(scene, -1);
    check_result(map_more(scene, ioas, MIB), -EDQUOT, "map more than the host has left");
    check(find_event(scene, LEDGER_EVENT_KIND_LIMIT).host_is_short, "an event says so");
    check_result(ops->set_budget(ledger, LEDGER_UNLIMITED), 0, "set no budget");
    check_result(map_more(scene, ioas, MIB), 0, "map more than was promised");
    check(has_account(scene, FIRST, 2 * MACHINE_MEMORY, MIB, 2 * MACHINE_MEMORY + MIB) &&
              tenant_usage(scene).used == 3 * MACHINE_MEMORY + MIB,
          "it is borrowed");
    check_result(promise(scene, FIRST, MACHINE_MEMORY / 2, NULL), 0, "promise less than is mapped");
    check(has_account(scene, FIRST, MACHINE_MEMORY / 2, 3 * MACHINE_MEMORY / 2 + MIB,
                      2 * MACHINE_MEMORY + MIB),
          "the rest is borrowed");
}

/* What is mapped for it is mapped apart, and unmapped again. */
static void check_reservations(Scene *scene)
{
    uint32_t ioas = 0, id;
    check_result(actor_ioctl(scene->first, "IOMMU_IOAS_ALLOC", 0, 0, &ioas), 0,
                 "allocate another IOAS");
    check_result(promise(scene, 99, MIB, NULL), -ENOENT, "promise to no machine");
    check_promises(scene, ioas);
    check_budget(scene, ioas);
    check_result(actor_ioctl(scene->first, "IOMMU_IOAS_UNMAP", ioas, 0, &id), 0, "unmap it");
    check(has_account(scene, FIRST, MACHINE_MEMORY / 2, MACHINE_MEMORY / 2, MACHINE_MEMORY) &&
              tenant_usage(scene).used == 2 * MACHINE_MEMORY,
          "what was borrowed is given back first");
    check_result(promise(scene, FIRST, 0, NULL), 0, "promise nothing");
    check_result(promise(scene, SECOND, 0, NULL), 0, "nor to the other");
    check(tenant_usage(scene).used == MACHINE_MEMORY, "then what counts is what is mapped");
    actor_ioctl(scene->first, "IOMMU_DESTROY", ioas, 0, &id);
}

static void check_orphans(Scene *scene)
{
    LedgerObject object = {.alive = true};
    uint64_t gone = 0;
    pid_t pid = scene->first->pid;
    Actor dead = *scene->first;

    find_event(scene, -1);
    actor_kill(scene->first);
    scene->first = NULL;
    LedgerEvent event = find_event(scene, LEDGER_EVENT_KIND_EXIT);
    check(event.machine == FIRST, "an event tells of a machine's death");
    for (int i = 0; i < 40; i++) {
        if (count_objects(scene, pid, LEDGER_OBJECT_TYPE_DEVICE, &object) == 0)
            break;
        g_usleep(50 * 1000);
    }
    uint32_t hwpt =
        count_objects(scene, pid, LEDGER_OBJECT_TYPE_HWPT_PAGING, &object) == 1 ? object.id : 0;
    check(count_objects(scene, pid, LEDGER_OBJECT_TYPE_DEVICE, &object) == 0 && hwpt != 0 &&
              count_objects(scene, pid, LEDGER_OBJECT_TYPE_IOAS, &object) == 1,
          "its device is gone, page table and IOAS are left");
    check(!object.alive && object.machine == FIRST, "orphaned, and still the machine's");
    LedgerUsage usage = usage_of(scene, &dead);
    check(!usage.alive && usage.pinned == MACHINE_MEMORY + MIB, "so is what it has pinned");
    scene->host->ops->ioas_unmap(scene->host, scene->fd, object.id, 0, UINT64_MAX, &gone);
    check(gone == MACHINE_MEMORY + MIB && usage_of(scene, &dead).pinned == 0 &&
              tenant_usage(scene).used == 0,
          "until it is unmapped");
    scene->host->ops->object_destroy(scene->host, scene->fd, hwpt);
    scene->host->ops->object_destroy(scene->host, scene->fd, object.id);
    check(count_objects(scene, pid, LEDGER_OBJECT_TYPE_IOAS, &object) == 0 &&
              count_objects(scene, pid, LEDGER_OBJECT_TYPE_HWPT_PAGING, &object) == 0,
          "and destroyed");
}

static void check_devices_of_others(Scene *scene)
{
    Actor *stranger = actor_new(scene->host, scene->fd);
    find_event(scene, -1);
    check_result(actor_play(stranger, scene->address, MIB), -EACCES,
                 "a stranger binds a device that is admitted for a machine that another was");
    check(find_event(scene, LEDGER_EVENT_KIND_REFUSED).pid == stranger->pid, "an event says so");
    scene->ops->dismiss_device(scene->ledger, scene->address, FIRST);
    check_result(actor_play(scene->second, scene->address, MIB), -EACCES,
                 "bind a device that is not admitted");
    scene->ops->admit_device(scene->ledger, scene->address, &(LedgerClaim){TENANT, 0, 0, 0}, NULL);
    check_result(actor_play(stranger, scene->address, MIB), 0,
                 "bind a device that is admitted for any process of the tenant");
    actor_kill(stranger);
    destroy_all(&(Watched){scene->host, scene->ledger, scene->fd, scene->context});
    check_result(promise(scene, FIRST, MIB, NULL), 0, "promise something to the first machine");
    check_result(scene->ops->remove_machine(scene->ledger, FIRST), 0, "remove it");
    check(tenant_usage(scene).used == 0, "which gives back what was promised");
    check_result(promise(scene, FIRST, MIB, NULL), -ENOENT, "nothing can be promised to it now");
    check_result(scene->ops->remove_machine(scene->ledger, FIRST), -ENOENT, "remove it again");
}

static bool set_scene(Scene *scene)
{
    const LedgerOps *ops = scene->ops;
    unsigned flags = LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_SHARED;
    int r = ops->set_limit(scene->ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    if (r == 0)
        r = ops->register_iommufd(scene->ledger, scene->fd, TENANT, flags, &scene->context);
    if (r == 0)
        r = ops->add_machine(scene->ledger, FIRST, TENANT);
    if (r == 0)
        r = ops->add_machine(scene->ledger, SECOND, TENANT);
    if (r == 0)
        r = ops->admit_device(scene->ledger, scene->address, &(LedgerClaim){TENANT, FIRST, 0, 0},
                              NULL);
    check_result(r, 0, "make a tenant, its IOMMUFD, two machines and a device known");
    return r == 0;
}

void check_ledger(Host *host, Ledger *ledger, const char *address)
{
    autoclose int fd = open_iommufd(host);
    HostDevice device;
    if (!find_device(host, address, &device))
        return;
    if (!ledger->status.guarding) {
        skip("the ledger and the guard", ledger->status.guard_reason);
        return;
    }
    host->ops->device_bind(host, address, "vfio-pci");
    Scene scene = {
        .host = host, .ledger = ledger, .ops = ledger->ops, .address = address, .fd = fd};
    scene.events = g_array_new(FALSE, FALSE, sizeof(LedgerEvent));
    scene.first = actor_new(host, fd);
    scene.second = actor_new(host, fd);
    if (set_scene(&scene)) {
        check_errors(&scene);
        check_claims(&scene);
        check_service(&scene);
        check_owner(&scene);
        check_naming(&scene);
        check_trespass(&scene);
        check_reservations(&scene);
        check_limit(&scene);
        check_orphans(&scene);
        check_devices_of_others(&scene);
    }
    if (scene.first)
        actor_kill(scene.first);
    actor_kill(scene.second);
    g_array_unref(scene.events);
    host->ops->device_restore(host, address, device.driver);
}
