/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_PLACE_H
#define NETD_COMPILE_PLACE_H

/* Where a port lives, by the rules N13 and N14: one answer for all emitters.
 *
 * 'Port.host' says where a port lives, whatever bindings there are; while a
 * port is assigned to no host, the first of its bindings does.
 * 'Port.migrate_host' is a second place, until the migration is over.  Bindings
 * of other hosts do not exist.  A port that is disabled is nowhere.
 *
 * Pointers are valid until the emitter returns. */

#include "netd/compile/emit.h"

struct port_place {
    const struct state_port *port;
    const struct state_network *network;
    struct mac_address mac;

    /* Hosts with a binding that counts, the main one first. */
    const char *hosts[2];
    size_t host_count;

    /* The port as it is here, with an ofport; NULL: it is not. */
    const struct local_port *local;
    bool is_main_here; /* 'local', and not just as a migration's target. */
};

/* False: the port is nowhere (no such row, disabled, or a row that it refers to
 * is not there yet). */
WEFT_MUST_CHECK bool place_find(struct emit *emit, const struct weft_uuid *port,
                                struct port_place *ret_place);

/* The same for a local port; false also if it does not live here: its packets
 * are not taken. */
WEFT_MUST_CHECK bool place_find_main(struct emit *emit,
                                     const struct local_port *local,
                                     struct port_place *ret_place);

/* Whether 'binding' is the one of the port's bindings whose unit emits what is
 * to be emitted once per port. */
bool place_is_leader(const struct port_place *place,
                     const struct state_binding *binding);

/* The tunnel address of another host; false: it has none, is disabled, or is
 * this host. */
WEFT_MUST_CHECK bool place_tunnel_address(struct emit *emit, const char *host,
                                          uint32_t *ret_ipv4);

/* The number of the port's identity; false: it is not known (fail closed).
 * Apart from place_find(), because just few need it: a change of groups must
 * not concern the hosts of others (N4). */
WEFT_MUST_CHECK bool place_identity(struct emit *emit,
                                    const struct port_place *place,
                                    uint32_t *ret_number);

/* The addresses of a port; 'previous' NULL begins. */
const struct state_address *
place_next_address(struct emit *emit, const struct port_place *place,
                   const struct state_address *previous,
                   struct ip_address *ret_ip);

/* fe80::/64 with the modified EUI-64 of a MAC (RFC 4291, appendix A): the
 * router's own link-local address. */
void place_link_local(const struct mac_address *mac, struct ip_address *ret_ip);

#endif /* NETD_COMPILE_PLACE_H */
