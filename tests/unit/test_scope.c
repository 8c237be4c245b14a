/* SPDX-License-Identifier: Apache-2.0 */

/* What a host follows (N10), and the sets that this is made of. */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "netd/sync/row_set.h"
#include "netd/sync/scope.h"

/* ---- A small world by numbers ---- */

static struct weft_uuid
id(uint32_t number)
{
    struct weft_uuid uuid = { { 0 } };

    for (unsigned i = 0; i < 4; i++) {
        uuid.bytes[3 - i] = (uint8_t)(number >> (8 * i));
    }
    return uuid;
}

enum { NETWORKS = 1000, ROUTERS = 2000, GROUPS = 3000, IDENTITIES = 4000 };

struct world {
    struct state_port ports[8];
    struct state_network_route routes[256];
    struct state_identity_member members[16];
    struct state_security_rule rules[16];
    const struct state_port *port_list[8];
    const struct state_network_route *route_list[256];
    const struct state_identity_member *member_list[16];
    const struct state_security_rule *rule_list[16];
    struct scope_rows rows;
};

static void
add_port(struct world *world, uint32_t network, uint32_t identity)
{
    size_t i = world->rows.port_count++;

    world->ports[i] = (struct state_port){
        .row = { STATE_TABLE_PORT, id(5000 + (uint32_t)i) },
        .network = id(NETWORKS + network),
        .identity = id(IDENTITIES + identity),
    };
    world->port_list[i] = &world->ports[i];
    world->rows.ports = world->port_list;
}

static void
add_route(struct world *world, uint32_t network, uint32_t router)
{
    size_t i = world->rows.route_count++;

    world->routes[i].network = id(NETWORKS + network);
    world->routes[i].router = id(ROUTERS + router);
    world->route_list[i] = &world->routes[i];
    world->rows.routes = world->route_list;
}

static void
add_member(struct world *world, uint32_t identity, uint32_t group)
{
    size_t i = world->rows.member_count++;

    world->members[i].identity = id(IDENTITIES + identity);
    world->members[i].group = id(GROUPS + group);
    world->member_list[i] = &world->members[i];
    world->rows.members = world->member_list;
}

/* 'peer' 0: none. */
static void
add_rule(struct world *world, uint32_t group, uint32_t peer)
{
    size_t i = world->rows.rule_count++;

    world->rules[i].group = id(GROUPS + group);
    world->rules[i].peer_group =
        peer == 0 ? (struct weft_uuid){ { 0 } } : id(GROUPS + peer);
    world->rule_list[i] = &world->rules[i];
    world->rows.rules = world->rule_list;
}

static bool
has(const struct uuid_set *set, uint32_t number)
{
    struct weft_uuid uuid = id(number);
    return uuid_set_has(set, &uuid);
}

/* ---- The closure ---- */

static void
test_nothing(void **unused)
{
    static struct world world;
    struct scope scope = { .left_out = 0 };
    (void)unused;

    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.networks.count, 0);
    assert_int_equal(scope.identities.count, 0);
    struct scope_clauses clauses = { NULL, 0, 0 };
    scope_clauses(&scope, "h1", STATE_TABLE_PORT, &clauses);
    assert_int_equal(clauses.count, 2); /* host, migrate_host */
    scope_clauses(&scope, "h1", STATE_TABLE_ADDRESS, &clauses);
    assert_int_equal(clauses.count, 0);
    scope_clauses(&scope, "h1", STATE_TABLE_SCOPE_SEQ, &clauses);
    assert_int_equal(clauses.count, 1); /* The wire. */
    free(clauses.items);
    scope_done(&scope);
}

/* Ports, their networks, routers on those, networks on them; no further. */
static void
test_networks(void **unused)
{
    static struct world world;
    struct scope scope = { .left_out = 0 };
    (void)unused;

    add_port(&world, 1, 1);
    add_route(&world, 1, 1);
    add_route(&world, 2, 1);
    add_route(&world, 2, 2); /* Behind network 2: not ours. */
    add_route(&world, 3, 2);
    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.local.count, 1);
    assert_int_equal(scope.networks.count, 2);
    assert_true(has(&scope.networks, NETWORKS + 1));
    assert_true(has(&scope.networks, NETWORKS + 2));
    assert_int_equal(scope.routers.count, 1);
    assert_true(has(&scope.routers, ROUTERS + 1));
    /* A port on network 2 brings in its router's, too. */
    add_port(&world, 2, 1);
    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.networks.count, 3);
    assert_int_equal(scope.routers.count, 2);
    scope_done(&scope);
}

