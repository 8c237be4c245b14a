/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"

#define DNS_MAX 4u
#define MTU_MIN_IPV6 1280

static Weft__V1__Subnet *
subnet_message(struct reply_arena *arena, const struct state *state,
               const struct state_subnet *row)
{
    Weft__V1__Subnet *subnet = reply_alloc(arena, sizeof *subnet);
    const struct state_router_port *interface =
        state_router_port_find_by_subnet(state, &row->row.uuid);

    weft__v1__subnet__init(subnet);
    subnet->name = net_name(arena, state, NET_SUBNET, &row->row.uuid);
    subnet->uid = reply_uuid(arena, &row->row.uuid);
    subnet->create_time = api_time(arena, row->create_time_ms);
    subnet->network = net_name(arena, state, NET_NETWORK, &row->network);
    subnet->cidr = reply_text(arena, "%s", row->cidr);
    subnet->gateway =
        reply_text(arena, "%s",
                   row->gateway[0] != '\0' ? row->gateway : "none");
    subnet->dhcp_disabled = !row->dhcp;
    subnet->n_dns = row->dns_count;
    subnet->dns =
        reply_alloc(arena, (row->dns_count + 1) * sizeof *subnet->dns);
    for (size_t i = 0; i < row->dns_count; i++) {
        subnet->dns[i] = reply_text(arena, "%s", row->dns[i]);
    }
    if (interface != NULL) {
        subnet->router = net_name(arena, state, NET_ROUTER, &interface->router);
    }
    subnet->address_count =
        (int32_t)state_address_count_by_subnet(state, &row->row.uuid);
    return subnet;
}

static void
subnet_answer(struct netd_api *api, struct rpc_call *call,
              const struct weft_uuid *uuid)
{
    const struct state_subnet *row = state_subnet_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &subnet_message(&arena, api->state, row)->base);
    reply_free(&arena);
}

/* ---- Create ---- */

/* A subnet as asked for, in canonical form. */
struct subnet_wish {
    struct ip_prefix prefix;
    char cidr[IP_PREFIX_TEXT_SIZE];
    char gateway[IP_TEXT_SIZE];
    char dns[DNS_MAX][IP_TEXT_SIZE];
    const char *dns_list[DNS_MAX];
    size_t dns_count;
};

static bool
subnet_parse_cidr(const char *text, struct subnet_wish *wish,
                  struct rpc_error *error)
{
    int result = ip_prefix_parse(text, &wish->prefix);
    if (result == -EINVAL) {
        rpc_error_add_violation(error, "subnet.cidr",
                                "\"%.60s\" is not a range of addresses; write "
                                "ADDRESS/LENGTH, such as 10.0.0.0/24 or "
                                "fd00:1::/64",
                                text);
        return false;
    }
    ip_prefix_format(&wish->prefix, wish->cidr);
    if (result == -EDOM) {
        rpc_error_add_violation(error, "subnet.cidr",
                                "\"%.60s\" has bits set behind its length; "
                                "the range is %s",
                                text, wish->cidr);
        return false;
    }
    const char *refusal = ipam_range_error(&wish->prefix);
    if (refusal != NULL) {
        rpc_error_add_violation(error, "subnet.cidr", "%s %s", wish->cidr,
                                refusal);
        return false;
    }
    return true;
}

static void
subnet_parse_gateway(const char *text, struct subnet_wish *wish,
                     struct rpc_error *error)
{
    struct ip_address gateway;

    wish->gateway[0] = '\0';
    if (strcmp(text, "none") == 0) {
        return;
    }
    if (text[0] == '\0') {
        if (ipam_default_gateway(&wish->prefix, &gateway)) {
            ip_format(&gateway, wish->gateway);
        }
        return;
    }
    if (ip_address_parse(text, &gateway) != 0) {
        rpc_error_add_violation(error, "subnet.gateway",
                                "\"%.60s\" is not an address; leave it out "
                                "for the first one of %s, or write \"none\"",
                                text, wish->cidr);
        return;
    }
    ip_format(&gateway, wish->gateway);
    const char *refusal = ipam_gateway_refusal(&wish->prefix, &gateway);
    if (refusal != NULL) {
        rpc_error_add_violation(error, "subnet.gateway",
                                "%s %s, %s; leave it out for the first usable "
                                "one, or write \"none\"",
                                wish->gateway, refusal, wish->cidr);
    }
}

