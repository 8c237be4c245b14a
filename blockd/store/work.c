/* SPDX-License-Identifier: Apache-2.0 */

/* Works: requests in progress.
 *
 *   submit --> queue --admit--> GATED --> READY --+--> RUNNING --> DONE
 *                                 |               |     ^   |
 *                                 |            WAITING -+   +--> UNDO
 *                                 +- (ends with -ESTALE)
 *
 * Control requests go from READY to DURABLE (their record), flushes to FLUSH.
 * WAITING works are tried again, oldest first, whenever something has moved;
 * once one of them lacks space, those behind it and all newcomers that need
 * space keep the order.
 *
 * A write ends when its data is on the device and all journal blocks up to its
 * last record are (S9). */

#include <errno.h>
#include <string.h>

#include "blockd/store/internal.h"

struct segment
work_segment(const struct store *store, const struct work *work,
             uint32_t offset)
{
    uint32_t slot_blocks = store->geometry.slot_blocks;
    uint64_t block = work->first + offset;
    uint64_t left = work->end - block;
    uint32_t first = (uint32_t)(block % slot_blocks);
    uint32_t count = slot_blocks - first;

    return (struct segment){
        .logical = block / slot_blocks,
        .first = first,
        .count = left < count ? (uint32_t)left : count,
        .offset = offset,
    };
}

void
work_to(struct store *store, struct work *work, enum work_state state)
{
    list_remove(&work->node);
    work->state = state;
    switch (state) {
    case WORK_READY:
        list_push_back(&store->ready, &work->node);
        store_kick(store);
        break;
    case WORK_WAITING:
        list_push_back(&store->waiting, &work->node);
        break;
    case WORK_DURABLE:
        list_push_back(&store->durables, &work->node);
        break;
    case WORK_DONE:
        list_push_back(&store->finished, &work->node);
        store_kick(store);
        break;
    case WORK_GATED:
    case WORK_RUNNING:
    case WORK_UNDO:
    case WORK_FLUSH:
        break;
    }
}

void
work_finish(struct store *store, struct work *work, int result)
{
    CHECK(work->state != WORK_DONE);
    CHECK(work->ops_pending == 0);
    list_remove(&work->ack_node);
    list_remove(&work->flush.node);
    if (work->reserved != 0) {
        store->space.reserved -= work->reserved;
        work->reserved = 0;
        store->progress = true;
    }
    if (result == 0 && work->writes && store->hot.crashed_count != 0) {
        write_sound(store, work);
    }
    if (work->replica != NULL) {
        gate_leave(store, work);
    }
    work->req->result = result;
    work_to(store, work, WORK_DONE);
}

/* Of the last record that was appended. */
static uint64_t
work_last_position(struct store *store)
{
    uint64_t head = store->journal.head;

    return journal_at(store, head)->bytes == 0 ? head - 1 : head;
}

void
work_await_journal(struct store *store, struct work *work)
{
    work->position = work_last_position(store);
    work->journaled = false;
    list_push_back(&store->acks, &work->ack_node);
    journal_urge(store);
}

void
work_await_durable(struct store *store, struct work *work)
{
    work->position = work_last_position(store);
    work_to(store, work, WORK_DURABLE);
    journal_urge(store);
}

/* ---- Device operations ---- */

/* With nothing pending, it is looked at again. */
static void
work_io_ended(struct store *store, struct work *work)
{
    if (work->ops_pending == 0 && !work->starved) {
        work_to(store, work, WORK_READY);
        work->state = WORK_RUNNING;
    }
}

void
work_starve(struct store *store, struct work *work)
{
    work->starved = true;
    list_remove(&work->node);
    list_push_back(&store->starved, &work->node);
}

static void
sub_op_done(struct io_op *op, int result)
{
    struct io_file_op *file_op = container_of(op, struct io_file_op, op);
    struct sub *sub = container_of(file_op, struct sub, op);
    struct work *work = sub->work;
    struct store *store = work->store;

    store_io_done(store);
    work->ops_pending--;
    if (result != 0) {
        store->stats.io_errors++;
    }
    if (work->req->opcode == STORE_READ) {
        read_sub_done(store, sub, result);
    } else if (result != 0 && work->error != -EIO) {
        work->error = result == -ENOSPC ? -ENOSPC : -EIO;
    }
    slab_put(&store->subs, sub);
    if (work->error == -EIO) {
        store_fail(store, -EIO);
    }
    if (!list_is_empty(&store->starved)) {
        struct work *next =
            container_of(list_take(&store->starved), struct work, node);

        next->starved = false;
        work_issue(store, next);
        work_io_ended(store, next);
    }
    work_io_ended(store, work);
}

