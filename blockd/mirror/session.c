/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"

/* Sessions: one a replica, opened by FENCE, over at the first failure.
 *
 *     IDLE --link up, not waiting--> FENCING --0--> OPEN
 *      ^                                |             |
 *      +-- wait (10 ms .. 1 s) <--------+-------------+  any failure
 *
 *   (1) A request that failed leaves its effect unknown; only a new session
 *       closes the old one's late requests off (S16).  So every failure but
 *       -ENOSPC ends the session, and a new one never makes the replica
 *       trusted: commit or reconcile (in sync), or resync (stale) must follow.
 *   (2) Failures name their session: an answer of an old one changes nothing.
 *   (3) FENCE answered by -ESTALE means a higher epoch: the mirror is fenced.
 *       Data requests that get -ESTALE only end the session: the FENCE that
 *       follows tells whether it was a restarted store or a new owner. */

#define FENCE_DEADLINE_NS (5 * NS_PER_S)
#define FENCE_LOCAL_DEADLINE_NS (10 * NS_PER_S)
/* See mirror_replica_is_lame(). */
#define LAME_FACTOR 3u
#define LAME_NS (2 * NS_PER_MS)
#define LAME_AGAIN_NS NS_PER_S
#define RETRY_FIRST_NS (10 * NS_PER_MS)
#define RETRY_LAST_NS NS_PER_S
#define PENALTY_FIRST_NS NS_PER_S
#define PENALTY_LAST_NS (60 * NS_PER_S)
#define PENALTY_FORGET_NS (600 * NS_PER_S)

static link_user_fn mirror_link_changed;
static io_timer_fn mirror_replica_retry;
static store_req_done_fn mirror_fence_done;

void
mirror_replica_init(struct mirror *mirror, uint32_t index, struct link *link)
{
    struct mirror_replica *replica = mirror_replica_of(mirror, index);

    *replica = (struct mirror_replica){
        .mirror = mirror,
        .index = index,
        .link = link,
        .retry_ns = RETRY_FIRST_NS,
        .rejoin_wait_ns = PENALTY_FIRST_NS,
        .trouble = -ENOTCONN,
        .trouble_what = "no link",
    };
    io_timer_init(&replica->retry, mirror_replica_retry);
    if (link != NULL) {
        link_user_add(link, &replica->user, mirror_link_changed);
        replica->trouble_what = "link down";
    }
}

void
mirror_replica_done(struct mirror_replica *replica)
{
    CHECK(replica->phase != REPLICA_FENCING);
    CHECK(!replica->round_pending);
    CHECK(replica->busy == 0);

    io_timer_cancel(replica->mirror->io, &replica->retry);
    if (replica->link != NULL) {
        link_user_remove(replica->link, &replica->user);
        replica->link = NULL;
    }
}

/* ---- Requests ---- */

void
mirror_req_prepare(struct mirror_replica *replica, struct store_req *req,
                   enum store_opcode opcode, store_req_done_fn *done)
{
    struct mirror *mirror = replica->mirror;

    *req = (struct store_req){
        .done = done,
        .opcode = opcode,
        .replica = mirror->row.replica[replica->index],
        .epoch = mirror->options.epoch,
        .session = replica->session,
        .deadline_ns = IO_NEVER,
        .layer = mirror->options.layer,
    };
    list_init(&req->node);
}

void
mirror_req_limit(struct mirror_replica *replica, struct store_req *req,
                 uint64_t after_ns)
{
    const struct mirror *mirror = replica->mirror;

    /* Without other replicas nobody can go on while this disk hangs, and a
     * local link saves a copy if it need not let go (link_local.h). */
    if (!mirror_replica_is_local(replica) || mirror->row.replica_count > 1) {
        req->deadline_ns = io_now_ns(mirror->io) + after_ns;
    }
}

void
mirror_req_send(struct mirror_replica *replica, struct store_req *req)
{
    replica->mirror->in_flight++;
    mirror_replica_busy(replica, req);
    link_submit(replica->link, req);
}

void
mirror_req_settled(struct mirror_replica *replica, const struct store_req *req)
{
    struct mirror *mirror = replica->mirror;

    CHECK(mirror->in_flight > 0);
    mirror->in_flight--;
    mirror_replica_answered(replica, req);
    if (mirror->in_flight == 0 && !mirror_is_open(mirror)) {
        mirror_kick(mirror);
    }
}

/* A local disk is asked even if it takes somewhat longer: it costs the others
 * and the network nothing.  If it takes much longer, then only now and then, to
 * see whether it still does. */
