/* SPDX-License-Identifier: Apache-2.0 */

/* Operations: shown, listed, waited for.  Whether one has ended is said by
 * operation_judge() (blockd/cluster/operation.h). */

#include <stdlib.h>
#include <string.h>

#include "blockd/api/api_internal.h"
#include "blockd/cluster/operation.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

#define WAIT_DEFAULT_NS (60 * NS_PER_S)
#define WAITS_MAX 1024u
/* Another host may have committed an operation that is still on its way here
 * from the database. */
#define WAIT_APPEAR_NS NS_PER_S

/* When it was found to have ended.  The manager may not have written that down
 * yet: then it was just now. */
static uint64_t
operation_end_ms(const struct state_operation *row)
{
    return row->state == STATE_OPERATION_STATE_DONE ||
                   row->state == STATE_OPERATION_STATE_FAILED
               ? row->update_time_ms
               : cluster_wall_ms();
}

Weft__V1__Operation *
api_operation_message(struct reply_arena *arena, struct state *state,
                      const struct state_operation *row)
{
    struct operation_verdict verdict = operation_judge(state, row);
    Weft__V1__Operation *operation = reply_alloc(arena, sizeof *operation);

    weft__v1__operation__init(operation);
    operation->name =
        reply_text(arena, "operations/%s", reply_uuid(arena, &row->row.uuid));
    operation->method = reply_text(arena, "%s", row->kind);
    operation->target = reply_text(arena, "%s", row->target);
    operation->create_time = api_time(arena, row->create_time_ms);
    operation->done = verdict.is_done;
    if (verdict.is_done) {
        operation->end_time = api_time(arena, operation_end_ms(row));
    }
    if (verdict.has_failed) {
        Google__Rpc__Status *status = reply_alloc(arena, sizeof *status);
        google__rpc__status__init(status);
        status->code = (int32_t)RPC_FAILED_PRECONDITION;
        status->message = reply_text(arena, "%s", verdict.text);
        operation->error = status;
    } else if (verdict.text != NULL) {
        operation->message = reply_text(arena, "%s", verdict.text);
    }
    return operation;
}

/* ---- Get, list ---- */

static const struct state_operation *
operation_take(struct rpc_call *call, const char *name)
{
    char id[API_NAME_PART_SIZE];
    const struct state_operation *row = NULL;
    struct weft_uuid uuid;

    if (!api_take_name(call, "name", name, "operations", id)) {
        return NULL;
    }
    if (uuid_parse(id, &uuid) == 0) {
        row = state_operation_get(api_of(call)->state, &uuid);
    }
    if (row == NULL) {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "OPERATION_NOT_FOUND",
                           "there is no operation \"%s\"", name);
    }
    return row;
}

static void
operation_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__GetOperationRequest *request = (const void *)message;
    const struct state_operation *row = operation_take(call, request->name);
    struct reply_arena arena = { NULL };

    if (row != NULL) {
        rpc_call_reply(
            call,
            &api_operation_message(&arena, api_of(call)->state, row)->base);
        reply_free(&arena);
    }
}

/* Sorts by time. */
static const char *
operation_key(struct reply_arena *arena, const struct state_operation *row)
{
    return reply_text(arena, "%016llx-%s",
                      (unsigned long long)row->create_time_ms,
                      reply_uuid(arena, &row->row.uuid));
}

static void
operation_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__ListOperationsRequest *request = (const void *)message;
    struct state *state = api_of(call)->state;
    Weft__V1__ListOperationsResponse reply =
        WEFT__V1__LIST_OPERATIONS_RESPONSE__INIT;
    struct api_list list;

    if (!api_list_begin(&list, call, &weft__v1__operation__descriptor, "",
                        request->page_size, request->page_token,
                        request->filter)) {
        return;
    }
    list.descending = true; /* The newest first. */
    for (const struct state_operation *row = state_operation_next(state, NULL);
         row != NULL; row = state_operation_next(state, row)) {
        api_list_add(&list,
                     &api_operation_message(&list.arena, state, row)->base,
                     operation_key(&list.arena, row));
    }
    api_list_page(&list, (ProtobufCMessage ***)(void *)&reply.operations,
                  &reply.n_operations, &reply.next_page_token);
    rpc_call_reply(call, &reply.base);
    api_list_end(&list);
}

