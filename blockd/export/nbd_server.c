/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/export/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/export/nbd_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/log.h"

#define NBD_STATUSES 32u

static io_accept_fn nbd_server_accept;
static io_conn_data_fn nbd_conn_data;
static io_conn_closed_fn nbd_conn_closed;
static io_timer_fn nbd_conn_handshake_late;
static payload_waiter_fn nbd_conn_payload_available;
static io_task_fn nbd_server_feed_run;
static io_task_fn nbd_server_stop_run;
static io_task_fn nbd_export_remove_run;
static io_timer_fn nbd_server_watch_run;

/* ---- Server ---- */

static void
nbd_server_free(struct nbd_server *server)
{
    slab_done(&server->requests);
    slab_done(&server->parts);
    slab_done(&server->statuses);
    free(server);
}

int
nbd_server_new(const struct nbd_server_options *options,
               struct nbd_server **ret_server)
{
    uint32_t requests =
        options->requests_max != 0 ? options->requests_max : 2048;
    struct nbd_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return -ENOMEM;
    }

    server->io = options->io;
    server->connections_max =
        options->connections_max != 0 ? options->connections_max : 128;
    list_init(&server->exports);
    list_init(&server->conns);
    list_init(&server->starved);
    io_task_init(&server->feed, nbd_server_feed_run);
    io_task_init(&server->stop_task, nbd_server_stop_run);
    io_timer_init(&server->watch, nbd_server_watch_run);
    int result = slab_init(&server->requests, sizeof(struct nbd_request),
                           _Alignof(struct nbd_request), requests);
    if (result == 0) {
        result = slab_init(&server->parts, sizeof(struct nbd_part),
                           _Alignof(struct nbd_part), requests);
    }
    if (result == 0) {
        result = slab_init(&server->statuses, sizeof(struct nbd_status),
                           _Alignof(struct nbd_status), NBD_STATUSES);
    }
    if (result != 0) {
        nbd_server_free(server);
        return result;
    }
    *ret_server = server;
    return 0;
}

int
nbd_server_listen(struct nbd_server *server, const char *address,
                  char ret_address[IO_ADDRESS_SIZE])
{
    if (server->listener_count == NBD_LISTENERS_MAX) {
        return -ENOSPC;
    }
    struct nbd_listener *listener = &server->listeners[server->listener_count];
    listener->server = server;
    listener->listener.on_accept = nbd_server_accept;
    int result = io_listener_open(server->io, &listener->listener, address);
    if (result != 0) {
        return result;
    }
    server->listener_count++;
    if (ret_address != NULL) {
        io_listener_address(&listener->listener, ret_address);
    }
    return 0;
}

void
nbd_server_stop(struct nbd_server *server, nbd_server_stopped_fn *stopped,
                void *owner)
{
    CHECK(list_is_empty(&server->exports));
    CHECK(!server->stopping);

    server->stopping = true;
    server->stopped = stopped;
    server->owner = owner;
    for (uint32_t i = 0; i < server->listener_count; i++) {
        io_listener_close(server->io, &server->listeners[i].listener);
    }
    LIST_FOREACH (node, &server->conns) {
        nbd_conn_cut(container_of(node, struct nbd_conn, node));
    }
    io_task_defer(server->io, &server->stop_task);
}

static void
nbd_server_stop_run(struct io_task *task)
{
    struct nbd_server *server =
        container_of(task, struct nbd_server, stop_task);

    if (!list_is_empty(&server->conns)) {
        return; /* The last connection defers the task again. */
    }
    nbd_server_stopped_fn *stopped = server->stopped;
    void *owner = server->owner;
    io_task_cancel(server->io, &server->feed);
    io_timer_cancel(server->io, &server->watch);
    nbd_server_free(server);
    stopped(owner);
}

/* ---- Exports ---- */

