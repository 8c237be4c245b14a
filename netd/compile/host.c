/* SPDX-License-Identifier: Apache-2.0 */
/* The other hosts: from whom tunnel packets are taken (N3). */

#include <string.h>

#include "netd/compile/emit.h"
#include "netd/compile/match.h"

/* What is not from an enabled host, or has no TLV of our version, matches
 * nothing in TUN_IN, and is dropped before it can touch a connection. */
static void
emit_host_row(struct emit *emit, const struct state_row *row)
{
    const struct state_net_host *host = state_net_host_from(row);
    const struct compile_self *self = emit_self(emit);
    struct ip_address ip;
    struct flow_builder b;

    if (!host->enabled || strcmp(host->host, self->host) == 0 ||
        self->tunnel_ofport == 0 ||
        ip_address_parse(host->encap_ip, &ip) != 0 || ip.is_ipv6) {
        return;
    }
    flow_begin(&b, TABLE_TUN_IN, 100);
    flow_match_u32(&b, FIELD_IN_PORT, self->tunnel_ofport);
    flow_match_ip(&b, FIELD_TUN_SRC, &ip);
    flow_match_u32_masked(&b, FIELD_TUN_TLV0, TLV_VERSION << 24, 0xff000000);
    flow_move(&b, FIELD_TUN_ID, FIELD_METADATA, 24);
    flow_move(&b, FIELD_TUN_TLV0, REG_SRC_IDENTITY, 24);
    flow_set_u32(&b, REG_ORIG_PORT, self->tunnel_ofport);
    set_flag(&b, FLAG_FROM_TUNNEL);
    flow_resubmit(&b, TABLE_RESOLVE);
    emit_flow(emit, &b);
}

const struct emitter emitter_host = {
    .name = "host",
    .scope = EMIT_ROWS,
    .table = STATE_TABLE_NET_HOST,
    .emit = emit_host_row,
};
