/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/flow_random.h"

#include <string.h>

#include "lib/base/array.h"
#include "netd/compile/pipeline.h"

struct chance {
    struct rng *rng;
    struct flow_builder *builder;
    uint32_t eth_type; /* Matched, or 0. */
};

static uint32_t
below(struct chance *chance, uint32_t bound)
{
    return (uint32_t)rng_below(chance->rng, bound);
}

static bool
one_in(struct chance *chance, uint32_t count)
{
    return below(chance, count) == 0;
}

/* Exact, a prefix, or any bits, as the field can. */
enum mask_kind { MASK_EXACT, MASK_PREFIX, MASK_ANY };

static void
random_mask(struct chance *chance, uint32_t size, enum mask_kind kind,
            uint8_t ret_mask[16])
{
    memset(ret_mask, 0, 16);
    uint32_t form = below(chance, (uint32_t)kind + 1);
    if (form == MASK_EXACT) {
        memset(ret_mask, 0xff, size);
    } else if (form == MASK_PREFIX) {
        uint32_t length = 1 + below(chance, size * 8);
        for (uint32_t i = 0; i < length; i++) {
            ret_mask[i / 8] = (uint8_t)(ret_mask[i / 8] | 0x80u >> i % 8);
        }
    } else {
        rng_fill(chance->rng, ret_mask, size);
    }
}

static void
match_random(struct chance *chance, enum flow_field field, enum mask_kind kind)
{
    uint8_t value[16], mask[16];

    rng_fill(chance->rng, value, sizeof value);
    random_mask(chance, flow_field_size(field), kind, mask);
    flow_match(chance->builder, field, value, mask);
}

static void
set_random(struct chance *chance, enum flow_field field, enum mask_kind kind)
{
    uint8_t value[16], mask[16];

    rng_fill(chance->rng, value, sizeof value);
    random_mask(chance, flow_field_size(field), kind, mask);
    /* A mask of zeros sets nothing, and nobody means that. */
    mask[0] |= 0x80;
    flow_set(chance->builder, field, value, mask);
}

static enum flow_field
random_reg(struct chance *chance)
{
    return FIELD_REG0 + below(chance, 12);
}

/* ---- Match ---- */

static void
match_metadata(struct chance *chance)
{
    struct flow_builder *b = chance->builder;
    static const struct {
        enum flow_field field;
        enum mask_kind kind;
    } fields[] = {
        { FIELD_XXREG3, MASK_ANY },    { FIELD_TUN_ID, MASK_ANY },
        { FIELD_TUN_SRC, MASK_ANY },   { FIELD_TUN_DST, MASK_ANY },
        { FIELD_CT_ZONE, MASK_EXACT }, { FIELD_CT_MARK, MASK_ANY },
        { FIELD_CONJ_ID, MASK_EXACT }, { FIELD_ETH_SRC, MASK_ANY },
        { FIELD_ETH_DST, MASK_ANY },
    };

    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        if (one_in(chance, 20)) {
            match_random(chance, fields[i].field, fields[i].kind);
        }
    }
    if (one_in(chance, 4)) {
        match_random(chance, random_reg(chance), MASK_ANY);
    }
    if (one_in(chance, 4)) {
        flow_match_u32(b, FIELD_IN_PORT, 1 + below(chance, 60000));
    }
    if (one_in(chance, 4)) {
        /* Whatever leading zeros value and mask have. */
        uint32_t shift = below(chance, 32);
        flow_match_u32_masked(b, FIELD_TUN_TLV0,
                              (uint32_t)rng_u64(chance->rng) >> shift,
                              one_in(chance, 2)
                                  ? UINT32_MAX
                                  : 1 | (uint32_t)rng_u64(chance->rng) >>
                                            below(chance, 32));
    }
    if (one_in(chance, 4)) {
        flow_match_u32(b, FIELD_VLAN_TCI, 0);
    }
}

static void
match_l4(struct chance *chance, bool is_ipv6)
{
    static const uint32_t protocols[] = { IP_PROTO_TCP,    IP_PROTO_UDP,
                                          IP_PROTO_SCTP,   IP_PROTO_ICMPV4,
                                          IP_PROTO_ICMPV6, 89 };
    uint32_t protocol = protocols[below(chance, ARRAY_COUNT(protocols))];

    flow_match_u32(chance->builder, FIELD_IP_PROTO, protocol);
    if (protocol == IP_PROTO_TCP) {
        match_random(chance, FIELD_TCP_SRC, MASK_PREFIX);
        match_random(chance, FIELD_TCP_DST, MASK_ANY);
    } else if (protocol == IP_PROTO_UDP) {
        match_random(chance, FIELD_UDP_SRC, MASK_EXACT);
        match_random(chance, FIELD_UDP_DST, MASK_PREFIX);
    } else if (protocol == IP_PROTO_SCTP) {
        match_random(chance, FIELD_SCTP_DST, MASK_PREFIX);
    } else if (protocol == IP_PROTO_ICMPV4 && !is_ipv6) {
        match_random(chance, FIELD_ICMPV4_TYPE, MASK_EXACT);
        match_random(chance, FIELD_ICMPV4_CODE, MASK_EXACT);
    } else if (protocol == IP_PROTO_ICMPV6 && is_ipv6) {
        uint32_t type = 135 + below(chance, 2);
        flow_match_u32(chance->builder, FIELD_ICMPV6_TYPE, type);
        flow_match_u32(chance->builder, FIELD_ICMPV6_CODE, 0);
        match_random(chance, FIELD_ND_TARGET, MASK_PREFIX);
        match_random(chance, type == 135 ? FIELD_ND_SLL : FIELD_ND_TLL,
                     MASK_EXACT);
    }
}

