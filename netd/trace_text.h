/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_TRACE_TEXT_H
#define NETD_TRACE_TEXT_H

/* ofproto/trace: what is asked, and what the answer says.  Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netd/api/trace_ops.h"

#define TRACE_FLOW_SIZE 1024

/* The flow to ask for; the packet came in by 'ofport'.  'tunnel_dst' is this
 * host's end of tunnels, in text. */
void trace_format_flow(const struct netd_trace_packet *packet, uint32_t ofport,
                       const char *tunnel_dst, char ret_flow[TRACE_FLOW_SIZE]);

/* ofproto/trace does not run conntrack: of the original tuple, which rules
 * match on, it knows only what the question says, and forgets it at the first
 * commit.  So a packet between two ports of one host is dropped at the second
 * port's rules for the wrong reason.  Then this is true, with the flow to go on
 * with there, by ofproto/trace-packet-out and '*ret_actions'. */
bool trace_format_rest(const char *text, const struct netd_trace_packet *packet,
                       char ret_flow[TRACE_FLOW_SIZE], char ret_actions[32]);

/* What became of it. */
struct trace_result {
    enum netd_trace_verdict verdict;
    uint32_t ofport;              /* DELIVERED */
    struct ip_address tunnel_dst; /* TUNNELLED */
    struct netd_trace_packet out; /* TUNNELLED, but for tunnel_src. */
    char reason[256];
};

/* Reads the switch's words; 'packet' is what was asked.  What it does not
 * understand counts as dropped, and the reason says where the words end. */
void trace_parse_text(const char *text, const struct netd_trace_packet *packet,
                      uint32_t tunnel_ofport, struct trace_result *ret_result);

#endif /* NETD_TRACE_TEXT_H */
