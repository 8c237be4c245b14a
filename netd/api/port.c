/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "netd/api/internal.h"
#include "netd/api/port.h"

void
net_port_answer(struct netd_api *api, struct rpc_call *call,
                const struct weft_uuid *uuid)
{
    const struct state_port *row = state_port_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &net_port_message(&arena, api, row)->base);
    reply_free(&arena);
}

const struct state_port *
net_port_find(struct api_op *op, struct state *state, const char *name)
{
    const struct state_row *found =
        net_op_find(op, state, NET_PORT, "name", name);

    return found != NULL ? state_port_from(found) : NULL;
}

void
net_port_concern(struct api_op *op, const struct state_port *row)
{
    struct net_op *net = net_op_of(op);

    net->uuid = row->row.uuid;
    net_op_scope(op, &row->network);
    (void)snprintf(net->host, sizeof net->host, "%s", row->host);
}

const struct state_net_host *
net_port_host(struct api_op *op, const struct state *state, const char *text)
{
    char name[API_NAME_PART_SIZE] = "";
    bool is_name = api_name_parse(text, "netHosts", name);
    const struct state_net_host *host =
        is_name ? state_net_host_find_by_host(state, name) : NULL;

    if (host == NULL) {
        (void)api_op_refuse(op, RPC_NOT_FOUND, "NET_HOST_NOT_FOUND",
                            "there is no host \"%.80s\" in the overlay; 'weft "
                            "net hosts' shows all",
                            is_name ? name : text);
        return NULL;
    }
    if (!host->enabled) {
        (void)api_op_refuse(op, RPC_FAILED_PRECONDITION, "NET_HOST_DISABLED",
                            "host \"%s\" is disabled; take another one, or "
                            "enable it",
                            name);
        return NULL;
    }
    return host;
}

/* ---- Create: form ---- */

static void
port_check_addresses(const Weft__V1__Port *port, struct rpc_error *error)
{
    struct ip_address seen[NET_ADDRESSES_MAX];
    size_t count = 0;

    if (port->n_addresses > NET_ADDRESSES_MAX) {
        rpc_error_add_violation(error, "port.addresses",
                                "are %zu; %u are the most", port->n_addresses,
                                NET_ADDRESSES_MAX);
        return;
    }
    for (size_t i = 0; i < port->n_addresses; i++) {
        struct ip_address address;
        if (ip_address_parse(port->addresses[i], &address) != 0) {
            rpc_error_add_violation(error, "port.addresses",
                                    "\"%.60s\" is not an IP address, such as "
                                    "10.0.0.5 or fd00:1::5",
                                    port->addresses[i]);
            continue;
        }
        for (size_t k = 0; k < count; k++) {
            if (ip_compare(&seen[k], &address) == 0) {
                rpc_error_add_violation(error, "port.addresses",
                                        "\"%.60s\" is given twice",
                                        port->addresses[i]);
            }
        }
        seen[count++] = address;
    }
}

static void
port_check_mac(const char *text, struct rpc_error *error)
{
    struct mac_address mac;

    if (text[0] == '\0') {
        return;
    }
    if (mac_parse(text, &mac) != 0) {
        rpc_error_add_violation(error, "port.mac",
                                "\"%.40s\" is not a MAC address, such as "
                                "0a:00:00:00:00:05",
                                text);
    } else if ((mac.bytes[0] & 1) != 0) {
        rpc_error_add_violation(error, "port.mac",
                                "%.17s is a group's address; the last bit of "
                                "the first byte has to be 0",
                                text);
    } else if (memcmp(mac.bytes, "\0\0\0\0\0\0", 6) == 0) {
        rpc_error_add_violation(error, "port.mac",
                                "is all zeros; leave it out to get one");
    }
}

