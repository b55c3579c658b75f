/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/registry.h"

#include "kernel/base/uuid.h"
#include "policy/admission.h"
#include "policy/size.h"

#include <string.h>

struct Registry {
    RegistryTypes types;
    Budget *host;
    GHashTable *tenants;  /* id -> TenantPolicy, owned */
    GHashTable *machines; /* uuid -> MachinePolicy, owned */
    GHashTable *holders;  /* address -> MachinePolicy that holds it; the key is in its devices */
    char *default_tenant;
};

Registry *registry_new(uint64_t host_limit, const RegistryTypes *types)
{
    static const RegistryTypes plain = {
        .tenant_size = sizeof(TenantPolicy),
        .machine_size = sizeof(MachinePolicy),
    };
    Registry *registry = g_new0(Registry, 1);
    registry->types = types ? *types : plain;
    registry->host = budget_new("the host", host_limit, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED, NULL);
    budget_set_advice(registry->host,
                      "raise Budget= in iommud.conf and reload, or stop a machine of any tenant");
    registry->tenants = g_hash_table_new(g_str_hash, g_str_equal);
    registry->machines = g_hash_table_new(g_str_hash, g_str_equal);
    registry->holders = g_hash_table_new(g_str_hash, g_str_equal);
    return registry;
}

static void free_tenant(Registry *registry, TenantPolicy *tenant)
{
    if (registry->types.tenant_clear)
        registry->types.tenant_clear(tenant);
    tenant_policy_clear(tenant);
    g_free(tenant);
}

static void free_machine(Registry *registry, MachinePolicy *machine)
{
    if (registry->types.machine_clear)
        registry->types.machine_clear(machine);
    machine_policy_clear(machine);
    g_free(machine);
}

void registry_free(Registry *registry)
{
    if (!registry)
        return;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_unref(registry->holders);
    g_hash_table_iter_init(&iter, registry->machines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        MachinePolicy *machine = value;
        g_hash_table_remove(machine->tenant->machines, machine->uuid);
        free_machine(registry, machine);
    }
    g_hash_table_unref(registry->machines);
    g_hash_table_iter_init(&iter, registry->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        free_tenant(registry, value);
    g_hash_table_unref(registry->tenants);
    budget_free(registry->host);
    g_free(registry->default_tenant);
    g_free(registry);
}

Budget *registry_host_budget(Registry *registry)
{
    return registry->host;
}

const char *registry_default_tenant(Registry *registry)
{
    return registry->default_tenant;
}

static GPtrArray *table_sorted(GHashTable *table, GCompareFunc compare)
{
    GPtrArray *values = g_ptr_array_sized_new(g_hash_table_size(table));
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(values, value);
    g_ptr_array_sort(values, compare);
    return values;
}

/* ---- tenants ---- */

/* Takes config. */
static TenantPolicy *tenants_insert(Registry *registry, TenantConfig *config)
{
    TenantPolicy *tenant = g_malloc0(registry->types.tenant_size);
    tenant_policy_init(tenant, config, registry->host);
    g_hash_table_insert(registry->tenants, tenant->config->id, tenant);
    return tenant;
}

TenantPolicy *registry_add_tenant(Registry *registry, TenantConfig *config, GError **error)
{
    g_autoptr(TenantConfig) owned = config;
    if (!tenant_config_check(config, error))
        return NULL;
    if (g_hash_table_contains(registry->tenants, config->id)) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_EXISTS,
                    "There is a tenant %s already: take another id, or change that one.",
                    config->id);
        return NULL;
    }
    return tenants_insert(registry, g_steal_pointer(&owned));
}

TenantPolicy *registry_get_tenant(Registry *registry, const char *id, GError **error)
{
    TenantPolicy *tenant = id ? g_hash_table_lookup(registry->tenants, id) : NULL;
    if (!tenant) {
        g_autofree char *quoted = error_quote(id);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_TENANT,
                    "There is no tenant %s: see 'iommuctl status' for those there are, or make it "
                    "with 'iommuctl tenant create'.",
                    quoted);
    }
    return tenant;
}

TenantPolicy *registry_get_tenant_or_default(Registry *registry, const char *id, GError **error)
{
    if (!id || !*id)
        id = registry->default_tenant;
    if (id)
        return registry_get_tenant(registry, id, error);
    g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_TENANT,
                        "No tenant is named, and none is the default: name one, a domain of "
                        "libvirt's in its metadata, or set Default= in the group [Tenants] of "
                        "iommud.conf and reload the service.");
    return NULL;
}

