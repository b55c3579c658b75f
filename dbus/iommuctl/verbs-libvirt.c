/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verbs 'libvirt ...' belong to the libvirt plugin: a program of its own, which comes with it,
 * is executed for them in the place of this one, with the same command line. */
#include "dbus/iommuctl/iommuctl.h"

#include <errno.h>
#include <unistd.h>

/* In the environment: another program than the installed one, for tests. */
#define PROGRAM_VARIABLE "IOMMUCTL_LIBVIRT"

int verb_libvirt(Iommuctl *ctl, char **arguments)
{
    const char *program = g_getenv(PROGRAM_VARIABLE);

    if (!program)
        program = LIBVIRT_VERBS;
    execv(program, ctl->argv);
    return fail(ctl,
                "'iommuctl libvirt' needs %s, which can't be executed (%s): install iommud's "
                "plugin for libvirt on this host.",
                program, g_strerror(errno));
}
