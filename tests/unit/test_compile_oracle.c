/* SPDX-License-Identifier: Apache-2.0 */

/* Incremental against afresh (DESIGN 4.1): after thousands of random changes to
 * rows and local ports of all kinds, with references to rows that are not there
 * yet or no more, the flows of all units are what the emitters give when called
 * afresh; and what a new compiler makes of the same rows in another order.
 *
 *     test_compile_oracle [SEEDS [FIRST_SEED]] */

#include "tests/unit/unit.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"
#include "netd/compile/emit.h"
#include "tests/support/flow_store.h"
#include "tests/support/net_rows.h"

#define STEPS 1500u

static unsigned seed_count = 12;
static unsigned first_seed = 1;

static void
random_local(struct rng *rng, struct compile *compile)
{
    struct local_port local = {
        .port = net_rows_uuid(STATE_TABLE_PORT, rng_below(rng, NET_ROWS_SLOTS)),
        .ofport = (uint32_t)rng_below(rng, 20),
        .zone = 2000 + (uint32_t)rng_below(rng, 20),
    };
    if (rng_chance(rng, 2, 5)) {
        compile_delete_local(compile, &local.port);
    } else {
        compile_put_local(compile, &local);
    }
}

static void
random_self(struct rng *rng, struct compile *compile)
{
    struct compile_self self = {
        .tunnel_ofport = (uint32_t)rng_below(rng, 3),
        .underlay_mtu = rng_chance(rng, 1, 3) ? 0 : 1500,
    };
    snprintf(self.host, sizeof self.host, "%s",
             net_rows_host(rng_chance(rng, 3, 4) ? 0 : 1));
    compile_set_self(compile, &self);
}

static void
random_change(struct rng *rng, struct compile *compile)
{
    enum state_table table = net_rows_table(rng_below(rng, NET_ROWS_TABLES));
    size_t slot = rng_below(rng, NET_ROWS_SLOTS);

    if (rng_chance(rng, 1, 8)) {
        random_local(rng, compile);
    } else if (rng_chance(rng, 1, 60)) {
        random_self(rng, compile);
    } else if (rng_chance(rng, 1, 4)) {
        struct weft_uuid uuid = net_rows_uuid(table, slot);
        compile_delete_row(compile, table, &uuid);
    } else {
        struct state_row *row = net_rows_random(rng, table, slot);
        compile_put_row(compile, row);
        state_row_free(row);
    }
}

/* The same rows into a new compiler, the last tables first. */
static void
compare_with_new(struct compile *compile, const struct flow_store *store)
{
    struct flow_store other_store;
    flow_store_init(&other_store);
    struct compile *other = compile_new(&other_store.sink);
    const struct local_port *local = NULL;

    while ((local = compile_next_local(compile, local)) != NULL) {
        compile_put_local(other, local);
    }
    for (size_t i = NET_ROWS_TABLES; i-- > 0;) {
        const struct state_row *row = NULL;
        enum state_table table = net_rows_table(i);
        while (table != STATE_TABLE_SCOPE_SEQ &&
               (row = compile_next_all(compile, table, row)) != NULL) {
            compile_put_row(other, row);
        }
    }
    compile_set_self(other, compile_self(compile));
    compile_run(other);
    assert_true(flow_store_equal(store, &other_store, true));

    compile_free(other);
    flow_store_done(&other_store);
}

static void
compare_with_oracle(struct compile *compile, const struct flow_store *store)
{
    struct flow_store oracle;
    struct compile_counts counts;
    size_t flows = 0;

    flow_store_init(&oracle);
    compile_oracle(compile, &oracle.sink);
    assert_true(flow_store_equal(store, &oracle, false));
    for (size_t i = 0; i < oracle.count; i++) {
        flows += oracle.units[i].count;
    }
    compile_count(compile, &counts);
    assert_int_equal(counts.flows, flows);
    flow_store_done(&oracle);
}

