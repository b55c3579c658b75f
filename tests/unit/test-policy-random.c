/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 100,000 random steps on a registry, beside a model of it that is as plain as can be. Each step's
 * outcome must be the model's, a refused step must change nothing, and after each step, for each
 * tenant and the host,
 *
 *   sum of charges == reserved,  and  reserved <= limit, or it was over the limit and did not grow.
 */
#include "policy/registry.h"
#include "tests/unit/admit.h"
#include "policy/size.h"

#include <inttypes.h>
#include <string.h>

#define PAGE UINT64_C(4096)
#define N_STEPS 100000
#define N_TENANTS 4
#define N_MACHINES 24
#define N_MAPPINGS 8
#define N_DEVICES 24
#define N_REQUESTED_MAX 3
#define ACCEPTED (-1)

typedef struct {
    MachinePolicy *machine; /* NULL: not there */
    int tenant;
    uint64_t bytes;
    bool iommufd;
    bool has[N_DEVICES];
} ModelMachine;

/* A charge of a tenant's without a machine. */
typedef struct {
    Charge *charge;
    int tenant;
    uint64_t bytes;
} ModelMapping;

typedef struct {
    Registry *registry;
    TenantPolicy *tenants[N_TENANTS];
    uint64_t limits[N_TENANTS];
    uint64_t host_limit;
    uint64_t last_reserved[N_TENANTS + 1];
    ModelMachine machines[N_MACHINES];
    ModelMapping mappings[N_MAPPINGS];
    HostDevice host[N_DEVICES];
    unsigned accepted;
    unsigned refused[_IOMMUD_ERROR_MAX];
    unsigned replaced[2]; /* refused and accepted */
} Model;

/* ---- the model's answers ---- */

static uint64_t reserved_by(const Model *model, int tenant)
{
    uint64_t sum = 0;
    for (int i = 0; i < N_MACHINES; i++) {
        if (model->machines[i].machine && model->machines[i].tenant == tenant)
            sum += model->machines[i].bytes;
    }
    for (int i = 0; i < N_MAPPINGS; i++) {
        if (model->mappings[i].charge && model->mappings[i].tenant == tenant)
            sum += model->mappings[i].bytes;
    }
    return sum;
}

static uint64_t reserved_by_all(const Model *model)
{
    uint64_t sum = 0;
    for (int i = 0; i < N_TENANTS; i++)
        sum += reserved_by(model, i);
    return sum;
}

/* Sums stay far below 2^64 here; single sizes may be anything. */
static bool has_room(uint64_t reserved, uint64_t limit, uint64_t more)
{
    return reserved <= limit && more <= limit - reserved;
}

static int expect_charge(const Model *model, int tenant, uint64_t more)
{
    if (!has_room(reserved_by(model, tenant), model->limits[tenant], more))
        return IOMMUD_ERROR_LIMIT_EXCEEDED;
    if (!has_room(reserved_by_all(model), model->host_limit, more))
        return IOMMUD_ERROR_HOST_BUDGET_EXCEEDED;
    return ACCEPTED;
}

static const ModelMachine *holder_of(const Model *model, int device)
{
    for (int i = 0; i < N_MACHINES; i++) {
        if (model->machines[i].machine && model->machines[i].has[device])
            return &model->machines[i];
    }
    return NULL;
}

static bool group_is_open(const Model *model, const ModelMachine *who, int member)
{
    const char *driver = model->host[member].driver;
    const ModelMachine *holder = holder_of(model, member);
    if (!holder)
        return !*driver || strcmp(driver, "pci-stub") == 0 || strncmp(driver, "vfio", 4) == 0;
    if (holder == who)
        return true;
    return holder->tenant == who->tenant && holder->iommufd && who->iommufd &&
           model->tenants[who->tenant]->config->isolation == ISOLATION_TENANT;
}

