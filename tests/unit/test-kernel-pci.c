/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI devices and their drivers, in a tree of files that a thread brings to life: it reads what
 * is written to bind and unbind, as a kernel would, and moves the links of drivers. */
#include "tests/unit/fake-tree.h"

#include "kernel/host/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NVME "0000:01:00.0"
#define BRIDGE "0000:00:1c.0"
#define MAX_FILES 8

typedef struct {
    char *root;
    Host *host;
    GThread *thread;
    int stop[2];
    int files[MAX_FILES]; /* named pipes, by their order in made[] */
    struct {
        const char *driver;
        bool bind;
    } made[MAX_FILES];
    int n;
    gint refuses; /* vfio-pci's probe fails */
} Kernel;

static void set_driver(const char *root, const char *address, const char *driver)
{
    g_autofree char *target = g_strdup_printf("../../drivers/%s", driver);
    if (g_str_equal(driver, "vfio-pci"))
        tree_write(root, "1:3\n", "sys/bus/pci/devices/%s/vfio-dev/vfio7/dev", address);
    tree_link(root, target, "sys/bus/pci/devices/%s/driver", address);
}

static void clear_driver(const char *root, const char *address)
{
    g_autofree char *folder = g_build_filename(root, "sys/bus/pci/devices", address, NULL);
    g_autofree char *link = g_build_filename(folder, "driver", NULL);
    g_autofree char *dev = g_build_filename(folder, "vfio-dev", "vfio7", "dev", NULL);
    g_unlink(dev);
    g_unlink(link);
}

static void *run_kernel(void *data)
{
    Kernel *kernel = data;
    struct pollfd polled[MAX_FILES + 1];
    for (;;) {
        for (int i = 0; i < kernel->n; i++)
            polled[i] = (struct pollfd){.fd = kernel->files[i], .events = POLLIN};
        polled[kernel->n] = (struct pollfd){.fd = kernel->stop[0], .events = POLLIN};
        poll(polled, (nfds_t)kernel->n + 1, -1);
        if (polled[kernel->n].revents)
            return NULL;
        for (int i = 0; i < kernel->n; i++) {
            char address[32] = "";
            if (!polled[i].revents || read(kernel->files[i], address, sizeof(address) - 1) <= 0)
                continue;
            const char *driver = kernel->made[i].driver;
            if (!driver)
                set_driver(kernel->root, address, "nvme");
            else if (!kernel->made[i].bind)
                clear_driver(kernel->root, address);
            else if (!g_str_equal(driver, "vfio-pci") || !g_atomic_int_get(&kernel->refuses))
                set_driver(kernel->root, address, driver);
        }
    }
}

