/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guard's less trodden paths: 32-bit calls, VFIO's groups, files opened anew, privileged
 * machines, hot resets, cgroups, handing over to another process, large ids, and many threads at
 * once. Run by guard.sh in the lab:
 *
 *   guard-corner CDEV CDEV CDEV [CDEV CDEV]
 *
 * The last two, if given, are on one bus behind a bridge.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/base/process.h"
#include "tests/lab/guest.h"

#define VFIO_GROUP_SET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 4)
#define VFIO_GROUP_GET_DEVICE_FD _IO(VFIO_TYPE, VFIO_BASE + 6)
#define VFIO_DEVICE_PCI_HOT_RESET _IO(VFIO_TYPE, VFIO_BASE + 13)
#define CGROUP "/sys/fs/cgroup/iommud-test"

/* 32-bit programs: the device's file takes their calls, the IOMMUFD's does not. */
static void test_compat(Guest *a, const Guest *b, const char *others)
{
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = b->hwpt};
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = b->ioas};
    int r, device;

    r = machine_compat_ioctl(&a->process, a->process.device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach,
                             sizeof(attach));
    if (r == -ENOSYS) {
        printf("# this kernel has no 32-bit calls\n");
        return;
    }
    check_error(r, -EACCES, "32-bit: ATTACH to the other's page table");
    attach.pt_id = a->hwpt;
    check_error(machine_compat_ioctl(&a->process, a->process.device, VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                                     &attach, sizeof(attach)),
                0, "32-bit: ATTACH to one's own");
    chmod(others, 0666);
    device = machine_open(&a->process, others);
    check_error(
        machine_compat_ioctl(&a->process, device, VFIO_DEVICE_BIND_IOMMUFD, &bind, sizeof(bind)),
        -EACCES, "32-bit: binding the other machine's device");
    r = machine_compat_ioctl(&a->process, iommufd, IOMMU_DESTROY, &destroy, sizeof(destroy));
    check(r == -EACCES || r == -ENOTTY, "32-bit: DESTROY of the other's address space: %s",
          g_strerror(-r));
}

/* /dev/vfio/N, the older way to a device, which leads into an IOMMUFD as well. */
static int open_group(Machine *machine, const char *device)
{
    g_autofree char *address = device_address(device);
    g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s/iommu_group", address);
    g_autofree char *target = g_file_read_link(link, NULL);
    g_autofree char *group = g_path_get_basename(target);
    g_autofree char *path = g_strdup_printf("/dev/vfio/%s", group);

    chmod(path, 0666);
    return machine_open(machine, path);
}

static int set_container(Machine *machine, int group, int container)
{
    return machine_ioctl(machine, group, VFIO_GROUP_SET_CONTAINER, &container, sizeof(container));
}

/* The device's descriptor. */
static int take_device(Machine *machine, int group, const char *device)
{
    g_autofree char *address = device_address(device);
    char name[64] = "";

    g_strlcpy(name, address, sizeof(name));
    return machine_ioctl(machine, group, VFIO_GROUP_GET_DEVICE_FD, name, sizeof(name));
}

static void test_group(Guest *a, const char *others)
{
    int group = open_group(&a->process, others), r;

    if (!check(group >= 0, "the attacker holds the group of a device that is not its own"))
        return;
    check_error(set_container(&a->process, group, iommufd), -EPERM,
                "putting it into the tenant's IOMMUFD");
    r = take_device(&a->process, group, others);
    check(r < 0, "so that the device can't be had: %s", r < 0 ? g_strerror(-r) : "but it was");
}

/* In an IOMMUFD of its own a machine may use its devices by their groups, and no others. */
static void test_own_group(const char *device, const char *others)
{
    uint32_t token = admit_machine(device), own;
    int fd = open("/dev/iommu", O_RDWR | O_CLOEXEC), group, foreign, r;
    uint64_t map[4] = {sizeof(map) | 3ull << 32, 0, 0, 4096};
    Machine machine;

    r = ledger->ops->register_iommufd(
        ledger, fd, TENANT, LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_RESTRICTED, &own);
    check_error(r, 0, "registering an IOMMUFD for one machine");
    machine_start(&machine, fd, NULL, USER);
    close(fd);
    map[1] = machine_memory(&machine, 4096);
    group = open_group(&machine, device);
    foreign = open_group(&machine, others);
    check(group >= 0 && foreign >= 0, "it holds its device's group, and another's");
    r = set_container(&machine, foreign, machine.iommufd);
    if (!ledger->status.rechecking) {
        check_error(r, -EPERM, "groups, where a device can't be refused");
    } else {
        check_error(r, 0, "putting the other's into its own IOMMUFD");
        check_error(set_container(&machine, group, machine.iommufd), 0, "and its own");
        check_error(take_device(&machine, foreign, others), -EACCES, "taking the other's device");
        check(take_device(&machine, group, device) >= 0, "taking its own");
        r = machine_ioctl(&machine, machine.iommufd, VFIO_IOMMU_MAP_DMA, map, sizeof(map));
        check_error(r, 0, "mapping by VFIO's old interface");
        check(pinned_by(token) == 1, "which is counted");
    }
    machine_kill(&machine);
    ledger->ops->remove_machine(ledger, token);
}

