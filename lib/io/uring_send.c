/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>

/* Sending.  A connection has at most one send request in the kernel.  What is
 * queued until the end of a turn, or while a request is in the kernel, leaves
 * together in the next request: one system call, few segments.
 *
 *   io_conn_send --> QUEUED --> FLYING --> SETTLED --> done()
 *                       |          |
 *                       |          '--> NOTIFY --> SETTLED   (zero copy)
 *                       '--> SETTLED   (cancelled, or the connection ends)
 *
 * Zero copy: a large send goes alone, and its completion only says that the
 * transport has it; the kernel reads the memory until the notification, a
 * second completion of the same request.  The next send does not wait for
 * the notification.  'op.result' counts the notifications that are owed. */

void
uring_send_settled(struct io_send *send)
{
    struct uring_conn *slot = uring_data_object(send->op.sequence);

    if (slot == NULL) {
        return;
    }
    CHECK(slot->sends_pending > 0);
    slot->sends_pending--;
    if (slot->state == URING_CONN_CLOSING && slot->sends_pending == 0) {
        uring_conn_want_attention(slot);
    }
}

static void
uring_send_settle(struct uring_conn *slot, struct io_send *send, int result)
{
    list_remove(&send->op.node);
    uring_settle(slot->reactor, &send->op, URING_OP_SEND_SETTLED, result);
}

/* What a send is told that did not leave. */
static int
uring_send_failure(const struct uring_conn *slot)
{
    return slot->reason != 0 ? slot->reason : -ECANCELED;
}

void
uring_conn_send(struct io *io, struct io_conn *conn, struct io_send *send)
{
    struct reactor *reactor = uring_reactor(io);
    struct uring_conn *slot = conn->impl;

    send->op.sequence = uring_data(URING_TAG_SEND, slot);
    list_init(&send->op.node);
    if (slot != NULL) {
        slot->sends_pending++;
    }
    if (slot == NULL || slot->state != URING_CONN_OPEN) {
        uring_settle(reactor, &send->op, URING_OP_SEND_SETTLED, -ENOTCONN);
        return;
    }
    send->op.state = URING_OP_SEND_QUEUED;
    send->op.result = 0;
    list_push_back(&slot->sends, &send->op.node);
    if (!slot->send_flying && !list_is_linked(&slot->flush)) {
        list_push_back(&reactor->flush, &slot->flush);
    }
}

void
uring_send_cancel(struct reactor *reactor, struct io_send *send)
{
    struct uring_conn *slot = uring_data_object(send->op.sequence);

    CHECK(slot->reactor == reactor);
    uring_send_settle(slot, send, -ECANCELED);
    if (slot->state == URING_CONN_DRAINING) {
        uring_conn_want_attention(slot);
    }
}

/* ---- Into the kernel ---- */

/* Fills slot->iov with what is left of the queued sends; returns the count of
 * entries. */
static uint32_t
uring_send_gather(struct uring_conn *slot, uint32_t *ret_size_bytes)
{
    uint32_t count = 0;
    uint32_t size_bytes = 0;

    LIST_FOREACH (node, &slot->sends) {
        struct io_op *op = container_of(node, struct io_op, node);
        struct io_send *send = container_of(op, struct io_send, op);
        uint64_t skip = send->sent_bytes;

        if (count > 0 &&
            (count + send->iov_count > URING_SEND_IOV_COUNT ||
             size_bytes + (uint64_t)send->size_bytes > URING_SEND_BYTES_MAX)) {
            break;
        }
        for (uint32_t i = 0; i < send->iov_count; i++) {
            struct iovec part = send->iov[i];

            if (skip >= part.iov_len) {
                skip -= part.iov_len;
                continue;
            }
            part.iov_base = (uint8_t *)part.iov_base + skip;
            part.iov_len -= skip;
            skip = 0;
            size_bytes += (uint32_t)part.iov_len;
            slot->iov[count++] = part;
        }
        send->op.state = URING_OP_SEND_FLYING;
    }
    *ret_size_bytes = size_bytes;
    return count;
}

/* The first send alone, without a copy. */
static void
uring_send_submit_zc(struct uring_conn *slot, struct io_send *send)
{
    struct reactor *reactor = slot->reactor;
    struct io_uring_sqe *sqe = uring_sqe(reactor);
    uint64_t skip = send->sent_bytes;
    uint32_t count = 0;

    for (uint32_t i = 0; i < send->iov_count; i++) {
        struct iovec part = send->iov[i];

        if (skip >= part.iov_len) {
            skip -= part.iov_len;
            continue;
        }
        part.iov_base = (uint8_t *)part.iov_base + skip;
        part.iov_len -= skip;
        skip = 0;
        slot->iov[count++] = part;
    }
    if (count == 1) {
        int buffer = uring_fixed_buffer(reactor, slot->iov[0].iov_base,
                                        slot->iov[0].iov_len);

        io_uring_prep_send_zc(sqe, slot->fd, slot->iov[0].iov_base,
                              slot->iov[0].iov_len, MSG_NOSIGNAL | MSG_WAITALL,
                              0);
        if (buffer >= 0) {
            sqe->ioprio |= (uint16_t)IORING_RECVSEND_FIXED_BUF;
            sqe->buf_index = (uint16_t)buffer;
        }
    } else {
        slot->message.msg_iovlen = count;
        io_uring_prep_sendmsg_zc(sqe, slot->fd, &slot->message,
                                 MSG_NOSIGNAL | MSG_WAITALL);
    }
    uring_sqe_target(reactor, sqe, slot->fd, slot->index);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_SEND_ZC, send));
    slot->zerocopy_pending++;
    send->op.state = URING_OP_SEND_FLYING;
}

