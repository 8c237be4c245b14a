/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/units.h"

/* Split virtqueues, as seen by the device (virtio 1.2, section 2.7).
 *
 * Indices count for ever, modulo 65536; an entry is at index % num.
 *
 *   driver                                this file
 *   avail ring[i], then avail idx  ---->  idx (acquire), then ring[i]
 *   kick unless told not to               notify_on(): tell, fence, look again
 *   used idx, then used ring[i]    <----  used ring[i], then idx (release)
 *   used_event or NO_INTERRUPT     ---->  after a fence: call or not
 *
 * Both fences are of the same kind (Dekker's): each side first writes its own
 * word, then reads the other's, so that at least one of the two sees that the
 * other one needs a wake-up.
 *
 * Invariants:
 *
 *   (1) What the driver says is taken from one load and bounded: avail idx may
 *       be at most 'num' ahead; heads are below 'num'; a head that is in flight
 *       cannot be made available again.  Else the ring is BROKEN.
 *   (2) A head is busy from take() to publish(), so that at most 'num' are
 *       fetched between two publications, however fast the driver adds them.
 *   (3) used_idx - used_published heads are in used_heads[], at most 'num'. */

static void *
vring_used_at(const struct vhost_ring *ring, uint32_t offset)
{
    return ring->used + offset;
}

/* used_event is behind the avail ring, avail_event behind the used ring. */
static const void *
vring_used_event(const struct vhost_ring *ring)
{
    return ring->avail + VRING_RING_OFFSET + (size_t)ring->num * 2;
}

static void *
vring_avail_event(const struct vhost_ring *ring)
{
    return ring->used + VRING_RING_OFFSET +
           (size_t)ring->num * sizeof(struct vring_used_entry);
}

void
vhost_ring_break(struct vhost_ring *ring, const char *why)
{
    if (ring->state == VHOST_RING_STARTED) {
        ring->state = VHOST_RING_BROKEN;
        ring->broken_why = why;
    }
}

/* ---- Start and stop ---- */

int
vhost_ring_remap(struct vhost_ring *ring, const struct vhost_mem *mem,
                 struct err *err)
{
    const struct vhost_msg_addr *addr = &ring->addr;
    const uint8_t *desc =
        vhost_mem_user(mem, addr->desc, vring_desc_bytes(ring->num));
    const uint8_t *avail =
        vhost_mem_user(mem, addr->avail, vring_avail_bytes(ring->num));
    uint8_t *used =
        vhost_mem_user(mem, addr->used, vring_used_bytes(ring->num));

    if (desc == NULL || avail == NULL || used == NULL) {
        err_set(err,
                "queue %u of %u at 0x%llx, 0x%llx, 0x%llx is not in the shared "
                "memory",
                ring->index, ring->num, (unsigned long long)addr->desc,
                (unsigned long long)addr->avail,
                (unsigned long long)addr->used);
        return -EPROTO;
    }
    /* Of our own pointers: atomic accesses rest on it. */
    if ((uintptr_t)desc % 16 != 0 || (uintptr_t)avail % 2 != 0 ||
        (uintptr_t)used % 4 != 0) {
        err_set(err, "queue %u at 0x%llx, 0x%llx, 0x%llx is misaligned",
                ring->index, (unsigned long long)addr->desc,
                (unsigned long long)addr->avail,
                (unsigned long long)addr->used);
        return -EPROTO;
    }
    ring->desc = desc;
    ring->avail = avail;
    ring->used = used;
    return 0;
}

static int
vhost_ring_recover(struct vhost_ring *ring,
                   const struct vhost_inflight *inflight, struct err *err)
{
    bool is_new = true;

    ring->resubmit_count = 0;
    ring->resubmit_next = 0;
    ring->counter = 0;
    int result =
        vhost_inflight_queue_get(inflight, ring->index, &ring->inflight);
    if (result == 0 && ring->inflight.head != NULL) {
        result = vhost_inflight_recover(&ring->inflight, ring->num,
                                        ring->used_idx, &is_new, ring->resubmit,
                                        &ring->resubmit_count, &ring->counter);
    }
    if (result != 0) {
        err_set(err,
                "queue %u of %u does not match the in-flight region (%u queues "
                "of %u)",
                ring->index, ring->num, inflight->queue_count,
                inflight->queue_size);
        return -EPROTO;
    }
    /* A region that has been in use knows better than the front end, which
     * was not told by the process that died. */
    ring->last_avail =
        is_new ? ring->base : (uint16_t)(ring->used_idx + ring->resubmit_count);
    return 0;
}

int
vhost_ring_start(struct vhost_ring *ring, const struct vhost_mem *mem,
                 const struct vhost_inflight *inflight, uint64_t features,
                 struct err *err)
{
    CHECK(ring->state == VHOST_RING_STOPPED);

    int result = vhost_ring_remap(ring, mem, err);
    if (result != 0) {
        return result;
    }
    ring->event_idx = (features & VIRTIO_F_RING_EVENT_IDX) != 0;
    ring->indirect = (features & VIRTIO_F_RING_INDIRECT_DESC) != 0;
    ring->used_idx = vhost_load16(vring_used_at(ring, VRING_IDX_OFFSET));
    ring->used_published = ring->used_idx;
    ring->used_signalled = ring->used_idx;
    result = vhost_ring_recover(ring, inflight, err);
    if (result != 0) {
        return result;
    }
    ring->avail_idx = ring->last_avail;
    ring->notify_off = false;
    ring->broken_why = NULL;
    memset(ring->busy, 0, sizeof ring->busy);
    ring->state = VHOST_RING_STARTED;
    return 0;
}

