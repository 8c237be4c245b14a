/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

/* The life of a connection slot:
 *
 *   CONNECTING --> OPEN --> DRAINING --> CLOSING --> (free)
 *        |           |                     ^
 *        '-----------'---------------------'
 *
 * OPEN:      receives (uring_recv.c) and sends (uring_send.c).
 * DRAINING:  io_conn_close_after_sends(): sends what is queued, says "end" to
 *            the other side, and reads and drops what comes until it says
 *            "end", too, or a second has passed.  Closing with unread bytes
 *            would make TCP reset the connection, and the other side could
 *            lose our last words.
 * CLOSING:   everything in the kernel has been cancelled; the slot waits for
 *            the last completions, then on_closed() and free.
 *
 * All steps that call the owner back because of a start are taken by
 * uring_conn_attend(), which the loop calls. */

static void
uring_conn_timer_fired(struct io_timer *timer)
{
    struct uring_conn *slot = container_of(timer, struct uring_conn, timer);

    uring_conn_cut(slot, slot->state == URING_CONN_CONNECTING ? -ETIMEDOUT : 0);
}

void
uring_conn_want_attention(struct uring_conn *slot)
{
    if (!list_is_linked(&slot->attention)) {
        list_push_back(&slot->reactor->attention, &slot->attention);
    }
}

/* ---- Slots ---- */

/* Takes a free slot for 'conn' and the open socket 'fd', or NULL. */
static struct uring_conn *
uring_conn_slot_take(struct reactor *reactor, struct io_conn *conn, int fd)
{
    struct list *node = list_pop_front(&reactor->conns_free);
    struct uring_conn *slot;

    if (node == NULL) {
        return NULL;
    }
    slot = container_of(node, struct uring_conn, node);
    CHECK(slot->conn == NULL);
    CHECK(slot->requests == 0);
    CHECK(slot->sends_pending == 0);
    CHECK(slot->zerocopy_pending == 0);
    slot->conn = conn;
    slot->fd = fd;
    slot->reason = 0;
    slot->recv_armed = slot->recv_cancelling = slot->poll_armed = false;
    slot->send_flying = slot->connect_flying = false;
    slot->report_connect = false;
    slot->paused = slot->ended = slot->write_shut = false;
    slot->held_count = 0;
    slot->held_first = slot->held_last = URING_NO_BUFFER;
    io_timer_init(&slot->timer, uring_conn_timer_fired);
    uring_fixed_file_set(reactor, slot->index, fd);
    reactor->conns_open++;
    conn->impl = slot;
    return slot;
}

static void
uring_conn_slot_give(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;

    CHECK(slot->requests == 0);
    CHECK(slot->sends_pending == 0);
    CHECK(slot->held_count == 0);
    uring_fixed_file_set(reactor, slot->index, -1);
    close(slot->fd);
    slot->fd = -1;
    slot->conn = NULL;
    list_remove(&slot->flush);
    list_remove(&slot->attention);
    reactor->conns_open--;
    list_push_front(&reactor->conns_free, &slot->node);
}

/* BBR lets a timer pace what it sends: made for long ways, it costs a third of
 * the processor on short ones.  Any other choice of the administrator stands.
 */
static void
uring_conn_avoid_pacing(int fd)
{
    static const char paced[] = "bbr";
    static const char unpaced[] = "cubic";
    char name[32] = "";
    socklen_t size = sizeof(name) - 1;

    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0 &&
        strcmp(name, paced) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, unpaced,
                         sizeof(unpaced) - 1);
    }
}

