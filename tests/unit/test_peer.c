/* SPDX-License-Identifier: Apache-2.0 */

/* The peer protocol in a sound world: link.h (1) to (6), peer_client.h (1) to
 * (4), peer_server.h (1) to (4). */

#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "blockd/peer/wire.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "tests/unit/peer_fixture.h"

static void
make_cases(struct cases *cases, uint64_t seed, uint32_t count,
           enum store_opcode opcode, uint32_t blocks_max)
{
    struct rng rng;

    rng_init(&rng, seed);
    cases_init(cases, &rng, count, opcode, blocks_max);
}

/* Every opcode with random fields, in worlds of all kinds. */
static void
test_round_trip(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        struct sim_options options;
        struct peer_world world;
        struct cases cases;

        sim_options_swarm(&options, seed);
        options.arena_bytes = 64 * MIB;
        options.node.pause_ppm = 0; /* Pauses may cut: not here. */
        options.net.stall_ppm = 0;
        make_cases(&cases, seed, 200, 0, STORE_REQ_BLOCKS_MAX);
        world_init(&world, seed, &options, &cases);
        world.is_direct = seed % 2 == 0;
        world_up(&world);
        world_run_cases(&world, 60 * NS_PER_S);
        assert_int_equal(cases.succeeded, 200);
        assert_int_equal(world.users[0].downs, 0);
        assert_true(world.links[0]->latency_ns != 0);
        struct peer_server_stats stats = world_stats(&world);
        assert_int_equal(stats.requests, 200);
        assert_int_equal(stats.crc_errors, 0);
        world_close(&world);
        world_free(&world);
        cases_done(&cases);
    }
}

/* PUT_SLOT with the most scattered data there can be. */
static void
test_scattered_put(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 7, 24, STORE_PUT_SLOT, STORE_REQ_BLOCKS_MAX);
    for (uint32_t i = 0; i < cases.count; i++) {
        struct store_req *req = &cases.items[i].req;
        for (uint32_t b = 0; b < req->block_count; b++) {
            req->states[b] =
                b % 2 == i % 2 ? STORE_BLOCK_DATA : STORE_BLOCK_ABSENT;
        }
    }
    world_init(&world, 7, NULL, &cases);
    world_up(&world);
    world_run_cases(&world, 60 * NS_PER_S);
    assert_int_equal(cases.succeeded, 24);
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

/* A request that cannot be put on the wire ends with -EINVAL, later. */
static void
test_invalid(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 3, 2, STORE_WRITE, 1);
    world_init(&world, 3, NULL, &cases);
    world_up(&world);
    cases.items[0].req.block_count = 0;
    cases.items[0].arrivals = 1; /* It never gets there. */
    cases.items[0].want.result = -EINVAL;
    world_submit(&world, 0, 0, IO_NEVER);
    cases.items[1].req.layer = 0; /* Refused by the server. */
    cases.items[1].arrivals = 1;
    cases.items[1].want.result = -EINVAL;
    world_submit(&world, 0, 1, IO_NEVER);
    assert_true(sim_run_until_set(world.sim, &cases.is_complete, NS_PER_S));
    assert_int_equal(cases.succeeded, 2);
    assert_int_equal(world.users[0].downs, 0);
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

/* peer_client.h (3): the window is kept, everything is served at last. */
static void
test_credits(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct peer_world world;
        struct cases cases;

        make_cases(&cases, seed, 400, STORE_WRITE, 64);
        world_init(&world, seed, NULL, &cases);
        world.server_options.conn_requests_max = seed % 2 == 0 ? 3 : 128;
        world.server_options.conn_bytes_max = MIB;
        world_up(&world);
        for (uint32_t i = 0; i < cases.count; i++) {
            world_submit(&world, 0, i, IO_NEVER);
        }
        assert_true(world_info(&world, 0).queued > 200);
        assert_true(
            sim_run_until_set(world.sim, &cases.is_complete, 60 * NS_PER_S));
        assert_int_equal(cases.succeeded, 400);
        assert_true(world.store.in_flight_max <=
                    world.server_options.conn_requests_max);
        assert_true(world.store.bytes_max <= MIB);
        struct peer_server_stats stats = world_stats(&world);
        assert_int_equal(stats.protocol_errors, 0);
        assert_int_equal(stats.pauses, 0);
        assert_int_equal(world.users[0].downs, 0);
        world_close(&world);
        world_free(&world);
        cases_done(&cases);
    }
}

/* peer_server.h (2): more is granted than there is memory, the store is slower
 * than the keep-alive's limit, and nobody is cut or forgotten. */
