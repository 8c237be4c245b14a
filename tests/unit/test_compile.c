/* SPDX-License-Identifier: Apache-2.0 */

/* The engine of netd/compile with emitters of its own: what they read is up to
 * chance (though always the same for the same subject), and what they emit
 * depends on every bit of it.  So each kind of look-up must leave the right
 * dependency (invariants (1) to (4) of compile.h). */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/state/row_class.h"
#include "netd/compile/emit.h"
#include "netd/compile/model.h"
#include "netd/compile/security.h"
#include "tests/support/flow_store.h"
#include "tests/support/net_rows.h"

/* ---- Emitters that read by chance ---- */

static uint64_t
mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15) ^ hash >> 29;
}

/* Of all but sets, which cannot be hashed. */
static uint64_t
scalar_columns(enum state_table table)
{
    const struct state_class *class = state_class_of(table);
    uint64_t columns = 0;
    for (size_t i = 0; i < class->column_count; i++) {
        if (class->columns[i].shape == STATE_SHAPE_SCALAR) {
            columns |= UINT64_C(1) << i;
        }
    }
    return columns;
}

static uint64_t
mix_row(uint64_t hash, const struct state_row *row)
{
    return row == NULL ? mix(hash, 1)
                       : mix(mix(hash, state_uuid_hash(&row->uuid)),
                             state_row_hash(row, scalar_columns(row->table)));
}

static uint64_t
mix_local(uint64_t hash, const struct local_port *local)
{
    return local == NULL ? mix(hash, 2)
                         : mix(mix(hash, state_uuid_hash(&local->port)),
                               (uint64_t)local->ofport << 32 | local->zone);
}

static const struct {
    enum state_table table;
    uint64_t column;
    enum state_table of;
} indexes[] = {
    { STATE_TABLE_SUBNET, STATE_SUBNET_COL_NETWORK, STATE_TABLE_NETWORK },
    { STATE_TABLE_PORT, STATE_PORT_COL_NETWORK, STATE_TABLE_NETWORK },
    { STATE_TABLE_PORT, STATE_PORT_COL_IDENTITY, STATE_TABLE_IDENTITY },
    { STATE_TABLE_ADDRESS, STATE_ADDRESS_COL_PORT, STATE_TABLE_PORT },
    { STATE_TABLE_ADDRESS, STATE_ADDRESS_COL_NETWORK, STATE_TABLE_NETWORK },
    { STATE_TABLE_BINDING, STATE_BINDING_COL_PORT, STATE_TABLE_PORT },
    { STATE_TABLE_ROUTER_PORT, STATE_ROUTER_PORT_COL_ROUTER,
      STATE_TABLE_ROUTER },
    { STATE_TABLE_SECURITY_RULE, STATE_SECURITY_RULE_COL_PEER_GROUP,
      STATE_TABLE_SECURITY_GROUP },
};

/* Up to 'most' rows of an index: a reader may stop early. */
static uint64_t
read_index(struct emit *emit, struct rng *rng, uint64_t hash)
{
    size_t i = rng_below(rng, sizeof indexes / sizeof indexes[0]);
    struct weft_uuid value =
        net_rows_uuid(indexes[i].of, rng_below(rng, NET_ROWS_SLOTS));
    uint64_t most = rng_below(rng, 4);
    const struct state_row *row = NULL;

    while ((row = emit_next(emit, indexes[i].table, indexes[i].column, &value,
                            row)) != NULL &&
           most-- > 0) {
        hash = mix_row(hash, row);
    }
    return mix_row(hash, row);
}

static uint64_t
read_all(struct emit *emit, struct rng *rng, uint64_t hash)
{
    enum state_table table = net_rows_table(rng_below(rng, 5));
    const struct state_row *row = NULL;

    while ((row = emit_next_all(emit, table, row)) != NULL) {
        hash = mix_row(hash, row);
    }
    return hash;
}

