/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/volume/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/volume/volume_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Life of a volume, and requests as sequences of parts.
 *
 *     submit --> [waiting: not READY, or no part free] --> split into parts
 *            --> all parts done --FUA--> flush of all mirrors --> done()
 *
 *   (1) Parts never cross an extent or STORE_REQ_BLOCKS_MAX, and no block
 *       belongs to two parts of a request.
 *   (2) Requests take parts in the order of their arrival; the one at the head
 *       of 'waiting' holds the others up, so that none starves.
 *   (3) done() never runs inside volume_submit(): mirrors see to it for parts,
 *       the volume's task for everything else.
 *
 * The cursor of a request (position, mirror_index, state) by kind:
 *   READ, WRITE            position: next byte, relative to offset_bytes
 *   FLUSH                  mirror_index: next mirror
 *   DISCARD, WRITE_ZEROES  state: ZERO_HEAD, ZERO_BODY, ZERO_TAIL, ZERO_END;
 *                          in the body, mirror_index and the position of the
 *                          next block in that mirror's space */

enum volume_zero_state { ZERO_HEAD, ZERO_BODY, ZERO_TAIL, ZERO_END };

/* The most that one discard request asks of a replica: 1 GiB. */
#define DISCARD_BLOCKS_MAX (256u * 1024u)

static void volume_pump(struct volume *volume);
static void volume_stop_step(struct volume *volume);

/* What is being split: a request with FUA ends as a flush. */
static enum volume_req_kind
volume_req_kind_now(const struct volume_req *req)
{
    return req->flushing ? VOLUME_FLUSH : req->kind;
}

/* ---- Ends ---- */

void
volume_req_finish(struct volume_req *req, int result)
{
    struct volume *volume = req->volume;

    CHECK(req->parts_pending == 0);
    CHECK(!list_is_linked(&req->node));
    CHECK(volume->reqs > 0);
    volume->reqs--;
    if (volume->stopping) {
        io_task_defer(volume->io, &volume->task);
    }
    req->result = result;
    req->done(req);
}

void
volume_req_finish_later(struct volume_req *req, int result)
{
    req->result = result;
    list_push_back(&req->volume->finished, &req->node);
    io_task_defer(req->volume->io, &req->volume->task);
}

/* ---- Parts ---- */

static struct volume_part *
volume_part_get(struct volume_req *req)
{
    struct list *node = list_pop_front(&req->volume->parts_free);

    if (node == NULL) {
        return NULL;
    }
    struct volume_part *part = container_of(node, struct volume_part, node);
    part->req = req;
    part->zeroes = false;
    part->locked = false;
    part->head_bytes = 0;
    part->tail_at = WEFT_BLOCK_SIZE;
    part->data = NULL;
    part->crcs = NULL;
    part->states = NULL;
    req->parts_pending++;
    return part;
}

/* The next part of a READ or WRITE. */
static void
volume_part_fill_data(struct volume_part *part, struct volume_req *req)
{
    struct volume *volume = req->volume;
    uint64_t at = req->offset_bytes + req->position;
    uint64_t left = req->size_bytes - req->position;
    struct volume_place place = volume_shape_place(&volume->shape, at);
    uint64_t head = at % WEFT_BLOCK_SIZE;
    uint64_t most = (uint64_t)STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE - head;

    uint64_t size = left < place.rest_bytes ? left : place.rest_bytes;
    size = size < most ? size : most;
    uint64_t end = place.offset_bytes + size;
    part->mirror = volume->mirrors[place.mirror];
    part->block = place.offset_bytes / WEFT_BLOCK_SIZE;
    part->block_count =
        (uint32_t)(units_divide_up(end, WEFT_BLOCK_SIZE) - part->block);
    part->kind = req->kind == VOLUME_READ ? MIRROR_READ : MIRROR_WRITE;
    if (part->kind == MIRROR_WRITE) {
        part->head_bytes = (uint32_t)head;
        part->tail_at = end % WEFT_BLOCK_SIZE == 0
                            ? WEFT_BLOCK_SIZE
                            : (uint32_t)(end % WEFT_BLOCK_SIZE);
    }
    size_t index = (size_t)(at / WEFT_BLOCK_SIZE -
                            req->payload->offset_bytes / WEFT_BLOCK_SIZE);
    part->data = req->payload->data + index * WEFT_BLOCK_SIZE;
    part->crcs = req->payload->crcs + index;
    part->states = req->payload->states + index;
    req->position += size;
}

