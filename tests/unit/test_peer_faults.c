/* SPDX-License-Identifier: Apache-2.0 */

/* The peer protocol in a hostile world: cuts, holes and flipped bits at every
 * byte, dead, frozen and lying peers.  A wrong success is caught by the cases
 * themselves (peer_fixture.h). */

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"
#include "tests/unit/peer_fixture.h"

/* Bytes of data blocks are all alike: one of so many is enough. */
#define DATA_STRIDE 97u

/* One of each opcode, small; the same bytes on the wire each time. */
static void
make_sampler(struct cases *cases)
{
    struct rng rng;

    rng_init(&rng, 21);
    cases_init(cases, &rng, 64, 0, 2);
    /* Keep one of each opcode whose answer is a success. */
    uint32_t kept = 0;
    for (uint32_t opcode = STORE_READ; opcode <= STORE_REMOVE; opcode++) {
        for (uint32_t i = kept; i < cases->count; i++) {
            struct peer_case *c = &cases->items[i];
            if ((uint32_t)c->req.opcode != opcode || c->want.result != 0) {
                continue;
            }
            struct peer_case other = cases->items[kept];
            cases->items[kept] = *c;
            *c = other;
            kept++;
            break;
        }
    }
    assert_int_equal(kept, 10);
    for (uint32_t i = 0; i < cases->count; i++) {
        struct peer_case *c = &cases->items[i];
        c->req.session = (c->req.session & ~UINT64_C(0xffff)) | i;
        c->sent.session = c->req.session;
        if (i >= kept) {
            free(c->req.data);
            free(c->req.crcs);
            free(c->req.states);
            free(c->req.entries);
            free(c->want_data);
            free(c->want_crcs);
            free(c->want_states);
            free(c->want_entries);
        }
    }
    cases->count = kept;
}

/* Makes the cases as new. */
static void
rewind_cases(struct cases *cases)
{
    for (uint32_t i = 0; i < cases->count; i++) {
        struct peer_case *c = &cases->items[i];
        if (c->req.opcode == STORE_READ) {
            memset(c->req.data, 0x55,
                   (size_t)c->req.block_count * WEFT_BLOCK_SIZE);
        }
        c->req = c->sent;
        c->arrivals = 0;
        c->completions = 0;
        c->was_submitted = false;
    }
    cases->submitted = cases->completed = cases->succeeded = 0;
    cases->damaged = cases->unknown = 0;
    cases->last_arrival = 0;
    cases->is_complete = false;
}

/* Submits all at once and waits.  Nothing hangs. */
static void
run_all(struct peer_world *world)
{
    struct cases *cases = world->cases;

    for (uint32_t i = 0; i < cases->count; i++) {
        if (!cases->items[i].was_submitted) {
            world_submit(world, 0, i, IO_NEVER);
        }
    }
    assert_true(
        sim_run_until_set(world->sim, &cases->is_complete, 3 * NS_PER_S));
    assert_int_equal(cases->completed, cases->count);
}

static void
plain_world(struct peer_world *world, struct cases *cases, uint64_t seed)
{
    struct sim_options options;

    sim_options_default(&options);
    options.arena_bytes = 2 * MIB;
    options.trace_lines = 100;
    world_init(world, seed, &options, cases);
    world->server_options.conns_max = 8;
    world->server_options.bytes_max = MIB;
    world->server_options.conn_bytes_max = MIB;
    world->server_options.requests_max = 32;
    world->store_delay_max_ns = 0;
}

/* The bytes that pass in each direction when all goes well. */
static void
measure(struct cases *cases, uint64_t ret_passed[2])
{
    struct peer_world world;

    plain_world(&world, cases, 1);
    world_up(&world);
    run_all(&world);
    assert_int_equal(cases->succeeded, cases->count);
    ret_passed[0] = world.meddling[0].passed;
    ret_passed[1] = world.meddling[1].passed;
    world_free(&world);
    rewind_cases(cases);
}

enum meddle {
    MEDDLE_CUT,
    MEDDLE_HOLE,
    MEDDLE_FLIP,
};

