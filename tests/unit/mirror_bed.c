/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/mirror_bed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

/* ---- Values ---- */

void
fill_block(uint8_t *data, uint64_t block, uint64_t number)
{
    for (uint32_t i = 0; i < WEFT_BLOCK_SIZE; i += 16) {
        memcpy(data + i, &number, 8);
        memcpy(data + i + 8, &block, 8);
    }
}

/* UINT64_MAX: not a block that we wrote. */
uint64_t
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
    /* People are told what it is for: that is not what the last one was for. */
    assert_true(op->why != NULL &&
                (op->reread ? strstr(op->why, "failed") == NULL : true));
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

static void
bed_meta_expect(struct mirror_meta *meta)
{
    container_of(meta, struct bed, meta)->expects++;
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

void
on_stopped(struct mirror *mirror, bool clean)
{
    struct bed *bed = mirror_owner(mirror);
    bed->owner.stopped = true;
    bed->owner.clean = clean;
    mirror_free(mirror);
    bed->owner.mirror = NULL;
}

void
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
    assert_int_equal(mirror_new(&bed->options, on_ready, bed,
                                &bed->owner.mirror),
                     0);
    sim_node_leave(bed->node);
}

bool
bed_wait(struct bed *bed, const bool *flag)
{
    return sim_run_until_set(bed->sim, flag, 60 * NS_PER_S);
}

static void
bed_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct bed *bed = container_of(program, struct bed, program);
    (void)node;
    bed->io = io;
}

void
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
    bed->meta.expect = bed_meta_expect;
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
        assert_int_equal(posix_memalign(&data, 4096,
                                        OP_BLOCKS_MAX * WEFT_BLOCK_SIZE),
                         0);
        bed->ops[i].data = data;
        bed->ops[i].bed = bed;
    }
    legal_init(&bed->legal, MODEL_BLOCKS);
    bed->clock = 1;
}

void
bed_done(struct bed *bed)
{
    legal_done(&bed->legal);
    for (uint32_t i = 0; i < OPS; i++) {
        free(bed->ops[i].data);
    }
    sim_free(bed->sim);
}

void
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

struct op *
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
              (unsigned long long)block, count, (unsigned long long)op->number);
    mirror_submit(bed->owner.mirror, &op->io);
    return op;
}

int
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

void
bed_ready(struct bed *bed)
{
    assert_true(bed_wait(bed, &bed->owner.ready));
    assert_int_equal(bed->owner.ready_result, 0);
}

struct mirror_status
bed_status(struct bed *bed)
{
    struct mirror_status status;
    mirror_status_get(bed->owner.mirror, &status);
    return status;
}

bool
bed_try_heal(struct bed *bed)
{
    uint32_t all = (1u << bed->row.replica_count) - 1;
    for (uint32_t i = 0; i < bed->row.replica_count; i++) {
        bed->replica[i].full = false;
        memset(bed->replica[i].fail_next, 0, sizeof bed->replica[i].fail_next);
        model_replica_set_up(&bed->replica[i], true);
    }
    bed->mood = DB_FINE;
    for (uint32_t i = 0; i < 15000; i++) {
        struct mirror_status status = bed_status(bed);
        if (status.row.in_sync == all && status.state == MIRROR_READY &&
            !status.held) {
            return true;
        }
        sim_run_for(bed->sim, 10 * NS_PER_MS);
    }
    return false;
}

void
bed_heal(struct bed *bed)
{
    if (bed_try_heal(bed)) {
        return;
    }
    struct mirror_status status = bed_status(bed);
    fail_msg("not healed: in sync %x held %d: %s", status.row.in_sync,
             status.held, status.reason);
}
