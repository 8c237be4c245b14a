/* SPDX-License-Identifier: Apache-2.0 */

/* Security groups: what the flows of random rules do with random packets,
 * against a direct reading of the rules (N3 to N6); and connections whose rules
 * change under way.
 *
 * Only the security emitters run here, with ends in place of the tables that
 * come after theirs.
 *
 *     test_compile_security [SEEDS [FIRST_SEED]] */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/rng.h"
#include "netd/compile/security.h"
#include "tests/support/flow_eval.h"
#include "tests/support/flow_store.h"

#define GROUPS 4u
#define IDENTITIES 6u
#define RULES 12u
#define LOCALS 4u /* Identities 0 .. 3 have a local port. */
#define ZONE 2000u

#define OUT_PORT 98u
#define IN_PORT 99u
#define FLOOD_PORT 97u

static unsigned seed_count = 150;
static unsigned first_seed = 1;

extern const struct emitter emitter_security_base;
extern const struct emitter emitter_security_out;
extern const struct emitter emitter_security_rule;

static void
emit_ends(struct emit *emit)
{
    static const struct {
        uint8_t table;
        uint32_t port;
    } ends[] = { { TABLE_SNAT, OUT_PORT },
                 { TABLE_UN_LB, IN_PORT },
                 { TABLE_FLOOD_OUT, FLOOD_PORT } };
    struct flow_builder b;

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        flow_begin(&b, ends[i].table, 0);
        flow_output(&b, ends[i].port);
        emit_flow(emit, &b);
    }
}

static const struct emitter emitter_ends = { .name = "ends",
                                             .scope = EMIT_BASE,
                                             .emit_base = emit_ends };
static const struct emitter *const emitters[] = { &emitter_security_base,
                                                  &emitter_security_out,
                                                  &emitter_security_rule,
                                                  &emitter_ends };

/* ---- The world ---- */

struct world {
    struct rng rng;
    struct flow_store store;
    struct compile *compile;
    struct flow_spec **flows;
    size_t flow_count;
    struct eval_switch sw;

    /* What the rows say. */
    bool members[IDENTITIES][GROUPS];
    struct state_security_rule rules[RULES];
    bool has_rule[RULES];
};

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

static uint32_t
identity_number(size_t identity)
{
    return 100 + (uint32_t)identity;
}

static void
put_identity(struct world *world, size_t number)
{
    char combination[GROUPS * UUID_TEXT_SIZE + 1] = "";
    size_t used = 0;

    for (size_t group = 0; group < GROUPS; group++) {
        if (!world->members[number][group]) {
            continue;
        }
        char text[UUID_TEXT_SIZE];
        struct weft_uuid uuid = uuid_of(STATE_TABLE_SECURITY_GROUP, group);
        struct state_identity_member member = {
            .identity = uuid_of(STATE_TABLE_IDENTITY, number), .group = uuid
        };
        put(world->compile, &member.row, STATE_TABLE_IDENTITY_MEMBER,
            number * GROUPS + group);
        uuid_format(&uuid, text);
        used += (size_t)snprintf(combination + used, sizeof combination - used,
                                 "%s%s", used == 0 ? "" : ",", text);
    }
    struct state_identity identity = { .number = identity_number(number),
                                       .combination = combination };
    put(world->compile, &identity.row, STATE_TABLE_IDENTITY, number);
}

static void
put_local(struct world *world, size_t number)
{
    struct state_port port = {
        .network = uuid_of(STATE_TABLE_NETWORK, 0),
        .identity = uuid_of(STATE_TABLE_IDENTITY, number),
        .enabled = true,
    };
    struct local_port local = { .port = uuid_of(STATE_TABLE_PORT, number),
                                .ofport = 1 + (uint32_t)number,
                                .zone = ZONE + (uint32_t)number };
    put(world->compile, &port.row, STATE_TABLE_PORT, number);
    compile_put_local(world->compile, &local);
}

#define PICK(rng, array) \
    ((array)[rng_below((rng), sizeof(array) / sizeof((array)[0]))])