static void
run_seed(unsigned seed, size_t *total_flows)
{
    struct flow_store store;
    struct rng rng;

    rng_init(&rng, seed);
    flow_store_init(&store);
    struct compile *compile = compile_new(&store.sink);
    struct compile_self self = { .host = "h0", .tunnel_ofport = 1 };
    compile_set_self(compile, &self);

    for (unsigned step = 0; step < STEPS; step++) {
        random_change(&rng, compile);
        if (!rng_chance(&rng, 1, 3)) {
            continue;
        }
        compile_run(compile);
        assert_false(compile_is_dirty(compile));
        compare_with_oracle(compile, &store);
        if (rng_chance(&rng, 1, 20)) {
            compare_with_new(compile, &store);
        }
    }

    struct compile_counts counts;
    compile_count(compile, &counts);
    *total_flows += counts.flows;

    /* Nothing is left when all is gone. */
    for (size_t i = 0; i < NET_ROWS_TABLES; i++) {
        for (size_t slot = 0; slot < NET_ROWS_SLOTS; slot++) {
            struct weft_uuid uuid = net_rows_uuid(net_rows_table(i), slot);
            compile_delete_row(compile, net_rows_table(i), &uuid);
            compile_delete_local(compile, &uuid);
        }
    }
    compile_run(compile);
    compare_with_oracle(compile, &store);
    compile_count(compile, &counts);
    assert_int_equal(counts.rows, 0);
    assert_int_equal(counts.locals, 0);

    compile_free(compile);
    flow_store_done(&store);
}

static void
test_incremental_is_full(void **state)
{
    (void)state;
    size_t flows = 0;
    /* Rows that no database would take make flows that contradict. */
    int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(null_fd >= 0);
    log_set_fd(null_fd);

    for (unsigned i = 0; i < seed_count; i++) {
        run_seed(first_seed + i, &flows);
    }
    log_set_fd(STDERR_FILENO);
    close(null_fd);
    /* Or nothing was compared. */
    assert_true(flows > seed_count * 50);
}

/* ---- Cost ---- */

static struct weft_uuid
uuid_of(enum state_table table, uint64_t number)
{
    struct weft_uuid uuid;
    uint64_t mixed =
        ((uint64_t)table << 32 | (number + 1)) * UINT64_C(0x9e3779b97f4a7c15);
    uuid_make_random(mixed, mixed * 7, &uuid);
    return uuid;
}

static void
put(struct compile *compile, struct state_row *row, enum state_table table,
    uint64_t number)
{
    row->table = table;
    row->uuid = uuid_of(table, number);
    struct state_row *full = state_row_clone(row); /* No NULL strings. */
    compile_put_row(compile, full);
    state_row_free(full);
}

static void
put_port(struct compile *compile, uint32_t number, bool is_bound)
{
    char mac[18], ip[16];
    snprintf(mac, sizeof mac, "02:00:00:%02x:%02x:%02x", number >> 16 & 0xff,
             number >> 8 & 0xff, number & 0xff);
    snprintf(ip, sizeof ip, "10.%u.%u.%u", number >> 16 & 0xff,
             number >> 8 & 0xff, number & 0xff);

    struct state_port port = {
        .network = uuid_of(STATE_TABLE_NETWORK, 0),
        .mac = mac,
        .identity = uuid_of(STATE_TABLE_IDENTITY, 0),
        .enabled = true,
        .name = "port",
        .host = is_bound ? "h1" : "",
    };
    struct state_address address = {
        .network = port.network,
        .subnet = uuid_of(STATE_TABLE_SUBNET, 0),
        .ip = ip,
        .port = uuid_of(STATE_TABLE_PORT, number),
    };
    struct state_mac owner = { .network = port.network,
                               .mac = mac,
                               .owner = address.port };
    put(compile, &port.row, STATE_TABLE_PORT, number);
    put(compile, &address.row, STATE_TABLE_ADDRESS, number);
    put(compile, &owner.row, STATE_TABLE_MAC, number);
    if (is_bound) {
        struct state_binding binding = { .port = address.port,
                                         .network = port.network,
                                         .host = "h1" };
        put(compile, &binding.row, STATE_TABLE_BINDING, number);
    }
}

