/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/state/records.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"

#include <errno.h>
#include <glib/gstdio.h>

#define MACHINES "machines"
#define TENANTS "tenants"
#define DEVICES "devices"
#define NUMBERS "numbers"
#define LOADER "loader"
#define GROUP_MACHINE "Machine"
#define GROUP_TENANT "Tenant"
#define GROUP_IOASES "Ioases"
#define GROUP_DEVICE "Device"
#define GROUP_NUMBERS "Numbers"
#define GROUP_LOADER "Loader"
#define SUFFIX_BAD ".bad"

/* ---- files ---- */

gboolean records_prepare(const char *runtime_dir, GError **error)
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

static gboolean file_save(const char *runtime_dir, const char *folder, const char *name,
                          GKeyFile *file, GError **error)
{
    g_autofree char *path = g_build_filename(runtime_dir, folder, name, NULL);
    (void)g_key_file_set_comment(file, NULL, NULL, " This is private data. Do not parse.", NULL);
    size_t length;
    g_autofree char *data = g_key_file_to_data(file, &length, NULL);
    g_autoptr(GError) failure = NULL;
    if (g_file_set_contents_full(path, data, (gssize)length, G_FILE_SET_CONTENTS_CONSISTENT, 0600,
                                 &failure))
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
                "The state file %s could not be written, and without it a restart would forget "
                "what it tells: %s. Make room there.",
                path, failure->message);
    return FALSE;
}

static void file_remove(const char *runtime_dir, const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(runtime_dir, folder, name, NULL);
    if (g_unlink(path) < 0 && errno != ENOENT)
        journal_write(
            LOG_WARNING, MESSAGE_STATE_NOT_WRITTEN, NULL,
            "The state file %s could not be removed: %s. Remove it, or the next restart takes "
            "it for true.",
            path, g_strerror(errno));
}

static GKeyFile *file_load(const char *runtime_dir, const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(runtime_dir, folder, name, NULL);
    g_autoptr(GKeyFile) file = g_key_file_new();
    return g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, NULL) ? g_steal_pointer(&file)
                                                                        : NULL;
}

/* All names, also of temporary files whose writing was cut off. */
static char **file_list(const char *runtime_dir, const char *folder)
{
    g_autofree char *path = g_build_filename(runtime_dir, folder, NULL);
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        g_strv_builder_add(builder, name);
    return g_strv_builder_end(builder);
}

