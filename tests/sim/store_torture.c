/* SPDX-License-Identifier: Apache-2.0 */

/* Torture of one store: random requests against a model of legal contents,
 * through power cuts, kills, torn and lost writes, full files and I/O errors.
 *
 *     store_torture --seeds 1..2000            a campaign
 *     store_torture --seed 17 --trace          one seed, told step by step
 *     store_torture --bug 3 --seeds 1..500     with a planted bug: prints the
 *                                              first seed that finds it
 *     store_torture --all-bugs --seeds 1..500  each of them must be found
 *
 * The model.  Each block has a history: the values that were written to it, in
 * order (requests in flight never overlap, S15), each with its sequence.  One
 * index says which value was last acknowledged, another which is covered by
 * the last acknowledged flush.  What may be found:
 *
 *   while alive        exactly the last acknowledged value
 *   after a kill       that one or any later (nothing completed is lost: S6)
 *   after a power cut  the one at the last acknowledged flush, or any later
 *                      (on a disk without volatile cache: as after a kill)
 *
 * What is found after a crash is what has to be found from then on.  A block
 * may be SUSPECT only if an overwrite of it was under way, or not flushed, at
 * some crash since its last flushed value, and then its bytes must be legal
 * (on disks that do not tear 4 KiB).  Nothing is ever BAD: no rot is injected.
 *
 * Also checked at each open: incarnation (S6), session and epoch (S16), G
 * against what is there (S5, (b)), touch sequences and slot sequences by LIST
 * (S4), space accounting. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/planted.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "tests/unit/store_world.h"

#define BLOCKS 640u      /* Of the replica that is written to. */
#define HISTORY_MAX 64u  /* Values of a block between two flushes. */
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
    uint64_t touch[2];    /* By region: effective discards, acknowledged, */
    uint64_t flushed_touch[2]; /* and flushed. */
    uint64_t filler_slots; /* Of another replica, to make space scarce. */
    bool fencing;          /* Requests may end with -ESTALE. */
    bool closed;          /* In order, before the crash. */
    bool broken;          /* -EIO or -ESTALE: the session is gone. */
    uint64_t requests, crashes, suspects;
};

static jmp_buf failure;
static bool quiet;

static void torture_fail(struct torture *torture, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

static void
torture_fail(struct torture *torture, const char *format, ...)
{
    va_list args;

    if (!quiet) {
        fprintf(stderr, "seed %llu: ", (unsigned long long)torture->seed);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "\n");
    }
    longjmp(failure, 1);
}

#define TRACE(torture, ...)                    \
    do {                                       \
        if ((torture)->trace) {                \
            fprintf(stderr, __VA_ARGS__);      \
            fprintf(stderr, "\n");             \
        }                                      \
    } while (0)

static uint64_t
logical(uint32_t block)
{
    return REGION_FIRST + block;
}

static uint32_t
region_of(uint32_t block)
{
    return (uint32_t)(logical(block) / STORE_REGION_BLOCKS);
}

/* ---- The model ---- */

static void
block_push(struct torture *torture, uint32_t index, uint32_t tag,
           uint64_t sequence)
{
    struct block *block = &torture->blocks[index];

    if (block->count == HISTORY_MAX) {
        torture_fail(torture, "history of block %u is full", index);
    }
    block->history[block->count++] =
        (struct value){ .tag = tag, .sequence = sequence };
}

static void
block_flushed(struct block *block, uint32_t to)
{
    if (to > block->flushed) {
        block->flushed = to;
    }
}

/* Forgets what no crash can bring back. */
static void
block_trim(struct block *block)
{
    uint32_t drop = block->flushed;

    if (drop != 0) {
        memmove(block->history, &block->history[drop],
                (block->count - drop) * sizeof(block->history[0]));
        block->count -= drop;
        block->acked -= drop;
        block->flushed = 0;
    }
}

static bool
blocks_idle(const struct torture *torture, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (torture->blocks[i].busy ||
            torture->blocks[i].count >= HISTORY_MAX - 2) {
            return false;
        }
    }
    return true;
}

/* ---- Requests end ---- */

