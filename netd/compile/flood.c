/* SPDX-License-Identifier: Apache-2.0 */
/* Broadcast and multicast, for networks that ask for it (N18).
 *
 *     L2_CLASS    metered per sending port               -> RESOLVE
 *     RESOLVE     from a local port: a copy to each host that has ports of the
 *                 network; then, also out of a tunnel    -> FLOOD
 *     FLOOD       once for each policy of the network's local ports
 *                                                        -> FLOOD_SG
 *     FLOOD_SG    rules of direction in (security.c)     -> FLOOD_OUT
 *     FLOOD_OUT   a copy to each local port of the policy
 *
 * So the number of resubmits is that of policies, not of ports.  OpenFlow does
 * not send a packet out of the port that it came in by.
 *
 * This is the one feature that reads all bindings of a network.  A network on
 * more hosts, or with more policies or ports of one policy on this host, than
 * the limits below is not flooded at all: half a flood would be worse, as
 * nobody could tell. */

#include <stdlib.h>
#include <string.h>

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

/* Adds what is not there yet; false: no room. */
static bool
add_number(uint32_t *numbers, size_t *count, size_t max, uint32_t number)
{
    for (size_t i = 0; i < *count; i++) {
        if (numbers[i] == number) {
            return true;
        }
    }
    if (*count == max) {
        return false;
    }
    numbers[(*count)++] = number;
    return true;
}

/* ---- To other hosts ---- */

/* Tunnel addresses, sorted; false: too many. */
static bool
find_remotes(struct emit *emit, const struct weft_uuid *network,
             uint32_t *ret_remotes, size_t *ret_count)
{
    const struct state_row *row = NULL;

    *ret_count = 0;
    while ((row = emit_next(emit, STATE_TABLE_BINDING,
                            STATE_BINDING_COL_NETWORK, network, row)) != NULL) {
        const struct state_binding *binding = state_binding_from(row);
        struct port_place place;
        uint32_t remote;
        if (!place_find(emit, &binding->port, &place)) {
            continue;
        }
        for (size_t i = 0; i < place.host_count; i++) {
            if (strcmp(place.hosts[i], binding->host) == 0 &&
                place_tunnel_address(emit, binding->host, &remote) &&
                !add_number(ret_remotes, ret_count, FLOOD_HOSTS_MAX, remote)) {
                return false;
            }
        }
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
