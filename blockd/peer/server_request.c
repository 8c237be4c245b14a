/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/server_internal.h"

/* Requests at the server.
 *
 *   header --> memory --> data, copied and checked --> link_submit()
 *          --> done --> reply: with data: a send of its own
 *                              without:   in the next batch of its connection
 *          --> memory back */

#include <errno.h>
#include <string.h>

#include "lib/base/crc32c.h"

static store_req_done_fn serve_done;
static io_op_done_fn reply_sent;

/* ---- Arrival ---- */

static struct server_req *
take_memory(struct server_conn *conn, const struct peer_shape *shape)
{
    struct peer_server *server = conn->server;

    if (!list_is_empty(&server->waiting) && server->resuming != conn) {
        return NULL; /* Others were first. */
    }
    struct server_req *s = slab_get(&server->reqs);
    if (s == NULL) {
        return NULL;
    }
    s->pages = NULL;
    if (shape->buffer_bytes != 0) {
        s->pages = pages_get(&server->pages, shape->buffer_bytes);
        if (s->pages == NULL) {
            slab_put(&server->reqs, s);
            return NULL;
        }
    }
    server->resuming = NULL; /* It had its turn. */
    return s;
}

void
serve_release(struct server_req *s)
{
    struct server_conn *conn = s->conn;
    struct peer_server *server = conn->server;

    if (s->pages != NULL) {
        pages_put(&server->pages, s->pages);
    }
    slab_put(&server->reqs, s);
    conn->in_flight--;
    server->stats.in_flight--;
    if (!list_is_empty(&server->waiting)) {
        server_resume_later(server);
    }
    conn_settle(conn);
}

static uint32_t
next_with_data(const struct server_req *s, uint32_t block)
{
    if (s->req.opcode == STORE_PUT_SLOT) {
        while (block < s->req.block_count &&
               s->states[block] != STORE_BLOCK_DATA) {
            block++;
        }
    }
    return block;
}

static void
submit(struct server_conn *conn, struct server_req *s)
{
    conn->arriving = NULL;
    if (s->error != 0) {
        s->req.result = s->error;
        serve_done(&s->req);
        return;
    }
    s->req.crcs_hold = true; /* serve_data() has compared them. */
    link_submit(conn->link, &s->req);
}

bool
serve_head(struct server_conn *conn)
{
    const struct peer_head *head = &conn->parser.head;
    const uint8_t *meta = conn->parser.meta;
    struct peer_server *server = conn->server;
    struct peer_shape shape;

    if (peer_request_shape(head, meta, &shape) != 0) {
        conn_violated(conn, "a malformed request");
        return true;
    }
    if (conn->used_requests >= server->conn_requests_max ||
        conn->used_bytes + (uint64_t)shape.cost_bytes >
            server->conn_bytes_max) {
        conn_violated(conn, "more requests than the window allows");
        return true;
    }
    struct server_req *s = take_memory(conn, &shape);
    if (s == NULL) {
        return false;
    }
    s->req = (struct store_req){
        .done = serve_done,
        .deadline_ns = IO_NEVER,
        .crcs = s->reply.crcs,
        .states = s->states,
    };
    list_init(&s->req.node);
    list_init(&s->node);
    if (head->opcode == STORE_LIST) {
        s->req.entries = s->pages;
    } else {
        s->req.data = s->pages;
    }
    s->conn = conn;
    s->id = head->id;
    s->cost_bytes = shape.cost_bytes;
    s->error = peer_request_decode(head, meta, &shape, &s->req, s->reply.crcs,
                                   s->states);
    s->block = next_with_data(s, 0);
    s->offset = 0;
    s->crc = 0;
    conn->used_requests++;
    conn->used_bytes += shape.cost_bytes;
    conn->in_flight++;
    server->stats.in_flight++;
    server->stats.requests++;
    if (head->data_bytes != 0) {
        conn->arriving = s;
    } else {
        submit(conn, s);
    }
    return true;
}

