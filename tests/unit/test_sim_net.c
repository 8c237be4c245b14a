/* SPDX-License-Identifier: Apache-2.0 */

/* The network of the simulator (lib/io/sim.h), invariants (2), (4). */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"

#define ADDRESS "tcp:b:7701"
#define SENDS 8u

/* One end of a connection.  Each sends the stream f(i) = byte number i. */
struct end {
    struct io *io;
    struct io_conn conn;
    struct io_send sends[SENDS];
    uint32_t sends_started, sends_done;
    uint8_t *memory;
    uint64_t sent_bytes; /* Handed to io_conn_send(). */
    uint64_t received_bytes;
    uint32_t chunks;
    uint32_t chunk_min, chunk_max;
    int connect_result, reason, send_result;
    bool is_connected, is_closed, is_data_wrong, is_all_received;
    uint64_t expected_bytes;
};

struct host {
    struct sim_program program;
    struct sim_node *node;
    struct io *io;
    struct io_listener listener;
    struct end end;
    bool refuses;
    unsigned accepts;
};

struct world {
    struct sim *sim;
    struct host a, b; /* a connects to b. */
};

static uint8_t
pattern(uint64_t index)
{
    return (uint8_t)(index * 167 + (index >> 8) * 31 + 5);
}

static void
on_connected(struct io_conn *conn, int result)
{
    struct end *end = container_of(conn, struct end, conn);

    assert_false(end->is_connected);
    end->is_connected = true;
    end->connect_result = result;
}

static void
on_data(struct io_conn *conn, const uint8_t *data, uint32_t size)
{
    struct end *end = container_of(conn, struct end, conn);

    assert_false(end->is_closed);
    assert_true(size > 0);
    for (uint32_t i = 0; i < size; i++) {
        if (data[i] != pattern(end->received_bytes + i)) {
            end->is_data_wrong = true;
        }
    }
    end->received_bytes += size;
    end->chunks++;
    end->chunk_max = size > end->chunk_max ? size : end->chunk_max;
    end->is_all_received = end->received_bytes >= end->expected_bytes;
}

static void
on_closed(struct io_conn *conn, int reason)
{
    struct end *end = container_of(conn, struct end, conn);

    assert_false(end->is_closed);
    assert_int_equal(end->sends_done, end->sends_started);
    end->is_closed = true;
    end->reason = reason;
}

static void
send_done(struct io_op *op, int result)
{
    struct io_send *send = container_of(op, struct io_send, op);
    /* The index is kept in a spare iovec. */
    struct end *end = send->iov[IO_SEND_IOV_MAX - 1].iov_base;

    end->sends_done++;
    if (result != 0) {
        end->send_result = result;
    }
    memset(send->iov[0].iov_base, 0, send->iov[0].iov_len);
}

static void
end_init(struct end *end, struct io *io)
{
    *end = (struct end){
        .io = io,
        .conn = { .on_connected = on_connected,
                  .on_data = on_data,
                  .on_closed = on_closed },
        .memory = io_arena_alloc(io, SENDS * 65536),
    };
    assert_non_null(end->memory);
}

/* Sends 'size' bytes, at most 64 KiB, as send number 'index'. */
static void
end_send(struct end *end, uint32_t index, uint32_t size)
{
    struct io_send *send = &end->sends[index];
    uint8_t *data = end->memory + index * 65536;

    for (uint32_t i = 0; i < size; i++) {
        data[i] = pattern(end->sent_bytes + i);
    }
    end->sent_bytes += size;
    *send = (struct io_send){ .op = { .done = send_done } };
    send->iov[0] = (struct iovec){ data, size / 3 };
    send->iov[1] = (struct iovec){ data + size / 3, size - size / 3 };
    send->iov[3].iov_base = end;
    send->iov_count = 2;
    end->sends_started++;
    uint32_t before = end->sends_done;
    io_conn_send(end->io, &end->conn, send);
    assert_int_equal(end->sends_done, before); /* Never inside. */
}

static void
on_accept(struct io_listener *listener, struct io_accepted *accepted)
{
    struct host *host = container_of(listener, struct host, listener);

    host->accepts++;
    if (!host->refuses) {
        assert_int_equal(io_conn_adopt(host->io, &host->end.conn, accepted), 0);
    }
}

