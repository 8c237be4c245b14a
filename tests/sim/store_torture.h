/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_STORE_TORTURE_H
#define TESTS_SIM_STORE_TORTURE_H

/* What the files of the store's torture share: store_torture.c (lives, command
 * line), store_requests.c (requests and the model of what they leave),
 * store_checks.c (what may be found after a crash). */

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/unit/store_world.h"

#define BLOCKS 640u     /* Of the replica that is written to. */
#define HISTORY_MAX 64u /* Values of a block between two flushes. */
#define OPS_MAX 16u
#define REGION_FIRST 16000u /* So that two regions are touched. */

#define VALUE_ABSENT 0u
#define VALUE_ZERO 1u
#define VALUE_FIRST 2u

struct value {
    uint32_t tag;
    bool again; /* What was there before a request that changed nothing. */
    uint64_t sequence;
};

struct block {
    struct value history[HISTORY_MAX];
    uint32_t count; /* history[count - 1] may be in flight. */
    uint32_t acked, flushed;
    bool busy;       /* A request is in flight. */
    bool suspect_ok; /* An overwrite was cut off. */
    bool suspect;    /* history[0] was found as such. */
    bool wild;       /* Torn at 512 bytes: no value at all is known. */
};

struct op {
    struct store_req req;
    struct torture *torture;
    bool in_use;
    uint32_t life;
    uint32_t first, count; /* Blocks of the model. */
    uint32_t tag;
    uint32_t *cut; /* FLUSH: index acked at submission, by block. */
    uint64_t touch[2];
    uint8_t *data;
    uint32_t crcs[STORE_REQ_BLOCKS_MAX];
    uint8_t states[STORE_REQ_BLOCKS_MAX];
};

struct torture {
    struct store_world world;
    struct rng rng;
    uint64_t seed;
    bool trace;
    bool is_volatile, tears, faults, large;
    uint32_t slot_blocks;
    uint32_t depth;
    uint32_t hot_blocks; /* Most requests are among the first so many. */
    struct block blocks[BLOCKS];
    struct op ops[OPS_MAX];
    uint32_t in_flight;
    uint32_t life;
    uint64_t sequence;
    uint32_t next_tag;
    uint64_t session_acked;
    uint64_t incarnation;
    uint64_t good_claimed; /* Highest known_good whose flush succeeded. */
    uint64_t good_sent;
    uint64_t touch[2]; /* By region: effective discards, acknowledged, */
    uint64_t flushed_touch[2]; /* and flushed. */
    uint64_t filler_slots;     /* Of another replica, to make space scarce. */
    bool fencing;              /* Requests may end with -ESTALE. */
    bool closed;               /* In order, before the crash. */
    bool broken;               /* -EIO or -ESTALE: the session is gone. */
    bool killed; /* The moment that was heard of: before recovery has ended. */
    uint64_t requests, crashes, suspects;
};

/* Where a violation leads; the world is left behind as it is. */
extern jmp_buf torture_failure;
extern bool torture_quiet;

_Noreturn void torture_fail(struct torture *torture, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define TRACE(torture, ...)               \
    do {                                  \
        if ((torture)->trace) {           \
            fprintf(stderr, __VA_ARGS__); \
            fprintf(stderr, "\n");        \
        }                                 \
    } while (0)

/* The replica's block of a block of the model, and its region. */
static inline uint64_t
torture_logical(uint32_t block)
{
    return REGION_FIRST + block;
}

static inline uint32_t
torture_region(uint32_t block)
{
    return (uint32_t)(torture_logical(block) / STORE_REGION_BLOCKS);
}

/* store_requests.c */
void torture_begin_something(struct torture *torture);
void torture_all_flushed(struct torture *torture);
/* Drops what no crash can bring back. */
void torture_trim(struct torture *torture);
void torture_forget_ops(struct torture *torture);

/* store_checks.c: a new session, and everything that must be so then.
 * 'lossy': completed writes may be lost; 'may_keep': though the incarnation
 * stays. */
void torture_new_session(struct torture *torture, bool lossy, bool may_keep);
void torture_check_session(struct torture *torture,
                           const struct store_req *fence, bool lossy,
                           bool may_keep);

#endif /* TESTS_SIM_STORE_TORTURE_H */
