/* SPDX-License-Identifier: Apache-2.0 */

/* Transmission: replies.  READ and BLOCK_STATUS answer by structured chunks
 * where the client negotiated them; the last chunk says DONE.  Everything else
 * is answered by a simple reply, which is allowed at all times. */

#include <errno.h>

#include "blockd/export/nbd_internal.h"
#include "lib/base/container_of.h"

uint32_t
nbd_error_from_errno(int result)
{
    switch (-result) {
    case 0:
        return 0;
    case EPERM:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOPNOTSUPP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
    case ESTALE: /* Fenced: another owner serves the volume now. */
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

/* ---- Sends ---- */

static void
nbd_request_send(struct nbd_request *request, struct io_send *send)
{
    struct nbd_conn *conn = request->conn;
    struct io *io = conn->server->io;

    if (conn->sends_pending++ == 0) {
        conn->progress_ns = io_now_ns(io);
    }
    request->sends_pending++;
    io_conn_send(io, &conn->conn, send);
}

static void
nbd_request_send_over(struct nbd_request *request)
{
    struct nbd_conn *conn = request->conn;

    request->sends_pending--;
    conn->sends_pending--;
    conn->progress_ns = io_now_ns(conn->server->io);
}

static void
nbd_request_sent(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);
    struct nbd_request *request = container_of(send, struct nbd_request, send);
    (void)result; /* A broken connection reports itself. */

    nbd_request_send_over(request);
    nbd_request_maybe_free(request);
}

static void
nbd_part_sent(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);
    struct nbd_part *part = container_of(send, struct nbd_part, send);
    struct nbd_request *request = part->request;
    (void)result;

    nbd_request_send_over(request);
    nbd_part_free(part);
    nbd_request_maybe_free(request);
}

static void
nbd_chunk_fill(struct nbd_chunk_header *header,
               const struct nbd_request *request, uint16_t type, bool done,
               uint32_t size)
{
    header->magic = be32_make(NBD_STRUCTURED_REPLY_MAGIC);
    header->flags = be16_make(done ? NBD_REPLY_FLAG_DONE : 0);
    header->type = be16_make(type);
    header->cookie = be64_make(request->cookie);
    header->size = be32_make(size);
}

static void
nbd_iov_add(struct io_send *send, void *data, size_t size)
{
    send->iov[send->iov_count].iov_base = data;
    send->iov[send->iov_count].iov_len = size;
    send->iov_count++;
}

/* ---- Simple replies ---- */

static void
nbd_reply_simple(struct nbd_request *request)
{
    request->reply.simple = (struct nbd_simple_reply){
        .magic = be32_make(NBD_SIMPLE_REPLY_MAGIC),
        .error = be32_make(request->error),
        .cookie = be64_make(request->cookie),
    };
    request->send = (struct io_send){ .op.done = nbd_request_sent };
    nbd_iov_add(&request->send, &request->reply.simple,
                sizeof request->reply.simple);
    nbd_request_send(request, &request->send);
}

static void
nbd_reply_error_chunk(struct nbd_request *request)
{
    struct nbd_chunk_error *chunk = &request->reply.chunk_error;

    nbd_chunk_fill(&chunk->header, request, NBD_REPLY_TYPE_ERROR, true,
                   sizeof *chunk - sizeof chunk->header);
    chunk->error = be32_make(request->error);
    chunk->text_size = be16_make(0);
    request->send = (struct io_send){ .op.done = nbd_request_sent };
    nbd_iov_add(&request->send, chunk, sizeof *chunk);
    nbd_request_send(request, &request->send);
}

void
nbd_reply_finish(struct nbd_request *request)
{
    struct nbd_conn *conn = request->conn;
    bool answers = request->command == NBD_CMD_READ ||
                   request->command == NBD_CMD_BLOCK_STATUS;

    if (conn->closed) {
        nbd_request_maybe_free(request);
        return;
    }
    if (!answers) {
        nbd_reply_simple(request);
        return;
    }
    if (request->error == 0) {
        return; /* Its parts have answered; the last to be sent frees it. */
    }
    if (conn->structured) {
        nbd_reply_error_chunk(request);
    } else if (request->header_sent) {
        nbd_conn_cut(conn); /* Success is on the wire: no other way. */
        nbd_request_maybe_free(request);
    } else {
        nbd_reply_simple(request);
    }
}

