/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The doctor's checks of a host's files, on hosts made of files. */
#include "tests/unit/fake-tree.h"

#include "dbus/iommuctl/doctor/check-guard.h"
#include "dbus/iommuctl/doctor/check-host.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KERNEL "7.2.12+deb14-amd64"
#define HOOK "/etc/libvirt/hooks/qemu.d/50-iommud"

typedef struct {
    char *root;
    HostFiles host;
} Fixture;

static void set_up(Fixture *fixture, const void *data)
{
    fixture->root = tree_new();
    fixture->host = (HostFiles){.root = fixture->root, .kernel = KERNEL};
}

static void tear_down(Fixture *fixture, const void *data)
{
    tree_remove(fixture->root);
}

static void put(Fixture *fixture, const char *path, const char *text)
{
    tree_write(fixture->root, text, "%s", path);
}

/* What a check has printed: its line and its remedy. */
typedef struct {
    Output output;
    Report report;
    char *text;
    size_t size;
} Paper;

static void paper_open(Paper *paper)
{
    *paper = (Paper){0};
    paper->output.file = open_memstream(&paper->text, &paper->size);
    report_init(&paper->report, &paper->output);
}

static void paper_close(Paper *paper, const char *const *expected)
{
    fclose(paper->output.file);
    for (; *expected; expected++) {
        if (!strstr(paper->text, *expected))
            g_error("'%s' is not in: %s", *expected, paper->text);
    }
    report_clear(&paper->report);
    free(paper->text);
}

#define EXPECT(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_bare_host(Fixture *fixture, const void *data)
{
    Paper paper;

    g_assert_false(host_has_groups(&fixture->host));
    g_assert_false(host_has_iommufd(&fixture->host));
    g_assert_false(host_has_vfio_cdev(&fixture->host));
    g_assert_false(host_has_libvirt(&fixture->host));
    g_assert_cmpuint(host_memory(&fixture->host), ==, 0);

    put(fixture, "/proc/cpuinfo", "vendor_id\t: GenuineIntel\n");
    put(fixture, "/proc/cmdline", "root=/dev/sda quiet\n");
    paper_open(&paper);
    check_groups(&paper.report, &fixture->host, false);
    check_iommufd(&paper.report, &fixture->host, false);
    check_vfio_cdev(&paper.report, &fixture->host, false);
    check_modules(&paper.report, &fixture->host);
    g_assert_cmpuint(paper.report.counts[CHECK_FAILED], ==, 3);
    g_assert_cmpuint(paper.report.counts[CHECK_WARNING], ==, 1);
    paper_close(&paper, EXPECT("failed   iommu", "Add intel_iommu=on to GRUB_CMDLINE_LINUX",
                               "failed   iommufd", "dkms install iommud-vfio", "warning  modules",
                               "Not loaded: iommufd vfio vfio-pci."));
}

static void test_modules_not_loaded(Fixture *fixture, const void *data)
{
    Paper paper;

    put(fixture, "/lib/modules/" KERNEL "/modules.dep",
        "updates/dkms/iommufd.ko.xz:\nkernel/drivers/vfio/vfio.ko.xz:\n"
        "updates/dkms/vfio-pci.ko.xz:\n");
    put(fixture, "/sys/module/vfio/refcnt", "0\n");
    paper_open(&paper);
    check_iommufd(&paper.report, &fixture->host, false);
    check_modules(&paper.report, &fixture->host);
    paper_close(&paper, EXPECT("-> modprobe iommufd\n", "-> modprobe -a iommufd vfio-pci\n"));
}

static void test_firmware(Fixture *fixture, const void *data)
{
    Paper paper;

    put(fixture, "/proc/cpuinfo", "vendor_id\t: GenuineIntel\n");
    put(fixture, "/proc/cmdline", "quiet intel_iommu=on\n");
    paper_open(&paper);
    check_groups(&paper.report, &fixture->host, false);
    paper_close(&paper, EXPECT("-> Switch the IOMMU on in the firmware's setup"));
}

