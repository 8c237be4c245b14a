/* SPDX-License-Identifier: Apache-2.0 */

/* Opening connections: addresses, connecting and its failures, listening, and
 * a storm of short connections. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/io/address.h"
#include "tests/unit/uring_ends.h"

/* ---- Connecting ---- */

static void
check_connect_fails(struct conn_test *test, const char *address, int error)
{
    char before[IO_ADDRESS_SIZE];

    memcpy(before, test->address, sizeof(before));
    snprintf(test->address, sizeof(test->address), "%s", address);
    fixture_run(test->reactor, &test->call, connect_run);
    latch_wait(&test->latch, 1);
    assert_int_equal(test->ends[0].connected, error);
    assert_int_equal(test->ends[0].closed, error);
    memcpy(test->address, before, sizeof(before));
}

/* A listener that takes nobody: its backlog is full. */
static int
deaf_listener(char *address, int fillers[8])
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    socklen_t size = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    CHECK(listen(fd, 0) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&in, &size) == 0);
    snprintf(address, IO_ADDRESS_SIZE, "tcp:127.0.0.1:%u",
             (unsigned)ntohs(in.sin_port));
    for (uint32_t i = 0; i < 8; i++) {
        fillers[i] =
            socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&in, sizeof(in));
    }
    return fd;
}

static void
connect_close_run(struct reactor_call *call)
{
    connect_run(call);
    close_run(call);
}

static void
test_connect_errors(void **state)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", NULL);
    char address[IO_ADDRESS_SIZE];
    char before[IO_ADDRESS_SIZE];
    int fillers[8];
    int deaf;

    (void)state;
    check_connect_fails(test, "tcp:127.0.0.1:1", -ECONNREFUSED);
    check_connect_fails(test, "unix:/nowhere/at/all", -ENOENT);
    check_connect_fails(test, "host:1", -EINVAL);

    deaf = deaf_listener(address, fillers);
    test->deadline_ns = 30000000;
    check_connect_fails(test, address, -ETIMEDOUT);
    test->deadline_ns = 0;
    check_connect_fails(test, address, -ETIMEDOUT);

    /* Closed before it is connected. */
    test->deadline_ns = IO_NEVER;
    memcpy(before, test->address, sizeof(before));
    memcpy(test->address, address, sizeof(address));
    fixture_run(test->reactor, &test->call, connect_run);
    fixture_run(test->reactor, &test->call, close_run);
    latch_wait(&test->latch, 1);
    assert_int_equal(test->ends[0].connected, -ECANCELED);
    assert_int_equal(test->ends[0].closed, 0);
    fixture_run(test->reactor, &test->call, connect_close_run);
    latch_wait(&test->latch, 1);
    assert_int_equal(test->ends[0].connected, -ECANCELED);
    assert_int_equal(test->ends[0].closed, 0);
    memcpy(test->address, before, sizeof(before));
    for (uint32_t i = 0; i < 8; i++) {
        close(fillers[i]);
    }
    close(deaf);
    conn_test_free(test);
}

