/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/export/vhost.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "blockd/export/vhost_internal.h"
#include "lib/base/cleanup.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"

/* The socket, the connection, and birth and death of the export; the states
 * are in vhost_internal.h.
 *
 * All descriptors are watched by the reactor and used without waiting.  Those
 * that the front end sends must be eventfds, and are shared with it: kicks are
 * read with RWF_NOWAIT, whatever it does to the flags; calls rest on the
 * O_NONBLOCK set when the descriptor came.  (A front end that clears it again
 * and fills its own counter could make a call wait; like a file truncated under
 * a mapping, see vhost.h, this is in the power of the VM's own QEMU only.)
 *
 * io_watch_stop() settles later; vhost_export_settle() defers one task that
 * looks at everything that may have been waited for. */

/* So long may the orphans of an old connection keep a new one waiting; then it
 * is refused, to try again. */
#define VHOST_REFUSE_NS (200 * NS_PER_MS)

static io_watch_fn vhost_listen_ready;
static io_watch_fn vhost_listen_stopped;
static io_watch_fn vhost_conn_ready;
static io_watch_fn vhost_conn_stopped;
static io_watch_fn vhost_kick_ready;
static io_watch_fn vhost_kick_stopped;
static io_task_fn vhost_export_settle_run;
static io_timer_fn vhost_listen_refuse;
static io_poller_fn vhost_export_poll;

void
vhost_export_settle(struct vhost_export *vhost_export)
{
    io_task_defer(vhost_export->io, &vhost_export->settle);
}

/* ---- Events ---- */

static void
vhost_event_signal(int fd)
{
    const uint64_t one = 1;

    if (fd >= 0) {
        ssize_t written = write(fd, &one, sizeof one);
        (void)written; /* A counter that is full has been signalled. */
    }
}

void
vhost_ring_call(struct vhost_ring *ring)
{
    vhost_event_signal(ring->call_fd);
}

void
vhost_ring_complain(struct vhost_ring *ring)
{
    log_warning("vhost",
                "queue stopped for what the guest put into it socket=%s "
                "queue=%u reason=%s",
                ring->vhost_export->path, ring->index, ring->broken_why);
    ring->broken_why = NULL;
    vhost_event_signal(ring->err_fd);
}

/* ---- Kicks and polling ---- */

void
vhost_kick_start(struct vhost_ring *ring)
{
    CHECK(ring->kick_state == VHOST_WATCH_OFF);
    ring->kick_state = VHOST_WATCH_ON;
    io_watch_start(ring->vhost_export->io, &ring->kick_watch, ring->kick_fd);
}

bool
vhost_kick_stop(struct vhost_ring *ring)
{
    if (ring->kick_state == VHOST_WATCH_ON) {
        ring->kick_state = VHOST_WATCH_STOPPING;
        io_watch_stop(ring->vhost_export->io, &ring->kick_watch,
                      vhost_kick_stopped);
        close(ring->kick_fd);
        ring->kick_fd = -1;
    }
    return ring->kick_state == VHOST_WATCH_OFF;
}

static void
vhost_kick_stopped(struct io_watch *watch)
{
    struct vhost_ring *ring =
        container_of(watch, struct vhost_ring, kick_watch);

    ring->kick_state = VHOST_WATCH_OFF;
    vhost_export_settle(ring->vhost_export);
}

static void
vhost_kick_ready(struct io_watch *watch)
{
    struct vhost_ring *ring =
        container_of(watch, struct vhost_ring, kick_watch);
    uint64_t count;
    struct iovec iov = { .iov_base = &count, .iov_len = sizeof count };

    ssize_t size = preadv2(ring->kick_fd, &iov, 1, -1, RWF_NOWAIT);
    (void)size; /* An empty one has been read before. */
    ring->vhost_export->kicked = true;
    (void)vhost_blk_service(ring);
}

static bool
vhost_export_service(struct vhost_export *vhost_export)
{
    bool worked = false;

    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        struct vhost_ring *ring = &vhost_export->rings[i];
        if (ring->state == VHOST_RING_STARTED) {
            worked = vhost_blk_service(ring) || worked;
        }
    }
    return worked;
}

