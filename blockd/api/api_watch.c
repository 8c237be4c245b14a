/* SPDX-License-Identifier: Apache-2.0 */

/* Watch streams: the present state, SYNCED, then every change.
 *
 * What a client has yet to hear of waits here as a list of items, each the UUID
 * of a row; the message is made from the row when the stream has room for it.
 * So a slow client skips versions, never resources, and costs 32 bytes an item.
 * One that lags by WATCH_ITEMS_MAX changes is cut off with RESOURCE_EXHAUSTED
 * and starts again (proto/weft/v1/common.proto). */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "lib/base/container_of.h"

#define WATCHES_MAX 256u
/* Of changes; the present state may be larger. */
#define WATCH_ITEMS_MAX 65536u

enum watch_what {
    WATCH_NOTHING, /* Taken back. */
    WATCH_ADDED,
    WATCH_MODIFIED,
    WATCH_REMOVED,
    WATCH_SYNCED,
};

/* The last form of what is gone. */
struct watch_gone {
    struct reply_arena arena;
    ProtobufCMessage *message;
};

struct watch_item {
    enum watch_what what;
    struct weft_uuid uuid;
    struct watch_gone *gone; /* REMOVED: owned. */
};

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
    struct watch_item *items;
    size_t first, count, capacity; /* first..count are to be sent. */
    bool is_broken;                /* Too slow: ended by the next pump. */
};

/* ---- Items ---- */

static void
watch_item_done(struct watch_item *item)
{
    if (item->gone != NULL) {
        reply_free(&item->gone->arena);
        free(item->gone);
    }
    *item = (struct watch_item){ .what = WATCH_NOTHING };
}

static void
watch_end(struct api_watch *watch)
{
    list_remove(&watch->node);
    for (size_t i = watch->first; i < watch->count; i++) {
        watch_item_done(&watch->items[i]);
    }
    free(watch->items);
    api_filter_free(watch->filter);
    free(watch);
}

static void
watch_push(struct api_watch *watch, struct watch_item item)
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
    watch->items[watch->count++] = item;
}

static struct watch_item *
watch_find(struct api_watch *watch, const struct weft_uuid *uuid)
{
    for (size_t i = watch->first; i < watch->count; i++) {
        struct watch_item *item = &watch->items[i];
        if ((item->what == WATCH_ADDED || item->what == WATCH_MODIFIED) &&
            uuid_equal(&item->uuid, uuid)) {
            return item;
        }
    }
    return NULL;
}

/* A change since the watch began; 'gone' passes to it. */
static void
watch_add(struct api_watch *watch, enum watch_what what,
          const struct weft_uuid *uuid, struct watch_gone *gone)
{
    struct watch_item item = { .what = what, .uuid = *uuid, .gone = gone };
    struct watch_item *old = watch_find(watch, uuid);

    if (old != NULL && what != WATCH_REMOVED) {
        return; /* It will be told as it then is. */
    }
    if (old != NULL) {
        bool is_known = old->what != WATCH_ADDED;
        watch_item_done(old);
        if (!is_known) {
            watch_item_done(&item); /* Came and went unheard. */
            return;
        }
    }
    if (watch->count - watch->first >= WATCH_ITEMS_MAX) {
        watch->is_broken = true;
        watch_item_done(&item);
        return;
    }
    watch_push(watch, item);
}

/* ---- Messages ---- */

static Weft__V1__ChangeType
watch_change_type(enum watch_what what)
{
    return what == WATCH_ADDED      ? WEFT__V1__CHANGE_TYPE__ADDED
           : what == WATCH_MODIFIED ? WEFT__V1__CHANGE_TYPE__MODIFIED
           : what == WATCH_REMOVED  ? WEFT__V1__CHANGE_TYPE__REMOVED
                                    : WEFT__V1__CHANGE_TYPE__SYNCED;
}

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

/* These return NULL for what the client does not want. */

static ProtobufCMessage *
watch_host_message(struct api_watch *watch, struct reply_arena *arena,
                   enum watch_what what, const struct state_row *row)
{
    Weft__V1__WatchHostsResponse *reply = reply_alloc(arena, sizeof *reply);

