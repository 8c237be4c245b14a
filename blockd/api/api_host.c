/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "blockd/api/api_internal.h"
#include "lib/base/units.h"

Weft__V1__Host *
api_host_message(struct reply_arena *arena, const struct api *api,
                 const struct state_host *row)
{
    const struct state *state = api->state;
    const struct state_host_status *status =
        state_host_status_find_by_host(state, row->name);
    Weft__V1__Host *host = reply_alloc(arena, sizeof *host);

    weft__v1__host__init(host);
    host->name = reply_text(arena, "hosts/%s", row->name);
    host->uid = reply_uuid(arena, &row->row.uuid);
    host->rack = reply_text(arena, "%s", row->rack);
    host->peer_address = reply_text(arena, "%s", row->address);
    host->state = WEFT__V1__HOST__STATE__DOWN;
    if (status == NULL) {
        host->state_reason = reply_text(arena, "blockd has never run there");
    } else {
        host->version = reply_text(arena, "%s", status->version);
        host->start_time = api_time(arena, status->started_at_ms);
        if (!api_host_is_silent(api, status)) {
            host->state = row->enabled ? WEFT__V1__HOST__STATE__UP
                                       : WEFT__V1__HOST__STATE__DRAINING;
        } else {
            host->state_reason =
                reply_text(arena, "no sign of life for %llu s",
                           (unsigned long long)(api_host_silent_ns(api,
                                                                   status) /
                                                NS_PER_S));
        }
    }
    for (const struct state_disk *disk = state_disk_next(state, NULL);
         disk != NULL; disk = state_disk_next(state, disk)) {
        host->disk_count += strcmp(disk->host, row->name) == 0;
    }
    for (const struct state_volume *volume = state_volume_next(state, NULL);
         volume != NULL; volume = state_volume_next(state, volume)) {
        host->volume_count += strcmp(volume->owner_host, row->name) == 0;
    }
    return host;
}

static void
host_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListHostsRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    Weft__V1__ListHostsResponse reply = WEFT__V1__LIST_HOSTS_RESPONSE__INIT;
    struct api_list list;

    if (!api_list_begin(&list, call, &weft__v1__host__descriptor, "",
                        request->page_size, request->page_token,
                        request->filter)) {
        return;
    }
    for (const struct state_host *row = state_host_next(state, NULL);
         row != NULL; row = state_host_next(state, row)) {
        api_list_add(&list,
                     &api_host_message(&list.arena, api_of(call), row)->base,
                     NULL);
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.hosts,
                  &reply.n_hosts, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

static void
host_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetHostRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    struct reply_arena arena = { NULL };
    char name[API_NAME_PART_SIZE];

    if (!api_take_name(call, "name", request->name, "hosts", name)) {
        return;
    }
    const struct state_host *row = state_host_find_by_name(state, name);
    if (row == NULL) {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "HOST_NOT_FOUND",
                           "there is no host \"%s\"; 'weft host list' shows "
                           "all",
                           name);
        return;
    }
    rpc_call_reply(call, &api_host_message(&arena, api_of(call), row)->base);
    reply_free(&arena);
}

static void
host_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__WatchHostsRequest *request = (const void *)message;
    struct api_watch_options options = { .kind = API_WATCH_HOSTS };

    if (api_filter_parse(call, &weft__v1__host__descriptor, request->filter,
                         &options.filter)) {
        api_watch_start(call, &options);
    }
}

const struct rpc_method api_host_methods[] = {
    { "ListHosts", RPC_UNARY, host_list },
    { "GetHost", RPC_UNARY, host_get },
    { "WatchHosts", RPC_SERVER_STREAM, host_watch },
};
const size_t api_host_method_count =
    sizeof api_host_methods / sizeof api_host_methods[0];