int
nbd_export_add(struct nbd_server *server, const char *name,
               struct volume *volume, struct nbd_export **ret_export)
{
    size_t size = strlen(name);
    if (size == 0 || size > NBD_EXPORT_NAME_MAX) {
        return -EINVAL;
    }
    if (nbd_export_find(server, name, size) != NULL) {
        return -EEXIST;
    }
    struct nbd_export *nbd_export = calloc(1, sizeof *nbd_export);
    if (nbd_export == NULL) {
        return -ENOMEM;
    }
    nbd_export->name = strdup(name);
    if (nbd_export->name == NULL) {
        free(nbd_export);
        return -ENOMEM;
    }
    nbd_export->server = server;
    nbd_export->volume = volume;
    nbd_export->id = ++server->export_serial;
    io_task_init(&nbd_export->remove_task, nbd_export_remove_run);
    list_push_back(&server->exports, &nbd_export->node);
    *ret_export = nbd_export;
    return 0;
}

void
nbd_export_remove(struct nbd_export *nbd_export, nbd_export_removed_fn *removed,
                  void *owner)
{
    CHECK(!nbd_export->removing);

    nbd_export->removing = true;
    nbd_export->removed = removed;
    nbd_export->owner = owner;
    LIST_FOREACH (node, &nbd_export->server->conns) {
        struct nbd_conn *conn = container_of(node, struct nbd_conn, node);
        if (conn->nbd_export == nbd_export) {
            nbd_conn_cut(conn);
        }
    }
    io_task_defer(nbd_export->server->io, &nbd_export->remove_task);
}

static void
nbd_export_remove_run(struct io_task *task)
{
    struct nbd_export *nbd_export =
        container_of(task, struct nbd_export, remove_task);

    if (nbd_export->clients > 0) {
        return; /* The last client defers the task again. */
    }
    nbd_export_removed_fn *removed = nbd_export->removed;
    void *owner = nbd_export->owner;
    list_remove(&nbd_export->node);
    free(nbd_export->name);
    free(nbd_export);
    removed(owner);
}

uint32_t
nbd_export_clients(const struct nbd_export *nbd_export)
{
    return nbd_export->clients;
}

/* An empty name means the only export there is. */
struct nbd_export *
nbd_export_find(struct nbd_server *server, const char *name, size_t name_size)
{
    struct nbd_export *found = NULL;

    LIST_FOREACH (node, &server->exports) {
        struct nbd_export *candidate =
            container_of(node, struct nbd_export, node);
        if (candidate->removing) {
            continue;
        }
        if (name_size == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = candidate;
        } else if (strlen(candidate->name) == name_size &&
                   memcmp(candidate->name, name, name_size) == 0) {
            return candidate;
        }
    }
    return found;
}

/* ---- Connections: birth and death ---- */

static void
nbd_server_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct nbd_listener *door =
        container_of(listener, struct nbd_listener, listener);
    struct nbd_server *server = door->server;

    if (server->stopping ||
        server->connections_count >= server->connections_max) {
        if (!server->full) {
            server->full = true; /* Once, not for each that knocks. */
            log_warning("nbd", "clients refused connections_max=%u",
                        server->connections_max);
        }
        return;
    }
    struct nbd_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) {
        return;
    }
    conn->server = server;
    conn->conn.on_data = nbd_conn_data;
    conn->conn.on_closed = nbd_conn_closed;
    conn->waiter.available = nbd_conn_payload_available;
    list_init(&conn->waiter.node);
    list_init(&conn->requests);
    list_init(&conn->starved_node);
    io_timer_init(&conn->handshake_timer, nbd_conn_handshake_late);
    if (io_conn_adopt(server->io, &conn->conn, accepted) != 0) {
        free(conn);
        return;
    }
    list_push_back(&server->conns, &conn->node);
    server->connections_count++;
    if (!io_timer_is_armed(&server->watch)) {
        io_timer_set(server->io, &server->watch,
                     io_now_ns(server->io) + NBD_WATCH_NS);
    }
    io_timer_set(server->io, &conn->handshake_timer,
                 io_now_ns(server->io) + NBD_HANDSHAKE_NS);
    nbd_greet(conn);
}