static struct state_security_rule
random_rule(struct rng *rng, size_t number)
{
    static const uint32_t protocols[] = { 256, 6, 6, 17, 17, 1, 58, 132, 47 };
    static const char *const cidrs[] = { "0.0.0.0/0",   "10.0.0.0/30",
                                         "10.0.0.1/32", "10.0.0.0/8",
                                         "fd00::/127",  "::/0",
                                         "10.0.0.1/8",  "rubbish" };
    static const uint32_t firsts[] = { 0, 1, 22, 80, 1000 };
    static const uint32_t widths[] = { 0, 0, 3, 100, 65535 };
    uint32_t first = PICK(rng, firsts);
    uint32_t last = first + PICK(rng, widths);
    struct state_security_rule rule = {
        .group = uuid_of(STATE_TABLE_SECURITY_GROUP, rng_below(rng, GROUPS)),
        .direction =
            rng_chance(rng, 1, 30)  ? STATE_SECURITY_RULE_DIRECTION_UNKNOWN
            : rng_chance(rng, 2, 3) ? STATE_SECURITY_RULE_DIRECTION_IN
                                    : STATE_SECURITY_RULE_DIRECTION_OUT,
        .family = (enum state_security_rule_family)rng_below(rng, 4),
        .protocol = PICK(rng, protocols),
        .port_first = rng_chance(rng, 1, 20) ? 70000 : first,
        .port_last = last > 65535 ? 65535 : last,
        .icmp_type = rng_chance(rng, 1, 2) ? 256 : 8,
        .icmp_code = rng_chance(rng, 2, 3) ? 256 : (uint32_t)rng_below(rng, 2),
        .cidr = "",
        .tag = 1 + (uint32_t)number,
    };
    if (rng_chance(rng, 1, 2)) {
        rule.peer_group =
            uuid_of(STATE_TABLE_SECURITY_GROUP, rng_below(rng, GROUPS));
    } else if (rng_chance(rng, 2, 3)) {
        rule.cidr = PICK(rng, cidrs);
    }
    return rule;
}

static void
change_rule(struct world *world)
{
    size_t number = rng_below(&world->rng, RULES);
    struct weft_uuid uuid = uuid_of(STATE_TABLE_SECURITY_RULE, number);

    if (world->has_rule[number] && rng_chance(&world->rng, 1, 2)) {
        world->has_rule[number] = false;
        compile_delete_row(world->compile, STATE_TABLE_SECURITY_RULE, &uuid);
        return;
    }
    world->has_rule[number] = true;
    world->rules[number] = random_rule(&world->rng, number);
    put(world->compile, &world->rules[number].row, STATE_TABLE_SECURITY_RULE,
        number);
}

static void
refresh(struct world *world)
{
    struct compile_counts counts;

    compile_run(world->compile);
    compile_count(world->compile, &counts);
    assert_int_equal(counts.conflicts, 0);
    if (world->flows != NULL) {
        flow_store_table_free(world->flows, world->flow_count);
    }
    world->flows = flow_store_table(&world->store, &world->flow_count);
    eval_switch_set_flows(&world->sw, world->flows, world->flow_count);
}

static struct world *
world_new(unsigned seed)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);

    rng_init(&world->rng, seed);
    flow_store_init(&world->store);
    world->compile = compile_new_with(&world->store.sink, emitters,
                                      sizeof emitters / sizeof emitters[0]);
    struct state_network network = { .vni = 5, .flood = true };
    put(world->compile, &network.row, STATE_TABLE_NETWORK, 0);
    for (size_t i = 0; i < GROUPS; i++) {
        struct state_security_group group = { .tag = 1 + (uint32_t)i };
        put(world->compile, &group.row, STATE_TABLE_SECURITY_GROUP, i);
    }
    for (size_t i = 0; i < IDENTITIES; i++) {
        for (size_t group = 0; group < GROUPS; group++) {
            world->members[i][group] = rng_chance(&world->rng, 1, 2);
        }
        put_identity(world, i);
        if (i < LOCALS) {
            put_local(world, i);
        }
    }
    for (uint64_t i = rng_below(&world->rng, 2 * RULES); i-- > 0;) {
        change_rule(world);
    }
    eval_switch_init(&world->sw, NULL, 0);
    refresh(world);
    return world;
}