void
vhost_ring_stop(struct vhost_ring *ring)
{
    CHECK(ring->used_idx == ring->used_published ||
          ring->state == VHOST_RING_STOPPED);
    if (ring->state != VHOST_RING_STOPPED) {
        /* Those that are waiting to be submitted again count as not fetched
         * only in the in-flight region; so does their place in avail. */
        ring->base = ring->last_avail;
    }
    ring->state = VHOST_RING_STOPPED;
    ring->desc = NULL;
    ring->avail = NULL;
    ring->used = NULL;
    ring->inflight = (struct vhost_inflight_queue){ .head = NULL };
}

/* ---- avail ---- */

bool
vhost_ring_peek(struct vhost_ring *ring, uint16_t *ret_head)
{
    if (ring->state != VHOST_RING_STARTED) {
        return false;
    }
    if (ring->resubmit_next < ring->resubmit_count) {
        *ret_head = ring->resubmit[ring->resubmit_next];
        return true;
    }
    if (ring->avail_idx == ring->last_avail) {
        /* Acquire: entries that idx counts are there. */
        uint16_t idx = vhost_load16_acquire(ring->avail + VRING_IDX_OFFSET);
        uint16_t ahead = (uint16_t)(idx - ring->last_avail);
        if (ahead == 0) {
            return false;
        }
        if (ahead > ring->num) {
            vhost_ring_break(ring, "the avail index jumped");
            return false;
        }
        ring->avail_idx = idx;
    }
    uint16_t head =
        vhost_load16(ring->avail + VRING_RING_OFFSET +
                     (size_t)(ring->last_avail & (ring->num - 1)) * 2);
    if (head >= ring->num) {
        vhost_ring_break(ring, "a head is beyond the descriptor table");
        return false;
    }
    if (ring->busy[head]) {
        vhost_ring_break(ring, "a head was made available twice");
        return false;
    }
    *ret_head = head;
    return true;
}

void
vhost_ring_take(struct vhost_ring *ring, uint16_t head)
{
    CHECK(!ring->busy[head]);
    ring->busy[head] = true;
    if (ring->resubmit_next < ring->resubmit_count) {
        CHECK(ring->resubmit[ring->resubmit_next] == head);
        ring->resubmit_next++; /* Its mark and its counter are there. */
        return;
    }
    vhost_inflight_take(&ring->inflight, head, ring->counter);
    ring->counter++;
    ring->last_avail++;
}

/* ---- used ---- */

void
vhost_ring_push(struct vhost_ring *ring, uint16_t head, uint32_t size_bytes)
{
    uint32_t slot = ring->used_idx & (ring->num - 1);
    struct vring_used_entry entry = {
        .id = le32_make(head),
        .size_bytes = le32_make(size_bytes),
    };

    CHECK(ring->state != VHOST_RING_STOPPED);
    CHECK(ring->busy[head]);
    vhost_inflight_use(&ring->inflight, head);
    memcpy(vring_used_at(ring, VRING_RING_OFFSET + slot * 8u), &entry,
           sizeof entry);
    ring->used_heads[slot] = head;
    ring->used_idx++;
}

static bool
vhost_ring_wants_call(struct vhost_ring *ring)
{
    uint16_t from = ring->used_signalled;
    uint16_t to = ring->used_published;

    ring->used_signalled = to;
    if (!ring->event_idx) {
        return (vhost_load16(ring->avail + VRING_FLAGS_OFFSET) &
                VRING_AVAIL_NO_INTERRUPT) == 0;
    }
    /* Whether used_event is among the entries from .. to-1. */
    uint16_t event = vhost_load16(vring_used_event(ring));
    return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

bool
vhost_ring_publish(struct vhost_ring *ring)
{
    if (ring->used_idx == ring->used_published) {
        return false;
    }
    /* Release: the entries, the guests' data and the batch's list come first.
     */
    vhost_store16_release(vring_used_at(ring, VRING_IDX_OFFSET),
                          ring->used_idx);
    for (uint16_t i = ring->used_published; i != ring->used_idx; i++) {
        uint16_t head = ring->used_heads[i & (ring->num - 1)];
        ring->busy[head] = false;
        vhost_inflight_clear(&ring->inflight, head);
    }
    vhost_inflight_settle(&ring->inflight, ring->used_idx);
    ring->used_published = ring->used_idx;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* idx before the wish. */
    return vhost_ring_wants_call(ring);
}

/* ---- Kicks ---- */

bool
vhost_ring_notify_on(struct vhost_ring *ring)
{
    if (ring->state != VHOST_RING_STARTED) {
        return false;
    }
    if (ring->event_idx) {
        vhost_store16(vring_avail_event(ring), ring->last_avail);
    } else {
        vhost_store16(vring_used_at(ring, VRING_FLAGS_OFFSET), 0);
    }
    ring->notify_off = false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* The wish before idx. */
    return vhost_load16_acquire(ring->avail + VRING_IDX_OFFSET) !=
           ring->last_avail;
}

void
vhost_ring_notify_off(struct vhost_ring *ring)
{
    if (ring->state != VHOST_RING_STARTED || ring->notify_off) {
        return;
    }
    ring->notify_off = true;
    if (ring->event_idx) {
        /* The entry before the next: as far away as can be. */
        vhost_store16(vring_avail_event(ring),
                      (uint16_t)(ring->last_avail - 1));
    } else {
        vhost_store16(vring_used_at(ring, VRING_FLAGS_OFFSET),
                      VRING_USED_NO_NOTIFY);
    }
}
