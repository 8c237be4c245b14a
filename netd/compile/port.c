/* SPDX-License-Identifier: Apache-2.0 */
/* Where a guest's packets come from. */

#include "netd/compile/match.h"
#include "netd/compile/place.h"

/* A port that is disabled, lives elsewhere, or whose identity is not known has
 * no flow in CLASSIFY: all that it sends is dropped. */
static void
emit_port(struct emit *emit, const struct local_port *local)
{
    struct port_place place;
    struct flow_builder b;
    uint32_t identity;

    if (!place_find_main(emit, local, &place) ||
        !place_identity(emit, &place, &identity)) {
        return;
    }
    flow_begin(&b, TABLE_CLASSIFY, 100);
    flow_match_u32(&b, FIELD_IN_PORT, local->ofport);
    /* Whatever a guest does: its packets have no TLV but ours (N3). */
    flow_set_u32(&b, FIELD_TUN_TLV0, 0);
    flow_set_u64(&b, FIELD_METADATA, place.network->vni);
    flow_set_u32(&b, REG_SRC_IDENTITY, identity);
    flow_set_u32(&b, REG_SRC_ZONE, local->zone);
    flow_set_u32(&b, REG_ORIG_PORT, local->ofport);
    flow_resubmit(&b, TABLE_PORT_SEC);
    emit_flow(emit, &b);
}

const struct emitter emitter_port = {
    .name = "port",
    .scope = EMIT_LOCAL,
    .emit_local = emit_port,
};
