/* SPDX-License-Identifier: Apache-2.0 */

/* Watch streams: the present state, SYNCED, then every change, in one message
 * a resource a database commit.  A client that is too slow is cut off with
 * RESOURCE_EXHAUSTED and starts again (proto/weft/v1/common.proto). */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "lib/base/container_of.h"

#define WATCHES_MAX 256u
#define WATCH_DIRTY_MAX 256u

struct api_watch {
    struct api *api;
    struct list node;
    struct rpc_call *call;
    struct rpc_call_events events;
    enum api_watch_kind kind;
    char project[API_NAME_PART_SIZE];
    char volume[2 * API_NAME_PART_SIZE + 32]; /* "": all */
    bool full;
    struct api_filter *filter;
    /* Volumes that changed in this batch. */
    struct weft_uuid dirty[WATCH_DIRTY_MAX];
    uint32_t dirty_count;
    bool is_broken; /* Too slow, or gone: ended by the batch's end. */
};

static void
watch_end(struct api_watch *watch)
{
    list_remove(&watch->node);
    api_filter_free(watch->filter);
    free(watch);
}

static void
watch_cancelled(struct rpc_call_events *events)
{
    struct api_watch *watch = container_of(events, struct api_watch, events);

    rpc_call_fail_text(watch->call, RPC_CANCELLED, NULL, "cancelled");
    watch_end(watch);
}

static void
watch_send(struct api_watch *watch, const ProtobufCMessage *message)
{
    if (!watch->is_broken && rpc_stream_send(watch->call, message) != 0) {
        watch->is_broken = true;
    }
}

/* ---- Hosts ---- */

static void
watch_send_host(struct api_watch *watch, Weft__V1__ChangeType type,
                const struct state_host *row)
{
    struct reply_arena arena = { NULL };
    Weft__V1__WatchHostsResponse reply = WEFT__V1__WATCH_HOSTS_RESPONSE__INIT;

    reply.type = type;
    if (row != NULL) {
        reply.host = api_host_message(&arena, watch->api->state, row);
        if (!api_filter_matches(watch->filter, &reply.host->base)) {
            reply_free(&arena);
            return;
        }
    }
    watch_send(watch, &reply.base);
    reply_free(&arena);
}

/* ---- Volumes ---- */

static bool
watch_wants_volume(const struct api_watch *watch,
                   const struct state_volume *row)
{
    char name[sizeof watch->volume];

    if (strcmp(watch->project, "-") != 0 &&
        strcmp(watch->project, row->project) != 0) {
        return false;
    }
    (void)snprintf(name, sizeof name, "projects/%s/volumes/%s", row->project,
                   row->name);
    return watch->volume[0] == '\0' || strcmp(watch->volume, name) == 0;
}

static void
watch_send_volume(struct api_watch *watch, Weft__V1__ChangeType type,
                  const struct state_volume *row)
{
    struct reply_arena arena = { NULL };
    Weft__V1__WatchVolumesResponse reply =
        WEFT__V1__WATCH_VOLUMES_RESPONSE__INIT;

    reply.type = type;
    if (row != NULL) {
        if (!watch_wants_volume(watch, row)) {
            return;
        }
        reply.volume =
            api_volume_message(&arena, watch->api->state, row, watch->full);
        if (!api_filter_matches(watch->filter, &reply.volume->base)) {
            reply_free(&arena);
            return;
        }
    }
    watch_send(watch, &reply.base);
    reply_free(&arena);
}

static void
watch_mark_volume(struct api_watch *watch, const struct weft_uuid *volume)
{
    for (uint32_t i = 0; i < watch->dirty_count; i++) {
        if (uuid_equal(&watch->dirty[i], volume)) {
            return;
        }
    }
    if (watch->dirty_count == WATCH_DIRTY_MAX) {
        watch->is_broken = true; /* It starts again, with everything. */
        return;
    }
    watch->dirty[watch->dirty_count++] = *volume;
}

/* The volume that a row belongs to, or nil. */
static struct weft_uuid
watch_volume_of(const struct state_row *row)
{
    struct weft_uuid none = { { 0 } };

    if (row->table == STATE_TABLE_MIRROR) {
        return state_mirror_from(row)->volume;
    }
    if (row->table == STATE_TABLE_ATTACHMENT) {
        return state_attachment_from(row)->volume;
    }
    if (row->table == STATE_TABLE_ATTACHMENT_STATUS) {
        return state_attachment_status_from(row)->volume;
    }
    return none;
}

static void
watch_volume_change(struct api_watch *watch, const struct state_change *change)
{
    const struct state_row *row =
        change->new_row != NULL ? change->new_row : change->old_row;

    if (change->table != STATE_TABLE_VOLUME) {
        struct weft_uuid volume = watch_volume_of(row);
        if (!uuid_is_nil(&volume)) {
            watch_mark_volume(watch, &volume);
        }
        return;
    }
    if (change->kind == STATE_CHANGE_UPDATE) {
        watch_mark_volume(watch, &row->uuid);
    } else {
        watch_send_volume(watch,
                          change->kind == STATE_CHANGE_INSERT
                              ? WEFT__V1__CHANGE_TYPE__ADDED
                              : WEFT__V1__CHANGE_TYPE__REMOVED,
                          state_volume_from(row));
    }
}

/* ---- Events ---- */

static void
watch_send_event(struct api_watch *watch, const struct state_event *row)
{
    struct reply_arena arena = { NULL };
    Weft__V1__Event *event = api_event_message(&arena, row);

    if (api_filter_matches(watch->filter, &event->base)) {
        watch_send(watch, &event->base);
    }
    reply_free(&arena);
}

