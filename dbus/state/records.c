/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/state/records.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/core/tenant.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#define MACHINES "machines"
#define TENANTS "tenants"
#define DEVICES "devices"
#define GROUP_MACHINE "Machine"
#define GROUP_TENANT "Tenant"
#define GROUP_IOASES "Ioases"
#define GROUP_DEVICE "Device"
#define GROUP_NUMBERS "Numbers"
#define GROUP_LOADER "Loader"
#define NUMBERS "numbers"
#define LOADER "loader"

/* ---- files ---- */

gboolean state_prepare(const char *runtime_dir, GError **error)
{
    const char *const folders[] = {MACHINES, TENANTS, DEVICES};
    for (size_t i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *folder = g_build_filename(runtime_dir, folders[i], NULL);
        if (g_mkdir_with_parents(folder, 0700) < 0) {
            error_set_kernel(error, -errno, "The folder %s could not be made", folder);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean path_save(const char *path, GKeyFile *file, GError **error)
{
    (void)g_key_file_set_comment(file, NULL, NULL, " This is private data. Do not parse.", NULL);
    size_t length;
    g_autofree char *data = g_key_file_to_data(file, &length, NULL);
    g_autoptr(GError) failure = NULL;
    if (g_file_set_contents_full(path, data, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT, 0600,
                                 &failure))
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
                "The state file %s could not be written: %s.", path, failure->message);
    return FALSE;
}

static gboolean file_save(const Manager *manager, const char *folder, const char *name,
                          GKeyFile *file, GError **error)
{
    g_autofree char *path = g_build_filename(manager->runtime_dir, folder, name, NULL);
    return path_save(path, file, error);
}

static void file_remove(const Manager *manager, const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(manager->runtime_dir, folder, name, NULL);
    if (g_unlink(path) < 0 && errno != ENOENT)
        journal_write(LOG_WARNING, MESSAGE_STATE_NOT_WRITTEN, NULL,
                      "The state file %s could not be removed: %s.", path, g_strerror(errno));
}

static GKeyFile *file_load(const Manager *manager, const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(manager->runtime_dir, folder, name, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    return g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, NULL) ? g_steal_pointer(&file)
                                                                        : NULL;
}

/* All names, also of temporary files whose writing was cut off: those name nothing that is there,
 * and go when the others are taken up. */
static char **file_list(const Manager *manager, const char *folder)
{
    g_autofree char *path = g_build_filename(manager->runtime_dir, folder, NULL);
    GStrvBuilder *builder = g_strv_builder_new();
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        g_strv_builder_add(builder, name);
    char **names = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return names;
}

static void set_object_set(GKeyFile *file, const char *group, const char *key, const ObjectSet *set)
{
    g_auto(GStrv) strings = object_set_to_strings(set);
    g_key_file_set_string_list(file, group, key, (const char *const *)strings,
                               g_strv_length(strings));
}

static ObjectSet *get_object_set(GKeyFile *file, const char *group, const char *key)
{
    g_auto(GStrv) strings = g_key_file_get_string_list(file, group, key, NULL, NULL);
    return object_set_from_strings((const char *const *)strings);
}

/* ---- the ledger ---- */

static uint32_t get_number(GKeyFile *file, const char *group, const char *key)
{
    guint64 number = file ? g_key_file_get_uint64(file, group, key, NULL) : 0;
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

void state_load_numbers(const Manager *manager, uint32_t *ret_tenant, uint32_t *ret_machine)
{
    g_autoptr(GKeyFile) file = file_load(manager, "", NUMBERS);
    *ret_tenant = get_number(file, GROUP_NUMBERS, "Tenant");
    *ret_machine = get_number(file, GROUP_NUMBERS, "Machine");
}

gboolean state_save_numbers(const Manager *manager, uint32_t tenant, uint32_t machine,
                            GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_uint64(file, GROUP_NUMBERS, "Tenant", tenant);
    g_key_file_set_uint64(file, GROUP_NUMBERS, "Machine", machine);
    return file_save(manager, "", NUMBERS, file, error);
}

gboolean state_save_loader(const char *runtime_dir, const char *ledger, const char *guard,
                           GError **error)
{
    g_autofree char *path = g_build_filename(runtime_dir, LOADER, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_string(file, GROUP_LOADER, "Ledger", ledger);
    g_key_file_set_string(file, GROUP_LOADER, "Guard", guard);
    return path_save(path, file, error);
}

bool state_load_loader(const char *runtime_dir, char **ret_ledger, char **ret_guard)
{
    g_autofree char *path = g_build_filename(runtime_dir, LOADER, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, NULL))
        return false;
    *ret_ledger = g_key_file_get_string(file, GROUP_LOADER, "Ledger", NULL);
    *ret_guard = g_key_file_get_string(file, GROUP_LOADER, "Guard", NULL);
    return *ret_ledger && *ret_guard;
}

/* ---- machines ---- */

gboolean state_save_machine(const MachineLife *life, GError **error)
{
    const Machine *machine = life->machine;
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) devices = machine_life_devices(life);
    g_key_file_set_string(file, GROUP_MACHINE, "Name", machine->name);
    g_key_file_set_string(file, GROUP_MACHINE, "Tenant", life->tenant->id);
    g_key_file_set_uint64(file, GROUP_MACHINE, "Bytes", charge_bytes(machine->charge));
    g_key_file_set_uint64(file, GROUP_MACHINE, "LastPinned", machine->last_pinned);
    g_key_file_set_string_list(file, GROUP_MACHINE, "Devices", (const char *const *)devices,
                               g_strv_length(devices));
    g_key_file_set_boolean(file, GROUP_MACHINE, "Iommufd", machine->iommufd);
    g_key_file_set_string(file, GROUP_MACHINE, "State", machine_state_to_string(machine->state));
    g_key_file_set_int64(file, GROUP_MACHINE, "Since", machine->since);
    g_key_file_set_integer(file, GROUP_MACHINE, "Leader", (int)machine->leader);
    g_key_file_set_uint64(file, GROUP_MACHINE, "LeaderStart", life->leader_start);
    g_key_file_set_uint64(file, GROUP_MACHINE, "Number", life->number);
    g_key_file_set_boolean(file, GROUP_MACHINE, "Shares", life->shares);
    g_key_file_set_boolean(file, GROUP_MACHINE, "Inside", life->inside);
    g_key_file_set_uint64(file, GROUP_MACHINE, "Window", life->window);
    g_key_file_set_boolean(file, GROUP_MACHINE, "Known", life->known);
    set_object_set(file, GROUP_MACHINE, "Objects", life->objects);
    return file_save(life->manager, MACHINES, life->uuid, file, error);
}

void state_remove_machine(const Manager *manager, const char *uuid)
{
    file_remove(manager, MACHINES, uuid);
}

void machine_record_free(MachineRecord *record)
{
    g_free(record->uuid);
    g_free(record->name);
    g_free(record->tenant);
    g_strfreev(record->devices);
    object_set_free(record->objects);
    g_free(record);
}

/* NULL when it lacks what makes a machine. */
static MachineRecord *machine_record_read(const char *uuid, GKeyFile *file)
{
    g_autofree char *name = g_key_file_get_string(file, GROUP_MACHINE, "Name", NULL);
    g_autofree char *tenant = g_key_file_get_string(file, GROUP_MACHINE, "Tenant", NULL);
    g_autofree char *state = g_key_file_get_string(file, GROUP_MACHINE, "State", NULL);
    int number = state ? machine_state_from_string(state) : -1;
    g_auto(GStrv) listed = g_key_file_get_string_list(file, GROUP_MACHINE, "Devices", NULL, NULL);
    g_auto(GStrv) devices = device_addresses_parse((const char *const *)listed, NULL);
    if (!name || !tenant || number < 0 || !devices)
        return NULL;
    MachineRecord *record = g_new0(MachineRecord, 1);
    record->uuid = g_strdup(uuid);
    record->name = g_steal_pointer(&name);
    record->tenant = g_steal_pointer(&tenant);
    record->state = (MachineState)number;
    record->devices = g_steal_pointer(&devices);
    record->bytes = g_key_file_get_uint64(file, GROUP_MACHINE, "Bytes", NULL);
    record->last_pinned = g_key_file_get_uint64(file, GROUP_MACHINE, "LastPinned", NULL);
    record->iommufd = g_key_file_get_boolean(file, GROUP_MACHINE, "Iommufd", NULL);
    record->since = g_key_file_get_int64(file, GROUP_MACHINE, "Since", NULL);
    record->leader = (pid_t)g_key_file_get_integer(file, GROUP_MACHINE, "Leader", NULL);
    record->leader_start = g_key_file_get_uint64(file, GROUP_MACHINE, "LeaderStart", NULL);
    record->number = get_number(file, GROUP_MACHINE, "Number");
    record->shares = g_key_file_get_boolean(file, GROUP_MACHINE, "Shares", NULL);
    record->shares_as_tenant =
        record->iommufd && !g_key_file_has_key(file, GROUP_MACHINE, "Shares", NULL);
    record->inside = g_key_file_get_boolean(file, GROUP_MACHINE, "Inside", NULL);
    record->window = g_key_file_get_uint64(file, GROUP_MACHINE, "Window", NULL);
    record->known = g_key_file_get_boolean(file, GROUP_MACHINE, "Known", NULL);
    record->objects = get_object_set(file, GROUP_MACHINE, "Objects");
    return record;
}

GPtrArray *state_load_machines(const Manager *manager)
{
    GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)machine_record_free);
    g_auto(GStrv) names = file_list(manager, MACHINES);
    for (char **name = names; *name; name++) {
        g_autofree char *uuid = machine_uuid_parse(*name, NULL);
        g_autoptr(GKeyFile) file = uuid ? file_load(manager, MACHINES, *name) : NULL;
        MachineRecord *record = file ? machine_record_read(uuid, file) : NULL;
        if (record) {
            g_ptr_array_add(records, record);
            continue;
        }
        journal_write(LOG_WARNING, MESSAGE_STATE_NOT_READ, NULL,
                      "The state file %s/" MACHINES "/%s can't be understood: removed it.",
                      manager->runtime_dir, *name);
        file_remove(manager, MACHINES, *name);
    }
    return records;
}

