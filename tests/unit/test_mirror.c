/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/mirror against model replicas (model_replica.h): the rules one by one,
 * then a storm of failures judged by tests/sim/legal.h. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/mirror/mirror.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
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
};

/* ---- Values ---- */

static void
fill_block(uint8_t *data, uint64_t block, uint64_t number)
{
    for (uint32_t i = 0; i < WEFT_BLOCK_SIZE; i += 16) {
        memcpy(data + i, &number, 8);
        memcpy(data + i + 8, &block, 8);
    }
}

/* UINT64_MAX: not a block that we wrote. */
static uint64_t
block_value(const uint8_t *data, uint64_t block)
{
    uint64_t number;
    memcpy(&number, data, 8);
    for (uint32_t i = 0; i < WEFT_BLOCK_SIZE; i += 16) {
        uint64_t n, b;
        memcpy(&n, data + i, 8);
        memcpy(&b, data + i + 8, 8);
        if (n != number || (number != 0 && b != block)) {
            return UINT64_MAX;
        }
    }
    return number;
}

/* ---- The database ---- */

static void
bed_commit_apply(struct bed *bed, const struct mirror_commit *op)
{
    if (bed->epoch == op->epoch && bed->row.view == op->view) {
        bed->row.in_sync = op->in_sync;
        bed->row.view++;
    }
}

static void
bed_commit_fire(struct io_timer *timer)
{
    struct bed *bed = container_of(timer, struct bed, commit_timer);
    struct mirror_commit *op = bed->commit;
    bed->commit = NULL;
    enum db_mood mood = bed->mood;
    if (bed->mood_count != 0 && --bed->mood_count == 0) {
        bed->mood = DB_FINE;
    }
    op->ret_row = bed->row;
    op->owner_lost = bed->epoch != op->epoch;
    if (mood == DB_AWAY) {
        op->owner_lost = false;
        op->done(op, -EAGAIN);
        return;
    }
    if (op->reread) {
        op->done(op, 0);
        return;
    }
    if (mood == DB_UNKNOWN_NOT) {
        op->owner_lost = false;
        op->done(op, -EAGAIN);
        return;
    }
    bool match = bed->epoch == op->epoch && bed->row.view == op->view;
    bed_commit_apply(bed, op);
    bed->commits++;
    if (mood == DB_UNKNOWN_DONE) {
        op->owner_lost = false;
        op->done(op, -EAGAIN);
        return;
    }
    op->ret_row = bed->row;
    op->done(op, match ? 0 : -ECANCELED);
}

static void
bed_meta_commit(struct mirror_meta *meta, struct mirror_commit *op)
{
    struct bed *bed = container_of(meta, struct bed, meta);
    assert_null(bed->commit);
    assert_true(op->in_sync != 0);
    bed->commit = op;
    io_timer_set(bed->io, &bed->commit_timer,
                 io_now_ns(bed->io) + 2 * NS_PER_MS);
}

static void
bed_meta_notify(struct mirror_meta *meta, struct mirror *mirror,
                const char *kind, const char *text)
{
    struct bed *bed = container_of(meta, struct bed, meta);
    (void)mirror;
    snprintf(bed->last_notice, sizeof bed->last_notice, "%s", kind);
    sim_trace(bed->sim, "notice %s: %s", kind, text);
}

/* ---- Owners ---- */

static void
on_ready(struct mirror *mirror, int result)
{
    struct bed *bed = mirror_owner(mirror);
    assert_false(bed->owner.ready);
    bed->owner.ready = true;
    bed->owner.ready_result = result;
}

static void
on_stopped(struct mirror *mirror, bool clean)
{
    struct bed *bed = mirror_owner(mirror);
    bed->owner.stopped = true;
    bed->owner.clean = clean;
    mirror_free(mirror);
    bed->owner.mirror = NULL;
}

