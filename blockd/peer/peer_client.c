/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/peer_client.h"

/* The life of the connection; the state diagram is in the header.
 *
 * Keep-alive: a PING goes out when nothing was heard, or nothing was sent, for
 * a quarter of the silence limit (ours or the server's); whatever arrives
 * counts as a sign of life. The peer answers from its loop, so that a frozen
 * process is noticed as well as a dead host.  A server that has stopped reading
 * us for want of memory cannot see our PINGs: it says so by a window of 0,
 * again and again. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/client_internal.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

#define PINGS_PER_SILENCE 4u
#define TICKS_PER_PING 2u
/* However impatient a server says to be. */
#define PING_NS_MIN (10 * NS_PER_MS)

static io_conn_connected_fn client_connected;
static io_conn_data_fn client_received;
static io_conn_closed_fn client_closed;
static io_timer_fn client_timer;
static io_task_fn client_task;
static void client_connect(struct link_remote *remote);
static void client_gone(struct link_remote *remote);

static struct link_remote *
remote_of(struct link *link)
{
    return container_of(link, struct link_remote, link);
}

/* ---- Timer ---- */

void
client_arm(struct link_remote *remote)
{
    uint64_t at_ns = remote->tick_ns;

    if (remote->earliest_ns < at_ns) {
        at_ns = remote->earliest_ns;
    }
    io_timer_set(remote->link.io, &remote->timer, at_ns);
}

/* ---- Sends ---- */

void
client_send(struct link_remote *remote, struct io_send *send)
{
    remote->sends_pending++;
    io_conn_send(remote->link.io, &remote->conn, send);
}

void
client_send_settled(struct link_remote *remote)
{
    CHECK(remote->sends_pending != 0);
    remote->sends_pending--;
    if (remote->is_gone && remote->sends_pending == 0) {
        client_gone(remote);
    }
}

static void
ping_sent(struct io_op *op, int result)
{
    struct link_remote *remote =
        container_of(container_of(op, struct io_send, op), struct link_remote,
                     ping_send);

    (void)result; /* The connection says it. */
    remote->ping_sending = false;
    client_send_settled(remote);
}

static void
send_ping(struct link_remote *remote)
{
    struct peer_head head = {
        .kind = PEER_PING,
        .version = PEER_VERSION_MAX,
        .id = ++remote->ping_id,
    };

    peer_head_encode(&head, remote->ping);
    remote->ping_send = (struct io_send){
        .op.done = ping_sent,
        .iov = { { remote->ping, sizeof remote->ping } },
        .iov_count = 1,
    };
    remote->ping_pending = true;
    remote->ping_sending = true;
    remote->sent_ns = io_now_ns(remote->link.io);
    client_send(remote, &remote->ping_send);
}

static void
keep_alive(struct link_remote *remote, uint64_t now_ns)
{
    uint64_t late_ns = now_ns - remote->tick_ns;

    remote->tick_ns = now_ns + remote->ping_ns / TICKS_PER_PING;
    if (late_ns > remote->silence_ns / 2) {
        remote->heard_ns = now_ns; /* It was us who stood still. */
    }
    if (now_ns - remote->heard_ns >= remote->silence_ns) {
        remote->info.silences++;
        client_cut(remote, -ETIMEDOUT, "the peer is silent");
        return;
    }
    if (remote->phase != CLIENT_READY || remote->ping_pending ||
        remote->ping_sending || remote->window_requests == 0) {
        return;
    }
    if (now_ns - remote->heard_ns >= remote->ping_ns ||
        now_ns - remote->sent_ns >= remote->ping_ns) {
        send_ping(remote);
    }
}

static void
client_timer(struct io_timer *timer)
{
    struct link_remote *remote = container_of(timer, struct link_remote, timer);
    uint64_t now_ns = io_now_ns(remote->link.io);

    switch (remote->phase) {
    case CLIENT_WAITING:
        client_connect(remote);
        return;
    case CLIENT_GREETING:
    case CLIENT_READY:
        if (now_ns >= remote->tick_ns) {
            keep_alive(remote, now_ns);
        }
        if (client_is_open(remote) && now_ns >= remote->earliest_ns) {
            client_expire(remote, now_ns);
        }
        if (client_is_open(remote)) {
            client_arm(remote);
        }
        return;
    case CLIENT_IDLE:
    case CLIENT_CONNECTING:
    case CLIENT_CLOSING:
    case CLIENT_CLOSED:
        return;
    }
}