static void
end_read(struct torture *torture, struct op *op)
{
    for (uint32_t i = 0; i < op->count; i++) {
        struct block *block = &torture->blocks[op->first + i];
        uint32_t expected = block->history[block->acked].tag;
        uint32_t found = VALUE_ABSENT;
        uint8_t state = op->states[i];

        if (state == STORE_BLOCK_DATA || state == STORE_BLOCK_SUSPECT) {
            found = pattern_tag(op->data + (size_t)i * WEFT_BLOCK_SIZE,
                                logical(op->first + i));
        } else if (state == STORE_BLOCK_ZERO) {
            found = VALUE_ZERO;
        }
        if (state == STORE_BLOCK_BAD ||
            (state == STORE_BLOCK_SUSPECT && !block->suspect_ok) ||
            (found != expected &&
             !(block->wild && state == STORE_BLOCK_SUSPECT))) {
            torture_fail(torture,
                         "life %u: block %u: read state %u tag %u, not %u",
                         torture->life, op->first + i, state, found, expected);
        }
    }
}

static void
end_write(struct torture *torture, struct op *op, int result)
{
    for (uint32_t i = op->first; i < op->first + op->count; i++) {
        struct block *block = &torture->blocks[i];

        block->busy = false;
        if (result == 0) {
            block->acked = block->count - 1;
            block->wild = false;
        } else if (result == -ENOSPC) {
            /* Nothing was changed; but what was tried may have landed. */
            block_push(torture, i, block->history[block->acked].tag,
                       block->history[block->acked].sequence);
            block->acked = block->count - 1;
            block->history[block->acked].again = true;
        }
    }
}

static void
end_flush(struct torture *torture, struct op *op)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (op->cut[i] != UINT32_MAX) {
            struct block *block = &torture->blocks[i];

            /* Written and flushed since: what was cut off is gone. */
            if (op->cut[i] > block->flushed && op->cut[i] == block->acked &&
                !block->history[block->acked].again && !block->busy) {
                block->suspect_ok = false;
                block->suspect = false;
            }
            block_flushed(block, op->cut[i]);
        }
    }
    if (op->req.known_good > torture->good_claimed) {
        torture->good_claimed = op->req.known_good;
    }
    for (uint32_t r = 0; r < 2; r++) {
        if (op->touch[r] > torture->flushed_touch[r]) {
            torture->flushed_touch[r] = op->touch[r];
        }
    }
}

static void
op_done(struct store_req *req)
{
    struct op *op = container_of(req, struct op, req);
    struct torture *torture = op->torture;
    int result = req->result;

    TRACE(torture, "  end op %u %u+%u tag %u: %d", req->opcode, op->first,
          op->count, op->tag, result);
    op->in_use = false;
    torture->in_flight--;
    if (result == -ESTALE && torture->fencing) {
        return;
    }
    if (result == -EIO || result == -ESTALE) {
        if (!torture->faults) {
            torture_fail(torture, "op %u ended with %d", req->opcode, result);
        }
        /* Busy blocks stay so: they are judged with the next session. */
        torture->broken = true;
        return;
    }
    if (result != 0 && result != -ENOSPC) {
        torture_fail(torture, "op %u ended with %d", req->opcode, result);
    }
    switch (req->opcode) {
    case STORE_READ:
        end_read(torture, op);
        break;
    case STORE_WRITE:
    case STORE_PUT_SLOT:
        end_write(torture, op, result);
        break;
    case STORE_DISCARD:
        end_write(torture, op, result);
        for (uint32_t i = op->first; result == 0 && i < op->first + op->count;
             i++) {
            uint32_t r = region_of(i);

            if (op->crcs[0] == 1 && req->sequence > torture->touch[r]) {
                torture->touch[r] = req->sequence;
            }
        }
        break;
    case STORE_FLUSH:
        end_flush(torture, op);
        break;
    case STORE_FENCE:
    case STORE_LIST:
    case STORE_SET_VIEW:
    case STORE_CREATE:
    case STORE_REMOVE:
        break;
    }
}

/* ---- Requests begin ---- */

static struct op *
op_take(struct torture *torture, enum store_opcode opcode)
{
    for (uint32_t i = 0; i < OPS_MAX; i++) {
        struct op *op = &torture->ops[i];

        if (!op->in_use) {
            op->in_use = true;
            op->life = torture->life;
            op->req = world_req(&torture->world, opcode);
            op->req.done = op_done;
            op->req.data = op->data;
            op->req.crcs = op->crcs;
            op->req.states = op->states;
            torture->in_flight++;
            torture->requests++;
            return op;
        }
    }
    return NULL;
}

