/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "netd/compile/ports.h"
#include "netd/compile/security.h"

/* A rule's flows.
 *
 * What a rule allows is a product of up to three dimensions:
 *
 *     policies    identities of local ports that are in the rule's group
 *     peers       a prefix, or the identities that are in a group, or any
 *     transport   protocol, ports or ICMP type, or any
 *
 * Few combinations become plain flows.  Many become a conjunction
 * (ovs-fields(7) on conj_id): one flow for each element of each dimension, and
 * one for the whole.  Flows of an identity are then shared by all rules about
 * it, so that flows grow with rules plus identities, not with their product.
 *
 * The family is matched by each flow; a rule for both has two sets of flows,
 * with a conjunction id each.
 *
 * Later fragments have neither ports nor ICMP types, and Open vSwitch's own
 * conntrack does not tell them those of the first one (3.1: ct_tp_dst is not
 * set for them).  A rule therefore allows the later fragments of its protocol
 * whatever their ports.  Those of IPv6 do not even have a protocol, but that of
 * the fragment header: any rule allows them.  Without the first fragment, which
 * the rule does look at, they are of no use to anybody.  All fragments of a
 * datagram must meet the same ct() actions, or conntrack waits in vain for the
 * rest of them. */

#define PLAIN_MAX 6u

struct numbers {
    uint32_t *items;
    size_t count, capacity;
};

/* One element of the third dimension. */
struct transport {
    bool has_protocol;
    uint8_t protocol;
    bool has_port;
    struct port_mask port; /* Destination. */
    bool is_later_fragment;
    bool has_type, has_code;
    uint8_t type, code;
};

enum peer_kind {
    PEER_ANY,
    PEER_PREFIX,
    PEER_IDENTITIES,
};

/* A rule for one family in one table. */
struct rule {
    const struct state_security_rule *row;
    bool is_ipv6;
    uint8_t table;
    uint8_t next_table;
    enum flow_field policy_reg, peer_reg, peer_ipv4, peer_ipv6;

    struct numbers policies;
    enum peer_kind peer_kind;
    struct ip_prefix prefix;
    struct numbers peers;
    struct transport transports[PORT_MASKS_MAX + 1];
    size_t transport_count;
};

static void
numbers_add(struct numbers *numbers, uint32_t number)
{
    if (numbers->count == numbers->capacity) {
        numbers->capacity = numbers->capacity * 2 + 8;
        numbers->items = realloc(numbers->items,
                                 numbers->capacity * sizeof numbers->items[0]);
        CHECK(numbers->items != NULL);
    }
    numbers->items[numbers->count++] = number;
}

/* ---- What the dimensions are ---- */

/* The identities that are in a group; only those of local ports, or all. */
static void
find_identities(struct emit *emit, const struct weft_uuid *group,
                bool is_local_only, struct numbers *ret_numbers)
{
    const struct state_row *row = NULL;

    while ((row = emit_next(emit, STATE_TABLE_IDENTITY_MEMBER,
                            STATE_IDENTITY_MEMBER_COL_GROUP, group, row)) !=
           NULL) {
        const struct weft_uuid *uuid =
            &state_identity_member_from(row)->identity;
        if (is_local_only && !emit_has_local_of_identity(emit, uuid)) {
            continue;
        }
        const struct state_row *identity =
            emit_row(emit, STATE_TABLE_IDENTITY, uuid);
        if (identity != NULL) {
            numbers_add(ret_numbers, state_identity_from(identity)->number);
        }
    }
}

/* False: the rule allows nothing, as its peers cannot be told or are none. */
static bool
find_peers(struct emit *emit, struct rule *rule)
{
    rule->peer_kind = PEER_ANY;
    if (rule->row->cidr[0] != '\0') {
        rule->peer_kind = PEER_PREFIX;
        return ip_prefix_parse(rule->row->cidr, &rule->prefix) == 0;
    }
    if (!uuid_is_nil(&rule->row->peer_group)) {
        rule->peer_kind = PEER_IDENTITIES;
        find_identities(emit, &rule->row->peer_group, false, &rule->peers);
        return rule->peers.count > 0;
    }
    return true;
}

