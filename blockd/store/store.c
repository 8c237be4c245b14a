/* SPDX-License-Identifier: Apache-2.0 */

/* The public face: open, claim, serve, submit, close, facts. */

#include "blockd/store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/store/internal.h"

static super_write_fn claims_written;

/* ---- Open ---- */

static void
store_lists_init(struct store *store)
{
    list_init(&store->queue);
    list_init(&store->refused);
    list_init(&store->ready);
    list_init(&store->waiting);
    list_init(&store->starved);
    list_init(&store->acks);
    list_init(&store->durables);
    list_init(&store->finished);
    list_init(&store->claims);
    list_init(&store->claims_current);
    list_init(&store->claim_write.node);
    store->claim_write.done = claims_written;
    list_init(&store->super_writer.waiting);
    list_init(&store->super_writer.current);
}

static int
store_pools_init(struct store *store)
{
    uint32_t requests = store->options.requests_max;
    int result;

    if (requests == 0) {
        requests = STORE_REQUESTS_DEFAULT;
    }
    result = slab_init(&store->works, sizeof(struct work), 64, requests);
    if (result == 0) {
        result = slab_init(&store->subs, sizeof(struct sub), 64,
                           requests + STORE_REQ_BLOCKS_MAX);
    }
    store->super_writer.buffer =
        aligned_alloc(WEFT_BLOCK_SIZE, WEFT_BLOCK_SIZE);
    return result != 0                          ? result
           : store->super_writer.buffer == NULL ? -ENOMEM
                                                : 0;
}

struct open_failed {
    struct io_task task;
    struct store_open *open;
};

static void
open_failed_run(struct io_task *task)
{
    struct open_failed *failed = container_of(task, struct open_failed, task);
    struct store_open *open = failed->open;

    free(failed);
    open->done(open, -ENOMEM);
}

void
store_open_start(struct store_open *op)
{
    struct store *store = calloc(1, sizeof(*store));

    op->store = NULL;
    err_clear(&op->err);
    if (store != NULL) {
        store->io = op->io;
        store->file = op->file;
        store->options = op->options;
        store->open = op;
        store->phase = STORE_RECOVERING;
        store_lists_init(store);
        io_task_init(&store->task, store_run);
        if (store_pools_init(store) == 0) {
            recover_start(store, op->options.lost_writes);
            return;
        }
        store_free(store);
    }
    /* Even this must not call done() inside of start. */
    struct open_failed *failed = calloc(1, sizeof(*failed));

    CHECK(failed != NULL);
    failed->open = op;
    err_set(&op->err, "not enough memory");
    io_task_init(&failed->task, open_failed_run);
    io_task_defer(op->io, &failed->task);
}

void
store_open_end(struct store *store)
{
    struct store_open *open = store->open;
    int result = store->recover_result;

    store->open = NULL;
    if (result != 0) {
        err_set(&open->err, "%s",
                store->recover_text != NULL ? store->recover_text
                                            : "the disk has failed");
        store_free(store);
    } else {
        open->store = store;
    }
    open->done(open, result);
}

/* ---- Claim and serve ---- */

static void
claims_start(struct store *store)
{
    if (list_is_empty(&store->claims_current) &&
        !list_is_empty(&store->claims)) {
        list_splice_back(&store->claims_current, &store->claims);
        super_write_start(store, &store->claim_write);
    }
}

static void
claims_written(struct super_write *write)
{
    struct store *store = container_of(write, struct store, claim_write);
    struct list done;

    list_init(&done);
    list_splice_back(&done, &store->claims_current);
    claims_start(store);
    while (!list_is_empty(&done)) {
        struct store_claim *claim =
            container_of(list_take(&done), struct store_claim, node);

        claim->done(claim, 0);
    }
}