static bool
mirror_replica_is_lame(struct mirror *mirror,
                       const struct mirror_replica *local, uint64_t remote_ns)
{
    uint64_t now_ns = io_now_ns(mirror->io);

    if (local->link->latency_ns <= LAME_FACTOR * remote_ns + LAME_NS) {
        return false;
    }
    if (now_ns >= mirror->next_lame_read_ns) {
        mirror->next_lame_read_ns = now_ns + LAME_AGAIN_NS;
        return false;
    }
    return true;
}

uint32_t
mirror_replica_nearest(struct mirror *mirror, uint32_t candidates)
{
    uint32_t best = STORE_REPLICAS_MAX; /* Of other hosts. */
    uint32_t local = STORE_REPLICAS_MAX;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        if ((candidates & 1u << i) == 0) {
            continue;
        }
        if (mirror_replica_is_local(replica)) {
            local = i;
        } else if (best == STORE_REPLICAS_MAX ||
                   replica->link->latency_ns <
                       mirror->replica[best].link->latency_ns) {
            best = i;
        }
    }
    if (local != STORE_REPLICAS_MAX &&
        (best == STORE_REPLICAS_MAX ||
         !mirror_replica_is_lame(mirror, &mirror->replica[local],
                                 mirror->replica[best].link->latency_ns))) {
        return local;
    }
    CHECK(best < STORE_REPLICAS_MAX);
    return best;
}

/* ---- The end of a session ---- */

static void
mirror_replica_wait(struct mirror_replica *replica)
{
    struct io *io = replica->mirror->io;

    io_timer_set(io, &replica->retry, io_now_ns(io) + replica->retry_ns);
    replica->retry_ns *= 2;
    if (replica->retry_ns > RETRY_LAST_NS) {
        replica->retry_ns = RETRY_LAST_NS;
    }
}

/* It was of use. */
void
mirror_replica_praise(struct mirror_replica *replica)
{
    replica->retry_ns = RETRY_FIRST_NS;
}

/* Not to be resynced for a while: longer each time. */
static void
mirror_replica_penalty(struct mirror_replica *replica)
{
    uint64_t now_ns = io_now_ns(replica->mirror->io);

    if (now_ns > replica->rejoin_at_ns + PENALTY_FORGET_NS) {
        replica->rejoin_wait_ns = PENALTY_FIRST_NS;
    }
    replica->rejoin_at_ns = now_ns + replica->rejoin_wait_ns;
    replica->rejoin_wait_ns *= 2;
    if (replica->rejoin_wait_ns > PENALTY_LAST_NS) {
        replica->rejoin_wait_ns = PENALTY_LAST_NS;
    }
}

void
mirror_replica_fail(struct mirror_replica *replica, uint64_t session,
                    int result, const char *what)
{
    struct mirror *mirror = replica->mirror;
    uint32_t bit = 1u << replica->index;

    if (replica->phase != REPLICA_OPEN || replica->session != session) {
        return; /* (2) */
    }
    log_debug("mirror", "session over replica=%u in_sync=%u result=%d what=%s",
              replica->index, (mirror->row.in_sync & bit) != 0 ? 1u : 0u,
              result, what);
    replica->phase = REPLICA_IDLE;
    replica->trouble = result;
    replica->trouble_what = what;
    mirror->open &= ~bit;
    mirror->trusted &= ~bit;
    mirror->persisted &= ~bit;
    mirror->growing &= ~bit;
    if (mirror->resync.state != RESYNC_IDLE &&
        mirror->resync.target == replica->index) {
        mirror_resync_abort(mirror);
    }
    if (mirror->reconcile.active && (mirror->reconcile.set & bit) != 0) {
        mirror->reconcile.broken = true;
    }
    /* It is not gone, it is of no use: a disk that has a sector that cannot be
     * written would otherwise be resynced each second for ever.  Other failures
     * (a link, a restart) are over when it is back. */
    if (!mirror_planted(mirror, MIRROR_PLANTED_NO_PENALTY) &&
        (result == -EIO || result == -ENOSPC || result == -ETIMEDOUT)) {
        mirror_replica_penalty(replica);
    }
    mirror_replica_wait(replica);
    mirror_kick(mirror);
}

/* ---- FENCE ---- */

