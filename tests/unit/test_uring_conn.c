/* SPDX-License-Identifier: Apache-2.0 */

/* Connections of the reactor: streams of odd sizes with a slow reader, every
 * way to close, and running out of buffers. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/container_of.h"
#include "tests/unit/uring_ends.h"

/* ---- Streams ---- */

static void
change_zerocopy(struct reactor_options *options)
{
    options->zerocopy_min_bytes = 8192;
}

static void
change_few_buffers(struct reactor_options *options)
{
    options->recv_buffer_count = 2;
    options->recv_buffer_bytes = 1000;
}

static void
check_stream(const char *address, void (*change)(struct reactor_options *),
             uint64_t bytes)
{
    struct conn_test *test = conn_test_new(address, change);

    test->ends[0].goal_bytes = bytes;
    test->ends[1].goal_bytes = bytes / 3;
    test->ends[0].slow = test->ends[1].slow = true;
    fixture_run(test->reactor, &test->call, connect_run);
    latch_wait(&test->latch, 2);
    assert_int_equal(test->ends[0].connected, 0);
    assert_int_equal(test->ends[1].received_bytes, bytes);
    assert_int_equal(test->ends[0].received_bytes, bytes / 3);
    fixture_run(test->reactor, &test->call, close_run);
    latch_wait(&test->latch, 2);
    assert_int_equal(test->ends[0].closed, 0);
    /* Without a copy, a send may have arrived and still be pending here: then
     * it is a cut. */
    assert_true(
        test->ends[1].closed == 0 ||
        (change == change_zerocopy && test->ends[1].closed == -ECONNRESET));
    conn_test_free(test);
}

static void
test_stream_tcp(void **state)
{
    (void)state;
    check_stream("tcp:127.0.0.1:0", NULL, 20000001);
    check_stream("tcp:[::1]:0", NULL, 3000000);
}

static void
test_stream_unix(void **state)
{
    char address[IO_ADDRESS_SIZE];

    (void)state;
    unix_address(address, "s");
    check_stream(address, NULL, 20000001);
}

static void
test_stream_zerocopy(void **state)
{
    (void)state;
    check_stream("tcp:127.0.0.1:0", change_zerocopy, 20000001);
}

static void
test_stream_few_buffers(void **state)
{
    (void)state;
    check_stream("tcp:127.0.0.1:0", change_few_buffers, 3000001);
}

/* ---- Running out of buffers ---- */

/* A paused connection holds every buffer; another one must still work. */
static void
test_starvation(void **state)
{
    struct conn_test *greedy =
        conn_test_new("tcp:127.0.0.1:0", change_few_buffers);
    struct conn_test *other = calloc(1, sizeof(*other));

    (void)state;
    greedy->ends[0].goal_bytes = 100000;
    greedy->ends[1].greedy = true;
    greedy->want_opened = true;
    fixture_run(greedy->reactor, &greedy->call, connect_run);
    latch_wait(&greedy->latch, 2);
    assert_non_null(other);
    latch_init(&other->latch);
    other->reactor = greedy->reactor;
    other->io = greedy->io;
    other->stream = greedy->stream;
    other->seed = 5;
    other->deadline_ns = IO_NEVER;
    snprintf(other->address, sizeof(other->address), "tcp:127.0.0.1:0");
    fixture_run(other->reactor, &other->call, listen_run);
    assert_int_equal(other->result, 0);
    other->ends[0].goal_bytes = 1000000;
    other->ends[1].goal_bytes = 500000;
    fixture_run(other->reactor, &other->call, connect_run);
    latch_wait(&other->latch, 2);
    assert_true(fixture_info(other->reactor).starvations > 0);
    fixture_run(other->reactor, &other->call, close_run);
    latch_wait(&other->latch, 2);
    fixture_run(other->reactor, &other->call, unlisten_run);

    /* What was held is dropped with the connection. */
    fixture_run(greedy->reactor, &greedy->call, close_both_run);
    latch_wait(&greedy->latch, 2);
    conn_test_free(greedy);
    latch_done(&other->latch);
    free(other);
}

/* ---- Closing ---- */

/* The reader does not read: sends pile up, and settle when we close. */
static void
test_close_pending_sends(void **state)
{
    static const char *const addresses[] = { "tcp:127.0.0.1:0", "" };

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        char address[IO_ADDRESS_SIZE];
        struct conn_test *test;

        unix_address(address, "p");
        test = conn_test_new(i == 0 ? addresses[i] : address,
                             i == 0 ? change_zerocopy : NULL);
        test->ends[0].goal_bytes = 1U << 30;
        test->ends[1].greedy = true;
        test->want_opened = true;
        fixture_run(test->reactor, &test->call, connect_run);
        latch_wait(&test->latch, 2);
        fixture_run(test->reactor, &test->call, close_run);
        latch_wait(&test->latch, 1);
        assert_int_equal(test->ends[0].closed, 0);
        assert_int_equal(test->ends[0].sends_busy, 0);
        assert_true(test->ends[0].sends_failed >= SENDS);
        /* One that got through was followed by one that came too late. */
        assert_true(test->ends[0].send_error == -ECANCELED ||
                    test->ends[0].send_error == -ENOTCONN);
        fixture_run(test->reactor, &test->call, close_both_run);
        latch_wait(&test->latch, 1);
        conn_test_free(test);
    }
}

