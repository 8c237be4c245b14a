/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Block requests (virtio 1.2, section 5.2.6).
 *
 * A chain is, whatever its segments: 16 bytes of header, data to write; then
 * data to read, and last of all one status byte.  Life of a request:
 *
 *   peek head, read chain, take head       vhost_blk_run()
 *   check                                  vhost_request_begin()
 *   parts of at most 1 MiB, one range,     vhost_request_pump()
 *   or a flush, to the volume
 *   last part back: status, used ring      vhost_request_finish()
 *   once a turn: publish, call             vhost_blk_publish()
 *
 * A write's bytes are copied and checksummed by the pump; a read's go to the
 * guest when its part comes back.  The pump stops (and with it the ring) when
 * parts or payloads run out; it never holds one while it waits for another, so
 * that whatever is out comes back.
 *
 * Nonsense fails the request as long as it has a status byte to say so. */

#define VHOST_STATUS_PENDING 0xffu
/* 1 GiB: what one range may discard. */
#define VHOST_RANGE_SECTORS_MAX (UINT32_C(1) << 21)

static volume_req_done_fn vhost_part_done;
static payload_waiter_fn vhost_ring_payload_available;
static io_task_fn vhost_ring_publish_run;

void
vhost_blk_ring_init(struct vhost_ring *ring)
{
    ring->waiter.available = vhost_ring_payload_available;
    list_init(&ring->waiter.node);
    list_init(&ring->starved_node);
    io_task_init(&ring->publish, vhost_ring_publish_run);
}

/* ---- Config space ---- */

void
vhost_blk_config_get(const struct vhost_export *vhost_export,
                     struct virtio_blk_config_space *ret_config)
{
    *ret_config = (struct virtio_blk_config_space){
        .capacity_sectors = le64_make(vhost_export->capacity_sectors),
        .seg_max = le32_make(VHOST_SEG_MAX),
        .block_size = le32_make(VOLUME_SECTOR_SIZE),
        .physical_block_exponent = 3, /* 4 KiB */
        .min_io_blocks = le16_make(WEFT_BLOCK_SIZE / VOLUME_SECTOR_SIZE),
        .writeback = vhost_export->writeback,
        .queue_count = le16_make(VHOST_QUEUES_MAX),
        .max_discard_sectors = le32_make(VHOST_RANGE_SECTORS_MAX),
        .max_discard_ranges = le32_make(VHOST_RANGES_MAX),
        .discard_alignment = le32_make(WEFT_BLOCK_SIZE / VOLUME_SECTOR_SIZE),
        .max_zeroes_sectors = le32_make(VHOST_RANGE_SECTORS_MAX),
        .max_zeroes_ranges = le32_make(VHOST_RANGES_MAX),
        .zeroes_may_unmap = 1,
    };
}

int
vhost_blk_config_set(struct vhost_export *vhost_export,
                     const struct vhost_msg_config *config)
{
    uint32_t at = offsetof(struct virtio_blk_config_space, writeback);

    if (config->flags == VHOST_CONFIG_BY_MIGRATION) {
        /* All of it may come; that byte is the only state. */
        if (config->offset > at || config->offset + config->size_bytes <= at) {
            return 0;
        }
    } else if (config->flags != VHOST_CONFIG_BY_GUEST || config->offset != at ||
               config->size_bytes != 1) {
        return -EINVAL;
    }
    uint8_t value = config->bytes[at - config->offset];
    if (value > 1) {
        return -EINVAL;
    }
    vhost_export->writeback = value != 0;
    if (vhost_export->inflight.note != NULL) {
        vhost_export->inflight.note->writeback = value;
    }
    return 0;
}

/* Whether a completed write may wait for a flush: only if the driver knows how
 * to flush, and has not chosen write-through. */
static bool
vhost_blk_is_writeback(const struct vhost_export *vhost_export)
{
    return (vhost_export->conn.features & VIRTIO_BLK_F_FLUSH) != 0 &&
           ((vhost_export->conn.features & VIRTIO_BLK_F_CONFIG_WCE) == 0 ||
            vhost_export->writeback);
}

