/* SPDX-License-Identifier: Apache-2.0 */

/* The device flush, one at a time, shared by all who wait for one.
 *
 * A flush covers what had completed when it started; who asks while one is in
 * flight waits for the next.  When it succeeds, 'durable' and F become what
 * 'written' and 'done' were at its start.  On a disk without volatile cache
 * nothing is sent: what has completed is durable. */

#include "blockd/store/internal.h"

void
flush_init(struct store *store)
{
    store->flush = (struct flush){ 0 };
    list_init(&store->flush.waiting);
    list_init(&store->flush.current);
}

void
flush_want(struct store *store, struct flush_wait *wait)
{
    if (wait != NULL) {
        list_push_back(&store->flush.waiting, &wait->node);
    }
    if (!store->flush.wanted) {
        store->flush.wanted = true;
        store_kick(store);
    }
}

void
flush_want_position(struct store *store, uint64_t position)
{
    const struct flush *flush = &store->flush;

    if (flush->in_flight && flush->cut_written >= position &&
        flush->cut_done >= store->journal.done) {
        return;
    }
    flush_want(store, NULL);
}

static void
flush_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct flush *flush = container_of(file_op, struct flush, op);
    struct store *store = container_of(flush, struct store, flush);

    store_io_done(store);
    if (result != 0) {
        flush->in_flight = false;
        store_fail(store, result);
        return;
    }
    flush->finished = true;
}

void
flush_submit(struct store *store)
{
    struct flush *flush = &store->flush;

    if (!flush->wanted || flush->in_flight || store_is_failing(store)) {
        return;
    }
    flush->wanted = false;
    flush->in_flight = true;
    flush->finished = false;
    flush->cut_written = store->journal.written;
    flush->cut_done = store->journal.done;
    list_splice_back(&flush->current, &flush->waiting);
    if (!store->is_volatile || planted(store, PLANTED_FLUSH_SKIPPED)) {
        flush->finished = true;
        store_kick(store);
        return;
    }
    flush->op = (struct io_file_op){
        .op = { .done = flush_op_done },
        .file = store->file,
        .kind = IO_FILE_FLUSH,
    };
    store->stats.device_flushes++;
    store_io_start(store, &flush->op);
}

/* What the flush covered is durable now. */
static void
flush_advance(struct store *store)
{
    struct flush *flush = &store->flush;
    struct journal *journal = &store->journal;
    uint64_t from = journal->flushed;
    uint64_t known = journal->flushed_known;

    for (uint64_t p = journal->durable + 1; p <= flush->cut_written; p++) {
        if (journal_at(store, p)->flushed > journal->flushed_known) {
            journal->flushed_known = journal_at(store, p)->flushed;
        }
    }
    if (flush->cut_written > journal->durable) {
        journal->durable = flush->cut_written;
    }
    if (flush->cut_done > from) {
        journal->flushed = flush->cut_done;
        table_advance(store, from, flush->cut_done);
    }
    if (journal->flushed_known > known) {
        table_forget(store);
    }
}

bool
flush_settle(struct store *store)
{
    struct flush *flush = &store->flush;

    if (!flush->finished || store_is_failing(store)) {
        return false;
    }
    flush->finished = false;
    flush->in_flight = false;
    if (store->is_volatile) {
        flush_advance(store);
    }
    while (!list_is_empty(&flush->current)) {
        struct flush_wait *wait =
            container_of(list_take(&flush->current), struct flush_wait, node);
        wait->done(wait);
    }
    return true;
}
