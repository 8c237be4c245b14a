/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PEER_FIXTURE_H
#define TESTS_UNIT_PEER_FIXTURE_H

/* What the tests of blockd/peer share: random requests with random answers, a
 * store that knows what it should be asked and what to answer, and a simulated
 * world of a client, a server, and a meddler between them.
 *
 * A case is one request.  It holds everything that may be seen of it on both
 * sides, so that a wrong success cannot hide: the store compares every field
 * and byte on arrival, the client every output. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/peer/link.h"
#include "blockd/peer/link_local.h"
#include "blockd/peer/peer_client.h"
#include "blockd/peer/peer_server.h"
#include "lib/base/rng.h"
#include "lib/io/sim.h"

struct cases;

struct peer_case {
    struct store_req req; /* What the client submits; outputs land here. */
    struct cases *cases;
    struct store_req sent; /* Inputs as they should arrive. */
    struct store_req want; /* Outputs as they should come back. */
    uint8_t *want_data;
    uint32_t *want_crcs;
    uint8_t *want_states;
    struct store_list_entry *want_entries;
    uint32_t want_entries_count;
    uint64_t order;
    uint32_t arrivals;
    uint32_t completions;
    bool was_submitted;
};

struct cases {
    struct peer_case *items;
    uint32_t count;
    uint64_t salt;  /* In the sessions. */
    uint64_t order; /* Of the next submission. */
    uint64_t last_arrival;
    uint32_t submitted, completed, succeeded, damaged, unknown;
    bool may_fail;   /* -ENOTCONN and -ETIMEDOUT are expected. */
    bool may_damage; /* -EBADMSG and BAD blocks are. */
    bool is_complete;
    bool is_local;  /* The store writes to the caller's memory. */
    bool any_order; /* Several links: arrivals are not in order. */
};

/* Opcode 0: any.  'blocks_max' bounds the data of each. */
void cases_init(struct cases *cases, struct rng *rng, uint32_t count,
                enum store_opcode opcode, uint32_t blocks_max);
void cases_done(struct cases *cases);
/* Gives a WRITE that was not submitted other data: so many blocks. */
void peer_case_grow(struct peer_case *c, struct rng *rng, uint32_t blocks);
/* Submits case 'index', on the thread of the link. */
void cases_submit(struct cases *cases, uint32_t index, struct link *link,
                  uint64_t deadline_ns);

/* ---- A store behind a link ---- */

struct fake_store {
    struct link link; /* UP at once. */
    struct cases *cases;
    struct io_timer timer;
    struct list pending; /* store_req.node */
    struct rng rng;
    uint64_t delay_max_ns; /* 0: answers in the same turn. */
    bool holds;            /* Answers nothing. */
    bool is_closing;
    uint32_t in_flight, in_flight_max;
    uint64_t bytes, bytes_max;
};

void fake_store_init(struct fake_store *store, struct io *io,
                     const struct weft_uuid *disk, struct cases *cases,
                     uint64_t seed);
/* Compares with what was sent, and answers as the case wants. */
void fake_check(struct cases *cases, const struct store_req *req);
void fake_answer(struct cases *cases, struct store_req *req);
void fake_store_release(struct fake_store *store); /* Ends 'holds'. */

/* ---- The world ---- */

#define PEER_LINKS_MAX 4u
#define MEDDLE_NEVER UINT64_MAX

/* What is done to the bytes that pass, by their number in the direction,
 * counted over all connections. */
struct meddling {
    uint64_t cut_at;  /* Closes the connection in front of this byte. */
    uint64_t hole_at; /* Swallows all of the connection from this byte on. */
    uint64_t flip_at;
    uint8_t flip_mask;
    uint64_t passed;
};

struct peer_world;

struct peer_user {
    struct link_user user;
    struct peer_world *world;
    uint32_t ups, downs;
    uint64_t up_ns, down_ns; /* World time of the last. */
    bool is_up;
};

struct peer_host {
    struct sim_program program;
    struct peer_world *world;
    struct sim_node *node;
    struct io *io;
};

struct peer_world {
    struct sim *sim;
    struct peer_host client, meddler, server_host;
    struct weft_uuid cluster, disk;
    struct cases *cases;

    /* Client. */
    struct link_remote_options client_options;
    uint32_t link_count;
    bool is_direct; /* Without the meddler. */
    struct link *links[PEER_LINKS_MAX];
    struct peer_user users[PEER_LINKS_MAX];

    /* Server. */
    struct peer_server_options server_options;
    struct peer_directory directory;
    struct peer_server *server;
    struct fake_store store;
    uint64_t store_delay_max_ns;
    bool store_holds;

    /* Meddler: [0] from the client, [1] from the server. */
    struct meddling meddling[2];
    struct io_listener listener;
    uint32_t relays;
};

/* Nodes and options, nothing runs yet: change what you want. */
void world_init(struct peer_world *world, uint64_t seed,
                const struct sim_options *options, struct cases *cases);
/* Starts the three nodes. */
void world_start(struct peer_world *world);
/* Runs until link 0 is up. */
void world_up(struct peer_world *world);
void world_submit(struct peer_world *world, uint32_t link, uint32_t index,
                  uint64_t timeout_ns);
/* All cases, in random groups; returns when all have completed. */
void world_run_cases(struct peer_world *world, uint64_t limit_ns);
/* Closes links and server in order and checks that nothing is left. */
void world_close(struct peer_world *world);
void world_free(struct peer_world *world);
/* Runs until the condition on link 0, at most 'limit_ns'; returns the time. */
bool world_wait_up(struct peer_world *world, uint64_t limit_ns);
bool world_wait_down(struct peer_world *world, uint64_t limit_ns);

struct link_remote_info world_info(struct peer_world *world, uint32_t link);
struct peer_server_stats world_stats(struct peer_world *world);

#endif /* TESTS_UNIT_PEER_FIXTURE_H */
