/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes that use an IOMMUFD as QEMU does: with ioctls of their own on the real kernel, by
 * simulated_host_play() and simulated_host_ioctl() on the simulated one. */
#include "tests/unit/conformance.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "kernel/simulated/host.h"
#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* What the actor of the real kernel is told to do, and what it answers. */
typedef struct {
    char name[48]; /* of an ioctl, or "play" */
    char cdev[64];
    uint32_t id;
    uint64_t bytes;
} Order;

typedef struct {
    int result;
    uint32_t id;
} Answer;

typedef struct {
    int iommufd;
    int channel;
} Stage;

static bool is_simulated(Host *host)
{
    return strcmp(host->ops->name, "simulated") == 0;
}

static int call(int fd, unsigned long request, void *argument)
{
    return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

static int act_map(const Stage *stage, uint32_t ioas, uint64_t bytes, uint32_t flags)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = flags | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = bytes,
    };
    return memory == MAP_FAILED ? -ENOMEM : call(stage->iommufd, IOMMU_IOAS_MAP, &map);
}

static int act_play(const Stage *stage, const Order *order)
{
    int cdev = open(order->cdev, O_RDWR | O_CLOEXEC);
    if (cdev < 0)
        return -errno;
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = stage->iommufd};
    int r = call(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind);
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    if (r == 0)
        r = call(stage->iommufd, IOMMU_IOAS_ALLOC, &ioas);
    struct iommu_hwpt_alloc hwpt = {
        .size = sizeof(hwpt), .dev_id = bind.out_devid, .pt_id = ioas.out_ioas_id};
    if (r == 0)
        r = call(stage->iommufd, IOMMU_HWPT_ALLOC, &hwpt);
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach),
                                                   .pt_id = hwpt.out_hwpt_id};
    if (r == 0)
        r = call(cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
    if (r == 0)
        r = act_map(stage, ioas.out_ioas_id, order->bytes, IOMMU_IOAS_MAP_FIXED_IOVA);
    /* The device stays bound as long as this descriptor is open. */
    if (r < 0)
        close(cdev);
    return r;
}

static int act_ioctl(const Stage *stage, const Order *order, uint32_t *ret_id)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = order->id};
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = order->id, .length = UINT64_MAX};
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    struct iommu_option option = {
        .size = sizeof(option),
        .option_id = IOMMU_OPTION_RLIMIT_MODE,
        .op = IOMMU_OPTION_OP_SET,
        .val64 = 1,
    };
    *ret_id = order->id;
    if (strcmp(order->name, "IOMMU_IOAS_MAP") == 0)
        return act_map(stage, order->id, order->bytes, 0);
    if (strcmp(order->name, "IOMMU_IOAS_UNMAP") == 0)
        return call(stage->iommufd, IOMMU_IOAS_UNMAP, &unmap);
    if (strcmp(order->name, "IOMMU_DESTROY") == 0)
        return call(stage->iommufd, IOMMU_DESTROY, &destroy);
    if (strcmp(order->name, "IOMMU_IOAS_CHANGE_PROCESS") == 0)
        return call(stage->iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change);
    if (strcmp(order->name, "IOMMU_OPTION") == 0)
        return call(stage->iommufd, IOMMU_OPTION, &option);
    int r = call(stage->iommufd, IOMMU_IOAS_ALLOC, &alloc);
    *ret_id = alloc.out_ioas_id;
    return r;
}

static void act(void *data)
{
    const Stage *stage = data;
    Order order;
    while (read(stage->channel, &order, sizeof(order)) == sizeof(order)) {
        Answer answer = {.result = 0};
        answer.result = strcmp(order.name, "play") == 0 ? act_play(stage, &order)
                                                        : act_ioctl(stage, &order, &answer.id);
        if (write(stage->channel, &answer, sizeof(answer)) != sizeof(answer))
            _exit(EXIT_FAILURE);
    }
}

Actor *actor_new(Host *host, int iommufd)
{
    Actor *actor = g_new0(Actor, 1);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        perror("socketpair");
        exit(EXIT_FAILURE);
    }
    Stage stage = {.iommufd = iommufd, .channel = ends[1]};
    actor->host = host;
    actor->iommufd = iommufd;
    actor->channel = ends[0];
    actor->pid = start_process(is_simulated(host) ? NULL : act, &stage);
    close(ends[1]);
    process_start_time(actor->pid, &actor->start);
    return actor;
}

void actor_kill(Actor *actor)
{
    kill_process(actor->pid);
    close_fd(actor->channel);
    g_free(actor);
}

static int give(const Actor *actor, const Order *order, uint32_t *ret_id)
{
    Answer answer;
    if (write(actor->channel, order, sizeof(*order)) != sizeof(*order) ||
        read(actor->channel, &answer, sizeof(answer)) != sizeof(answer))
        return -EPIPE;
    *ret_id = answer.id;
    return answer.result;
}

int actor_play(Actor *actor, const char *address, uint64_t bytes)
{
    HostDevice device = {.group = -1};
    Order order = {.name = "play", .bytes = bytes};
    uint32_t id;
    if (is_simulated(actor->host))
        return simulated_host_play(actor->host, actor->pid, actor->iommufd, &address, 1, bytes);
    find_device(actor->host, address, &device);
    snprintf(order.cdev, sizeof(order.cdev), "/dev/vfio/devices/%s", device.cdev);
    return give(actor, &order, &id);
}

int actor_ioctl(Actor *actor, const char *name, uint32_t id, uint64_t bytes, uint32_t *ret_id)
{
    Order order = {.id = id, .bytes = bytes};
    if (is_simulated(actor->host))
        return simulated_host_ioctl(actor->host, actor->pid, actor->iommufd, name, id, bytes,
                                    ret_id);
    g_strlcpy(order.name, name, sizeof(order.name));
    return give(actor, &order, ret_id);
}