static uint32_t get_u32(GKeyFile *file, const char *group, const char *key)
{
    guint64 number = file ? g_key_file_get_uint64(file, group, key, NULL) : 0;
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

/* ---- a machine ---- */

void machine_record_free(MachineRecord *record)
{
    if (!record)
        return;
    g_free(record->uuid);
    g_free(record->name);
    g_free(record->tenant);
    g_strfreev(record->devices);
    g_free(record);
}

gboolean machine_record_save(const MachineRecord *record, const char *runtime_dir, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    const char *group = GROUP_MACHINE;
    g_key_file_set_string(file, group, "Name", record->name);
    g_key_file_set_string(file, group, "Tenant", record->tenant);
    g_key_file_set_uint64(file, group, "Bytes", record->bytes);
    g_key_file_set_uint64(file, group, "LastPinned", record->last_pinned);
    g_key_file_set_string_list(file, group, "Devices", (const char *const *)record->devices,
                               g_strv_length(record->devices));
    g_key_file_set_boolean(file, group, "Iommufd", record->iommufd);
    g_key_file_set_boolean(file, group, "Shares", record->shares);
    g_key_file_set_boolean(file, group, "FollowsLimit", record->follows_limit);
    g_key_file_set_uint64(file, group, "PlugLimit", record->plug_limit);
    g_key_file_set_uint64(file, group, "PlugReserved", record->plug_reserved);
    g_key_file_set_uint64(file, group, "PlugLowered", record->plug_lowered);
    g_key_file_set_string(file, group, "State", machine_state_to_string(record->state));
    g_key_file_set_int64(file, group, "Since", record->since);
    g_key_file_set_integer(file, group, "Leader", (int)record->leader);
    g_key_file_set_uint64(file, group, "LeaderStart", record->leader_start);
    g_key_file_set_uint64(file, group, "LedgerId", record->ledger_id);
    return file_save(runtime_dir, MACHINES, record->uuid, file, error);
}

void machine_record_remove(const char *runtime_dir, const char *uuid)
{
    file_remove(runtime_dir, MACHINES, uuid);
}

/* Whether it is one that machine_record_save() may have written. */
static bool machine_record_is_valid(const MachineRecord *record)
{
    return record->name && record->tenant && record->devices && record->since >= 0 &&
           machine_name_check(record->name, NULL) && tenant_id_check(record->tenant, NULL);
}

/* NULL when it lacks what makes a machine. */
static MachineRecord *machine_record_read(const char *uuid, GKeyFile *file)
{
    const char *group = GROUP_MACHINE;
    g_autofree char *state = g_key_file_get_string(file, group, "State", NULL);
    int number = state ? machine_state_from_string(state) : -1;
    g_autoptr(MachineRecord) record = g_new0(MachineRecord, 1);
    record->uuid = g_strdup(uuid);
    record->name = g_key_file_get_string(file, group, "Name", NULL);
    record->tenant = g_key_file_get_string(file, group, "Tenant", NULL);
    g_auto(GStrv) devices = g_key_file_get_string_list(file, group, "Devices", NULL, NULL);
    record->devices = devices ? device_addresses_parse((const char *const *)devices, NULL) : NULL;
    record->since = g_key_file_get_int64(file, group, "Since", NULL);
    if (number < 0 || !machine_record_is_valid(record))
        return NULL;
    record->state = (MachineState)number;
    record->bytes = g_key_file_get_uint64(file, group, "Bytes", NULL);
    record->last_pinned = g_key_file_get_uint64(file, group, "LastPinned", NULL);
    record->iommufd = g_key_file_get_boolean(file, group, "Iommufd", NULL);
    /* Before there was a key for it, who used an IOMMUFD shared one. */
    record->shares = g_key_file_has_key(file, group, "Shares", NULL)
                         ? g_key_file_get_boolean(file, group, "Shares", NULL)
                         : record->iommufd;
    record->follows_limit = g_key_file_get_boolean(file, group, "FollowsLimit", NULL);
    record->plug_limit = g_key_file_get_uint64(file, group, "PlugLimit", NULL);
    record->plug_reserved = g_key_file_get_uint64(file, group, "PlugReserved", NULL);
    record->plug_lowered = g_key_file_get_uint64(file, group, "PlugLowered", NULL);
    record->leader = (pid_t)g_key_file_get_integer(file, group, "Leader", NULL);
    record->leader_start = g_key_file_get_uint64(file, group, "LeaderStart", NULL);
    record->ledger_id = get_u32(file, group, "LedgerId");
    return g_steal_pointer(&record);
}

/* A file whose writing was cut off goes: the one that it was to replace is there. Any other is kept
 * for whoever wants to know what has happened. */
static void set_aside(const char *runtime_dir, const char *name)
{
    g_autofree char *path = g_build_filename(runtime_dir, MACHINES, name, NULL);
    g_autofree char *aside = g_strconcat(path, SUFFIX_BAD, NULL);
    g_autofree char *uuid = machine_uuid_parse(name, NULL);
    if (!uuid) {
        file_remove(runtime_dir, MACHINES, name);
        return;
    }
    bool moved = g_rename(path, aside) == 0;
    journal_write(LOG_WARNING, MESSAGE_STATE_NOT_READ, &(JournalFields){.machine = uuid},
                  "The state file %s is damaged, and what it says of a machine is lost: its bytes "
                  "and devices are promised to nobody. %s%s.",
                  path, moved ? "It is kept as " : "It could not be renamed to ", aside);
}

GPtrArray *machine_records_load(const char *runtime_dir)
{
    GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)machine_record_free);
    g_auto(GStrv) names = file_list(runtime_dir, MACHINES);
    for (char **name = names; *name; name++) {
        if (g_str_has_suffix(*name, SUFFIX_BAD))
            continue;
        g_autofree char *uuid = machine_uuid_parse(*name, NULL);
        g_autoptr(GKeyFile) file = uuid ? file_load(runtime_dir, MACHINES, *name) : NULL;
        MachineRecord *record = file ? machine_record_read(uuid, file) : NULL;
        if (record)
            g_ptr_array_add(records, record);
        else
            set_aside(runtime_dir, *name);
    }
    return records;
}

/* ---- a tenant ---- */

TenantRecord *tenant_record_new(const char *id)
{
    TenantRecord *record = g_new0(TenantRecord, 1);
    record->id = g_strdup(id);
    record->ioases = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return record;
}

void tenant_record_free(TenantRecord *record)
{
    if (!record)
        return;
    g_hash_table_unref(record->ioases);
    g_free(record->id);
    g_free(record);
}

void tenant_record_add_ioas(TenantRecord *record, uint32_t id, uint64_t bytes)
{
    g_hash_table_insert(record->ioases, GUINT_TO_POINTER(id), g_memdup2(&bytes, sizeof(bytes)));
}