static uint64_t
read_locals(struct emit *emit, struct rng *rng, uint64_t hash)
{
    const struct local_port *local = NULL;
    size_t slot = rng_below(rng, NET_ROWS_SLOTS);
    struct weft_uuid network = net_rows_uuid(STATE_TABLE_NETWORK, slot);
    struct weft_uuid identity = net_rows_uuid(STATE_TABLE_IDENTITY, slot);

    if (rng_chance(rng, 1, 2)) {
        while ((local = emit_next_local_of_network(emit, &network, local)) !=
               NULL) {
            hash = mix_local(hash, local);
        }
    } else {
        while ((local = emit_next_local_of_identity(emit, &identity, local)) !=
               NULL) {
            hash = mix_local(hash, local);
        }
    }
    return hash;
}

static uint64_t
read_any(struct emit *emit, struct rng *rng, uint64_t hash)
{
    size_t slot = rng_below(rng, NET_ROWS_SLOTS);
    struct weft_uuid identity = net_rows_uuid(STATE_TABLE_IDENTITY, slot);
    struct weft_uuid group = net_rows_uuid(STATE_TABLE_SECURITY_GROUP, slot);

    switch (rng_below(rng, 5)) {
    case 4:
        return mix(hash, emit_has_many_rules(emit, &group));
    case 0:
        return mix(hash, emit_has_local_of_identity(emit, &identity));
    case 1:
        return mix(hash, emit_has_out_rule(emit, &group));
    case 2:
        return mix(hash, emit_has_out_rule_to_group(emit));
    default:
        return mix(hash, emit_has_flood_network(emit));
    }
}

static uint64_t
read_something(struct emit *emit, struct rng *rng, uint64_t hash)
{
    static const char *const ips[] = { "10.0.0.1", "10.0.0.2", "fd00::1" };
    enum state_table table =
        net_rows_table(rng_below(rng, NET_ROWS_TABLES - 1));
    struct weft_uuid uuid =
        net_rows_uuid(table, rng_below(rng, NET_ROWS_SLOTS));
    struct weft_uuid port =
        net_rows_uuid(STATE_TABLE_PORT, rng_below(rng, NET_ROWS_SLOTS));
    struct weft_uuid network =
        net_rows_uuid(STATE_TABLE_NETWORK, rng_below(rng, 3));

    switch (rng_below(rng, 9)) {
    case 0:
    case 1:
        return mix_row(hash, emit_row(emit, table, &uuid));
    case 2:
        return read_index(emit, rng, hash);
    case 3:
        return read_all(emit, rng, hash);
    case 4:
        return mix_local(hash, emit_local(emit, &port));
    case 5:
        return read_locals(emit, rng, hash);
    case 6:
        return read_any(emit, rng, hash);
    case 7: {
        const struct state_net_host *host =
            emit_host(emit, net_rows_host(rng_below(rng, NET_ROWS_HOSTS)));
        return mix_row(hash, host == NULL ? NULL : &host->row);
    }
    default: {
        const struct state_address *address =
            emit_find_address(emit, &network, ips[rng_below(rng, 3)]);
        if (address == NULL && rng_chance(rng, 1, 4)) {
            hash = mix(hash, emit_self(emit)->underlay_mtu);
        }
        return mix_row(hash, address == NULL ? NULL : &address->row);
    }
    }
}

static void
read_and_emit(struct emit *emit, uint64_t seed, uint8_t table)
{
    struct flow_builder b;
    struct rng rng;
    uint64_t hash = seed;

    rng_init(&rng, seed);
    for (uint64_t i = rng_below(&rng, 4); i-- > 0;) {
        hash = read_something(emit, &rng, hash);
    }
    if (hash % 5 == 0) {
        return; /* None at all, now and then. */
    }
    flow_begin(&b, table, 1);
    flow_match_u64(&b, FIELD_METADATA, seed);
    flow_set_u32(&b, FIELD_REG0, (uint32_t)hash);
    emit_flow(emit, &b);
}

static void
emit_chance(struct emit *emit, const struct state_row *row)
{
    read_and_emit(emit, state_uuid_hash(&row->uuid), 1);
}

/* Just of itself. */
static void
emit_own(struct emit *emit, const struct state_row *row)
{
    struct flow_builder b;
    flow_begin(&b, 2, 1);
    flow_match_u64(&b, FIELD_METADATA, mix_row(0, row));
    emit_flow(emit, &b);
}

