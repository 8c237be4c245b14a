/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Writes and discards: to every in-sync replica, and to the one that is being
 * resynced, in one round trip.
 *
 *   (1) Acknowledged when every replica of the committed in-sync set has it.
 *       The resync target is waited for (it borrows the data), not counted.
 *   (2) What some of the set do not have is stuck until the gate opens again
 *       with a set of which all have it, or until they can be given it: those
 *       that are good are not asked twice, unless a reconcile took another's
 *       content, after which the write is made anew with a new number.
 *   (3) -ENOSPC changes nothing at the replica that says so, and does not end
 *       its session.  By policy the write waits for space (S7: the range is
 *       unequal meanwhile, and locked); or it fails, if no replica took it; or
 *       the full replicas are committed stale, if others did.
 *   (4) No error completes while replicas differ (S7): if the resync target
 *       has what the in-sync ones refused, its session ends. */

#define WRITE_DEADLINE_NS (30 * NS_PER_S)
#define SPACE_WAIT_FIRST_NS (50 * NS_PER_MS)
#define SPACE_WAIT_LAST_NS (2 * NS_PER_S)
#define COUNTER_RESERVE (UINT64_C(1) << 20)

static store_req_done_fn mirror_write_leg_done;
static void mirror_write_settle(struct mirror_io *io);

bool
mirror_counter_is_exhausted(const struct mirror *mirror)
{
    return mirror->counter >= STORE_SEQ_COUNTER_MAX - COUNTER_RESERVE;
}

static void
mirror_write_number(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t epoch = mirror->options.epoch;

    if (mirror_planted(mirror, MIRROR_PLANTED_OLD_COUNTERS)) {
        epoch = 1;
    }
    io->sequence = store_seq_make(epoch, ++mirror->counter);
    list_remove(&io->order);
    list_push_back(&mirror->writes, &io->order);
    if (mirror_counter_is_exhausted(mirror) && !mirror->counter_told) {
        mirror->counter_told = true;
        mirror_notify(mirror, "mirror-held",
                      "the write counter of this epoch is used up: attach the "
                      "volume anew");
    }
}

/* Sends to the replicas of 'set'; 'pending' is their set afterwards. */
static void
mirror_write_to(struct mirror_io *io, uint32_t set)
{
    struct mirror *mirror = io->mirror;

    CHECK(set != 0);
    CHECK(io->pending == 0);
    CHECK(mirror_is_open(mirror));

    io->pending = set;
    io->prompt = 0;
    io->sent_ns = io_now_ns(mirror->io);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((set & 1u << i) == 0) {
            continue;
        }
        struct mirror_replica *replica = mirror_replica_of(mirror, i);
        struct mirror_leg *leg = &io->leg[i];
        bool discard = io->kind == MIRROR_DISCARD;
        mirror_req_prepare(replica, &leg->req,
                           discard ? STORE_DISCARD : STORE_WRITE,
                           mirror_write_leg_done);
        leg->io = io;
        leg->index = i;
        leg->req.block = io->block;
        leg->req.block_count = io->block_count;
        leg->req.sequence = io->sequence;
        leg->req.data = discard ? NULL : io->data;
        leg->req.crcs = discard ? NULL : io->crcs;
        leg->req.crcs_hold = true; /* volume.c made them of this data. */
        /* S3: something older may lie beneath a young layer. */
        leg->req.discard_zero = mirror->options.layer > STORE_LAYER_FIRST;
        mirror_req_limit(replica, &leg->req, WRITE_DEADLINE_NS);
        replica->mutations_sent++;
        mirror_req_send(replica, &leg->req);
    }
    mirror_tick_arm(mirror);
}

void
mirror_write_send(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t extra = mirror_resync_bit(mirror);

    if (mirror_planted(mirror, MIRROR_PLANTED_NO_LIVE_WRITES)) {
        extra = 0;
    }
    mirror_write_number(io);
    mirror_write_to(io, mirror->row.in_sync | extra);
}

static void
mirror_write_leg_done(struct store_req *req)
{
    struct mirror_leg *leg = container_of(req, struct mirror_leg, req);
    struct mirror_io *io = leg->io;
    struct mirror *mirror = io->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, leg->index);
    uint32_t bit = 1u << leg->index;

    CHECK((io->pending & bit) != 0);
    io->pending &= ~bit;
    replica->mutations_done++;
    if (req->result == 0) {
        io->good |= bit;
        io->nospace &= ~bit;
        if (io_now_ns(mirror->io) - io->sent_ns <= mirror->options.slow_ns) {
            io->prompt |= bit;
        }
    } else if (req->result == -ENOSPC && (mirror->row.in_sync & bit) != 0) {
        io->nospace |= bit;
    } else {
        io->nospace &= ~bit;
        mirror_replica_fail(replica, req->session, req->result, "write");
    }
    mirror_req_settled(replica, req);
    if (io->pending == 0) {
        mirror_write_settle(io);
    }
}