/* A DNS label or several. */
static bool
hostname_is_valid(const char *text)
{
    size_t size = strnlen(text, 64);

    if (size > 63 || text[0] == '-' || text[0] == '.' ||
        (size > 0 && (text[size - 1] == '-' || text[size - 1] == '.'))) {
        return false;
    }
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789-.") == size &&
           strstr(text, "..") == NULL;
}

void
net_port_check_groups(size_t count, struct rpc_error *error)
{
    if (count > NET_GROUPS_MAX) {
        rpc_error_add_violation(error, "security_groups",
                                "are %zu; a port is in %u at most", count,
                                NET_GROUPS_MAX);
    }
}

static void
port_check(const Weft__V1__CreatePortRequest *request, struct rpc_error *error)
{
    const Weft__V1__Port *port = request->port;

    net_check_new(error, request->parent, "port_id", request->port_id);
    if (port == NULL) {
        rpc_error_add_violation(error, "port", "is missing");
        return;
    }
    port_check_addresses(port, error);
    port_check_mac(port->mac, error);
    net_port_check_groups(port->n_security_groups, error);
    if (!hostname_is_valid(port->hostname)) {
        rpc_error_add_violation(error, "port.hostname",
                                "\"%.80s\" is not a host name; it has up to 63 "
                                "letters, digits, '-' and '.'",
                                port->hostname);
    }
}

/* ---- Create: rows ---- */

static int
port_check_mac_free(struct api_op *op, const struct state *state,
                    const struct state_network *network, const char *mac)
{
    const struct state_mac *taken =
        state_mac_find_by_network_mac(state, &network->row.uuid, mac);

    if (taken == NULL) {
        return 0;
    }
    const struct state_port *owner = state_port_get(state, &taken->owner);
    return api_op_refuse(op, RPC_ALREADY_EXISTS, "MAC_TAKEN",
                         "MAC address %s of network \"%s\" is taken by %s%s%s; "
                         "leave it out to get a free one",
                         mac, network->name,
                         owner != NULL ? "port \"" : "a router",
                         owner != NULL ? owner->name : "",
                         owner != NULL ? "\"" : "");
}

static void
port_insert_addresses(struct api_op *op, struct state_txn *txn,
                      const struct state_port *port,
                      const struct net_choice *choice)
{
    for (uint32_t i = 0; i < choice->count; i++) {
        struct state_address row = {
            .row.table = STATE_TABLE_ADDRESS,
            .network = port->network,
            .subnet = choice->items[i].subnet->row.uuid,
            .ip = choice->items[i].ip,
            .port = port->row.uuid,
        };
        char purpose[32];
        (void)snprintf(purpose, sizeof purpose, "address/%u", i);
        api_op_uuid(op, purpose, &row.row.uuid);
        state_txn_insert(txn, &row.row, STATE_ADDRESS_COL_ALL);
    }
}

/* The MAC address that was asked for, if any; 0, or refused. */
static int
port_take_mac(struct api_op *op, const struct state *state,
              const struct state_network *network, const char *wanted,
              char ret_mac[MAC_TEXT_SIZE])
{
    struct mac_address mac;

    if (wanted[0] == '\0') {
        return 0;
    }
    int result = mac_parse(wanted, &mac);
    CHECK(result == 0); /* Checked by the handler. */
    mac_format(&mac, ret_mac);
    return port_check_mac_free(op, state, network, ret_mac);
}

