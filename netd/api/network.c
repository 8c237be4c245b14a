/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"

#define MTU_MIN 576
#define MTU_MAX 9000
#define MTU_MIN_IPV6 1280
#define MTU_UNDERLAY 1500u /* Where no host has told. */
#define OVERHEAD_IPV4 62u  /* N23 */
#define OVERHEAD_IPV6 82u

static Weft__V1__Network *
network_message(struct reply_arena *arena, const struct state *state,
                const struct state_network *row)
{
    Weft__V1__Network *network = reply_alloc(arena, sizeof *network);

    weft__v1__network__init(network);
    network->name = net_name(arena, state, NET_NETWORK, &row->row.uuid);
    network->uid = reply_uuid(arena, &row->row.uuid);
    network->create_time = api_time(arena, row->create_time_ms);
    network->vni = (int32_t)row->vni;
    network->mtu = (int32_t)row->mtu;
    network->flood = row->flood;
    network->subnet_count =
        (int32_t)state_subnet_count_by_network(state, &row->row.uuid);
    network->port_count =
        (int32_t)state_port_count_by_network(state, &row->row.uuid);
    return network;
}

static void
network_answer(struct netd_api *api, struct rpc_call *call,
               const struct weft_uuid *uuid)
{
    const struct state_network *row = state_network_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &network_message(&arena, api->state, row)->base);
    reply_free(&arena);
}

/* ---- Create ---- */

/* As large as all hosts can carry. */
static uint32_t
network_default_mtu(const struct state *state)
{
    uint32_t mtu = MTU_UNDERLAY - OVERHEAD_IPV4;
    bool is_first = true;

    for (const struct state_net_host *host = state_net_host_next(state, NULL);
         host != NULL; host = state_net_host_next(state, host)) {
        const struct state_net_host_status *status =
            state_net_host_status_find_by_host(state, host->host);
        struct ip_address address;
        if (!host->enabled || status == NULL || status->underlay_mtu == 0 ||
            ip_address_parse(host->encap_ip, &address) != 0) {
            continue;
        }
        uint32_t overhead = address.is_ipv6 ? OVERHEAD_IPV6 : OVERHEAD_IPV4;
        uint32_t room = status->underlay_mtu > overhead
                            ? status->underlay_mtu - overhead
                            : 0;
        if (is_first || room < mtu) {
            mtu = room;
        }
        is_first = false;
    }
    return mtu < MTU_MIN ? MTU_MIN : mtu > MTU_MAX ? MTU_MAX : mtu;
}

static int
network_create_build(struct api_op *op, struct state_txn *txn,
                     struct state *state)
{
    const Weft__V1__CreateNetworkRequest *request = (const void *)op->request;
    char project[API_NAME_PART_SIZE];
    struct state_network row = {
        .row.table = STATE_TABLE_NETWORK,
        .project = project,
        .name = request->network_id,
        .mtu = request->network != NULL ? (uint32_t)request->network->mtu : 0,
        .flood = request->network != NULL && request->network->flood,
        .create_time_ms = service_wall_ms(),
        .request_id = op->request_id,
    };

    net_project(request->parent, project);
    if (state_network_find_by_project_name(state, project, row.name) != NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "NETWORK_EXISTS",
                             "there is a network \"%s\" in project \"%s\" "
                             "already",
                             row.name, project);
    }
    if (row.mtu == 0) {
        row.mtu = network_default_mtu(state);
    }
    api_op_uuid(op, "network", &row.row.uuid);
    row.vni = net_number_take(op, txn, "vni", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_NETWORK_COL_ALL);
    net_op_record(op, txn, project, "networks", row.name);
    net_op_of(op)->uuid = row.row.uuid;
    return 0;
}

static void
network_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateNetworkRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    net_check_new(&error, request->parent, "network_id", request->network_id);
    if (request->network != NULL && request->network->mtu != 0 &&
        (request->network->mtu < MTU_MIN || request->network->mtu > MTU_MAX)) {
        rpc_error_add_violation(&error, "network.mtu",
                                "is %d; %d to %d is right, or 0 for what the "
                                "underlay lets through",
                                request->network->mtu, MTU_MIN, MTU_MAX);
    }
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 network_create_build, network_answer);
}

/* ---- Delete ---- */

static int
network_delete_build(struct api_op *op, struct state_txn *txn,
                     struct state *state)
{
    const Weft__V1__DeleteNetworkRequest *request = (const void *)op->request;
    const struct state_row *found =
        net_op_find(op, state, NET_NETWORK, "name", request->name);

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_network *row = state_network_from(found);
    const struct state_port *port =
        state_port_next_by_network(state, &row->row.uuid, NULL);
    if (port != NULL) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "NETWORK_IN_USE",
                             "network \"%s\" has ports (\"%s\" is one); "
                             "delete them first",
                             row->name, port->name);
    }
    const struct state_subnet *subnet =
        state_subnet_next_by_network(state, &row->row.uuid, NULL);
    if (subnet != NULL) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "NETWORK_IN_USE",
                             "network \"%s\" has subnets (\"%s\" is one); "
                             "delete them first",
                             row->name, subnet->name);
    }
    state_txn_delete(txn, STATE_TABLE_NETWORK, &row->row.uuid);
    net_number_free(txn, state, "vni", row->vni);
    net_op_scope(op, &row->row.uuid);
    net_op_record(op, txn, row->project, "networks", row->name);
    return 0;
}

static void
network_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteNetworkRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 network_delete_build, net_answer_empty);
}

/* ---- Read ---- */

static void
network_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetNetworkRequest *request = (const void *)message;
    const struct state_row *row = net_take(call, NET_NETWORK, request->name);

    if (row != NULL) {
        network_answer(netd_api_of(call), call, &row->uuid);
    }
}

static void
network_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListNetworksRequest *request = (const void *)message;
    struct state *state = netd_api_of(call)->state;
    Weft__V1__ListNetworksResponse reply =
        WEFT__V1__LIST_NETWORKS_RESPONSE__INIT;
    char project[API_NAME_PART_SIZE];
    struct api_list list;

    if (!net_take_parent(call, request->parent, project) ||
        !api_list_begin(&list, call, &weft__v1__network__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_network *row = state_network_next(state, NULL);
         row != NULL; row = state_network_next(state, row)) {
        if (net_project_fits(project, row->project)) {
            api_list_add(&list, &network_message(&list.arena, state, row)->base,
                         NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.networks,
                  &reply.n_networks, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method net_network_methods[] = {
    { "CreateNetwork", RPC_UNARY, network_create },
    { "GetNetwork", RPC_UNARY, network_get },
    { "ListNetworks", RPC_UNARY, network_list },
    { "DeleteNetwork", RPC_UNARY, network_delete },
};
const size_t net_network_method_count =
    sizeof net_network_methods / sizeof net_network_methods[0];