static void
bed_attach(struct bed *bed, bool live_guest, bool clean)
{
    sim_node_enter(bed->node);
    bed->epoch++;
    bed->owner = (struct owner){ 0 };
    void *arena = NULL;
    assert_int_equal(posix_memalign(&arena, 4096, mirror_arena_bytes()), 0);
    bed->owner.arena = arena;
    bed->options.epoch = bed->epoch;
    bed->options.row = bed->row;
    bed->options.live_guest = live_guest;
    bed->options.clean = clean;
    bed->options.arena = bed->owner.arena;
    for (uint32_t i = 0; i < bed->row.replica_count; i++) {
        bed->options.links[i] = &bed->replica[i].link;
    }
    assert_int_equal(
        mirror_new(&bed->options, on_ready, bed, &bed->owner.mirror), 0);
    sim_node_leave(bed->node);
}

static bool
bed_wait(struct bed *bed, const bool *flag)
{
    return sim_run_until_set(bed->sim, flag, 20 * NS_PER_S);
}

static void
bed_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct bed *bed = container_of(program, struct bed, program);
    (void)node;
    bed->io = io;
}

static void
bed_init(struct bed *bed, uint64_t seed, uint32_t replicas,
         uint32_t min_in_sync)
{
    memset(bed, 0, sizeof *bed);
    bed->sim = sim_new(seed, NULL);
    bed->node = sim_node_add(bed->sim, "a");
    bed->program.boot = bed_boot;
    sim_node_start(bed->node, &bed->program);
    sim_rng_init(bed->sim, "bed", 0, &bed->rng);
    bed->meta.commit = bed_meta_commit;
    bed->meta.notify = bed_meta_notify;
    io_timer_init(&bed->commit_timer, bed_commit_fire);
    bed->row.view = 1;
    bed->row.replica_count = replicas;
    bed->row.in_sync = (1u << replicas) - 1;
    for (uint32_t i = 0; i < replicas; i++) {
        uuid_make_random(1, i + 1, &bed->row.replica[i]);
        model_replica_init(&bed->replica[i], bed->io, seed * 3 + i,
                           &bed->row.replica[i], i == 0);
    }
    bed->options = (struct mirror_options){
        .io = bed->io,
        .meta = &bed->meta,
        .min_in_sync = min_in_sync,
        .layer = STORE_LAYER_FIRST,
        .size_blocks = MODEL_BLOCKS,
        .enospc_holds = true,
    };
    for (uint32_t i = 0; i < OPS; i++) {
        void *data = NULL;
        assert_int_equal(
            posix_memalign(&data, 4096, OP_BLOCKS_MAX * WEFT_BLOCK_SIZE), 0);
        bed->ops[i].data = data;
        bed->ops[i].bed = bed;
    }
    legal_init(&bed->legal, MODEL_BLOCKS);
    bed->clock = 1;
}

static void
bed_done(struct bed *bed)
{
    legal_done(&bed->legal);
    for (uint32_t i = 0; i < OPS; i++) {
        free(bed->ops[i].data);
    }
    sim_free(bed->sim);
}

static void
bed_stop(struct bed *bed, bool flush)
{
    mirror_stop(bed->owner.mirror, flush, on_stopped);
    assert_true(bed_wait(bed, &bed->owner.stopped));
}

/* ---- Requests ---- */

static void
bed_op_ended(struct bed *bed, struct op *op)
{
    struct mirror_io *io = &op->io;
    uint64_t now = ++bed->clock;
    if (!bed->legal_on || op->generation != bed->generation) {
        return;
    }
    switch (io->kind) {
    case MIRROR_WRITE:
    case MIRROR_DISCARD:
        if (io->result == 0) {
            legal_ack(&bed->legal, io->block, io->block_count, op->number, now);
        } else if (io->result == -ENOSPC) {
            legal_refuse(&bed->legal, io->block, io->block_count, op->number);
        }
        break;
    case MIRROR_FLUSH:
        if (io->result == 0) {
            legal_flush(&bed->legal, op->begin);
        }
        break;
    case MIRROR_READ:
        for (uint32_t i = 0; io->result == 0 && i < io->block_count; i++) {
            uint64_t block = io->block + i;
            uint64_t value =
                block_value(op->data + (size_t)i * WEFT_BLOCK_SIZE, block);
            if (!legal_read(&bed->legal, block, value, op->begin, now)) {
                char text[512];
                legal_describe(&bed->legal, block, text, sizeof text);
                sim_trace(bed->sim, "WRONG block %llu value %llu",
                          (unsigned long long)block, (unsigned long long)value);
                fprintf(stderr, "block %llu has %llu, legal: %s\n",
                        (unsigned long long)block, (unsigned long long)value,
                        text);
                bed->wrong++;
            }
        }
        break;
    case MIRROR_MAP:
        break;
    }
}