static void test_open(Guest *a)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", iommufd);
    Machine stranger;
    int fd;

    chmod("/dev/iommu", 0666);
    check_error(machine_open(&a->process, "/dev/iommu"), -EACCES,
                "a machine that opens /dev/iommu itself");
    check_error(machine_open(&a->process, path), -EACCES, "or its own IOMMUFD anew through /proc");
    machine_start(&stranger, -1, NULL, USER);
    fd = machine_open(&stranger, "/dev/iommu");
    check(fd >= 0, "who is no machine may");
    machine_kill(&stranger);
    fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    check(fd >= 0, "and so may the service");
    close(fd);
}

/* Mode "none": the kernel asks for no limit and charges nobody. */
static void test_privileged(const char *device)
{
    const struct rlimit small = {64 << 10, 64 << 10};
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach)};
    uint64_t before = tenant().budget.used, iova = 0, memory;
    uint32_t id, ioas = 0, token = admit_machine(device);
    Guest root = {.token = token};
    int r;

    machine_start(&root.process, iommufd, device, 0);
    prlimit(root.process.pid, RLIMIT_MEMLOCK, &small, NULL);
    memory = machine_memory(&root.process, 2 * MIB);
    r = machine_bind(&root.process, root.process.device, iommufd, &id);
    if (!r)
        r = machine_ioas(&root.process, &ioas);
    attach.pt_id = ioas;
    if (!r)
        r = machine_ioctl(&root.process, root.process.device, VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                          &attach, sizeof(attach));
    check_error(r, 0, "a machine with CAP_IPC_LOCK starts");
    tenant_limit(before + MIB);
    check_error(machine_map(&root.process, ioas, memory, MIB, &iova, false), 0,
                "and maps far above its RLIMIT_MEMLOCK");
    check(pinned_by(token) == 256 && tenant().budget.used == (int64_t)(before + MIB),
          "it is counted like any other");
    check_account(&root, "with CAP_IPC_LOCK");
    iova = 0;
    check_error(machine_map(&root.process, ioas, memory, 4096, &iova, false), -EDQUOT,
                "and the tenant's limit holds for it");
    tenant_limit(LEDGER_UNLIMITED);
    guest_end(&root);
    check(tenant().budget.used == (int64_t)before, "what it had is given back when it is reaped");
}

/* Two devices on one bus: the kernel lets one reset both when their IOMMUFD is the same. */
static void test_reset(const char *device, const char *others)
{
    uint32_t reset[3] = {sizeof(reset)}, id, mine, its;
    g_autofree char *address = device_address(device);
    Machine a, b;
    int r;

    mine = admit_machine(device);
    its = admit_machine(others);
    ledger->ops->admit_device(
        ledger, address, &(LedgerClaim){TENANT, mine, 0, LEDGER_DEVICE_FLAG_RESET_SHARED}, NULL);
    machine_start(&a, iommufd, device, USER);
    machine_start(&b, iommufd, others, USER);
    r = machine_bind(&a, a.device, iommufd, &id);
    if (!r)
        r = machine_bind(&b, b.device, iommufd, &id);
    check_error(r, 0, "two machines with devices on one bus start");
    check_error(machine_ioctl(&a, a.device, VFIO_DEVICE_PCI_HOT_RESET, reset, sizeof(reset)),
                -EACCES, "resetting the bus, and with it the other's device");
    r = machine_compat_ioctl(&a, a.device, VFIO_DEVICE_PCI_HOT_RESET, reset, sizeof(reset));
    check(r == -EACCES || r == -ENOSYS, "nor by a 32-bit call: %s", g_strerror(-r));
    ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, mine, 0, 0}, NULL);
    r = machine_ioctl(&a, a.device, VFIO_DEVICE_PCI_HOT_RESET, reset, sizeof(reset));
    check_error(r, 0, "which the kernel allows, when the guard is not told that it is shared");
    machine_kill(&a);
    machine_kill(&b);
    ledger->ops->remove_machine(ledger, mine);
    ledger->ops->remove_machine(ledger, its);
}

