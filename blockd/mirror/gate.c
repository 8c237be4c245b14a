/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "blockd/mirror/mirror_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

/* The gate: membership changes are a barrier (rule 8).
 *
 *           a replica failed, growth ready, row changed, stop
 *     OPEN --------------------------------> DRAIN
 *       ^                                      | nothing in flight
 *       | all trusted, view persisted          v
 *       +----------------------------------- JUDGE <---------------------+
 *                                              |                         |
 *          nothing possible: WAIT <------------+--> RECONCILE -----------+
 *          (any event: JUDGE)                  +--> COMMIT --------------+
 *                                              |      |  ^               |
 *                                              |      v  | timer: reread |
 *                                              |    COMMIT_WAIT          |
 *                                              +--> SET_VIEW ------------+
 *                                              +--> GROW_FLUSH --> COMMIT
 *                                              +--> STOP_FLUSH --> CLOSING
 *     any phase, stop without flush, or fenced: CLOSING --> ENDED
 *
 *   (1) With the gate closed no request is sent for a guest; those that are in
 *       flight settle and either complete (all of the in-sync set has them) or
 *       get stuck.  JUDGE and everything below it runs with nothing in flight,
 *       so that reconcile needs no range locks: stuck requests hold theirs.
 *   (2) What to do is decided by decide_membership() from the row, the
 *       sessions and the trust; this file only carries it out.
 *   (3) The gate opens only with trusted == in_sync, a settled row, and that
 *       row's view persisted on all of them (S12).
 *   (4) This file alone changes 'phase', but for commit.c and reconcile.c,
 *       which return theirs to JUDGE. */

void
mirror_kick(struct mirror *mirror)
{
    io_task_defer(mirror->io, &mirror->task);
}

void
mirror_notify(struct mirror *mirror, const char *kind, const char *format, ...)
{
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log_debug("mirror", "event kind=%s text=%s", kind, text);
    mirror->options.meta->notify(mirror->options.meta, mirror, kind, text);
}

void
mirror_hold(struct mirror *mirror, const char *format, ...)
{
    char text[sizeof mirror->reason];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (strcmp(text, mirror->reason) == 0) {
        return;
    }
    memcpy(mirror->reason, text, sizeof text);
    if (!mirror->initial || mirror->grace_over) {
        mirror->hold_told = true;
        mirror_notify(mirror, "mirror-held", "I/O waits: %s", text);
    }
}

void
mirror_unhold(struct mirror *mirror)
{
    mirror->reason[0] = '\0';
    if (mirror->hold_told) {
        mirror->hold_told = false;
        mirror_notify(mirror, "mirror-resumed", "I/O goes on");
    }
}

void
mirror_die(struct mirror *mirror, int result, const char *why)
{
    if (mirror->fatal != 0) {
        return;
    }
    mirror->fatal = result;
    (void)snprintf(mirror->reason, sizeof mirror->reason, "%s", why);
    mirror_notify(mirror, "mirror-fenced", "I/O has ended: %s", why);
    mirror_kick(mirror);
}

/* ---- OPEN ---- */

static bool
mirror_gate_must_close(const struct mirror *mirror)
{
    return mirror->trusted != mirror->row.in_sync || mirror->row_pending ||
           (mirror->resync.state == RESYNC_DONE && !mirror->resync.aborted) ||
           (mirror->stopping && mirror->ios == 0);
}

static void
mirror_gate_pump(struct mirror *mirror)
{
    struct list again;

    list_init(&again);
    list_splice_back(&again, &mirror->waiting);
    struct list *node;
    while ((node = list_pop_front(&again)) != NULL) {
        mirror_io_route(container_of(node, struct mirror_io, node));
    }
    mirror_space_check(mirror);
    mirror_repair_pump(mirror);
    mirror_resync_pump(mirror);
}

