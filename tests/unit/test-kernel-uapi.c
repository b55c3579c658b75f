/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* kernel/uapi against figures that never change, and against the system's headers. */
#include "tests/unit/uapi-table.h"

#include <glib.h>
#include <stdbool.h>

/* The ABI in figures: what the kernel was seen to answer to. */
static const UapiRow literals[] = {
    {UAPI_NUMBER, "IOMMU_DESTROY", 0x3b80},
    {UAPI_NUMBER, "IOMMU_IOAS_ALLOC", 0x3b81},
    {UAPI_NUMBER, "IOMMU_IOAS_ALLOW_IOVAS", 0x3b82},
    {UAPI_NUMBER, "IOMMU_IOAS_COPY", 0x3b83},
    {UAPI_NUMBER, "IOMMU_IOAS_IOVA_RANGES", 0x3b84},
    {UAPI_NUMBER, "IOMMU_IOAS_MAP", 0x3b85},
    {UAPI_NUMBER, "IOMMU_IOAS_UNMAP", 0x3b86},
    {UAPI_NUMBER, "IOMMU_OPTION", 0x3b87},
    {UAPI_NUMBER, "IOMMU_VFIO_IOAS", 0x3b88},
    {UAPI_NUMBER, "IOMMU_HWPT_ALLOC", 0x3b89},
    {UAPI_NUMBER, "IOMMU_GET_HW_INFO", 0x3b8a},
    {UAPI_NUMBER, "IOMMU_HWPT_SET_DIRTY_TRACKING", 0x3b8b},
    {UAPI_NUMBER, "IOMMU_HWPT_GET_DIRTY_BITMAP", 0x3b8c},
    {UAPI_NUMBER, "IOMMU_HWPT_INVALIDATE", 0x3b8d},
    {UAPI_NUMBER, "IOMMU_FAULT_QUEUE_ALLOC", 0x3b8e},
    {UAPI_NUMBER, "IOMMU_IOAS_MAP_FILE", 0x3b8f},
    {UAPI_NUMBER, "IOMMU_VIOMMU_ALLOC", 0x3b90},
    {UAPI_NUMBER, "IOMMU_VDEVICE_ALLOC", 0x3b91},
    {UAPI_NUMBER, "IOMMU_IOAS_CHANGE_PROCESS", 0x3b92},
    {UAPI_NUMBER, "IOMMU_VEVENTQ_ALLOC", 0x3b93},
    {UAPI_NUMBER, "IOMMU_HW_QUEUE_ALLOC", 0x3b94},
    {UAPI_NUMBER, "VFIO_GET_API_VERSION", 0x3b64},
    {UAPI_NUMBER, "VFIO_CHECK_EXTENSION", 0x3b65},
    {UAPI_NUMBER, "VFIO_SET_IOMMU", 0x3b66},
    {UAPI_NUMBER, "VFIO_GROUP_SET_CONTAINER", 0x3b68},
    {UAPI_NUMBER, "VFIO_GROUP_GET_DEVICE_FD", 0x3b6a},
    {UAPI_NUMBER, "VFIO_IOMMU_GET_INFO", 0x3b70},
    {UAPI_NUMBER, "VFIO_IOMMU_MAP_DMA", 0x3b71},
    {UAPI_NUMBER, "VFIO_DEVICE_PCI_HOT_RESET", 0x3b71},
    {UAPI_NUMBER, "VFIO_IOMMU_UNMAP_DMA", 0x3b72},
    {UAPI_NUMBER, "VFIO_DEVICE_BIND_IOMMUFD", 0x3b76},
    {UAPI_NUMBER, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", 0x3b77},
    {UAPI_NUMBER, "VFIO_DEVICE_DETACH_IOMMUFD_PT", 0x3b78},
    {UAPI_SIZE, "iommu_destroy", 8},
    {UAPI_SIZE, "iommu_ioas_alloc", 12},
    {UAPI_SIZE, "iommu_iova_range", 16},
    {UAPI_SIZE, "iommu_ioas_allow_iovas", 24},
    {UAPI_SIZE, "iommu_ioas_iova_ranges", 32},
    {UAPI_SIZE, "iommu_ioas_map", 40},
    {UAPI_SIZE, "iommu_ioas_map_file", 40},
    {UAPI_SIZE, "iommu_ioas_copy", 40},
    {UAPI_SIZE, "iommu_ioas_unmap", 24},
    {UAPI_SIZE, "iommu_option", 24},
    {UAPI_SIZE, "iommu_hwpt_alloc", 48},
    {UAPI_SIZE, "iommu_hw_info", 40},
    {UAPI_SIZE, "iommu_hwpt_get_dirty_bitmap", 48},
    {UAPI_SIZE, "iommu_hwpt_invalidate", 32},
    {UAPI_SIZE, "iommu_ioas_change_process", 8},
    {UAPI_SIZE, "iommu_vfio_ioas", 12},
    {UAPI_SIZE, "iommu_hwpt_set_dirty_tracking", 16},
    {UAPI_SIZE, "iommu_vdevice_alloc", 24},
    {UAPI_SIZE, "iommu_veventq_alloc", 32},
    {UAPI_SIZE, "iommu_hw_queue_alloc", 40},
    {UAPI_SIZE, "vfio_iommu_type1_dma_map", 32},
    {UAPI_SIZE, "vfio_device_bind_iommufd", 16},
    {UAPI_SIZE, "vfio_device_attach_iommufd_pt", 12},
};

static const UapiRow *find_ours(const UapiRow *wanted)
{
    for (size_t i = 0; i < uapi_n_ours; i++)
        if (uapi_ours[i].kind == wanted->kind && g_str_equal(uapi_ours[i].name, wanted->name))
            return &uapi_ours[i];
    return NULL;
}

static void test_literals(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(literals); i++) {
        const UapiRow *ours = find_ours(&literals[i]);
        g_test_message("%s", literals[i].name);
        g_assert_nonnull(ours);
        g_assert_cmphex(ours->value, ==, literals[i].value);
    }
}

static void test_system(void)
{
    bool has_iommufd = false;
    for (size_t i = 0; i < uapi_n_system; i++) {
        const UapiRow *theirs = &uapi_system[i], *ours = find_ours(theirs);
        g_test_message("%s", theirs->name);
        g_assert_nonnull(ours);
        has_iommufd |= g_str_equal(theirs->name, "IOMMU_DESTROY");
        /* Structures grow at their end; ours may be as they were. */
        if (theirs->kind == UAPI_SIZE)
            g_assert_cmpuint(ours->value, <=, theirs->value);
        else
            g_assert_cmphex(ours->value, ==, theirs->value);
    }
    g_test_message("compared %zu of %zu figures with the system's headers", uapi_n_system,
                   uapi_n_ours);
    if (!has_iommufd)
        g_test_skip("this system has no linux/iommufd.h; only vfio.h was compared");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kernel/uapi/literals", test_literals);
    g_test_add_func("/kernel/uapi/system", test_system);
    return g_test_run();
}
