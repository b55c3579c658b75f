/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files behind config.h: config.c knows what is in them, this file where they are. */
#include "policy/config.h"

#include "kernel/base/cleanup.h"
#include "policy/size.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_NAME "iommud.conf"
#define TENANTS_NAME "tenants.d"
#define SUFFIX ".conf"
#define FILE_SIZE_MAX (1024 * 1024)

/* Those that hand an IOMMUFD from iommud to a machine: systemd keeps it, the bus and the agent
 * carry it, libvirt gives it to QEMU. */
static const char *const default_relay_units[] = {
    "dbus.service",     "dbus-broker.service", "iommud-libvirt.service",
    "libvirtd.service", "virtqemud.service",   NULL,
};

Config *config_new(void)
{
    Config *config = g_new0(Config, 1);
    config->budget = SIZE_INFINITY;
    config->budget_percent = 100;
    config->admission_timeout = 600;
    config->guard = GUARD_KNOWN;
    config->require_guard = true;
    config->direct_open = true;
    config->max_iommufds = 4096;
    config->max_objects = config->max_mappings = 65536;
    config->max_processes = 8192;
    config->relay_units = g_strdupv((char **)default_relay_units);
    config->tenants = g_ptr_array_new_with_free_func((GDestroyNotify)tenant_config_free);
    return config;
}

void config_free(Config *config)
{
    if (!config)
        return;
    g_ptr_array_unref(config->tenants);
    g_free(config->default_tenant);
    g_strfreev(config->relay_units);
    g_free(config);
}

/*
 *   budget = floor(memory_total * percent / 100)
 *          = memory_total / 100 * percent + memory_total % 100 * percent / 100,
 *
 * which has no overflow, for percent <= 100.
 */
uint64_t config_host_budget(const Config *config, uint64_t memory_total)
{
    uint64_t percent = config->budget_percent;
    if (percent == 0)
        return config->budget;
    return memory_total / 100 * percent + memory_total % 100 * percent / 100;
}

/* ---- reading ---- */

static gboolean refuse_file(const char *path, const char *reason, GError **error)
{
    g_autofree char *name = g_filename_display_name(path);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "File %s can't be read: %s: correct or remove it.", name, reason);
    return FALSE;
}

/* *ret_data is NULL when there is no such file. */
static gboolean read_file(const char *path, char **ret_data, size_t *ret_length, GError **error)
{
    /* Asked before it is opened: opening a FIFO would hang the service. */
    struct stat st;
    *ret_data = NULL;
    *ret_length = 0;
    if (stat(path, &st) < 0)
        return errno == ENOENT || refuse_file(path, g_strerror(errno), error);
    if (!S_ISREG(st.st_mode))
        return refuse_file(path, "it is not a regular file", error);
    if (st.st_size > FILE_SIZE_MAX)
        return refuse_file(path, "it is larger than 1 MiB", error);
    g_autoptr(GError) wrong = NULL;
    if (g_file_get_contents(path, ret_data, ret_length, &wrong))
        return TRUE;
    return refuse_file(path, wrong->message, error);
}

static gboolean load_main(Config *config, const char *config_dir, GError **error)
{
    g_autofree char *path = g_build_filename(config_dir, CONFIG_NAME, NULL);
    g_autofree char *name = g_filename_display_name(path);
    g_autofree char *data = NULL;
    size_t length;
    if (!read_file(path, &data, &length, error))
        return FALSE;
    return !data || config_parse(config, name, data, length, error);
}

static int name_compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the tenants' files in folder, sorted. */
static GPtrArray *list_files(const char *folder, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) wrong = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &wrong);
    if (!dir && !g_error_matches(wrong, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_autofree char *name = g_filename_display_name(folder);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "Folder %s can't be read: %s: correct or remove it.", name, wrong->message);
        return NULL;
    }
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        if (name[0] != '.' && g_str_has_suffix(name, SUFFIX))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, name_compare);
    return g_steal_pointer(&names);
}

static TenantConfig *load_tenant(const char *path, const char *name, GError **error)
{
    g_autofree char *data = NULL;
    size_t length;
    if (!read_file(path, &data, &length, error))
        return NULL;
    if (!data) {
        refuse_file(path, g_strerror(ENOENT), error);
        return NULL;
    }
    return tenant_config_parse(name, data, length, error);
}

