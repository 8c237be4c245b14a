/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/server_internal.h"

/* The life of a connection at the server; the state diagram is in
 * server_internal.h. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/crc32c.h"
#include "lib/base/units.h"

/* Former connections of the same link whose requests are still under way.  One
 * more is refused: a client that comes back again and again to a disk that
 * hangs must not use up everything. */
#define SUPERSEDED_MAX 2u

static io_conn_data_fn conn_received;
static io_conn_closed_fn conn_closed;
static io_task_fn conn_flush;
static io_op_done_fn batch_sent;
static io_op_done_fn bye_sent;
static link_user_fn conn_link_changed;

static bool
conn_is_open(const struct server_conn *conn)
{
    return conn->phase == SERVER_GREETING || conn->phase == SERVER_READY;
}

void
conn_init(struct peer_server *server, struct server_conn *conn)
{
    conn->server = server;
    conn->phase = SERVER_FREE;
    list_init(&conn->node);
    list_init(&conn->ready);
    list_init(&conn->wait_node);
    io_task_init(&conn->task, conn_flush);
    for (uint32_t i = 0; i < SERVER_BATCHES; i++) {
        conn->batches[i].conn = conn;
    }
}

void
conn_adopt(struct server_conn *conn, struct io_accepted *accepted)
{
    struct peer_server *server = conn->server;

    CHECK(conn->phase == SERVER_FREE);
    CHECK(conn->in_flight == 0);
    conn->conn.on_data = conn_received;
    conn->conn.on_closed = conn_closed;
    if (io_conn_adopt(server->io, &conn->conn, accepted) != 0) {
        server->stats.crowded++;
        return;
    }
    list_remove(&conn->node);
    list_push_back(&server->live_conns, &conn->node);
    conn->phase = SERVER_GREETING;
    conn->heard_ns = io_now_ns(server->io);
    conn->progress_ns = conn->heard_ns;
    conn->stash_bytes = 0;
    conn->is_paused = false;
    conn->want_welcome = false;
    conn->want_credit = false;
    conn->want_pong = false;
    conn->arriving = NULL;
    conn->used_requests = 0;
    conn->used_bytes = 0;
    conn->link = NULL;
    peer_parser_init(&conn->parser);
    server->stats.accepted++;
}

/* ---- Out ---- */

void
conn_send(struct server_conn *conn, struct io_send *send)
{
    if (conn->sends_pending == 0) {
        conn->progress_ns = io_now_ns(conn->server->io);
    }
    conn->sends_pending++;
    io_conn_send(conn->server->io, &conn->conn, send);
}

void
conn_send_settled(struct server_conn *conn)
{
    CHECK(conn->sends_pending != 0);
    conn->sends_pending--;
    conn->progress_ns = io_now_ns(conn->server->io);
    conn_settle(conn);
}

void
conn_flush_later(struct server_conn *conn)
{
    io_task_defer(conn->server->io, &conn->task);
}

static void
batch_add(struct server_batch *batch, struct peer_head *head, const void *meta)
{
    uint8_t *to = batch->bytes + batch->used;

    CHECK(batch->used + PEER_HEADER_BYTES + head->meta_bytes <=
          SERVER_BATCH_BYTES);
    if (meta != NULL) {
        memcpy(to + PEER_HEADER_BYTES, meta, head->meta_bytes);
        head->meta_crc = crc32c(0, meta, head->meta_bytes);
    }
    peer_head_encode(head, to);
    batch->used += PEER_HEADER_BYTES + head->meta_bytes;
}

static void
add_welcome(struct server_conn *conn, struct server_batch *batch)
{
    const struct peer_server *server = conn->server;
    struct peer_welcome welcome = {
        .version = le16_make(PEER_VERSION_MAX),
        .window_requests = le32_make(conn->window_requests),
        .features = le64_make(PEER_FEATURES),
        .window_bytes = le32_make(conn->window_bytes),
        .silence_ms = le32_make((uint32_t)(server->silence_ns / NS_PER_MS)),
        .disk = conn->link->disk,
        .instance = server->instance,
    };
    struct peer_head head = {
        .kind = PEER_WELCOME,
        .meta_bytes = sizeof welcome,
    };

    memcpy(welcome.host, server->host, sizeof welcome.host);
    batch_add(batch, &head, &welcome);
}