static void
test_pool_exhausted(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct peer_world world;
        struct cases cases;

        make_cases(&cases, seed, 60, 0, STORE_REQ_BLOCKS_MAX);
        cases.any_order = true;
        world_init(&world, seed, NULL, &cases);
        world.link_count = 4;
        world.server_options.bytes_max = MIB;
        world.server_options.requests_max = 12;
        world.server_options.conn_bytes_max = MIB;
        world.store_delay_max_ns = 3 * NS_PER_S;
        world_up(&world);
        sim_run_for(world.sim, NS_PER_S);
        world_run_cases(&world, 1000 * NS_PER_S);
        assert_int_equal(cases.succeeded, 60);
        struct peer_server_stats stats = world_stats(&world);
        assert_true(stats.pauses != 0);
        assert_int_equal(stats.protocol_errors, 0);
        for (uint32_t i = 0; i < 4; i++) {
            assert_int_equal(world.users[i].downs, 0);
        }
        world_close(&world);
        world_free(&world);
        cases_done(&cases);
    }
}

/* ... and many small ones do not starve a large one. */
static void
test_pool_is_fair(void **state)
{
    struct peer_world world;
    struct cases cases;
    struct rng rng;
    uint32_t next = 1;

    (void)state;
    rng_init(&rng, 11);
    cases_init(&cases, &rng, 3000, STORE_WRITE, 1);
    cases.any_order = true;
    struct peer_case *large = &cases.items[0];
    peer_case_grow(large, &rng, STORE_REQ_BLOCKS_MAX);
    world_init(&world, 11, NULL, &cases);
    world.link_count = 3;
    world.server_options.bytes_max = MIB;
    world.server_options.conn_bytes_max = MIB;
    world.store_delay_max_ns = 2 * NS_PER_MS;
    world_up(&world);
    sim_run_for(world.sim, NS_PER_S);
    for (; next < 200; next++) {
        world_submit(&world, next % 2, next, IO_NEVER);
    }
    sim_run_for(world.sim, 5 * NS_PER_MS);
    world_submit(&world, 2, 0, IO_NEVER);
    while (large->completions == 0) {
        /* Always some more of the small ones, while the large one waits. */
        for (uint32_t i = 0; i < 8; i++, next++) {
            assert_true(next < cases.count);
            world_submit(&world, next % 2, next, IO_NEVER);
        }
        sim_run_for(world.sim, NS_PER_MS);
    }
    assert_true(
        sim_run_until_set(world.sim, &cases.is_complete, 20 * NS_PER_S));
    assert_int_equal(cases.succeeded, next);
    assert_true(world_stats(&world).pauses != 0);
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

/* link.h (2): the late one gets -ETIMEDOUT, the others -ENOTCONN, the link
 * comes back, and what the store answers later disturbs nobody. */
static void
test_deadline(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 5, 40, 0, 8);
    cases.may_fail = true;
    world_init(&world, 5, NULL, &cases);
    world.store_holds = true;
    world_up(&world);
    for (uint32_t i = 0; i < 20; i++) {
        world_submit(&world, 0, i, i == 7 ? 300 * NS_PER_MS : IO_NEVER);
    }
    uint64_t began_ns = sim_now_ns(world.sim);
    assert_true(sim_run_until_set(world.sim, &cases.is_complete, 2 * NS_PER_S));
    uint64_t took_ns = sim_now_ns(world.sim) - began_ns;
    assert_true(took_ns >= 299 * NS_PER_MS);
    assert_true(took_ns <= 310 * NS_PER_MS);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(cases.items[i].req.result,
                         i == 7 ? -ETIMEDOUT : -ENOTCONN);
    }
    assert_false(world.users[0].is_up);
    assert_int_equal(world.links[0]->reason, -ETIMEDOUT);
    assert_true(world_wait_up(&world, NS_PER_S));
    for (uint32_t i = 20; i < 40; i++) {
        world_submit(&world, 0, i, IO_NEVER);
    }
    sim_run_for(world.sim, 100 * NS_PER_MS);
    assert_int_equal(world.store.in_flight, 40);
    sim_node_enter(world.server_host.node);
    fake_store_release(&world.store);
    sim_node_leave(world.server_host.node);
    assert_true(sim_run_until_set(world.sim, &cases.is_complete, 2 * NS_PER_S));
    assert_int_equal(cases.succeeded, 20);
    assert_int_equal(world_info(&world, 0).protocol_errors, 0);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(world_stats(&world).in_flight, 0);
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

