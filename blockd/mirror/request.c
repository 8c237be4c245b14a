/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Guest requests: gate, then range lock, then the replicas.
 *
 *     submit --> waiting --gate open--> lock --granted--> sent
 *                   ^                     |                 |
 *                   +--- gate closed -----+                 v
 *     done() <--- finish <--- all of the in-sync set --- settled
 *                   ^                                       | otherwise
 *                   |              gate opens again         v
 *                   +------------------------------------ stuck
 *
 *   (1) Whoever waits for the gate may hold its lock; whoever holds the gate
 *       closed takes no lock (gate.c (1)): no circle.
 *   (2) done() is called from completions and from the mirror's task, never
 *       from mirror_submit().
 *   (3) A stuck request keeps its lock, its sequence number and its place in
 *       'writes', so that nothing overlaps it and G stays behind it. */

static range_lock_fn mirror_io_granted;

/* Whether a request of this kind may be sent now. */
static bool
mirror_io_may_go(const struct mirror_io *io)
{
    const struct mirror *mirror = io->mirror;

    /* A replica may have failed just now, and the gate not closed yet (S21). */
    if (!mirror_is_open(mirror) || mirror->trusted != mirror->row.in_sync) {
        return false;
    }
    switch (io->kind) {
    case MIRROR_WRITE:
    case MIRROR_DISCARD:
        /* S19: reads need one replica, writes all that the pool asks for. */
        return decide_count(mirror->row.in_sync) >=
                   mirror->options.min_in_sync &&
               !mirror_counter_is_exhausted(mirror);
    case MIRROR_READ:
    case MIRROR_FLUSH:
        return true;
    case MIRROR_MAP:
        return mirror->map_io == NULL;
    }
    return false;
}

static void
mirror_io_send(struct mirror_io *io)
{
    switch (io->kind) {
    case MIRROR_READ:
        mirror_read_send(io);
        break;
    case MIRROR_WRITE:
    case MIRROR_DISCARD:
        mirror_write_send(io);
        break;
    case MIRROR_FLUSH:
        mirror_flush_send(io);
        break;
    case MIRROR_MAP:
        mirror_map_send(io);
        break;
    }
}

void
mirror_io_route(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;

    if (mirror->phase >= PHASE_CLOSING) {
        mirror_io_finish_later(io, mirror->fatal != 0 ? -ESTALE : -ESHUTDOWN);
        return;
    }
    if (!mirror_io_may_go(io)) {
        list_push_back(&mirror->waiting, &io->node);
        return;
    }
    bool unlocked = io->kind == MIRROR_FLUSH || io->kind == MIRROR_MAP ||
                    io->locked || io->lock.held;
    if (!unlocked && !mirror_planted(mirror, MIRROR_PLANTED_NO_LOCKS)) {
        bool exclusive = io->kind != MIRROR_READ || io->exclusive;
        if (!range_lock_try(&mirror->locks, &io->lock, io->block,
                            io->block_count, exclusive)) {
            range_lock_acquire(&mirror->locks, &io->lock, io->block,
                               io->block_count, exclusive);
            return;
        }
    }
    mirror_io_send(io);
}

static void
mirror_io_granted(struct range_lock *lock)
{
    mirror_io_route(container_of(lock, struct mirror_io, lock));
}

static bool
mirror_io_is_sane(const struct mirror *mirror, const struct mirror_io *io)
{
    uint64_t size = mirror->options.size_blocks;

    switch (io->kind) {
    case MIRROR_READ:
        if (io->states == NULL) {
            return false;
        }
        /* fall through */
    case MIRROR_WRITE:
        return io->data != NULL && io->crcs != NULL && io->block_count >= 1 &&
               io->block_count <= STORE_REQ_BLOCKS_MAX && io->block < size &&
               io->block_count <= size - io->block;
    case MIRROR_DISCARD:
        return io->block_count >= 1 && io->block < size &&
               io->block_count <= size - io->block;
    case MIRROR_MAP:
        return io->states != NULL && io->block % STORE_REGION_BLOCKS == 0 &&
               io->block < size;
    case MIRROR_FLUSH:
        return true;
    }
    return false;
}