static int
port_create_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__CreatePortRequest *request = (const void *)op->request;
    const Weft__V1__Port *port = request->port;
    const struct state_net_host *host = NULL;
    char project[API_NAME_PART_SIZE], mac[MAC_TEXT_SIZE];
    struct net_groups groups;
    struct net_choice choice;
    const struct state_row *found =
        net_op_find(op, state, NET_NETWORK, "port.network", port->network);

    if (found == NULL) {
        return -EPROTO;
    }
    const struct state_network *network = state_network_from(found);
    net_project(request->parent, project);
    if (strcmp(project, network->project) != 0) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "OTHER_PROJECT",
                             "network \"%s\" is of project \"%s\", the port of "
                             "\"%s\"; they have to be of one",
                             network->name, network->project, project);
    }
    if (state_port_find_by_project_name(state, project, request->port_id) !=
        NULL) {
        return api_op_refuse(op, RPC_ALREADY_EXISTS, "PORT_EXISTS",
                             "there is a port \"%s\" in project \"%s\" already",
                             request->port_id, project);
    }
    if (port->host[0] != '\0') {
        host = net_port_host(op, state, port->host);
        if (host == NULL) {
            return -EPROTO;
        }
    }
    int result = port_take_mac(op, state, network, port->mac, mac);
    if (result != 0) {
        return result;
    }
    if (!net_groups_find(op, state, port->security_groups,
                         port->n_security_groups, project, &groups) ||
        !net_addresses_choose(op, state, network, port->addresses,
                              port->n_addresses, &choice)) {
        return -EPROTO;
    }
    if (port->mac[0] == '\0') {
        net_mac_choose(state, &network->row.uuid,
                       choice.count > 0 ? choice.items[0].ip : op->request_id,
                       mac);
    }
    struct state_port row = {
        .row.table = STATE_TABLE_PORT,
        .network = network->row.uuid,
        .project = project,
        .name = request->port_id,
        .mac = mac,
        .host = host != NULL ? host->host : "",
        .migrate_host = "",
        .enabled = !port->disabled,
        .hostname = port->hostname,
        .create_time_ms = service_wall_ms(),
        .request_id = op->request_id,
    };
    api_op_uuid(op, "port", &row.row.uuid);
    net_identity_take(op, txn, state, &groups, &row.identity);
    state_txn_insert(txn, &row.row, STATE_PORT_COL_ALL);
    net_mac_insert(op, txn, &row.network, mac, &row.row.uuid);
    port_insert_addresses(op, txn, &row, &choice);
    net_port_concern(op, &row);
    net_op_record(op, txn, project, "ports", row.name);
    return 0;
}

static void
port_create(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__CreatePortRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    port_check(request, &error);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 port_create_build, net_port_answer);
}

/* ---- Delete ---- */

static int
port_delete_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__DeletePortRequest *request = (const void *)op->request;
    const struct state_port *row = net_port_find(op, state, request->name);

    if (row == NULL) {
        return -EPROTO;
    }
    for (const struct state_address *address = NULL;
         (address = state_address_next_by_port(state, &row->row.uuid,
                                               address)) != NULL;) {
        state_txn_delete(txn, STATE_TABLE_ADDRESS, &address->row.uuid);
    }
    const struct state_mac *mac =
        state_mac_find_by_network_mac(state, &row->network, row->mac);
    if (mac != NULL) {
        state_txn_delete(txn, STATE_TABLE_MAC, &mac->row.uuid);
    }
    const struct state_plug *plug =
        state_plug_find_by_port(state, &row->row.uuid);
    if (plug != NULL) {
        state_txn_delete(txn, STATE_TABLE_PLUG, &plug->row.uuid);
    }
    state_txn_delete(txn, STATE_TABLE_PORT, &row->row.uuid);
    net_port_concern(op, row);
    net_op_of(op)->host[0] = '\0'; /* It may cease to follow the network. */
    net_op_of(op)->wait_kind = NET_WAIT_GONE;
    net_op_record(op, txn, row->project, "ports", row->name);
    return 0;
}

static void
port_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeletePortRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 port_delete_build, net_answer_empty);
}

/* ---- Groups ---- */

