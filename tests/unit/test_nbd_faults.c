/* SPDX-License-Identifier: Apache-2.0 */

/* The NBD server among hostile, broken and greedy clients (nbd.h (1), (3), (4);
 * nbd_internal.h (2), (3), (5), (6)).  world_done() asserts each time that
 * nothing is left: no request, payload, connection, timer or memory. */

#include <stdlib.h>
#include <string.h>

#include "tests/unit/nbd_fixture.h"

static struct world world;

static struct ram_volume_stats
stats(void)
{
    struct ram_volume_stats now;
    ram_volume_stats(world.volume, &now);
    return now;
}

/* ---- A conversation, as bytes ---- */

struct script {
    uint8_t bytes[4096];
    size_t size;
};

static void
script_add(struct script *script, const void *data, size_t size)
{
    assert_true(size <= sizeof script->bytes - script->size);
    memcpy(script->bytes + script->size, data, size);
    script->size += size;
}

static void
script_option(struct script *script, uint32_t option, const void *data,
              uint32_t size)
{
    struct nbd_option_header header = {
        .magic = be64_make(NBD_OPTION_MAGIC),
        .option = be32_make(option),
        .size = be32_make(size),
    };
    script_add(script, &header, sizeof header);
    if (size > 0) {
        script_add(script, data, size);
    }
}

static void
script_request(struct script *script, uint16_t flags, uint16_t command,
               uint64_t offset, uint32_t size)
{
    struct nbd_request_header header = {
        .magic = be32_make(NBD_REQUEST_MAGIC),
        .flags = be16_make(flags),
        .command = be16_make(command),
        .cookie = be64_make(script->size),
        .offset = be64_make(offset),
        .size = be32_make(size),
    };
    uint8_t data[700];

    script_add(script, &header, sizeof header);
    if (command == NBD_CMD_WRITE) {
        fill_pattern(data, offset, size, 0);
        script_add(script, data, size);
    }
}