static void
world_free(struct world *world)
{
    flow_store_table_free(world->flows, world->flow_count);
    compile_free(world->compile);
    flow_store_done(&world->store);
    free(world);
}

/* ---- The rules, read directly ---- */

/* A packet and who it is from or for. */
struct sample {
    struct eval_packet packet;
    bool is_in;
    size_t policy; /* Of the local port; below LOCALS. */
    size_t peer;   /* An identity; IDENTITIES: the world. */
    bool is_later; /* A later fragment: its transport cannot be seen. */
};

static bool
is_in_group(const struct world *world, size_t identity,
            const struct weft_uuid *group)
{
    for (size_t i = 0; i < GROUPS && identity < IDENTITIES; i++) {
        struct weft_uuid uuid = uuid_of(STATE_TABLE_SECURITY_GROUP, i);
        if (world->members[identity][i] && uuid_equal(&uuid, group)) {
            return true;
        }
    }
    return false;
}

static bool
allows_transport(const struct state_security_rule *rule,
                 const struct sample *sample, const struct eval_tuple *tuple)
{
    bool is_icmp = tuple->protocol == IP_PROTO_ICMPV4 ||
                   tuple->protocol == IP_PROTO_ICMPV6;
    bool wants_icmp =
        rule->protocol == IP_PROTO_ICMPV4 || rule->protocol == IP_PROTO_ICMPV6;
    bool has_ports =
        rule->port_first <= rule->port_last && rule->port_last <= 65535;

    if (rule->protocol == 256) {
        return true;
    }
    if (sample->is_later && tuple->src.is_ipv6) {
        /* Not even the protocol can be seen. */
        return rule->protocol < 256 &&
               (wants_icmp || rule->protocol == 47 || has_ports);
    }
    if (wants_icmp) {
        return is_icmp &&
               (sample->is_later || ((rule->icmp_type == 256 ||
                                      rule->icmp_type == tuple->icmp_type) &&
                                     (rule->icmp_code == 256 ||
                                      rule->icmp_code == tuple->icmp_code)));
    }
    if (rule->protocol != tuple->protocol) {
        return false;
    }
    if (rule->protocol == 47) {
        return true;
    }
    return sample->is_later ? has_ports
                            : tuple->dst_port >= rule->port_first &&
                                  tuple->dst_port <= rule->port_last;
}

static bool
allows(const struct world *world, const struct state_security_rule *rule,
       const struct sample *sample)
{
    struct eval_tuple tuple;
    eval_tuple_of(&sample->packet, &tuple);
    bool is_ipv6 = tuple.src.is_ipv6;
    struct ip_prefix prefix;

    if (!is_in_group(world, sample->policy, &rule->group) ||
        rule->direction != (sample->is_in
                                ? STATE_SECURITY_RULE_DIRECTION_IN
                                : STATE_SECURITY_RULE_DIRECTION_OUT)) {
        return false;
    }
    if (rule->family != STATE_SECURITY_RULE_FAMILY_ANY &&
        rule->family != (is_ipv6 ? STATE_SECURITY_RULE_FAMILY_IPV6
                                 : STATE_SECURITY_RULE_FAMILY_IPV4)) {
        return false;
    }
    if (rule->cidr[0] != '\0') {
        if (ip_prefix_parse(rule->cidr, &prefix) != 0 ||
            !ip_prefix_contains(&prefix,
                                sample->is_in ? &tuple.src : &tuple.dst)) {
            return false;
        }
    } else if (!uuid_is_nil(&rule->peer_group) &&
               !is_in_group(world, sample->peer, &rule->peer_group)) {
        return false;
    }
    return allows_transport(rule, sample, &tuple);
}

static bool
is_allowed(const struct world *world, const struct sample *sample)
{
    bool has_out_rule = false;

    for (size_t i = 0; i < RULES; i++) {
        if (!world->has_rule[i]) {
            continue;
        }
        if (allows(world, &world->rules[i], sample)) {
            return true;
        }
        has_out_rule =
            has_out_rule ||
            (world->rules[i].direction == STATE_SECURITY_RULE_DIRECTION_OUT &&
             is_in_group(world, sample->policy, &world->rules[i].group));
    }
    return !sample->is_in && !has_out_rule;
}

/* ---- Packets ---- */