/* Own identity, its groups, their rules, peer groups, identities in those. */
static void
test_groups(void **unused)
{
    static struct world world;
    struct scope scope = { .left_out = 0 };
    (void)unused;

    add_port(&world, 1, 1);
    add_member(&world, 1, 1);
    add_rule(&world, 1, 2);
    add_rule(&world, 1, 0);
    add_rule(&world, 2, 3); /* Of the peer group: not ours. */
    add_member(&world, 2, 2);
    add_member(&world, 3, 2);
    add_member(&world, 4, 3);
    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.groups.count, 1);
    assert_int_equal(scope.peers.count, 1);
    assert_true(has(&scope.peers, GROUPS + 2));
    assert_int_equal(scope.own.count, 1);
    assert_int_equal(scope.identities.count, 3);
    assert_true(has(&scope.identities, IDENTITIES + 3));
    assert_false(has(&scope.identities, IDENTITIES + 4));
    scope_done(&scope);
}

/* A group whose rule names the group itself ends as any other. */
static void
test_self_reference(void **unused)
{
    static struct world world;
    struct scope scope = { .left_out = 0 };
    (void)unused;

    add_port(&world, 1, 1);
    add_member(&world, 1, 1);
    add_rule(&world, 1, 1);
    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.groups.count, 1);
    assert_int_equal(scope.peers.count, 1);
    assert_int_equal(scope.identities.count, 1);
    scope_done(&scope);
}

/* The lowest UUIDs of a router are followed, whoever looks; local networks
 * always. */
static void
test_limit(void **unused)
{
    static struct world world;
    struct scope scope = { .left_out = 0 };
    (void)unused;

    add_port(&world, 100, 1);
    for (uint32_t i = 100; i > 0; i--) {
        add_route(&world, i, 1);
    }
    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.networks.count, SCOPE_ROUTER_NETWORKS + 1);
    assert_true(has(&scope.networks, NETWORKS + 1));
    assert_true(has(&scope.networks, NETWORKS + SCOPE_ROUTER_NETWORKS));
    assert_false(has(&scope.networks, NETWORKS + SCOPE_ROUTER_NETWORKS + 1));
    assert_true(has(&scope.networks, NETWORKS + 100));
    assert_int_equal(scope.left_out, 100 - SCOPE_ROUTER_NETWORKS - 1);
    scope_done(&scope);
}

/* The routers of a network, likewise; each network has its own share. */
static void
test_router_limit(void **unused)
{
    static struct world world;
    struct scope scope = { .left_out = 0 };
    (void)unused;

    add_port(&world, 1, 1);
    add_port(&world, 2, 1);
    for (uint32_t i = 30; i > 0; i--) {
        add_route(&world, 1, i);
        add_route(&world, 1, i);
    }
    add_route(&world, 2, 50);
    add_route(&world, 3, 30); /* Behind a router that is left out. */
    add_route(&world, 4, 1);
    scope_compute(&world.rows, &scope);
    assert_int_equal(scope.routers.count, SCOPE_NETWORK_ROUTERS + 1);
    assert_true(has(&scope.routers, ROUTERS + 1));
    assert_true(has(&scope.routers, ROUTERS + SCOPE_NETWORK_ROUTERS));
    assert_false(has(&scope.routers, ROUTERS + SCOPE_NETWORK_ROUTERS + 1));
    assert_true(has(&scope.routers, ROUTERS + 50));
    assert_int_equal(scope.networks.count, 3);
    assert_true(has(&scope.networks, NETWORKS + 4));
    assert_int_equal(scope.left_out, 30 - SCOPE_NETWORK_ROUTERS);
    scope_done(&scope);
}

/* The same rows in another order, twice over or with strangers in between: the
 * same scope. */
static void
test_order(void **unused)
{
    static struct world one, two;
    struct scope a = { .left_out = 0 }, b = a;
    (void)unused;

    add_port(&one, 1, 1);
    add_port(&one, 2, 2);
    add_port(&two, 2, 2);
    add_port(&two, 1, 1);
    for (uint32_t i = 0; i < 10; i++) {
        add_route(&one, i, i % 3);
        add_route(&two, 9 - i, (9 - i) % 3);
        add_route(&two, 9 - i, (9 - i) % 3);
    }
    add_route(&two, 50, 50);
    scope_compute(&one.rows, &a);
    scope_compute(&two.rows, &b);
    assert_true(scope_equal(&a, &b));
    scope_done(&a);
    scope_done(&b);
}

