/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_STORE_WORLD_H
#define TESTS_UNIT_STORE_WORLD_H

/* One simulated host with one disk, "/d", and a store on it: for tests that
 * want to ask a store for something and wait for the answer. */

#include <stdbool.h>
#include <stdint.h>

#include "blockd/store/store.h"
#include "lib/io/sim.h"

#define WORLD_LIMIT_NS (600 * NS_PER_S)

struct store_world {
    struct sim_program program;
    struct sim *sim;
    struct sim_node *node;
    struct sim_disk *disk;
    struct io *io; /* NULL: crashed. */
    struct io_file *file;
    struct store *store; /* NULL: not open. */
    struct store_open_options options;
    struct store_format format;
    struct store_open open;
    struct store_close close;
    bool is_done; /* The format, open or close in progress. */
    int result;
    struct weft_uuid replica;
    uint32_t epoch;
    uint64_t session;
};

void world_init(struct store_world *world, uint64_t seed,
                const struct sim_options *options, uint64_t disk_bytes,
                bool is_volatile);
void world_done(struct store_world *world);

int world_format(struct store_world *world, uint32_t slot_bytes,
                 uint64_t journal_bytes, bool force);
/* Opens and serves. */
int world_open(struct store_world *world);
/* The same, without waiting. */
void world_open_begin(struct store_world *world);
int world_open_wait(struct store_world *world);
void world_close(struct store_world *world);
/* A crash and a new life, in which nothing is open. */
void world_crash(struct store_world *world, enum sim_crash crash);

/* A request with replica, session and so on filled in. */
struct store_req world_req(struct store_world *world, enum store_opcode opcode);
/* Submits it and waits. */
int world_run(struct store_world *world, struct store_req *req);

int world_create(struct store_world *world, uint64_t size_blocks);
/* Opens a session; the request has what it said. */
int world_fence(struct store_world *world, struct store_req *ret_req);
int world_flush(struct store_world *world, uint64_t known_good);
/* Each block is filled with a pattern of 'tag' and its number. */
int world_write(struct store_world *world, uint64_t block, uint32_t count,
                uint64_t sequence, uint32_t tag);
int world_discard(struct store_world *world, uint64_t block, uint32_t count,
                  uint64_t sequence, bool zero);
/* The state of a block; the tag of its pattern, or UINT32_MAX for another. */
int world_read(struct store_world *world, uint64_t block,
               enum store_block_state *ret_state, uint32_t *ret_tag);

void pattern_fill(uint8_t *data, uint64_t block, uint32_t tag);
/* UINT32_MAX: not a pattern of that block. */
uint32_t pattern_tag(const uint8_t *data, uint64_t block);

#endif /* TESTS_UNIT_STORE_WORLD_H */
