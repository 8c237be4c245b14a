/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"

/* Grey failures (rule 3, S20): replicas that are slow, or hang, without saying
 * so.  Two signs, looked for at each tick:
 *
 *   slow   a write is pending there for longer than the limit, while another
 *          host's replica answered the same write in time
 *   hung   something is pending there, and for longer than the limit nothing at
 *          all has been answered (a flush alone may take four times as long);
 *          or a single read takes four times as long (a bad sector)
 *
 *   (1) Evidence must come from another host, or it may be this one that is
 *       slow.  For a replica that hangs it is got by a probe: a small read at
 *       another host's replica that is answered in time.
 *   (2) Whoever is set aside loses its session, and its link is cut: what it
 *       had settles now, wherever the disk is (link.h), so that the gate can
 *       drain and the set be committed without it.
 *   (3) Not below min_in_sync: it is better to be slow than to stand still.  It
 *       may come back after a wait that doubles each time (hysteresis).
 *   (4) In all phases: reconciles and rounds wait for replicas, too.
 *   (5) After half the limit the database is told that it may be needed: what
 *       ends a replica's host may end the database server that we talk to. */

#define PATIENCE 4u
#define PROBE_DEADLINE_NS (30 * NS_PER_S)

static store_req_done_fn mirror_probe_done;

void
mirror_replica_busy(struct mirror_replica *replica, const struct store_req *req)
{
    if (replica->busy++ == 0) {
        replica->progress_ns = io_now_ns(replica->mirror->io);
    }
    replica->busy_flushes += req->opcode == STORE_FLUSH;
    mirror_tick_arm(replica->mirror);
}

void
mirror_replica_answered(struct mirror_replica *replica,
                        const struct store_req *req)
{
    CHECK(replica->busy > 0);
    replica->busy--;
    replica->busy_flushes -= req->opcode == STORE_FLUSH;
    replica->progress_ns = io_now_ns(replica->mirror->io);
}

bool
mirror_slow_is_wanted(const struct mirror *mirror)
{
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if (mirror->replica[i].busy != 0) {
            return true;
        }
    }
    return false;
}

static uint32_t
mirror_slow_remote(const struct mirror *mirror)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if (mirror->replica[i].link != NULL &&
            !mirror_replica_is_local(&mirror->replica[i])) {
            set |= 1u << i;
        }
    }
    return set;
}

/* Those of the set that may be set aside on the evidence of 'witnesses'. */
static uint32_t
mirror_slow_decide(const struct mirror *mirror, uint32_t set,
                   uint32_t witnesses)
{
    return decide_slow(set, witnesses, mirror_slow_remote(mirror),
                       mirror->row.in_sync, mirror->options.min_in_sync);
}

static void
mirror_slow_set_aside(struct mirror *mirror, uint32_t set, const char *what)
{
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        struct mirror_replica *replica = mirror_replica_of(mirror, i);
        if ((set & 1u << i) == 0 || replica->link == NULL ||
            (mirror_planted(mirror, MIRROR_PLANTED_LOCAL_HANGS) &&
             mirror_replica_is_local(replica))) {
            continue;
        }
        mirror_replica_fail(replica, replica->session, -ETIMEDOUT, what);
        link_cut(replica->link); /* (2) */
    }
}

/* ---- Slow ---- */

static void
mirror_slow_writes(struct mirror *mirror, uint64_t now_ns)
{
    uint32_t slow = 0;

    LIST_FOREACH (node, &mirror->writes) {
        const struct mirror_io *io =
            container_of(node, struct mirror_io, order);
        if (io->pending != 0 &&
            now_ns - io->sent_ns > mirror->options.slow_ns) {
            slow |= io->pending &
                    mirror_slow_decide(mirror, io->pending, io->prompt);
        }
    }
    slow &= decide_slow(slow, ~slow, ~0u, mirror->row.in_sync,
                        mirror->options.min_in_sync);
    mirror_slow_set_aside(mirror, slow & mirror->open, "too slow");
}

/* ---- Hung ---- */

