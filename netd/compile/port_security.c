/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest may send: an allow-list (N21).
 *
 *     untagged, from its own MAC, and
 *       IPv4    from an own address, or a DHCP request from 0.0.0.0
 *       ARP     about itself                                    PORT_SEC_ND
 *       IPv6    from an own address, or any link-local one but a router's
 *               (they need not be made from the MAC)
 *       RS, NS, NA  unfragmented, with hop limit 255, about itself
 *                                                               PORT_SEC_ND
 *
 * Everything else is dropped, by one flow per reason and port, whose counters
 * tell what a guest tries.  What is dropped for all ports alike is in base.c; a
 * router's link-local address is guarded by router.c.
 *
 * Not seen here: IPv4 options (source routing), which OpenFlow cannot match;
 * and a DHCP client's chaddr, which netd/packet_in checks. */

#include "netd/compile/match.h"
#include "netd/compile/place.h"

enum {
    PRIORITY_TAGGED = 200,
    PRIORITY_ND = 140,
    PRIORITY_OWN = 100,
    PRIORITY_SPOOFED_IP = 10,
    PRIORITY_ETHERTYPE = 5,
    PRIORITY_MAC = 1,
};

#define VLAN_PRESENT 0x1000u

static const struct ip_prefix link_local = {
    { .is_ipv6 = true, .bytes = { 0xfe, 0x80 } },
    64,
};
static const struct ip_address unspecified6 = { .is_ipv6 = true };

struct guard {
    struct emit *emit;
    const struct local_port *local;
    const struct port_place *place;
};

static void
begin(const struct guard *guard, struct flow_builder *builder, uint8_t table,
      uint16_t priority)
{
    flow_begin(builder, table, priority);
    flow_match_u32(builder, FIELD_IN_PORT, guard->local->ofport);
}

static void
begin_own(const struct guard *guard, struct flow_builder *builder,
          uint16_t priority)
{
    begin(guard, builder, TABLE_PORT_SEC, priority);
    flow_match_mac(builder, FIELD_ETH_SRC, &guard->place->mac);
}

static void
pass(const struct guard *guard, struct flow_builder *builder, uint8_t table)
{
    flow_resubmit(builder, table);
    emit_flow(guard->emit, builder);
}

/* ---- PORT_SEC ---- */

static void
emit_general(const struct guard *guard)
{
    static const uint8_t nd_types[] = { ND_RS, ND_NS, ND_NA };
    static const uint32_t families[] = { ETH_TYPE_IPV4, ETH_TYPE_IPV6 };
    static const struct ip_address broadcast = {
        .bytes = { 255, 255, 255, 255 },
    };
    static const struct ip_address unspecified4 = { .is_ipv6 = false };
    struct flow_builder b;

    begin(guard, &b, TABLE_PORT_SEC, PRIORITY_TAGGED);
    flow_match_u32_masked(&b, FIELD_VLAN_TCI, VLAN_PRESENT, VLAN_PRESENT);
    emit_flow(guard->emit, &b);

    begin_own(guard, &b, PRIORITY_OWN);
    match_arp(&b);
    pass(guard, &b, TABLE_PORT_SEC_ND);

    for (size_t i = 0; i < sizeof nd_types; i++) {
        begin_own(guard, &b, PRIORITY_ND);
        match_icmp(&b, true, nd_types[i]);
        flow_match_u32(&b, FIELD_IP_TTL, 255);
        flow_match_u32(&b, FIELD_IP_FRAG, 0);
        pass(guard, &b, TABLE_PORT_SEC_ND);
    }

    begin_own(guard, &b, PRIORITY_OWN);
    match_udp(&b, false, DHCP4_CLIENT, DHCP4_SERVER);
    flow_match_ip(&b, FIELD_IPV4_SRC, &unspecified4);
    flow_match_ip(&b, FIELD_IPV4_DST, &broadcast);
    pass(guard, &b, TABLE_SERVICE);

    begin_own(guard, &b, PRIORITY_OWN);
    match_family(&b, true);
    flow_match_prefix(&b, FIELD_IPV6_SRC, &link_local);
    pass(guard, &b, TABLE_SERVICE);

    for (size_t i = 0; i < 2; i++) {
        begin_own(guard, &b, PRIORITY_SPOOFED_IP);
        flow_match_u32(&b, FIELD_ETH_TYPE, families[i]);
        emit_flow(guard->emit, &b);
    }
    begin_own(guard, &b, PRIORITY_ETHERTYPE);
    emit_flow(guard->emit, &b);
    begin(guard, &b, TABLE_PORT_SEC, PRIORITY_MAC);
    emit_flow(guard->emit, &b);
}