/* A request that waits for the window may time out alone. */
static void
test_deadline_in_queue(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 6, 10, STORE_FLUSH, 1);
    cases.may_fail = true;
    world_init(&world, 6, NULL, &cases);
    world.store_holds = true;
    world.server_options.conn_requests_max = 2;
    world_up(&world);
    for (uint32_t i = 0; i < 10; i++) {
        world_submit(&world, 0, i, i == 5 ? 50 * NS_PER_MS : IO_NEVER);
    }
    sim_run_for(world.sim, 60 * NS_PER_MS);
    assert_int_equal(cases.completed, 1);
    assert_int_equal(cases.items[5].req.result, -ETIMEDOUT);
    assert_true(world.users[0].is_up);
    sim_node_enter(world.server_host.node);
    fake_store_release(&world.store);
    sim_node_leave(world.server_host.node);
    assert_true(sim_run_until_set(world.sim, &cases.is_complete, 2 * NS_PER_S));
    assert_int_equal(cases.succeeded, 9);
    assert_int_equal(cases.items[5].arrivals, 0);
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

/* Idle links stay up, and ping. */
static void
test_idle(void **state)
{
    struct peer_world world;

    (void)state;
    world_init(&world, 9, NULL, NULL);
    world_up(&world);
    sim_run_for(world.sim, 60 * NS_PER_S);
    assert_int_equal(world.users[0].downs, 0);
    assert_true(world.meddling[0].passed > 100 * PEER_HEADER_BYTES);
    struct link_remote_info info = world_info(&world, 0);
    assert_string_equal(info.peer_host, "the-server");
    assert_memory_equal(&info.peer_instance, &world.server_options.instance,
                        16);
    assert_string_equal(info.reason, "");
    world_close(&world);
    world_free(&world);
}

/* ---- Refusals ---- */

static void
expect_refusal(struct peer_world *world, int reason, const char *text)
{
    world_start(world);
    assert_false(world_wait_up(world, 5 * NS_PER_S));
    struct link_remote_info info = world_info(world, 0);
    assert_int_equal(world->links[0]->reason, reason);
    if (strstr(info.reason, text) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", text, info.reason);
    }
    /* Backoff up to a second: it goes on trying, but not wildly. */
    assert_true(info.failures >= 5);
    assert_true(info.failures <= 25);
    world_close(world);
    world_free(world);
}

static void
test_wrong_cluster(void **state)
{
    struct peer_world world;

    (void)state;
    world_init(&world, 1, NULL, NULL);
    uuid_make_random(99, 99, &world.server_options.cluster);
    expect_refusal(&world, -EPERM, "this host is of cluster");
}

static void
test_unknown_cluster(void **state)
{
    struct peer_world world;

    (void)state;
    world_init(&world, 1, NULL, NULL);
    world.server_options.cluster = (struct weft_uuid){ { 0 } };
    expect_refusal(&world, -EAGAIN, "does not know its cluster yet");
}

static struct link *
find_nothing(struct peer_directory *directory, const struct weft_uuid *disk)
{
    (void)directory;
    (void)disk;
    return NULL;
}

static void
test_wrong_disk(void **state)
{
    struct peer_world world;

    (void)state;
    world_init(&world, 1, NULL, NULL);
    world.directory.find = find_nothing;
    expect_refusal(&world, -ENODEV, "is not served here");
}

/* The cluster becomes known later; then it changes. */
static void
test_set_cluster(void **state)
{
    struct peer_world world;
    struct weft_uuid other;

    (void)state;
    world_init(&world, 1, NULL, NULL);
    world.server_options.cluster = (struct weft_uuid){ { 0 } };
    world_start(&world);
    assert_false(world_wait_up(&world, NS_PER_S));
    sim_node_enter(world.server_host.node);
    peer_server_set_cluster(world.server, &world.cluster);
    sim_node_leave(world.server_host.node);
    assert_true(world_wait_up(&world, 2 * NS_PER_S));
    uuid_make_random(42, 42, &other);
    sim_node_enter(world.server_host.node);
    peer_server_set_cluster(world.server, &other);
    sim_node_leave(world.server_host.node);
    assert_true(world_wait_down(&world, NS_PER_S));
    assert_int_equal(world.links[0]->reason, -EPERM);
    world_close(&world);
    world_free(&world);
}

/* conns_max: the surplus is turned away, and gets in when there is room. */
static void
test_crowded(void **state)
{
    struct peer_world world;
    uint32_t up = 0;

    (void)state;
    world_init(&world, 1, NULL, NULL);
    world.link_count = 4;
    world.server_options.conns_max = 3;
    world_start(&world);
    sim_run_for(world.sim, 5 * NS_PER_S);
    for (uint32_t i = 0; i < 4; i++) {
        up += world.users[i].is_up;
    }
    assert_int_equal(up, 3);
    assert_true(world_stats(&world).crowded != 0);
    assert_int_equal(world_stats(&world).conns, 3);
    world_close(&world);
    world_free(&world);
}

/* ---- Closing ---- */

struct disk_closing {
    struct link_close op;
    bool is_quiet, is_done;
};