static void
uring_conn_set_options(struct uring_conn *slot)
{
    int one = 1;
    int idle_s = 60, every_s = 10, count = 6;

    /* Messages leave whole; waiting for more only costs latency.  A host that
     * vanished without a word is noticed in two minutes.  Failing is
     * harmless. */
    if (slot->tcp) {
        (void)setsockopt(slot->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        uring_conn_avoid_pacing(slot->fd);
        (void)setsockopt(slot->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        (void)setsockopt(slot->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s,
                         sizeof(idle_s));
        (void)setsockopt(slot->fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s,
                         sizeof(every_s));
        (void)setsockopt(slot->fd, IPPROTO_TCP, TCP_KEEPCNT, &count,
                         sizeof(count));
    }
}

/* ---- Opening ---- */

static void
uring_conn_refuse(struct reactor *reactor, struct io_conn *conn, int result)
{
    conn->result = result;
    list_push_back(&reactor->refused, &conn->node);
}

void
uring_conn_report_refused(struct io_conn *conn)
{
    int result = conn->result;

    conn->on_connected(conn, result);
    conn->on_closed(conn, result);
}

void
uring_conn_connect(struct io *io, struct io_conn *conn, const char *address,
                   uint64_t deadline_ns)
{
    struct reactor *reactor = uring_reactor(io);
    struct io_address peer;
    struct io_uring_sqe *sqe;
    struct uring_conn *slot;
    int fd;
    int rc;

    CHECK(conn->impl == NULL);
    rc = io_address_parse(address, &peer);
    if (rc != 0) {
        uring_conn_refuse(reactor, conn, rc);
        return;
    }
    fd = socket(peer.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        uring_conn_refuse(reactor, conn, -errno);
        return;
    }
    slot = uring_conn_slot_take(reactor, conn, fd);
    if (slot == NULL) {
        close(fd);
        uring_conn_refuse(reactor, conn, -EMFILE);
        return;
    }
    slot->state = URING_CONN_CONNECTING;
    slot->peer = peer;
    slot->tcp = io_address_is_tcp(&peer);
    slot->report_connect = true;
    uring_conn_set_options(slot);
    sqe = uring_sqe(reactor);
    io_uring_prep_connect(sqe, fd, &slot->peer.u.any, slot->peer.size);
    uring_sqe_target(reactor, sqe, fd, slot->index);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_CONNECT, slot));
    slot->connect_flying = true;
    slot->requests++;
    if (deadline_ns != IO_NEVER) {
        io_timer_set(io, &slot->timer, deadline_ns);
    }
}

void
uring_conn_connect_complete(struct uring_conn *slot, int result)
{
    struct io_conn *conn = slot->conn;

    CHECK(slot->connect_flying);
    slot->connect_flying = false;
    slot->requests--;
    if (slot->state != URING_CONN_CONNECTING) {
        CHECK(slot->state == URING_CONN_CLOSING);
        uring_conn_want_attention(slot);
        return;
    }
    if (result != 0) {
        uring_conn_cut(slot, result);
        return;
    }
    io_timer_cancel(&slot->reactor->io, &slot->timer);
    slot->state = URING_CONN_OPEN;
    slot->report_connect = false;
    uring_recv_arm(slot);
    conn->on_connected(conn, 0);
}

int
uring_conn_adopt(struct io *io, struct io_conn *conn,
                 struct io_accepted *accepted)
{
    struct reactor *reactor = uring_reactor(io);
    struct uring_conn *slot;

    CHECK(conn->impl == NULL);
    CHECK(accepted->fd >= 0);
    slot = uring_conn_slot_take(reactor, conn, accepted->fd);
    if (slot == NULL) {
        return -EMFILE;
    }
    accepted->fd = -1;
    slot->state = URING_CONN_OPEN;
    slot->tcp = io_address_is_tcp(&accepted->listener->address);
    uring_conn_set_options(slot);
    uring_recv_arm(slot);
    return 0;
}

/* ---- Closing ---- */

/* Ends the transport under requests that cannot be cancelled. */
static void
uring_conn_break(struct uring_conn *slot)
{
    struct sockaddr nobody = { .sa_family = AF_UNSPEC };

    if (slot->zerocopy_pending == 0) {
        /* For a send that is being retried. */
        (void)shutdown(slot->fd, SHUT_RDWR);
        return;
    }
    /* The transport still reads from memory that we owe to the owner of the
     * send, and would do so until the other side makes room for it.  This
     * makes TCP forget it (and reset the connection). */
    (void)connect(slot->fd, &nobody, sizeof(nobody));
}