static void
a_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);

    (void)node;
    host->io = io;
    end_init(&host->end, io);
}

static void
b_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    struct host *host = container_of(program, struct host, program);

    a_boot(program, node, io);
    host->listener = (struct io_listener){ .on_accept = on_accept };
    assert_int_equal(io_listener_open(io, &host->listener, ADDRESS), 0);
}

static void
crashed(struct sim_program *program, struct sim_node *node)
{
    (void)node;
    container_of(program, struct host, program)->io = NULL;
}

static void
world_setup(struct world *world, uint64_t seed,
            const struct sim_options *options)
{
    *world = (struct world){
        .sim = sim_new(seed, options),
        .a.program = { .boot = a_boot, .crashed = crashed },
        .b.program = { .boot = b_boot, .crashed = crashed },
    };
    world->a.node = sim_node_add(world->sim, "a");
    world->b.node = sim_node_add(world->sim, "b");
    sim_node_start(world->a.node, &world->a.program);
    sim_node_start(world->b.node, &world->b.program);
}

static void
world_connect(struct world *world)
{
    struct end *end = &world->a.end;

    io_conn_connect(end->io, &end->conn, ADDRESS, IO_NEVER);
    assert_false(end->is_connected);
    assert_true(
        sim_run_until_set(world->sim, &end->is_connected, 30 * NS_PER_S));
}

static void
test_bytes_arrive_in_order(void **state)
{
    uint32_t chunk_max = 0;
    uint32_t many_chunks = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 150; seed++) {
        struct sim_options options;
        struct world world;
        sim_options_swarm(&options, seed);
        world_setup(&world, seed, &options);
        world_connect(&world);
        assert_int_equal(world.a.end.connect_result, 0);
        for (uint32_t i = 0; i < SENDS; i++) {
            end_send(&world.a.end, i, 1 + (uint32_t)(seed * 7919 * i) % 65536);
        }
        world.b.end.expected_bytes = world.a.end.sent_bytes;
        assert_true(sim_run_until_set(world.sim, &world.b.end.is_all_received,
                                      600 * NS_PER_S));
        sim_run_for(world.sim, NS_PER_S);
        assert_int_equal(world.b.end.received_bytes, world.a.end.sent_bytes);
        assert_false(world.b.end.is_data_wrong);
        assert_int_equal(world.a.end.sends_done, SENDS);
        assert_int_equal(world.a.end.send_result, 0);
        chunk_max = world.b.end.chunk_max > chunk_max ? world.b.end.chunk_max
                                                      : chunk_max;
        many_chunks += world.b.end.chunks > 50;

        /* And back: then an orderly end. */
        end_send(&world.b.end, 0, 1000);
        io_conn_close_after_sends(world.b.io, &world.b.end.conn);
        sim_run_for(world.sim, 60 * NS_PER_S);
        assert_int_equal(world.a.end.received_bytes, 1000);
        assert_true(world.a.end.is_closed);
        assert_true(world.b.end.is_closed);
        assert_int_equal(world.a.end.reason, 0);
        assert_int_equal(world.b.end.reason, 0);
        assert_int_equal(world.b.end.send_result, 0);
        sim_free(world.sim);
    }
    assert_true(chunk_max > 60000);
    assert_true(many_chunks > 10);
}