/* A piece of one block becomes zeros. */
static void
volume_part_fill_piece(struct volume_part *part, uint64_t offset_bytes,
                       uint32_t size_bytes)
{
    struct volume *volume = part->volume;
    struct volume_place place =
        volume_shape_place(&volume->shape, offset_bytes);

    part->mirror = volume->mirrors[place.mirror];
    part->kind = MIRROR_WRITE;
    part->zeroes = true;
    part->block = place.offset_bytes / WEFT_BLOCK_SIZE;
    part->block_count = 1;
    part->head_bytes = (uint32_t)(place.offset_bytes % WEFT_BLOCK_SIZE);
    part->tail_at = part->head_bytes + size_bytes;
}

/* Moves the cursor of a DISCARD to its next piece; false: there is none. */
static bool
volume_zero_seek(struct volume_req *req, uint64_t *ret_from, uint64_t *ret_to)
{
    const struct volume_shape *shape = &req->volume->shape;
    uint64_t start = req->offset_bytes;
    uint64_t end = start + req->size_bytes;
    uint64_t body = units_align_up(start, WEFT_BLOCK_SIZE);
    uint64_t body_end = units_align_down(end, WEFT_BLOCK_SIZE);

    if (req->state == ZERO_HEAD) {
        if (start != body) {
            *ret_from = start;
            *ret_to = body < end ? body : end;
            return true;
        }
        req->state = ZERO_BODY;
    }
    while (req->state == ZERO_BODY) {
        if (body >= body_end || req->mirror_index >= shape->width) {
            req->state = ZERO_TAIL;
            break;
        }
        uint64_t from = volume_shape_share(shape, body, req->mirror_index) /
                        WEFT_BLOCK_SIZE;
        uint64_t to = volume_shape_share(shape, body_end, req->mirror_index) /
                      WEFT_BLOCK_SIZE;
        if (req->position < from) {
            req->position = from;
        }
        if (req->position < to) {
            *ret_from = req->position;
            *ret_to = to;
            return true;
        }
        req->mirror_index++;
        req->position = 0;
    }
    if (req->state == ZERO_TAIL) {
        if (body_end != end && body_end >= start) {
            *ret_from = body_end;
            *ret_to = end;
            return true;
        }
        req->state = ZERO_END;
    }
    return false;
}

static void
volume_part_fill_zero(struct volume_part *part, struct volume_req *req,
                      uint64_t from, uint64_t to)
{
    if (req->state != ZERO_BODY) {
        volume_part_fill_piece(part, from, (uint32_t)(to - from));
        req->state = req->state == ZERO_HEAD ? ZERO_BODY : ZERO_END;
        return;
    }
    uint64_t count = to - from;
    part->mirror = req->volume->mirrors[req->mirror_index];
    part->kind = MIRROR_DISCARD;
    part->block = from;
    part->block_count =
        count < DISCARD_BLOCKS_MAX ? (uint32_t)count : DISCARD_BLOCKS_MAX;
    req->position = from + part->block_count;
}

/* Whether all of the request has become parts. */
static bool
volume_req_is_split(struct volume_req *req)
{
    uint64_t from, to;

    switch (volume_req_kind_now(req)) {
    case VOLUME_READ:
    case VOLUME_WRITE:
        return req->position == req->size_bytes;
    case VOLUME_FLUSH:
        return req->mirror_index == req->volume->shape.width;
    case VOLUME_DISCARD:
    case VOLUME_WRITE_ZEROES:
        return !volume_zero_seek(req, &from, &to);
    case VOLUME_STATUS:
        break;
    }
    return true;
}

/* Starts what parts it can get; false: it waits for more. */
static bool
volume_req_split(struct volume_req *req)
{
    while (!volume_req_is_split(req)) {
        struct volume_part *part = volume_part_get(req);
        if (part == NULL) {
            return false;
        }
        switch (volume_req_kind_now(req)) {
        case VOLUME_READ:
        case VOLUME_WRITE:
            volume_part_fill_data(part, req);
            break;
        case VOLUME_FLUSH:
            part->mirror = req->volume->mirrors[req->mirror_index++];
            part->kind = MIRROR_FLUSH;
            part->block = 0;
            part->block_count = 0;
            break;
        case VOLUME_DISCARD:
        case VOLUME_WRITE_ZEROES: {
            uint64_t from = 0;
            uint64_t to = 0;
            bool found = volume_zero_seek(req, &from, &to);
            CHECK(found);
            volume_part_fill_zero(part, req, from, to);
            break;
        }
        case VOLUME_STATUS:
            break;
        }
        volume_part_start(part);
    }
    return true;
}

