/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "lib/base/array.h"
#include "lib/base/log.h"
#include "netd/compile/pipeline.h"
#include "netd/flow/internal.h"

/* Foreign: libopenvswitch. */
#include <config.h>
#include <openvswitch/list.h>
#include <openvswitch/ofp-connection.h>
#include <openvswitch/ofp-match.h>
#include <openvswitch/ofp-msgs.h>
#include <openvswitch/ofp-packet.h>
#include <openvswitch/ofp-switch.h>
#include <openvswitch/ofp-util.h>
#include <openvswitch/ofpbuf.h>

/* What a connection needs before flows: which messages the switch sends by
 * itself, and the tunnel options that flows match on. */

static const struct ofputil_tlv_map options[] = {
    { .option_class = TLV_CLASS,
      .option_type = TLV_TYPE_IDENTITY,
      .option_len = 4,
      .index = 0 },
    { .option_class = TLV_CLASS,
      .option_type = TLV_TYPE_TRACE,
      .option_len = 4,
      .index = 1 },
};

void
setup_start(struct flow_switch *flow)
{
    /* A connection to the management socket gets no packets until it says how
     * much of them it wants. */
    struct ofputil_switch_config config = {
        /* First fragments show their ports and ICMP type to flows, as
         * docs/pipeline.md wants; else they look like later ones. */
        .frag = OFPUTIL_FRAG_NX_MATCH,
        .invalid_ttl_to_controller = 0,
        .miss_send_len = UINT16_MAX,
    };
    flow_send(flow, ofputil_encode_set_config(&config, OFP15_VERSION),
              flow_take_xid(flow));

    /* Only what a flow sends on purpose: a guest must not be able to cause
     * messages that no meter limits (N19). */
    struct ofputil_async_cfg async = OFPUTIL_ASYNC_CFG_INIT;
    async.primary[OAM_PACKET_IN] =
        1u << OFPR_ACTION | 1u << OFPR_EXPLICIT_MISS | 1u << OFPR_NO_MATCH;
    flow_send(flow,
              ofputil_encode_set_async_config(&async, (1u << OAM_N_TYPES) - 1,
                                              OFP15_VERSION),
              flow_take_xid(flow));
    flow_send(flow,
              ofputil_encode_set_packet_in_format(OFP15_VERSION,
                                                  OFPUTIL_PACKET_IN_NXT2),
              flow_take_xid(flow));

    flow->phase = FLOW_SETUP;
    flow->setup_xid = flow_take_xid(flow);
    flow->setup_barrier_xid = 0;
    flow_send(flow,
              ofpraw_alloc(OFPRAW_NXT_TLV_TABLE_REQUEST, OFP15_VERSION, 0),
              flow->setup_xid);
}

/* Whether the switch has 'wanted'; or something else in its place. */
static bool
find_option(const struct ofputil_tlv_table_reply *reply,
            const struct ofputil_tlv_map *wanted, bool *ret_is_taken)
{
    struct ofputil_tlv_map *map;

    *ret_is_taken = false;
    LIST_FOR_EACH(map, list_node, &reply->mappings)
    {
        bool is_same_option = map->option_class == wanted->option_class &&
                              map->option_type == wanted->option_type;
        bool is_same_index = map->index == wanted->index;
        if (is_same_option && is_same_index &&
            map->option_len == wanted->option_len) {
            return true;
        }
        *ret_is_taken |= is_same_option || is_same_index;
    }
    return false;
}

void
setup_take_options(struct flow_switch *flow, const struct ofp_header *header)
{
    struct ofputil_tlv_table_reply reply;
    struct ofputil_tlv_table_mod mod = { .command = NXTTMC_ADD };
    struct ofputil_tlv_map missing[ARRAY_COUNT(options)];

    if (ofputil_decode_tlv_table_reply(header, &reply) != 0) {
        flow_note_error(flow, "the switch's table of tunnel options is "
                              "unreadable");
        flow_drop_connection(flow);
        return;
    }

    ovs_list_init(&mod.mappings);
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        bool is_taken;
        if (find_option(&reply, &options[i], &is_taken)) {
            continue;
        }
        if (is_taken) {
            /* Flows may use it, so that it cannot be taken away; ours that
             * need it will be refused, one by one. */
            flow_note_error(flow, "tun_metadata%u stands for another option",
                            options[i].index);
            log_error("flow",
                      "a tunnel option is mapped otherwise: group rules will "
                      "not work index=%u",
                      options[i].index);
            continue;
        }
        missing[i] = options[i];
        ovs_list_push_back(&mod.mappings, &missing[i].list_node);
    }
    if (!ovs_list_is_empty(&mod.mappings)) {
        flow_send(flow, ofputil_encode_tlv_table_mod(OFP15_VERSION, &mod),
                  flow_take_xid(flow));
    }
    ofputil_uninit_tlv_table(&reply.mappings);

    flow->setup_barrier_xid = flow_take_xid(flow);
    flow_send_barrier(flow, flow->setup_barrier_xid);
}
