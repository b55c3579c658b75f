/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/config.h"

#include "policy/size.h"

#include <inttypes.h>
#include <string.h>

#define SUFFIX ".conf"

static const char *const guards[] = {
    [GUARD_OFF] = "off",
    [GUARD_KNOWN] = "known",
    [GUARD_STRICT] = "strict",
};
const EnumTable guard_table = ENUM_TABLE("a guard", guards);

/* A key of a file, and the field that it is for. */
typedef struct Rule {
    const char *group;
    const char *key;
    gboolean (*parse)(const struct Rule *rule, const char *value, void *field, GError **error);
    size_t offset;
    const void *values; /* what parse wants to know of them: an EnumTable or a Range */
} Rule;

typedef struct {
    unsigned min, max;
    const char *sentence;
} Range;

/* ---- values ---- */

static gboolean refuse_value(const char *value, const char *expected, GError **error)
{
    g_autofree char *quoted = error_quote(value);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT, "%s is not %s.", quoted,
                expected);
    return FALSE;
}

static gboolean parse_enum(const Rule *rule, const char *value, void *field, GError **error)
{
    const EnumTable *table = rule->values;
    int number = enum_from_string(table, value);
    if (number < 0) {
        g_autofree char *words = enum_alternatives(table);
        g_autofree char *expected = g_strdup_printf("%s: write %s", table->what, words);
        return refuse_value(value, expected, error);
    }
    /* All enums of ours are unsigned for the compiler: none has a negative value. */
    *(unsigned *)field = (unsigned)number;
    return TRUE;
}

static gboolean parse_range(const Rule *rule, const char *value, void *field, GError **error)
{
    const Range *range = rule->values;
    guint64 number;
    if (!g_ascii_string_to_unsigned(value, 10, range->min, range->max, &number, NULL))
        return refuse_value(value, range->sentence, error);
    *(unsigned *)field = (unsigned)number;
    return TRUE;
}

static gboolean parse_yes(const Rule *rule, const char *value, void *field, GError **error)
{
    bool yes = g_str_equal(value, "yes");
    if (!yes && !g_str_equal(value, "no"))
        return refuse_value(value, "an answer: write yes or no", error);
    *(bool *)field = yes;
    return TRUE;
}

static gboolean parse_size(const Rule *rule, const char *value, void *field, GError **error)
{
    return size_parse(value, field, error);
}