/* ---- PORT_SEC_ND ---- */

static void
begin_nd(const struct guard *guard, struct flow_builder *builder, uint32_t type)
{
    begin(guard, builder, TABLE_PORT_SEC_ND, 100);
    match_icmp(builder, true, type);
    flow_match_u32(builder, FIELD_ICMPV6_CODE, 0);
}

static void
emit_arp_claim(const struct guard *guard, const struct ip_address *ip)
{
    struct flow_builder b;

    begin(guard, &b, TABLE_PORT_SEC_ND, 100);
    match_arp(&b);
    flow_match_mac(&b, FIELD_ARP_SHA, &guard->place->mac);
    flow_match_ip(&b, FIELD_ARP_SPA, ip);
    pass(guard, &b, TABLE_ARP_ND);
}

/* 'prefix' is an own address or the link-local prefix.  The switch shows a
 * missing link-layer option as zeros (tried with Open vSwitch 3.1). */
static void
emit_nd_claims(const struct guard *guard, const struct ip_prefix *prefix)
{
    static const struct mac_address absent = { { 0 } };
    const struct mac_address *macs[] = { &absent, &guard->place->mac };
    struct flow_builder b;

    for (size_t i = 0; i < 2; i++) {
        begin_nd(guard, &b, ND_NS);
        flow_match_prefix(&b, FIELD_IPV6_SRC, prefix);
        flow_match_mac(&b, FIELD_ND_SLL, macs[i]);
        pass(guard, &b, TABLE_ARP_ND);

        begin_nd(guard, &b, ND_NA);
        flow_match_prefix(&b, FIELD_ND_TARGET, prefix);
        flow_match_mac(&b, FIELD_ND_TLL, macs[i]);
        pass(guard, &b, TABLE_ARP_ND);
    }
    begin_nd(guard, &b, ND_RS);
    flow_match_prefix(&b, FIELD_IPV6_SRC, prefix);
    pass(guard, &b, TABLE_SERVICE);
}

static void
emit_nd_general(const struct guard *guard)
{
    static const struct mac_address absent = { { 0 } };
    static const struct ip_address probe = { .is_ipv6 = false };
    struct flow_builder b;

    emit_arp_claim(guard, &probe);
    emit_nd_claims(guard, &link_local);

    /* Detection of duplicate addresses; and who has no address yet. */
    begin_nd(guard, &b, ND_NS);
    flow_match_ip(&b, FIELD_IPV6_SRC, &unspecified6);
    flow_match_mac(&b, FIELD_ND_SLL, &absent);
    pass(guard, &b, TABLE_ARP_ND);
    begin_nd(guard, &b, ND_RS);
    flow_match_ip(&b, FIELD_IPV6_SRC, &unspecified6);
    pass(guard, &b, TABLE_SERVICE);

    begin(guard, &b, TABLE_PORT_SEC_ND, 10);
    match_arp(&b);
    emit_flow(guard->emit, &b);
    begin(guard, &b, TABLE_PORT_SEC_ND, 5);
    emit_flow(guard->emit, &b);
}

/* ---- Both, per own address ---- */

static void
emit_address(const struct guard *guard, const struct ip_address *ip)
{
    struct flow_builder b;

    begin_own(guard, &b, PRIORITY_OWN);
    match_source(&b, ip);
    pass(guard, &b, TABLE_SERVICE);
    if (ip->is_ipv6) {
        const struct ip_prefix whole = { *ip, 128 };
        emit_nd_claims(guard, &whole);
    } else {
        emit_arp_claim(guard, ip);
    }
}

static void
emit_port_security(struct emit *emit, const struct local_port *local)
{
    const struct state_address *address = NULL;
    struct port_place place;
    struct ip_address ip;

    if (!place_find_main(emit, local, &place)) {
        return;
    }
    const struct guard guard = { emit, local, &place };
    emit_general(&guard);
    emit_nd_general(&guard);
    while ((address = place_next_address(emit, &place, address, &ip)) != NULL) {
        emit_address(&guard, &ip);
    }
}

const struct emitter emitter_port_security = {
    .name = "port-security",
    .scope = EMIT_LOCAL,
    .emit_local = emit_port_security,
};
