/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reads the kernel's own structures: contexts -> objects -> areas -> ranges.
 *
 * No lock is held. Whatever is followed is read through probes, which fail on a bad address and
 * don't fault; every search is bounded, whatever it meets. A walk that raced with changes gives
 * records that don't fit together: it is for audit and repair, never for a decision, and a repair
 * is made only of what two walks say (kernel/ledger/audit/repair.h). One call does a bounded piece of
 * work and says where the next one has to go on.
 */
#include "maps.bpf.h"
#include "xarray.bpf.h"

/* Slots looked at, and areas followed, in one call. */
#define WALK_STEPS 16384
#define TREE_DEPTH 128

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, LEDGER_WALK_RECORDS);
    __type(key, __u32);
    __type(value, struct ledger_record);
} records SEC(".maps");

struct walker {
    struct ledger_walk *walk;
    __u64 objects; /* xa_head of the context */
    __u64 ioas;    /* whose areas are being followed */
    __u64 iova;
    __u64 id;
    __u32 records;
    __u32 in_areas;
    __u32 done;
};

/* The object at w->id, or 0 with w->id moved to the next id that may have one, or w->done set. */
static __noinline __u64 walk_object(struct walker *w)
{
    __u64 object, span = 0;

    if (!w)
        return 0;
    object = object_at(w->objects, w->id, &span);
    if (object)
        return object;
    if (span)
        w->id = (w->id | (span - 1)) + 1;
    else
        w->done = 1;
    return 0;
}

static __always_inline struct ledger_record *next_record(struct walker *w)
{
    __u32 index = w->records;
    struct ledger_record *record = bpf_map_lookup_elem(&records, &index);

    if (record)
        w->records++;
    return record;
}

struct search {
    __u64 node;
    __u64 found;
    __u64 from;
};

/* One step down: the leftmost area that begins at or after `from`. */
static long search_step(__u32 index, void *data)
{
    struct search *search = data;
    struct interval_tree_node *node = (void *)search->node;

    if (!node)
        return 1;
    if (BPF_CORE_READ(node, start) >= search->from) {
        search->found = search->node;
        search->node = (__u64)BPF_CORE_READ(node, rb.rb_left);
    } else {
        search->node = (__u64)BPF_CORE_READ(node, rb.rb_right);
    }
    return 0;
}

static __noinline int describe_range(struct ledger_record *record, struct iopt_pages *range)
{
    struct iopt_pages___files *file_range = (void *)range;
    struct task_struct *task;

    if (!record)
        return 0;
    record->address = (__u64)range;
    record->npages = BPF_CORE_READ(range, npages);
    record->pinned = BPF_CORE_READ(range, npinned);
    record->charged = BPF_CORE_READ(range, last_npinned);
    /* What a dead process had charged stays there when it is unpinned. */
    if (record->charged > record->pinned)
        record->charged = record->pinned;
    record->source = (__u64)BPF_CORE_READ(range, source_mm);
    record->offset = (__u64)BPF_CORE_READ(range, uptr);
    if (bpf_core_field_exists(file_range->type)) {
        __u32 type = BPF_CORE_READ(file_range, type);

        if (bpf_core_enum_value_exists(enum iopt_address_type, IOPT_ADDRESS_FILE) &&
            type == bpf_core_enum_value(enum iopt_address_type, IOPT_ADDRESS_FILE)) {
            /* By its inode: the same memory may be opened more than once. */
            record->source = (__u64)BPF_CORE_READ(file_range, file, f_inode);
            record->offset = BPF_CORE_READ(file_range, start);
        }
        if (bpf_core_enum_value_exists(enum iopt_address_type, IOPT_ADDRESS_DMABUF) &&
            type == bpf_core_enum_value(enum iopt_address_type, IOPT_ADDRESS_DMABUF))
            record->kind = LEDGER_RECORD_DMABUF;
    }
    task = BPF_CORE_READ(range, source_task);
    record->tgid = BPF_CORE_READ(task, tgid);
    record->start = BPF_CORE_READ(task, start_boottime) / LEDGER_NS_PER_TICK;
    return 0;
}