gboolean tenant_record_save(const TenantRecord *record, const char *runtime_dir, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    const char *group = GROUP_TENANT;
    g_key_file_set_uint64(file, group, "PeakPinned", record->peak_pinned);
    g_key_file_set_uint64(file, group, "LedgerId", record->ledger_id);
    g_key_file_set_uint64(file, group, "IommufdId", record->iommufd_id);
    g_key_file_set_string(file, group, "Isolation", isolation_to_string(record->isolation));
    g_key_file_set_string(file, group, "Accounting", accounting_to_string(record->accounting));
    GHashTableIter iter;
    void *id;
    void *bytes;
    g_hash_table_iter_init(&iter, record->ioases);
    while (g_hash_table_iter_next(&iter, &id, &bytes)) {
        g_autofree char *key = g_strdup_printf("%u", GPOINTER_TO_UINT(id));
        g_key_file_set_uint64(file, GROUP_IOASES, key, *(const uint64_t *)bytes);
    }
    return file_save(runtime_dir, TENANTS, record->id, file, error);
}

void tenant_record_remove(const char *runtime_dir, const char *id)
{
    file_remove(runtime_dir, TENANTS, id);
}

TenantRecord *tenant_record_load(const char *runtime_dir, const char *id)
{
    g_autoptr(GKeyFile) file = file_load(runtime_dir, TENANTS, id);
    const char *group = GROUP_TENANT;
    if (!file)
        return NULL;
    TenantRecord *record = tenant_record_new(id);
    g_autofree char *isolation = g_key_file_get_string(file, group, "Isolation", NULL);
    g_autofree char *accounting = g_key_file_get_string(file, group, "Accounting", NULL);
    record->peak_pinned = g_key_file_get_uint64(file, group, "PeakPinned", NULL);
    record->ledger_id = get_u32(file, group, "LedgerId");
    record->iommufd_id = g_key_file_get_uint64(file, group, "IommufdId", NULL);
    record->isolation = (Isolation)MAX(isolation_from_string(isolation), 0);
    record->accounting = (HostAccounting)MAX(accounting_from_string(accounting), 0);
    g_auto(GStrv) ids = g_key_file_get_keys(file, GROUP_IOASES, NULL, NULL);
    for (char **key = ids; key && *key; key++) {
        guint64 ioas;
        /* Half of a number would be another object's. */
        if (g_ascii_string_to_unsigned(*key, 10, 1, UINT32_MAX, &ioas, NULL))
            tenant_record_add_ioas(record, (uint32_t)ioas,
                                   g_key_file_get_uint64(file, GROUP_IOASES, *key, NULL));
    }
    return record;
}

char **tenant_records_list(const char *runtime_dir)
{
    return file_list(runtime_dir, TENANTS);
}

/* ---- others ---- */

gboolean device_record_save(const char *runtime_dir, const char *address, const char *driver,
                            GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_string(file, GROUP_DEVICE, "Driver", driver);
    return file_save(runtime_dir, DEVICES, address, file, error);
}

char *device_record_load(const char *runtime_dir, const char *address)
{
    g_autoptr(GKeyFile) file = file_load(runtime_dir, DEVICES, address);
    return file ? g_key_file_get_string(file, GROUP_DEVICE, "Driver", NULL) : NULL;
}

void device_record_remove(const char *runtime_dir, const char *address)
{
    file_remove(runtime_dir, DEVICES, address);
}

void numbers_record_load(const char *runtime_dir, uint32_t *ret_tenant, uint32_t *ret_machine)
{
    g_autoptr(GKeyFile) file = file_load(runtime_dir, "", NUMBERS);
    *ret_tenant = get_u32(file, GROUP_NUMBERS, "Tenant");
    *ret_machine = get_u32(file, GROUP_NUMBERS, "Machine");
}

gboolean numbers_record_save(const char *runtime_dir, uint32_t tenant, uint32_t machine,
                             GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_uint64(file, GROUP_NUMBERS, "Tenant", tenant);
    g_key_file_set_uint64(file, GROUP_NUMBERS, "Machine", machine);
    return file_save(runtime_dir, "", NUMBERS, file, error);
}

gboolean loader_record_save(const char *runtime_dir, const char *ledger, const char *guard,
                            GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_key_file_set_string(file, GROUP_LOADER, "Ledger", ledger);
    g_key_file_set_string(file, GROUP_LOADER, "Guard", guard);
    return file_save(runtime_dir, "", LOADER, file, error);
}

bool loader_record_load(const char *runtime_dir, char **ret_ledger, char **ret_guard)
{
    g_autoptr(GKeyFile) file = file_load(runtime_dir, "", LOADER);
    if (!file)
        return false;
    *ret_ledger = g_key_file_get_string(file, GROUP_LOADER, "Ledger", NULL);
    *ret_guard = g_key_file_get_string(file, GROUP_LOADER, "Guard", NULL);
    return *ret_ledger && *ret_guard;
}
