/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"

#define PROBE_ALIGNMENT_MAX 4096

/* STATX_DIOALIGN (Linux 6.1): the C library here has the structure without
 * these fields, and <linux/stat.h> cannot be included beside <sys/stat.h>. */
#define PROBE_STATX_DIOALIGN 0x2000U
#define PROBE_STATX_SIZE 256
#define PROBE_STATX_MASK_OFFSET 0
#define PROBE_STATX_MEMORY_OFFSET 152
#define PROBE_STATX_OFFSET_OFFSET 156

static uint32_t
probe_statx_field(const uint8_t *statx, size_t offset)
{
    uint32_t value;

    memcpy(&value, statx + offset, sizeof(value));
    return value;
}

/* The alignment that direct I/O needs. */
static uint32_t
probe_alignment(int fd, const struct stat *status)
{
    uint8_t statx[PROBE_STATX_SIZE] = { 0 };
    uint32_t memory;
    uint32_t offset;
    int sector;

    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, PROBE_STATX_DIOALIGN,
                statx) == 0 &&
        (probe_statx_field(statx, PROBE_STATX_MASK_OFFSET) &
         PROBE_STATX_DIOALIGN) != 0) {
        memory = probe_statx_field(statx, PROBE_STATX_MEMORY_OFFSET);
        offset = probe_statx_field(statx, PROBE_STATX_OFFSET_OFFSET);
        if (offset != 0) {
            return memory > offset ? memory : offset;
        }
    }
    if (S_ISBLK(status->st_mode) && ioctl(fd, BLKSSZGET, &sector) == 0 &&
        sector > 0) {
        return (uint32_t)sector;
    }
    return PROBE_ALIGNMENT_MAX; /* Enough for anybody. */
}

/* Whether the device has a write cache; yes if nobody knows. */
static bool
probe_device_is_volatile(dev_t device)
{
    /* A partition has no queue of its own, but its disk has. */
    static const char *const queues[] = { "queue", "../queue" };

    for (size_t i = 0; i < ARRAY_COUNT(queues); i++) {
        char path[96];
        char text[32] = "";

        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/write_cache",
                 major(device), minor(device), queues[i]);
        CLEANUP_FILE FILE *file = fopen(path, "re");
        if (file != NULL && fgets(text, sizeof(text), file) != NULL) {
            return strcmp(text, "write through\n") != 0;
        }
    }
    return true;
}

static int
probe_size(int fd, const struct stat *status, uint64_t *ret_size_bytes)
{
    if (S_ISBLK(status->st_mode)) {
        return ioctl(fd, BLKGETSIZE64, ret_size_bytes) == 0 ? 0 : -errno;
    }
    *ret_size_bytes = (uint64_t)status->st_size;
    return 0;
}

static bool
probe_is_volatile(const struct stat *status, enum io_cache_mode mode)
{
    switch (mode) {
    case IO_CACHE_VOLATILE:
        return true;
    case IO_CACHE_NONVOLATILE:
        return false;
    case IO_CACHE_AUTO:
        break;
    }
    return !S_ISBLK(status->st_mode) ||
           probe_device_is_volatile(status->st_rdev);
}

int
uring_probe_file(int fd, const struct stat *status, enum io_cache_mode mode,
                 struct io_file_info *ret_info)
{
    uint32_t alignment = probe_alignment(fd, status);
    uint64_t size;
    int rc = probe_size(fd, status, &size);

    if (rc != 0) {
        return rc;
    }
    if (alignment == 0 || alignment > PROBE_ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0) {
        return -EINVAL;
    }
    *ret_info = (struct io_file_info){
        /* A last partial sector is out of reach. */
        .size_bytes = size & ~(uint64_t)(alignment - 1),
        .alignment_bytes = alignment,
        .volatile_cache = probe_is_volatile(status, mode),
    };
    return 0;
}
