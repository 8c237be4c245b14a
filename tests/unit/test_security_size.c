/* SPDX-License-Identifier: Apache-2.0 */
/* How many flows security groups make, and how large they become: with rules
 * plus ports, not with their product, and never larger than a message. */

#include "tests/unit/unit.h"

#include "lib/base/rng.h"
#include "netd/compile/model.h"
#include "netd/compile/security.h"
#include "tests/support/flow_store.h"

#define ZONE 2000u

extern const struct emitter emitter_security_base;
extern const struct emitter emitter_security_out;
extern const struct emitter emitter_security_rule;

static const struct emitter *const emitters[] = { &emitter_security_base,
                                                  &emitter_security_out,
                                                  &emitter_security_rule };

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

/* Identities in group 0, 'locals' of them with a local port; and 'rules' of
 * group 0: from group 0, to a port of its own each.  Returns the flows of
 * IN_SG. */
static size_t
count_flows(uint32_t identities, uint32_t locals, uint32_t rules,
            size_t *ret_most_actions)
{
    struct flow_store store;
    flow_store_init(&store);
    struct compile *compile =
        compile_new_with(&store.sink, emitters,
                         sizeof emitters / sizeof emitters[0]);
    struct state_security_group group = { .tag = 1 };
    put(compile, &group.row, STATE_TABLE_SECURITY_GROUP, 0);
    for (uint32_t i = 0; i < identities; i++) {
        struct state_identity identity = { .number = 100 + i };
        struct state_identity_member member = {
            .identity = uuid_of(STATE_TABLE_IDENTITY, i),
            .group = uuid_of(STATE_TABLE_SECURITY_GROUP, 0),
        };
        struct state_port port = { .identity = member.identity };
        struct local_port local = { uuid_of(STATE_TABLE_PORT, i), 1 + i,
                                    ZONE + i };
        put(compile, &identity.row, STATE_TABLE_IDENTITY, i);
        put(compile, &member.row, STATE_TABLE_IDENTITY_MEMBER, i);
        put(compile, &port.row, STATE_TABLE_PORT, i);
        if (i < locals) {
            compile_put_local(compile, &local);
        }
    }
    for (uint32_t i = 0; i < rules; i++) {
        struct state_security_rule rule = {
            .group = uuid_of(STATE_TABLE_SECURITY_GROUP, 0),
            .direction = STATE_SECURITY_RULE_DIRECTION_IN,
            .family = STATE_SECURITY_RULE_FAMILY_IPV4,
            .protocol = IP_PROTO_TCP,
            .port_first = 1 + i,
            .port_last = 1 + i,
            .peer_group = uuid_of(STATE_TABLE_SECURITY_GROUP, 0),
            .tag = 1 + i,
        };
        put(compile, &rule.row, STATE_TABLE_SECURITY_RULE, i);
    }
    compile_run(compile);

    size_t count, in_sg = 0;
    struct flow_spec **flows = flow_store_table(&store, &count);
    *ret_most_actions = 0;
    for (size_t i = 0; i < count; i++) {
        in_sg += flows[i]->table == TABLE_IN_SG;
        if (flows[i]->action_count > *ret_most_actions) {
            *ret_most_actions = flows[i]->action_count;
        }
    }
    flow_store_table_free(flows, count);
    compile_free(compile);
    flow_store_done(&store);
    return in_sg;
}

/* An identity with a local port, in 'groups' groups with 'rules' rules each,
 * with tags by chance as the API hands them out. */
static void
count_flows_of(uint32_t groups, uint32_t rules, size_t *ret_most_actions)
{
    struct flow_store store;
    struct state_identity identity = { .number = 100 };
    struct state_identity other = { .number = 101 };
    struct state_identity_member of_other = {
        .identity = uuid_of(STATE_TABLE_IDENTITY, 1),
        .group = uuid_of(STATE_TABLE_SECURITY_GROUP, 0),
    };
    struct state_port port = { .identity = uuid_of(STATE_TABLE_IDENTITY, 0) };
    struct local_port local = { uuid_of(STATE_TABLE_PORT, 0), 1, ZONE };
    struct rng rng;

    flow_store_init(&store);
    struct compile *compile =
        compile_new_with(&store.sink, emitters,
                         sizeof emitters / sizeof emitters[0]);
    rng_init(&rng, 1);
    put(compile, &identity.row, STATE_TABLE_IDENTITY, 0);
    put(compile, &other.row, STATE_TABLE_IDENTITY, 1);
    put(compile, &of_other.row, STATE_TABLE_IDENTITY_MEMBER, groups);
    put(compile, &port.row, STATE_TABLE_PORT, 0);
    compile_put_local(compile, &local);
    for (uint32_t i = 0; i < groups; i++) {
        struct state_security_group group = { .tag = 1 + i };
        struct state_identity_member member = {
            .identity = port.identity,
            .group = uuid_of(STATE_TABLE_SECURITY_GROUP, i),
        };
        put(compile, &group.row, STATE_TABLE_SECURITY_GROUP, i);
        put(compile, &member.row, STATE_TABLE_IDENTITY_MEMBER, i);
    }
    for (uint32_t i = 0; i < groups * rules; i++) {
        struct state_security_rule rule = {
            .group = uuid_of(STATE_TABLE_SECURITY_GROUP, i % groups),
            .direction = STATE_SECURITY_RULE_DIRECTION_IN,
            .family = STATE_SECURITY_RULE_FAMILY_IPV4,
            .protocol = IP_PROTO_TCP,
            .port_first = 20, /* Several masks: a conjunction. */
            .port_last = 29,
            .peer_group = uuid_of(STATE_TABLE_SECURITY_GROUP, 0),
            .tag = (uint32_t)rng_between(&rng, 1, 0xffffff),
        };
        put(compile, &rule.row, STATE_TABLE_SECURITY_RULE, i);
    }
    compile_run(compile);

    size_t count;
    struct flow_spec **flows = flow_store_table(&store, &count);
    *ret_most_actions = 0;
    for (size_t i = 0; i < count; i++) {
        if (flows[i]->action_count > *ret_most_actions) {
            *ret_most_actions = flows[i]->action_count;
        }
    }
    flow_store_table_free(flows, count);
    compile_free(compile);
    flow_store_done(&store);
}

