/* SPDX-License-Identifier: Apache-2.0 */
/* Who has this address: answered on the asker's own host, from the tables.
 *
 * ARP requests for the address of a port that is bound somewhere, or of a
 * router, are turned into replies by a flow.  Neighbour solicitations go to the
 * controller: a flow cannot make the advertisement's option.  Nobody is told
 * that his own address is taken (N20): probes for it end here.  Nothing else of
 * ARP and ND passes; base.c has those flows. */

#include "netd/compile/match.h"
#include "netd/compile/place.h"

static void
emit_arp_answer(struct emit *emit, uint32_t vni, const struct ip_address *ip,
                const struct mac_address *mac)
{
    struct flow_builder b;

    if (ip->is_ipv6) {
        return;
    }
    flow_begin(&b, TABLE_ARP_ND, 100);
    flow_match_u64(&b, FIELD_METADATA, vni);
    match_arp(&b);
    flow_match_u32(&b, FIELD_ARP_OP, ARP_REQUEST);
    flow_match_ip(&b, FIELD_ARP_TPA, ip);
    flow_move(&b, FIELD_ETH_SRC, FIELD_ETH_DST, 48);
    flow_set_mac(&b, FIELD_ETH_SRC, mac);
    flow_set_u32(&b, FIELD_ARP_OP, ARP_REPLY);
    flow_move(&b, FIELD_ARP_SHA, FIELD_ARP_THA, 48);
    flow_move(&b, FIELD_ARP_SPA, FIELD_ARP_TPA, 32);
    flow_set_mac(&b, FIELD_ARP_SHA, mac);
    flow_set_ip(&b, FIELD_ARP_SPA, ip);
    flow_output_in_port(&b);
    emit_flow(emit, &b);
}

static void
emit_of_binding(struct emit *emit, const struct state_row *row)
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
        emit_arp_answer(emit, place.network->vni, &ip, &place.mac);
    }
}

static void
emit_of_router_port(struct emit *emit, const struct state_row *row)
{
    const struct state_router_port *port = state_router_port_from(row);
    const struct state_row *network =
        emit_row(emit, STATE_TABLE_NETWORK, &port->network);
    const struct state_row *next = NULL;
    struct mac_address mac;

    if (network == NULL || mac_parse(port->mac, &mac) != 0) {
        return;
    }
    while ((next = emit_next(emit, STATE_TABLE_ADDRESS,
                             STATE_ADDRESS_COL_ROUTER_PORT, &row->uuid,
                             next)) != NULL) {
        struct ip_address ip;
        if (ip_address_parse(state_address_from(next)->ip, &ip) == 0) {
            emit_arp_answer(emit, state_network_from(network)->vni, &ip, &mac);
        }
    }
}

static void
emit_of_local(struct emit *emit, const struct local_port *local)
{
    const struct state_address *address = NULL;
    struct port_place place;
    struct ip_address ip;
    struct flow_builder b;

    if (!place_find_main(emit, local, &place)) {
        return;
    }
    while ((address = place_next_address(emit, &place, address, &ip)) != NULL) {
        flow_begin(&b, TABLE_ARP_ND, 200);
        flow_match_u32(&b, FIELD_IN_PORT, local->ofport);
        if (ip.is_ipv6) {
            match_icmp(&b, true, ND_NS);
            flow_match_u32(&b, FIELD_ICMPV6_CODE, 0);
            flow_match_ip(&b, FIELD_ND_TARGET, &ip);
        } else {
            match_arp(&b);
            flow_match_ip(&b, FIELD_ARP_TPA, &ip);
        }
        emit_flow(emit, &b);
    }
    flow_begin(&b, TABLE_ARP_ND, 100);
    flow_match_u32(&b, FIELD_IN_PORT, local->ofport);
    match_icmp(&b, true, ND_NS);
    flow_controller(&b, pipeline_meter_id(local->zone, METER_ND), PACKET_IN_NS,
                    &local->port);
    emit_flow(emit, &b);
}

const struct emitter emitter_arp_nd = {
    .name = "arp-nd",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_BINDING,
    .emit = emit_of_binding,
};

const struct emitter emitter_arp_nd_router = {
    .name = "arp-nd-router",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_ROUTER_PORT,
    .emit = emit_of_router_port,
};

const struct emitter emitter_arp_nd_local = {
    .name = "arp-nd-local",
    .scope = EMIT_LOCAL,
    .emit_local = emit_of_local,
};
