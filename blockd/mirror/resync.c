/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Resync: a stale replica catches up under live I/O (rule 6, S4, S5, S16).
 *
 *     IDLE --a stale replica is open--> JOIN --> LIST --> LOCK --> COPY
 *                                                 ^ ^      ^         |
 *                                                 | |      +- PACE <-+
 *                                                 | +-- next region -+
 *     IDLE <-- commit in sync <-- gate: flush <-- DONE <-------------+
 *     any: session over, or nobody can give a block: IDLE, later again
 *
 *   (1) From JOIN on every new write goes to the target, too.  The lists are
 *       asked for when all older writes are done, so that what the lists miss
 *       was sent there.
 *   (2) A unit is copied under its exclusive range lock: a live write comes
 *       wholly before (the copy contains it) or wholly after (it lands upon
 *       the copy).  What is copied is what the source has then, whatever the
 *       lists said (slots that are gone are freed).
 *   (3) The set: newer than G(target) at the source, or at the target, and the
 *       full lists where a discard touched the region.
 *   (4) The target's G stays; it is set by the last flush, under the closed
 *       gate, before the commit.  A resync that is interrupted begins again
 *       from the old G.
 *   (5) With the gate closed nothing is sent; a copy that was under way begins
 *       again afterwards. */

static range_lock_fn mirror_resync_granted;
static io_timer_fn mirror_resync_paced;
static mirror_listing_done_fn mirror_resync_listed;
static mirror_copy_done_fn mirror_resync_copied;

void
mirror_resync_init(struct mirror *mirror)
{
    io_timer_init(&mirror->resync.pace, mirror_resync_paced);
    list_init(&mirror->resync.lock.node);
    mirror->resync.lock.granted = mirror_resync_granted;
}

uint32_t
mirror_resync_bit(const struct mirror *mirror)
{
    const struct mirror_resync *resync = &mirror->resync;

    if (resync->state == RESYNC_IDLE || resync->aborted) {
        return 0;
    }
    return 1u << resync->target & mirror->open & ~mirror->row.in_sync;
}

bool
mirror_resync_is_settled(const struct mirror *mirror)
{
    return mirror->resync.state == RESYNC_IDLE;
}

static void
mirror_resync_unlock(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;

    if (list_is_linked(&resync->lock.node)) {
        range_lock_release(&mirror->locks, &resync->lock);
    }
    resync->locked = false;
}

static void
mirror_resync_end_if_aborted(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;

    if (resync->aborted && !resync->busy) {
        mirror_resync_unlock(mirror);
        io_timer_cancel(mirror->io, &resync->pace);
        resync->state = RESYNC_IDLE;
        resync->aborted = false;
        mirror_kick(mirror);
    }
}

void
mirror_resync_abort(struct mirror *mirror)
{
    if (mirror->resync.state != RESYNC_IDLE) {
        mirror->resync.aborted = true;
        mirror_resync_end_if_aborted(mirror);
    }
}

/* Ends the target's session: it comes back in a new one, after a while. */
static void
mirror_resync_give_up(struct mirror *mirror, int result, const char *what)
{
    struct mirror_replica *target =
        mirror_replica_of(mirror, mirror->resync.target);

    mirror_notify(mirror, "resync-failed", "replica %u: %s (%d)", target->index,
                  what, result);
    mirror_replica_fail(target, target->session, result, what);
    mirror_resync_abort(mirror);
}

/* ---- Beginning ---- */