static uint64_t make_cgroup(const char *path)
{
    struct stat st;

    if (g_mkdir_with_parents(path, 0755) || stat(path, &st))
        g_error("%s: %s", path, g_strerror(errno));
    return st.st_ino;
}

static void join_cgroup(const Machine *machine, const char *path)
{
    g_autofree char *procs = g_build_filename(path, "cgroup.procs", NULL);
    g_autofree char *pid = g_strdup_printf("%d", machine->pid);
    int fd = open(procs, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, pid, strlen(pid)) < 0)
        g_error("%s: %s", procs, g_strerror(errno));
    close(fd);
}

static void test_cgroups(const Guest *b)
{
    uint32_t token = admit_machine(NULL), ioas = 0, id;
    Machine leader, helper, stranger, relay;
    uint64_t machine, relays;
    LedgerObject object = {0};

    machine = make_cgroup(CGROUP "/relays/machine");
    make_cgroup(CGROUP "/relays/machine/helper");
    relays = make_cgroup(CGROUP "/relays");
    ledger_add_cgroup(ledger, machine, token);
    ledger_add_cgroup(ledger, relays, LEDGER_RELAY);
    machine_start(&leader, iommufd, NULL, USER);
    machine_start(&helper, iommufd, NULL, USER);
    machine_start(&stranger, iommufd, NULL, USER);
    join_cgroup(&leader, CGROUP "/relays/machine");
    join_cgroup(&helper, CGROUP "/relays/machine/helper");
    check_error(machine_ioas(&leader, &ioas), 0, "a process in a machine's cgroup allocates");
    check(!ledger->ops->object(ledger, context, ioas, &object) && object.machine == token &&
              object.alive && object.pid == leader.pid,
          "which is the machine's before anybody has named it");
    check_error(machine_unmap(&helper, ioas, 4096, 4096), -ENOENT,
                "another process below that cgroup is the same machine");
    check_error(machine_destroy(&helper, b->ioas), -EACCES, "and no other");
    check_error(machine_destroy(&stranger, ioas), -EACCES, "a process elsewhere is not");
    check_error(machine_open(&helper, "/dev/iommu"), -EACCES, "nor may they open /dev/iommu");
    machine_kill(&leader);
    check_error(machine_ioas(&helper, &id), 0, "the machine lives as long as one of them");
    check(!ledger->ops->object(ledger, context, ioas, &object) && object.alive,
          "and so do the dead one's objects");
    machine_kill(&helper);
    check(!ledger->ops->object(ledger, context, ioas, &object) && !object.alive,
          "when the last has ended they are orphans");
    reap(token);
    check(ledger->ops->object(ledger, context, ioas, &object) == -ENOENT, "which are found");
    machine_kill(&stranger);

    machine_start(&relay, -1, NULL, USER);
    check_error(machine_receive(&relay, iommufd), -EACCES, "a stranger that is sent the IOMMUFD");
    join_cgroup(&relay, CGROUP "/relays");
    relay.iommufd = machine_receive(&relay, iommufd);
    check(relay.iommufd >= 0, "a relay, by its cgroup, gets it");
    check_error(machine_destroy(&relay, b->ioas), -EACCES, "and reaches nothing with it");
    machine_kill(&relay);
    ledger_keep_relays(ledger, &relays, 1);
    machine_start(&relay, -1, NULL, USER);
    join_cgroup(&relay, CGROUP "/relays");
    relay.iommufd = machine_receive(&relay, iommufd);
    check(relay.iommufd >= 0, "so does one that is kept as a relay");
    machine_kill(&relay);
    ledger_keep_relays(ledger, NULL, 0);
    machine_start(&relay, -1, NULL, USER);
    join_cgroup(&relay, CGROUP "/relays");
    check_error(machine_receive(&relay, iommufd), -EACCES, "once it is none any more, it does not");
    machine_kill(&relay);
    ledger_remove_cgroup(ledger, machine);
    ledger->ops->remove_machine(ledger, token);
    rmdir(CGROUP "/relays/machine/helper");
    rmdir(CGROUP "/relays/machine");
    rmdir(CGROUP "/relays");
    rmdir(CGROUP);
}