/* ---- The end of a request ---- */

void
vhost_blk_publish(struct vhost_ring *ring)
{
    io_task_cancel(ring->vhost_export->io, &ring->publish);
    if (ring->state != VHOST_RING_STOPPED && vhost_ring_publish(ring)) {
        vhost_ring_call(ring);
    }
}

static void
vhost_ring_publish_run(struct io_task *task)
{
    vhost_blk_publish(container_of(task, struct vhost_ring, publish));
}

static void
vhost_request_free(struct vhost_request *request)
{
    struct vhost_ring *ring = request->ring;
    struct vhost_export *vhost_export = ring->vhost_export;

    CHECK(request->parts_pending == 0);
    CHECK(ring->current != request);
    list_remove(&request->node);
    ring->request_count--;
    slab_put(&vhost_export->request_slab, request);
    if (!list_is_empty(&vhost_export->starved)) {
        io_task_defer(vhost_export->io, &vhost_export->feed);
    }
    if (ring->request_count == 0) {
        vhost_export_settle(vhost_export);
    }
}

/* All parts are back. */
static void
vhost_request_finish(struct vhost_request *request)
{
    struct vhost_ring *ring = request->ring;

    if (!request->orphan) {
        uint64_t size = request->chain.in_bytes;
        *request->chain.status = (uint8_t)request->status;
        vhost_ring_push(ring, request->head,
                        size < UINT32_MAX ? (uint32_t)size : UINT32_MAX);
        io_task_defer(ring->vhost_export->io, &ring->publish);
    }
    vhost_request_free(request);
}

static void
vhost_ring_starve(struct vhost_ring *ring)
{
    if (!list_is_linked(&ring->starved_node)) {
        list_push_back(&ring->vhost_export->starved, &ring->starved_node);
    }
}

/* No more parts are made of it. */
static void
vhost_request_abandon(struct vhost_request *request)
{
    struct vhost_ring *ring = request->ring;

    request->all_made = true;
    if (ring->current == request) {
        ring->current = NULL;
        vhost_ring_starve(ring); /* It had stopped here: let it go on. */
        io_task_defer(ring->vhost_export->io, &ring->vhost_export->feed);
    }
}

static void
vhost_part_free(struct vhost_part *part)
{
    struct vhost_export *vhost_export = part->request->ring->vhost_export;

    if (part->payload != NULL) {
        payload_put(part->payload);
    }
    slab_put(&vhost_export->part_slab, part);
    if (!list_is_empty(&vhost_export->starved)) {
        io_task_defer(vhost_export->io, &vhost_export->feed);
    }
}

static void
vhost_part_done(struct volume_req *req)
{
    struct vhost_part *part = container_of(req, struct vhost_part, req);
    struct vhost_request *request = part->request;

    request->parts_pending--;
    if (req->result != 0) {
        request->status = VIRTIO_BLK_S_IOERR;
        vhost_request_abandon(request);
    } else if (req->kind == VOLUME_READ && !request->orphan) {
        vhost_chain_copy_in(&request->chain, &part->cursor,
                            payload_bytes(part->payload),
                            (uint32_t)req->size_bytes);
    }
    vhost_part_free(part);
    if (request->all_made && request->parts_pending == 0) {
        vhost_request_finish(request);
    }
}

void
vhost_blk_orphan(struct vhost_export *vhost_export)
{
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        struct vhost_ring *ring = &vhost_export->rings[i];
        ring->current = NULL;
        payload_wait_cancel(&ring->waiter);
        list_remove(&ring->starved_node);
        io_task_cancel(vhost_export->io, &ring->publish);
        ring->used_published = ring->used_idx; /* Never to be seen. */
    }
    LIST_FOREACH (node, &vhost_export->requests) {
        struct vhost_request *request =
            container_of(node, struct vhost_request, node);
        request->orphan = true;
        request->all_made = true;
        if (request->parts_pending == 0) {
            vhost_request_finish(request);
        }
    }
}

/* ---- Parts ---- */

