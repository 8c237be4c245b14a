/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_PEER_SERVER_H
#define BLOCKD_PEER_PEER_SERVER_H

/* Serves the disks of this process to other hosts: the other end of
 * link_remote_new(), see docs/peer-protocol.md.
 *
 * A connection is bound to one disk by its HELLO.  The directory finds the link
 * to that disk's store, on the reactor of the server: so the store may belong
 * to another reactor.  When that link goes DOWN, its connections are closed.
 *
 * Invariants:
 *
 *   (1) Nothing of a request reaches the store before all of it has arrived and
 *       every 4 KiB block has matched its CRC; else the reply is -EBADMSG.
 *   (2) All memory is taken before a request's data are read, all at once; a
 *       request that has its memory needs nothing more to end.  When there is
 *       none the connection is not read, and its turn comes first come, first
 *       served (see README.md on deadlocks).
 *   (3) Requests of a connection that has gone run to their end; their replies
 *       are dropped.
 *   (4) A client that is silent, that does not take its replies, or that breaks
 *       the protocol, is cut.
 *
 * Thread: the reactor 'io'.  Memory: allocated by peer_server_open(). */

#include <stdint.h>

#include "blockd/peer/link.h"
#include "lib/base/check.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"

struct peer_server;
struct peer_directory;

/* The link to the store of 'disk' on the server's reactor, or NULL. */
typedef struct link *peer_directory_fn(struct peer_directory *directory,
                                       const struct weft_uuid *disk);

/* Embedded in whoever knows the disks. */
struct peer_directory {
    peer_directory_fn *find;
};

struct peer_server_options {
    struct peer_directory *directory; /* Borrowed until the end. */
    const char *host;                 /* Ours; copied. */
    struct weft_uuid instance;        /* Of this blockd. */
    struct weft_uuid cluster;         /* Nil: refuse all until it is known. */
    uint32_t conns_max;               /* 64; more are closed at once. */
    uint32_t requests_max;            /* 1024, of all connections. */
    uint64_t bytes_max;               /* Arena for data: 8 MiB; whole MiBs. */
    uint32_t conn_requests_max;       /* 128, the largest window. */
    uint32_t conn_bytes_max;          /* 4 MiB, the largest window. */
    uint64_t silence_ns; /* Cut a client silent for so long: 2 s. */
};

/* Defaults; the directory, host and UUIDs are the caller's. */
void peer_server_options_init(struct peer_server_options *options);

/* Set-up.  Listens at once.  -EINVAL (options), -ENOMEM (also of the arena), or
 * what io_listener_open() says. */
WEFT_MUST_CHECK int peer_server_open(struct io *io, const char *address,
                                     const struct peer_server_options *options,
                                     struct peer_server **ret_server);
/* As bound. */
void peer_server_address(const struct peer_server *server,
                         char ret_address[IO_ADDRESS_SIZE]);
/* From now on only this cluster's peers are accepted; others are cut. */
void peer_server_set_cluster(struct peer_server *server,
                             const struct weft_uuid *cluster);

struct peer_server_close;
typedef void peer_server_close_fn(struct peer_server_close *op);

struct peer_server_close {
    peer_server_close_fn *done;
};

/* Cuts all connections, waits for their requests, frees the server; then
 * done(). */
void peer_server_close_start(struct peer_server *server,
                             struct peer_server_close *op);

struct peer_server_stats {
    uint64_t accepted; /* Connections. */
    uint64_t crowded;  /* Closed at once: conns_max. */
    uint64_t refused;  /* By a BYE instead of a WELCOME. */
    uint64_t requests;
    uint64_t crc_errors;      /* Blocks that arrived damaged. */
    uint64_t protocol_errors; /* Connections cut for them. */
    uint64_t silences;        /* Connections cut for it. */
    uint64_t pauses;          /* Times a connection waited for memory. */
    uint32_t conns;           /* Bound to a disk now. */
    uint32_t in_flight;       /* Requests now. */
};

void peer_server_stats_get(const struct peer_server *server,
                           struct peer_server_stats *ret_stats);

#endif /* BLOCKD_PEER_PEER_SERVER_H */
