/* SPDX-License-Identifier: Apache-2.0 */

/* The handshake: options and their replies (NBD doc/proto.md, "Option
 * types").  Every option is gathered whole (its size is bounded) before it is
 * looked at.  Its replies are put together in conn->out and leave in one send;
 * until that is over nothing more is read, so that a client that does not read
 * costs no more than the longest answer.  (This is set-up: malloc is in
 * order.) */

#include <stdlib.h>
#include <string.h>

#include "blockd/export/nbd_internal.h"
#include "lib/base/container_of.h"

#define NBD_CONTEXT_ALLOCATION "base:allocation"

/* ---- Replies ---- */

static void
nbd_out_done(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);
    struct nbd_out *out = container_of(send, struct nbd_out, send);
    struct nbd_conn *conn = container_of(out, struct nbd_conn, out);
    (void)result; /* A broken connection reports itself. */

    out->pending = false;
    free(out->bytes);
    out->bytes = NULL;
    out->size = 0;
    out->capacity = 0;
    nbd_conn_unblock(conn);
}

static void
nbd_out_add(struct nbd_conn *conn, const void *data, uint32_t size)
{
    struct nbd_out *out = &conn->out;

    CHECK(!out->pending);
    if (conn->state == NBD_CONN_DEAD || size == 0) {
        return;
    }
    if (size > out->capacity - out->size) {
        uint32_t capacity = 2 * out->capacity + size + 256;
        uint8_t *bytes = realloc(out->bytes, capacity);
        if (bytes == NULL) {
            nbd_conn_cut(conn);
            return;
        }
        out->bytes = bytes;
        out->capacity = capacity;
    }
    memcpy(out->bytes + out->size, data, size);
    out->size += size;
}

void
nbd_out_flush(struct nbd_conn *conn)
{
    struct nbd_out *out = &conn->out;

    if (out->size == 0) {
        return;
    }
    out->send = (struct io_send){ .op.done = nbd_out_done };
    out->send.iov[0].iov_base = out->bytes;
    out->send.iov[0].iov_len = out->size;
    out->send.iov_count = 1;
    out->pending = true;
    io_conn_send(conn->server->io, &conn->conn, &out->send);
}

void
nbd_greet(struct nbd_conn *conn)
{
    struct nbd_greeting greeting = {
        .magic = be64_make(NBD_MAGIC),
        .option_magic = be64_make(NBD_OPTION_MAGIC),
        .flags = be16_make(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
    };
    nbd_out_add(conn, &greeting, sizeof greeting);
    nbd_out_flush(conn);
}

static void
nbd_option_reply(struct nbd_conn *conn, uint32_t type, const void *body,
                 uint32_t size)
{
    struct nbd_option_reply reply = {
        .magic = be64_make(NBD_OPTION_REPLY_MAGIC),
        .option = be32_make(conn->option),
        .type = be32_make(type),
        .size = be32_make(size),
    };
    nbd_out_add(conn, &reply, sizeof reply);
    nbd_out_add(conn, body, size);
}

void
nbd_option_refuse(struct nbd_conn *conn, uint32_t error, const char *text)
{
    nbd_option_reply(conn, error, text, (uint32_t)strlen(text));
}

/* ---- Options ---- */

uint16_t
nbd_transmission_flags(const struct nbd_conn *conn)
{
    uint32_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH |
                     NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
                     NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN |
                     NBD_FLAG_SEND_FAST_ZERO;
    if (conn->structured) {
        flags |= NBD_FLAG_SEND_DF;
    }
    return (uint16_t)flags;
}

static void
nbd_option_export_name(struct nbd_conn *conn, const uint8_t *data,
                       uint32_t size)
{
    struct nbd_export *found =
        nbd_export_find(conn->server, (const char *)data, size);
    if (found == NULL) {
        nbd_conn_cut(conn); /* This old option cannot be refused otherwise. */
        return;
    }
    struct volume_info info;
    volume_info_get(found->volume, &info);
    struct {
        struct be64 size_bytes;
        struct be16 flags;
        uint8_t zeroes[124];
    } reply = {
        .size_bytes = be64_make(info.size_bytes),
        .flags = be16_make(nbd_transmission_flags(conn)),
    };
    nbd_out_add(conn, &reply, conn->no_zeroes ? 10 : sizeof reply);
    if (conn->state != NBD_CONN_DEAD) {
        nbd_conn_set_export(conn, found);
        conn->state = NBD_CONN_REQUEST;
    }
}

static void
nbd_option_list(struct nbd_conn *conn, uint32_t size)
{
    if (size != 0) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "LIST has no data");
        return;
    }
    LIST_FOREACH (node, &conn->server->exports) {
        struct nbd_export *nbd_export =
            container_of(node, struct nbd_export, node);
        if (nbd_export->removing) {
            continue;
        }
        uint8_t body[4 + NBD_EXPORT_NAME_MAX];
        uint32_t name_size = (uint32_t)strlen(nbd_export->name);
        struct be32 wire = be32_make(name_size);
        memcpy(body, &wire, sizeof wire);
        memcpy(body + sizeof wire, nbd_export->name, name_size);
        nbd_option_reply(conn, NBD_REP_SERVER, body,
                         (uint32_t)sizeof wire + name_size);
    }
    nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
}

