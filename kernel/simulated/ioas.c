/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ioas.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

/* What the page tables of a common x86 host leave: 48 bits of address, and no interrupt window
 * once a device is attached. */
#define APERTURE_LAST ((UINT64_C(1) << 48) - 1)
#define MSI_START UINT64_C(0xfee00000)
#define MSI_LAST UINT64_C(0xfeefffff)
/* Ranges in one call, as in kernel/host/iommufd.c. */
#define RANGES_MAX 65536
#define HUGE_PAGE UINT64_C(0x200000)

/* The ranges that are not reserved; at most two. */
static size_t usable_ranges(SimTable *table, uint32_t ioas, HostIovaRange *ranges)
{
    uint64_t last = table->objects[ioas].users > 0 ? APERTURE_LAST : UINT64_MAX;
    if (!sim_ioas_attached(table, ioas)) {
        ranges[0] = (HostIovaRange){.start = 0, .last = last};
        return 1;
    }
    ranges[0] = (HostIovaRange){.start = 0, .last = MSI_START - 1};
    ranges[1] = (HostIovaRange){.start = MSI_LAST + 1, .last = last};
    return 2;
}

static bool range_usable(SimTable *table, uint32_t ioas, uint64_t start, uint64_t last)
{
    HostIovaRange usable[2];
    size_t n = usable_ranges(table, ioas, usable);
    for (size_t i = 0; i < n; i++)
        if (start >= usable[i].start && last <= usable[i].last)
            return true;
    return false;
}

int sim_ioas_iova_ranges(SimTable *table, uint32_t ioas, HostIovaRange **ret_ranges, size_t *ret_n)
{
    if (!sim_table_object(table, ioas, LEDGER_OBJECT_TYPE_IOAS))
        return -ENOENT;
    *ret_ranges = g_new(HostIovaRange, 2);
    *ret_n = usable_ranges(table, ioas, *ret_ranges);
    return 0;
}

static void free_list(SimTable *table, uint32_t record)
{
    while (record != 0) {
        uint32_t next = table->records[record].next;
        sim_record_free(table, record);
        record = next;
    }
}

static int range_compare(const void *a, const void *b)
{
    uint64_t one = ((const HostIovaRange *)a)->start, other = ((const HostIovaRange *)b)->start;
    return one < other ? -1 : one > other;
}

int sim_ioas_allow_iovas(SimTable *table, uint32_t ioas, const HostIovaRange *ranges, size_t n)
{
    SimObject *object = sim_table_object(table, ioas, LEDGER_OBJECT_TYPE_IOAS);
    if (!object)
        return -ENOENT;
    if (n > RANGES_MAX)
        return -EMSGSIZE;
    g_autofree HostIovaRange *sorted = g_memdup2(ranges, n * sizeof(*ranges));
    if (n > 0)
        qsort(sorted, n, sizeof(*sorted), range_compare);
    for (size_t i = 0; i < n; i++)
        if (sorted[i].start >= sorted[i].last || (i > 0 && sorted[i].start <= sorted[i - 1].last))
            return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (!range_usable(table, ioas, sorted[i].start, sorted[i].last))
            return -EADDRINUSE;
    if (!sim_table_has_capacity(table, 0, (uint32_t)n))
        return -ENOMEM;

    free_list(table, object->allowed);
    uint32_t *link = &object->allowed;
    for (size_t i = 0; i < n; i++) {
        *link = sim_record_new(table, SIM_RECORD_ALLOWED);
        SimRecord *record = &table->records[*link];
        record->start = sorted[i].start;
        record->last = sorted[i].last;
        link = &record->next;
    }
    *link = 0;
    return 0;
}

/* The link to the first area that ends at or behind iova. */
static uint32_t *find_area(SimTable *table, SimObject *ioas, uint64_t iova)
{
    uint32_t *link = &ioas->areas;
    while (*link != 0 && table->records[*link].last < iova)
        link = &table->records[*link].next;
    return link;
}

