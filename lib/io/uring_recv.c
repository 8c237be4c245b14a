/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Receiving.  All connections share a ring of buffers; a multishot receive
 * takes one for each piece that arrives.  A buffer goes back to the ring when
 * on_data() returns, so usually the ring is full again at the end of a turn.
 *
 * A paused connection keeps what still arrives ("held").  The receive stays
 * armed for a short pause; after URING_HELD_MAX buffers it is cancelled.
 *
 * No deadlock and no starvation: paused connections may hold every buffer, and
 * may wait for something that arrives on a connection that is not paused; or
 * a few busy connections may take all buffers each turn.  A receive that found
 * no buffer (ENOBUFS) polls, and when data is there it is first read into the
 * one reserve buffer, which nobody can hold, since the connection is not
 * paused. */

int
uring_recv_setup(struct reactor *reactor)
{
    const struct reactor_options *options = &reactor->options;
    uint32_t count = options->recv_buffer_count;
    struct io_uring_buf_reg registration = {
        .ring_entries = count,
        .bgid = URING_BUFFER_GROUP,
    };
    void *ring;
    int rc;

    rc = posix_memalign(&ring, 4096, count * sizeof(struct io_uring_buf));
    if (rc != 0) {
        return -rc;
    }
    memset(ring, 0, count * sizeof(struct io_uring_buf));
    reactor->buffer_ring = ring;
    registration.ring_addr = (uintptr_t)ring;
    rc = io_uring_register_buf_ring(&reactor->ring, &registration, 0);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t id = 0; id < count; id++) {
        io_uring_buf_ring_add(reactor->buffer_ring,
                              reactor->buffers +
                                  (size_t)id * options->recv_buffer_bytes,
                              options->recv_buffer_bytes, (uint16_t)id,
                              io_uring_buf_ring_mask(count), (int)id);
    }
    io_uring_buf_ring_advance(reactor->buffer_ring, (int)count);
    return 0;
}

void
uring_recv_teardown(struct reactor *reactor)
{
    free(reactor->buffer_ring); /* After the ring's end. */
    reactor->buffer_ring = NULL;
}

/* ---- Buffers ---- */

static uint8_t *
uring_recv_buffer(const struct reactor *reactor, uint32_t id)
{
    CHECK(id < reactor->options.recv_buffer_count);
    return reactor->buffers + (size_t)id * reactor->options.recv_buffer_bytes;
}

static void
uring_recv_give_back(struct reactor *reactor, uint32_t id)
{
    io_uring_buf_ring_add(reactor->buffer_ring, uring_recv_buffer(reactor, id),
                          reactor->options.recv_buffer_bytes, (uint16_t)id,
                          io_uring_buf_ring_mask(
                              reactor->options.recv_buffer_count),
                          (int)reactor->buffers_returned);
    reactor->buffers_returned++;
}

void
uring_recv_publish(struct reactor *reactor)
{
    if (reactor->buffers_returned > 0) {
        io_uring_buf_ring_advance(reactor->buffer_ring,
                                  (int)reactor->buffers_returned);
        reactor->buffers_returned = 0;
    }
}

/* ---- Holding ---- */

static void
uring_recv_hold(struct uring_conn *slot, uint32_t id, uint32_t size_bytes)
{
    struct reactor *reactor = slot->reactor;

    reactor->held_next[id] = URING_NO_BUFFER;
    reactor->held_bytes[id] = size_bytes;
    if (slot->held_count == 0) {
        slot->held_first = id;
    } else {
        reactor->held_next[slot->held_last] = id;
    }
    slot->held_last = id;
    slot->held_count++;
    reactor->held_total++;
    if (slot->held_count >= URING_HELD_MAX && slot->recv_armed &&
        !slot->recv_cancelling) {
        slot->recv_cancelling = true;
        uring_cancel(reactor, uring_data(URING_TAG_RECV, slot));
    }
}

static uint32_t
uring_recv_unhold(struct uring_conn *slot)
{
    uint32_t id = slot->held_first;

    CHECK(slot->held_count > 0);
    slot->held_first = slot->reactor->held_next[id];
    slot->held_count--;
    slot->reactor->held_total--;
    return id;
}

void
uring_recv_deliver_held(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;

    while (slot->held_count > 0 && !slot->paused &&
           slot->state == URING_CONN_OPEN) {
        uint32_t id = uring_recv_unhold(slot);

        slot->conn->on_data(slot->conn, uring_recv_buffer(reactor, id),
                            reactor->held_bytes[id]);
        uring_recv_give_back(reactor, id);
    }
}

void
uring_recv_drop_held(struct uring_conn *slot)
{
    while (slot->held_count > 0) {
        uring_recv_give_back(slot->reactor, uring_recv_unhold(slot));
    }
}

void
uring_conn_pause(struct io *io, struct io_conn *conn)
{
    struct uring_conn *slot = conn->impl;

    CHECK(uring_reactor(io) != NULL);
    if (slot != NULL && slot->state == URING_CONN_OPEN) {
        slot->paused = true;
    }
}