/* While there is work the rings are looked at each turn, and the driver is told
 * that it need not kick.  Before the loop may sleep (see io.h: nothing found
 * for spin_ns) it is told to kick again. */
static bool
vhost_export_poll(struct io_poller *poller)
{
    struct vhost_export *vhost_export =
        container_of(poller, struct vhost_export, poller);
    uint64_t now = io_now_ns(vhost_export->io);
    bool worked = vhost_export->kicked;

    vhost_export->kicked = false;
    if (!vhost_export->spinning && !worked) {
        return false;
    }
    worked = vhost_export_service(vhost_export) || worked;
    if (worked) {
        vhost_export->last_work_ns = now;
        if (!vhost_export->spinning) {
            vhost_export->spinning = true;
            for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
                vhost_ring_notify_off(&vhost_export->rings[i]);
            }
        }
        return true;
    }
    if (now - vhost_export->last_work_ns < vhost_export->spin_ns) {
        return false;
    }
    vhost_export->spinning = false;
    worked = vhost_export_service(vhost_export); /* Asks for kicks. */
    vhost_export->kicked = worked;
    return worked;
}

/* ---- Connection ---- */

static void
vhost_conn_end(struct vhost_export *vhost_export, const char *why,
               bool is_orderly)
{
    struct vhost_conn *conn = &vhost_export->conn;

    if (conn->state != VHOST_CONN_OPEN) {
        return;
    }
    if (is_orderly) {
        log_info("vhost", "front end gone socket=%s reason=%s",
                 vhost_export->path, why);
    } else {
        log_warning("vhost", "connection cut socket=%s reason=%s",
                    vhost_export->path, why);
    }
    conn->state = VHOST_CONN_ENDING;
    conn->watch_state = VHOST_WATCH_STOPPING;
    io_watch_stop(vhost_export->io, &conn->watch, vhost_conn_stopped);
    vhost_conn_drop_message(conn);
    close(conn->fd);
    conn->fd = -1;

    vhost_blk_orphan(vhost_export);
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        struct vhost_ring *ring = &vhost_export->rings[i];
        (void)vhost_kick_stop(ring);
        vhost_ring_stop(ring);
        if (ring->call_fd >= 0) {
            close(ring->call_fd);
        }
        if (ring->err_fd >= 0) {
            close(ring->err_fd);
        }
        ring->call_fd = ring->err_fd = -1;
        ring->num = 0;
        ring->base = 0;
        ring->has_addr = ring->enabled = ring->draining = false;
    }
    vhost_mem_unmap(&vhost_export->mem);
    vhost_inflight_unmap(&vhost_export->inflight);
    vhost_export_settle(vhost_export);
}

static void
vhost_conn_stopped(struct io_watch *watch)
{
    struct vhost_export *vhost_export =
        container_of(watch, struct vhost_export, conn.watch);

    vhost_export->conn.watch_state = VHOST_WATCH_OFF;
    vhost_export_settle(vhost_export);
}

/* Handles messages until there is none, or one has to wait. */
static void
vhost_conn_run(struct vhost_export *vhost_export)
{
    struct vhost_conn *conn = &vhost_export->conn;
    struct err err = { .text = "" };

    while (conn->state == VHOST_CONN_OPEN && !vhost_export->stopping) {
        if (!conn->waiting) {
            int result = vhost_conn_read(conn, &err);
            if (result == -EAGAIN) {
                return;
            }
            if (result != 0) {
                vhost_conn_end(vhost_export, err.text, result == -ENOTCONN);
                return;
            }
        }
        switch (vhost_session_handle(vhost_export, &err)) {
        case VHOST_DONE:
            vhost_conn_drop_message(conn);
            break;
        case VHOST_WAIT:
            conn->waiting = true;
            return;
        case VHOST_CUT:
            vhost_conn_end(vhost_export, err.text, false);
            return;
        }
    }
}

