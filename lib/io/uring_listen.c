/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/uring_internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

/* Listening sockets: one multishot accept each.  When the kernel ends it for
 * lack of descriptors or memory it is armed again a little later; the clients
 * wait in the backlog meanwhile.
 *
 * After io_listener_close() the owner's structure is free at once; the slot
 * here waits for the accept's last completion. */

#define URING_BACKLOG 1024

static void
uring_listen_arm(struct uring_listener *slot)
{
    struct reactor *reactor = container_of(slot->impl.io, struct reactor, io);
    struct io_uring_sqe *sqe = uring_sqe(reactor);

    CHECK(!slot->accept_armed);
    io_uring_prep_multishot_accept(sqe, slot->fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, uring_data(URING_TAG_ACCEPT, slot));
    slot->accept_armed = true;
}

static void
uring_listen_retry(struct io_timer *timer)
{
    uring_listen_arm(container_of(timer, struct uring_listener, retry));
}

/* ---- Opening ---- */

/* A socket file that nobody listens on: what a killed process leaves. */
static bool
uring_listen_is_stale(const struct io_address *address)
{
    struct stat status;

    if (lstat(address->u.path.sun_path, &status) != 0 ||
        !S_ISSOCK(status.st_mode)) {
        return false;
    }
    CLEANUP_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && connect(fd, &address->u.any, address->size) != 0 &&
           errno == ECONNREFUSED;
}

static int
uring_listen_bind(int fd, const struct io_address *address)
{
    int one = 1;

    if (io_address_is_tcp(address)) {
        /* Not SO_REUSEPORT: a second server must be refused. */
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0) {
            return -errno;
        }
        return bind(fd, &address->u.any, address->size) == 0 ? 0 : -errno;
    }
    if (bind(fd, &address->u.any, address->size) == 0) {
        return 0;
    }
    if (errno != EADDRINUSE || !uring_listen_is_stale(address)) {
        return -errno;
    }
    if (unlink(address->u.path.sun_path) != 0 && errno != ENOENT) {
        return -errno;
    }
    return bind(fd, &address->u.any, address->size) == 0 ? 0 : -errno;
}

/* Makes the listening socket; 'address' becomes the bound one. */
static int
uring_listen_socket(struct io_address *address)
{
    socklen_t size = sizeof(address->u);
    int rc;

    CLEANUP_FD int fd =
        socket(address->u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    rc = uring_listen_bind(fd, address);
    if (rc != 0) {
        return rc;
    }
    if (listen(fd, URING_BACKLOG) != 0) {
        return -errno;
    }
    if (io_address_is_tcp(address)) {
        if (getsockname(fd, &address->u.any, &size) != 0) {
            return -errno;
        }
        address->size = size;
    }
    return cleanup_take_fd(&fd);
}

/* Remembers which socket file is ours, to remove that one and no other. */
static void
uring_listen_note_path(struct uring_listener *slot)
{
    struct stat status;

    slot->unlink_path = false;
    if (!io_address_is_tcp(&slot->address) &&
        lstat(slot->address.u.path.sun_path, &status) == 0) {
        slot->unlink_path = true;
        slot->path_device = status.st_dev;
        slot->path_inode = status.st_ino;
    }
}

static void
uring_listen_unlink_path(const struct uring_listener *slot)
{
    struct stat status;

    if (slot->unlink_path &&
        lstat(slot->address.u.path.sun_path, &status) == 0 &&
        status.st_dev == slot->path_device &&
        status.st_ino == slot->path_inode) {
        (void)unlink(slot->address.u.path.sun_path);
    }
}

int
uring_listener_open(struct io *io, struct io_listener *listener,
                    const char *text)
{
    struct reactor *reactor = uring_reactor(io);
    struct io_address address;
    struct uring_listener *slot;
    struct list *node;
    int fd;
    int rc;

    CHECK(listener->impl == NULL);
    rc = io_address_parse(text, &address);
    if (rc != 0) {
        return rc;
    }
    if (list_is_empty(&reactor->listeners_free)) {
        return -EMFILE;
    }
    fd = uring_listen_socket(&address);
    if (fd < 0) {
        return fd;
    }
    node = list_pop_front(&reactor->listeners_free);
    CHECK(node != NULL);
    slot = container_of(node, struct uring_listener, node);
    slot->impl.io = io;
    slot->listener = listener;
    slot->fd = fd;
    slot->accept_armed = false;
    slot->address = address;
    io_timer_init(&slot->retry, uring_listen_retry);
    uring_listen_note_path(slot);
    uring_listen_arm(slot);
    reactor->listeners_open++;
    listener->impl = slot;
    return 0;
}

void
uring_listener_address(const struct io_listener *listener,
                       char ret_address[IO_ADDRESS_SIZE])
{
    const struct uring_listener *slot = listener->impl;

    io_address_format(&slot->address, ret_address);
}

/* ---- Closing ---- */

static void
uring_listen_slot_give(struct uring_listener *slot)
{
    struct reactor *reactor = container_of(slot->impl.io, struct reactor, io);

    list_push_front(&reactor->listeners_free, &slot->node);
}

void
uring_listener_close(struct io *io, struct io_listener *listener)
{
    struct reactor *reactor = uring_reactor(io);
    struct uring_listener *slot = listener->impl;

    io_timer_cancel(io, &slot->retry);
    uring_listen_unlink_path(slot);
    /* The accept still refers to the socket; this makes it stop listening,
     * so that the address can be bound anew at once. */
    (void)shutdown(slot->fd, SHUT_RDWR);
    close(slot->fd);
    slot->fd = -1;
    slot->listener = NULL;
    listener->impl = NULL;
    reactor->listeners_open--;
    if (slot->accept_armed) {
        uring_cancel(reactor, uring_data(URING_TAG_ACCEPT, slot));
    } else {
        uring_listen_slot_give(slot);
    }
}

/* ---- Accepting ---- */

static void
uring_accept_stopped(struct uring_listener *slot, int result)
{
    struct reactor *reactor = container_of(slot->impl.io, struct reactor, io);

    switch (result) {
    case -EMFILE:
    case -ENFILE:
    case -ENOBUFS:
    case -ENOMEM:
        io_timer_set(slot->impl.io, &slot->retry,
                     reactor->now_ns + URING_ACCEPT_RETRY_NS);
        break;
    default:
        /* -ECONNABORTED and its like, or the kernel's wish. */
        uring_listen_arm(slot);
        break;
    }
}

void
uring_accept_complete(struct uring_listener *slot, int result, uint32_t flags)
{
    CHECK(slot->accept_armed);
    if ((flags & IORING_CQE_F_MORE) == 0) {
        slot->accept_armed = false;
    }
    if (result >= 0) {
        struct io_accepted accepted = { .listener = slot, .fd = result };

        if (slot->listener != NULL) {
            slot->listener->on_accept(slot->listener, &accepted);
        }
        if (accepted.fd >= 0) {
            close(accepted.fd);
        }
    }
    if (slot->accept_armed) {
        return;
    }
    if (slot->listener == NULL) {
        uring_listen_slot_give(slot);
    } else {
        uring_accept_stopped(slot, result);
    }
}
