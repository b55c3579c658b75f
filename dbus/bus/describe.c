/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/describe.h"

#include "config.h"
#include "dbus/base/json.h"
#include "dbus/core/usage.h"
#include "policy/admission.h"

char **describe_features(Manager *manager)
{
    static const struct {
        unsigned feature;
        const char *name;
    } names[] = {
        {HOST_FEATURE_IOMMUFD, "iommufd"},
        {HOST_FEATURE_VFIO_CDEV, "vfio-cdev"},
        {HOST_FEATURE_MAP_FILE, "map-file"},
        {HOST_FEATURE_IOMMU, "iommu"},
    };
    const Accounting *accounting = manager->accounting;
    unsigned features = manager->features;
    char **strings = g_new0(char *, G_N_ELEMENTS(names) + 5);
    size_t n = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (features & names[i].feature)
            strings[n++] = g_strdup(names[i].name);
    }
    if (accounting_is_active(accounting))
        strings[n++] = g_strdup("ledger");
    if (accounting_guard_is_active(accounting))
        strings[n++] = g_strdup("guard");
    if (accounting_guard_rechecks(accounting))
        strings[n++] = g_strdup("guard-recheck");
    if (manager->simulated)
        strings[n++] = g_strdup("simulated");
    return strings;
}

const char *const *describe_device_patterns(const TenantConfig *config)
{
    static const char *const every[] = {"*", NULL};
    return config->devices ? (const char *const *)config->devices : every;
}

/* As everywhere in JSON, nothing is null. */
static void add_text(Json *json, const char *key, const char *text)
{
    json_string(json, key, text && *text ? text : NULL);
}

static void add_id(Json *json, const char *key, int64_t id, int64_t none)
{
    if (id == none)
        json_null(json, key);
    else
        json_i64(json, key, id);
}

static void add_host(Json *json, Manager *manager)
{
    const Budget *budget = registry_host_budget(manager->registry);
    Accounting *accounting = manager->accounting;
    Usage usage;
    uint64_t memory = 0;
    uint64_t pinned = 0;
    manager_usage(manager, &usage);
    (void)manager->host->ops->memory_total(manager->host, &memory);
    (void)manager->host->ops->memory_pinned(manager->host, &pinned);
    g_auto(GStrv) features = describe_features(manager);
    json_open_object(json, "host");
    json_strings(json, "features", (const char *const *)features);
    json_bytes(json, "memory_bytes", memory);
    json_bytes(json, "kernel_pinned_bytes", pinned); /* by anybody, for anything */
    json_bytes(json, "budget_bytes", budget_limit(budget));
    json_bytes(json, "reserved_bytes", budget_reserved(budget));
    json_bytes(json, "pinned_bytes", usage.pinned);
    json_bytes(json, "orphaned_bytes", usage.orphaned);
    add_text(json, "default_tenant", registry_default_tenant(manager->registry));
    json_string(json, "guard_state", accounting_guard_state(accounting));
    add_text(json, "guard_reason", accounting_guard_reason(accounting));
    json_string(json, "ledger_state", accounting_ledger_state(accounting));
    add_text(json, "ledger_reason", accounting_ledger_reason(accounting));
    json_bool(json, "require_guard", accounting_requires_guard(accounting));
    json_bytes(json, "drift_bytes", accounting_corrected_bytes(accounting));
    json_u64(json, "untracked_events", accounting_untracked(accounting));
    json_u64(json, "unknown_ioctls", accounting_unknown_ioctls(accounting));
    json_close_object(json);
}

static void add_usage(Json *json, const Usage *usage)
{
    json_bytes(json, "pinned_bytes", usage->pinned);
    json_bytes(json, "orphaned_bytes", usage->orphaned);
    json_bytes(json, "peak_bytes", usage->peak);
    json_bytes(json, "unique_bytes", usage->unique);
    json_bytes(json, "mapped_bytes", usage->mapped);
    json_u64(json, "maps", usage->maps);
    json_u64(json, "unmaps", usage->unmaps);
    json_u64(json, "refusals", usage->refusals);
}

static void add_machine(Json *json, const Machine *machine)
{
    const MachinePolicy *policy = &machine->policy;
    g_auto(GStrv) devices = machine_devices(machine);
    Usage usage;
    machine_usage(machine, &usage);
    json_open_object(json, NULL);
    json_string(json, "uuid", policy->uuid);
    json_string(json, "name", policy->name);
    json_string(json, "state", machine_state_to_string(policy->state));
    add_id(json, "leader", machine->leader.pid, 0);
    json_bool(json, "iommufd", policy->iommufd);
    json_bytes(json, "reserved_bytes", charge_bytes(policy->charge));
    add_usage(json, &usage);
    json_strings(json, "devices", (const char *const *)devices);
    json_close_object(json);
}

static void add_tenant(Json *json, const Tenant *tenant)
{
    const TenantConfig *config = tenant->policy.config;
    Usage usage;
    tenant_usage(tenant, &usage);
    json_open_object(json, NULL);
    json_string(json, "id", config->id);
    json_bytes(json, "limit_bytes", budget_limit(tenant->policy.budget));
    json_bytes(json, "reserved_bytes", budget_reserved(tenant->policy.budget));
    add_usage(json, &usage);
    json_string(json, "count", count_mode_to_string(config->count));
    json_string(json, "isolation", isolation_to_string(config->isolation));
    json_bool(json, "shared", tenant_shares(tenant));
    json_string(json, "accounting_mode", accounting_to_string(config->accounting));
    add_text(json, "source", config->source);
    json_strings(json, "device_patterns", describe_device_patterns(config));
    json_open_array(json, "machines");
    g_autoptr(GPtrArray) machines = tenant_machines(tenant);
    for (unsigned i = 0; i < machines->len; i++)
        add_machine(json, g_ptr_array_index(machines, i));
    json_close_array(json);
    json_close_object(json);
}

static void add_device(Json *json, Manager *manager, const HostDevice *device,
                       const HostDevice *devices, size_t n)
{
    const MachinePolicy *holder = registry_device_holder(manager->registry, device->address);
    g_autofree char *reason = NULL;
    bool assignable = registry_device_assignable(manager->registry, device, devices, n, &reason);
    json_open_object(json, NULL);
    json_string(json, "address", device->address);
    json_u64(json, "vendor", device->vendor);
    json_u64(json, "product", device->product);
    json_u64(json, "class", device->class_code);
    json_bool(json, "bridge", device->bridge);
    add_id(json, "group", device->group, -1);
    add_text(json, "driver", device->driver);
    add_text(json, "cdev", device->cdev);
    json_string(json, "tenant", holder ? holder->tenant->config->id : NULL);
    json_string(json, "machine", holder ? holder->uuid : NULL);
    json_bool(json, "assignable", assignable);
    json_string(json, "reason", reason);
    json_close_object(json);
}

char *describe_host(Manager *manager)
{
    const HostDevice *devices = NULL;
    size_t n = 0;
    g_autoptr(Json) json = json_new(false);
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    (void)host_devices_list(manager->devices, &devices, &n, NULL);
    json_open_object(json, NULL);
    json_string(json, "version", VERSION);
    add_host(json, manager);
    json_open_array(json, "tenants");
    for (unsigned i = 0; i < tenants->len; i++)
        add_tenant(json, g_ptr_array_index(tenants, i));
    json_close_array(json);
    json_open_array(json, "devices");
    for (size_t i = 0; i < n; i++)
        add_device(json, manager, &devices[i], devices, n);
    json_close_array(json);
    json_close_object(json);
    return json_finish(json);
}