static void
vhost_conn_ready(struct io_watch *watch)
{
    struct vhost_export *vhost_export =
        container_of(watch, struct vhost_export, conn.watch);
    struct vhost_conn *conn = &vhost_export->conn;

    if (conn->state != VHOST_CONN_OPEN) {
        return;
    }
    if (conn->waiting || vhost_export->stopping) {
        /* Nothing is read now; but a front end that has died is let go. */
        struct pollfd poll_fd = { .fd = conn->fd, .events = POLLRDHUP };
        if (poll(&poll_fd, 1, 0) > 0) {
            vhost_conn_end(vhost_export, "closed by the front end", true);
        }
        return;
    }
    vhost_conn_run(vhost_export);
}

static void
vhost_conn_open(struct vhost_export *vhost_export, int fd)
{
    struct vhost_conn *conn = &vhost_export->conn;

    conn->state = VHOST_CONN_OPEN;
    conn->fd = fd;
    conn->features = conn->protocol_features = 0;
    conn->has_features = conn->has_mem = false;
    conn->watch_state = VHOST_WATCH_ON;
    vhost_export->quiesced = false;
    log_info("vhost", "front end connected socket=%s", vhost_export->path);
    io_watch_start(vhost_export->io, &conn->watch, fd);
    vhost_conn_run(vhost_export); /* What has come before the watch. */
}

/* ---- Listening ---- */

static void
vhost_listen_accept(struct vhost_export *vhost_export, bool refuse)
{
    while (!vhost_export->stopping) {
        struct vhost_conn *conn = &vhost_export->conn;
        if (conn->state == VHOST_CONN_ENDING && !refuse) {
            if (!io_timer_is_armed(&vhost_export->refuse_timer)) {
                io_timer_set(vhost_export->io, &vhost_export->refuse_timer,
                             io_now_ns(vhost_export->io) + VHOST_REFUSE_NS);
            }
            return; /* It waits in the backlog. */
        }
        int fd = accept4(vhost_export->listen_fd, NULL, NULL,
                         SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            if (errno != EAGAIN) {
                log_warning("vhost", "accept failed socket=%s reason=%s",
                            vhost_export->path, strerror(errno));
                io_timer_set(vhost_export->io, &vhost_export->refuse_timer,
                             io_now_ns(vhost_export->io) + VHOST_REFUSE_NS);
            }
            return;
        }
        if (conn->state != VHOST_CONN_NONE) {
            log_warning("vhost", "second front end refused socket=%s reason=%s",
                        vhost_export->path,
                        conn->state == VHOST_CONN_OPEN
                            ? "another one is connected"
                            : "requests of the last one are in flight");
            close(fd);
            continue;
        }
        vhost_conn_open(vhost_export, fd);
    }
}

static void
vhost_listen_ready(struct io_watch *watch)
{
    vhost_listen_accept(container_of(watch, struct vhost_export, listen_watch),
                        false);
}

static void
vhost_listen_refuse(struct io_timer *timer)
{
    vhost_listen_accept(container_of(timer, struct vhost_export, refuse_timer),
                        true);
}

static void
vhost_listen_stopped(struct io_watch *watch)
{
    struct vhost_export *vhost_export =
        container_of(watch, struct vhost_export, listen_watch);

    vhost_export->listen_state = VHOST_WATCH_OFF;
    vhost_export_settle(vhost_export);
}

/* A socket file that nobody listens on: what a killed process leaves. */
static bool
vhost_path_is_stale(const struct sockaddr_un *address)
{
    struct stat status;

    if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        return false;
    }
    CLEANUP_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 &&
           connect(fd, (const struct sockaddr *)address, sizeof *address) !=
               0 &&
           errno == ECONNREFUSED;
}

