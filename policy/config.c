/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/config.h"

#include "policy/size.h"

#include <inttypes.h>
#include <string.h>

#define SUFFIX ".conf"
#define TIMEOUT_MAX (24 * 60 * 60)
#define ROOM_MIN 64
#define ROOM_MAX (4 * 1024 * 1024)

static const char *const guards[_GUARD_MAX] = {
    [GUARD_OFF] = "off",
    [GUARD_KNOWN] = "known",
    [GUARD_STRICT] = "strict",
};

int guard_from_string(const char *text)
{
    for (int i = 0; i < _GUARD_MAX; i++) {
        if (g_strcmp0(guards[i], text) == 0)
            return i;
    }
    return -1;
}

/* ---- values ---- */

static gboolean refuse_value(const char *value, const char *expected, GError **error)
{
    g_autofree char *quoted = error_quote(value);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT, "%s is not %s.", quoted,
                expected);
    return FALSE;
}

static gboolean parse_number(const char *value, unsigned min, unsigned max, unsigned *ret_number)
{
    guint64 number;
    if (!g_ascii_string_to_unsigned(value, 10, min, max, &number, NULL))
        return FALSE;
    *ret_number = (unsigned)number;
    return TRUE;
}

static gboolean parse_budget(const char *value, void *target, GError **error)
{
    Config *config = target;
    if (!g_str_has_suffix(value, "%")) {
        config->budget_percent = 0;
        return size_parse(value, &config->budget, error);
    }
    g_autofree char *number = g_strndup(value, strlen(value) - 1);
    if (!parse_number(number, 1, 100, &config->budget_percent))
        return refuse_value(value, "a share of the host's memory: write 1% to 100%", error);
    return TRUE;
}

static gboolean parse_default(const char *value, void *target, GError **error)
{
    Config *config = target;
    if (*value && !tenant_id_check(value, error))
        return FALSE;
    g_free(config->default_tenant);
    config->default_tenant = *value ? g_strdup(value) : NULL;
    return TRUE;
}

static gboolean parse_timeout(const char *value, void *target, GError **error)
{
    Config *config = target;
    if (!parse_number(value, 1, TIMEOUT_MAX, &config->admission_timeout))
        return refuse_value(value, "a time: write 1 to 86400 seconds", error);
    return TRUE;
}

static gboolean parse_guard(const char *value, void *target, GError **error)
{
    Config *config = target;
    int guard = guard_from_string(value);
    if (guard < 0)
        return refuse_value(value, "a guard: write off, known or strict", error);
    config->guard = (Guard)guard;
    return TRUE;
}

static gboolean parse_yes(const char *value, bool *target, GError **error)
{
    bool yes = g_str_equal(value, "yes");
    if (!yes && !g_str_equal(value, "no"))
        return refuse_value(value, "an answer: write yes or no", error);
    *target = yes;
    return TRUE;
}

static gboolean parse_require_guard(const char *value, void *target, GError **error)
{
    return parse_yes(value, &((Config *)target)->require_guard, error);
}

static gboolean parse_direct_open(const char *value, void *target, GError **error)
{
    return parse_yes(value, &((Config *)target)->direct_open, error);
}

/* A unit's name, never a path: it becomes a part of one. */
static gboolean unit_check(const char *unit, GError **error)
{
    size_t length = strlen(unit);
    bool ok = length <= 255 && unit[0] != '.' && strchr(unit, '.');
    for (size_t i = 0; ok && i < length; i++)
        ok = g_ascii_isalnum(unit[i]) || strchr(":-_.\\@", unit[i]);
    return ok || refuse_value(unit, "the name of a systemd unit, such as libvirtd.service", error);
}

static gboolean parse_carriers(const char *value, void *target, GError **error)
{
    Config *config = target;
    g_auto(GStrv) parts = g_strsplit(value, ";", -1);
    g_autoptr(GStrvBuilder) units = g_strv_builder_new();
    for (char **part = parts; *part; part++) {
        g_strstrip(*part);
        if (!**part)
            continue;
        if (!unit_check(*part, error))
            return FALSE;
        g_strv_builder_add(units, *part);
    }
    g_strfreev(config->carriers);
    config->carriers = g_strv_builder_end(units);
    return TRUE;
}

static gboolean parse_room(const char *value, unsigned *target, GError **error)
{
    if (!parse_number(value, ROOM_MIN, ROOM_MAX, target))
        return refuse_value(value, "a size: write 64 to 4194304 entries", error);
    return TRUE;
}

