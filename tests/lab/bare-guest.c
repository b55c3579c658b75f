/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What boots in a nested machine with an IOMMU of its own (viommu.sh): it looks for NVMe devices
 * for ever, writes a pattern through each that it finds, reads it back, and says on the console:
 *
 *   guest: SERIAL holds what was written     (or: guest: SERIAL is broken)
 *   guest: SERIAL is gone                    (after an unplug, to which it agrees)
 *
 * Each device has a domain and page tables of its own; for each request its memory is mapped and
 * then unmapped, as Linux does with iommu.strict=1. Linux does all of this, too, but takes minutes
 * to boot where a machine in software runs in a machine in software.
 *
 * A multiboot kernel of 32 bits without paging.
 */
#include <stdbool.h>
#include <stdint.h>

enum { PAGE = 4096, BRIDGES = 16 };

/* Flags: none. Within the first 8 KiB of the file. */
__attribute__((section(".text.multiboot"), used)) static const uint32_t multiboot[] = {
    0x1badb002, 0, -0x1badb002u};

__asm__(".text\n"
        ".global _start\n"
        "_start: cli\n"
        "    movl $stack_top, %esp\n"
        "    cld\n"
        "    call guest\n"
        "tick: push %eax\n" /* of the timer, 18 a second */
        "    movb $0x20, %al\n"
        "    outb %al, $0x20\n"
        "    pop %eax\n"
        "    iret\n"
        ".bss\n"
        "    .balign 16\n"
        "    .skip 16384\n"
        "stack_top:\n"
        ".text\n");

/* ---- the machine ---- */

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* A device's registers; what it is told of in memory is there before, and what it says is, after.
 */
static uint32_t read32(uint32_t address)
{
    uint32_t value = *(volatile uint32_t *)address;
    __asm__ volatile("" : : : "memory");
    return value;
}

static void write32(uint32_t address, uint32_t value)
{
    __asm__ volatile("" : : : "memory");
    *(volatile uint32_t *)address = value;
}

static uint32_t now(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low;
}

static void say(const char *text)
{
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20))
            ;
        out8(0x3f8, (uint8_t)*text);
    }
}

static void tell(const char *name, const char *text)
{
    say("guest: ");
    say(name);
    say(text);
    say("\r\n");
}

extern char tick[];