/* ---- Wait ---- */

struct api_wait {
    struct api *api;
    struct list node;
    struct rpc_call *call;
    struct rpc_call_events events;
    struct weft_uuid operation;
    uint64_t deadline_ns;
    uint64_t appear_ns; /* Until then it may be unknown. */
};

static void
wait_end(struct api_wait *wait)
{
    list_remove(&wait->node);
    free(wait);
}

static void
wait_cancelled(struct rpc_call_events *events)
{
    struct api_wait *wait = container_of(events, struct api_wait, events);

    rpc_call_fail_text(wait->call, RPC_CANCELLED, NULL, "cancelled");
    wait_end(wait);
}

/* Answers if it is done, or late. */
static void
wait_check(struct api_wait *wait)
{
    struct state *state = wait->api->state;
    const struct state_operation *row =
        state_operation_get(state, &wait->operation);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        if (loop_now_ns() >= wait->appear_ns) {
            char id[UUID_TEXT_SIZE];
            uuid_format(&wait->operation, id);
            rpc_call_fail_text(wait->call, RPC_NOT_FOUND, "OPERATION_NOT_FOUND",
                               "there is no operation \"operations/%s\"", id);
            wait_end(wait);
        }
        return;
    }
    wait->appear_ns = 0;
    if (operation_judge(state, row).is_done ||
        loop_now_ns() >= wait->deadline_ns) {
        rpc_call_reply(wait->call,
                       &api_operation_message(&arena, state, row)->base);
        reply_free(&arena);
        wait_end(wait);
    }
}

static void
operation_wait(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Weft__V1__WaitOperationRequest *request = (const void *)message;
    struct api *api = api_of(call);
    uint64_t timeout_ns = WAIT_DEFAULT_NS;
    char id[API_NAME_PART_SIZE];
    struct weft_uuid operation;

    if (!api_take_name(call, "name", request->name, "operations", id) ||
        api_refuse_if_stopping(call)) {
        return;
    }
    if (uuid_parse(id, &operation) != 0) {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "OPERATION_NOT_FOUND",
                           "there is no operation \"%s\"", request->name);
        return;
    }
    if (list_count(&api->waits) >= WAITS_MAX) {
        rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_WAITS",
                           "%u clients wait for operations; try again later",
                           WAITS_MAX);
        return;
    }
    if (request->timeout != NULL && request->timeout->seconds >= 0 &&
        request->timeout->seconds < 3600 && request->timeout->nanos >= 0) {
        timeout_ns = (uint64_t)request->timeout->seconds * NS_PER_S +
                     (uint64_t)request->timeout->nanos;
    }
    struct api_wait *wait = calloc(1, sizeof *wait);
    CHECK(wait != NULL);
    wait->api = api;
    wait->call = call;
    wait->operation = operation;
    wait->deadline_ns = loop_now_ns() + timeout_ns;
    wait->appear_ns = loop_now_ns() + WAIT_APPEAR_NS;
    wait->events.cancelled = wait_cancelled;
    list_push_back(&api->waits, &wait->node);
    rpc_call_set_events(call, &wait->events);
    wait_check(wait);
}

void
api_wait_check_all(struct api *api)
{
    LIST_FOREACH (node, &api->waits) {
        wait_check(container_of(node, struct api_wait, node));
    }
}

void
api_wait_stop_all(struct api *api)
{
    LIST_FOREACH (node, &api->waits) {
        struct api_wait *wait = container_of(node, struct api_wait, node);
        rpc_call_fail_text(wait->call, RPC_UNAVAILABLE, "STOPPING",
                           "this blockd stops; ask another host");
        wait_end(wait);
    }
}

const struct rpc_method api_operation_methods[] = {
    { "GetOperation", RPC_UNARY, operation_get },
    { "ListOperations", RPC_UNARY, operation_list },
    { "WaitOperation", RPC_UNARY, operation_wait },
};
const size_t api_operation_method_count =
    sizeof api_operation_methods / sizeof api_operation_methods[0];