static void
mirror_gate_open(struct mirror *mirror)
{
    CHECK(mirror->trusted == mirror->row.in_sync);
    CHECK(!mirror->commit_unknown ||
          mirror_planted(mirror, MIRROR_PLANTED_UNKNOWN_IS_OK));

    mirror->phase = PHASE_OPEN;
    mirror->initial = false;
    if (mirror->closed_ns != 0 && mirror->ready_told) {
        uint64_t stall_ns = io_now_ns(mirror->io) - mirror->closed_ns;
        if (stall_ns > mirror->counts.longest_stall_ns) {
            mirror->counts.longest_stall_ns = stall_ns;
        }
    }
    mirror->closed_ns = 0;
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if ((mirror->trusted & 1u << i) != 0) {
            mirror_replica_praise(mirror_replica_of(mirror, i));
        }
    }
    mirror_unhold(mirror);
    if (!mirror->ready_told) {
        mirror->ready_told = true;
        mirror->ready(mirror, 0);
    }
    mirror_stuck_retry(mirror);
    mirror_tick_arm(mirror);
    mirror_kick(mirror);
}

/* ---- JUDGE ---- */

/* Takes over the row and links of another hand; false: a control request on
 * one of the links is still under way. */
static bool
mirror_gate_apply_row(struct mirror *mirror)
{
    bool newer = mirror->next_row.view > mirror->row.view;
    bool changed[STORE_REPLICAS_MAX];

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        changed[i] = replica->link != mirror->next_links[i] ||
                     (newer && !uuid_equal(&mirror->next_row.replica[i],
                                           &mirror->row.replica[i]));
        if (changed[i] &&
            (replica->phase == REPLICA_FENCING || replica->busy != 0)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        struct mirror_replica *replica = mirror_replica_of(mirror, i);
        if (changed[i]) {
            mirror_replica_fail(replica, replica->session, -ENOTCONN,
                                "link replaced");
            mirror_replica_done(replica);
            mirror_replica_init(mirror, i, mirror->next_links[i]);
        }
    }
    mirror->row_pending = false;
    if (newer) {
        mirror_row_adopt(mirror, &mirror->next_row);
    }
    mirror_kick(mirror);
    return true;
}

/* S12.  True: the judge cannot go on. */
static bool
mirror_gate_row_is_old(struct mirror *mirror)
{
    for (uint32_t i = 0; i < mirror->row.replica_count; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        uint32_t bit = 1u << i;
        if ((mirror->open & ~mirror->persisted & bit) == 0 ||
            !decide_row_is_old(&mirror->row, &replica->membership)) {
            continue;
        }
        if (mirror->options.resume && !mirror->row_read) {
            mirror_commit_reread(mirror, "our record was behind"); /* S22 */
        } else {
            mirror_die(mirror, -ENXIO,
                       "a replica remembers a newer membership than the "
                       "database: it was rolled back");
        }
        return true;
    }
    return false;
}

uint32_t
mirror_unbroken(const struct mirror *mirror)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        if (replica->incarnation == replica->session_incarnation ||
            mirror_planted(mirror, MIRROR_PLANTED_BROKEN_SOURCE)) {
            set |= 1u << i;
        }
    }
    return set & mirror->open;
}

static struct decide_result
mirror_gate_decide(struct mirror *mirror)
{
    struct decide_input input = {
        .in_sync = mirror->row.in_sync,
        .open = mirror->open,
        .trusted = mirror->trusted,
        .min_in_sync = mirror->options.min_in_sync,
        .initial = mirror->initial,
        .clean = mirror->options.clean,
        .live_guest = mirror->options.live_guest,
        .grace_over = mirror->grace_over,
    };
    if (mirror_planted(mirror, MIRROR_PLANTED_BELOW_MIN)) {
        input.min_in_sync = 1;
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        const struct mirror_replica *replica = &mirror->replica[i];
        uint32_t bit = 1u << i;
        input.max_sequence[i] = replica->max_sequence;
        input.known_good[i] = replica->known_good;
        if (mirror_replica_is_local(replica)) {
            input.local |= bit;
        }
    }
    input.unbroken = mirror_unbroken(mirror);
    return decide_membership(&input);
}

static void
mirror_gate_go(struct mirror *mirror)
{
    uint32_t unaware = mirror->row.in_sync & ~mirror->persisted;

    if (unaware != 0 && !mirror_planted(mirror, MIRROR_PLANTED_NO_SET_VIEW)) {
        mirror->phase = PHASE_SET_VIEW;
        mirror_round_begin(mirror, STORE_SET_VIEW, unaware);
    } else if (mirror->stopping) {
        mirror->phase = PHASE_STOP_FLUSH;
        mirror_round_begin(mirror, STORE_FLUSH, mirror->row.in_sync);
    } else if (mirror->resync.state == RESYNC_DONE && !mirror->resync.aborted) {
        mirror->phase = PHASE_GROW_FLUSH;
        mirror_round_begin(mirror, STORE_FLUSH, 1u << mirror->resync.target);
    } else {
        mirror_gate_open(mirror);
    }
}

