/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_PACKET_IN_PACKET_IN_H
#define NETD_PACKET_IN_PACKET_IN_H

/* Answers that cannot be flows: DHCP, router advertisements, neighbour
 * advertisements, ICMP errors.
 *
 * A packet that some flow sends to the controller comes with the reason and the
 * port it is from (compile/pipeline.h).  Its answer is a function of the packet
 * and the model; there are no leases, no state and no clock here: an address
 * belongs to a port as long as its row says so, and any host gives the same
 * answer after a restart or a migration.
 *
 * Packets are a guest's: every length and offset is checked before use, and
 * what is not understood is dropped, with a count and nothing else.
 *
 * Thread: the control thread. */

#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/uuid.h"
#include "netd/compile/compile.h"
#include "netd/compile/pipeline.h"
#include "netd/packet_in/reply.h"

struct packet_in_request {
    const uint8_t *bytes; /* From the Ethernet header on. */
    size_t size;
    uint32_t kind;         /* enum packet_in_kind */
    struct weft_uuid port; /* Port that it came from. */
};

/* Fills '*ret_reply'.
 *     -ENOENT     nothing is to be answered (not ours, not now)
 *     -EBADMSG    malformed
 *     -EPERM      the guest claims to be another
 *     -EMSGSIZE   the answer would be too long */
WEFT_MUST_CHECK int packet_in_answer(const struct compile *compile,
                                     const struct packet_in_request *request,
                                     struct packet_in_reply *ret_reply);

/* An unsolicited router advertisement for a local port, to be sent now and
 * then so that guests' default routes do not expire (RFC 4861 6.2.4).  -ENOENT:
 * the port has no IPv6 subnet.  Sent every PACKET_IN_ADVERTISE_S seconds. */
#define PACKET_IN_ADVERTISE_S 300u
WEFT_MUST_CHECK int packet_in_advertise(const struct compile *compile,
                                        const struct weft_uuid *port,
                                        struct packet_in_reply *ret_reply);

#endif /* NETD_PACKET_IN_PACKET_IN_H */