/* The other side goes away while we send. */
static void
test_cut_while_sending(void **state)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", change_zerocopy);

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        test->ends[0].goal_bytes = 1U << 30;
        test->ends[1].quit = true;
        fixture_run(test->reactor, &test->call, connect_run);
        latch_wait(&test->latch, 2);
        assert_int_equal(test->ends[1].closed, 0);
        assert_true(test->ends[0].closed == 0 ||
                    test->ends[0].closed == -EPIPE ||
                    test->ends[0].closed == -ECONNRESET);
        assert_int_not_equal(test->ends[0].send_error, 0);
    }
    conn_test_free(test);
}

/* A last word arrives whole, though the other side is still talking. */
static void
test_close_after_sends(void **state)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", NULL);

    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        test->ends[0].goal_bytes = 1U << 30;
        test->ends[1].goal_bytes = 5000; /* Fits into the queue. */
        test->ends[1].echo_once = true;
        fixture_run(test->reactor, &test->call, connect_run);
        latch_wait(&test->latch, 2 + (test->ends[1].goal_bytes > 0));
        assert_true(test->ends[0].received_bytes > 0);
        assert_int_equal(test->ends[0].received_bytes,
                         test->ends[1].sent_bytes);
        assert_int_equal(test->ends[1].closed, 0);
        assert_int_equal(test->ends[1].sends_failed, 0);
    }
    conn_test_free(test);
}

static void
test_not_adopted(void **state)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", NULL);

    (void)state;
    test->refuse = true;
    fixture_run(test->reactor, &test->call, connect_run);
    latch_wait(&test->latch, 1);
    assert_int_equal(test->accepts, 1);
    assert_int_equal(test->ends[0].connected, 0);
    assert_int_equal(test->ends[0].closed, 0);
    conn_test_free(test);
}

/* ---- Single sends ---- */

static void
single_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);
    struct end *end = &test->ends[0];

    for (uint32_t i = 0; i < 4; i++) {
        end_send_one(end, &end->sends[i], 100);
    }
    /* It has not begun to leave: it is taken out whole. */
    io_op_cancel(test->io, &end->sends[3].send.op);
    io_op_cancel(test->io, &end->sends[3].send.op);
    CHECK(end->sends_busy == 4);
    end->sent_bytes -= 100;
}

static void
single_late_run(struct reactor_call *call)
{
    struct conn_test *test = container_of(call, struct conn_test, call);

    end_init(&test->ends[0], test);
    end_send_one(&test->ends[0], &test->ends[0].sends[0], 100);
    io_conn_pause(test->io, &test->ends[0].conn);
    io_conn_resume(test->io, &test->ends[0].conn);
    io_conn_close(test->io, &test->ends[0].conn);
    io_conn_close_after_sends(test->io, &test->ends[0].conn);
}

static void
test_single_sends(void **state)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", NULL);
    struct reactor_info before;
    struct reactor_info after;

    (void)state;
    test->want_opened = true;
    fixture_run(test->reactor, &test->call, connect_run);
    latch_wait(&test->latch, 2);
    before = fixture_info(test->reactor);
    test->ends[0].goal_bytes = 300;
    fixture_run(test->reactor, &test->call, single_run);
    latch_wait(&test->latch, 1);
    after = fixture_info(test->reactor);
    assert_int_equal(after.sends - before.sends, 1); /* Three in one. */
    assert_int_equal(test->ends[0].send_error, -ECANCELED);
    assert_int_equal(test->ends[0].sends_failed, 1);
    fixture_run(test->reactor, &test->call, close_run);
    latch_wait(&test->latch, 2);

    /* On a connection that is none. */
    fixture_run(test->reactor, &test->call, single_late_run);
    (void)fixture_info(test->reactor);
    assert_int_equal(test->ends[0].send_error, -ENOTCONN);
    conn_test_free(test);
}

static void
die_stop_connected(void)
{
    struct conn_test *test = conn_test_new("tcp:127.0.0.1:0", NULL);

    test->want_opened = true;
    fixture_run(test->reactor, &test->call, connect_run);
    latch_wait(&test->latch, 2);
    fixture_run(test->reactor, &test->call, unlisten_run);
    reactor_stop(test->reactor);
}

static void
test_programmer_errors(void **state)
{
    (void)state;
    if (FIXTURE_TSAN) {
        return; /* skip() is 'not ok' in TAP. */
    }
    assert_true(fixture_aborts(die_stop_connected));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_tcp),
        cmocka_unit_test(test_stream_unix),
        cmocka_unit_test(test_stream_zerocopy),
        cmocka_unit_test(test_stream_few_buffers),
        cmocka_unit_test(test_starvation),
        cmocka_unit_test(test_close_pending_sends),
        cmocka_unit_test(test_cut_while_sending),
        cmocka_unit_test(test_close_after_sends),
        cmocka_unit_test(test_not_adopted),
        cmocka_unit_test(test_single_sends),
        cmocka_unit_test(test_programmer_errors),
    };
    int rc;

    if (!make_directory()) {
        return 99;
    }
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    return remove_directory() == 0 ? rc : 99;
}