void
volume_part_done(struct volume_part *part, int result)
{
    struct volume_req *req = part->req;
    struct volume *volume = part->volume;

    CHECK(req->parts_pending > 0);
    list_push_front(&volume->parts_free, &part->node);
    req->parts_pending--;
    if (result != 0 && req->result == 0) {
        req->result = result;
    }
    if (!list_is_empty(&volume->waiting)) {
        io_task_defer(volume->io, &volume->task);
    }
    if (req->parts_pending != 0 || list_is_linked(&req->node)) {
        return; /* Others are under way, or not yet split. */
    }
    bool writes = req->kind == VOLUME_WRITE || req->kind == VOLUME_DISCARD ||
                  req->kind == VOLUME_WRITE_ZEROES;
    if (req->result == 0 && req->fua && writes && !req->flushing) {
        req->flushing = true; /* (what was written, before the answer) */
        req->mirror_index = 0;
        list_push_back(&volume->waiting, &req->node);
        io_task_defer(volume->io, &volume->task);
        return;
    }
    volume_req_finish(req, req->result);
}

/* ---- Submission ---- */

static int
volume_req_check(const struct volume *volume, const struct volume_req *req)
{
    uint64_t size = volume->shape.size_bytes;

    if (req->kind == VOLUME_FLUSH) {
        return 0;
    }
    if (req->size_bytes == 0 || req->offset_bytes >= size ||
        req->size_bytes > size - req->offset_bytes) {
        return -EINVAL;
    }
    switch (req->kind) {
    case VOLUME_READ:
    case VOLUME_WRITE:
        return req->size_bytes <= PAYLOAD_BYTES_MAX && req->payload != NULL &&
                       req->payload->offset_bytes == req->offset_bytes &&
                       req->payload->size_bytes == req->size_bytes
                   ? 0
                   : -EINVAL;
    case VOLUME_DISCARD:
    case VOLUME_WRITE_ZEROES:
        return req->offset_bytes % VOLUME_SECTOR_SIZE == 0 &&
                       req->size_bytes % VOLUME_SECTOR_SIZE == 0
                   ? 0
                   : -EINVAL;
    case VOLUME_STATUS:
        return req->extents != NULL && req->extents_max != 0 ? 0 : -EINVAL;
    case VOLUME_FLUSH:
        break;
    }
    return 0;
}

/* The head of the queue, as far as parts reach. */
static void
volume_pump(struct volume *volume)
{
    struct list *node;

    while (volume->is_ready &&
           (node = list_pop_front(&volume->waiting)) != NULL) {
        struct volume_req *req = container_of(node, struct volume_req, node);
        if (req->kind == VOLUME_STATUS) {
            volume_status_submit(volume, req);
        } else if (!volume_req_split(req)) {
            list_push_front(&volume->waiting, &req->node);
            return;
        } else if (req->parts_pending == 0) {
            /* Its parts are done already, or there was nothing to do. */
            volume_req_finish_later(req, req->result);
        }
    }
}

void
volume_submit(struct volume *volume, struct volume_req *req)
{
    CHECK(req->done != NULL);

    req->volume = volume;
    req->position = 0;
    req->mirror_index = 0;
    req->parts_pending = 0;
    req->state = ZERO_HEAD;
    req->flushing = false;
    req->result = 0;
    list_init(&req->node);
    volume->reqs++;
    int result = volume->stopping ? -ESHUTDOWN : volume_req_check(volume, req);
    if (result != 0) {
        volume_req_finish_later(req, result);
        return;
    }
    if (req->kind == VOLUME_STATUS || !volume->is_ready ||
        !list_is_empty(&volume->waiting)) {
        list_push_back(&volume->waiting, &req->node);
        volume_pump(volume);
        return;
    }
    if (!volume_req_split(req)) {
        list_push_back(&volume->waiting, &req->node);
    } else if (req->parts_pending == 0) {
        volume_req_finish_later(req, req->result);
    }
}

/* ---- Life ---- */

static void
volume_run(struct io_task *task)
{
    struct volume *volume = container_of(task, struct volume, task);
    struct list *node;

    while ((node = list_pop_front(&volume->finished)) != NULL) {
        struct volume_req *req = container_of(node, struct volume_req, node);
        volume_req_finish(req, req->result);
    }
    volume_pump(volume);
    if (volume->stopping) {
        volume_stop_step(volume);
    }
}

static void
volume_mirror_ready(struct mirror *mirror, int result)
{
    struct volume *volume = mirror_owner(mirror);

    if (result == 0 && ++volume->ready_count == volume->shape.width) {
        volume->is_ready = true;
        io_task_defer(volume->io, &volume->task);
    }
    if (!volume->ready_told && (result != 0 || volume->is_ready)) {
        volume->ready_told = true;
        volume->ready(volume, result);
    }
    if (result != 0 && !volume->is_ready) {
        volume->is_ready = true; /* Requests go on, to get their error. */
        io_task_defer(volume->io, &volume->task);
    }
}