static gboolean tenant_check_idle(const TenantPolicy *tenant, GError **error)
{
    if (!tenant_policy_is_busy(tenant))
        return TRUE;
    g_autofree char *reserved = size_format(budget_reserved(tenant->budget));
    unsigned machines = g_hash_table_size(tenant->machines);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_BUSY,
                "Tenant %s can't be removed while it has %u machine%s and %s reserved: stop its "
                "machines and unmap what was mapped for it first.",
                tenant->config->id, machines, machines == 1 ? "" : "s", reserved);
    return FALSE;
}

gboolean registry_remove_tenant(Registry *registry, const char *id, GError **error)
{
    TenantPolicy *tenant = registry_get_tenant(registry, id, error);
    if (!tenant || !tenant_check_idle(tenant, error))
        return FALSE;
    g_hash_table_remove(registry->tenants, id);
    free_tenant(registry, tenant);
    return TRUE;
}

static int tenant_compare(gconstpointer a, gconstpointer b)
{
    const TenantPolicy *one = *(TenantPolicy *const *)a;
    const TenantPolicy *other = *(TenantPolicy *const *)b;
    return strcmp(one->config->id, other->config->id);
}

GPtrArray *registry_tenants(Registry *registry)
{
    return table_sorted(registry->tenants, tenant_compare);
}

unsigned registry_count_tenants(const Registry *registry)
{
    return g_hash_table_size(registry->tenants);
}

/* ---- machines ---- */

static gboolean check_new(Registry *registry, const char *uuid, const MachinePolicy *replaced,
                          GError **error)
{
    const MachinePolicy *machine = g_hash_table_lookup(registry->machines, uuid);
    if (machine == replaced)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                "Machine %s (%s) of tenant %s is %s already: release it before it is admitted "
                "anew.",
                machine->name, machine->uuid, machine->tenant->config->id,
                machine_state_to_string(machine->state));
    return FALSE;
}

/* What admission and restoration ask first. */
static TenantPolicy *check_identity(Registry *registry, const AdmissionRequest *request,
                                    const MachinePolicy *replaced, GError **error)
{
    g_assert(uuid_is_canonical(request->uuid));
    g_assert(device_addresses_are_canonical(request->devices));
    g_assert(!replaced || g_str_equal(replaced->uuid, request->uuid));
    if (!machine_name_check(request->name, error))
        return NULL;
    TenantPolicy *tenant = registry_get_tenant_or_default(registry, request->tenant, error);
    return tenant && check_new(registry, request->uuid, replaced, error) ? tenant : NULL;
}

/* What the tenant's limit counts of it. */
static uint64_t counted_bytes(const TenantPolicy *tenant, uint64_t bytes, uint64_t unique_bytes)
{
    bool unique = tenant->config->count == COUNT_UNIQUE && unique_bytes > 0;
    return unique ? MIN(unique_bytes, bytes) : bytes;
}

/* What its charge is called. */
static char *request_title(const AdmissionRequest *request)
{
    return g_strdup_printf("machine %s (%s)", request->name, request->uuid);
}

gboolean registry_check_admission(Registry *registry, const AdmissionRequest *request,
                                  const HostDevice *host_devices, size_t n_host_devices,
                                  const MachinePolicy *replaced, TenantPolicy **ret_tenant,
                                  uint64_t *ret_bytes, GError **error)
{
    TenantPolicy *tenant = check_identity(registry, request, replaced, error);
    if (!tenant)
        return FALSE;
    const AdmissionContext context = {
        .holders = registry->holders,
        .tenant = tenant,
        .replaced = replaced,
        .iommufd = request->iommufd,
        .host_devices = host_devices,
        .n_host_devices = n_host_devices,
    };
    g_autofree char *title = request_title(request);
    uint64_t bytes = counted_bytes(tenant, request->bytes, request->unique_bytes);
    if (!admission_check(&context, request->devices, error) ||
        !charge_check(tenant->budget, bytes, title, replaced ? replaced->charge : NULL, error))
        return FALSE;
    *ret_tenant = tenant;
    *ret_bytes = bytes;
    return TRUE;
}

static void hold_devices(Registry *registry, MachinePolicy *machine)
{
    for (guint i = 0; i < machine->devices->len; i++)
        g_hash_table_insert(registry->holders, machine->devices->pdata[i], machine);
}

/* Takes charge. */
static MachinePolicy *machines_insert(Registry *registry, const AdmissionRequest *request,
                                      TenantPolicy *tenant, Charge *charge)
{
    GPtrArray *addresses = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; request->devices && request->devices[i]; i++)
        g_ptr_array_add(addresses, g_strdup(request->devices[i]));
    MachinePolicy *machine = g_malloc0(registry->types.machine_size);
    machine_policy_init(machine, request->uuid, request->name, tenant, charge, addresses);
    machine->iommufd = request->iommufd;
    g_hash_table_insert(registry->machines, machine->uuid, machine);
    g_hash_table_insert(tenant->machines, machine->uuid, machine);
    hold_devices(registry, machine);
    return machine;
}