/* ---- Parts ---- */

/* Whether every block of the part reads as zeros. */
static bool
nbd_part_is_zero(const struct nbd_part *part)
{
    for (uint32_t i = 0; i < part->payload->block_count; i++) {
        if (part->payload->states[i] == STORE_BLOCK_DATA) {
            return false;
        }
    }
    return true;
}

static void
nbd_reply_read(struct nbd_part *part, bool done)
{
    struct nbd_request *request = part->request;
    uint32_t size = (uint32_t)part->size_bytes;

    if (!request->conn->structured) {
        if (!request->header_sent) {
            part->reply.simple = (struct nbd_simple_reply){
                .magic = be32_make(NBD_SIMPLE_REPLY_MAGIC),
                .error = be32_make(0),
                .cookie = be64_make(request->cookie),
            };
            nbd_iov_add(&part->send, &part->reply.simple,
                        sizeof part->reply.simple);
            request->header_sent = true;
        }
        nbd_iov_add(&part->send, payload_bytes(part->payload), size);
        return;
    }
    if (nbd_part_is_zero(part)) {
        struct nbd_chunk_hole *hole = &part->reply.chunk_hole;
        nbd_chunk_fill(&hole->header, request, NBD_REPLY_TYPE_OFFSET_HOLE, done,
                       sizeof *hole - sizeof hole->header);
        hole->offset = be64_make(part->offset_bytes);
        hole->size = be32_make(size);
        nbd_iov_add(&part->send, hole, sizeof *hole);
        payload_put(part->payload); /* Others may have it already. */
        part->payload = NULL;
        return;
    }
    struct nbd_chunk_data *chunk = &part->reply.chunk_data;
    nbd_chunk_fill(&chunk->header, request, NBD_REPLY_TYPE_OFFSET_DATA, done,
                   (uint32_t)sizeof chunk->offset + size);
    chunk->offset = be64_make(part->offset_bytes);
    nbd_iov_add(&part->send, chunk, sizeof *chunk);
    nbd_iov_add(&part->send, payload_bytes(part->payload), size);
}

static void
nbd_reply_status(struct nbd_part *part, bool done)
{
    struct nbd_request *request = part->request;
    struct nbd_status *status = part->status;
    uint64_t left = part->size_bytes;
    uint32_t count = 0, last_flags = 0, last_size = 0;

    for (uint32_t i = 0; i < part->req.extents_count && left > 0; i++) {
        const struct volume_extent *extent = &status->extents[i];
        uint64_t size = extent->size_bytes < left ? extent->size_bytes : left;
        uint32_t flags = (extent->hole ? NBD_STATE_HOLE : 0) |
                         (extent->zero ? NBD_STATE_ZERO : 0);
        if (size == 0) {
            continue;
        }
        left -= size;
        if (count > 0 && flags == last_flags) {
            last_size += (uint32_t)size;
        } else {
            if (count > 0 && (request->flags & NBD_CMD_FLAG_REQ_ONE) != 0) {
                break;
            }
            last_size = (uint32_t)size;
            last_flags = flags;
            count++;
        }
        status->descriptors[count - 1] = (struct nbd_status_descriptor){
            .size = be32_make(last_size),
            .flags = be32_make(last_flags),
        };
    }
    CHECK(count > 0); /* A volume's answer is never empty. */
    uint32_t bytes = count * (uint32_t)sizeof status->descriptors[0];
    status->context = be32_make(NBD_CONTEXT_ALLOCATION_ID);
    nbd_chunk_fill(&part->reply.chunk, request, NBD_REPLY_TYPE_BLOCK_STATUS,
                   done, (uint32_t)sizeof status->context + bytes);
    nbd_iov_add(&part->send, &part->reply.chunk, sizeof part->reply.chunk);
    nbd_iov_add(&part->send, &status->context, sizeof status->context);
    nbd_iov_add(&part->send, status->descriptors, bytes);
}

void
nbd_reply_part(struct nbd_part *part)
{
    struct nbd_request *request = part->request;
    bool done =
        request->all_made && request->parts_pending == 0 && request->error == 0;

    part->send = (struct io_send){ .op.done = nbd_part_sent };
    if (request->command == NBD_CMD_READ) {
        nbd_reply_read(part, done);
    } else {
        nbd_reply_status(part, done);
    }
    nbd_request_send(request, &part->send);
}
