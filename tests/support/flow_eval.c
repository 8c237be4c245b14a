/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/flow_eval.h"

#include <string.h>

/* ---- Packets ---- */

static uint64_t
get_number(const uint8_t *bytes, uint32_t size)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < size; i++) {
        number = number << 8 | bytes[i];
    }
    return number;
}

static void
put_number(uint8_t *bytes, uint32_t size, uint64_t number)
{
    for (uint32_t i = size; i-- > 0;) {
        bytes[i] = (uint8_t)number;
        number >>= 8;
    }
}

void
eval_set_u32(struct eval_packet *packet, enum flow_field field, uint32_t value)
{
    uint32_t size = flow_field_size(field);
    CHECK(size <= 8);
    put_number(packet->fields[field], size, value);
}

uint64_t
eval_u64(const struct eval_packet *packet, enum flow_field field)
{
    uint32_t size = flow_field_size(field);
    CHECK(size <= 8);
    return get_number(packet->fields[field], size);
}

uint32_t
eval_u32(const struct eval_packet *packet, enum flow_field field)
{
    return (uint32_t)eval_u64(packet, field);
}

static struct eval_packet
make_packet(const char *src, const char *dst, uint8_t protocol, bool is_ipv6)
{
    struct eval_packet packet = { 0 };
    struct ip_address from, to;
    int error = ip_address_parse(src, &from);
    CHECK(error == 0);
    error = ip_address_parse(dst, &to);
    CHECK(error == 0);
    CHECK(from.is_ipv6 == is_ipv6);
    CHECK(to.is_ipv6 == is_ipv6);

    eval_set_u32(&packet, FIELD_ETH_TYPE,
                 is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
    eval_set_u32(&packet, FIELD_IP_PROTO, protocol);
    eval_set_u32(&packet, FIELD_IP_TTL, 64);
    memcpy(packet.fields[is_ipv6 ? FIELD_IPV6_SRC : FIELD_IPV4_SRC], from.bytes,
           16);
    memcpy(packet.fields[is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST], to.bytes,
           16);
    return packet;
}

struct eval_packet
eval_packet_ipv4(const char *src, const char *dst, uint8_t protocol)
{
    return make_packet(src, dst, protocol, false);
}

struct eval_packet
eval_packet_ipv6(const char *src, const char *dst, uint8_t protocol)
{
    return make_packet(src, dst, protocol, true);
}

static void
show_ports(struct eval_packet *packet)
{
    switch (eval_u32(packet, FIELD_IP_PROTO)) {
    case IP_PROTO_TCP:
        eval_set_u32(packet, FIELD_TCP_SRC, packet->src_port);
        eval_set_u32(packet, FIELD_TCP_DST, packet->dst_port);
        break;
    case IP_PROTO_UDP:
        eval_set_u32(packet, FIELD_UDP_SRC, packet->src_port);
        eval_set_u32(packet, FIELD_UDP_DST, packet->dst_port);
        break;
    case IP_PROTO_SCTP:
        eval_set_u32(packet, FIELD_SCTP_DST, packet->dst_port);
        break;
    case IP_PROTO_ICMPV4:
        eval_set_u32(packet, FIELD_ICMPV4_TYPE, packet->icmp_type);
        eval_set_u32(packet, FIELD_ICMPV4_CODE, packet->icmp_code);
        break;
    case IP_PROTO_ICMPV6:
        eval_set_u32(packet, FIELD_ICMPV6_TYPE, packet->icmp_type);
        eval_set_u32(packet, FIELD_ICMPV6_CODE, packet->icmp_code);
        break;
    default:
        break;
    }
}

void
eval_packet_ports(struct eval_packet *packet, uint16_t src, uint16_t dst)
{
    packet->src_port = src;
    packet->dst_port = dst;
    show_ports(packet);
}

void
eval_packet_icmp(struct eval_packet *packet, uint8_t type, uint8_t code,
                 uint16_t id)
{
    packet->icmp_type = type;
    packet->icmp_code = code;
    packet->src_port = id;
    packet->dst_port = id;
    show_ports(packet);
}

void
eval_packet_later_fragment(struct eval_packet *packet)
{
    static const enum flow_field hidden[] = {
        FIELD_TCP_SRC,     FIELD_TCP_DST,     FIELD_UDP_SRC,
        FIELD_UDP_DST,     FIELD_SCTP_DST,    FIELD_ICMPV4_TYPE,
        FIELD_ICMPV4_CODE, FIELD_ICMPV6_TYPE, FIELD_ICMPV6_CODE,
    };
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        eval_set_u32(packet, hidden[i], 0);
    }
    eval_set_u32(packet, FIELD_IP_FRAG, FRAG_ANY | FRAG_LATER);
    if (eval_u32(packet, FIELD_ETH_TYPE) == ETH_TYPE_IPV6) {
        packet->hidden_protocol = (uint8_t)eval_u32(packet, FIELD_IP_PROTO);
        eval_set_u32(packet, FIELD_IP_PROTO, IP_PROTO_FRAGMENT);
    }
}

