/* SPDX-License-Identifier: Apache-2.0 */

/* Hosts of the overlay, and whether their netd lives.
 *
 * A host beats by changing its Net_Host_Status every three seconds.  It is
 * alive if it has done so within ALIVE_NS before the latest beat of any host,
 * which is usually our own.  So a database that stands still for a while lets
 * nobody seem dead.  Times are those of our own clock: clocks of hosts differ.
 * What was there when this API began counts as a beat then, unless it is old by
 * any clock. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/api/internal.h"

/* Two beats, and some more for a host that is busy. */
#define ALIVE_NS (7 * NS_PER_S)
#define ANCIENT_MS 120000u

struct net_alive {
    struct list node;
    char host[64];
    uint64_t changed_ns;
};

static struct net_alive *
alive_find(const struct netd_api *api, const char *host)
{
    LIST_FOREACH (node, &api->alive) {
        struct net_alive *alive = container_of(node, struct net_alive, node);
        if (strcmp(alive->host, host) == 0) {
            return alive;
        }
    }
    return NULL;
}

bool
net_host_is_alive(const struct netd_api *api, const char *host)
{
    const struct net_alive *alive = alive_find(api, host);

    return alive != NULL && api->beat_ns - alive->changed_ns < ALIVE_NS;
}

void
net_host_changed(struct netd_api *api, const struct state_change *change)
{
    if (change->table != STATE_TABLE_NET_HOST_STATUS) {
        return;
    }
    if (change->new_row == NULL) {
        struct net_alive *gone =
            alive_find(api, state_net_host_status_from(change->old_row)->host);
        if (gone != NULL) {
            list_remove(&gone->node);
            free(gone);
        }
        return;
    }
    const struct state_net_host_status *row =
        state_net_host_status_from(change->new_row);
    struct net_alive *alive = alive_find(api, row->host);
    if (alive == NULL) {
        uint64_t now_ms = service_wall_ms();
        if (now_ms > row->last_seen_ms &&
            now_ms - row->last_seen_ms > ANCIENT_MS) {
            return;
        }
        alive = calloc(1, sizeof *alive);
        CHECK(alive != NULL);
        (void)snprintf(alive->host, sizeof alive->host, "%s", row->host);
        list_push_back(&api->alive, &alive->node);
    }
    alive->changed_ns = loop_now_ns();
    api->beat_ns = alive->changed_ns;
}

void
net_host_free(struct netd_api *api)
{
    LIST_FOREACH (node, &api->alive) {
        struct net_alive *alive = container_of(node, struct net_alive, node);
        list_remove(&alive->node);
        free(alive);
    }
}

/* ---- Messages ---- */

static void
host_set_state(struct reply_arena *arena, const struct netd_api *api,
               const struct state_net_host *row,
               const struct state_net_host_status *status,
               Weft__V1__NetHost *host)
{
    if (!row->enabled) {
        host->state = WEFT__V1__NET_HOST__STATE__DISABLED;
    } else if (status == NULL) {
        host->state = WEFT__V1__NET_HOST__STATE__DOWN;
        host->state_reason = reply_text(arena, "netd has never run there");
    } else if (!net_host_is_alive(api, row->host)) {
        host->state = WEFT__V1__NET_HOST__STATE__DOWN;
        host->state_reason = reply_text(arena, "no sign of life of its netd");
    } else if (status->error[0] != '\0') {
        host->state = WEFT__V1__NET_HOST__STATE__IMPAIRED;
        host->state_reason = reply_text(arena, "%s", status->error);
    } else {
        host->state = WEFT__V1__NET_HOST__STATE__UP;
    }
}

static Weft__V1__NetHost *
host_message(struct reply_arena *arena, const struct netd_api *api,
             const struct state_net_host *row)
{
    const struct state *state = api->state;
    const struct state_net_host_status *status =
        state_net_host_status_find_by_host(state, row->host);
    Weft__V1__NetHost *host = reply_alloc(arena, sizeof *host);

    weft__v1__net_host__init(host);
    host->name = reply_text(arena, "netHosts/%s", row->host);
    host->encap_ip = reply_text(arena, "%s", row->encap_ip);
    host_set_state(arena, api, row, status, host);
    if (status != NULL) {
        host->underlay_mtu = (int32_t)status->underlay_mtu;
        host->version = reply_text(arena, "%s", status->version);
        host->api_endpoint = reply_text(arena, "%s", status->api_endpoint);
        host->start_time = api_time(arena, status->started_at_ms);
    }
    host->port_count = (int32_t)state_binding_count_by_host(state, row->host);
    return host;
}

static void
host_answer(struct netd_api *api, struct rpc_call *call,
            const struct weft_uuid *uuid)
{
    const struct state_net_host *row = state_net_host_get(api->state, uuid);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        net_answer_gone(call);
        return;
    }
    rpc_call_reply(call, &host_message(&arena, api, row)->base);
    reply_free(&arena);
}

/* ---- Methods ---- */

static const struct state_net_host *
host_find(const struct state *state, const char *text, struct rpc_error *error)
{
    char name[API_NAME_PART_SIZE];

    if (!api_name_parse(text, "netHosts", name)) {
        rpc_error_set_invalid(error);
        rpc_error_add_violation(error, "name",
                                "\"%.80s\" is not of the form netHosts/NAME",
                                text);
        return NULL;
    }
    const struct state_net_host *row = state_net_host_find_by_host(state, name);
    if (row == NULL) {
        rpc_error_set(error, RPC_NOT_FOUND, "NET_HOST_NOT_FOUND",
                      "there is no host \"%s\" in the overlay; 'weft net "
                      "hosts' shows all",
                      name);
    }
    return row;
}

