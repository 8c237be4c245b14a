/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_PACKET_IN_PACKET_H
#define NETD_PACKET_IN_PACKET_H

/* Ethernet, IPv4, IPv6, UDP and ICMP: taking packets apart with every length
 * checked, and putting answers together.
 *
 * Sources: RFC 791, 768, 792, 8200, 4443. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/be.h"
#include "lib/base/check.h"
#include "lib/base/ip.h"
#include "netd/compile/flow_spec.h"
#include "netd/packet_in/reply.h"

#define ETHERNET_SIZE 14u
#define IPV4_SIZE 20u
#define IPV6_SIZE 40u
#define UDP_SIZE 8u

/* Borrows the bytes that it was made of. */
struct packet {
    const uint8_t *bytes;
    size_t size;
    struct mac_address source_mac, destination_mac;
    struct ip_address source, destination;
    const uint8_t *ip; /* The IP header and all that belongs to the packet. */
    size_t ip_size;
    const uint8_t *payload; /* After the IP headers. */
    size_t payload_size;
    uint8_t protocol; /* Of the payload. */
    uint8_t hop_limit;
    bool is_fragment;
    bool is_later_fragment;
};

/* -EBADMSG: no sound IPv4 or IPv6 packet. */
WEFT_MUST_CHECK int packet_parse(const uint8_t *bytes, size_t size,
                                 struct packet *ret_packet);

/* The payload as UDP: its ports are as given.  -EBADMSG */
WEFT_MUST_CHECK int packet_udp(const struct packet *packet,
                               uint16_t source_port, uint16_t destination_port,
                               const uint8_t **ret_data, size_t *ret_size);

/* ---- Writing: appends, and remembers if it was too much ---- */

struct packet_writer {
    struct packet_in_reply *reply;
    bool is_full;
    size_t ip_offset;      /* Where the IP header begins. */
    size_t payload_offset; /* Where its payload begins. */
};

void packet_begin(struct packet_writer *writer, struct packet_in_reply *reply,
                  const struct mac_address *from, const struct mac_address *to);
/* Lengths and checksums come with packet_end(). */
void packet_put_ip(struct packet_writer *writer,
                   const struct ip_address *source,
                   const struct ip_address *destination, uint8_t protocol,
                   uint8_t hop_limit);
void packet_put_udp(struct packet_writer *writer, uint16_t source_port,
                    uint16_t destination_port);
void packet_put(struct packet_writer *writer, const void *bytes, size_t size);
void packet_put_zeros(struct packet_writer *writer, size_t size);
void packet_put_u8(struct packet_writer *writer, uint8_t value);
void packet_put_u16(struct packet_writer *writer, uint16_t value);
void packet_put_u32(struct packet_writer *writer, uint32_t value);
/* 4 or 16 bytes. */
void packet_put_ip_address(struct packet_writer *writer,
                           const struct ip_address *address);
/* Bytes so far. */
size_t packet_offset(const struct packet_writer *writer);
void packet_patch_u16(struct packet_writer *writer, size_t offset,
                      uint16_t value);
/* 0, or -EMSGSIZE if not all fitted. */
WEFT_MUST_CHECK int packet_end(struct packet_writer *writer);

/* fe80::/64 with the modified EUI-64 of a MAC (RFC 4291 appendix A). */
struct ip_address packet_link_local(const struct mac_address *mac);
/* The other way round; false: not of that form. */
bool packet_link_local_mac(const struct ip_address *address,
                           struct mac_address *ret_mac);
bool packet_is_unspecified(const struct ip_address *address);
bool packet_is_multicast(const struct ip_address *address);

static inline uint16_t
packet_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline uint32_t
packet_u32(const uint8_t *bytes)
{
    return (uint32_t)packet_u16(bytes) << 16 | packet_u16(bytes + 2);
}

#endif /* NETD_PACKET_IN_PACKET_H */
