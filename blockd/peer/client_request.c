/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/client_internal.h"

/* Requests of a remote link.
 *
 *   submit --> queue --> slot: sent --> reply and sends settled --> done
 *         '-> refused (not connected, or cannot be sent) ---------> done
 *
 * Sends need no copy: header, metadata and up to 16 CRCs are encoded into the
 * slot, the rest is sent from the caller's memory. */

#include <errno.h>
#include <string.h>

#include "lib/base/crc32c.h"

static io_op_done_fn slot_sent;
static io_op_done_fn put_sent;

static void
refuse(struct link_remote *remote, struct store_req *req, int result)
{
    req->result = result;
    list_push_back(&remote->refused, &req->node);
    io_task_defer(remote->link.io, &remote->task);
}

void
client_run_refused(struct link_remote *remote)
{
    struct list refused;
    struct list *node;

    list_init(&refused);
    list_splice_back(&refused, &remote->refused);
    while ((node = list_pop_front(&refused)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        req->done(req);
    }
}

/* ---- Sending ---- */

static void
add_piece(struct io_send *send, void *data, uint32_t size_bytes)
{
    send->iov[send->iov_count] = (struct iovec){ data, size_bytes };
    send->iov_count++;
}

/* PUT_SLOT: arrays into memory of the link, without the CRCs of blocks that
 * have none; then the runs of blocks that have data. */
static void
gather_put(struct client_slot *slot, const struct peer_shape *shape,
           struct peer_head *head)
{
    struct client_put *put = slot->put;
    const struct store_req *req = slot->req;
    uint32_t count = shape->block_count;
    uint32_t extra = 0;
    struct io_send *send = &slot->send;

    CHECK(put != NULL);
    memset(put->arrays, 0, 4 * (size_t)count);
    for (uint32_t i = 0; i < count; i++) {
        if (req->states[i] == STORE_BLOCK_DATA) {
            memcpy(put->arrays + 4 * (size_t)i, &req->crcs[i], 4);
        }
    }
    memcpy(put->arrays + 4 * (size_t)count, req->states, count);
    head->meta_crc = crc32c(head->meta_crc, put->arrays, 5 * (size_t)count);
    add_piece(send, put->arrays, 5 * count);

    for (uint32_t i = 0; i < count;) {
        uint32_t first = i;
        while (i < count && req->states[i] == STORE_BLOCK_DATA) {
            i++;
        }
        if (i == first) {
            i++;
            continue;
        }
        if (send->iov_count == IO_SEND_IOV_MAX) {
            CHECK(extra < CLIENT_PUT_SENDS);
            put->sends[extra].slot = slot;
            send = &put->sends[extra].send;
            *send = (struct io_send){ .op.done = put_sent };
            extra++;
        }
        add_piece(send, req->data + (uint64_t)first * WEFT_BLOCK_SIZE,
                  (i - first) * WEFT_BLOCK_SIZE);
    }
    slot->sends_pending = 1 + extra;
}

static void
gather_write(struct client_slot *slot, const struct peer_shape *shape,
             struct peer_head *head)
{
    const struct store_req *req = slot->req;
    uint32_t crc_bytes = 4 * shape->block_count;

    head->meta_crc = crc32c(head->meta_crc, req->crcs, crc_bytes);
    if (shape->block_count <= CLIENT_INLINE_CRCS) {
        memcpy(slot->head + slot->send.iov[0].iov_len, req->crcs, crc_bytes);
        slot->send.iov[0].iov_len += crc_bytes;
    } else {
        add_piece(&slot->send, req->crcs, crc_bytes);
    }
    add_piece(&slot->send, req->data, shape->data_bytes);
}

static void
start_slot(struct link_remote *remote, struct client_slot *slot,
           struct store_req *req, const struct peer_shape *shape)
{
    uint32_t fixed_bytes = peer_request_fixed_bytes((uint16_t)req->opcode);
    uint32_t index = (uint32_t)(slot - remote->slots);
    struct peer_head head = {
        .kind = PEER_REQUEST,
        .version = PEER_VERSION_MAX,
        .opcode = (uint16_t)req->opcode,
        .id = ++remote->serial << 16 | index,
        .meta_bytes = fixed_bytes +
                      (shape->has_crcs ? 4u : 0u) * shape->block_count +
                      (shape->has_states ? shape->block_count : 0u),
        .data_bytes = shape->data_bytes,
        .meta_crc = crc32c(0, slot->head + PEER_HEADER_BYTES, fixed_bytes),
    };

    slot->req = req;
    slot->id = head.id;
    slot->cost_bytes = shape->cost_bytes;
    slot->is_answered = false;
    slot->is_late = false;
    slot->sends_pending = 1;
    slot->send = (struct io_send){ .op.done = slot_sent };
    add_piece(&slot->send, slot->head, PEER_HEADER_BYTES + fixed_bytes);
    if (shape->has_states) {
        struct list *node = list_pop_front(&remote->free_puts);
        CHECK(node != NULL);
        slot->put = container_of(node, struct client_put, node);
        gather_put(slot, shape, &head);
    } else if (shape->has_crcs) {
        gather_write(slot, shape, &head);
    }
    peer_head_encode(&head, slot->head);

    remote->used_requests++;
    remote->used_bytes += shape->cost_bytes;
    req->started_ns = io_now_ns(remote->link.io);
    remote->sent_ns = req->started_ns;
    uint32_t extra = slot->sends_pending - 1;
    client_send(remote, &slot->send);
    for (uint32_t i = 0; i < extra; i++) {
        client_send(remote, &slot->put->sends[i].send);
    }
}

enum try_result {
    TRY_SENT,
    TRY_LATER,
    TRY_INVALID,
};

static enum try_result
try_send(struct link_remote *remote, struct store_req *req)
{
    struct list *node = list_front(&remote->free_slots);
    struct peer_shape shape;

    if (node == NULL || remote->used_requests >= remote->window_requests) {
        return TRY_LATER;
    }
    struct client_slot *slot = container_of(node, struct client_slot, node);
    if (peer_request_encode(req, slot->head + PEER_HEADER_BYTES, &shape) != 0) {
        return TRY_INVALID;
    }
    if (remote->used_bytes + (uint64_t)shape.cost_bytes >
        remote->window_bytes) {
        return TRY_LATER;
    }
    if (shape.has_states && list_is_empty(&remote->free_puts)) {
        return TRY_LATER;
    }
    list_remove(node);
    start_slot(remote, slot, req, &shape);
    return TRY_SENT;
}

void
client_pump(struct link_remote *remote)
{
    struct list *node;

    while (remote->phase == CLIENT_READY &&
           (node = list_front(&remote->queue)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        list_remove(node);
        enum try_result tried = try_send(remote, req);
        if (tried == TRY_LATER) {
            list_push_front(&remote->queue, node);
            return;
        }
        if (tried == TRY_INVALID) {
            remote->link.in_flight--;
            refuse(remote, req, -EINVAL);
        }
    }
}

void
client_submit(struct link *link, struct store_req *req)
{
    struct link_remote *remote = container_of(link, struct link_remote, link);

    list_init(&req->node);
    if (remote->phase != CLIENT_READY) {
        refuse(remote, req, -ENOTCONN);
        return;
    }
    enum try_result tried = TRY_LATER;
    if (list_is_empty(&remote->queue)) {
        tried = try_send(remote, req);
    }
    if (tried == TRY_INVALID) {
        refuse(remote, req, -EINVAL);
        return;
    }
    if (tried == TRY_LATER) {
        list_push_back(&remote->queue, &req->node);
    }
    link->in_flight++;
    if (req->deadline_ns < remote->earliest_ns) {
        remote->earliest_ns = req->deadline_ns;
        if (req->deadline_ns < remote->tick_ns) {
            client_arm(remote);
        }
    }
}

/* ---- Settling ---- */

static void
release_slot(struct client_slot *slot)
{
    struct link_remote *remote = slot->remote;

    CHECK(slot->sends_pending == 0);
    if (slot->put != NULL) {
        list_push_back(&remote->free_puts, &slot->put->node);
        slot->put = NULL;
    }
    slot->req = NULL;
    slot->id = 0;
    remote->used_requests--;
    remote->used_bytes -= slot->cost_bytes;
    remote->link.in_flight--;
    list_push_front(&remote->free_slots, &slot->node);
}

static void
settle(struct client_slot *slot, int result)
{
    struct link_remote *remote = slot->remote;
    struct store_req *req = slot->req;

    release_slot(slot);
    if (req->opcode == STORE_READ && result == 0) {
        link_note_latency(&remote->link,
                          io_now_ns(remote->link.io) - req->started_ns);
    }
    req->result = result;
    req->done(req);
}

static void
piece_sent(struct client_slot *slot)
{
    struct link_remote *remote = slot->remote;

    CHECK(slot->sends_pending != 0);
    slot->sends_pending--;
    if (slot->is_answered && slot->sends_pending == 0 &&
        remote->phase == CLIENT_READY) {
        settle(slot, slot->result);
        client_pump(remote);
    }
    client_send_settled(remote);
}

static void
slot_sent(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);

    (void)result; /* The connection says it. */
    piece_sent(container_of(send, struct client_slot, send));
}

static void
put_sent(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);

    (void)result;
    piece_sent(container_of(send, struct client_put_send, send)->slot);
}

