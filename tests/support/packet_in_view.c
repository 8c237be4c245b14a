/* SPDX-License-Identifier: Apache-2.0 */
/* See packet_in_view.h. */

#include "tests/support/packet_in_view.h"

#include <errno.h>
#include <string.h>

#include "lib/base/check.h"

static const struct mac_address router_mac = { { 2, 0, 0, 0, 0, 1 } };
static const struct mac_address other_mac = { { 2, 0, 0, 0, 0, 0xb } };

static void
put_address(struct port_view *view, const char *ip, const char *cidr,
            const char *gateway, const char *dns, bool dhcp)
{
    struct view_address *address = &view->addresses[view->address_count++];

    CHECK(ip_address_parse(ip, &address->ip) == 0);
    CHECK(ip_prefix_parse(cidr, &address->prefix) == 0);
    CHECK(ip_address_parse(gateway, &address->gateway) == 0);
    CHECK(ip_address_parse(dns, &address->dns[0]) == 0);
    address->dns_count = 1;
    address->has_gateway = address->has_router = true;
    address->router_mac = router_mac;
    address->dhcp = dhcp;
}

void
packet_in_test_view(struct port_view *ret_view)
{
    memset(ret_view, 0, sizeof *ret_view);
    ret_view->mac = (struct mac_address){ { 2, 0, 0, 0, 0, 0xa } };
    ret_view->mtu = 1442;
    memcpy(ret_view->hostname, "vm-a", 5);
    put_address(ret_view, "10.0.0.10", "10.0.0.0/24", "10.0.0.1", "9.9.9.9",
                true);
    put_address(ret_view, "2001:db8::a", "2001:db8::/64", "2001:db8::1",
                "2620:fe::fe", true);
    put_address(ret_view, "2001:db8:1::a", "2001:db8:1::/64", "2001:db8:1::1",
                "2620:fe::fe", false);
}

/* Who has the target, as view_neighbour() would say. */
static int
find_neighbour(const struct ip_address *target,
               struct view_neighbour *ret_neighbour)
{
    struct ip_address router = packet_link_local(&router_mac), gateway, other;

    CHECK(ip_address_parse("2001:db8::1", &gateway) == 0);
    CHECK(ip_address_parse("2001:db8::b", &other) == 0);
    if (ip_compare(target, &router) == 0 || ip_compare(target, &gateway) == 0) {
        *ret_neighbour = (struct view_neighbour){ router_mac, true };
        return 0;
    }
    if (ip_compare(target, &other) == 0) {
        *ret_neighbour = (struct view_neighbour){ other_mac, false };
        return 0;
    }
    return -ENOENT;
}

int
packet_in_test_answer(const struct port_view *view, uint32_t kind,
                      const uint8_t *bytes, size_t size,
                      struct packet_in_reply *ret_reply)
{
    struct view_neighbour neighbour;
    struct ip_address target;
    struct packet packet;
    int result = packet_parse(bytes, size, &packet);

    if (result != 0) {
        return result;
    }
    switch (kind) {
    case PACKET_IN_DHCP4:
        return dhcp4_answer(view, &packet, ret_reply);
    case PACKET_IN_DHCP6:
        return dhcp6_answer(view, &packet, ret_reply);
    case PACKET_IN_RS:
        return nd_advertise_router(view, &packet, ret_reply);
    case PACKET_IN_NS:
        result = nd_solicited_target(view, &packet, &target);
        if (result == 0) {
            result = find_neighbour(&target, &neighbour);
        }
        return result != 0 ? result
                           : nd_advertise(view, &packet, &target, &neighbour,
                                          ret_reply);
    default:
        return icmp_answer(view, &packet, kind, 1280, ret_reply);
    }
}
