/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lab/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel/process.h"

#define ARGUMENT_SIZE 128

enum verb {
    VERB_IOCTL,
    VERB_FORK_IOCTL,
    VERB_MEMORY,
    VERB_MEMFD,
    VERB_OPEN,
    VERB_RECEIVE,
    VERB_RACE,
    VERB_TIME,
};

typedef struct {
    enum verb verb;
    int fd;
    unsigned long command;
    size_t size;
    uint8_t argument[ARGUMENT_SIZE];
    uint64_t number;
    size_t offset;
    uint64_t other;
    bool wide;
    unsigned long undo;
    size_t undo_size;
    uint8_t undo_argument[ARGUMENT_SIZE];
} Request;

typedef struct {
    int64_t result;
    uint8_t argument[ARGUMENT_SIZE];
    MachineRace race;
} Reply;

typedef struct {
    atomic_bool stop;
    bool wide;
    volatile void *place;
    uint64_t values[2];
} Flipper;

static void *flip(void *data)
{
    Flipper *flipper = data;

    for (unsigned i = 0; !atomic_load_explicit(&flipper->stop, memory_order_relaxed); i++) {
        if (flipper->wide)
            *(volatile uint64_t *)flipper->place = flipper->values[i & 1];
        else
            *(volatile uint32_t *)flipper->place = flipper->values[i & 1];
        for (volatile int pause = 0; pause < 40; pause++)
            continue;
    }
    return NULL;
}

static void serve_race(const Request *request, Reply *reply)
{
    uint8_t argument[ARGUMENT_SIZE] __attribute__((aligned(8)));
    Flipper flipper = {.wide = request->wide, .place = argument + request->offset};
    pthread_t thread;

    memcpy(argument, request->argument, sizeof(argument));
    memcpy(&flipper.values[0], argument + request->offset, request->wide ? 8 : 4);
    flipper.values[1] = request->other;
    pthread_create(&thread, NULL, flip, &flipper);
    for (uint64_t i = 0; i < request->number; i++) {
        int r = ioctl(request->fd, request->command, argument);

        reply->race.tries++;
        if (r >= 0)
            reply->race.granted++;
        else if (errno == EACCES || errno == EDQUOT)
            reply->race.refused++;
        else
            reply->race.other++;
        if (r >= 0 && request->undo) {
            uint8_t undo[ARGUMENT_SIZE] __attribute__((aligned(8)));

            memcpy(undo, request->undo_argument, sizeof(undo));
            ioctl(request->fd, request->undo, undo);
        }
    }
    atomic_store(&flipper.stop, true);
    pthread_join(thread, NULL);
}