static void
on_op_done(struct mirror_io *io)
{
    struct op *op = container_of(io, struct op, io);
    struct bed *bed = op->bed;
    assert_true(op->busy);
    op->busy = false;
    bed->done_count++;
    bed->last_result = io->result;
    sim_world_begin(bed->sim);
    bed_op_ended(bed, op);
    sim_world_end(bed->sim);
}

static struct op *
bed_submit(struct bed *bed, enum mirror_io_kind kind, uint64_t block,
           uint32_t count)
{
    struct op *op = NULL;
    for (uint32_t i = 0; i < OPS && op == NULL; i++) {
        op = bed->ops[i].busy ? NULL : &bed->ops[i];
    }
    if (op == NULL) {
        return NULL;
    }
    op->begin = ++bed->clock;
    uint64_t oldest = op->begin;
    for (uint32_t i = 0; i < OPS; i++) {
        if (bed->ops[i].busy && bed->ops[i].begin < oldest) {
            oldest = bed->ops[i].begin;
        }
    }
    legal_set_horizon(&bed->legal, oldest);
    op->busy = true;
    op->number = ++bed->next_number;
    op->generation = bed->generation;
    memset(&op->io, 0, sizeof op->io);
    op->io.done = on_op_done;
    op->io.kind = kind;
    op->io.block = block;
    op->io.block_count = count;
    op->io.data = op->data;
    op->io.crcs = op->crcs;
    op->io.states = op->states;
    bool writes = kind == MIRROR_WRITE || kind == MIRROR_DISCARD;
    for (uint32_t i = 0; kind == MIRROR_WRITE && i < count; i++) {
        uint8_t *data = op->data + (size_t)i * WEFT_BLOCK_SIZE;
        fill_block(data, block + i, op->number);
        op->crcs[i] = crc32c(0, data, WEFT_BLOCK_SIZE);
    }
    if (writes && bed->legal_on) {
        legal_begin(&bed->legal, block, count, op->number,
                    kind == MIRROR_WRITE ? op->number : 0, op->begin);
    }
    sim_trace(bed->sim, "op %d %llu+%u number %llu", (int)kind,
              (unsigned long long)block, count,
              (unsigned long long)op->number);
    mirror_submit(bed->owner.mirror, &op->io);
    return op;
}

static int
bed_do(struct bed *bed, enum mirror_io_kind kind, uint64_t block,
       uint32_t count)
{
    struct op *op = bed_submit(bed, kind, block, count);
    for (uint32_t i = 0; op->busy && i < 20000; i++) {
        sim_run_for(bed->sim, NS_PER_MS);
    }
    assert_false(op->busy);
    return op->io.result;
}

static void
bed_ready(struct bed *bed)
{
    assert_true(bed_wait(bed, &bed->owner.ready));
    assert_int_equal(bed->owner.ready_result, 0);
}

static struct mirror_status
bed_status(struct bed *bed)
{
    struct mirror_status status;
    mirror_status_get(bed->owner.mirror, &status);
    return status;
}

/* Until all replicas are in sync again. */
static void
bed_heal(struct bed *bed)
{
    uint32_t all = (1u << bed->row.replica_count) - 1;
    for (uint32_t i = 0; i < bed->row.replica_count; i++) {
        bed->replica[i].full = false;
        memset(bed->replica[i].fail_next, 0,
               sizeof bed->replica[i].fail_next);
        model_replica_set_up(&bed->replica[i], true);
    }
    bed->mood = DB_FINE;
    for (uint32_t i = 0; i < 150000; i++) {
        struct mirror_status status = bed_status(bed);
        if (status.row.in_sync == all && status.state == MIRROR_READY &&
            !status.held) {
            return;
        }
        sim_run_for(bed->sim, NS_PER_MS);
    }
    struct mirror_status status = bed_status(bed);
    fail_msg("not healed: in sync %x held %d: %s", status.row.in_sync,
             status.held, status.reason);
}