static int
watch_compare_events(const void *a, const void *b)
{
    const struct state_event *const *left = a;
    const struct state_event *const *right = b;

    return ((*left)->time_ms > (*right)->time_ms) -
           ((*left)->time_ms < (*right)->time_ms);
}

static void
watch_send_history(struct api_watch *watch, uint32_t wanted)
{
    struct state *state = watch->api->state;
    size_t count = 0, room = state_row_count(state, STATE_TABLE_EVENT);
    const struct state_event **rows = calloc(room + 1, sizeof *rows);

    CHECK(rows != NULL);
    for (const struct state_event *row = state_event_next(state, NULL);
         row != NULL && count < room; row = state_event_next(state, row)) {
        rows[count++] = row;
    }
    qsort(rows, count, sizeof *rows, watch_compare_events);
    for (size_t i = count > wanted ? count - wanted : 0; i < count; i++) {
        watch_send_event(watch, rows[i]);
    }
    free(rows);
}

/* ---- All ---- */

static void
watch_send_present(struct api_watch *watch, uint32_t history_count)
{
    struct state *state = watch->api->state;

    switch (watch->kind) {
    case API_WATCH_HOSTS:
        for (const struct state_host *row = state_host_next(state, NULL);
             row != NULL; row = state_host_next(state, row)) {
            watch_send_host(watch, WEFT__V1__CHANGE_TYPE__ADDED, row);
        }
        watch_send_host(watch, WEFT__V1__CHANGE_TYPE__SYNCED, NULL);
        return;
    case API_WATCH_VOLUMES:
        for (const struct state_volume *row = state_volume_next(state, NULL);
             row != NULL; row = state_volume_next(state, row)) {
            watch_send_volume(watch, WEFT__V1__CHANGE_TYPE__ADDED, row);
        }
        watch_send_volume(watch, WEFT__V1__CHANGE_TYPE__SYNCED, NULL);
        return;
    case API_WATCH_EVENTS:
        watch_send_history(watch, history_count);
        return;
    }
}

void
api_watch_start(struct rpc_call *call, const struct api_watch_options *options)
{
    struct api *api = api_of(call);

    if (list_count(&api->watches) >= WATCHES_MAX) {
        api_filter_free(options->filter);
        rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES",
                           "%u watches are open on this host; try another",
                           WATCHES_MAX);
        return;
    }
    struct api_watch *watch = calloc(1, sizeof *watch);
    CHECK(watch != NULL);
    watch->api = api;
    watch->call = call;
    watch->kind = options->kind;
    watch->full = options->full;
    watch->filter = options->filter;
    if (options->project != NULL) {
        (void)snprintf(watch->project, sizeof watch->project, "%s",
                       options->project);
    }
    if (options->volume != NULL) {
        (void)snprintf(watch->volume, sizeof watch->volume, "%s",
                       options->volume);
    }
    watch->events.cancelled = watch_cancelled;
    list_push_back(&api->watches, &watch->node);
    rpc_call_set_events(call, &watch->events);
    watch_send_present(watch, options->history_count);
    api_watch_batch_end(api);
}

void
api_watch_changed(struct api *api, const struct state_change *change)
{
    const struct state_row *row =
        change->new_row != NULL ? change->new_row : change->old_row;

    LIST_FOREACH (node, &api->watches) {
        struct api_watch *watch = container_of(node, struct api_watch, node);
        if (watch->kind == API_WATCH_VOLUMES) {
            watch_volume_change(watch, change);
        } else if (watch->kind == API_WATCH_EVENTS &&
                   change->table == STATE_TABLE_EVENT &&
                   change->kind == STATE_CHANGE_INSERT) {
            watch_send_event(watch, state_event_from(row));
        } else if (watch->kind == API_WATCH_HOSTS &&
                   change->table == STATE_TABLE_HOST) {
            watch_send_host(watch,
                            change->kind == STATE_CHANGE_INSERT
                                ? WEFT__V1__CHANGE_TYPE__ADDED
                            : change->kind == STATE_CHANGE_DELETE
                                ? WEFT__V1__CHANGE_TYPE__REMOVED
                                : WEFT__V1__CHANGE_TYPE__MODIFIED,
                            state_host_from(row));
        } else if (watch->kind == API_WATCH_HOSTS &&
                   change->table == STATE_TABLE_HOST_STATUS &&
                   change->new_row != NULL) {
            const struct state_host *host =
                state_host_find_by_name(api->state,
                                        state_host_status_from(row)->host);
            if (host != NULL) {
                watch_send_host(watch, WEFT__V1__CHANGE_TYPE__MODIFIED, host);
            }
        }
    }
}

void
api_watch_batch_end(struct api *api)
{
    LIST_FOREACH (node, &api->watches) {
        struct api_watch *watch = container_of(node, struct api_watch, node);
        for (uint32_t i = 0; i < watch->dirty_count; i++) {
            const struct state_volume *row =
                state_volume_get(api->state, &watch->dirty[i]);
            if (row != NULL) {
                watch_send_volume(watch, WEFT__V1__CHANGE_TYPE__MODIFIED, row);
            }
        }
        watch->dirty_count = 0;
        if (watch->is_broken) {
            rpc_call_fail_text(watch->call, RPC_RESOURCE_EXHAUSTED,
                               "WATCH_TOO_SLOW",
                               "the client does not keep up; start the watch "
                               "again");
            watch_end(watch);
        }
    }
}

void
api_watch_stop_all(struct api *api)
{
    LIST_FOREACH (node, &api->watches) {
        struct api_watch *watch = container_of(node, struct api_watch, node);
        rpc_call_fail_text(watch->call, RPC_UNAVAILABLE, "STOPPING",
                           "this blockd stops; watch on another host");
        watch_end(watch);
    }
}