static int
vhost_listen_open(struct vhost_export *vhost_export, struct err *err)
{
    const char *path = vhost_export->path;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat status;
    size_t size = strlen(path);

    if (size == 0 || size >= sizeof address.sun_path) {
        err_set(err,
                "the socket's path \"%s\" has %zu characters, not 1 to %zu",
                path, size, sizeof address.sun_path - 1);
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, size);
    CLEANUP_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        err_set(err, "socket: %s", strerror(errno));
        return -errno;
    }
    if (vhost_path_is_stale(&address)) {
        (void)unlink(path);
    }
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 16) != 0 || lstat(path, &status) != 0) {
        int result = -errno;
        err_set(err, "cannot listen on \"%s\": %s", path, strerror(errno));
        return result;
    }
    vhost_export->path_device = status.st_dev;
    vhost_export->path_inode = status.st_ino;
    vhost_export->listen_fd = cleanup_take_fd(&fd);
    return 0;
}

/* Removes our socket file, and no other that has taken its place. */
static void
vhost_listen_close(struct vhost_export *vhost_export)
{
    struct stat status;

    if (lstat(vhost_export->path, &status) == 0 &&
        status.st_dev == vhost_export->path_device &&
        status.st_ino == vhost_export->path_inode) {
        (void)unlink(vhost_export->path);
    }
    close(vhost_export->listen_fd);
    vhost_export->listen_fd = -1;
}

/* ---- Export ---- */

static void
vhost_export_free(struct vhost_export *vhost_export)
{
    slab_done(&vhost_export->request_slab);
    slab_done(&vhost_export->part_slab);
    free(vhost_export->path);
    free(vhost_export);
}

static int
vhost_export_alloc(const struct vhost_export_options *options,
                   struct vhost_export **ret_export)
{
    struct vhost_export *vhost_export = calloc(1, sizeof *vhost_export);

    if (vhost_export == NULL) {
        return -ENOMEM;
    }
    vhost_export->path = strdup(options->socket_path);
    int result = vhost_export->path == NULL ? -ENOMEM : 0;
    if (result == 0) {
        result =
            slab_init(&vhost_export->request_slab, sizeof(struct vhost_request),
                      _Alignof(struct vhost_request), VHOST_REQUESTS_MAX);
    }
    if (result == 0) {
        result = slab_init(&vhost_export->part_slab, sizeof(struct vhost_part),
                           _Alignof(struct vhost_part), VHOST_PARTS_MAX);
    }
    if (result != 0) {
        vhost_export_free(vhost_export);
        return result;
    }
    *ret_export = vhost_export;
    return 0;
}

static void
vhost_export_init(struct vhost_export *vhost_export,
                  const struct vhost_export_options *options)
{
    struct volume_info info;

    volume_info_get(options->volume, &info);
    vhost_export->io = options->io;
    vhost_export->volume = options->volume;
    vhost_export->capacity_sectors = info.size_bytes / VOLUME_SECTOR_SIZE;
    vhost_export->writeback = true;
    vhost_export->spin_ns = options->spin_ns;
    memcpy(vhost_export->serial, options->serial,
           strnlen(options->serial, VIRTIO_BLK_ID_BYTES));
    vhost_export->listen_fd = vhost_export->conn.fd = -1;
    vhost_export->listen_watch.ready = vhost_listen_ready;
    vhost_export->conn.watch.ready = vhost_conn_ready;
    vhost_export->poller.poll = vhost_export_poll;
    vhost_export->poller.spin_ns = options->spin_ns;
    list_init(&vhost_export->requests);
    list_init(&vhost_export->starved);
    io_task_init(&vhost_export->feed, vhost_blk_feed);
    io_task_init(&vhost_export->settle, vhost_export_settle_run);
    io_timer_init(&vhost_export->refuse_timer, vhost_listen_refuse);
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        struct vhost_ring *ring = &vhost_export->rings[i];
        ring->vhost_export = vhost_export;
        ring->index = i;
        ring->kick_fd = ring->call_fd = ring->err_fd = -1;
        ring->kick_watch.ready = vhost_kick_ready;
        vhost_blk_ring_init(ring);
    }
}

int
vhost_export_new(const struct vhost_export_options *options, struct err *err,
                 struct vhost_export **ret_export)
{
    struct vhost_export *vhost_export;

