/* SPDX-License-Identifier: Apache-2.0 */
/* From the model to what an answer needs of a port.  Rows may be missing or
 * malformed at any time (they come from a database that others write): what
 * cannot be read is left out. */

#include "netd/packet_in/view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/compile/compile.h"

/* Routers on the port's networks that are looked at for a destination; the
 * scope is capped likewise (N10). */
#define ROUTE_PORTS_MAX 256u

static const struct state_port *
find_port(const struct compile *compile, const struct weft_uuid *port)
{
    const struct state_row *row = compile_row(compile, STATE_TABLE_PORT, port);
    return row != NULL ? state_port_from(row) : NULL;
}

static const struct state_network *
find_network(const struct compile *compile, const struct weft_uuid *network)
{
    const struct state_row *row =
        compile_row(compile, STATE_TABLE_NETWORK, network);
    return row != NULL ? state_network_from(row) : NULL;
}

/* The router's interface on a subnet, or NULL. */
static const struct state_router_port *
find_router_port(const struct compile *compile, const struct weft_uuid *subnet)
{
    const struct state_row *row =
        compile_next(compile, STATE_TABLE_ROUTER_PORT,
                     STATE_ROUTER_PORT_COL_SUBNET, subnet, NULL);
    return row != NULL ? state_router_port_from(row) : NULL;
}

/* Fills '*ret_address'; false: the rows do not make sense (yet). */
static bool
view_address(const struct compile *compile, const struct state_address *row,
             struct view_address *ret_address)
{
    const struct state_row *subnet_row =
        compile_row(compile, STATE_TABLE_SUBNET, &row->subnet);
    struct view_address address;

    memset(&address, 0, sizeof address);
    if (subnet_row == NULL || ip_address_parse(row->ip, &address.ip) != 0) {
        return false;
    }
    const struct state_subnet *subnet = state_subnet_from(subnet_row);
    if (ip_prefix_parse(subnet->cidr, &address.prefix) != 0 ||
        address.prefix.address.is_ipv6 != address.ip.is_ipv6) {
        return false;
    }
    address.dhcp = subnet->dhcp;
    address.has_gateway =
        subnet->gateway[0] != '\0' &&
        ip_address_parse(subnet->gateway, &address.gateway) == 0 &&
        address.gateway.is_ipv6 == address.ip.is_ipv6;
    const struct state_router_port *router =
        find_router_port(compile, &row->subnet);
    address.has_router = router != NULL && address.has_gateway &&
                         mac_parse(router->mac, &address.router_mac) == 0;
    for (size_t i = 0; i < subnet->dns_count && i < VIEW_DNS; i++) {
        if (ip_address_parse(subnet->dns[i], &address.dns[address.dns_count]) ==
            0) {
            address.dns_count++;
        }
    }
    *ret_address = address;
    return true;
}

int
view_port(const struct compile *compile, const struct weft_uuid *port,
          struct port_view *ret_view)
{
    const struct state_port *row = find_port(compile, port);
    const struct state_network *network =
        row != NULL ? find_network(compile, &row->network) : NULL;

    if (network == NULL || !row->enabled) {
        return -ENOENT;
    }
    memset(ret_view, 0, sizeof *ret_view);
    if (mac_parse(row->mac, &ret_view->mac) != 0) {
        return -ENOENT;
    }
    ret_view->mtu = network->mtu;
    (void)snprintf(ret_view->hostname, sizeof ret_view->hostname, "%s",
                   row->hostname);
    for (const struct state_row *next =
             compile_next(compile, STATE_TABLE_ADDRESS, STATE_ADDRESS_COL_PORT,
                          port, NULL);
         next != NULL && ret_view->address_count < VIEW_ADDRESSES;
         next = compile_next(compile, STATE_TABLE_ADDRESS,
                             STATE_ADDRESS_COL_PORT, port, next)) {
        if (view_address(compile, state_address_from(next),
                         &ret_view->addresses[ret_view->address_count])) {
            ret_view->address_count++;
        }
    }
    return 0;
}

/* ---- Neighbours ---- */

