/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger against the kernel: random sequences of maps, copies, unmaps and kills, after which
 * the books, the walk over the kernel's structures and VmPin agree to the page; books that began
 * late or were damaged; maps that are full. Run by guard.sh in the lab:
 *
 *   ledger-check [--operations=N] [--seed=N] CDEV CDEV
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/ledger.h"
#include "kernel/process.h"
#include "tests/lab/machine.h"

#define TENANT 1
#define FOLDER "/sys/fs/bpf/iommud-test"
#define MEMORY_PAGES 1024
#define MAX_MAPS 96
#define SPACES 3 /* address spaces of a machine; devices are attached to the first */

typedef struct {
    uint32_t space; /* index */
    uint64_t iova;
    uint64_t length;
} Mapping;

typedef struct {
    const char *device;
    Machine process;
    uint32_t token;
    uint32_t device_id, hwpt, ioas[SPACES];
    uint64_t memory;
    int memfd;
    Mapping maps[MAX_MAPS];
    unsigned n_maps;
} Guest;

static Ledger *ledger;
static int iommufd;
static uint32_t context;
static uint32_t next_machine = 10;
static int passed, failed;
static bool have_files = true;

static bool check(bool fine, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool check(bool fine, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    printf(fine ? "ok - " : "not ok - ");
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    *(fine ? &passed : &failed) += 1;
    return fine;
}

static int64_t pinned_by(uint32_t machine)
{
    struct ledger_book book = {0};

    ledger_machine(ledger, machine, &book, NULL);
    return book.pinned;
}

static void reap(uint32_t machine)
{
    g_autofree LedgerObject *objects = NULL;
    size_t n = 0;

    ledger_objects(ledger, context, &objects, &n);
    for (int layer = 0; layer < 2; layer++) {
        enum ledger_object_type type = layer ? LEDGER_OBJECT_IOAS : LEDGER_OBJECT_HWPT_PAGING;

        for (size_t i = 0; i < n; i++) {
            struct iommu_destroy destroy = {.size = sizeof(destroy), .id = objects[i].id};

            if (objects[i].machine != machine || objects[i].type != type)
                continue;
            for (int tries = 0; tries < 200; tries++) {
                if (!ioctl(iommufd, IOMMU_DESTROY, &destroy) || errno != EBUSY)
                    break;
                g_usleep(5000);
            }
        }
    }
}

static void guest_start(Guest *guest)
{
    g_autofree char *address = device_address(guest->device);
    int r;

    guest->token = next_machine++;
    guest->n_maps = 0;
    ledger_add_machine(ledger, guest->token, TENANT);
    if (ledger_admit_device(ledger, address, TENANT, guest->token, 0))
        g_error("%s can't be admitted.", guest->device);
    machine_start(&guest->process, iommufd, guest->device, 64055);
    r = machine_bind(&guest->process, guest->process.device, iommufd, &guest->device_id);
    for (int i = 0; !r && i < SPACES; i++)
        r = machine_ioas(&guest->process, &guest->ioas[i]);
    if (!r)
        r = machine_hwpt(&guest->process, guest->device_id, guest->ioas[0], &guest->hwpt);
    if (!r)
        r = machine_attach(&guest->process, guest->process.device, guest->hwpt);
    if (r)
        g_error("A machine can't start: %s.", g_strerror(-r));
    guest->memory = machine_memory(&guest->process, MEMORY_PAGES << 12);
    guest->memfd = machine_memfd(&guest->process, MEMORY_PAGES << 12);
}

static void guest_end(Guest *guest)
{
    machine_kill(&guest->process);
    reap(guest->token);
    ledger_remove_machine(ledger, guest->token);
}

static void add_mapping(Guest *guest, uint32_t space, uint64_t iova, uint64_t length)
{
    guest->maps[guest->n_maps++] = (Mapping){space, iova, length};
}

static void operate(Guest *guest, GRand *random)
{
    uint32_t choice = g_rand_int_range(random, 0, 1000),
             space = g_rand_int_range(random, 0, SPACES);
    uint64_t first = g_rand_int_range(random, 0, MEMORY_PAGES - 64),
             pages = g_rand_int_range(random, 1, 64), iova = 0;
    Mapping *mapping;

    if (choice < 5) {
        guest_end(guest);
        guest_start(guest);
    } else if (choice < 15) {
        machine_unmap(&guest->process, guest->ioas[space], 0, UINT64_MAX);
        for (unsigned i = 0; i < guest->n_maps;)
            if (guest->maps[i].space == space)
                guest->maps[i] = guest->maps[--guest->n_maps];
            else
                i++;
    } else if (choice < 400 && guest->n_maps < MAX_MAPS) {
        /* Sometimes not page by page: what is counted is rounded. */
        uint64_t cut = choice & 1 ? 0 : 512;

        if (!machine_map(&guest->process, guest->ioas[space], guest->memory + (first << 12) + cut,
                         (pages << 12) - cut, &iova, false))
            add_mapping(guest, space, iova, (pages << 12) - cut);
    } else if (choice < 550 && guest->n_maps < MAX_MAPS && have_files) {
        if (!machine_map_file(&guest->process, guest->ioas[space], guest->memfd, first << 12,
                              pages << 12, &iova))
            add_mapping(guest, space, iova, pages << 12);
    } else if (choice < 700 && guest->n_maps && guest->n_maps < MAX_MAPS) {
        mapping = &guest->maps[g_rand_int_range(random, 0, guest->n_maps)];
        if (!machine_copy(&guest->process, guest->ioas[space], guest->ioas[mapping->space],
                          mapping->iova, mapping->length, &iova))
            add_mapping(guest, space, iova, mapping->length);
    } else if (guest->n_maps) {
        mapping = &guest->maps[g_rand_int_range(random, 0, guest->n_maps)];
        if (machine_unmap(&guest->process, guest->ioas[mapping->space], mapping->iova,
                          mapping->length))
            g_error("A mapping can't be removed.");
        *mapping = guest->maps[--guest->n_maps];
    }
}

/* Ledger, VmPin and walk of one machine. */
static bool agree(const Guest *guest, const LedgerTruth *truths, size_t n)
{
    int64_t books = pinned_by(guest->token), kernel = machine_pinned(guest->process.pid), truth = 0;

    for (size_t i = 0; i < n; i++)
        if (truths[i].pid == guest->process.pid)
            truth += truths[i].charged;
    if (books == kernel && (!truths || truth == kernel))
        return true;
    printf("# machine %u: books %" G_GINT64_FORMAT ", VmPin %" G_GINT64_FORMAT
           ", walk %" G_GINT64_FORMAT "\n",
           guest->token, books, kernel, truth);
    return false;
}

static void test_random(Guest *guests, unsigned operations, uint32_t seed)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    unsigned compared = 0, differed = 0, walks = 0;
    LedgerDrift total = {0};

    for (unsigned i = 1; i <= operations; i++) {
        operate(&guests[g_rand_int_range(random, 0, 2)], random);
        if (i % 50 == 0) {
            g_autofree LedgerTruth *truths = NULL;
            LedgerDrift drift = {0};
            size_t n = 0;

            if (i % 250 == 0) {
                ledger_reconcile(ledger, &drift, &truths, &n);
                total.drift += drift.drift;
                total.mended += drift.mended + drift.seeded + drift.unstable;
                walks++;
            }
            compared += 2;
            differed += !agree(&guests[0], truths, n) + !agree(&guests[1], truths, n);
        }
    }
    check(!differed,
          "%u random operations (seed %u): books and VmPin agree to the page "
          "(%u comparisons, %u differ)",
          operations, seed, compared, differed);
    check(!total.drift && !total.mended,
          "and so do the kernel's structures (%u walks, drift %" G_GUINT64_FORMAT ")", walks,
          total.drift);
}