static void
test_flows_grow_with_the_sum(void **state)
{
    (void)state;
    size_t actions;
    size_t base = count_flows(0, 0, 0, &actions);

    size_t few = count_flows(10, 10, 10, &actions) - base;
    size_t more_identities = count_flows(100, 100, 10, &actions) - base;
    size_t more_rules = count_flows(10, 10, 100, &actions) - base;
    size_t more_both = count_flows(100, 100, 100, &actions) - base;
    print_message("# flows of 10 identities, 10 rules: %zu; 100, 10: %zu; "
                  "10, 100: %zu; 100, 100: %zu\n",
                  few, more_identities, more_rules, more_both);
    /* Two flows per rule, two per identity and priority, and one of later
     * fragments per priority. */
    assert_true(more_rules <= 2 * 100 + 21 * SECURITY_SPREAD);
    assert_true(more_both <= 2 * 100 + 201 * SECURITY_SPREAD);
    assert_int_equal(more_both - more_identities, 2 * 90);

    /* Identities that are not of this host cost nothing but as peers. */
    assert_int_equal(count_flows(10, 0, 100, &actions), base);

    /* 16 bytes each: far below the 64 KiB of a message. */
    count_flows(3, 3, 10000, &actions);
    print_message("# most actions with 10,000 rules: %zu\n", actions);
    assert_true(actions * 16 < 32768);
}

/* The most that the API takes: 16 groups of 20,000 rules on one port (tried
 * with one of them); and as many groups just below where they count as large.
 * Every flow fits a message (65,535 bytes), also what all rules share. */
static void
test_rules_at_the_limit(void **state)
{
    (void)state;
    size_t actions;

    count_flows_of(1, 20000, &actions);
    print_message("# most actions with a group of 20,000: %zu\n", actions);
    assert_true(16 * actions * 16 < 60000);
    count_flows_of(16, MODEL_MANY, &actions);
    print_message("# most actions with 16 groups of %u: %zu\n", MODEL_MANY,
                  actions);
    assert_true(actions * 16 < 60000);
}

/* Rules of two projects never meet in one flow. */
static void
test_projects_apart(void **state)
{
    (void)state;
    static const char *const projects[] = { "blue", "red" };
    struct flow_store store;
    bool is_used[SECURITY_BLOCKS] = { false };
    size_t used = 0;

    flow_store_init(&store);
    struct compile *compile =
        compile_new_with(&store.sink, emitters,
                         sizeof emitters / sizeof emitters[0]);
    for (uint32_t i = 0; i < 4; i++) { /* Two ports of each. */
        struct state_identity identity = { .number = 100 + i };
        struct state_security_group group = { .project = projects[i % 2] };
        struct state_identity_member member = {
            .identity = uuid_of(STATE_TABLE_IDENTITY, i),
            .group = uuid_of(STATE_TABLE_SECURITY_GROUP, i % 2),
        };
        struct state_port port = { .identity = member.identity };
        struct local_port local = { uuid_of(STATE_TABLE_PORT, i), 1 + i,
                                    ZONE + i };
        put(compile, &identity.row, STATE_TABLE_IDENTITY, i);
        put(compile, &group.row, STATE_TABLE_SECURITY_GROUP, i % 2);
        put(compile, &member.row, STATE_TABLE_IDENTITY_MEMBER, i);
        put(compile, &port.row, STATE_TABLE_PORT, i);
        compile_put_local(compile, &local);
    }
    for (uint32_t i = 0; i < 40; i++) {
        struct state_security_rule rule = {
            .group = uuid_of(STATE_TABLE_SECURITY_GROUP, i % 2),
            .direction = STATE_SECURITY_RULE_DIRECTION_IN,
            .family = STATE_SECURITY_RULE_FAMILY_IPV4,
            .protocol = IP_PROTO_TCP,
            .port_first = 20,
            .port_last = 29,
            .peer_group = uuid_of(STATE_TABLE_SECURITY_GROUP, i % 2),
            .tag = 1 + i,
        };
        put(compile, &rule.row, STATE_TABLE_SECURITY_RULE, i);
    }
    compile_run(compile);

    size_t count;
    struct flow_spec **flows = flow_store_table(&store, &count);
    for (size_t i = 0; i < count; i++) {
        if (flow_spec_is_conjunctive(flows[i])) {
            uint32_t block =
                (flows[i]->priority - SECURITY_PRIORITY_CONJUNCTION) /
                (SECURITY_SPREAD + SECURITY_SPREAD_MANY);
            assert_true(block < SECURITY_BLOCKS);
            used += !is_used[block];
            is_used[block] = true;
        }
    }
    assert_int_equal(used, 2);
    flow_store_table_free(flows, count);
    compile_free(compile);
    flow_store_done(&store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flows_grow_with_the_sum),
        cmocka_unit_test(test_rules_at_the_limit),
        cmocka_unit_test(test_projects_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
