/* SPDX-License-Identifier: Apache-2.0 */

/* Transmission: from a request's header to the volume.  Checking is apart from
 * doing: nbd_request_validate() has every rule on what a client may ask. */

#include <errno.h>

#include "blockd/export/nbd_internal.h"
#include "lib/base/container_of.h"

static volume_req_done_fn nbd_part_done;

/* Of the next part, if it has a payload: it ends at a block of the volume or
 * at the request's end. */
static uint32_t
nbd_request_part_size(const struct nbd_request *request)
{
    uint32_t left = request->size_bytes - request->made_bytes;
    uint64_t offset = request->offset_bytes + request->made_bytes;
    uint32_t most = PAYLOAD_BYTES_MAX - (uint32_t)(offset % WEFT_BLOCK_SIZE);
    return left < most ? left : most;
}

/* ---- What a client may ask ---- */

static uint16_t
nbd_request_known_flags(const struct nbd_request *request)
{
    switch (request->command) {
    case NBD_CMD_READ:
        return request->conn->structured ? NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF
                                         : NBD_CMD_FLAG_FUA;
    case NBD_CMD_WRITE_ZEROES:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
    case NBD_CMD_BLOCK_STATUS:
        return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
    default:
        return NBD_CMD_FLAG_FUA;
    }
}

/* 0, or the error to answer. */
static uint32_t
nbd_request_validate(const struct nbd_request *request)
{
    struct nbd_conn *conn = request->conn;
    struct volume_info info;

    if (conn->nbd_export->removing) {
        return NBD_ESHUTDOWN;
    }
    if ((request->flags & ~nbd_request_known_flags(request)) != 0) {
        return NBD_EINVAL;
    }
    switch (request->command) {
    case NBD_CMD_FLUSH:
        return request->offset_bytes == 0 && request->size_bytes == 0
                   ? 0
                   : NBD_EINVAL;
    case NBD_CMD_READ:
    case NBD_CMD_WRITE:
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        break;
    case NBD_CMD_BLOCK_STATUS:
        if (!conn->base_allocation) {
            return NBD_EINVAL;
        }
        break;
    default:
        return NBD_EINVAL;
    }

    volume_info_get(conn->nbd_export->volume, &info);
    if (request->size_bytes == 0) {
        return NBD_EINVAL;
    }
    if (request->offset_bytes > info.size_bytes ||
        request->size_bytes > info.size_bytes - request->offset_bytes) {
        return request->command == NBD_CMD_WRITE ||
                       request->command == NBD_CMD_WRITE_ZEROES
                   ? NBD_ENOSPC
                   : NBD_EINVAL;
    }
    if (request->command == NBD_CMD_READ) {
        if (request->size_bytes > NBD_REQUEST_BYTES_MAX) {
            return NBD_EINVAL;
        }
        if ((request->flags & NBD_CMD_FLAG_DF) != 0 &&
            nbd_request_part_size(request) < request->size_bytes) {
            return NBD_EOVERFLOW;
        }
    }
    /* Zeros that must be provisioned are written: not faster than a write. */
    if (request->command == NBD_CMD_WRITE_ZEROES &&
        (request->flags & NBD_CMD_FLAG_NO_HOLE) != 0 &&
        (request->flags & NBD_CMD_FLAG_FAST_ZERO) != 0) {
        return NBD_ENOTSUP;
    }
    return 0;
}

/* ---- Birth and death of requests and parts ---- */

bool
nbd_request_begin(struct nbd_conn *conn,
                  const struct nbd_request_header *header)
{
    uint16_t command = be16_get(header->command);
    uint32_t size = be32_get(header->size);

    if (be32_get(header->magic) != NBD_REQUEST_MAGIC ||
        (command == NBD_CMD_WRITE && size > NBD_REQUEST_BYTES_MAX)) {
        nbd_conn_cut(conn);
        return true;
    }
    if (command == NBD_CMD_DISC) {
        conn->state = NBD_CONN_DRAIN;
        nbd_conn_maybe_drained(conn);
        return true;
    }
    struct nbd_request *request = NULL;
    if (conn->request_count < NBD_CONN_REQUESTS_MAX) {
        request = slab_get(&conn->server->requests);
    }
    if (request == NULL) {
        nbd_conn_starve(conn);
        return false;
    }
    *request = (struct nbd_request){
        .conn = conn,
        .cookie = be64_get(header->cookie),
        .offset_bytes = be64_get(header->offset),
        .size_bytes = size,
        .command = command,
        .flags = be16_get(header->flags),
    };
    list_push_back(&conn->requests, &request->node);
    conn->request_count++;

    request->error = nbd_request_validate(request);
    if (request->error != 0) {
        if (command == NBD_CMD_WRITE && size > 0) {
            conn->skip_bytes = size;
            conn->after_skip = NBD_CONN_REQUEST;
            conn->state = NBD_CONN_SKIP;
        }
        request->all_made = true;
        nbd_reply_finish(request);
        return true;
    }
    request->serial = command == NBD_CMD_READ && !conn->structured &&
                      nbd_request_part_size(request) < size;
    conn->current = request;
    conn->state =
        command == NBD_CMD_WRITE ? NBD_CONN_WRITE_DATA : NBD_CONN_SUBMIT;
    return true;
}