static bool
has_family(const struct rule *rule, bool is_ipv6)
{
    if (rule->peer_kind == PEER_PREFIX &&
        rule->prefix.address.is_ipv6 != is_ipv6) {
        return false;
    }
    switch (rule->row->family) {
    case STATE_SECURITY_RULE_FAMILY_ANY:
        return true;
    case STATE_SECURITY_RULE_FAMILY_IPV4:
        return !is_ipv6;
    case STATE_SECURITY_RULE_FAMILY_IPV6:
        return is_ipv6;
    case STATE_SECURITY_RULE_FAMILY_UNKNOWN:
        return false; /* N12: allows nothing. */
    }
    return false;
}

static bool
has_ports(uint32_t protocol)
{
    return protocol == IP_PROTO_TCP || protocol == IP_PROTO_UDP ||
           protocol == IP_PROTO_SCTP;
}

/* Whether it asks for what later fragments do not have: they would look like
 * port, type and code 0. */
static bool
is_of_first_fragment(const struct transport *transport)
{
    return transport->has_port || transport->has_type || transport->has_code;
}

static void
add_ports(struct rule *rule, const struct transport *all)
{
    const struct state_security_rule *row = rule->row;
    struct port_mask masks[PORT_MASKS_MAX];

    if (row->port_first > UINT16_MAX || row->port_last > UINT16_MAX) {
        return;
    }
    size_t count =
        ports_split((uint16_t)row->port_first, (uint16_t)row->port_last, masks);
    for (size_t i = 0; i < count; i++) {
        struct transport *transport =
            &rule->transports[rule->transport_count++];
        *transport = *all;
        transport->has_port = masks[i].mask != 0;
        transport->port = masks[i];
    }
}

/* Fills 'transports' for the family; none: the rule allows nothing. */
static void
find_transports(struct rule *rule)
{
    const struct state_security_rule *row = rule->row;
    struct transport all = { .has_protocol = row->protocol < 256,
                             .protocol = (uint8_t)row->protocol };

    rule->transport_count = 0;
    if (row->protocol > 256) {
        return;
    }
    if (has_ports(row->protocol)) {
        add_ports(rule, &all);
    } else if (row->protocol == IP_PROTO_ICMPV4 ||
               row->protocol == IP_PROTO_ICMPV6) {
        struct transport *transport =
            &rule->transports[rule->transport_count++];
        all.protocol = rule->is_ipv6 ? IP_PROTO_ICMPV6 : IP_PROTO_ICMPV4;
        *transport = all;
        transport->has_type = row->icmp_type < 256;
        transport->type = (uint8_t)row->icmp_type;
        transport->has_code = row->icmp_code < 256;
        transport->code = (uint8_t)row->icmp_code;
    } else {
        rule->transports[rule->transport_count++] = all;
    }
    if (rule->transport_count > 0 && all.has_protocol &&
        (rule->is_ipv6 || is_of_first_fragment(&rule->transports[0]))) {
        all.is_later_fragment = true;
        all.protocol = rule->is_ipv6 ? IP_PROTO_FRAGMENT : all.protocol;
        rule->transports[rule->transport_count++] = all;
    }
}

/* ---- As matches ---- */