static struct sample
random_sample(struct rng *rng)
{
    static const char *const ipv4[] = { "10.0.0.1", "10.0.0.2", "10.0.0.9",
                                        "192.168.1.1" };
    static const char *const ipv6[] = { "fd00::1", "fd00::2", "fe80::1" };
    static const uint8_t protocols[] = { 6, 6, 17, 17, 132, 47 };
    static const uint16_t ports[] = { 0, 1, 21, 22, 25, 80, 1000, 1100, 65535 };
    bool is_ipv6 = rng_chance(rng, 1, 3);
    bool is_icmp = rng_chance(rng, 1, 4);
    uint8_t protocol = !is_icmp  ? PICK(rng, protocols)
                       : is_ipv6 ? IP_PROTO_ICMPV6
                                 : IP_PROTO_ICMPV4;
    struct sample sample = {
        .packet =
            is_ipv6
                ? eval_packet_ipv6(PICK(rng, ipv6), PICK(rng, ipv6), protocol)
                : eval_packet_ipv4(PICK(rng, ipv4), PICK(rng, ipv4), protocol),
        .is_in = rng_chance(rng, 1, 2),
        .policy = rng_below(rng, LOCALS),
        .peer = rng_below(rng, IDENTITIES + 1),
    };
    if (is_icmp) {
        eval_packet_icmp(&sample.packet, rng_chance(rng, 3, 4) ? 8 : 13,
                         (uint8_t)rng_below(rng, 2), 77);
    } else if (protocol != 47) {
        eval_packet_ports(&sample.packet, 5000, PICK(rng, ports));
    }
    return sample;
}

/* Through EG_* or IN_* of the local port; true: it passed. */
static bool
send_packet(struct world *world, const struct sample *sample,
            const struct eval_packet *packet, bool is_in)
{
    struct eval_packet copy = *packet;
    uint32_t policy = identity_number(sample->policy);
    uint32_t peer =
        sample->peer == IDENTITIES ? 0 : identity_number(sample->peer);
    uint32_t zone = ZONE + (uint32_t)sample->policy;

    if (is_in) {
        eval_set_u32(&copy, REG_SRC_IDENTITY, peer);
        eval_set_u32(&copy, REG_DST_POLICY, policy);
        eval_set_u32(&copy, REG_DST_IDENTITY, policy);
        eval_set_u32(&copy, REG_DST_ZONE, zone);
    } else {
        eval_set_u32(&copy, REG_SRC_IDENTITY, policy);
        eval_set_u32(&copy, REG_DST_IDENTITY, peer);
        eval_set_u32(&copy, REG_SRC_ZONE, zone);
    }
    eval_run(&world->sw, &copy, is_in ? TABLE_IN_CT : TABLE_EG_CT);
    assert_true(world->sw.output_count <= 1);
    if (world->sw.output_count == 0) {
        return false;
    }
    assert_int_equal(world->sw.outputs[0].port, is_in ? IN_PORT : OUT_PORT);
    return true;
}

static bool
flood_packet(struct world *world, const struct sample *sample)
{
    struct eval_packet copy = sample->packet;

    eval_set_u32(&copy, REG_SRC_IDENTITY,
                 sample->peer == IDENTITIES ? 0
                                            : identity_number(sample->peer));
    eval_set_u32(&copy, REG_DST_POLICY, identity_number(sample->policy));
    eval_run(&world->sw, &copy, TABLE_FLOOD_SG);
    return world->sw.output_count == 1;
}

static void
complain(struct world *world, unsigned seed, const struct sample *sample,
         bool is_expected)
{
    print_message("# seed %u: %s packet, policy %zu, peer %zu: expected %s\n",
                  seed, sample->is_in ? "in" : "out", sample->policy,
                  sample->peer, is_expected ? "allowed" : "denied");
    world->sw.trace = stderr;
    send_packet(world, sample, &sample->packet, sample->is_in);
    world->sw.trace = NULL;
}