/* Returns where the transmission begins. */
static size_t
script_make(struct script *script)
{
    static const char go[] = "\0\0\0\3" EXPORT "\0\1\0\1";
    static const char context[] =
        "\0\0\0\3" EXPORT "\0\0\0\1\0\0\0\17" NBD_CONTEXT_ALLOCATION;

    script->size = 0;
    script_add(script, "\0\0\0\3", 4);
    script_option(script, NBD_OPT_LIST, NULL, 0);
    script_option(script, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    script_option(script, NBD_OPT_SET_META_CONTEXT, context,
                  sizeof context - 1);
    script_option(script, 99, "what?", 5);
    script_option(script, NBD_OPT_INFO, go, sizeof go - 1);
    script_option(script, NBD_OPT_GO, go, sizeof go - 1);
    size_t transmission = script->size;
    script_request(script, 0, NBD_CMD_WRITE, 100, 700);
    script_request(script, 0, NBD_CMD_READ, 0, 3 << 20);
    script_request(script, NBD_CMD_FLAG_DF, NBD_CMD_READ, 50, 5000);
    script_request(script, 0, NBD_CMD_WRITE, VOLUME_BYTES, 100);
    script_request(script, 0, NBD_CMD_WRITE_ZEROES, 33, 9000);
    script_request(script, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 0,
                   2 << 20);
    script_request(script, 0, NBD_CMD_TRIM, 0, 1 << 20);
    script_request(script, 0, NBD_CMD_BLOCK_STATUS, 0, 1 << 20);
    script_request(script, NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 4096, 512);
    script_request(script, 0, NBD_CMD_FLUSH, 0, 0);
    script_request(script, 0, NBD_CMD_DISC, 0, 0);
    return transmission;
}

static void
slow_options(struct world_options *options, uint64_t seed)
{
    *options = (struct world_options){
        .seed = seed,
        .swarm = true,
        .volume = { .delay_min_ns = NS_PER_US,
                    .delay_max_ns = 5 * NS_PER_MS,
                    .payloads = { 2, 1, 1 } },
        .requests_max = 6,
    };
}

/* ---- Ends at every byte ---- */

static void
test_ends_at_every_byte(void **state)
{
    struct world_options options;
    struct script script;
    struct client client;
    (void)state;

    script_make(&script);
    slow_options(&options, 1);
    world_init(&world, &options);
    for (size_t size = 0; size <= script.size; size++) {
        client_connect(&client, &world);
        client_send(&client, script.bytes, size);
        switch (size % 4) {
        case 0: /* At once. */
            break;
        case 1: /* With replies under way. */
            sim_run_for(world.sim, 2 * NS_PER_MS);
            break;
        case 2: /* The network goes. */
            sim_run_for(world.sim, 3 * NS_PER_MS);
            sim_net_cut(world.client_node, NULL);
            break;
        case 3: /* When all is quiet. */
            sim_run_for(world.sim, NS_PER_S);
            break;
        }
        client_drop(&client);
    }
    /* Not one connection is left. */
    sim_run_for(world.sim, 5 * NS_PER_S);
    assert_int_equal(nbd_export_clients(world.nbd_export), 0);
    assert_int_equal(stats().in_flight, 0);
    assert_int_equal(world.server->connections_count, 0);
    world_done(&world);
}

/* ---- Garbage ---- */

/* Nothing that one client sends does anything to another. */
static void
expect_neighbour(struct client *neighbour, uint64_t cookie)
{
    uint8_t data[1000];

    client_request(neighbour, 0, NBD_CMD_READ, cookie, 8 << 20, sizeof data);
    fill_pattern(data, 8 << 20, sizeof data, 0);
    expect_simple(neighbour, cookie, 0);
    expect_bytes(neighbour, data, sizeof data);
}

static void
test_garbage(void **state)
{
    struct world_options options;
    struct script script;
    struct client client, neighbour;
    struct rng rng;
    (void)state;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        slow_options(&options, seed);
        world_init(&world, &options);
        sim_rng_init(world.sim, "garbage", 0, &rng);
        fill_pattern(ram_volume_bytes(world.volume) + (8 << 20), 8 << 20, 1000,
                     0);
        client_open(&neighbour, &world, false, false);
        for (uint32_t round = 0; round < 40; round++) {
            uint8_t garbage[2000];
            size_t transmission = script_make(&script);
            client_connect(&client, &world);
            rng_fill(&rng, garbage, sizeof garbage);
            switch (round % 4) {
            case 0: /* From the beginning. */
                script.size = 0;
                break;
            case 1: /* After the flags. */
                script.size = 4;
                break;
            case 2: /* After the handshake. */
                script.size = transmission;
                break;
            case 3: /* Bits of the conversation flip. */
                for (uint32_t i = 0; i < 4; i++) {
                    /* (a flipped write might hit the neighbour's bytes) */
                    script.bytes[rng_below(&rng, transmission)] ^=
                        (uint8_t)(1u << rng_below(&rng, 8));
                }
                break;
            }
            client_send(&client, script.bytes, script.size);
            client_send(&client, garbage, rng_between(&rng, 1, sizeof garbage));
            sim_run_for(world.sim, rng_below(&rng, 20 * NS_PER_MS));
            expect_neighbour(&neighbour, round);
            client_drop(&client);
        }
        client_drop(&neighbour);
        world_done(&world);
    }
}

/* ---- Too little of everything ---- */

/* nbd.h (3): the greedy are slowed, nothing is refused. */
static void
test_exhaustion(void **state)
{
    enum { CLIENTS = 16, REQUESTS = 20 };
    static struct client clients[CLIENTS];
    struct world_options options;
    (void)state;

    for (uint64_t seed = 1; seed <= 10; seed++) {
        slow_options(&options, seed);
        world_init(&world, &options);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            client_open(&clients[i], &world, true, true);
        }
        ram_volume_hold(world.volume, true);
        uint8_t *data = calloc(1, 3 * MIB);
        assert_non_null(data);
        for (uint32_t i = 0; i < CLIENTS * REQUESTS; i++) {
            struct client *client = &clients[i % CLIENTS];
            if (i / CLIENTS % 3 == 0) {
                client_request(client, 0, NBD_CMD_WRITE, i, (uint64_t)i * 1000,
                               (i % 4 + 1) * 5000);
                client_send(client, data, (size_t)(i % 4 + 1) * 5000);
            } else if (i % 16 == 7) {
                client_request(client, 0, NBD_CMD_WRITE, i, (uint64_t)i * 1000,
                               3 << 20);
                client_send(client, data, 3 * MIB);
            } else {
                client_request(client, 0, NBD_CMD_BLOCK_STATUS, i, 0, 1 << 20);
            }
        }
        sim_run_for(world.sim, NS_PER_S);
        assert_in_range(stats().in_flight, 1, options.requests_max);
        ram_volume_hold(world.volume, false);
        for (uint32_t i = 0; i < CLIENTS; i++) {
            uint32_t replies = 0;
            while (replies < REQUESTS) {
                struct be32 magic;
                struct nbd_chunk_header header;
                client_copy(&clients[i], &magic, sizeof magic);
                if (be32_get(magic) == NBD_SIMPLE_REPLY_MAGIC) {
                    struct be32 error;
                    client_copy(&clients[i], &error, sizeof error);
                    assert_int_equal(be32_get(error), 0);
                    client_copy(&clients[i], NULL, 8);
                } else {
                    client_copy(&clients[i], (uint8_t *)&header + 4,
                                sizeof header - 4);
                    assert_int_equal(be16_get(header.type),
                                     NBD_REPLY_TYPE_BLOCK_STATUS);
                    client_copy(&clients[i], NULL, be32_get(header.size));
                }
                replies++;
            }
        }
        for (uint32_t i = 0; i < CLIENTS; i++) {
            client_drop(&clients[i]);
        }
        free(data);
        world_done(&world);
    }
}