static void
mirror_io_begin(struct mirror *mirror, struct mirror_io *io)
{
    CHECK(io->done != NULL);
    CHECK(mirror_io_is_sane(mirror, io)); /* volume.c's business. */

    io->mirror = mirror;
    io->submitted_ns = io_now_ns(mirror->io);
    io->sequence = 0;
    io->targets = io->pending = io->good = io->nospace = io->prompt = 0;
    io->bad = io->repairs = 0;
    io->exclusive = false;
    list_init(&io->node);
    list_init(&io->order);
    list_init(&io->lock.node);
    io->lock.held = false;
    io->lock.granted = mirror_io_granted;
    mirror->ios++;
    mirror_io_route(io);
}

void
mirror_submit(struct mirror *mirror, struct mirror_io *io)
{
    io->internal = false;
    if (mirror->stopping && mirror->phase < PHASE_CLOSING) {
        io->mirror = mirror;
        mirror->ios++;
        list_init(&io->node);
        list_init(&io->order);
        io->lock.held = false;
        list_init(&io->lock.node);
        mirror_io_finish_later(io, -ESHUTDOWN);
        return;
    }
    mirror_io_begin(mirror, io);
}

void
mirror_internal_submit(struct mirror *mirror, struct mirror_io *io,
                       enum mirror_io_kind kind, mirror_io_done_fn *done)
{
    io->done = done;
    io->kind = kind;
    io->internal = true;
    mirror_io_begin(mirror, io);
}

void
mirror_io_finish(struct mirror_io *io, int result)
{
    struct mirror *mirror = io->mirror;

    CHECK(io->pending == 0);
    CHECK(!list_is_linked(&io->node));
    CHECK(mirror->ios > 0);

    if (list_is_linked(&io->lock.node)) {
        range_lock_release(&mirror->locks, &io->lock);
    }
    list_remove(&io->order);
    mirror->ios--;
    if (!io->internal && result == 0) {
        mirror->counts.reads += io->kind == MIRROR_READ;
        mirror->counts.writes += io->kind == MIRROR_WRITE;
        mirror->counts.discards += io->kind == MIRROR_DISCARD;
        mirror->counts.flushes += io->kind == MIRROR_FLUSH;
        if (io->kind == MIRROR_READ) {
            mirror->counts.read_blocks += io->block_count;
        } else if (io->kind == MIRROR_WRITE) {
            mirror->counts.write_blocks += io->block_count;
        }
    }
    if (!mirror_is_open(mirror) || mirror->stopping ||
        mirror->resync.state == RESYNC_JOIN) {
        mirror_kick(mirror);
    }
    io->result = result;
    io->done(io); /* May free or reuse 'io'. */
}

void
mirror_io_finish_later(struct mirror_io *io, int result)
{
    io->result = result;
    list_push_back(&io->mirror->finished, &io->node);
    mirror_kick(io->mirror);
}

void
mirror_io_stick(struct mirror_io *io)
{
    CHECK(io->pending == 0);
    list_push_back(&io->mirror->stuck, &io->node);
    mirror_kick(io->mirror);
}

void
mirror_stuck_retry(struct mirror *mirror)
{
    struct list again;
    struct list *node;

    list_init(&again);
    list_splice_back(&again, &mirror->stuck);
    while ((node = list_pop_front(&again)) != NULL) {
        struct mirror_io *io = container_of(node, struct mirror_io, node);
        switch (io->kind) {
        case MIRROR_READ:
        case MIRROR_MAP:
            mirror_io_route(io);
            break;
        case MIRROR_WRITE:
        case MIRROR_DISCARD:
            mirror_write_retry(io);
            break;
        case MIRROR_FLUSH:
            mirror_flush_retry(io);
            break;
        }
    }
}
