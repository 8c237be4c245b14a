/* SPDX-License-Identifier: Apache-2.0 */
/* Routers: distributed, so that a packet is routed on the sender's own host.
 *
 *     L2_CLASS    eth_dst is a router's MAC           -> ROUTE_IN
 *     ROUTE_IN    for the router itself: echo requests are answered, the rest
 *                 is flagged; TTL                     -> ROUTE
 *     ROUTE       longest prefix: network out, next hop, too big?
 *                                                     -> NEIGHBOUR
 *     NEIGHBOUR   next hop's MAC; only here the packet is changed (MACs, TTL),
 *                 so that the controller gets it as the guest sent it
 *                                                     -> RESOLVE
 *
 * What ends in an ICMP error goes to the controller by a flow of the port that
 * it came from, whose meter limits it (N19); so each error needs a flow per
 * port, and none per (port, router). */

#include "netd/compile/match.h"
#include "netd/compile/place.h"

#define ECHO4_REQUEST 8u
#define ECHO4_REPLY 0u
#define ECHO6_REQUEST 128u
#define ECHO6_REPLY 129u
#define ANSWER_TTL 64u

enum {
    ROUTE_IN_ECHO = 300,
    ROUTE_IN_FRAGMENT = 290,
    ROUTE_IN_TO_ROUTER = 280,
    ROUTE_IN_TTL = 210,
    ROUTE_IN_TTL_DROP = 200,
    ROUTE_TO_ROUTER_DROP = 60010,
    ROUTE_TO_ROUTER = 60000,
    ROUTE_NEVER = 59000,
    ROUTE_PREFIX = 1000, /* And 10 for each bit of the prefix. */
    ROUTE_NONE = 10,
    NEIGHBOUR_TOO_BIG = 310,
    NEIGHBOUR_TOO_BIG_DROP = 300,
    NEIGHBOUR_KNOWN = 100,
    NEIGHBOUR_NONE = 10,
};

/* ---- What all routers share ---- */

static void
emit_never(struct emit *emit, enum flow_field field4, enum flow_field field6,
           const struct ip_prefix *prefix)
{
    struct flow_builder b;

    flow_begin(&b, TABLE_ROUTE, ROUTE_NEVER);
    match_family(&b, prefix->address.is_ipv6);
    flow_match_prefix(&b, prefix->address.is_ipv6 ? field6 : field4, prefix);
    emit_flow(emit, &b);
}

static void
emit_base(struct emit *emit)
{
    static const struct ip_prefix never_to[] = {
        { { .bytes = { 0 } }, 8 },
        { { .bytes = { 127 } }, 8 },
        { { .bytes = { 169, 254 } }, 16 },
        { { .bytes = { 224 } }, 3 },
        { { .is_ipv6 = true, .bytes = { 0xff } }, 8 },
    };
    static const struct ip_prefix link_local = {
        { .is_ipv6 = true, .bytes = { 0xfe, 0x80 } },
        10,
    };
    struct flow_builder b;

    for (uint32_t i = 0; i < 4; i++) {
        flow_begin(&b, TABLE_ROUTE_IN, ROUTE_IN_TTL_DROP);
        match_family(&b, (i & 1) != 0);
        flow_match_u32(&b, FIELD_IP_TTL, i / 2);
        emit_flow(emit, &b);
    }
    flow_begin(&b, TABLE_ROUTE_IN, 0);
    flow_resubmit(&b, TABLE_ROUTE);
    emit_flow(emit, &b);

    /* ICMP to the router: echo requests were answered, nothing else is. */
    for (uint32_t i = 0; i < 2; i++) {
        flow_begin(&b, TABLE_ROUTE, ROUTE_TO_ROUTER_DROP);
        match_flag(&b, FLAG_TO_ROUTER, 0);
        match_proto(&b, i == 1, i == 1 ? IP_PROTO_ICMPV6 : IP_PROTO_ICMPV4);
        emit_flow(emit, &b);
    }
    flow_begin(&b, TABLE_ROUTE, ROUTE_TO_ROUTER - 1);
    match_flag(&b, FLAG_TO_ROUTER, 0);
    emit_flow(emit, &b);
    for (size_t i = 0; i < sizeof never_to / sizeof never_to[0]; i++) {
        emit_never(emit, FIELD_IPV4_DST, FIELD_IPV6_DST, &never_to[i]);
    }
    emit_never(emit, FIELD_IPV4_DST, FIELD_IPV6_DST, &link_local);
    emit_never(emit, FIELD_IPV4_SRC, FIELD_IPV6_SRC, &link_local);

    flow_begin(&b, TABLE_NEIGHBOUR, NEIGHBOUR_TOO_BIG_DROP);
    match_flag(&b, FLAG_TOO_BIG, 0);
    emit_flow(emit, &b);
}