static __noinline int next_area(struct walker *w)
{
    struct iommufd_ioas *ioas;
    struct search search = {};
    struct iopt_area *area;
    struct iopt_pages *range;
    struct ledger_record *record;

    if (!w)
        return 0;
    ioas = (struct iommufd_ioas *)w->ioas;
    search.from = w->iova;
    search.node = (__u64)BPF_CORE_READ(ioas, iopt.area_itree.rb_root.rb_node);
    bpf_loop(TREE_DEPTH, search_step, &search, 0);
    if (!search.found) {
        w->in_areas = 0;
        w->id++;
        return 0;
    }
    area = (struct iopt_area *)search.found;
    range = BPF_CORE_READ(area, pages);
    w->iova = BPF_CORE_READ(area, node.start) + 1;
    record = next_record(w);
    if (!record)
        return 0;
    record->id = w->id;
    if (!range) {
        record->kind = LEDGER_RECORD_PENDING;
        return 0;
    }
    record->kind = LEDGER_RECORD_AREA;
    record->type = LEDGER_OBJECT_IOAS;
    record->under = 0;
    return describe_range(record, range);
}

static __noinline int next_object(struct walker *w)
{
    struct iommufd_hwpt_paging *hwpt;
    struct iommufd_object *object;
    struct ledger_record *record;

    if (!w)
        return 0;
    object = (struct iommufd_object *)walk_object(w);
    if (!object)
        return 0;
    record = next_record(w);
    if (!record)
        return 0;
    record->kind = LEDGER_RECORD_OBJECT;
    record->address = (__u64)object;
    record->id = w->id;
    if ((__u64)object == XARRAY_RESERVED) {
        record->kind = LEDGER_RECORD_RESERVED;
        w->id++;
        return 0;
    }
    record->type = own_type(BPF_CORE_READ(object, type));
    record->under = 0;
    if (record->type == LEDGER_OBJECT_HWPT_PAGING) {
        hwpt = (struct iommufd_hwpt_paging *)object;
        record->under = BPF_CORE_READ(hwpt, ioas, obj.id);
    }
    if (record->type == LEDGER_OBJECT_IOAS) {
        w->ioas = (__u64)object;
        w->iova = 0;
        w->in_areas = 1;
    } else {
        w->id++;
    }
    return 0;
}

static long walk_step(__u32 index, void *data)
{
    struct walker *w = data;

    if (w->done || w->records + 1 >= LEDGER_WALK_RECORDS)
        return 1;
    if (w->in_areas)
        next_area(w);
    else
        next_object(w);
    return 0;
}

/*
 * Continues the walk of one context. The caller sees to it that the context can't go away, by
 * holding its file, or discards what was read if its entry in "contexts" has changed.
 */
SEC("syscall")
int walk_context(struct ledger_walk *args)
{
    struct iommufd_object *object;
    struct walker w = {};

    w.objects = table_of(args->context);
    w.id = args->id ? args->id : 1;
    if (args->in_areas) {
        /* The object may have gone since: then the walk goes on behind it. */
        w.ioas = walk_object(&w);
        object = (struct iommufd_object *)w.ioas;
        w.in_areas = object && w.ioas != XARRAY_RESERVED &&
                     own_type(BPF_CORE_READ(object, type)) == LEDGER_OBJECT_IOAS;
        w.iova = args->iova;
    }
    bpf_loop(WALK_STEPS, walk_step, &w, 0);
    args->id = w.id;
    args->iova = w.iova;
    args->in_areas = w.in_areas;
    args->ret_records = w.records;
    args->ret_done = w.done;
    return 0;
}

/* Whether the container maps by type1: others have other structures. */
static __always_inline bool is_type1(struct vfio_container *container)
{
    static const char type1[] = "vfio-iommu-type1";
    char name[sizeof(type1)] = {};

    bpf_probe_read_kernel_str(name, sizeof(name),
                              BPF_CORE_READ(container, iommu_driver, ops, name));
    return !bpf_strncmp(name, sizeof(name), type1);
}

/* One step down: the leftmost mapping that begins at or after `from`. */
static long search_dma_step(__u32 index, void *data)
{
    struct search *search = data;
    struct vfio_dma *dma;

    if (!search->node)
        return 1;
    dma = (struct vfio_dma *)(search->node - bpf_core_field_offset(struct vfio_dma, node));
    if (BPF_CORE_READ(dma, iova) >= search->from) {
        search->found = (__u64)dma;
        search->node = (__u64)BPF_CORE_READ(dma, node.rb_left);
    } else {
        search->node = (__u64)BPF_CORE_READ(dma, node.rb_right);
    }
    return 0;
}

