/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/api/api_internal.h"

Weft__V1__Event *
api_event_message(struct reply_arena *arena, const struct state_event *row)
{
    Weft__V1__Event *event = reply_alloc(arena, sizeof *event);
    char text[UUID_TEXT_SIZE];

    uuid_format(&row->row.uuid, text);
    weft__v1__event__init(event);
    /* Sorts by time; the UUID tells events of one millisecond apart. */
    event->name = reply_text(arena, "events/%015llu-%.8s",
                             (unsigned long long)row->time_ms, text);
    event->time = api_time(arena, row->time_ms);
    switch (row->severity) {
    case STATE_EVENT_SEVERITY_INFO:
        event->severity = WEFT__V1__EVENT__SEVERITY__INFO;
        break;
    case STATE_EVENT_SEVERITY_WARNING:
        event->severity = WEFT__V1__EVENT__SEVERITY__WARNING;
        break;
    case STATE_EVENT_SEVERITY_ERROR:
        event->severity = WEFT__V1__EVENT__SEVERITY__ERROR;
        break;
    case STATE_EVENT_SEVERITY_UNKNOWN:
        break;
    }
    event->reason = reply_text(arena, "%s", row->kind);
    event->message = reply_text(arena, "%s", row->text);
    event->subject = reply_text(arena, "%s", row->object);
    event->host = reply_text(arena, "hosts/%s", row->host);
    return event;
}

static void
event_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListEventsRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    Weft__V1__ListEventsResponse reply = WEFT__V1__LIST_EVENTS_RESPONSE__INIT;
    struct api_list list;

    if (!api_list_begin(&list, call, &weft__v1__event__descriptor, "",
                        request->page_size, request->page_token,
                        request->filter)) {
        return;
    }
    list.descending = true; /* The newest first. */
    for (const struct state_event *row = state_event_next(state, NULL);
         row != NULL; row = state_event_next(state, row)) {
        api_list_add(&list, &api_event_message(&list.arena, row)->base, NULL);
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.events,
                  &reply.n_events, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

static void
event_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__WatchEventsRequest *request = (const void *)message;
    struct api_watch_options options = { .kind = API_WATCH_EVENTS };

    options.history_count =
        request->history_count > 0 ? (uint32_t)request->history_count : 0;
    if (api_filter_parse(call, &weft__v1__event__descriptor, request->filter,
                         &options.filter)) {
        api_watch_start(call, &options);
    }
}

const struct rpc_method api_event_methods[] = {
    { "ListEvents", RPC_UNARY, event_list },
    { "WatchEvents", RPC_SERVER_STREAM, event_watch },
};
const size_t api_event_method_count =
    sizeof api_event_methods / sizeof api_event_methods[0];