/* ---- The rules one by one ---- */

static void
test_write_read(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 1, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 5, 3), 0);
    struct op *op = bed_submit(&bed, MIRROR_READ, 4, 5);
    sim_run_for(bed.sim, 5 * NS_PER_MS);
    assert_false(op->busy);
    assert_int_equal(op->io.result, 0);
    assert_int_equal(block_value(op->data, 4), 0);
    assert_int_equal(block_value(op->data + 4096, 5), 1);
    assert_int_equal(op->states[0], STORE_BLOCK_ABSENT);
    assert_int_equal(op->states[1], STORE_BLOCK_DATA);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[2]));
    assert_int_equal(bed_do(&bed, MIRROR_DISCARD, 0, 64), 0);
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), 0);
    assert_true(bed.replica[2].known_good < store_seq_make(1, 2));
    bed_stop(&bed, true);
    assert_true(bed.owner.clean);
    assert_int_equal(bed.replica[2].known_good, store_seq_make(1, 2));
    bed_done(&bed);
}

/* (1), (2): acknowledged only after the failed one is committed stale. */
static void
test_shrink_before_ack(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 2, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[1].fail_next[STORE_WRITE] = -EIO;
    uint32_t writes = (uint32_t)bed.replica[0].counts[STORE_WRITE];
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    sim_run_for(bed.sim, NS_PER_MS);
    assert_true(op->busy); /* The commit takes 2 ms. */
    assert_int_equal(bed.row.in_sync, 7);
    sim_run_for(bed.sim, 3 * NS_PER_MS);
    assert_false(op->busy);
    assert_int_equal(op->io.result, 0);
    /* The good ones were not asked twice; the view is persisted (S12). */
    assert_int_equal(bed.replica[0].counts[STORE_WRITE], writes + 1);
    assert_int_equal(bed.replica[0].membership.in_sync_count, 2);
    assert_int_equal(bed.replica[0].membership.view, 2);
    /* It comes back by itself. */
    bed_heal(&bed);
    assert_int_equal(bed.row.in_sync, 7);
    assert_int_equal(bed.row.view, 3);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S19: below min_in_sync it holds, reads too (S21), and goes on in place. */
static void
test_hold_below_min(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 3, 2, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 2), 0);
    model_replica_set_up(&bed.replica[1], false);
    struct op *write = bed_submit(&bed, MIRROR_WRITE, 1, 1);
    struct op *read = bed_submit(&bed, MIRROR_READ, 0, 1);
    sim_run_for(bed.sim, 3 * NS_PER_S);
    assert_true(write->busy);
    assert_true(read->busy);
    assert_true(bed_status(&bed).held);
    assert_int_equal(bed.row.view, 1);
    model_replica_set_up(&bed.replica[1], true);
    sim_run_for(bed.sim, NS_PER_S);
    assert_false(write->busy);
    assert_false(read->busy);
    assert_int_equal(bed.row.view, 1);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S11: an unknown outcome is settled before anything else. */
static void
test_unknown_commit(void **state)
{
    static const enum db_mood moods[] = { DB_UNKNOWN_DONE, DB_UNKNOWN_NOT };
    (void)state;
    for (uint32_t k = 0; k < 2; k++) {
        struct bed bed;
        bed_init(&bed, 4, 3, 2);
        bed_attach(&bed, false, false);
        bed_ready(&bed);
        bed.mood = moods[k];
        bed.mood_count = 1;
        bed.replica[2].fail_next[STORE_WRITE] = -EIO;
        assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), 0);
        assert_int_equal(bed.replica[0].membership.in_sync_count, 2);
        bed_heal(&bed);
        bed_stop(&bed, true);
        bed_done(&bed);
    }
}

/* S6: a changed incarnation in a flush. */
static void
test_flush_incarnation(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 5, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), 0);
    bed.replica[1].incarnation++;
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), 0);
    assert_int_equal(bed.replica[0].membership.in_sync_count, 2);
    bed_heal(&bed);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* Rule 5 and STORAGE (a). */
