/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_MIRROR_BED_H
#define TESTS_UNIT_MIRROR_BED_H

/* One mirror over model replicas, with a database that can be told to be away
 * or to leave the outcome of a commit unknown, and the model of legal contents
 * (tests/sim/legal.h): for test_mirror.c and test_mirror_storm.c. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockd/mirror/mirror.h"
#include "lib/base/rng.h"
#include "lib/io/sim.h"
#include "tests/sim/legal.h"
#include "tests/unit/model_replica.h"

#define OPS 24u
#define OP_BLOCKS_MAX 12u

enum db_mood { DB_FINE, DB_UNKNOWN_DONE, DB_UNKNOWN_NOT, DB_AWAY };

struct op {
    struct mirror_io io;
    struct bed *bed;
    bool busy;
    uint64_t number;
    uint64_t begin;
    uint32_t generation;
    uint8_t *data;
    uint32_t crcs[OP_BLOCKS_MAX];
    uint8_t states[OP_BLOCKS_MAX];
};

struct owner {
    struct mirror *mirror;
    bool ready, stopped, clean;
    int ready_result;
    uint8_t *arena;
};

struct bed {
    struct sim_program program;
    struct sim *sim;
    struct sim_node *node;
    struct io *io;
    struct mirror_meta meta;
    struct model_replica replica[STORE_REPLICAS_MAX];
    struct owner owner;
    struct mirror_options options;
    struct rng rng;

    /* The database. */
    struct mirror_row row;
    uint32_t epoch;
    enum db_mood mood;
    uint32_t mood_count;
    uint32_t commits;
    struct mirror_commit *commit;
    struct mirror_row late_row;
    bool late;
    struct io_timer commit_timer;

    struct op ops[OPS];
    uint64_t clock, next_number;
    uint32_t generation, done_count;
    int last_result;
    struct legal legal;
    bool legal_on;
    uint32_t wrong;
    char last_notice[64];
    uint32_t expects; /* mirror_meta.expect() */
};

void fill_block(uint8_t *data, uint64_t block, uint64_t number);
uint64_t block_value(const uint8_t *data, uint64_t block);
void bed_attach(struct bed *bed, bool live_guest, bool clean);
bool bed_wait(struct bed *bed, const bool *flag);
void bed_init(struct bed *bed, uint64_t seed, uint32_t replicas,
              uint32_t min_in_sync);
void bed_done(struct bed *bed);
void bed_stop(struct bed *bed, bool flush);
struct op *bed_submit(struct bed *bed, enum mirror_io_kind kind, uint64_t block,
                      uint32_t count);
int bed_do(struct bed *bed, enum mirror_io_kind kind, uint64_t block,
           uint32_t count);
void bed_ready(struct bed *bed);
struct mirror_status bed_status(struct bed *bed);
/* Until all replicas are in sync again. */
bool bed_try_heal(struct bed *bed);
void bed_heal(struct bed *bed);
void on_stopped(struct mirror *mirror, bool clean);

#endif /* TESTS_UNIT_MIRROR_BED_H */