/* Books that begin when the machines are there already. */
static void test_late(Guest *guests, const LedgerOptions *options)
{
    g_autofree LedgerObject *objects = NULL;
    struct ledger_tenant was = {0}, account = {0};
    LedgerDrift drift;
    size_t n = 0, known = 0;
    uint64_t iova = 0;

    /* An address space in which nothing is mapped can't be told whose it is. */
    for (int i = 0; i < 2; i++) {
        for (int space = 0; space < SPACES; space++) {
            iova = 0;
            if (machine_map(&guests[i].process, guests[i].ioas[space], guests[i].memory, 4096,
                            &iova, false))
                g_error("A machine can't map.");
        }
    }
    ledger_tenant(ledger, TENANT, &was);
    ledger_free(ledger);
    ledger_unload(FOLDER);
    ledger_new(options, &ledger);
    ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
    ledger_register(ledger, iommufd, TENANT, LEDGER_CONTEXT_GUARDED | LEDGER_CONTEXT_SHARED,
                    &context);
    ledger_tenant(ledger, TENANT, &account);
    check(account.mapped == was.mapped && account.pinned == was.pinned,
          "late: the tenant has what it had (%lld bytes, %lld pages)", account.mapped,
          account.pinned);
    for (int i = 0; i < 2; i++) {
        g_autofree char *address = device_address(guests[i].device);

        ledger_add_machine(ledger, guests[i].token, TENANT);
        ledger_admit_device(ledger, address, TENANT, guests[i].token, 0);
        check(!ledger_name_process(ledger, guests[i].process.pid, guests[i].process.start,
                                   guests[i].token, TENANT, NULL),
              "late: the machine is named");
        check(agree(&guests[i], NULL, 0), "late: its books are what the kernel has");
    }
    ledger_objects(ledger, context, &objects, &n);
    for (size_t i = 0; i < n; i++)
        known += objects[i].machine == guests[0].token || objects[i].machine == guests[1].token;
    check(n == 2 * (SPACES + 2) && known == n,
          "late: %zu objects are found, %zu of them with "
          "their machines",
          n, known);
    check(
        !machine_map(&guests[0].process, guests[0].ioas[0], guests[0].memory, 4096, &iova, false) &&
            !machine_unmap(&guests[0].process, guests[0].ioas[0], iova, 4096),
        "late: the machine goes on");
    check(machine_unmap(&guests[1].process, guests[0].ioas[0], 0, UINT64_MAX) == -EACCES,
          "late: the other is refused");
    check(!ledger_reconcile(ledger, &drift, NULL, NULL) && !drift.drift, "late: no drift");
}

