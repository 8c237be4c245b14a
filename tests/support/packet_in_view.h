/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_PACKET_IN_VIEW_H
#define TESTS_SUPPORT_PACKET_IN_VIEW_H

/* A port to try packet-in answers on: MAC 02:00:00:00:00:0a, 10.0.0.10/24 with
 * router 10.0.0.1 (02:00:00:00:00:01), 2001:db8::a/64 with router 2001:db8::1
 * (the same MAC), a second IPv6 address without DHCP, name servers, MTU 1442.
 */

#include "netd/packet_in/view.h"

void packet_in_test_view(struct port_view *ret_view);

/* What packet_in_answer() does for one packet, without a model: neighbours are
 * the view's routers and 2001:db8::b with MAC 02:00:00:00:00:0b. */
WEFT_MUST_CHECK int packet_in_test_answer(const struct port_view *view,
                                          uint32_t kind, const uint8_t *bytes,
                                          size_t size,
                                          struct packet_in_reply *ret_reply);

#endif /* TESTS_SUPPORT_PACKET_IN_VIEW_H */
