/* SPDX-License-Identifier: Apache-2.0 */
/* Packets, apart and together: see packet.h. */

#include "netd/packet_in/packet.h"

#include <errno.h>
#include <string.h>

#define IPV6_EXTENSIONS_MAX 8u

enum {
    NEXT_HOP_BY_HOP = 0,
    NEXT_TCP = 6,
    NEXT_UDP = 17,
    NEXT_ROUTING = 43,
    NEXT_FRAGMENT = 44,
    NEXT_ICMPV6 = 58,
    NEXT_DESTINATION = 60,
};

/* ---- Apart ---- */

static int
packet_parse_ipv4(struct packet *packet)
{
    const uint8_t *ip = packet->ip;

    if (packet->ip_size < IPV4_SIZE || ip[0] >> 4 != 4) {
        return -EBADMSG;
    }
    size_t header = (size_t)(ip[0] & 15) * 4;
    size_t total = packet_u16(ip + 2);
    if (header < IPV4_SIZE || total < header || total > packet->ip_size) {
        return -EBADMSG;
    }
    uint16_t fragment = packet_u16(ip + 6);
    packet->ip_size = total; /* The rest is padding. */
    packet->is_fragment = (fragment & 0x3fff) != 0;
    packet->is_later_fragment = (fragment & 0x1fff) != 0;
    packet->hop_limit = ip[8];
    packet->protocol = ip[9];
    memcpy(packet->source.bytes, ip + 12, 4);
    memcpy(packet->destination.bytes, ip + 16, 4);
    packet->payload = ip + header;
    packet->payload_size = total - header;
    return 0;
}

static int
packet_parse_ipv6(struct packet *packet)
{
    const uint8_t *ip = packet->ip;

    if (packet->ip_size < IPV6_SIZE || ip[0] >> 4 != 6) {
        return -EBADMSG;
    }
    size_t left = packet_u16(ip + 4);
    if (left > packet->ip_size - IPV6_SIZE) {
        return -EBADMSG;
    }
    packet->ip_size = IPV6_SIZE + left;
    packet->hop_limit = ip[7];
    packet->source.is_ipv6 = packet->destination.is_ipv6 = true;
    memcpy(packet->source.bytes, ip + 8, 16);
    memcpy(packet->destination.bytes, ip + 24, 16);
    const uint8_t *at = ip + IPV6_SIZE;
    uint8_t next = ip[6];
    for (uint32_t i = 0; i < IPV6_EXTENSIONS_MAX; i++) {
        size_t size;
        if (next == NEXT_FRAGMENT) {
            size = 8;
        } else if (next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING ||
                   next == NEXT_DESTINATION) {
            size = left < 2 ? 8 : ((size_t)at[1] + 1) * 8;
        } else {
            packet->protocol = next;
            packet->payload = at;
            packet->payload_size = left;
            return 0;
        }
        if (size > left) {
            return -EBADMSG;
        }
        if (next == NEXT_FRAGMENT) {
            packet->is_fragment = true;
            packet->is_later_fragment = (packet_u16(at + 2) & 0xfff8) != 0;
        }
        next = at[0];
        at += size;
        left -= size;
    }
    return -EBADMSG;
}

int
packet_parse(const uint8_t *bytes, size_t size, struct packet *ret_packet)
{
    struct packet packet = { .bytes = bytes, .size = size };
    int result;

    if (size < ETHERNET_SIZE) {
        return -EBADMSG;
    }
    memcpy(packet.destination_mac.bytes, bytes, 6);
    memcpy(packet.source_mac.bytes, bytes + 6, 6);
    packet.ip = bytes + ETHERNET_SIZE;
    packet.ip_size = size - ETHERNET_SIZE;
    switch (packet_u16(bytes + 12)) {
    case ETH_TYPE_IPV4:
        result = packet_parse_ipv4(&packet);
        break;
    case ETH_TYPE_IPV6:
        result = packet_parse_ipv6(&packet);
        break;
    default:
        result = -EBADMSG;
        break;
    }
    if (result == 0) {
        *ret_packet = packet;
    }
    return result;
}