static uint64_t iova_alignment(uint64_t offset, uint64_t length)
{
    uint64_t alignment = SIM_PAGE;
    while (alignment < length && alignment < HUGE_PAGE)
        alignment *= 2;
    while (offset % alignment != 0)
        alignment /= 2;
    return alignment;
}

/* The lowest fitting address between start and last that no area uses. */
static bool find_hole(SimTable *table, SimObject *ioas, uint64_t start, uint64_t last,
                      uint64_t alignment, uint64_t length, uint64_t *ret_iova)
{
    const SimRecord *area;
    for (uint32_t i = *find_area(table, ioas, start);; i = area->next) {
        area = i != 0 ? &table->records[i] : NULL;
        uint64_t end = area && area->start <= last ? area->start - 1 : last;
        if (area && area->start == 0)
            end = 0;
        uint64_t iova = start + (alignment - start % alignment) % alignment;
        if (iova >= start && iova < end && end - iova >= length - 1) {
            *ret_iova = iova;
            return true;
        }
        if (!area || area->last >= last)
            return false;
        start = area->last + 1;
    }
}

static int choose_iova(SimTable *table, uint32_t ioas, uint64_t offset, uint64_t length,
                       uint64_t *ret_iova)
{
    SimObject *object = &table->objects[ioas];
    HostIovaRange usable[2];
    size_t n = usable_ranges(table, ioas, usable);
    SimRecord everything = {.start = SIM_PAGE, .last = UINT64_MAX - SIM_PAGE};
    uint64_t alignment = iova_alignment(offset, length);
    const SimRecord *allowed =
        object->allowed != 0 ? &table->records[object->allowed] : &everything;

    for (;; allowed = &table->records[allowed->next]) {
        for (size_t i = 0; i < n; i++) {
            uint64_t start = MAX(allowed->start, usable[i].start);
            uint64_t last = MIN(allowed->last, usable[i].last);
            if (start < last && find_hole(table, object, start, last, alignment, length, ret_iova))
                return 0;
        }
        if (allowed->next == 0)
            return -ENOSPC;
    }
}

/* Checks the wanted address, or finds one. */
static int place(SimTable *table, uint32_t ioas, uint64_t offset, uint64_t length, uint64_t *iova)
{
    if (length == 0 || length % SIM_PAGE != 0)
        return -EINVAL;
    if (*iova == HOST_ANY_IOVA)
        return choose_iova(table, ioas, offset, length, iova);
    if (*iova % SIM_PAGE != 0)
        return -EINVAL;
    uint64_t last;
    if (__builtin_add_overflow(*iova, length - 1, &last))
        return -EOVERFLOW;
    if (!range_usable(table, ioas, *iova, last))
        return -EINVAL;
    uint32_t area = *find_area(table, &table->objects[ioas], *iova);
    return area != 0 && table->records[area].start <= last ? -EEXIST : 0;
}

static void area_insert(SimTable *table, SimObject *ioas, uint32_t pages, uint64_t iova,
                        uint64_t length)
{
    uint32_t i = sim_record_new(table, SIM_RECORD_AREA);
    uint32_t *link = find_area(table, ioas, iova);
    table->records[i].start = iova;
    table->records[i].last = iova + length - 1;
    table->records[i].pages = pages;
    table->records[i].next = *link;
    *link = i;
    sim_pages_hold(table, pages);
    if (ioas->users > 0)
        sim_pages_pin(table, pages);
}

/* Takes the area at link out. */
static void area_remove(SimTable *table, const SimObject *ioas, uint32_t *link)
{
    uint32_t i = *link, pages = table->records[i].pages;
    *link = table->records[i].next;
    if (ioas->users > 0)
        sim_pages_unpin(table, pages);
    sim_pages_drop(table, pages);
    sim_record_free(table, i);
}