void
uring_conn_resume(struct io *io, struct io_conn *conn)
{
    struct uring_conn *slot = conn->impl;

    CHECK(uring_reactor(io) != NULL);
    if (slot != NULL && slot->paused) {
        slot->paused = false;
        uring_conn_want_attention(slot);
    }
}

/* ---- Receiving ---- */

void
uring_recv_arm(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;
    struct io_uring_sqe *sqe;

    if (slot->recv_armed || slot->poll_armed || slot->ended || slot->paused) {
        return;
    }
    sqe = uring_sqe(reactor);
    io_uring_prep_recv_multishot(sqe, slot->fd, NULL, 0, 0);
    uring_sqe_target(reactor, sqe, slot->fd, slot->index);
    sqe->flags |= (uint8_t)IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_RECV, slot));
    slot->recv_armed = true;
    slot->requests++;
}

/* Waits for data without a buffer. */
static void
uring_recv_arm_poll(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;
    struct io_uring_sqe *sqe;

    if (slot->recv_armed || slot->poll_armed || slot->ended || slot->paused) {
        return;
    }
    sqe = uring_sqe(reactor);
    io_uring_prep_poll_add(sqe, slot->fd, POLLIN | POLLRDHUP);
    uring_sqe_target(reactor, sqe, slot->fd, slot->index);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_POLL, slot));
    slot->poll_armed = true;
    slot->requests++;
}

/* The other side has said that it will send no more. */
static void
uring_recv_ended(struct uring_conn *slot)
{
    slot->ended = true;
    /* OPEN: what is held comes first, then the end. */
    uring_conn_want_attention(slot);
}

/* Without data: the end, an error, or nothing of importance. */
static void
uring_recv_stopped(struct uring_conn *slot, int result)
{
    switch (result) {
    case 0:
        uring_recv_ended(slot);
        break;
    case -ENOBUFS:
        slot->reactor->info.starvations++;
        uring_recv_arm_poll(slot);
        break;
    case -ECANCELED:
    case -EAGAIN:
    case -EINTR:
        uring_recv_arm(slot);
        break;
    default:
        uring_conn_cut(slot, result);
        break;
    }
}

void
uring_recv_complete(struct uring_conn *slot, int result, uint32_t flags)
{
    struct reactor *reactor = slot->reactor;
    bool has_buffer = (flags & IORING_CQE_F_BUFFER) != 0;
    uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT;
    bool over = (flags & IORING_CQE_F_MORE) == 0;

    CHECK(slot->recv_armed);
    CHECK(result <= 0 || has_buffer);
    reactor->info.receives++;
    if (over) {
        slot->recv_armed = false;
        slot->recv_cancelling = false;
        slot->requests--;
    }
    if (slot->state == URING_CONN_OPEN && result > 0) {
        if (slot->paused || slot->held_count > 0) {
            uring_recv_hold(slot, id, (uint32_t)result);
            has_buffer = false;
        } else {
            slot->conn->on_data(slot->conn, uring_recv_buffer(reactor, id),
                                (uint32_t)result);
        }
    }
    if (has_buffer) {
        uring_recv_give_back(reactor, id);
    }
    if (slot->state == URING_CONN_CLOSING) {
        if (over) {
            uring_conn_want_attention(slot);
        }
    } else if (result <= 0) {
        uring_recv_stopped(slot, result);
    } else if (over) {
        uring_recv_arm(slot);
    }
}

/* Reads once into the reserve buffer; only if nothing is held. */
static void
uring_recv_by_reserve(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;
    ssize_t got = recv(slot->fd, reactor->reserve_buffer,
                       reactor->options.recv_buffer_bytes, MSG_DONTWAIT);

    if (got <= 0) {
        uring_recv_stopped(slot, got == 0 ? 0 : -errno);
        return;
    }
    if (slot->state == URING_CONN_OPEN) {
        slot->conn->on_data(slot->conn, reactor->reserve_buffer, (uint32_t)got);
    }
    if (slot->state == URING_CONN_CLOSING) {
        return;
    }
    if (reactor->held_total < reactor->options.recv_buffer_count) {
        uring_recv_arm(slot);
    } else {
        uring_recv_arm_poll(slot);
    }
}

void
uring_recv_poll_complete(struct uring_conn *slot, int result)
{
    CHECK(slot->poll_armed);
    slot->poll_armed = false;
    slot->requests--;
    if (slot->state == URING_CONN_CLOSING) {
        uring_conn_want_attention(slot);
        return;
    }
    if (slot->paused || slot->held_count > 0) {
        /* What is held comes first; resuming arms a receive. */
        uring_conn_want_attention(slot);
        return;
    }
    if (result < 0 && result != -EAGAIN && result != -EINTR &&
        result != -ECANCELED) {
        uring_conn_cut(slot, result);
    } else {
        uring_recv_by_reserve(slot);
    }
}
