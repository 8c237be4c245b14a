/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_MODEL_REPLICA_H
#define TESTS_UNIT_MODEL_REPLICA_H

/* A replica in memory behind a 'struct link': what store_req.h promises, in
 * the plainest way, for tests of the mirror without stores and network.
 *
 * It keeps two states, what is there and what has been flushed; a power cut
 * mixes them slot by slot.  Requests are executed after a delay, in order of
 * submission or not; a request whose link went down may be executed later yet,
 * until the next FENCE. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/link.h"
#include "lib/base/rng.h"
#include "lib/io/io.h"

#define MODEL_BLOCKS 64u
#define MODEL_SLOT_BLOCKS 4u
#define MODEL_SLOTS (MODEL_BLOCKS / MODEL_SLOT_BLOCKS)
#define MODEL_QUEUE 512u

struct model_slot {
    bool used;
    uint64_t sequence;
    uint8_t states[MODEL_SLOT_BLOCKS];
    uint32_t crcs[MODEL_SLOT_BLOCKS];
    uint8_t data[MODEL_SLOT_BLOCKS][WEFT_BLOCK_SIZE];
};

struct model_state {
    struct model_slot slots[MODEL_SLOTS];
    uint64_t touched; /* The region's discard sequence. */
};

struct model_entry {
    struct store_req req; /* A copy: the original is only touched at its end. */
    struct store_req *original; /* NULL: its link went down. */
    uint64_t due_ns, left_due_ns;
    bool used;
    bool cut;  /* Fails at the next opportunity; then it is */
    bool left; /* behind, until its time. */
};

struct model_replica {
    struct link link; /* First. */
    struct io *io;
    struct rng rng;
    struct weft_uuid uuid;
    struct io_timer timer;
    struct model_entry queue[MODEL_QUEUE];

    /* Durable at once. */
    uint32_t epoch;
    uint64_t session;
    uint64_t incarnation, session_incarnation;
    uint64_t known_good;
    struct store_membership membership;

    bool was_cut; /* DOWN until nothing is left. */

    struct model_state now, flushed;

    /* Knobs. */
    uint64_t delay_ns, jitter_ns;
    uint64_t hung_until_ns;          /* No request ends before. */
    int fail_next[STORE_REMOVE + 1]; /* Result of the next one; 0: none. */
    bool full;                       /* -ENOSPC for what needs a slot. */
    bool volatile_cache;
    uint64_t counts[STORE_REMOVE + 1];
    uint64_t refused; /* -ESTALE given. */
};

void model_replica_init(struct model_replica *replica, struct io *io,
                        uint64_t seed, const struct weft_uuid *uuid,
                        bool local);
void model_replica_set_up(struct model_replica *replica, bool up);
/* Loses what was not flushed (or not), and the session. */
void model_replica_power_cut(struct model_replica *replica);
/* Spoils the bytes of a block: BAD from then on. */
void model_replica_rot(struct model_replica *replica, uint64_t block,
                       bool suspect);
bool model_replica_equal(const struct model_replica *a,
                         const struct model_replica *b);

#endif /* TESTS_UNIT_MODEL_REPLICA_H */