/* A list of words, each of which check accepts. */
static gboolean parse_list(const char *value, char ***field,
                           gboolean (*check)(const char *word, GError **error), GError **error)
{
    g_auto(GStrv) parts = g_strsplit(value, ";", -1);
    g_autoptr(GStrvBuilder) words = g_strv_builder_new();
    for (char **part = parts; *part; part++) {
        g_strstrip(*part);
        if (!**part)
            continue;
        if (!check(*part, error))
            return FALSE;
        g_strv_builder_add(words, *part);
    }
    g_strfreev(*field);
    *field = g_strv_builder_end(words);
    return TRUE;
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

static gboolean parse_units(const Rule *rule, const char *value, void *field, GError **error)
{
    return parse_list(value, field, unit_check, error);
}

static gboolean parse_devices(const Rule *rule, const char *value, void *field, GError **error)
{
    return parse_list(value, field, device_pattern_check, error);
}

/* The field is the whole Config: a share of the memory is kept beside the bytes. */
static gboolean parse_budget(const Rule *rule, const char *value, void *field, GError **error)
{
    Config *config = field;
    if (!g_str_has_suffix(value, "%")) {
        config->budget_percent = 0;
        return size_parse(value, &config->budget, error);
    }
    g_autofree char *number = g_strndup(value, strlen(value) - 1);
    guint64 percent;
    if (!g_ascii_string_to_unsigned(number, 10, 1, 100, &percent, NULL))
        return refuse_value(value, "a share of the host's memory: write 1% to 100%", error);
    config->budget_percent = (unsigned)percent;
    return TRUE;
}

static gboolean parse_default(const Rule *rule, const char *value, void *field, GError **error)
{
    char **id = field;
    if (*value && !tenant_id_check(value, error))
        return FALSE;
    g_free(*id);
    *id = *value ? g_strdup(value) : NULL;
    return TRUE;
}

static gboolean parse_id(const Rule *rule, const char *value, void *field, GError **error)
{
    char **id = field;
    g_free(*id);
    *id = g_strdup(value);
    return tenant_id_check(value, error);
}

/* ---- files ---- */

static const Range timeout = {1, 24 * 60 * 60, "a time: write 1 to 86400 seconds"};
static const Range capacity = {64, 4 * 1024 * 1024, "a size: write 64 to 4194304 entries"};

#define CONFIG(field) offsetof(Config, field)
static const Rule config_rules[] = {
    {"Host", "Budget", parse_budget, 0},
    {"Tenants", "Default", parse_default, CONFIG(default_tenant)},
    {"Machines", "AdmissionTimeout", parse_range, CONFIG(admission_timeout), &timeout},
    {"Kernel", "Guard", parse_enum, CONFIG(guard), &guard_table},
    {"Kernel", "RequireGuard", parse_yes, CONFIG(require_guard)},
    {"Kernel", "DirectOpen", parse_yes, CONFIG(direct_open)},
    {"Kernel", "FdRelayUnits", parse_units, CONFIG(relay_units)},
    {"Kernel", "MaxIommufds", parse_range, CONFIG(max_iommufds), &capacity},
    {"Kernel", "MaxObjects", parse_range, CONFIG(max_objects), &capacity},
    {"Kernel", "MaxMappings", parse_range, CONFIG(max_mappings), &capacity},
    {"Kernel", "MaxProcesses", parse_range, CONFIG(max_processes), &capacity},
};

#define TENANT(field) offsetof(TenantConfig, field)
static const Rule tenant_rules[] = {
    {"Tenant", "Id", parse_id, TENANT(id)},
    {"Tenant", "Limit", parse_size, TENANT(limit)},
    {"Tenant", "Count", parse_enum, TENANT(count), &count_mode_table},
    {"Tenant", "Isolation", parse_enum, TENANT(isolation), &isolation_table},
    {"Tenant", "Accounting", parse_enum, TENANT(accounting), &accounting_table},
    {"Tenant", "Devices", parse_devices, TENANT(devices)},
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
    if (!wrong && rule->parse(rule, g_strstrip(value), (char *)target + rule->offset, &wrong))
        return TRUE;
    if (wrong->domain != IOMMUD_ERROR) {
        g_autofree char *raw = g_key_file_get_value(keys, rule->group, rule->key, NULL);
        g_clear_error(&wrong);
        refuse_value(raw, "a value that can be read: correct its backslashes", &wrong);
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
                    "File %s has an unknown group %s: remove it, or correct its name.", file,
                    quoted);
        return FALSE;
    }
    g_auto(GStrv) names = g_key_file_get_keys(keys, group, NULL, NULL);
    for (char **name = names; *name; name++) {
        const Rule *rule = find_rule(rules, n_rules, group, *name);
        if (!rule) {
            g_autofree char *quoted = error_quote(*name);
            g_set_error(
                error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "File %s, group [%s] has an unknown key %s: remove it, or correct its name.", file,
                group, quoted);
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
    g_string_append_printf(data, "Count=%s\n", count_mode_to_string(config->count));
    g_string_append_printf(data, "Isolation=%s\n", isolation_to_string(config->isolation));
    g_string_append_printf(data, "Accounting=%s\n", accounting_to_string(config->accounting));
    if (config->devices) {
        g_autofree char *devices = g_strjoinv(";", config->devices);
        g_string_append_printf(data, "Devices=%s\n", devices);
    }
    return g_string_free(g_steal_pointer(&data), FALSE);
}