/* What is not a reply. */
static void
add_signals(struct server_conn *conn, struct server_batch *batch)
{
    if (conn->want_welcome) {
        conn->want_welcome = false;
        conn->want_credit = conn->is_paused;
        add_welcome(conn, batch);
    }
    if (conn->want_pong) {
        struct peer_head head = {
            .kind = PEER_PONG,
            .version = PEER_VERSION_MAX,
            .id = conn->pong_id,
        };
        conn->want_pong = false;
        batch_add(batch, &head, NULL);
    }
    if (conn->want_credit) {
        bool is_paused = conn->is_paused;
        struct peer_credit credit = {
            .requests = le32_make(is_paused ? 0 : conn->window_requests),
            .bytes = le32_make(is_paused ? 0 : conn->window_bytes),
        };
        struct peer_head head = {
            .kind = PEER_CREDIT,
            .version = PEER_VERSION_MAX,
            .meta_bytes = sizeof credit,
        };
        conn->want_credit = false;
        batch_add(batch, &head, &credit);
    }
}

static void
add_replies(struct server_conn *conn, struct server_batch *batch)
{
    struct list *node;

    while ((node = list_front(&conn->ready)) != NULL) {
        struct server_req *s = container_of(node, struct server_req, node);
        uint32_t added = serve_encode_small(s, batch->bytes + batch->used,
                                            SERVER_BATCH_BYTES - batch->used);
        if (added == 0) {
            return;
        }
        batch->used += added;
        list_remove(node);
        serve_release(s);
    }
}

static struct server_batch *
free_batch(struct server_conn *conn)
{
    for (uint32_t i = 0; i < SERVER_BATCHES; i++) {
        if (!conn->batches[i].is_sending) {
            return &conn->batches[i];
        }
    }
    return NULL;
}

/* Once a turn of the loop: all that has become ready, in one send. */
static void
conn_flush(struct io_task *task)
{
    struct server_conn *conn = container_of(task, struct server_conn, task);
    struct server_batch *batch;

    while (conn->phase == SERVER_READY &&
           (conn->want_welcome || conn->want_pong || conn->want_credit ||
            !list_is_empty(&conn->ready)) &&
           (batch = free_batch(conn)) != NULL) {
        batch->used = 0;
        add_signals(conn, batch);
        add_replies(conn, batch);
        batch->is_sending = true;
        batch->send = (struct io_send){
            .op.done = batch_sent,
            .iov = { { batch->bytes, batch->used } },
            .iov_count = 1,
        };
        conn_send(conn, &batch->send);
    }
}

static void
batch_sent(struct io_op *op, int result)
{
    struct server_batch *batch =
        container_of(container_of(op, struct io_send, op), struct server_batch,
                     send);
    struct server_conn *conn = batch->conn;

    (void)result; /* The connection says it. */
    batch->is_sending = false;
    conn_flush_later(conn);
    conn_send_settled(conn);
}

/* ---- The end ---- */

static void
unpause(struct server_conn *conn)
{
    conn->is_paused = false;
    if (list_is_linked(&conn->wait_node)) {
        list_remove(&conn->wait_node);
        server_resume_later(conn->server);
    }
}

/* The connection takes and sends no more messages. */
static void
stop_serving(struct server_conn *conn, enum server_phase phase)
{
    struct list dropped;
    struct list *node;
    bool was_ready = conn->phase == SERVER_READY;

    conn->phase = phase;
    conn->heard_ns = io_now_ns(conn->server->io);
    unpause(conn);
    list_init(&dropped);
    list_splice_back(&dropped, &conn->ready);
    while ((node = list_pop_front(&dropped)) != NULL) {
        serve_release(container_of(node, struct server_req, node));
    }
    if (conn->arriving != NULL) {
        struct server_req *s = conn->arriving;
        conn->arriving = NULL;
        serve_release(s);
    }
    if (was_ready) {
        conn->server->stats.conns--;
        server_rebalance(conn->server);
    }
}