static int64_t serve_receive(int channel)
{
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &vector,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    int fd;

    if (recvmsg(channel, &message, 0) < 0)
        return -errno;
    if (!CMSG_FIRSTHDR(&message) || message.msg_controllen < CMSG_LEN(sizeof(int)))
        return -EACCES;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

static int64_t answer(int r)
{
    return r < 0 ? -errno : r;
}

static int64_t serve_fork(const Request *request, Reply *reply)
{
    int status, r;
    pid_t child = fork();

    if (!child) {
        r = ioctl(request->fd, request->command, reply->argument);
        _exit(r < 0 ? errno : 0);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPIPE;
}

static int64_t serve_time(Request *request)
{
    uint8_t argument[ARGUMENT_SIZE] __attribute__((aligned(8)));
    struct timespec from, to;

    memcpy(argument, request->argument, sizeof(argument));
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint64_t i = 0; i < request->number; i++) {
        int r;

        if (request->fd < 0) {
            r = open((const char *)argument, O_RDWR | O_CLOEXEC);
            if (r < 0)
                return -errno;
            close(r);
            continue;
        }
        r = ioctl(request->fd, request->command, argument);
        if (r ? errno != (int)request->other : request->other)
            return r ? -errno : -EIO;
        if (request->undo && !r && ioctl(request->fd, request->undo, request->undo_argument))
            return -errno;
        if (request->undo)
            memcpy(argument, request->argument, request->size);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec;
}

static int64_t serve_memory(uint64_t size, enum machine_pages pages)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (pages == MACHINE_PAGES_HUGE ? MAP_HUGETLB : 0);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

    if (memory == MAP_FAILED ||
        (pages == MACHINE_PAGES_SMALL && madvise(memory, size, MADV_NOHUGEPAGE)) ||
        madvise(memory, size, MADV_POPULATE_WRITE))
        return -errno;
    return (int64_t)memory;
}

static void serve(int channel)
{
    Request request;

    while (recv(channel, &request, sizeof(request), MSG_WAITALL) == sizeof(request)) {
        Reply reply = {0};

        memcpy(reply.argument, request.argument, sizeof(reply.argument));
        switch (request.verb) {
        case VERB_IOCTL:
            reply.result = answer(ioctl(request.fd, request.command, reply.argument));
            break;
        case VERB_FORK_IOCTL:
            reply.result = serve_fork(&request, &reply);
            break;
        case VERB_MEMORY:
            reply.result = serve_memory(request.number, request.other);
            break;
        case VERB_MEMFD:
            reply.result = answer(memfd_create("machine", 0));
            if (reply.result >= 0 && ftruncate(reply.result, request.number))
                reply.result = -errno;
            break;
        case VERB_OPEN:
            reply.result = answer(open((const char *)request.argument, O_RDWR | O_CLOEXEC));
            break;
        case VERB_RECEIVE:
            reply.result = serve_receive(channel);
            break;
        case VERB_TIME:
            reply.result = serve_time(&request);
            break;
        case VERB_RACE:
            serve_race(&request, &reply);
            break;
        }
        if (send(channel, &reply, sizeof(reply), MSG_NOSIGNAL) != sizeof(reply))
            break;
    }
    _exit(0);
}

void machine_start(Machine *machine, int iommufd, const char *device, uid_t user)
{
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    int pair[2], opened = -1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        g_error("socketpair: %s", g_strerror(errno));
    if (device && (opened = open(device, O_RDWR)) < 0)
        g_error("%s: %s", device, g_strerror(errno));
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
        serve(pair[1]);
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
    machine->pid = 0;
}

bool machine_was_killed(Machine *machine)
{
    int status;

    for (int i = 0; i < 100; i++) {
        if (waitpid(machine->pid, &status, WNOHANG) == machine->pid) {
            close(machine->channel);
            machine->pid = 0;
            return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        }
        g_usleep(10000);
    }
    return false;
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

int machine_fork_ioctl(Machine *machine, int fd, unsigned long command, void *argument, size_t size)
{
    return ioctl_by(machine, VERB_FORK_IOCTL, fd, command, argument, size);
}

uint64_t machine_memory_of(Machine *machine, uint64_t size, enum machine_pages pages)
{
    Request request = {.verb = VERB_MEMORY, .number = size, .other = pages};
    Reply reply;
    int64_t address = ask(machine, &request, &reply);

    g_assert_cmpint(address, >, 0);
    return address;
}

uint64_t machine_memory(Machine *machine, uint64_t size)
{
    return machine_memory_of(machine, size, MACHINE_PAGES_ANY);
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

bool machine_race(Machine *machine, int fd, unsigned long command, const void *argument,
                  size_t size, size_t offset, bool wide, uint64_t other, uint64_t tries,
                  unsigned long undo, const void *undo_argument, size_t undo_size,
                  MachineRace *ret_race)
{
    Request request = {
        .verb = VERB_RACE,
        .fd = fd,
        .command = command,
        .offset = offset,
        .other = other,
        .wide = wide,
        .number = tries,
        .undo = undo,
    };
    Reply reply;

    memcpy(request.argument, argument, size);
    if (undo)
        memcpy(request.undo_argument, undo_argument, undo_size);
    if (ask(machine, &request, &reply) == -EPIPE)
        return false;
    *ret_race = reply.race;
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

uint64_t machine_pinned(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid);
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(line = strstr(text, "VmPin:")))
        return 0;
    return strtoull(line + strlen("VmPin:"), NULL, 10) / 4;
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