void
nbd_request_maybe_free(struct nbd_request *request)
{
    struct nbd_conn *conn = request->conn;

    if (!request->all_made || request->parts_pending > 0 ||
        request->sends_pending > 0) {
        return;
    }
    list_remove(&request->node);
    conn->request_count--;
    slab_put(&conn->server->requests, request);
    nbd_server_feed(conn->server);
    nbd_conn_maybe_drained(conn);
    nbd_conn_maybe_free(conn);
}

void
nbd_part_free(struct nbd_part *part)
{
    struct nbd_server *server = part->request->conn->server;

    part->request->parts_count--;
    if (part->payload != NULL) {
        payload_put(part->payload);
    }
    if (part->status != NULL) {
        slab_put(&server->statuses, part->status);
    }
    slab_put(&server->parts, part);
    nbd_server_feed(server);
}

/* NULL: blocked. */
static struct nbd_part *
nbd_part_new(struct nbd_request *request, enum volume_req_kind kind,
             uint64_t offset, uint64_t size)
{
    struct nbd_conn *conn = request->conn;
    struct nbd_part *part = NULL;
    if (request->parts_count < NBD_REQUEST_PARTS_MAX) {
        part = slab_get(&conn->server->parts);
    }
    if (part == NULL) {
        nbd_conn_starve(conn);
        return NULL;
    }
    request->parts_count++;
    *part = (struct nbd_part){
        .request = request,
        .offset_bytes = offset,
        .size_bytes = size,
        .req = {
            .done = nbd_part_done,
            .kind = kind,
            .offset_bytes = offset,
            .size_bytes = size,
            .fua = (request->flags & NBD_CMD_FLAG_FUA) != 0 &&
                   kind != VOLUME_READ && kind != VOLUME_STATUS,
        },
    };
    if (kind == VOLUME_STATUS) {
        part->status = slab_get(&conn->server->statuses);
        if (part->status == NULL) {
            nbd_part_free(part);
            nbd_conn_starve(conn);
            return NULL;
        }
        part->req.extents = part->status->extents;
        part->req.extents_max = NBD_EXTENTS_MAX;
    } else if (kind == VOLUME_READ || kind == VOLUME_WRITE) {
        struct payload_pool *pool =
            volume_payload_pool(conn->nbd_export->volume);
        part->payload = payload_get(pool, offset, (uint32_t)size);
        if (part->payload == NULL) {
            nbd_part_free(part);
            payload_wait(pool, &conn->waiter, (uint32_t)size);
            nbd_conn_block(conn);
            return NULL;
        }
        part->req.payload = part->payload;
    }
    return part;
}

static void
nbd_part_submit(struct nbd_part *part)
{
    struct nbd_request *request = part->request;

    request->parts_pending++;
    volume_submit(request->conn->nbd_export->volume, &part->req);
}

/* All of the current request has been turned into parts. */
static void
nbd_request_made(struct nbd_conn *conn)
{
    struct nbd_request *request = conn->current;

    request->all_made = true;
    conn->current = NULL;
    conn->state = NBD_CONN_REQUEST;
    if (request->serial) {
        nbd_request_maybe_free(request); /* Its last byte has been sent. */
    } else if (request->parts_pending == 0 && request->sends_pending == 0) {
        nbd_reply_finish(request); /* Nothing to do: a trim of no block. */
    }
}

/* ---- Making parts ---- */

uint32_t
nbd_request_fill(struct nbd_conn *conn, const uint8_t *data, uint32_t size)
{
    struct nbd_request *request = conn->current;

    if (conn->filling == NULL) {
        conn->filling =
            nbd_part_new(request, VOLUME_WRITE,
                         request->offset_bytes + request->made_bytes,
                         nbd_request_part_size(request));
        if (conn->filling == NULL) {
            return 0;
        }
        conn->filling_ns = io_now_ns(conn->server->io);
    }
    struct nbd_part *part = conn->filling;
    uint32_t take = (uint32_t)part->size_bytes - part->filled_bytes;
    if (take > size) {
        take = size;
    }
    payload_append(part->payload, data, take);
    part->filled_bytes += take;
    if (part->filled_bytes == part->size_bytes) {
        conn->filling = NULL;
        request->made_bytes += part->filled_bytes;
        nbd_part_submit(part);
        if (request->made_bytes == request->size_bytes) {
            nbd_request_made(conn);
        }
    }
    return take;
}

/* The next part of a WRITE_ZEROES: whole sectors by state, odd ends as data;
 * with NO_HOLE all of it as data, so that the space is provisioned. */