static void
meddle_once(struct cases *cases, enum meddle kind, uint32_t direction,
            uint64_t at, uint8_t mask)
{
    struct peer_world world;

    plain_world(&world, cases, at);
    struct meddling *meddling = &world.meddling[direction];
    if (kind == MEDDLE_CUT) {
        meddling->cut_at = at;
    } else if (kind == MEDDLE_HOLE) {
        meddling->hole_at = at;
    } else {
        meddling->flip_at = at;
        meddling->flip_mask = mask;
    }
    world_start(&world);
    /* The damage may strike the HELLO already: then the second try works. */
    assert_true(world_wait_up(&world, 5 * NS_PER_S));
    run_all(&world);
    if (kind == MEDDLE_FLIP && cases->unknown == 0) {
        /* The flip was seen by somebody, or it is yet to come. */
        struct peer_server_stats stats = world_stats(&world);
        struct link_remote_info info = world_info(&world, 0);
        assert_true(cases->damaged != 0 || stats.protocol_errors != 0 ||
                    info.protocol_errors != 0 || info.refusals != 0 ||
                    meddling->flip_at != MEDDLE_NEVER);
    }
    /* All is well afterwards. */
    assert_true(world_wait_up(&world, 5 * NS_PER_S));
    world_close(&world);
    world_free(&world);
    rewind_cases(cases);
}

/* Whether byte 'at' is worth a world of its own: all of the small messages,
 * some of the data. */
static bool
is_worth(uint64_t at, uint64_t total)
{
    return at < 1200 || total - at < 600 || at % DATA_STRIDE == 0 ||
           at % WEFT_BLOCK_SIZE < 8;
}

static void
meddle_everywhere(enum meddle kind)
{
    struct cases cases;
    uint64_t passed[2];
    uint32_t worlds = 0;

    make_sampler(&cases);
    measure(&cases, passed);
    cases.may_fail = true;
    cases.may_damage = kind == MEDDLE_FLIP;
    for (uint32_t direction = 0; direction < 2; direction++) {
        for (uint64_t at = 0; at < passed[direction]; at++) {
            if (!is_worth(at, passed[direction])) {
                continue;
            }
            meddle_once(&cases, kind, direction, at,
                        (uint8_t)(1u << (at * 5 % 8)));
            worlds++;
        }
    }
    assert_true(worlds > 2000);
    cases_done(&cases);
}

static void
test_cut_everywhere(void **state)
{
    (void)state;
    meddle_everywhere(MEDDLE_CUT);
}

static void
test_flip_everywhere(void **state)
{
    (void)state;
    meddle_everywhere(MEDDLE_FLIP);
}

/* The rest of a connection vanishes: found by silence. */
static void
test_hole_everywhere(void **state)
{
    struct cases cases;
    uint64_t passed[2];

    (void)state;
    make_sampler(&cases);
    measure(&cases, passed);
    cases.may_fail = true;
    for (uint32_t direction = 0; direction < 2; direction++) {
        for (uint64_t at = 0; at < passed[direction]; at += 41) {
            meddle_once(&cases, MEDDLE_HOLE, direction, at, 0);
        }
    }
    cases_done(&cases);
}

/* Random damage in worlds of all kinds, under load. */
static void
test_storm(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct sim_options options;
        struct peer_world world;
        struct cases cases;
        struct rng rng;

        rng_init(&rng, seed);
        cases_init(&cases, &rng, 150, 0, 32);
        cases.may_fail = true;
        cases.may_damage = true;
        sim_options_swarm(&options, seed);
        options.arena_bytes = 16 * MIB;
        options.net.reset_ppm = seed % 3 == 0 ? 2000 : 0;
        world_init(&world, seed, &options, &cases);
        world_start(&world);
        for (uint32_t i = 0; i < cases.count; i++) {
            if (i % 10 == 0) {
                world_wait_up(&world, 5 * NS_PER_S);
                struct meddling *meddling = &world.meddling[rng_below(&rng, 2)];
                uint64_t at = meddling->passed + rng_below(&rng, 200000);
                if (rng_chance(&rng, 1, 2)) {
                    meddling->flip_at = at;
                    meddling->flip_mask = (uint8_t)rng_between(&rng, 1, 255);
                } else {
                    meddling->cut_at = at;
                }
            }
            world_submit(&world, 0, i, 2 * NS_PER_S);
            sim_run_for(world.sim, rng_below(&rng, NS_PER_MS));
        }
        assert_true(
            sim_run_until_set(world.sim, &cases.is_complete, 10 * NS_PER_S));
        world_close(&world);
        world_free(&world);
        cases_done(&cases);
    }
}

