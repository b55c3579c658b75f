/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/hardware.h"

#include "kernel/host/pci.h"
#include "kernel/simulated/iommufd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_DEFAULT_MIB 65536
/* Memory of one machine must fit below the 48 bits of kernel/simulated/ioas.c. */
#define MEMORY_MAX_MIB (UINT64_C(1) << 27)
#define HOST_SECTION "Host"
#define DEVICE_SECTION "Device "

static const struct {
    const char *name;
    unsigned feature;
} feature_names[] = {
    {"iommufd", HOST_FEATURE_IOMMUFD},   {"vfio-cdev", HOST_FEATURE_VFIO_CDEV},
    {"map-file", HOST_FEATURE_MAP_FILE}, {"iommu", HOST_FEATURE_IOMMU},
    {"ledger", SIM_FEATURE_LEDGER},      {"guard", SIM_FEATURE_GUARD},
};

void sim_hardware_free(SimHardware *hardware)
{
    if (!hardware)
        return;
    g_array_unref(hardware->devices);
    g_hash_table_unref(hardware->drivers);
    g_free(hardware);
}

/* The sentence that goes with -EINVAL. */
G_GNUC_PRINTF(2, 3)
static int refuse(char **ret_error, const char *format, ...)
{
    va_list arguments;
    if (ret_error) {
        va_start(arguments, format);
        *ret_error = g_strdup_vprintf(format, arguments);
        va_end(arguments);
    }
    return -EINVAL;
}

/* The keys that read_host() and read_device() have taken are removed, so that what is left over
 * is unknown. */
static int read_number(GKeyFile *file, const char *section, const char *key, uint64_t max,
                       uint64_t *number, char **ret_error)
{
    g_autofree char *text = g_key_file_get_string(file, section, key, NULL);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || *number > max)
        return refuse(ret_error, "%s=%s in [%s] is not a number from 0 to %" G_GUINT64_FORMAT ".",
                      key, text, section, max);
    g_key_file_remove_key(file, section, key, NULL);
    return 0;
}

static int check_all_known(GKeyFile *file, const char *section, char **ret_error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, section, NULL, NULL);
    if (keys && keys[0])
        return refuse(ret_error, "[%s] has no key %s.", section, keys[0]);
    return 0;
}

static int read_features(GKeyFile *file, unsigned *features, char **ret_error)
{
    g_auto(GStrv) names = g_key_file_get_string_list(file, HOST_SECTION, "Features", NULL, NULL);
    if (!names)
        return 0;
    *features = 0;
    for (char **name = names; *name; name++) {
        size_t i = 0;
        while (i < G_N_ELEMENTS(feature_names) && strcmp(*name, feature_names[i].name) != 0)
            i++;
        if (i == G_N_ELEMENTS(feature_names))
            return refuse(ret_error, "\"%s\" in Features of [%s] is not a feature.", *name,
                          HOST_SECTION);
        *features |= feature_names[i].feature;
    }
    g_key_file_remove_key(file, HOST_SECTION, "Features", NULL);
    return 0;
}

static int read_host(GKeyFile *file, SimHardware *hardware, char **ret_error)
{
    uint64_t mib = MEMORY_DEFAULT_MIB;
    int r = read_number(file, HOST_SECTION, "MemoryMiB", MEMORY_MAX_MIB, &mib, ret_error);
    if (r == 0)
        r = read_features(file, &hardware->features, ret_error);
    if (r == 0)
        r = check_all_known(file, HOST_SECTION, ret_error);
    hardware->memory = mib << 20;
    return r;
}

static int read_driver(GKeyFile *file, const char *section, SimHardware *hardware,
                       HostDevice *device, char **ret_error)
{
    g_autofree char *driver = g_key_file_get_string(file, section, "Driver", NULL);
    if (!driver)
        return 0;
    if (strlen(driver) >= sizeof(device->driver) || strchr(driver, '/'))
        return refuse(ret_error, "Driver=%s in [%s] is not the name of a driver.", driver, section);
    strcpy(device->driver, driver);
    g_key_file_remove_key(file, section, "Driver", NULL);
    if (driver[0] != '\0')
        g_hash_table_add(hardware->drivers, g_steal_pointer(&driver));
    return 0;
}

static int read_device(GKeyFile *file, const char *section, SimHardware *hardware, char **ret_error)
{
    SimDevice sim = {.device.group = -1};
    HostDevice *device = &sim.device;
    const char *address = section + strlen(DEVICE_SECTION);
    if (!pci_address_is_canonical(address))
        return refuse(ret_error, "[%s] does not name a PCI address like 0000:01:00.0.", section);
    strcpy(device->address, address);

    uint64_t vendor = 0, product = 0, class_code = 0, group = UINT64_MAX;
    int r = read_number(file, section, "Vendor", UINT16_MAX, &vendor, ret_error);
    if (r == 0)
        r = read_number(file, section, "Product", UINT16_MAX, &product, ret_error);
    if (r == 0)
        r = read_number(file, section, "Class", 0xffffff, &class_code, ret_error);
    if (r == 0)
        r = read_number(file, section, "Group", INT32_MAX, &group, ret_error);
    if (r == 0)
        r = read_driver(file, section, hardware, device, ret_error);
    if (r < 0)
        return r;
    device->vendor = (uint16_t)vendor;
    device->product = (uint16_t)product;
    device->class_code = (uint32_t)class_code;
    if (group != UINT64_MAX)
        device->group = (int)group;

    g_autoptr(GError) error = NULL;
    device->bridge = g_key_file_get_boolean(file, section, "Bridge", &error);
    if (error && !g_error_matches(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_KEY_NOT_FOUND))
        return refuse(ret_error, "Bridge in [%s] is neither true nor false.", section);
    g_key_file_remove_key(file, section, "Bridge", NULL);

    strcpy(sim.native, device->driver);
    g_array_append_val(hardware->devices, sim);
    return check_all_known(file, section, ret_error);
}