static bool
volume_options_are_sane(const struct volume_options *options)
{
    uint64_t size = options->size_bytes;

    return options->io != NULL && options->meta != NULL &&
           options->name != NULL && size != 0 && size <= VOLUME_SIZE_MAX &&
           size % VOLUME_SECTOR_SIZE == 0 &&
           units_is_power_of_two(options->extent_bytes) &&
           options->extent_bytes >= VOLUME_EXTENT_BYTES_MIN &&
           options->mirror_count >= 1 &&
           options->mirror_count <= VOLUME_MIRRORS_MAX;
}

static int
volume_memory_new(struct volume *volume)
{
    size_t scratch = (size_t)VOLUME_PARTS * 2 * WEFT_BLOCK_SIZE;
    size_t granules = (size_t)volume->shape.width * MIRROR_MAP_GRANULES;
    size_t arenas = volume->shape.width * mirror_arena_bytes();
    void *memory;

    volume->parts = calloc(VOLUME_PARTS, sizeof *volume->parts);
    if (volume->parts == NULL ||
        posix_memalign(&memory, WEFT_BLOCK_SIZE, scratch + granules + arenas) !=
            0) {
        return -ENOMEM;
    }
    volume->memory = memory;
    for (uint32_t i = 0; i < VOLUME_PARTS; i++) {
        struct volume_part *part = &volume->parts[i];
        part->volume = volume;
        part->scratch = volume->memory + (size_t)i * 2 * WEFT_BLOCK_SIZE;
        list_push_back(&volume->parts_free, &part->node);
    }
    for (uint32_t i = 0; i < volume->shape.width; i++) {
        volume->status.granules[i] =
            volume->memory + scratch + (size_t)i * MIRROR_MAP_GRANULES;
    }
    return 0;
}

static uint8_t *
volume_arena(const struct volume *volume, uint32_t index)
{
    return volume->memory + (size_t)VOLUME_PARTS * 2 * WEFT_BLOCK_SIZE +
           (size_t)volume->shape.width * MIRROR_MAP_GRANULES +
           index * mirror_arena_bytes();
}

static int
volume_mirror_new(struct volume *volume, const struct volume_options *options,
                  uint32_t index)
{
    struct mirror_options mirror = {
        .io = options->io,
        .meta = options->meta,
        .volume = options->uuid,
        .owner_instance = options->owner_instance,
        .epoch = options->epoch,
        .row = options->mirrors[index].row,
        .min_in_sync = options->min_in_sync,
        .layer = STORE_LAYER_FIRST,
        .size_blocks =
            volume_mirror_bytes(options->size_bytes, options->extent_bytes,
                                options->mirror_count, index) /
            WEFT_BLOCK_SIZE,
        .slow_ns = options->slow_ns,
        .flush_every_ns = options->flush_every_ns,
        .resync_bytes_per_s = options->resync_bytes_per_s,
        .clean = options->clean,
        .live_guest = options->live_guest,
        .resume = options->resume,
        .enospc_holds = options->enospc_holds,
        .planted_bug = options->planted_bug,
        .arena = volume_arena(volume, index),
    };
    if (mirror.size_blocks == 0) {
        mirror.size_blocks = 1; /* A volume smaller than its stripe. */
    }
    memcpy(mirror.links, options->mirrors[index].links, sizeof mirror.links);
    return mirror_new(&mirror, volume_mirror_ready, volume,
                      &volume->mirrors[index]);
}

/* Set-up failed: what exists of the mirrors is ended by the loop later. */
static void
volume_abandoned(struct mirror *mirror, bool clean)
{
    struct volume *volume = mirror_owner(mirror);

    (void)clean;
    mirror_free(mirror);
    if (--volume->ready_count == 0) {
        free(volume->parts);
        free(volume->memory);
        free(volume->name);
        free(volume);
    }
}

static void
volume_nobody_waits(struct volume *volume, int result)
{
    (void)volume;
    (void)result;
}

static void
volume_abandon(struct volume *volume, uint32_t mirrors)
{
    volume->ready = volume_nobody_waits;
    volume->ready_told = true;
    volume->ready_count = mirrors;
    for (uint32_t i = 0; i < mirrors; i++) {
        mirror_stop(volume->mirrors[i], false, volume_abandoned);
    }
    if (mirrors == 0) {
        free(volume->parts);
        free(volume->memory);
        free(volume->name);
        free(volume);
    }
}

