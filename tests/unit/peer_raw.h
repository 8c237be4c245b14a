/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PEER_RAW_H
#define TESTS_UNIT_PEER_RAW_H

/* A peer made by hand, in the place of the client or of the server of a
 * 'struct peer_world': it sends what the test likes, and keeps what it gets. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/codec.h"
#include "lib/base/rng.h"
#include "tests/unit/peer_fixture.h"

#define RAW_BUFFER_BYTES (1u << 20)

struct raw {
    struct peer_world *world;
    struct peer_host *host; /* Whose place it takes. */
    struct io_conn conn;
    struct io_listener listener;
    struct io_send send;
    bool is_sending;
    bool is_open, is_closed;
    uint32_t connections;
    uint32_t greeted; /* Of these, until expect_hello(). */
    uint8_t out[RAW_BUFFER_BYTES];
    uint32_t out_bytes;
    uint8_t in[RAW_BUFFER_BYTES];
    uint32_t in_bytes;
    uint32_t in_read;
    struct peer_head head; /* Of the last message taken. */
    uint8_t meta[PEER_META_BYTES_MAX];
};

extern struct raw raw; /* Large; one at a time. */

/* Takes the place of 'host' in a world that has not started. */
void raw_init(struct peer_world *world, struct peer_host *host);
void raw_connect(void);
void raw_close(void);
/* Sends what is in 'out', and waits a little. */
void raw_flush(void);
void raw_add(const void *bytes, uint32_t size);
/* A message with right CRCs; 'head' says the rest.  'data' may be NULL. */
void raw_message(struct peer_head head, const void *meta, const void *data);
/* The next message that has arrived; false if there is none. */
bool raw_take(void);
/* Sizes of metadata that messages have, or nearly have. */
uint32_t raw_fair_size(struct rng *rng);

#endif /* TESTS_UNIT_PEER_RAW_H */