void
conn_cut(struct server_conn *conn)
{
    if (conn_is_open(conn)) {
        stop_serving(conn, SERVER_CLOSING);
    } else if (conn->phase == SERVER_ENDING) {
        conn->phase = SERVER_CLOSING;
    } else {
        return;
    }
    io_conn_close(conn->server->io, &conn->conn);
}

void
conn_bye(struct server_conn *conn, enum peer_status status, const char *text)
{
    struct peer_bye bye = { .status = le32_make(status) };
    struct peer_head head = {
        .kind = PEER_BYE,
        .meta_bytes = sizeof bye,
    };

    if (!conn_is_open(conn)) {
        return;
    }
    if (conn->phase == SERVER_GREETING) {
        conn->server->stats.refused++;
    }
    stop_serving(conn, SERVER_ENDING);
    snprintf(bye.text, sizeof bye.text, "%s", text);
    head.meta_crc = crc32c(0, &bye, sizeof bye);
    peer_head_encode(&head, conn->bye);
    memcpy(conn->bye + PEER_HEADER_BYTES, &bye, sizeof bye);
    conn->bye_send = (struct io_send){
        .op.done = bye_sent,
        .iov = { { conn->bye, sizeof conn->bye } },
        .iov_count = 1,
    };
    conn_send(conn, &conn->bye_send);
    io_conn_close_after_sends(conn->server->io, &conn->conn);
}

static void
bye_sent(struct io_op *op, int result)
{
    struct server_conn *conn =
        container_of(container_of(op, struct io_send, op), struct server_conn,
                     bye_send);

    (void)result; /* The connection says it. */
    conn_send_settled(conn);
}

void
conn_violated(struct server_conn *conn, const char *text)
{
    conn->server->stats.protocol_errors++;
    conn_bye(conn, PEER_E_PROTOCOL, text);
}

static void
conn_closed(struct io_conn *io_conn, int reason)
{
    struct server_conn *conn = container_of(io_conn, struct server_conn, conn);

    (void)reason;
    if (conn_is_open(conn)) {
        stop_serving(conn, SERVER_CLOSING);
    }
    conn->phase = SERVER_DRAINING;
    conn_settle(conn);
}

void
conn_settle(struct server_conn *conn)
{
    /* A send that was started while the connection was ending already, but
     * before we were told, settles after on_closed(). */
    if (conn->phase != SERVER_DRAINING || conn->in_flight != 0 ||
        conn->sends_pending != 0) {
        return;
    }
    conn->phase = SERVER_FREE;
    io_task_cancel(conn->server->io, &conn->task);
    list_remove(&conn->node);
    list_push_back(&conn->server->free_conns, &conn->node);
    if (conn->link != NULL) {
        struct link *link = conn->link;
        conn->link = NULL;
        link_user_remove(link, &conn->user);
    }
    server_conn_freed(conn->server);
}

static void
conn_link_changed(struct link_user *user, enum link_state state)
{
    struct server_conn *conn = container_of(user, struct server_conn, user);

    if (state == LINK_DOWN) {
        conn_bye(conn, PEER_E_NO_DISK, "the disk is not served here any more");
    }
}

/* ---- HELLO ---- */

/* Whether a connection of the same link may still be added. */
static bool
supersede(struct server_conn *conn, const struct link *link)
{
    uint32_t former = 0;

    LIST_FOREACH (node, &conn->server->live_conns) {
        struct server_conn *other =
            container_of(node, struct server_conn, node);
        if (other != conn && other->link == link &&
            other->link_id == conn->link_id &&
            uuid_equal(&other->instance, &conn->instance)) {
            conn_cut(other);
            former++;
        }
    }
    return former <= SUPERSEDED_MAX;
}