/* The tenants of one folder: id -> TenantConfig with its file as source, owned. */
static GHashTable *load_folder(const char *parent, GError **error)
{
    g_autofree char *folder = g_build_filename(parent, TENANTS_NAME, NULL);
    g_autoptr(GPtrArray) names = list_files(folder, error);
    if (!names)
        return NULL;
    g_autoptr(GHashTable) tenants =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)tenant_config_free);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(folder, names->pdata[i], NULL);
        g_autofree char *name = g_filename_display_name(path);
        g_autoptr(TenantConfig) tenant = load_tenant(path, name, error);
        if (!tenant)
            return NULL;
        const TenantConfig *other = g_hash_table_lookup(tenants, tenant->id);
        if (other) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                        "File %s, group [Tenant], key Id: tenant %s is defined in %s already: "
                        "remove one of the two files, or change its Id.",
                        name, tenant->id, other->source);
            return NULL;
        }
        tenant->source = g_steal_pointer(&name);
        char *id = tenant->id;
        g_hash_table_insert(tenants, id, g_steal_pointer(&tenant));
    }
    return g_steal_pointer(&tenants);
}

static int tenant_compare(gconstpointer a, gconstpointer b)
{
    const TenantConfig *one = *(TenantConfig *const *)a;
    const TenantConfig *other = *(TenantConfig *const *)b;
    return strcmp(one->id, other->id);
}

static void take_tenants(Config *config, GHashTable *configured, GHashTable *runtime)
{
    GHashTableIter iter;
    gpointer id;
    gpointer value;
    g_hash_table_iter_init(&iter, runtime);
    while (g_hash_table_iter_next(&iter, &id, &value)) {
        TenantConfig *tenant = value;
        if (g_hash_table_contains(configured, id))
            continue;
        g_hash_table_iter_steal(&iter);
        g_clear_pointer(&tenant->source, g_free);
        g_ptr_array_add(config->tenants, tenant);
    }
    g_hash_table_iter_init(&iter, configured);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        g_hash_table_iter_steal(&iter);
        g_ptr_array_add(config->tenants, value);
    }
    g_ptr_array_sort(config->tenants, tenant_compare);
}

Config *config_load(const char *config_dir, const char *state_dir, GError **error)
{
    g_autoptr(Config) config = config_new();
    if (!load_main(config, config_dir, error))
        return NULL;
    g_autoptr(GHashTable) configured = load_folder(config_dir, error);
    if (!configured)
        return NULL;
    g_autoptr(GHashTable) runtime = load_folder(state_dir, error);
    if (!runtime)
        return NULL;
    take_tenants(config, configured, runtime);
    return g_steal_pointer(&config);
}

/* ---- writing ---- */

static gboolean refuse_change(const char *id, const char *verb, const char *reason, GError **error)
{
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
                "The file of tenant %s can't be %s: %s: make room or correct its folder, and try "
                "again.",
                id, verb, reason);
    return FALSE;
}

/* Keeps a power failure from bringing back what was removed. */
static void sync_folder(const char *folder)
{
    autoclose int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)fsync(fd);
}

gboolean tenant_config_save(const TenantConfig *config, const char *state_dir, GError **error)
{
    if (!tenant_config_check(config, error))
        return FALSE;
    g_autofree char *folder = g_build_filename(state_dir, TENANTS_NAME, NULL);
    g_autofree char *path = g_strdup_printf("%s/%s" SUFFIX, folder, config->id);
    g_autofree char *data = tenant_config_to_data(config);
    g_autoptr(GError) wrong = NULL;
    if (g_mkdir_with_parents(folder, 0700) < 0)
        return refuse_change(config->id, "written", g_strerror(errno), error);
    /* The new file gets the mode of the old one, where there is one. */
    if (chmod(path, 0600) < 0 && errno != ENOENT)
        return refuse_change(config->id, "written", g_strerror(errno), error);
    /* By way of a file whose name does not end in SUFFIX: config_load() ignores what a crash leaves
     * of it. */
    if (!g_file_set_contents_full(path, data, -1,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, &wrong))
        return refuse_change(config->id, "written", wrong->message, error);
    return TRUE;
}

gboolean tenant_config_remove(const char *id, const char *state_dir, GError **error)
{
    if (!tenant_id_check(id, error))
        return FALSE;
    g_autofree char *folder = g_build_filename(state_dir, TENANTS_NAME, NULL);
    g_autofree char *path = g_strdup_printf("%s/%s" SUFFIX, folder, id);
    if (unlink(path) < 0 && errno != ENOENT)
        return refuse_change(id, "removed", g_strerror(errno), error);
    sync_folder(folder);
    return TRUE;
}
