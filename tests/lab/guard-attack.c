/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two machines of one tenant share an IOMMUFD, each with a device of its own, and one of them
 * turns on the other. Run by guard.sh in the lab:
 *
 *   guard-attack CDEV CDEV CDEV
 *
 * Prints a line for every check, and fails if one does. The third device is nobody's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/ledger/ledger.h"
#include "kernel/base/process.h"
#include "tests/lab/guest.h"

/* Every ioctl that names objects, with the other's ids where it may name one. */
static void test_trespass(Guest *a, const Guest *b)
{
    static const struct {
        const char *name;
        unsigned long command;
        unsigned size;
        unsigned place; /* of the id that is the other's, in words */
    } attacks[] = {
        {"DESTROY", IOMMU_DESTROY, 8, 1},
        {"IOAS_ALLOW_IOVAS", IOMMU_IOAS_ALLOW_IOVAS, 24, 1},
        {"IOAS_IOVA_RANGES", IOMMU_IOAS_IOVA_RANGES, 32, 1},
        {"IOAS_UNMAP", IOMMU_IOAS_UNMAP, 24, 1},
        {"IOAS_MAP", IOMMU_IOAS_MAP, 40, 2},
        {"IOAS_MAP_FILE", IOMMU_IOAS_MAP_FILE, 40, 2},
        {"OPTION (huge pages)", IOMMU_OPTION, 24, 3},
        {"GET_HW_INFO", IOMMU_GET_HW_INFO, 40, 2},
        {"HWPT_ALLOC, the parent", IOMMU_HWPT_ALLOC, 48, 3},
        {"HWPT_ALLOC, the device", IOMMU_HWPT_ALLOC, 48, 2},
        {"HWPT_SET_DIRTY_TRACKING", IOMMU_HWPT_SET_DIRTY_TRACKING, 16, 2},
        {"HWPT_GET_DIRTY_BITMAP", IOMMU_HWPT_GET_DIRTY_BITMAP, 48, 1},
        {"HWPT_INVALIDATE", IOMMU_HWPT_INVALIDATE, 32, 1},
        {"VIOMMU_ALLOC, the device", IOMMU_VIOMMU_ALLOC, 40, 3},
        {"VIOMMU_ALLOC, the parent", IOMMU_VIOMMU_ALLOC, 40, 4},
        {"VDEVICE_ALLOC, the vIOMMU", IOMMU_VDEVICE_ALLOC, 24, 1},
        {"VDEVICE_ALLOC, the device", IOMMU_VDEVICE_ALLOC, 24, 2},
        {"VEVENTQ_ALLOC", IOMMU_VEVENTQ_ALLOC, 32, 2},
        {"HW_QUEUE_ALLOC", IOMMU_HW_QUEUE_ALLOC, 40, 2},
    };
    const uint32_t foreign[] = {b->device, b->ioas, b->hwpt};
    uint64_t iova = 0;
    int r;

    for (size_t i = 0; i < G_N_ELEMENTS(attacks); i++) {
        int worst = -EACCES;

        for (size_t j = 0; j < G_N_ELEMENTS(foreign); j++) {
            uint32_t argument[32] = {attacks[i].size};

            /* Whatever else is named is the attacker's own, so that only this can be wrong. */
            if (attacks[i].command == IOMMU_HWPT_ALLOC) {
                argument[2] = a->device;
                argument[3] = a->ioas;
            }
            argument[attacks[i].place] = foreign[j];
            if (attacks[i].command == IOMMU_OPTION)
                argument[1] = 1;
            if (attacks[i].command == IOMMU_IOAS_MAP || attacks[i].command == IOMMU_IOAS_MAP_FILE) {
                argument[1] = MACHINE_MAP_FLAGS;
                memcpy(&argument[4], &a->memory, sizeof(a->memory));
                argument[6] = 4096;
            }
            r = machine_ioctl(&a->process, iommufd, attacks[i].command, argument, sizeof(argument));
            /* Kernels have no IOAS_MAP_FILE until 6.13. */
            if (r != -EACCES && (r != -ENOTTY || attacks[i].command != IOMMU_IOAS_MAP_FILE))
                worst = r;
        }
        check_error(worst, -EACCES, attacks[i].name);
    }
    check_error(machine_copy(&a->process, a->ioas, b->ioas, b->iova, MIB * 4, &iova), -EACCES,
                "IOAS_COPY of the other's memory");
    check_error(machine_copy(&a->process, b->ioas, a->ioas, a->iova, MIB * 4, &iova), -EACCES,
                "IOAS_COPY into the other's address space");
    check_error(machine_attach(&a->process, a->process.device, b->hwpt), -EACCES,
                "ATTACH to the other's page table");
    check_error(machine_attach(&a->process, a->process.device, b->ioas), -EACCES,
                "ATTACH to the other's address space");
    check_error(machine_destroy(&a->process, 4000), -ENOENT, "DESTROY of an id that is free");
}