void
work_sub_start(struct store *store, struct work *work, uint32_t first,
               uint32_t count, uint64_t device_block)
{
    struct sub *sub = slab_get(&store->subs);
    bool reads = work->req->opcode == STORE_READ;

    CHECK(sub != NULL);
    *sub = (struct sub){
        .op = { .op = { .done = sub_op_done },
                .file = store->file,
                .kind = reads ? IO_FILE_READ : IO_FILE_WRITE,
                .size_bytes = count * WEFT_BLOCK_SIZE,
                .offset_bytes = device_block * WEFT_BLOCK_SIZE,
                .data = work->req->data + (size_t)first * WEFT_BLOCK_SIZE },
        .work = work,
        .first = first,
        .count = count,
    };
    if (!reads) {
        store->stats.device_write_bytes += (uint64_t)count * WEFT_BLOCK_SIZE;
    }
    work->ops_pending++;
    store_io_start(store, &sub->op);
}

void
work_issue(struct store *store, struct work *work)
{
    bool reads = work->req->opcode == STORE_READ;
    uint32_t first;
    uint32_t count;
    uint64_t block;

    while (work->error == 0 &&
           (reads ? read_next_run(store, work, &first, &count, &block)
                  : write_next_run(store, work, &first, &count, &block))) {
        if (store->subs.free_count == 0) {
            work_starve(store, work);
            return;
        }
        work_sub_start(store, work, first, count, block);
        work->cursor = first + count;
    }
}

/* ---- Admission ---- */

static int
admit_range(const struct store *store, const struct work *work)
{
    const struct store_req *req = work->req;
    uint64_t size = le64_get(work->replica->entry.size_blocks);

    if (req->opcode == STORE_READ || req->opcode == STORE_PUT_SLOT) {
        /* Whole slots, though the last one may reach beyond the end. */
        size = units_align_up(size, store->geometry.slot_blocks);
    }
    if (req->layer < STORE_LAYER_FIRST || req->block_count == 0 ||
        req->block >= size || req->block_count > size - req->block) {
        return -EINVAL;
    }
    if (req->opcode == STORE_DISCARD) {
        return 0;
    }
    if (req->block_count > STORE_REQ_BLOCKS_MAX) {
        return -EINVAL;
    }
    return req->opcode == STORE_READ ? 0 : write_check(store, req);
}

static int
admit_work(struct store *store, struct work *work)
{
    struct store_req *req = work->req;
    int result;

    work->replica = replica_find(store, &req->replica);
    switch (req->opcode) {
    case STORE_READ:
    case STORE_WRITE:
    case STORE_DISCARD:
    case STORE_PUT_SLOT:
        if (work->replica == NULL) {
            return -ENXIO;
        }
        result = session_check(store, work->replica, req);
        if (result == 0) {
            result = admit_range(store, work);
        }
        if (result != 0) {
            return result;
        }
        work->first = req->block;
        work->end = req->block + req->block_count;
        work->writes = req->opcode != STORE_READ;
        gate_enter(store, work);
        return 0;
    case STORE_FLUSH:
    case STORE_LIST:
    case STORE_SET_VIEW:
    case STORE_FENCE:
    case STORE_CREATE:
    case STORE_REMOVE:
        return control_admit(store, work);
    }
    return -EINVAL;
}

static void
count_request(struct store *store, const struct store_req *req)
{
    uint64_t bytes = (uint64_t)req->block_count * WEFT_BLOCK_SIZE;

    switch (req->opcode) {
    case STORE_READ:
        store->stats.reads++;
        store->stats.read_bytes += bytes;
        break;
    case STORE_WRITE:
    case STORE_PUT_SLOT:
        store->stats.writes++;
        store->stats.write_bytes += bytes;
        break;
    case STORE_DISCARD:
        store->stats.discards++;
        break;
    case STORE_FLUSH:
        store->stats.flushes++;
        break;
    case STORE_LIST:
        store->stats.lists++;
        break;
    case STORE_FENCE:
    case STORE_SET_VIEW:
    case STORE_CREATE:
    case STORE_REMOVE:
        break;
    }
}

void
work_admit_all(struct store *store)
{
    while (!list_is_empty(&store->queue) && store->works.free_count != 0 &&
           !store_is_failing(store)) {
        struct store_req *req =
            container_of(list_take(&store->queue), struct store_req, node);
        struct work *work = slab_get(&store->works);
        int result;

        memset(work, 0, offsetof(struct work, undo_states));
        work->req = req;
        work->store = store;
        list_init(&work->node);
        list_init(&work->gate_node);
        list_init(&work->ack_node);
        list_init(&work->flush.node);
        store->works_count++;
        count_request(store, req);
        result = admit_work(store, work);
        if (result != 0) {
            work->state = WORK_RUNNING;
            work_finish(store, work, result);
        }
    }
}

/* ---- Advancing ---- */