static void
disk_quiet(struct link_close *op)
{
    container_of(op, struct disk_closing, op)->is_quiet = true;
}

static void
disk_done(struct link_close *op)
{
    container_of(op, struct disk_closing, op)->is_done = true;
}

/* A disk is taken out of service: what is under way ends, links go down, and
 * the store may be closed when quiet() has run. */
static void
test_disk_goes(void **state)
{
    struct disk_closing closing = {
        .op = { .quiet = disk_quiet, .done = disk_done },
    };
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 8, 30, 0, 8);
    cases.may_fail = true;
    world_init(&world, 8, NULL, &cases);
    world.store_delay_max_ns = 20 * NS_PER_MS;
    world_up(&world);
    for (uint32_t i = 0; i < 30; i++) {
        world_submit(&world, 0, i, IO_NEVER);
    }
    sim_run_for(world.sim, 5 * NS_PER_MS);
    sim_node_enter(world.server_host.node);
    link_close_start(&world.store.link, &closing.op);
    sim_node_leave(world.server_host.node);
    assert_true(sim_run_until_set(world.sim, &closing.is_quiet, NS_PER_S));
    assert_int_equal(world.store.in_flight, 0);
    assert_true(sim_run_until_set(world.sim, &closing.is_done, NS_PER_S));
    assert_true(sim_run_until_set(world.sim, &cases.is_complete, 2 * NS_PER_S));
    assert_true(world_wait_down(&world, NS_PER_S));
    assert_false(world_wait_up(&world, 2 * NS_PER_S));
    assert_int_equal(world.links[0]->reason, -ENODEV);
    world_free(&world);
    cases_done(&cases);
}

/* The client's end with requests under way. */
static void
test_close_busy(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 8, 60, 0, 8);
    cases.may_fail = true;
    world_init(&world, 8, NULL, &cases);
    world.store_delay_max_ns = 20 * NS_PER_MS;
    world.server_options.conn_requests_max = 20;
    world_up(&world);
    for (uint32_t i = 0; i < 60; i++) {
        world_submit(&world, 0, i, IO_NEVER);
    }
    sim_run_for(world.sim, 5 * NS_PER_MS);
    world_close(&world);
    assert_int_equal(cases.completed, 60);
    assert_true(cases.unknown != 0);
    world_free(&world);
    cases_done(&cases);
}

/* Without users a link closes its connection, with a new one it comes back. */
static void
test_users(void **state)
{
    struct peer_world world;

    (void)state;
    world_init(&world, 2, NULL, NULL);
    world_up(&world);
    link_user_fn *changed = world.users[0].user.changed;
    sim_node_enter(world.client.node);
    link_user_remove(world.links[0], &world.users[0].user);
    sim_node_leave(world.client.node);
    sim_run_for(world.sim, NS_PER_S);
    assert_int_equal(world.links[0]->state, LINK_DOWN);
    assert_int_equal(world_stats(&world).conns, 0);
    assert_int_equal(world_info(&world, 0).failures, 1);
    world.users[0].is_up = false;
    sim_node_enter(world.client.node);
    link_user_add(world.links[0], &world.users[0].user, changed);
    sim_node_leave(world.client.node);
    assert_true(world_wait_up(&world, NS_PER_S));
    /* link_cut(): what is under way fails, the link comes back. */
    sim_node_enter(world.client.node);
    link_cut(world.links[0]);
    sim_node_leave(world.client.node);
    assert_true(world_wait_down(&world, NS_PER_S));
    assert_true(world_wait_up(&world, NS_PER_S));
    world_close(&world);
    world_free(&world);
}

/* Submitted while down: -ENOTCONN, and never from inside the submit. */
static void
test_submit_down(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    make_cases(&cases, 4, 3, 0, 2);
    cases.may_fail = true;
    world_init(&world, 4, NULL, &cases);
    world.server_options.cluster = (struct weft_uuid){ { 0 } };
    world_start(&world);
    for (uint32_t i = 0; i < 3; i++) {
        world_submit(&world, 0, i, IO_NEVER);
    }
    assert_true(sim_run_until_set(world.sim, &cases.is_complete, NS_PER_S));
    assert_int_equal(cases.unknown, 3);
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_scattered_put),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_credits),
        cmocka_unit_test(test_pool_exhausted),
        cmocka_unit_test(test_pool_is_fair),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deadline_in_queue),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_wrong_cluster),
        cmocka_unit_test(test_unknown_cluster),
        cmocka_unit_test(test_wrong_disk),
        cmocka_unit_test(test_set_cluster),
        cmocka_unit_test(test_crowded),
        cmocka_unit_test(test_disk_goes),
        cmocka_unit_test(test_close_busy),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_submit_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