/* ---- One interface of a router ---- */

struct interface {
    struct emit *emit;
    const struct state_router_port *port;
    const struct state_network *network;
    uint32_t router; /* Its tag. */
    struct mac_address mac;
    struct ip_prefix prefix;
};

static void
begin(const struct interface *interface, struct flow_builder *builder,
      uint8_t table, uint16_t priority)
{
    flow_begin(builder, table, priority);
    flow_match_u32(builder, REG_ROUTER, interface->router);
}

static void
emit_entry(const struct interface *interface)
{
    struct ip_address own;
    struct flow_builder b;

    flow_begin(&b, TABLE_L2_CLASS, 100);
    flow_match_u64(&b, FIELD_METADATA, interface->network->vni);
    flow_match_mac(&b, FIELD_ETH_DST, &interface->mac);
    flow_set_u32(&b, REG_ROUTER, interface->router);
    flow_resubmit(&b, TABLE_ROUTE_IN);
    emit_flow(interface->emit, &b);

    if (!interface->prefix.address.is_ipv6) {
        return;
    }
    /* No guest says that it is the router (N21). */
    place_link_local(&interface->mac, &own);
    flow_begin(&b, TABLE_PORT_SEC, 160);
    flow_match_u64(&b, FIELD_METADATA, interface->network->vni);
    match_source(&b, &own);
    emit_flow(interface->emit, &b);
}

/* Back to the sender, with MACs and addresses exchanged. */
static void
finish_turned(const struct interface *interface, struct flow_builder *builder,
              bool is_ipv6)
{
    flow_move(builder, FIELD_ETH_SRC, REG_NEXT_HOP6, 48);
    flow_move(builder, FIELD_ETH_DST, FIELD_ETH_SRC, 48);
    flow_move(builder, REG_NEXT_HOP6, FIELD_ETH_DST, 48);
    if (is_ipv6) {
        flow_move(builder, FIELD_IPV6_SRC, REG_NEXT_HOP6, 128);
        flow_move(builder, FIELD_IPV6_DST, FIELD_IPV6_SRC, 128);
        flow_move(builder, REG_NEXT_HOP6, FIELD_IPV6_DST, 128);
    } else {
        flow_move(builder, FIELD_IPV4_SRC, REG_NEXT_HOP, 32);
        flow_move(builder, FIELD_IPV4_DST, FIELD_IPV4_SRC, 32);
        flow_move(builder, REG_NEXT_HOP, FIELD_IPV4_DST, 32);
    }
    flow_set_u32(builder, FIELD_IP_TTL, ANSWER_TTL);
    flow_output_in_port(builder);
    emit_flow(interface->emit, builder);
}

static void
emit_router_address(const struct interface *interface,
                    const struct ip_address *ip)
{
    enum flow_field type = ip->is_ipv6 ? FIELD_ICMPV6_TYPE : FIELD_ICMPV4_TYPE;
    enum flow_field destination = ip->is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST;
    struct flow_builder b;

    begin(interface, &b, TABLE_ROUTE_IN, ROUTE_IN_ECHO);
    match_icmp(&b, ip->is_ipv6, ip->is_ipv6 ? ECHO6_REQUEST : ECHO4_REQUEST);
    flow_match_ip(&b, destination, ip);
    flow_set_u32(&b, type, ip->is_ipv6 ? ECHO6_REPLY : ECHO4_REPLY);
    finish_turned(interface, &b, ip->is_ipv6);

    /* The rest of a large echo request.  What else this turns around reaches
     * nobody but its sender, who has no first fragment for it.  (The protocol
     * of IPv6 is not known in later fragments.) */
    begin(interface, &b, TABLE_ROUTE_IN, ROUTE_IN_FRAGMENT);
    match_destination(&b, ip);
    if (!ip->is_ipv6) {
        flow_match_u32(&b, FIELD_IP_PROTO, IP_PROTO_ICMPV4);
    }
    flow_match_u32_masked(&b, FIELD_IP_FRAG, FRAG_LATER, FRAG_LATER);
    finish_turned(interface, &b, ip->is_ipv6);

    begin(interface, &b, TABLE_ROUTE_IN, ROUTE_IN_TO_ROUTER);
    match_destination(&b, ip);
    set_flag(&b, FLAG_TO_ROUTER);
    flow_resubmit(&b, TABLE_ROUTE);
    emit_flow(interface->emit, &b);
}