static void
op_submit(struct torture *torture, struct op *op)
{
    op->req.block = logical(op->first);
    op->req.block_count = op->count;
    TRACE(torture, "  begin op %u %u+%u tag %u seq %llu", op->req.opcode,
          op->first, op->count, op->tag,
          (unsigned long long)op->req.sequence);
    sim_node_enter(torture->world.node);
    store_submit(torture->world.store, &op->req);
    sim_node_leave(torture->world.node);
}

static void
pick_range(struct torture *torture, uint32_t *ret_first, uint32_t *ret_count)
{
    struct rng *rng = &torture->rng;
    uint32_t limit =
        rng_chance(rng, 7, 8) ? torture->hot_blocks : BLOCKS;
    uint32_t most = torture->large          ? STORE_REQ_BLOCKS_MAX
                    : rng_chance(rng, 3, 4) ? 4
                    : rng_chance(rng, 7, 8) ? 24
                                            : STORE_REQ_BLOCKS_MAX;
    uint32_t first = (uint32_t)rng_below(rng, limit);
    uint32_t count = 1 + (uint32_t)rng_below(rng, most);

    *ret_first = first;
    *ret_count = first + count > BLOCKS ? BLOCKS - first : count;
}

static void
fill_block(struct torture *torture, struct op *op, uint32_t i, uint32_t tag)
{
    uint8_t *data = op->data + (size_t)i * WEFT_BLOCK_SIZE;

    (void)torture;
    pattern_fill(data, logical(op->first + i), tag);
    op->crcs[i] = crc32c(0, data, WEFT_BLOCK_SIZE);
}

static void
begin_write(struct torture *torture, uint32_t first, uint32_t count)
{
    struct op *op = op_take(torture, STORE_WRITE);

    op->first = first;
    op->count = count;
    op->tag = torture->next_tag++;
    op->req.sequence = ++torture->sequence;
    for (uint32_t i = 0; i < count; i++) {
        fill_block(torture, op, i, op->tag);
        block_push(torture, first + i, op->tag, op->req.sequence);
        torture->blocks[first + i].busy = true;
    }
    op_submit(torture, op);
}

static void
begin_read(struct torture *torture, uint32_t first, uint32_t count)
{
    struct op *op = op_take(torture, STORE_READ);

    op->first = first;
    op->count = count;
    op->tag = 0;
    op_submit(torture, op);
}

static void
begin_discard(struct torture *torture, uint32_t first, uint32_t count)
{
    struct op *op = op_take(torture, STORE_DISCARD);
    bool effective = false;

    op->first = first;
    op->count = count;
    op->req.discard_zero = rng_chance(&torture->rng, 1, 3);
    op->tag = op->req.discard_zero != 0 ? VALUE_ZERO : VALUE_ABSENT;
    op->req.sequence = ++torture->sequence;
    for (uint32_t i = 0; i < count; i++) {
        struct block *block = &torture->blocks[first + i];

        effective |= block->history[block->acked].tag != op->tag &&
                     region_of(first + i) == region_of(first);
        block_push(torture, first + i, op->tag, op->req.sequence);
        block->busy = true;
    }
    op->crcs[0] =
        effective && region_of(first) == region_of(first + count - 1);
    op_submit(torture, op);
}

static void
begin_put(struct torture *torture, uint32_t near)
{
    uint32_t slot_blocks = torture->slot_blocks;
    uint32_t first = near / slot_blocks * slot_blocks;
    bool empty = rng_chance(&torture->rng, 1, 8);
    struct op *op;

    if (first + slot_blocks > BLOCKS ||
        !blocks_idle(torture, first, slot_blocks)) {
        return;
    }
    op = op_take(torture, STORE_PUT_SLOT);
    op->first = first;
    op->count = slot_blocks;
    op->tag = torture->next_tag++;
    op->req.sequence = ++torture->sequence;
    for (uint32_t i = 0; i < slot_blocks; i++) {
        uint32_t tag = empty ? VALUE_ABSENT
                             : (uint32_t)rng_below(&torture->rng, 4);

        op->states[i] = (uint8_t)(tag == VALUE_ABSENT ? STORE_BLOCK_ABSENT
                                  : tag == VALUE_ZERO ? STORE_BLOCK_ZERO
                                                      : STORE_BLOCK_DATA);
        if (tag >= VALUE_FIRST) {
            tag = op->tag;
            fill_block(torture, op, i, tag);
        }
        block_push(torture, first + i, tag, op->req.sequence);
        torture->blocks[first + i].busy = true;
    }
    op_submit(torture, op);
}