/* A file that the kernel reads; driver NULL: the bus's drivers_probe. */
static void add_file(Kernel *kernel, const char *path, const char *driver, bool bind)
{
    g_autofree char *full = g_build_filename(kernel->root, path, NULL);
    g_assert_cmpint(mkfifo(full, 0600), ==, 0);
    int fd = open(full, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    kernel->made[kernel->n].driver = driver;
    kernel->made[kernel->n].bind = bind;
    kernel->files[kernel->n++] = fd;
}

static void add_device(const char *root, const char *address, const char *class_code, int group)
{
    g_autofree char *target = g_strdup_printf("../../../../kernel/iommu_groups/%d", group);
    tree_write(root, "0x1b36\n", "sys/bus/pci/devices/%s/vendor", address);
    tree_write(root, "0x0010\n", "sys/bus/pci/devices/%s/device", address);
    tree_write(root, class_code, "sys/bus/pci/devices/%s/class", address);
    tree_write(root, "(null)\n", "sys/bus/pci/devices/%s/driver_override", address);
    tree_link(root, target, "sys/bus/pci/devices/%s/iommu_group", address);
}

static Kernel *kernel_new(void)
{
    Kernel *kernel = g_new0(Kernel, 1);
    kernel->root = tree_new();
    g_assert_cmpint(linux_host_new(kernel->root, &kernel->host), ==, 0);
    add_device(kernel->root, NVME, "0x010802\n", 11);
    add_device(kernel->root, BRIDGE, "0x060400\n", 3);
    tree_write(kernel->root, "", "sys/bus/pci/drivers/nvme/uevent");
    tree_write(kernel->root, "", "sys/bus/pci/drivers/vfio-pci/uevent");
    set_driver(kernel->root, NVME, "nvme");
    add_file(kernel, "sys/bus/pci/drivers/nvme/bind", "nvme", true);
    add_file(kernel, "sys/bus/pci/drivers/nvme/unbind", "nvme", false);
    add_file(kernel, "sys/bus/pci/drivers/vfio-pci/bind", "vfio-pci", true);
    add_file(kernel, "sys/bus/pci/drivers/vfio-pci/unbind", "vfio-pci", false);
    add_file(kernel, "sys/bus/pci/drivers_probe", NULL, true);
    g_assert_cmpint(pipe(kernel->stop), ==, 0);
    kernel->thread = g_thread_new("kernel", run_kernel, kernel);
    return kernel;
}

static void kernel_free(Kernel *kernel)
{
    g_assert_cmpint(write(kernel->stop[1], "", 1), ==, 1);
    g_thread_join(kernel->thread);
    for (int i = 0; i < kernel->n; i++)
        close(kernel->files[i]);
    close(kernel->stop[0]);
    close(kernel->stop[1]);
    host_free(kernel->host);
    tree_remove(kernel->root);
    g_free(kernel);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Kernel, kernel_free)

static void remove_file(Kernel *kernel, const char *path)
{
    g_autofree char *full = g_build_filename(kernel->root, path, NULL);
    g_assert_cmpint(g_unlink(full), ==, 0);
}

/* The kernel takes what is written a moment later. */
static void assert_driver(Kernel *kernel, const char *driver, const char *override)
{
    HostDevice device;
    for (int i = 0; i < 200; i++) {
        g_assert_cmpint(pci_device_read(kernel->root, NVME, &device), ==, 0);
        if (g_str_equal(device.driver, driver))
            break;
        g_usleep(10 * 1000);
    }
    g_assert_cmpstr(device.driver, ==, driver);
    g_assert_cmpstr(device.override, ==, override);
    g_assert_cmpstr(device.cdev, ==, g_str_equal(driver, "vfio-pci") ? "vfio7" : "");
}

static int bind_to(Kernel *kernel, const char *address, const char *driver)
{
    return kernel->host->ops->device_bind(kernel->host, address, driver);
}

static int restore(Kernel *kernel, const char *address, const char *driver)
{
    return kernel->host->ops->device_restore(kernel->host, address, driver);
}

static void test_read(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    HostDevice device;

    g_assert_cmpint(pci_device_read(kernel->root, NVME, &device), ==, 0);
    g_assert_cmpstr(device.address, ==, NVME);
    g_assert_cmphex(device.vendor, ==, 0x1b36);
    g_assert_cmphex(device.product, ==, 0x0010);
    g_assert_cmphex(device.class_code, ==, 0x010802);
    g_assert_false(device.bridge);
    g_assert_cmpint(device.group, ==, 11);
    g_assert_cmpstr(device.driver, ==, "nvme");
    g_assert_cmpstr(device.override, ==, "");
    g_assert_cmpstr(device.cdev, ==, "");
    g_assert_cmpint(pci_device_read(kernel->root, "0000:7f:00.0", &device), ==, -ENODEV);
    g_assert_cmpint(pci_device_read(kernel->root, "../nvme", &device), ==, -EINVAL);

    tree_write(kernel->root, "0x1000000\n", "sys/bus/pci/devices/" NVME "/class");
    g_assert_cmpint(pci_device_read(kernel->root, NVME, &device), ==, -EINVAL);
}

static void test_no_group(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    HostDevice device;
    remove_file(kernel, "sys/bus/pci/devices/" NVME "/iommu_group");
    g_assert_cmpint(pci_device_read(kernel->root, NVME, &device), ==, 0);
    g_assert_cmpint(device.group, ==, -1);
}

static void test_bridge(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    HostDevice device;
    char header[0x10] = {[0x0e] = (char)0x81}; /* multifunction, type 1 */

    g_assert_cmpint(pci_device_read(kernel->root, BRIDGE, &device), ==, 0);
    g_assert_true(device.bridge); /* by its class */
    g_autofree char *config =
        g_build_filename(kernel->root, "sys/bus/pci/devices", NVME, "config", NULL);
    g_assert_true(g_file_set_contents(config, header, sizeof(header), NULL));
    g_assert_cmpint(pci_device_read(kernel->root, NVME, &device), ==, 0);
    g_assert_true(device.bridge); /* by its header */
    header[0x0e] = (char)0x80;
    g_assert_true(g_file_set_contents(config, header, sizeof(header), NULL));
    g_assert_cmpint(pci_device_read(kernel->root, NVME, &device), ==, 0);
    g_assert_false(device.bridge);

    g_assert_cmpint(bind_to(kernel, BRIDGE, "vfio-pci"), ==, -EINVAL);
}

static void test_list(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    g_autofree HostDevice *devices = NULL;
    size_t n = 0;
    add_device(kernel->root, "10000:01:00.0", "0x010802\n", 12);
    add_device(kernel->root, "2000:01:00.0", "0x010802\n", 13);
    tree_write(kernel->root, "", "sys/bus/pci/devices/not-a-device/vendor");
    g_assert_cmpint(kernel->host->ops->devices(kernel->host, &devices, &n), ==, 0);
    g_assert_cmpuint(n, ==, 4);
    g_assert_cmpstr(devices[0].address, ==, BRIDGE);
    g_assert_cmpstr(devices[1].address, ==, NVME);
    g_assert_cmpstr(devices[2].address, ==, "2000:01:00.0");
    g_assert_cmpstr(devices[3].address, ==, "10000:01:00.0");
}

static void test_list_empty(void)
{
    g_autofree HostDevice *devices = NULL;
    size_t n = 1;
    char *root = tree_new();
    Host *host;
    g_assert_cmpint(linux_host_new(root, &host), ==, 0);
    g_assert_cmpint(host->ops->devices(host, &devices, &n), ==, 0);
    g_assert_cmpuint(n, ==, 0);
    host_free(host);
    tree_remove(root);
}

static void test_bind_and_restore(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    assert_driver(kernel, "vfio-pci", "vfio-pci");
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    g_assert_cmpint(restore(kernel, NVME, "nvme"), ==, 0);
    assert_driver(kernel, "nvme", "");

    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    g_assert_cmpint(restore(kernel, NVME, ""), ==, 0);
    assert_driver(kernel, "nvme", "");
    /* An ordinary driver gets no override: the kernel must look into its table. */
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    g_assert_cmpint(bind_to(kernel, NVME, "nvme"), ==, 0);
    assert_driver(kernel, "nvme", "");
    /* A driver that the kernel chose is not taken away to let it choose. */
    remove_file(kernel, "sys/bus/pci/drivers/nvme/unbind");
    g_assert_cmpint(restore(kernel, NVME, ""), ==, 0);
}

static void test_bind_without_driver(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    clear_driver(kernel->root, NVME);
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    assert_driver(kernel, "vfio-pci", "vfio-pci");
}

static void test_bind_refusals(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    static const char *const names[] = {"", ".", "..", "../nvme", "a b", "x/y"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        g_assert_cmpint(bind_to(kernel, NVME, names[i]), ==, -EINVAL);
    g_assert_cmpint(bind_to(kernel, NVME, "xfio-pci"), ==, -ENOENT);
    g_assert_cmpint(bind_to(kernel, "0000:7f:00.0", "vfio-pci"), ==, -ENODEV);
    g_assert_cmpint(bind_to(kernel, "7f:00.0", "vfio-pci"), ==, -EINVAL);
    g_assert_cmpint(restore(kernel, NVME, "e1000e"), ==, -ENOENT);
    assert_driver(kernel, "nvme", "");
}

/* The new driver's probe fails: the write succeeds here, but no driver appears. */
static void test_bind_fails(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    g_atomic_int_set(&kernel->refuses, 1);
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, -EIO);
    assert_driver(kernel, "nvme", "");
    g_atomic_int_set(&kernel->refuses, 0);
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
}

/* The writes themselves fail, at each step. */
static void test_writes_fail(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    remove_file(kernel, "sys/bus/pci/drivers/vfio-pci/bind");
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, -ENOENT);
    assert_driver(kernel, "nvme", "");
    remove_file(kernel, "sys/bus/pci/drivers/nvme/unbind");
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, -ENOENT);
    assert_driver(kernel, "nvme", "");
    remove_file(kernel, "sys/bus/pci/devices/" NVME "/driver_override");
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, -ENOENT);
    assert_driver(kernel, "nvme", "");
}

