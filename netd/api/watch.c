/* SPDX-License-Identifier: Apache-2.0 */

/* WatchPorts: the present state, SYNCED, then every change.
 *
 * As in blockd/api/api_watch.c: what a client has yet to hear of waits as UUIDs
 * of rows, and the message is made when the stream has room.  So a slow client
 * skips versions, never ports; one that lags by ITEMS_MAX changes is cut off.
 * A change of a port's status, plug or address is one of the port. */

#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "netd/api/internal.h"

#define WATCHES_MAX 256u
#define ITEMS_MAX 65536u /* Of changes; the present state may be larger. */
#define RECENT 256u      /* How far back a repeated change is looked for. */

struct watch_gone {
    struct reply_arena arena;
    Weft__V1__WatchPortsResponse *reply;
};

struct watch_item {
    Weft__V1__ChangeType type; /* UNSPECIFIED: taken back. */
    struct weft_uuid uuid;
    struct watch_gone *gone; /* REMOVED: owned. */
};

struct net_watch {
    struct netd_api *api;
    struct list node;
    struct rpc_call *call;
    struct rpc_call_events events;
    char project[API_NAME_PART_SIZE];
    struct api_filter *filter;
    struct watch_item *items;
    size_t first, count, capacity; /* first..count are to be sent. */
    bool is_broken;
};

static void
item_done(struct watch_item *item)
{
    if (item->gone != NULL) {
        reply_free(&item->gone->arena);
        free(item->gone);
    }
    memset(item, 0, sizeof *item);
}

static void
watch_end(struct net_watch *watch)
{
    list_remove(&watch->node);
    for (size_t i = watch->first; i < watch->count; i++) {
        item_done(&watch->items[i]);
    }
    free(watch->items);
    api_filter_free(watch->filter);
    free(watch);
}

static void
watch_push(struct net_watch *watch, Weft__V1__ChangeType type,
           const struct weft_uuid *uuid, struct watch_gone *gone)
{
    if (watch->count == watch->capacity && watch->first > watch->count / 2) {
        watch->count -= watch->first;
        memmove(watch->items, watch->items + watch->first,
                watch->count * sizeof *watch->items);
        watch->first = 0;
    }
    if (watch->count == watch->capacity) {
        watch->capacity = watch->capacity == 0 ? 64 : watch->capacity * 2;
        watch->items =
            realloc(watch->items, watch->capacity * sizeof *watch->items);
        CHECK(watch->items != NULL);
    }
    watch->items[watch->count++] =
        (struct watch_item){ .type = type, .uuid = *uuid, .gone = gone };
}

/* ---- Out ---- */

static Weft__V1__WatchPortsResponse *
watch_reply(const struct net_watch *watch, struct reply_arena *arena,
            Weft__V1__ChangeType type, const struct state_port *row)
{
    Weft__V1__WatchPortsResponse *reply = reply_alloc(arena, sizeof *reply);

    weft__v1__watch_ports_response__init(reply);
    reply->type = type;
    if (row != NULL) {
        if (!net_project_fits(watch->project, row->project)) {
            return NULL;
        }
        reply->port = net_port_message(arena, watch->api, row);
        if (!api_filter_matches(watch->filter, &reply->port->base)) {
            return NULL;
        }
    }
    return reply;
}

static int
watch_send(struct net_watch *watch, const struct watch_item *item)
{
    struct reply_arena arena = { NULL };
    const struct state_port *row = NULL;

    if (item->gone != NULL) {
        return rpc_stream_send(watch->call, &item->gone->reply->base);
    }
    if (item->type != WEFT__V1__CHANGE_TYPE__SYNCED) {
        row = state_port_get(watch->api->state, &item->uuid);
        if (row == NULL ||
            item->type == WEFT__V1__CHANGE_TYPE__CHANGE_TYPE_UNSPECIFIED) {
            return 0;
        }
    }
    Weft__V1__WatchPortsResponse *reply =
        watch_reply(watch, &arena, item->type, row);
    int result = reply != NULL ? rpc_stream_send(watch->call, &reply->base) : 0;
    reply_free(&arena);
    return result;
}

static void
watch_pump(struct net_watch *watch)
{
    while (watch->first < watch->count && !watch->is_broken) {
        struct watch_item *item = &watch->items[watch->first];
        if (watch_send(watch, item) != 0) {
            return; /* Full: writable() follows.  Gone: cancelled() does. */
        }
        item_done(item);
        watch->first++;
    }
    if (watch->first == watch->count) {
        watch->first = watch->count = 0;
    }
    if (watch->is_broken) {
        rpc_call_fail_text(watch->call, RPC_RESOURCE_EXHAUSTED,
                           "WATCH_TOO_SLOW",
                           "the client does not keep up; start the watch "
                           "again");
        watch_end(watch);
    }
}

static void
watch_writable(struct rpc_call_events *events)
{
    watch_pump(container_of(events, struct net_watch, events));
}

static void
watch_cancelled(struct rpc_call_events *events)
{
    struct net_watch *watch = container_of(events, struct net_watch, events);

    rpc_call_fail_text(watch->call, RPC_CANCELLED, NULL, "cancelled");
    watch_end(watch);
}

/* ---- In ---- */