void
uring_conn_cut(struct uring_conn *slot, int reason)
{
    struct reactor *reactor = slot->reactor;

    if (slot->state == URING_CONN_CLOSING) {
        return;
    }
    slot->state = URING_CONN_CLOSING;
    slot->reason = reason;
    io_timer_cancel(&reactor->io, &slot->timer);
    list_remove(&slot->flush);
    uring_recv_drop_held(slot);
    uring_send_abandon(slot);
    if (slot->requests > 0) {
        struct io_uring_sqe *sqe = uring_sqe(reactor);
        unsigned flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD;

        /* Entries prepared before this one are submitted before it, so
         * this finds all requests of the connection. */
        if (reactor->fixed_files) {
            io_uring_prep_cancel_fd(sqe, (int)slot->index,
                                    flags | IORING_ASYNC_CANCEL_FD_FIXED);
        } else {
            io_uring_prep_cancel_fd(sqe, slot->fd, flags);
        }
        io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_NONE, NULL));
        uring_conn_break(slot);
    }
    uring_conn_want_attention(slot);
}

void
uring_conn_close(struct io *io, struct io_conn *conn)
{
    CHECK(uring_reactor(io) != NULL);
    if (conn->impl != NULL) {
        uring_conn_cut(conn->impl, 0);
    }
}

void
uring_conn_close_after_sends(struct io *io, struct io_conn *conn)
{
    struct uring_conn *slot = conn->impl;

    CHECK(uring_reactor(io) != NULL);
    if (slot == NULL) {
        return;
    }
    switch (slot->state) {
    case URING_CONN_CONNECTING:
        uring_conn_cut(slot, 0); /* Nothing can have been queued. */
        break;
    case URING_CONN_OPEN:
        slot->state = URING_CONN_DRAINING;
        slot->paused = false;
        uring_recv_drop_held(slot);
        uring_conn_want_attention(slot);
        break;
    case URING_CONN_DRAINING:
    case URING_CONN_CLOSING:
        break;
    }
}

static void
uring_conn_attend_draining(struct uring_conn *slot)
{
    struct reactor *reactor = slot->reactor;

    if (!list_is_empty(&slot->sends) || !list_is_empty(&slot->notifies)) {
        uring_recv_arm(slot);
        return;
    }
    if (slot->ended) {
        uring_conn_cut(slot, 0);
        return;
    }
    if (!slot->write_shut) {
        slot->write_shut = true;
        (void)shutdown(slot->fd, SHUT_WR);
        io_timer_set(&reactor->io, &slot->timer,
                     reactor->now_ns + URING_LINGER_NS);
    }
    uring_recv_arm(slot);
}

static void
uring_conn_attend_closing(struct uring_conn *slot)
{
    struct io_conn *conn = slot->conn;
    int reason = slot->reason;

    if (slot->requests > 0 || slot->sends_pending > 0) {
        return; /* Their completions bring us back. */
    }
    if (slot->report_connect) {
        slot->report_connect = false;
        conn->on_connected(conn, reason != 0 ? reason : -ECANCELED);
        if (slot->sends_pending > 0) {
            return;
        }
    }
    uring_conn_slot_give(slot);
    conn->impl = NULL;
    conn->on_closed(conn, reason);
}

void
uring_conn_attend(struct uring_conn *slot)
{
    switch (slot->state) {
    case URING_CONN_CONNECTING:
        break;
    case URING_CONN_OPEN:
        uring_recv_deliver_held(slot);
        if (slot->state != URING_CONN_OPEN || slot->paused) {
            break;
        }
        if (slot->ended) {
            uring_conn_cut(slot, 0);
        } else {
            uring_recv_arm(slot);
        }
        break;
    case URING_CONN_DRAINING:
        uring_conn_attend_draining(slot);
        break;
    case URING_CONN_CLOSING:
        uring_conn_attend_closing(slot);
        break;
    }
}
