/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/host/memfd.h"

#include "kernel/host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int memfd_check(int memfd, uint64_t offset, uint64_t length, unsigned access)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (length == 0 || offset % page != 0 || length % page != 0)
        return -EINVAL;

    int mode = fcntl(memfd, F_GETFL);
    if (mode < 0)
        return -errno;
    /* The kernel knows seals on shmem and hugetlbfs only, which are just the files it can pin. */
    int seals = fcntl(memfd, F_GET_SEALS);
    struct stat st;
    if (seals < 0 || fstat(memfd, &st) < 0)
        return -EINVAL;
    uint64_t size = (uint64_t)st.st_size;
    if (offset > size || length > size - offset)
        return -EINVAL;

    if (access & HOST_ACCESS_WRITE) {
        if ((mode & O_ACCMODE) == O_RDONLY)
            return -EACCES;
        if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
            return -EPERM;
    }
    return 0;
}
