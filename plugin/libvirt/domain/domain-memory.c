/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How much a domain may have pinned at the most:
 *
 *   reservation    = (guest memory + overhead) x address spaces
 *   guest memory   = what it boots with + its memory devices, which is what libvirt writes into
 *                    <memory> (a memory device that is plugged in later raises it)
 *   unique         = guest memory + overhead: the same pages in all address spaces
 *   overhead       = 4 MiB for the firmware and the devices' option ROMs
 *                  + 16 MiB when the firmware is in flash memory
 *                  + the video memory, 16 MiB for each <video> that does not say
 *                  + the <shmem> regions, 4 MiB for each that does not say
 *   address spaces = PCI devices of the guest if it has an IOMMU of its own (QEMU maps the memory
 *                    once for each then), else 1; at least 1;
 *                  + one for each NVMe disk (QEMU drives it through a container of its own)
 *
 * All of it is memory that QEMU maps for the devices, whether the guest uses it or not: a guest of
 * 256 MiB without video has 256 MiB + 256 KiB pinned from its start on.
 */
#include "plugin/libvirt/domain/domain-memory.h"

#include "kernel/base/text.h"

#include <string.h>

/* Memory that QEMU maps for devices, in bytes. */
typedef struct {
    uint64_t total;   /* <memory>: what it boots with and all memory devices, together */
    uint64_t devices; /* the memory devices' part of it */
    uint64_t video;   /* video memory of all <video> */
    uint64_t shared;  /* <shmem> */
    uint64_t flash;   /* firmware in flash memory */
} DomainMemory;

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)
/* Beyond any machine; keeps sums and products below far from 2^64. */
#define SIZE_MAX_BYTES (UINT64_C(1) << 60)

#define FIRMWARE_BYTES (4 * MIB)
#define FLASH_BYTES (16 * MIB)
#define VIDEO_BYTES (16 * MIB)
#define SHMEM_BYTES (4 * MIB)

static gboolean too_much(GError **error)
{
    return xml_invalid(error, "The domain's memory adds up to more than 2^60 bytes, which no "
                              "machine has.");
}

/* libvirt's units: none is the given one; b, byte, bytes; k, KiB, M, MiB ... powers of 1024; KB,
 * MB ... powers of 1000; any case. 0: no such unit. */
static uint64_t unit_bytes(const char *unit, uint64_t default_unit)
{
    static const char prefixes[] = "kmgtpe";

    if (!unit || !*unit)
        return default_unit;
    if (!g_ascii_strcasecmp(unit, "b") || !g_ascii_strcasecmp(unit, "byte") ||
        !g_ascii_strcasecmp(unit, "bytes"))
        return 1;
    const char *prefix = strchr(prefixes, g_ascii_tolower(*unit));
    if (!prefix)
        return 0;
    uint64_t base = 0;
    if (!unit[1] || !g_ascii_strcasecmp(unit + 1, "ib"))
        base = 1024;
    else if (!g_ascii_strcasecmp(unit + 1, "b"))
        base = 1000;
    uint64_t bytes = 1;
    for (const char *p = prefixes; p <= prefix; p++)
        bytes *= base;
    return bytes;
}

/* what: how a message names it. */
static gboolean size_parse(const char *text, const char *unit, uint64_t default_unit,
                           const char *what, uint64_t *ret_bytes, GError **error)
{
    uint64_t scale = unit_bytes(unit, default_unit), value = 0, bytes;
    g_autofree char *digits = g_strstrip(g_strdup(text));
    char *end = NULL;

    /* strtoull would take a sign, and turns what is too much into the largest number. */
    if (g_ascii_isdigit(*digits))
        value = g_ascii_strtoull(digits, &end, 10);
    if (!end || *end || !scale || __builtin_mul_overflow(value, scale, &bytes) ||
        bytes > SIZE_MAX_BYTES) {
        g_autofree char *number = text_sanitize(digits, TEXT_QUOTED_MAX, false),
                        *suffix = text_sanitize(unit ? unit : "", TEXT_QUOTED_MAX, false);
        return xml_invalid(error, "The domain's %s of '%s%s%s' is not a size that a machine has.",
                           what, number, *suffix ? " " : "", suffix);
    }
    *ret_bytes = bytes;
    return TRUE;
}

static gboolean element_size(xmlNode *node, uint64_t default_unit, const char *what,
                             uint64_t *ret_bytes, GError **error)
{
    g_autofree char *text = xml_text(node), *unit = xml_attribute(node, "unit");
    return size_parse(text, unit, default_unit, what, ret_bytes, error);
}

/* Adds without leaving the sizes that a machine can have. */
static gboolean add_size(uint64_t *sum, uint64_t bytes, GError **error)
{
    if (bytes > SIZE_MAX_BYTES - *sum)
        return too_much(error);
    *sum += bytes;
    return TRUE;
}