static int pinned_map(const char *name)
{
    g_autoptr(GDir) versions = g_dir_open(FOLDER, 0, NULL);
    const char *version = versions ? g_dir_read_name(versions) : NULL;
    g_autofree char *path = g_strdup_printf(FOLDER "/%s/maps/%s", version, name);

    return bpf_obj_get(path);
}

/* Events that were missed, made by hand. */
static void test_damage(Guest *guests)
{
    int fd = pinned_map("pages");
    uint64_t key, other = 0x1234567890, iova = 0;
    struct ledger_pages range, ghost;
    struct ledger_book_key place;
    struct ledger_book book;
    LedgerDrift drift = {0};
    int books = pinned_map("books");

    machine_map(&guests[0].process, guests[0].ioas[0], guests[0].memory, 64 << 12, &iova, false);
    check(fd >= 0 && !bpf_map_get_next_key(fd, NULL, &key) &&
              !bpf_map_lookup_elem(fd, &key, &range),
          "damage: the pinned maps are there");
    /* An uncharge of 7 pages was missed: range and book have too much; and the end of a range. */
    place = (struct ledger_book_key){range.context, range.owner};
    bpf_map_lookup_elem(books, &place, &book);
    book.pinned += 7;
    ghost = range;
    ghost.charged = 5;
    book.pinned += 5;
    book.mapped += ghost.bytes;
    bpf_map_update_elem(books, &place, &book, BPF_EXIST);
    range.charged += 7;
    bpf_map_update_elem(fd, &key, &range, BPF_EXIST);
    bpf_map_update_elem(fd, &other, &ghost, BPF_ANY);
    ledger_reconcile(ledger, &drift, NULL, NULL);
    check(drift.mended == 2 && drift.drift == 12,
          "damage: found and mended (drift %" G_GUINT64_FORMAT " pages in %" G_GUINT64_FORMAT
          " entries)",
          drift.drift, drift.mended);
    check(agree(&guests[0], NULL, 0) && agree(&guests[1], NULL, 0),
          "damage: the books are right again");
    ledger_reconcile(ledger, &drift, NULL, NULL);
    check(!drift.drift && !drift.mended, "damage: and stay so");
    close(fd);
    close(books);
}