static void
host_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetNetHostRequest *request = (const void *)message;
    struct netd_api *api = netd_api_of(call);
    struct rpc_error error;
    const struct state_net_host *row =
        host_find(api->state, request->name, &error);

    if (row == NULL) {
        rpc_call_fail(call, &error);
        return;
    }
    host_answer(api, call, &row->row.uuid);
}

static void
host_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListNetHostsRequest *request = (const void *)message;
    struct netd_api *api = netd_api_of(call);
    Weft__V1__ListNetHostsResponse reply =
        WEFT__V1__LIST_NET_HOSTS_RESPONSE__INIT;
    struct api_list list;

    if (!api_list_begin(&list, call, &weft__v1__net_host__descriptor, "",
                        request->page_size, request->page_token,
                        request->filter)) {
        return;
    }
    for (const struct state_net_host *row =
             state_net_host_next(api->state, NULL);
         row != NULL; row = state_net_host_next(api->state, row)) {
        api_list_add(&list, &host_message(&list.arena, api, row)->base, NULL);
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.net_hosts,
                  &reply.n_net_hosts, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

static int
host_enable_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__SetNetHostEnabledRequest *request =
        (const void *)op->request;
    const struct state_net_host *old =
        host_find(state, request->name, &op->error);

    if (old == NULL) {
        return -EPROTO;
    }
    net_op_of(op)->uuid = old->row.uuid;
    if (old->enabled != request->enabled) {
        struct state_net_host row = *old;
        row.enabled = request->enabled;
        state_txn_update(txn, &row.row, STATE_NET_HOST_COL_ENABLED);
    }
    (void)snprintf(op->target, sizeof op->target, "%.200s", request->name);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
host_enable(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__SetNetHostEnabledRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, false, host_enable_build,
                 host_answer);
}

/* ---- Forgetting one ---- */

/* What forbids it; 0: nothing. */
static int
host_check_forget(struct api_op *op, const struct state *state,
                  const struct state_net_host *row)
{
    const struct state_port *port =
        state_port_next_by_host(state, row->host, NULL);

    if (net_host_is_alive(net_op_api(op), row->host)) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "NET_HOST_ALIVE",
                             "netd on host \"%s\" gives signs of life; stop it "
                             "first, and try again some seconds later",
                             row->host);
    }
    if (port != NULL) {
        return api_op_refuse(op, RPC_FAILED_PRECONDITION, "NET_HOST_IN_USE",
                             "%zu port%s to be on host \"%s\" (\"%s\" is one); "
                             "unplug or delete them first",
                             state_port_count_by_host(state, row->host),
                             state_port_count_by_host(state, row->host) == 1
                                 ? " is"
                                 : "s are",
                             row->host, port->name);
    }
    return 0;
}

static int
host_delete_build(struct api_op *op, struct state_txn *txn, struct state *state)
{
    const Weft__V1__DeleteNetHostRequest *request = (const void *)op->request;
    const struct state_net_host *row =
        host_find(state, request->name, &op->error);
    int result = row != NULL ? host_check_forget(op, state, row) : -EPROTO;

    if (result != 0) {
        return result;
    }
    const struct state_net_host_status *status =
        state_net_host_status_find_by_host(state, row->host);
    if (status != NULL) {
        /* As we know it: nobody who came back meanwhile is forgotten. */
        state_txn_verify(txn, &status->row,
                         STATE_NET_HOST_STATUS_COL_LAST_SEEN_MS);
        state_txn_delete(txn, STATE_TABLE_NET_HOST_STATUS, &status->row.uuid);
    }
    for (const struct state_binding *one = NULL;
         (one = state_binding_next_by_host(state, row->host, one)) != NULL;) {
        state_txn_delete(txn, STATE_TABLE_BINDING, &one->row.uuid);
    }
    for (const struct state_port_status *one = NULL;
         (one = state_port_status_next_by_host(state, row->host, one)) !=
         NULL;) {
        state_txn_delete(txn, STATE_TABLE_PORT_STATUS, &one->row.uuid);
    }
    for (const struct state_follow *one = NULL;
         (one = state_follow_next_by_host(state, row->host, one)) != NULL;) {
        state_txn_delete(txn, STATE_TABLE_FOLLOW, &one->row.uuid);
    }
    state_txn_delete(txn, STATE_TABLE_NET_HOST, &row->row.uuid);
    (void)snprintf(op->target, sizeof op->target, "%.200s", request->name);
    api_op_insert_operation(op, txn);
    return 0;
}

static void
host_delete(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__DeleteNetHostRequest *request = (const void *)message;

    net_op_start(call, message, request->request_id, false, host_delete_build,
                 net_answer_empty);
}

const struct rpc_method net_host_methods[] = {
    { "ListNetHosts", RPC_UNARY, host_list },
    { "GetNetHost", RPC_UNARY, host_get },
    { "SetNetHostEnabled", RPC_UNARY, host_enable },
    { "DeleteNetHost", RPC_UNARY, host_delete },
};
const size_t net_host_method_count =
    sizeof net_host_methods / sizeof net_host_methods[0];