static void
emit_router_addresses(const struct interface *interface)
{
    const struct state_row *row = NULL;
    struct ip_address ip;

    while ((row = emit_next(interface->emit, STATE_TABLE_ADDRESS,
                            STATE_ADDRESS_COL_ROUTER_PORT,
                            &interface->port->row.uuid, row)) != NULL) {
        if (ip_address_parse(state_address_from(row)->ip, &ip) == 0) {
            emit_router_address(interface, &ip);
        }
    }
    if (interface->prefix.address.is_ipv6) {
        place_link_local(&interface->mac, &ip);
        emit_router_address(interface, &ip);
    }
}

/* Whether a packet that fits one of the router's networks may not fit this. */
static bool
is_narrower(const struct interface *interface)
{
    const struct state_row *row = NULL;

    while ((row = emit_next(interface->emit, STATE_TABLE_ROUTER_PORT,
                            STATE_ROUTER_PORT_COL_ROUTER,
                            &interface->port->router, row)) != NULL) {
        const struct state_row *network =
            emit_row(interface->emit, STATE_TABLE_NETWORK,
                     &state_router_port_from(row)->network);
        if (network != NULL &&
            state_network_from(network)->mtu > interface->network->mtu) {
            return true;
        }
    }
    return false;
}

#define ETH_HEADER_BYTES 14u

static void
emit_route(const struct interface *interface)
{
    const struct ip_prefix *prefix = &interface->prefix;
    bool is_ipv6 = prefix->address.is_ipv6;
    enum flow_field destination = is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST;
    uint32_t frame_bytes = interface->network->mtu + ETH_HEADER_BYTES;
    struct flow_builder b;

    begin(interface, &b, TABLE_ROUTE,
          (uint16_t)(ROUTE_PREFIX + 10 * prefix->length));
    match_family(&b, is_ipv6);
    flow_match_prefix(&b, destination, prefix);
    flow_set_u64(&b, FIELD_METADATA, interface->network->vni);
    flow_move(&b, destination, is_ipv6 ? REG_NEXT_HOP6 : REG_NEXT_HOP,
              is_ipv6 ? 128 : 32);
    set_flag(&b, FLAG_ROUTED);
    if (frame_bytes <= UINT16_MAX && is_narrower(interface)) {
        flow_check_pkt_larger(&b, (uint16_t)frame_bytes, REG_FLAGS,
                              FLAG_TOO_BIG_BIT);
    }
    flow_resubmit(&b, TABLE_NEIGHBOUR);
    emit_flow(interface->emit, &b);
}

static void
emit_router_port(struct emit *emit, const struct state_row *row)
{
    const struct state_router_port *port = state_router_port_from(row);
    const struct state_row *router =
        emit_row(emit, STATE_TABLE_ROUTER, &port->router);
    const struct state_row *network =
        emit_row(emit, STATE_TABLE_NETWORK, &port->network);
    const struct state_row *subnet =
        emit_row(emit, STATE_TABLE_SUBNET, &port->subnet);
    struct interface interface = { .emit = emit, .port = port };

    if (router == NULL || network == NULL || subnet == NULL ||
        mac_parse(port->mac, &interface.mac) != 0 ||
        ip_prefix_parse(state_subnet_from(subnet)->cidr, &interface.prefix) !=
            0) {
        return;
    }
    interface.network = state_network_from(network);
    interface.router = state_router_from(router)->tag;
    emit_entry(&interface);
    emit_router_addresses(&interface);
    emit_route(&interface);
}

/* ---- Next hops ---- */

/* One for each address of a port in a subnet that has a router.  The subnet of
 * an address has one router's interface at most, which is the sender then. */