static gboolean read_memory_device(xmlNode *device, DomainMemory *memory, GError **error)
{
    xmlNode *target = xml_first(device->children, "target", NULL);
    xmlNode *size = target ? xml_first(target->children, "size", NULL) : NULL;
    uint64_t bytes = 0;

    if (!size)
        return xml_invalid(error, "The domain has a memory device without a size.");
    return element_size(size, KIB, "memory device", &bytes, error) &&
           add_size(&memory->devices, bytes, error);
}

static gboolean read_video(xmlNode *video, DomainMemory *memory, GError **error)
{
    static const char *const attributes[] = {"ram", "vram", "vram64", "vgamem"};
    xmlNode *model = xml_first(video->children, "model", NULL);
    uint64_t sum = 0;
    bool says = false;

    if (model && xml_attribute_is(model, "type", "none"))
        return TRUE;
    for (size_t i = 0; model && i < G_N_ELEMENTS(attributes); i++) {
        g_autofree char *text = xml_attribute(model, attributes[i]);
        uint64_t bytes = 0;
        if (!text)
            continue;
        says = true;
        if (!size_parse(text, NULL, KIB, "video memory", &bytes, error) ||
            !add_size(&sum, bytes, error))
            return FALSE;
    }
    return add_size(&memory->video, says ? sum : VIDEO_BYTES, error);
}

static gboolean read_shmem(xmlNode *shmem, DomainMemory *memory, GError **error)
{
    xmlNode *size = xml_first(shmem->children, "size", NULL);
    uint64_t bytes = SHMEM_BYTES;

    if (size && !element_size(size, MIB, "shared memory", &bytes, error))
        return FALSE;
    return add_size(&memory->shared, bytes, error);
}

static gboolean read_devices(const DomainXml *xml, DomainMemory *memory, GError **error)
{
    for (xmlNode *all = xml_first(xml->root->children, "devices", NULL); all;
         all = xml_first(all->next, "devices", NULL)) {
        for (xmlNode *node = all->children; node; node = node->next) {
            gboolean ok = TRUE;
            if (xml_is(node, "memory", NULL))
                ok = read_memory_device(node, memory, error);
            else if (xml_is(node, "video", NULL))
                ok = read_video(node, memory, error);
            else if (xml_is(node, "shmem", NULL))
                ok = read_shmem(node, memory, error);
            if (!ok)
                return FALSE;
        }
    }
    return TRUE;
}

static bool has_flash(const DomainXml *xml)
{
    xmlNode *os = xml_first(xml->root->children, "os", NULL);
    xmlNode *loader = os ? xml_first(os->children, "loader", NULL) : NULL;

    return (os && xml_attribute_is(os, "firmware", "efi")) ||
           (loader && xml_attribute_is(loader, "type", "pflash"));
}

static gboolean read_memory(const DomainXml *xml, DomainMemory *ret_memory, GError **error)
{
    xmlNode *total = xml_first(xml->root->children, "memory", NULL);
    DomainMemory memory = {.flash = has_flash(xml) ? FLASH_BYTES : 0};

    if (!total || xml_first(total->next, "memory", NULL))
        return xml_invalid(error, "The domain has %s <memory>.", total ? "more than one" : "no");
    if (!element_size(total, KIB, "memory", &memory.total, error) ||
        !read_devices(xml, &memory, error))
        return FALSE;
    /* libvirt refuses these; the formula below relies on it. */
    if (memory.total == 0 || memory.devices > memory.total)
        return xml_invalid(error, "The domain's <memory> is smaller than its memory devices.");
    *ret_memory = memory;
    return TRUE;
}

gboolean domain_xml_reservation(const DomainXml *xml, uint64_t *ret_bytes, uint64_t *ret_unique,
                                GError **error)
{
    uint64_t spaces = (xml->viommu ? MAX(xml->n_hostdevs, 1) : 1) + xml->n_nvme;
    DomainMemory memory = {0};
    uint64_t sum = FIRMWARE_BYTES;

    if (!read_memory(xml, &memory, error) || !add_size(&sum, memory.total, error) ||
        !add_size(&sum, memory.flash, error) || !add_size(&sum, memory.video, error) ||
        !add_size(&sum, memory.shared, error))
        return FALSE;
    if (sum > SIZE_MAX_BYTES / spaces)
        return too_much(error);
    *ret_bytes = sum * spaces;
    *ret_unique = sum;
    return TRUE;
}

/* ---- the limit ---- */

static bool has(const DomainXml *xml, const char *parent, const char *name)
{
    for (xmlNode *node = xml_first(xml->root->children, parent, NULL); node;
         node = xml_first(node->next, parent, NULL))
        if (xml_first(node->children, name, NULL))
            return true;
    return false;
}

bool domain_xml_follows_limit(const DomainXml *xml)
{
    return !has(xml, "memtune", "hard_limit") && !has(xml, "memoryBacking", "locked");
}
