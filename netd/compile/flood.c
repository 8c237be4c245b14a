/* SPDX-License-Identifier: Apache-2.0 */
/* Broadcast and multicast, for networks that ask for it (N18).
 *
 *     L2_CLASS    metered per sending port               -> RESOLVE
 *     RESOLVE     from a local port: FLAG_FLOOD          -> EG_SG
 *                 out of a tunnel                        -> FLOOD
 *     EG_SG       rules of direction out; without connections, which a packet
 *                 to many has none of                    -> ... -> DELIVER
 *     DELIVER     a copy to each host that has ports of the network
 *                                                        -> FLOOD
 *     FLOOD       once for each policy of the network's local ports
 *                                                        -> FLOOD_SG
 *     FLOOD_SG    rules of direction in (security.c)     -> FLOOD_OUT
 *     FLOOD_OUT   a copy to each local port of the policy
 *
 * So the number of resubmits is that of policies, not of ports.  OpenFlow does
 * not send a packet out of the port that it came in by.
 *
 * A host has ports of a network if a binding says so and Port.host or
 * Port.migrate_host of some port there names it (N13): two facts for each host,
 * however many ports there are.  A network on more hosts, or with more policies
 * or ports of one policy on this host, than the limits below is not flooded at
 * all: half a flood would be worse, as nobody could tell. */

#include <stdlib.h>

#include "netd/compile/match.h"
#include "netd/compile/place.h"

#define FLOOD_HOSTS_MAX 256u
#define FLOOD_POLICIES_MAX 256u
#define FLOOD_PORTS_MAX 512u /* Of one policy. */

static int
compare_u32(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;
    return (*x > *y) - (*x < *y);
}

/* ---- To other hosts ---- */

static bool
has_ports(struct emit *emit, const struct weft_uuid *network, const char *host)
{
    return emit_has_binding_at(emit, network, host) &&
           (emit_has_port_at(emit, network, host) ||
            emit_has_port_coming_to(emit, network, host));
}

/* Tunnel addresses, sorted; false: too many. */
static bool
find_remotes(struct emit *emit, const struct weft_uuid *network,
             uint32_t *ret_remotes, size_t *ret_count)
{
    const struct state_row *row = NULL;

    *ret_count = 0;
    while ((row = emit_next_all(emit, STATE_TABLE_NET_HOST, row)) != NULL) {
        const char *host = state_net_host_from(row)->host;
        uint32_t remote;
        if (!place_tunnel_address(emit, host, &remote) ||
            !has_ports(emit, network, host)) {
            continue;
        }
        if (*ret_count == FLOOD_HOSTS_MAX) {
            return false;
        }
        ret_remotes[(*ret_count)++] = remote;
    }
    qsort(ret_remotes, *ret_count, sizeof *ret_remotes, compare_u32);
    return true;
}

static void
begin_resolve(struct flow_builder *builder, const struct state_network *network,
              bool is_from_tunnel)
{
    flow_begin(builder, TABLE_RESOLVE, 50);
    match_flag(builder, is_from_tunnel ? FLAG_FROM_TUNNEL : 0,
               is_from_tunnel ? 0 : FLAG_FROM_TUNNEL);
    flow_match_u64(builder, FIELD_METADATA, network->vni);
    match_multicast(builder);
}

static bool
emit_remotes(struct emit *emit, const struct state_network *network)
{
    uint32_t remotes[FLOOD_HOSTS_MAX];
    uint32_t tunnel = emit_self(emit)->tunnel_ofport;
    struct flow_builder b;
    size_t count;

    if (!find_remotes(emit, &network->row.uuid, remotes, &count)) {
        return false;
    }
    begin_resolve(&b, network, false);
    set_flag(&b, FLAG_FLOOD);
    flow_resubmit(&b, TABLE_EG_SG);
    emit_flow(emit, &b);

    flow_begin(&b, TABLE_DELIVER, 200);
    flow_match_u64(&b, FIELD_METADATA, network->vni);
    match_flag(&b, FLAG_FLOOD, 0);
    if (count > 0 && tunnel != 0) {
        /* As TUN_OUT does, but just once for all. */
        flow_move(&b, FIELD_METADATA, FIELD_TUN_ID, 24);
        flow_set_u32(&b, FIELD_TUN_TLV0, TLV_VERSION << 24);
        flow_move(&b, REG_SRC_IDENTITY, FIELD_TUN_TLV0, 24);
    }
    for (size_t i = 0; i < count && tunnel != 0; i++) {
        flow_set_u32(&b, FIELD_TUN_DST, remotes[i]);
        flow_output(&b, tunnel);
    }
    flow_resubmit(&b, TABLE_FLOOD);
    emit_flow(emit, &b);

    begin_resolve(&b, network, true);
    flow_resubmit(&b, TABLE_FLOOD);
    emit_flow(emit, &b);
    return true;
}

