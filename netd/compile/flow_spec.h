/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_FLOW_SPEC_H
#define NETD_COMPILE_FLOW_SPEC_H

/* One flow as a value: table, priority, match and actions, in one canonical
 * form, so that two flows are the same exactly if their bytes are (N8).
 *
 * OpenFlow stops at netd/flow, which turns specs into messages and the switch's
 * flows back into what can be compared.  Emitters build specs on the stack:
 *
 *     struct flow_builder b;
 *     flow_begin(&b, TABLE_OUTPUT, 100);
 *     flow_match_u32(&b, FIELD_METADATA, vni);
 *     flow_output_reg(&b, REG_OUT_PORT);
 *     emit_flow(emit, &b);
 *
 * No function here fails: what does not fit is a programmer's error (CHECK). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/ip.h"
#include "lib/base/uuid.h"

/* In the order of the OpenFlow/NXM fields that they stand for; width in bytes
 * by flow_field_size(). */
enum flow_field {
    FIELD_IN_PORT,  /* 4: OpenFlow 1.1+ port number */
    FIELD_METADATA, /* 8: the VNI, see pipeline.h */
    FIELD_REG0,     /* 4 each */
    FIELD_REG1,
    FIELD_REG2,
    FIELD_REG3,
    FIELD_REG4,
    FIELD_REG5,
    FIELD_REG6,
    FIELD_REG7,
    FIELD_REG8,
    FIELD_REG9,
    FIELD_REG10,
    FIELD_REG11,
    FIELD_XXREG3,   /* 16: reg12..reg15 */
    FIELD_TUN_ID,   /* 8 */
    FIELD_TUN_SRC,  /* 4 */
    FIELD_TUN_DST,  /* 4 */
    FIELD_TUN_TLV0, /* 4: tun_metadata0 */
    FIELD_CT_STATE, /* 4: CT_STATE_* */
    FIELD_CT_ZONE,  /* 2 */
    FIELD_CT_MARK,  /* 4 */
    FIELD_CONJ_ID,  /* 4 */
    FIELD_ETH_SRC,  /* 6 */
    FIELD_ETH_DST,  /* 6 */
    FIELD_ETH_TYPE, /* 2 */
    FIELD_VLAN_TCI, /* 2: 0 exact = untagged */
    FIELD_IP_PROTO, /* 1 */
    FIELD_IP_TTL,   /* 1 */
    FIELD_IP_FRAG,  /* 1: FRAG_* */
    FIELD_IPV4_SRC, /* 4 */
    FIELD_IPV4_DST, /* 4 */
    FIELD_IPV6_SRC, /* 16 */
    FIELD_IPV6_DST, /* 16 */
    FIELD_TCP_SRC,  /* 2 each */
    FIELD_TCP_DST,
    FIELD_UDP_SRC,
    FIELD_UDP_DST,
    FIELD_SCTP_DST,
    FIELD_ICMPV4_TYPE, /* 1 each */
    FIELD_ICMPV4_CODE,
    FIELD_ICMPV6_TYPE,
    FIELD_ICMPV6_CODE,
    FIELD_ARP_OP,    /* 2 */
    FIELD_ARP_SPA,   /* 4 */
    FIELD_ARP_TPA,   /* 4 */
    FIELD_ARP_SHA,   /* 6 */
    FIELD_ARP_THA,   /* 6 */
    FIELD_ND_TARGET, /* 16 */
    FIELD_ND_SLL,    /* 6 */
    FIELD_ND_TLL,    /* 6 */
    FIELD_COUNT,
};

/* Bits of FIELD_CT_STATE (ovs-fields(7)). */
#define CT_STATE_NEW 0x01u
#define CT_STATE_EST 0x02u
#define CT_STATE_REL 0x04u
#define CT_STATE_RPL 0x08u
#define CT_STATE_INV 0x10u
#define CT_STATE_TRK 0x20u

/* Bits of FIELD_IP_FRAG: any fragment; not the first one. */
#define FRAG_ANY 0x1u
#define FRAG_LATER 0x2u