/* ---- Connecting ---- */

static void
client_connect(struct link_remote *remote)
{
    struct io *io = remote->link.io;

    remote->phase = CLIENT_CONNECTING;
    remote->reason = 0;
    remote->conn.on_connected = client_connected;
    remote->conn.on_data = client_received;
    remote->conn.on_closed = client_closed;
    io_conn_connect(io, &remote->conn, remote->address,
                    io_now_ns(io) + remote->connect_ns);
}

static void
hello_sent(struct io_op *op, int result)
{
    struct link_remote *remote =
        container_of(container_of(op, struct io_send, op), struct link_remote,
                     hello_send);

    (void)result; /* The connection says it. */
    remote->hello_sending = false;
    client_send_settled(remote);
}

static void
send_hello(struct link_remote *remote)
{
    struct peer_hello hello = {
        .version_min = le16_make(PEER_VERSION_MIN),
        .version_max = le16_make(PEER_VERSION_MAX),
        .features = le64_make(PEER_FEATURES),
        .cluster = remote->cluster,
        .disk = remote->link.disk,
        .instance = remote->instance,
        .link = le64_make(remote->link_id),
    };
    struct peer_head head = {
        .kind = PEER_HELLO,
        .meta_bytes = sizeof hello,
    };

    CHECK(!remote->hello_sending);
    memcpy(hello.host, remote->host, sizeof hello.host);
    head.meta_crc = crc32c(0, &hello, sizeof hello);
    peer_head_encode(&head, remote->hello);
    memcpy(remote->hello + PEER_HEADER_BYTES, &hello, sizeof hello);
    remote->hello_send = (struct io_send){
        .op.done = hello_sent,
        .iov = { { remote->hello, sizeof remote->hello } },
        .iov_count = 1,
    };
    remote->hello_sending = true;
    client_send(remote, &remote->hello_send);
}

static void
client_connected(struct io_conn *conn, int result)
{
    struct link_remote *remote = container_of(conn, struct link_remote, conn);
    uint64_t now_ns = io_now_ns(remote->link.io);

    if (remote->phase != CLIENT_CONNECTING) {
        return; /* Cut meanwhile; on_closed() follows. */
    }
    if (result != 0) {
        client_cut(remote, result, "cannot connect");
        return;
    }
    remote->phase = CLIENT_GREETING;
    peer_parser_init(&remote->parser);
    remote->arrival.slot = NULL;
    remote->ping_pending = false;
    remote->heard_ns = now_ns;
    remote->sent_ns = now_ns;
    remote->ping_ns = remote->silence_ns / PINGS_PER_SILENCE;
    remote->tick_ns = now_ns + remote->ping_ns / TICKS_PER_PING;
    remote->earliest_ns = IO_NEVER;
    client_arm(remote);
    send_hello(remote);
}

/* ---- Messages ---- */

static void
violated(struct link_remote *remote, const char *why)
{
    remote->info.protocol_errors++;
    client_cut(remote, -EPROTO, why);
}

static bool
is_window(uint32_t requests, uint32_t bytes)
{
    return requests != 0 && requests <= PEER_WINDOW_REQUESTS_MAX &&
           bytes >= PEER_DATA_BYTES_MAX && bytes <= PEER_WINDOW_BYTES_MAX;
}