int sim_ioas_map(SimTable *table, const SimOwner *owner, uint32_t ioas, uint64_t source,
                 uint64_t offset, uint64_t length, uint64_t *iova)
{
    SimObject *object = sim_table_object(table, ioas, LEDGER_OBJECT_TYPE_IOAS);
    if (!object)
        return -ENOENT;
    int r = place(table, ioas, offset, length, iova);
    if (r < 0)
        return r;
    if (!sim_table_has_capacity(table, 0, 2))
        return -ENOMEM;
    uint32_t pages = sim_pages_new(table, owner, source, offset, length);
    area_insert(table, object, pages, *iova, length);
    return 0;
}

typedef struct {
    uint32_t pages;
    uint64_t length;
} Piece;

int sim_ioas_copy(SimTable *table, uint32_t dst, uint32_t src, uint64_t src_iova, uint64_t length,
                  uint64_t *iova)
{
    SimObject *from = sim_table_object(table, src, LEDGER_OBJECT_TYPE_IOAS),
              *to = sim_table_object(table, dst, LEDGER_OBJECT_TYPE_IOAS);
    uint64_t at = src_iova, last;
    if (!from || !to)
        return -ENOENT;
    if (length == 0 || src_iova % SIM_PAGE != 0 || length % SIM_PAGE != 0)
        return -EINVAL;
    if (__builtin_add_overflow(src_iova, length - 1, &last))
        return -EOVERFLOW;

    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    for (uint32_t i = *find_area(table, from, src_iova);; i = table->records[i].next) {
        const SimRecord *area = &table->records[i];
        if (i == 0 || area->start > at)
            return -ENOENT;
        Piece piece = {.pages = area->pages, .length = MIN(last, area->last) - at + 1};
        g_array_append_val(pieces, piece);
        if (area->last >= last)
            break;
        at = area->last + 1;
    }
    int r = place(table, dst, 0, length, iova);
    if (r < 0)
        return r;
    if (!sim_table_has_capacity(table, 0, pieces->len))
        return -ENOMEM;
    at = *iova;
    for (guint i = 0; i < pieces->len; i++) {
        const Piece *piece = &g_array_index(pieces, Piece, i);
        area_insert(table, to, piece->pages, at, piece->length);
        at += piece->length;
    }
    return 0;
}

int sim_ioas_unmap(SimTable *table, uint32_t ioas, uint64_t iova, uint64_t length,
                   uint64_t *ret_unmapped)
{
    SimObject *object = sim_table_object(table, ioas, LEDGER_OBJECT_TYPE_IOAS);
    bool all = iova == 0 && length == UINT64_MAX;
    uint64_t last = UINT64_MAX, unmapped = 0;
    if (!object)
        return -ENOENT;
    if (length == 0)
        return -EINVAL;
    if (!all && (length == UINT64_MAX || __builtin_add_overflow(iova, length - 1, &last)))
        return -EOVERFLOW;

    /* As in the kernel, what lies before an area that is cut in two is gone when that is found. */
    uint32_t *link = find_area(table, object, iova);
    while (*link != 0 && table->records[*link].start <= last) {
        const SimRecord *area = &table->records[*link];
        if (area->start < iova || area->last > last)
            return -ENOENT;
        unmapped += area->last - area->start + 1;
        area_remove(table, object, link);
    }
    if (!all && unmapped == 0)
        return -ENOENT;
    *ret_unmapped = unmapped;
    return 0;
}

void sim_ioas_set_pinned(SimTable *table, const SimObject *ioas, bool pinned)
{
    for (uint32_t i = ioas->areas; i != 0; i = table->records[i].next) {
        if (pinned)
            sim_pages_pin(table, table->records[i].pages);
        else
            sim_pages_unpin(table, table->records[i].pages);
    }
}

void sim_ioas_clear(SimTable *table, SimObject *ioas)
{
    while (ioas->areas != 0)
        area_remove(table, ioas, &ioas->areas);
    free_list(table, ioas->allowed);
    ioas->allowed = 0;
}