    weft__v1__watch_hosts_response__init(reply);
    reply->type = watch_change_type(what);
    if (row != NULL) {
        reply->host = api_host_message(arena, watch->api, state_host_from(row));
        if (!api_filter_matches(watch->filter, &reply->host->base)) {
            return NULL;
        }
    }
    return &reply->base;
}

static ProtobufCMessage *
watch_volume_message(struct api_watch *watch, struct reply_arena *arena,
                     enum watch_what what, const struct state_row *row)
{
    Weft__V1__WatchVolumesResponse *reply = reply_alloc(arena, sizeof *reply);

    weft__v1__watch_volumes_response__init(reply);
    reply->type = watch_change_type(what);
    if (row != NULL) {
        const struct state_volume *volume = state_volume_from(row);
        if (!watch_wants_volume(watch, volume)) {
            return NULL;
        }
        reply->volume =
            api_volume_message(arena, watch->api->state, volume, watch->full);
        if (!api_filter_matches(watch->filter, &reply->volume->base)) {
            return NULL;
        }
    }
    return &reply->base;
}

static ProtobufCMessage *
watch_message(struct api_watch *watch, struct reply_arena *arena,
              enum watch_what what, const struct state_row *row)
{
    switch (watch->kind) {
    case API_WATCH_HOSTS:
        return watch_host_message(watch, arena, what, row);
    case API_WATCH_VOLUMES:
        return watch_volume_message(watch, arena, what, row);
    case API_WATCH_EVENTS: {
        Weft__V1__Event *event =
            api_event_message(arena, state_event_from(row));
        return api_filter_matches(watch->filter, &event->base) ? &event->base
                                                               : NULL;
    }
    }
    return NULL;
}

static enum state_table
watch_table(const struct api_watch *watch)
{
    switch (watch->kind) {
    case API_WATCH_HOSTS:
        return STATE_TABLE_HOST;
    case API_WATCH_VOLUMES:
        return STATE_TABLE_VOLUME;
    case API_WATCH_EVENTS:
        return STATE_TABLE_EVENT;
    }
    return STATE_TABLE_EVENT;
}

/* ---- Out ---- */

/* 0: sent, or nothing to send; else what rpc_stream_send() says. */
static int
watch_send(struct api_watch *watch, const struct watch_item *item)
{
    struct reply_arena arena = { NULL };
    ProtobufCMessage *message = NULL;
    const struct state_row *row = NULL;

    if (item->what == WATCH_REMOVED) {
        return rpc_stream_send(watch->call, item->gone->message);
    }
    if (item->what != WATCH_SYNCED) {
        row = item->what == WATCH_NOTHING
                  ? NULL
                  : state_row_get(watch->api->state, watch_table(watch),
                                  &item->uuid);
        if (row == NULL) {
            return 0;
        }
    }
    message = watch_message(watch, &arena, item->what, row);
    int result = message != NULL ? rpc_stream_send(watch->call, message) : 0;
    reply_free(&arena);
    return result;
}

/* Sends what the stream has room for.  May end the watch. */
static void
watch_pump(struct api_watch *watch)
{
    while (watch->first < watch->count && !watch->is_broken) {
        struct watch_item *item = &watch->items[watch->first];
        if (watch_send(watch, item) != 0) {
            return; /* Full: writable() follows.  Gone: cancelled() does. */
        }
        watch_item_done(item);
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
    watch_pump(container_of(events, struct api_watch, events));
}

static void
watch_cancelled(struct rpc_call_events *events)
{
    struct api_watch *watch = container_of(events, struct api_watch, events);

    rpc_call_fail_text(watch->call, RPC_CANCELLED, NULL, "cancelled");
    watch_end(watch);
}

/* ---- The beginning ---- */

static int
watch_compare_events(const void *a, const void *b)
{
    const struct state_event *const *left = a;
    const struct state_event *const *right = b;

    return ((*left)->time_ms > (*right)->time_ms) -
           ((*left)->time_ms < (*right)->time_ms);
}

static void
watch_add_history(struct api_watch *watch, uint32_t wanted)
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
        watch_push(watch, (struct watch_item){ .what = WATCH_ADDED,
                                               .uuid = rows[i]->row.uuid });
    }
    free(rows);
}