static void
emit_neighbour(struct emit *emit, const struct port_place *place,
               const struct state_address *address, const struct ip_address *ip)
{
    const struct state_row *row =
        emit_next(emit, STATE_TABLE_ROUTER_PORT, STATE_ROUTER_PORT_COL_SUBNET,
                  &address->subnet, NULL);
    struct mac_address mac;
    struct flow_builder b;

    if (row == NULL || mac_parse(state_router_port_from(row)->mac, &mac) != 0) {
        return;
    }
    flow_begin(&b, TABLE_NEIGHBOUR, NEIGHBOUR_KNOWN);
    flow_match_u64(&b, FIELD_METADATA, place->network->vni);
    match_family(&b, ip->is_ipv6); /* What dec_ttl wants. */
    flow_match_ip(&b, ip->is_ipv6 ? REG_NEXT_HOP6 : REG_NEXT_HOP, ip);
    flow_set_mac(&b, FIELD_ETH_SRC, &mac);
    flow_set_mac(&b, FIELD_ETH_DST, &place->mac);
    flow_dec_ttl(&b);
    flow_resubmit(&b, TABLE_RESOLVE);
    emit_flow(emit, &b);
}

static void
emit_neighbours(struct emit *emit, const struct state_row *row)
{
    const struct state_binding *binding = state_binding_from(row);
    const struct state_address *address = NULL;
    struct port_place place;
    struct ip_address ip;

    if (!place_find(emit, &binding->port, &place) ||
        !place_is_leader(&place, binding)) {
        return;
    }
    while ((address = place_next_address(emit, &place, address, &ip)) != NULL) {
        emit_neighbour(emit, &place, address, &ip);
    }
}

/* ---- Errors, per port ---- */

static void
begin_error(const struct local_port *local, struct flow_builder *builder,
            uint8_t table, uint16_t priority, uint32_t flag)
{
    flow_begin(builder, table, priority);
    flow_match_u32(builder, FIELD_IN_PORT, local->ofport);
    match_flag(builder, flag, FLAG_NO_ERROR);
}

static void
finish_error(struct emit *emit, const struct local_port *local,
             struct flow_builder *builder, uint32_t kind)
{
    flow_controller(builder, pipeline_meter_id(local->zone, METER_ICMP), kind,
                    &local->port);
    emit_flow(emit, builder);
}

static void
emit_errors(struct emit *emit, const struct local_port *local)
{
    struct port_place place;
    struct flow_builder b;

    if (!place_find_main(emit, local, &place) ||
        emit_next(emit, STATE_TABLE_ROUTER_PORT, STATE_ROUTER_PORT_COL_NETWORK,
                  &place.network->row.uuid, NULL) == NULL) {
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        begin_error(local, &b, TABLE_ROUTE_IN, ROUTE_IN_TTL, 0);
        match_family(&b, (i & 1) != 0);
        flow_match_u32(&b, FIELD_IP_TTL, i / 2);
        finish_error(emit, local, &b, PACKET_IN_TTL);
    }
    begin_error(local, &b, TABLE_ROUTE, ROUTE_TO_ROUTER, FLAG_TO_ROUTER);
    finish_error(emit, local, &b, PACKET_IN_ROUTER);
    begin_error(local, &b, TABLE_ROUTE, ROUTE_NONE, 0);
    finish_error(emit, local, &b, PACKET_IN_UNREACHABLE);
    begin_error(local, &b, TABLE_NEIGHBOUR, NEIGHBOUR_TOO_BIG, FLAG_TOO_BIG);
    finish_error(emit, local, &b, PACKET_IN_TOO_BIG);
    begin_error(local, &b, TABLE_NEIGHBOUR, NEIGHBOUR_NONE, 0);
    finish_error(emit, local, &b, PACKET_IN_UNREACHABLE);
}

const struct emitter emitter_router_base = {
    .name = "router-base",
    .scope = EMIT_BASE,
    .emit_base = emit_base,
};

const struct emitter emitter_router = {
    .name = "router",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_ROUTER_PORT,
    .emit = emit_router_port,
};

const struct emitter emitter_router_neighbour = {
    .name = "router-neighbour",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_BINDING,
    .emit = emit_neighbours,
};

const struct emitter emitter_router_error = {
    .name = "router-error",
    .scope = EMIT_LOCAL,
    .emit_local = emit_errors,
};