static void
client_welcome(struct link_remote *remote)
{
    const struct peer_head *head = &remote->parser.head;
    struct peer_welcome welcome;

    if (remote->phase != CLIENT_GREETING || head->version != 0 ||
        head->data_bytes != 0 || head->meta_bytes != sizeof welcome) {
        violated(remote, "a malformed WELCOME");
        return;
    }
    memcpy(&welcome, remote->parser.meta, sizeof welcome);
    uint16_t version = le16_get(welcome.version);
    uint32_t requests = le32_get(welcome.window_requests);
    uint32_t bytes = le32_get(welcome.window_bytes);
    if (version < PEER_VERSION_MIN || version > PEER_VERSION_MAX ||
        (le64_get(welcome.features) & ~PEER_FEATURES) != 0 ||
        !is_window(requests, bytes) ||
        !uuid_equal(&welcome.disk, &remote->link.disk) ||
        memchr(welcome.host, 0, sizeof welcome.host) == NULL) {
        violated(remote, "a WELCOME to something that was not asked for");
        return;
    }
    remote->window_requests = requests;
    remote->window_bytes = bytes;
    uint64_t ping_ns =
        le32_get(welcome.silence_ms) * NS_PER_MS / PINGS_PER_SILENCE;
    if (ping_ns != 0 && ping_ns < remote->ping_ns) {
        remote->ping_ns = ping_ns > PING_NS_MIN ? ping_ns : PING_NS_MIN;
        remote->tick_ns = remote->heard_ns + remote->ping_ns / TICKS_PER_PING;
        client_arm(remote);
    }
    memcpy(remote->info.peer_host, welcome.host, sizeof welcome.host);
    remote->info.peer_instance = welcome.instance;
    remote->info.connects++;
    remote->up_ns = io_now_ns(remote->link.io);
    remote->phase = CLIENT_READY;
    link_set_state(&remote->link, LINK_UP, 0);
}

static void
client_bye(struct link_remote *remote)
{
    const struct peer_head *head = &remote->parser.head;
    struct peer_bye bye;
    int result;

    if (head->version != 0 || head->data_bytes != 0 ||
        head->meta_bytes != sizeof bye) {
        violated(remote, "a malformed BYE");
        return;
    }
    memcpy(&bye, remote->parser.meta, sizeof bye);
    if (peer_status_result(le32_get(bye.status), &result) != 0 || result == 0) {
        result = -EPROTO; /* Of a later version, perhaps. */
    }
    for (size_t i = 0; i < sizeof bye.text; i++) {
        if (bye.text[i] != '\0' && (bye.text[i] < ' ' || bye.text[i] > '~')) {
            bye.text[i] = '?';
        }
    }
    bye.text[sizeof bye.text - 1] = '\0';
    remote->info.refusals++;
    client_cut(remote, result, bye.text);
}

static void
client_credit(struct link_remote *remote)
{
    const struct peer_head *head = &remote->parser.head;
    struct peer_credit credit;

    if (head->data_bytes != 0 || head->meta_bytes != sizeof credit) {
        violated(remote, "a malformed CREDIT");
        return;
    }
    memcpy(&credit, remote->parser.meta, sizeof credit);
    uint32_t requests = le32_get(credit.requests);
    uint32_t bytes = le32_get(credit.bytes);
    if (requests != 0 && !is_window(requests, bytes)) {
        violated(remote, "an absurd CREDIT");
        return;
    }
    remote->window_requests = requests;
    remote->window_bytes = bytes;
}

static void
client_pong(struct link_remote *remote)
{
    const struct peer_head *head = &remote->parser.head;

    if (head->data_bytes != 0 || head->meta_bytes != 0 ||
        !remote->ping_pending || head->id != remote->ping_id) {
        violated(remote, "a PONG without its PING");
        return;
    }
    remote->ping_pending = false;
}

static void
client_message(struct link_remote *remote)
{
    const struct peer_head *head = &remote->parser.head;

    switch (head->kind) {
    case PEER_WELCOME:
        client_welcome(remote);
        return;
    case PEER_BYE:
        client_bye(remote);
        return;
    case PEER_REPLY:
    case PEER_PONG:
    case PEER_CREDIT:
        if (remote->phase != CLIENT_READY ||
            head->version != PEER_VERSION_MAX) {
            violated(remote, "a message of another version, or too early");
        } else if (head->kind == PEER_REPLY) {
            client_reply(remote);
        } else if (head->kind == PEER_PONG) {
            client_pong(remote);
        } else {
            client_credit(remote);
        }
        return;
    case PEER_HELLO:
    case PEER_REQUEST:
    case PEER_PING:
        violated(remote, "a message that only clients send");
        return;
    }
}

