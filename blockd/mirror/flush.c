/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

/* Flushes, the known-good point G, and the tick that drives the owner's own.
 *
 *   (1) A flush covers the writes completed before it was received; it goes to
 *       every in-sync replica with a mutation since its last successful flush
 *       (e), and succeeds when each has confirmed in an unchanged incarnation
 *       (S6).  One that did not is committed stale; it is not asked again.
 *   (2) The *complete point* is the sequence below the oldest write that is not
 *       done (or copy that gives out numbers of its own), or the last one given
 *       out: all writes up to it are at every in-sync replica.  When all
 *       in-sync replicas have confirmed a flush that was sent at a complete
 *       point, that becomes the *durable point*: no power cut can take a write
 *       up to it from any of them.
 *   (3) G is the durable point, not the complete point: it rides on the *next*
 *       flush to an in-sync replica, and on no other (S5, (b)).  Otherwise a
 *       replica A could have a G above what a power cut leaves of replica B; if
 *       B alone is there for the next owner, and A is resynced from B later,
 *       then what B lost and A has would not be newer than G at either, and
 *       they would differ for good.
 *   (4) An idle mirror whose replicas are flushed and know G is left alone. */

#define FLUSH_DEADLINE_NS (30 * NS_PER_S)

static store_req_done_fn mirror_flush_leg_done;

uint64_t
mirror_complete_point(const struct mirror *mirror)
{
    uint64_t point = store_seq_make(mirror->options.epoch, mirror->counter);

    if (!list_is_empty(&mirror->writes)) {
        const struct mirror_io *oldest =
            container_of(mirror->writes.next, struct mirror_io, order);
        point = oldest->sequence - 1;
    }
    /* A copy may have given out numbers of its own (copy.c (4)). */
    if (mirror->copy.state == COPY_PUT && mirror->copy.floor < point) {
        point = mirror->copy.floor;
    }
    return point;
}

void
mirror_durable(struct mirror *mirror, uint64_t point)
{
    if (point > mirror->durable) {
        mirror->durable = point;
    }
}

uint64_t
mirror_known_good(const struct mirror *mirror)
{
    if (mirror_planted(mirror, MIRROR_PLANTED_G_AHEAD)) {
        return store_seq_make(mirror->options.epoch, mirror->counter);
    }
    if (mirror_planted(mirror, MIRROR_PLANTED_G_COMPLETE)) {
        return mirror_complete_point(mirror);
    }
    return mirror->durable;
}

int
mirror_flush_answer(struct mirror_replica *replica, const struct store_req *req,
                    uint64_t mark)
{
    if (req->result != 0) {
        mirror_replica_fail(replica, req->session, req->result, "flush");
        return req->result;
    }
    if (replica->session != req->session) {
        return -ESTALE; /* An old session's: says nothing about this one. */
    }
    if (req->incarnation != replica->incarnation) {
        mirror_replica_fail(replica, req->session, -EIO, "lost its cache");
        return -EIO;
    }
    if (mark > replica->mutations_flushed) {
        replica->mutations_flushed = mark;
    }
    if (req->known_good > replica->known_good) {
        replica->known_good = req->known_good;
    }
    return 0;
}

static void
mirror_flush_to(struct mirror_io *io, uint32_t set)
{
    struct mirror *mirror = io->mirror;

    CHECK(set != 0);
    CHECK(io->pending == 0);

    io->pending = set;
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((set & 1u << i) == 0) {
            continue;
        }
        struct mirror_replica *replica = mirror_replica_of(mirror, i);
        struct mirror_leg *leg = &io->leg[i];
        mirror_req_prepare(replica, &leg->req, STORE_FLUSH,
                           mirror_flush_leg_done);
        leg->io = io;
        leg->index = i;
        leg->mark = replica->mutations_done;
        leg->req.known_good = mirror_known_good(mirror);
        mirror_req_limit(replica, &leg->req, FLUSH_DEADLINE_NS);
        mirror_req_send(replica, &leg->req);
    }
}

