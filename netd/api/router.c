/* SPDX-License-Identifier: Apache-2.0 */

/* Routers, and the subnets that they are on.
 *
 * Being on a subnet is a Router_Port with a Mac and an Address (the subnet's
 * gateway), and for each pair of network and router one Network_Route, by which
 * hosts find what they have to follow (N10).  Changes of one router come one
 * after the other (net_op_serialize), so that no two subnets of it overlap and
 * the Network_Route goes with the last of its Router_Ports. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"

static Weft__V1__RouterInterface *
interface_message(struct reply_arena *arena, const struct state *state,
                  const struct state_router_port *row)
{
    Weft__V1__RouterInterface *interface =
        reply_alloc(arena, sizeof *interface);
    const struct state_subnet *subnet = state_subnet_get(state, &row->subnet);

    weft__v1__router_interface__init(interface);
    interface->subnet = net_name(arena, state, NET_SUBNET, &row->subnet);
    interface->network = net_name(arena, state, NET_NETWORK, &row->network);
    interface->mac = reply_text(arena, "%s", row->mac);
    if (subnet != NULL) {
        interface->address = reply_text(arena, "%s", subnet->gateway);
        interface->cidr = reply_text(arena, "%s", subnet->cidr);
    }
    return interface;
}

static Weft__V1__Router *
router_message(struct reply_arena *arena, const struct state *state,
               const struct state_router *row)
{
    Weft__V1__Router *router = reply_alloc(arena, sizeof *router);

    weft__v1__router__init(router);
    router->name = net_name(arena, state, NET_ROUTER, &row->row.uuid);
    router->uid = reply_uuid(arena, &row->row.uuid);
    router->create_time = api_time(arena, row->create_time_ms);
    router->interfaces =
        reply_alloc(arena, NET_ROUTER_SUBNETS * sizeof *router->interfaces);
    for (const struct state_router_port *port = NULL;
         (port = state_router_port_next_by_router(state, &row->row.uuid,
                                                  port)) != NULL;) {
        if (router->n_interfaces < NET_ROUTER_SUBNETS) {
            router->interfaces[router->n_interfaces++] =
                interface_message(arena, state, port);
        }
    }
    return router;
}

static void
router_answer(struct netd_api *api, struct rpc_call *call,
              const struct weft_uuid *uuid)
{
    const struct state_router *row = state_router_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &router_message(&arena, api->state, row)->base);
    reply_free(&arena);
}

/* ---- Create, delete ---- */

static int
router_create_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__CreateRouterRequest *request = (const void *)op->request;
    char project[API_NAME_PART_SIZE];
    struct state_router row = {
        .row.table = STATE_TABLE_ROUTER,
        .project = project,
        .name = request->router_id,
        .create_time_ms = service_wall_ms(),
        .request_id = op->request_id,
    };

    net_project(request->parent, project);
    if (state_router_find_by_project_name(state, project, row.name) != NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "ROUTER_EXISTS",
                             "there is a router \"%s\" in project \"%s\" "
                             "already",
                             row.name, project);
    }
    api_op_uuid(op, "router", &row.row.uuid);
    row.tag = net_number_take(op, txn, "router", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_ROUTER_COL_ALL);
    net_op_record(op, txn, project, "routers", row.name);
    net_op_of(op)->uuid = row.row.uuid;
    return 0;
}

static void
router_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateRouterRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    net_check_new(&error, request->parent, "router_id", request->router_id);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 router_create_build, router_answer);
}

static int
router_delete_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__DeleteRouterRequest *request = (const void *)op->request;
    const struct state_row *found =
        net_op_find(op, state, NET_ROUTER, "name", request->name);

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_router *row = state_router_from(found);
    const struct state_router_port *port =
        state_router_port_next_by_router(state, &row->row.uuid, NULL);
    if (port != NULL) {
        const struct state_subnet *subnet =
            state_subnet_get(state, &port->subnet);
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "ROUTER_IN_USE",
                             "router \"%s\" is on subnets (\"%s\" is one); "
                             "detach it first",
                             row->name, subnet != NULL ? subnet->name : "?");
    }
    state_txn_delete(txn, STATE_TABLE_ROUTER, &row->row.uuid);
    net_number_free(txn, state, "router", row->tag);
    net_op_scope(op, &row->row.uuid);
    net_op_record(op, txn, row->project, "routers", row->name);
    return 0;
}

static void
router_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteRouterRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 router_delete_build, net_answer_empty);
}

/* ---- Attach ---- */

