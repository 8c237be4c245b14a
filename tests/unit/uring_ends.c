/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/uring_ends.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/container_of.h"

static char directory[] = "/tmp/weft-uring-XXXXXX";

bool
make_directory(void)
{
    return mkdtemp(directory) != NULL;
}

int
remove_directory(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command) == 0 ? 0 : 99;
}

const char *
test_directory(void)
{
    return directory;
}

/* ---- Callbacks ---- */

static void end_send_more(struct end *end);

static void
end_send_done(struct io_op *op, int result)
{
    struct io_send *io_send = container_of(op, struct io_send, op);
    struct end_send *send = container_of(io_send, struct end_send, send);
    struct end *end = send->end;

    CHECK(send->busy);
    CHECK(end->sends_busy > 0);
    CHECK(end->closed == 1); /* on_closed() comes after all sends. */
    send->busy = false;
    end->sends_busy--;
    if (result != 0) {
        end->sends_failed++;
        end->send_error = result;
        return;
    }
    end_send_more(end);
}

/* The stream is that of bytes 0, 1, ... 255, 0, ... so that any piece of it
 * is somewhere in 'stream'. */
void
end_send_one(struct end *end, struct end_send *item, uint32_t size)
{
    struct conn_test *test = end->test;
    struct io_send *send = &item->send;
    uint32_t parts =
        1 + (uint32_t)fixture_random(&test->seed) % IO_SEND_IOV_MAX;
    uint32_t left = size;
    uint64_t position = end->sent_bytes;

    if (parts > size) {
        parts = size;
    }
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t part = i + 1 == parts ? left : left / 3;

        send->iov[i].iov_base = test->stream + position % 256;
        send->iov[i].iov_len = part;
        position += part;
        left -= part;
    }
    send->iov_count = parts;
    send->op.done = end_send_done;
    end->sent_bytes += size;
    end->sends_busy++;
    item->end = end;
    item->busy = true;
    io_conn_send(test->io, &end->conn, send);
    CHECK(item->busy); /* Rule (2). */
}

static void
end_send_more(struct end *end)
{
    struct conn_test *test = end->test;

    for (uint32_t i = 0; i < SENDS; i++) {
        struct end_send *send = &end->sends[i];
        uint64_t left = end->goal_bytes - end->sent_bytes;
        uint32_t size = 1;

        if (send->busy || left == 0) {
            continue;
        }
        switch (fixture_random(&test->seed) % 4) {
        case 0:
            size = 1 + (uint32_t)fixture_random(&test->seed) % 100;
            break;
        case 1:
        case 2:
            size = 1 + (uint32_t)fixture_random(&test->seed) % 9000;
            break;
        default:
            size = 1 + (uint32_t)fixture_random(&test->seed) % SEND_BYTES_MAX;
            break;
        }
        end_send_one(end, send, size < left ? size : (uint32_t)left);
    }
}

static void
end_resume(struct io_timer *timer)
{
    struct end *end = container_of(timer, struct end, timer);

    io_conn_resume(end->test->io, &end->conn);
}

static void
end_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct end *end = container_of(conn, struct end, conn);
    struct conn_test *test = end->test;

    CHECK(size > 0);
    CHECK(end->closed == 1);
    CHECK(!io_timer_is_armed(&end->timer)); /* Paused. */
    CHECK(memcmp(data, test->stream + end->received_bytes % 256,
                 size < 256 ? size : 256) == 0);
    for (uint32_t i = 256; i < size; i++) {
        CHECK(data[i] == data[i - 256]);
    }
    end->received_bytes += size;
    end->pieces++;
    if (end->slow && fixture_random(&test->seed) % 16 == 0) {
        io_conn_pause(test->io, conn);
        io_timer_set(test->io, &end->timer,
                     io_now_ns(test->io) +
                         fixture_random(&test->seed) % 2000000);
    }
    if (end->greedy) {
        io_conn_pause(test->io, conn);
    }
    if (end->quit) {
        io_conn_close(test->io, conn);
    }
    if (end->echo_once && end->pieces == 1) {
        end_send_more(end);
        io_conn_close_after_sends(test->io, conn);
    }
    if (end->received_bytes == test->ends[end == test->ends].goal_bytes) {
        latch_add(&test->latch, 1);
    }
}

