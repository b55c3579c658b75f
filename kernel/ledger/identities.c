/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Telling the kernel who is who, and what is whose. */
#include "kernel/base/pci-address.h"
#include "kernel/ledger/internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

int ledger_register(Ledger *ledger, int fd, uint32_t tenant, unsigned flags, uint32_t *ret_context)
{
    struct ledger_register args = {.fd = fd, .tenant = tenant, .flags = flags};
    int r;

    r = ledger_run(ledger, CONTROL_REGISTER, &args, sizeof(args));
    if (r)
        return r;
    g_mutex_lock(&ledger->lock);
    g_hash_table_insert(ledger->tenants, GUINT_TO_POINTER(args.ret_serial),
                        GUINT_TO_POINTER(tenant));
    g_mutex_unlock(&ledger->lock);
    *ret_context = args.ret_serial;
    return 0;
}

uint32_t ledger_context_tenant(const Ledger *ledger, uint32_t context)
{
    GMutex *lock = (GMutex *)&ledger->lock;
    uint32_t tenant;

    g_mutex_lock(lock);
    tenant = GPOINTER_TO_UINT(g_hash_table_lookup(ledger->tenants, GUINT_TO_POINTER(context)));
    g_mutex_unlock(lock);
    return tenant;
}

int ledger_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes, enum ledger_count count)
{
    struct ledger_limit args = {.tenant = tenant, .limit = bytes, .count = count};

    return ledger_run(ledger, CONTROL_LIMIT, &args, sizeof(args));
}

int ledger_remove_tenant(Ledger *ledger, uint32_t tenant)
{
    return ledger_drop(ledger, MAP_TENANTS, &tenant);
}

int ledger_add_machine(Ledger *ledger, uint32_t machine, uint32_t tenant)
{
    struct ledger_machine entry = {.tenant = tenant}, was;
    int r;

    if (!machine || machine == LEDGER_CARRIER)
        return -EINVAL;
    r = ledger_add(ledger, MAP_MACHINES, &machine, &entry);
    if (r == -EEXIST && !ledger_get(ledger, MAP_MACHINES, &machine, &was) && was.tenant == tenant)
        return 0;
    return r;
}

int ledger_remove_machine(Ledger *ledger, uint32_t machine)
{
    struct ledger_forget args = {.machine = machine};

    return ledger_run(ledger, CONTROL_FORGET, &args, sizeof(args));
}

int ledger_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant, uint32_t *ret_owner)
{
    struct ledger_name args = {
        .tgid = pid,
        .start = start,
        .machine = machine,
        .tenant = tenant,
        .role = LEDGER_ROLE_USER,
    };
    int r;

    r = ledger_run(ledger, CONTROL_NAME, &args, sizeof(args));
    if (!r && ret_owner)
        *ret_owner = args.ret_owner;
    return r;
}

int ledger_trust_process(Ledger *ledger, pid_t pid, uint64_t start, enum ledger_role role)
{
    struct ledger_name args = {.tgid = pid, .start = start, .role = role};

    if (role == LEDGER_ROLE_USER)
        return -EINVAL;
    return ledger_run(ledger, CONTROL_NAME, &args, sizeof(args));
}

int ledger_add_cgroup(Ledger *ledger, uint64_t cgroup, uint32_t machine)
{
    return ledger_put(ledger, MAP_CGROUPS, &cgroup, &machine);
}

int ledger_remove_cgroup(Ledger *ledger, uint64_t cgroup)
{
    return ledger_drop(ledger, MAP_CGROUPS, &cgroup);
}

typedef struct {
    const uint64_t *kept;
    size_t n;
    GArray *others;
} Carriers;

static int note_carrier(const void *key, const void *value, void *data)
{
    Carriers *carriers = data;
    uint64_t cgroup = *(const uint64_t *)key;

    if (*(const uint32_t *)value != LEDGER_CARRIER)
        return 0;
    for (size_t i = 0; i < carriers->n; i++) {
        if (carriers->kept[i] == cgroup)
            return 0;
    }
    g_array_append_val(carriers->others, cgroup);
    return 0;
}

int ledger_keep_carriers(Ledger *ledger, const uint64_t *cgroups, size_t n)
{
    g_autoptr(GArray) others = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    Carriers carriers = {cgroups, n, others};
    int r;

    r = ledger_each(ledger, MAP_CGROUPS, note_carrier, &carriers);
    for (guint i = 0; i < others->len; i++)
        ledger_remove_cgroup(ledger, g_array_index(others, uint64_t, i));
    return r;
}

/* As the kernel names the device. */
static int name_device(const char *address, struct ledger_device_key *ret_key)
{
    size_t length = strlen(address);

    if (!pci_address_is_canonical(address) || length > LEDGER_DEVICE_NAME - 2)
        return -EINVAL;
    *ret_key = (struct ledger_device_key){0};
    memcpy(ret_key->name, address, length);
    return 0;
}

int ledger_admit_device(Ledger *ledger, const char *address, uint32_t tenant, uint32_t machine,
                        unsigned flags)
{
    struct ledger_admit args = {.tenant = tenant, .machine = machine, .flags = flags};
    int r = name_device(address, &args.device);

    return r ? r : ledger_run(ledger, CONTROL_ADMIT, &args, sizeof(args));
}

int ledger_dismiss_device(Ledger *ledger, const char *address)
{
    struct ledger_device_key key;
    int r = name_device(address, &key);

    return r ? r : ledger_drop(ledger, MAP_DEVICES, &key);
}
