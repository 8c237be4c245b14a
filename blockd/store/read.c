/* SPDX-License-Identifier: Apache-2.0 */

/* READ: blocks with bytes on the disk are read straight into the caller's
 * buffer, one device read for each physically contiguous run, and checked
 * against the table.  Holes and zeros are states, not bytes: the buffer is left
 * alone there.
 *
 * A run that fails is read again block by block, to tell which one is bad.  A
 * block that does not match its CRC is SUSPECT if its extent was hot at a crash
 * (S1: an overwrite landed whose intent did not) and it has not been found
 * sound since (verify.c), else BAD. */

#include <errno.h>

#include "blockd/store/internal.h"
#include "lib/base/crc32c.h"

static void
read_fill_states(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    uint32_t offset = 0;

    req->slot_sequence = 0;
    while (offset < req->block_count) {
        struct segment segment = work_segment(store, work, offset);
        uint32_t slot = index_find(store, work->replica->number, req->layer,
                                   segment.logical);

        for (uint32_t i = 0; i < segment.count; i++) {
            uint8_t state = STORE_BLOCK_ABSENT;
            uint32_t crc = 0;

            if (slot != SLOT_NONE) {
                const uint8_t *entry = table_entry(store, slot);

                state = (uint8_t)entry_state(entry, segment.first + i);
                if (state == STORE_BLOCK_DATA) {
                    crc = entry_crc(&store->geometry, entry, segment.first + i);
                }
            }
            req->states[offset + i] = state;
            req->crcs[offset + i] = crc;
        }
        if (offset == 0 && slot != SLOT_NONE) {
            req->slot_sequence = entry_sequence(table_entry(store, slot));
        }
        offset += segment.count;
    }
}

static bool
state_has_bytes(uint8_t state)
{
    return state == STORE_BLOCK_DATA || state == STORE_BLOCK_SUSPECT;
}

/* The device block of block 'offset' of the request, which has bytes. */
static uint64_t
read_device_block(const struct store *store, const struct work *work,
                  uint32_t offset)
{
    struct segment segment = work_segment(store, work, offset);
    uint32_t slot = index_find(store, work->replica->number, work->req->layer,
                               segment.logical);

    CHECK(slot != SLOT_NONE);
    return geometry_slot_block(&store->geometry, slot) + segment.first;
}

bool
read_next_run(const struct store *store, struct work *work, uint32_t *ret_first,
              uint32_t *ret_count, uint64_t *ret_block)
{
    const struct store_req *req = work->req;
    uint32_t slot_blocks = store->geometry.slot_blocks;
    uint32_t first = work->cursor;
    uint64_t block;
    uint32_t end;

    while (first < req->block_count && !state_has_bytes(req->states[first])) {
        first++;
    }
    if (first == req->block_count) {
        return false;
    }
    block = read_device_block(store, work, first);
    end = first + 1;
    while (end < req->block_count && state_has_bytes(req->states[end]) &&
           ((req->block + end) % slot_blocks != 0 ||
            read_device_block(store, work, end) == block + (end - first))) {
        end++;
    }
    *ret_first = first;
    *ret_count = end - first;
    *ret_block = block;
    return true;
}

void
read_begin(struct store *store, struct work *work)
{
    read_fill_states(store, work);
    work_to(store, work, WORK_RUNNING);
    work_issue(store, work);
    if (work->ops_pending == 0 && !work->starved) {
        work_finish(store, work, 0);
    }
}

static void
read_verify(struct store *store, struct work *work, uint32_t offset)
{
    struct store_req *req = work->req;
    uint32_t crc = crc32c(0, req->data + (size_t)offset * WEFT_BLOCK_SIZE,
                          WEFT_BLOCK_SIZE);
    uint64_t block;

    if (req->states[offset] == STORE_BLOCK_SUSPECT) {
        req->crcs[offset] = crc;
        return;
    }
    if (crc == req->crcs[offset] && store->hot.crashed_count == 0) {
        return;
    }
    block = read_device_block(store, work, offset) - store->geometry.data_first;
    if (crc == req->crcs[offset]) {
        hot_sound(store, block);
        return;
    }
    store->stats.crc_errors++;
    if (hot_is_suspect(store, block)) {
        req->states[offset] = STORE_BLOCK_SUSPECT;
        req->crcs[offset] = crc;
    } else {
        req->states[offset] = STORE_BLOCK_BAD;
        store->bad++;
    }
}

void
read_sub_done(struct store *store, struct sub *sub, int result)
{
    struct work *work = sub->work;
    struct store_req *req = work->req;

    if (result == 0) {
        for (uint32_t i = 0; i < sub->count; i++) {
            read_verify(store, work, sub->first + i);
        }
        return;
    }
    if (sub->count == 1) {
        req->states[sub->first] = STORE_BLOCK_BAD;
        store->bad++;
        return;
    }
    /* Which ones?  Settled by read_finish(), block by block. */
    for (uint32_t i = 0; i < sub->count; i++) {
        req->states[sub->first + i] |= 0x80;
    }
}

void
read_finish(struct store *store, struct work *work)
{
    struct store_req *req = work->req;

    for (uint32_t i = 0; i < req->block_count; i++) {
        if ((req->states[i] & 0x80) == 0) {
            continue;
        }
        if (store->subs.free_count == 0) {
            work_starve(store, work);
            return;
        }
        req->states[i] &= 0x7f;
        work_sub_start(store, work, i, 1, read_device_block(store, work, i));
    }
    if (work->ops_pending == 0) {
        work_finish(store, work, 0);
    }
}