/* ---- Replies ---- */

static void
violated(struct link_remote *remote, const char *why)
{
    remote->info.protocol_errors++;
    client_cut(remote, -EPROTO, why);
}

static void
answered(struct client_slot *slot)
{
    slot->remote->arrival.slot = NULL;
    slot->is_answered = true;
    if (slot->sends_pending == 0) {
        settle(slot, slot->result);
    }
}

/* The first block from 'block' on that has data. */
static uint32_t
next_with_data(const struct store_req *req, uint32_t block)
{
    while (block < req->block_count &&
           !peer_state_has_data(req->states[block])) {
        block++;
    }
    return block;
}

void
client_reply(struct link_remote *remote)
{
    const struct peer_head *head = &remote->parser.head;
    uint64_t index = head->id & 0xffff;
    struct peer_answer answer;

    struct client_slot *slot =
        index < remote->slot_count ? &remote->slots[index] : NULL;
    if (slot == NULL || slot->req == NULL || slot->id != head->id ||
        slot->is_answered) {
        violated(remote, "a reply without its request");
        return;
    }
    struct store_req *req = slot->req;
    if (peer_reply_decode(head, remote->parser.meta, req, &answer) != 0) {
        violated(remote, "a reply that does not fit its request");
        return;
    }
    slot->result = answer.result;
    remote->arrival = (struct client_arrival){
        .slot = slot,
        .data_crc = answer.data_crc,
        .entries_count = answer.count,
    };
    if (answer.states != NULL) {
        memcpy(req->crcs, answer.crcs, 4 * (size_t)answer.count);
        memcpy(req->states, answer.states, answer.count);
        remote->arrival.block = next_with_data(req, 0);
    }
    if (req->opcode == STORE_LIST && answer.result == 0) {
        req->entries_count = answer.count;
    }
    if (head->data_bytes == 0) {
        answered(slot);
    }
}