static void
test_addresses(void **state)
{
    static const char *const bad[] = {
        "",
        "tcp:",
        "tcp:1.2.3.4",
        "tcp:1.2.3.4:",
        "tcp:1.2.3.4:65536",
        "tcp:1.2.3.4:-1",
        "tcp:1.2.3.4:+1",
        "tcp:1.2.3.4:1 ",
        "tcp: 1.2.3.4:1",
        "tcp:1.2.3:1",
        "tcp:host:1",
        "tcp:[::1:1",
        "tcp:::1:1",
        "tcp:[]:1",
        "tcp:[1.2.3.4]:1",
        "tcp:[::1]1",
        "tcp:99999999999999999999999999999999999999999999999999:1",
        "tcp:1.2.3.4:99999999999999999999",
        "udp:1.2.3.4:1",
        "unix:",
        "unix:relative",
        "unix:@abstract",
        "unix:/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    };
    static const char *const good[] = {
        "tcp:10.1.0.1:7701",
        "tcp:[fd00::1]:7701",
        "tcp:0.0.0.0:0",
        "unix:/run/weft/x.sock",
    };
    struct io_address address;
    char text[IO_ADDRESS_SIZE];

    (void)state;
    for (uint32_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(io_address_parse(bad[i], &address), -EINVAL);
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_int_equal(io_address_parse(good[i], &address), 0);
        io_address_format(&address, text);
        assert_string_equal(text, good[i]);
    }
}

/* ---- Listening ---- */

static void
test_listeners(void **state)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", NULL);
    struct conn_test *second = calloc(1, sizeof(*second));
    struct io_address address;
    char path[IO_ADDRESS_SIZE];
    int fd;

    (void)state;
    assert_non_null(second);
    second->reactor = test->reactor;
    second->io = test->io;
    memcpy(second->address, test->address, sizeof(test->address));
    fixture_run(second->reactor, &second->call, listen_run);
    assert_int_equal(second->result, -EADDRINUSE);
    snprintf(second->address, sizeof(second->address), "tcp:x:1");
    fixture_run(second->reactor, &second->call, listen_run);
    assert_int_equal(second->result, -EINVAL);

    /* The same port again, though a connection of it lives. */
    test->want_opened = true;
    fixture_run(test->reactor, &test->call, connect_run);
    latch_wait(&test->latch, 2);
    fixture_run(test->reactor, &test->call, unlisten_run);
    fixture_run(test->reactor, &test->call, listen_run);
    assert_int_equal(test->result, 0);
    fixture_run(test->reactor, &test->call, close_run);
    latch_wait(&test->latch, 2);

    /* A socket that somebody left behind is replaced; one in use is not. */
    unix_address(second->address, "stale");
    assert_int_equal(io_address_parse(second->address, &address), 0);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, &address.u.any, address.size), 0);
    assert_int_equal(listen(fd, 1), 0);
    fixture_run(second->reactor, &second->call, listen_run);
    assert_int_equal(second->result, -EADDRINUSE);
    close(fd);
    fixture_run(second->reactor, &second->call, listen_run);
    assert_int_equal(second->result, 0);
    fixture_run(second->reactor, &second->call, unlisten_run);
    snprintf(path, sizeof(path), "%s/stale", test_directory());
    assert_int_equal(access(path, F_OK), -1);

    /* A file of another kind stays. */
    close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    fixture_run(second->reactor, &second->call, listen_run);
    assert_int_equal(second->result, -EADDRINUSE);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);

    conn_test_free(test);
    free(second);
}

/* No descriptor left: the client waits until there is one.  The kernel looks
 * at the limit when the accept is armed, so it is low from the start. */
static void
test_accept_without_descriptors(void **state)
{
    struct conn_test *test;
    struct rlimit before;
    struct rlimit low;
    struct io_address address;
    int fillers[256]; /* More than the ring registers. */
    uint32_t count = 0;
    int client;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = ARRAY_COUNT(fillers);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    test = conn_test_new("tcp:127.0.0.1:0", NULL);
    end_init(&test->ends[1], test);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    while ((fillers[count] = dup(client)) >= 0) {
        count++;
    }
    assert_int_equal(errno, EMFILE);
    assert_int_equal(io_address_parse(test->address, &address), 0);
    assert_int_equal(connect(client, &address.u.any, address.size), 0);
    test->ends[0].goal_bytes = 3;
    assert_int_equal(write(client, test->stream, 3), 3);
    assert_int_equal(fixture_info(test->reactor).conns, 0);
    while (count > 0) {
        close(fillers[--count]);
    }
    latch_wait(&test->latch, 1);
    close(client);
    latch_wait(&test->latch, 1);
    assert_int_equal(test->ends[1].closed, 0);
    conn_test_free(test);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- Storm ---- */

#define STORM_CLIENTS 40U
#define STORM_TOTAL 3000U

struct storm_item {
    struct io_conn conn;
    struct storm *storm;
    struct io_send send;
    bool busy;
};

struct storm {
    struct reactor_call call;
    struct reactor *reactor;
    struct io *io;
    struct latch latch;
    struct io_listener listener;
    char address[IO_ADDRESS_SIZE];
    struct storm_item clients[STORM_CLIENTS];
    struct storm_item servers[STORM_CLIENTS];
    uint32_t begun;
    uint32_t ended;
    uint32_t answered;
    uint32_t no_room;
    uint32_t failed;
};

static void storm_next(struct storm_item *client);

static void
storm_send_done(struct io_op *op, int result)
{
    (void)op;
    (void)result;
}

static void
storm_send(struct storm_item *item)
{
    item->send.iov[0].iov_base = item->storm->address;
    item->send.iov[0].iov_len = 5;
    item->send.iov_count = 1;
    item->send.op.done = storm_send_done;
    io_conn_send(item->storm->io, &item->conn, &item->send);
}

static void
storm_connected(struct io_conn *conn, int result)
{
    struct storm_item *item = container_of(conn, struct storm_item, conn);

    if (result == 0) {
        storm_send(item);
    } else {
        CHECK(result == -EMFILE);
        item->storm->no_room++;
    }
}

static void
storm_client_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct storm_item *item = container_of(conn, struct storm_item, conn);

    (void)data;
    (void)size;
    item->storm->answered++;
    io_conn_close(item->storm->io, conn);
}