static void
advance_ready(struct store *store, struct work *work)
{
    switch (work->req->opcode) {
    case STORE_READ:
        read_begin(store, work);
        break;
    case STORE_WRITE:
    case STORE_PUT_SLOT:
        write_try(store, work);
        break;
    case STORE_DISCARD:
        discard_try(store, work);
        break;
    case STORE_FLUSH:
    case STORE_LIST:
    case STORE_SET_VIEW:
    case STORE_FENCE:
    case STORE_CREATE:
    case STORE_REMOVE:
        control_begin(store, work);
        break;
    }
}

/* A READY work whose state is RUNNING has had its last device operation. */
static void
advance_work(struct store *store, struct work *work)
{
    list_remove(&work->node);
    if (work->state == WORK_RUNNING) {
        if (work->req->opcode == STORE_READ) {
            read_finish(store, work);
        } else {
            write_settled(store, work);
        }
        return;
    }
    CHECK(work->state == WORK_READY);
    if (work->req->opcode == STORE_READ || work->writes) {
        int result = session_check(store, work->replica, work->req);

        if (result != 0) {
            work_finish(store, work, result);
            return;
        }
    }
    advance_ready(store, work);
}

void
work_advance_all(struct store *store)
{
    struct list batch;

    list_init(&batch);
    list_splice_back(&batch, &store->ready);
    while (!list_is_empty(&batch) && !store_is_failing(store)) {
        advance_work(store,
                     container_of(list_front(&batch), struct work, node));
    }
    list_splice_back(&batch, &store->ready);
    list_splice_back(&store->ready, &batch);
}

void
work_retry_waiting(struct store *store)
{
    struct list batch;

    if (!store->progress || store_is_failing(store)) {
        return;
    }
    store->progress = false;
    store->space_blocked = false;
    list_init(&batch);
    list_splice_back(&batch, &store->waiting);
    while (!list_is_empty(&batch)) {
        struct work *work = container_of(list_take(&batch), struct work, node);
        int result = work->writes && !work->begun
                         ? session_check(store, work->replica, work->req)
                         : 0;

        work->state = WORK_READY;
        if (result != 0) {
            work_finish(store, work, result);
        } else {
            advance_ready(store, work);
        }
    }
}

void
work_walk_acks(struct store *store)
{
    LIST_FOREACH (node, &store->acks) {
        struct work *work = container_of(node, struct work, ack_node);

        if (work->position > store->journal.written) {
            if (!planted(store, PLANTED_ACK_DISORDER)) {
                break;
            }
            if (work->position >= store->journal.next_write ||
                journal_at(store, work->position)->state != JOURNAL_WRITTEN) {
                continue;
            }
        }
        list_remove(&work->ack_node);
        work->journaled = true;
        if (work->state == WORK_UNDO) {
            journal_data_done(store, work->position_first);
            work_finish(store, work, work->error);
        } else if (work->data_done) {
            work_finish(store, work, 0);
        }
    }
}

void
work_walk_durables(struct store *store)
{
    LIST_FOREACH (node, &store->durables) {
        struct work *work = container_of(node, struct work, node);

        if (work->position > store->journal.durable &&
            !(planted(store, PLANTED_FENCE_VOLATILE) &&
              work->req->opcode == STORE_FENCE)) {
            if (store->is_volatile &&
                work->position <= store->journal.written) {
                flush_want_position(store, work->position);
            }
            break;
        }
        list_remove(&work->node);
        control_durable(store, work);
    }
}

void
work_run_finished(struct store *store)
{
    struct list batch;

    if (store_is_unmarked(store)) {
        return;
    }
    list_init(&batch);
    list_splice_back(&batch, &store->finished);
    while (!list_is_empty(&batch)) {
        struct work *work = container_of(list_take(&batch), struct work, node);
        struct store_req *req = work->req;

        slab_put(&store->works, work);
        store->works_count--;
        req->done(req);
    }
    list_splice_back(&batch, &store->refused);
    while (!list_is_empty(&batch)) {
        struct store_req *req =
            container_of(list_take(&batch), struct store_req, node);

        req->done(req);
    }
}

void
work_fail_all(struct store *store)
{
    for (uint32_t i = 0; i < store->works.capacity; i++) {
        struct work *work;

        if (!store->works.used[i]) {
            continue;
        }
        work = slab_at(&store->works, i);
        if (work->starved) {
            list_remove(&work->node);
            work->starved = false;
        }
        if (work->state != WORK_DONE && work->ops_pending == 0) {
            work_finish(store, work, -EIO);
        }
    }
    while (!list_is_empty(&store->queue)) {
        struct store_req *req =
            container_of(list_take(&store->queue), struct store_req, node);

        req->result = -EIO;
        list_push_back(&store->refused, &req->node);
        store_kick(store);
    }
}