static void
mirror_gate_wait(struct mirror *mirror, const char *reason)
{
    const struct mirror_replica *lost = NULL;

    mirror->phase = PHASE_WAIT;
    for (uint32_t i = 0; i < mirror->row.replica_count; i++) {
        if ((mirror->row.in_sync & ~mirror->open & 1u << i) != 0) {
            lost = &mirror->replica[i];
        }
    }
    if (lost == NULL || lost->trouble_what == NULL) {
        mirror_hold(mirror, "%s", reason);
    } else {
        mirror_hold(mirror, "%s; replica %u: %s (%d)", reason, lost->index,
                    lost->trouble_what, lost->trouble);
    }
}

static void
mirror_gate_judge(struct mirror *mirror)
{
    CHECK(mirror->in_flight == 0);

    mirror->phase = PHASE_JUDGE;
    if (mirror->round_pending != 0 ||
        (mirror->row_pending && !mirror_gate_apply_row(mirror)) ||
        mirror_gate_row_is_old(mirror)) {
        return;
    }
    if (mirror->resync.state != RESYNC_IDLE &&
        (mirror->row.in_sync & 1u << mirror->resync.target) != 0) {
        mirror_resync_abort(mirror); /* Its end: it is in sync. */
    }

    struct decide_result result = mirror_gate_decide(mirror);
    if (result.action == DECIDE_RECONCILE &&
        mirror_planted(mirror, MIRROR_PLANTED_NO_RECONCILE)) {
        result.action = DECIDE_TRUST;
    }
    if (mirror->commit_unknown) {
        bool shrink = result.action == DECIDE_COMMIT;
        mirror_commit_begin(mirror, shrink ? result.set : mirror->row.in_sync,
                            shrink ? "a replica failed" : MIRROR_WHY_UNKNOWN);
        return;
    }
    switch (result.action) {
    case DECIDE_TRUST:
        mirror->trusted = result.set;
        mirror_gate_go(mirror);
        break;
    case DECIDE_GO:
        mirror_gate_go(mirror);
        break;
    case DECIDE_COMMIT:
        mirror_commit_begin(mirror, result.set,
                            mirror->initial ? "unreachable at attach"
                                            : "a replica failed");
        break;
    case DECIDE_RECONCILE:
        mirror->phase = PHASE_RECONCILE;
        mirror_reconcile_begin(mirror, result.set, result.source);
        break;
    case DECIDE_WAIT:
        mirror_gate_wait(mirror, result.reason);
        break;
    }
}

static void
mirror_gate_grown(struct mirror *mirror)
{
    uint32_t bit = 1u << mirror->resync.target;

    if (mirror->resync.state != RESYNC_DONE || mirror->resync.aborted ||
        (mirror->open & bit) == 0 || mirror->trusted != mirror->row.in_sync) {
        mirror->phase = PHASE_JUDGE;
        return;
    }
    mirror->growing = bit;
    mirror_commit_begin(mirror, mirror->row.in_sync | bit, "resynced");
}

/* The first flush makes everything durable, the second one sets G to that, so
 * that the next owner can see that the end was clean. */
static void
mirror_gate_stop_flushed(struct mirror *mirror)
{
    bool clean = mirror->trusted == mirror->row.in_sync;

    if (clean && !mirror->stop_marked) {
        mirror->stop_marked = true;
        mirror_durable(mirror, mirror->round_point);
        mirror_round_begin(mirror, STORE_FLUSH, mirror->row.in_sync);
        return;
    }
    mirror->stop_clean = clean;
    mirror->phase = PHASE_CLOSING;
}

/* ---- CLOSING ---- */

static void
mirror_fail_list(struct list *list, int result)
{
    struct list *node;

    while ((node = list_pop_front(list)) != NULL) {
        mirror_io_finish(container_of(node, struct mirror_io, node), result);
    }
}

