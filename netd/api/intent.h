/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_INTENT_H
#define NETD_API_INTENT_H

/* What should become of a packet, from the tenants' rows alone: a pure
 * function, written from what the tables mean (proto/weft-schema.md) and not
 * from how netd/compile makes flows of them, so that it can disagree.
 *
 * The packet is the first one of a connection, as a guest whose interface is
 * set up by DHCP would send it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/state/state.h"

#define INTENT_TEXT_SIZE 256

/* Rows of one table, in any order; all are borrowed. */
struct intent_table {
    const struct state_row *const *rows;
    size_t count;
};

struct intent_rows {
    struct intent_table networks, subnets, addresses, ports, routers,
        router_ports, identities, groups, rules, statuses;
};

struct intent_query {
    struct weft_uuid port; /* Who sends. */
    struct ip_address to;
    uint8_t protocol; /* Of IP: 1 with an IPv6 address means 58, and so on. */
    uint16_t l4_src, l4_dst; /* ICMP: type and code. */
};

enum intent_outcome {
    INTENT_DELIVERED,
    INTENT_DROPPED,
    INTENT_ANSWERED,
};

struct intent_verdict {
    enum intent_outcome outcome;
    const char *reason;    /* "INGRESS_DENIED"; constant. */
    struct weft_uuid port; /* DELIVERED */
    char host[64];         /* DELIVERED: where that port is up. */
    char text[INTENT_TEXT_SIZE];
    /* The packet as it leaves the guest.  Without it (false) the guest could
     * not send any, and there is nothing to ask a switch. */
    bool has_packet;
    struct mac_address mac_src, mac_dst;
    struct ip_address ip_src;
};

/* The sending port has to be among the rows. */
struct intent_verdict intent_decide(const struct intent_rows *rows,
                                    const struct intent_query *query);

/* Fills 'ret_rows' with all rows of a connection; intent_rows_done() frees the
 * arrays. */
void intent_rows_gather(const struct state *state,
                        struct intent_rows *ret_rows);
void intent_rows_done(struct intent_rows *rows);

#endif /* NETD_API_INTENT_H */