/* One request at a time: each wait ends with the reply before. */
static void
test_one_at_a_time(void **state)
{
    struct world_options options = { .requests_max = 1 };
    struct client clients[3];
    (void)state;

    world_init(&world, &options);
    for (uint32_t i = 0; i < 3; i++) {
        client_open(&clients[i], &world, i == 0, i == 0);
    }
    for (uint32_t i = 0; i < 30; i++) {
        struct client *client = &clients[i % 3];
        switch (i / 3 % 3) {
        case 0:
            client_request(client, 0, NBD_CMD_FLUSH, i, 0, 0);
            break;
        case 1:
            client_request(client, 0, NBD_CMD_TRIM, i, 1, 1); /* Nothing. */
            break;
        case 2:
            client_request(client, 0, NBD_CMD_FLUSH, i, 1, 1); /* Refused. */
            break;
        }
    }
    for (uint32_t i = 0; i < 30; i++) {
        expect_simple(&clients[i % 3], i, i / 3 % 3 == 2 ? NBD_EINVAL : 0);
    }
    assert_int_equal(stats().in_flight_max, 1);
    for (uint32_t i = 0; i < 3; i++) {
        client_drop(&clients[i]);
    }
    world_done(&world);
}

static void
test_connections_max(void **state)
{
    struct world_options options = { .connections_max = 2 };
    struct client clients[3];
    (void)state;

    world_init(&world, &options);
    client_open(&clients[0], &world, true, false);
    client_open(&clients[1], &world, true, false);
    client_connect(&clients[2], &world);
    expect_closed(&clients[2]); /* Without a greeting. */
    client_done(&clients[2]);
    client_drop(&clients[0]);
    sim_run_for(world.sim, NS_PER_S);
    client_open(&clients[2], &world, true, false);
    client_drop(&clients[1]);
    client_drop(&clients[2]);
    world_done(&world);
}

/* ---- Removal and stop with work in flight ---- */

static void
test_removal_in_flight(void **state)
{
    enum { CLIENTS = 8 };
    static struct client clients[CLIENTS];
    struct world_options options;
    uint8_t data[600] = { 0 };
    (void)state;

    for (uint64_t seed = 1; seed <= 50; seed++) {
        slow_options(&options, seed);
        world_init(&world, &options);
        bool hold = seed % 2 == 0;
        for (uint32_t i = 0; i < CLIENTS; i++) {
            /* Two stay in their handshake. */
            if (i < 2) {
                client_connect(&clients[i], &world);
            } else {
                client_open(&clients[i], &world, i % 2 == 0, false);
            }
        }
        ram_volume_hold(world.volume, hold);
        for (uint32_t i = 2; i < CLIENTS; i++) {
            client_request(&clients[i], 0, NBD_CMD_WRITE, 1, (uint64_t)4096 * i,
                           600);
            client_send(&clients[i], data, 600);
            client_request(&clients[i], 0, NBD_CMD_READ, 2, 0, 3 << 20);
            client_request(&clients[i], 0, NBD_CMD_WRITE_ZEROES, 3, 1, 2 << 20);
            client_request(&clients[i], 0, NBD_CMD_WRITE, 4, 0, 2 << 20);
            client_send(&clients[i], data, 600); /* Not all of it. */
        }
        sim_run_for(world.sim, seed * NS_PER_MS / 4);
        world_remove(&world);
        if (hold && stats().in_flight > 0) {
            sim_run_for(world.sim, 10 * NS_PER_S);
            assert_int_equal(world.removed, 1); /* Only the idle one. */
            ram_volume_hold(world.volume, false);
        }
        world_wait_removed(&world);
        assert_int_equal(stats().in_flight, 0);
        for (uint32_t i = 2; i < CLIENTS; i++) {
            sim_run_until_set(world.sim, &clients[i].closed, PATIENCE);
            client_drop(&clients[i]);
        }
        /* Those in their handshake are cut by the stop in world_done(). */
        assert_int_equal(world.server->connections_count, 2);
        world_done(&world);
        for (uint32_t i = 0; i < 2; i++) {
            free(clients[i].in);
        }
    }
}

