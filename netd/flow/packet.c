/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "lib/base/be.h"
#include "netd/compile/pipeline.h"
#include "netd/flow/internal.h"

/* Foreign: libopenvswitch. */
#include <byte-order.h>
#include <config.h>
#include <openvswitch/ofp-actions.h>
#include <openvswitch/ofp-msgs.h>
#include <openvswitch/ofp-packet.h>
#include <openvswitch/ofp-port.h>
#include <openvswitch/ofpbuf.h>
#include <openvswitch/rconn.h>

/* Packets from and to the switch.  Their bytes are a guest's, and are only
 * handed on; what the flow said of them is checked here. */

#define PACKET_SIZE_MIN 14u
#define PACKET_SIZE_MAX 65000u

/* Packets that may wait to be sent: the switch reads slower than that only if
 * it is stuck. */
#define PACKET_OUTS_MAX 1000

/* OpenFlow 1.0's, which is the limit of ports in Open vSwitch. */
#define PORT_MAX 0xff00u
#define OFPP11_LOCAL 0xfffffffeu

/* As flow_controller() makes it. */
struct userdata {
    struct be32 magic;
    struct be32 kind;
    struct weft_uuid uuid;
};

static bool
read_userdata(const struct ofputil_packet_in *in,
              struct flow_packet_in *ret_packet)
{
    struct userdata userdata;

    if (in->userdata_len != sizeof userdata) {
        return false;
    }
    memcpy(&userdata, in->userdata, sizeof userdata);
    uint32_t kind = be32_get(userdata.kind);
    if (be32_get(userdata.magic) != PACKET_IN_MAGIC || kind == 0 ||
        kind >= PACKET_IN_KIND_COUNT) {
        return false;
    }
    ret_packet->kind = kind;
    ret_packet->uuid = userdata.uuid;
    return true;
}

void
packet_take(struct flow_switch *flow, const struct ofp_header *header)
{
    struct ofputil_packet_in in;
    struct flow_packet_in packet = { 0 };
    struct flow_listener *listener = flow->listener;
    size_t total_size = 0;
    uint32_t buffer_id;

    flow->status.packet_ins++;
    if (ofputil_decode_packet_in(header, true, NULL, NULL, &in, &total_size,
                                 &buffer_id, NULL) != 0) {
        flow->status.packet_ins_bad++;
        return;
    }
    if (in.packet_len < PACKET_SIZE_MIN || total_size < in.packet_len ||
        !read_userdata(&in, &packet)) {
        flow->status.packet_ins_bad++;
        return;
    }

    ofp_port_t port = in.flow_metadata.flow.in_port.ofp_port;
    packet.bytes = in.packet;
    packet.size = in.packet_len;
    packet.total_size = total_size;
    packet.in_port = ntohl(ofputil_port_to_ofp11(port));
    packet.table = in.table_id;
    packet.metadata = ntohll(in.flow_metadata.flow.metadata);
    if (listener->packet_in != NULL) {
        listener->packet_in(listener, &packet);
    }
}

/* To 'ret_port'; neither a reserved number nor none at all. */
static bool
port_of(uint32_t number, ofp_port_t *ret_port)
{
    bool is_real = (number > 0 && number < PORT_MAX) || number == OFPP11_LOCAL;

    return is_real && ofputil_port_from_ofp11(htonl(number), ret_port) == 0;
}

/* Takes the content of 'actions'. */
static int
send_actions(struct flow_switch *flow, ofp_port_t from, struct ofpbuf *actions,
             const void *bytes, size_t size)
{
    struct ofputil_packet_out out = {
        .packet = bytes,
        .packet_len = size,
        .buffer_id = UINT32_MAX,
        .ofpacts = actions->data,
        .ofpacts_len = actions->size,
    };

    match_init_catchall(&out.flow_metadata);
    match_set_in_port(&out.flow_metadata, from);
    struct ofpbuf *message =
        ofputil_encode_packet_out(&out, OFPUTIL_P_OF15_OXM);
    ofpbuf_uninit(actions);

    struct ofp_header *wire = message->data;
    wire->xid = htonl(flow_take_xid(flow));
    int error = rconn_send_with_limit(flow->rconn, message, flow->packet_outs,
                                      PACKET_OUTS_MAX);
    if (error != 0) {
        return error == EAGAIN ? -ENOBUFS : -ENOTCONN;
    }
    flow->status.packet_outs++;
    return 0;
}

static void
put_output(struct ofpbuf *actions, ofp_port_t port)
{
    struct ofpact_output *output = ofpact_put_OUTPUT(actions);

    output->port = port;
    output->max_len = 0;
}

static int
send_packet(struct flow_switch *flow, uint32_t in_port, ofp_port_t out_port,
            const void *bytes, size_t size)
{
    uint64_t stub[64 / 8];
    struct ofpbuf actions;
    ofp_port_t from = OFPP_CONTROLLER;

    if (size < PACKET_SIZE_MIN || size > PACKET_SIZE_MAX) {
        return -EINVAL;
    }
    if (in_port != FLOW_PORT_NONE && !port_of(in_port, &from)) {
        return -EINVAL;
    }
    if (!rconn_is_connected(flow->rconn)) {
        return -ENOTCONN;
    }

    ofpbuf_use_stub(&actions, stub, sizeof stub);
    put_output(&actions, out_port);
    return send_actions(flow, from, &actions, bytes, size);
}

int
flow_probe_tunnel(struct flow_switch *flow, uint32_t tunnel_port,
                  uint32_t address)
{
    /* An ethertype for local experiments, and nothing else. */
    static const uint8_t probe[PACKET_SIZE_MIN] = { [12] = 0x88, [13] = 0xb5 };
    uint64_t stub[256 / 8];
    struct ofpbuf actions;
    ovs_be32 wire_address = htonl(address);
    ofp_port_t port;

    if (!port_of(tunnel_port, &port)) {
        return -EINVAL;
    }
    if (!rconn_is_connected(flow->rconn)) {
        return -ENOTCONN;
    }

    ofpbuf_use_stub(&actions, stub, sizeof stub);
    ofpact_put_set_field(&actions, mf_from_id(MFF_TUN_DST), &wire_address,
                         NULL);
    put_output(&actions, port);
    return send_actions(flow, OFPP_CONTROLLER, &actions, probe, sizeof probe);
}

int
flow_packet_out(struct flow_switch *flow, uint32_t in_port, uint32_t out_port,
                const void *bytes, size_t size)
{
    ofp_port_t port;

    if (!port_of(out_port, &port)) {
        return -EINVAL;
    }
    return send_packet(flow, in_port, port, bytes, size);
}

int
flow_packet_out_pipeline(struct flow_switch *flow, uint32_t in_port,
                         const void *bytes, size_t size)
{
    return send_packet(flow, in_port, OFPP_TABLE, bytes, size);
}