static void
refuse_version(struct server_conn *conn, const struct peer_hello *hello)
{
    char text[PEER_TEXT_SIZE];

    snprintf(text, sizeof text,
             "this host speaks versions %u to %u of the peer protocol, not %u "
             "to %u: upgrade the older one",
             PEER_VERSION_MIN, PEER_VERSION_MAX,
             (unsigned)le16_get(hello->version_min),
             (unsigned)le16_get(hello->version_max));
    conn_bye(conn, PEER_E_VERSION, text);
}

static void
refuse_disk(struct server_conn *conn, const struct weft_uuid *disk)
{
    char text[PEER_TEXT_SIZE];
    char uuid[UUID_TEXT_SIZE];

    uuid_format(disk, uuid);
    snprintf(text, sizeof text, "disk %s is not served here", uuid);
    conn_bye(conn, PEER_E_NO_DISK, text);
}

static void
refuse_cluster(struct server_conn *conn, const struct weft_uuid *cluster)
{
    const struct peer_server *server = conn->server;
    char text[PEER_TEXT_SIZE];
    char ours[UUID_TEXT_SIZE];
    char theirs[UUID_TEXT_SIZE];

    if (uuid_is_nil(&server->cluster)) {
        conn_bye(conn, PEER_E_AGAIN, "this host does not know its cluster yet");
        return;
    }
    uuid_format(&server->cluster, ours);
    uuid_format(cluster, theirs);
    snprintf(text, sizeof text, "this host is of cluster %s, not %s", ours,
             theirs);
    conn_bye(conn, PEER_E_CLUSTER, text);
}

static void
conn_hello(struct server_conn *conn)
{
    const struct peer_head *head = &conn->parser.head;
    struct peer_server *server = conn->server;
    struct peer_hello hello;

    if (head->version != 0 || head->data_bytes != 0 ||
        head->meta_bytes != sizeof hello) {
        conn_violated(conn, "a malformed HELLO");
        return;
    }
    memcpy(&hello, conn->parser.meta, sizeof hello);
    if (memchr(hello.host, 0, sizeof hello.host) == NULL ||
        le16_get(hello.version_min) > le16_get(hello.version_max)) {
        conn_violated(conn, "a malformed HELLO");
        return;
    }
    if (le16_get(hello.version_min) > PEER_VERSION_MAX ||
        le16_get(hello.version_max) < PEER_VERSION_MIN) {
        refuse_version(conn, &hello);
        return;
    }
    if (uuid_is_nil(&server->cluster) ||
        !uuid_equal(&hello.cluster, &server->cluster)) {
        refuse_cluster(conn, &hello.cluster);
        return;
    }
    struct link *link = server->directory->find(server->directory, &hello.disk);
    if (link == NULL || link->state != LINK_UP) {
        refuse_disk(conn, &hello.disk);
        return;
    }
    CHECK(uuid_equal(&link->disk, &hello.disk));
    conn->instance = hello.instance;
    conn->link_id = le64_get(hello.link);
    if (!supersede(conn, link)) {
        conn_bye(conn, PEER_E_BUSY,
                 "requests of former connections of this link have not ended");
        return;
    }
    conn->link = link;
    conn->phase = SERVER_READY;
    link_user_add(link, &conn->user, conn_link_changed);
    server->stats.conns++;
    server_rebalance(server);
    conn->want_credit = false;
    conn->want_welcome = true;
    conn_flush_later(conn);
}

/* ---- In ---- */

static void
conn_ping(struct server_conn *conn)
{
    const struct peer_head *head = &conn->parser.head;

    if (head->meta_bytes != 0 || head->data_bytes != 0) {
        conn_violated(conn, "a malformed PING");
        return;
    }
    conn->pong_id = head->id;
    conn->want_pong = true;
    conn_flush_later(conn);
}

