/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/peer_server.h"

/* The listener, the memory that connections share, and the clock. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/server_internal.h"
#include "lib/base/units.h"

/* Clients cut a server that is silent for 800 ms or so; a paused connection is
 * told so often that it is not dead. */
#define TICK_NS_MAX (200 * NS_PER_MS)
#define TICKS_PER_SILENCE 8u
#define WINDOW_REQUESTS_MIN 8u

static io_accept_fn server_accept;
static io_timer_fn server_tick;
static io_task_fn server_resume;
static io_task_fn server_end;

void
peer_server_options_init(struct peer_server_options *options)
{
    *options = (struct peer_server_options){
        .host = "",
        .conns_max = 64,
        .requests_max = 1024,
        .bytes_max = 8 * MIB,
        .conn_requests_max = 128,
        .conn_bytes_max = 4 * MIB,
        .silence_ns = 2 * NS_PER_S,
    };
}

static bool
options_are_sane(const struct peer_server_options *options)
{
    return options->directory != NULL && options->conns_max != 0 &&
           options->requests_max != 0 &&
           options->bytes_max >= PEER_DATA_BYTES_MAX &&
           options->bytes_max % PEER_DATA_BYTES_MAX == 0 &&
           options->conn_requests_max != 0 &&
           options->conn_requests_max <= PEER_WINDOW_REQUESTS_MAX &&
           options->conn_bytes_max >= PEER_DATA_BYTES_MAX &&
           options->conn_bytes_max <= PEER_WINDOW_BYTES_MAX &&
           options->silence_ns >= TICKS_PER_SILENCE * NS_PER_MS;
}

static void
server_free(struct peer_server *server)
{
    free(server->conns);
    free(server->stashes);
    slab_done(&server->reqs);
    pages_done(&server->pages);
    free(server);
}

static int
server_allocate(struct peer_server *server,
                const struct peer_server_options *options)
{
    server->conns = calloc(options->conns_max, sizeof *server->conns);
    server->stashes = calloc(options->conns_max, IO_DATA_BYTES_MAX);
    if (server->conns == NULL || server->stashes == NULL) {
        return -ENOMEM;
    }
    int result = slab_init(&server->reqs, sizeof(struct server_req),
                           _Alignof(struct server_req), options->requests_max);
    if (result != 0) {
        return result;
    }
    result = pages_init(&server->pages, server->io, options->bytes_max);
    if (result != 0) {
        return result;
    }
    server->conn_count = options->conns_max;
    for (uint32_t i = 0; i < server->conn_count; i++) {
        struct server_conn *conn = &server->conns[i];
        conn_init(server, conn);
        conn->stash = server->stashes + (size_t)i * IO_DATA_BYTES_MAX;
        list_push_back(&server->free_conns, &conn->node);
    }
    return 0;
}

int
peer_server_open(struct io *io, const char *address,
                 const struct peer_server_options *options,
                 struct peer_server **ret_server)
{
    if (!options_are_sane(options)) {
        return -EINVAL;
    }
    struct peer_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return -ENOMEM;
    }
    server->io = io;
    server->directory = options->directory;
    server->instance = options->instance;
    server->cluster = options->cluster;
    strncpy(server->host, options->host, sizeof server->host - 1);
    server->conn_requests_max = options->conn_requests_max;
    server->conn_bytes_max = options->conn_bytes_max;
    server->bytes_max = options->bytes_max;
    server->silence_ns = options->silence_ns;
    server->tick_ns = options->silence_ns / TICKS_PER_SILENCE;
    if (server->tick_ns > TICK_NS_MAX) {
        server->tick_ns = TICK_NS_MAX;
    }
    list_init(&server->free_conns);
    list_init(&server->live_conns);
    list_init(&server->waiting);
    io_timer_init(&server->timer, server_tick);
    io_task_init(&server->resume_task, server_resume);
    io_task_init(&server->end_task, server_end);
    int result = server_allocate(server, options);
    if (result == 0) {
        server->listener.on_accept = server_accept;
        result = io_listener_open(io, &server->listener, address);
    }
    if (result != 0) {
        server_free(server);
        return result;
    }
    server->tick_at_ns = io_now_ns(io) + server->tick_ns;
    io_timer_set(io, &server->timer, server->tick_at_ns);
    *ret_server = server;
    return 0;
}

void
peer_server_address(const struct peer_server *server,
                    char ret_address[IO_ADDRESS_SIZE])
{
    io_listener_address(&server->listener, ret_address);
}

