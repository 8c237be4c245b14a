/* SPDX-License-Identifier: Apache-2.0 */

/* Packets of a hostile guest: DHCP, neighbour discovery, and what ICMP errors
 * are made about.
 *
 * The first byte is the kind of the packet-in, the rest the packet.  Whatever
 * it is: no crash, and an answer is well formed, goes to the asker only and is
 * never about an ICMP error (N19).
 *
 * fuzz-sources: netd/packet_in/dhcp4.c netd/packet_in/dhcp6.c
 * fuzz-sources: netd/packet_in/nd.c netd/packet_in/icmp.c netd/packet_in/find.c
 * fuzz-sources: netd/packet_in/packet.c
 * fuzz-sources: tests/support/packet_in_view.c
 * fuzz-sources: lib/base/ip.c lib/base/check.c
 * fuzz-max-bytes: 2048 */

#include <string.h>

#include "lib/base/check.h"
#include "tests/support/packet_in_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct packet_in_reply reply;
    struct packet answer;
    struct port_view view;

    if (size < 1) {
        return 0;
    }
    packet_in_test_view(&view);
    uint32_t kind = data[0] % PACKET_IN_KIND_COUNT;
    if (packet_in_test_answer(&view, kind, data + 1, size - 1, &reply) != 0) {
        return 0;
    }
    CHECK(reply.size <= PACKET_IN_REPLY_SIZE);
    CHECK(packet_parse(reply.bytes, reply.size, &answer) == 0);
    CHECK(memcmp(answer.destination_mac.bytes, view.mac.bytes, 6) == 0);
    CHECK(memcmp(answer.source_mac.bytes, view.mac.bytes, 6) != 0);
    /* Again, to its own answer: that may not be answered for ever. */
    if (kind >= PACKET_IN_TTL && answer.protocol != IP_PROTO_UDP) {
        struct packet_in_reply second;
        bool is_echo = answer.payload[0] == 0 || answer.payload[0] == 129;
        int result = packet_in_test_answer(&view, kind, reply.bytes, reply.size,
                                           &second);
        CHECK(result != 0 || is_echo);
    }
    return 0;
}