static void
test_connect_errors(void **state)
{
    struct world world;
    struct end *end = &world.a.end;

    (void)state;
    world_setup(&world, 1, NULL);
    io_conn_connect(end->io, &end->conn, "tcp:b:1", IO_NEVER);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(end->connect_result, -ECONNREFUSED);
    assert_true(end->is_closed);
    assert_int_equal(end->reason, -ECONNREFUSED);

    end_init(end, world.a.io);
    io_conn_connect(end->io, &end->conn, "tcp:nowhere:7701", IO_NEVER);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(end->connect_result, -ECONNREFUSED);

    end_init(end, world.a.io);
    io_conn_connect(end->io, &end->conn, "b:7701", IO_NEVER);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(end->connect_result, -EINVAL);
    assert_true(end->is_closed);

    /* Nobody takes it: connected, then gone. */
    world.b.refuses = true;
    end_init(end, world.a.io);
    world_connect(&world);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(end->connect_result, 0);
    assert_true(end->is_closed);
    assert_int_equal(world.b.accepts, 1);
    world.b.refuses = false;

    /* Silence: the deadline. */
    sim_net_block(world.a.node, world.b.node);
    end_init(end, world.a.io);
    io_conn_connect(end->io, &end->conn, ADDRESS,
                    io_now_ns(end->io) + 200 * NS_PER_MS);
    sim_run_for(world.sim, 190 * NS_PER_MS);
    assert_false(end->is_connected);
    sim_run_for(world.sim, 20 * NS_PER_MS);
    assert_int_equal(end->connect_result, -ETIMEDOUT);
    assert_int_equal(end->reason, -ETIMEDOUT);
    sim_net_heal(world.sim);

    /* No power: silence, too. */
    sim_node_crash(world.b.node, SIM_CRASH_POWER);
    end_init(end, world.a.io);
    io_conn_connect(end->io, &end->conn, ADDRESS,
                    io_now_ns(end->io) + 200 * NS_PER_MS);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(end->connect_result, -ETIMEDOUT);

    /* No process: refused. */
    sim_node_start(world.b.node, &world.b.program);
    sim_node_crash(world.b.node, SIM_CRASH_PROCESS);
    end_init(end, world.a.io);
    io_conn_connect(end->io, &end->conn, ADDRESS, IO_NEVER);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(end->connect_result, -ECONNREFUSED);
    sim_free(world.sim);
}

static void
test_listener_addresses(void **state)
{
    struct world world;
    struct io_listener listener = { .on_accept = on_accept };
    char address[IO_ADDRESS_SIZE];

    (void)state;
    world_setup(&world, 1, NULL);
    assert_int_equal(io_listener_open(world.b.io, &listener, ADDRESS),
                     -EADDRINUSE);
    assert_int_equal(io_listener_open(world.b.io, &listener, "tcp:b"), -EINVAL);
    assert_int_equal(io_listener_open(world.b.io, &listener, "tcp:b:x"),
                     -EINVAL);
    assert_int_equal(io_listener_open(world.b.io, &listener, "tcp:b:0"), 0);
    io_listener_address(&listener, address);
    assert_string_equal(address, "tcp:b:49152");
    io_listener_close(world.b.io, &listener);
    assert_int_equal(io_listener_open(world.b.io, &listener, "unix:/x"), 0);
    io_listener_close(world.b.io, &listener);
    io_listener_close(world.b.io, &world.b.listener);
    io_conn_connect(world.a.io, &world.a.end.conn, ADDRESS, IO_NEVER);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(world.a.end.connect_result, -ECONNREFUSED);
    sim_free(world.sim);
}

static void
test_send_when_not_open(void **state)
{
    struct world world;

    (void)state;
    world_setup(&world, 1, NULL);
    end_send(&world.a.end, 0, 100);
    sim_run_for(world.sim, NS_PER_MS);
    assert_int_equal(world.a.end.send_result, -ENOTCONN);
    sim_free(world.sim);
}

static void
test_pause_pushes_back(void **state)
{
    struct sim_options options;
    struct world world;

    (void)state;
    sim_options_default(&options);
    options.net.window_bytes = 65536;
    world_setup(&world, 3, &options);
    world_connect(&world);
    sim_run_for(world.sim, 10 * NS_PER_MS);
    io_conn_pause(world.b.io, &world.b.end.conn);
    for (uint32_t i = 0; i < 4; i++) {
        end_send(&world.a.end, i, 65536);
    }
    sim_run_for(world.sim, 10 * NS_PER_S);
    assert_int_equal(world.b.end.received_bytes, 0);
    assert_in_range(world.a.end.sends_done, 0, 1);
    io_conn_resume(world.b.io, &world.b.end.conn);
    sim_run_for(world.sim, 10 * NS_PER_S);
    assert_int_equal(world.b.end.received_bytes, 4 * 65536);
    assert_int_equal(world.a.end.sends_done, 4);
    sim_free(world.sim);
}