static struct nbd_part *
nbd_part_new_zeroes(struct nbd_request *request)
{
    uint64_t offset = request->offset_bytes + request->made_bytes;
    uint32_t left = request->size_bytes - request->made_bytes;
    uint32_t odd = (uint32_t)(offset % VOLUME_SECTOR_SIZE);
    uint32_t size;

    if ((request->flags & NBD_CMD_FLAG_NO_HOLE) != 0) {
        size = nbd_request_part_size(request);
    } else if (odd == 0 && left >= VOLUME_SECTOR_SIZE) {
        size = left - left % VOLUME_SECTOR_SIZE;
        return nbd_part_new(request, VOLUME_WRITE_ZEROES, offset, size);
    } else {
        size = VOLUME_SECTOR_SIZE - odd;
        size = size < left ? size : left;
    }
    struct nbd_part *part = nbd_part_new(request, VOLUME_WRITE, offset, size);
    if (part != NULL) {
        payload_append_zeros(part->payload, size);
    }
    return part;
}

/* A trim of whole sectors only; the odd ends keep their bytes. */
static struct nbd_part *
nbd_part_new_trim(struct nbd_request *request)
{
    uint64_t first = units_align_up(request->offset_bytes, VOLUME_SECTOR_SIZE);
    uint64_t end = units_align_down(request->offset_bytes + request->size_bytes,
                                    VOLUME_SECTOR_SIZE);
    CHECK(first < end); /* nbd_request_pump() looks. */
    return nbd_part_new(request, VOLUME_DISCARD, first, end - first);
}

static bool
nbd_trim_is_empty(const struct nbd_request *request)
{
    return units_align_up(request->offset_bytes, VOLUME_SECTOR_SIZE) >=
           units_align_down(request->offset_bytes + request->size_bytes,
                            VOLUME_SECTOR_SIZE);
}

static struct nbd_part *
nbd_part_new_read(struct nbd_request *request)
{
    return nbd_part_new(request, VOLUME_READ,
                        request->offset_bytes + request->made_bytes,
                        nbd_request_part_size(request));
}

bool
nbd_request_pump(struct nbd_conn *conn)
{
    struct nbd_request *request = conn->current;
    struct nbd_part *part;
    bool is_partial = true; /* The part may be less than all that is left. */

    if (request->serial &&
        (conn->request_count > 1 || request->parts_count > 0)) {
        nbd_conn_starve(conn); /* What is in the way ends, and feeds. */
        return false;
    }
    if (request->serial && request->made_bytes == request->size_bytes) {
        nbd_request_made(conn);
        return true;
    }
    switch (request->command) {
    case NBD_CMD_READ:
        part = nbd_part_new_read(request);
        break;
    case NBD_CMD_WRITE_ZEROES:
        part = nbd_part_new_zeroes(request);
        break;
    case NBD_CMD_TRIM:
        if (nbd_trim_is_empty(request)) {
            nbd_request_made(conn);
            return true;
        }
        part = nbd_part_new_trim(request);
        is_partial = false;
        break;
    case NBD_CMD_FLUSH:
        part = nbd_part_new(request, VOLUME_FLUSH, 0, 0);
        is_partial = false;
        break;
    case NBD_CMD_BLOCK_STATUS:
        part = nbd_part_new(request, VOLUME_STATUS, request->offset_bytes,
                            request->size_bytes);
        is_partial = false;
        break;
    default:
        CHECK(!"validated");
        return false;
    }
    if (part == NULL) {
        return false;
    }
    request->made_bytes = is_partial
                              ? request->made_bytes + (uint32_t)part->size_bytes
                              : request->size_bytes;
    nbd_part_submit(part);
    if (request->made_bytes == request->size_bytes && !request->serial) {
        nbd_request_made(conn);
    }
    return true;
}

/* ---- Back from the volume ---- */

/* A part failed while others had not been made yet: they never will be.  (The
 * bytes of a write must be taken from the stream anyway.) */
static void
nbd_request_abandon(struct nbd_request *request)
{
    struct nbd_conn *conn = request->conn;

    CHECK(conn->current == request);
    CHECK(conn->paused); /* Otherwise more parts would have been made. */
    request->all_made = true;
    conn->current = NULL;
    if (conn->state == NBD_CONN_SUBMIT) {
        conn->state = NBD_CONN_REQUEST;
    }
    payload_wait_cancel(&conn->waiter);
    nbd_conn_starve(conn);
    nbd_server_feed(conn->server); /* It goes on with what it has received. */
}

static void
nbd_part_done(struct volume_req *req)
{
    struct nbd_part *part = container_of(req, struct nbd_part, req);
    struct nbd_request *request = part->request;

    request->parts_pending--;
    if (req->result != 0 && request->error == 0) {
        request->error = nbd_error_from_errno(req->result);
    }
    if (request->error != 0 && !request->all_made &&
        request->command != NBD_CMD_WRITE) {
        nbd_request_abandon(request);
    }
    bool last = request->all_made && request->parts_pending == 0;
    bool answers = request->command == NBD_CMD_READ ||
                   request->command == NBD_CMD_BLOCK_STATUS;
    if (req->result == 0 && answers && !request->conn->closed) {
        nbd_reply_part(part);
    } else {
        nbd_part_free(part);
    }
    if (last) {
        nbd_reply_finish(request);
    }
}