static void
uring_send_submit_copy(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;
    struct io_uring_sqe *sqe = uring_sqe(reactor);
    uint32_t size_bytes;
    uint32_t count = uring_send_gather(slot, &size_bytes);

    CHECK(size_bytes > 0);
    if (count == 1) {
        io_uring_prep_send(sqe, slot->fd, slot->iov[0].iov_base,
                           slot->iov[0].iov_len, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        slot->message.msg_iovlen = count;
        io_uring_prep_sendmsg(sqe, slot->fd, &slot->message,
                              MSG_NOSIGNAL | MSG_WAITALL);
    }
    uring_sqe_target(reactor, sqe, slot->fd, slot->index);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_SEND, slot));
}

void
uring_send_flush(struct uring_conn *slot)
{
    struct list *node = list_front(&slot->sends);
    struct reactor *reactor = slot->reactor;
    uint32_t zerocopy_min = reactor->options.zerocopy_min_bytes;
    struct io_send *send;
    struct io_op *op;

    if (slot->send_flying || node == NULL ||
        slot->state == URING_CONN_CLOSING) {
        return;
    }
    op = container_of(node, struct io_op, node);
    send = container_of(op, struct io_send, op);
    if (slot->tcp && zerocopy_min != 0 &&
        send->size_bytes - send->sent_bytes >= zerocopy_min) {
        uring_send_submit_zc(slot, send);
    } else {
        uring_send_submit_copy(slot);
    }
    slot->send_flying = true;
    slot->requests++;
    reactor->info.sends++;
}

/* ---- Out of the kernel ---- */

/* The request in the kernel is over; goes on with what is queued. */
static void
uring_send_continue(struct uring_conn *slot, int result)
{
    if (result <= 0 && result != -EAGAIN && result != -EINTR) {
        uring_conn_cut(slot, result < 0 ? result : -EPIPE);
    }
    switch (slot->state) {
    case URING_CONN_CLOSING:
        uring_send_abandon(slot);
        uring_conn_want_attention(slot);
        return;
    case URING_CONN_DRAINING:
        uring_conn_want_attention(slot);
        break;
    case URING_CONN_CONNECTING:
    case URING_CONN_OPEN:
        break;
    }
    /* At the end of the turn: others may add to it until then. */
    if (!list_is_empty(&slot->sends) && !list_is_linked(&slot->flush)) {
        list_push_back(&slot->reactor->flush, &slot->flush);
    }
}

void
uring_send_complete(struct uring_conn *slot, int result)
{
    uint32_t left = result > 0 ? (uint32_t)result : 0;

    CHECK(slot->send_flying);
    slot->send_flying = false;
    slot->requests--;
    while (left > 0) {
        struct list *node = list_front(&slot->sends);
        struct io_op *op;
        struct io_send *send;
        uint32_t part;

        CHECK(node != NULL);
        op = container_of(node, struct io_op, node);
        send = container_of(op, struct io_send, op);
        part = send->size_bytes - send->sent_bytes;
        if (left < part) {
            send->sent_bytes += left;
            break;
        }
        send->sent_bytes = send->size_bytes;
        left -= part;
        uring_send_settle(slot, send, 0);
    }
    uring_send_continue(slot, result);
}

/* The transport has all of 'send', or will not get it; it can be settled once
 * no notification is owed. */
static void
uring_send_zc_finish(struct uring_conn *slot, struct io_send *send)
{
    if (send->op.result > 0) {
        send->op.state = URING_OP_SEND_NOTIFY;
        list_remove(&send->op.node);
        list_push_back(&slot->notifies, &send->op.node);
        return;
    }
    uring_send_settle(slot, send,
                      send->sent_bytes == send->size_bytes
                          ? 0
                          : uring_send_failure(slot));
}

void
uring_send_zc_complete(struct io_send *send, int result, uint32_t flags)
{
    struct uring_conn *slot = uring_data_object(send->op.sequence);

    if ((flags & IORING_CQE_F_NOTIF) != 0) {
        CHECK(send->op.result > 0);
        send->op.result--;
        slot->requests--;
        slot->zerocopy_pending--;
        if (send->op.state == URING_OP_SEND_NOTIFY) {
            uring_send_zc_finish(slot, send);
        }
        if (slot->state == URING_CONN_CLOSING ||
            slot->state == URING_CONN_DRAINING) {
            uring_conn_want_attention(slot);
        }
        return;
    }
    CHECK(slot->send_flying);
    slot->send_flying = false;
    if ((flags & IORING_CQE_F_MORE) != 0) {
        send->op.result++; /* The request stays counted until then. */
    } else {
        slot->requests--;
        slot->zerocopy_pending--;
    }
    if (result > 0) {
        CHECK((uint32_t)result <= send->size_bytes - send->sent_bytes);
        send->sent_bytes += (uint32_t)result;
        if (send->sent_bytes == send->size_bytes) {
            uring_send_zc_finish(slot, send);
        }
    }
    uring_send_continue(slot, result);
}

void
uring_send_abandon(struct uring_conn *slot)
{
    struct list keep;
    struct list *node;

    if (slot->send_flying) {
        /* Those in the kernel wait for its answer; the others need not, but
         * it makes no difference to anybody. */
        return;
    }
    list_init(&keep);
    list_splice_back(&keep, &slot->sends);
    while ((node = list_pop_front(&keep)) != NULL) {
        struct io_op *op = container_of(node, struct io_op, node);

        uring_send_zc_finish(slot, container_of(op, struct io_send, op));
    }
}