/* A network with a subnet, a router, a group with rules, and a local port. */
static void
put_network(struct compile *compile)
{
    struct compile_self self = { .host = "h0", .tunnel_ofport = 1 };
    struct state_network network = { .vni = 5, .mtu = 1400 };
    struct state_subnet subnet = { .network = uuid_of(STATE_TABLE_NETWORK, 0),
                                   .cidr = "10.0.0.0/8",
                                   .gateway = "10.255.255.254",
                                   .dhcp = true };
    struct state_router router = { .tag = 3 };
    struct state_router_port router_port = {
        .router = uuid_of(STATE_TABLE_ROUTER, 0),
        .subnet = uuid_of(STATE_TABLE_SUBNET, 0),
        .network = subnet.network,
        .mac = "02:ff:00:00:00:01",
    };
    struct state_network_route route = { .network = subnet.network,
                                         .router = router_port.router };
    struct state_identity identity = { .number = 7 };
    struct state_security_group group = { .tag = 1 };
    struct state_identity_member member = {
        .identity = uuid_of(STATE_TABLE_IDENTITY, 0),
        .group = uuid_of(STATE_TABLE_SECURITY_GROUP, 0),
    };

    compile_set_self(compile, &self);
    put(compile, &network.row, STATE_TABLE_NETWORK, 0);
    put(compile, &subnet.row, STATE_TABLE_SUBNET, 0);
    put(compile, &router.row, STATE_TABLE_ROUTER, 0);
    put(compile, &router_port.row, STATE_TABLE_ROUTER_PORT, 0);
    put(compile, &route.row, STATE_TABLE_NETWORK_ROUTE, 0);
    put(compile, &identity.row, STATE_TABLE_IDENTITY, 0);
    put(compile, &group.row, STATE_TABLE_SECURITY_GROUP, 0);
    put(compile, &member.row, STATE_TABLE_IDENTITY_MEMBER, 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct state_net_host host = { .host = i == 0 ? "h0" : "h1",
                                       .encap_ip =
                                           i == 0 ? "172.16.0.1" : "172.16.0.2",
                                       .enabled = true };
        put(compile, &host.row, STATE_TABLE_NET_HOST, i);
    }
    for (uint32_t i = 0; i < 20; i++) {
        struct state_security_rule rule = {
            .group = member.group,
            .direction = STATE_SECURITY_RULE_DIRECTION_IN,
            .family = STATE_SECURITY_RULE_FAMILY_ANY,
            .protocol = 6,
            .port_first = i,
            .port_last = i,
            .icmp_type = 256,
            .icmp_code = 256,
            .tag = 1 + i,
        };
        put(compile, &rule.row, STATE_TABLE_SECURITY_RULE, i);
    }
}

static void
put_local(struct compile *compile, uint32_t number)
{
    struct local_port local = {
        .port = uuid_of(STATE_TABLE_PORT, number),
        .ofport = 10 + number % 60000,
        .zone = 1024 + number % 60000,
    };
    compile_put_local(compile, &local);
}

static double
now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

/* What one more port costs in a network of 'others' (DESIGN 4.1, N10). */
static uint64_t
one_more(uint32_t others, bool is_bound, bool is_local)
{
    struct flow_store store;
    struct compile_counts before, after;

    flow_store_init(&store);
    struct compile *compile = compile_new(&store.sink);
    size_t heap = mallinfo2().uordblks;
    double start = now_us();
    put_network(compile);
    for (uint32_t i = 0; i < others; i++) {
        put_port(compile, i, is_bound);
    }
    put_local(compile, 0);
    compile_run(compile);
    double filled = now_us();
    compile_count(compile, &before);

    put_port(compile, others, is_bound);
    if (is_local) {
        put_local(compile, others);
    }
    double put_time = now_us();
    compile_run(compile);
    double done = now_us();
    compile_count(compile, &after);
    assert_int_equal(after.conflicts, 0);
    print_message("# %u %s ports: %.1f ms to fill, %zu units, %zu flows, %zu "
                  "dependencies, %.1f MB; one more: %.0f us to put, %.0f us to "
                  "run, %u emissions\n",
                  others, is_bound ? "bound" : "unplugged",
                  (filled - start) / 1e3, before.units, before.flows,
                  before.dependencies,
                  (double)(mallinfo2().uordblks - heap) / 1e6,
                  put_time - filled, done - put_time,
                  (unsigned)(after.emissions - before.emissions));

    compile_free(compile);
    flow_store_done(&store);
    return after.emissions - before.emissions;
}

static void
test_one_more_port(void **state)
{
    (void)state;
    uint64_t few = one_more(20, true, false);
    assert_true(few < 30);
    assert_int_equal(one_more(2000, true, false), few);

    few = one_more(20, true, true);
    assert_true(few < 30);
    assert_int_equal(one_more(2000, true, true), few);

    few = one_more(20, false, false);
    assert_true(few < 30);
    assert_int_equal(one_more(10000, false, false), few);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_incremental_is_full),
        cmocka_unit_test(test_one_more_port),
    };

    if (argc > 1) {
        seed_count = (unsigned)strtoul(argv[1], NULL, 10);
    }
    if (argc > 2) {
        first_seed = (unsigned)strtoul(argv[2], NULL, 10);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