static void test_whole_host(Fixture *fixture, const void *data)
{
    Paper paper;

    put(fixture, "/sys/kernel/iommu_groups/11/type", "DMA\n");
    put(fixture, "/dev/iommu", "");
    put(fixture, "/proc/devices", "Character devices:\n  1 mem\n511 vfio-dev\n\nBlock devices:\n");
    put(fixture, "/proc/meminfo", "MemTotal:        4194304 kB\nMemFree: 1 kB\n");
    put(fixture, "/sys/module/iommufd/refcnt", "");
    put(fixture, "/sys/module/vfio_pci/refcnt", "");
    put(fixture, "/lib/modules/" KERNEL "/modules.builtin", "kernel/drivers/vfio/vfio.ko\n");
    put(fixture, "/usr/sbin/virtqemud", "");
    g_assert_true(host_has_groups(&fixture->host));
    g_assert_true(host_has_iommufd(&fixture->host));
    g_assert_true(host_has_vfio_cdev(&fixture->host));
    g_assert_true(host_has_libvirt(&fixture->host));
    g_assert_cmpuint(host_memory(&fixture->host), ==, UINT64_C(4) << 30);
    paper_open(&paper);
    check_groups(&paper.report, &fixture->host, true);
    check_iommufd(&paper.report, &fixture->host, true);
    check_vfio_cdev(&paper.report, &fixture->host, true);
    check_modules(&paper.report, &fixture->host);
    g_assert_cmpuint(paper.report.counts[CHECK_OK], ==, 4);
    paper_close(&paper, EXPECT("ok       iommu "));
}

static void test_map_file(Fixture *fixture, const void *data)
{
    static const struct {
        const char *kernel;
        bool expected;
    } cases[] = {
        {"6.12.107-amd64", false}, {"6.13.0", true}, {"7.0.1", true}, {"5.15", false}, {"", false}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        HostFiles host = {.root = fixture->root, .kernel = cases[i].kernel};

        g_assert_cmpint(host_has_map_file(&host), ==, cases[i].expected);
    }
}

/* Checks both; the results are two letters of "owf", the guard's first. */
static void expect_guard(Fixture *fixture, GuardView view, const char *results,
                         const char *const *expected)
{
    static const char letters[] = {'o', 'w', 'f'};
    Paper paper;

    paper_open(&paper);
    check_guard(&paper.report, &fixture->host, &view);
    check_ledger(&paper.report, &fixture->host, &view);
    for (CheckResult i = CHECK_OK; i <= CHECK_FAILED; i++) {
        unsigned n = (results[0] == letters[i]) + (results[1] == letters[i]);

        g_assert_cmpuint(paper.report.counts[i], ==, n);
    }
    paper_close(&paper, expected);
}