static void
swap_fields(struct eval_packet *packet, enum flow_field a, enum flow_field b)
{
    uint8_t value[16];
    memcpy(value, packet->fields[a], sizeof value);
    memcpy(packet->fields[a], packet->fields[b], sizeof value);
    memcpy(packet->fields[b], value, sizeof value);
}

static uint8_t
reply_type(uint8_t type)
{
    return type == 8     ? 0
           : type == 0   ? 8
           : type == 128 ? 129
           : type == 129 ? 128
                         : type;
}

struct eval_packet
eval_packet_reply(const struct eval_packet *packet)
{
    struct eval_packet reply = *packet;
    swap_fields(&reply, FIELD_IPV4_SRC, FIELD_IPV4_DST);
    swap_fields(&reply, FIELD_IPV6_SRC, FIELD_IPV6_DST);
    swap_fields(&reply, FIELD_ETH_SRC, FIELD_ETH_DST);
    reply.src_port = packet->dst_port;
    reply.dst_port = packet->src_port;
    reply.icmp_type = reply_type(packet->icmp_type);
    show_ports(&reply);
    return reply;
}

void
eval_packet_macs(struct eval_packet *packet, const char *src, const char *dst)
{
    struct mac_address mac;
    int error = mac_parse(src, &mac);
    CHECK(error == 0);
    memcpy(packet->fields[FIELD_ETH_SRC], mac.bytes, sizeof mac.bytes);
    error = mac_parse(dst, &mac);
    CHECK(error == 0);
    memcpy(packet->fields[FIELD_ETH_DST], mac.bytes, sizeof mac.bytes);
}

void
eval_tuple_of(const struct eval_packet *packet, struct eval_tuple *ret_tuple)
{
    bool is_ipv6 = eval_u32(packet, FIELD_ETH_TYPE) == ETH_TYPE_IPV6;
    uint32_t size = is_ipv6 ? 16 : 4;

    memset(ret_tuple, 0, sizeof *ret_tuple);
    ret_tuple->src.is_ipv6 = is_ipv6;
    ret_tuple->dst.is_ipv6 = is_ipv6;
    memcpy(ret_tuple->src.bytes,
           packet->fields[is_ipv6 ? FIELD_IPV6_SRC : FIELD_IPV4_SRC], size);
    memcpy(ret_tuple->dst.bytes,
           packet->fields[is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST], size);
    ret_tuple->protocol = packet->hidden_protocol != 0
                              ? packet->hidden_protocol
                              : (uint8_t)eval_u32(packet, FIELD_IP_PROTO);
    ret_tuple->src_port = packet->src_port;
    ret_tuple->dst_port = packet->dst_port;
    ret_tuple->icmp_type = packet->icmp_type;
    ret_tuple->icmp_code = packet->icmp_code;
}

/* ---- Look-up ---- */

static bool
matches(const struct flow_spec *flow, const struct eval_packet *packet)
{
    for (size_t i = 0; i < flow->match_count; i++) {
        const struct flow_match_item *item = &flow->match[i];
        const uint8_t *value = packet->fields[item->field];
        uint32_t size = flow_field_size((enum flow_field)item->field);
        for (uint32_t j = 0; j < size; j++) {
            if ((value[j] & item->mask[j]) != item->value[j]) {
                return false;
            }
        }
    }
    return true;
}

/* The first flow that is no conjunction. */
static const struct flow_spec *
lookup_hard(const struct eval_switch *sw, const struct eval_packet *packet,
            uint8_t table)
{
    for (size_t i = sw->starts[table]; i < sw->starts[table + 1]; i++) {
        if (!flow_spec_is_conjunctive(sw->flows[i]) &&
            matches(sw->flows[i], packet)) {
            return sw->flows[i];
        }
    }
    return NULL;
}