static void
test_repair(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 6, 2, 1);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 4), 0);
    model_replica_rot(&bed.replica[0], 2, false);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 4), 0);
    assert_int_equal(bed_status(&bed).repairs, 1);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    /* Suspect at both: one's bytes are adopted. */
    model_replica_rot(&bed.replica[0], 1, true);
    model_replica_rot(&bed.replica[1], 1, true);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 4), 0);
    assert_int_equal(bed_status(&bed).adoptions, 1);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    /* Bad at both: no bytes. */
    model_replica_rot(&bed.replica[0], 3, false);
    model_replica_rot(&bed.replica[1], 3, false);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 4), -EIO);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 3), 0);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* A new owner fences the old one (d). */
static void
test_fenced(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 7, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    for (uint32_t i = 0; i < 3; i++) {
        bed.replica[i].epoch = 9;
        bed.replica[i].session++;
    }
    bed.epoch = 9;
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), -ESTALE);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 1), -ESTALE);
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), -ESTALE);
    assert_int_equal(bed.row.view, 1);
    assert_int_equal(bed_status(&bed).state, MIRROR_FENCED);
    bed_stop(&bed, false);
    bed_done(&bed);
}

/* S12: a replica remembers more than the database. */
static void
test_rolled_back(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 8, 3, 2);
    bed.replica[1].membership.view = 5;
    bed_attach(&bed, false, false);
    assert_true(bed_wait(&bed, &bed.owner.ready));
    assert_int_equal(bed.owner.ready_result, -ENXIO);
    bed_stop(&bed, false);
    bed_done(&bed);
}

/* (c) and S17: broken sources. */
static void
test_reconcile_sources(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 9, 2, 1);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 8), 0);
    /* Killed, with one replica that loses its cache. */
    mirror_stop(bed.owner.mirror, false, on_stopped);
    assert_true(bed_wait(&bed, &bed.owner.stopped));
    model_replica_power_cut(&bed.replica[0]);
    model_replica_set_up(&bed.replica[0], true);
    bed_attach(&bed, true, false);
    bed_ready(&bed);
    for (uint32_t i = 0; i < 8; i++) {
        struct op *op = bed_submit(&bed, MIRROR_READ, i, 1);
        sim_run_for(bed.sim, 5 * NS_PER_MS);
        assert_false(op->busy);
        assert_int_equal(block_value(op->data, i), 1);
    }
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    /* Both lose it: a living guest has to wait, a new one goes on. */
    bed_stop(&bed, false);
    for (uint32_t i = 0; i < 2; i++) {
        model_replica_power_cut(&bed.replica[i]);
        model_replica_set_up(&bed.replica[i], true);
    }
    bed_attach(&bed, true, false);
    sim_run_for(bed.sim, 5 * NS_PER_S);
    assert_false(bed.owner.ready);
    assert_true(bed_status(&bed).held);
    bed_stop(&bed, false);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);
    /* Clean: nothing is listed. */
    uint64_t lists = bed.replica[0].counts[STORE_LIST];
    bed_attach(&bed, false, true);
    bed_ready(&bed);
    assert_int_equal(bed.replica[0].counts[STORE_LIST], lists);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S7 and the two policies for a full disk. */
static void
test_no_space(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 10, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[1].full = true;
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    sim_run_for(bed.sim, NS_PER_S);
    assert_true(op->busy);
    assert_true(bed_status(&bed).held);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 8, 1), 0);
    bed.replica[1].full = false;
    sim_run_for(bed.sim, 3 * NS_PER_S);
    assert_false(op->busy);
    assert_int_equal(op->io.result, 0);
    assert_false(bed_status(&bed).held);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);

    bed.options.enospc_holds = false;
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    for (uint32_t i = 0; i < 3; i++) {
        bed.replica[i].full = true;
    }
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 20, 1), -ENOSPC);
    bed.replica[0].full = bed.replica[2].full = false;
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 24, 1), 0);
    assert_int_equal(bed.row.in_sync, 5);
    bed_heal(&bed);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S20: slow on another host's evidence only. */