/* ---- tenants ---- */

void state_save_tenant(const TenantLife *life)
{
    const TenantConfig *config = life->tenant->config;
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_uint64(file, GROUP_TENANT, "PeakPinned", life->peak_pinned);
    g_key_file_set_uint64(file, GROUP_TENANT, "Number", life->number);
    g_key_file_set_string(file, GROUP_TENANT, "Isolation", isolation_to_string(config->isolation));
    g_key_file_set_string(file, GROUP_TENANT, "Accounting",
                          accounting_to_string(config->accounting));
    g_key_file_set_uint64(file, GROUP_TENANT, "Window", life->window);
    g_key_file_set_integer(file, GROUP_TENANT, "Entered", (int)life->entered);
    if (life->settled)
        set_object_set(file, GROUP_TENANT, "Settled", life->settled);
    GHashTableIter iter;
    void *ioas;
    g_hash_table_iter_init(&iter, life->ioases);
    while (g_hash_table_iter_next(&iter, NULL, &ioas)) {
        g_autofree char *id = g_strdup_printf("%u", ((Ioas *)ioas)->id);
        g_key_file_set_uint64(file, GROUP_IOASES, id, charge_bytes(((Ioas *)ioas)->charge));
    }
    g_autoptr(GError) error = NULL;
    if (!file_save(life->manager, TENANTS, life->id, file, &error))
        journal_write(LOG_WARNING, MESSAGE_STATE_NOT_WRITTEN, &(JournalAbout){.tenant = life->id},
                      "%s", error->message);
}