/* wanted: the devices asked for; who: the machine as it would be, in its place in the model. */
static int expect_devices(const Model *model, const ModelMachine *who, const bool *wanted)
{
    for (int i = 0; i < N_DEVICES; i++) {
        if (wanted[i] && (model->host[i].bridge || (who->tenant == 3 && i % 5 == 0)))
            return IOMMUD_ERROR_DEVICE_DENIED;
    }
    for (int i = 0; i < N_DEVICES; i++) {
        if (wanted[i] && model->host[i].group < 0)
            return IOMMUD_ERROR_NOT_SUPPORTED;
        if (wanted[i] && holder_of(model, i))
            return IOMMUD_ERROR_DEVICE_BUSY;
    }
    for (int i = 0; i < N_DEVICES; i++) {
        for (int j = 0; wanted[i] && j < N_DEVICES; j++) {
            if (!wanted[j] && !model->host[j].bridge &&
                model->host[j].group == model->host[i].group && !group_is_open(model, who, j))
                return IOMMUD_ERROR_GROUP_SHARED;
        }
    }
    return ACCEPTED;
}

/* ---- steps ---- */

static uint64_t random_bytes(void)
{
    switch (g_test_rand_int_range(0, 50)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX - 1;
    case 2:
        return UINT64_MAX / 2;
    default:
        return PAGE * (uint64_t)g_test_rand_int_range(1, 4096);
    }
}

static void note(Model *model, int expected, const GError *error)
{
    if (expected == ACCEPTED) {
        g_assert_no_error(error);
        model->accepted++;
    } else {
        g_assert_error(error, IOMMUD_ERROR, expected);
        g_assert_true(g_str_has_suffix(error->message, "."));
        model->refused[expected]++;
    }
}

/* A machine of that slot as somebody may ask for it. addresses: room for all its devices. */
static ModelMachine random_wish(const Model *model, const char **addresses)
{
    ModelMachine wish = {
        .tenant = g_test_rand_int_range(0, N_TENANTS),
        .bytes = random_bytes(),
        .iommufd = g_test_rand_int_range(0, 4) > 0,
    };
    for (int i = g_test_rand_int_range(0, N_REQUESTED_MAX + 1); i > 0; i--)
        wish.has[g_test_rand_int_range(0, N_DEVICES)] = true;
    for (int i = 0; i < N_DEVICES; i++) {
        if (wish.has[i])
            *addresses++ = model->host[i].address;
    }
    *addresses = NULL;
    return wish;
}

static int expect_admission(const Model *model, const ModelMachine *wish)
{
    int expected = expect_devices(model, wish, wish->has);
    return expected == ACCEPTED ? expect_charge(model, wish->tenant, wish->bytes) : expected;
}

/* Admits the wish in a slot, or replaces what is there. What is expected of a replacement is what
 * would be of an admission if the old machine were not there. */
static void admit(Model *model, ModelMachine *slot, bool replace)
{
    const char *devices[N_REQUESTED_MAX + 1];
    ModelMachine wish = random_wish(model, devices);
    ModelMachine old = *slot;
    int expected = IOMMUD_ERROR_MACHINE_EXISTS;
    if (replace || !old.machine) {
        *slot = (ModelMachine){0};
        expected = expect_admission(model, &wish);
        *slot = old;
    }
    g_autofree char *uuid =
        g_strdup_printf("00000000-0000-4000-8000-%012x", (unsigned)(slot - model->machines));
    g_autofree char *tenant = g_strdup_printf("tenant-%d", wish.tenant);
    const AdmissionRequest request = {.uuid = uuid,
                                      .name = "machine",
                                      .tenant = tenant,
                                      .bytes = wish.bytes,
                                      .devices = devices,
                                      .iommufd = wish.iommufd};
    MachinePolicy *replaced = replace ? old.machine : NULL;
    g_autoptr(GError) error = NULL;
    wish.machine =
        registry_admit(model->registry, replaced, &request, model->host, N_DEVICES, &error);
    note(model, expected, error);
    g_assert_true((wish.machine != NULL) == (expected == ACCEPTED));
    if (wish.machine)
        *slot = wish;
    if (replaced)
        model->replaced[wish.machine != NULL]++;
}