#define ENFORCING ((GuardView){"enforcing", "", "active", "", .rechecks = true})
#define NO_RECHECK ((GuardView){"enforcing", "", "active", ""})
#define UNAVAILABLE(reason, ...)                                                                   \
    ((GuardView){"unavailable", reason, "unavailable", reason, ##__VA_ARGS__})
#define NO_GUARD(reason, ...) ((GuardView){"unavailable", reason, "active", "", ##__VA_ARGS__})

static void test_guard(Fixture *fixture, const void *data)
{
    const char *no_lsm = "The BPF LSM is not enabled: add 'bpf' to lsm=.";
    const char *no_iommufd = "iommufd is not there: load it.";
    const char *bad_kernel = "The kernel has no BTF.";
    g_autofree char *own_modules =
        g_strdup_printf("/lib/modules/%s/modules.dep", fixture->host.kernel);

    expect_guard(fixture, ENFORCING, "oo", EXPECT("ok       guard", "ok       ledger"));
    expect_guard(fixture, NO_RECHECK, "wo",
                 EXPECT("only when that call has taken effect", "-> dkms install iommud-vfio"));
    put(fixture, own_modules, "kernel/drivers/iommu/iommufd/iommufd.ko.xz: x.ko.xz\n");
    expect_guard(fixture, NO_RECHECK, "wo",
                 EXPECT("only when that call has taken effect", "-> Create tenants"));
    expect_guard(fixture, (GuardView){"off", "", "active", ""}, "wo",
                 EXPECT("the guard is off.\n", "-> Remove Guard=off"));

    put(fixture, "/sys/kernel/security/lsm", "lockdown,capability,yama,apparmor\n");
    expect_guard(fixture, NO_GUARD(no_lsm, .require_guard = true), "wo",
                 EXPECT("add 'bpf' to lsm=.\n", "Machines share no IOMMUFD",
                        "-> Add lsm=lockdown,capability,yama,apparmor,bpf to GRUB_CMDLINE_LINUX"));
    expect_guard(
        fixture, ENFORCING, "wo",
        EXPECT("bpf is not among the kernel's security modules", "apparmor,bpf to GRUB_CMDLINE"));
    put(fixture, "/sys/kernel/security/lsm", "lockdown,bpf");
    expect_guard(fixture, NO_GUARD(no_lsm, .require_guard = true), "wo",
                 EXPECT("Machines share no IOMMUFD"));
    expect_guard(
        fixture, NO_GUARD(no_lsm), "wo",
        EXPECT("Nothing keeps machines that share an IOMMUFD", "-> Remove RequireGuard=no"));

    put(fixture, own_modules, "");
    expect_guard(fixture, UNAVAILABLE(no_iommufd), "ww",
                 EXPECT("does not count objects", "CONFIG_IOMMUFD", "dkms install iommud-vfio"));
    put(fixture, own_modules,
        "updates/dkms/iommufd.ko.xz: x.ko.xz\nupdates/dkms/vfio-pci.ko.xz:\n");
    expect_guard(fixture, UNAVAILABLE(no_iommufd), "ww",
                 EXPECT("does not count objects", "the ledger is unavailable: iommufd is not there",
                        "-> modprobe -a iommufd vfio-pci, then systemctl restart iommud"));
    put(fixture, "/sys/module/iommufd/refcnt", "");
    put(fixture, "/sys/module/vfio/refcnt", "");
    expect_guard(fixture, UNAVAILABLE(bad_kernel), "ww",
                 EXPECT("The kernel has no BTF.\n", "Machines share no IOMMUFD"));
    expect_guard(fixture, UNAVAILABLE(no_lsm, .simulated = true), "ww",
                 EXPECT("Machines share no IOMMUFD", "so that nothing is shared"));
}

static void expect_drift(uint64_t drift, uint64_t untracked, const char *expected)
{
    Paper paper;

    paper_open(&paper);
    check_drift(&paper.report, drift, untracked);
    paper_close(&paper, EXPECT(expected));
}

static void test_drift(Fixture *fixture, const void *data)
{
    expect_drift(0, 0, "ok       drift      The ledger agrees with the kernel.\n");
    expect_drift(8192, 3, "warning  drift      The ledger was off by 8K ");
    expect_drift(0, 3,
                 "ok       drift      The ledger agrees with the kernel, and has made up for 3 ");
}

static void test_hook(Fixture *fixture, const void *data)
{
    g_autofree char *full = g_strconcat(fixture->root, HOOK, NULL);
    Paper paper;

    paper_open(&paper);
    check_hook(&paper.report, &fixture->host, HOOK, "/usr/bin/iommud-libvirt-hook");
    paper_close(&paper, EXPECT("failed   hook", "ln -sf /usr/bin/iommud-libvirt-hook " HOOK));

    put(fixture, HOOK, "#!/bin/sh\n");
    g_assert_cmpint(g_chmod(full, 0644), ==, 0);
    paper_open(&paper);
    check_hook(&paper.report, &fixture->host, HOOK, "/usr/bin/iommud-libvirt-hook");
    paper_close(&paper, EXPECT("failed   hook", "-> chmod 755 " HOOK));

    g_assert_cmpint(g_chmod(full, 0755), ==, 0);
    paper_open(&paper);
    check_hook(&paper.report, &fixture->host, HOOK, "/usr/bin/iommud-libvirt-hook");
    g_assert_cmpuint(paper.report.counts[CHECK_OK], ==, 1);
    paper_close(&paper, EXPECT("ok       hook"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)
    ADD("/doctor/bare-host", test_bare_host);
    ADD("/doctor/modules-not-loaded", test_modules_not_loaded);
    ADD("/doctor/firmware", test_firmware);
    ADD("/doctor/whole-host", test_whole_host);
    ADD("/doctor/map-file", test_map_file);
    ADD("/doctor/guard", test_guard);
    ADD("/doctor/drift", test_drift);
    ADD("/doctor/hook", test_hook);
    return g_test_run();
}