static void test_rollback_keeps_override(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    tree_write(kernel->root, "nvme\n", "sys/bus/pci/devices/" NVME "/driver_override");
    g_atomic_int_set(&kernel->refuses, 1);
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, -EIO);
    assert_driver(kernel, "nvme", "nvme");
}

/* A process has the VFIO device open: taking the driver away would wait for it for ever. */
static void test_in_use(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    tree_link(kernel->root, "/dev/null", "dev/vfio/devices/vfio7");
    g_autofree char *node = g_build_filename(kernel->root, "dev/vfio/devices/vfio7", NULL);
    tree_link(kernel->root, "/dev/zero", "proc/42/fd/3");
    tree_link(kernel->root, "/dev/null", "proc/42/fd/4"); /* its name is not VFIO's */
    g_assert_cmpint(restore(kernel, NVME, "nvme"), ==, 0);
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);

    tree_link(kernel->root, node, "proc/42/fd/5");
    g_assert_cmpint(restore(kernel, NVME, "nvme"), ==, -EBUSY);
    g_assert_cmpint(restore(kernel, NVME, ""), ==, -EBUSY);
    g_assert_cmpint(bind_to(kernel, NVME, "nvme"), ==, -EBUSY);
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    assert_driver(kernel, "vfio-pci", "vfio-pci");
}

