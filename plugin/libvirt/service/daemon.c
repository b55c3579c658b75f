/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/service/daemon.h"

#include "kernel/base/cleanup.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static gboolean fail(GError **error, const char *what, int number)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s", what, g_strerror(number));
    return FALSE;
}

static ssize_t ask_kernel(uint32_t inode, void *buffer, size_t size)
{
    struct {
        struct nlmsghdr header;
        struct unix_diag_req request;
    } question = {
        .header = {.nlmsg_len = sizeof(question),
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST},
        .request = {.sdiag_family = AF_UNIX,
                    .udiag_states = UINT32_MAX,
                    .udiag_ino = inode,
                    .udiag_show = UDIAG_SHOW_PEER,
                    .udiag_cookie = {UINT32_MAX, UINT32_MAX}},
    };
    autoclose int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

    if (fd < 0 || send(fd, &question, sizeof(question), 0) < 0)
        return -1;
    return recv(fd, buffer, size, 0);
}

/* The inode of the socket's other end, 0: it has none any more. */
static gboolean find_peer(uint32_t inode, uint32_t *ret_peer, GError **error)
{
    union {
        struct nlmsghdr header;
        char bytes[4096];
    } answer;
    ssize_t n = ask_kernel(inode, &answer, sizeof(answer));
    const struct nlmsghdr *header = &answer.header;

    if (n < 0)
        return fail(error, "the kernel can't be asked for the other end of a socket", errno);
    if (!NLMSG_OK(header, (size_t)n))
        return fail(error, "the kernel's answer about a socket can't be read", EBADMSG);
    if (header->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *failure = NLMSG_DATA(header);
        return fail(error,
                    "the kernel does not tell who is at the other end of the agent's socket, which "
                    "may be closed by now, or need 'modprobe unix_diag'",
                    -failure->error);
    }
    *ret_peer = 0;
    const struct rtattr *attribute =
        (const struct rtattr *)((const char *)NLMSG_DATA(header) +
                                NLMSG_ALIGN(sizeof(struct unix_diag_msg)));
    int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof(struct unix_diag_msg)));
    for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == UNIX_DIAG_PEER)
            memcpy(ret_peer, RTA_DATA(attribute), sizeof(*ret_peer));
    return TRUE;
}

static bool has_socket(pid_t pid, uint32_t inode)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)pid);
    g_autofree char *wanted = g_strdup_printf("socket:[%u]", inode);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);
        if (g_strcmp0(target, wanted) == 0)
            return true;
    }
    return false;
}

gboolean daemon_check_peer(pid_t pid, uint64_t socket, GError **error)
{
    uint32_t peer = 0;

    if (socket > 0 && socket <= UINT32_MAX && !find_peer((uint32_t)socket, &peer, error))
        return FALSE;
    if (peer != 0 && has_socket(pid, peer))
        return TRUE;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                "iommud-libvirt is connected to another libvirt than to process %d, which starts "
                "this machine",
                (int)pid);
    return FALSE;
}