static void
emit_chance_local(struct emit *emit, const struct local_port *local)
{
    struct flow_builder b;
    read_and_emit(emit, state_uuid_hash(&local->port) + 1, 3);
    flow_begin(&b, 4, 1);
    flow_match_u64(&b, FIELD_METADATA, mix_local(0, local));
    emit_flow(emit, &b);
}

static void
emit_chance_base(struct emit *emit)
{
    struct flow_builder b;
    read_and_emit(emit, 77, 5);
    flow_begin(&b, 6, 1);
    flow_match_u32(&b, FIELD_IN_PORT, emit_self(emit)->tunnel_ofport);
    emit_flow(emit, &b);
}

static const struct emitter chance_port = {
    "port", EMIT_ROWS, STATE_TABLE_PORT, emit_chance, NULL, NULL
};
static const struct emitter chance_rule = {
    "rule", EMIT_ROWS, STATE_TABLE_SECURITY_RULE, emit_chance, NULL, NULL
};
static const struct emitter chance_network = {
    "network", EMIT_ROWS, STATE_TABLE_NETWORK, emit_chance, NULL, NULL
};
static const struct emitter chance_own = {
    "own", EMIT_ROWS, STATE_TABLE_PORT, emit_own, NULL, NULL
};
static const struct emitter chance_local = { .name = "local",
                                             .scope = EMIT_LOCAL,
                                             .emit_local = emit_chance_local };
static const struct emitter chance_base = { .name = "base",
                                            .scope = EMIT_BASE,
                                            .emit_base = emit_chance_base };
static const struct emitter *const chance[] = { &chance_port,    &chance_rule,
                                                &chance_network, &chance_own,
                                                &chance_local,   &chance_base };

static void
random_change(struct rng *rng, struct compile *compile)
{
    enum state_table table = net_rows_table(rng_below(rng, NET_ROWS_TABLES));
    size_t slot = rng_below(rng, NET_ROWS_SLOTS);
    struct local_port local = {
        .port = net_rows_uuid(STATE_TABLE_PORT, slot),
        .ofport = (uint32_t)rng_below(rng, 3),
        .zone = 2000,
    };
    struct compile_self self = { .host = "h0",
                                 .tunnel_ofport = (uint32_t)rng_below(rng, 3),
                                 .underlay_mtu =
                                     1400 + (uint32_t)rng_below(rng, 2) };

    if (rng_chance(rng, 1, 6)) {
        if (rng_chance(rng, 1, 2)) {
            compile_delete_local(compile, &local.port);
        } else {
            compile_put_local(compile, &local);
        }
    } else if (rng_chance(rng, 1, 40)) {
        compile_set_self(compile, &self);
    } else if (rng_chance(rng, 1, 3)) {
        struct weft_uuid uuid = net_rows_uuid(table, slot);
        compile_delete_row(compile, table, &uuid);
    } else {
        struct state_row *row = net_rows_random(rng, table, slot);
        compile_put_row(compile, row);
        state_row_free(row);
    }
}

static void
test_any_reader(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct flow_store store, oracle;
        struct rng rng;

        rng_init(&rng, seed);
        flow_store_init(&store);
        flow_store_init(&oracle);
        struct compile *compile =
            compile_new_with(&store.sink, chance,
                             sizeof chance / sizeof chance[0]);
        for (unsigned step = 0; step < 2000; step++) {
            random_change(&rng, compile);
            if (rng_chance(&rng, 1, 2)) {
                compile_run(compile);
                compile_oracle(compile, &oracle.sink);
                assert_true(flow_store_equal(&store, &oracle, false));
                flow_store_done(&oracle);
            }
        }
        compile_free(compile);
        flow_store_done(&store);
    }
}

/* ---- One by one ---- */

struct bed {
    struct flow_store store;
    struct compile *compile;
    struct rng rng;
};