/* NULL: the ring has to wait. */
static struct vhost_part *
vhost_part_new(struct vhost_request *request, enum volume_req_kind kind,
               uint64_t offset, uint64_t size)
{
    struct vhost_ring *ring = request->ring;
    struct vhost_export *vhost_export = ring->vhost_export;
    struct vhost_part *part = slab_get(&vhost_export->part_slab);

    if (part == NULL) {
        vhost_ring_starve(ring);
        return NULL;
    }
    *part = (struct vhost_part){
        .request = request,
        .req = {
            .done = vhost_part_done,
            .kind = kind,
            .offset_bytes = offset,
            .size_bytes = size,
            .fua = kind != VOLUME_READ && kind != VOLUME_FLUSH &&
                   !vhost_blk_is_writeback(vhost_export),
        },
    };
    if (kind == VOLUME_READ || kind == VOLUME_WRITE) {
        struct payload_pool *pool = volume_payload_pool(vhost_export->volume);
        part->payload = payload_get(pool, offset, (uint32_t)size);
        if (part->payload == NULL) {
            slab_put(&vhost_export->part_slab, part);
            payload_wait(pool, &ring->waiter, (uint32_t)size);
            return NULL;
        }
        part->req.payload = part->payload;
    }
    return part;
}

static void
vhost_part_submit(struct vhost_part *part)
{
    part->request->parts_pending++;
    volume_submit(part->request->ring->vhost_export->volume, &part->req);
}

/* The next part of a read or write. */
static struct vhost_part *
vhost_pump_data(struct vhost_request *request)
{
    bool is_write = request->type == VIRTIO_BLK_T_OUT;
    uint64_t left = request->size_bytes - request->made_bytes;
    uint32_t size = PAYLOAD_BYTES_MAX;

    if (left < size) {
        size = (uint32_t)left;
    }
    struct vhost_part *part =
        vhost_part_new(request, is_write ? VOLUME_WRITE : VOLUME_READ,
                       request->offset_bytes + request->made_bytes, size);

    if (part == NULL) {
        return NULL;
    }
    part->cursor = request->cursor;
    if (is_write) {
        vhost_chain_to_payload(&request->chain, &request->cursor, part->payload,
                               size);
    } else {
        vhost_chain_skip(&request->chain, &request->cursor, size);
    }
    request->made_bytes += size;
    request->all_made = request->made_bytes == request->size_bytes;
    return part;
}

/* The next range of a discard or of zeros. */
static struct vhost_part *
vhost_pump_range(struct vhost_request *request)
{
    const struct virtio_blk_range *range =
        &request->ranges[request->range_next];
    struct vhost_part *part =
        vhost_part_new(request,
                       request->type == VIRTIO_BLK_T_DISCARD
                           ? VOLUME_DISCARD
                           : VOLUME_WRITE_ZEROES,
                       le64_get(range->sector) * VOLUME_SECTOR_SIZE,
                       (uint64_t)le32_get(range->sector_count) *
                           VOLUME_SECTOR_SIZE);

    if (part == NULL) {
        return NULL;
    }
    request->range_next++;
    request->all_made = request->range_next == request->range_count;
    return part;
}

/* Makes one part of the ring's current request.  False: wait. */
static bool
vhost_request_pump(struct vhost_ring *ring)
{
    struct vhost_request *request = ring->current;
    struct vhost_part *part;

    CHECK(!request->all_made);
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        part = vhost_pump_data(request);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        part = vhost_pump_range(request);
        break;
    default:
        CHECK(request->type == VIRTIO_BLK_T_FLUSH);
        part = vhost_part_new(request, VOLUME_FLUSH, 0, 0);
        request->all_made = part != NULL;
        break;
    }
    if (part == NULL) {
        return false;
    }
    if (request->all_made) {
        ring->current = NULL;
    }
    vhost_part_submit(part);
    return true;
}

/* ---- Checks ---- */

static bool
vhost_range_is_inside(const struct vhost_export *vhost_export, uint64_t sector,
                      uint64_t sector_count)
{
    return sector <= vhost_export->capacity_sectors &&
           sector_count <= vhost_export->capacity_sectors - sector;
}

