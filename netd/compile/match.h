/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_MATCH_H
#define NETD_COMPILE_MATCH_H

/* Matches with their prerequisites (eth_type before ip_proto, ip_proto before
 * ports), and actions that several emitters use. */

#include "netd/compile/flow_spec.h"
#include "netd/compile/pipeline.h"

/* ICMPv6 types of neighbour discovery. */
#define ND_RS 133u
#define ND_RA 134u
#define ND_NS 135u
#define ND_NA 136u
#define ND_REDIRECT 137u

#define ARP_REQUEST 1u
#define ARP_REPLY 2u

#define DHCP4_CLIENT 68u
#define DHCP4_SERVER 67u
#define DHCP6_CLIENT 546u
#define DHCP6_SERVER 547u

static inline void
match_family(struct flow_builder *builder, bool is_ipv6)
{
    flow_match_u32(builder, FIELD_ETH_TYPE,
                   is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
}

static inline void
match_arp(struct flow_builder *builder)
{
    flow_match_u32(builder, FIELD_ETH_TYPE, ETH_TYPE_ARP);
}

static inline void
match_proto(struct flow_builder *builder, bool is_ipv6, uint32_t proto)
{
    match_family(builder, is_ipv6);
    flow_match_u32(builder, FIELD_IP_PROTO, proto);
}

static inline void
match_udp(struct flow_builder *builder, bool is_ipv6, uint32_t src,
          uint32_t dst)
{
    match_proto(builder, is_ipv6, IP_PROTO_UDP);
    flow_match_u32(builder, FIELD_UDP_SRC, src);
    flow_match_u32(builder, FIELD_UDP_DST, dst);
}

static inline void
match_icmp(struct flow_builder *builder, bool is_ipv6, uint32_t type)
{
    match_proto(builder, is_ipv6, is_ipv6 ? IP_PROTO_ICMPV6 : IP_PROTO_ICMPV4);
    flow_match_u32(builder, is_ipv6 ? FIELD_ICMPV6_TYPE : FIELD_ICMPV4_TYPE,
                   type);
}

static inline void
match_destination(struct flow_builder *builder, const struct ip_address *ip)
{
    match_family(builder, ip->is_ipv6);
    flow_match_ip(builder, ip->is_ipv6 ? FIELD_IPV6_DST : FIELD_IPV4_DST, ip);
}

static inline void
match_source(struct flow_builder *builder, const struct ip_address *ip)
{
    match_family(builder, ip->is_ipv6);
    flow_match_ip(builder, ip->is_ipv6 ? FIELD_IPV6_SRC : FIELD_IPV4_SRC, ip);
}

static inline void
match_flag(struct flow_builder *builder, uint32_t set, uint32_t clear)
{
    flow_match_u32_masked(builder, REG_FLAGS, set, set | clear);
}

/* The group bit of the destination: broadcast and multicast. */
static inline void
match_multicast(struct flow_builder *builder)
{
    static const uint8_t group[6] = { 1 };
    flow_match(builder, FIELD_ETH_DST, group, group);
}

static inline void
set_flag(struct flow_builder *builder, uint32_t flag)
{
    flow_set_u32_masked(builder, REG_FLAGS, flag, flag);
}

#endif /* NETD_COMPILE_MATCH_H */