static void
bed_init(struct bed *bed, const struct emitter *const *emitters, size_t count)
{
    rng_init(&bed->rng, 1);
    flow_store_init(&bed->store);
    bed->compile = compile_new_with(&bed->store.sink, emitters, count);
    compile_run(bed->compile);
}

static void
bed_done(struct bed *bed)
{
    compile_free(bed->compile);
    flow_store_done(&bed->store);
}

/* (3): put again unchanged. */
static void
test_same_row_is_no_change(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, chance, sizeof chance / sizeof chance[0]);
    struct state_row *row = net_rows_random(&bed.rng, STATE_TABLE_PORT, 0);
    struct local_port local = { row->uuid, 3, 4 };

    compile_put_row(bed.compile, row);
    compile_put_local(bed.compile, &local);
    assert_true(compile_is_dirty(bed.compile));
    compile_run(bed.compile);
    assert_false(compile_is_dirty(bed.compile));

    compile_put_row(bed.compile, row);
    compile_put_local(bed.compile, &local);
    compile_set_self(bed.compile, compile_self(bed.compile));
    assert_false(compile_is_dirty(bed.compile));

    /* And units whose flows come out as before are not told to the sink. */
    uint64_t calls = bed.store.calls;
    compile_delete_row(bed.compile, STATE_TABLE_PORT, &local.port);
    compile_put_row(bed.compile, row);
    assert_true(compile_is_dirty(bed.compile));
    compile_run(bed.compile);
    assert_int_equal(bed.store.calls, calls);

    state_row_free(row);
    bed_done(&bed);
}

static void
test_unknown_table_is_ignored(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, chance, sizeof chance / sizeof chance[0]);
    struct state_row *row = net_rows_random(&bed.rng, STATE_TABLE_SCOPE_SEQ, 0);
    compile_put_row(bed.compile, row);
    compile_delete_row(bed.compile, STATE_TABLE_SCOPE_SEQ, &row->uuid);
    assert_false(compile_is_dirty(bed.compile));
    state_row_free(row);
    bed_done(&bed);
}

/* Lists come in the order of UUIDs, whatever the order of arrival. */
static void
test_order(void **state)
{
    (void)state;
    struct bed bed;
    struct compile_counts counts;
    bed_init(&bed, chance, sizeof chance / sizeof chance[0]);
    struct weft_uuid network = net_rows_uuid(STATE_TABLE_NETWORK, 3);

    for (size_t i = 0; i < 400; i++) {
        struct state_row *row =
            net_rows_random(&bed.rng, STATE_TABLE_SUBNET,
                            rng_below(&bed.rng, NET_ROWS_SLOTS));
        struct state_subnet subnet = *state_subnet_from(row);
        uuid_make_random(rng_u64(&bed.rng), rng_u64(&bed.rng),
                         &subnet.row.uuid);
        subnet.network = network;
        compile_put_row(bed.compile, &subnet.row);
        state_row_free(row);
    }

    size_t seen = 0;
    const struct state_row *row = NULL, *last = NULL;
    while ((row = compile_next(bed.compile, STATE_TABLE_SUBNET,
                               STATE_SUBNET_COL_NETWORK, &network, row)) !=
           NULL) {
        assert_true(last == NULL || uuid_compare(&last->uuid, &row->uuid) < 0);
        last = row;
        seen++;
    }
    assert_int_equal(seen, 400);
    compile_count(bed.compile, &counts);
    assert_int_equal(counts.rows, 400);
    seen = 0;
    row = NULL;
    while ((row = compile_next_all(bed.compile, STATE_TABLE_SUBNET, row)) !=
           NULL) {
        seen++;
    }
    assert_int_equal(seen, 400);
    bed_done(&bed);
}

