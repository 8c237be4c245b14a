/* SPDX-License-Identifier: Apache-2.0 */

/* Plugging: a Plug row, from which the host's netd makes the interface, and
 * Port.host, in one transaction. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"
#include "netd/api/port.h"

#define DEVICE_MAX 15u
#define NETNS_MAX 255u

/* What Linux takes for the name of an interface, and shells without quotes. */
static bool
device_is_valid(const char *name)
{
    size_t size = strnlen(name, DEVICE_MAX + 1);

    return size <= DEVICE_MAX && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0 && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789-._") == size;
}

/* The name of a namespace, or an absolute path to one. */
static bool
netns_is_valid(const char *name)
{
    size_t size = strnlen(name, NETNS_MAX + 1);

    if (size == 0 || size > NETNS_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f) {
            return false;
        }
    }
    return name[0] == '/' ||
           (strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
            strcmp(name, "..") != 0);
}

static void
plug_check(const Weft__V1__PortPlug *plug, struct rpc_error *error)
{
    if (plug == NULL) {
        rpc_error_add_violation(error, "plug", "is missing");
        return;
    }
    bool is_netns = plug->kind == WEFT__V1__PORT_PLUG__KIND__NETNS;
    if (!is_netns && plug->kind != WEFT__V1__PORT_PLUG__KIND__TAP) {
        rpc_error_add_violation(error, "plug.kind", "has to be TAP or NETNS");
    }
    if (!device_is_valid(plug->device)) {
        rpc_error_add_violation(error, "plug.device",
                                "\"%.40s\" is not a name for a device; it has "
                                "up to %u letters, digits, '.', '_' and '-'",
                                plug->device, DEVICE_MAX);
    }
    if (!device_is_valid(plug->ifname)) {
        rpc_error_add_violation(error, "plug.ifname",
                                "\"%.40s\" is not a name for a device; it has "
                                "up to %u letters, digits, '.', '_' and '-'",
                                plug->ifname, DEVICE_MAX);
    }
    if (is_netns && !netns_is_valid(plug->netns)) {
        rpc_error_add_violation(error, "plug.netns",
                                "\"%.80s\" is not a network namespace; give "
                                "its name, or an absolute path",
                                plug->netns);
    }
    if (!is_netns && (plug->netns[0] != '\0' || plug->ifname[0] != '\0')) {
        rpc_error_add_violation(error, "plug.netns",
                                "and ifname are for NETNS only");
    }
}

/* Another port that has the name on that host already, or NULL. */
static const struct state_plug *
plug_find_device(const struct state *state, const char *host,
                 const char *device)
{
    return device[0] == '\0'
               ? NULL
               : state_plug_next_by_host_device(state, host, device, NULL);
}

/* 0, or why it cannot be plugged there. */
static int
plug_check_rows(struct api_op *op, const struct state *state,
                const struct state_port *port, const char *host,
                const Weft__V1__PortPlug *plug)
{
    const struct state_plug *old =
        state_plug_find_by_port(state, &port->row.uuid);
    if (old != NULL) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "PORT_PLUGGED",
                             "port \"%s\" is plugged on host \"%s\" already; "
                             "unplug it first",
                             port->name, old->host);
    }
    if (port->host[0] != '\0' && strcmp(port->host, host) != 0) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "PORT_ELSEWHERE",
                             "port \"%s\" lives on host \"%s\"; unplug it "
                             "there first",
                             port->name, port->host);
    }
    const struct state_plug *other =
        plug_find_device(state, host, plug->device);
    if (other != NULL) {
        const struct state_port *owner = state_port_get(state, &other->port);
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "DEVICE_TAKEN",
                             "device \"%s\" on host \"%s\" is port \"%s\"; "
                             "take another name, or none to get one",
                             plug->device, host,
                             owner != NULL ? owner->name : "?");
    }
    return 0;
}

static int
plug_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__PlugPortRequest *request = (const void *)op->request;
    const Weft__V1__PortPlug *plug = request->plug;
    const struct state_port *old = net_port_find(op, state, request->name);
    const struct state_net_host *host =
        old != NULL ? net_port_host(op, state, request->host) : NULL;

    if (host == NULL) {
        return -EPROTO;
    }
    int result = plug_check_rows(op, state, old, host->host, plug);
    if (result != 0) {
        return result;
    }
    bool is_netns = plug->kind == WEFT__V1__PORT_PLUG__KIND__NETNS;
    struct state_plug row = {
        .row.table = STATE_TABLE_PLUG,
        .port = old->row.uuid,
        .host = host->host,
        .kind = is_netns ? STATE_PLUG_KIND_NETNS : STATE_PLUG_KIND_TAP,
        .device = plug->device,
        .netns = plug->netns,
        .ifname = plug->ifname,
    };
    struct state_port port = *old;
    port.host = host->host;
    api_op_uuid(op, "plug", &row.row.uuid);
    state_txn_verify(txn, &old->row, STATE_PORT_COL_HOST);
    state_txn_update(txn, &port.row, STATE_PORT_COL_HOST);
    state_txn_insert(txn, &row.row, STATE_PLUG_COL_ALL);
    net_port_concern(op, &port);
    net_op_of(op)->wait_kind = NET_WAIT_UP;
    net_op_record(op, txn, old->project, "ports", old->name);
    return 0;
}

void
net_port_plug(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__PlugPortRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    plug_check(request->plug, &error);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait, plug_build,
                 net_port_answer);
}

static int
unplug_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__UnplugPortRequest *request = (const void *)op->request;
    const struct state_port *old = net_port_find(op, state, request->name);

    if (old == NULL) {
        return -EPROTO;
    }
    const struct state_plug *plug =
        state_plug_find_by_port(state, &old->row.uuid);
    if (plug != NULL) {
        state_txn_delete(txn, STATE_TABLE_PLUG, &plug->row.uuid);
    }
    if (old->host[0] != '\0') {
        struct state_port row = *old;
        row.host = "";
        state_txn_verify(txn, &old->row, STATE_PORT_COL_HOST);
        state_txn_update(txn, &row.row, STATE_PORT_COL_HOST);
    }
    net_port_concern(op, old);
    net_op_of(op)->host[0] = '\0'; /* It may cease to follow the network. */
    net_op_of(op)->wait_kind = NET_WAIT_GONE;
    net_op_record(op, txn, old->project, "ports", old->name);
    return 0;
}

void
net_port_unplug(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__UnplugPortRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 unplug_build, net_port_answer);
}