void
nbd_conn_set_export(struct nbd_conn *conn, struct nbd_export *nbd_export)
{
    CHECK(conn->nbd_export == NULL);

    conn->nbd_export = nbd_export;
    nbd_export->clients++;
    if (conn->context_export_id != nbd_export->id) {
        conn->base_allocation = false; /* It was for another export. */
    }
    io_timer_cancel(conn->server->io, &conn->handshake_timer);
}

static void
nbd_conn_handshake_late(struct io_timer *timer)
{
    nbd_conn_cut(container_of(timer, struct nbd_conn, handshake_timer));
}

void
nbd_conn_cut(struct nbd_conn *conn)
{
    conn->state = NBD_CONN_DEAD;
    if (!conn->closed) {
        io_conn_close(conn->server->io, &conn->conn);
    }
}

static void
nbd_conn_closed(struct io_conn *io_conn, int reason)
{
    struct nbd_conn *conn = container_of(io_conn, struct nbd_conn, conn);
    (void)reason; /* A client may go as it likes. */

    conn->closed = true;
    conn->state = NBD_CONN_DEAD;
    io_timer_cancel(conn->server->io, &conn->handshake_timer);
    payload_wait_cancel(&conn->waiter);
    list_remove(&conn->starved_node);

    /* A request whose parts are not all made will never be whole. */
    if (conn->current != NULL) {
        struct nbd_request *request = conn->current;
        struct nbd_part *filling = conn->filling;
        conn->current = NULL;
        conn->filling = NULL;
        request->all_made = true;
        if (filling != NULL) {
            nbd_part_free(filling);
        }
        nbd_request_maybe_free(request); /* May free 'conn'. */
        return;
    }
    nbd_conn_maybe_free(conn);
}

void
nbd_conn_maybe_free(struct nbd_conn *conn)
{
    struct nbd_server *server = conn->server;
    struct nbd_export *nbd_export = conn->nbd_export;

    if (!conn->closed || conn->request_count > 0) {
        return;
    }
    list_remove(&conn->node);
    server->connections_count--;
    server->full = false;
    free(conn->out.bytes); /* If memory ran out while it was made. */
    free(conn);
    if (nbd_export != NULL) {
        nbd_export->clients--;
        if (nbd_export->removing && nbd_export->clients == 0) {
            io_task_defer(server->io, &nbd_export->remove_task);
        }
    }
    if (server->stopping && list_is_empty(&server->conns)) {
        io_task_defer(server->io, &server->stop_task);
    }
}

void
nbd_conn_maybe_drained(struct nbd_conn *conn)
{
    if (conn->state == NBD_CONN_DRAIN && conn->request_count == 0 &&
        !conn->closed) {
        conn->state = NBD_CONN_DEAD;
        io_conn_close_after_sends(conn->server->io, &conn->conn);
    }
}

/* ---- Clients that stand still ---- */

/* Whether somebody may be waiting for what this connection holds. */
static bool
nbd_conn_is_in_the_way(const struct nbd_conn *conn)
{
    const struct nbd_server *server = conn->server;

    return conn->nbd_export != NULL &&
           (server->requests.free_count == 0 || server->parts.free_count == 0 ||
            server->statuses.free_count == 0 ||
            payload_pool_is_wanted(
                volume_payload_pool(conn->nbd_export->volume)));
}

static bool
nbd_conn_stands_still(const struct nbd_conn *conn, uint64_t now)
{
    return (conn->sends_pending > 0 &&
            now - conn->progress_ns > NBD_STALL_NS) ||
           (conn->filling != NULL && now - conn->filling_ns > NBD_STALL_NS);
}

static void
nbd_server_watch_run(struct io_timer *timer)
{
    struct nbd_server *server = container_of(timer, struct nbd_server, watch);
    uint64_t now = io_now_ns(server->io);

    LIST_FOREACH (node, &server->conns) {
        struct nbd_conn *conn = container_of(node, struct nbd_conn, node);
        if (conn->state != NBD_CONN_DEAD && nbd_conn_stands_still(conn, now) &&
            nbd_conn_is_in_the_way(conn)) {
            log_warning("nbd",
                        "client cut, it stood still while others waited"
                        " export=%s",
                        conn->nbd_export->name);
            nbd_conn_cut(conn);
        }
    }
    if (!list_is_empty(&server->conns)) {
        io_timer_set(server->io, &server->watch, now + NBD_WATCH_NS);
    }
}

