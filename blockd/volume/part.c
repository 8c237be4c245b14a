/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/volume/volume_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

/* One part of a request: blocks of one mirror.
 *
 *     start --aligned-------------------------------> FINAL --> done
 *       |                                               ^
 *       +--> LOCK --> HEAD --> TAIL --> (merge) --------+
 *
 * A block of which only some bytes are written is read, merged, checksummed
 * anew and written whole, all under one exclusive range lock of the mirror
 * (S15).  HEAD and TAIL are left out where the part's end is aligned.  A piece
 * that becomes zeros takes the same way, and ends early if the block is a hole
 * already. */

static range_lock_fn volume_part_granted;
static mirror_io_done_fn volume_part_io_done;
static void volume_part_advance(struct volume_part *part);

static bool
volume_part_is_partial(const struct volume_part *part)
{
    return part->head_bytes != 0 || part->tail_at != WEFT_BLOCK_SIZE;
}

static void
volume_part_finish(struct volume_part *part, int result)
{
    if (part->locked) {
        mirror_unlock(part->mirror, &part->lock);
        part->locked = false;
    }
    part->state = PART_FREE;
    volume_part_done(part, result);
}

static void
volume_part_submit(struct volume_part *part, enum mirror_io_kind kind,
                   uint64_t block, uint32_t count, uint8_t *data,
                   uint32_t *crcs, uint8_t *states)
{
    struct mirror_io *io = &part->io;

    io->done = volume_part_io_done;
    io->kind = kind;
    io->block = block;
    io->block_count = count;
    io->data = data;
    io->crcs = crcs;
    io->states = states;
    io->locked = part->locked;
    mirror_submit(part->mirror, io);
}

static void
volume_part_read(struct volume_part *part, uint64_t block, uint32_t which)
{
    volume_part_submit(part, MIRROR_READ, block, 1,
                       part->scratch + (size_t)which * WEFT_BLOCK_SIZE,
                       &part->scratch_crcs[which],
                       &part->scratch_states[which]);
}

/* Whether the first block is one of those to be read. */
static bool
volume_part_needs_head(const struct volume_part *part)
{
    return part->head_bytes != 0 ||
           (part->block_count == 1 && part->tail_at != WEFT_BLOCK_SIZE);
}

static bool
volume_part_needs_tail(const struct volume_part *part)
{
    return part->block_count > 1 && part->tail_at != WEFT_BLOCK_SIZE;
}

/* Old bytes around the new ones, and the CRCs of the result. */
static void
volume_part_merge(struct volume_part *part)
{
    if (part->zeroes) {
        /* The old block is the buffer; the piece in it becomes zeros. */
        memset(part->scratch + part->head_bytes, 0,
               part->tail_at - part->head_bytes);
        part->data = part->scratch;
        part->crcs = part->scratch_crcs;
        part->crcs[0] = crc32c(0, part->data, WEFT_BLOCK_SIZE);
        return;
    }
    uint32_t last = part->block_count - 1;
    if (volume_part_needs_head(part)) {
        memcpy(part->data, part->scratch, part->head_bytes);
        if (last == 0) {
            memcpy(part->data + part->tail_at, part->scratch + part->tail_at,
                   WEFT_BLOCK_SIZE - part->tail_at);
        }
        part->crcs[0] = crc32c(0, part->data, WEFT_BLOCK_SIZE);
    }
    if (volume_part_needs_tail(part)) {
        uint8_t *block = part->data + (size_t)last * WEFT_BLOCK_SIZE;
        memcpy(block + part->tail_at,
               part->scratch + WEFT_BLOCK_SIZE + part->tail_at,
               WEFT_BLOCK_SIZE - part->tail_at);
        part->crcs[last] = crc32c(0, block, WEFT_BLOCK_SIZE);
    }
}

static void
volume_part_final(struct volume_part *part)
{
    if (volume_part_is_partial(part)) {
        if (part->zeroes && part->scratch_states[0] != STORE_BLOCK_DATA) {
            volume_part_finish(part, 0); /* A hole has no bytes to clear. */
            return;
        }
        volume_part_merge(part);
    }
    part->state = PART_FINAL;
    volume_part_submit(part, part->kind, part->block, part->block_count,
                       part->data, part->crcs, part->states);
}

/* The state that has been reached is done with, and successfully. */
static void
volume_part_advance(struct volume_part *part)
{
    if (part->volume->mirror_stopping_now && part->state != PART_FINAL) {
        volume_part_finish(part, -ESHUTDOWN);
        return;
    }
    switch (part->state) {
    case PART_LOCK:
        if (volume_part_needs_head(part)) {
            part->state = PART_HEAD;
            volume_part_read(part, part->block, 0);
            return;
        }
        part->state = PART_TAIL;
        volume_part_read(part, part->block + part->block_count - 1, 1);
        return;
    case PART_HEAD:
        if (volume_part_needs_tail(part)) {
            part->state = PART_TAIL;
            volume_part_read(part, part->block + part->block_count - 1, 1);
            return;
        }
        volume_part_final(part);
        return;
    case PART_TAIL:
        volume_part_final(part);
        return;
    case PART_FINAL:
        volume_part_finish(part, 0);
        return;
    case PART_FREE:
        CHECK(part->state != PART_FREE);
        return;
    }
}

static void
volume_part_granted(struct range_lock *lock)
{
    struct volume_part *part = container_of(lock, struct volume_part, lock);

    volume_part_advance(part);
}

static void
volume_part_io_done(struct mirror_io *io)
{
    struct volume_part *part = container_of(io, struct volume_part, io);

    if (io->result != 0) {
        volume_part_finish(part, io->result);
    } else {
        volume_part_advance(part);
    }
}

void
volume_part_start(struct volume_part *part)
{
    bool writes = part->kind == MIRROR_WRITE;

    CHECK(part->state == PART_FREE);
    if (!writes || !volume_part_is_partial(part)) {
        part->state = PART_FINAL;
        volume_part_submit(part, part->kind, part->block, part->block_count,
                           part->data, part->crcs, part->states);
        return;
    }
    part->state = PART_LOCK;
    part->locked = true; /* From now on it is held or waited for. */
    part->lock.granted = volume_part_granted;
    mirror_lock(part->mirror, &part->lock, part->block, part->block_count,
                true);
}