static void
end_connected(struct io_conn *conn, int result)
{
    struct end *end = container_of(conn, struct end, conn);

    CHECK(end->connected == 1);
    end->connected = result;
    if (end->test->want_opened && result == 0) {
        latch_add(&end->test->latch, 1);
    }
    if (result == 0) {
        end_send_more(end);
    }
}

static void
end_closed(struct io_conn *conn, int reason)
{
    struct end *end = container_of(conn, struct end, conn);
    struct conn_test *test = end->test;

    CHECK(end->closed == 1);
    CHECK(end->sends_busy == 0);
    CHECK(end->adopted || end->connected != 1);
    end->closed = reason;
    io_timer_cancel(test->io, &end->timer);
    latch_add(&test->latch, 1);
}

void
end_init(struct end *end, struct conn_test *test)
{
    end->test = test;
    end->conn.impl = NULL;
    end->conn.on_connected = end_connected;
    end->conn.on_data = end_data;
    end->conn.on_closed = end_closed;
    end->connected = 1;
    end->closed = 1;
    end->sent_bytes = end->received_bytes = 0;
    end->pieces = end->sends_failed = 0;
    end->send_error = 0;
    end->adopted = false;
    io_timer_init(&end->timer, end_resume);
}

static void
test_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct conn_test *test = container_of(listener, struct conn_test, listener);
    struct end *end = &test->ends[1];

    test->accepts++;
    if (test->refuse) {
        return;
    }
    end->adopted = true;
    CHECK(io_conn_adopt(test->io, &end->conn, accepted) == 0);
    if (test->want_opened) {
        latch_add(&test->latch, 1);
    }
    if (!end->echo_once) {
        end_send_more(end);
    }
}

/* ---- Steps ---- */

void
listen_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);

    test->listener.on_accept = test_accept;
    test->result = io_listener_open(test->io, &test->listener, test->address);
    if (test->result == 0) {
        io_listener_address(&test->listener, test->address);
    }
}

void
unlisten_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);

    io_listener_close(test->io, &test->listener);
    io_listener_close(test->io, &test->listener); /* Harmless. */
}

void
connect_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);

    end_init(&test->ends[0], test);
    end_init(&test->ends[1], test);
    io_conn_connect(test->io, &test->ends[0].conn, test->address,
                    test->deadline_ns == IO_NEVER
                        ? IO_NEVER
                        : io_now_ns(test->io) + test->deadline_ns);
    CHECK(test->ends[0].connected == 1); /* Rule (2). */
}

void
close_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);

    io_conn_close(test->io, &test->ends[0].conn);
    io_conn_close(test->io, &test->ends[0].conn); /* Harmless. */
    CHECK(test->ends[0].closed == 1);
}

void
close_both_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);

    io_conn_close(test->io, &test->ends[0].conn);
    io_conn_close(test->io, &test->ends[1].conn);
}

struct conn_test *
conn_test_new(const char *address, void (*change)(struct reactor_options *))
{
    struct conn_test *test = calloc(1, sizeof(*test));

    assert_non_null(test);
    latch_init(&test->latch);
    test->stream = malloc(SEND_BYTES_MAX + 256);
    assert_non_null(test->stream);
    for (uint32_t i = 0; i < SEND_BYTES_MAX + 256; i++) {
        test->stream[i] = (uint8_t)i;
    }
    test->seed = 4711;
    test->deadline_ns = IO_NEVER;
    test->reactor = fixture_reactor(change);
    test->io = reactor_io(test->reactor);
    snprintf(test->address, sizeof(test->address), "%s", address);
    fixture_run(test->reactor, &test->call, listen_run);
    assert_int_equal(test->result, 0);
    return test;
}

void
conn_test_free(struct conn_test *test)
{
    assert_int_equal(fixture_info(test->reactor).conns, 0);
    fixture_run(test->reactor, &test->call, unlisten_run);
    reactor_free(test->reactor);
    latch_done(&test->latch);
    free(test->stream);
    free(test);
}

void
unix_address(char *text, const char *name)
{
    snprintf(text, IO_ADDRESS_SIZE, "unix:%s/%s", directory, name);
}
