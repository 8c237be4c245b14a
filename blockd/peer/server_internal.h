/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_SERVER_INTERNAL_H
#define BLOCKD_PEER_SERVER_INTERNAL_H

/* Shared by peer_server.c (listener, memory, keep-alive), server_conn.c (life
 * of a connection) and server_request.c (requests and replies).
 *
 *          adopted        HELLO
 *   FREE ---------> GREETING -----> READY
 *    ^                 |              |  BYE: ENDING, or cut: CLOSING
 *    |                 '-------+------'
 *    |  all settled            v on_closed()
 *    '--------------------- DRAINING */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/pages.h"
#include "blockd/peer/parser.h"
#include "blockd/peer/peer_server.h"
#include "lib/base/container_of.h"
#include "lib/base/slab.h"

#define SERVER_BATCH_BYTES 4096u
#define SERVER_BATCHES 2u

enum server_phase {
    SERVER_FREE,
    SERVER_GREETING,
    SERVER_READY,
    SERVER_ENDING,
    SERVER_CLOSING,
    SERVER_DRAINING,
};

struct server_conn;

/* Small messages that leave in one send. */
struct server_batch {
    struct server_conn *conn;
    struct io_send send;
    bool is_sending;
    uint32_t used;
    uint8_t bytes[SERVER_BATCH_BYTES];
};

/* One request, from its header to the end of its reply. */
struct server_req {
    struct store_req req;
    struct server_conn *conn;
    struct list node; /* conn->ready */
    void *pages;
    uint64_t id;
    uint32_t cost_bytes;
    int error;                   /* Found on arrival. */
    uint32_t block, offset, crc; /* Of the data arriving. */
    struct io_send send;
    uint8_t states[STORE_REQ_BLOCKS_MAX];
    /* A reply to a READ or LIST, as it is sent. */
    struct {
        uint8_t head[PEER_HEADER_BYTES + sizeof(struct peer_reply)];
        uint32_t crcs[STORE_REQ_BLOCKS_MAX];
        uint8_t states[STORE_REQ_BLOCKS_MAX]; /* Moved behind the CRCs. */
    } reply;
};

struct server_conn {
    struct io_conn conn;
    struct peer_server *server;
    enum server_phase phase;
    struct list node; /* free, or conns */
    struct peer_parser parser;

    /* Since the HELLO. */
    struct link *link;
    struct link_user user;
    struct weft_uuid instance;
    uint64_t link_id;

    struct server_req *arriving;        /* Its data are to come. */
    uint32_t used_requests, used_bytes; /* As the client counts. */
    uint32_t in_flight;                 /* server_reqs that name us. */
    uint32_t window_requests, window_bytes;

    /* Out. */
    bool want_welcome, want_credit, want_pong;
    uint64_t pong_id;
    struct list ready; /* server_req.node: small replies to be sent */
    struct io_task task;
    struct server_batch batches[SERVER_BATCHES];
    struct io_send bye_send;
    uint8_t bye[PEER_HEADER_BYTES + sizeof(struct peer_bye)];
    uint32_t sends_pending;
    uint64_t progress_ns; /* The last time that a send settled. */

    /* Waiting for memory: what had arrived. */
    bool is_paused;
    struct list wait_node; /* server->waiting */
    uint8_t *stash;        /* IO_DATA_BYTES_MAX */
    uint32_t stash_bytes;

    uint64_t heard_ns;
};

struct peer_server {
    struct io *io;
    struct peer_directory *directory;
    struct weft_uuid instance, cluster;
    char host[PEER_HOST_SIZE];
    uint32_t conn_requests_max, conn_bytes_max;
    uint64_t bytes_max, silence_ns, tick_ns, tick_at_ns;

    struct io_listener listener;
    struct io_timer timer;
    struct io_task resume_task, end_task;
    struct server_conn *conns;
    uint8_t *stashes;
    uint32_t conn_count;
    struct list free_conns;       /* server_conn.node */
    struct list live_conns;       /* server_conn.node: all others */
    struct list waiting;          /* server_conn.wait_node: paused, in order */
    struct server_conn *resuming; /* The one whose turn it is. */
    struct slab reqs;
    struct pages pages;
    struct peer_server_close *close_op;
    struct peer_server_stats stats;
};

/* peer_server.c */
/* A connection has become FREE. */
void server_conn_freed(struct peer_server *server);
/* Windows depend on the number of connections. */
void server_rebalance(struct peer_server *server);
/* Memory has become free. */
void server_resume_later(struct peer_server *server);

/* server_conn.c */
void conn_init(struct peer_server *server, struct server_conn *conn);
void conn_adopt(struct server_conn *conn, struct io_accepted *accepted);
void conn_flush_later(struct server_conn *conn);
void conn_cut(struct server_conn *conn);
void conn_bye(struct server_conn *conn, enum peer_status status,
              const char *text);
void conn_violated(struct server_conn *conn, const char *text);
/* Adds to the accounts of sends; undone by conn_send_settled(). */
void conn_send(struct server_conn *conn, struct io_send *send);
void conn_send_settled(struct server_conn *conn);
/* Tries again to handle the message that found no memory. */
void conn_resume(struct server_conn *conn);
void conn_tick(struct server_conn *conn, uint64_t now_ns);
/* FREE if nothing refers to it any more. */
void conn_settle(struct server_conn *conn);

/* server_request.c */
/* False: there is no memory; try again later with the same message. */
bool serve_head(struct server_conn *conn);
void serve_data(struct server_conn *conn);
/* Writes a small reply; 0: there is not enough room. */
uint32_t serve_encode_small(struct server_req *s, uint8_t *to, uint32_t room);
void serve_release(struct server_req *s);

#endif /* BLOCKD_PEER_SERVER_INTERNAL_H */