static void
test_slow(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 11, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[2].delay_ns = 3 * NS_PER_S; /* 1 is another host, too. */
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    sim_run_for(bed.sim, NS_PER_S);
    /* The model cannot be cut: the write waits, but its session is over. */
    assert_true(op->busy);
    sim_run_for(bed.sim, 4 * NS_PER_S);
    assert_false(op->busy);
    assert_int_equal(bed.row.in_sync, 3);
    bed.replica[2].delay_ns = 50 * NS_PER_US;
    bed_heal(&bed);
    /* All but the local one are slow: the owner may be the grey one. */
    bed.replica[1].delay_ns = bed.replica[2].delay_ns = 3 * NS_PER_S;
    uint64_t view = bed.row.view;
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), 0);
    assert_int_equal(bed.row.view, view);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* ---- A storm ---- */

static void
storm_fault(struct bed *bed)
{
    uint32_t i = (uint32_t)rng_below(&bed->rng, bed->row.replica_count);
    struct model_replica *replica = &bed->replica[i];

    switch (rng_below(&bed->rng, 12)) {
    case 0:
        sim_trace(bed->sim, "fault down %u", i);
        model_replica_set_up(replica, false);
        break;
    case 1:
    case 2:
    case 3:
        sim_trace(bed->sim, "fault up %u", i);
        model_replica_set_up(replica, true);
        break;
    case 4:
        sim_trace(bed->sim, "fault power %u", i);
        model_replica_power_cut(replica);
        break;
    case 5:
        sim_trace(bed->sim, "fault write eio %u", i);
        replica->fail_next[STORE_WRITE] = -EIO;
        break;
    case 6:
        replica->fail_next[STORE_FLUSH] = -EIO;
        break;
    case 7:
        bed->mood = (enum db_mood)rng_below(&bed->rng, 4);
        bed->mood_count = (uint32_t)rng_between(&bed->rng, 1, 3);
        break;
    case 8:
        replica->full = rng_chance(&bed->rng, 1, 2);
        break;
    case 9:
        sim_trace(bed->sim, "fault rot %u", i);
        /* On one replica only, and only while all are in sync. */
        if (bed->row.in_sync == (1u << bed->row.replica_count) - 1 && i == 0 &&
            bed->row.replica_count > 1) {
            model_replica_rot(replica, rng_below(&bed->rng, MODEL_BLOCKS),
                              rng_chance(&bed->rng, 1, 2));
        }
        break;
    case 10:
        replica->fail_next[1 + rng_below(&bed->rng, STORE_SET_VIEW)] = -EIO;
        break;
    default:
        replica->jitter_ns = rng_below(&bed->rng, 2 * NS_PER_MS);
        break;
    }
}

static void
storm_op(struct bed *bed)
{
    uint64_t block = rng_below(&bed->rng, MODEL_BLOCKS);
    uint32_t count = (uint32_t)rng_between(&bed->rng, 1, OP_BLOCKS_MAX);
    if (count > MODEL_BLOCKS - block) {
        count = (uint32_t)(MODEL_BLOCKS - block);
    }
    uint64_t dice = rng_below(&bed->rng, 20);
    bed_submit(bed,
               dice < 9    ? MIRROR_WRITE
               : dice < 12 ? MIRROR_DISCARD
               : dice < 18 ? MIRROR_READ
                           : MIRROR_FLUSH,
               block, count);
}

