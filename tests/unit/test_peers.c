/* SPDX-License-Identifier: Apache-2.0 */
/* When other hosts are probed. */

#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/peers.h"

#define MINE 0xc0000201u

struct world {
    struct peers_prober prober;
    struct peers *peers;
    unsigned probes; /* Of MINE, */
    unsigned others; /* and of all others. */
    uint64_t now_ns, next_ns;
};

static void
probe(struct peers_prober *prober, uint32_t address)
{
    struct world *world = container_of(prober, struct world, prober);

    world->probes += address == MINE;
    world->others += address != MINE;
}

static void
start(struct world *world)
{
    *world = (struct world){ .prober.probe = probe, .now_ns = NS_PER_S };
    world->peers = peers_new(&world->prober, 1);
    world->next_ns = PEERS_NEVER;
}

static struct weft_uuid
row_of(unsigned number)
{
    struct weft_uuid uuid = { { 0 } };

    uuid.bytes[14] = (uint8_t)(number >> 8);
    uuid.bytes[15] = (uint8_t)number;
    return uuid;
}

static void
put(struct world *world, unsigned number, const char *name, uint32_t address)
{
    struct weft_uuid row = row_of(number);

    peers_put(world->peers, &row, name, address, world->now_ns);
    world->next_ns = peers_step(world->peers, world->now_ns);
}

/* Steps when it asks for it. */
static void
run_for(struct world *world, uint64_t span_ns)
{
    uint64_t end_ns = world->now_ns + span_ns;

    while (world->next_ns <= end_ns) {
        assert_true(world->next_ns > world->now_ns);
        world->now_ns = world->next_ns;
        world->next_ns = peers_step(world->peers, world->now_ns);
    }
    world->now_ns = end_ns;
}

/* At once, often, then once in a while, for ever: the switch forgets after 15
 * minutes. */
static void
test_schedule(void **state)
{
    struct world world;

    (void)state;
    start(&world);
    assert_int_equal(peers_step(world.peers, world.now_ns), PEERS_NEVER);
    put(&world, 1, "h2", MINE);
    assert_int_equal(world.probes, 1);
    run_for(&world, 100 * NS_PER_MS);
    assert_in_range(world.probes, 3, 8);
    run_for(&world, 600 * NS_PER_S);
    world.probes = 0;
    for (unsigned i = 1; i <= 10; i++) {
        run_for(&world, PEERS_LAST_NS);
        assert_in_range(world.probes, i, 2 * i + 1);
    }
    put(&world, 1, "h2", MINE); /* No news. */
    unsigned before = world.probes;
    run_for(&world, NS_PER_S);
    assert_in_range(world.probes, before, before + 1);
    peers_start_over(world.peers, world.now_ns);
    world.next_ns = peers_step(world.peers, world.now_ns);
    run_for(&world, 100 * NS_PER_MS);
    assert_true(world.probes >= before + 3);
    peers_free(world.peers);
}

static void
test_heard(void **state)
{
    struct world world;

    (void)state;
    start(&world);
    put(&world, 1, "h2", MINE);
    run_for(&world, 600 * NS_PER_S);
    run_for(&world, PEERS_HEARD_NS);
    world.probes = 0;
    peers_heard(world.peers, "h3", world.now_ns); /* Nobody. */
    peers_step(world.peers, world.now_ns);
    assert_int_equal(world.probes, 0);
    for (unsigned i = 0; i < 1000; i++) {
        peers_heard(world.peers, "h2", world.now_ns);
        world.next_ns = peers_step(world.peers, world.now_ns);
    }
    assert_int_equal(world.probes, 1);
    run_for(&world, PEERS_HEARD_NS); /* Once more for all the others. */
    assert_int_equal(world.probes, 2);
    peers_free(world.peers);
}

static void
test_changes(void **state)
{
    struct world world;

    (void)state;
    start(&world);
    put(&world, 1, "h2", MINE);
    put(&world, 1, "h2", 0); /* Disabled. */
    world.probes = 0;
    assert_int_equal(world.next_ns, PEERS_NEVER);
    put(&world, 1, "h2", MINE + 1);
    put(&world, 1, "h2", MINE);
    run_for(&world, 60 * NS_PER_S);
    assert_true(world.probes > 5);
    assert_int_equal(world.others, 1);
    peers_free(world.peers);
}

static void
test_many(void **state)
{
    struct world world;
    char name[16];

    (void)state;
    start(&world);
    for (unsigned i = 0; i < 1000; i++) {
        struct weft_uuid row = row_of(i);
        (void)snprintf(name, sizeof name, "k%u", i * 7 % 1000);
        peers_put(world.peers, &row, name, 1 + i, world.now_ns);
    }
    world.next_ns = peers_step(world.peers, world.now_ns);
    assert_int_equal(world.others, PEERS_AT_ONCE);
    run_for(&world, 100 * NS_PER_MS);
    assert_true(world.others >= 1000);
    for (unsigned i = 0; i < 1000; i++) {
        struct weft_uuid row = row_of(i);
        peers_put(world.peers, &row, "", 0, 0);
    }
    assert_int_equal(peers_step(world.peers, UINT64_MAX - 1), PEERS_NEVER);
    peers_free(world.peers);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_heard),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