/* Some in-sync replicas have no room, the others (if any) have the write. */
static void
mirror_write_no_space(struct mirror_io *io, uint32_t missing)
{
    struct mirror *mirror = io->mirror;
    uint32_t took = io->good & mirror->row.in_sync;

    if (!mirror->options.enospc_holds && took == 0) {
        /* Nothing changed anywhere that counts (4). */
        for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
            if ((io->good & 1u << i) != 0) {
                struct mirror_replica *replica = mirror_replica_of(mirror, i);
                mirror_replica_fail(replica, replica->session, -ENOSPC,
                                    "no space in sync");
            }
        }
        mirror_io_finish(io, -ENOSPC);
        return;
    }
    if (!mirror->options.enospc_holds &&
        decide_count(took) >= mirror->options.min_in_sync) {
        for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
            if ((missing & 1u << i) != 0) {
                struct mirror_replica *replica = mirror_replica_of(mirror, i);
                mirror_replica_fail(replica, replica->session, -ENOSPC,
                                    "no space");
            }
        }
        mirror_io_stick(io);
        return;
    }
    mirror_hold(mirror, "no space on the disk of a replica");
    mirror_io_stick(io);
    if (!io_timer_is_armed(&mirror->space_timer)) {
        if (mirror->space_wait_ns == 0) {
            mirror->space_wait_ns = SPACE_WAIT_FIRST_NS;
        }
        io_timer_set(mirror->io, &mirror->space_timer,
                     io_now_ns(mirror->io) + mirror->space_wait_ns);
        mirror->space_wait_ns *= 2;
        if (mirror->space_wait_ns > SPACE_WAIT_LAST_NS) {
            mirror->space_wait_ns = SPACE_WAIT_LAST_NS;
        }
    }
}

void
mirror_space_check(struct mirror *mirror)
{
    if (mirror->space_wait_ns == 0) {
        return;
    }
    LIST_FOREACH (node, &mirror->writes) {
        if (container_of(node, struct mirror_io, order)->nospace != 0) {
            return;
        }
    }
    mirror->space_wait_ns = 0;
    mirror_unhold(mirror);
}

void
mirror_space_retry(struct io_timer *timer)
{
    struct mirror *mirror = container_of(timer, struct mirror, space_timer);

    if (mirror_is_open(mirror)) {
        mirror_stuck_retry(mirror);
    }
}

static void
mirror_write_settle(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t missing = mirror->row.in_sync & ~io->good;

    if (mirror_planted(mirror, MIRROR_PLANTED_ACK_EARLY) && io->good != 0) {
        missing = 0;
    }
    if (missing == 0) {
        if (mirror->space_wait_ns != 0) {
            mirror_kick(mirror); /* Perhaps nobody waits for space any more. */
        }
        mirror_io_finish(io, 0); /* (1) */
    } else if (mirror->phase >= PHASE_CLOSING) {
        mirror_io_finish(io, mirror->fatal != 0 ? -ESTALE : -ESHUTDOWN);
    } else if ((missing & ~io->nospace) == 0) {
        mirror_write_no_space(io, missing);
    } else {
        mirror_io_stick(io);
    }
}

void
mirror_write_retry(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t missing = mirror->row.in_sync & ~io->good;

    if (!mirror_is_open(mirror)) {
        mirror_io_stick(io);
        return;
    }
    if (missing == 0) {
        mirror_io_finish(io, 0);
        return;
    }
    if ((io->good & mirror->row.in_sync) == 0) {
        io->good = 0; /* Nobody has it: as if it were new. */
        mirror_write_send(io);
        return;
    }
    uint32_t extra = mirror_resync_bit(mirror) & ~io->good;
    mirror_write_to(io, missing | extra);
}

void
mirror_write_reconciling(struct mirror *mirror, uint32_t source)
{
    LIST_FOREACH (node, &mirror->writes) {
        struct mirror_io *io = container_of(node, struct mirror_io, order);
        CHECK(io->pending == 0);
        if ((io->good & 1u << source) == 0) {
            io->good = 0;
        }
    }
}

void
mirror_write_spoiled(struct mirror *mirror, uint64_t block,
                     uint32_t block_count)
{
    LIST_FOREACH (node, &mirror->writes) {
        struct mirror_io *io = container_of(node, struct mirror_io, order);
        if (io->block < block + block_count &&
            block < io->block + io->block_count) {
            io->good = 0;
        }
    }
}

void
mirror_write_reconciled(struct mirror *mirror, uint32_t set, uint32_t source)
{
    LIST_FOREACH (node, &mirror->writes) {
        struct mirror_io *io = container_of(node, struct mirror_io, order);
        CHECK(io->pending == 0);
        if ((io->good & 1u << source) != 0) {
            io->good = set;
        }
    }
}