/* A timer's interrupt, so that the guest can sleep. */
static void start_timer(void)
{
    static const uint64_t segments[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    static uint32_t gates[0x21][2];
    static const uint8_t controllers[][2] = {{0x20, 0x11}, {0xa0, 0x11}, {0x21, 0x20}, {0xa1, 0x28},
                                             {0x21, 4},    {0xa1, 2},    {0x21, 1},    {0xa1, 1},
                                             {0x21, 0xfe}, {0xa1, 0xff}};
    struct __attribute__((packed)) {
        uint16_t limit;
        uint32_t base;
    } table = {sizeof(segments) - 1, (uint32_t)segments};

    __asm__ volatile("lgdt %0\n"
                     "ljmp $8, $1f\n"
                     "1: movw $16, %%ax\n"
                     "movw %%ax, %%ds\n"
                     "movw %%ax, %%es\n"
                     "movw %%ax, %%ss\n"
                     :
                     : "m"(table)
                     : "eax", "memory");
    gates[0x20][0] = 8u << 16 | ((uint32_t)tick & 0xffff);
    gates[0x20][1] = ((uint32_t)tick & 0xffff0000) | 0x8e00;
    table.limit = sizeof(gates) - 1;
    table.base = (uint32_t)gates;
    __asm__ volatile("lidt %0" : : "m"(table) : "memory");
    for (unsigned i = 0; i < sizeof(controllers) / sizeof(*controllers); i++)
        out8(controllers[i][0], controllers[i][1]);
    out8(0x43, 0x34);
    out8(0x40, 0xff);
    out8(0x40, 0xff);
}

static void wait_tick(void)
{
    __asm__ volatile("sti\n"
                     "hlt\n"
                     "cli\n"
                     :
                     :
                     : "memory");
}

static uint32_t config_read(unsigned bus, unsigned function, unsigned at)
{
    out32(0xcf8, 0x80000000 | bus << 16 | function << 8 | at);
    return in32(0xcfc);
}

static void config_write(unsigned bus, unsigned function, unsigned at, uint32_t value)
{
    out32(0xcf8, 0x80000000 | bus << 16 | function << 8 | at);
    out32(0xcfc, value);
}

/* ---- a device: what QEMU's Intel IOMMU and its NVMe controller need ---- */

/* Pages that its device sees for ever; what is mapped for one request comes behind. */
enum { ADMIN_SQ, ADMIN_CQ, IO_SQ, IO_CQ, QUEUE_PAGES, DATA = 16 };
enum { DEPTH = 16, WINDOW = 0x10000000, REQUESTS = 64 };

typedef struct {
    uint32_t queues[QUEUE_PAGES][PAGE / 4];
    uint64_t level3[PAGE / 8], level2[PAGE / 8], level1[PAGE / 8];
    uint64_t context[PAGE / 8];
} Pages;

typedef struct {
    Pages *pages;
    unsigned bus;    /* 0: there is no bridge with this number */
    unsigned bridge; /* its function on bus 0 */
    bool known;
    uint32_t registers;
    uint32_t tail[2], head[2], phase[2];
    uint32_t stride;
    char name[21];
} Device;

static Device devices[BRIDGES];
static __attribute__((aligned(PAGE))) Pages all_pages[BRIDGES];
static __attribute__((aligned(PAGE))) uint64_t root[PAGE / 8];
static __attribute__((aligned(PAGE))) uint32_t written[PAGE / 4], found[PAGE / 4];

static void clear(void *memory, uint32_t size)
{
    volatile uint32_t *word = memory;
    for (uint32_t i = 0; i < size / 4; i++)
        word[i] = 0;
}

enum { IOMMU = 0xfed90000, STATUS = IOMMU + 0x1c };

/* One of them or all: CCMD and IOTLB take effect when their upper half is written. */
static void flush_contexts(void)
{
    write32(IOMMU + 0x28, 0);
    write32(IOMMU + 0x2c, 0xa0000000);
    while (read32(IOMMU + 0x2c) & 0x80000000)
        ;
}

static void flush(uint32_t kind, unsigned domain, uint32_t address)
{
    uint32_t at = IOMMU + (read32(IOMMU + 0x10) >> 8 & 0x3ff) * 16;
    write32(at, address);
    write32(at + 4, 0);
    write32(at + 8, 0);
    write32(at + 12, 0x80000000 | kind << 28 | domain);
    while (read32(at + 12) & 0x80000000)
        ;
}

static void start_iommu(void)
{
    write32(IOMMU + 0x20, (uint32_t)root);
    write32(IOMMU + 0x24, 0);
    write32(IOMMU + 0x18, 1u << 30);
    while (!(read32(STATUS) & 1u << 30))
        ;
    flush_contexts();
    flush(1, 0, 0);
    write32(IOMMU + 0x18, 1u << 31);
    while (!(read32(STATUS) & 1u << 31))
        ;
}

static uint32_t iova_of(unsigned page)
{
    return WINDOW + page * PAGE;
}

static void map(Device *device, unsigned page, const void *memory)
{
    device->pages->level1[page] = (uint32_t)memory | 3;
    flush(3, device->bus, iova_of(page));
}

static void unmap(Device *device, unsigned page)
{
    device->pages->level1[page] = 0;
    flush(3, device->bus, iova_of(page));
}

static void attach(Device *device)
{
    Pages *pages = device->pages;
    clear(pages, sizeof(*pages));
    pages->level3[0] = (uint32_t)pages->level2 | 3;
    pages->level2[WINDOW >> 21] = (uint32_t)pages->level1 | 3;
    pages->context[0] = (uint32_t)pages->level3 | 1;
    pages->context[1] = device->bus << 8 | 1; /* its domain; 39 bits in three levels */
    root[device->bus * 2] = (uint32_t)pages->context | 1;
    flush_contexts();
    flush(2, device->bus, 0);
    for (unsigned i = 0; i < QUEUE_PAGES; i++)
        map(device, i, pages->queues[i]);
}

static void detach(Device *device)
{
    root[device->bus * 2] = 0;
    flush_contexts();
    flush(2, device->bus, 0);
}

/* Waits a minute: the host may be slow. */
static bool wait_for(uint32_t address, uint32_t mask, uint32_t value)
{
    for (unsigned ticks = 0; ticks < 18 * 60; ticks++) {
        for (unsigned i = 0; i < 1000; i++) {
            if ((read32(address) & mask) == value)
                return true;
        }
        wait_tick();
    }
    return false;
}

/* One command at a time. queue: 0 for the administrator's, 1 for data. */
static bool submit(Device *device, unsigned queue, uint32_t opcode, uint32_t space, uint32_t iova,
                   uint32_t word10, uint32_t word11, uint32_t word12)
{
    volatile uint32_t *command =
        &device->pages->queues[queue ? IO_SQ : ADMIN_SQ][device->tail[queue] * 16];
    volatile uint32_t *answer =
        &device->pages->queues[queue ? IO_CQ : ADMIN_CQ][device->head[queue] * 4];

    clear((void *)command, 64);
    command[0] = opcode;
    command[1] = space;
    command[6] = iova;
    command[10] = word10;
    command[11] = word11;
    command[12] = word12;
    device->tail[queue] = (device->tail[queue] + 1) % DEPTH;
    write32(device->registers + 0x1000 + 2 * queue * device->stride, device->tail[queue]);
    if (!wait_for((uint32_t)&answer[3], 1u << 16, (device->phase[queue] ^ 1) << 16))
        return false;
    bool fine = answer[3] >> 17 == 0;
    device->head[queue] = (device->head[queue] + 1) % DEPTH;
    if (device->head[queue] == 0)
        device->phase[queue] ^= 1;
    write32(device->registers + 0x1000 + (2 * queue + 1) * device->stride, device->head[queue]);
    return fine;
}

static bool identify(Device *device)
{
    const char *serial = (const char *)found + 4;
    unsigned length = 0;

    map(device, DATA, found);
    bool fine = submit(device, 0, 6, 0, iova_of(DATA), 1, 0, 0);
    unmap(device, DATA);
    for (; fine && length < 20 && serial[length] > ' '; length++)
        device->name[length] = serial[length];
    device->name[length] = 0;
    return fine;
}

static bool start_controller(Device *device)
{
    uint32_t registers = device->registers;

    device->stride = 4u << (read32(registers + 4) & 15);
    for (unsigned queue = 0; queue < 2; queue++)
        device->tail[queue] = device->head[queue] = device->phase[queue] = 0;
    write32(registers + 0x14, 0);
    if (!wait_for(registers + 0x1c, 1, 0))
        return false;
    write32(registers + 0x24, (DEPTH - 1) << 16 | (DEPTH - 1));
    write32(registers + 0x28, iova_of(ADMIN_SQ));
    write32(registers + 0x2c, 0);
    write32(registers + 0x30, iova_of(ADMIN_CQ));
    write32(registers + 0x34, 0);
    write32(registers + 0x14, 4u << 20 | 6u << 16 | 1);
    return wait_for(registers + 0x1c, 1, 1) && identify(device) &&
           submit(device, 0, 5, 0, iova_of(IO_CQ), (DEPTH - 1) << 16 | 1, 1, 0) &&
           submit(device, 0, 1, 0, iova_of(IO_SQ), (DEPTH - 1) << 16 | 1, 1u << 16 | 1, 0);
}

/* A page of 8 blocks, mapped for this request only, each at another address. */
static bool transfer(Device *device, uint32_t opcode, unsigned request, void *memory)
{
    unsigned page = DATA + request;

    map(device, page, memory);
    bool fine = submit(device, 1, opcode, 1, iova_of(page), request * 8, 0, 7);
    unmap(device, page);
    return fine;
}

static bool try(Device *device)
{
    uint32_t seed = now();

    for (unsigned request = 0; request < REQUESTS; request++) {
        for (unsigned i = 0; i < PAGE / 4; i++)
            written[i] = (seed + request * PAGE + i) * 2654435761u;
        if (!transfer(device, 1, request, written))
            return false;
    }
    for (unsigned request = 0; request < REQUESTS; request++) {
        clear(found, sizeof(found));
        if (!transfer(device, 2, request, found))
            return false;
        for (unsigned i = 0; i < PAGE / 4; i++) {
            if (found[i] != (seed + request * PAGE + i) * 2654435761u)
                return false;
        }
    }
    return true;
}

/* ---- coming and going ---- */

/* The firmware has left room for one that is plugged in later. */
static void place(Device *device)
{
    if (!(config_read(device->bus, 0, 0x10) & ~15u)) {
        config_write(device->bus, 0, 0x10, config_read(0, device->bridge, 0x20) << 16);
        config_write(device->bus, 0, 0x14, 0);
    }
    config_write(0, device->bridge, 4, 6);
    config_write(device->bus, 0, 4, 6);
    device->registers = config_read(device->bus, 0, 0x10) & ~15u;
}

static void greet(Device *device)
{
    device->known = true;
    device->name[0] = 0;
    place(device);
    attach(device);
    if (start_controller(device) && try(device))
        tell(device->name, " holds what was written");
    else
        tell(device->name, " is broken");
}

static void look(Device *device)
{
    bool there = config_read(device->bus, 0, 0) != 0xffffffff;
    if (there && !device->known && config_read(device->bus, 0, 8) >> 8 == 0x010802) {
        greet(device);
    } else if (!there && device->known) {
        device->known = false;
        detach(device);
        tell(device->name, " is gone");
    }
}

/* Whatever somebody wants to unplug may go (ACPI's registers for hotplug). */
static void let_go(void)
{
    for (unsigned bus = 0; bus < 32; bus++) {
        out32(0xcd0, bus);
        uint32_t slots = in32(0xcc4);
        if (slots)
            out32(0xcc8, slots);
    }
}

static unsigned find_bridges(void)
{
    unsigned count = 0;
    for (unsigned function = 0; function < 256 && count < BRIDGES; function++) {
        if (config_read(0, function, 0) == 0xffffffff ||
            (config_read(0, function, 0xc) >> 16 & 0x7f) != 1)
            continue;
        devices[count] = (Device){
            .pages = &all_pages[count],
            .bridge = function,
            .bus = config_read(0, function, 0x18) >> 8 & 0xff,
        };
        count++;
    }
    return count;
}

__attribute__((used)) void guest(void);

void guest(void)
{
    start_timer();
    unsigned count = find_bridges();
    start_iommu();
    tell("it", " is ready");
    for (;;) {
        for (unsigned i = 0; i < count; i++)
            look(&devices[i]);
        let_go();
        wait_tick();
    }
}