static void
test_find_address(void **state)
{
    (void)state;
    struct bed bed;
    bed_init(&bed, chance, sizeof chance / sizeof chance[0]);
    struct weft_uuid network = net_rows_uuid(STATE_TABLE_NETWORK, 0);
    struct state_row *row = NULL;
    const struct state_address *address;

    do {
        state_row_free(row);
        row = net_rows_random(&bed.rng, STATE_TABLE_ADDRESS, 0);
        address = state_address_from(row);
    } while (!uuid_equal(&address->network, &network));
    assert_null(compile_find_address(bed.compile, &network, address->ip));
    compile_put_row(bed.compile, row);
    assert_non_null(compile_find_address(bed.compile, &network, address->ip));
    assert_null(compile_find_address(bed.compile, &row->uuid, address->ip));
    assert_null(compile_find_address(bed.compile, &network, "1.2.3.4"));
    compile_delete_row(bed.compile, STATE_TABLE_ADDRESS, &row->uuid);
    assert_null(compile_find_address(bed.compile, &network, address->ip));
    state_row_free(row);
    bed_done(&bed);
}

/* ---- emit_flow() ---- */

static uint32_t variant;

static void
emit_variant(struct emit *emit)
{
    struct flow_builder b;
    (void)emit_self(emit);

    for (uint32_t i = 0; i < 2; i++) {
        flow_begin(&b, 0, 5);
        flow_match_u32(&b, FIELD_REG1, 1);
        if (variant == 0) {
            flow_set_u32(&b, FIELD_REG0, 9); /* The same twice. */
        } else if (variant == 1) {
            flow_conjunction(&b, 7 - i, 0, 2); /* To be merged. */
        } else {
            flow_set_u32(&b, FIELD_REG0, i); /* A contradiction. */
        }
        emit_flow(emit, &b);
    }
}

static const struct emitter variant_emitter = { .name = "variant",
                                                .scope = EMIT_BASE,
                                                .emit_base = emit_variant };
static const struct emitter *const variants[] = { &variant_emitter };

static void
test_flows_of_one_key(void **state)
{
    (void)state;
    struct bed bed;
    struct compile_counts counts;
    const size_t actions[] = { 1, 2 };

    for (variant = 0; variant < 2; variant++) {
        bed_init(&bed, variants, 1);
        assert_int_equal(bed.store.count, 1);
        assert_int_equal(bed.store.units[0].count, 1);
        assert_int_equal(bed.store.units[0].flows[0]->action_count,
                         actions[variant]);
        compile_count(bed.compile, &counts);
        assert_int_equal(counts.conflicts, 0);
        bed_done(&bed);
    }
}

/* ---- emit_has_...() ---- */

/* REG_DST_IDENTITY is wanted exactly while some rule needs it (N4). */
static bool answer;

static void
emit_question(struct emit *emit)
{
    answer = security_wants_dst_identity(emit);
}

static const struct emitter emitter_question = { .name = "question",
                                                 .scope = EMIT_BASE,
                                                 .emit_base = emit_question };

static void
put_rule(struct compile *compile, struct state_security_rule *rule, size_t slot)
{
    rule->row.table = STATE_TABLE_SECURITY_RULE;
    rule->row.uuid = net_rows_uuid(STATE_TABLE_SECURITY_RULE, slot);
    struct state_row *full = state_row_clone(&rule->row); /* No NULL strings. */
    compile_put_row(compile, full);
    state_row_free(full);
}

static void
test_wants_dst_identity(void **state)
{
    (void)state;
    static const struct emitter *const list[] = { &emitter_question };
    struct flow_store store;
    struct compile_counts counts;
    struct state_security_rule rule = {
        .direction = STATE_SECURITY_RULE_DIRECTION_OUT,
        .tag = 1,
    };

    flow_store_init(&store);
    struct compile *compile = compile_new_with(&store.sink, list, 1);
    compile_run(compile);
    assert_false(answer);
    put_rule(compile, &rule, 0);
    assert_false(compile_is_dirty(compile));
    rule.peer_group = net_rows_uuid(STATE_TABLE_SECURITY_GROUP, 0);
    put_rule(compile, &rule, 0);
    compile_run(compile);
    assert_true(answer);
    put_rule(compile, &rule, 1);
    assert_false(compile_is_dirty(compile)); /* One more: no news. */
    rule.direction = STATE_SECURITY_RULE_DIRECTION_IN;
    put_rule(compile, &rule, 0);
    assert_false(compile_is_dirty(compile));
    put_rule(compile, &rule, 1);
    compile_run(compile);
    assert_false(answer);
    compile_count(compile, &counts);
    assert_int_equal(counts.emissions, 3);
    compile_free(compile);
    flow_store_done(&store);
}