static void
begin_flush(struct torture *torture)
{
    struct op *op = op_take(torture, STORE_FLUSH);
    uint64_t good = torture->sequence;

    op->first = 0;
    op->count = 0;
    op->tag = 0;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        op->cut[i] = torture->blocks[i].acked;
    }
    /* All up to here have completed: nothing older is in flight. */
    for (uint32_t i = 0; i < OPS_MAX; i++) {
        const struct op *other = &torture->ops[i];

        if (other->in_use && other->req.sequence != 0 &&
            other->req.sequence <= good) {
            good = other->req.sequence - 1;
        }
    }
    memcpy(op->touch, torture->touch, sizeof(op->touch));
    op->req.known_good = good;
    torture->good_sent = good;
    op_submit(torture, op);
}

static void
begin_something(struct torture *torture)
{
    struct rng *rng = &torture->rng;
    uint64_t dice = rng_below(rng, 100);
    uint32_t first;
    uint32_t count;

    if (dice < 8) {
        begin_flush(torture);
        return;
    }
    pick_range(torture, &first, &count);
    if (!blocks_idle(torture, first, count)) {
        return;
    }
    if (dice < 65) {
        begin_write(torture, first, count);
    } else if (dice < 85) {
        begin_read(torture, first, count);
    } else if (dice < 94) {
        begin_discard(torture, first, count);
    } else {
        begin_put(torture, first);
    }
}