static void
begin(struct flow_builder *builder, const struct rule *rule, uint32_t priority)
{
    flow_begin(builder, rule->table, (uint16_t)priority);
    flow_match_u32(builder, FIELD_ETH_TYPE,
                   rule->is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
}

static void
match_policy(struct flow_builder *builder, const struct rule *rule,
             size_t index)
{
    flow_match_u32(builder, rule->policy_reg, rule->policies.items[index]);
}

static void
match_peer(struct flow_builder *builder, const struct rule *rule, size_t index)
{
    switch (rule->peer_kind) {
    case PEER_ANY:
        return;
    case PEER_PREFIX:
        flow_match_prefix(builder,
                          rule->is_ipv6 ? rule->peer_ipv6 : rule->peer_ipv4,
                          &rule->prefix);
        return;
    case PEER_IDENTITIES:
        flow_match_u32(builder, rule->peer_reg, rule->peers.items[index]);
        return;
    }
}

static void
match_packet(struct flow_builder *builder, const struct transport *transport)
{
    bool is_icmpv6 = transport->protocol == IP_PROTO_ICMPV6;
    enum flow_field port = transport->protocol == IP_PROTO_TCP ? FIELD_TCP_DST
                           : transport->protocol == IP_PROTO_UDP
                               ? FIELD_UDP_DST
                               : FIELD_SCTP_DST;

    if (transport->is_later_fragment) {
        flow_match_u32_masked(builder, FIELD_IP_FRAG, FRAG_LATER, FRAG_LATER);
    } else if (is_of_first_fragment(transport)) {
        flow_match_u32_masked(builder, FIELD_IP_FRAG, 0, FRAG_LATER);
    }
    if (transport->has_port) {
        flow_match_u32_masked(builder, port, transport->port.value,
                              transport->port.mask);
    }
    if (transport->has_type) {
        flow_match_u32(builder,
                       is_icmpv6 ? FIELD_ICMPV6_TYPE : FIELD_ICMPV4_TYPE,
                       transport->type);
    }
    if (transport->has_code) {
        flow_match_u32(builder,
                       is_icmpv6 ? FIELD_ICMPV6_CODE : FIELD_ICMPV4_CODE,
                       transport->code);
    }
}

static void
match_transport(struct flow_builder *builder, const struct rule *rule,
                size_t index)
{
    const struct transport *transport = &rule->transports[index];

    if (!transport->has_protocol) {
        return;
    }
    flow_match_u32(builder, FIELD_IP_PROTO, transport->protocol);
    match_packet(builder, transport);
}

/* ---- As flows ---- */

static size_t
peer_count(const struct rule *rule)
{
    return rule->peer_kind == PEER_IDENTITIES ? rule->peers.count : 1;
}

static void
emit_plain(struct emit *emit, const struct rule *rule)
{
    struct flow_builder b;

    for (size_t i = 0; i < rule->policies.count; i++) {
        for (size_t j = 0; j < peer_count(rule); j++) {
            for (size_t k = 0; k < rule->transport_count; k++) {
                begin(&b, rule, SECURITY_PRIORITY_PLAIN);
                match_policy(&b, rule, i);
                match_peer(&b, rule, j);
                match_transport(&b, rule, k);
                flow_resubmit(&b, rule->next_table);
                emit_flow(emit, &b);
            }
        }
    }
}

/* A dimension that matches something at all is a clause of the conjunction. */
struct dimension {
    size_t count;
    void (*match)(struct flow_builder *builder, const struct rule *rule,
                  size_t index);
};

static uint32_t
block_of(struct emit *emit, const struct weft_uuid *group)
{
    const struct state_row *row =
        emit_row(emit, STATE_TABLE_SECURITY_GROUP, group);
    uint32_t hash = 2166136261u; /* FNV-1a */

    if (row != NULL) {
        const char *at = state_security_group_from(row)->project;
        for (; *at != '\0'; at++) {
            hash = (hash ^ (unsigned char)*at) * 16777619u;
        }
    }
    return (hash ^ hash >> 16) % SECURITY_BLOCKS;
}

static uint32_t
conjunction_priority(struct emit *emit, const struct state_security_rule *row)
{
    uint32_t first =
        SECURITY_PRIORITY_CONJUNCTION +
        block_of(emit, &row->group) * (SECURITY_SPREAD + SECURITY_SPREAD_MANY);

    if (emit_has_many_rules(emit, &row->group)) {
        return first + SECURITY_SPREAD + row->tag % SECURITY_SPREAD_MANY;
    }
    return first + row->tag % SECURITY_SPREAD;
}

static void
emit_conjunction(struct emit *emit, const struct rule *rule,
                 const struct dimension *dimensions, uint8_t count)
{
    uint32_t id = pipeline_conj_id(rule->row->tag, rule->is_ipv6 ? 2 : 1);
    uint32_t priority = conjunction_priority(emit, rule->row);
    struct flow_builder b;

    for (uint8_t i = 0; i < count; i++) {
        for (size_t j = 0; j < dimensions[i].count; j++) {
            begin(&b, rule, priority);
            dimensions[i].match(&b, rule, j);
            flow_conjunction(&b, id, i, count);
            emit_flow(emit, &b);
        }
    }
    begin(&b, rule, priority);
    flow_match_u32(&b, FIELD_CONJ_ID, id);
    flow_resubmit(&b, rule->next_table);
    emit_flow(emit, &b);
}

static void
emit_rule_flows(struct emit *emit, const struct rule *rule)
{
    size_t product =
        rule->policies.count * peer_count(rule) * rule->transport_count;
    bool has_peers =
        rule->peer_kind == PEER_IDENTITIES ||
        (rule->peer_kind == PEER_PREFIX && rule->prefix.length > 0);
    struct dimension dimensions[3] = {
        { rule->policies.count, match_policy },
    };
    uint8_t count = 1;

    if (has_peers) {
        dimensions[count++] =
            (struct dimension){ peer_count(rule), match_peer };
    }
    if (rule->transports[0].has_protocol) {
        dimensions[count++] =
            (struct dimension){ rule->transport_count, match_transport };
    }

    /* With one policy and one peer the flows are as many either way. */
    if (count == 1 || product <= PLAIN_MAX ||
        product == rule->transport_count) {
        emit_plain(emit, rule);
    } else {
        emit_conjunction(emit, rule, dimensions, count);
    }
}

static void
emit_families(struct emit *emit, struct rule *rule)
{
    for (unsigned i = 0; i < 2; i++) {
        rule->is_ipv6 = i == 1;
        if (!has_family(rule, rule->is_ipv6)) {
            continue;
        }
        find_transports(rule);
        if (rule->transport_count > 0) {
            emit_rule_flows(emit, rule);
        }
    }
}

static void
emit_in(struct emit *emit, struct rule *rule)
{
    rule->policy_reg = REG_DST_POLICY;
    rule->peer_reg = REG_SRC_IDENTITY;
    rule->peer_ipv4 = FIELD_IPV4_SRC;
    rule->peer_ipv6 = FIELD_IPV6_SRC;

    rule->table = TABLE_IN_SG;
    rule->next_table = TABLE_IN_COMMIT;
    emit_families(emit, rule);
    if (emit_has_flood_network(emit)) {
        rule->table = TABLE_FLOOD_SG;
        rule->next_table = TABLE_FLOOD_OUT;
        emit_families(emit, rule);
    }
}

static void
emit_out(struct emit *emit, struct rule *rule)
{
    rule->policy_reg = REG_SRC_IDENTITY;
    rule->peer_reg = REG_DST_IDENTITY;
    rule->peer_ipv4 = FIELD_IPV4_DST;
    rule->peer_ipv6 = FIELD_IPV6_DST;

    rule->table = TABLE_EG_SG;
    rule->next_table = TABLE_EG_COMMIT;
    emit_families(emit, rule);
}

static void
emit_rule(struct emit *emit, const struct state_row *row)
{
    struct rule rule = { .row = state_security_rule_from(row) };

    find_identities(emit, &rule.row->group, true, &rule.policies);
    if (rule.policies.count > 0 && find_peers(emit, &rule)) {
        switch (rule.row->direction) {
        case STATE_SECURITY_RULE_DIRECTION_IN:
            emit_in(emit, &rule);
            break;
        case STATE_SECURITY_RULE_DIRECTION_OUT:
            emit_out(emit, &rule);
            break;
        case STATE_SECURITY_RULE_DIRECTION_UNKNOWN:
            break; /* N12: allows nothing. */
        }
    }
    free(rule.policies.items);
    free(rule.peers.items);
}

const struct emitter emitter_security_rule = {
    .name = "security-rule",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_SECURITY_RULE,
    .emit = emit_rule,
};