static void
test_first_packets(void **state)
{
    (void)state;
    size_t allowed = 0, denied = 0;

    for (unsigned seed = first_seed; seed < first_seed + seed_count; seed++) {
        struct world *world = world_new(seed);
        for (unsigned i = 0; i < 200; i++) {
            struct sample sample = random_sample(&world->rng);
            if (rng_chance(&world->rng, 1, 4)) {
                eval_packet_later_fragment(&sample.packet);
                sample.is_later = true;
            }
            bool is_expected = is_allowed(world, &sample);

            world->sw.connection_count = 0;
            bool has_passed =
                send_packet(world, &sample, &sample.packet, sample.is_in);
            if (has_passed != is_expected) {
                complain(world, seed, &sample, is_expected);
            }
            assert_int_equal(has_passed, is_expected);
            /* Only what is allowed is remembered. */
            assert_int_equal(world->sw.connection_count, is_expected);
            allowed += is_expected;
            denied += !is_expected;

            sample.is_in = true;
            assert_int_equal(flood_packet(world, &sample),
                             is_allowed(world, &sample));
        }
        world_free(world);
    }
    print_message("# %zu allowed, %zu denied\n", allowed, denied);
    assert_true(allowed > seed_count * 20);
    assert_true(denied > seed_count * 20);
}

/* ---- Connections, while rules change (N6) ---- */

#define CONNECTIONS 12u

struct connection {
    struct sample sample;
    bool is_known, has_reply, is_denied;
};

/* What is said of a packet of the original direction, and remembered. */
static bool
expect_original(const struct world *world, struct connection *connection,
                bool is_later)
{
    struct sample sample = connection->sample;
    sample.is_later = is_later;
    if (is_allowed(world, &sample)) {
        connection->is_known = true;
        connection->is_denied = false;
        return true;
    }
    if (connection->is_known && connection->has_reply) {
        connection->is_denied = true;
    }
    return false;
}

static void
step_connection(struct world *world, struct connection *connection,
                size_t counts[2])
{
    const struct sample *sample = &connection->sample;
    struct eval_packet packet = sample->packet;
    bool is_in = sample->is_in;
    bool is_expected, is_later;

    switch (rng_below(&world->rng, 4)) {
    case 0: /* A reply; or, of an unknown one, nothing. */
        if (!connection->is_known) {
            return;
        }
        packet = eval_packet_reply(&sample->packet);
        is_in = !is_in;
        connection->has_reply = true;
        is_expected = !connection->is_denied;
        break;
    case 1: /* An ICMP error about it, from wherever. */
        packet.is_error = true;
        eval_tuple_of(&sample->packet, &packet.about);
        eval_set_u32(&packet, FIELD_IP_PROTO,
                     packet.about.src.is_ipv6 ? IP_PROTO_ICMPV6
                                              : IP_PROTO_ICMPV4);
        eval_packet_icmp(&packet, 3, 1, 0);
        is_in = rng_chance(&world->rng, 1, 2);
        is_expected = connection->is_known && !connection->is_denied;
        break;
    default:
        is_later = rng_chance(&world->rng, 1, 5);
        if (is_later) {
            eval_packet_later_fragment(&packet);
        }
        is_expected = expect_original(world, connection, is_later);
        break;
    }
    bool has_passed = send_packet(world, sample, &packet, is_in);
    if (has_passed != is_expected) {
        complain(world, 0, sample, is_expected);
    }
    assert_int_equal(has_passed, is_expected);
    counts[is_expected]++;
}

static void
test_connections(void **state)
{
    (void)state;
    size_t counts[2] = { 0, 0 };

    for (unsigned seed = first_seed; seed < first_seed + seed_count / 3;
         seed++) {
        struct world *world = world_new(seed);
        struct connection connections[CONNECTIONS] = { 0 };
        for (uint16_t i = 0; i < CONNECTIONS; i++) {
            connections[i].sample = random_sample(&world->rng);
            /* Each of its own. */
            struct eval_packet *packet = &connections[i].sample.packet;
            uint32_t protocol = eval_u32(packet, FIELD_IP_PROTO);
            if (protocol == IP_PROTO_ICMPV4 || protocol == IP_PROTO_ICMPV6) {
                eval_packet_icmp(packet, 8, packet->icmp_code,
                                 (uint16_t)(100 + i));
            } else {
                eval_packet_ports(packet, (uint16_t)(40000 + i),
                                  packet->dst_port);
            }
        }
        for (unsigned i = 0; i < 600; i++) {
            if (rng_chance(&world->rng, 1, 20)) {
                change_rule(world);
                refresh(world);
            }
            step_connection(world,
                            &connections[rng_below(&world->rng, CONNECTIONS)],
                            counts);
        }
        world_free(world);
    }
    print_message("# %zu passed, %zu dropped\n", counts[1], counts[0]);
    assert_true(counts[0] > seed_count * 10);
    assert_true(counts[1] > seed_count * 10);
}