static void
subnet_parse_dns(char **texts, size_t count, struct subnet_wish *wish,
                 struct rpc_error *error)
{
    wish->dns_count = 0;
    if (count > DNS_MAX) {
        rpc_error_add_violation(error, "subnet.dns",
                                "has %zu name servers; %u are the most", count,
                                DNS_MAX);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct ip_address address;
        if (ip_address_parse(texts[i], &address) != 0) {
            rpc_error_add_violation(error, "subnet.dns",
                                    "\"%.60s\" is not an address", texts[i]);
            continue;
        }
        if (address.is_ipv6 != wish->prefix.address.is_ipv6) {
            rpc_error_add_violation(error, "subnet.dns",
                                    "\"%.60s\" is not of the subnet's family; "
                                    "%s name servers belong to %s subnets",
                                    texts[i], address.is_ipv6 ? "IPv6" : "IPv4",
                                    address.is_ipv6 ? "IPv6" : "IPv4");
            continue;
        }
        ip_format(&address, wish->dns[wish->dns_count]);
        wish->dns_list[wish->dns_count] = wish->dns[wish->dns_count];
        wish->dns_count++;
    }
}

static void
subnet_parse(const Weft__V1__Subnet *subnet, struct subnet_wish *wish,
             struct rpc_error *error)
{
    if (subnet == NULL) {
        rpc_error_add_violation(error, "subnet", "is missing");
        return;
    }
    if (subnet_parse_cidr(subnet->cidr, wish, error)) {
        subnet_parse_gateway(subnet->gateway, wish, error);
        subnet_parse_dns(subnet->dns, subnet->n_dns, wish, error);
    }
}

/* What forbids it beside its own form; 0: nothing. */
static int
subnet_check_rows(struct api_op *op, const struct state *state,
                  const struct state_network *network, const char *name,
                  const struct subnet_wish *wish)
{
    if (state_subnet_find_by_project_name(state, network->project, name) !=
        NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "SUBNET_EXISTS",
                             "there is a subnet \"%s\" in project \"%s\" "
                             "already",
                             name, network->project);
    }
    if (wish->prefix.address.is_ipv6 && network->mtu < MTU_MIN_IPV6) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "MTU_TOO_SMALL",
                             "network \"%s\" has an MTU of %u; IPv6 needs at "
                             "least %d, which is set when a network is created",
                             network->name, network->mtu, MTU_MIN_IPV6);
    }
    size_t count = 0;
    for (const struct state_subnet *row = NULL;
         (row = state_subnet_next_by_network(state, &network->row.uuid, row)) !=
         NULL;) {
        struct ipam_range range = net_subnet_range(row);
        count++;
        if (ip_prefix_overlaps(&range.prefix, &wish->prefix)) {
            return api_op_refuse(op, RPC_FAILED_PRECONDITION, "SUBNET_OVERLAPS",
                                 "%s overlaps subnet \"%s\" (%s) of network "
                                 "\"%s\"; take a range beside it",
                                 wish->cidr, row->name, row->cidr,
                                 network->name);
        }
    }
    if (count >= NET_SUBNETS_MAX) {
        return api_op_refuse(op, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_SUBNETS",
                             "network \"%s\" has %zu subnets; %u are the most",
                             network->name, count, NET_SUBNETS_MAX);
    }
    return 0;
}

