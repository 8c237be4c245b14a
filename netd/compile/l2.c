/* SPDX-License-Identifier: Apache-2.0 */
/* RESOLVE: from a known MAC to where its port is.
 *
 *     for packets of local ports     EG_CT, with the target's place in
 * registers for packets out of a tunnel    local ports only, so that no packet
 * goes from one tunnel into another; DELIVER
 *
 * A port that is here is emitted by its local unit, one that is elsewhere by
 * that of its binding: never both.  While a port migrates (N14) its packets go
 * to both places.  An unknown MAC matches nothing and is dropped (N18).
 *
 * OUTPUT looks at the MAC once more: Open vSwitch's userspace conntrack (3.1)
 * lets fragments that waited in vain for the rest go on after 15 s, with
 * whatever packet passes any ct() then, and that packet's registers.  They must
 * not come out of that packet's port. */

#include "netd/compile/match.h"
#include "netd/compile/place.h"
#include "netd/compile/security.h"

static void
begin(struct flow_builder *builder, const struct port_place *place,
      bool is_from_tunnel)
{
    flow_begin(builder, TABLE_RESOLVE, 100);
    match_flag(builder, is_from_tunnel ? FLAG_FROM_TUNNEL : 0,
               is_from_tunnel ? 0 : FLAG_FROM_TUNNEL);
    flow_match_u64(builder, FIELD_METADATA, place->network->vni);
    flow_match_mac(builder, FIELD_ETH_DST, &place->mac);
}

static void
set_local_target(struct flow_builder *builder, const struct port_place *place,
                 uint32_t identity)
{
    flow_set_u32(builder, REG_OUT_PORT, place->local->ofport);
    flow_set_u32(builder, REG_DST_ZONE, place->local->zone);
    flow_set_u32(builder, REG_DST_POLICY, identity);
}

/* Returns whether there was somewhere to send to. */
static bool
send_to_remotes(struct emit *emit, struct flow_builder *builder,
                const struct port_place *place)
{
    bool is_any = false;

    for (size_t i = 0; i < place->host_count; i++) {
        uint32_t tunnel;
        if (place_tunnel_address(emit, place->hosts[i], &tunnel)) {
            flow_set_u32(builder, REG_TUN_DST, tunnel);
            flow_resubmit(builder, TABLE_EG_CT);
            is_any = true;
        }
    }
    return is_any;
}

static void
emit_output(struct emit *emit, const struct port_place *place)
{
    struct flow_builder b;

    /* OpenFlow: never back to the port that it came in by, which is meant. */
    flow_begin(&b, TABLE_OUTPUT, 100);
    flow_match_u32(&b, REG_OUT_PORT, place->local->ofport);
    flow_match_mac(&b, FIELD_ETH_DST, &place->mac);
    flow_output(&b, place->local->ofport);
    emit_flow(emit, &b);
}

static void
emit_local_target(struct emit *emit, const struct local_port *local)
{
    struct port_place place;
    struct flow_builder b;
    uint32_t identity;

    if (!place_find(emit, &local->port, &place) || place.local == NULL ||
        !place_identity(emit, &place, &identity)) {
        return;
    }
    emit_output(emit, &place);
    begin(&b, &place, true);
    set_local_target(&b, &place, identity);
    flow_resubmit(&b, TABLE_DELIVER);
    emit_flow(emit, &b);

    begin(&b, &place, false);
    set_local_target(&b, &place, identity);
    if (security_wants_dst_identity(emit)) {
        flow_set_u32(&b, REG_DST_IDENTITY, identity);
    }
    flow_resubmit(&b, TABLE_EG_CT);
    (void)send_to_remotes(emit, &b, &place);
    emit_flow(emit, &b);
}

static void
emit_remote_target(struct emit *emit, const struct state_row *row)
{
    const struct state_binding *binding = state_binding_from(row);
    struct port_place place;
    struct flow_builder b;
    uint32_t identity;

    if (!place_find(emit, &binding->port, &place) || place.local != NULL ||
        !place_is_leader(&place, binding)) {
        return;
    }
    begin(&b, &place, false);
    /* An identity that is not known is in no group that a rule here names
     * (those are followed): the register stays 0, which no such rule allows. */
    if (security_wants_dst_identity(emit) &&
        place_identity(emit, &place, &identity)) {
        flow_set_u32(&b, REG_DST_IDENTITY, identity);
    }
    if (send_to_remotes(emit, &b, &place)) {
        emit_flow(emit, &b);
    }
}

const struct emitter emitter_l2_local = {
    .name = "l2-local",
    .scope = EMIT_LOCAL,
    .emit_local = emit_local_target,
};

const struct emitter emitter_l2_remote = {
    .name = "l2-remote",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_BINDING,
    .emit = emit_remote_target,
};