static bool
mirror_is_settled(const struct mirror *mirror)
{
    if (mirror->ios != 0 || mirror->in_flight != 0 ||
        mirror->round_pending != 0 || mirror->commit_pending ||
        mirror->repair.busy || mirror->probe.busy ||
        !mirror_resync_is_settled(mirror)) {
        return false;
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        if (mirror->replica[i].phase == REPLICA_FENCING) {
            return false;
        }
    }
    return true;
}

/* True: the mirror may be gone. */
static bool
mirror_gate_closing(struct mirror *mirror)
{
    int result = mirror->fatal != 0 ? mirror->fatal : -ESHUTDOWN;

    /* To the guest a rolled-back database is the same as a new owner. */
    int guest_result = mirror->fatal != 0 ? -ESTALE : -ESHUTDOWN;
    mirror_fail_list(&mirror->waiting, guest_result);
    mirror_fail_list(&mirror->stuck, guest_result);
    mirror_fail_list(&mirror->repair.queue, guest_result);
    mirror_resync_abort(mirror);
    io_timer_cancel(mirror->io, &mirror->grace);
    io_timer_cancel(mirror->io, &mirror->commit_timer);
    io_timer_cancel(mirror->io, &mirror->space_timer);
    io_timer_cancel(mirror->io, &mirror->resync.pace);
    if (!mirror->ready_told) {
        mirror->ready_told = true;
        mirror->ready(mirror, result);
    }
    if (!mirror->stopping || !mirror_is_settled(mirror)) {
        return false;
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        mirror_replica_done(mirror_replica_of(mirror, i));
    }
    io_timer_cancel(mirror->io, &mirror->tick);
    mirror->phase = PHASE_ENDED;
    io_task_cancel(mirror->io, &mirror->task);
    mirror->stopped(mirror, mirror->stop_clean);
    return true;
}

/* ---- All of it ---- */

static void
mirror_finish_all(struct mirror *mirror)
{
    struct list *node;

    while ((node = list_pop_front(&mirror->finished)) != NULL) {
        struct mirror_io *io = container_of(node, struct mirror_io, node);
        mirror_io_finish(io, io->result);
    }
}

static void
mirror_step(struct mirror *mirror)
{
    switch (mirror->phase) {
    case PHASE_OPEN:
        if (mirror_gate_must_close(mirror)) {
            mirror->closed_ns = io_now_ns(mirror->io);
            mirror->phase = PHASE_DRAIN;
        } else {
            mirror_gate_pump(mirror);
        }
        break;
    case PHASE_DRAIN:
        if (mirror->in_flight == 0) {
            mirror->phase = PHASE_JUDGE;
        }
        break;
    case PHASE_JUDGE:
    case PHASE_WAIT:
        mirror_gate_judge(mirror);
        break;
    case PHASE_RECONCILE:
        if (mirror->reconcile.flushing && mirror->round_pending == 0) {
            mirror_reconcile_flushed(mirror);
        }
        break;
    case PHASE_GROW_FLUSH:
        if (mirror->round_pending == 0) {
            mirror_gate_grown(mirror);
        }
        break;
    case PHASE_COMMIT:
    case PHASE_COMMIT_WAIT:
        mirror_commit_advance(mirror);
        break;
    case PHASE_SET_VIEW:
        if (mirror->round_pending == 0) {
            mirror->phase = PHASE_JUDGE;
        }
        break;
    case PHASE_STOP_FLUSH:
        if (mirror->round_pending == 0) {
            mirror_gate_stop_flushed(mirror);
        }
        break;
    case PHASE_CLOSING:
    case PHASE_ENDED:
        break;
    }
}

void
mirror_advance(struct io_task *task)
{
    struct mirror *mirror = container_of(task, struct mirror, task);

    mirror_finish_all(mirror);
    if (mirror->phase == PHASE_ENDED) {
        return;
    }
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        mirror_replica_try_fence(mirror_replica_of(mirror, i));
    }
    for (;;) {
        if (mirror->fatal != 0 || (mirror->stopping && !mirror->stop_flush)) {
            mirror->phase = PHASE_CLOSING;
        }
        if (mirror->phase == PHASE_CLOSING) {
            (void)mirror_gate_closing(mirror);
            return;
        }
        enum mirror_phase before = mirror->phase;
        mirror_step(mirror);
        if (mirror->phase == before) {
            return;
        }
    }
}
