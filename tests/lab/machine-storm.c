/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many threads of one machine that map and unmap the same memory. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "tests/lab/machine-serve.h"

#define MAX_RANGES 64
#define MAX_THREADS 64

/* What the threads of a storm share. */
typedef struct {
    int iommufd;
    MachineStorm storm;
    pthread_mutex_t lock; /* of the rest */
    unsigned holders[MAX_RANGES];
    MachineStormed stormed;
} Storm;

/* A range counts as mapped from after it was mapped until before it is unmapped, so that all that
 * count at one moment really are. */
static void note_mapped(Storm *storm, uint32_t range)
{
    uint64_t mapped = 0;

    pthread_mutex_lock(&storm->lock);
    storm->holders[range]++;
    storm->stormed.mapped++;
    for (uint32_t i = 0; i < storm->storm.ranges; i++)
        mapped += storm->holders[i] > 0;
    storm->stormed.most = MAX(storm->stormed.most, mapped);
    pthread_mutex_unlock(&storm->lock);
}

static void note_failed(Storm *storm, int error)
{
    pthread_mutex_lock(&storm->lock);
    *(error == EDQUOT ? &storm->stormed.refused : &storm->stormed.other) += 1;
    pthread_mutex_unlock(&storm->lock);
}

static void *rage(void *data)
{
    Storm *storm = data;
    unsigned seed = (uintptr_t)&seed;

    for (unsigned i = 0; i < storm->storm.times; i++) {
        uint32_t range = rand_r(&seed) % storm->storm.ranges;
        struct iommu_ioas_map map = {
            .size = sizeof(map),
            .flags = MACHINE_MAP_FLAGS,
            .ioas_id = storm->storm.ioas,
            .user_va = storm->storm.memory + range * storm->storm.length,
            .length = storm->storm.length,
        };
        struct iommu_ioas_unmap unmap = {
            .size = sizeof(unmap), .ioas_id = map.ioas_id, .length = map.length};

        if (ioctl(storm->iommufd, IOMMU_IOAS_MAP, &map)) {
            note_failed(storm, errno);
            continue;
        }
        note_mapped(storm, range);
        pthread_mutex_lock(&storm->lock);
        storm->holders[range]--;
        pthread_mutex_unlock(&storm->lock);
        unmap.iova = map.iova;
        if (ioctl(storm->iommufd, IOMMU_IOAS_UNMAP, &unmap))
            note_failed(storm, errno);
    }
    return NULL;
}

MachineStormed storm_here(int iommufd, const MachineStorm *what)
{
    Storm storm = {.iommufd = iommufd, .storm = *what, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[MAX_THREADS];

    g_assert(what->threads <= MAX_THREADS && what->ranges <= MAX_RANGES);
    for (unsigned i = 0; i < what->threads; i++)
        pthread_create(&threads[i], NULL, rage, &storm);
    for (unsigned i = 0; i < what->threads; i++)
        pthread_join(threads[i], NULL);
    return storm.stormed;
}