/* The kernel gives out the lowest free id: by the time the event is read the id is another's. */
static void test_victim(Guest *a, Guest *b)
{
    const LedgerEvent *event;
    uint32_t id, again;

    machine_ioas(&b->process, &id);
    forget_events();
    check_error(machine_destroy(&a->process, id), -EACCES, "DESTROY of what is the other's");
    machine_destroy(&b->process, id);
    machine_ioas(&a->process, &again);
    event = find_event(LEDGER_EVENT_KIND_REFUSED);
    check(again == id && event && event->id == id && event->machine == a->token &&
              event->object_machine == b->token,
          "the event names whose it was then, not who has the id now (%u, %u)", id, again);
    machine_destroy(&a->process, again);
}

static void test_global(Guest *a)
{
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    struct iommu_option option = {.size = sizeof(option), .op = 0, .val64 = 1};
    uint64_t compat[4] = {32 | 3ull << 32, a->memory, 0, 4096};
    uint32_t argument[4] = {12, a->ioas, 1};

    check_error(
        machine_ioctl(&a->process, iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change, sizeof(change)),
        -EPERM, "CHANGE_PROCESS in a shared IOMMUFD");
    check_error(machine_ioctl(&a->process, iommufd, IOMMU_OPTION, &option, sizeof(option)), -EPERM,
                "setting the accounting mode");
    option.op = 1;
    check_error(machine_ioctl(&a->process, iommufd, IOMMU_OPTION, &option, sizeof(option)), 0,
                "reading the accounting mode");
    check_error(machine_ioctl(&a->process, iommufd, VFIO_IOMMU_MAP_DMA, compat, sizeof(compat)),
                -EPERM, "VFIO's old interface on a shared IOMMUFD");
    check_error(machine_ioctl(&a->process, iommufd, IOMMU_VFIO_IOAS, argument, sizeof(argument)),
                -EPERM, "choosing the address space of VFIO's old interface");
}

static void test_devices(Guest *a, const char *other, const char *nobodys)
{
    g_autofree char *address = device_address(nobodys);
    uint32_t id;
    int fd;

    /* Unprivileged as it is, it gets the file all the same: that is not what protects it. */
    chmod(other, 0666);
    chmod(nobodys, 0666);
    fd = machine_open(&a->process, other);
    check(fd >= 0, "the attacker holds the other machine's device");
    check_error(machine_bind(&a->process, fd, iommufd, &id), -EACCES,
                "binding the other machine's device");
    fd = machine_open(&a->process, nobodys);
    check_error(machine_bind(&a->process, fd, iommufd, &id), -EACCES,
                "binding a device that was not admitted");
    ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, a->token, 0, 0}, NULL);
    check_error(machine_bind(&a->process, fd, iommufd, &id), 0,
                "binding it once it is admitted (hotplug)");
    ledger->ops->dismiss_device(ledger, address, a->token);
}

static void test_fork(Guest *a, const Guest *b)
{
    struct iommu_ioas_unmap own = {
        .size = sizeof(own), .ioas_id = a->ioas, .iova = 1ull << 40, .length = 4096};
    struct iommu_ioas_unmap others = {
        .size = sizeof(others), .ioas_id = b->ioas, .length = EVERYTHING};

    check_error(machine_fork_ioctl(&a->process, iommufd, IOMMU_IOAS_UNMAP, &own, sizeof(own)),
                -ENOENT, "a child of the machine names the machine's objects");
    check_error(machine_fork_ioctl(&a->process, iommufd, IOMMU_IOAS_UNMAP, &others, sizeof(others)),
                -EACCES, "and no others");
}