static uint32_t
mirror_slow_hung(const struct mirror *mirror, uint64_t now_ns)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        uint64_t limit_ns = mirror->options.slow_ns;
        if (replica->busy == replica->busy_flushes) {
            limit_ns *= PATIENCE;
        }
        if (replica->busy != 0 && now_ns - replica->progress_ns > limit_ns) {
            set |= 1u << i;
        }
    }
    if (!list_is_empty(&mirror->reads)) {
        const struct mirror_io *oldest =
            container_of(mirror->reads.next, struct mirror_io, order);
        if (now_ns - oldest->sent_ns > PATIENCE * mirror->options.slow_ns) {
            set |= oldest->pending;
        }
    }
    return set;
}

/* Of those: who may go, on this evidence.  A session that is over anyway (with
 * requests that have yet to settle) is not protected by (3). */
static uint32_t
mirror_slow_sentence(const struct mirror *mirror, uint32_t hung,
                     uint32_t witnesses)
{
    uint32_t closed = hung & ~mirror->open;
    uint32_t set = mirror_slow_decide(mirror, hung & mirror->open, witnesses);

    if ((witnesses & ~hung) != 0) {
        set |= closed;
    }
    return set;
}

static void
mirror_slow_ask(struct mirror *mirror, uint64_t now_ns, uint32_t hung)
{
    struct mirror_probe *probe = &mirror->probe;
    uint32_t witnesses = mirror->open & mirror_slow_remote(mirror) & ~hung;

    if (probe->busy || witnesses == 0 ||
        mirror_slow_sentence(mirror, hung, witnesses) == 0) {
        return;
    }
    probe->busy = true;
    probe->index = mirror_replica_nearest(mirror, witnesses);
    probe->sent_ns = now_ns;
    struct mirror_replica *replica = mirror_replica_of(mirror, probe->index);
    mirror_req_prepare(replica, &probe->req, STORE_READ, mirror_probe_done);
    probe->req.block = 0;
    probe->req.block_count = 1;
    probe->req.data = probe->data;
    probe->req.crcs = &probe->crc;
    probe->req.states = &probe->state;
    mirror_req_limit(replica, &probe->req, PROBE_DEADLINE_NS);
    /* Not counted in in_flight: the judge need not wait for it. */
    mirror_replica_busy(replica, &probe->req);
    link_submit(replica->link, &probe->req);
}

static void
mirror_probe_done(struct store_req *req)
{
    struct mirror_probe *probe = container_of(req, struct mirror_probe, req);
    struct mirror *mirror = container_of(probe, struct mirror, probe);
    struct mirror_replica *replica = mirror_replica_of(mirror, probe->index);
    uint64_t now_ns = io_now_ns(mirror->io);

    probe->busy = false;
    mirror_replica_answered(replica, req);
    mirror_kick(mirror); /* A row, or a stop, may have waited for it. */
    if (req->result != 0) {
        mirror_replica_fail(replica, req->session, req->result, "probe");
        return;
    }
    if (now_ns - probe->sent_ns <= mirror->options.slow_ns) {
        uint32_t hung = mirror_slow_hung(mirror, now_ns);
        mirror_slow_set_aside(mirror,
                              mirror_slow_sentence(mirror, hung,
                                                   1u << probe->index),
                              "it does not answer");
    }
}

/* ---- The tick ---- */

/* Whether a replica has kept silent for half the limit. */
static bool
mirror_slow_begins(const struct mirror *mirror, uint64_t now_ns)
{
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        if (replica->busy != 0 &&
            now_ns - replica->progress_ns > mirror->options.slow_ns / 2) {
            return true;
        }
    }
    return false;
}

void
mirror_slow_tick(struct mirror *mirror, uint64_t now_ns)
{
    struct mirror_meta *meta = mirror->options.meta;

    if (meta->expect != NULL && mirror->row.replica_count > 1 &&
        mirror_slow_begins(mirror, now_ns)) {
        meta->expect(meta);
    }
    mirror_slow_writes(mirror, now_ns);
    uint32_t hung = mirror_slow_hung(mirror, now_ns);
    if (hung != 0) {
        mirror_slow_ask(mirror, now_ns, hung);
    }
}
