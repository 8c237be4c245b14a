/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_EXPORT_NBD_INTERNAL_H
#define BLOCKD_EXPORT_NBD_INTERNAL_H

/* What the files of the NBD server share.
 *
 *   nbd_server.c    server, exports, connections: birth, bytes in, death
 *   nbd_option.c    the handshake: options and their replies
 *   nbd_request.c   transmission: checks, parts, submission to the volume
 *   nbd_reply.c     transmission: replies
 *
 * A request of at most 1 MiB is one *part*; a larger one is cut into parts that
 * end at multiples of 4 KiB, so that no two of them share a block.  Life of a
 * connection:
 *
 *   FLAGS -> OPTION <-> OPTION_DATA -> REQUEST <-> WRITE_DATA | SUBMIT | SKIP
 *                                         |
 *                                      DISC: DRAIN (the last reply is sent)
 *
 * From every state to DEAD: when it is cut.
 *
 *   (1) In WRITE_DATA and SUBMIT, and only there, the connection has a current
 *       request, whose parts are still being made.
 *   (2) A connection that lacks something (a request, a part, a payload, room
 *       for its last reply) is *blocked*: it stops reading and keeps the rest
 *       of what it received in its stash.  Who puts something back wakes those
 *       on server->starved; payloads have waiters of their own.
 *   (3) No part waits for another one: what has been taken can always be
 *       finished and given back, so that waiting ends.
 *   (4) A large read by simple reply has the connection to itself while its
 *       bytes go out in pieces: no other reply may come between them.
 *   (5) A connection is freed when it is closed and has no request.  An export
 *       lives as long as it has clients, the server as long as it has
 *       connections.
 *   (6) A client that stands still while others wait for what it holds is cut
 *       after NBD_STALL_NS. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/export/nbd.h"
#include "blockd/export/nbd_wire.h"
#include "lib/base/list.h"
#include "lib/base/slab.h"

#define NBD_OPTION_BYTES_MAX 8192u
#define NBD_EXTENTS_MAX 128u
#define NBD_CONN_REQUESTS_MAX 256u
#define NBD_LISTENERS_MAX 4u
#define NBD_REQUEST_PARTS_MAX 8u /* Of one request at a time. */
#define NBD_EXPORT_NAME_MAX 400u
#define NBD_HANDSHAKE_NS (30 * NS_PER_S)
#define NBD_STALL_NS (30 * NS_PER_S)
#define NBD_WATCH_NS (5 * NS_PER_S)

struct nbd_listener {
    struct nbd_server *server;
    struct io_listener listener;
};

struct nbd_server {
    struct io *io;
    uint32_t connections_max, connections_count;
    struct slab requests, parts, statuses;
    struct nbd_listener listeners[NBD_LISTENERS_MAX];
    uint32_t listener_count;
    struct list exports, conns;
    struct list starved;   /* Connections waiting for a request or a part. */
    struct io_task feed;   /* Lets starved connections try again. */
    struct io_timer watch; /* Looks for clients that stand still. */
    uint64_t export_serial;
    bool stopping;
    bool full; /* connections_max was reached, and logged. */
    nbd_server_stopped_fn *stopped;
    void *owner;
    struct io_task stop_task;
};

struct nbd_export {
    struct nbd_server *server;
    struct list node;
    struct volume *volume;
    char *name;
    uint64_t id; /* Never used twice by a server. */
    uint32_t clients;
    bool removing;
    nbd_export_removed_fn *removed;
    void *owner;
    struct io_task remove_task;
};

enum nbd_conn_state {
    NBD_CONN_FLAGS,
    NBD_CONN_OPTION,
    NBD_CONN_OPTION_DATA,
    NBD_CONN_REQUEST,
    NBD_CONN_WRITE_DATA, /* current is a write, its bytes are arriving. */
    NBD_CONN_SUBMIT,     /* current's parts are being made. */
    NBD_CONN_SKIP,       /* skip_bytes of a refused message. */
    NBD_CONN_DRAIN,      /* The client said DISC: requests are finished. */
    NBD_CONN_DEAD,       /* Nothing more is read. */
};

/* The replies to one option on their way out. */
struct nbd_out {
    struct io_send send;
    uint8_t *bytes; /* Freed when it is sent. */
    uint32_t size, capacity;
    bool pending;
};

struct nbd_conn {
    struct nbd_server *server;
    struct nbd_export *nbd_export; /* Once chosen. */
    struct list node;              /* In server->conns. */
    struct list starved_node;
    struct io_conn conn;
    struct io_timer handshake_timer;
    struct payload_waiter waiter;
    enum nbd_conn_state state;
    enum nbd_conn_state after_skip;
    bool fixed, no_zeroes, structured;
    bool base_allocation;       /* Chosen by SET_META_CONTEXT, */
    uint64_t context_export_id; /* and for this export only. */
    bool paused, closed, feeding;
    struct nbd_out out;