/* ---- Connections: bytes in ---- */

/* Gathers 'want' bytes into conn->gather; true when they are complete. */
static bool
nbd_conn_gather(struct nbd_conn *conn, uint32_t want, const uint8_t **data,
                uint32_t *size)
{
    uint32_t take = want - conn->gather_bytes;
    if (take > *size) {
        take = *size;
    }
    if (take > 0) {
        memcpy(conn->gather + conn->gather_bytes, *data, take);
    }
    conn->gather_bytes += take;
    *data += take;
    *size -= take;
    return conn->gather_bytes == want;
}

static void
nbd_conn_client_flags(struct nbd_conn *conn)
{
    struct be32 wire;
    memcpy(&wire, conn->gather, sizeof wire);
    uint32_t flags = be32_get(wire);

    conn->gather_bytes = 0;
    if ((flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) != 0) {
        nbd_conn_cut(conn); /* As the protocol demands. */
        return;
    }
    conn->fixed = (flags & NBD_FLAG_FIXED_NEWSTYLE) != 0;
    conn->no_zeroes = (flags & NBD_FLAG_NO_ZEROES) != 0;
    conn->state = NBD_CONN_OPTION;
}

static void
nbd_conn_option_header(struct nbd_conn *conn)
{
    struct nbd_option_header header;
    memcpy(&header, conn->gather, sizeof header);

    conn->gather_bytes = 0;
    conn->option = be32_get(header.option);
    conn->option_size = be32_get(header.size);
    if (be64_get(header.magic) != NBD_OPTION_MAGIC ||
        conn->option_size > NBD_REQUEST_BYTES_MAX ||
        (!conn->fixed && conn->option != NBD_OPT_EXPORT_NAME)) {
        nbd_conn_cut(conn); /* (who does not say "fixed" knows no replies) */
        return;
    }
    if (conn->option_size > NBD_OPTION_BYTES_MAX) {
        if (conn->option == NBD_OPT_EXPORT_NAME) {
            nbd_conn_cut(conn); /* It has no reply for errors. */
            return;
        }
        nbd_option_refuse(conn, NBD_REP_ERR_TOO_BIG, "too long");
        nbd_out_flush(conn);
        conn->skip_bytes = conn->option_size;
        conn->after_skip = NBD_CONN_OPTION;
        conn->state = NBD_CONN_SKIP;
        return;
    }
    conn->state = NBD_CONN_OPTION_DATA;
}

static void
nbd_conn_skip(struct nbd_conn *conn, const uint8_t **data, uint32_t *size)
{
    uint32_t take = *size;
    if (take > conn->skip_bytes) {
        take = (uint32_t)conn->skip_bytes;
    }
    conn->skip_bytes -= take;
    *data += take;
    *size -= take;
    if (conn->skip_bytes == 0) {
        conn->state = conn->after_skip;
    }
}

static bool
nbd_conn_request(struct nbd_conn *conn, const uint8_t **data, uint32_t *size)
{
    struct nbd_request_header header;

    if (!nbd_conn_gather(conn, sizeof header, data, size)) {
        return false;
    }
    memcpy(&header, conn->gather, sizeof header);
    if (!nbd_request_begin(conn, &header)) {
        return false; /* Blocked; the header stays gathered. */
    }
    conn->gather_bytes = 0;
    return true;
}

