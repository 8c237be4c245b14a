/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_FLOW_EVAL_H
#define TESTS_SUPPORT_FLOW_EVAL_H

/* A small switch that runs packets through flows (netd/compile/flow_spec.h), as
 * Open vSwitch would: priorities, conjunctions, resubmits, connections.
 *
 *     struct eval_switch sw;
 *     eval_switch_init(&sw, flows, count);      from flow_store_table()
 *     struct eval_packet p = eval_packet_ipv4("10.0.0.1", "10.0.0.2", 6);
 *     eval_packet_ports(&p, 1000, 22);
 *     eval_set_u32(&p, FIELD_IN_PORT, 5);
 *     eval_run(&sw, &p, TABLE_CLASSIFY);
 *     sw.outputs[0 .. sw.output_count) is what came out.
 *
 * Connections: one that was committed is 'new' until a reply was seen, and
 * 'est' from then on, as in the userspace datapath; TCP has no states; nothing
 * expires.  A packet is 'inv' if it says so, or is an ICMP error about an
 * unknown connection.  ct(table) goes on with a copy, then the flow's further
 * actions run.  Meters let everything pass. */

#include <stdio.h>

#include "netd/compile/flow_spec.h"
#include "netd/compile/pipeline.h"

#define EVAL_OUTPUTS_MAX 1024u
#define EVAL_CONNECTIONS_MAX 4096u

/* What conntrack knows a connection by. */
struct eval_tuple {
    struct ip_address src, dst;
    uint8_t protocol;
    uint16_t src_port, dst_port; /* ICMP: the identifier, in both. */
    uint8_t icmp_type, icmp_code;
};

struct eval_packet {
    uint8_t fields[FIELD_COUNT][16]; /* Network byte order. */
    /* What conntrack sees, also where the fields of a later fragment do not
     * show it; set by the functions below. */
    uint16_t src_port, dst_port;
    uint8_t icmp_type, icmp_code;
    uint8_t hidden_protocol; /* 0: it is in the fields. */
    uint32_t size_bytes;     /* With the Ethernet header. */
    bool is_invalid;         /* For conntrack. */
    bool is_error;           /* An ICMP error, about: */
    struct eval_tuple about; /* (as it was sent) */
};

enum eval_output_kind {
    EVAL_OUTPUT,     /* 'port' */
    EVAL_CONTROLLER, /* 'port' is the meter; 'reason' and 'uuid' */
};

struct eval_output {
    enum eval_output_kind kind;
    uint32_t port;
    uint32_t reason; /* enum packet_in_kind */
    struct weft_uuid uuid;
    struct eval_packet packet;
};

struct eval_connection {
    uint32_t zone;
    struct eval_tuple tuple;
    uint32_t mark;
    bool has_reply;
};

struct eval_switch {
    struct flow_spec *const *flows; /* Borrowed; by flow_spec_compare(). */
    size_t count;
    size_t starts[TABLE_COUNT + 1];
    struct eval_connection connections[EVAL_CONNECTIONS_MAX];
    size_t connection_count;
    struct eval_output outputs[EVAL_OUTPUTS_MAX];
    size_t output_count;
    size_t flows_hit; /* In the last run; also the limit of resubmits. */
    FILE *trace;      /* Each flow that is hit, if not NULL. */
};

/* The connections are lost; 'trace' stays NULL. */
void eval_switch_init(struct eval_switch *sw, struct flow_spec *const *flows,
                      size_t count);
/* Other flows, the same connections. */
void eval_switch_set_flows(struct eval_switch *sw,
                           struct flow_spec *const *flows, size_t count);

/* Replaces the outputs of the run before. */
void eval_run(struct eval_switch *sw, const struct eval_packet *packet,
              uint8_t table);

/* The flow that a packet hits in one table; NULL: none. */
const struct flow_spec *eval_lookup(const struct eval_switch *sw,
                                    const struct eval_packet *packet,
                                    uint8_t table);

/* ---- Packets ---- */

/* With TTL 64 and ct_state 0; addresses as text, CHECKed. */
struct eval_packet eval_packet_ipv4(const char *src, const char *dst,
                                    uint8_t protocol);
struct eval_packet eval_packet_ipv6(const char *src, const char *dst,
                                    uint8_t protocol);
/* Of TCP, UDP, SCTP. */
void eval_packet_ports(struct eval_packet *packet, uint16_t src, uint16_t dst);
void eval_packet_icmp(struct eval_packet *packet, uint8_t type, uint8_t code,
                      uint16_t id);
/* Hides transport fields from flows; conntrack still knows them. */
void eval_packet_later_fragment(struct eval_packet *packet);
/* What comes back. */
struct eval_packet eval_packet_reply(const struct eval_packet *packet);
void eval_packet_macs(struct eval_packet *packet, const char *src,
                      const char *dst);

void eval_set_u32(struct eval_packet *packet, enum flow_field field,
                  uint32_t value);
uint32_t eval_u32(const struct eval_packet *packet, enum flow_field field);
uint64_t eval_u64(const struct eval_packet *packet, enum flow_field field);
void eval_tuple_of(const struct eval_packet *packet,
                   struct eval_tuple *ret_tuple);

#endif /* TESTS_SUPPORT_FLOW_EVAL_H */