MachinePolicy *registry_insert_admitted(Registry *registry, const AdmissionRequest *request,
                                        TenantPolicy *tenant, uint64_t bytes)
{
    g_autofree char *title = request_title(request);
    g_autoptr(GError) impossible = NULL;
    Charge *charge = charge_take(tenant->budget, bytes, title, &impossible);
    g_assert_no_error(impossible);
    return machines_insert(registry, request, tenant, charge);
}

gboolean registry_set_reservation(MachinePolicy *machine, uint64_t bytes, uint64_t unique_bytes,
                                  GError **error)
{
    return charge_resize(machine->charge, counted_bytes(machine->tenant, bytes, unique_bytes),
                         error);
}

MachinePolicy *registry_restore(Registry *registry, const AdmissionRequest *request, GError **error)
{
    const AdmissionContext context = {.holders = registry->holders};
    TenantPolicy *tenant = check_identity(registry, request, NULL, error);
    if (!tenant)
        return NULL;
    for (size_t i = 0; request->devices && request->devices[i]; i++) {
        if (!admission_check_holder(&context, request->devices[i], error))
            return NULL;
    }
    g_autofree char *title = request_title(request);
    Charge *charge = charge_restore(tenant->budget, request->bytes, title);
    if (!charge) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "The reservation of machine %s (%s) has no room in 64 bits along with those of "
                    "the others: what was saved of it is damaged.",
                    request->name, request->uuid);
        return NULL;
    }
    return machines_insert(registry, request, tenant, charge);
}

void registry_remove_machine(Registry *registry, MachinePolicy *machine)
{
    for (guint i = 0; i < machine->devices->len; i++)
        g_hash_table_remove(registry->holders, machine->devices->pdata[i]);
    g_hash_table_remove(machine->tenant->machines, machine->uuid);
    g_hash_table_remove(registry->machines, machine->uuid);
    free_machine(registry, machine);
}

MachinePolicy *registry_get_machine(Registry *registry, const char *uuid, GError **error)
{
    MachinePolicy *machine = g_hash_table_lookup(registry->machines, uuid);
    if (!machine)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE,
                    "There is no machine %s: see 'iommuctl machines' for those there are.", uuid);
    return machine;
}

unsigned registry_count_machines(const Registry *registry)
{
    return g_hash_table_size(registry->machines);
}

static int machine_compare(gconstpointer a, gconstpointer b)
{
    const MachinePolicy *one = *(MachinePolicy *const *)a;
    const MachinePolicy *other = *(MachinePolicy *const *)b;
    int order = strcmp(one->name, other->name);
    return order != 0 ? order : strcmp(one->uuid, other->uuid);
}

GPtrArray *registry_machines(Registry *registry)
{
    return table_sorted(registry->machines, machine_compare);
}

/* ---- devices ---- */

void registry_put_back_device(Registry *registry, MachinePolicy *machine, const char *address)
{
    char *added = g_strdup(address);
    guint at = 0;
    while (at < machine->devices->len && strcmp(machine->devices->pdata[at], added) < 0)
        at++;
    g_ptr_array_insert(machine->devices, (gint)at, added);
    g_hash_table_insert(registry->holders, added, machine);
}

gboolean registry_add_device(Registry *registry, MachinePolicy *machine, const char *address,
                             const HostDevice *host_devices, size_t n_host_devices, GError **error)
{
    const char *const addresses[] = {address, NULL};
    g_assert(device_addresses_are_canonical(addresses));
    if (machine->state == MACHINE_REAPING) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE,
                    "Machine %s (%s) is gone and being reaped: admit it anew with device %s.",
                    machine->name, machine->uuid, address);
        return FALSE;
    }
    const AdmissionContext context = {
        .holders = registry->holders,
        .tenant = machine->tenant,
        .machine = machine,
        .iommufd = machine->iommufd,
        .host_devices = host_devices,
        .n_host_devices = n_host_devices,
    };
    if (!admission_check(&context, addresses, error))
        return FALSE;
    registry_put_back_device(registry, machine, address);
    return TRUE;
}