void
mirror_replica_try_fence(struct mirror_replica *replica)
{
    struct mirror *mirror = replica->mirror;

    if (replica->phase != REPLICA_IDLE || replica->link == NULL ||
        replica->link->state != LINK_UP || io_timer_is_armed(&replica->retry) ||
        mirror->phase >= PHASE_CLOSING || replica->round_pending ||
        mirror->row_pending) {
        return;
    }
    replica->phase = REPLICA_FENCING;
    mirror_req_prepare(replica, &replica->fence, STORE_FENCE,
                       mirror_fence_done);
    replica->fence.owner_instance = mirror->options.owner_instance;
    replica->fence.session = 0;
    /* Even where nobody could go on without it: a row that takes it out, and a
     * stop, wait for the answer. */
    replica->fence.deadline_ns =
        io_now_ns(mirror->io) + (mirror_replica_is_local(replica)
                                     ? FENCE_LOCAL_DEADLINE_NS
                                     : FENCE_DEADLINE_NS);
    link_submit(replica->link, &replica->fence);
}

/* The answer comes from another machine: it is checked, not believed. */
static bool
mirror_fence_is_sane(const struct store_req *req)
{
    uint32_t blocks = req->slot_blocks;

    return req->session != 0 && blocks >= 4 && blocks <= STORE_REQ_BLOCKS_MAX &&
           (blocks & (blocks - 1)) == 0 &&
           req->membership.in_sync_count <= STORE_REPLICAS_MAX;
}

static void
mirror_replica_opened(struct mirror_replica *replica)
{
    struct mirror *mirror = replica->mirror;
    const struct store_req *req = &replica->fence;

    replica->phase = REPLICA_OPEN;
    replica->session = req->session;
    replica->incarnation = req->incarnation;
    replica->session_incarnation = req->session_incarnation;
    replica->known_good = req->known_good_out;
    replica->max_sequence = req->max_sequence;
    replica->slot_blocks = req->slot_blocks;
    replica->membership = req->membership;
    /* A new owner, or a new session: whatever is there may not be flushed. */
    replica->mutations_sent++;
    replica->mutations_done = replica->mutations_sent;
    replica->trouble = 0;
    replica->trouble_what = NULL;
    mirror->open |= 1u << replica->index;
    if (mirror_planted(mirror, MIRROR_PLANTED_TRUST_RETURNED) &&
        !mirror->initial) {
        mirror->trusted |= 1u << replica->index & mirror->row.in_sync;
    }

    /* An owner that goes on with the same epoch (S22) must not use a number
     * twice; with a new epoch all are higher by themselves. */
    uint64_t counter = req->max_sequence & STORE_SEQ_COUNTER_MAX;
    if (req->max_sequence >> STORE_SEQ_COUNTER_BITS == mirror->options.epoch &&
        counter > mirror->counter && mirror->initial) {
        mirror->counter = counter;
    }
}

static void
mirror_fence_done(struct store_req *req)
{
    struct mirror_replica *replica =
        container_of(req, struct mirror_replica, fence);
    struct mirror *mirror = replica->mirror;

    CHECK(replica->phase == REPLICA_FENCING);
    replica->phase = REPLICA_IDLE;
    mirror_kick(mirror);
    if (mirror->phase >= PHASE_CLOSING) {
        return;
    }
    int result = req->result;
    if (result == 0 && !mirror_fence_is_sane(req)) {
        result = -EPROTO;
    }
    if (result == -ESTALE) {
        /* (3) */
        mirror_die(mirror, -ESTALE, "a replica knows a higher epoch");
        return;
    }
    if (result != 0) {
        replica->trouble = result;
        replica->trouble_what = "fence";
        mirror_replica_wait(replica);
        return;
    }
    mirror_replica_opened(replica);
}

static void
mirror_replica_retry(struct io_timer *timer)
{
    struct mirror_replica *replica =
        container_of(timer, struct mirror_replica, retry);

    mirror_replica_try_fence(replica);
}

static void
mirror_link_changed(struct link_user *user, enum link_state state)
{
    struct mirror_replica *replica =
        container_of(user, struct mirror_replica, user);
    struct mirror *mirror = replica->mirror;

    if (state == LINK_UP) {
        io_timer_cancel(mirror->io, &replica->retry);
        replica->retry_ns = RETRY_FIRST_NS;
        mirror_replica_try_fence(replica);
    } else {
        mirror_replica_fail(replica, replica->session, -ENOTCONN, "link down");
        /* If it was cut because it did not answer, that remains the cause. */
        if (replica->phase == REPLICA_IDLE && replica->trouble != -ETIMEDOUT) {
            replica->trouble = -ENOTCONN;
            replica->trouble_what = "link down";
        }
    }
    mirror_kick(mirror);
}
