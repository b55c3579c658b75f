/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tenants and machines have, by the ledger. */
#include "dbus/accounting/internal.h"

#include "dbus/base/errors.h"
#include "dbus/core/machine.h"
#include "dbus/core/tenant.h"

/* What is mapped more than once is looked up anew when somebody asks and this has gone by, or less
 * after something was missed; on a host where a look takes long, so much more that looks take a
 * fiftieth of the time at most. */
#define LOOK_USEC (10 * G_USEC_PER_SEC)
#define MISSED_USEC G_USEC_PER_SEC
#define LOOK_SHARE 50
#define LEGACY_USEC G_USEC_PER_SEC

void books_look(Books *books, int64_t age)
{
    if (!books_count(books))
        return;
    if (books_missed(books) != books->missed)
        age = MIN(age, MISSED_USEC);
    if (g_get_monotonic_time() - books->looked >= MAX(age, LOOK_SHARE * books->look_cost))
        books_reconcile(books);
}

void books_refresh(Books *books)
{
    books_look(books, LOOK_USEC);
}

/* One look serves all that is asked in one turn of the event loop. */
static bool look(Books *books)
{
    uint64_t iteration = 0;
    LedgerUsage *usage;
    size_t n;
    if (!books_count(books))
        return false;
    (void)sd_event_get_iteration(books->manager->event, &iteration);
    if (books->usage && books->iteration == iteration)
        return true;
    books_refresh(books);
    if (books->ledger->ops->usage(books->ledger, &usage, &n) < 0)
        return false;
    g_free(books->usage);
    books->usage = usage;
    books->n_usage = n;
    books->iteration = iteration;
    return true;
}

static void add_usage(Figures *figures, const LedgerUsage *usage)
{
    figures->pinned += usage->pinned;
    figures->orphaned += usage->alive ? 0 : usage->pinned;
    figures->peak += usage->peak;
    figures->mapped += usage->mapped;
    figures->maps += usage->maps;
    figures->unmaps += usage->unmaps;
    figures->refusals += usage->refused;
}

/* Less what was pinned more than once at the last look: never more than that. */
static void set_unique(Figures *figures, uint64_t twice)
{
    figures->unique = figures->pinned - MIN(twice, figures->pinned);
}

bool books_machine(Books *books, const MachineLife *life, Figures *ret_figures)
{
    Figures figures = {0};
    uint64_t twice = 0;
    bool known = life->number > 0 && look(books);
    for (size_t i = 0; known && i < books->n_usage; i++) {
        if (books->usage[i].machine == life->number)
            add_usage(&figures, &books->usage[i]);
    }
    for (size_t i = 0; known && i < books->n_measurements; i++) {
        if (books->measurements[i].machine == life->number)
            twice += books->measurements[i].pinned - books->measurements[i].unique;
    }
    set_unique(&figures, twice);
    *ret_figures = figures;
    return known;
}

/* One look at the containers of VFIO's own, which takes all open files of the host, serves all that
 * is asked in its time. */
static bool look_at_legacy(Books *books)
{
    int64_t now = g_get_monotonic_time();
    if (!books_count(books))
        return false;
    if (books->legacy_looked && now - books->legacy_looked < LEGACY_USEC)
        return books->legacy_known;
    g_clear_pointer(&books->legacy, g_free);
    books->n_legacy = 0;
    books->legacy_looked = now;
    books->legacy_known =
        books->ledger->ops->legacy(books->ledger, &books->legacy, &books->n_legacy) >= 0;
    return books->legacy_known;
}

bool books_legacy(Books *books, pid_t pid, Figures *ret_figures)
{
    Figures figures = {0};
    bool known = look_at_legacy(books);
    for (size_t i = 0; known && i < books->n_legacy; i++) {
        const LedgerLegacy *legacy = &books->legacy[i];
        if (legacy->pid != pid)
            continue;
        figures.pinned = figures.unique = legacy->pinned;
        figures.mapped = legacy->mapped;
        figures.maps = legacy->maps;
    }
    *ret_figures = figures;
    return known;
}

/* In an IOMMUFD of the tenant, or one of its machines in one that iommud has not opened. */
static bool is_tenants(const Books *books, const TenantLife *life, uint32_t tenant,
                       uint32_t machine)
{
    if (tenant)
        return tenant == life->number;
    const MachineLife *owner = books_find_machine(books, machine);
    return owner && owner->tenant == life;
}

bool books_tenant(Books *books, const TenantLife *life, Figures *ret_figures)
{
    Figures figures = {0};
    LedgerTenantUsage tenant;
    uint64_t twice = 0;
    bool known = life->number > 0 && look(books);
    for (size_t i = 0; known && i < books->n_usage; i++) {
        if (is_tenants(books, life, books->usage[i].tenant, books->usage[i].machine))
            add_usage(&figures, &books->usage[i]);
    }
    for (size_t i = 0; known && i < books->n_measurements; i++) {
        const LedgerMeasurement *measured = &books->measurements[i];
        if (is_tenants(books, life, measured->tenant, measured->machine))
            twice += measured->pinned - measured->unique;
    }
    set_unique(&figures, twice);
    /* The sum of peaks is not the peak of the sum. */
    if (known && books->ledger->ops->tenant_usage(books->ledger, life->number, &tenant) >= 0) {
        figures.peak = MAX(tenant.peak, figures.pinned);
        figures.maps += tenant.maps;
        figures.unmaps += tenant.unmaps;
        figures.refusals += tenant.refused;
    }
    *ret_figures = figures;
    return known;
}

uint64_t books_owner_pinned(Books *books, uint32_t context, uint32_t owner)
{
    bool known = look(books);
    for (size_t i = 0; known && i < books->n_usage; i++) {
        if (books->usage[i].context == context && books->usage[i].owner == owner)
            return books->usage[i].pinned;
    }
    return 0;
}

gboolean books_objects(Books *books, const TenantLife *life, LedgerObject **ret_objects,
                       size_t *ret_n, GError **error)
{
    int r = books->ledger->ops->objects(books->ledger, life->context, ret_objects, ret_n);
    if (r < 0)
        error_set_kernel(error, r, "The objects in the IOMMUFD of tenant %s could not be listed",
                         life->id);
    return r >= 0;
}