static void step_admit(Model *model)
{
    admit(model, &model->machines[g_test_rand_int_range(0, N_MACHINES)], false);
}

static void step_replace(Model *model)
{
    admit(model, &model->machines[g_test_rand_int_range(0, N_MACHINES)], true);
}

static ModelMachine *random_machine(Model *model)
{
    ModelMachine *slot = &model->machines[g_test_rand_int_range(0, N_MACHINES)];
    return slot->machine ? slot : NULL;
}

static void step_remove(Model *model)
{
    ModelMachine *slot = random_machine(model);
    if (!slot)
        return;
    registry_remove_machine(model->registry, slot->machine);
    *slot = (ModelMachine){0};
}

static void step_resize(Model *model)
{
    ModelMachine *slot = random_machine(model);
    if (!slot)
        return;
    uint64_t bytes = random_bytes();
    int expected =
        bytes <= slot->bytes ? ACCEPTED : expect_charge(model, slot->tenant, bytes - slot->bytes);
    g_autoptr(GError) error = NULL;
    charge_resize(slot->machine->charge, bytes, &error);
    note(model, expected, error);
    if (expected == ACCEPTED)
        slot->bytes = bytes;
}

static void step_add_device(Model *model)
{
    ModelMachine *slot = random_machine(model);
    if (!slot)
        return;
    int device = g_test_rand_int_range(0, N_DEVICES);
    bool wanted[N_DEVICES] = {false};
    wanted[device] = true;
    int expected = expect_devices(model, slot, wanted);
    g_autoptr(GError) error = NULL;
    registry_add_device(model->registry, slot->machine, model->host[device].address, model->host,
                        N_DEVICES, &error);
    note(model, expected, error);
    if (expected == ACCEPTED)
        slot->has[device] = true;
}

static void step_remove_device(Model *model)
{
    ModelMachine *slot = random_machine(model);
    if (!slot)
        return;
    int device = g_test_rand_int_range(0, N_DEVICES);
    g_autoptr(GError) error = NULL;
    registry_remove_device(model->registry, slot->machine, model->host[device].address, &error);
    note(model, slot->has[device] ? ACCEPTED : IOMMUD_ERROR_NO_SUCH_DEVICE, error);
    slot->has[device] = false;
}

static void step_mapping(Model *model)
{
    ModelMapping *mapping = &model->mappings[g_test_rand_int_range(0, N_MAPPINGS)];
    if (mapping->charge) {
        charge_free(mapping->charge);
        *mapping = (ModelMapping){0};
        return;
    }
    int tenant = g_test_rand_int_range(0, N_TENANTS);
    uint64_t bytes = random_bytes();
    int expected = expect_charge(model, tenant, bytes);
    g_autoptr(GError) error = NULL;
    Charge *charge = charge_take(model->tenants[tenant]->budget, bytes, "a mapping", &error);
    note(model, expected, error);
    *mapping = (ModelMapping){charge, tenant, bytes};
}

static void step_limit(Model *model)
{
    int tenant = g_test_rand_int_range(0, N_TENANTS);
    uint64_t limit = PAGE * (uint64_t)g_test_rand_int_range(4096, 32768);
    model->limits[tenant] = limit;
    budget_set_limit(model->tenants[tenant]->budget, limit);
}

static void step_driver(Model *model)
{
    static const char *const drivers[] = {"", "vfio-pci", "pci-stub", "e1000"};
    HostDevice *device = &model->host[g_test_rand_int_range(0, N_DEVICES)];
    g_strlcpy(device->driver, drivers[g_test_rand_int_range(0, G_N_ELEMENTS(drivers))],
              sizeof(device->driver));
}

/* ---- what always holds ---- */

static void check_budget(Model *model, int i, const Budget *budget, uint64_t sum, uint64_t limit)
{
    uint64_t reserved = budget_reserved(budget);
    g_assert_cmpuint(reserved, ==, sum);
    if (reserved > limit)
        g_assert_cmpuint(reserved, <=, model->last_reserved[i]);
    g_assert_cmpuint(budget_left(budget), ==, limit > sum ? limit - sum : 0);
    model->last_reserved[i] = reserved;
}

