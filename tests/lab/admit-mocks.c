/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lets the machine that the device is admitted for bind iommufd's mock devices as well, and becomes
 * the program. iommud can't be asked for them, since it knows the host's own devices only; so this
 * enters them where the guard looks. Run by selftests.sh in the lab:
 *
 *   admit-mocks ADDRESS PROGRAM [ARGUMENT...]
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <glib.h>
#include <glob.h>
#include <unistd.h>

#include "config.h"
#include "kernel/bpf/shared.h"

#define DEVICES BPF_DIR "/v*/maps/devices"
#define MOCKS 16 /* more than a test has at a time; named as in selftests/mock-bus.c */

static int open_devices(void)
{
    glob_t found;
    int fd;

    if (glob(DEVICES, 0, NULL, &found) || found.gl_pathc != 1)
        g_error("There is not one " DEVICES ".");
    fd = bpf_obj_get(found.gl_pathv[0]);
    if (fd < 0)
        g_error("%s: %s.", found.gl_pathv[0], g_strerror(errno));
    globfree(&found);
    return fd;
}

int main(int argc, char **argv)
{
    struct ledger_device_key key = {0};
    struct ledger_device device;
    int devices;

    if (argc < 3)
        g_error("Usage: admit-mocks ADDRESS PROGRAM [ARGUMENT...]");
    devices = open_devices();
    g_strlcpy(key.name, argv[1], sizeof(key.name));
    if (bpf_map_lookup_elem(devices, &key, &device))
        g_error("%s is admitted for nobody.", argv[1]);
    device.owner = device.flags = 0;
    for (unsigned i = 0; i < MOCKS; i++) {
        key = (struct ledger_device_key){0};
        g_snprintf(key.name, sizeof(key.name), "ffff:00:%02x.0", i);
        if (bpf_map_update_elem(devices, &key, &device, BPF_ANY))
            g_error("%s can't be admitted: %s.", key.name, g_strerror(errno));
    }
    close(devices);
    execvp(argv[2], argv + 2);
    g_error("%s: %s.", argv[2], g_strerror(errno));
}