int
volume_new(const struct volume_options *options, volume_ready_fn *ready,
           void *owner, struct volume **ret_volume)
{
    if (!volume_options_are_sane(options)) {
        return -EINVAL;
    }
    struct volume *volume = calloc(1, sizeof *volume);
    if (volume == NULL) {
        return -ENOMEM;
    }
    volume->io = options->io;
    volume->payloads = options->payloads;
    volume->uuid = options->uuid;
    volume->shape = (struct volume_shape){
        .size_bytes = options->size_bytes,
        .extent_bytes = options->extent_bytes,
        .width = options->mirror_count,
    };
    volume->epoch = options->epoch;
    volume->owner = owner;
    volume->ready = ready;
    io_task_init(&volume->task, volume_run);
    list_init(&volume->waiting);
    list_init(&volume->finished);
    list_init(&volume->parts_free);
    list_init(&volume->status.waiting);
    volume->status.volume = volume;
    volume->name = strdup(options->name);
    int result = volume->name == NULL ? -ENOMEM : volume_memory_new(volume);
    uint32_t made = 0;
    while (result == 0 && made < volume->shape.width) {
        result = volume_mirror_new(volume, options, made);
        made += result == 0;
    }
    if (result != 0) {
        volume_abandon(volume, made);
        return result;
    }
    *ret_volume = volume;
    return 0;
}

static void
volume_mirror_stopped(struct mirror *mirror, bool clean)
{
    struct volume *volume = mirror_owner(mirror);

    volume->stop_clean = volume->stop_clean && clean;
    volume->stopped_count++;
    io_task_defer(volume->io, &volume->task);
}

static void
volume_stop_step(struct volume *volume)
{
    if (!volume->stop_flush) {
        struct list *node;
        while ((node = list_pop_front(&volume->waiting)) != NULL) {
            struct volume_req *req =
                container_of(node, struct volume_req, node);
            if (req->parts_pending != 0) {
                /* Its parts end it; what was not split is cut off. */
                req->result = -ESHUTDOWN;
            } else {
                volume_req_finish(req, -ESHUTDOWN);
            }
        }
    }
    bool now = !volume->stop_flush && !volume->mirror_stopping_now;
    bool drained =
        volume->stop_flush && volume->reqs == 0 && !volume->mirrors_stopping;
    if (now || drained) {
        volume->mirrors_stopping = true;
        volume->mirror_stopping_now = now;
        for (uint32_t i = 0; i < volume->shape.width; i++) {
            struct mirror_status status;
            mirror_status_get(volume->mirrors[i], &status);
            if (status.state != MIRROR_STOPPED) {
                mirror_stop(volume->mirrors[i], volume->stop_flush,
                            volume_mirror_stopped);
            }
        }
    }
    if (volume->stopped_count == volume->shape.width && volume->reqs == 0 &&
        !volume->stopped_told) {
        volume->stopped_told = true;
        volume->stopped(volume, volume->stop_clean);
    }
}

void
volume_stop(struct volume *volume, bool flush, volume_stopped_fn *stopped)
{
    CHECK(!volume->stopping || !flush);
    CHECK(!volume->stopped_told);

    volume->stopping = true;
    volume->stop_flush = flush;
    volume->stop_clean = flush;
    volume->stopped = stopped;
    io_task_defer(volume->io, &volume->task);
}

void
volume_free(struct volume *volume)
{
    if (volume == NULL) {
        return;
    }
    CHECK(volume->stopped_told);
    io_task_cancel(volume->io, &volume->task);
    for (uint32_t i = 0; i < volume->shape.width; i++) {
        mirror_free(volume->mirrors[i]);
    }
    free(volume->parts);
    free(volume->memory);
    free(volume->name);
    free(volume);
}

/* ---- Facts ---- */

void
volume_info_get(const struct volume *volume, struct volume_info *ret)
{
    *ret = (struct volume_info){
        .uuid = volume->uuid,
        .name = volume->name,
        .size_bytes = volume->shape.size_bytes,
        .epoch = volume->epoch,
    };
}

void *
volume_owner(const struct volume *volume)
{
    return volume->owner;
}

struct payload_pool *
volume_payload_pool(struct volume *volume)
{
    return volume->payloads;
}

struct io *
volume_io(struct volume *volume)
{
    return volume->io;
}

uint32_t
volume_mirror_count(const struct volume *volume)
{
    return volume->shape.width;
}

struct mirror *
volume_mirror(struct volume *volume, uint32_t index)
{
    CHECK(index < volume->shape.width);
    return volume->mirrors[index];
}