/* ---- Silence: link.h (5) ---- */

static void
wait_noticed(struct peer_world *world, struct cases *cases)
{
    uint64_t began_ns = sim_now_ns(world->sim);

    for (uint32_t i = 0; i < cases->count; i++) {
        world_submit(world, 0, i, IO_NEVER);
    }
    assert_true(world_wait_down(world, 2 * NS_PER_S));
    uint64_t took_ns = sim_now_ns(world->sim) - began_ns;
    if (took_ns >= NS_PER_S) {
        fail_msg("noticed after %llu ms",
                 (unsigned long long)(took_ns / NS_PER_MS));
    }
    assert_int_equal(cases->completed, cases->count);
}

static void
silence_world(struct peer_world *world, struct cases *cases, uint64_t seed,
              uint32_t count)
{
    struct rng rng;

    rng_init(&rng, seed);
    cases_init(cases, &rng, count, 0, 4);
    cases->may_fail = true;
    world_init(world, seed, NULL, cases);
    world->is_direct = true;
    world_up(world);
    sim_run_for(world->sim, rng_below(&rng, 2 * NS_PER_S));
}

static void
finish_silence(struct peer_world *world, struct cases *cases)
{
    assert_true(world_wait_up(world, 4 * NS_PER_S));
    world_close(world);
    world_free(world);
    cases_done(cases);
}

static void
test_one_way_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 24; seed++) {
        struct peer_world world;
        struct cases cases;

        /* Idle links notice as well. */
        silence_world(&world, &cases, seed, seed % 3 == 0 ? 0 : 12);
        if (seed % 2 == 0) {
            sim_net_block(world.client.node, world.server_host.node);
        } else {
            sim_net_block(world.server_host.node, world.client.node);
        }
        wait_noticed(&world, &cases);
        assert_int_equal(world.links[0]->reason, -ETIMEDOUT);
        sim_net_heal(world.sim);
        finish_silence(&world, &cases);
    }
}

static void
test_frozen_peer(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct peer_world world;
        struct cases cases;

        silence_world(&world, &cases, seed, seed % 3 == 0 ? 0 : 12);
        sim_node_freeze(world.server_host.node, IO_NEVER);
        wait_noticed(&world, &cases);
        sim_run_for(world.sim, 3 * NS_PER_S);
        sim_node_thaw(world.server_host.node);
        finish_silence(&world, &cases);
    }
}

/* It was us who stood still: the peer is not blamed. */
static void
test_frozen_self(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct peer_world world;
        struct cases cases;

        silence_world(&world, &cases, seed, 0);
        /* Below the server's limit of 2 s. */
        sim_node_freeze(world.client.node, 1500 * NS_PER_MS);
        sim_run_for(world.sim, 5 * NS_PER_S);
        assert_int_equal(world.users[0].downs, 0);
        finish_silence(&world, &cases);
    }
}

/* A patient client pings often enough for its server, and the server does not
 * blame it for having stood still itself. */
static void
test_patient_client(void **state)
{
    struct peer_world world;

    (void)state;
    world_init(&world, 1, NULL, NULL);
    world.is_direct = true;
    world.client_options.silence_ns = 60 * NS_PER_S;
    world_up(&world);
    sim_run_for(world.sim, 30 * NS_PER_S);
    for (uint32_t i = 0; i < 20; i++) {
        sim_node_freeze(world.server_host.node, 5 * NS_PER_S);
        sim_run_for(world.sim, 7 * NS_PER_S);
    }
    assert_int_equal(world.users[0].downs, 0);
    assert_int_equal(world_stats(&world).silences, 0);
    world_close(&world);
    world_free(&world);
}

static void
test_dead_peer(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct peer_world world;
        struct cases cases;

        silence_world(&world, &cases, seed, 12);
        sim_node_crash(world.server_host.node, SIM_CRASH_POWER);
        wait_noticed(&world, &cases);
        sim_node_start(world.server_host.node, &world.server_host.program);
        finish_silence(&world, &cases);
    }
}

