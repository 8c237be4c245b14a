/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/vhost_driver.h"

/* The driver's side of split virtqueues, and block requests on top. */

static uint16_t *
word_at(uint8_t *ring, uint64_t offset)
{
    return (uint16_t *)(void *)(ring + offset);
}

static uint16_t
word_load(uint8_t *ring, uint64_t offset)
{
    return le16toh(__atomic_load_n(word_at(ring, offset), __ATOMIC_ACQUIRE));
}

static void
word_store(uint8_t *ring, uint64_t offset, uint16_t value)
{
    __atomic_store_n(word_at(ring, offset), htole16(value), __ATOMIC_RELEASE);
}

static bool
queue_has_event_idx(const struct vhost_driver_queue *queue)
{
    return (queue->driver->features & VIRTIO_F_RING_EVENT_IDX) != 0;
}

/* ---- Chains ---- */

static void
desc_fill(struct vring_desc *desc, const struct vhost_driver_seg *seg,
          bool has_next, uint16_t next)
{
    *desc = (struct vring_desc){
        .addr = le64_make(seg->addr),
        .size_bytes = le32_make(seg->size_bytes),
        .flags = le16_make((uint16_t)((seg->writable ? VRING_DESC_WRITE : 0) |
                                      (has_next ? VRING_DESC_NEXT : 0))),
        .next = le16_make(next),
    };
}

static void
queue_add_indirect(struct vhost_driver_queue *queue, uint16_t head,
                   const struct vhost_driver_seg *segs, uint32_t count)
{
    uint64_t addr =
        queue->table_addr + head * vring_desc_bytes(VHOST_DRIVER_SEGS_MAX);
    struct vring_desc *table = (void *)vhost_driver_at(queue->driver, addr);

    for (uint32_t i = 0; i < count; i++) {
        desc_fill(&table[i], &segs[i], i + 1 < count, (uint16_t)(i + 1));
    }
    queue->desc[head] = (struct vring_desc){
        .addr = le64_make(addr),
        .size_bytes = le32_make((uint32_t)vring_desc_bytes(count)),
        .flags = le16_make(VRING_DESC_INDIRECT),
    };
    queue->chain_next[head] = head;
}

/* A direct chain is a ring through chain_next[], for vhost_driver_take(). */
static void
queue_add_direct(struct vhost_driver_queue *queue, uint16_t head,
                 const struct vhost_driver_seg *segs, uint32_t count)
{
    uint16_t at = head;

    for (uint32_t i = 0; i < count; i++) {
        bool has_next = i + 1 < count;
        uint16_t next =
            has_next ? queue->free_heads[--queue->free_count] : head;
        desc_fill(&queue->desc[at], &segs[i], has_next, next);
        queue->chain_next[at] = next;
        at = next;
    }
}

int
vhost_driver_add(struct vhost_driver_queue *queue,
                 const struct vhost_driver_seg *segs, uint32_t count,
                 bool indirect, uint64_t cookie, uint16_t *ret_head)
{
    CHECK(count >= 1);
    CHECK(count <= VHOST_DRIVER_SEGS_MAX);
    if (queue->free_count < (indirect ? 1 : count)) {
        return -ENOSPC;
    }
    uint16_t head = queue->free_heads[--queue->free_count];
    if (indirect) {
        queue_add_indirect(queue, head, segs, count);
    } else {
        queue_add_direct(queue, head, segs, count);
    }
    queue->cookies[head] = cookie;
    queue->is_out[head] = true;
    queue->out_count++;
    word_store(queue->avail,
               VRING_RING_OFFSET + 2u * (queue->avail_idx & (queue->num - 1)),
               head);
    queue->avail_idx++;
    word_store(queue->avail, VRING_IDX_OFFSET, queue->avail_idx);
    if (ret_head != NULL) {
        *ret_head = head;
    }
    return 0;
}

bool
vhost_driver_kick(struct vhost_driver_queue *queue)
{
    uint16_t from = queue->avail_kicked;
    uint16_t to = queue->avail_idx;
    bool wanted;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (queue_has_event_idx(queue)) {
        uint16_t event =
            word_load(queue->used,
                      VRING_RING_OFFSET +
                          queue->num * sizeof(struct vring_used_entry));
        wanted = (uint16_t)(to - event - 1) < (uint16_t)(to - from);
    } else {
        wanted = (word_load(queue->used, VRING_FLAGS_OFFSET) &
                  VRING_USED_NO_NOTIFY) == 0;
    }
    queue->avail_kicked = to;
    if (wanted) {
        uint64_t one = 1;
        ssize_t written = write(queue->kick_fd, &one, sizeof one);
        (void)written;
    }
    return wanted;
}