gboolean registry_remove_device(Registry *registry, MachinePolicy *machine, const char *address,
                                GError **error)
{
    guint at;
    if (!g_ptr_array_find_with_equal_func(machine->devices, address, g_str_equal, &at)) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                    "Machine %s (%s) has no device %s: see 'iommuctl devices' for who holds it.",
                    machine->name, machine->uuid, address);
        return FALSE;
    }
    g_hash_table_remove(registry->holders, address);
    g_ptr_array_remove_index(machine->devices, at);
    return TRUE;
}

MachinePolicy *registry_device_holder(Registry *registry, const char *address)
{
    return g_hash_table_lookup(registry->holders, address);
}

bool registry_device_assignable(Registry *registry, const HostDevice *device,
                                const HostDevice *host_devices, size_t n_host_devices,
                                char **ret_reason)
{
    const AdmissionContext context = {
        .holders = registry->holders,
        .host_devices = host_devices,
        .n_host_devices = n_host_devices,
    };
    g_autoptr(GError) refusal = NULL;
    bool ok = admission_check_alone(&context, device, &refusal);
    *ret_reason = ok ? NULL : g_strdup(refusal->message);
    return ok;
}

/* ---- reload ---- */

/* id -> TenantConfig of config, not owned. */
static GHashTable *wanted_tenants(const Config *config, GError **error)
{
    g_autoptr(GHashTable) wanted = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < config->tenants->len; i++) {
        TenantConfig *tenant = config->tenants->pdata[i];
        if (!tenant_config_check(tenant, error))
            return NULL;
        if (!g_hash_table_insert(wanted, tenant->id, tenant)) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                        "Tenant %s is defined twice: define it once.", tenant->id);
            return NULL;
        }
    }
    return g_steal_pointer(&wanted);
}

static gboolean reload_check(GPtrArray *tenants, GHashTable *wanted, GError **error)
{
    for (guint i = 0; i < tenants->len; i++) {
        const TenantPolicy *tenant = tenants->pdata[i];
        const TenantConfig *old = tenant->config;
        const TenantConfig *now = g_hash_table_lookup(wanted, old->id);
        if (!now && !tenant_check_idle(tenant, error))
            return FALSE;
        if (now && tenant_policy_is_busy(tenant) &&
            (now->isolation != old->isolation || now->accounting != old->accounting)) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                        "Isolation and accounting of tenant %s can't change from %s and %s to %s "
                        "and %s while it has machines or mappings: stop its machines first.",
                        old->id, isolation_to_string(old->isolation),
                        accounting_to_string(old->accounting), isolation_to_string(now->isolation),
                        accounting_to_string(now->accounting));
            return FALSE;
        }
    }
    return TRUE;
}

/* Keeps, removes and adds tenants until there are those of config; nothing can fail. */
static void reload_tenants(Registry *registry, GPtrArray *tenants, const Config *config,
                           GHashTable *wanted, GPtrArray *added, GPtrArray *removed)
{
    for (guint i = 0; i < tenants->len; i++) {
        TenantPolicy *tenant = tenants->pdata[i];
        const TenantConfig *now = g_hash_table_lookup(wanted, tenant->config->id);
        if (now) {
            tenant_policy_set_config(tenant, now);
            continue;
        }
        g_ptr_array_add(removed, g_strdup(tenant->config->id));
        g_hash_table_remove(registry->tenants, tenant->config->id);
        free_tenant(registry, tenant);
    }
    for (guint i = 0; i < config->tenants->len; i++) {
        const TenantConfig *wish = config->tenants->pdata[i];
        if (g_hash_table_contains(registry->tenants, wish->id))
            continue;
        tenants_insert(registry, tenant_config_copy(wish));
        g_ptr_array_add(added, g_strdup(wish->id));
    }
}

static int id_compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

gboolean registry_reload(Registry *registry, const Config *config, uint64_t memory_total,
                         GPtrArray **ret_added, GPtrArray **ret_removed, GError **error)
{
    g_autoptr(GHashTable) wanted = wanted_tenants(config, error);
    if (!wanted)
        return FALSE;
    g_autoptr(GPtrArray) tenants = registry_tenants(registry);
    if (!reload_check(tenants, wanted, error))
        return FALSE;

    g_autoptr(GPtrArray) added = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) removed = g_ptr_array_new_with_free_func(g_free);
    budget_set_limit(registry->host, config_host_budget(config, memory_total));
    g_free(registry->default_tenant);
    registry->default_tenant = g_strdup(config->default_tenant);
    reload_tenants(registry, tenants, config, wanted, added, removed);
    g_ptr_array_sort(added, id_compare);
    if (ret_added)
        *ret_added = g_steal_pointer(&added);
    if (ret_removed)
        *ret_removed = g_steal_pointer(&removed);
    return TRUE;
}
