/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/fake-tree.h"

#include "kernel/ledger/unit-cgroups.h"

#include <errno.h>
#include <glib.h>
#include <sys/stat.h>

static void check_machine(const char *path, const char *expected)
{
    g_autofree char *scope = cgroup_machine(path);
    g_assert_cmpstr(scope, ==, expected);
}

static void test_machine(void)
{
#define SCOPE "machine-qemu\\x2d1\\x2dweb.scope"
    check_machine("/machine.slice/" SCOPE, "/machine.slice/" SCOPE);
    check_machine("/machine.slice/" SCOPE "/libvirt/emulator", "/machine.slice/" SCOPE);
    /* <partition>/machine/prod</partition> of libvirt: the slice is that of several machines. */
    check_machine("/machine.slice/machine-prod.slice/" SCOPE "/libvirt/emulator",
                  "/machine.slice/machine-prod.slice/" SCOPE);
    check_machine("/machine.slice/machine-prod.slice", NULL);
    check_machine("/machine.slice/machine-prod.slice/", NULL);
    check_machine("/machine.slice/machine-prod.slice/libvirt/" SCOPE, NULL);
    /* What somebody has put there on his own. */
    check_machine("/machine.slice/several.service", NULL);
    check_machine("/machine.slice", NULL);
    check_machine("/machine.slice/", NULL);
    check_machine("/system.slice/libvirtd.service", NULL);
    check_machine("/user.slice/user-1000.slice/session-2.scope", NULL);
    check_machine("/init.scope", NULL);
    check_machine("/", NULL);
}

static void check_found(const char *root, const char *unit, const char *path)
{
    g_autofree char *folder = g_build_filename(root, "sys/fs/cgroup", path, NULL);
    uint64_t id = 0;
    struct stat st;
    g_assert_cmpint(cgroup_find_unit(root, unit, &id), ==, 0);
    g_assert_cmpint(stat(folder, &st), ==, 0);
    g_assert_cmpuint(id, ==, st.st_ino);
}

static void test_find(void)
{
    char *root = tree_new();
    uint64_t id;
    g_assert_cmpint(cgroup_find_unit(root, "libvirtd.service", &id), ==, -ENOENT);
    tree_write(root, "", "sys/fs/cgroup/user.slice/user-1.slice/user@1.service/fake.service/x");
    tree_write(root, "", "sys/fs/cgroup/system.slice/cgroup.procs");
    tree_write(root, "", "sys/fs/cgroup/system.slice/libvirtd.service/cgroup.procs");
    tree_write(root, "", "sys/fs/cgroup/system.slice/system-mine.slice/mine@1.service/x");
    tree_write(root, "", "sys/fs/cgroup/agents.slice/agent.service/x");
    check_found(root, "libvirtd.service", "system.slice/libvirtd.service");
    check_found(root, "mine@1.service", "system.slice/system-mine.slice/mine@1.service");
    check_found(root, "agent.service", "agents.slice/agent.service");
    g_assert_cmpint(cgroup_find_unit(root, "mine@2.service", &id), ==, -ENOENT);
    g_assert_cmpint(cgroup_find_unit(root, "fake.service", &id), ==, -ENOENT);
    g_assert_cmpint(cgroup_find_unit(root, "system.slice", &id), ==, -ENOENT);
    tree_remove(root);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/unit-cgroups/machine", test_machine);
    g_test_add_func("/ledger/unit-cgroups/find", test_find);
    return g_test_run();
}
