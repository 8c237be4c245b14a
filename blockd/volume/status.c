/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/volume/volume_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* VOLUME_STATUS: which bytes may have data.
 *
 * The unit is the mirror's region, asked for by MIRROR_MAP and kept for the
 * extents that follow while the request lasts; what comes back is accurate to
 * a slot: a slot that exists counts as data.  One request at a time, the others
 * wait.  It ends when the range is covered, or 'extents' is full, or enough
 * regions have been asked for (NBD allows a short answer). */

#define STATUS_MAPS_MAX 1024u

static mirror_io_done_fn volume_status_mapped;
static void volume_status_walk(struct volume_status *status);

static void
volume_status_next(struct volume_status *status)
{
    if (status->req != NULL) {
        return;
    }
    struct list *node = list_pop_front(&status->waiting);
    if (node == NULL) {
        return;
    }
    status->req = container_of(node, struct volume_req, node);
    status->req->position = status->req->offset_bytes;
    status->req->extents_count = 0;
    status->req->state = 0;
    for (uint32_t i = 0; i < VOLUME_MIRRORS_MAX; i++) {
        status->region[i] = UINT64_MAX;
    }
    volume_status_walk(status);
}

static void
volume_status_end(struct volume_status *status, int result)
{
    struct volume_req *req = status->req;

    status->req = NULL;
    if (result == 0 && req->extents_count == 0) {
        result = -EINVAL;
    }
    volume_req_finish_later(req, result);
    volume_status_next(status);
}

/* Appends; false: no room. */
static bool
volume_status_add(struct volume_req *req, uint64_t bytes, bool data)
{
    if (req->extents_count != 0) {
        struct volume_extent *last = &req->extents[req->extents_count - 1];
        if (last->hole == !data) {
            last->size_bytes += bytes;
            return true;
        }
    }
    if (req->extents_count == req->extents_max) {
        return false;
    }
    req->extents[req->extents_count++] = (struct volume_extent){
        .size_bytes = bytes,
        .hole = !data,
        .zero = !data,
    };
    return true;
}

static void
volume_status_map(struct volume_status *status, uint32_t mirror,
                  uint64_t region)
{
    struct mirror_io *io = &status->io;

    status->mirror = mirror;
    status->region[mirror] = region;
    status->busy = true;
    status->req->state++;
    io->done = volume_status_mapped;
    io->kind = MIRROR_MAP;
    io->block = region * STORE_REGION_BLOCKS;
    io->block_count = STORE_REGION_BLOCKS;
    io->data = NULL;
    io->crcs = NULL;
    io->states = status->granules[mirror];
    io->locked = false;
    mirror_submit(status->volume->mirrors[mirror], io);
}

static void
volume_status_walk(struct volume_status *status)
{
    const uint64_t granule_bytes = MIRROR_MAP_BLOCKS * WEFT_BLOCK_SIZE;
    const uint64_t region_bytes =
        (uint64_t)STORE_REGION_BLOCKS * WEFT_BLOCK_SIZE;
    struct volume_req *req = status->req;
    uint64_t end = req->offset_bytes + req->size_bytes;

    while (req->position < end) {
        struct volume_place place =
            volume_shape_place(&status->volume->shape, req->position);
        uint64_t region = place.offset_bytes / region_bytes;
        if (status->region[place.mirror] != region) {
            if (req->state >= STATUS_MAPS_MAX && req->extents_count != 0) {
                break;
            }
            volume_status_map(status, place.mirror, region);
            return;
        }
        uint64_t inside = place.offset_bytes % region_bytes;
        uint64_t step = granule_bytes - inside % granule_bytes;
        step = step < place.rest_bytes ? step : place.rest_bytes;
        step = step < end - req->position ? step : end - req->position;
        bool data = status->granules[place.mirror][inside / granule_bytes] != 0;
        if (!volume_status_add(req, step, data)) {
            break;
        }
        req->position += step;
    }
    volume_status_end(status, 0);
}

static void
volume_status_mapped(struct mirror_io *io)
{
    struct volume_status *status = container_of(io, struct volume_status, io);

    status->busy = false;
    if (io->result != 0) {
        volume_status_end(status, io->result);
    } else {
        volume_status_walk(status);
    }
}

void
volume_status_submit(struct volume *volume, struct volume_req *req)
{
    list_push_back(&volume->status.waiting, &req->node);
    volume_status_next(&volume->status);
}