void state_remove_tenant(const Manager *manager, const char *id)
{
    file_remove(manager, TENANTS, id);
}

char **state_list_tenants(const Manager *manager)
{
    return file_list(manager, TENANTS);
}

void tenant_record_free(TenantRecord *record)
{
    object_set_free(record->settled);
    g_hash_table_unref(record->ioases);
    g_free(record);
}

static void read_ioases(GKeyFile *file, GHashTable *ioases)
{
    g_auto(GStrv) ids = g_key_file_get_keys(file, GROUP_IOASES, NULL, NULL);
    for (char **id = ids; id && *id; id++) {
        uint64_t *bytes = g_new(uint64_t, 1);
        *bytes = g_key_file_get_uint64(file, GROUP_IOASES, *id, NULL);
        g_hash_table_insert(ioases, GUINT_TO_POINTER(g_ascii_strtoull(*id, NULL, 10)), bytes);
    }
}

TenantRecord *state_load_tenant(const Manager *manager, const char *id)
{
    g_autoptr(GKeyFile) file = file_load(manager, TENANTS, id);
    if (!file)
        return NULL;
    g_autofree char *isolation = g_key_file_get_string(file, GROUP_TENANT, "Isolation", NULL);
    g_autofree char *accounting = g_key_file_get_string(file, GROUP_TENANT, "Accounting", NULL);
    TenantRecord *record = g_new0(TenantRecord, 1);
    record->peak_pinned = g_key_file_get_uint64(file, GROUP_TENANT, "PeakPinned", NULL);
    record->number = get_number(file, GROUP_TENANT, "Number");
    record->isolation = g_strcmp0(isolation, isolation_to_string(ISOLATION_MACHINE)) == 0
                            ? ISOLATION_MACHINE
                            : ISOLATION_TENANT;
    record->accounting = g_strcmp0(accounting, accounting_to_string(HOST_ACCOUNTING_USER)) == 0
                             ? HOST_ACCOUNTING_USER
                             : HOST_ACCOUNTING_PROCESS;
    record->window = g_key_file_get_uint64(file, GROUP_TENANT, "Window", NULL);
    record->entered = (unsigned)g_key_file_get_integer(file, GROUP_TENANT, "Entered", NULL);
    record->settled = get_object_set(file, GROUP_TENANT, "Settled");
    record->ioases = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    read_ioases(file, record->ioases);
    return record;
}

/* ---- devices ---- */

gboolean state_save_device(const Manager *manager, const char *address, const char *driver,
                           GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_string(file, GROUP_DEVICE, "Driver", driver);
    return file_save(manager, DEVICES, address, file, error);
}

char *state_load_device(const Manager *manager, const char *address)
{
    g_autoptr(GKeyFile) file = file_load(manager, DEVICES, address);
    return file ? g_key_file_get_string(file, GROUP_DEVICE, "Driver", NULL) : NULL;
}

void state_remove_device(const Manager *manager, const char *address)
{
    file_remove(manager, DEVICES, address);
}