#define IDS_MAX 512u

struct id_set {
    uint32_t ids[IDS_MAX];
    uint64_t clauses[IDS_MAX];
    uint8_t counts[IDS_MAX];
    size_t count;
};

static void
add_clauses(struct id_set *set, const struct flow_spec *flow)
{
    const struct flow_action *actions = flow_spec_actions(flow);

    for (size_t i = 0; i < flow->action_count; i++) {
        size_t at = 0;
        while (at < set->count && set->ids[at] != actions[i].number) {
            at++;
        }
        if (at == set->count) {
            CHECK(set->count < IDS_MAX);
            set->ids[at] = actions[i].number;
            set->counts[at] = actions[i].count;
            set->clauses[at] = 0;
            set->count++;
        }
        CHECK(set->counts[at] == actions[i].count);
        set->clauses[at] |= UINT64_C(1) << actions[i].index;
    }
}

/* A conjunction of one priority all of whose clauses match; 0: none. */
static uint32_t
find_conjunction(const struct eval_switch *sw, const struct eval_packet *packet,
                 size_t first, size_t end)
{
    static struct id_set set; /* Too large for the stack; one thread. */

    set.count = 0;
    for (size_t i = first; i < end; i++) {
        if (flow_spec_is_conjunctive(sw->flows[i]) &&
            matches(sw->flows[i], packet)) {
            add_clauses(&set, sw->flows[i]);
        }
    }
    for (size_t i = 0; i < set.count; i++) {
        uint64_t all = set.counts[i] == 64 ? UINT64_MAX
                                           : (UINT64_C(1) << set.counts[i]) - 1;
        if (set.clauses[i] == all) {
            return set.ids[i];
        }
    }
    return 0;
}

/* As classifier_lookup() of Open vSwitch: conjunctions above the best other
 * flow are tried by falling priority; the first that holds is looked up again
 * with its id, and what that finds is the answer. */
const struct flow_spec *
eval_lookup(const struct eval_switch *sw, const struct eval_packet *packet,
            uint8_t table)
{
    const struct flow_spec *hard = lookup_hard(sw, packet, table);
    size_t end = sw->starts[table + 1];

    for (size_t i = sw->starts[table]; i < end;) {
        uint16_t priority = sw->flows[i]->priority;
        size_t next = i;
        if (hard != NULL && priority <= hard->priority) {
            break;
        }
        while (next < end && sw->flows[next]->priority == priority) {
            next++;
        }
        uint32_t id = find_conjunction(sw, packet, i, next);
        if (id != 0) {
            struct eval_packet with_id = *packet;
            eval_set_u32(&with_id, FIELD_CONJ_ID, id);
            const struct flow_spec *found = lookup_hard(sw, &with_id, table);
            if (found != NULL) {
                return found;
            }
        }
        i = next;
    }
    return hard;
}

/* ---- Connections ---- */

static bool
is_same_direction(const struct eval_tuple *a, const struct eval_tuple *b)
{
    return ip_compare(&a->src, &b->src) == 0 &&
           ip_compare(&a->dst, &b->dst) == 0 && a->protocol == b->protocol &&
           a->src_port == b->src_port && a->dst_port == b->dst_port &&
           a->icmp_type == b->icmp_type;
}

static struct eval_tuple
reversed(const struct eval_tuple *tuple)
{
    struct eval_tuple back = *tuple;
    back.src = tuple->dst;
    back.dst = tuple->src;
    back.src_port = tuple->dst_port;
    back.dst_port = tuple->src_port;
    back.icmp_type = reply_type(tuple->icmp_type);
    return back;
}

static struct eval_connection *
find_connection(struct eval_switch *sw, uint32_t zone,
                const struct eval_tuple *tuple, bool *ret_is_reply)
{
    struct eval_tuple back = reversed(tuple);

    for (size_t i = 0; i < sw->connection_count; i++) {
        struct eval_connection *connection = &sw->connections[i];
        if (connection->zone != zone) {
            continue;
        }
        if (is_same_direction(&connection->tuple, tuple)) {
            *ret_is_reply = false;
            return connection;
        }
        if (is_same_direction(&connection->tuple, &back)) {
            *ret_is_reply = true;
            return connection;
        }
    }
    return NULL;
}