void
serve_data(struct server_conn *conn)
{
    const uint8_t *data = conn->parser.chunk;
    uint32_t size_bytes = conn->parser.chunk_bytes;
    struct server_req *s = conn->arriving;

    CHECK(s != NULL);
    while (size_bytes != 0) {
        uint32_t taken = WEFT_BLOCK_SIZE - s->offset;
        if (taken > size_bytes) {
            taken = size_bytes;
        }
        CHECK(s->block < s->req.block_count);
        uint8_t *to =
            s->req.data + (uint64_t)s->block * WEFT_BLOCK_SIZE + s->offset;
        s->crc = crc32c_copy(s->crc, to, data, taken);
        s->offset += taken;
        data += taken;
        size_bytes -= taken;
        if (s->offset == WEFT_BLOCK_SIZE) {
            if (s->crc != s->req.crcs[s->block]) {
                conn->server->stats.crc_errors++;
                s->error = s->error != 0 ? s->error : -EBADMSG;
            }
            s->block = next_with_data(s, s->block + 1);
            s->offset = 0;
            s->crc = 0;
        }
    }
    if (conn->parser.data_left == 0) {
        submit(conn, s);
    }
}

/* ---- Replies ---- */

/* Moves the blocks that have data together; returns their bytes.  What the
 * others hold is left over from somebody else's request. */
static uint32_t
compact(struct server_req *s)
{
    struct store_req *req = &s->req;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < req->block_count; i++) {
        if (!peer_state_has_data(s->states[i])) {
            s->reply.crcs[i] = 0;
            continue;
        }
        if (kept != i) {
            memcpy(req->data + (uint64_t)kept * WEFT_BLOCK_SIZE,
                   req->data + (uint64_t)i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
        }
        kept++;
    }
    return kept * WEFT_BLOCK_SIZE;
}

static void
send_large(struct server_req *s)
{
    struct store_req *req = &s->req;
    uint8_t *meta = s->reply.head + PEER_HEADER_BYTES;
    struct peer_head head = {
        .kind = PEER_REPLY,
        .version = PEER_VERSION_MAX,
        .opcode = (uint16_t)req->opcode,
        .id = s->id,
        .meta_bytes = sizeof(struct peer_reply),
    };
    uint32_t data_crc = 0;

    if (req->opcode == STORE_READ) {
        uint32_t count = req->block_count;
        head.data_bytes = compact(s);
        head.meta_bytes += 5 * count;
        memcpy((uint8_t *)s->reply.crcs + 4 * (size_t)count, s->states, count);
    } else {
        head.data_bytes =
            req->entries_count * (uint32_t)sizeof(struct peer_entry);
        data_crc = crc32c(0, req->entries, head.data_bytes);
    }
    peer_reply_encode(req, data_crc, meta);
    head.meta_crc = crc32c(0, meta, head.meta_bytes);
    peer_head_encode(&head, s->reply.head);
    s->send = (struct io_send){
        .op.done = reply_sent,
        .iov = { { s->reply.head, PEER_HEADER_BYTES + head.meta_bytes },
                 { s->pages, head.data_bytes } },
        .iov_count = head.data_bytes != 0 ? 2 : 1,
    };
    conn_send(s->conn, &s->send);
}

static void
reply_sent(struct io_op *op, int result)
{
    struct server_req *s = container_of(container_of(op, struct io_send, op),
                                        struct server_req, send);
    struct server_conn *conn = s->conn;

    (void)result; /* The connection says it. */
    conn_send_settled(conn);
    serve_release(s);
}

static void
serve_done(struct store_req *req)
{
    struct server_req *s = container_of(req, struct server_req, req);
    struct server_conn *conn = s->conn;

    /* From here on the client may know, and so use its window again. */
    conn->used_requests--;
    conn->used_bytes -= s->cost_bytes;
    if (conn->phase != SERVER_READY) {
        serve_release(s);
        return;
    }
    if (req->result == 0 && req->opcode == STORE_LIST) {
        CHECK(req->entries_count <= req->entries_max);
    }
    if (req->result == 0 &&
        (req->opcode == STORE_READ || req->opcode == STORE_LIST)) {
        send_large(s);
        return;
    }
    list_push_back(&conn->ready, &s->node);
    conn_flush_later(conn);
}

uint32_t
serve_encode_small(struct server_req *s, uint8_t *to, uint32_t room)
{
    struct store_req *req = &s->req;
    uint32_t meta_bytes = peer_reply_fixed_bytes((uint16_t)req->opcode);
    uint8_t *meta = to + PEER_HEADER_BYTES;

    if (room < PEER_HEADER_BYTES + meta_bytes) {
        return 0;
    }
    peer_reply_encode(req, 0, meta);
    struct peer_head head = {
        .kind = PEER_REPLY,
        .version = PEER_VERSION_MAX,
        .opcode = (uint16_t)req->opcode,
        .id = s->id,
        .meta_bytes = meta_bytes,
        .meta_crc = crc32c(0, meta, meta_bytes),
    };
    peer_head_encode(&head, to);
    return PEER_HEADER_BYTES + meta_bytes;
}
