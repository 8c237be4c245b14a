/* SPDX-License-Identifier: Apache-2.0 */
/* DHCPv4, DHCPv6 and router solicitations: to the controller, which answers
 * from the model (netd/packet_in).  They never go any further. */

#include "netd/compile/match.h"
#include "netd/compile/place.h"

struct services {
    bool dhcp4, dhcp6, advertisements;
};

static void
find_services(struct emit *emit, const struct weft_uuid *network,
              struct services *ret_services)
{
    const struct state_row *row = NULL;

    while ((row = emit_next(emit, STATE_TABLE_SUBNET, STATE_SUBNET_COL_NETWORK,
                            network, row)) != NULL) {
        const struct state_subnet *subnet = state_subnet_from(row);
        struct ip_prefix prefix;
        if (ip_prefix_parse(subnet->cidr, &prefix) != 0) {
            continue;
        }
        if (!prefix.address.is_ipv6) {
            ret_services->dhcp4 |= subnet->dhcp;
        } else {
            ret_services->dhcp6 |= subnet->dhcp;
            ret_services->advertisements = true;
        }
    }
}

static void
begin(struct flow_builder *builder, const struct local_port *local)
{
    flow_begin(builder, TABLE_SERVICE, 100);
    flow_match_u32(builder, FIELD_IN_PORT, local->ofport);
}

/* Fragments are not followed: nobody needs them for these, but to hide. */
static void
finish(struct emit *emit, struct flow_builder *builder,
       const struct local_port *local, uint32_t kind)
{
    flow_match_u32(builder, FIELD_IP_FRAG, 0);
    flow_controller(builder, pipeline_meter_id(local->zone, METER_DHCP), kind,
                    &local->port);
    emit_flow(emit, builder);
}

static void
emit_service(struct emit *emit, const struct local_port *local)
{
    struct services services = { 0 };
    struct port_place place;
    struct flow_builder b;

    if (!place_find_main(emit, local, &place)) {
        return;
    }
    find_services(emit, &place.network->row.uuid, &services);
    if (services.dhcp4) {
        begin(&b, local);
        match_udp(&b, false, DHCP4_CLIENT, DHCP4_SERVER);
        finish(emit, &b, local, PACKET_IN_DHCP4);
    }
    if (services.dhcp6) {
        begin(&b, local);
        match_udp(&b, true, DHCP6_CLIENT, DHCP6_SERVER);
        finish(emit, &b, local, PACKET_IN_DHCP6);
    }
    if (services.advertisements) {
        begin(&b, local);
        match_icmp(&b, true, ND_RS);
        finish(emit, &b, local, PACKET_IN_RS);
    }
}

const struct emitter emitter_service = {
    .name = "service",
    .scope = EMIT_LOCAL,
    .emit_local = emit_service,
};
