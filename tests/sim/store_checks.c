/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/store_torture.h"

#include <errno.h>
#include <string.h>

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
    if (found == UINT32_MAX && torture->tears && state == STORE_BLOCK_SUSPECT &&
        block->suspect_ok) {
        block->wild = true;
        found = block->acked;
    }
    if (found == UINT32_MAX) {
        torture_fail(torture,
                     "life %u: block %u: state %u tag %u is not legal (%s; "
                     "flushed %u, acked %u)",
                     torture->life, index, state, tag, lossy ? "power" : "kill",
                     block->history[block->flushed].tag,
                     block->history[block->acked].tag);
    }
    if (state == STORE_BLOCK_SUSPECT) {
        torture->suspects++;
        if (!block->suspect_ok) {
            torture_fail(torture, "life %u: block %u is suspect", torture->life,
                         index);
        }
        /* Of what is known to be durable, the records are, too. */
        if (found <= from && !block->wild &&
            !(block->suspect && (found == 0 || block->history[found].again))) {
            torture_fail(torture, "life %u: block %u is suspect, but sound",
                         torture->life, index);
        }
    }
    block->suspect = state == STORE_BLOCK_SUSPECT;
    if (state == STORE_BLOCK_BAD) {
        torture_fail(torture, "life %u: block %u is bad", torture->life, index);
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
                torture_fail(torture, "slot %llu says sequence %llu, has %llu",
                             (unsigned long long)slot,
                             (unsigned long long)entries[i].sequence,
                             (unsigned long long)newest[slot - base]);
            }
        }
    }
}

/* S4: whatever is not as it was flushed is newer than that: another replica may
 * be as it was flushed, and a resync from G must see the difference. */
static void
check_news(struct torture *torture, uint32_t index, uint64_t flushed)
{
    static struct store_list_entry entries[16384];
    uint64_t block = torture_logical(index);
    struct store_req req = world_req(&torture->world, STORE_LIST);

    req.block = block / STORE_REGION_BLOCKS * STORE_REGION_BLOCKS;
    req.block_count = STORE_REGION_BLOCKS;
    req.entries = entries;
    req.entries_max = 16384;
    req.sequence = flushed;
    if (world_run(&torture->world, &req) != 0) {
        torture_fail(torture, "LIST failed: %d", req.result);
    }
    if (req.region_touched != 0) {
        return;
    }
    for (uint32_t i = 0; i < req.entries_count; i++) {
        if (entries[i].slot_index == block / torture->slot_blocks) {
            return;
        }
    }
    torture_fail(torture,
                 "life %u: block %u is not as it was flushed, and LIST does "
                 "not say so (after %llu)",
                 torture->life, index, (unsigned long long)flushed);
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
        struct value flushed = block->history[block->flushed];

        if (world_read(world, torture_logical(i), &state, &tag) != 0) {
            torture_fail(torture, "read failed");
        }
        if (state == STORE_BLOCK_ZERO) {
            tag = VALUE_ZERO;
        }
        if (tag != flushed.tag && state != STORE_BLOCK_SUSPECT &&
            !block->suspect && !block->wild) {
            check_news(torture, i,
                       flushed.sequence > good ? flushed.sequence : good);
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

void
torture_check_session(struct torture *torture, const struct store_req *fence,
                      bool lossy, bool may_keep)
{
    if (fence->session <= torture->session_acked) {
        torture_fail(torture, "session %llu again",
                     (unsigned long long)fence->session);
    }
    torture->session_acked = fence->session;
    if (torture->incarnation != 0) {
        if (lossy && !may_keep && fence->incarnation <= torture->incarnation) {
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

void
torture_new_session(struct torture *torture, bool lossy, bool may_keep)
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
    torture_check_session(torture, &fence, lossy, may_keep);
    if (!lossy) {
        memcpy(torture->flushed_touch, torture->touch, sizeof(torture->touch));
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