static void device_set_driver(SimHardware *hardware, SimDevice *sim, const char *driver)
{
    HostDevice *device = &sim->device;
    g_strlcpy(device->driver, driver, sizeof(device->driver));
    device->cdev[0] = '\0';
    if (strcmp(driver, SIM_VFIO_DRIVER) == 0 && (hardware->features & HOST_FEATURE_VFIO_CDEV))
        snprintf(device->cdev, sizeof(device->cdev), "vfio%u",
                 (unsigned)(sim - (SimDevice *)hardware->devices->data));
}

static int read_sections(GKeyFile *file, SimHardware *hardware, char **ret_error)
{
    int r = read_host(file, hardware, ret_error);
    g_auto(GStrv) sections = g_key_file_get_groups(file, NULL);
    for (char **section = sections; r == 0 && *section; section++) {
        if (g_str_has_prefix(*section, DEVICE_SECTION))
            r = read_device(file, *section, hardware, ret_error);
        else if (strcmp(*section, HOST_SECTION) != 0)
            r = refuse(ret_error, "[%s] is neither [%s] nor [%sADDRESS].", *section, HOST_SECTION,
                       DEVICE_SECTION);
    }
    if (r < 0)
        return r;
    g_array_sort(hardware->devices, pci_device_compare);
    for (guint i = 0; i < hardware->devices->len; i++) {
        SimDevice *device = &g_array_index(hardware->devices, SimDevice, i);
        device_set_driver(hardware, device, device->native);
    }
    return 0;
}

int sim_hardware_read(const char *path, SimHardware **ret_hardware, char **ret_error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    gsize length;

    if (!g_file_get_contents(path, &text, &length, NULL)) {
        int r = -errno;
        if (ret_error)
            *ret_error = g_strdup_printf("Can't read the simulated host's file %s: %s.", path,
                                         g_strerror(-r));
        return r;
    }
    if (!g_key_file_load_from_data(file, text, length, G_KEY_FILE_NONE, &error))
        return refuse(ret_error, "%s is not a simulated host's file: %s.", path, error->message);

    g_autoptr(SimHardware) hardware = g_new0(SimHardware, 1);
    hardware->devices = g_array_new(FALSE, FALSE, sizeof(SimDevice));
    hardware->drivers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_add(hardware->drivers, g_strdup(SIM_VFIO_DRIVER));
    for (size_t i = 0; i < G_N_ELEMENTS(feature_names); i++)
        hardware->features |= feature_names[i].feature;

    g_autofree char *problem = NULL;
    int r = read_sections(file, hardware, &problem);
    if (r < 0)
        return refuse(ret_error, "%s: %s", path, problem);
    *ret_hardware = g_steal_pointer(&hardware);
    return 0;
}

static bool visit_binds(SimTable *table, void *data)
{
    return sim_table_binds(table, data);
}

bool sim_device_bound(SimDevice *device)
{
    return sim_iommufd_any(visit_binds, device->device.address);
}

void sim_device_settle(SimHardware *hardware, SimDevice *device)
{
    if (strcmp(device->device.driver, SIM_VFIO_DRIVER) == 0 || !sim_device_bound(device))
        return;
    device_set_driver(hardware, device, SIM_VFIO_DRIVER);
    strcpy(device->device.override, SIM_VFIO_DRIVER);
}

int sim_hardware_find(SimHardware *hardware, const char *address, SimDevice **ret_device)
{
    SimDevice key = {.device.group = -1};
    if (!pci_address_is_canonical(address))
        return -EINVAL;
    strcpy(key.device.address, address);
    SimDevice *device = NULL;
    if (hardware->devices->len > 0)
        device = bsearch(&key, hardware->devices->data, hardware->devices->len, sizeof(key),
                         pci_device_compare);
    if (!device)
        return -ENODEV;
    sim_device_settle(hardware, device);
    *ret_device = device;
    return 0;
}

static int change_driver(SimHardware *hardware, SimDevice *device, const char *override,
                         const char *driver)
{
    if (strcmp(device->device.driver, driver) != 0 && sim_device_bound(device))
        return -EBUSY;
    /* But for vfio-pci with its override a driver knows only the devices that the file gives it. */
    if (driver[0] != '\0' && override[0] == '\0' && strcmp(driver, device->native) != 0)
        return -ENODEV;
    device_set_driver(hardware, device, driver);
    g_strlcpy(device->device.override, override, sizeof(device->device.override));
    return 0;
}

int sim_hardware_bind(SimHardware *hardware, const char *address, const char *driver)
{
    SimDevice *device;
    if (driver[0] == '\0')
        return -EINVAL;
    if (!g_hash_table_contains(hardware->drivers, driver))
        return -ENOENT;
    int r = sim_hardware_find(hardware, address, &device);
    if (r < 0 || device->device.bridge)
        return r < 0 ? r : -EINVAL;
    bool any = strcmp(driver, SIM_VFIO_DRIVER) == 0;
    return change_driver(hardware, device, any ? driver : "", driver);
}

int sim_hardware_restore(SimHardware *hardware, const char *address, const char *driver)
{
    SimDevice *device;
    if (driver[0] != '\0' && !g_hash_table_contains(hardware->drivers, driver))
        return -ENOENT;
    int r = sim_hardware_find(hardware, address, &device);
    if (r < 0 || device->device.bridge)
        return r < 0 ? r : -EINVAL;
    bool chosen = device->device.driver[0] != '\0' && device->device.override[0] == '\0';
    if (driver[0] == '\0')
        driver = chosen ? device->device.driver : device->native;
    return change_driver(hardware, device, "", driver);
}