static void
storm_new_owner(struct bed *bed)
{
    bool clean = false;
    struct mirror_status status = bed_status(bed);
    if (status.state == MIRROR_READY && !status.held &&
        rng_chance(&bed->rng, 1, 3)) {
        mirror_stop(bed->owner.mirror, true, on_stopped);
        clean = sim_run_until_set(bed->sim, &bed->owner.stopped, NS_PER_S);
    }
    if (!bed->owner.stopped) {
        mirror_stop(bed->owner.mirror, false, on_stopped);
        assert_true(bed_wait(bed, &bed->owner.stopped));
    }
    clean = clean && bed->owner.clean;
    /* The guest lives on, if somebody has all that it has seen. */
    bool live = rng_chance(&bed->rng, 1, 2);
    sim_trace(bed->sim, "new owner live=%d clean=%d", live, clean);
    bed_attach(bed, live, clean);
    if (live) {
        if (!sim_run_until_set(bed->sim, &bed->owner.ready, 3 * NS_PER_S)) {
            live = false;
            bed_stop(bed, false);
            bed_attach(bed, false, false);
        }
    }
    for (uint32_t i = 0; i < 30 && !bed->owner.ready; i++) {
        for (uint32_t k = 0; k < bed->row.replica_count; k++) {
            model_replica_set_up(&bed->replica[k], true);
            bed->replica[k].full = false;
        }
        sim_run_until_set(bed->sim, &bed->owner.ready, NS_PER_S);
    }
    if (!bed->owner.ready) {
        status = bed_status(bed);
        fail_msg("not ready: state %d in sync %x: %s", (int)status.state,
                 status.row.in_sync, status.reason);
    }
    assert_int_equal(bed->owner.ready_result, 0);
    bed->generation++;
    legal_take_over(&bed->legal, live, ++bed->clock);
}

static uint32_t
storm(uint64_t seed)
{
    struct bed *bed = calloc(1, sizeof *bed);
    uint32_t replicas = 1 + (uint32_t)(seed % 3);
    bed_init(bed, seed, replicas, 1 + (uint32_t)(seed / 3 % replicas));
    bed->legal_on = true;
    bed_attach(bed, false, false);
    bed_ready(bed);
    for (uint32_t i = 0; i < 400; i++) {
        uint64_t dice = rng_below(&bed->rng, 100);
        if (dice < 80) {
            storm_op(bed);
        } else if (dice < 99) {
            storm_fault(bed);
        } else {
            storm_new_owner(bed);
        }
        sim_run_for(bed->sim, rng_below(&bed->rng, 3 * NS_PER_MS));
        struct mirror_status status = bed_status(bed);
        if (status.state == MIRROR_FENCED) {
            fail_msg("fenced without reason: %s", status.reason);
        }
    }
    /* All is well again: whatever waits must end, and all copies be equal.  A
     * guest whose writes are lost everywhere has to be started anew. */
    for (uint32_t i = 0; i < replicas; i++) {
        model_replica_set_up(&bed->replica[i], true);
        bed->replica[i].full = false;
    }
    bed->mood = DB_FINE;
    sim_run_for(bed->sim, 10 * NS_PER_S);
    struct mirror_status status = bed_status(bed);
    if (status.held && strstr(status.reason, "sure to have") != NULL) {
        bed_stop(bed, false);
        bed_attach(bed, false, false);
        bed_ready(bed);
        bed->generation++;
        legal_take_over(&bed->legal, false, ++bed->clock);
    }
    bed_heal(bed);
    for (uint32_t i = 0; i < OPS; i++) {
        assert_false(bed->ops[i].busy);
    }
    for (uint32_t i = 0; i < MODEL_BLOCKS; i += 8) {
        assert_int_equal(bed_do(bed, MIRROR_READ, i, 8), 0);
    }
    bed_stop(bed, true);
    assert_true(bed->owner.clean);
    for (uint32_t i = 1; i < replicas; i++) {
        assert_true(model_replica_equal(&bed->replica[0], &bed->replica[i]));
    }
    uint32_t wrong = bed->wrong;
    bed_done(bed);
    free(bed);
    return wrong;
}

static void
test_storm(void **state)
{
    const char *first = getenv("STORM_FIRST");
    const char *count = getenv("STORM_COUNT");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : 60;
    (void)state;
    for (uint64_t seed = from; seed < from + n; seed++) {
        if (first != NULL) {
            fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        }
        assert_int_equal(storm(seed), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_read),
        cmocka_unit_test(test_shrink_before_ack),
        cmocka_unit_test(test_hold_below_min),
        cmocka_unit_test(test_unknown_commit),
        cmocka_unit_test(test_flush_incarnation),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_rolled_back),
        cmocka_unit_test(test_reconcile_sources),
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