/* ---- Conditions ---- */

static void
test_clauses(void **unused)
{
    static struct world world;
    struct weft_uuid interface = id(7);
    struct scope scope = { .left_out = 0 };
    struct scope_clauses clauses = { NULL, 0, 0 };
    uint64_t mask = scope_table_mask();
    (void)unused;

    add_port(&world, 1, 1);
    world.rows.interfaces = &interface;
    world.rows.interface_count = 1;
    scope_compute(&world.rows, &scope);
    scope_clauses(&scope, "h1", STATE_TABLE_PORT, &clauses);
    assert_int_equal(clauses.count, 4);
    assert_string_equal(clauses.items[0].text, "h1");
    assert_int_equal(clauses.items[2].column, 0); /* _uuid */
    assert_true(uuid_equal(&clauses.items[2].uuid, &interface));
    assert_int_equal(clauses.items[3].column, STATE_PORT_COL_NETWORK);
    for (size_t i = 0; i < scope_table_count; i++) {
        assert_true((mask >> scope_tables[i] & 1) != 0);
        /* Other hosts' statuses are never followed. */
        scope_clauses(&scope, "h1", scope_tables[i], &clauses);
    }
    scope_clauses(&scope, "h1", STATE_TABLE_PORT_STATUS, &clauses);
    assert_int_equal(clauses.count, 1);
    assert_int_equal(clauses.items[0].column, STATE_PORT_STATUS_COL_HOST);
    free(clauses.items);
    scope_done(&scope);
}

/* ---- Sets ---- */

static void
test_uuid_set(void **unused)
{
    struct uuid_set set = { NULL, 0, 0 };
    struct weft_uuid nil = { { 0 } };
    (void)unused;

    assert_false(has(&set, 1));
    uuid_set_add(&set, &nil);
    for (uint32_t i = 100; i > 0; i--) {
        struct weft_uuid uuid = id(i % 10 + 1);
        uuid_set_add(&set, &uuid);
    }
    uuid_set_seal(&set);
    assert_int_equal(set.count, 10);
    assert_true(has(&set, 1));
    assert_true(has(&set, 10));
    assert_false(has(&set, 11));
    uuid_set_done(&set);
    assert_int_equal(set.count, 0);
}

/* Against an array of flags, with UUIDs that collide on purpose. */
static void
test_row_set(void **unused)
{
    struct row_set set = { NULL, 0, 0 };
    static bool model[3][200];
    size_t count = 0;
    uint64_t random = 1;
    (void)unused;

    for (unsigned step = 0; step < 20000; step++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        unsigned number = (unsigned)(random >> 33) % 200;
        unsigned table = (unsigned)(random >> 45) % 3;
        struct weft_uuid uuid = id(number); /* Bytes 8..15 all zero. */
        if ((random >> 60) % 2 == 0) {
            assert_int_equal(row_set_add(&set, (enum state_table)table, &uuid),
                             !model[table][number]);
            count += model[table][number] ? 0 : 1;
            model[table][number] = true;
        } else {
            assert_int_equal(row_set_remove(&set, (enum state_table)table,
                                            &uuid),
                             model[table][number]);
            count -= model[table][number] ? 1 : 0;
            model[table][number] = false;
        }
        assert_int_equal(set.count, count);
    }
    for (unsigned table = 0; table < 3; table++) {
        for (uint32_t number = 0; number < 200; number++) {
            struct weft_uuid uuid = id(number);
            assert_int_equal(row_set_has(&set, (enum state_table)table, &uuid),
                             model[table][number]);
        }
    }
    row_set_done(&set);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),  cmocka_unit_test(test_networks),
        cmocka_unit_test(test_groups),   cmocka_unit_test(test_self_reference),
        cmocka_unit_test(test_limit),    cmocka_unit_test(test_router_limit),
        cmocka_unit_test(test_order),    cmocka_unit_test(test_clauses),
        cmocka_unit_test(test_uuid_set), cmocka_unit_test(test_row_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