static void test_limit(Guest *a, Guest *b)
{
    uint64_t before = tenant().budget.used, iova = 0, memory, host, bare_iova = 0;
    uint32_t bare;
    int first, second;

    tenant_limit(before + MIB);
    memory = machine_memory(&a->process, 4 * MIB);
    forget_events();
    host = host_pinned();
    check_error(machine_map(&a->process, a->ioas, memory, 2 * MIB, &iova, false), -EDQUOT,
                "a mapping above the limit");
    check(host_pinned() == host && tenant().budget.used == (int64_t)before,
          "and nothing was pinned or counted for it");
    check(find_event(LEDGER_EVENT_KIND_LIMIT) &&
              find_event(LEDGER_EVENT_KIND_LIMIT)->requested == 2 * MIB &&
              find_event(LEDGER_EVENT_KIND_LIMIT)->left == MIB,
          "and an event says what was asked for and what was left");
    check_error(machine_map(&a->process, a->ioas, memory + 512, MIB, &iova, false), -EDQUOT,
                "a mapping that is above it only by its rounding to pages");
    check_error(machine_map(&a->process, a->ioas, memory, MIB, &iova, false), 0,
                "a mapping that is exactly what is left");
    check_error(machine_map(&b->process, b->ioas, b->memory, 4096, &iova, false), -EDQUOT,
                "one page more, by the other machine");
    check_error(machine_unmap(&a->process, a->ioas, iova, 4096), -ENOENT, "unmapping a part of it");
    machine_unmap(&a->process, a->ioas, 0, EVERYTHING);
    a->iova = 0;
    machine_map(&a->process, a->ioas, a->memory, 4 * MIB, &a->iova, false);
    check(tenant().budget.used == (int64_t)before, "unmapping gives back what was counted");

    check_error(machine_map(&a->process, a->ioas, 4096, MIB, &iova, false), -EFAULT,
                "a mapping of what is no memory");
    iova = a->iova;
    check_error(machine_map(&a->process, a->ioas, memory, MIB, &iova, true), -EEXIST,
                "a mapping where one is already");
    check(tenant().budget.used == (int64_t)before, "failed mappings count nothing");

    machine_ioas(&a->process, &bare);
    host = host_pinned();
    check_error(machine_map(&a->process, bare, memory, MIB, &bare_iova, false), 0,
                "a mapping where no device is");
    check(host_pinned() == host && tenant().budget.used == (int64_t)(before + MIB),
          "pins nothing, and counts, because an attach would pin it");
    first = machine_copy(&a->process, a->ioas, bare, bare_iova, MIB, &iova);
    check(!first && tenant().budget.used == (int64_t)(before + MIB),
          "a copy of it is the same memory and counts once");
    machine_destroy(&a->process, bare);
    check(tenant().budget.used == (int64_t)(before + MIB), "until its last user is gone");
    check_error(machine_unmap(&a->process, a->ioas, iova, MIB), 0, "which goes");
    check(tenant().budget.used == (int64_t)before, "then it is given back");

    first = second = 0;
    for (int i = 0; i < 256; i++) {
        iova = 0;
        first += !machine_map(&a->process, a->ioas, memory + i * 4096, 4096, &iova, false);
        iova = 0;
        second += !machine_map(&b->process, b->ioas, b->memory + i * 4096, 4096, &iova, false);
    }
    check(first + second == 256 && tenant().budget.used == (int64_t)(before + MIB),
          "page by page both get what is left together (%d and %d)", first, second);
    check_account(a, "after the limit");
    check_account(b, "after the limit");
    tenant_limit(LEDGER_UNLIMITED);
}