/* The same through the device of its group, as legacy VFIO opens it. */
static void test_group_in_use(void)
{
    g_autoptr(Kernel) kernel = kernel_new();
    g_assert_cmpint(bind_to(kernel, NVME, "vfio-pci"), ==, 0);
    tree_link(kernel->root, "/dev/full", "dev/vfio/11");
    g_autofree char *node = g_build_filename(kernel->root, "dev/vfio/11", NULL);
    tree_write(kernel->root, "1:7\n", "sys/class/vfio/11/dev");
    tree_link(kernel->root, node, "proc/42/fd/5");
    g_assert_cmpint(restore(kernel, NVME, "nvme"), ==, -EBUSY);
    assert_driver(kernel, "vfio-pci", "vfio-pci");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kernel/pci/read", test_read);
    g_test_add_func("/kernel/pci/no-group", test_no_group);
    g_test_add_func("/kernel/pci/bridge", test_bridge);
    g_test_add_func("/kernel/pci/list", test_list);
    g_test_add_func("/kernel/pci/list-empty", test_list_empty);
    g_test_add_func("/kernel/pci/bind-and-restore", test_bind_and_restore);
    g_test_add_func("/kernel/pci/bind-without-driver", test_bind_without_driver);
    g_test_add_func("/kernel/pci/bind-refusals", test_bind_refusals);
    g_test_add_func("/kernel/pci/bind-fails", test_bind_fails);
    g_test_add_func("/kernel/pci/writes-fail", test_writes_fail);
    g_test_add_func("/kernel/pci/rollback-keeps-override", test_rollback_keeps_override);
    g_test_add_func("/kernel/pci/in-use", test_in_use);
    g_test_add_func("/kernel/pci/group-in-use", test_group_in_use);
    return g_test_run();
}