/* ---- Clients that stand still ---- */

static void
stall_world(void)
{
    struct world_options options = {
        .seed = 3,
        .volume = { .payloads = { 2, 1, 2 } },
    };
    world_init(&world, &options);
    memset(ram_volume_bytes(world.volume), 0x55, 8 << 20);
}

/* (6): who does not read his replies while others wait is cut. */
static void
test_stalled_reader(void **state)
{
    struct client greedy, other;
    uint64_t start;
    (void)state;

    stall_world();
    client_open(&greedy, &world, false, false);
    client_open(&other, &world, false, false);
    io_conn_pause(world.client_io, &greedy.conn);
    for (uint32_t i = 0; i < 6; i++) {
        client_request(&greedy, 0, NBD_CMD_READ, i, i << 20, 1 << 20);
    }
    sim_run_for(world.sim, 5 * NS_PER_S);
    start = sim_now_ns(world.sim);
    client_request(&other, 0, NBD_CMD_READ, 9, 0, 1 << 20);
    while (!client_wait(&other, 16) &&
           sim_now_ns(world.sim) < start + 60 * NS_PER_S) {
    }
    expect_simple(&other, 9, 0);
    assert_in_range(sim_now_ns(world.sim) - start, 10 * NS_PER_S,
                    40 * NS_PER_S);
    io_conn_resume(world.client_io, &greedy.conn);
    sim_run_for(world.sim, NS_PER_S);
    assert_true(greedy.closed);
    client_drop(&greedy);
    client_drop(&other);
    world_done(&world);
}

/* Who is in nobody's way may sleep as long as he likes. */
static void
test_sleeping_reader(void **state)
{
    struct client sleeper, other;
    (void)state;

    stall_world();
    client_open(&sleeper, &world, false, false);
    client_open(&other, &world, false, false);
    io_conn_pause(world.client_io, &sleeper.conn);
    client_request(&sleeper, 0, NBD_CMD_READ, 1, 0, 1 << 20);
    for (uint32_t i = 0; i < 100; i++) {
        sim_run_for(world.sim, 10 * NS_PER_S);
        client_request(&other, 0, NBD_CMD_READ, i, 0, 1 << 20);
        expect_simple(&other, i, 0);
        client_copy(&other, NULL, 1 << 20);
    }
    io_conn_resume(world.client_io, &sleeper.conn);
    expect_simple(&sleeper, 1, 0);
    client_copy(&sleeper, NULL, 1 << 20);
    client_drop(&sleeper);
    client_drop(&other);
    world_done(&world);
}

/* The same for who does not send the bytes of his write. */
static void
test_stalled_writer(void **state)
{
    struct client lazy[2], other;
    uint64_t start;
    (void)state;

    stall_world();
    client_open(&lazy[0], &world, true, false);
    client_open(&lazy[1], &world, true, false);
    client_open(&other, &world, false, false);
    for (uint32_t i = 0; i < 2; i++) {
        client_request(&lazy[i], 0, NBD_CMD_WRITE, 1, 0, 1 << 20);
        client_send(&lazy[i], "x", 1);
    }
    sim_run_for(world.sim, 3600 * NS_PER_S);
    assert_false(lazy[0].closed);
    start = sim_now_ns(world.sim);
    client_request(&other, 0, NBD_CMD_READ, 9, 0, 1 << 20);
    expect_simple(&other, 9, 0);
    assert_in_range(sim_now_ns(world.sim) - start, 0, 10 * NS_PER_S);
    client_drop(&lazy[0]);
    client_drop(&lazy[1]);
    client_drop(&other);
    world_done(&world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_at_every_byte),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_connections_max),
        cmocka_unit_test(test_removal_in_flight),
        cmocka_unit_test(test_stalled_reader),
        cmocka_unit_test(test_sleeping_reader),
        cmocka_unit_test(test_stalled_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