/* Whether the port is to be told soon anyway. */
static bool
watch_is_pending(const struct net_watch *watch, const struct weft_uuid *uuid)
{
    size_t first = watch->count - watch->first > RECENT ? watch->count - RECENT
                                                        : watch->first;

    for (size_t i = first; i < watch->count; i++) {
        const struct watch_item *item = &watch->items[i];
        if (item->gone == NULL && item->type != WEFT__V1__CHANGE_TYPE__SYNCED &&
            uuid_equal(&item->uuid, uuid)) {
            return true;
        }
    }
    return false;
}

static void
watch_add(struct net_watch *watch, Weft__V1__ChangeType type,
          const struct weft_uuid *uuid)
{
    if (watch_is_pending(watch, uuid)) {
        return;
    }
    if (watch->count - watch->first >= ITEMS_MAX) {
        watch->is_broken = true;
        return;
    }
    watch_push(watch, type, uuid, NULL);
}

static void
watch_add_removed(struct net_watch *watch, const struct state_port *row)
{
    struct watch_gone *gone = calloc(1, sizeof *gone);

    CHECK(gone != NULL);
    gone->reply =
        watch_reply(watch, &gone->arena, WEFT__V1__CHANGE_TYPE__REMOVED, row);
    if (gone->reply == NULL) {
        reply_free(&gone->arena);
        free(gone);
        return;
    }
    /* The row is not there any more to name it. */
    gone->reply->port->name = reply_text(&gone->arena, "projects/%s/ports/%s",
                                         row->project, row->name);
    watch_push(watch, WEFT__V1__CHANGE_TYPE__REMOVED, &row->row.uuid, gone);
}

/* The port that a change of another table is about; NULL: none. */
static const struct weft_uuid *
change_subject(const struct state_change *change)
{
    const struct state_row *row =
        change->new_row != NULL ? change->new_row : change->old_row;

    if (change->table == STATE_TABLE_PORT_STATUS) {
        return &state_port_status_from(row)->port;
    }
    if (change->table == STATE_TABLE_PLUG) {
        return &state_plug_from(row)->port;
    }
    return change->table == STATE_TABLE_ADDRESS ? &state_address_from(row)->port
                                                : NULL;
}

void
net_watch_changed(struct netd_api *api, const struct state_change *change)
{
    if (list_is_empty(&api->watches)) {
        return;
    }
    const struct weft_uuid *subject =
        change->table != STATE_TABLE_PORT ? change_subject(change) : NULL;
    LIST_FOREACH (node, &api->watches) {
        struct net_watch *watch = container_of(node, struct net_watch, node);
        if (change->table != STATE_TABLE_PORT) {
            if (subject != NULL &&
                state_port_get(api->state, subject) != NULL) {
                watch_add(watch, WEFT__V1__CHANGE_TYPE__MODIFIED, subject);
            }
        } else if (change->new_row == NULL) {
            watch_add_removed(watch, state_port_from(change->old_row));
        } else {
            watch_add(watch,
                      change->old_row == NULL ? WEFT__V1__CHANGE_TYPE__ADDED
                                              : WEFT__V1__CHANGE_TYPE__MODIFIED,
                      &change->new_row->uuid);
        }
    }
}

void
net_watch_batch_end(struct netd_api *api)
{
    LIST_FOREACH (node, &api->watches) {
        watch_pump(container_of(node, struct net_watch, node));
    }
}

void
net_watch_ports(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__WatchPortsRequest *request = (const void *)message;
    struct netd_api *api = netd_api_of(call);
    const struct weft_uuid none = { { 0 } };
    char project[API_NAME_PART_SIZE];
    struct api_filter *filter;

    if (api_refuse_if_stopping(call) ||
        !net_take_parent(call, request->parent, project)) {
        return;
    }
    if (list_count(&api->watches) >= WATCHES_MAX) {
        rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES",
                           "%u clients watch; try again later", WATCHES_MAX);
        return;
    }
    if (!api_filter_parse(call, &weft__v1__port__descriptor, request->filter,
                          &filter)) {
        return;
    }
    struct net_watch *watch = calloc(1, sizeof *watch);
    CHECK(watch != NULL);
    watch->api = api;
    watch->call = call;
    memcpy(watch->project, project, sizeof project);
    watch->filter = filter;
    watch->events.cancelled = watch_cancelled;
    watch->events.writable = watch_writable;
    list_push_back(&api->watches, &watch->node);
    for (const struct state_port *row = state_port_next(api->state, NULL);
         row != NULL; row = state_port_next(api->state, row)) {
        watch_push(watch, WEFT__V1__CHANGE_TYPE__ADDED, &row->row.uuid, NULL);
    }
    watch_push(watch, WEFT__V1__CHANGE_TYPE__SYNCED, &none, NULL);
    rpc_call_set_events(call, &watch->events);
    watch_pump(watch);
}

void
net_watch_stop_all(struct netd_api *api)
{
    LIST_FOREACH (node, &api->watches) {
        struct net_watch *watch = container_of(node, struct net_watch, node);
        rpc_call_fail_text(watch->call, RPC_UNAVAILABLE, "STOPPING",
                           "this netd stops; watch on another host");
        watch_end(watch);
    }
}
