/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"

/* Membership commits (S11), with the gate closed.
 *
 *   (1) Memory follows rows that the database returned, nothing else.
 *   (2) After an unknown outcome the row is read.  If it still shows the old
 *       view, that proves nothing: the first transaction may be on its way
 *       yet.  Only a compare-and-set at that view settles it: ours succeeds,
 *       and the first can never apply; or it fails, and says what the row is.
 *       Until then 'commit_unknown' keeps the gate closed (a growth that came
 *       true behind our back would let the row promise a replica that misses
 *       writes).
 *   (3) Once we are fenced, nothing is committed. */

#define COMMIT_WAIT_FIRST_NS (20 * NS_PER_MS)
#define COMMIT_WAIT_LAST_NS NS_PER_S

static mirror_commit_done_fn mirror_commit_done;

static void
mirror_commit_send(struct mirror *mirror, bool reread)
{
    struct mirror_commit *op = &mirror->commit;

    op->done = mirror_commit_done;
    op->volume = mirror->options.volume;
    op->owner_instance = mirror->options.owner_instance;
    op->mirror = mirror->row.mirror;
    op->epoch = mirror->options.epoch;
    op->view = mirror->row.view;
    op->reread = reread;
    op->owner_lost = false;
    op->ret_row = mirror->row;
    list_init(&op->node);
    mirror->commit_pending = true;
    mirror->phase = PHASE_COMMIT;
    mirror->options.meta->commit(mirror->options.meta, op);
}

void
mirror_commit_begin(struct mirror *mirror, uint32_t set, const char *why)
{
    CHECK(!mirror->commit_pending);
    CHECK(set != 0);
    CHECK(mirror->in_flight == 0);
    CHECK(mirror->fatal == 0); /* (3) */

    mirror->commit.in_sync = set;
    mirror->commit.why = why;
    mirror_commit_send(mirror, false);
}

void
mirror_commit_reread(struct mirror *mirror, const char *why)
{
    CHECK(!mirror->commit_pending);
    mirror->commit.why = why;
    mirror_commit_send(mirror, true);
}

static void
mirror_commit_done(struct mirror_commit *op, int result)
{
    struct mirror *mirror = container_of(op, struct mirror, commit);

    CHECK(mirror->commit_pending);
    mirror->commit_pending = false;
    op->result = result;
    mirror_kick(mirror);
}

static void
mirror_row_tell(struct mirror *mirror, uint32_t before)
{
    for (uint32_t i = 0; i < mirror->row.replica_count; i++) {
        uint32_t bit = 1u << i;
        if ((before & ~mirror->row.in_sync & bit) != 0) {
            const struct mirror_replica *replica = &mirror->replica[i];
            mirror_notify(mirror, "replica-stale",
                          "replica %u is stale since view %llu: %s (%d)", i,
                          (unsigned long long)mirror->row.view,
                          replica->trouble_what != NULL ? replica->trouble_what
                                                        : "set aside",
                          replica->trouble);
        } else if ((mirror->row.in_sync & ~before & bit) != 0) {
            mirror_notify(mirror, "replica-in-sync",
                          "replica %u is in sync since view %llu", i,
                          (unsigned long long)mirror->row.view);
        }
    }
}

void
mirror_row_adopt(struct mirror *mirror, const struct mirror_row *row)
{
    uint32_t before = mirror->row.in_sync;

    CHECK(row->in_sync != 0);
    CHECK(row->replica_count >= 1);
    CHECK(row->replica_count <= STORE_REPLICAS_MAX);
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        /* Another hand put another replica there. */
        if (!uuid_equal(&row->replica[i], &mirror->row.replica[i])) {
            struct mirror_replica *replica = mirror_replica_of(mirror, i);
            mirror_replica_fail(replica, replica->session, -ENXIO, "replaced");
        }
    }
    mirror->row = *row;
    mirror->row_read = true;
    mirror->persisted = 0;
    mirror->commit_unknown = false;
    mirror->commit_wait_ns = COMMIT_WAIT_FIRST_NS;

    /* What was flushed for the growth and has not failed since is equal: the
     * gate has been closed all the time. */
    mirror->trusted |= mirror->growing & mirror->open & row->in_sync;
    mirror->growing = 0;
    uint32_t out = mirror->trusted & ~row->in_sync;
    mirror->trusted &= row->in_sync;
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        /* S16: it comes back in a new session only. */
        if ((out & 1u << i) != 0) {
            struct mirror_replica *replica = mirror_replica_of(mirror, i);
            mirror_replica_fail(replica, replica->session, -ESTALE,
                                "no longer in sync");
        }
    }
    mirror_row_tell(mirror, before);
}

static void
mirror_commit_retry(struct mirror *mirror)
{
    mirror->commit_unknown = true;
    mirror->phase = PHASE_COMMIT_WAIT;
    mirror_hold(mirror,
                "the database does not answer, and a change of the in-sync "
                "set is needed");
    io_timer_set(mirror->io, &mirror->commit_timer,
                 io_now_ns(mirror->io) + mirror->commit_wait_ns);
    mirror->commit_wait_ns *= 2;
    if (mirror->commit_wait_ns > COMMIT_WAIT_LAST_NS) {
        mirror->commit_wait_ns = COMMIT_WAIT_LAST_NS;
    }
}

/* Whether the provider gave a row that can be adopted. */
static bool
mirror_commit_row_is_sane(const struct mirror *mirror)
{
    const struct mirror_row *row = &mirror->commit.ret_row;

    return row->replica_count >= 1 &&
           row->replica_count <= STORE_REPLICAS_MAX && row->in_sync != 0 &&
           (row->in_sync >> row->replica_count) == 0 &&
           uuid_equal(&row->mirror, &mirror->row.mirror);
}

/* PHASE_COMMIT and PHASE_COMMIT_WAIT. */
void
mirror_commit_advance(struct mirror *mirror)
{
    struct mirror_commit *op = &mirror->commit;

    if (mirror->phase == PHASE_COMMIT_WAIT) {
        if (!io_timer_is_armed(&mirror->commit_timer)) {
            mirror_commit_reread(mirror, MIRROR_WHY_UNKNOWN);
        }
        return;
    }
    if (mirror->commit_pending) {
        return;
    }
    int result = op->result;
    if (result == -EAGAIN && !op->reread &&
        mirror_planted(mirror, MIRROR_PLANTED_UNKNOWN_IS_OK)) {
        op->ret_row = mirror->row;
        op->ret_row.view++;
        op->ret_row.in_sync = op->in_sync;
        result = 0;
    }
    if (op->owner_lost) {
        mirror_die(mirror, -ESTALE, "the volume has another owner");
        return;
    }
    if ((result != 0 && result != -ECANCELED) ||
        !mirror_commit_row_is_sane(mirror)) {
        mirror_commit_retry(mirror);
        return;
    }
    mirror->row_read = true;
    if (op->ret_row.view > mirror->row.view) {
        mirror_row_adopt(mirror, &op->ret_row);
    } else if (!op->reread) {
        /* Refused, and yet the row is as we know it (or older: rolled back
         * under our feet): not a settled outcome. */
        mirror_commit_retry(mirror);
        return;
    }
    /* A row read again that is unchanged: (2); the judge commits anew. */
    mirror->phase = PHASE_JUDGE;
    mirror_kick(mirror);
}