int
packet_udp(const struct packet *packet, uint16_t source_port,
           uint16_t destination_port, const uint8_t **ret_data,
           size_t *ret_size)
{
    const uint8_t *udp = packet->payload;

    if (packet->protocol != IP_PROTO_UDP || packet->is_fragment ||
        packet->payload_size < UDP_SIZE || packet_u16(udp) != source_port ||
        packet_u16(udp + 2) != destination_port) {
        return -EBADMSG;
    }
    size_t size = packet_u16(udp + 4);
    if (size < UDP_SIZE || size > packet->payload_size) {
        return -EBADMSG;
    }
    *ret_data = udp + UDP_SIZE;
    *ret_size = size - UDP_SIZE;
    return 0;
}

/* ---- Together ---- */

void
packet_put(struct packet_writer *writer, const void *bytes, size_t size)
{
    struct packet_in_reply *reply = writer->reply;

    if (size > sizeof reply->bytes - reply->size) {
        writer->is_full = true;
        return;
    }
    if (size > 0) {
        memcpy(reply->bytes + reply->size, bytes, size);
        reply->size += size;
    }
}

void
packet_put_zeros(struct packet_writer *writer, size_t size)
{
    struct packet_in_reply *reply = writer->reply;

    if (size > sizeof reply->bytes - reply->size) {
        writer->is_full = true;
        return;
    }
    memset(reply->bytes + reply->size, 0, size);
    reply->size += size;
}

void
packet_put_u8(struct packet_writer *writer, uint8_t value)
{
    packet_put(writer, &value, sizeof value);
}

void
packet_put_u16(struct packet_writer *writer, uint16_t value)
{
    struct be16 wire = be16_make(value);
    packet_put(writer, &wire, sizeof wire);
}

void
packet_put_u32(struct packet_writer *writer, uint32_t value)
{
    struct be32 wire = be32_make(value);
    packet_put(writer, &wire, sizeof wire);
}

void
packet_put_ip_address(struct packet_writer *writer,
                      const struct ip_address *address)
{
    packet_put(writer, address->bytes, address->is_ipv6 ? 16 : 4);
}

size_t
packet_offset(const struct packet_writer *writer)
{
    return writer->reply->size;
}

void
packet_patch_u16(struct packet_writer *writer, size_t offset, uint16_t value)
{
    struct be16 wire = be16_make(value);

    if (writer->is_full) {
        return;
    }
    CHECK(offset + sizeof wire <= writer->reply->size);
    memcpy(writer->reply->bytes + offset, &wire, sizeof wire);
}

void
packet_begin(struct packet_writer *writer, struct packet_in_reply *reply,
             const struct mac_address *from, const struct mac_address *to)
{
    *writer = (struct packet_writer){ .reply = reply };
    reply->size = 0;
    packet_put(writer, to->bytes, sizeof to->bytes);
    packet_put(writer, from->bytes, sizeof from->bytes);
}