#define ETH_TYPE_IPV4 0x0800u
#define ETH_TYPE_ARP 0x0806u
#define ETH_TYPE_IPV6 0x86ddu
#define IP_PROTO_ICMPV4 1u
#define IP_PROTO_TCP 6u
#define IP_PROTO_UDP 17u
#define IP_PROTO_FRAGMENT 44u /* All that later fragments of IPv6 show. */
#define IP_PROTO_ICMPV6 58u
#define IP_PROTO_SCTP 132u

enum flow_action_kind {
    ACTION_SET = 1,     /* field, value, mask */
    ACTION_MOVE,        /* field -> field2, 'bits' from bit 0 of each */
    ACTION_OUTPUT,      /* port number 'number' */
    ACTION_OUTPUT_REG,  /* the port whose number is in 'field' */
    ACTION_IN_PORT,     /* back to where it came from */
    ACTION_RESUBMIT,    /* table 'number', which is higher than this one */
    ACTION_CT,          /* 'flags' CT_ACTION_*, zone in 'field', 'number' the
                         * table to go on in (255: none); value/mask: ct_mark
                         * to be set, with CT_ACTION_COMMIT */
    ACTION_CONTROLLER,  /* meter 'number', 'data' as in pipeline.h */
    ACTION_CONJUNCTION, /* id 'number', clause 'index' (0-based) of 'count' */
    ACTION_DEC_TTL,
    ACTION_METER,            /* OpenFlow 1.5 meter action: meter 'number' */
    ACTION_CHECK_PKT_LARGER, /* bit 'index' of register 'field' := the frame
                              * is longer than 'number' bytes (with Ethernet
                              * header) */
};

#define CT_ACTION_COMMIT 0x1u
#define FLOW_CT_NO_TABLE 255u

struct flow_match_item {
    uint8_t field;
    uint8_t reserved[7];
    uint8_t value[16]; /* Network byte order, in the first bytes; masked. */
    uint8_t mask[16];
};

struct flow_action {
    uint8_t kind;  /* enum flow_action_kind */
    uint8_t field; /* enum flow_field */
    uint8_t field2;
    uint8_t flags;
    uint16_t bits;
    uint8_t index;
    uint8_t count;
    uint32_t number;
    uint32_t reserved;
    union {
        struct {
            uint8_t value[16];
            uint8_t mask[16];
        };
        uint8_t data[32]; /* ACTION_CONTROLLER: magic, kind, UUID: 24 bytes */
    };
};

#define FLOW_MATCH_MAX 16u
#define FLOW_ACTION_MAX 528u /* A flood to 256 hosts, two actions each. */

struct flow_builder {
    uint8_t table;
    uint16_t priority;
    uint16_t match_count;
    uint16_t action_count;
    struct flow_match_item match[FLOW_MATCH_MAX];
    struct flow_action actions[FLOW_ACTION_MAX];
};

/* A finished flow: one allocation, immutable, counted.  'match' is sorted by
 * field; reserved and unused bytes are zero. */
struct flow_spec {
    uint32_t references;
    uint32_t hash; /* Of the key: table, priority, match. */
    uint8_t table;
    uint8_t reserved;
    uint16_t priority;
    uint16_t match_count;
    uint16_t action_count;
    struct flow_match_item match[]; /* Then the actions. */
};

static inline const struct flow_action *
flow_spec_actions(const struct flow_spec *spec)
{
    return (const struct flow_action *)(const void *)&spec
        ->match[spec->match_count];
}

uint32_t flow_field_size(enum flow_field field);
const char *flow_field_name(enum flow_field field);

void flow_begin(struct flow_builder *builder, uint8_t table, uint16_t priority);

/* Each field once.  Prerequisites (eth_type before ip_proto ...) are the
 * caller's to match; netd/flow checks them. */
void flow_match(struct flow_builder *builder, enum flow_field field,
                const void *value, const void *mask);
/* For fields of up to 4 bytes, in host byte order; exact. */
void flow_match_u32(struct flow_builder *builder, enum flow_field field,
                    uint32_t value);
void flow_match_u32_masked(struct flow_builder *builder, enum flow_field field,
                           uint32_t value, uint32_t mask);