/* A flush renumbers histories: only with none in flight. */
static void
model_trim(struct torture *torture)
{
    for (uint32_t i = 0; i < OPS_MAX; i++) {
        if (torture->ops[i].in_use &&
            torture->ops[i].req.opcode == STORE_FLUSH) {
            return;
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        block_trim(&torture->blocks[i]);
    }
}

/* ---- After a crash ---- */

/* The earliest history index that may be found. */
static uint32_t
legal_from(const struct block *block, bool lossy)
{
    return lossy ? block->flushed : block->acked;
}

static void
check_block(struct torture *torture, uint32_t index, uint8_t state,
            uint32_t tag, bool lossy, uint64_t good)
{
    struct block *block = &torture->blocks[index];
    uint32_t from = legal_from(block, lossy);
    uint32_t found = UINT32_MAX;

    for (uint32_t i = from; i < block->count; i++) {
        if (block->history[i].tag == tag) {
            found = i;
        }
    }
    /* Cut off, or not known to be flushed. */
    if (block->count - 1 > block->flushed) {
        block->suspect_ok = true;
    }
    if (found == UINT32_MAX && torture->tears &&
        state == STORE_BLOCK_SUSPECT && block->suspect_ok) {
        block->wild = true;
        found = block->acked;
    }
    if (found == UINT32_MAX) {
        torture_fail(torture,
                     "life %u: block %u: state %u tag %u is not legal (%s; "
                     "flushed %u, acked %u)",
                     torture->life, index, state, tag,
                     lossy ? "power" : "kill",
                     block->history[block->flushed].tag,
                     block->history[block->acked].tag);
    }
    if (state == STORE_BLOCK_SUSPECT) {
        torture->suspects++;
        if (!block->suspect_ok) {
            torture_fail(torture, "life %u: block %u is suspect",
                         torture->life, index);
        }
        /* Of what is known to be durable, the records are, too. */
        if (found <= from && !block->wild &&
            !(block->suspect &&
              (found == 0 || block->history[found].again))) {
            torture_fail(torture, "life %u: block %u is suspect, but sound",
                         torture->life, index);
        }
    }
    block->suspect = state == STORE_BLOCK_SUSPECT;
    if (state == STORE_BLOCK_BAD) {
        torture_fail(torture, "life %u: block %u is bad", torture->life,
                     index);
    }
    /* (b): all up to G is here. */
    for (uint32_t i = found + 1; i < block->count && !block->wild; i++) {
        if (block->history[i].sequence <= good && i <= block->acked &&
            block->history[i].tag != tag) {
            torture_fail(torture,
                         "life %u: block %u: G is %llu but write %llu is "
                         "missing",
                         torture->life, index, (unsigned long long)good,
                         (unsigned long long)block->history[i].sequence);
        }
    }
    block->history[0] = block->history[found];
    block->count = 1;
    block->acked = 0;
    block->flushed = 0;
    block->busy = false;
}

static void
check_list(struct torture *torture, const uint64_t newest[])
{
    static struct store_list_entry entries[16384];
    struct store_world *world = &torture->world;

    for (uint32_t region = 0; region < 2; region++) {
        struct store_req req = world_req(world, STORE_LIST);

        req.block = (uint64_t)region * STORE_REGION_BLOCKS;
        req.block_count = STORE_REGION_BLOCKS;
        req.entries = entries;
        req.entries_max = 16384;
        req.sequence = torture->flushed_touch[region] == 0
                           ? 0
                           : torture->flushed_touch[region] - 1;
        if (world_run(world, &req) != 0) {
            torture_fail(torture, "LIST failed: %d", req.result);
        }
        if (torture->flushed_touch[region] != 0 && req.region_touched == 0) {
            torture_fail(torture, "region %u was touched at %llu", region,
                         (unsigned long long)torture->flushed_touch[region]);
        }
        req = world_req(world, STORE_LIST);
        req.block = (uint64_t)region * STORE_REGION_BLOCKS;
        req.block_count = STORE_REGION_BLOCKS;
        req.entries = entries;
        req.entries_max = 16384;
        req.list_all = 1;
        if (world_run(world, &req) != 0) {
            torture_fail(torture, "LIST failed: %d", req.result);
        }
        for (uint32_t i = 0; i < req.entries_count; i++) {
            uint64_t slot = entries[i].slot_index;
            uint64_t base = REGION_FIRST / torture->slot_blocks;

            if (entries[i].sequence < newest[slot - base]) {
                torture_fail(torture,
                             "slot %llu says sequence %llu, has %llu",
                             (unsigned long long)slot,
                             (unsigned long long)entries[i].sequence,
                             (unsigned long long)newest[slot - base]);
            }
        }
    }
}

static void
check_contents(struct torture *torture, bool lossy, uint64_t good)
{
    struct store_world *world = &torture->world;
    uint64_t newest[BLOCKS] = { 0 };
    bool used[BLOCKS] = { false };
    uint64_t slots = 0;
    struct store_info info;

    for (uint32_t i = 0; i < BLOCKS; i++) {
        enum store_block_state state;
        uint32_t tag;
        uint32_t slot = i / torture->slot_blocks;
        const struct block *block = &torture->blocks[i];

        if (world_read(world, logical(i), &state, &tag) != 0) {
            torture_fail(torture, "read failed");
        }
        if (state == STORE_BLOCK_ZERO) {
            tag = VALUE_ZERO;
        }
        check_block(torture, i, (uint8_t)state, tag, lossy, good);
        used[slot] |= state != STORE_BLOCK_ABSENT;
        if (state == STORE_BLOCK_DATA &&
            block->history[0].sequence > newest[slot]) {
            newest[slot] = block->history[0].sequence;
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        slots += used[i];
    }
    store_info_get(world->store, &info);
    if (info.slots_free + info.slots_quarantined + slots +
            torture->filler_slots !=
        info.slots_total) {
        torture_fail(torture, "life %u: %llu slots free, %llu used of %llu",
                     torture->life, (unsigned long long)info.slots_free,
                     (unsigned long long)slots,
                     (unsigned long long)info.slots_total);
    }
    check_list(torture, newest);
}

static void
check_session(struct torture *torture, const struct store_req *fence,
              bool lossy, bool may_keep)
{
    if (fence->session <= torture->session_acked) {
        torture_fail(torture, "session %llu again",
                     (unsigned long long)fence->session);
    }
    torture->session_acked = fence->session;
    if (torture->incarnation != 0) {
        if (lossy && !may_keep &&
            fence->incarnation <= torture->incarnation) {
            torture_fail(torture, "life %u: the incarnation did not change",
                         torture->life);
        }
        if (!lossy && fence->incarnation != torture->incarnation) {
            torture_fail(torture, "life %u: the incarnation changed",
                         torture->life);
        }
    }
    torture->incarnation = fence->incarnation;
    if (fence->known_good_out > torture->good_sent) {
        torture_fail(torture, "G was never sent");
    }
}

static void
new_session(struct torture *torture, bool lossy, bool may_keep)
{
    struct store_req fence;
    struct store_req old = world_req(&torture->world, STORE_FLUSH);
    int result = -EIO;

    /* A failed store recovers by itself: ask again. */
    for (int i = 0; i < 100 && result == -EIO; i++) {
        result = world_fence(&torture->world, &fence);
        if (result == -EIO) {
            sim_run_for(torture->world.sim, 10 * NS_PER_MS);
        }
    }
    if (result != 0) {
        torture_fail(torture, "FENCE: %d", result);
    }
    check_session(torture, &fence, lossy, may_keep);
    if (!lossy) {
        memcpy(torture->flushed_touch, torture->touch,
               sizeof(torture->touch));
    }
    if (old.session != 0 && world_run(&torture->world, &old) != -ESTALE) {
        torture_fail(torture, "an old session is served");
    }
    check_contents(torture, lossy, fence.known_good_out);
    for (uint32_t r = 0; r < 2; r++) {
        torture->touch[r] = torture->flushed_touch[r];
    }
    torture->broken = false;
}

/* ---- Lives ---- */

static void
forget_ops(struct torture *torture)
{
    for (uint32_t i = 0; i < OPS_MAX; i++) {
        torture->ops[i].in_use = false;
        torture->ops[i].req.sequence = 0;
    }
    torture->in_flight = 0;
}

static void
open_store(struct torture *torture, bool *lossy, bool *may_keep)
{
    struct rng *rng = &torture->rng;
    int result;

    /* Sometimes the host dies while it recovers. */
    while (rng_chance(rng, 1, 3)) {
        enum sim_crash crash =
            rng_chance(rng, 1, 2) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;
        uint64_t steps = rng_below(rng, 400);

        world_open_begin(&torture->world);
        for (uint64_t i = 0; i < steps && !torture->world.is_done; i++) {
            (void)sim_step(torture->world.sim);
        }
        TRACE(torture, "crash while opening: %d", crash);
        world_crash(&torture->world, crash);
        if (crash == SIM_CRASH_POWER && torture->is_volatile) {
            *lossy = true;
            *may_keep |= torture->closed;
        }
    }
    result = world_open(&torture->world);
    if (result != 0) {
        torture_fail(torture, "life %u: open: %d: %s", torture->life, result,
                     torture->world.open.err.text);
    }
}

static void
set_faults(struct torture *torture, bool on)
{
    struct sim_disk_options *options =
        sim_disk_options(torture->world.disk);

    if (!torture->faults) {
        return;
    }
    options->write_eio_ppm = on ? 300 : 0;
    options->flush_eio_ppm = on ? 3000 : 0;
    options->write_enospc_ppm = 0;
}

static void
one_life(struct torture *torture)
{
    struct rng *rng = &torture->rng;
    uint64_t todo = 20 + rng_below(rng, 400);

    set_faults(torture, true);
    for (uint64_t i = 0; i < todo; i++) {
        while (torture->in_flight >= torture->depth && !torture->broken) {
            if (!sim_step(torture->world.sim)) {
                torture_fail(torture, "requests hang");
            }
        }
        if (torture->broken) {
            set_faults(torture, false);
            for (uint64_t step = 0; torture->in_flight != 0; step++) {
                if (step > 1000000 || !sim_step(torture->world.sim)) {
                    torture_fail(torture, "requests hang after an error");
                }
            }
            TRACE(torture, "error: new session");
            forget_ops(torture);
            /* The device may have lost its cache, whatever its kind. */
            new_session(torture, true, true);
            set_faults(torture, true);
        }
        model_trim(torture);
        begin_something(torture);
        for (uint64_t steps = rng_below(rng, 12); steps != 0; steps--) {
            (void)sim_step(torture->world.sim);
        }
    }
    set_faults(torture, false);
}

static void
end_life(struct torture *torture, bool *lossy)
{
    struct rng *rng = &torture->rng;
    enum sim_crash crash =
        rng_chance(rng, 2, 3) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS;

    if (rng_chance(rng, 1, 8) && !torture->broken) {
        while (torture->in_flight != 0 && sim_step(torture->world.sim)) {
        }
        if (!torture->broken) {
            TRACE(torture, "close");
            world_close(&torture->world);
            torture->closed = true;
            *lossy = false;
            for (uint32_t i = 0; i < BLOCKS; i++) {
                block_flushed(&torture->blocks[i], torture->blocks[i].acked);
            }
        } else {
            *lossy = true;
        }
    } else {
        *lossy = torture->broken ||
                 (crash == SIM_CRASH_POWER && torture->is_volatile);
    }
    if (!torture->closed && !torture->broken && rng_chance(rng, 1, 3)) {
        struct store_req fence;

        /* What it says is durable. */
        torture->fencing = true;
        if (world_fence(&torture->world, &fence) == 0) {
            torture->session_acked = fence.session;
        }
        torture->fencing = false;
    }
    TRACE(torture, "crash: %s", crash == SIM_CRASH_POWER ? "power" : "kill");
    world_crash(&torture->world, crash);
    torture->crashes++;
    forget_ops(torture);
}

static void
torture_setup(struct torture *torture)
{
    struct rng *rng = &torture->rng;
    struct sim_options options;
    static const uint32_t depths[] = { 1, 2, 4, 8, 16 };

    sim_options_swarm(&options, torture->seed);
    torture->tears = rng_chance(rng, 1, 6);
    options.disk.tear_bytes = torture->tears ? 512 : 4096;
    if (rng_chance(rng, 1, 4)) {
        options.disk.stall_ppm = 30000;
        options.disk.stall_ns =
            (struct sim_range){ NS_PER_MS, 20 * NS_PER_MS };
    }
    torture->is_volatile = rng_chance(rng, 3, 4);
    torture->faults = rng_chance(rng, 1, 5);
    torture->large = rng_chance(rng, 1, 4);
    torture->slot_blocks = 4u << rng_below(rng, 3);
    torture->depth = depths[rng_below(rng, 5)];
    torture->hot_blocks = 8u << rng_below(rng, 6);
    world_init(&torture->world, torture->seed, &options,
               (uint64_t)(8 + rng_below(rng, 8)) * MIB, torture->is_volatile);
}

/* Another replica takes most of the slots: those that remain are used again
 * and again, and ENOSPC happens. */
static void
torture_fill(struct torture *torture)
{
    struct store_world *world = &torture->world;
    struct weft_uuid replica = world->replica;
    uint64_t session = world->session;
    uint64_t keep = 4 + rng_below(&torture->rng, BLOCKS / torture->slot_blocks);
    struct store_info info;

    world->replica.bytes[0] ^= 0xff;
    if (world_create(world, 100000) != 0 || world_fence(world, NULL) != 0) {
        torture_fail(torture, "no second replica");
    }
    store_info_get(world->store, &info);
    for (uint64_t slot = 0; info.slots_free > keep + slot; slot++) {
        if (world_write(world, slot * torture->slot_blocks, 1, slot + 1, 9) !=
            0) {
            torture_fail(torture, "no filler");
        }
        torture->filler_slots++;
    }
    if (world_flush(world, 0) != 0) {
        torture_fail(torture, "no filler");
    }
    world->replica = replica;
    world->session = session;
}

static void
torture_format(struct torture *torture)
{
    struct store_world *world = &torture->world;
    struct store_req fence;

    if (world_format(world, torture->slot_blocks * WEFT_BLOCK_SIZE, 0,
                     false) != 0 ||
        world_open(world) != 0 ||
        world_create(world, REGION_FIRST + BLOCKS) != 0 ||
        world_fence(world, &fence) != 0) {
        torture_fail(torture, "set-up failed: %s", world->format.err.text);
    }
    check_session(torture, &fence, false, false);
    if (rng_chance(&torture->rng, 1, 2)) {
        torture_fill(torture);
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        torture->blocks[i].count = 1;
    }
    torture->next_tag = VALUE_FIRST;
}

/* True: all is well. */
static bool
torture_seed(struct torture *torture, uint64_t seed, uint32_t bug, bool trace)
{
    uint64_t lives;

    for (uint32_t i = 0; i < OPS_MAX; i++) {
        uint8_t *data = torture->ops[i].data;
        uint32_t *cut = torture->ops[i].cut;

        memset(&torture->ops[i], 0, sizeof(torture->ops[i]));
        torture->ops[i].data = data;
        torture->ops[i].cut = cut;
        torture->ops[i].torture = torture;
    }
    memset(torture->blocks, 0, sizeof(torture->blocks));
    memset(torture->touch, 0, sizeof(torture->touch));
    memset(torture->flushed_touch, 0, sizeof(torture->flushed_touch));
    torture->seed = seed;
    torture->trace = trace;
    torture->in_flight = 0;
    torture->life = 0;
    torture->sequence = store_seq_make(1, 0);
    torture->session_acked = 0;
    torture->incarnation = 0;
    torture->good_claimed = 0;
    torture->good_sent = 0;
    torture->broken = false;
    torture->fencing = false;
    torture->filler_slots = 0;
    rng_init(&torture->rng, seed);
    torture->world.sim = NULL;
    if (setjmp(failure) != 0) {
        return false; /* The world is left behind as it is. */
    }
    torture_setup(torture);
    torture->world.options.planted_bug = bug;
    torture->world.options.requests_max = 4u << rng_below(&torture->rng, 4);
    torture_format(torture);
    lives = 2 + rng_below(&torture->rng, 8);
    for (uint64_t i = 0; i < lives; i++) {
        bool lossy = false;
        bool may_keep = torture->faults;

        torture->closed = false;
        one_life(torture);
        end_life(torture, &lossy);
        torture->life++;
        lossy |= torture->faults;
        open_store(torture, &lossy, &may_keep);
        new_session(torture, lossy, may_keep);
    }
    world_done(&torture->world);
    return true;
}

/* ---- Command line ---- */

struct range {
    uint64_t first, last;
};

static bool
run_bug(struct torture *torture, uint32_t bug, struct range seeds)
{
    quiet = true;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        if (!torture_seed(torture, seed, bug, false)) {
            printf("bug %u found by seed %llu\n", bug,
                   (unsigned long long)seed);
            return true;
        }
    }
    printf("bug %u NOT found\n", bug);
    return false;
}

static bool
run_seeds(struct torture *torture, struct range seeds, bool trace)
{
    uint64_t failed = 0;

    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        failed += !torture_seed(torture, seed, 0, trace);
    }
    printf("%llu seeds, %llu failed; %llu requests, %llu crashes, %llu "
           "suspect blocks\n",
           (unsigned long long)(seeds.last - seeds.first + 1),
           (unsigned long long)failed, (unsigned long long)torture->requests,
           (unsigned long long)torture->crashes,
           (unsigned long long)torture->suspects);
    return failed == 0;
}