static void
claim_run(struct io_task *task)
{
    struct store_claim *claim = container_of(task, struct store_claim, task);
    struct store *store = claim->store;

    if (store->phase != STORE_IDLE && store->phase != STORE_SERVING) {
        claim->done(claim, store->phase == STORE_CLOSING ? -ESHUTDOWN : -EIO);
        return;
    }
    if (claim->committed) {
        store->super.claim_previous = store->super.claim_current;
        store->super.claim_current = claim->next;
        store->super.claim_next = (struct weft_uuid){ { 0 } };
    } else {
        store->super.claim_previous = store->super.claim_current;
        store->super.claim_next = claim->next;
    }
    list_push_back(&store->claims, &claim->node);
    claims_start(store);
}

void
store_claim_start(struct store_claim *op)
{
    list_init(&op->node);
    io_task_init(&op->task, claim_run);
    io_task_defer(op->store->io, &op->task);
}

void
store_serve(struct store *store)
{
    store->serving = true;
    if (store->phase == STORE_IDLE) {
        store->phase = STORE_SERVING;
    }
    store_kick(store);
}

/* ---- Requests ---- */

void
store_submit(struct store *store, struct store_req *req)
{
    CHECK(req->done != NULL);
    if (store->close != NULL || !store->serving) {
        req->result = -ESHUTDOWN;
        list_push_back(&store->refused, &req->node);
    } else if (store->phase != STORE_SERVING || store->fail_wanted) {
        req->result = -EIO;
        list_push_back(&store->refused, &req->node);
    } else {
        list_push_back(&store->queue, &req->node);
    }
    store_kick(store);
}

/* ---- Close ---- */

void
store_close_start(struct store_close *op)
{
    struct store *store = op->store;

    CHECK(store->close == NULL);
    CHECK(store->open == NULL);
    store->close = op;
    if (store->phase == STORE_SERVING || store->phase == STORE_IDLE) {
        store->phase = STORE_CLOSING;
    }
    store_kick(store);
}

/* ---- Facts ---- */

void
store_info_get(const struct store *store, struct store_info *ret_info)
{
    *ret_info = (struct store_info){
        .disk = store->identity.disk,
        .cluster = store->identity.cluster,
        .claim_current = store->super.claim_current,
        .claim_previous = store->super.claim_previous,
        .claim_next = store->super.claim_next,
        .incarnation = store->super.incarnation,
        .size_bytes = store->geometry.size_blocks * WEFT_BLOCK_SIZE,
        .slot_bytes = store->geometry.slot_blocks * WEFT_BLOCK_SIZE,
        .slots_total = store->geometry.slots_total,
        .slots_free = store->space.free_count,
        .slots_quarantined = store->space.quarantine_count,
        .blocks_suspect = store->suspects,
        .blocks_bad = store->bad,
        .replica_count = replica_numbers_taken(store),
        .replica_max = store->geometry.replicas_max,
        .failed = store->phase == STORE_FAILED,
    };
}

bool
store_replica_info_get(const struct store *store, uint64_t index,
                       struct store_replica_info *ret_info)
{
    const struct replica *replica = NULL;

    if (store->replicas.slots == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < store->geometry.replicas_max; i++) {
        if (store->replicas.slots[i] != NULL && index-- == 0) {
            replica = store->replicas.slots[i];
            break;
        }
    }
    if (replica == NULL) {
        return false;
    }
    *ret_info = (struct store_replica_info){
        .replica = replica->entry.replica,
        .volume = replica->entry.volume,
        .mirror_index = le32_get(replica->entry.mirror_index),
        .size_blocks = le64_get(replica->entry.size_blocks),
        .slots_used = replica->slots_used,
        .known_good = le64_get(replica->entry.known_good),
        .max_sequence = replica->max_sequence,
        .session = le64_get(replica->entry.session),
        .membership = {
            .epoch = le32_get(replica->entry.epoch),
            .view = le64_get(replica->entry.view),
            .in_sync_count = le32_get(replica->entry.in_sync_count),
        },
    };
    for (uint32_t i = 0; i < STORE_REPLICAS_MAX; i++) {
        ret_info->membership.in_sync[i] = replica->entry.in_sync[i];
    }
    return true;
}

void
store_stats_get(const struct store *store, struct store_stats *ret_stats)
{
    *ret_stats = store->stats;
}
