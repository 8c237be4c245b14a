/* SPDX-License-Identifier: Apache-2.0 */
/* What every host's switch has, whatever the tenants want: how one table leads
 * to the next, and what is dropped for everybody.
 *
 * A table without a flow that matches drops (the switch's fail_mode is secure).
 * Drops are nevertheless written down where a count tells something (N21). */

#include "netd/compile/emit.h"
#include "netd/compile/match.h"

#define PRIORITY_MISS 0

static void
emit_next_table(struct emit *emit, uint8_t from, uint8_t to)
{
    struct flow_builder b;

    flow_begin(&b, from, PRIORITY_MISS);
    flow_resubmit(&b, to);
    emit_flow(emit, &b);
}

/* ---- CLASSIFY, TUN_OUT ---- */

static void
emit_tunnel(struct emit *emit, uint32_t ofport)
{
    struct flow_builder b;

    flow_begin(&b, TABLE_CLASSIFY, 100);
    flow_match_u32(&b, FIELD_IN_PORT, ofport);
    flow_resubmit(&b, TABLE_TUN_IN);
    emit_flow(emit, &b);

    /* From one host to another just once. */
    flow_begin(&b, TABLE_TUN_OUT, 200);
    match_flag(&b, FLAG_FROM_TUNNEL, 0);
    emit_flow(emit, &b);

    flow_begin(&b, TABLE_TUN_OUT, 100);
    flow_move(&b, FIELD_METADATA, FIELD_TUN_ID, 24);
    flow_set_u32(&b, FIELD_TUN_TLV0, TLV_VERSION << 24);
    flow_move(&b, REG_SRC_IDENTITY, FIELD_TUN_TLV0, 24);
    flow_move(&b, REG_TUN_DST, FIELD_TUN_DST, 32);
    flow_output(&b, ofport);
    emit_flow(emit, &b);
}

/* ---- PORT_SEC: what no guest may send ---- */

static void
emit_guard_udp(struct emit *emit, bool is_ipv6, uint32_t src, uint32_t dst)
{
    struct flow_builder b;

    flow_begin(&b, TABLE_PORT_SEC, 180);
    match_udp(&b, is_ipv6, src, dst);
    emit_flow(emit, &b);
}

static void
emit_guard_icmp6(struct emit *emit, uint16_t priority, uint32_t type)
{
    struct flow_builder b;

    flow_begin(&b, TABLE_PORT_SEC, priority);
    match_icmp(&b, true, type);
    emit_flow(emit, &b);
}

static void
emit_guards(struct emit *emit)
{
    static const uint8_t reserved[6] = { 0x01, 0x80, 0xc2, 0, 0, 0 };
    static const uint8_t reserved_mask[6] = {
        0xff, 0xff, 0xff, 0xff, 0xff, 0xf0
    };
    struct flow_builder b;

    /* Spanning tree, pause frames, LLDP, ... */
    flow_begin(&b, TABLE_PORT_SEC, 190);
    flow_match(&b, FIELD_ETH_DST, reserved, reserved_mask);
    emit_flow(emit, &b);

    /* Guests are no DHCP servers and no routers. */
    emit_guard_udp(emit, false, DHCP4_SERVER, DHCP4_CLIENT);
    emit_guard_udp(emit, true, DHCP6_SERVER, DHCP6_CLIENT);
    emit_guard_icmp6(emit, 180, ND_RA);
    emit_guard_icmp6(emit, 180, ND_REDIRECT);
    /* Type 0 is reserved: the type is out of sight, in a later fragment or
     * behind the end of the packet. */
    emit_guard_icmp6(emit, 180, 0);
    /* What is good of these went to PORT_SEC_ND at a higher priority; the rest
     * is fragmented (RFC 6980) or was routed. */
    emit_guard_icmp6(emit, 130, ND_RS);
    emit_guard_icmp6(emit, 130, ND_NS);
    emit_guard_icmp6(emit, 130, ND_NA);
}

/* ---- SERVICE and ARP_ND: what ends there, answered or not ---- */

