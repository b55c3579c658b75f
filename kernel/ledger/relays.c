/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/relays.h"

#include <errno.h>
#include <systemd/sd-login.h>

#include "kernel/ledger/cgroups.h"
#include "kernel/ledger/identities.h"
#include "kernel/ledger/unit-cgroups.h"

typedef struct {
    const uint64_t *kept;
    size_t n;
    GArray *others;
} Relays;

static int note_relay(const void *key, const void *value, void *data)
{
    Relays *relays = data;
    uint64_t cgroup = *(const uint64_t *)key;

    if (*(const uint32_t *)value != LEDGER_RELAY)
        return 0;
    for (size_t i = 0; i < relays->n; i++) {
        if (relays->kept[i] == cgroup)
            return 0;
    }
    g_array_append_val(relays->others, cgroup);
    return 0;
}

int ledger_keep_relays(Ledger *ledger, const uint64_t *cgroups, size_t n)
{
    g_autoptr(GArray) others = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    Relays relays = {cgroups, n, others};

    int r = map_each(bpf_ledger(ledger), MAP_CGROUPS, note_relay, &relays);
    for (guint i = 0; i < others->len; i++)
        ledger_remove_cgroup(ledger, g_array_index(others, uint64_t, i));
    return r;
}

/* A unit that is started again may have another cgroup than before. */
static void trust_unit(Ledger *ledger, const char *unit)
{
    GHashTable *relays = bpf_ledger(ledger)->relays;
    const uint64_t *before = g_hash_table_lookup(relays, unit);
    uint64_t cgroup = 0;

    cgroup_find_unit("", unit, &cgroup);
    if (before && cgroup != *before) {
        ledger_remove_cgroup(ledger, *before);
        g_hash_table_remove(relays, unit);
        before = NULL;
    }
    if (cgroup && !before && !ledger_add_cgroup(ledger, cgroup, LEDGER_RELAY))
        g_hash_table_insert(relays, g_strdup(unit), g_memdup2(&cgroup, sizeof(cgroup)));
}

static void trust_units(Ledger *ledger)
{
    for (char **unit = bpf_ledger(ledger)->relay_units; *unit; unit++)
        trust_unit(ledger, *unit);
}

int ledger_set_relay_units(Ledger *ledger, const char *const *units)
{
    g_autoptr(GArray) kept = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    BpfLedger *self = bpf_ledger(ledger);
    GHashTableIter iter;
    gpointer cgroup;

    if (!ledger->status.guarding)
        return -EOPNOTSUPP;
    g_strfreev(self->relay_units);
    self->relay_units = g_strdupv((char **)units);
    g_hash_table_remove_all(self->relays);
    trust_units(ledger);
    g_hash_table_iter_init(&iter, self->relays);
    while (g_hash_table_iter_next(&iter, NULL, &cgroup))
        g_array_append_vals(kept, cgroup, 1);
    return ledger_keep_relays(ledger, (const uint64_t *)(void *)kept->data, kept->len);
}

int ledger_trust_relay(Ledger *ledger, pid_t pid, uint64_t start)
{
    return ledger_trust_process(ledger, pid, start, LEDGER_ROLE_RELAY);
}

static bool is_relay(const BpfLedger *self, pid_t pid)
{
    g_autofree char *unit = NULL;

    return sd_pid_get_unit(pid, &unit) >= 0 &&
           g_strv_contains((const char *const *)self->relay_units, unit);
}

int ledger_allow_receiver(Ledger *ledger, pid_t pid, uint64_t start, uint32_t tenant)
{
    trust_units(ledger);
    if (is_relay(bpf_ledger(ledger), pid))
        return 0;
    return ledger_name_process(ledger, pid, start, 0, tenant);
}
