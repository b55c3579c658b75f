/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/describe.h"

#include "config.h"
#include "dbus/accounting/accounting.h"
#include "dbus/base/json.h"
#include "dbus/core/machine.h"
#include "dbus/core/tenant.h"

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
    unsigned features = manager_features(manager);
    char **strings = g_new0(char *, G_N_ELEMENTS(names) + 5);
    size_t n = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (features & names[i].feature)
            strings[n++] = g_strdup(names[i].name);
    }
    if (books_count(manager->books))
        strings[n++] = g_strdup("ledger");
    if (books_guard(manager->books))
        strings[n++] = g_strdup("guard");
    if (books_guard_is_exact(manager->books))
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
    uint64_t memory = 0;
    uint64_t pinned = 0;
    (void)manager->host->ops->memory_total(manager->host, &memory);
    (void)manager->host->ops->memory_pinned(manager->host, &pinned);
    g_auto(GStrv) features = describe_features(manager);
    json_open_object(json, "host");
    json_strings(json, "features", (const char *const *)features);
    json_bytes(json, "memory_bytes", memory);
    json_bytes(json, "kernel_pinned_bytes", pinned); /* by anybody, for anything */
    json_bytes(json, "budget_bytes", budget_limit(budget));
    json_bytes(json, "reserved_bytes", budget_reserved(budget));
    json_bytes(json, "pinned_bytes", manager_pinned(manager));
    json_bytes(json, "orphaned_bytes", manager_orphaned(manager));
    add_text(json, "default_tenant", registry_default_tenant(manager->registry));
    json_string(json, "guard_state", books_guard_state(manager->books));
    add_text(json, "guard_reason", books_guard_reason(manager->books));
    json_string(json, "ledger_state", books_ledger_state(manager->books));
    add_text(json, "ledger_reason", books_ledger_reason(manager->books));
    json_bool(json, "require_guard", books_require_guard(manager->books));
    json_bytes(json, "drift_bytes", books_drift(manager->books));
    json_u64(json, "untracked_events", books_missed(manager->books));
    json_u64(json, "unknown_ioctls", books_unknown_ioctls(manager->books));
    json_close_object(json);
}

static void add_figures(Json *json, const Figures *figures)
{
    json_bytes(json, "unique_bytes", figures->unique);
    json_bytes(json, "mapped_bytes", figures->mapped);
    json_u64(json, "maps", figures->maps);
    json_u64(json, "unmaps", figures->unmaps);
    json_u64(json, "refusals", figures->refusals);
}

static void add_machine(Json *json, MachineLife *life)
{
    const Machine *machine = life->machine;
    g_auto(GStrv) devices = machine_life_devices(life);
    Figures figures;
    machine_life_figures(life, &figures);
    json_open_object(json, NULL);
    json_string(json, "uuid", machine->uuid);
    json_string(json, "name", machine->name);
    json_string(json, "state", machine_state_to_string(machine->state));
    add_id(json, "leader", machine->leader, 0);
    json_bool(json, "iommufd", machine->iommufd);
    json_bytes(json, "reserved_bytes", charge_bytes(machine->charge));
    json_bytes(json, "pinned_bytes", machine_life_pinned(life));
    json_bytes(json, "orphaned_bytes", machine_life_orphaned(life));
    json_bytes(json, "peak_bytes", figures.peak);
    add_figures(json, &figures);
    json_strings(json, "devices", (const char *const *)devices);
    json_close_object(json);
}

static void add_tenant(Json *json, TenantLife *life)
{
    const Tenant *tenant = life->tenant;
    const TenantConfig *config = tenant->config;
    Figures figures;
    tenant_life_figures(life, &figures);
    json_open_object(json, NULL);
    json_string(json, "id", life->id);
    json_bytes(json, "limit_bytes", budget_limit(tenant->budget));
    json_bytes(json, "reserved_bytes", budget_reserved(tenant->budget));
    json_bytes(json, "pinned_bytes", tenant_life_pinned(life));
    json_bytes(json, "peak_bytes", figures.peak);
    json_bytes(json, "orphaned_bytes", tenant_life_orphaned(life));
    add_figures(json, &figures);
    json_string(json, "count", count_mode_to_string(config->count));
    json_string(json, "isolation", isolation_to_string(config->isolation));
    json_string(json, "accounting_mode", accounting_to_string(config->accounting));
    add_text(json, "source", config->source);
    json_strings(json, "device_patterns", describe_device_patterns(config));
    json_open_array(json, "machines");
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len; i++)
        add_machine(json, g_ptr_array_index(machines, i));
    json_close_array(json);
    json_close_object(json);
}

static void add_device(Json *json, Manager *manager, const HostDevice *device,
                       const HostDevice *devices, size_t n)
{
    const Machine *holder = registry_device_holder(manager->registry, device->address);
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
    (void)manager_devices(manager, &devices, &n, NULL);
    json_open_object(json, NULL);
    json_string(json, "version", VERSION);
    add_host(json, manager);
    json_open_array(json, "tenants");
    for (unsigned i = 0; i < tenants->len; i++) {
        const Tenant *tenant = g_ptr_array_index(tenants, i);
        add_tenant(json, g_hash_table_lookup(manager->tenants, tenant->config->id));
    }
    json_close_array(json);
    json_open_array(json, "devices");
    for (size_t i = 0; i < n; i++)
        add_device(json, manager, &devices[i], devices, n);
    json_close_array(json);
    json_close_object(json);
    return json_finish(json);
}