static void
test_close_settles_sends_first(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct world world;
        world_setup(&world, seed, NULL);
        world_connect(&world);
        for (uint32_t i = 0; i < SENDS; i++) {
            end_send(&world.a.end, i, 30000);
        }
        sim_run_for(world.sim, seed * NS_PER_US);
        io_conn_close(world.a.io, &world.a.end.conn);
        io_conn_close(world.a.io, &world.a.end.conn);
        assert_false(world.a.end.is_closed);
        sim_run_for(world.sim, 5 * NS_PER_S);
        assert_int_equal(world.a.end.sends_done, SENDS);
        assert_true(world.a.end.is_closed);
        assert_int_equal(world.a.end.reason, 0);
        assert_true(world.b.end.is_closed);
        assert_false(world.b.end.is_data_wrong);
        assert_true(world.b.end.received_bytes <= world.a.end.sent_bytes);
        sim_free(world.sim);
    }
}

static void
test_cut_resets_both_and_loses_an_end(void **state)
{
    unsigned some_lost = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct world world;
        world_setup(&world, seed, NULL);
        world_connect(&world);
        for (uint32_t i = 0; i < SENDS; i++) {
            end_send(&world.a.end, i, 60000);
        }
        sim_run_for(world.sim, 50 * NS_PER_US);
        sim_net_cut(world.b.node, NULL);
        sim_run_for(world.sim, 5 * NS_PER_S);
        assert_true(world.a.end.is_closed);
        assert_int_equal(world.a.end.reason, -ECONNRESET);
        if (world.b.accepts != 0) {
            assert_true(world.b.end.is_closed);
            assert_int_equal(world.b.end.reason, -ECONNRESET);
        }
        assert_false(world.b.end.is_data_wrong);
        some_lost += world.b.end.received_bytes < world.a.end.sent_bytes &&
                     world.b.end.received_bytes > 0;
        /* A new connection works. */
        end_init(&world.a.end, world.a.io);
        end_init(&world.b.end, world.b.io);
        world_connect(&world);
        assert_int_equal(world.a.end.connect_result, 0);
        sim_free(world.sim);
    }
    assert_true(some_lost > 20);
}

static void
test_one_way_block_holds_bytes(void **state)
{
    unsigned survived = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct world world;
        struct sim_options options;
        sim_options_default(&options);
        options.net.heal_reset_pct = 30;
        world_setup(&world, seed, &options);
        world_connect(&world);
        sim_run_for(world.sim, NS_PER_S);
        sim_net_block(world.a.node, world.b.node);
        end_send(&world.a.end, 0, 5000);
        end_send(&world.b.end, 0, 7000);
        sim_run_for(world.sim, 20 * NS_PER_S);
        assert_int_equal(world.b.end.received_bytes, 0);
        assert_int_equal(world.a.end.received_bytes, 7000);
        assert_false(world.a.end.is_closed);
        sim_net_unblock(world.a.node, world.b.node);
        sim_run_for(world.sim, 2 * NS_PER_S);
        if (world.b.end.received_bytes == 5000) {
            survived++;
        } else {
            assert_true(world.a.end.is_closed);
            assert_true(world.b.end.is_closed);
        }
        assert_false(world.b.end.is_data_wrong);
        sim_free(world.sim);
    }
    assert_in_range(survived, 20, 58);
}

static void
test_partition_is_both_ways(void **state)
{
    struct world world;

    (void)state;
    world_setup(&world, 1, NULL);
    world_connect(&world);
    sim_run_for(world.sim, NS_PER_S);
    sim_net_partition(world.sim, 1);
    end_send(&world.a.end, 0, 5000);
    end_send(&world.b.end, 0, 5000);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(world.a.end.received_bytes, 0);
    assert_int_equal(world.b.end.received_bytes, 0);
    sim_free(world.sim);
}