/* Whoever is on one of the router's networks is concerned. */
static void
router_concern(struct api_op *op, const struct state *state,
               const struct state_router *router,
               const struct state_subnet *subnet)
{
    net_op_serialize(op, &router->row.uuid);
    net_op_scope(op, &subnet->network);
    for (const struct state_router_port *port = NULL;
         (port = state_router_port_next_by_router(state, &router->row.uuid,
                                                  port)) != NULL;) {
        net_op_scope(op, &port->network);
    }
    net_op_of(op)->uuid = router->row.uuid;
}

static int
router_find_both(struct api_op *op, struct state *state, const char *name,
                 const char *subnet_name,
                 const struct state_router **ret_router,
                 const struct state_subnet **ret_subnet)
{
    const struct state_row *router =
        net_op_find(op, state, NET_ROUTER, "name", name);
    const struct state_row *subnet =
        router != NULL
            ? net_op_find(op, state, NET_SUBNET, "subnet", subnet_name)
            : NULL;

    if (subnet == NULL) {
        return -EPROTO;
    }
    *ret_router = state_router_from(router);
    *ret_subnet = state_subnet_from(subnet);
    return 0;
}

/* What forbids it; 0: nothing. */
static int
attach_check(struct api_op *op, const struct state *state,
             const struct state_router *router,
             const struct state_subnet *subnet)
{
    const struct state_router_port *old =
        state_router_port_find_by_subnet(state, &subnet->row.uuid);
    struct ipam_range range = net_subnet_range(subnet);
    size_t count = 0;

    if (strcmp(router->project, subnet->project) != 0) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "OTHER_PROJECT",
                             "router \"%s\" is of project \"%s\", subnet "
                             "\"%s\" of \"%s\"; they have to be of one",
                             router->name, router->project, subnet->name,
                             subnet->project);
    }
    if (old != NULL) {
        const struct state_router *owner =
            state_router_get(state, &old->router);
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "SUBNET_ROUTED",
                             "router \"%s\" is on subnet \"%s\" already; a "
                             "subnet has one router",
                             owner != NULL ? owner->name : "?", subnet->name);
    }
    if (subnet->gateway[0] == '\0') {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "NO_GATEWAY",
                             "subnet \"%s\" was created without a gateway, "
                             "which would be the router's address",
                             subnet->name);
    }
    for (const struct state_router_port *port = NULL;
         (port = state_router_port_next_by_router(state, &router->row.uuid,
                                                  port)) != NULL;) {
        const struct state_subnet *other =
            state_subnet_get(state, &port->subnet);
        if (other == NULL) {
            continue;
        }
        struct ipam_range others = net_subnet_range(other);
        count++;
        if (ip_prefix_overlaps(&range.prefix, &others.prefix)) {
            return api_op_refuse(op, RPC_FAILED_PRECONDITION, "SUBNET_OVERLAPS",
                                 "%s of subnet \"%s\" overlaps %s of \"%s\", "
                                 "which router \"%s\" is on; it would not know "
                                 "where to send",
                                 subnet->cidr, subnet->name, other->cidr,
                                 other->name, router->name);
        }
    }
    if (state_network_route_find_by_network_router(state, &subnet->network,
                                                   &router->row.uuid) == NULL &&
        state_network_route_count_by_network(state, &subnet->network) >=
            NET_NETWORK_ROUTERS) {
        return api_op_refuse(op, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_ROUTERS",
                             "%u routers are on the network of subnet \"%s\", "
                             "which is the most",
                             NET_NETWORK_ROUTERS, subnet->name);
    }
    if (count >= NET_ROUTER_SUBNETS) {
        return api_op_refuse(op, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_SUBNETS",
                             "router \"%s\" is on %zu subnets, which is the "
                             "most",
                             router->name, count);
    }
    return 0;
}

static int
attach_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__AttachRouterRequest *request = (const void *)op->request;
    const struct state_router *router;
    const struct state_subnet *subnet;
    char mac[MAC_TEXT_SIZE];
    int result = router_find_both(op, state, request->name, request->subnet,
                                  &router, &subnet);

    if (result == 0) {
        result = attach_check(op, state, router, subnet);
    }
    if (result != 0) {
        return result;
    }
    net_mac_choose(state, &subnet->network, subnet->gateway, mac);
    struct state_router_port row = { .row.table = STATE_TABLE_ROUTER_PORT,
                                     .router = router->row.uuid,
                                     .subnet = subnet->row.uuid,
                                     .network = subnet->network,
                                     .mac = mac };
    struct state_address address = { .row.table = STATE_TABLE_ADDRESS,
                                     .network = subnet->network,
                                     .subnet = subnet->row.uuid,
                                     .ip = subnet->gateway };
    api_op_uuid(op, "router-port", &row.row.uuid);
    api_op_uuid(op, "address", &address.row.uuid);
    address.router_port = row.row.uuid;
    state_txn_insert(txn, &row.row, STATE_ROUTER_PORT_COL_ALL);
    state_txn_insert(txn, &address.row, STATE_ADDRESS_COL_ALL);
    net_mac_insert(op, txn, &subnet->network, mac, &row.row.uuid);
    if (state_network_route_find_by_network_router(state, &subnet->network,
                                                   &router->row.uuid) == NULL) {
        /* How many a network has is for no index to say. */
        net_op_serialize(op, &subnet->network);
        struct state_network_route route = {
            .row.table = STATE_TABLE_NETWORK_ROUTE,
            .network = subnet->network,
            .router = router->row.uuid,
        };
        api_op_uuid(op, "network-route", &route.row.uuid);
        state_txn_insert(txn, &route.row, STATE_NETWORK_ROUTE_COL_ALL);
    }
    router_concern(op, state, router, subnet);
    net_op_record(op, txn, router->project, "routers", router->name);
    return 0;
}