static __noinline int next_dma(struct walker *w)
{
    struct search search = {};
    struct task_struct *task;
    struct ledger_record *record;
    struct vfio_dma *dma;

    if (!w)
        return 0;
    search.node = w->objects;
    search.from = w->iova;
    bpf_loop(TREE_DEPTH, search_dma_step, &search, 0);
    dma = (struct vfio_dma *)search.found;
    if (!dma) {
        w->done = 1;
        return 0;
    }
    record = next_record(w);
    if (!record)
        return 0;
    record->kind = LEDGER_RECORD_TYPE1;
    record->address = (__u64)dma;
    record->npages = BPF_CORE_READ(dma, size) >> LEDGER_PAGE_SHIFT;
    record->charged = record->pinned = BPF_CORE_READ(dma, locked_vm);
    record->source = (__u64)BPF_CORE_READ(dma, mm);
    record->offset = BPF_CORE_READ(dma, vaddr);
    task = BPF_CORE_READ(dma, task);
    record->tgid = BPF_CORE_READ(task, tgid);
    record->start = BPF_CORE_READ(task, start_boottime) / LEDGER_NS_PER_TICK;
    w->iova = BPF_CORE_READ(dma, iova) + 1;
    return 0;
}

static long walk_dma_step(__u32 index, void *data)
{
    struct walker *w = data;

    if (w->done || w->records + 1 >= LEDGER_WALK_RECORDS)
        return 1;
    next_dma(w);
    return 0;
}

/* The same for a container of VFIO's own. -EOPNOTSUPP: there is no type1. */
SEC("syscall")
int walk_container(struct ledger_walk *args)
{
    struct vfio_container *container = (struct vfio_container *)args->context;
    struct vfio_iommu *iommu;
    /* ret_records is 0 at the begin. Were it a constant, the verifier would try every number of
     * records. */
    struct walker w = {.iova = args->iova, .records = args->ret_records};

    if (!have_containers() || !bpf_core_type_exists(struct vfio_iommu))
        return -EOPNOTSUPP;
    iommu = BPF_CORE_READ(container, iommu_data);
    args->ret_done = 1;
    if (!iommu || !is_type1(container))
        return 0;
    w.objects = (__u64)BPF_CORE_READ(iommu, dma_list.rb_node);
    bpf_loop(WALK_STEPS, walk_dma_step, &w, 0);
    args->iova = w.iova;
    args->ret_records = w.records;
    args->ret_done = w.done;
    return 0;
}

/*
 * Every descriptor of an IOMMUFD on the host, of every device that is bound to one, and of every
 * container of VFIO's own. An IOMMUFD that the ledger has not seen becomes known, while the
 * iterator holds its file.
 */
SEC("iter/task_file")
int walk_files(struct bpf_iter__task_file *ctx)
{
    struct ledger_config *options = get_config();
    struct ledger_opened opened = {};
    struct task_struct *task = ctx->task;
    struct file *file = ctx->file;
    struct vfio_device_file *device;
    __u32 rdev;

    if (!task || !file || !options || !options->iommu_rdev)
        return 0;
    rdev = BPF_CORE_READ(file, f_inode, i_rdev);
    if (is_iommufd(options, rdev)) {
        opened.context = (__u64)BPF_CORE_READ(file, private_data);
        if (opened.context)
            make_context(opened.context);
    } else if (options->vfio_major && rdev >> 20 == options->vfio_major) {
        device = BPF_CORE_READ(file, private_data);
        opened.context = (__u64)BPF_CORE_READ(device, iommufd);
        opened.device = BPF_CORE_READ(device, devid);
    } else if (rdev == LEDGER_CONTAINER_RDEV) {
        opened.context = (__u64)BPF_CORE_READ(file, private_data);
    }
    if (!opened.context)
        return 0;
    opened.tgid = BPF_CORE_READ(task, tgid);
    opened.start = BPF_CORE_READ(task, group_leader, start_boottime) / LEDGER_NS_PER_TICK;
    opened.fd = ctx->fd;
    opened.rdev = rdev;
    bpf_seq_write(ctx->meta->seq, &opened, sizeof(opened));
    return 0;
}