/* Sends what INFO and GO tell of an export. */
static void
nbd_option_describe(struct nbd_conn *conn, const struct nbd_export *nbd_export,
                    bool wants_name)
{
    struct volume_info info;
    volume_info_get(nbd_export->volume, &info);

    struct nbd_info_export about = {
        .type = be16_make(NBD_INFO_EXPORT),
        .size_bytes = be64_make(info.size_bytes),
        .flags = be16_make(nbd_transmission_flags(conn)),
    };
    nbd_option_reply(conn, NBD_REP_INFO, &about, sizeof about);

    struct nbd_info_block_size sizes = {
        .type = be16_make(NBD_INFO_BLOCK_SIZE),
        .minimum = be32_make(1),
        .preferred = be32_make(WEFT_BLOCK_SIZE),
        .maximum = be32_make(NBD_REQUEST_BYTES_MAX),
    };
    nbd_option_reply(conn, NBD_REP_INFO, &sizes, sizeof sizes);

    if (wants_name) {
        uint8_t body[2 + NBD_EXPORT_NAME_MAX];
        struct be16 type = be16_make(NBD_INFO_NAME);
        uint32_t name_size = (uint32_t)strlen(nbd_export->name);
        memcpy(body, &type, sizeof type);
        memcpy(body + sizeof type, nbd_export->name, name_size);
        nbd_option_reply(conn, NBD_REP_INFO, body,
                         (uint32_t)sizeof type + name_size);
    }
}

/* NBD_OPT_INFO, NBD_OPT_GO: u32 name size, name, u16 count, u16 requests. */
static void
nbd_option_info(struct nbd_conn *conn, const uint8_t *data, uint32_t size)
{
    struct be32 wire_size;
    struct be16 wire_count;
    if (size < sizeof wire_size + sizeof wire_count) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "lengths do not fit");
        return;
    }
    memcpy(&wire_size, data, sizeof wire_size);
    uint32_t name_size = be32_get(wire_size);
    uint32_t room = size - (uint32_t)(sizeof wire_size + sizeof wire_count);
    if (name_size > room || name_size > NBD_NAME_SIZE_MAX) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "lengths do not fit");
        return;
    }
    const uint8_t *name = data + sizeof wire_size;
    memcpy(&wire_count, name + name_size, sizeof wire_count);
    uint32_t count = be16_get(wire_count);
    if (room - name_size != count * 2) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID,
                          "the count of requests does not fit");
        return;
    }
    bool wants_name = false;
    for (uint32_t i = 0; i < count; i++) {
        struct be16 wanted;
        memcpy(&wanted, name + name_size + 2 + (size_t)2 * i, sizeof wanted);
        wants_name |= be16_get(wanted) == NBD_INFO_NAME;
    }

    struct nbd_export *found =
        nbd_export_find(conn->server, (const char *)name, name_size);
    if (found == NULL) {
        nbd_option_refuse(conn, NBD_REP_ERR_UNKNOWN, "no such export");
        return;
    }
    nbd_option_describe(conn, found, wants_name);
    nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
    if (conn->option == NBD_OPT_GO && conn->state != NBD_CONN_DEAD) {
        nbd_conn_set_export(conn, found);
        conn->state = NBD_CONN_REQUEST;
    }
}