static void
set_ct_fields(struct eval_packet *packet, uint32_t state, uint32_t zone,
              uint32_t mark)
{
    eval_set_u32(packet, FIELD_CT_STATE, state | CT_STATE_TRK);
    eval_set_u32(packet, FIELD_CT_ZONE, zone);
    eval_set_u32(packet, FIELD_CT_MARK, mark);
}

static void
track(struct eval_switch *sw, struct eval_packet *packet, uint32_t zone)
{
    struct eval_tuple tuple;
    bool is_reply = false;
    eval_tuple_of(packet, &tuple);
    struct eval_connection *connection =
        find_connection(sw, zone, packet->is_error ? &packet->about : &tuple,
                        &is_reply);

    if (packet->is_invalid || (packet->is_error && connection == NULL)) {
        set_ct_fields(packet, CT_STATE_INV, zone, 0);
    } else if (packet->is_error) {
        /* It goes against what it is about. */
        set_ct_fields(packet, CT_STATE_REL | (is_reply ? 0 : CT_STATE_RPL),
                      zone, connection->mark);
    } else if (connection == NULL) {
        set_ct_fields(packet, CT_STATE_NEW, zone, 0);
    } else {
        connection->has_reply = connection->has_reply || is_reply;
        set_ct_fields(packet,
                      !connection->has_reply ? CT_STATE_NEW
                      : is_reply             ? CT_STATE_EST | CT_STATE_RPL
                                             : CT_STATE_EST,
                      zone, connection->mark);
    }
}

static void
commit(struct eval_switch *sw, struct eval_packet *packet,
       const struct flow_action *action, uint32_t zone)
{
    uint32_t value = (uint32_t)get_number(action->value, 4);
    uint32_t mask = (uint32_t)get_number(action->mask, 4);
    struct eval_tuple tuple;
    bool is_reply;

    eval_tuple_of(packet, &tuple);
    struct eval_connection *connection =
        find_connection(sw, zone, &tuple, &is_reply);
    if (connection == NULL) {
        CHECK(sw->connection_count < EVAL_CONNECTIONS_MAX);
        connection = &sw->connections[sw->connection_count++];
        *connection = (struct eval_connection){ .zone = zone, .tuple = tuple };
    }
    connection->mark = (connection->mark & ~mask) | value;
    eval_set_u32(packet, FIELD_CT_MARK, connection->mark);
}

/* ---- Actions ---- */

static void run_table(struct eval_switch *sw, struct eval_packet *packet,
                      uint8_t table);

static void
set_field(struct eval_packet *packet, const struct flow_action *action)
{
    uint8_t *field = packet->fields[action->field];
    for (size_t i = 0; i < 16; i++) {
        field[i] = (uint8_t)((field[i] & ~action->mask[i]) | action->value[i]);
    }
}

static bool
get_bit(const uint8_t *bytes, uint32_t size, uint32_t bit)
{
    return (bytes[size - 1 - bit / 8] >> bit % 8 & 1) != 0;
}

static void
move(struct eval_packet *packet, const struct flow_action *action)
{
    uint8_t from[16];
    uint8_t *to = packet->fields[action->field2];
    uint32_t from_size = flow_field_size((enum flow_field)action->field);
    uint32_t to_size = flow_field_size((enum flow_field)action->field2);

    memcpy(from, packet->fields[action->field], sizeof from);
    for (uint32_t bit = 0; bit < action->bits; bit++) {
        uint8_t *byte = &to[to_size - 1 - bit / 8];
        uint8_t one = (uint8_t)(1u << bit % 8);
        *byte = (uint8_t)(get_bit(from, from_size, bit) ? *byte | one
                                                        : *byte & ~one);
    }
}

static void
add_output(struct eval_switch *sw, const struct eval_packet *packet,
           enum eval_output_kind kind, uint32_t port,
           const struct flow_action *action)
{
    CHECK(sw->output_count < EVAL_OUTPUTS_MAX);
    struct eval_output *output = &sw->outputs[sw->output_count++];
    *output =
        (struct eval_output){ .kind = kind, .port = port, .packet = *packet };
    if (kind == EVAL_CONTROLLER) {
        CHECK(get_number(action->data, 4) == PACKET_IN_MAGIC);
        output->reason = (uint32_t)get_number(action->data + 4, 4);
        memcpy(output->uuid.bytes, action->data + 8, 16);
    }
}

