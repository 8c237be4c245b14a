/* SPDX-License-Identifier: Apache-2.0 */

/* The store's turn: what completions have recorded is acted on here, in one
 * place and one order.
 *
 *   1. marks move (journal, flush, quarantine)
 *   2. acknowledgements, in journal order
 *   3. checkpoint, new requests, those that wait, those that are ready
 *   4. done() of what has ended; what that submits is taken up at once, so that
 *      it shares the journal block
 *   5. journal blocks and flushes that are due go out
 *
 * Failure.  When a write or a flush of the device fails, memory and disk may
 * differ in ways that nobody can tell: completed writes may be lost.  So a new
 * incarnation goes to the superblock (S6), before anybody hears of it; then
 * everything in flight ends with -EIO, all sessions are closed, and recovery
 * runs as after a crash.  If that fails, too, the disk has failed. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"

void
store_kick(struct store *store)
{
    io_task_defer(store->io, &store->task);
}

void
store_io_start(struct store *store, struct io_file_op *op)
{
    store->io_pending++;
    io_file_start(store->io, op);
}

void
store_io_done(struct store *store)
{
    CHECK(store->io_pending != 0);
    store->io_pending--;
    store_kick(store);
}

void
store_fail(struct store *store, int result)
{
    if (!store->fail_wanted && !store_is_failing(store)) {
        store->fail_wanted = true;
        store->fail_result = result;
        store->stats.io_errors++;
        store_kick(store);
    }
}

/* ---- Memory that depends on the geometry ---- */

int
store_runtime_init(struct store *store)
{
    int result = journal_init(store);

    flush_init(store);
    if (result == 0) {
        result = table_init(store);
    }
    if (result == 0) {
        result = space_init(store);
    }
    if (result == 0) {
        result = hot_init(store);
    }
    if (result == 0) {
        result = replicas_init(store);
    }
    if (result == 0) {
        result = checkpoint_init(store);
    }
    verify_init(store);
    store->suspects = 0;
    store->bad = 0;
    return result;
}

void
store_runtime_done(struct store *store)
{
    verify_done(store);
    replicas_done(store);
    checkpoint_done(store);
    hot_done(store);
    space_done(store);
    table_done(store);
    journal_done(store);
}

void
store_free(struct store *store)
{
    store_runtime_done(store);
    io_task_cancel(store->io, &store->task);
    slab_done(&store->works);
    slab_done(&store->subs);
    free(store->super_writer.buffer);
    free(store);
}

/* ---- Failure ---- */

static void
claims_fail(struct store *store)
{
    list_splice_back(&store->claims, &store->claims_current);
    while (!list_is_empty(&store->claims)) {
        struct store_claim *claim =
            container_of(list_take(&store->claims), struct store_claim, node);

        claim->done(claim, -EIO);
    }
}

static void
store_fail_step(struct store *store)
{
    if (store->fail_wanted) {
        store->fail_wanted = false;
        store->was_phase = store->phase;
        store->phase = STORE_FAILING;
        super_mark_want(store);
    }
    if (!super_mark_step(store)) {
        return;
    }
    work_fail_all(store);
    work_run_finished(store);
    if (store->phase != STORE_FAILING || store->works_count != 0 ||
        store->io_pending != 0) {
        return;
    }
    super_forget(store);
    claims_fail(store);
    store->space_blocked = false;
    store->progress = false;
    switch (store->was_phase) {
    case STORE_IDLE:
    case STORE_SERVING:
        store->phase = STORE_RECOVERING;
        recover_start(store, store->super_writer.mark != MARK_DURABLE);
        break;
    case STORE_RECOVERING:
        recover_finish(store, store->fail_result, "a write has failed");
        break;
    case STORE_CLOSING:
    case STORE_FAILING:
    case STORE_FAILED:
        store->phase = STORE_FAILED;
        break;
    }
}

/* ---- Close ---- */

static void
store_close_end(struct store *store)
{
    struct store_close *close = store->close;

    io_file_close(store->io, store->file);
    store_free(store);
    close->done(close);
}

/* True: the store is gone. */
static bool
store_close_step(struct store *store)
{
    struct journal *journal = &store->journal;
    struct checkpoint *checkpoint = &store->checkpoint;

    if (store->close == NULL || store->works_count != 0 ||
        !list_is_empty(&store->queue) || !list_is_empty(&store->refused)) {
        return false;
    }
    if (store->phase == STORE_FAILED) {
        if (store->io_pending == 0) {
            store_close_end(store);
            return true;
        }
        return false;
    }
    if (store->phase != STORE_CLOSING || store->fail_wanted ||
        checkpoint->step != CHECKPOINT_IDLE || store->super_writer.busy) {
        return false;
    }
    if (checkpoint->closing) {
        if (store->io_pending == 0) {
            store_close_end(store);
            return true;
        }
        return false;
    }
    if (journal_at(store, journal->head)->bytes != 0 ||
        journal->done + 1 != journal->head) {
        journal_urge(store);
        return false;
    }
    /* Nothing is in flight: no extent is hot any more. */
    memset(store->hot.marked, 0,
           sizeof(*store->hot.marked) * store->geometry.extents);
    checkpoint->closing = true;
    checkpoint->wanted = true;
    store_kick(store);
    return false;
}

/* ---- The turn ---- */

static void
store_settle(struct store *store)
{
    bool moved = true;

    while (moved) {
        moved = journal_settle(store);
        moved |= flush_settle(store);
        moved |= space_settle(store);
        store->progress |= moved;
    }
}

static void
store_pass(struct store *store)
{
    store_settle(store);
    work_walk_acks(store);
    work_walk_durables(store);
    checkpoint_advance(store);
    if (store->phase == STORE_RECOVERING) {
        store->progress = false;
        return;
    }
    work_admit_all(store);
    work_retry_waiting(store);
    work_advance_all(store);
    work_run_finished(store);
}

void
store_run(struct io_task *task)
{
    struct store *store = container_of(task, struct store, task);

    if (store->recover_ended && store->io_pending == 0) {
        store->recover_ended = false;
        if (store->open != NULL) {
            store_open_end(store);
            return;
        }
    }
    if (store->fail_wanted || store_is_failing(store)) {
        store_fail_step(store);
        (void)store_close_step(store);
        return;
    }
    if (store->journal.blocks == NULL || store->recover_reading) {
        work_run_finished(store);
        return;
    }
    for (int pass = 0; pass < 2; pass++) {
        store_pass(store);
        if (store->fail_wanted) {
            store_kick(store);
            return;
        }
    }
    if (store->phase == STORE_SERVING && store->replicas.removing != 0) {
        replica_remove_step(store);
    }
    if (store->phase == STORE_SERVING) {
        replica_settle(store);
        verify_step(store);
    }
    journal_submit(store);
    flush_submit(store);
    if (store_close_step(store)) {
        return;
    }
    if (store->progress || !list_is_empty(&store->ready) ||
        !list_is_empty(&store->finished) ||
        (!list_is_empty(&store->queue) && store->works.free_count != 0)) {
        store_kick(store);
    }
}
