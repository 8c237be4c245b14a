/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

/* Reads: from one trusted replica, checked here against the CRCs that came
 * with the bytes (rule 5); unreadable blocks are repaired before the answer.
 *
 *   (1) Only trusted replicas are asked, and only while all of the in-sync set
 *       is trusted (S21): the gate sees to the second.
 *   (2) A block that is BAD or SUSPECT, or whose bytes do not match: the read
 *       takes its range exclusively and goes to repair.c; then it is repeated.
 *   (3) -EIO only when no in-sync replica has good bytes (repair.c).  A disk
 *       that fails as a whole is a replica that fails: the read waits. */

#define READ_DEADLINE_NS (30 * NS_PER_S)
#define MAP_DEADLINE_NS (30 * NS_PER_S)

static store_req_done_fn mirror_read_leg_done;
static store_req_done_fn mirror_map_leg_done;

void
mirror_verify(struct mirror *mirror, const uint8_t *data, const uint32_t *crcs,
              uint8_t *states, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (states[i] == STORE_BLOCK_DATA &&
            crc32c(0, data + (size_t)i * WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE) !=
                crcs[i]) {
            states[i] = STORE_BLOCK_BAD;
            mirror->counts.crc_errors++;
        } else if (states[i] > STORE_BLOCK_BAD) {
            states[i] = STORE_BLOCK_BAD;
        }
    }
}

void
mirror_read_send(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t candidates = mirror->trusted;

    CHECK(mirror_is_open(mirror));
    if (mirror_planted(mirror, MIRROR_PLANTED_READ_STALE)) {
        candidates = mirror->open;
    }
    uint32_t index = mirror_replica_nearest(mirror, candidates);
    struct mirror_replica *replica = mirror_replica_of(mirror, index);
    struct mirror_leg *leg = &io->leg[index];
    mirror_req_prepare(replica, &leg->req, STORE_READ, mirror_read_leg_done);
    leg->io = io;
    leg->index = index;
    leg->req.block = io->block;
    leg->req.block_count = io->block_count;
    leg->req.data = io->data;
    leg->req.crcs = io->crcs;
    leg->req.states = io->states;
    io->sent_ns = io_now_ns(mirror->io);
    list_push_back(&mirror->reads, &io->order);
    mirror_req_limit(replica, &leg->req, READ_DEADLINE_NS);
    io->pending = 1u << index;
    mirror_req_send(replica, &leg->req);
}

/* Holes become zeros; the first block without good bytes goes to 'bad'. */
static bool
mirror_read_judge(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;

    if (!mirror_planted(mirror, MIRROR_PLANTED_NO_VERIFY)) {
        mirror_verify(mirror, io->data, io->crcs, io->states, io->block_count);
    }
    for (uint32_t i = 0; i < io->block_count; i++) {
        switch (io->states[i]) {
        case STORE_BLOCK_DATA:
            break;
        case STORE_BLOCK_ABSENT:
        case STORE_BLOCK_ZERO:
            memset(io->data + (size_t)i * WEFT_BLOCK_SIZE, 0, WEFT_BLOCK_SIZE);
            break;
        default:
            if (mirror_planted(mirror, MIRROR_PLANTED_NO_VERIFY)) {
                break;
            }
            io->bad = i;
            return false;
        }
    }
    return true;
}

static void
mirror_read_repair(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;

    if (++io->repairs > 2 * io->block_count + 4) {
        mirror_io_finish(io, -EIO);
        return;
    }
    if (io->locked || io->exclusive ||
        mirror_planted(mirror, MIRROR_PLANTED_NO_LOCKS)) {
        mirror_repair_queue(io);
        return;
    }
    /* Shared becomes exclusive; the read is repeated first, since others may
     * have been here in between. */
    range_lock_release(&mirror->locks, &io->lock);
    io->exclusive = true;
    mirror_io_route(io);
}

static void
mirror_read_leg_done(struct store_req *req)
{
    struct mirror_leg *leg = container_of(req, struct mirror_leg, req);
    struct mirror_io *io = leg->io;
    struct mirror *mirror = io->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, leg->index);
    uint32_t bit = 1u << leg->index;

    CHECK(io->pending == bit);
    io->pending = 0;
    list_remove(&io->order);
    mirror_req_settled(replica, req);
    if (req->result == 0) {
        if (mirror_read_judge(io)) {
            mirror_io_finish(io, 0);
        } else {
            mirror_read_repair(io);
        }
        return;
    }
    if (mirror->phase >= PHASE_CLOSING) {
        mirror_io_finish(io, mirror->fatal != 0 ? -ESTALE : -ESHUTDOWN);
        return;
    }
    /* Unreadable blocks come with result 0: this is a failed disk, or link, and
     * the gate decides how it goes on (S21; rule 12: hold, don't fail). */
    mirror_replica_fail(replica, req->session, req->result, "read");
    mirror_io_stick(io);
}

/* ---- MAP: which slots of a region exist ---- */

void
mirror_map_send(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t index = mirror_replica_nearest(mirror, mirror->trusted);
    struct mirror_replica *replica = mirror_replica_of(mirror, index);
    struct mirror_leg *leg = &io->leg[index];

    CHECK(mirror->map_io == NULL);
    mirror->map_io = io;
    mirror_req_prepare(replica, &leg->req, STORE_LIST, mirror_map_leg_done);
    leg->io = io;
    leg->index = index;
    leg->req.block = io->block;
    leg->req.block_count = STORE_REGION_BLOCKS;
    leg->req.list_all = 1;
    leg->req.entries = mirror->map_entries;
    leg->req.entries_max = DECIDE_UNITS_MAX;
    mirror_req_limit(replica, &leg->req, MAP_DEADLINE_NS);
    io->pending = 1u << index;
    mirror_req_send(replica, &leg->req);
}

static void
mirror_map_fill(struct mirror_io *io, const struct store_req *req,
                uint32_t slot_blocks)
{
    uint32_t per_slot = slot_blocks / MIRROR_MAP_BLOCKS;
    uint64_t first_slot = io->block / slot_blocks;

    memset(io->states, 0, MIRROR_MAP_GRANULES);
    for (uint32_t k = 0; k < req->entries_count && k < DECIDE_UNITS_MAX; k++) {
        uint64_t slot = req->entries[k].slot_index - first_slot;
        if (slot < MIRROR_MAP_GRANULES / per_slot) {
            memset(io->states + slot * per_slot, 1, per_slot);
        }
    }
}

static void
mirror_map_leg_done(struct store_req *req)
{
    struct mirror_leg *leg = container_of(req, struct mirror_leg, req);
    struct mirror_io *io = leg->io;
    struct mirror *mirror = io->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, leg->index);

    io->pending = 0;
    mirror->map_io = NULL;
    mirror_req_settled(replica, req);
    mirror_kick(mirror); /* Another MAP may wait. */
    if (req->result == 0) {
        mirror_map_fill(io, req, replica->slot_blocks);
        mirror_io_finish(io, 0);
        return;
    }
    if (mirror->phase >= PHASE_CLOSING) {
        mirror_io_finish(io, mirror->fatal != 0 ? -ESTALE : -ESHUTDOWN);
        return;
    }
    mirror_replica_fail(replica, req->session, req->result, "list");
    mirror_io_stick(io);
}
