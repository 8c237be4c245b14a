/* SPDX-License-Identifier: Apache-2.0 */
/* Who answers what: see packet_in.h. */

#include "netd/packet_in/packet_in.h"

#include <errno.h>

#include "netd/packet_in/view.h"

static int
answer_solicitation(const struct compile *compile,
                    const struct packet_in_request *request,
                    const struct port_view *view, const struct packet *packet,
                    struct packet_in_reply *ret_reply)
{
    struct view_neighbour neighbour;
    struct ip_address target;
    int result = nd_solicited_target(view, packet, &target);

    if (result == 0) {
        result =
            view_neighbour(compile, &request->port, view, &target, &neighbour);
    }
    if (result == 0 && packet_is_unspecified(&packet->source) &&
        target.bytes[0] == 0xfe) {
        /* Detection of a duplicate link-local address: whether anybody has
         * it is not known here, and a wrong yes would cost it its address. */
        result = -ENOENT;
    }
    if (result == 0) {
        result = nd_advertise(view, packet, &target, &neighbour, ret_reply);
    }
    return result;
}

int
packet_in_answer(const struct compile *compile,
                 const struct packet_in_request *request,
                 struct packet_in_reply *ret_reply)
{
    struct port_view view;
    struct packet packet;
    int result = packet_parse(request->bytes, request->size, &packet);

    if (result == 0) {
        result = view_port(compile, &request->port, &view);
    }
    if (result != 0) {
        return result;
    }
    switch (request->kind) {
    case PACKET_IN_DHCP4:
        return dhcp4_answer(&view, &packet, ret_reply);
    case PACKET_IN_DHCP6:
        return dhcp6_answer(&view, &packet, ret_reply);
    case PACKET_IN_RS:
        return nd_advertise_router(&view, &packet, ret_reply);
    case PACKET_IN_NS:
        return answer_solicitation(compile, request, &view, &packet, ret_reply);
    case PACKET_IN_TTL:
    case PACKET_IN_TOO_BIG:
    case PACKET_IN_UNREACHABLE:
    case PACKET_IN_ROUTER:
        return icmp_answer(&view, &packet, request->kind,
                           request->kind == PACKET_IN_TOO_BIG
                               ? view_route_mtu(compile, &request->port,
                                                &packet.destination)
                               : 0,
                           ret_reply);
    default:
        return -EBADMSG;
    }
}

int
packet_in_advertise(const struct compile *compile, const struct weft_uuid *port,
                    struct packet_in_reply *ret_reply)
{
    struct port_view view;
    int result = view_port(compile, port, &view);

    if (result == 0) {
        result = nd_advertise_router(&view, NULL, ret_reply);
    }
    return result;
}