/* FIELD_METADATA and FIELD_TUN_ID, exact. */
void flow_match_u64(struct flow_builder *builder, enum flow_field field,
                    uint64_t value);
void flow_match_mac(struct flow_builder *builder, enum flow_field field,
                    const struct mac_address *mac);
/* IPv4 or IPv6 fields by 'field'; a /0 matches nothing at all, and is left
 * out. */
void flow_match_prefix(struct flow_builder *builder, enum flow_field field,
                       const struct ip_prefix *prefix);
void flow_match_ip(struct flow_builder *builder, enum flow_field field,
                   const struct ip_address *address);
/* 'set' bits must be 1, 'clear' bits 0: ct_state=+trk-new */
void flow_match_ct_state(struct flow_builder *builder, uint32_t set,
                         uint32_t clear);

void flow_set(struct flow_builder *builder, enum flow_field field,
              const void *value, const void *mask);
void flow_set_u32(struct flow_builder *builder, enum flow_field field,
                  uint32_t value);
void flow_set_u32_masked(struct flow_builder *builder, enum flow_field field,
                         uint32_t value, uint32_t mask);
void flow_set_u64(struct flow_builder *builder, enum flow_field field,
                  uint64_t value);
void flow_set_mac(struct flow_builder *builder, enum flow_field field,
                  const struct mac_address *mac);
void flow_set_ip(struct flow_builder *builder, enum flow_field field,
                 const struct ip_address *address);
void flow_move(struct flow_builder *builder, enum flow_field from,
               enum flow_field to, uint16_t bits);
void flow_output(struct flow_builder *builder, uint32_t port);
void flow_output_reg(struct flow_builder *builder, enum flow_field reg);
void flow_output_in_port(struct flow_builder *builder);
void flow_resubmit(struct flow_builder *builder, uint8_t table);
/* ct(zone=reg, table=...). */
void flow_ct(struct flow_builder *builder, enum flow_field zone_reg,
             uint8_t table);
/* ct(commit, zone=reg, exec(load mark)); processing goes on after it. */
void flow_ct_commit(struct flow_builder *builder, enum flow_field zone_reg,
                    uint32_t mark);
/* 'uuid' may be NULL. */
void flow_controller(struct flow_builder *builder, uint32_t meter,
                     uint32_t packet_in_kind, const struct weft_uuid *uuid);
void flow_conjunction(struct flow_builder *builder, uint32_t id, uint8_t clause,
                      uint8_t clause_count);
void flow_dec_ttl(struct flow_builder *builder);
void flow_meter(struct flow_builder *builder, uint32_t meter);
/* check_pkt_larger(size)->reg[bit]: sets or clears the bit. */
void flow_check_pkt_larger(struct flow_builder *builder, uint16_t size_bytes,
                           enum flow_field reg, uint8_t bit);

/* Sorts, checks and copies; the caller has one reference. */
struct flow_spec *flow_finish(struct flow_builder *builder);
/* Both are conjunctive and have the same key: one flow with the conjunctions of
 * both, sorted, each once; the caller has one reference. */
struct flow_spec *flow_spec_merge(const struct flow_spec *a,
                                  const struct flow_spec *b);
struct flow_spec *flow_spec_ref(struct flow_spec *spec);
void flow_spec_unref(struct flow_spec *spec); /* Accepts NULL. */

/* Same table, priority and match. */
bool flow_spec_same_key(const struct flow_spec *a, const struct flow_spec *b);
bool flow_spec_same_actions(const struct flow_spec *a,
                            const struct flow_spec *b);
/* Key, then actions: an order. */
int flow_spec_compare(const struct flow_spec *a, const struct flow_spec *b);
/* All actions are conjunctions: these may be merged with others' (N9). */
bool flow_spec_is_conjunctive(const struct flow_spec *spec);
/* "table=21,priority=100,metadata=5 actions=output:reg4": for people and test
 * failures, close to ovs-ofctl's words.  Cut to 'size'. */
void flow_spec_format(const struct flow_spec *spec, char *ret_text,
                      size_t size);

#endif /* NETD_COMPILE_FLOW_SPEC_H */