    /* A message that is being gathered. */
    uint8_t gather[NBD_OPTION_BYTES_MAX];
    uint32_t gather_bytes;
    uint32_t option, option_size;
    uint64_t skip_bytes;

    struct list requests;
    uint32_t request_count;
    uint32_t sends_pending; /* Of all requests. */
    uint64_t progress_ns;   /* When the last send was over. */
    struct nbd_request *current;
    struct nbd_part *filling; /* WRITE_DATA: the part that takes bytes. */
    uint64_t filling_ns;      /* Since when. */

    uint8_t stash[IO_DATA_BYTES_MAX]; /* Received, not yet looked at. */
    uint32_t stash_offset, stash_bytes;
};

struct nbd_request {
    struct nbd_conn *conn;
    struct list node;
    uint64_t cookie, offset_bytes;
    uint32_t size_bytes, made_bytes; /* made: turned into parts so far. */
    uint16_t command, flags;
    uint32_t parts_count;   /* That exist: taken, at the volume, being sent. */
    uint32_t parts_pending; /* At the volume. */
    uint32_t sends_pending;
    bool all_made;
    bool serial; /* A large read by simple reply: invariant (4). */
    bool header_sent;
    uint32_t error; /* NBD_E...; the first one counts. */
    struct io_send send;
    union {
        struct nbd_simple_reply simple;
        struct nbd_chunk_error chunk_error;
    } reply;
};

struct nbd_status {
    struct volume_extent extents[NBD_EXTENTS_MAX];
    struct be32 context;
    struct nbd_status_descriptor descriptors[NBD_EXTENTS_MAX];
};

struct nbd_part {
    struct nbd_request *request;
    struct volume_req req;
    struct payload *payload;
    struct nbd_status *status;
    uint64_t offset_bytes;
    uint64_t size_bytes;
    uint32_t filled_bytes;
    struct io_send send;
    union {
        struct nbd_simple_reply simple;
        struct nbd_chunk_header chunk;
        struct nbd_chunk_data chunk_data;
        struct nbd_chunk_hole chunk_hole;
    } reply;
};

/* nbd_server.c */
void nbd_conn_cut(struct nbd_conn *conn);
struct nbd_export *nbd_export_find(struct nbd_server *server, const char *name,
                                   size_t name_size);
void nbd_conn_set_export(struct nbd_conn *conn, struct nbd_export *nbd_export);
/* Blocks the connection until a request or a part has been put back. */
void nbd_conn_starve(struct nbd_conn *conn);
/* After one was put back: wakes starved connections. */
void nbd_server_feed(struct nbd_server *server);
/* Frees the connection if nothing holds it any more. */
void nbd_conn_maybe_free(struct nbd_conn *conn);
void nbd_conn_block(struct nbd_conn *conn);
/* Goes on with what was received; harmless if not blocked. */
void nbd_conn_unblock(struct nbd_conn *conn);
/* All requests of a DRAINing connection are finished: closes it. */
void nbd_conn_maybe_drained(struct nbd_conn *conn);

/* nbd_option.c */
uint16_t nbd_transmission_flags(const struct nbd_conn *conn);
void nbd_greet(struct nbd_conn *conn);
/* An option has been gathered whole.  Sets the next state. */
void nbd_option_handle(struct nbd_conn *conn, const uint8_t *data,
                       uint32_t size);
void nbd_option_refuse(struct nbd_conn *conn, uint32_t error, const char *text);
/* Sends what replies have been made. */
void nbd_out_flush(struct nbd_conn *conn);

/* nbd_request.c */
/* Takes a header; sets conn->state.  False: blocked, try again later. */
bool nbd_request_begin(struct nbd_conn *conn,
                       const struct nbd_request_header *header);
/* Makes parts of the current request.  False: blocked. */
bool nbd_request_pump(struct nbd_conn *conn);
/* Takes bytes of the current write; returns how many (0: blocked). */
uint32_t nbd_request_fill(struct nbd_conn *conn, const uint8_t *data,
                          uint32_t size);
void nbd_request_maybe_free(struct nbd_request *request);
void nbd_part_free(struct nbd_part *part);

/* nbd_reply.c */
uint32_t nbd_error_from_errno(int result);
/* The last part has settled and the request has no reply yet that says DONE. */
void nbd_reply_finish(struct nbd_request *request);
/* A part of a READ or BLOCK_STATUS came back well. */
void nbd_reply_part(struct nbd_part *part);

#endif /* BLOCKD_EXPORT_NBD_INTERNAL_H */