static void test_strangers(const Guest *a, const char *device)
{
    uint32_t id, ioas;
    Machine stranger;
    int fd;

    machine_start(&stranger, -1, NULL, USER);
    fd = machine_receive(&stranger, iommufd);
    check_error(fd < 0 ? fd : 0, -EACCES, "a stranger that is sent the IOMMUFD");
    check_error(ledger->ops->name_process(ledger, stranger.pid, stranger.start, 0, TENANT), 0,
                "naming it");
    fd = machine_receive(&stranger, iommufd);
    check(fd >= 0, "a process of the tenant that is sent it gets it");
    stranger.iommufd = fd;
    check_error(machine_ioas(&stranger, &ioas), 0, "and allocates");
    check_error(machine_destroy(&stranger, a->ioas), -EACCES, "but has nothing of the machines");
    machine_kill(&stranger);

    chmod(device, 0666);
    machine_start(&stranger, iommufd, NULL, USER);
    fd = machine_open(&stranger, device);
    check_error(machine_bind(&stranger, fd, iommufd, &id), -EACCES,
                "a second process under a machine's name can't bind its device");
    check_error(ledger->ops->name_process(ledger, stranger.pid, stranger.start, a->token, TENANT),
                -EEXIST, "nor be named as that machine");
    machine_kill(&stranger);
}

static void test_restart(const LedgerOptions *options, const Guest *a)
{
    int64_t pinned = pinned_by(a->token);

    ledger_free(ledger);
    if (bpf_ledger_open(options, &ledger))
        g_error("No memory.");
    check(ledger->status.counting && ledger->status.guarding,
          "a new iommud finds the "
          "programs: %s%s",
          ledger->status.reason, ledger->status.guard_reason);
    check(pinned_by(a->token) == pinned, "and takes over the account (%" G_GINT64_FORMAT " pages)",
          pinned_by(a->token));
    check_truth("after a restart");
}

/* A machine of tenant OTHER that has the IOMMUFD, or is sent it. */
static void test_other_tenant(const Guest *a, const char *device)
{
    enum { OTHER = TENANT + 1, MACHINE = 100000 };
    g_autofree char *address = device_address(device);
    int64_t before = pinned_by(a->token);
    Machine other;
    uint64_t iova = 0;
    uint32_t id;
    int fd;

    ledger->ops->set_limit(ledger, OTHER, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    for (uint32_t i = 0; i < 2; i++) {
        ledger->ops->add_machine(ledger, MACHINE + i, OTHER);
        machine_start(&other, i ? iommufd : -1, NULL, USER);
        check_error(ledger->ops->name_process(ledger, other.pid, other.start, MACHINE + i, OTHER),
                    0, "a process is a machine of another tenant");
        fd = machine_receive(&other, iommufd);
        check_error(fd < 0 ? fd : 0, -EACCES, "it is sent the IOMMUFD");
        if (i == 0)
            machine_kill(&other);
    }
    check_error(machine_ioas(&other, &id), -EACCES, "with one that it has inherited: it allocates");
    check_error(machine_map(&other, a->ioas, machine_memory(&other, 4096), 4096, &iova, false),
                -EACCES, "it maps");
    check_error(machine_unmap(&other, a->ioas, 0, EVERYTHING), -EACCES, "it unmaps");
    check_error(machine_destroy(&other, a->ioas), -EACCES, "it destroys");
    ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, 0, 0, 0}, NULL);
    fd = machine_open(&other, device);
    check_error(machine_bind(&other, fd, iommufd, &id), -EACCES,
                "it binds a device of the tenant's");
    check(fd >= 0 && pinned_by(a->token) == before, "and the tenant's machines have what they had");
    machine_kill(&other);
    ledger->ops->dismiss_device(ledger, address, 0);
    for (uint32_t i = 0; i < 2; i++)
        ledger->ops->remove_machine(ledger, MACHINE + i);
    ledger->ops->remove_tenant(ledger, OTHER);
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_STRICT};
    uint64_t host = host_pinned();
    Guest a, b;

    if (argc != 4)
        g_error("Usage: guard-attack CDEV CDEV CDEV");
    tenant_open(&options);
    guest_start(&a, argv[1], 4 * MIB);
    guest_start(&b, argv[2], 4 * MIB);
    check_account(&a, "at the start");
    check_account(&b, "at the start");
    check_truth("at the start");
    test_victim(&a, &b); /* First: events of who causes many in a second are not sent. */
    test_trespass(&a, &b);
    test_global(&a);
    test_devices(&a, argv[2], argv[3]);
    test_fork(&a, &b);
    check_account(&b, "after all that");
    test_limit(&a, &b);
    test_strangers(&a, argv[1]);
    test_other_tenant(&a, argv[3]);
    check_truth("before a restart");
    test_restart(&options, &a);
    guest_end(&a);
    guest_end(&b);
    tenant_close(host);
    return checks_end();
}
