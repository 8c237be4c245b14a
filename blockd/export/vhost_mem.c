/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/units.h"

/* The memory table.
 *
 *   (1) A region is mapped only if its file covers it now; a file that shrinks
 *       later is the front end's fault (see vhost.h).
 *   (2) No pointer is made without its length: a lookup answers how many bytes
 *       lie behind it, and never says more than the region has.
 *   (3) Ranges may cross from one region into the next; pieces never do. */

static int
vhost_region_map(const struct vhost_msg_region *wanted, int fd, struct err *err,
                 struct vhost_region *ret_region)
{
    struct stat status;

    if (fstat(fd, &status) != 0) {
        int result = -errno;
        err_set(err, "SET_MEM_TABLE: fstat of a region: %s", strerror(errno));
        return result;
    }
    /* Neither addition overflows: vhost_msg_parse() has looked. */
    uint64_t end = wanted->mmap_offset + wanted->size_bytes;
    if (!S_ISREG(status.st_mode) || status.st_size < 0 ||
        end > (uint64_t)status.st_size) {
        err_set(err,
                "SET_MEM_TABLE: a region ends at 0x%llx of a file of 0x%llx "
                "bytes (is the guest's memory a memfd with share=on?)",
                (unsigned long long)end, (unsigned long long)status.st_size);
        return -EINVAL;
    }

    /* Huge pages want offset and length in their size, which is the file's
     * block size. */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (status.st_blksize > 0 && (uint64_t)status.st_blksize > page &&
        units_is_power_of_two((uint64_t)status.st_blksize)) {
        page = (uint64_t)status.st_blksize;
    }
    uint64_t first = units_align_down(wanted->mmap_offset, page);
    uint64_t map_bytes = units_align_up(end, page) - first;
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_NORESERVE, fd, (off_t)first);
    if (map == MAP_FAILED) {
        int result = -errno;
        err_set(err, "SET_MEM_TABLE: mmap of 0x%llx bytes: %s",
                (unsigned long long)map_bytes, strerror(errno));
        return result;
    }
    /* A core file of blockd is none of the guest's. */
    (void)madvise(map, map_bytes, MADV_DONTDUMP);
    *ret_region = (struct vhost_region){
        .guest_addr = wanted->guest_addr,
        .user_addr = wanted->user_addr,
        .size_bytes = wanted->size_bytes,
        .base = (uint8_t *)map + (wanted->mmap_offset - first),
        .map = map,
        .map_bytes = map_bytes,
    };
    return 0;
}

int
vhost_mem_map(const struct vhost_msg_mem *table, const int *fds,
              struct err *err, struct vhost_mem *ret_mem)
{
    struct vhost_mem mem = { .count = 0 };

    for (uint32_t i = 0; i < table->count; i++) {
        int result =
            vhost_region_map(&table->regions[i], fds[i], err, &mem.regions[i]);
        if (result != 0) {
            vhost_mem_unmap(&mem);
            return result;
        }
        mem.count++;
    }
    *ret_mem = mem;
    return 0;
}

void
vhost_mem_unmap(struct vhost_mem *mem)
{
    for (uint32_t i = 0; i < mem->count; i++) {
        (void)munmap(mem->regions[i].map, mem->regions[i].map_bytes);
    }
    *mem = (struct vhost_mem){ .count = 0 };
}

uint8_t *
vhost_mem_guest(const struct vhost_mem *mem, uint64_t addr, uint64_t size_bytes,
                uint64_t *ret_bytes)
{
    for (uint32_t i = 0; i < mem->count; i++) {
        const struct vhost_region *region = &mem->regions[i];
        uint64_t at = addr - region->guest_addr; /* Huge if below. */
        if (at < region->size_bytes) {
            uint64_t left = region->size_bytes - at;
            *ret_bytes = size_bytes < left ? size_bytes : left;
            return region->base + at;
        }
    }
    return NULL;
}

bool
vhost_mem_read(const struct vhost_mem *mem, uint64_t addr, void *data,
               uint32_t size_bytes)
{
    uint8_t *to = data;

    while (size_bytes > 0) {
        uint64_t step;
        const uint8_t *from = vhost_mem_guest(mem, addr, size_bytes, &step);
        if (from == NULL) {
            return false;
        }
        memcpy(to, from, step);
        to += step;
        size_bytes -= (uint32_t)step;
        /* The address space has a top; nothing goes on at 0. */
        if (__builtin_add_overflow(addr, step, &addr) && size_bytes > 0) {
            return false;
        }
    }
    vhost_copied();
    return true;
}

uint8_t *
vhost_mem_user(const struct vhost_mem *mem, uint64_t addr, uint64_t size_bytes)
{
    for (uint32_t i = 0; i < mem->count; i++) {
        const struct vhost_region *region = &mem->regions[i];
        uint64_t at = addr - region->user_addr;
        if (at < region->size_bytes && size_bytes <= region->size_bytes - at) {
            return region->base + at;
        }
    }
    return NULL;
}