static bool
nbd_query_matches(const uint8_t *query, uint32_t size, bool list)
{
    static const char name[] = NBD_CONTEXT_ALLOCATION;
    if (size == sizeof name - 1 && memcmp(query, name, size) == 0) {
        return true;
    }
    return list && size == 5 && memcmp(query, "base:", 5) == 0;
}

/* NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT: u32 name size, name, u32
 * count, then each query as u32 size, text. */
static void
nbd_option_meta_context(struct nbd_conn *conn, const uint8_t *data,
                        uint32_t size)
{
    bool list = conn->option == NBD_OPT_LIST_META_CONTEXT;
    struct be32 wire;
    uint32_t at = sizeof wire;

    if (!list) {
        conn->base_allocation = false; /* Each SET starts anew. */
    }
    if (!conn->structured) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID,
                          "structured replies come first");
        return;
    }
    if (size < 2 * sizeof wire) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "too short");
        return;
    }
    memcpy(&wire, data, sizeof wire);
    uint32_t name_size = be32_get(wire);
    if (name_size > size - 2 * sizeof wire) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "lengths do not fit");
        return;
    }
    const struct nbd_export *found =
        nbd_export_find(conn->server, (const char *)data + at, name_size);
    if (found == NULL) {
        nbd_option_refuse(conn, NBD_REP_ERR_UNKNOWN, "no such export");
        return;
    }
    at += name_size;
    memcpy(&wire, data + at, sizeof wire);
    at += (uint32_t)sizeof wire;
    uint32_t count = be32_get(wire);
    bool matches = list && count == 0;
    for (uint32_t i = 0; i < count; i++) {
        if (size - at < sizeof wire) {
            nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "lengths do not fit");
            return;
        }
        memcpy(&wire, data + at, sizeof wire);
        at += (uint32_t)sizeof wire;
        uint32_t query_size = be32_get(wire);
        if (query_size > size - at) {
            nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "lengths do not fit");
            return;
        }
        matches |= nbd_query_matches(data + at, query_size, list);
        at += query_size;
    }
    if (at != size) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID, "lengths do not fit");
        return;
    }
    if (matches) {
        static const char name[] = NBD_CONTEXT_ALLOCATION;
        uint8_t body[4 + sizeof name - 1];
        wire = be32_make(list ? 0 : NBD_CONTEXT_ALLOCATION_ID);
        memcpy(body, &wire, sizeof wire);
        memcpy(body + sizeof wire, name, sizeof name - 1);
        nbd_option_reply(conn, NBD_REP_META_CONTEXT, body, sizeof body);
        if (!list) {
            conn->base_allocation = true;
            conn->context_export_id = found->id;
        }
    }
    nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
}

static void
nbd_option_structured(struct nbd_conn *conn, uint32_t size)
{
    if (size != 0) {
        nbd_option_refuse(conn, NBD_REP_ERR_INVALID,
                          "STRUCTURED_REPLY has no data");
        return;
    }
    conn->structured = true;
    nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
}

void
nbd_option_handle(struct nbd_conn *conn, const uint8_t *data, uint32_t size)
{
    conn->state = NBD_CONN_OPTION; /* Unless one below says otherwise. */
    switch (conn->option) {
    case NBD_OPT_EXPORT_NAME:
        nbd_option_export_name(conn, data, size);
        break;
    case NBD_OPT_ABORT:
        nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
        if (conn->state != NBD_CONN_DEAD) {
            nbd_out_flush(conn);
            conn->state = NBD_CONN_DEAD;
            io_conn_close_after_sends(conn->server->io, &conn->conn);
        }
        return;
    case NBD_OPT_LIST:
        nbd_option_list(conn, size);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        nbd_option_info(conn, data, size);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        nbd_option_structured(conn, size);
        break;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        nbd_option_meta_context(conn, data, size);
        break;
    default:
        nbd_option_refuse(conn, NBD_REP_ERR_UNSUP, "not supported");
        break;
    }
    nbd_out_flush(conn);
}
