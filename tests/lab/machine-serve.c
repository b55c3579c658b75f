/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lab/machine-serve.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What the threads of a race share, with each other and with the process that waits for them. */
typedef struct {
    const Request *request;
    int fd;
    uint8_t argument[ARGUMENT_SIZE] __attribute__((aligned(8)));
    atomic_bool stop;
    atomic_ullong tries, granted, refused, other;
    struct timespec until;
} Race;

static void stay_on(int processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void count_try(Race *race, int r)
{
    atomic_ullong *answer = r >= 0                                                 ? &race->granted
                            : errno == EACCES || errno == EDQUOT || errno == EPERM ? &race->refused
                                                                                   : &race->other;

    atomic_fetch_add(&race->tries, 1);
    atomic_fetch_add(answer, 1);
}

static bool is_over(const Race *race)
{
    const struct timespec *until = &race->until;
    struct timespec now;

    if (atomic_load(&race->tries) >= race->request->number || atomic_load(race->request->stop))
        return true;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > until->tv_sec ||
           (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

static void *flip(void *data)
{
    Race *race = data;
    const Request *request = race->request;
    void *place = race->argument + request->offset;
    uint64_t values[2] = {0, request->other};

    memcpy(&values[0], request->argument + request->offset, request->wide ? 8 : 4);
    for (unsigned i = 0; !atomic_load_explicit(&race->stop, memory_order_relaxed); i++) {
        if (request->wide)
            *(volatile uint64_t *)place = values[i & 1];
        else
            *(volatile uint32_t *)place = values[i & 1];
        /* At all speeds: one of them is that of the kernel between its two looks. */
        for (volatile int pause = 16 << (i / 2 % 8); pause > 0; pause--)
            continue;
    }
    return NULL;
}

static void *try_on(void *data)
{
    Race *race = data;
    const Request *request = race->request;
    uint8_t undo[ARGUMENT_SIZE] __attribute__((aligned(8)));

    while (!is_over(race)) {
        int r = ioctl(race->fd, request->command, race->argument);

        count_try(race, r);
        if (r >= 0 && *request->path)
            break;
        if (r >= 0 && request->undo) {
            memcpy(undo, request->undo_argument, sizeof(undo));
            ioctl(request->fd, request->undo, undo);
        }
    }
    return NULL;
}

/* Until somebody kills it. */
static void run_race(Race *race)
{
    const Request *request = race->request;
    pthread_t flipper, threads[MACHINE_CROWD];
    unsigned n = request->threads;

    race->fd = *request->path ? open(request->path, O_RDWR | O_CLOEXEC) : request->fd;
    if (request->other)
        pthread_create(&flipper, NULL, flip, race);
    if (n > 1)
        stay_on(0);
    for (unsigned i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, try_on, race);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

/* By one child after another, since each that wins dies of it. They are the same machine. */
static void serve_race(const Request *request, Reply *reply)
{
    Race *race =
        mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t undo[ARGUMENT_SIZE] __attribute__((aligned(8)));
    int status;
    pid_t pid;

    race->request = request;
    clock_gettime(CLOCK_MONOTONIC, &race->until);
    race->until.tv_sec += request->seconds;
    while (!is_over(race)) {
        memcpy(race->argument, request->argument, ARGUMENT_SIZE);
        pid = fork();
        if (!pid)
            run_race(race);
        waitpid(pid, &status, 0);
        reply->race.attackers++;
        reply->race.killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        if (request->undo) {
            memcpy(undo, request->undo_argument, sizeof(undo));
            ioctl(request->fd, request->undo, undo);
        }
    }
    reply->race.tries = race->tries;
    reply->race.granted = race->granted;
    reply->race.refused = race->refused;
    reply->race.other = race->other;
    munmap(race, sizeof(*race));
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

/* By the system call of 32-bit programs, whose pointers are short. */
static int64_t serve_compat(const Request *request, Reply *reply)
{
#ifdef __x86_64__
    static void *low = MAP_FAILED;
    long r = 54; /* ioctl */

    if (low == MAP_FAILED)
        low = mmap(NULL, ARGUMENT_SIZE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED)
        return -errno;
    memcpy(low, reply->argument, ARGUMENT_SIZE);
    __asm__ volatile("int $0x80"
                     : "+a"(r)
                     : "b"(request->fd), "c"(request->command), "d"(low)
                     : "memory", "r8", "r9", "r10", "r11");
    memcpy(reply->argument, low, ARGUMENT_SIZE);
    return (int)r;
#else
    return -ENOSYS;
#endif
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

static int64_t serve_memory(uint64_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || madvise(memory, size, MADV_POPULATE_WRITE))
        return -errno;
    return (int64_t)memory;
}

void machine_serve(int channel)
{
    MachineStorm storm;
    Request request;

    while (recv(channel, &request, sizeof(request), MSG_WAITALL) == sizeof(request)) {
        Reply reply = {0};

        memcpy(reply.argument, request.argument, sizeof(reply.argument));
        switch (request.verb) {
        case VERB_IOCTL:
            reply.result = answer(ioctl(request.fd, request.command, reply.argument));
            break;
        case VERB_IOCTL_VALUE:
            reply.result = answer(ioctl(request.fd, request.command, request.number));
            break;
        case VERB_FORK_IOCTL:
            reply.result = serve_fork(&request, &reply);
            break;
        case VERB_MEMORY:
            reply.result = serve_memory(request.number);
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
        case VERB_STORM:
            memcpy(&storm, request.argument, sizeof(storm));
            reply.stormed = storm_here(request.fd, &storm);
            break;
        case VERB_COMPAT_IOCTL:
            reply.result = serve_compat(&request, &reply);
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
