/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/api/trace_wire.h"

#include <string.h>

#define NUMBER_MAX 16777215

void
trace_encode(const struct netd_trace_packet *packet, struct trace_texts *texts,
             Weft__V1__TracePacketHeaders *ret_headers)
{
    Weft__V1__TracePacketHeaders *headers = ret_headers;

    texts->port[0] = '\0';
    texts->tunnel_src[0] = '\0';
    if (!uuid_is_nil(&packet->port)) {
        uuid_format(&packet->port, texts->port);
    } else {
        ip_format(&packet->tunnel_src, texts->tunnel_src);
    }
    ip_format(&packet->ip_src, texts->ip_src);
    ip_format(&packet->ip_dst, texts->ip_dst);
    mac_format(&packet->mac_src, texts->mac_src);
    mac_format(&packet->mac_dst, texts->mac_dst);
    headers->port_uid = texts->port;
    headers->vni = (int32_t)packet->vni;
    headers->identity = (int32_t)packet->identity;
    headers->tunnel_source = texts->tunnel_src;
    headers->mac_source = texts->mac_src;
    headers->mac_destination = texts->mac_dst;
    headers->ip_source = texts->ip_src;
    headers->ip_destination = texts->ip_dst;
    headers->protocol = packet->protocol;
    headers->ttl = packet->ttl;
    headers->l4_source = packet->l4_src;
    headers->l4_destination = packet->l4_dst;
}

static bool
is_within(int32_t number, int32_t max)
{
    return number >= 0 && number <= max;
}

bool
trace_decode(const Weft__V1__TracePacketHeaders *headers,
             struct netd_trace_packet *ret_packet)
{
    struct netd_trace_packet packet;

    memset(&packet, 0, sizeof packet);
    if (headers->port_uid[0] != '\0') {
        if (uuid_parse(headers->port_uid, &packet.port) != 0) {
            return false;
        }
    } else if (ip_address_parse(headers->tunnel_source, &packet.tunnel_src) !=
               0) {
        return false;
    }
    if (ip_address_parse(headers->ip_source, &packet.ip_src) != 0 ||
        ip_address_parse(headers->ip_destination, &packet.ip_dst) != 0 ||
        packet.ip_src.is_ipv6 != packet.ip_dst.is_ipv6 ||
        mac_parse(headers->mac_source, &packet.mac_src) != 0 ||
        mac_parse(headers->mac_destination, &packet.mac_dst) != 0 ||
        !is_within(headers->vni, NUMBER_MAX) ||
        !is_within(headers->identity, NUMBER_MAX) ||
        !is_within(headers->protocol, 255) || !is_within(headers->ttl, 255) ||
        !is_within(headers->l4_source, 65535) ||
        !is_within(headers->l4_destination, 65535)) {
        return false;
    }
    packet.vni = (uint32_t)headers->vni;
    packet.identity = (uint32_t)headers->identity;
    packet.protocol = (uint8_t)headers->protocol;
    packet.ttl = (uint8_t)headers->ttl;
    packet.l4_src = (uint16_t)headers->l4_source;
    packet.l4_dst = (uint16_t)headers->l4_destination;
    *ret_packet = packet;
    return true;
}
