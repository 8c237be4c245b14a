/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_PACKET_IN_VIEW_H
#define NETD_PACKET_IN_VIEW_H

/* What is to be known of a port to answer its packets, as plain values: made
 * from the model by view.c, or by a test. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/base/uuid.h"
#include "netd/compile/pipeline.h"
#include "netd/packet_in/packet.h"

struct compile;

#define VIEW_ADDRESSES 16u
#define VIEW_DNS 4u

struct view_address {
    struct ip_address ip;
    struct ip_prefix prefix; /* Of its subnet. */
    struct ip_address gateway;
    bool has_gateway;
    bool has_router; /* A router answers at the gateway's address. */
    bool dhcp;
    struct mac_address router_mac;
    struct ip_address dns[VIEW_DNS];
    uint32_t dns_count;
};

struct port_view {
    struct mac_address mac;
    uint32_t mtu;
    char hostname[64];
    struct view_address addresses[VIEW_ADDRESSES];
    uint32_t address_count;
};

/* What an address in the port's network belongs to. */
struct view_neighbour {
    struct mac_address mac;
    bool is_router;
};

/* -ENOENT: no such port, or it has no network. */
WEFT_MUST_CHECK int view_port(const struct compile *compile,
                              const struct weft_uuid *port,
                              struct port_view *ret_view);
/* Who has 'ip' in the port's network.  -ENOENT: nobody who could be reached. */
WEFT_MUST_CHECK int view_neighbour(const struct compile *compile,
                                   const struct weft_uuid *port,
                                   const struct port_view *view,
                                   const struct ip_address *ip,
                                   struct view_neighbour *ret_neighbour);
/* The MTU of the network that the port's routers send 'ip' to; 0: unknown. */
uint32_t view_route_mtu(const struct compile *compile,
                        const struct weft_uuid *port,
                        const struct ip_address *ip);

/* The first address of a family for which 'dhcp' is set, or NULL. */
const struct view_address *view_find_dhcp(const struct port_view *view,
                                          bool is_ipv6);
/* The address whose subnet 'ip' is in, or NULL. */
const struct view_address *view_find_subnet(const struct port_view *view,
                                            const struct ip_address *ip);

/* The MAC address that answers are from where there is no router. */
extern const struct mac_address view_service_mac;

/* ---- Protocols: each a pure function ---- */

WEFT_MUST_CHECK int dhcp4_answer(const struct port_view *view,
                                 const struct packet *packet,
                                 struct packet_in_reply *ret_reply);
WEFT_MUST_CHECK int dhcp6_answer(const struct port_view *view,
                                 const struct packet *packet,
                                 struct packet_in_reply *ret_reply);
/* To 'packet', a router solicitation, or NULL: unsolicited. */
WEFT_MUST_CHECK int nd_advertise_router(const struct port_view *view,
                                        const struct packet *packet,
                                        struct packet_in_reply *ret_reply);
/* The target of a neighbour solicitation. */
WEFT_MUST_CHECK int nd_solicited_target(const struct port_view *view,
                                        const struct packet *packet,
                                        struct ip_address *ret_target);
WEFT_MUST_CHECK int nd_advertise(const struct port_view *view,
                                 const struct packet *packet,
                                 const struct ip_address *target,
                                 const struct view_neighbour *neighbour,
                                 struct packet_in_reply *ret_reply);
/* 'kind': PACKET_IN_TTL, _TOO_BIG, _UNREACHABLE or _ROUTER; 'mtu' with
 * _TOO_BIG. */
WEFT_MUST_CHECK int icmp_answer(const struct port_view *view,
                                const struct packet *packet, uint32_t kind,
                                uint32_t mtu,
                                struct packet_in_reply *ret_reply);

#endif /* NETD_PACKET_IN_VIEW_H */