/* A killed process: noticed at once, and so is a refused connection. */
static void
test_killed_peer(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    silence_world(&world, &cases, 3, 12);
    for (uint32_t i = 0; i < 12; i++) {
        world_submit(&world, 0, i, IO_NEVER);
    }
    sim_node_crash(world.server_host.node, SIM_CRASH_PROCESS);
    assert_true(world_wait_down(&world, 20 * NS_PER_MS));
    assert_int_equal(cases.completed, 12);
    sim_run_for(world.sim, 200 * NS_PER_MS);
    assert_int_equal(world.links[0]->reason, -ECONNREFUSED);

    /* Backoff: at most a second between two tries, and not too many. */
    uint64_t failures = world_info(&world, 0).failures;
    sim_run_for(world.sim, 20 * NS_PER_S);
    failures = world_info(&world, 0).failures - failures;
    assert_true(failures >= 19);
    assert_true(failures <= 60);
    sim_node_start(world.server_host.node, &world.server_host.program);
    assert_true(world_wait_up(&world, NS_PER_S + 50 * NS_PER_MS));

    /* After a good while the first try is soon again. */
    sim_run_for(world.sim, 2 * NS_PER_S);
    sim_net_cut(world.client.node, world.server_host.node);
    assert_true(world_wait_down(&world, NS_PER_S));
    assert_true(world_wait_up(&world, 20 * NS_PER_MS));
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

/* peer_server.h (4): a client that went with the power is cut; its requests
 * end; what it held is free again. */
static void
test_dead_client(void **state)
{
    struct peer_world world;
    struct cases cases;

    (void)state;
    silence_world(&world, &cases, 3, 12);
    world.store.holds = true;
    for (uint32_t i = 0; i < 12; i++) {
        world_submit(&world, 0, i, IO_NEVER);
    }
    sim_run_for(world.sim, 20 * NS_PER_MS);
    assert_int_equal(world_stats(&world).in_flight, 12);
    sim_node_crash(world.client.node, SIM_CRASH_POWER);
    sim_run_for(world.sim, 2500 * NS_PER_MS);
    assert_int_equal(world_stats(&world).conns, 0);
    assert_int_equal(world_stats(&world).silences, 1);
    assert_int_equal(world_stats(&world).in_flight, 12);
    sim_node_enter(world.server_host.node);
    fake_store_release(&world.store);
    sim_node_leave(world.server_host.node);
    sim_run_for(world.sim, 100 * NS_PER_MS);
    assert_int_equal(world_stats(&world).in_flight, 0);
    world_free(&world);
    cases_done(&cases);
}

/* A connection that the server believes to be alive is replaced by the link's
 * next one; but not again and again while its requests hang. */
static void
test_supersede(void **state)
{
    struct peer_world world;
    struct cases cases;
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    cases_init(&cases, &rng, 10, STORE_FLUSH, 1);
    cases.may_fail = true;
    plain_world(&world, &cases, 1);
    world.store_holds = true;
    world_up(&world);
    uint32_t next = 0;
    for (; next < 10; next++) {
        if (!world_wait_up(&world, 3 * NS_PER_S)) {
            break;
        }
        world_submit(&world, 0, next, 50 * NS_PER_MS);
        assert_true(world_wait_down(&world, NS_PER_S));
        assert_true(world_stats(&world).conns <= 1);
    }
    assert_int_equal(next, 3);
    assert_int_equal(world.links[0]->reason, -EBUSY);
    sim_node_enter(world.server_host.node);
    fake_store_release(&world.store);
    sim_node_leave(world.server_host.node);
    assert_true(world_wait_up(&world, 3 * NS_PER_S));
    world_close(&world);
    world_free(&world);
    cases_done(&cases);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_flip_everywhere),
        cmocka_unit_test(test_hole_everywhere),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_one_way_cut),
        cmocka_unit_test(test_frozen_peer),
        cmocka_unit_test(test_frozen_self),
        cmocka_unit_test(test_patient_client),
        cmocka_unit_test(test_dead_peer),
        cmocka_unit_test(test_killed_peer),
        cmocka_unit_test(test_dead_client),
        cmocka_unit_test(test_supersede),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