/* ---- Facts about how many ---- */

static bool has_many;

static void
emit_how_many(struct emit *emit)
{
    struct weft_uuid group = net_rows_uuid(STATE_TABLE_SECURITY_GROUP, 0);

    has_many = emit_has_many_rules(emit, &group);
}

static const struct emitter emitter_how_many = { .name = "how-many",
                                                 .scope = EMIT_BASE,
                                                 .emit_base = emit_how_many };

static void
test_many(void **state)
{
    (void)state;
    static const struct emitter *const list[] = { &emitter_how_many };
    struct flow_store store;
    struct compile_counts counts;
    struct state_security_rule rule = {
        .group = net_rows_uuid(STATE_TABLE_SECURITY_GROUP, 0),
    };
    struct weft_uuid last;

    flow_store_init(&store);
    struct compile *compile = compile_new_with(&store.sink, list, 1);
    for (uint32_t i = 0; i < MODEL_MANY + 2; i++) {
        compile_run(compile);
        assert_int_equal(has_many, i > MODEL_MANY);
        rule.tag = 1 + i;
        put_rule(compile, &rule, i);
    }
    for (uint32_t i = 0; i < 2; i++) {
        last = net_rows_uuid(STATE_TABLE_SECURITY_RULE, i);
        compile_delete_row(compile, STATE_TABLE_SECURITY_RULE, &last);
        compile_run(compile);
    }
    assert_false(has_many);
    compile_count(compile, &counts);
    assert_int_equal(counts.emissions, 3);
    compile_free(compile);
    flow_store_done(&store);
}

/* A number that a flow would cut off is that of no network and no identity. */
static void
test_numbers_out_of_range(void **state)
{
    (void)state;
    static const uint32_t bad[] = { 0, 0x1000000, UINT32_MAX };
    struct flow_store store;

    flow_store_init(&store);
    struct compile *compile = compile_new(&store.sink);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct state_network network = { .vni = bad[i], .mtu = 1442 };
        struct state_identity identity = { .number = bad[i] };
        struct state_security_rule rule = { .tag = bad[i] };
        struct state_router router = { .tag = bad[i] };
        struct state_row *rows[] = { &network.row, &identity.row, &rule.row,
                                     &router.row };
        const enum state_table tables[] = { STATE_TABLE_NETWORK,
                                            STATE_TABLE_IDENTITY,
                                            STATE_TABLE_SECURITY_RULE,
                                            STATE_TABLE_ROUTER };
        for (size_t j = 0; j < 4; j++) {
            rows[j]->table = tables[j];
            rows[j]->uuid = net_rows_uuid(tables[j], 0);
            struct state_row *full = state_row_clone(rows[j]);
            compile_put_row(compile, full);
            assert_null(compile_row(compile, tables[j], &full->uuid));
            state_row_free(full);
        }
    }

    /* One that was good, and is replaced by one that is not. */
    struct state_identity identity = { .number = IDENTITY_FIRST };
    identity.row.table = STATE_TABLE_IDENTITY;
    identity.row.uuid = net_rows_uuid(STATE_TABLE_IDENTITY, 0);
    for (uint32_t number = IDENTITY_FIRST; number >= IDENTITY_ROUTER;
         number--) {
        identity.number = number;
        struct state_row *full = state_row_clone(&identity.row);
        compile_put_row(compile, full);
        assert_int_equal(compile_row(compile, STATE_TABLE_IDENTITY,
                                     &full->uuid) != NULL,
                         number >= IDENTITY_FIRST);
        state_row_free(full);
    }
    compile_free(compile);
    flow_store_done(&store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_reader),
        cmocka_unit_test(test_same_row_is_no_change),
        cmocka_unit_test(test_unknown_table_is_ignored),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_find_address),
        cmocka_unit_test(test_flows_of_one_key),
        cmocka_unit_test(test_wants_dst_identity),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_numbers_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
