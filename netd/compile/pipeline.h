/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_PIPELINE_H
#define NETD_COMPILE_PIPELINE_H

/* The OpenFlow pipeline of br-int: every table, register, zone, priority and
 * TLV has its name here and its story in docs/pipeline.md.
 *
 * Tables only increase, so that no packet can go in circles; what a router
 * sends on goes forward through the rest of the pipeline. */

enum pipeline_table {
    TABLE_CLASSIFY = 0,    /* in_port -> network, source identity, zone */
    TABLE_TUN_IN = 1,      /* tun_src, TLV version -> network, identity */
    TABLE_PORT_SEC = 2,    /* what a guest may send: ethertype, MAC, IP */
    TABLE_PORT_SEC_ND = 3, /* ARP and ND: what a guest may claim */
    TABLE_SERVICE = 4,     /* DHCP, RS, DHCPv6 -> controller, metered */
    TABLE_ARP_ND = 5,      /* answers from Address rows */
    TABLE_DNAT = 6,        /* nothing yet: goes on */
    TABLE_L2_CLASS = 7,    /* router MAC -> ROUTE_IN, broadcast -> FLOOD */
    TABLE_ROUTE_IN = 8,    /* TTL, packets to the router itself */
    TABLE_ROUTE = 9,       /* longest prefix -> next hop, network out */
    TABLE_NEIGHBOUR = 10,  /* next hop -> MAC */
    TABLE_RESOLVE = 11,    /* MAC -> local port or remote host */
    TABLE_EG_CT = 12,      /* ct(zone of the source port) */
    TABLE_EG_SG = 13,      /* rules of direction out */
    TABLE_EG_COMMIT = 14,  /* commits what was allowed, mends the mark */
    TABLE_SNAT = 15,       /* nothing yet: goes on */
    TABLE_DELIVER = 16,    /* remote -> TUN_OUT, local -> IN_CT */
    TABLE_IN_CT = 17,      /* ct(zone of the target port) */
    TABLE_IN_SG = 18,      /* rules of direction in */
    TABLE_IN_COMMIT = 19,
    TABLE_UN_LB = 20,     /* nothing yet: goes on */
    TABLE_OUTPUT = 21,    /* to the local port in REG_OUT_PORT */
    TABLE_TUN_OUT = 22,   /* TLV, tun_id, tun_dst; out of the tunnel port */
    TABLE_FLOOD = 23,     /* copies to local policies */
    TABLE_FLOOD_SG = 24,  /* rules of direction in, without connections */
    TABLE_FLOOD_OUT = 25, /* copies to the ports of one policy */
    TABLE_COUNT = 26,
};

/* Registers.  The OpenFlow metadata field is the VNI of the network that the
 * packet is in at the moment (0: none). */
#define REG_FLAGS FIELD_REG0
#define REG_SRC_IDENTITY FIELD_REG1 /* 0: world, 1: router */
#define REG_DST_POLICY FIELD_REG2   /* Identity of the local target port. */
#define REG_DST_IDENTITY FIELD_REG3 /* Of any target, if a rule asks. */
#define REG_OUT_PORT FIELD_REG4     /* ofport of the local target; or 0. */
#define REG_SRC_ZONE FIELD_REG5
#define REG_DST_ZONE FIELD_REG6
#define REG_TUN_DST FIELD_REG7     /* IPv4 address of the remote host; or 0. */
#define REG_NEXT_HOP FIELD_REG8    /* IPv4 next hop. */
#define REG_ROUTER FIELD_REG9      /* Router.tag of the router at work. */
#define REG_ORIG_PORT FIELD_REG10  /* ofport that the packet came in by. */
#define REG_NEXT_HOP6 FIELD_XXREG3 /* IPv6 next hop (reg12..reg15). */

/* Bits of REG_FLAGS. */
#define FLAG_FROM_TUNNEL 0x1u
#define FLAG_ROUTED 0x2u
#define FLAG_NO_ERROR 0x4u  /* Never to be answered by an ICMP error (N19). */
#define FLAG_TO_ROUTER 0x8u /* For an address of the router itself. */
#define FLAG_TOO_BIG 0x10u  /* Larger than the MTU of the network out (N23). */
#define FLAG_TOO_BIG_BIT 4u
#define FLAG_FLOOD 0x20u /* Of a local port, for all of its network (N18). */

/* Reserved identities. */
#define IDENTITY_WORLD 0u
#define IDENTITY_ROUTER 1u
#define IDENTITY_FIRST 2u /* Of those that are not reserved. */

/* ct_mark: bit 0 says that the policy has come to deny this connection (N6). */
#define CT_MARK_DENIED 0x1u

/* Conntrack zones of ports begin here; bind/ hands them out and keeps them. */
#define ZONE_FIRST 1024u
#define ZONE_LAST 65000u

/* The Geneve option that carries the sender's identity (N3):
 *     class 0xff57 (experimental range, "W"), type 0x01, 4 bytes:
 *     version (8 bits, 1), identity (24 bits)
 * mapped to tun_metadata0.  A second one is reserved for tracing:
 *     class 0xff57, type 0x02, 4 bytes, tun_metadata1, not sent yet. */
#define TLV_CLASS 0xff57u
#define TLV_TYPE_IDENTITY 0x01u
#define TLV_TYPE_TRACE 0x02u
#define TLV_VERSION 1u

/* Packet-in reasons: userdata of a controller action is
 *     be32 magic, be32 kind, 16 bytes UUID of what it concerns (a
 * Port, nil for none). */
#define PACKET_IN_MAGIC 0x57454654u /* "WEFT" */

enum packet_in_kind {
    PACKET_IN_DHCP4 = 1,       /* UUID: the Port that asks. */
    PACKET_IN_DHCP6 = 2,       /* Likewise. */
    PACKET_IN_RS = 3,          /* Likewise. */
    PACKET_IN_NS = 4,          /* Likewise: neighbour solicitation. */
    PACKET_IN_TTL = 5,         /* Port: answer "time exceeded". */
    PACKET_IN_TOO_BIG = 6,     /* Port: answer "too big". */
    PACKET_IN_UNREACHABLE = 7, /* Port: no route or no such neighbour. */
    PACKET_IN_ROUTER = 8,      /* Port: UDP or TCP to the router itself. */
    PACKET_IN_KIND_COUNT = 9,
};

/* Meters: one per (local port, class), numbered by the port's zone, which is
 * unique on the host and persistent (N8, N19).  Packets per second. */
enum meter_class {
    METER_DHCP = 0,
    METER_ND = 1,
    METER_ICMP = 2,
    METER_FLOOD = 3,
    METER_CLASSES = 4,
};

#define METER_RATE_DHCP 20u
#define METER_RATE_ND 100u
#define METER_RATE_ICMP 100u
#define METER_RATE_FLOOD 1000u

static inline unsigned
pipeline_meter_id(unsigned zone, enum meter_class class)
{
    return zone * METER_CLASSES + (unsigned)class;
}

/* Conjunction ids: from the tag of a rule and a variant below 4 (1: IPv4,
 * 2: IPv6), unique in all tables (N8). */
static inline unsigned
pipeline_conj_id(unsigned rule_tag, unsigned variant)
{
    return rule_tag * 4 + variant;
}

#endif /* NETD_COMPILE_PIPELINE_H */