/* A process that dies is noticed; a host that loses power is not. */
static void
test_crash_is_reset_or_silence(void **state)
{
    unsigned orderly = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct world world;
        world_setup(&world, seed, NULL);
        world_connect(&world);
        sim_run_for(world.sim, 10 * NS_PER_MS);
        sim_node_crash(world.b.node, SIM_CRASH_PROCESS);
        sim_run_for(world.sim, NS_PER_S);
        assert_true(world.a.end.is_closed);
        orderly += world.a.end.reason == 0;
        sim_node_start(world.b.node, &world.b.program);

        end_init(&world.a.end, world.a.io);
        world_connect(&world);
        sim_run_for(world.sim, 10 * NS_PER_MS);
        sim_node_crash(world.b.node, SIM_CRASH_POWER);
        end_send(&world.a.end, 0, 1000);
        sim_run_for(world.sim, 30 * NS_PER_S);
        assert_false(world.a.end.is_closed);
        /* It comes back and knows nothing of the connection. */
        sim_node_start(world.b.node, &world.b.program);
        sim_run_for(world.sim, 5 * NS_PER_S);
        assert_true(world.a.end.is_closed);
        assert_int_equal(world.a.end.reason, -ECONNRESET);
        assert_int_equal(world.b.end.received_bytes, 0);
        sim_free(world.sim);
    }
    assert_in_range(orderly, 5, 55);
}

static void
test_frozen_node_goes_on_later(void **state)
{
    struct world world;

    (void)state;
    world_setup(&world, 1, NULL);
    sim_node_freeze(world.b.node, 3 * NS_PER_S);
    world_connect(&world); /* The kernel accepts. */
    assert_int_equal(world.a.end.connect_result, 0);
    end_send(&world.a.end, 0, 1000);
    sim_run_for(world.sim, 2 * NS_PER_S);
    assert_int_equal(world.b.end.received_bytes, 0);
    assert_int_equal(world.b.accepts, 0);
    sim_run_for(world.sim, 2 * NS_PER_S);
    assert_int_equal(world.b.end.received_bytes, 1000);

    sim_node_freeze(world.b.node, IO_NEVER);
    end_send(&world.a.end, 1, 1000);
    sim_run_for(world.sim, 100 * NS_PER_S);
    assert_int_equal(world.b.end.received_bytes, 1000);
    sim_node_thaw(world.b.node);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(world.b.end.received_bytes, 2000);
    sim_free(world.sim);
}

/* Invariant (5): what a third host does changes nothing between two. */
static void
test_chance_has_streams(void **state)
{
    uint64_t times_ns[2];

    (void)state;
    for (unsigned run = 0; run < 2; run++) {
        struct world world;
        world_setup(&world, 42, NULL);
        struct end extra;
        struct host c = { .program = { .boot = a_boot, .crashed = crashed } };
        if (run == 1) {
            c.node = sim_node_add(world.sim, "c");
            sim_disk_add(c.node, "/d", MIB, true);
            sim_node_start(c.node, &c.program);
            end_init(&extra, c.io);
            io_conn_connect(c.io, &extra.conn, "tcp:a:1", IO_NEVER);
        }
        world_connect(&world);
        for (uint32_t i = 0; i < SENDS; i++) {
            end_send(&world.a.end, i, 60000);
        }
        world.b.end.expected_bytes = world.a.end.sent_bytes;
        assert_true(sim_run_until_set(world.sim, &world.b.end.is_all_received,
                                      10 * NS_PER_S));
        times_ns[run] = sim_now_ns(world.sim);
        sim_free(world.sim);
    }
    assert_int_equal(times_ns[0], times_ns[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive_in_order),
        cmocka_unit_test(test_connect_errors),
        cmocka_unit_test(test_listener_addresses),
        cmocka_unit_test(test_send_when_not_open),
        cmocka_unit_test(test_pause_pushes_back),
        cmocka_unit_test(test_close_settles_sends_first),
        cmocka_unit_test(test_cut_resets_both_and_loses_an_end),
        cmocka_unit_test(test_one_way_block_holds_bytes),
        cmocka_unit_test(test_partition_is_both_ways),
        cmocka_unit_test(test_crash_is_reset_or_silence),
        cmocka_unit_test(test_frozen_node_goes_on_later),
        cmocka_unit_test(test_chance_has_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
