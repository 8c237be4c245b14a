/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_CLIENT_INTERNAL_H
#define BLOCKD_PEER_CLIENT_INTERNAL_H

/* Shared by peer_client.c (life of the connection) and client_request.c
 * (requests and replies). */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/parser.h"
#include "blockd/peer/peer_client.h"
#include "lib/base/backoff.h"
#include "lib/base/container_of.h"
#include "lib/base/err.h"

/* Up to so many CRCs lie behind the header in one piece. */
#define CLIENT_INLINE_CRCS 16u
/* PUT_SLOTs under way: they need room for arrays and scattered data. */
#define CLIENT_PUTS 8u
/* Every second block is DATA, 128 runs: the first send has two of them. */
#define CLIENT_PUT_SENDS 32u

enum client_phase {
    CLIENT_IDLE,
    CLIENT_CONNECTING,
    CLIENT_GREETING,
    CLIENT_READY,
    CLIENT_CLOSING,
    CLIENT_WAITING,
    CLIENT_CLOSED, /* By link_close_start(). */
};

struct client_slot;

struct client_put_send {
    struct io_send send;
    struct client_slot *slot;
};

struct client_put {
    struct list node;
    struct client_put_send sends[CLIENT_PUT_SENDS];
    uint8_t arrays[5 * STORE_REQ_BLOCKS_MAX];
};

/* One request under way. */
struct client_slot {
    struct link_remote *remote;
    struct store_req *req; /* NULL: the slot is free. */
    uint64_t id;
    struct list node; /* free */
    struct io_send send;
    struct client_put *put;
    uint32_t cost_bytes;
    uint32_t sends_pending;
    bool is_answered;
    bool is_late;
    int result;
    uint8_t head[PEER_HEADER_BYTES + PEER_REQUEST_FIXED_MAX +
                 4 * CLIENT_INLINE_CRCS];
};

/* The reply whose data are arriving. */
struct client_arrival {
    struct client_slot *slot;
    uint32_t block;  /* READ */
    uint32_t offset; /* In the block, or in the entries. */
    uint32_t crc;    /* Of the block or of the entries so far. */
    uint32_t data_crc;
    uint32_t entries_count;
};

struct link_remote {
    struct link link; /* First. */
    enum client_phase phase;
    char address[IO_ADDRESS_SIZE];
    struct weft_uuid cluster, instance;
    char host[PEER_HOST_SIZE];
    uint64_t silence_ns, connect_ns, ping_ns, link_id;
    struct backoff backoff;
    struct rng rng;

    struct io_conn conn;
    struct io_timer timer;
    struct io_task task;
    struct peer_parser parser;
    struct client_arrival arrival;

    struct client_slot *slots;
    uint32_t slot_count;
    struct list free_slots; /* client_slot.node */
    struct client_put puts[CLIENT_PUTS];
    struct list free_puts; /* client_put.node */
    struct list queue;     /* store_req.node: wait for the window */
    struct list refused;   /* store_req.node: 'result' is set */
    uint64_t serial;

    uint32_t window_requests, window_bytes;
    uint32_t used_requests, used_bytes;

    uint64_t tick_ns;     /* When to look at the keep-alive. */
    uint64_t earliest_ns; /* No deadline is before this. */
    uint64_t heard_ns, sent_ns, up_ns;
    uint64_t ping_id;
    bool ping_pending; /* Not answered. */
    bool ping_sending;
    bool hello_sending;
    bool is_gone;           /* on_closed() has come. */
    uint32_t sends_pending; /* May settle after it. */
    struct io_send hello_send, ping_send;
    uint8_t hello[PEER_HEADER_BYTES + sizeof(struct peer_hello)];
    uint8_t ping[PEER_HEADER_BYTES];

    int reason;
    struct err why;
    struct link_remote_info info;
};

/* peer_client.c: the first reason counts. */
void client_cut(struct link_remote *remote, int reason, const char *why);
void client_arm(struct link_remote *remote);
void client_send(struct link_remote *remote, struct io_send *send);
void client_send_settled(struct link_remote *remote);
static inline bool
client_is_open(const struct link_remote *remote)
{
    return remote->phase == CLIENT_GREETING || remote->phase == CLIENT_READY;
}

/* client_request.c */
void client_submit(struct link *link, struct store_req *req);
void client_pump(struct link_remote *remote);
void client_reply(struct link_remote *remote);
void client_data(struct link_remote *remote);
/* Ends requests whose deadline has passed; cuts if one of them is under way. */
void client_expire(struct link_remote *remote, uint64_t now_ns);
/* The connection is gone: nothing borrows the requests' memory. */
void client_fail_all(struct link_remote *remote);
void client_run_refused(struct link_remote *remote);

#endif /* BLOCKD_PEER_CLIENT_INTERNAL_H */