/* A context with so many objects that the kernel's xarray has three levels. */
static void test_many(void)
{
    enum { MANY = 5000 };
    g_autofree LedgerObject *objects = NULL;
    int many = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    LedgerDrift drift = {0};
    uint32_t serial;
    size_t n = 0;
    gint64 since;

    ledger_register(ledger, many, 2, 0, &serial);
    for (int i = 0; i < MANY; i++)
        if (ioctl(many, IOMMU_IOAS_ALLOC, &alloc))
            g_error("No more address spaces.");
    ledger_objects(ledger, serial, &objects, &n);
    check(n == MANY && objects[MANY - 1].id == MANY, "many: all %d objects are in the books", MANY);
    since = g_get_monotonic_time();
    check(!ledger_reconcile(ledger, &drift, NULL, NULL) && !drift.seeded && !drift.drift,
          "many: the walk finds the same");
    printf("# walked in %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - since);
    close(many);
    g_clear_pointer(&objects, g_free);
    ledger_objects(ledger, serial, &objects, &n);
    check(n == 0, "many: none is left when the context is closed");
}

/* N x the same memory: what the kernel charges and what is there. */
static void test_unique(Guest *guest)
{
    g_autofree LedgerTruth *truths = NULL;
    struct ledger_tenant before, after;
    uint64_t iova = 0, charged = 0, unique = 0, duplicate = 0;
    size_t n = 0;

    for (int i = 0; i < SPACES; i++)
        machine_unmap(&guest->process, guest->ioas[i], 0, UINT64_MAX);
    guest->n_maps = 0;
    for (int i = 0; i < 3; i++) {
        iova = 0;
        machine_map(&guest->process, guest->ioas[0], guest->memory, 256 << 12, &iova, false);
    }
    ledger_tenant(ledger, TENANT, &before);
    ledger_reconcile(ledger, NULL, &truths, &n);
    for (size_t i = 0; i < n; i++) {
        if (truths[i].tenant == TENANT)
            duplicate += truths[i].mapped - truths[i].mapped_unique;
        if (truths[i].pid == guest->process.pid) {
            charged += truths[i].charged;
            unique += truths[i].unique;
        }
    }
    check(charged == 768 && unique == 256,
          "the same memory three times: %" G_GUINT64_FORMAT " pages charged, %" G_GUINT64_FORMAT
          " unique",
          charged, unique);
    ledger_set_limit(ledger, TENANT, before.mapped, LEDGER_COUNT_UNIQUE);
    check(machine_map(&guest->process, guest->ioas[0], guest->memory, 4096, &iova, false) ==
              -EDQUOT,
          "counted as charged, the limit is reached");
    check(!ledger_set_credit(ledger, TENANT, duplicate, before.releases), "credit is given");
    check(!machine_map(&guest->process, guest->ioas[1], guest->memory, 4096, &iova, false),
          "counted as unique, it is not");
    machine_unmap(&guest->process, guest->ioas[0], 0, UINT64_MAX);
    ledger_tenant(ledger, TENANT, &after);
    check(after.credit == 0 || after.credit <= (int64_t)duplicate - (3 << 20) + (1 << 20),
          "what is given back takes its credit with it (%lld left)", after.credit);
    check(ledger_set_credit(ledger, TENANT, duplicate, before.releases) == -ESTALE,
          "credit by an old walk is refused");
    machine_unmap(&guest->process, guest->ioas[1], 0, UINT64_MAX);
    ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
}

/* Small maps, all full. */
static void test_full(void)
{
    const LedgerOptions small = {
        .guard = LEDGER_GUARD_KNOWN, .max_objects = 16, .max_pages = 16, .max_owners = 64};
    int full = open("/dev/iommu", O_RDWR), r = 0, maps = 0;
    uint32_t serial, ioas, last = 0;
    struct ledger_state state;
    Machine machine;
    uint64_t memory;

    ledger_new(&small, &ledger);
    ledger_register(ledger, full, 3, LEDGER_CONTEXT_GUARDED, &serial);
    ledger_set_limit(ledger, 3, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
    machine_start(&machine, full, NULL, 64055);
    memory = machine_memory(&machine, 64 << 12);
    machine_ioas(&machine, &ioas);
    for (maps = 0; maps < 64 && !r; maps++) {
        uint64_t iova = 0;

        r = machine_map(&machine, ioas, memory + ((uint64_t)maps << 12), 4096, &iova, false);
    }
    check(r == -ENOMEM && maps == 17, "full: a mapping that can't be counted is refused (%d)",
          maps);
    for (int i = 0; i < 32; i++)
        machine_ioas(&machine, &last);
    ledger_state(ledger, &state);
    check(state.lost_objects == 17, "full: objects that found no room are counted (%llu)",
          state.lost_objects);
    check(machine_destroy(&machine, last) == -EACCES,
          "full: and refused to everybody, since their owner is not known");
    check(!machine_destroy(&machine, ioas + 1), "full: the others are not");
    machine_kill(&machine);
    close(full);
    ledger_free(ledger);
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = FOLDER, .guard = LEDGER_GUARD_KNOWN};
    unsigned operations = 10000;
    uint64_t host = host_pinned(), missed = 0;
    uint32_t seed = time(NULL);
    Guest guests[2] = {0};

    for (; argc > 1 && g_str_has_prefix(argv[1], "--"); argv++, argc--) {
        if (sscanf(argv[1], "--operations=%u", &operations) != 1 &&
            sscanf(argv[1], "--seed=%u", &seed) != 1)
            g_error("Unknown option %s.", argv[1]);
    }
    if (argc != 3)
        g_error("Usage: ledger-check [--operations=N] [--seed=N] CDEV CDEV");
    ledger_new(&options, &ledger);
    if (!check(ledger_guard_is_active(ledger), "ledger and guard are there: %s%s",
               ledger_reason(ledger), ledger_guard_reason(ledger)))
        return 1;
    iommufd = open("/dev/iommu", O_RDWR);
    ledger_register(ledger, iommufd, TENANT, LEDGER_CONTEXT_GUARDED | LEDGER_CONTEXT_SHARED,
                    &context);
    ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
    for (int i = 0; i < 2; i++) {
        guests[i].device = argv[1 + i];
        guest_start(&guests[i]);
    }
    {
        uint64_t iova;

        have_files = machine_map_file(&guests[0].process, guests[0].ioas[0], guests[0].memfd, 0,
                                      4096, &iova) != -ENOTTY;
        machine_unmap(&guests[0].process, guests[0].ioas[0], 0, UINT64_MAX);
    }
    test_random(guests, operations, seed);
    test_late(guests, &options);
    test_damage(guests);
    test_many();
    test_unique(&guests[0]);
    guest_end(&guests[0]);
    guest_end(&guests[1]);
    ledger_missed(ledger, &missed);
    printf("# hooks skipped: %" G_GUINT64_FORMAT "\n", missed);
    check(host_pinned() == host, "in the end nothing is pinned");
    close(iommufd);
    ledger_free(ledger);
    ledger_unload(FOLDER);
    test_full();
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