static void
client_received(struct io_conn *conn, const uint8_t *data, uint32_t size_bytes)
{
    struct link_remote *remote = container_of(conn, struct link_remote, conn);

    remote->heard_ns = io_now_ns(remote->link.io);
    while (client_is_open(remote)) {
        switch (peer_parser_step(&remote->parser, &data, &size_bytes)) {
        case PEER_STEP_MORE:
            client_pump(remote);
            return;
        case PEER_STEP_HEAD:
            client_message(remote);
            break;
        case PEER_STEP_DATA:
            client_data(remote);
            break;
        case PEER_STEP_BAD:
            violated(remote, remote->parser.why);
            break;
        }
    }
}

/* ---- The end of a connection ---- */

void
client_cut(struct link_remote *remote, int reason, const char *why)
{
    if (remote->phase != CLIENT_CONNECTING && !client_is_open(remote)) {
        return;
    }
    remote->phase = CLIENT_CLOSING;
    remote->reason = reason;
    err_set(&remote->why, "%s: %s", remote->address, why);
    io_timer_cancel(remote->link.io, &remote->timer);
    io_conn_close(remote->link.io, &remote->conn);
}

static void
client_closed(struct io_conn *conn, int reason)
{
    struct link_remote *remote = container_of(conn, struct link_remote, conn);

    if (remote->phase != CLIENT_CLOSING) {
        remote->reason = reason != 0 ? reason : -ECONNRESET;
        err_set(&remote->why, "%s: the peer has closed the connection",
                remote->address);
        remote->phase = CLIENT_CLOSING;
        io_timer_cancel(remote->link.io, &remote->timer);
    }
    remote->is_gone = true;
    if (remote->sends_pending == 0) {
        client_gone(remote);
    }
}

/* Nothing refers to the connection, or to the memory of requests, any more.
 * That may be later than on_closed(): a send that was started while the
 * connection was ending already, but before we were told, settles after it. */
static void
client_gone(struct link_remote *remote)
{
    struct io *io = remote->link.io;
    uint64_t now_ns = io_now_ns(io);

    CHECK(remote->phase == CLIENT_CLOSING);
    remote->is_gone = false;
    remote->info.failures++;
    if (remote->link.state == LINK_UP &&
        now_ns - remote->up_ns >= remote->backoff.max_ns) {
        backoff_reset(&remote->backoff);
    }
    client_fail_all(remote);

    /* Before the users are told: they may remove themselves or close. */
    if (remote->link.close_op != NULL) {
        remote->phase = CLIENT_CLOSED;
        io_task_defer(io, &remote->task);
    } else if (list_is_empty(&remote->link.users)) {
        remote->phase = CLIENT_IDLE;
    } else {
        remote->phase = CLIENT_WAITING;
        io_timer_set(io, &remote->timer,
                     now_ns + backoff_next(&remote->backoff, &remote->rng));
    }
    link_set_state(&remote->link, LINK_DOWN, remote->reason);
}

static void
client_task(struct io_task *task)
{
    struct link_remote *remote = container_of(task, struct link_remote, task);

    client_run_refused(remote);
    if (remote->phase == CLIENT_CLOSED && !remote->link.is_quiet) {
        link_quiet(&remote->link);
    }
}

/* ---- Link ---- */

static void
client_start(struct link *link)
{
    struct link_remote *remote = remote_of(link);

    if (remote->phase == CLIENT_IDLE) {
        client_connect(remote);
    }
}

static void
client_stop(struct link *link)
{
    struct link_remote *remote = remote_of(link);

    if (remote->phase == CLIENT_WAITING) {
        io_timer_cancel(link->io, &remote->timer);
        remote->phase = CLIENT_IDLE;
    } else {
        client_cut(remote, -ENOTCONN, "nobody uses the link");
    }
}

static void
client_cut_by_user(struct link *link)
{
    client_cut(remote_of(link), -ECONNABORTED, "cut for being slow");
}

static void
client_close(struct link *link)
{
    struct link_remote *remote = remote_of(link);

    switch (remote->phase) {
    case CLIENT_IDLE:
    case CLIENT_WAITING:
        io_timer_cancel(link->io, &remote->timer);
        remote->phase = CLIENT_CLOSED;
        io_task_defer(link->io, &remote->task);
        return;
    case CLIENT_CONNECTING:
    case CLIENT_GREETING:
    case CLIENT_READY:
        client_cut(remote, -ESHUTDOWN, "the link is closed");
        return;
    case CLIENT_CLOSING:
    case CLIENT_CLOSED:
        return;
    }
}