static gboolean parse_max_iommufds(const char *value, void *target, GError **error)
{
    return parse_room(value, &((Config *)target)->max_iommufds, error);
}

static gboolean parse_max_objects(const char *value, void *target, GError **error)
{
    return parse_room(value, &((Config *)target)->max_objects, error);
}

static gboolean parse_max_mappings(const char *value, void *target, GError **error)
{
    return parse_room(value, &((Config *)target)->max_mappings, error);
}

static gboolean parse_max_processes(const char *value, void *target, GError **error)
{
    return parse_room(value, &((Config *)target)->max_processes, error);
}

static gboolean parse_id(const char *value, void *target, GError **error)
{
    TenantConfig *config = target;
    g_free(config->id);
    config->id = g_strdup(value);
    return tenant_id_check(value, error);
}

static gboolean parse_limit(const char *value, void *target, GError **error)
{
    TenantConfig *config = target;
    return size_parse(value, &config->limit, error);
}

static gboolean parse_isolation(const char *value, void *target, GError **error)
{
    TenantConfig *config = target;
    int isolation = isolation_from_string(value);
    if (isolation < 0)
        return refuse_value(value, "an isolation: write tenant or machine", error);
    config->isolation = (Isolation)isolation;
    return TRUE;
}

static gboolean parse_accounting(const char *value, void *target, GError **error)
{
    TenantConfig *config = target;
    int accounting = accounting_from_string(value);
    if (accounting < 0)
        return refuse_value(value, "an accounting: write process or user", error);
    config->accounting = (Accounting)accounting;
    return TRUE;
}

static gboolean parse_count(const char *value, void *target, GError **error)
{
    TenantConfig *config = target;
    int count = count_from_string(value);
    if (count < 0)
        return refuse_value(value, "a way to count: write charged or unique", error);
    config->count = (Count)count;
    return TRUE;
}

static gboolean parse_devices(const char *value, void *target, GError **error)
{
    TenantConfig *config = target;
    g_auto(GStrv) parts = g_strsplit(value, ";", -1);
    g_autoptr(GStrvBuilder) patterns = g_strv_builder_new();
    for (char **part = parts; *part; part++) {
        g_strstrip(*part);
        if (!**part)
            continue;
        if (!device_pattern_check(*part, error))
            return FALSE;
        g_strv_builder_add(patterns, *part);
    }
    g_strfreev(config->devices);
    config->devices = g_strv_builder_end(patterns);
    return TRUE;
}

/* ---- files ---- */

typedef struct {
    const char *group;
    const char *key;
    gboolean (*parse)(const char *value, void *target, GError **error);
} Rule;

static const Rule config_rules[] = {
    {"Host", "Budget", parse_budget},
    {"Tenants", "Default", parse_default},
    {"Machines", "AdmissionTimeout", parse_timeout},
    {"Kernel", "Guard", parse_guard},
    {"Kernel", "RequireGuard", parse_require_guard},
    {"Kernel", "DirectOpen", parse_direct_open},
    {"Kernel", "Carriers", parse_carriers},
    {"Kernel", "MaxIommufds", parse_max_iommufds},
    {"Kernel", "MaxObjects", parse_max_objects},
    {"Kernel", "MaxMappings", parse_max_mappings},
    {"Kernel", "MaxProcesses", parse_max_processes},
};

static const Rule tenant_rules[] = {
    {"Tenant", "Id", parse_id},
    {"Tenant", "Limit", parse_limit},
    {"Tenant", "Count", parse_count},
    {"Tenant", "Isolation", parse_isolation},
    {"Tenant", "Accounting", parse_accounting},
    {"Tenant", "Devices", parse_devices},
};

/* With key NULL: the first rule of the group. */
static const Rule *find_rule(const Rule *rules, size_t n_rules, const char *group, const char *key)
{
    for (size_t i = 0; i < n_rules; i++) {
        if (g_str_equal(rules[i].group, group) && (!key || g_str_equal(rules[i].key, key)))
            return &rules[i];
    }
    return NULL;
}

static gboolean apply_key(GKeyFile *keys, const Rule *rule, const char *file, void *target,
                          GError **error)
{
    g_autoptr(GError) wrong = NULL;
    g_autofree char *value = g_key_file_get_string(keys, rule->group, rule->key, &wrong);
    /* After a wrong escape GKeyFile sets the error and yet returns a value. */
    if (!wrong && rule->parse(g_strstrip(value), target, &wrong))
        return TRUE;
    if (wrong->domain != IOMMUD_ERROR) {
        g_autofree char *raw = g_key_file_get_value(keys, rule->group, rule->key, NULL);
        g_clear_error(&wrong);
        refuse_value(raw, "a value that can be read: mend its backslashes", &wrong);
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&wrong),
                               "File %s, group [%s], key %s: ", file, rule->group, rule->key);
    return FALSE;
}