void
peer_server_set_cluster(struct peer_server *server,
                        const struct weft_uuid *cluster)
{
    if (uuid_equal(&server->cluster, cluster)) {
        return;
    }
    server->cluster = *cluster;
    for (uint32_t i = 0; i < server->conn_count; i++) {
        conn_bye(&server->conns[i], PEER_E_CLUSTER,
                 "this host has another cluster now");
    }
}

void
peer_server_stats_get(const struct peer_server *server,
                      struct peer_server_stats *ret_stats)
{
    *ret_stats = server->stats;
}

/* ---- Connections ---- */

static void
server_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct peer_server *server =
        container_of(listener, struct peer_server, listener);
    struct list *node = list_front(&server->free_conns);

    if (node == NULL || server->close_op != NULL) {
        server->stats.crowded++;
        return; /* Not adopted: closed. */
    }
    conn_adopt(container_of(node, struct server_conn, node), accepted);
}

/* An equal share for everyone, so that the memory suffices as a rule. */
void
server_rebalance(struct peer_server *server)
{
    uint32_t conns = server->stats.conns;

    if (conns == 0) {
        return;
    }
    uint64_t bytes =
        units_align_down(server->bytes_max / conns, PEER_DATA_BYTES_MAX);
    uint32_t requests = server->reqs.capacity / conns;
    if (bytes < PEER_DATA_BYTES_MAX) {
        bytes = PEER_DATA_BYTES_MAX; /* Beyond that: pauses. */
    }
    if (bytes > server->conn_bytes_max) {
        bytes = server->conn_bytes_max;
    }
    if (requests < WINDOW_REQUESTS_MIN) {
        requests = WINDOW_REQUESTS_MIN;
    }
    if (requests > server->conn_requests_max) {
        requests = server->conn_requests_max;
    }
    LIST_FOREACH (node, &server->live_conns) {
        struct server_conn *conn = container_of(node, struct server_conn, node);
        if (conn->phase != SERVER_READY ||
            (conn->window_bytes == bytes &&
             conn->window_requests == requests)) {
            continue;
        }
        conn->window_bytes = (uint32_t)bytes;
        conn->window_requests = requests;
        conn->want_credit = true;
        conn_flush_later(conn);
    }
}

/* ---- Memory ---- */

void
server_resume_later(struct peer_server *server)
{
    io_task_defer(server->io, &server->resume_task);
}

static void
server_resume(struct io_task *task)
{
    struct peer_server *server =
        container_of(task, struct peer_server, resume_task);
    struct list *node;

    while ((node = list_front(&server->waiting)) != NULL) {
        struct server_conn *conn =
            container_of(node, struct server_conn, wait_node);
        server->resuming = conn;
        conn_resume(conn);
        bool had_turn = server->resuming == NULL;
        server->resuming = NULL;
        if (!list_is_linked(node)) {
            continue; /* It goes on reading, or it is closed. */
        }
        if (!had_turn) {
            return; /* Still no memory. */
        }
        list_remove(node); /* One request a turn. */
        list_push_back(&server->waiting, node);
    }
}

/* ---- Time ---- */

static void
server_tick(struct io_timer *timer)
{
    struct peer_server *server = container_of(timer, struct peer_server, timer);
    uint64_t now_ns = io_now_ns(server->io);
    bool is_late = now_ns - server->tick_at_ns >= server->silence_ns / 2;

    server->tick_at_ns = now_ns + server->tick_ns;
    io_timer_set(server->io, &server->timer, server->tick_at_ns);
    for (uint32_t i = 0; i < server->conn_count; i++) {
        struct server_conn *conn = &server->conns[i];
        if (is_late) { /* It was us who stood still. */
            conn->heard_ns = now_ns;
            conn->progress_ns = now_ns;
        }
        conn_tick(conn, now_ns);
    }
}

/* ---- The end ---- */

void
server_conn_freed(struct peer_server *server)
{
    if (server->close_op != NULL && list_is_empty(&server->live_conns)) {
        io_task_defer(server->io, &server->end_task);
    }
}

void
peer_server_close_start(struct peer_server *server,
                        struct peer_server_close *op)
{
    CHECK(server->close_op == NULL);
    server->close_op = op;
    io_listener_close(server->io, &server->listener);
    io_timer_cancel(server->io, &server->timer);
    for (uint32_t i = 0; i < server->conn_count; i++) {
        conn_cut(&server->conns[i]);
    }
    server_conn_freed(server);
}

static void
server_end(struct io_task *task)
{
    struct peer_server *server =
        container_of(task, struct peer_server, end_task);
    struct peer_server_close *op = server->close_op;

    io_task_cancel(server->io, &server->resume_task);
    server_free(server);
    op->done(op);
}