static void
match_ip(struct chance *chance, bool is_ipv6)
{
    enum flow_field from = is_ipv6 ? FIELD_IPV6_SRC : FIELD_IPV4_SRC;
    enum flow_field to = is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST;

    if (one_in(chance, 2)) {
        match_random(chance, from, MASK_PREFIX);
    }
    if (one_in(chance, 2)) {
        match_random(chance, to, MASK_ANY);
    }
    if (one_in(chance, 4)) {
        match_random(chance, FIELD_IP_TTL, MASK_EXACT);
    }
    if (one_in(chance, 4)) {
        static const uint32_t kinds[][2] = {
            { 0, FRAG_ANY },
            { FRAG_ANY, FRAG_ANY },
            { 0, FRAG_LATER },
            { FRAG_ANY, FRAG_ANY | FRAG_LATER },
            { FRAG_ANY | FRAG_LATER, FRAG_ANY | FRAG_LATER },
        };
        uint32_t kind = below(chance, ARRAY_COUNT(kinds));
        flow_match_u32_masked(chance->builder, FIELD_IP_FRAG, kinds[kind][0],
                              kinds[kind][1]);
        if ((kinds[kind][0] & FRAG_LATER) != 0) {
            return; /* Has no ports. */
        }
    }
    if (one_in(chance, 2)) {
        match_l4(chance, is_ipv6);
    }
}

static void
match_arp(struct chance *chance)
{
    static const enum flow_field fields[] = { FIELD_ARP_SPA, FIELD_ARP_TPA,
                                              FIELD_ARP_SHA, FIELD_ARP_THA };

    flow_match_u32(chance->builder, FIELD_ARP_OP, 1 + below(chance, 2));
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        if (one_in(chance, 2)) {
            match_random(chance, fields[i], MASK_PREFIX);
        }
    }
}

static void
match_packet(struct chance *chance)
{
    static const uint32_t types[] = { 0, ETH_TYPE_IPV4, ETH_TYPE_IPV6,
                                      ETH_TYPE_ARP, 0x8847 };

    chance->eth_type = types[below(chance, ARRAY_COUNT(types))];
    if (one_in(chance, 4)) {
        flow_match_ct_state(chance->builder, CT_STATE_TRK, CT_STATE_INV);
    } else if (one_in(chance, 4)) {
        uint32_t set = below(chance, 64) & ~CT_STATE_INV;
        flow_match_ct_state(chance->builder, set, below(chance, 64) & ~set);
    }
    if (chance->eth_type == 0) {
        return;
    }
    flow_match_u32(chance->builder, FIELD_ETH_TYPE, chance->eth_type);
    if (chance->eth_type == ETH_TYPE_ARP) {
        match_arp(chance);
    } else if (chance->eth_type != 0x8847) {
        match_ip(chance, chance->eth_type == ETH_TYPE_IPV6);
    }
}

/* ---- Actions ---- */

static void
act_on_ip(struct chance *chance)
{
    struct flow_builder *b = chance->builder;
    bool is_ipv6 = chance->eth_type == ETH_TYPE_IPV6;

    switch (below(chance, 6)) {
    case 0:
        flow_ct(b, random_reg(chance), (uint8_t)(b->table + 1));
        return;
    case 1:
        flow_ct_commit(b, random_reg(chance), (uint32_t)rng_u64(chance->rng));
        return;
    case 2:
        flow_dec_ttl(b);
        return;
    case 3:
        set_random(chance, is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST, MASK_ANY);
        return;
    case 4:
        flow_move(b, is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST,
                  is_ipv6 ? FIELD_XXREG3 : FIELD_REG8, is_ipv6 ? 128 : 32);
        return;
    default:
        flow_set_u32(b, FIELD_IP_TTL, 64);
        return;
    }
}