static void check(Model *model)
{
    for (int i = 0; i < N_TENANTS; i++)
        check_budget(model, i, model->tenants[i]->budget, reserved_by(model, i), model->limits[i]);
    check_budget(model, N_TENANTS, registry_host_budget(model->registry), reserved_by_all(model),
                 model->host_limit);
    for (int i = 0; i < N_DEVICES; i++) {
        const ModelMachine *holder = holder_of(model, i);
        g_assert_true(registry_device_holder(model->registry, model->host[i].address) ==
                      (holder ? holder->machine : NULL));
    }
    for (int i = 0; i < N_MACHINES; i++) {
        const ModelMachine *slot = &model->machines[i];
        unsigned n = 0;
        for (int j = 0; slot->machine && j < N_DEVICES; j++)
            n += slot->has[j];
        if (slot->machine)
            g_assert_cmpuint(slot->machine->devices->len, ==, n);
    }
}

static void model_set_up(Model *model)
{
    model->host_limit = PAGE * 40000;
    model->registry = registry_new(model->host_limit, NULL);
    for (int i = 0; i < N_TENANTS; i++) {
        g_autofree char *id = g_strdup_printf("tenant-%d", i);
        TenantConfig *config = tenant_config_new(id);
        config->limit = model->limits[i] = PAGE * 16384;
        config->isolation = i == 1 ? ISOLATION_MACHINE : ISOLATION_TENANT;
        /* Device i has the product id i % 5. */
        if (i == 3)
            config->devices = g_strsplit("8086:0001;8086:0002;8086:0003;8086:0004", ";", -1);
        model->tenants[i] = registry_add_tenant(model->registry, config, NULL);
    }
    for (int i = 0; i < N_DEVICES; i++) {
        HostDevice *device = &model->host[i];
        g_snprintf(device->address, sizeof(device->address), "0000:%02x:00.0", i);
        device->vendor = 0x8086;
        device->product = (uint16_t)(i % 5);
        device->bridge = i % 8 == 7;
        device->group = i == 0 ? -1 : i / 3;
    }
}

static void test_random(void)
{
    static void (*const steps[])(Model *) = {
        step_admit,      step_admit,         step_admit,   step_admit, step_remove, step_resize,
        step_add_device, step_remove_device, step_mapping, step_limit, step_driver, step_replace,
    };
    g_autofree Model *model = g_new0(Model, 1);
    model_set_up(model);
    for (unsigned i = 0; i < N_STEPS; i++) {
        steps[g_test_rand_int_range(0, G_N_ELEMENTS(steps))](model);
        check(model);
    }

    /* It was no walk in a corner: much was accepted, and everything was refused at some time. */
    static const IommudError codes[] = {
        IOMMUD_ERROR_MACHINE_EXISTS, IOMMUD_ERROR_DEVICE_DENIED,        IOMMUD_ERROR_NOT_SUPPORTED,
        IOMMUD_ERROR_DEVICE_BUSY,    IOMMUD_ERROR_GROUP_SHARED,         IOMMUD_ERROR_LIMIT_EXCEEDED,
        IOMMUD_ERROR_NO_SUCH_DEVICE, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED,
    };
    g_assert_cmpuint(model->accepted, >, N_STEPS / 20);
    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        g_test_message("refused with %d: %u", (int)codes[i], model->refused[codes[i]]);
        g_assert_cmpuint(model->refused[codes[i]], >, 50);
    }
    g_test_message("replacements: %u refused, %u accepted", model->replaced[0], model->replaced[1]);
    g_assert_cmpuint(model->replaced[0], >, N_STEPS / 1000);
    g_assert_cmpuint(model->replaced[1], >, N_STEPS / 1000);
    for (int i = 0; i < N_MAPPINGS; i++)
        charge_free(model->mappings[i].charge);
    registry_free(model->registry);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/random/steps", test_random);
    return g_test_run();
}
