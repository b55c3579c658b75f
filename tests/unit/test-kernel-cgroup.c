/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/cgroup.h"

#include <errno.h>
#include <glib.h>

static void check_machine(const char *path, const char *expected)
{
    g_autofree char *scope = cgroup_machine(path);
    g_assert_cmpstr(scope, ==, expected);
}

static void test_machine(void)
{
#define SCOPE "machine-qemu\\x2d1\\x2dweb.scope"
    check_machine("machine.slice/" SCOPE, "machine.slice/" SCOPE);
    check_machine("machine.slice/" SCOPE "/libvirt/emulator", "machine.slice/" SCOPE);
    /* <partition>/machine/prod</partition> of libvirt: the slice is that of several machines. */
    check_machine("machine.slice/machine-prod.slice/" SCOPE "/libvirt/emulator",
                  "machine.slice/machine-prod.slice/" SCOPE);
    check_machine("machine.slice/machine-prod.slice", NULL);
    check_machine("machine.slice/machine-prod.slice/", NULL);
    check_machine("machine.slice/machine-prod.slice/libvirt/" SCOPE, NULL);
    /* What somebody has put there on his own. */
    check_machine("machine.slice/several.service", NULL);
    check_machine("machine.slice", NULL);
    check_machine("machine.slice/", NULL);
    check_machine("system.slice/libvirtd.service", NULL);
    check_machine("user.slice/user-1000.slice/session-2.scope", NULL);
    check_machine("init.scope", NULL);
    check_machine("", NULL);
}

static void test_of(void)
{
    g_autofree char *path = NULL;
    g_assert_cmpint(cgroup_of(0, &path), ==, -ENOENT);
    g_assert_null(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kernel/cgroup/machine", test_machine);
    g_test_add_func("/kernel/cgroup/of", test_of);
    return g_test_run();
}