static gboolean apply_group(GKeyFile *keys, const char *group, const Rule *rules, size_t n_rules,
                            const char *file, void *target, GError **error)
{
    if (!find_rule(rules, n_rules, group, NULL)) {
        g_autofree char *quoted = error_quote(group);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "File %s has an unknown group %s: remove it, or mend its name.", file, quoted);
        return FALSE;
    }
    g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, NULL);
    for (char **name = names; *name; name++) {
        const Rule *rule = find_rule(rules, n_rules, group, *name);
        if (!rule) {
            g_autofree char *quoted = error_quote(*name);
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                        "File %s, group [%s] has an unknown key %s: remove it, or mend its name.",
                        file, group, quoted);
            return FALSE;
        }
        if (!apply_key(keys, rule, file, target, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean apply_keys(GKeyFile *keys, const Rule *rules, size_t n_rules, const char *file,
                           void *target, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(keys, NULL);
    for (char **group = groups; *group; group++) {
        if (!apply_group(keys, *group, rules, n_rules, file, target, error))
            return FALSE;
    }
    return TRUE;
}

static GKeyFile *load_keys(const char *file, const char *data, size_t length, GError **error)
{
    if (!g_utf8_validate_len(data, length, NULL)) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "File %s is not UTF-8 text: save it as such.", file);
        return NULL;
    }
    g_autoptr(GKeyFile) keys = g_key_file_new();
    g_autoptr(GError) wrong = NULL;
    /* GKeyFile takes no empty data. It would drop keys such as Limit[de] without a word. */
    if (length > 0 &&
        !g_key_file_load_from_data(keys, data, length, G_KEY_FILE_KEEP_TRANSLATIONS, &wrong)) {
        g_autofree char *reason = error_quote(wrong->message);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "File %s can't be read: %s: write groups [Group] and lines Key=value only.",
                    file, reason);
        return NULL;
    }
    return g_steal_pointer(&keys);
}

gboolean config_parse(Config *config, const char *file, const char *data, size_t length,
                      GError **error)
{
    g_autoptr(GKeyFile) keys = load_keys(file, data, length, error);
    return keys && apply_keys(keys, config_rules, G_N_ELEMENTS(config_rules), file, config, error);
}

TenantConfig *tenant_config_parse(const char *file, const char *data, size_t length, GError **error)
{
    g_autoptr(GKeyFile) keys = load_keys(file, data, length, error);
    if (!keys)
        return NULL;
    g_autofree char *id = g_path_get_basename(file);
    if (g_str_has_suffix(id, SUFFIX))
        id[strlen(id) - strlen(SUFFIX)] = '\0';
    g_autoptr(TenantConfig) config = tenant_config_new(id);
    if (!apply_keys(keys, tenant_rules, G_N_ELEMENTS(tenant_rules), file, config, error))
        return NULL;
    /* A file that lost its contents must not become a tenant without a limit. */
    if (!g_key_file_has_group(keys, "Tenant")) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "File %s has no group [Tenant]: write one, or remove the file.", file);
        return NULL;
    }
    /* Without the key Id, the file's name is one. */
    g_autoptr(GError) wrong = NULL;
    if (!tenant_id_check(config->id, &wrong)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&wrong),
                                   "File %s, group [Tenant], key Id: ", file);
        return NULL;
    }
    return g_steal_pointer(&config);
}

char *tenant_config_to_data(const TenantConfig *config)
{
    g_autoptr(GString) data = g_string_new("[Tenant]\n");
    g_string_append_printf(data, "Id=%s\n", config->id);
    if (config->limit == SIZE_INFINITY)
        g_string_append(data, "Limit=infinity\n");
    else
        g_string_append_printf(data, "Limit=%" PRIu64 "\n", config->limit);
    g_string_append_printf(data, "Count=%s\n", count_to_string(config->count));
    g_string_append_printf(data, "Isolation=%s\n", isolation_to_string(config->isolation));
    g_string_append_printf(data, "Accounting=%s\n", accounting_to_string(config->accounting));
    if (config->devices) {
        g_autofree char *devices = g_strjoinv(";", config->devices);
        g_string_append_printf(data, "Devices=%s\n", devices);
    }
    return g_string_free(g_steal_pointer(&data), FALSE);
}