int
vhost_driver_take(struct vhost_driver_queue *queue, uint64_t *ret_cookie,
                  uint16_t *ret_head, uint32_t *ret_size_bytes)
{
    struct vring_used_entry entry;

    if (word_load(queue->used, VRING_IDX_OFFSET) == queue->last_used) {
        return 0;
    }
    memcpy(&entry,
           queue->used + VRING_RING_OFFSET +
               (queue->last_used & (queue->num - 1)) * sizeof entry,
           sizeof entry);
    uint32_t id = le32_get(entry.id);
    if (id >= queue->num || !queue->is_out[id]) {
        return -EPROTO; /* Not at the back end: completed twice? */
    }
    queue->last_used++;
    uint16_t at = (uint16_t)id;
    do {
        queue->free_heads[queue->free_count++] = at;
        at = queue->chain_next[at];
    } while (at != id);
    queue->is_out[id] = false;
    queue->out_count--;
    *ret_cookie = queue->cookies[id];
    if (ret_head != NULL) {
        *ret_head = (uint16_t)id;
    }
    if (ret_size_bytes != NULL) {
        *ret_size_bytes = le32_get(entry.size_bytes);
    }
    return 1;
}

/* ---- Calls ---- */

bool
vhost_driver_want_call(struct vhost_driver_queue *queue)
{
    if (queue_has_event_idx(queue)) {
        word_store(queue->avail, VRING_RING_OFFSET + 2u * queue->num,
                   queue->last_used);
    } else {
        word_store(queue->avail, VRING_FLAGS_OFFSET, 0);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return word_load(queue->used, VRING_IDX_OFFSET) != queue->last_used;
}

void
vhost_driver_refuse_calls(struct vhost_driver_queue *queue)
{
    if (queue_has_event_idx(queue)) {
        /* As far away as can be. */
        word_store(queue->avail, VRING_RING_OFFSET + 2u * queue->num,
                   (uint16_t)(queue->last_used - 1));
    } else {
        word_store(queue->avail, VRING_FLAGS_OFFSET, VRING_AVAIL_NO_INTERRUPT);
    }
}

bool
vhost_driver_was_called(struct vhost_driver_queue *queue)
{
    uint64_t count;

    return read(queue->call_fd, &count, sizeof count) == sizeof count;
}

/* ---- Block requests ---- */

int
vhost_driver_blk_segs(struct vhost_driver_queue *queue, uint32_t type,
                      uint64_t sector, const struct vhost_driver_seg *data,
                      uint32_t count, bool indirect, uint64_t cookie,
                      uint16_t *ret_head)
{
    struct vhost_driver_seg segs[VHOST_DRIVER_SEGS_MAX];
    struct virtio_blk_header header = {
        .type = le32_make(type),
        .sector = le64_make(sector),
    };

    CHECK(count + 2 <= VHOST_DRIVER_SEGS_MAX);
    if (queue->free_count == 0) {
        return -ENOSPC;
    }
    /* vhost_driver_add() takes this head; header and status go with it. */
    uint16_t head = queue->free_heads[queue->free_count - 1];
    segs[0] = (struct vhost_driver_seg){
        .addr = queue->header_addr + head * sizeof header,
        .size_bytes = sizeof header,
    };
    for (uint32_t i = 0; i < count; i++) {
        segs[1 + i] = data[i];
    }
    segs[1 + count] = (struct vhost_driver_seg){
        .addr = queue->status_addr + head,
        .size_bytes = 1,
        .writable = true,
    };
    if (!indirect && queue->free_count < count + 2) {
        return -ENOSPC;
    }
    memcpy(vhost_driver_at(queue->driver, segs[0].addr), &header,
           sizeof header);
    *vhost_driver_at(queue->driver, segs[1 + count].addr) = 0xff;
    return vhost_driver_add(queue, segs, count + 2, indirect, cookie, ret_head);
}

int
vhost_driver_blk(struct vhost_driver_queue *queue, uint32_t type,
                 uint64_t sector, uint64_t data_addr, uint32_t data_bytes,
                 bool indirect, uint64_t cookie, uint16_t *ret_head)
{
    struct vhost_driver_seg data = {
        .addr = data_addr,
        .size_bytes = data_bytes,
        .writable = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID,
    };

    return vhost_driver_blk_segs(queue, type, sector, &data,
                                 data_bytes > 0 ? 1 : 0, indirect, cookie,
                                 ret_head);
}

uint8_t
vhost_driver_status(const struct vhost_driver_queue *queue, uint16_t head)
{
    return *vhost_driver_at(queue->driver, queue->status_addr + head);
}

int
vhost_driver_blk_wait(struct vhost_driver_queue *queue, uint32_t type,
                      uint64_t sector, uint64_t data_addr, uint32_t data_bytes)
{
    struct vhost_driver *driver = queue->driver;
    uint64_t cookie;
    uint16_t head;

    int result = vhost_driver_blk(queue, type, sector, data_addr, data_bytes,
                                  false, 0, &head);
    if (result != 0) {
        return result;
    }
    (void)vhost_driver_kick(queue);
    for (uint64_t tries = 0; tries < UINT64_C(100000000); tries++) {
        result = vhost_driver_take(queue, &cookie, &head, NULL);
        if (result != 0) {
            return result < 0 ? result : vhost_driver_status(queue, head);
        }
        if (driver->options.idle != NULL) {
            driver->options.idle(driver->options.context);
            if (tries > 1000) {
                return -ETIMEDOUT;
            }
        }
    }
    return -ETIMEDOUT;
}