/* OpenFlow: not out of the port that it came in by. */
static void
output(struct eval_switch *sw, const struct eval_packet *packet, uint32_t port)
{
    if (port != 0 && port != eval_u32(packet, FIELD_IN_PORT)) {
        add_output(sw, packet, EVAL_OUTPUT, port, NULL);
    }
}

static void
run_ct(struct eval_switch *sw, struct eval_packet *packet,
       const struct flow_action *action)
{
    uint32_t zone = eval_u32(packet, (enum flow_field)action->field);

    if ((action->flags & CT_ACTION_COMMIT) != 0) {
        commit(sw, packet, action, zone);
    }
    if (action->number != FLOW_CT_NO_TABLE) {
        struct eval_packet copy = *packet;
        track(sw, &copy, zone);
        run_table(sw, &copy, (uint8_t)action->number);
    }
}

static void
check_size(struct eval_packet *packet, const struct flow_action *action)
{
    enum flow_field field = (enum flow_field)action->field;
    uint32_t bit = UINT32_C(1) << action->index;
    uint32_t value = eval_u32(packet, field) & ~bit;

    if (packet->size_bytes > action->number) {
        value |= bit;
    }
    eval_set_u32(packet, field, value);
}

/* False: no further actions of this flow. */
static bool
run_action(struct eval_switch *sw, struct eval_packet *packet,
           const struct flow_action *action)
{
    uint32_t ttl = eval_u32(packet, FIELD_IP_TTL);

    switch ((enum flow_action_kind)action->kind) {
    case ACTION_SET:
        set_field(packet, action);
        return true;
    case ACTION_MOVE:
        move(packet, action);
        return true;
    case ACTION_OUTPUT:
        output(sw, packet, action->number);
        return true;
    case ACTION_OUTPUT_REG:
        output(sw, packet, eval_u32(packet, (enum flow_field)action->field));
        return true;
    case ACTION_IN_PORT:
        add_output(sw, packet, EVAL_OUTPUT, eval_u32(packet, FIELD_IN_PORT),
                   NULL);
        return true;
    case ACTION_RESUBMIT:
        run_table(sw, packet, (uint8_t)action->number);
        return true;
    case ACTION_CT:
        run_ct(sw, packet, action);
        return true;
    case ACTION_CONTROLLER:
        add_output(sw, packet, EVAL_CONTROLLER, action->number, action);
        return true;
    case ACTION_DEC_TTL:
        if (ttl <= 1) {
            return false;
        }
        eval_set_u32(packet, FIELD_IP_TTL, ttl - 1);
        return true;
    case ACTION_METER:
        return true;
    case ACTION_CHECK_PKT_LARGER:
        check_size(packet, action);
        return true;
    case ACTION_CONJUNCTION:
        break;
    }
    CHECK(!"an action that can be run");
    return false;
}

static void
run_table(struct eval_switch *sw, struct eval_packet *packet, uint8_t table)
{
    const struct flow_spec *flow = eval_lookup(sw, packet, table);

    if (sw->trace != NULL) {
        char text[1024] = "no flow";
        if (flow != NULL) {
            flow_spec_format(flow, text, sizeof text);
        }
        fprintf(sw->trace, "# %2u: %s\n", table, text);
    }
    if (flow == NULL) {
        return;
    }
    CHECK(++sw->flows_hit <= 4096); /* As many as Open vSwitch resubmits. */

    const struct flow_action *actions = flow_spec_actions(flow);
    for (size_t i = 0; i < flow->action_count; i++) {
        if (!run_action(sw, packet, &actions[i])) {
            return;
        }
    }
}

void
eval_run(struct eval_switch *sw, const struct eval_packet *packet,
         uint8_t table)
{
    struct eval_packet copy = *packet;
    sw->output_count = 0;
    sw->flows_hit = 0;
    run_table(sw, &copy, table);
}

void
eval_switch_set_flows(struct eval_switch *sw, struct flow_spec *const *flows,
                      size_t count)
{
    size_t at = 0;

    sw->flows = flows;
    sw->count = count;
    for (unsigned table = 0; table <= TABLE_COUNT; table++) {
        while (at < count && flows[at]->table < table) {
            at++;
        }
        sw->starts[table] = at;
    }
}

void
eval_switch_init(struct eval_switch *sw, struct flow_spec *const *flows,
                 size_t count)
{
    sw->connection_count = 0;
    sw->output_count = 0;
    sw->trace = NULL;
    eval_switch_set_flows(sw, flows, count);
}
