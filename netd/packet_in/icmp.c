/* SPDX-License-Identifier: Apache-2.0 */
/* A router's ICMP errors and echo replies (RFC 792, 1812 4.3.2, 4443).
 *
 * Never about an ICMP error, a multicast, a later fragment or a packet without
 * a source (N19, RFC 1122 3.2.2); the rate is the meters' business. */

#include <errno.h>
#include <string.h>

#include "netd/packet_in/view.h"

#define QUOTE_IPV4_MAX 548u  /* An error of 576 bytes (RFC 1812 4.3.2.3). */
#define QUOTE_IPV6_MAX 1232u /* One of 1280 bytes (RFC 4443 2.4 c). */
#define ERROR_HOP_LIMIT 64u

enum {
    ICMP4_ECHO_REPLY = 0,
    ICMP4_UNREACHABLE = 3,
    ICMP4_ECHO = 8,
    ICMP4_TIME_EXCEEDED = 11,
    ICMP6_UNREACHABLE = 1,
    ICMP6_TOO_BIG = 2,
    ICMP6_TIME_EXCEEDED = 3,
    ICMP6_ECHO = 128,
    ICMP6_ECHO_REPLY = 129,
};

struct icmp_error {
    uint8_t type;
    uint8_t code;
    uint32_t value; /* The second word. */
};

static bool
is_error_allowed(const struct packet *packet)
{
    if (packet->is_later_fragment || packet_is_multicast(&packet->source) ||
        packet_is_multicast(&packet->destination) ||
        packet_is_unspecified(&packet->source) ||
        (packet->destination_mac.bytes[0] & 1) != 0) {
        return false;
    }
    if (packet->source.is_ipv6 && packet->protocol == IP_PROTO_ICMPV6) {
        return packet->payload_size >= 8 && packet->payload[0] >= 128;
    }
    if (!packet->source.is_ipv6 && packet->protocol == IP_PROTO_ICMPV4) {
        uint8_t type = packet->payload_size >= 8 ? packet->payload[0] : 3;
        return type == ICMP4_ECHO || type == ICMP4_ECHO_REPLY || type == 13 ||
               type == 14;
    }
    return true;
}

static bool
is_echo_request(const struct packet *packet)
{
    if (packet->is_fragment || packet->payload_size < 8) {
        return false;
    }
    return packet->source.is_ipv6 ? packet->protocol == IP_PROTO_ICMPV6 &&
                                        packet->payload[0] == ICMP6_ECHO
                                  : packet->protocol == IP_PROTO_ICMPV4 &&
                                        packet->payload[0] == ICMP4_ECHO;
}

static int
icmp_choose(const struct packet *packet, uint32_t kind, uint32_t mtu,
            struct icmp_error *ret_error)
{
    bool is_ipv6 = packet->source.is_ipv6;
    bool has_ports = packet->protocol == IP_PROTO_UDP ||
                     packet->protocol == IP_PROTO_TCP ||
                     packet->protocol == IP_PROTO_SCTP;

    switch (kind) {
    case PACKET_IN_TTL:
        *ret_error = (struct icmp_error){ is_ipv6 ? ICMP6_TIME_EXCEEDED
                                                  : ICMP4_TIME_EXCEEDED,
                                          0, 0 };
        return 0;
    case PACKET_IN_TOO_BIG:
        if (mtu == 0) {
            return -ENOENT;
        }
        *ret_error = is_ipv6 ? (struct icmp_error){ ICMP6_TOO_BIG, 0, mtu }
                             : (struct icmp_error){ ICMP4_UNREACHABLE, 4, mtu };
        return 0;
    case PACKET_IN_UNREACHABLE: /* Address unreachable; host unreachable. */
        *ret_error = is_ipv6 ? (struct icmp_error){ ICMP6_UNREACHABLE, 3, 0 }
                             : (struct icmp_error){ ICMP4_UNREACHABLE, 1, 0 };
        return 0;
    case PACKET_IN_ROUTER:
        if (has_ports) {
            *ret_error = is_ipv6
                             ? (struct icmp_error){ ICMP6_UNREACHABLE, 4, 0 }
                             : (struct icmp_error){ ICMP4_UNREACHABLE, 3, 0 };
            return 0;
        }
        if (is_ipv6) {
            return -ENOENT;
        }
        *ret_error = (struct icmp_error){ ICMP4_UNREACHABLE, 2, 0 };
        return 0;
    default:
        return -ENOENT;
    }
}

/* The echo request, turned around. */
static int
icmp_echo(const struct port_view *view, const struct packet *packet,
          const struct mac_address *router, struct packet_in_reply *ret_reply)
{
    struct packet_writer writer;
    bool is_ipv6 = packet->source.is_ipv6;

    packet_begin(&writer, ret_reply, router, &view->mac);
    packet_put_ip(&writer, &packet->destination, &packet->source,
                  packet->protocol, ERROR_HOP_LIMIT);
    packet_put_u8(&writer, is_ipv6 ? ICMP6_ECHO_REPLY : ICMP4_ECHO_REPLY);
    packet_put_u8(&writer, 0);
    packet_put_u16(&writer, 0);
    packet_put(&writer, packet->payload + 4, packet->payload_size - 4);
    return packet_end(&writer);
}

int
icmp_answer(const struct port_view *view, const struct packet *packet,
            uint32_t kind, uint32_t mtu, struct packet_in_reply *ret_reply)
{
    const struct view_address *via = view_find_subnet(view, &packet->source);
    bool is_ipv6 = packet->source.is_ipv6;
    struct icmp_error error;
    struct packet_writer writer;

    if (via == NULL || !via->has_router || !is_error_allowed(packet)) {
        return -ENOENT;
    }
    if (kind == PACKET_IN_ROUTER && is_echo_request(packet)) {
        return icmp_echo(view, packet, &via->router_mac, ret_reply);
    }
    int result = icmp_choose(packet, kind, mtu, &error);
    if (result != 0) {
        return result;
    }
    size_t most = is_ipv6 ? QUOTE_IPV6_MAX : QUOTE_IPV4_MAX;
    size_t quoted = packet->ip_size < most ? packet->ip_size : most;
    packet_begin(&writer, ret_reply, &via->router_mac, &view->mac);
    packet_put_ip(&writer, &via->gateway, &packet->source,
                  is_ipv6 ? IP_PROTO_ICMPV6 : IP_PROTO_ICMPV4, ERROR_HOP_LIMIT);
    packet_put_u8(&writer, error.type);
    packet_put_u8(&writer, error.code);
    packet_put_u16(&writer, 0);
    packet_put_u32(&writer, error.value);
    packet_put(&writer, packet->ip, quoted);
    return packet_end(&writer);
}