    int result = vhost_export_alloc(options, &vhost_export);
    if (result != 0) {
        err_set(err, "no memory for a vhost-user export");
        return result;
    }
    vhost_export_init(vhost_export, options);
    result = vhost_listen_open(vhost_export, err);
    if (result != 0) {
        vhost_export_free(vhost_export);
        return result;
    }
    vhost_export->listen_state = VHOST_WATCH_ON;
    io_watch_start(vhost_export->io, &vhost_export->listen_watch,
                   vhost_export->listen_fd);
    if (vhost_export->spin_ns > 0) {
        io_poller_add(vhost_export->io, &vhost_export->poller);
        vhost_export->polling = true;
    }
    *ret_export = vhost_export;
    return 0;
}

bool
vhost_export_is_connected(const struct vhost_export *vhost_export)
{
    return vhost_export->conn.state == VHOST_CONN_OPEN;
}

void
vhost_export_stop(struct vhost_export *vhost_export,
                  vhost_export_stopped_fn *stopped, void *owner)
{
    CHECK(!vhost_export->stopping);
    vhost_export->stopping = true;
    vhost_export->quiesced = true;
    vhost_export->stopped = stopped;
    vhost_export->owner = owner;
    io_timer_cancel(vhost_export->io, &vhost_export->refuse_timer);
    if (vhost_export->polling) {
        io_poller_remove(vhost_export->io, &vhost_export->poller);
        vhost_export->polling = false;
    }
    vhost_export->listen_state = VHOST_WATCH_STOPPING;
    io_watch_stop(vhost_export->io, &vhost_export->listen_watch,
                  vhost_listen_stopped);
    vhost_listen_close(vhost_export);
    vhost_export_settle(vhost_export);
}

void
vhost_export_cut(struct vhost_export *vhost_export)
{
    CHECK(vhost_export->stopping);
    vhost_conn_end(vhost_export, "the export is cut", false);
}

/* ---- What has been waited for ---- */

static bool
vhost_conn_has_ended(const struct vhost_export *vhost_export)
{
    for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
        if (vhost_export->rings[i].kick_state != VHOST_WATCH_OFF) {
            return false;
        }
    }
    return vhost_export->conn.watch_state == VHOST_WATCH_OFF &&
           list_is_empty(&vhost_export->requests);
}

/* Stopping: requests have come back, so the guest gets its answers now. */
static void
vhost_export_stop_step(struct vhost_export *vhost_export)
{
    if (vhost_export->conn.state == VHOST_CONN_OPEN &&
        list_is_empty(&vhost_export->requests)) {
        for (uint32_t i = 0; i < VHOST_QUEUES_MAX; i++) {
            vhost_blk_publish(&vhost_export->rings[i]);
        }
        vhost_conn_end(vhost_export, "the export is stopped", true);
    }
    if (vhost_export->conn.state != VHOST_CONN_NONE ||
        vhost_export->listen_state != VHOST_WATCH_OFF) {
        return;
    }
    vhost_export_stopped_fn *stopped = vhost_export->stopped;
    void *owner = vhost_export->owner;
    io_task_cancel(vhost_export->io, &vhost_export->feed);
    io_task_cancel(vhost_export->io, &vhost_export->settle);
    vhost_export_free(vhost_export);
    stopped(owner);
}

static void
vhost_export_settle_run(struct io_task *task)
{
    struct vhost_export *vhost_export =
        container_of(task, struct vhost_export, settle);
    struct vhost_conn *conn = &vhost_export->conn;

    if (conn->state == VHOST_CONN_ENDING &&
        vhost_conn_has_ended(vhost_export)) {
        conn->state = VHOST_CONN_NONE;
        io_timer_cancel(vhost_export->io, &vhost_export->refuse_timer);
        vhost_listen_accept(vhost_export, false);
    }
    if (vhost_export->stopping) {
        vhost_export_stop_step(vhost_export);
        return;
    }
    if (conn->state == VHOST_CONN_OPEN && conn->waiting) {
        vhost_conn_run(vhost_export);
    }
}