int
main(int argc, char **argv)
{
    static struct torture torture;
    struct range seeds = { 1, 300 };
    bool trace = false;
    bool all_bugs = false;
    uint32_t bug = 0;

    for (uint32_t i = 0; i < OPS_MAX; i++) {
        torture.ops[i].data =
            aligned_alloc(4096, STORE_REQ_BLOCKS_MAX * WEFT_BLOCK_SIZE);
        torture.ops[i].cut = calloc(BLOCKS, sizeof(uint32_t));
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else if (strcmp(argv[i], "--all-bugs") == 0) {
            all_bugs = true;
        } else if (i + 1 < argc && strcmp(argv[i], "--bug") == 0) {
            bug = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
            seeds.first = strtoull(argv[++i], NULL, 10);
            seeds.last = seeds.first;
        } else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0) {
            char *end;

            seeds.first = strtoull(argv[++i], &end, 10);
            seeds.last = strtoull(end + strspn(end, "."), NULL, 10);
        } else {
            fprintf(stderr, "usage: store_torture [--seeds A..B | --seed S] "
                            "[--trace] [--bug N | --all-bugs]\n");
            return 2;
        }
    }
    if (all_bugs) {
        bool all = true;

        for (uint32_t i = 1; i < PLANTED_COUNT; i++) {
            all &= run_bug(&torture, i, seeds);
        }
        return all ? 0 : 1;
    }
    if (bug != 0) {
        return run_bug(&torture, bug, seeds) ? 0 : 1;
    }
    return run_seeds(&torture, seeds, trace) ? 0 : 1;
}