/* A link-local target: a router's, or one that a MAC was made into.  Of a
 * guest's there is no row; its MAC is in the address itself, and a packet to a
 * MAC that nobody has is dropped. */
static int
view_link_local(const struct port_view *view, const struct ip_address *ip,
                struct view_neighbour *ret_neighbour)
{
    struct mac_address mac;

    if (!packet_link_local_mac(ip, &mac)) {
        return -ENOENT;
    }
    *ret_neighbour = (struct view_neighbour){ .mac = mac };
    for (uint32_t i = 0; i < view->address_count; i++) {
        if (view->addresses[i].has_router &&
            memcmp(view->addresses[i].router_mac.bytes, mac.bytes,
                   sizeof mac.bytes) == 0) {
            ret_neighbour->is_router = true;
        }
    }
    return 0;
}

int
view_neighbour(const struct compile *compile, const struct weft_uuid *port,
               const struct port_view *view, const struct ip_address *ip,
               struct view_neighbour *ret_neighbour)
{
    const struct state_port *row = find_port(compile, port);
    char text[IP_TEXT_SIZE];
    const char *mac = NULL;
    bool is_router = false;

    if (row == NULL) {
        return -ENOENT;
    }
    if (ip->is_ipv6 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80) {
        return view_link_local(view, ip, ret_neighbour);
    }
    ip_format(ip, text);
    const struct state_address *address =
        compile_find_address(compile, &row->network, text);
    if (address == NULL) {
        return -ENOENT;
    }
    const struct state_row *found =
        compile_row(compile, STATE_TABLE_ROUTER_PORT, &address->router_port);
    if (found != NULL) {
        mac = state_router_port_from(found)->mac;
        is_router = true;
    } else if (compile_next(compile, STATE_TABLE_BINDING,
                            STATE_BINDING_COL_PORT, &address->port,
                            NULL) != NULL) {
        const struct state_port *other = find_port(compile, &address->port);
        mac = other != NULL ? other->mac : NULL;
    }
    struct view_neighbour neighbour = { .is_router = is_router };
    if (mac == NULL || mac_parse(mac, &neighbour.mac) != 0) {
        return -ENOENT;
    }
    *ret_neighbour = neighbour;
    return 0;
}

/* ---- Routes ---- */

/* The MTU of the network on which 'router' reaches 'ip' directly, or 0. */
static uint32_t
router_mtu(const struct compile *compile, const struct weft_uuid *router,
           const struct ip_address *ip)
{
    const struct state_row *row = NULL;
    uint32_t longest = 0, mtu = 0;

    for (uint32_t i = 0; i < ROUTE_PORTS_MAX; i++) {
        struct ip_prefix prefix;
        row = compile_next(compile, STATE_TABLE_ROUTER_PORT,
                           STATE_ROUTER_PORT_COL_ROUTER, router, row);
        if (row == NULL) {
            break;
        }
        const struct state_router_port *port = state_router_port_from(row);
        const struct state_row *subnet =
            compile_row(compile, STATE_TABLE_SUBNET, &port->subnet);
        const struct state_network *network =
            find_network(compile, &port->network);
        if (subnet == NULL || network == NULL ||
            ip_prefix_parse(state_subnet_from(subnet)->cidr, &prefix) != 0 ||
            !ip_prefix_contains(&prefix, ip) || prefix.length < longest) {
            continue;
        }
        longest = prefix.length;
        mtu = network->mtu;
    }
    return mtu;
}

uint32_t
view_route_mtu(const struct compile *compile, const struct weft_uuid *port,
               const struct ip_address *ip)
{
    const struct state_port *row = find_port(compile, port);
    const struct state_row *on = NULL;
    uint32_t mtu = 0;

    if (row == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < ROUTE_PORTS_MAX && mtu == 0; i++) {
        on = compile_next(compile, STATE_TABLE_ROUTER_PORT,
                          STATE_ROUTER_PORT_COL_NETWORK, &row->network, on);
        if (on == NULL) {
            break;
        }
        mtu = router_mtu(compile, &state_router_port_from(on)->router, ip);
    }
    return mtu;
}