/* ---- To local ports ---- */

struct target {
    uint32_t policy;
    uint32_t ofport;
};

static int
compare_targets(const void *a, const void *b)
{
    const struct target *x = a;
    const struct target *y = b;
    if (x->policy != y->policy) {
        return x->policy < y->policy ? -1 : 1;
    }
    return (x->ofport > y->ofport) - (x->ofport < y->ofport);
}

/* Sorted; the caller frees. */
static struct target *
find_targets(struct emit *emit, const struct weft_uuid *network,
             size_t *ret_count)
{
    const struct local_port *local = NULL;
    struct target *targets = NULL;
    size_t count = 0, room = 0;

    while ((local = emit_next_local_of_network(emit, network, local)) != NULL) {
        struct port_place place;
        uint32_t identity;
        if (!place_find(emit, &local->port, &place) || place.local == NULL ||
            !place_identity(emit, &place, &identity)) {
            continue;
        }
        if (count == room) {
            room = room == 0 ? 64 : room * 2;
            targets = realloc(targets, room * sizeof *targets);
            CHECK(targets != NULL);
        }
        targets[count++] = (struct target){ identity, local->ofport };
    }
    if (count > 0) {
        qsort(targets, count, sizeof *targets, compare_targets);
    }
    *ret_count = count;
    return targets;
}

static bool
is_within_limits(const struct target *targets, size_t count)
{
    size_t policies = 0, ports = 0;

    for (size_t i = 0; i < count; i++) {
        if (i == 0 || targets[i].policy != targets[i - 1].policy) {
            policies++;
            ports = 0;
        }
        if (++ports > FLOOD_PORTS_MAX || policies > FLOOD_POLICIES_MAX) {
            return false;
        }
    }
    return true;
}

static void
emit_targets(struct emit *emit, const struct state_network *network,
             const struct target *targets, size_t count)
{
    struct flow_builder flood;
    struct flow_builder b;

    flow_begin(&flood, TABLE_FLOOD, 100);
    flow_match_u64(&flood, FIELD_METADATA, network->vni);
    for (size_t i = 0; i < count;) {
        uint32_t policy = targets[i].policy;
        flow_set_u32(&flood, REG_DST_POLICY, policy);
        flow_resubmit(&flood, TABLE_FLOOD_SG);

        flow_begin(&b, TABLE_FLOOD_OUT, 100);
        flow_match_u64(&b, FIELD_METADATA, network->vni);
        flow_match_u32(&b, REG_DST_POLICY, policy);
        for (; i < count && targets[i].policy == policy; i++) {
            flow_output(&b, targets[i].ofport);
        }
        emit_flow(emit, &b);
    }
    emit_flow(emit, &flood);
}

static void
emit_flood(struct emit *emit, const struct state_row *row)
{
    const struct state_network *network = state_network_from(row);
    size_t count;

    if (!network->flood) {
        return;
    }
    struct target *targets = find_targets(emit, &row->uuid, &count);
    if (is_within_limits(targets, count) && emit_remotes(emit, network) &&
        count > 0) {
        emit_targets(emit, network, targets, count);
    }
    free(targets);
}

/* ---- From local ports ---- */

static void
emit_flood_local(struct emit *emit, const struct local_port *local)
{
    struct port_place place;
    struct flow_builder b;

    if (!place_find_main(emit, local, &place) || !place.network->flood) {
        return;
    }
    flow_begin(&b, TABLE_L2_CLASS, 50);
    flow_match_u32(&b, FIELD_IN_PORT, local->ofport);
    match_multicast(&b);
    flow_meter(&b, pipeline_meter_id(local->zone, METER_FLOOD));
    flow_resubmit(&b, TABLE_RESOLVE);
    emit_flow(emit, &b);
}

const struct emitter emitter_flood = {
    .name = "flood",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_NETWORK,
    .emit = emit_flood,
};

const struct emitter emitter_flood_local = {
    .name = "flood-local",
    .scope = EMIT_LOCAL,
    .emit_local = emit_flood_local,
};