static void
read_data(struct link_remote *remote, const uint8_t *data, uint32_t size_bytes)
{
    struct client_arrival *arrival = &remote->arrival;
    struct store_req *req = arrival->slot->req;

    while (size_bytes != 0) {
        uint32_t taken = WEFT_BLOCK_SIZE - arrival->offset;
        if (taken > size_bytes) {
            taken = size_bytes;
        }
        uint8_t *to = req->data + (uint64_t)arrival->block * WEFT_BLOCK_SIZE +
                      arrival->offset;
        CHECK(arrival->block < req->block_count);
        arrival->crc = crc32c_copy(arrival->crc, to, data, taken);
        arrival->offset += taken;
        data += taken;
        size_bytes -= taken;
        if (arrival->offset == WEFT_BLOCK_SIZE) {
            if (arrival->crc != req->crcs[arrival->block]) {
                req->states[arrival->block] = STORE_BLOCK_BAD;
                remote->info.crc_errors++;
            }
            arrival->block = next_with_data(req, arrival->block + 1);
            arrival->offset = 0;
            arrival->crc = 0;
        }
    }
}

static void
list_data(struct link_remote *remote, const uint8_t *data, uint32_t size_bytes)
{
    struct client_arrival *arrival = &remote->arrival;
    struct store_req *req = arrival->slot->req;
    uint8_t *entries = (uint8_t *)req->entries;

    arrival->crc =
        crc32c_copy(arrival->crc, entries + arrival->offset, data, size_bytes);
    arrival->offset += size_bytes;
    if (remote->parser.data_left != 0) {
        return;
    }
    if (arrival->crc != arrival->data_crc) {
        violated(remote, "the checksum of a list is wrong");
        return;
    }
    for (uint32_t i = 1; i < req->entries_count; i++) {
        if (req->entries[i].slot_index <= req->entries[i - 1].slot_index) {
            violated(remote, "a list is not in order");
            return;
        }
    }
}

