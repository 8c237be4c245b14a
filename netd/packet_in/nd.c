/* SPDX-License-Identifier: Apache-2.0 */
/* Neighbour discovery (RFC 4861, 8106): router and neighbour advertisements.
 *
 * Guests may use just the addresses that their ports have (N21), so prefixes
 * are advertised for reachability (L), not for autoconfiguration (A), and the
 * managed flag sends guests to DHCPv6.  The router's link-local address is made
 * from its MAC, the same on every host (N22). */

#include <errno.h>
#include <string.h>

#include "netd/packet_in/view.h"

#define ND_HOP_LIMIT 255u
#define ROUTER_LIFETIME_S 1800u
#define PREFIX_LIFETIME_S 86400u
#define RS_SIZE 8u
#define NS_SIZE 24u

enum {
    ICMP6_RS = 133,
    ICMP6_RA = 134,
    ICMP6_NS = 135,
    ICMP6_NA = 136,
};

enum {
    ND_SOURCE_MAC = 1,
    ND_TARGET_MAC = 2,
    ND_PREFIX = 3,
    ND_MTU = 5,
    ND_RDNSS = 25,
};

#define RA_MANAGED 0x80u
#define RA_OTHER 0x40u
#define PREFIX_ON_LINK 0x80u
#define NA_ROUTER 0x80u
#define NA_SOLICITED 0x40u
#define NA_OVERRIDE 0x20u

static const struct ip_address all_nodes = {
    .is_ipv6 = true,
    .bytes = { 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 },
};

/* The common checks of RFC 4861 6.1 and 7.1; options are walked, too. */
static int
nd_check(const struct packet *packet, uint8_t type, size_t size)
{
    const uint8_t *icmp = packet->payload;
    size_t left = packet->payload_size;

    if (!packet->source.is_ipv6 || packet->protocol != IP_PROTO_ICMPV6 ||
        packet->is_fragment || packet->hop_limit != ND_HOP_LIMIT ||
        left < size || icmp[0] != type || icmp[1] != 0) {
        return -EBADMSG;
    }
    for (icmp += size, left -= size; left > 0;) {
        size_t option = left < 2 ? 0 : (size_t)icmp[1] * 8;
        if (option == 0 || option > left) {
            return -EBADMSG;
        }
        icmp += option;
        left -= option;
    }
    return 0;
}

static void
put_mac_option(struct packet_writer *writer, uint8_t type,
               const struct mac_address *mac)
{
    packet_put_u8(writer, type);
    packet_put_u8(writer, 1);
    packet_put(writer, mac->bytes, sizeof mac->bytes);
}

static void
put_prefix(struct packet_writer *writer, const struct view_address *address)
{
    packet_put_u8(writer, ND_PREFIX);
    packet_put_u8(writer, 4);
    packet_put_u8(writer, (uint8_t)address->prefix.length);
    packet_put_u8(writer, PREFIX_ON_LINK);
    packet_put_u32(writer, PREFIX_LIFETIME_S);
    packet_put_u32(writer, PREFIX_LIFETIME_S);
    packet_put_u32(writer, 0);
    packet_put(writer, address->prefix.address.bytes, 16);
}

static void
put_rdnss(struct packet_writer *writer, const struct view_address *address)
{
    uint8_t count = 0;

    for (uint32_t i = 0; i < address->dns_count; i++) {
        count = (uint8_t)(count + address->dns[i].is_ipv6);
    }
    if (count == 0) {
        return;
    }
    packet_put_u8(writer, ND_RDNSS);
    packet_put_u8(writer, (uint8_t)(1 + 2 * count));
    packet_put_u16(writer, 0);
    packet_put_u32(writer, ROUTER_LIFETIME_S);
    for (uint32_t i = 0; i < address->dns_count; i++) {
        if (address->dns[i].is_ipv6) {
            packet_put_ip_address(writer, &address->dns[i]);
        }
    }
}

/* The IPv6 address that says most of the network: one with a router, else any;
 * NULL: there is none. */
static const struct view_address *
find_first_ipv6(const struct port_view *view)
{
    const struct view_address *found = NULL;

    for (uint32_t i = 0; i < view->address_count; i++) {
        const struct view_address *address = &view->addresses[i];
        if (address->ip.is_ipv6 &&
            (found == NULL || (address->has_router && !found->has_router))) {
            found = address;
        }
    }
    return found;
}