/* One step of the reader.  False: blocked or dead, or more bytes needed. */
static bool
nbd_conn_step(struct nbd_conn *conn, const uint8_t **data, uint32_t *size)
{
    if (conn->out.pending) {
        nbd_conn_block(conn);
        return false;
    }
    switch (conn->state) {
    case NBD_CONN_FLAGS:
        if (!nbd_conn_gather(conn, 4, data, size)) {
            return false;
        }
        nbd_conn_client_flags(conn);
        return true;

    case NBD_CONN_OPTION:
        if (!nbd_conn_gather(conn, sizeof(struct nbd_option_header), data,
                             size)) {
            return false;
        }
        nbd_conn_option_header(conn);
        return true;

    case NBD_CONN_OPTION_DATA:
        if (!nbd_conn_gather(conn, conn->option_size, data, size)) {
            return false;
        }
        conn->gather_bytes = 0;
        nbd_option_handle(conn, conn->gather, conn->option_size);
        return true;

    case NBD_CONN_REQUEST:
        return nbd_conn_request(conn, data, size);

    case NBD_CONN_WRITE_DATA: {
        if (*size == 0) {
            return false;
        }
        uint32_t taken = nbd_request_fill(conn, *data, *size);
        *data += taken;
        *size -= taken;
        return taken > 0;
    }

    case NBD_CONN_SUBMIT:
        return nbd_request_pump(conn);

    case NBD_CONN_SKIP:
        if (*size == 0) {
            return false;
        }
        nbd_conn_skip(conn, data, size);
        return true;

    case NBD_CONN_DRAIN:
        *size = 0; /* Nothing may follow a DISC. */
        return false;

    case NBD_CONN_DEAD:
        return false;
    }
    return false;
}

static void
nbd_conn_data(struct io_conn *io_conn, const uint8_t *data, uint32_t size)
{
    struct nbd_conn *conn = container_of(io_conn, struct nbd_conn, conn);

    CHECK(conn->stash_bytes == 0 || conn->state == NBD_CONN_DEAD);
    conn->feeding = true;
    while (nbd_conn_step(conn, &data, &size)) {
    }
    conn->feeding = false;
    if (size > 0 && conn->state != NBD_CONN_DEAD) {
        CHECK(conn->paused); /* Only a blocked connection leaves bytes. */
        CHECK(size <= sizeof conn->stash);
        memcpy(conn->stash, data, size);
        conn->stash_offset = 0;
        conn->stash_bytes = size;
    }
}

void
nbd_conn_starve(struct nbd_conn *conn)
{
    if (!list_is_linked(&conn->starved_node)) {
        list_push_back(&conn->server->starved, &conn->starved_node);
    }
    nbd_conn_block(conn);
}

void
nbd_conn_block(struct nbd_conn *conn)
{
    if (!conn->paused) {
        conn->paused = true;
        io_conn_pause(conn->server->io, &conn->conn);
    }
}

void
nbd_conn_unblock(struct nbd_conn *conn)
{
    if (!conn->paused || conn->feeding || conn->state == NBD_CONN_DEAD) {
        return;
    }
    const uint8_t *data = conn->stash + conn->stash_offset;
    uint32_t size = conn->stash_bytes;

    conn->feeding = true;
    conn->paused = false;
    while (nbd_conn_step(conn, &data, &size)) {
    }
    conn->feeding = false;
    if (conn->state == NBD_CONN_DEAD) {
        conn->stash_bytes = 0;
        return;
    }
    conn->stash_offset = (uint32_t)(data - conn->stash);
    conn->stash_bytes = size;
    if (!conn->paused) {
        CHECK(size == 0);
        io_conn_resume(conn->server->io, &conn->conn);
    }
}

static void
nbd_conn_payload_available(struct payload_waiter *waiter)
{
    nbd_conn_unblock(container_of(waiter, struct nbd_conn, waiter));
}

void
nbd_server_feed(struct nbd_server *server)
{
    if (!list_is_empty(&server->starved)) {
        io_task_defer(server->io, &server->feed);
    }
}

static void
nbd_server_feed_run(struct io_task *task)
{
    struct nbd_server *server = container_of(task, struct nbd_server, feed);
    struct list ready;

    list_init(&ready);
    list_splice_back(&ready, &server->starved);
    for (struct list *node = list_pop_front(&ready); node != NULL;
         node = list_pop_front(&ready)) {
        nbd_conn_unblock(container_of(node, struct nbd_conn, starved_node));
    }
}