static uint32_t
vhost_check_data(struct vhost_request *request, uint64_t sector)
{
    struct vhost_chain *chain = &request->chain;
    bool is_write = request->type == VIRTIO_BLK_T_OUT;
    uint64_t size = is_write
                        ? chain->out_bytes - sizeof(struct virtio_blk_header)
                        : chain->in_bytes - 1;

    if (size % VOLUME_SECTOR_SIZE != 0 ||
        !vhost_range_is_inside(request->ring->vhost_export, sector,
                               size / VOLUME_SECTOR_SIZE)) {
        return VIRTIO_BLK_S_IOERR;
    }
    if (size == 0) {
        return VIRTIO_BLK_S_OK;
    }
    request->offset_bytes = sector * VOLUME_SECTOR_SIZE;
    request->size_bytes = size;
    if (!is_write) {
        request->cursor =
            (struct vhost_cursor){ .piece = chain->out_pieces, .offset = 0 };
    }
    return VHOST_STATUS_PENDING;
}

static uint32_t
vhost_check_ranges(struct vhost_request *request)
{
    const struct vhost_export *vhost_export = request->ring->vhost_export;
    bool is_discard = request->type == VIRTIO_BLK_T_DISCARD;
    uint64_t feature =
        is_discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
    uint64_t bytes =
        request->chain.out_bytes - sizeof(struct virtio_blk_header);
    uint32_t kept = 0;

    if ((vhost_export->conn.features & feature) == 0) {
        return VIRTIO_BLK_S_UNSUPP;
    }
    if (bytes == 0 || bytes % sizeof request->ranges[0] != 0 ||
        bytes > sizeof request->ranges) {
        return VIRTIO_BLK_S_IOERR;
    }
    vhost_chain_copy_out(&request->chain, &request->cursor, request->ranges,
                         (uint32_t)bytes);
    uint32_t count = (uint32_t)(bytes / sizeof request->ranges[0]);
    for (uint32_t i = 0; i < count; i++) {
        const struct virtio_blk_range *range = &request->ranges[i];
        uint32_t flags = le32_get(range->flags);
        uint32_t sectors = le32_get(range->sector_count);
        if ((flags & ~VIRTIO_BLK_RANGE_UNMAP) != 0 ||
            (is_discard && flags != 0)) {
            return VIRTIO_BLK_S_UNSUPP;
        }
        if (sectors > VHOST_RANGE_SECTORS_MAX ||
            !vhost_range_is_inside(vhost_export, le64_get(range->sector),
                                   sectors)) {
            return VIRTIO_BLK_S_IOERR;
        }
        if (sectors > 0) {
            request->ranges[kept++] = *range;
        }
    }
    request->range_count = kept;
    return kept == 0 ? VIRTIO_BLK_S_OK : VHOST_STATUS_PENDING;
}

static uint32_t
vhost_answer_id(struct vhost_request *request)
{
    struct vhost_chain *chain = &request->chain;
    struct vhost_cursor cursor = { .piece = chain->out_pieces, .offset = 0 };
    uint64_t room = chain->in_bytes - 1;

    vhost_chain_copy_in(chain, &cursor, request->ring->vhost_export->serial,
                        room < VIRTIO_BLK_ID_BYTES ? (uint32_t)room
                                                   : VIRTIO_BLK_ID_BYTES);
    return VIRTIO_BLK_S_OK;
}

