/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_PACKET_IN_REPLY_H
#define NETD_PACKET_IN_REPLY_H

/* An answer, as bytes from the Ethernet header on. */

#include <stddef.h>
#include <stdint.h>

/* No answer is longer: the longest is an ICMPv6 error, which fits the minimum
 * MTU of IPv6 and an Ethernet header; or an echo reply of a full packet. */
#define PACKET_IN_REPLY_SIZE 1514u

struct packet_in_reply {
    size_t size;
    uint8_t bytes[PACKET_IN_REPLY_SIZE]; /* To go out of the same port. */
};

#endif /* NETD_PACKET_IN_REPLY_H */
