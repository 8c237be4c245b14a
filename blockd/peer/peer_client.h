/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_PEER_CLIENT_H
#define BLOCKD_PEER_PEER_CLIENT_H

/* A link to a disk of another host: one connection of the peer protocol
 * (docs/peer-protocol.md).
 *
 *          first user             open             WELCOME
 *   IDLE ------------> CONNECTING ----> GREETING ----------> READY (link UP)
 *    ^                     ^ |              |                  |
 *    | no users            | '--------------+------------------'
 *    |                     | backoff        v  failure, silence, deadline, BYE
 *    '--- CLOSING, then WAITING <------- CLOSING (until all sends settled)
 *
 * Invariants, beside those of link.h:
 *
 *   (1) A request is done when its reply has arrived and its bytes are not
 *       needed by the transport any more, or when its connection is gone.
 *   (2) A reply is matched by an id that is never used twice in the life of the
 *       link, and only on the connection on which the request went out.
 *   (3) What is under way never exceeds the server's window; the rest waits in
 *       the link, in order, bounded by the callers.
 *   (4) Blocks of a READ whose bytes do not have the CRC that came with them
 *       are BAD.  Everything else that is wrong in the stream cuts it.
 *
 * Thread: the reactor 'io'.  Memory: allocated by link_remote_new(); nothing
 * afterwards. */

#include <stdint.h>

#include "blockd/peer/link.h"
#include "blockd/peer/wire.h"
#include "lib/base/check.h"
#include "lib/io/io.h"

struct link_remote_options {
    const char *host;          /* Ours, for the other side's log; copied. */
    struct weft_uuid instance; /* Of this blockd. */
    uint64_t silence_ns;       /* Cut a peer silent for so long: 800 ms. */
    uint64_t connect_ns;       /* For connecting: 500 ms. */
    uint64_t backoff_base_ns;  /* 10 ms. */
    uint64_t backoff_max_ns;   /* 1 s. */
    uint32_t requests_max;     /* Under way at most: 128. */
};

/* Defaults for all but host ("") and instance (nil). */
void link_remote_options_init(struct link_remote_options *options);

/* Set-up.  Connects when the first user is added.  'address' is copied.
 * -ENOMEM, -EINVAL (options).  Freed by link_close_start(). */
WEFT_MUST_CHECK int link_remote_new(struct io *io, const char *address,
                                    const struct weft_uuid *cluster,
                                    const struct weft_uuid *disk,
                                    const struct link_remote_options *options,
                                    struct link **ret_link);

struct link_remote_info {
    const char *address;
    char peer_host[PEER_HOST_SIZE]; /* Of the last WELCOME. */
    struct weft_uuid peer_instance;
    const char *reason; /* Text of the last failure; "" if there was none. */
    uint32_t queued;    /* Wait for the server's window. */
    uint32_t window_requests, window_bytes;
    uint64_t connects, failures; /* Connections that came up, ended. */
    uint64_t silences, timeouts, refusals; /* Why they did. */
    uint64_t protocol_errors;
    uint64_t crc_errors; /* Blocks of READs turned BAD by invariant (4). */
};

/* 'link' is from link_remote_new(); texts live as long. */
void link_remote_info_get(const struct link *link,
                          struct link_remote_info *ret_info);

#endif /* BLOCKD_PEER_PEER_CLIENT_H */
