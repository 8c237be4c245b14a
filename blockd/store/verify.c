/* SPDX-License-Identifier: Apache-2.0 */

/* What was hot at a crash is looked at again.
 *
 * In an extent that was hot at a crash, a block that does not match its CRC is
 * SUSPECT: an overwrite may have landed whose intent did not.  That must end at
 * some time, or rot that comes later would be taken for it (S1).  So each of
 * its blocks is found sound once:
 *
 *   (1) a write of it has completed since, or
 *   (2) it was read since, and matched its CRC.
 *
 * From then on a mismatch of that block is rot.  An extent all of whose DATA
 * blocks are sound is forgotten: the next checkpoint does not log it again.
 * What was sound in the cache was made durable by the checkpoint that ended
 * recovery; and what is overwritten since makes the extent hot again.
 *
 * Requests find some of them sound; the rest is read here, a piece at a time,
 * in the background.  A block that does not match is left as it is: a write may
 * be under way, or it is really suspect, and whoever reads it will be told.  A
 * few passes, farther and farther apart, see what has been repaired meanwhile;
 * then it is left for the next life. */

#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"
#include "lib/base/crc32c.h"

#define VERIFY_BLOCKS 64u
#define VERIFY_SLOTS 1024u /* Looked at a turn. */
#define VERIFY_PACE_NS (5 * NS_PER_MS)
#define VERIFY_WAIT_NS                                    \
    NS_PER_S /* After the first pass; then twice as long. \
              */
#define VERIFY_PASSES 8u

static io_timer_fn verify_fire;

void
verify_init(struct store *store)
{
    store->verify = (struct verify){ 0 };
    io_timer_init(&store->verify.timer, verify_fire);
}

void
verify_done(struct store *store)
{
    if (io_timer_is_armed(&store->verify.timer)) {
        io_timer_cancel(store->io, &store->verify.timer);
    }
    free(store->verify.buffer);
    store->verify.buffer = NULL;
}

static uint64_t
data_block(const struct store *store, uint32_t slot, uint32_t block)
{
    return (uint64_t)slot * store->geometry.slot_blocks + block;
}

static bool
needs_look(const struct store *store, uint32_t slot, uint32_t block)
{
    return entry_state(table_entry(store, slot), block) == DISK_BLOCK_DATA &&
           !hot_is_sound(store, data_block(store, slot, block));
}

/* The next blocks of the slot at the cursor that nobody has looked at. */
static bool
verify_find_in_slot(struct store *store, uint32_t slot)
{
    struct verify *verify = &store->verify;
    uint32_t slot_blocks = store->geometry.slot_blocks;
    uint32_t first = verify->block;
    uint32_t end;

    if (entry_owner(table_entry(store, slot)) == 0) {
        return false;
    }
    while (first < slot_blocks && !needs_look(store, slot, first)) {
        first++;
    }
    for (end = first; end < slot_blocks && end - first < VERIFY_BLOCKS &&
                      needs_look(store, slot, end);) {
        end++;
    }
    verify->slot = slot;
    verify->first = first;
    verify->count = end - first;
    verify->block = end;
    return end != first;
}

/* All that is DATA in it is sound. */
static bool
extent_is_sound(const struct store *store, uint32_t extent)
{
    uint32_t slot_blocks = store->geometry.slot_blocks;
    uint32_t count = DISK_EXTENT_BLOCKS / slot_blocks;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = extent * count + i;

        if (slot >= store->geometry.slots_total) {
            break;
        }
        if (entry_owner(table_entry(store, slot)) == 0) {
            continue;
        }
        for (uint32_t block = 0; block < slot_blocks; block++) {
            if (needs_look(store, slot, block)) {
                return false;
            }
        }
    }
    return true;
}

static void
verify_next_extent(struct store *store)
{
    struct verify *verify = &store->verify;

    if (store->hot.crashed[verify->extent] != 0 &&
        extent_is_sound(store, verify->extent)) {
        hot_crash_forget(store, verify->extent);
    }
    verify->extent++;
    verify->index = 0;
    verify->block = 0;
}