/* False: there is no memory for the message. */
static bool
conn_message(struct server_conn *conn)
{
    const struct peer_head *head = &conn->parser.head;

    if (conn->phase == SERVER_GREETING) {
        if (head->kind == PEER_HELLO) {
            conn_hello(conn);
        } else {
            conn_violated(conn, "the first message is not a HELLO");
        }
        return true;
    }
    if (head->kind != PEER_REQUEST && head->kind != PEER_PING) {
        conn_violated(conn,
                      "a message that only servers send, or a second HELLO");
        return true;
    }
    if (head->version != PEER_VERSION_MAX) {
        conn_violated(conn, "a message of another version");
        return true;
    }
    if (head->kind == PEER_REQUEST) {
        return serve_head(conn);
    }
    conn_ping(conn);
    return true;
}

/* Returns false if it had to stop for want of memory. */
static bool
conn_consume(struct server_conn *conn, const uint8_t **data, uint32_t *size)
{
    while (conn_is_open(conn)) {
        switch (peer_parser_step(&conn->parser, data, size)) {
        case PEER_STEP_MORE:
            return true;
        case PEER_STEP_HEAD:
            if (!conn_message(conn)) {
                peer_parser_hold(&conn->parser);
                return false;
            }
            break;
        case PEER_STEP_DATA:
            serve_data(conn);
            break;
        case PEER_STEP_BAD:
            conn_violated(conn, conn->parser.why);
            break;
        }
    }
    return true;
}

static void
conn_received(struct io_conn *io_conn, const uint8_t *data, uint32_t size_bytes)
{
    struct server_conn *conn = container_of(io_conn, struct server_conn, conn);
    struct peer_server *server = conn->server;

    if (!conn_is_open(conn)) {
        return;
    }
    CHECK(!conn->is_paused);
    conn->heard_ns = io_now_ns(server->io);
    if (conn_consume(conn, &data, &size_bytes)) {
        return;
    }
    CHECK(size_bytes <= IO_DATA_BYTES_MAX);
    memcpy(conn->stash, data, size_bytes);
    conn->stash_bytes = size_bytes;
    conn->is_paused = true;
    list_push_back(&server->waiting, &conn->wait_node);
    server->stats.pauses++;
    io_conn_pause(server->io, &conn->conn);
    conn->want_credit = true;
    conn_flush_later(conn);
}

void
conn_resume(struct server_conn *conn)
{
    const uint8_t *data = conn->stash;
    uint32_t size_bytes = conn->stash_bytes;

    CHECK(conn->is_paused);
    bool is_done = conn_consume(conn, &data, &size_bytes);
    if (!conn_is_open(conn)) {
        return; /* No longer waiting: see stop_serving(). */
    }
    if (!is_done) {
        memmove(conn->stash, data, size_bytes);
        conn->stash_bytes = size_bytes;
        return;
    }
    conn->stash_bytes = 0;
    conn->is_paused = false;
    list_remove(&conn->wait_node);
    conn->heard_ns = io_now_ns(conn->server->io);
    io_conn_resume(conn->server->io, &conn->conn);
    conn->want_credit = true;
    conn_flush_later(conn);
}

/* ---- Keep-alive ---- */

void
conn_tick(struct server_conn *conn, uint64_t now_ns)
{
    struct peer_server *server = conn->server;
    bool is_silent = now_ns - conn->heard_ns >= server->silence_ns;
    bool is_stuck = conn->sends_pending != 0 &&
                    now_ns - conn->progress_ns >= server->silence_ns;

    if (conn->phase == SERVER_FREE || conn->phase == SERVER_CLOSING ||
        conn->phase == SERVER_DRAINING) {
        return;
    }
    if (conn->is_paused) {
        is_silent = false; /* It is us who do not listen. */
        conn->want_credit = true;
        conn_flush_later(conn);
    }
    if (is_silent || is_stuck) {
        server->stats.silences++;
        conn_cut(conn);
    }
}
