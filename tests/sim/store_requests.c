/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/store_torture.h"

#include <errno.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"

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

/* The store was closed in order. */
void
torture_all_flushed(struct torture *torture)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        block_flushed(&torture->blocks[i], torture->blocks[i].acked);
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
                                torture_logical(op->first + i));
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
            uint32_t r = torture_region(i);

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
    uint32_t i = 0;

    while (i < OPS_MAX && torture->ops[i].in_use) {
        i++;
    }
    CHECK(i < OPS_MAX); /* The caller has counted them. */
    struct op *op = &torture->ops[i];
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

static void
op_submit(struct torture *torture, struct op *op)
{
    op->req.block = torture_logical(op->first);
    op->req.block_count = op->count;
    TRACE(torture, "  begin op %u %u+%u tag %u seq %llu", op->req.opcode,
          op->first, op->count, op->tag, (unsigned long long)op->req.sequence);
    sim_node_enter(torture->world.node);
    store_submit(torture->world.store, &op->req);
    sim_node_leave(torture->world.node);
}

static void
pick_range(struct torture *torture, uint32_t *ret_first, uint32_t *ret_count)
{
    struct rng *rng = &torture->rng;
    uint32_t limit = rng_chance(rng, 7, 8) ? torture->hot_blocks : BLOCKS;
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
    pattern_fill(data, torture_logical(op->first + i), tag);
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
                     torture_region(first + i) == torture_region(first);
        block_push(torture, first + i, op->tag, op->req.sequence);
        block->busy = true;
    }
    op->crcs[0] =
        effective && torture_region(first) == torture_region(first + count - 1);
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
        uint32_t tag =
            empty ? VALUE_ABSENT : (uint32_t)rng_below(&torture->rng, 4);

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

void
torture_begin_something(struct torture *torture)
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
void
torture_trim(struct torture *torture)
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
void
torture_forget_ops(struct torture *torture)
{
    for (uint32_t i = 0; i < OPS_MAX; i++) {
        torture->ops[i].in_use = false;
        torture->ops[i].req.sequence = 0;
    }
    torture->in_flight = 0;
}