/* As iommud does when a start fails after the process was named. */
static void test_start_undone(void)
{
    uint32_t token = admit_machine(NULL), ioas = 0, other = 0;
    LedgerObject object = {0};
    Machine first, second;

    machine_start(&first, iommufd, NULL, USER);
    machine_start(&second, iommufd, NULL, USER);
    check_error(ledger->ops->name_process(ledger, first.pid, first.start, token, TENANT), 0,
                "a process is named as a machine");
    check_error(machine_ioas(&first, &ioas), 0, "and allocates");
    check_error(machine_ioas(&second, &other), 0, "as another does");
    check_error(ledger->ops->name_process(ledger, second.pid, second.start, token, TENANT), -EEXIST,
                "while it lives no other is");
    ledger->ops->remove_machine(ledger, token);
    ledger->ops->add_machine(ledger, token, TENANT);
    check(!ledger->ops->object(ledger, context, ioas, &object) && object.machine == 0 &&
              object.alive && object.pid == first.pid,
          "when that is undone, what it made is no machine's");
    check_error(ledger->ops->name_process(ledger, second.pid, second.start, token, TENANT), 0,
                "and the other is named");
    check_error(machine_destroy(&second, ioas), -EACCES, "who has nothing of the first");
    machine_destroy(&first, ioas);
    machine_destroy(&second, other);
    machine_kill(&first);
    machine_kill(&second);
    ledger->ops->remove_machine(ledger, token);
}

static void find_usage(uint32_t serial, pid_t pid, LedgerUsage *ret_usage)
{
    g_autofree LedgerUsage *usage = NULL;
    size_t n = 0;

    memset(ret_usage, 0, sizeof(*ret_usage));
    ledger->ops->usage(ledger, &usage, &n);
    for (size_t i = 0; i < n; i++)
        if (usage[i].context == serial && usage[i].pid == pid)
            *ret_usage = usage[i];
}

/* In a context of its own a machine may hand over to another process, and its account goes along.
 */
static void test_change_process(const char *device)
{
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    int alone = open("/dev/iommu", O_RDWR | O_CLOEXEC), memfd, r;
    g_autofree char *address = device_address(device);
    uint32_t serial, id, ioas, hwpt = 0;
    LedgerUsage was, is;
    uint64_t iova;
    Machine old, new;

    check_error(
        ledger->ops->register_iommufd(ledger, alone, TENANT, LEDGER_CONTEXT_FLAG_GUARDED, &serial),
        0, "registering a second IOMMUFD");
    ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, 0, 0, 0}, NULL);
    machine_start(&old, alone, device, USER);
    machine_start(&new, alone, NULL, USER);
    memfd = machine_memfd(&old, MIB);
    r = machine_bind(&old, old.device, alone, &id);
    if (!r)
        r = machine_ioas(&old, &ioas);
    if (!r)
        r = machine_hwpt(&old, id, ioas, &hwpt);
    if (!r)
        r = machine_attach(&old, old.device, hwpt);
    check_error(r, 0, "a machine that has an IOMMUFD to itself starts");
    r = machine_map_file(&old, ioas, memfd, 0, MIB, &iova);
    if (r == -ENOTTY) {
        printf("# this kernel has no IOAS_MAP_FILE\n");
    } else {
        find_usage(serial, old.pid, &was);
        check(!r && was.pinned == MIB && machine_pinned(old.pid) == 256, "and maps a file");
        r = machine_ioctl(&new, alone, IOMMU_IOAS_CHANGE_PROCESS, &change, sizeof(change));
        check_error(r, 0, "CHANGE_PROCESS there");
        find_usage(serial, old.pid, &was);
        find_usage(serial, new.pid, &is);
        check(!was.mapped && !was.pinned && is.mapped == MIB && is.pinned == MIB &&
                  machine_pinned(new.pid) == 256 && !machine_pinned(old.pid),
              "and the account follows to the new process, as the kernel's do");
        check_truth("after CHANGE_PROCESS");
    }
    machine_kill(&old);
    find_usage(serial, new.pid, &is);
    check(r || is.pinned == machine_pinned(new.pid) << LEDGER_PAGE_SHIFT, "and stay with it");
    machine_kill(&new);
    close(alone);
    ledger->ops->dismiss_device(ledger, address, 0);
    check_truth("when that IOMMUFD is closed");
}