static void
act_on_arp(struct chance *chance)
{
    struct flow_builder *b = chance->builder;

    flow_set_u32(b, FIELD_ARP_OP, 2);
    flow_move(b, FIELD_ARP_SHA, FIELD_ARP_THA, 48);
    flow_move(b, FIELD_ARP_SPA, FIELD_ARP_TPA, 32);
    set_random(chance, FIELD_ARP_SHA, MASK_EXACT);
    set_random(chance, FIELD_ARP_SPA, MASK_EXACT);
}

static void
act_on_registers(struct chance *chance)
{
    struct flow_builder *b = chance->builder;

    switch (below(chance, 9)) {
    case 0:
        set_random(chance, random_reg(chance), MASK_ANY);
        return;
    case 1:
        set_random(chance, FIELD_METADATA, MASK_ANY);
        return;
    case 2:
        set_random(chance, FIELD_XXREG3, MASK_ANY);
        return;
    case 3:
        flow_set_u64(b, FIELD_TUN_ID, rng_u64(chance->rng) >> 40);
        set_random(chance, FIELD_TUN_DST, MASK_EXACT);
        return;
    case 4:
        flow_set_u32(b, FIELD_TUN_TLV0,
                     (uint32_t)rng_u64(chance->rng) >> below(chance, 32));
        return;
    case 5:
        flow_set_u32_masked(b, FIELD_TUN_TLV0, TLV_VERSION << 24, 0xffu << 24);
        flow_move(b, REG_SRC_IDENTITY, FIELD_TUN_TLV0, 24);
        return;
    case 6:
        flow_move(b, FIELD_TUN_TLV0, REG_SRC_IDENTITY, 24);
        return;
    case 7:
        flow_move(b, FIELD_ETH_SRC, FIELD_ETH_DST, 48);
        set_random(chance, FIELD_ETH_SRC, MASK_EXACT);
        return;
    default:
        flow_move(b, random_reg(chance), random_reg(chance),
                  (uint16_t)(1 + below(chance, 32)));
        return;
    }
}

static void
act_on_packet(struct chance *chance)
{
    struct flow_builder *b = chance->builder;
    struct weft_uuid uuid;

    switch (below(chance, 7)) {
    case 0:
        flow_output(b, 1 + below(chance, 60000));
        return;
    case 1:
        flow_output_reg(b, random_reg(chance));
        return;
    case 2:
        flow_output_in_port(b);
        return;
    case 3:
        flow_resubmit(b, (uint8_t)(b->table + 1));
        return;
    case 4:
        uuid_make_random(rng_u64(chance->rng), rng_u64(chance->rng), &uuid);
        flow_controller(b,
                        pipeline_meter_id(ZONE_FIRST + below(chance, 100),
                                          METER_DHCP),
                        1 + below(chance, PACKET_IN_KIND_COUNT - 1),
                        one_in(chance, 4) ? NULL : &uuid);
        return;
    case 5:
        flow_meter(b, pipeline_meter_id(ZONE_FIRST + below(chance, 100),
                                        METER_FLOOD));
        return;
    default:
        flow_check_pkt_larger(b, (uint16_t)(64 + below(chance, 9000)),
                              random_reg(chance), (uint8_t)below(chance, 32));
        return;
    }
}

static void
act(struct chance *chance)
{
    bool is_ip =
        chance->eth_type == ETH_TYPE_IPV4 || chance->eth_type == ETH_TYPE_IPV6;

    if (is_ip && one_in(chance, 3)) {
        act_on_ip(chance);
    } else if (chance->eth_type == ETH_TYPE_ARP && one_in(chance, 3)) {
        act_on_arp(chance);
    } else if (one_in(chance, 2)) {
        act_on_registers(chance);
    } else {
        act_on_packet(chance);
    }
}

struct flow_spec *
flow_random(struct rng *rng, uint32_t number)
{
    struct flow_builder builder;
    struct chance chance = { .rng = rng, .builder = &builder };

    flow_begin(&builder, (uint8_t)below(&chance, TABLE_COUNT - 1),
               (uint16_t)below(&chance, 65536));
    flow_match_u64(&builder, FIELD_METADATA, number);
    match_metadata(&chance);
    match_packet(&chance);
    if (one_in(&chance, 8)) {
        for (uint32_t left = 1 + below(&chance, 40); left > 0; left--) {
            flow_conjunction(&builder, (uint32_t)rng_u64(rng),
                             (uint8_t)below(&chance, 3), 3);
        }
    } else {
        for (uint32_t left = below(&chance, 9); left > 0; left--) {
            act(&chance);
        }
    }
    return flow_finish(&builder);
}

struct flow_spec *
flow_plain(uint8_t table, uint32_t number, uint32_t port)
{
    struct flow_builder builder;

    flow_begin(&builder, table, 100);
    flow_match_u64(&builder, FIELD_METADATA, number);
    flow_output(&builder, port);
    return flow_finish(&builder);
}