void
client_data(struct link_remote *remote)
{
    const struct peer_parser *parser = &remote->parser;
    struct client_slot *slot = remote->arrival.slot;

    CHECK(slot != NULL);
    if (slot->req->opcode == STORE_READ) {
        read_data(remote, parser->chunk, parser->chunk_bytes);
    } else {
        list_data(remote, parser->chunk, parser->chunk_bytes);
    }
    if (parser->data_left == 0 && remote->phase == CLIENT_READY) {
        answered(slot);
    }
}

/* ---- Deadlines and the end ---- */

void
client_expire(struct link_remote *remote, uint64_t now_ns)
{
    uint64_t earliest_ns = IO_NEVER;
    bool is_late = false;

    for (uint32_t i = 0; i < remote->slot_count; i++) {
        struct client_slot *slot = &remote->slots[i];
        if (slot->req == NULL || slot->is_answered) {
            continue;
        }
        if (slot->req->deadline_ns <= now_ns) {
            slot->is_late = true;
            is_late = true;
        } else if (slot->req->deadline_ns < earliest_ns) {
            earliest_ns = slot->req->deadline_ns;
        }
    }
    LIST_FOREACH (node, &remote->queue) {
        struct store_req *req = container_of(node, struct store_req, node);
        if (req->deadline_ns <= now_ns) {
            /* Nothing was sent: nothing late can come of it. */
            list_remove(node);
            remote->link.in_flight--;
            refuse(remote, req, -ETIMEDOUT);
        } else if (req->deadline_ns < earliest_ns) {
            earliest_ns = req->deadline_ns;
        }
    }
    remote->earliest_ns = earliest_ns;
    if (is_late) {
        remote->info.timeouts++;
        client_cut(remote, -ETIMEDOUT, "a request was not answered in time");
    }
}

void
client_fail_all(struct link_remote *remote)
{
    struct list *node;

    remote->arrival.slot = NULL;
    for (uint32_t i = 0; i < remote->slot_count; i++) {
        struct client_slot *slot = &remote->slots[i];
        if (slot->req != NULL && slot->is_answered) {
            settle(slot, slot->result); /* Only its sends were pending. */
        } else if (slot->req != NULL) {
            settle(slot, slot->is_late ? -ETIMEDOUT : -ENOTCONN);
        }
    }
    while ((node = list_pop_front(&remote->queue)) != NULL) {
        struct store_req *req = container_of(node, struct store_req, node);
        remote->link.in_flight--;
        req->result = -ENOTCONN;
        req->done(req);
    }
    CHECK(remote->used_requests == 0);
    CHECK(remote->used_bytes == 0);
}