static void
mirror_flush_settle(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t missing = io->targets & mirror->row.in_sync & ~io->good;

    if (mirror_planted(mirror, MIRROR_PLANTED_FLUSH_IGNORE_FAILED)) {
        missing = 0;
    }
    if (missing == 0) {
        mirror_durable(mirror, io->sequence); /* (2) */
        mirror_io_finish(io, 0);
    } else if (mirror->phase >= PHASE_CLOSING) {
        mirror_io_finish(io, mirror->fatal != 0 ? -ESTALE : -ESHUTDOWN);
    } else {
        mirror_io_stick(io);
    }
}

static void
mirror_flush_leg_done(struct store_req *req)
{
    struct mirror_leg *leg = container_of(req, struct mirror_leg, req);
    struct mirror_io *io = leg->io;
    struct mirror *mirror = io->mirror;
    struct mirror_replica *replica = mirror_replica_of(mirror, leg->index);
    uint32_t bit = 1u << leg->index;

    CHECK((io->pending & bit) != 0);
    io->pending &= ~bit;
    if (mirror_flush_answer(replica, req, leg->mark) == 0) {
        io->good |= bit;
    }
    mirror_req_settled(replica, req);
    if (io->pending == 0) {
        mirror_flush_settle(io);
    }
}

/* In-sync replicas with something to flush; with 'known_good', also those that
 * have yet to hear of it. */
static uint32_t
mirror_flush_targets(struct mirror *mirror, bool known_good)
{
    uint64_t good = mirror_known_good(mirror);
    uint32_t set = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        if ((mirror->row.in_sync & 1u << i) != 0 &&
            (replica->mutations_done != replica->mutations_flushed ||
             (known_good && replica->known_good < good))) {
            set |= 1u << i;
        }
    }
    return set;
}

void
mirror_flush_send(struct mirror_io *io)
{
    io->targets = mirror_flush_targets(io->mirror, io->internal);
    io->sequence = mirror_complete_point(io->mirror);
    if (io->targets == 0) {
        mirror_io_finish_later(io, 0);
        return;
    }
    mirror_flush_to(io, io->targets);
}

void
mirror_flush_retry(struct mirror_io *io)
{
    struct mirror *mirror = io->mirror;
    uint32_t missing = io->targets & mirror->row.in_sync & ~io->good;

    if (!mirror_is_open(mirror)) {
        mirror_io_stick(io);
    } else if (missing == 0) {
        mirror_durable(mirror, io->sequence);
        mirror_io_finish(io, 0);
    } else {
        /* It was made equal and flushed by a reconcile since: a formality. */
        mirror_flush_to(io, missing);
    }
}

/* ---- The tick: slow replicas (slow.c) and the owner's flush (b) ---- */

static void
mirror_pacer_done(struct mirror_io *io)
{
    struct mirror *mirror = container_of(io, struct mirror, pacer);

    mirror->pacer_busy = false;
    mirror_tick_arm(mirror);
}

void
mirror_tick_arm(struct mirror *mirror)
{
    if (io_timer_is_armed(&mirror->tick) || mirror->phase == PHASE_ENDED) {
        return;
    }
    bool flushes =
        mirror->phase <= PHASE_DRAIN && mirror_flush_targets(mirror, true) != 0;
    if (!flushes && !mirror_slow_is_wanted(mirror)) {
        return;
    }
    uint64_t step_ns = mirror->options.slow_ns / 4;
    if (step_ns > mirror->options.flush_every_ns / 2) {
        step_ns = mirror->options.flush_every_ns / 2;
    }
    uint64_t now_ns = io_now_ns(mirror->io);
    if (mirror->next_flush_ns <= now_ns) {
        mirror->next_flush_ns = now_ns + mirror->options.flush_every_ns;
    }
    io_timer_set(mirror->io, &mirror->tick, now_ns + step_ns);
}

void
mirror_tick(struct io_timer *timer)
{
    struct mirror *mirror = container_of(timer, struct mirror, tick);
    uint64_t now_ns = io_now_ns(mirror->io);

    mirror_slow_tick(mirror, now_ns);
    if (now_ns >= mirror->next_flush_ns && !mirror->pacer_busy &&
        mirror_is_open(mirror) && !mirror->stopping &&
        mirror_flush_targets(mirror, true) != 0) {
        mirror->next_flush_ns = now_ns + mirror->options.flush_every_ns;
        mirror->pacer_busy = true;
        mirror_internal_submit(mirror, &mirror->pacer, MIRROR_FLUSH,
                               mirror_pacer_done);
    }
    mirror_tick_arm(mirror);
}