static void
client_free(struct link *link)
{
    struct link_remote *remote = remote_of(link);

    CHECK(list_is_empty(&remote->refused));
    CHECK(list_is_empty(&remote->queue));
    CHECK(remote->used_requests == 0);
    io_timer_cancel(link->io, &remote->timer);
    io_task_cancel(link->io, &remote->task);
    free(remote->slots);
    free(remote);
}

static const struct link_vtable client_vtable = {
    .submit = client_submit,
    .start = client_start,
    .stop = client_stop,
    .cut = client_cut_by_user,
    .close = client_close,
    .free = client_free,
};

void
link_remote_options_init(struct link_remote_options *options)
{
    *options = (struct link_remote_options){
        .host = "",
        .silence_ns = 800 * NS_PER_MS,
        .connect_ns = 500 * NS_PER_MS,
        .backoff_base_ns = 10 * NS_PER_MS,
        .backoff_max_ns = NS_PER_S,
        .requests_max = 128,
    };
}

static void
init_pools(struct link_remote *remote)
{
    list_init(&remote->free_slots);
    list_init(&remote->free_puts);
    list_init(&remote->queue);
    list_init(&remote->refused);
    for (uint32_t i = 0; i < remote->slot_count; i++) {
        remote->slots[i].remote = remote;
        list_init(&remote->slots[i].node);
        list_push_back(&remote->free_slots, &remote->slots[i].node);
    }
    for (uint32_t i = 0; i < CLIENT_PUTS; i++) {
        list_init(&remote->puts[i].node);
        list_push_back(&remote->free_puts, &remote->puts[i].node);
    }
}

int
link_remote_new(struct io *io, const char *address,
                const struct weft_uuid *cluster, const struct weft_uuid *disk,
                const struct link_remote_options *options,
                struct link **ret_link)
{
    if (strlen(address) >= IO_ADDRESS_SIZE || options->requests_max == 0 ||
        options->requests_max > PEER_WINDOW_REQUESTS_MAX ||
        options->silence_ns < PINGS_PER_SILENCE * PING_NS_MIN ||
        options->backoff_base_ns == 0 ||
        options->backoff_max_ns < options->backoff_base_ns) {
        return -EINVAL;
    }
    struct link_remote *remote = calloc(1, sizeof *remote);
    if (remote == NULL) {
        return -ENOMEM;
    }
    remote->slots = calloc(options->requests_max, sizeof *remote->slots);
    if (remote->slots == NULL) {
        free(remote);
        return -ENOMEM;
    }
    link_init(&remote->link, &client_vtable, io, disk, false);
    remote->slot_count = options->requests_max;
    remote->phase = CLIENT_IDLE;
    memcpy(remote->address, address, strlen(address) + 1);
    remote->cluster = *cluster;
    remote->instance = options->instance;
    strncpy(remote->host, options->host, sizeof remote->host - 1);
    remote->silence_ns = options->silence_ns;
    remote->connect_ns = options->connect_ns;
    remote->link_id = io_random_u64(io);
    rng_init(&remote->rng, io_random_u64(io));
    backoff_init(&remote->backoff, options->backoff_base_ns,
                 options->backoff_max_ns);
    io_timer_init(&remote->timer, client_timer);
    io_task_init(&remote->task, client_task);
    init_pools(remote);
    *ret_link = &remote->link;
    return 0;
}

void
link_remote_info_get(const struct link *link, struct link_remote_info *ret_info)
{
    CHECK(link->vtable == &client_vtable);
    const struct link_remote *remote =
        (const struct link_remote *)(const void *)link;

    *ret_info = remote->info;
    ret_info->address = remote->address;
    ret_info->reason = remote->why.text;
    ret_info->queued = (uint32_t)list_count(&remote->queue);
    ret_info->window_requests = remote->window_requests;
    ret_info->window_bytes = remote->window_bytes;
}