void
packet_put_ip(struct packet_writer *writer, const struct ip_address *source,
              const struct ip_address *destination, uint8_t protocol,
              uint8_t hop_limit)
{
    packet_put_u16(writer, source->is_ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
    writer->ip_offset = packet_offset(writer);
    if (source->is_ipv6) {
        packet_put_u32(writer, 6u << 28);
        packet_put_u16(writer, 0);
        packet_put_u8(writer, protocol);
        packet_put_u8(writer, hop_limit);
    } else {
        packet_put_u16(writer, 0x4500);
        packet_put_u16(writer, 0);
        packet_put_u32(writer, 0x00004000); /* Don't fragment. */
        packet_put_u8(writer, hop_limit);
        packet_put_u8(writer, protocol);
        packet_put_u16(writer, 0);
    }
    packet_put_ip_address(writer, source);
    packet_put_ip_address(writer, destination);
    writer->payload_offset = packet_offset(writer);
}

void
packet_put_udp(struct packet_writer *writer, uint16_t source_port,
               uint16_t destination_port)
{
    packet_put_u16(writer, source_port);
    packet_put_u16(writer, destination_port);
    packet_put_u32(writer, 0);
}

/* The sum of RFC 1071, not folded. */
static uint64_t
checksum_add(uint64_t sum, const uint8_t *bytes, size_t size)
{
    size_t i = 0;

    for (; i + 1 < size; i += 2) {
        sum += packet_u16(bytes + i);
    }
    return i < size ? sum + ((uint64_t)bytes[i] << 8) : sum;
}

static uint16_t
checksum_fold(uint64_t sum)
{
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

/* Of the payload, where its protocol has one. */
static void
packet_sum_payload(struct packet_writer *writer, bool is_ipv6, uint8_t protocol)
{
    const uint8_t *ip = writer->reply->bytes + writer->ip_offset;
    const uint8_t *payload = writer->reply->bytes + writer->payload_offset;
    size_t size = writer->reply->size - writer->payload_offset;
    size_t field = protocol == IP_PROTO_UDP ? 6 : 2;
    uint64_t sum = 0;

    if (size < field + 2) {
        return;
    }
    if (protocol == IP_PROTO_UDP) {
        packet_patch_u16(writer, writer->payload_offset + 4, (uint16_t)size);
    }
    if (is_ipv6) {
        sum = checksum_add(size + protocol, ip + 8, 32);
    } else if (protocol == IP_PROTO_UDP) {
        sum = checksum_add(size + protocol, ip + 12, 8);
    }
    uint16_t folded = checksum_fold(checksum_add(sum, payload, size));
    if (folded == 0 && protocol == IP_PROTO_UDP) {
        folded = 0xffff;
    }
    packet_patch_u16(writer, writer->payload_offset + field, folded);
}

int
packet_end(struct packet_writer *writer)
{
    uint8_t *ip = writer->reply->bytes + writer->ip_offset;

    if (writer->is_full) {
        writer->reply->size = 0;
        return -EMSGSIZE;
    }
    bool is_ipv6 = ip[0] >> 4 == 6;
    if (is_ipv6) {
        packet_patch_u16(writer, writer->ip_offset + 4,
                         (uint16_t)(writer->reply->size -
                                    writer->payload_offset));
    } else {
        packet_patch_u16(writer, writer->ip_offset + 2,
                         (uint16_t)(writer->reply->size - writer->ip_offset));
        packet_patch_u16(writer, writer->ip_offset + 10,
                         checksum_fold(checksum_add(0, ip, IPV4_SIZE)));
    }
    packet_sum_payload(writer, is_ipv6, is_ipv6 ? ip[6] : ip[9]);
    return 0;
}

/* ---- Addresses ---- */

struct ip_address
packet_link_local(const struct mac_address *mac)
{
    struct ip_address address = { .is_ipv6 = true };

    address.bytes[0] = 0xfe;
    address.bytes[1] = 0x80;
    memcpy(address.bytes + 8, mac->bytes, 3);
    address.bytes[8] ^= 2;
    address.bytes[11] = 0xff;
    address.bytes[12] = 0xfe;
    memcpy(address.bytes + 13, mac->bytes + 3, 3);
    return address;
}

bool
packet_link_local_mac(const struct ip_address *address,
                      struct mac_address *ret_mac)
{
    struct mac_address mac;

    memcpy(mac.bytes, address->bytes + 8, 3);
    mac.bytes[0] ^= 2;
    memcpy(mac.bytes + 3, address->bytes + 13, 3);
    struct ip_address same = packet_link_local(&mac);
    if (!address->is_ipv6 || (mac.bytes[0] & 1) != 0 ||
        memcmp(same.bytes, address->bytes, sizeof same.bytes) != 0) {
        return false;
    }
    *ret_mac = mac;
    return true;
}

bool
packet_is_unspecified(const struct ip_address *address)
{
    static const uint8_t zeros[16] = { 0 };
    return memcmp(address->bytes, zeros, address->is_ipv6 ? 16 : 4) == 0;
}

bool
packet_is_multicast(const struct ip_address *address)
{
    if (address->is_ipv6) {
        return address->bytes[0] == 0xff;
    }
    return address->bytes[0] >= 224; /* Broadcast, too. */
}