static void
emit_ends(struct emit *emit)
{
    static const uint8_t nd_types[] = { ND_RS, ND_RA, ND_NS, ND_NA,
                                        ND_REDIRECT };
    struct flow_builder b;

    flow_begin(&b, TABLE_SERVICE, 50);
    match_udp(&b, false, DHCP4_CLIENT, DHCP4_SERVER);
    emit_flow(emit, &b);
    flow_begin(&b, TABLE_SERVICE, 50);
    match_udp(&b, true, DHCP6_CLIENT, DHCP6_SERVER);
    emit_flow(emit, &b);

    flow_begin(&b, TABLE_ARP_ND, 50);
    match_arp(&b);
    emit_flow(emit, &b);
    for (size_t i = 0; i < sizeof nd_types; i++) {
        flow_begin(&b, TABLE_ARP_ND, 50);
        match_icmp(&b, true, nd_types[i]);
        emit_flow(emit, &b);
    }
}

/* ---- ARP_ND: what must never be answered by an ICMP error (N19) ---- */

static void
finish_mark(struct emit *emit, struct flow_builder *builder)
{
    set_flag(builder, FLAG_NO_ERROR);
    flow_resubmit(builder, TABLE_DNAT);
    emit_flow(emit, builder);
}

static void
emit_marks(struct emit *emit)
{
    /* Unreachable, source quench, redirect, time exceeded, parameter. */
    static const uint8_t errors4[] = { 3, 4, 5, 11, 12 };
    static const uint8_t errors6[] = { 1, 2, 3, 4 };
    static const struct ip_prefix multicast[] = {
        { { .bytes = { 224 } }, 4 },
        { { .bytes = { 255, 255, 255, 255 } }, 32 },
        { { .is_ipv6 = true, .bytes = { 0xff } }, 8 },
    };
    struct flow_builder b;

    for (size_t i = 0; i < sizeof errors4; i++) {
        flow_begin(&b, TABLE_ARP_ND, 20);
        match_icmp(&b, false, errors4[i]);
        finish_mark(emit, &b);
    }
    for (size_t i = 0; i < sizeof errors6; i++) {
        flow_begin(&b, TABLE_ARP_ND, 20);
        match_icmp(&b, true, errors6[i]);
        finish_mark(emit, &b);
    }
    for (size_t i = 0; i < 2; i++) {
        flow_begin(&b, TABLE_ARP_ND, 30);
        match_family(&b, i == 1);
        flow_match_u32_masked(&b, FIELD_IP_FRAG, FRAG_LATER, FRAG_LATER);
        finish_mark(emit, &b);
    }
    for (size_t i = 0; i < sizeof multicast / sizeof multicast[0]; i++) {
        bool is_ipv6 = multicast[i].address.is_ipv6;
        flow_begin(&b, TABLE_ARP_ND, 40);
        match_family(&b, is_ipv6);
        flow_match_prefix(&b, is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST,
                          &multicast[i]);
        finish_mark(emit, &b);
    }
}

/* ---- The rest ---- */

static void
emit_delivery(struct emit *emit)
{
    struct flow_builder b;

    flow_begin(&b, TABLE_DELIVER, 100);
    flow_match_u32(&b, REG_TUN_DST, 0);
    flow_resubmit(&b, TABLE_IN_CT);
    emit_flow(emit, &b);
    emit_next_table(emit, TABLE_DELIVER, TABLE_TUN_OUT);
}

static void
emit_base(struct emit *emit)
{
    const struct compile_self *self = emit_self(emit);
    struct flow_builder b;

    if (self->tunnel_ofport != 0) {
        emit_tunnel(emit, self->tunnel_ofport);
    }
    emit_guards(emit);
    emit_ends(emit);
    emit_marks(emit);

    emit_next_table(emit, TABLE_SERVICE, TABLE_ARP_ND);
    emit_next_table(emit, TABLE_ARP_ND, TABLE_DNAT);
    emit_next_table(emit, TABLE_DNAT, TABLE_L2_CLASS);
    /* Broadcast and multicast of a network without flood. */
    flow_begin(&b, TABLE_L2_CLASS, 10);
    match_multicast(&b);
    emit_flow(emit, &b);
    emit_next_table(emit, TABLE_L2_CLASS, TABLE_RESOLVE);
    emit_next_table(emit, TABLE_SNAT, TABLE_DELIVER);
    emit_delivery(emit);
    emit_next_table(emit, TABLE_UN_LB, TABLE_OUTPUT);
}

const struct emitter emitter_base = {
    .name = "base",
    .scope = EMIT_BASE,
    .emit_base = emit_base,
};