static int
subnet_create_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__CreateSubnetRequest *request = (const void *)op->request;
    struct subnet_wish wish;
    struct rpc_error ignored;
    char project[API_NAME_PART_SIZE];
    const struct state_row *found =
        net_op_find(op, state, NET_NETWORK, "subnet.network",
                    request->subnet->network);

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_network *network = state_network_from(found);
    net_project(request->parent, project);
    if (strcmp(project, network->project) != 0) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "OTHER_PROJECT",
                             "network \"%s\" is of project \"%s\", the subnet "
                             "of \"%s\"; they have to be of one",
                             network->name, network->project, project);
    }
    rpc_error_set_invalid(&ignored);
    subnet_parse(request->subnet, &wish, &ignored); /* As in the handler. */
    int result =
        subnet_check_rows(op, state, network, request->subnet_id, &wish);
    if (result != 0) {
        return result;
    }
    struct state_subnet row = {
        .row.table = STATE_TABLE_SUBNET,
        .network = network->row.uuid,
        .project = project,
        .name = request->subnet_id,
        .cidr = wish.cidr,
        .gateway = wish.gateway,
        .dhcp = !request->subnet->dhcp_disabled,
        .dns = wish.dns_list,
        .dns_count = wish.dns_count,
        .create_time_ms = service_wall_ms(),
        .request_id = op->request_id,
    };
    api_op_uuid(op, "subnet", &row.row.uuid);
    state_txn_insert(txn, &row.row, STATE_SUBNET_COL_ALL);
    /* That two overlap is not for any index to find. */
    net_op_serialize(op, &network->row.uuid);
    net_op_record(op, txn, project, "subnets", row.name);
    net_op_of(op)->uuid = row.row.uuid;
    return 0;
}

static void
subnet_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreateSubnetRequest *request = (const void *)message;
    struct subnet_wish wish;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    net_check_new(&error, request->parent, "subnet_id", request->subnet_id);
    subnet_parse(request->subnet, &wish, &error);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 subnet_create_build, subnet_answer);
}

/* ---- Delete ---- */

static int
subnet_delete_build(struct api_op *op, struct state_txn *txn,
                    struct state *state)
{
    const Weft__V1__DeleteSubnetRequest *request = (const void *)op->request;
    const struct state_row *found =
        net_op_find(op, state, NET_SUBNET, "name", request->name);

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_subnet *row = state_subnet_from(found);
    const struct state_router_port *interface =
        state_router_port_find_by_subnet(state, &row->row.uuid);
    if (interface != NULL) {
        const struct state_router *router =
            state_router_get(state, &interface->router);
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "SUBNET_IN_USE",
                             "router \"%s\" is on subnet \"%s\"; detach it "
                             "first",
                             router != NULL ? router->name : "?", row->name);
    }
    const struct state_address *address =
        state_address_next_by_subnet(state, &row->row.uuid, NULL);
    if (address != NULL) {
        const struct state_port *port = state_port_get(state, &address->port);
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "SUBNET_IN_USE",
                             "port \"%s\" has address %s of subnet \"%s\"; "
                             "delete such ports first",
                             port != NULL ? port->name : "?", address->ip,
                             row->name);
    }
    state_txn_delete(txn, STATE_TABLE_SUBNET, &row->row.uuid);
    net_op_scope(op, &row->network);
    net_op_record(op, txn, row->project, "subnets", row->name);
    return 0;
}

static void
subnet_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteSubnetRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 subnet_delete_build, net_answer_empty);
}

/* ---- Read ---- */

static void
subnet_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetSubnetRequest *request = (const void *)message;
    const struct state_row *row = net_take(call, NET_SUBNET, request->name);

    if (row != NULL) {
        subnet_answer(netd_api_of(call), call, &row->uuid);
    }
}

static void
subnet_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListSubnetsRequest *request = (const void *)message;
    struct state *state = netd_api_of(call)->state;
    Weft__V1__ListSubnetsResponse reply = WEFT__V1__LIST_SUBNETS_RESPONSE__INIT;
    char project[API_NAME_PART_SIZE];
    struct api_list list;

    if (!net_take_parent(call, request->parent, project) ||
        !api_list_begin(&list, call, &weft__v1__subnet__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_subnet *row = state_subnet_next(state, NULL);
         row != NULL; row = state_subnet_next(state, row)) {
        if (net_project_fits(project, row->project)) {
            api_list_add(&list, &subnet_message(&list.arena, state, row)->base,
                         NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.subnets,
                  &reply.n_subnets, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method net_subnet_methods[] = {
    { "CreateSubnet", RPC_UNARY, subnet_create },
    { "GetSubnet", RPC_UNARY, subnet_get },
    { "ListSubnets", RPC_UNARY, subnet_list },
    { "DeleteSubnet", RPC_UNARY, subnet_delete },
};
const size_t net_subnet_method_count =
    sizeof net_subnet_methods / sizeof net_subnet_methods[0];