static void
storm_client_closed(struct io_conn *conn, int reason)
{
    struct storm_item *item = container_of(conn, struct storm_item, conn);

    item->storm->failed += reason != 0 && reason != -EMFILE;
    item->storm->ended++;
    storm_next(item);
}

static void
storm_server_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct storm_item *item = container_of(conn, struct storm_item, conn);

    (void)data;
    (void)size;
    storm_send(item);
}

static void
storm_server_closed(struct io_conn *conn, int reason)
{
    struct storm_item *item = container_of(conn, struct storm_item, conn);

    (void)reason;
    item->busy = false;
    latch_add(&item->storm->latch, 1);
}

static void
storm_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct storm *storm = container_of(listener, struct storm, listener);

    for (uint32_t i = 0; i < STORM_CLIENTS; i++) {
        struct storm_item *item = &storm->servers[i];

        if (!item->busy) {
            item->storm = storm;
            item->conn.on_data = storm_server_data;
            item->conn.on_closed = storm_server_closed;
            if (io_conn_adopt(storm->io, &item->conn, accepted) == 0) {
                item->busy = true;
            }
            return;
        }
    }
}

static void
storm_next(struct storm_item *item)
{
    struct storm *storm = item->storm;

    if (storm->begun == STORM_TOTAL) {
        if (storm->ended == STORM_TOTAL) {
            latch_add(&storm->latch, 1U << 20);
        }
        return;
    }
    storm->begun++;
    item->conn.on_connected = storm_connected;
    item->conn.on_data = storm_client_data;
    item->conn.on_closed = storm_client_closed;
    io_conn_connect(storm->io, &item->conn, storm->address, IO_NEVER);
}

static void
storm_run(struct reactor_call *call)
{
    struct storm *storm = container_of(call, struct storm, call);

    storm->listener.on_accept = storm_accept;
    CHECK(io_listener_open(storm->io, &storm->listener, storm->address) == 0);
    io_listener_address(&storm->listener, storm->address);
    for (uint32_t i = 0; i < STORM_CLIENTS; i++) {
        storm->clients[i].storm = storm;
        storm_next(&storm->clients[i]);
    }
}

static void
storm_end(struct reactor_call *call)
{
    struct storm *storm = container_of(call, struct storm, call);

    io_listener_close(storm->io, &storm->listener);
    for (uint32_t i = 0; i < STORM_CLIENTS; i++) {
        if (storm->servers[i].busy) {
            io_conn_close(storm->io, &storm->servers[i].conn);
        }
    }
}

static void
storm_nothing(struct reactor_call *call)
{
    (void)call;
}

/* 64 slots for up to 80 ends: some find no room, all end. */
static void
test_storm(void **state)
{
    struct storm *storm = calloc(1, sizeof(*storm));

    (void)state;
    assert_non_null(storm);
    latch_init(&storm->latch);
    storm->reactor = fixture_reactor(NULL);
    storm->io = reactor_io(storm->reactor);
    snprintf(storm->address, sizeof(storm->address), "tcp:127.0.0.1:0");
    fixture_run(storm->reactor, &storm->call, storm_run);
    latch_wait(&storm->latch, 1U << 20);
    fixture_run(storm->reactor, &storm->call, storm_end);
    while (fixture_info(storm->reactor).conns > 0) {
        fixture_run(storm->reactor, &storm->call, storm_nothing);
    }
    assert_int_equal(storm->ended, STORM_TOTAL);
    assert_true(storm->answered > STORM_TOTAL / 4);
    reactor_free(storm->reactor);
    latch_done(&storm->latch);
    free(storm);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_connect_errors),
        cmocka_unit_test(test_listeners),
        cmocka_unit_test(test_accept_without_descriptors),
        cmocka_unit_test(test_storm),
    };
    int rc;

    if (!make_directory()) {
        return 99;
    }
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    return remove_directory() == 0 ? rc : 99;
}