static void
watch_add_present(struct api_watch *watch)
{
    struct state *state = watch->api->state;
    enum state_table table = watch_table(watch);

    for (const struct state_row *row = state_row_next(state, table, NULL);
         row != NULL; row = state_row_next(state, table, row)) {
        watch_push(watch, (struct watch_item){ .what = WATCH_ADDED,
                                               .uuid = row->uuid });
    }
    watch_push(watch, (struct watch_item){ .what = WATCH_SYNCED });
}

void
api_watch_start(struct rpc_call *call, const struct api_watch_options *options)
{
    struct api *api = api_of(call);

    if (api_refuse_if_stopping(call)) {
        api_filter_free(options->filter);
        return;
    }
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
    watch->events.writable = watch_writable;
    list_push_back(&api->watches, &watch->node);
    rpc_call_set_events(call, &watch->events);
    if (watch->kind == API_WATCH_EVENTS) {
        watch_add_history(watch, options->history_count);
    } else {
        watch_add_present(watch);
    }
    watch_pump(watch);
}

/* ---- Changes ---- */

/* A row of the watched table itself. */
static void
watch_own_change(struct api_watch *watch, const struct state_change *change)
{
    if (change->kind == STATE_CHANGE_INSERT) {
        watch_add(watch, WATCH_ADDED, &change->new_row->uuid, NULL);
        return;
    }
    if (watch->kind == API_WATCH_EVENTS) {
        return; /* They never change; old ones go without a word. */
    }
    if (change->kind == STATE_CHANGE_UPDATE) {
        watch_add(watch, WATCH_MODIFIED, &change->new_row->uuid, NULL);
        return;
    }
    struct watch_gone *gone = calloc(1, sizeof *gone);
    CHECK(gone != NULL);
    gone->message =
        watch_message(watch, &gone->arena, WATCH_REMOVED, change->old_row);
    if (gone->message == NULL) {
        reply_free(&gone->arena);
        free(gone);
        return;
    }
    watch_add(watch, WATCH_REMOVED, &change->old_row->uuid, gone);
}

/* The host or volume that a row of another table tells of; NULL: none. */
static const struct state_row *
watch_subject(const struct api_watch *watch, const struct state_row *row)
{
    const struct state *state = watch->api->state;

    if (watch->kind == API_WATCH_HOSTS &&
        row->table == STATE_TABLE_HOST_STATUS) {
        const struct state_host *host =
            state_host_find_by_name(state, state_host_status_from(row)->host);
        return host != NULL ? &host->row : NULL;
    }
    if (watch->kind != API_WATCH_VOLUMES) {
        return NULL;
    }
    const struct weft_uuid *volume =
        row->table == STATE_TABLE_MIRROR ? &state_mirror_from(row)->volume
        : row->table == STATE_TABLE_ATTACHMENT
            ? &state_attachment_from(row)->volume
        : row->table == STATE_TABLE_ATTACHMENT_STATUS
            ? &state_attachment_status_from(row)->volume
            : NULL;
    return volume != NULL ? state_row_get(state, STATE_TABLE_VOLUME, volume)
                          : NULL;
}

void
api_watch_changed(struct api *api, const struct state_change *change)
{
    LIST_FOREACH (node, &api->watches) {
        struct api_watch *watch = container_of(node, struct api_watch, node);
        if (change->table == watch_table(watch)) {
            watch_own_change(watch, change);
            continue;
        }
        const struct state_row *subject =
            watch_subject(watch, change->new_row != NULL ? change->new_row
                                                         : change->old_row);
        if (subject != NULL) {
            watch_add(watch, WATCH_MODIFIED, &subject->uuid, NULL);
        }
    }
}

void
api_watch_batch_end(struct api *api)
{
    LIST_FOREACH (node, &api->watches) {
        watch_pump(container_of(node, struct api_watch, node));
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