static void
router_attach(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__AttachRouterRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 attach_build, router_answer);
}

/* ---- Detach ---- */

/* Whether the router has another interface on the network. */
static bool
router_is_on(const struct state *state, const struct state_router_port *row)
{
    for (const struct state_router_port *port = NULL;
         (port = state_router_port_next_by_router(state, &row->router, port)) !=
         NULL;) {
        if (port != row && uuid_equal(&port->network, &row->network)) {
            return true;
        }
    }
    return false;
}

static void
detach_rows(struct state_txn *txn, const struct state *state,
            const struct state_router_port *row)
{
    for (const struct state_address *address = NULL;
         (address = state_address_next_by_router_port(state, &row->row.uuid,
                                                      address)) != NULL;) {
        state_txn_delete(txn, STATE_TABLE_ADDRESS, &address->row.uuid);
    }
    const struct state_mac *mac =
        state_mac_find_by_network_mac(state, &row->network, row->mac);
    if (mac != NULL) {
        state_txn_delete(txn, STATE_TABLE_MAC, &mac->row.uuid);
    }
    const struct state_network_route *route =
        state_network_route_find_by_network_router(state, &row->network,
                                                   &row->router);
    if (route != NULL && !router_is_on(state, row)) {
        state_txn_delete(txn, STATE_TABLE_NETWORK_ROUTE, &route->row.uuid);
    }
    state_txn_delete(txn, STATE_TABLE_ROUTER_PORT, &row->row.uuid);
}

static int
detach_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__DetachRouterRequest *request = (const void *)op->request;
    const struct state_router *router;
    const struct state_subnet *subnet;
    int result = router_find_both(op, state, request->name, request->subnet,
                                  &router, &subnet);

    if (result != 0) {
        return result;
    }
    const struct state_router_port *row =
        state_router_port_find_by_subnet(state, &subnet->row.uuid);
    if (row != NULL && uuid_equal(&row->router, &router->row.uuid)) {
        detach_rows(txn, state, row);
    }
    router_concern(op, state, router, subnet);
    net_op_record(op, txn, router->project, "routers", router->name);
    return 0;
}

static void
router_detach(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DetachRouterRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 detach_build, router_answer);
}

/* ---- Read ---- */

static void
router_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetRouterRequest *request = (const void *)message;
    const struct state_row *row = net_take(call, NET_ROUTER, request->name);

    if (row != NULL) {
        router_answer(netd_api_of(call), call, &row->uuid);
    }
}

static void
router_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListRoutersRequest *request = (const void *)message;
    struct state *state = netd_api_of(call)->state;
    Weft__V1__ListRoutersResponse reply = WEFT__V1__LIST_ROUTERS_RESPONSE__INIT;
    char project[API_NAME_PART_SIZE];
    struct api_list list;

    if (!net_take_parent(call, request->parent, project) ||
        !api_list_begin(&list, call, &weft__v1__router__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_router *row = state_router_next(state, NULL);
         row != NULL; row = state_router_next(state, row)) {
        if (net_project_fits(project, row->project)) {
            api_list_add(&list, &router_message(&list.arena, state, row)->base,
                         NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.routers,
                  &reply.n_routers, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method net_router_methods[] = {
    { "CreateRouter", RPC_UNARY, router_create },
    { "GetRouter", RPC_UNARY, router_get },
    { "ListRouters", RPC_UNARY, router_list },
    { "DeleteRouter", RPC_UNARY, router_delete },
    { "AttachRouter", RPC_UNARY, router_attach },
    { "DetachRouter", RPC_UNARY, router_detach },
};
const size_t net_router_method_count =
    sizeof net_router_methods / sizeof net_router_methods[0];
