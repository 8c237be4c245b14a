/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_TRACE_OPS_H
#define NETD_API_TRACE_OPS_H

/* What the API wants of the switch for "weft net trace": one packet sent
 * through the flows of this host (ofproto/trace), without sending anything.
 *
 * The API fills the packet out of the database, the switch says what it would
 * do with it.  If that is to send it through a tunnel, the API goes on at the
 * other host with what came out.
 *
 * Thread: the control thread. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/base/uuid.h"

enum netd_trace_verdict {
    NETD_TRACE_DROPPED,   /* 'reason' says where and why. */
    NETD_TRACE_DELIVERED, /* To the local port 'to_port'. */
    NETD_TRACE_TUNNELLED, /* To 'tunnel_dst', as 'out' says. */
    NETD_TRACE_ANSWERED,  /* By the router or by netd: an echo reply, an ICMP
                           * error, DHCP, ARP. */
};

/* A packet: where it enters, and its headers. */
struct netd_trace_packet {
    /* The local port that the guest sends it from; nil: it comes from the
     * tunnel, with the three fields below. */
    struct weft_uuid port;
    uint32_t vni;
    uint32_t identity; /* Of the TLV. */
    struct ip_address tunnel_src;
    struct mac_address mac_src, mac_dst;
    struct ip_address ip_src, ip_dst; /* Both of one family. */
    uint8_t protocol;                 /* IP protocol number. */
    uint8_t ttl;
    uint16_t l4_src, l4_dst; /* ICMP: type and code. */
};

struct netd_trace;
/* 0, or -errno: the switch could not be asked; 'reason' says why. */
typedef void netd_trace_done_fn(struct netd_trace *trace, int result);

struct netd_trace {
    /* Set by the API. */
    struct netd_trace_packet packet;
    netd_trace_done_fn *done;
    /* Results, valid in done(). */
    enum netd_trace_verdict verdict;
    struct weft_uuid to_port;     /* DELIVERED */
    struct ip_address tunnel_dst; /* TUNNELLED */
    struct netd_trace_packet out; /* TUNNELLED: as it leaves: vni, identity,
                                   * MACs and TTL changed; 'port' nil;
                                   * 'tunnel_src' is this host's address. */
    char reason[256];             /* In tenant words; may be "". */
    char *text; /* The switch's own words, by malloc(); may be NULL.  Passes to
                 * the API. */
    /* For the implementation. */
    void *private;
};

struct netd_trace_ops {
    /* Comes back by trace->done(), exactly once, within some seconds, and not
     * from inside start().  'trace' is borrowed until then. */
    void (*start)(struct netd_trace_ops *ops, struct netd_trace *trace);
};

#endif /* NETD_API_TRACE_OPS_H */
