/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lab/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/process.h"
#include "tests/lab/machine-serve.h"

void machine_start(Machine *machine, int iommufd, const char *device, uid_t user)
{
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    int pair[2], opened = -1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        g_error("socketpair: %s", g_strerror(errno));
    if (device && (opened = open(device, O_RDWR)) < 0)
        g_error("%s: %s", device, g_strerror(errno));
    machine->stop = mmap(NULL, sizeof(*machine->stop), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (machine->stop == MAP_FAILED)
        g_error("mmap: %s", g_strerror(errno));
    fflush(stdout);
    machine->pid = fork();
    if (!machine->pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* Nothing of the other machines, and nothing of the test's own. */
        for (int fd = 3; fd < 256; fd++)
            if (fd != iommufd && fd != opened && fd != pair[1])
                close(fd);
        setrlimit(RLIMIT_MEMLOCK, &unlimited);
        if (user && (setgroups(0, NULL) || setgid(user) || setuid(user)))
            _exit(1);
        machine_serve(pair[1]);
    }
    close(pair[1]);
    if (opened >= 0)
        close(opened);
    machine->channel = pair[0];
    machine->peer = pair[1];
    machine->iommufd = iommufd;
    machine->device = opened;
    if (machine->pid < 0 || process_start_time(machine->pid, &machine->start))
        g_error("fork: %s", g_strerror(errno));
}

void machine_kill(Machine *machine)
{
    kill(machine->pid, SIGKILL);
    waitpid(machine->pid, NULL, 0);
    close(machine->channel);
    munmap(machine->stop, sizeof(*machine->stop));
    machine->pid = 0;
}

static int64_t ask(Machine *machine, const Request *request, Reply *reply)
{
    if (send(machine->channel, request, sizeof(*request), MSG_NOSIGNAL) != sizeof(*request) ||
        recv(machine->channel, reply, sizeof(*reply), MSG_WAITALL) != sizeof(*reply))
        return -EPIPE;
    return reply->result;
}

static int ioctl_by(Machine *machine, enum verb verb, int fd, unsigned long command, void *argument,
                    size_t size)
{
    Request request = {.verb = verb, .fd = fd, .command = command};
    Reply reply;
    int64_t r;

    g_assert(size <= ARGUMENT_SIZE);
    memcpy(request.argument, argument, size);
    r = ask(machine, &request, &reply);
    if (r != -EPIPE)
        memcpy(argument, reply.argument, size);
    return r;
}

int machine_ioctl(Machine *machine, int fd, unsigned long command, void *argument, size_t size)
{
    return ioctl_by(machine, VERB_IOCTL, fd, command, argument, size);
}

int machine_ioctl_value(Machine *machine, int fd, unsigned long command, uint64_t value)
{
    Request request = {.verb = VERB_IOCTL_VALUE, .fd = fd, .command = command, .number = value};
    Reply reply;

    return ask(machine, &request, &reply);
}

int machine_fork_ioctl(Machine *machine, int fd, unsigned long command, void *argument, size_t size)
{
    return ioctl_by(machine, VERB_FORK_IOCTL, fd, command, argument, size);
}

int machine_compat_ioctl(Machine *machine, int fd, unsigned long command, void *argument,
                         size_t size)
{
    return ioctl_by(machine, VERB_COMPAT_IOCTL, fd, command, argument, size);
}

uint64_t machine_memory(Machine *machine, uint64_t size)
{
    Request request = {.verb = VERB_MEMORY, .number = size};
    Reply reply;
    int64_t address = ask(machine, &request, &reply);

    g_assert_cmpint(address, >, 0);
    return address;
}

int machine_memfd(Machine *machine, uint64_t size)
{
    Request request = {.verb = VERB_MEMFD, .number = size};
    Reply reply;

    return ask(machine, &request, &reply);
}

int machine_open(Machine *machine, const char *path)
{
    Request request = {.verb = VERB_OPEN};
    Reply reply;

    g_strlcpy((char *)request.argument, path, sizeof(request.argument));
    return ask(machine, &request, &reply);
}

int machine_receive(Machine *machine, int fd)
{
    Request request = {.verb = VERB_RECEIVE};
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    Reply reply;

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    if (send(machine->channel, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request) ||
        sendmsg(machine->channel, &message, MSG_NOSIGNAL) != 1 ||
        recv(machine->channel, &reply, sizeof(reply), MSG_WAITALL) != sizeof(reply))
        return -EPIPE;
    return reply.result;
}

void machine_race(Machine *machine, int fd, unsigned long command, const void *argument,
                  size_t size, const MachineRaceOptions *options, MachineRace *ret_race)
{
    machine_race_begin(machine, fd, command, argument, size, options);
    if (!machine_race_end(machine, ret_race))
        g_error("The machine is gone.");
}

void machine_race_begin(Machine *machine, int fd, unsigned long command, const void *argument,
                        size_t size, const MachineRaceOptions *options)
{
    Request request = {
        .verb = VERB_RACE,
        .fd = fd,
        .command = command,
        .offset = options->offset,
        .other = options->other,
        .wide = options->wide,
        .threads = MAX(options->threads, 1),
        .number = options->tries,
        .seconds = options->seconds,
        .stop = machine->stop,
        .undo = options->undo,
    };

    g_assert(request.threads <= MACHINE_CROWD && size <= ARGUMENT_SIZE);
    memcpy(request.argument, argument, size);
    if (options->path)
        g_strlcpy(request.path, options->path, sizeof(request.path));
    if (options->undo)
        memcpy(request.undo_argument, options->undo_argument, options->undo_size);
    atomic_store(machine->stop, false);
    if (send(machine->channel, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
        g_error("The machine is gone.");
}

void machine_race_stop(Machine *machine)
{
    atomic_store(machine->stop, true);
}

bool machine_race_end(Machine *machine, MachineRace *ret_race)
{
    Reply reply;

    if (recv(machine->channel, &reply, sizeof(reply), MSG_WAITALL) != sizeof(reply))
        return false;
    *ret_race = reply.race;
    return true;
}

bool machine_storm(Machine *machine, const MachineStorm *storm, MachineStormed *ret_stormed)
{
    Request request = {.verb = VERB_STORM, .fd = machine->iommufd};
    Reply reply;

    memcpy(request.argument, storm, sizeof(*storm));
    if (ask(machine, &request, &reply) == -EPIPE)
        return false;
    *ret_stormed = reply.stormed;
    return true;
}

uint64_t machine_time(Machine *machine, const MachineCalls *calls)
{
    Request request = {
        .verb = VERB_TIME,
        .fd = calls->fd,
        .command = calls->command,
        .size = calls->size,
        .other = -calls->error,
        .undo = calls->undo,
        .number = calls->times,
    };
    Reply reply;
    int64_t ns;

    g_assert(calls->size <= ARGUMENT_SIZE && calls->undo_size <= ARGUMENT_SIZE);
    memcpy(request.argument, calls->argument, calls->size);
    if (calls->undo)
        memcpy(request.undo_argument, calls->undo_argument, calls->undo_size);
    ns = ask(machine, &request, &reply);
    if (ns <= 0)
        g_error("Timing failed: %s.", g_strerror(-ns));
    return ns;
}

#define CALL(machine, command, argument)                                                           \
    machine_ioctl(machine, (machine)->iommufd, command, &(argument), sizeof(argument))

int machine_ioas(Machine *machine, uint32_t *ret_id)
{
    struct iommu_ioas_alloc argument = {.size = sizeof(argument)};
    int r = CALL(machine, IOMMU_IOAS_ALLOC, argument);

    *ret_id = argument.out_ioas_id;
    return r;
}

int machine_map(Machine *machine, uint32_t ioas, uint64_t address, uint64_t length, uint64_t *iova,
                bool fixed)
{
    struct iommu_ioas_map argument = {
        .size = sizeof(argument),
        .flags = fixed ? MACHINE_MAP_FIXED : MACHINE_MAP_FLAGS,
        .ioas_id = ioas,
        .user_va = address,
        .length = length,
        .iova = *iova,
    };
    int r = CALL(machine, IOMMU_IOAS_MAP, argument);

    *iova = argument.iova;
    return r;
}

int machine_map_file(Machine *machine, uint32_t ioas, int memfd, uint64_t offset, uint64_t length,
                     uint64_t *ret_iova)
{
    struct iommu_ioas_map_file argument = {
        .size = sizeof(argument),
        .flags = MACHINE_MAP_FLAGS,
        .ioas_id = ioas,
        .fd = memfd,
        .start = offset,
        .length = length,
    };
    int r = CALL(machine, IOMMU_IOAS_MAP_FILE, argument);

    *ret_iova = argument.iova;
    return r;
}

int machine_copy(Machine *machine, uint32_t to, uint32_t from, uint64_t iova, uint64_t length,
                 uint64_t *ret_iova)
{
    struct iommu_ioas_copy argument = {
        .size = sizeof(argument),
        .flags = MACHINE_MAP_FLAGS,
        .dst_ioas_id = to,
        .src_ioas_id = from,
        .length = length,
        .src_iova = iova,
    };
    int r = CALL(machine, IOMMU_IOAS_COPY, argument);

    *ret_iova = argument.dst_iova;
    return r;
}

int machine_unmap(Machine *machine, uint32_t ioas, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap argument = {
        .size = sizeof(argument), .ioas_id = ioas, .iova = iova, .length = length};

    return CALL(machine, IOMMU_IOAS_UNMAP, argument);
}

int machine_destroy(Machine *machine, uint32_t id)
{
    struct iommu_destroy argument = {.size = sizeof(argument), .id = id};

    return CALL(machine, IOMMU_DESTROY, argument);
}

int machine_hwpt(Machine *machine, uint32_t device, uint32_t parent, uint32_t *ret_id)
{
    struct iommu_hwpt_alloc argument = {
        .size = sizeof(argument), .dev_id = device, .pt_id = parent};
    int r = CALL(machine, IOMMU_HWPT_ALLOC, argument);

    *ret_id = argument.out_hwpt_id;
    return r;
}

int machine_bind(Machine *machine, int device, int iommufd, uint32_t *ret_id)
{
    struct vfio_device_bind_iommufd argument = {.argsz = sizeof(argument), .iommufd = iommufd};
    int r = machine_ioctl(machine, device, VFIO_DEVICE_BIND_IOMMUFD, &argument, sizeof(argument));

    *ret_id = argument.out_devid;
    return r;
}

int machine_attach(Machine *machine, int device, uint32_t page_table)
{
    struct vfio_device_attach_iommufd_pt argument = {.argsz = sizeof(argument),
                                                     .pt_id = page_table};

    return machine_ioctl(machine, device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &argument,
                         sizeof(argument));
}

char *device_address(const char *cdev)
{
    g_autofree char *name = g_path_get_basename(cdev);
    g_autofree char *link = g_strdup_printf("/sys/class/vfio-dev/%s/device", name);
    g_autofree char *target = g_file_read_link(link, NULL);

    if (!target)
        g_error("%s is no device of VFIO's.", cdev);
    return g_path_get_basename(target);
}

uint64_t machine_status(pid_t pid, const char *field)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid);
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(line = strstr(text, field)))
        return 0;
    return strtoull(line + strlen(field) + 1, NULL, 10) / 4;
}

uint64_t machine_pinned(pid_t pid)
{
    return machine_status(pid, "VmPin");
}

uint64_t host_pinned(void)
{
    g_autofree char *text = NULL;
    unsigned long long pinned = 0;
    const char *line;
    int fd = open("/proc/sys/vm/stat_refresh", O_WRONLY);

    if (fd >= 0) {
        if (write(fd, "1", 1) != 1)
            g_warning("The kernel's counters can't be summed up.");
        close(fd);
    }
    if (!g_file_get_contents("/proc/vmstat", &text, NULL, NULL))
        return 0;
    line = strstr(text, "nr_foll_pin_acquired ");
    if (line)
        pinned += strtoull(line + strlen("nr_foll_pin_acquired "), NULL, 10);
    line = strstr(text, "nr_foll_pin_released ");
    if (line)
        pinned -= strtoull(line + strlen("nr_foll_pin_released "), NULL, 10);
    return pinned;
}
