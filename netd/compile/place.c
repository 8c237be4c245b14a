/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/place.h"

#include <string.h>

/* Whether one of the port's bindings is by 'host'; with 'host' empty, by any:
 * '*ret_host' is who it is. */
static bool
find_binding(struct emit *emit, const struct weft_uuid *port, const char *host,
             const char **ret_host)
{
    const struct state_row *row = NULL;

    while ((row = emit_next(emit, STATE_TABLE_BINDING, STATE_BINDING_COL_PORT,
                            port, row)) != NULL) {
        const struct state_binding *binding = state_binding_from(row);
        if (host[0] == '\0' || strcmp(binding->host, host) == 0) {
            *ret_host = binding->host;
            return true;
        }
    }
    return false;
}

static void
find_hosts(struct emit *emit, struct port_place *place)
{
    const struct state_port *port = place->port;
    const char *host;

    if (find_binding(emit, &port->row.uuid, port->host, &host)) {
        place->hosts[place->host_count++] = host;
    }
    if (port->migrate_host[0] != '\0' &&
        strcmp(port->migrate_host, port->host) != 0 &&
        find_binding(emit, &port->row.uuid, port->migrate_host, &host) &&
        (place->host_count == 0 || strcmp(place->hosts[0], host) != 0)) {
        place->hosts[place->host_count++] = host;
    }
}

static void
find_local(struct emit *emit, struct port_place *place)
{
    const struct local_port *local = emit_local(emit, &place->port->row.uuid);

    if (local == NULL || local->ofport == 0) {
        return;
    }
    const char *self = emit_self(emit)->host;
    const char *main_host = place->port->host;
    if (main_host[0] == '\0') {
        main_host = place->host_count > 0 ? place->hosts[0] : "";
    }
    place->is_main_here = strcmp(main_host, self) == 0;
    if (place->is_main_here || strcmp(place->port->migrate_host, self) == 0) {
        place->local = local;
    }
}

bool
place_find(struct emit *emit, const struct weft_uuid *port,
           struct port_place *ret_place)
{
    struct port_place place = { 0 };
    const struct state_row *row = emit_row(emit, STATE_TABLE_PORT, port);

    if (row == NULL) {
        return false;
    }
    place.port = state_port_from(row);
    if (!place.port->enabled || mac_parse(place.port->mac, &place.mac) != 0) {
        return false;
    }
    row = emit_row(emit, STATE_TABLE_NETWORK, &place.port->network);
    if (row == NULL) {
        return false;
    }
    place.network = state_network_from(row);
    find_hosts(emit, &place);
    find_local(emit, &place);
    *ret_place = place;
    return true;
}

bool
place_find_main(struct emit *emit, const struct local_port *local,
                struct port_place *ret_place)
{
    return place_find(emit, &local->port, ret_place) &&
           ret_place->local != NULL && ret_place->is_main_here;
}

bool
place_is_leader(const struct port_place *place,
                const struct state_binding *binding)
{
    return place->host_count > 0 && strcmp(place->hosts[0], binding->host) == 0;
}

bool
place_tunnel_address(struct emit *emit, const char *host, uint32_t *ret_ipv4)
{
    struct ip_address ip;

    if (strcmp(emit_self(emit)->host, host) == 0) {
        return false;
    }
    const struct state_net_host *row = emit_host(emit, host);
    if (row == NULL || !row->enabled ||
        ip_address_parse(row->encap_ip, &ip) != 0 || ip.is_ipv6) {
        return false;
    }
    *ret_ipv4 = (uint32_t)ip.bytes[0] << 24 | (uint32_t)ip.bytes[1] << 16 |
                (uint32_t)ip.bytes[2] << 8 | ip.bytes[3];
    return true;
}

bool
place_identity(struct emit *emit, const struct port_place *place,
               uint32_t *ret_number)
{
    const struct state_row *row =
        emit_row(emit, STATE_TABLE_IDENTITY, &place->port->identity);

    if (row == NULL) {
        return false;
    }
    *ret_number = state_identity_from(row)->number;
    return true;
}

const struct state_address *
place_next_address(struct emit *emit, const struct port_place *place,
                   const struct state_address *previous,
                   struct ip_address *ret_ip)
{
    const struct state_row *row = previous == NULL ? NULL : &previous->row;

    while ((row = emit_next(emit, STATE_TABLE_ADDRESS, STATE_ADDRESS_COL_PORT,
                            &place->port->row.uuid, row)) != NULL) {
        const struct state_address *address = state_address_from(row);
        if (ip_address_parse(address->ip, ret_ip) == 0) {
            return address;
        }
    }
    return NULL;
}

void
place_link_local(const struct mac_address *mac, struct ip_address *ret_ip)
{
    const uint8_t *m = mac->bytes;

    *ret_ip = (struct ip_address){
        .is_ipv6 = true,
        .bytes = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, (uint8_t)(m[0] ^ 2), m[1],
                   m[2], 0xff, 0xfe, m[3], m[4], m[5] },
    };
}
