/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in a view of a port. */

#include "netd/packet_in/view.h"

const struct mac_address view_service_mac = { { 0x02, 0x57, 0x45, 0x46, 0x54,
                                                0x01 } };

const struct view_address *
view_find_dhcp(const struct port_view *view, bool is_ipv6)
{
    for (uint32_t i = 0; i < view->address_count; i++) {
        if (view->addresses[i].ip.is_ipv6 == is_ipv6 &&
            view->addresses[i].dhcp) {
            return &view->addresses[i];
        }
    }
    return NULL;
}

const struct view_address *
view_find_subnet(const struct port_view *view, const struct ip_address *ip)
{
    for (uint32_t i = 0; i < view->address_count; i++) {
        if (ip_prefix_contains(&view->addresses[i].prefix, ip)) {
            return &view->addresses[i];
        }
    }
    return NULL;
}