static int
port_groups_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__SetPortGroupsRequest *request = (const void *)op->request;
    const struct state_port *old = net_port_find(op, state, request->name);
    struct net_groups groups;

    if (old == NULL ||
        !net_groups_find(op, state, request->security_groups,
                         request->n_security_groups, old->project, &groups)) {
        return -EPROTO;
    }
    struct state_port row = *old;
    net_identity_take(op, txn, state, &groups, &row.identity);
    if (!uuid_equal(&row.identity, &old->identity)) {
        state_txn_verify(txn, &old->row, STATE_PORT_COL_IDENTITY);
        state_txn_update(txn, &row.row, STATE_PORT_COL_IDENTITY);
    }
    net_port_concern(op, old);
    for (uint32_t i = 0; i < groups.count; i++) {
        net_op_scope(op, &groups.rows[i]->row.uuid);
    }
    net_op_record(op, txn, old->project, "ports", old->name);
    return 0;
}

static void
port_set_groups(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__SetPortGroupsRequest *request = (const void *)message;
    struct rpc_error error;

    rpc_error_set_invalid(&error);
    net_port_check_groups(request->n_security_groups, &error);
    if (error.violation_count > 0) {
        rpc_call_fail(call, &error);
        return;
    }
    net_op_start(call, message, request->request_id, request->wait,
                 port_groups_build, net_port_answer);
}

/* ---- Enabled ---- */

static int
port_enabled_build(struct api_op *op, struct state_txn *txn,
                   struct state *state)
{
    const Weft__V1__SetPortEnabledRequest *request = (const void *)op->request;
    const struct state_port *old = net_port_find(op, state, request->name);

    if (old == NULL) {
        return -EPROTO;
    }
    if (old->enabled != request->enabled) {
        struct state_port row = *old;
        row.enabled = request->enabled;
        state_txn_update(txn, &row.row, STATE_PORT_COL_ENABLED);
    }
    net_port_concern(op, old);
    net_op_record(op, txn, old->project, "ports", old->name);
    return 0;
}

static void
port_set_enabled(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__SetPortEnabledRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, request->wait,
                 port_enabled_build, net_port_answer);
}

/* ---- Read ---- */

static void
port_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetPortRequest *request = (const void *)message;
    const struct state_row *row = net_take(call, NET_PORT, request->name);

    if (row != NULL) {
        net_port_answer(netd_api_of(call), call, &row->uuid);
    }
}

static void
port_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListPortsRequest *request = (const void *)message;
    struct netd_api *api = netd_api_of(call);
    Weft__V1__ListPortsResponse reply = WEFT__V1__LIST_PORTS_RESPONSE__INIT;
    char project[API_NAME_PART_SIZE];
    struct api_list list;

    if (!net_take_parent(call, request->parent, project) ||
        !api_list_begin(&list, call, &weft__v1__port__descriptor,
                        request->parent, request->page_size,
                        request->page_token, request->filter)) {
        return;
    }
    for (const struct state_port *row = state_port_next(api->state, NULL);
         row != NULL; row = state_port_next(api->state, row)) {
        char name[API_TARGET_SIZE];
        (void)snprintf(name, sizeof name, "projects/%s/ports/%s", row->project,
                       row->name);
        if (net_project_fits(project, row->project) &&
            api_list_wants(&list, name)) {
            api_list_add(&list, &net_port_message(&list.arena, api, row)->base,
                         NULL);
        }
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.ports,
                  &reply.n_ports, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

const struct rpc_method net_port_methods[] = {
    { "CreatePort", RPC_UNARY, port_create },
    { "GetPort", RPC_UNARY, port_get },
    { "ListPorts", RPC_UNARY, port_list },
    { "DeletePort", RPC_UNARY, port_delete },
    { "SetPortGroups", RPC_UNARY, port_set_groups },
    { "SetPortEnabled", RPC_UNARY, port_set_enabled },
    { "PlugPort", RPC_UNARY, net_port_plug },
    { "UnplugPort", RPC_UNARY, net_port_unplug },
    { "WatchPorts", RPC_SERVER_STREAM, net_watch_ports },
};
const size_t net_port_method_count =
    sizeof net_port_methods / sizeof net_port_methods[0];