/* The kernel gives out the lowest free id, and keeps objects in levels of 64. */
static void test_ids(Guest *a, Guest *b)
{
    static const uint32_t ids[] = {63, 64, 65, 127, 128, 4095, 4096, 4097, 4160};
    g_autoptr(GArray) own = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    unsigned refused = 0, allowed = 0;
    LedgerObject object = {0};
    uint32_t id = 0, again;

    while (id < 4200 && !machine_ioas(&a->process, &id))
        g_array_append_val(own, id);
    check(id >= 4200, "a machine has objects with ids up to %u", id);
    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        refused += machine_destroy(&b->process, ids[i]) == -EACCES;
        allowed += machine_unmap(&a->process, ids[i], 4096, 4096) == -ENOENT;
    }
    check(refused == G_N_ELEMENTS(ids) && allowed == G_N_ELEMENTS(ids),
          "at every level of the kernel's tree they are its own (%u), and refused to others (%u)",
          allowed, refused);
    check_truth("with thousands of objects");
    machine_destroy(&a->process, 4096);
    check(!machine_ioas(&b->process, &again) && again == 4096,
          "an id that is free again is the other's next");
    check_error(machine_destroy(&a->process, again), -EACCES, "and then no longer the first's");
    check(!ledger->ops->object(ledger, context, again, &object) && object.machine == b->token,
          "the ledger says the same");
    check_error(machine_destroy(&b->process, again), 0, "its new owner may destroy it");
    for (guint i = 0; i < own->len; i++)
        if (g_array_index(own, uint32_t, i) != 4096)
            machine_destroy(&a->process, g_array_index(own, uint32_t, i));
    check(ledger->ops->object(ledger, context, own->len / 2, &object) == -ENOENT,
          "and they are gone from the ledger with the kernel's");
}

/*
 * Threads that are interrupted in the middle of a hook, so that the kernel skips it for the others
 * on that processor: nothing may depend on a hook that can be skipped.
 */
static void test_crowd(Guest *a, const Guest *b, unsigned seconds)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = b->ioas, .length = EVERYTHING};
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = MACHINE_MAP_FLAGS,
        .ioas_id = a->ioas,
        .user_va = a->memory,
        .length = 4096,
    };
    g_autofree LedgerMeasurement *truths = NULL;
    int64_t victims = pinned_by(b->token);
    uint64_t before = 0, after = 0, real = 0;
    MachineRaceOptions options = {.threads = 16, .tries = UINT64_MAX, .seconds = seconds};
    MachineRace race;
    LedgerDrift drift;
    size_t n = 0;

    before = counters().skipped;
    machine_race(&a->process, iommufd, IOMMU_IOAS_UNMAP, &unmap, sizeof(unmap), &options, &race);
    after = counters().skipped;
    printf("# a crowd: %" G_GUINT64_FORMAT " tries, %" G_GUINT64_FORMAT
           " refused, %" G_GUINT64_FORMAT " killed, hooks skipped %" G_GUINT64_FORMAT "\n",
           race.tries, race.refused, race.killed, after - before);
    check(pinned_by(b->token) == victims && (int64_t)machine_pinned(b->process.pid) == victims &&
              !race.granted,
          "many threads at once unmap nothing of the other's");

    tenant_limit(tenant().budget.used + MIB);
    machine_race(&a->process, iommufd, IOMMU_IOAS_MAP, &map, sizeof(map), &options, &race);
    before = counters().skipped;
    printf("# a crowd: %" G_GUINT64_FORMAT " tries, %" G_GUINT64_FORMAT
           " granted, %" G_GUINT64_FORMAT " killed, hooks skipped %" G_GUINT64_FORMAT "\n",
           race.tries, race.granted, race.killed, before - after);
    ledger->ops->reconcile(ledger, &drift, &truths, &n);
    for (size_t i = 0; i < n; i++)
        if (truths[i].tenant == TENANT)
            real += truths[i].mapped;
    check(real <= tenant().budget.limit && tenant().budget.used == (int64_t)real,
          "nor map above the limit: %" G_GUINT64_FORMAT " of %llu bytes, drift %" G_GUINT64_FORMAT
          " bytes in %" G_GUINT64_FORMAT " entries",
          real, tenant().budget.limit, drift.drift, drift.repaired);
    tenant_limit(LEDGER_UNLIMITED);
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {
        .folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_KNOWN, .forbid_open = true};
    uint64_t host = host_pinned();
    Guest a, b;

    if (argc != 4 && argc != 6)
        g_error("Usage: guard-corner CDEV CDEV CDEV [CDEV CDEV]");
    tenant_open(&options);
    guest_start(&a, argv[1], 4 * MIB);
    guest_start(&b, argv[2], 4 * MIB);
    test_compat(&a, &b, argv[2]);
    test_open(&a);
    test_privileged(argv[3]);
    if (argc == 6)
        test_reset(argv[4], argv[5]);
    test_cgroups(&b);
    test_start_undone();
    test_change_process(argv[3]);
    test_ids(&a, &b);
    test_crowd(&a, &b, 3);
    test_group(&a, argv[3]);
    guest_end(&a);
    test_own_group(argv[3], argv[1]);
    check_account(&b, "after all that");
    guest_end(&b);
    tenant_close(host);
    return checks_end();
}