static bool
is_prefix_known(const struct port_view *view, uint32_t index)
{
    const struct ip_prefix *prefix = &view->addresses[index].prefix;

    for (uint32_t i = 0; i < index; i++) {
        const struct ip_prefix *other = &view->addresses[i].prefix;
        if (other->length == prefix->length && other->address.is_ipv6 &&
            memcmp(other->address.bytes, prefix->address.bytes, 16) == 0) {
            return true;
        }
    }
    return false;
}

int
nd_advertise_router(const struct port_view *view, const struct packet *packet,
                    struct packet_in_reply *ret_reply)
{
    const struct view_address *first = find_first_ipv6(view);
    struct ip_address to = all_nodes;
    struct packet_writer writer;

    if (packet != NULL) {
        int result = nd_check(packet, ICMP6_RS, RS_SIZE);
        if (result != 0) {
            return result;
        }
        if (!packet_is_unspecified(&packet->source)) {
            to = packet->source;
        }
    }
    if (first == NULL) {
        return -ENOENT;
    }
    const struct mac_address *mac =
        first->has_router ? &first->router_mac : &view_service_mac;
    struct ip_address source = packet_link_local(mac);
    packet_begin(&writer, ret_reply, mac, &view->mac);
    packet_put_ip(&writer, &source, &to, IP_PROTO_ICMPV6, ND_HOP_LIMIT);
    packet_put_u8(&writer, ICMP6_RA);
    packet_put_u8(&writer, 0);
    packet_put_u16(&writer, 0);
    packet_put_u8(&writer, 64);
    packet_put_u8(&writer, view_find_dhcp(view, true) != NULL
                               ? RA_MANAGED | RA_OTHER
                               : 0);
    packet_put_u16(&writer, first->has_router ? ROUTER_LIFETIME_S : 0);
    packet_put_u32(&writer, 0);
    packet_put_u32(&writer, 0);
    put_mac_option(&writer, ND_SOURCE_MAC, mac);
    packet_put_u8(&writer, ND_MTU);
    packet_put_u8(&writer, 1);
    packet_put_u16(&writer, 0);
    packet_put_u32(&writer, view->mtu);
    for (uint32_t i = 0; i < view->address_count; i++) {
        if (view->addresses[i].ip.is_ipv6 && !is_prefix_known(view, i)) {
            put_prefix(&writer, &view->addresses[i]);
        }
    }
    put_rdnss(&writer, first);
    return packet_end(&writer);
}

int
nd_solicited_target(const struct port_view *view, const struct packet *packet,
                    struct ip_address *ret_target)
{
    struct ip_address target = { .is_ipv6 = true };
    int result = nd_check(packet, ICMP6_NS, NS_SIZE);

    if (result != 0) {
        return result;
    }
    memcpy(target.bytes, packet->payload + 8, 16);
    if (packet_is_multicast(&target) || packet_is_unspecified(&target)) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < view->address_count; i++) {
        if (ip_compare(&view->addresses[i].ip, &target) == 0) {
            return -ENOENT; /* N20: its own, duplicate address detection. */
        }
    }
    struct ip_address own = packet_link_local(&view->mac);
    if (ip_compare(&own, &target) == 0) {
        return -ENOENT;
    }
    *ret_target = target;
    return 0;
}

int
nd_advertise(const struct port_view *view, const struct packet *packet,
             const struct ip_address *target,
             const struct view_neighbour *neighbour,
             struct packet_in_reply *ret_reply)
{
    bool is_probe = packet_is_unspecified(&packet->source);
    struct packet_writer writer;
    uint32_t flags = NA_OVERRIDE;

    flags |= neighbour->is_router ? NA_ROUTER : 0;
    flags |= is_probe ? 0 : NA_SOLICITED;
    packet_begin(&writer, ret_reply, &neighbour->mac, &view->mac);
    packet_put_ip(&writer, target, is_probe ? &all_nodes : &packet->source,
                  IP_PROTO_ICMPV6, ND_HOP_LIMIT);
    packet_put_u8(&writer, ICMP6_NA);
    packet_put_u8(&writer, 0);
    packet_put_u16(&writer, 0);
    packet_put_u32(&writer, flags << 24);
    packet_put_ip_address(&writer, target);
    put_mac_option(&writer, ND_TARGET_MAC, &neighbour->mac);
    return packet_end(&writer);
}