static void
mirror_resync_choose(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;
    uint64_t now_ns = io_now_ns(mirror->io);
    uint32_t stale = mirror->open & ~mirror->row.in_sync;
    uint64_t soonest_ns = UINT64_MAX;

    for (uint32_t i = 0; i < mirror->row.replica_count; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        if ((stale & 1u << i) == 0) {
            continue;
        }
        if (replica->rejoin_at_ns > now_ns) {
            if (replica->rejoin_at_ns < soonest_ns) {
                soonest_ns = replica->rejoin_at_ns;
            }
            continue;
        }
        resync->state = RESYNC_JOIN;
        resync->target = i;
        resync->source = mirror_replica_nearest(mirror, mirror->trusted);
        resync->join_sequence =
            store_seq_make(mirror->options.epoch, mirror->counter);
        resync->since = replica->known_good;
        if (mirror_planted(mirror, MIRROR_PLANTED_RESYNC_OWN_G)) {
            resync->since = replica->max_sequence;
        }
        resync->region = 0;
        resync->unit = 0;
        resync->unit_blocks = 0;
        resync->busy = false;
        resync->aborted = false;
        resync->copied = 0;
        resync->pace_ns = now_ns;
        mirror_notify(mirror, "resync-started", "replica %u", i);
        return;
    }
    if (soonest_ns != UINT64_MAX) {
        io_timer_set(mirror->io, &resync->pace, soonest_ns);
    }
}

/* ---- Region by region ---- */

static void
mirror_resync_list(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;
    uint64_t block = resync->region * STORE_REGION_BLOCKS;

    if (block >= mirror->options.size_blocks) {
        resync->state = RESYNC_DONE;
        mirror_kick(mirror);
        return;
    }
    resync->state = RESYNC_LIST;
    resync->busy = true;
    mirror_listing_start(mirror, 1u << resync->source | 1u << resync->target,
                         block, resync->since, mirror_resync_listed);
}

static void
mirror_resync_listed(struct mirror_listing *listing, int result)
{
    struct mirror *mirror = listing->mirror;
    struct mirror_resync *resync = &mirror->resync;

    resync->busy = false;
    mirror_resync_end_if_aborted(mirror);
    mirror_kick(mirror);
    if (resync->state == RESYNC_IDLE || result != 0) {
        return; /* In LIST the pump asks again. */
    }
    if (mirror_planted(mirror, MIRROR_PLANTED_IGNORE_TARGET)) {
        listing->set = 1u << resync->source;
        for (uint32_t i = 0; i < listing->leg[resync->source].req.entries_count;
             i++) {
            listing->entries[resync->source][i].digest = 0;
        }
    }
    /* Whoever helps with an unreadable block gets the unit, too. */
    resync->unit_blocks =
        mirror_unit_blocks(mirror, mirror->trusted | 1u << resync->source |
                                       1u << resync->target);
    (void)mirror_listing_units(mirror, resync->unit_blocks, resync->units);
    resync->touch = mirror_listing_absent(mirror, resync->source,
                                          resync->unit_blocks, resync->absent);
    resync->unit = 0;
    resync->state = RESYNC_PACE;
}

/* ---- Unit by unit ---- */

static void
mirror_resync_lock(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;

    resync->unit = mirror_unit_after(resync->units, resync->touch,
                                     resync->absent, resync->unit);
    if (resync->unit >= 2 * (uint64_t)DECIDE_UNITS_MAX) {
        resync->region++;
        resync->unit = 0;
        mirror_resync_list(mirror);
        return;
    }
    resync->state = RESYNC_LOCK;
    resync->locked = false;
    if (mirror_planted(mirror, MIRROR_PLANTED_RESYNC_NO_LOCK)) {
        resync->locked = true;
        mirror_kick(mirror);
        return;
    }
    range_lock_acquire(&mirror->locks, &resync->lock,
                       resync->region * STORE_REGION_BLOCKS +
                           resync->unit % DECIDE_UNITS_MAX *
                               resync->unit_blocks,
                       resync->unit_blocks, true);
}

static void
mirror_resync_granted(struct range_lock *lock)
{
    struct mirror_resync *resync =
        container_of(lock, struct mirror_resync, lock);

    resync->locked = true;
    mirror_resync_pump(container_of(resync, struct mirror, resync));
}

static void
mirror_resync_copy(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;
    struct mirror_copy *copy = &mirror->copy;

    resync->state = RESYNC_COPY;
    resync->busy = true;
    copy->done = mirror_resync_copied;
    copy->live = true;
    copy->source = resync->source;
    copy->helpers = mirror->trusted & ~(1u << resync->source);
    copy->targets = 1u << resync->target;
    copy->block = resync->region * STORE_REGION_BLOCKS +
                  resync->unit % DECIDE_UNITS_MAX * resync->unit_blocks;
    copy->block_count = resync->unit_blocks;
    mirror_copy_start(copy);
}

