/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/cleanup.h"
#include "lib/base/units.h"

/* The in-flight region: what a blockd that dies leaves to the next one.
 *
 * The front end keeps the memory.  Each queue has a head and an entry for each
 * descriptor; the order of the stores is the whole point ("vhost-user.rst",
 * Inflight I/O tracking):
 *
 *   fetch      counter, then inflight = 1
 *   complete   next = last_batch_head, last_batch_head = i   (each of a batch)
 *              used idx += batch
 *              inflight = 0                                  (each of a batch)
 *              used_idx = used idx
 *
 * Killed between the last two steps, used_idx differs from the ring's idx by
 * the size of the batch, and the batch is the first so many of the list that
 * begins at last_batch_head.  Killed before: it was never completed, and is
 * submitted again.
 *
 * What has been fetched but not completed is (idx of the used ring, number of
 * entries in flight) past the used ring's idx: fetching resumes there, not at
 * the avail ring's idx, which counts requests that nobody has looked at.
 *
 * The region also keeps one byte of our own, the cache mode that the guest has
 * chosen: a guest that has chosen write-through never flushes.
 *
 * Nothing in it is trusted: a front end that spoils it spoils its own guest,
 * and no index out of it is used unchecked. */

static uint64_t
vhost_inflight_queue_bytes(uint16_t queue_size)
{
    uint64_t bytes = sizeof(struct vhost_inflight_head) +
                     (uint64_t)queue_size * sizeof(struct vhost_inflight_desc);
    return units_align_up(bytes, VHOST_INFLIGHT_ALIGNMENT);
}

int
vhost_inflight_create(const struct vhost_msg_inflight *wanted, bool writeback,
                      int *ret_fd, uint64_t *ret_size_bytes)
{
    uint64_t queues =
        wanted->queue_count * vhost_inflight_queue_bytes(wanted->queue_size);
    uint64_t size = queues + sizeof(struct vhost_inflight_note);

    CLEANUP_FD int fd =
        memfd_create("weft-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)size) != 0) {
        return -errno;
    }
    struct vhost_inflight_note note = {
        .magic = le64_make(VHOST_INFLIGHT_NOTE_MAGIC),
        .writeback = writeback,
    };
    ssize_t written = pwrite(fd, &note, sizeof note, (off_t)queues);
    if (written != (ssize_t)sizeof note) {
        return written < 0 ? -errno : -ENOSPC;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
        0) {
        return -errno;
    }
    *ret_fd = cleanup_take_fd(&fd);
    *ret_size_bytes = size;
    return 0;
}

int
vhost_inflight_map(const struct vhost_msg_inflight *region, int fd,
                   struct err *err, struct vhost_inflight *ret_inflight)
{
    uint64_t queues =
        region->queue_count * vhost_inflight_queue_bytes(region->queue_size);
    struct stat status;
    uint64_t end;

    if (fstat(fd, &status) != 0) {
        return -errno;
    }
    if (!S_ISREG(status.st_mode) || status.st_size < 0 ||
        region->mmap_size < queues ||
        region->mmap_offset % VHOST_INFLIGHT_ALIGNMENT != 0 ||
        __builtin_add_overflow(region->mmap_offset, region->mmap_size, &end) ||
        end > (uint64_t)status.st_size) {
        err_set(err,
                "SET_INFLIGHT_FD: 0x%llx bytes at 0x%llx of a file of 0x%llx "
                "do not hold %u queues of %u",
                (unsigned long long)region->mmap_size,
                (unsigned long long)region->mmap_offset,
                (unsigned long long)status.st_size, region->queue_count,
                region->queue_size);
        return -EINVAL;
    }

    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t first = units_align_down(region->mmap_offset, page);
    uint64_t skip = region->mmap_offset - first;
    /* Only what is used: mmap_size may be absurd. */
    uint64_t bytes = queues;
    if (region->mmap_size - queues >= sizeof(struct vhost_inflight_note)) {
        bytes += sizeof(struct vhost_inflight_note);
    }
    void *map = mmap(NULL, skip + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                     (off_t)first);
    if (map == MAP_FAILED) {
        int result = -errno;
        err_set(err, "SET_INFLIGHT_FD: mmap: %s", strerror(errno));
        return result;
    }
    struct vhost_inflight inflight = {
        .base = (uint8_t *)map + skip,
        .map = map,
        .map_bytes = skip + bytes,
        .queue_count = region->queue_count,
        .queue_size = region->queue_size,
    };
    if (bytes > queues) {
        struct vhost_inflight_note *note = (void *)(inflight.base + queues);
        if (vhost_load64(&note->magic) == VHOST_INFLIGHT_NOTE_MAGIC) {
            inflight.note = note;
        }
    }
    *ret_inflight = inflight;
    return 0;
}

void
vhost_inflight_unmap(struct vhost_inflight *inflight)
{
    if (inflight->map != NULL) {
        (void)munmap(inflight->map, inflight->map_bytes);
    }
    *inflight = (struct vhost_inflight){ .base = NULL };
}