/* ---- What has no rules ---- */

/* A policy that lets all out, while one of the rows that say so is not there.
 */
static void
check_incomplete(struct world *world, const struct sample *sample,
                 size_t identity, size_t group)
{
    struct weft_uuid member =
        uuid_of(STATE_TABLE_IDENTITY_MEMBER, identity * GROUPS + group);
    struct weft_uuid group_uuid = uuid_of(STATE_TABLE_SECURITY_GROUP, group);
    struct state_security_group row = { .tag = 1 + (uint32_t)group };
    struct sample other = *sample;
    bool is_member = world->members[identity][group];

    other.policy = identity;
    compile_delete_row(world->compile, STATE_TABLE_SECURITY_GROUP, &group_uuid);
    refresh(world);
    world->sw.connection_count = 0;
    assert_int_equal(send_packet(world, &other, &other.packet, false),
                     !is_member);
    put(world->compile, &row.row, STATE_TABLE_SECURITY_GROUP, group);
    compile_delete_row(world->compile, STATE_TABLE_IDENTITY_MEMBER, &member);
    refresh(world);
    world->sw.connection_count = 0;
    assert_int_equal(send_packet(world, &other, &other.packet, false),
                     !is_member);
    put_identity(world, identity);
    refresh(world);
    assert_true(send_packet(world, &other, &other.packet, false));
}

static void
test_without_rules(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    struct sample sample = random_sample(&world->rng);
    for (size_t i = 0; i < RULES; i++) {
        struct weft_uuid uuid = uuid_of(STATE_TABLE_SECURITY_RULE, i);
        compile_delete_row(world->compile, STATE_TABLE_SECURITY_RULE, &uuid);
        world->has_rule[i] = false;
    }
    refresh(world);

    /* Default: all out, nothing in. */
    assert_true(send_packet(world, &sample, &sample.packet, false));
    world->sw.connection_count = 0;
    assert_false(send_packet(world, &sample, &sample.packet, true));

    /* A policy of no local port: nothing (N3). */
    struct sample other = sample;
    other.policy = IDENTITIES - 1;
    assert_false(send_packet(world, &other, &other.packet, false));

    /* Not all of its groups have come yet, or not who is in them: nothing. */
    for (size_t i = 0; i < LOCALS; i++) {
        for (size_t number = 0; number < GROUPS; number++) {
            check_incomplete(world, &sample, i, number);
        }
    }

    /* The router's answers, and ARP. */
    struct eval_packet packet = sample.packet;
    eval_set_u32(&packet, REG_SRC_IDENTITY, IDENTITY_ROUTER);
    eval_run(&world->sw, &packet, TABLE_IN_CT);
    assert_int_equal(world->sw.output_count, 1);
    eval_run(&world->sw, &packet, TABLE_EG_CT);
    assert_int_equal(world->sw.output_count, 1);
    eval_run(&world->sw, &packet, TABLE_FLOOD_SG);
    assert_int_equal(world->sw.output_count, 1);
    packet = sample.packet;
    eval_set_u32(&packet, FIELD_ETH_TYPE, ETH_TYPE_ARP);
    eval_run(&world->sw, &packet, TABLE_IN_CT);
    assert_int_equal(world->sw.output_count, 1);

    /* What conntrack does not understand. */
    packet = sample.packet;
    packet.is_invalid = true;
    assert_false(send_packet(world, &sample, &packet, false));
    world_free(world);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_packets),
        cmocka_unit_test(test_connections),
        cmocka_unit_test(test_without_rules),
    };

    if (argc > 1) {
        seed_count = (unsigned)strtoul(argv[1], NULL, 10);
    }
    if (argc > 2) {
        first_seed = (unsigned)strtoul(argv[2], NULL, 10);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