/* The status, or VHOST_STATUS_PENDING: the volume is asked. */
static uint32_t
vhost_request_check(struct vhost_request *request)
{
    struct vhost_chain *chain = &request->chain;
    struct virtio_blk_header header;

    if (chain->unmapped || chain->out_bytes < sizeof header ||
        chain->out_segments + chain->in_segments > VHOST_SEG_MAX + 2) {
        return VIRTIO_BLK_S_IOERR;
    }
    vhost_chain_copy_out(chain, &request->cursor, &header, sizeof header);
    request->type = le32_get(header.type);
    switch (request->type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        return vhost_check_data(request, le64_get(header.sector));
    case VIRTIO_BLK_T_FLUSH:
        return VHOST_STATUS_PENDING;
    case VIRTIO_BLK_T_GET_ID:
        return vhost_answer_id(request);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return vhost_check_ranges(request);
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

static void
vhost_request_begin(struct vhost_request *request)
{
    struct vhost_ring *ring = request->ring;
    uint32_t status = vhost_request_check(request);

    if (status != VHOST_STATUS_PENDING) {
        request->status = status;
        request->all_made = true;
        vhost_request_finish(request);
        return;
    }
    request->status = VIRTIO_BLK_S_OK;
    ring->current = request;
}

/* ---- Fetching ---- */

static bool
vhost_ring_is_waiting(const struct vhost_ring *ring)
{
    return ring->waiter.waiting || list_is_linked(&ring->starved_node);
}

static bool
vhost_ring_may_fetch(const struct vhost_ring *ring)
{
    return ring->state == VHOST_RING_STARTED && ring->enabled &&
           !ring->draining && !ring->vhost_export->quiesced;
}

/* False: nothing there, or the ring waits or is broken. */
static bool
vhost_ring_fetch(struct vhost_ring *ring)
{
    struct vhost_export *vhost_export = ring->vhost_export;
    uint16_t head;

    if (!vhost_ring_peek(ring, &head)) {
        return false;
    }
    struct vhost_request *request = slab_get(&vhost_export->request_slab);
    if (request == NULL) {
        vhost_ring_starve(ring);
        return false;
    }
    const char *why =
        vhost_chain_read(ring, &vhost_export->mem, head, &request->chain);
    if (why == NULL && request->chain.status == NULL) {
        why = "a request without a status byte";
    }
    if (why != NULL) {
        slab_put(&vhost_export->request_slab, request);
        vhost_ring_break(ring, why);
        return false;
    }
    vhost_ring_take(ring, head);
    request->ring = ring;
    list_push_back(&vhost_export->requests, &request->node);
    ring->request_count++;
    request->head = head;
    request->orphan = request->all_made = false;
    request->parts_pending = 0;
    request->offset_bytes = request->size_bytes = request->made_bytes = 0;
    request->range_count = request->range_next = 0;
    request->cursor = (struct vhost_cursor){ .piece = 0, .offset = 0 };
    vhost_request_begin(request);
    return true;
}

bool
vhost_blk_run(struct vhost_ring *ring)
{
    bool worked = false;

    /* A request that has been begun is made to the end, whatever happens to
     * the ring: somebody may be waiting for that. */
    while (!vhost_ring_is_waiting(ring)) {
        if (ring->current != NULL) {
            if (!vhost_request_pump(ring)) {
                break;
            }
        } else if (!vhost_ring_may_fetch(ring) || !vhost_ring_fetch(ring)) {
            break;
        }
        worked = true;
    }
    if (ring->state == VHOST_RING_BROKEN && ring->broken_why != NULL) {
        vhost_ring_complain(ring);
    }
    return worked;
}

bool
vhost_blk_service(struct vhost_ring *ring)
{
    bool worked = false;

    for (;;) {
        worked = vhost_blk_run(ring) || worked;
        if (vhost_ring_is_waiting(ring) || !vhost_ring_may_fetch(ring) ||
            ring->vhost_export->spinning || !vhost_ring_notify_on(ring)) {
            return worked;
        }
    }
}

static void
vhost_ring_payload_available(struct payload_waiter *waiter)
{
    struct vhost_ring *ring = container_of(waiter, struct vhost_ring, waiter);

    (void)vhost_blk_service(ring);
}

void
vhost_blk_feed(struct io_task *task)
{
    struct vhost_export *vhost_export =
        container_of(task, struct vhost_export, feed);
    struct list batch;
    struct list *node;

    list_init(&batch);
    list_splice_back(&batch, &vhost_export->starved);
    while ((node = list_pop_front(&batch)) != NULL) {
        (void)vhost_blk_service(
            container_of(node, struct vhost_ring, starved_node));
    }
}