static void
mirror_resync_copied(struct mirror_copy *copy, int result)
{
    struct mirror *mirror = copy->mirror;
    struct mirror_resync *resync = &mirror->resync;

    resync->busy = false;
    mirror_kick(mirror);
    mirror_resync_end_if_aborted(mirror);
    if (resync->state == RESYNC_IDLE) {
        return;
    }
    if (result == -EIO) {
        mirror_resync_give_up(mirror, result,
                              "no in-sync replica can read a block that it "
                              "needs");
        return;
    }
    if (result != 0) {
        resync->state = RESYNC_LOCK; /* Still locked: again, from the read. */
        return;
    }
    mirror_resync_unlock(mirror);
    resync->copied++;
    resync->touch = resync->touch && !copy->empty;
    resync->unit++;
    resync->state = RESYNC_PACE;
    uint64_t rate = mirror->options.resync_bytes_per_s;
    if (rate != 0) {
        uint64_t now_ns = io_now_ns(mirror->io);
        uint64_t bytes = (uint64_t)resync->unit_blocks * WEFT_BLOCK_SIZE;
        resync->pace_ns =
            (resync->pace_ns > now_ns ? resync->pace_ns : now_ns) +
            bytes * NS_PER_S / rate;
    }
}

static void
mirror_resync_paced(struct io_timer *timer)
{
    struct mirror_resync *resync =
        container_of(timer, struct mirror_resync, pace);

    mirror_kick(container_of(resync, struct mirror, resync));
}

/* Whether all writes that began before the target joined are done (1). */
static bool
mirror_resync_has_joined(const struct mirror *mirror)
{
    const struct mirror_resync *resync = &mirror->resync;

    if (list_is_empty(&mirror->writes)) {
        return true;
    }
    const struct mirror_io *oldest =
        container_of(mirror->writes.next, struct mirror_io, order);
    return oldest->sequence > resync->join_sequence;
}

/* The in-sync replicas are equal: any of them can go on as the source. */
static void
mirror_resync_check_source(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;

    if ((mirror->trusted & 1u << resync->source) == 0) {
        resync->source = mirror_replica_nearest(mirror, mirror->trusted);
        if (resync->state == RESYNC_LIST || resync->state == RESYNC_LOCK ||
            resync->state == RESYNC_PACE) {
            /* Slot sizes may differ: the region's list is made anew. */
            mirror_resync_unlock(mirror);
            resync->state = RESYNC_LIST;
        }
    }
}

void
mirror_resync_pump(struct mirror *mirror)
{
    struct mirror_resync *resync = &mirror->resync;

    if (!mirror_is_open(mirror) || mirror->trusted != mirror->row.in_sync ||
        resync->busy) {
        return;
    }
    if (mirror->stopping) {
        mirror_resync_abort(mirror); /* Its lock may be in somebody's way. */
        return;
    }
    if (resync->aborted) {
        mirror_resync_end_if_aborted(mirror);
        return;
    }
    if (resync->state != RESYNC_IDLE) {
        mirror_resync_check_source(mirror);
    }
    switch (resync->state) {
    case RESYNC_IDLE:
        mirror_resync_choose(mirror);
        if (resync->state == RESYNC_JOIN) {
            mirror_kick(mirror);
        }
        break;
    case RESYNC_JOIN:
        if (mirror_resync_has_joined(mirror)) {
            mirror_resync_list(mirror);
        }
        break;
    case RESYNC_LIST:
        mirror_resync_list(mirror);
        break;
    case RESYNC_LOCK:
        if (resync->locked) {
            mirror_resync_copy(mirror);
        }
        break;
    case RESYNC_PACE:
        if (resync->pace_ns > io_now_ns(mirror->io)) {
            io_timer_set(mirror->io, &resync->pace, resync->pace_ns);
        } else {
            mirror_resync_lock(mirror);
        }
        break;
    case RESYNC_COPY:
    case RESYNC_DONE:
        break;
    }
}