/* 1: there is something to read; 0: not in this turn; -1: the pass is over. */
static int
verify_find(struct store *store)
{
    struct verify *verify = &store->verify;
    uint32_t per_extent = DISK_EXTENT_BLOCKS / store->geometry.slot_blocks;

    for (uint32_t i = 0; i < VERIFY_SLOTS; i++) {
        uint32_t slot;

        while (verify->extent < store->geometry.extents &&
               store->hot.crashed[verify->extent] == 0) {
            verify_next_extent(store);
        }
        if (verify->extent >= store->geometry.extents) {
            return -1;
        }
        slot = verify->extent * per_extent + verify->index;
        if (verify->index >= per_extent ||
            slot >= store->geometry.slots_total) {
            verify_next_extent(store);
            continue;
        }
        if (verify_find_in_slot(store, slot)) {
            return 1;
        }
        verify->index++;
        verify->block = 0;
    }
    return 0;
}

static void
verify_arm(struct store *store, uint64_t wait_ns)
{
    io_timer_set(store->io, &store->verify.timer,
                 io_now_ns(store->io) + wait_ns);
}

static void
verify_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct verify *verify = container_of(file_op, struct verify, op);
    struct store *store = container_of(verify, struct store, verify);
    const uint8_t *entry = table_entry(store, verify->slot);

    verify->busy = false;
    store_io_done(store);
    if (store->phase != STORE_SERVING || store->fail_wanted) {
        return;
    }
    for (uint32_t i = 0; result == 0 && i < verify->count; i++) {
        uint32_t block = verify->first + i;

        /* Against what the table says now: it is that which is to be sound. */
        if (entry_owner(entry) != 0 &&
            entry_state(entry, block) == DISK_BLOCK_DATA &&
            entry_crc(&store->geometry, entry, block) ==
                crc32c(0, verify->buffer + (size_t)i * WEFT_BLOCK_SIZE,
                       WEFT_BLOCK_SIZE)) {
            hot_sound(store, data_block(store, verify->slot, block));
        }
    }
    verify_arm(store, VERIFY_PACE_NS);
}

static void
verify_read(struct store *store)
{
    struct verify *verify = &store->verify;

    if (verify->buffer == NULL) {
        verify->buffer = aligned_alloc(WEFT_BLOCK_SIZE,
                                       (size_t)VERIFY_BLOCKS * WEFT_BLOCK_SIZE);
        if (verify->buffer == NULL) {
            verify->pass = VERIFY_PASSES; /* Then not in this life. */
            return;
        }
    }
    verify->busy = true;
    verify->op = (struct io_file_op){
        .op = { .done = verify_op_done },
        .file = store->file,
        .kind = IO_FILE_READ,
        .size_bytes = verify->count * WEFT_BLOCK_SIZE,
        .offset_bytes = (geometry_slot_block(&store->geometry, verify->slot) +
                         verify->first) *
                        WEFT_BLOCK_SIZE,
        .data = verify->buffer,
    };
    store_io_start(store, &verify->op);
}

static void
verify_fire(struct io_timer *timer)
{
    struct verify *verify = container_of(timer, struct verify, timer);
    struct store *store = container_of(verify, struct store, verify);
    int found;

    if (store->phase != STORE_SERVING || store->fail_wanted || verify->busy) {
        return;
    }
    found = verify_find(store);
    if (found > 0) {
        verify_read(store);
        return;
    }
    if (found == 0) {
        verify_arm(store, VERIFY_PACE_NS);
        return;
    }
    verify->extent = 0;
    if (++verify->pass < VERIFY_PASSES && store->hot.crashed_count != 0) {
        verify_arm(store, VERIFY_WAIT_NS << (verify->pass - 1));
    }
}

void
verify_step(struct store *store)
{
    struct verify *verify = &store->verify;

    if (store->hot.crashed_count != 0 && store->hot.sound != NULL &&
        !verify->busy && verify->pass < VERIFY_PASSES &&
        !io_timer_is_armed(&verify->timer)) {
        verify_arm(store, VERIFY_PACE_NS);
    }
}
