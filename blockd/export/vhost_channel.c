/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"

/* Messages on the unix socket: bytes and descriptors in, answers out.
 *
 * A message is gathered over as many reads as it takes; no read goes beyond
 * its end, so that the descriptors that come with the bytes are its own.
 * Descriptors are closed with the message unless a handler has taken them. */

/* ---- Descriptors ---- */

static bool
vhost_fd_is_eventfd(int fd)
{
    char path[64];
    char target[64];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(path, target, sizeof target - 1);
    if (size < 0) {
        return false;
    }
    target[size] = '\0';
    return strcmp(target, "anon_inode:[eventfd]") == 0;
}

int
vhost_conn_take_fd(struct vhost_export *vhost_export, uint32_t index)
{
    struct vhost_conn *conn = &vhost_export->conn;

    CHECK(index < conn->fd_count);
    int fd = conn->fds[index];
    int flags = fcntl(fd, F_GETFL);
    if (!vhost_fd_is_eventfd(fd) || flags < 0 ||
        fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        return -1; /* It is closed with the message. */
    }
    conn->fds[index] = -1;
    return fd;
}

/* ---- Messages ---- */

void
vhost_conn_drop_message(struct vhost_conn *conn)
{
    for (uint32_t i = 0; i < conn->fd_count; i++) {
        if (conn->fds[i] >= 0) {
            close(conn->fds[i]);
        }
    }
    conn->fd_count = 0;
    conn->read_bytes = 0;
    conn->payload_bytes = 0;
    conn->waiting = false;
}

int
vhost_conn_reply(struct vhost_export *vhost_export, const void *payload,
                 uint32_t size_bytes, int fd)
{
    struct vhost_conn *conn = &vhost_export->conn;
    struct vhost_wire_header header = {
        .request = conn->header.request,
        .flags = le32_make(VHOST_FLAG_VERSION | VHOST_FLAG_REPLY),
        .size_bytes = le32_make(size_bytes),
    };
    uint8_t bytes[sizeof header + VHOST_PAYLOAD_MAX];
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = { .buffer = { 0 } };

    CHECK(size_bytes <= VHOST_PAYLOAD_MAX);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + sizeof header, payload, size_bytes);
    struct iovec iov = { .iov_base = bytes,
                         .iov_len = sizeof header + size_bytes };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (fd >= 0) {
        message.msg_control = control.buffer;
        message.msg_controllen = sizeof control.buffer;
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    ssize_t sent = sendmsg(conn->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        return -errno;
    }
    /* A front end that has not read its earlier answers asks for more. */
    return (size_t)sent == iov.iov_len ? 0 : -ENOBUFS;
}

/* Keeps the descriptors that came with some bytes.  -EPROTO: too many. */
static int
vhost_conn_keep_fds(struct vhost_conn *conn, struct msghdr *message)
{
    int result = (message->msg_flags & MSG_CTRUNC) != 0 ? -EPROTO : 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg != NULL;
         cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof fd, sizeof fd);
            if (conn->fd_count < VHOST_FDS_MAX) {
                conn->fds[conn->fd_count++] = fd;
            } else {
                close(fd);
                result = -EPROTO;
            }
        }
    }
    return result;
}

/* Reads at most 'size' bytes: their number, 0 at the end, -EAGAIN, -errno. */
static int
vhost_conn_receive(struct vhost_conn *conn, void *data, uint32_t size)
{
    union {
        char buffer[CMSG_SPACE(VHOST_FDS_MAX * sizeof(int))];
        struct cmsghdr header;
    } control;
    struct iovec iov = { .iov_base = data, .iov_len = size };
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buffer,
        .msg_controllen = sizeof control.buffer,
    };
    ssize_t got;

    do {
        got = recvmsg(conn->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return -errno;
    }
    int result = vhost_conn_keep_fds(conn, &message);
    return result != 0 ? result : (int)got;
}

int
vhost_conn_read(struct vhost_conn *conn, struct err *err)
{
    for (;;) {
        uint32_t header_bytes = sizeof conn->header;
        bool in_header = conn->read_bytes < header_bytes;
        uint32_t end = header_bytes + (in_header ? 0 : conn->payload_bytes);
        int got = 0;

        if (conn->read_bytes < end) {
            uint8_t *to =
                in_header ? (uint8_t *)&conn->header + conn->read_bytes
                          : conn->payload + (conn->read_bytes - header_bytes);
            got = vhost_conn_receive(conn, to, end - conn->read_bytes);
            if (got == 0) {
                err_set(err, "%s",
                        conn->read_bytes == 0 ? "closed by the front end"
                                              : "closed inside a message");
                return -ENOTCONN;
            }
            if (got < 0) {
                if (got != -EAGAIN) {
                    err_set(err, "receive: %s", strerror(-got));
                }
                return got;
            }
            conn->read_bytes += (uint32_t)got;
        }
        if (conn->read_bytes < end) {
            continue;
        }
        if (in_header) {
            int result = vhost_msg_parse_header(&conn->header, err,
                                                &conn->payload_bytes);
            if (result != 0) {
                return result;
            }
            if (conn->payload_bytes > 0) {
                continue;
            }
        }
        return vhost_msg_parse(&conn->header, conn->payload, conn->fd_count,
                               err, &conn->msg);
    }
}