int
vhost_inflight_queue_get(const struct vhost_inflight *inflight, uint32_t index,
                         struct vhost_inflight_queue *ret_queue)
{
    if (inflight->base == NULL) {
        *ret_queue = (struct vhost_inflight_queue){ .head = NULL };
        return 0;
    }
    if (index >= inflight->queue_count) {
        return -ERANGE;
    }
    uint8_t *at = inflight->base +
                  index * vhost_inflight_queue_bytes(inflight->queue_size);
    *ret_queue = (struct vhost_inflight_queue){
        .head = (void *)at,
        .descs = (void *)(at + sizeof(struct vhost_inflight_head)),
        .size = inflight->queue_size,
    };
    return 0;
}

bool
vhost_inflight_is_used(const struct vhost_inflight *inflight)
{
    for (uint32_t i = 0; i < inflight->queue_count; i++) {
        struct vhost_inflight_queue queue;
        if (vhost_inflight_queue_get(inflight, i, &queue) == 0 &&
            vhost_load16(&queue.head->version) != 0) {
            return true;
        }
    }
    return false;
}

/* ---- While it runs ---- */

static void
vhost_inflight_mark(struct vhost_inflight_desc *desc, uint8_t inflight)
{
    __atomic_store_n(&desc->inflight, inflight, __ATOMIC_RELEASE);
}

void
vhost_inflight_take(struct vhost_inflight_queue *queue, uint16_t head,
                    uint64_t counter)
{
    if (queue->head == NULL) {
        return;
    }
    CHECK(head < queue->size);
    vhost_store64(&queue->descs[head].counter, counter);
    vhost_inflight_mark(&queue->descs[head], 1);
}

void
vhost_inflight_use(struct vhost_inflight_queue *queue, uint16_t head)
{
    if (queue->head == NULL) {
        return;
    }
    CHECK(head < queue->size);
    vhost_store16(&queue->descs[head].next,
                  vhost_load16(&queue->head->last_batch_head));
    vhost_store16_release(&queue->head->last_batch_head, head);
}

void
vhost_inflight_clear(struct vhost_inflight_queue *queue, uint16_t head)
{
    if (queue->head == NULL) {
        return;
    }
    CHECK(head < queue->size);
    vhost_inflight_mark(&queue->descs[head], 0);
}

void
vhost_inflight_settle(struct vhost_inflight_queue *queue, uint16_t used_idx)
{
    if (queue->head != NULL) {
        vhost_store16_release(&queue->head->used_idx, used_idx);
    }
}

/* ---- After a restart ---- */

/* Finishes the last batch, if its last steps are missing. */
static void
vhost_inflight_finish_batch(struct vhost_inflight_queue *queue,
                            uint16_t used_idx)
{
    uint16_t missing =
        (uint16_t)(used_idx - vhost_load16(&queue->head->used_idx));
    uint16_t head = vhost_load16(&queue->head->last_batch_head);

    for (uint32_t i = 0; i < missing && i < queue->size; i++) {
        if (head >= queue->size) {
            break;
        }
        vhost_inflight_mark(&queue->descs[head], 0);
        head = vhost_load16(&queue->descs[head].next);
    }
    vhost_inflight_settle(queue, used_idx);
}

struct vhost_inflight_order {
    uint64_t counter;
    uint16_t head;
};

static int
vhost_inflight_compare(const void *a, const void *b)
{
    const struct vhost_inflight_order *left = a;
    const struct vhost_inflight_order *right = b;

    return (left->counter > right->counter) - (left->counter < right->counter);
}

int
vhost_inflight_recover(struct vhost_inflight_queue *queue, uint32_t ring_size,
                       uint16_t used_idx, bool *ret_is_new,
                       uint16_t ret_heads[VHOST_RING_SIZE_MAX],
                       uint32_t *ret_count, uint64_t *ret_counter)
{
    struct vhost_inflight_order order[VHOST_RING_SIZE_MAX];
    uint32_t count = 0;
    uint64_t counter = 0;

    if (ring_size > queue->size) {
        return -EPROTO;
    }
    uint16_t version = vhost_load16(&queue->head->version);
    if (version == 0) {
        memset(queue->descs, 0, queue->size * sizeof queue->descs[0]);
        vhost_store64(&queue->head->features, 0);
        vhost_store16(&queue->head->desc_count, queue->size);
        vhost_store16(&queue->head->last_batch_head, 0);
        vhost_store16(&queue->head->used_idx, used_idx);
        vhost_store16_release(&queue->head->version, VHOST_INFLIGHT_VERSION);
    } else if (version != VHOST_INFLIGHT_VERSION ||
               vhost_load16(&queue->head->desc_count) != queue->size) {
        return -EPROTO;
    } else {
        vhost_inflight_finish_batch(queue, used_idx);
    }

    for (uint32_t i = 0; i < ring_size; i++) {
        if (__atomic_load_n(&queue->descs[i].inflight, __ATOMIC_ACQUIRE) == 1) {
            order[count++] = (struct vhost_inflight_order){
                .counter = vhost_load64(&queue->descs[i].counter),
                .head = (uint16_t)i,
            };
        }
    }
    qsort(order, count, sizeof order[0], vhost_inflight_compare);
    for (uint32_t i = 0; i < count; i++) {
        ret_heads[i] = order[i].head;
        counter = order[i].counter + 1;
    }
    *ret_is_new = version == 0;
    *ret_count = count;
    *ret_counter = counter;
    return 0;
}
