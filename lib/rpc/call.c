/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one call at the server: see call.h for its states.  What goes out
 * is in send.c. */

#include "lib/rpc/call.h"

#include <errno.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/rpc/wire.h"

static rpc_tag_fn call_on_request;
static rpc_tag_fn call_on_close;
static rpc_tag_fn call_on_receive;
static rpc_work_fn call_handle;
static rpc_work_fn call_tell_cancelled;
static rpc_work_fn call_tell_writable;

int
rpc_call_new(struct rpc_server *server)
{
    struct rpc_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return -ENOMEM;
    }
    call->server = server;
    call->state = RPC_CALL_WAITING;
    call->references = 1; /* request_tag */
    call->request_tag.run = call_on_request;
    call->close_tag.run = call_on_close;
    call->receive_tag.run = call_on_receive;
    call->send_tag.run = rpc_call_on_sent;
    call->handle_work.run = call_handle;
    call->cancel_work.run = call_tell_cancelled;
    call->writable_work.run = call_tell_writable;
    call->text = grpc_empty_slice();
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->idle, NULL);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    list_init(&call->node);

    rpc_server_add_call(server, call);
    grpc_call_error error =
        grpc_server_request_call(server->server, &call->call, &call->details,
                                 &call->metadata, server->queue, server->queue,
                                 &call->request_tag);
    /* Only wrong usage makes it fail. */
    CHECK(error == GRPC_CALL_OK);
    return 0;
}

static void
call_free(struct rpc_call *call)
{
    struct rpc_server *server = call->server;

    rpc_server_forget_call(server, call);
    while (call->message_count > 0) {
        grpc_byte_buffer_destroy(rpc_call_pop_message(call));
    }
    if (call->received != NULL) {
        grpc_byte_buffer_destroy(call->received);
    }
    if (call->request != NULL) {
        protobuf_c_message_free_unpacked(call->request, NULL);
    }
    if (call->has_details) {
        grpc_slice_unref(call->details_entry.key);
        grpc_slice_unref(call->details_entry.value);
    }
    grpc_slice_unref(call->text);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    if (call->call != NULL) {
        grpc_call_unref(call->call);
    }
    pthread_mutex_destroy(&call->lock);
    pthread_cond_destroy(&call->idle);
    free(call);
    rpc_server_call_freed(server);
}

void
rpc_call_unref(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    CHECK(call->references > 0);
    bool is_last = --call->references == 0;
    pthread_mutex_unlock(&call->lock);
    if (is_last) {
        call_free(call);
    }
}

/* ---- Callbacks ---- */

/* Hands 'work' to the executor of the service; the lock is held. */
static void
call_post(struct rpc_call *call, struct rpc_work *work)
{
    struct rpc_executor *executor = call->route->service->executor;

    call->references++;
    if (executor == NULL) {
        executor = &call->server->own.executor;
    }
    executor->post(executor, work);
}

/* Waits until no callback is under way, and begins one; false if the call is
 * finished. */
static bool
call_enter(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    while (call->is_in_callback) {
        pthread_cond_wait(&call->idle, &call->lock);
    }
    bool is_live = call->state == RPC_CALL_HANDLED;
    if (is_live) {
        call->is_in_callback = true;
        call->callback_thread = pthread_self();
    }
    pthread_mutex_unlock(&call->lock);
    return is_live;
}

static void
call_leave(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    call->is_in_callback = false;
    pthread_cond_broadcast(&call->idle);
    pthread_mutex_unlock(&call->lock);
}

static void
call_handle(struct rpc_work *work)
{
    struct rpc_call *call = container_of(work, struct rpc_call, handle_work);

    if (call_enter(call)) {
        rpc_gate_fn *gate = call->route->service->gate;
        if (gate == NULL || gate(call)) {
            call->route->method->handle(call, call->request);
        }
        call_leave(call);
    }
    rpc_call_unref(call);
}

static void
call_tell_cancelled(struct rpc_work *work)
{
    struct rpc_call *call = container_of(work, struct rpc_call, cancel_work);

    if (call_enter(call)) {
        struct rpc_call_events *events = call->events;
        if (events->cancelled != NULL) {
            events->cancelled(events);
        }
        call_leave(call);
    }
    rpc_call_unref(call);
}

static void
call_tell_writable(struct rpc_work *work)
{
    struct rpc_call *call = container_of(work, struct rpc_call, writable_work);

    if (call_enter(call)) {
        struct rpc_call_events *events = call->events;
        if (events != NULL && events->writable != NULL) {
            events->writable(events);
        }
        call_leave(call);
    }
    rpc_call_unref(call);
}

/* Posts the news of a cancellation, once somebody wants to hear it; the lock is
 * held. */
static void
call_post_cancelled(struct rpc_call *call)
{
    if (call->is_cancelled && call->events != NULL && !call->is_told &&
        call->state == RPC_CALL_HANDLED) {
        call->is_told = true;
        call_post(call, &call->cancel_work);
    }
}

void
rpc_call_post_writable(struct rpc_call *call)
{
    if (call->state == RPC_CALL_HANDLED) {
        call_post(call, &call->writable_work);
    }
}

void
rpc_call_begin_finish(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    while (call->is_in_callback &&
           !pthread_equal(call->callback_thread, pthread_self())) {
        pthread_cond_wait(&call->idle, &call->lock);
    }
    CHECK(call->state != RPC_CALL_FINISHED); /* Finished twice. */
    call->state = RPC_CALL_FINISHED;
    call->events = NULL;
}

/* ---- Arrival ---- */

static uint64_t
call_deadline_ns(gpr_timespec deadline)
{
    deadline = gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC);
    if (deadline.tv_sec == INT64_MAX) {
        return UINT64_MAX;
    }
    if (deadline.tv_sec < 0) {
        return 0;
    }
    return (uint64_t)deadline.tv_sec * NS_PER_S + (uint64_t)deadline.tv_nsec;
}

/* Finds out who calls; false if that cannot be told. */
static bool
call_fill_peer(struct rpc_call *call)
{
    char *text = grpc_call_get_peer(call->call);
    struct rpc_peer *peer = &call->peer;
    uint64_t number;
    bool is_known = true;

    peer->transport = RPC_TRANSPORT_TCP;
    snprintf(peer->address, sizeof peer->address, "%s", text);
    if (strncmp(text, "ipv4:", 5) != 0 && strncmp(text, "ipv6:", 5) != 0) {
        is_known = strncmp(text, "fd:", 3) == 0 &&
                   units_parse_u64(text + 3, &number) == 0 &&
                   number <= INT32_MAX &&
                   unix_numbers_find(&call->server->numbers, (int)number, peer);
    }
    gpr_free(text);
    return is_known;
}

/* RPC_OK if the call may go on; else 'error' says why not. */
static enum rpc_code
call_admit(struct rpc_call *call, const char *path, struct rpc_error *error)
{
    struct rpc_authorizer *authorizer = call->server->options.authorizer;

    if (!rpc_server_call_opened(call->server, call)) {
        rpc_error_set(error, RPC_RESOURCE_EXHAUSTED, "TOO_MANY_CALLS",
                      "the server has too many calls under way, or is about "
                      "to stop; try again later");
        return error->code;
    }
    if (!call_fill_peer(call)) {
        rpc_error_set(error, RPC_UNAUTHENTICATED, "UNKNOWN_PEER",
                      "cannot tell who calls from %s", call->peer.address);
        return error->code;
    }
    if (authorizer != NULL) {
        enum rpc_code code =
            authorizer->authorize(authorizer, &call->peer, path);
        if (code != RPC_OK) {
            rpc_error_set(error, code, "DENIED", "%s may not call %s",
                          call->peer.address, path);
            return code;
        }
    }
    if (call->route == NULL || call->route->method == NULL ||
        call->route->method->handle == NULL) {
        rpc_error_set(error, RPC_UNIMPLEMENTED, "NO_SUCH_METHOD",
                      "there is no method %s", path);
        return error->code;
    }
    return RPC_OK;
}

static void
call_start_close(struct rpc_call *call)
{
    grpc_op op = {
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
        .data.recv_close_on_server.cancelled = &call->was_cancelled,
    };
    call->references++;
    grpc_call_error error =
        grpc_call_start_batch(call->call, &op, 1, &call->close_tag, NULL);
    CHECK(error == GRPC_CALL_OK);
}

/* Begins to receive a message; the lock is held, or nobody else knows the
 * call. */
static void
call_start_receive(struct rpc_call *call)
{
    grpc_op op = {
        .op = GRPC_OP_RECV_MESSAGE,
        .data.recv_message.recv_message = &call->received,
    };
    call->references++;
    grpc_call_error error =
        grpc_call_start_batch(call->call, &op, 1, &call->receive_tag, NULL);
    CHECK(error == GRPC_CALL_OK);
}

static void
call_on_request(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, request_tag);
    struct rpc_error error;

    if (!is_ok) { /* The server is shut down. */
        rpc_call_unref(call);
        return;
    }
    char path[256];
    size_t size = GRPC_SLICE_LENGTH(call->details.method);
    snprintf(path, sizeof path, "%.*s", size < 255 ? (int)size : 255,
             (const char *)GRPC_SLICE_START_PTR(call->details.method));

    pthread_mutex_lock(&call->lock);
    call->state = RPC_CALL_RECEIVING;
    call->deadline_ns = call_deadline_ns(call->details.deadline);
    call->route = rpc_server_find_route(call->server, path, size);
    call_start_close(call);
    pthread_mutex_unlock(&call->lock);

    /* The reference of request_tag becomes that of the handler. */
    if (call_admit(call, path, &error) != RPC_OK) {
        rpc_call_fail(call, &error);
        return;
    }
    pthread_mutex_lock(&call->lock);
    call_start_receive(call);
    pthread_mutex_unlock(&call->lock);
}

static void
call_on_close(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, close_tag);

    (void)is_ok; /* It always is. */
    pthread_mutex_lock(&call->lock);
    call->is_closed = true;
    if (call->was_cancelled) {
        call->is_cancelled = true;
        call_post_cancelled(call);
    }
    pthread_mutex_unlock(&call->lock);
    rpc_call_unref(call);
}

/* Unpacks what was received; NULL, with 'error' set, if that fails. */
static ProtobufCMessage *
call_unpack(struct rpc_call *call, struct rpc_error *error)
{
    const ProtobufCMessageDescriptor *input = call->route->input;
    grpc_byte_buffer_reader reader;
    const char *field = NULL;
    ProtobufCMessage *message = NULL;

    if (!grpc_byte_buffer_reader_init(&reader, call->received)) {
        rpc_error_set(error, RPC_INTERNAL, NULL, "cannot read the request");
        return NULL;
    }
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    const uint8_t *data = GRPC_SLICE_START_PTR(slice);
    size_t size = GRPC_SLICE_LENGTH(slice);

    if (rpc_wire_check(input, data, size, RPC_WIRE_FIELD_MAX, &field) < 0) {
        rpc_error_set(error, RPC_INVALID_ARGUMENT, "MALFORMED_REQUEST",
                      "the request is no well-formed %s%s%s", input->name,
                      field != NULL ? ": look at field " : "",
                      field != NULL ? field : "");
    } else {
        message = protobuf_c_message_unpack(input, NULL, size, data);
        if (message == NULL) {
            rpc_error_set(error, RPC_INVALID_ARGUMENT, "MALFORMED_REQUEST",
                          "the request is no well-formed %s", input->name);
        }
    }
    grpc_slice_unref(slice);
    return message;
}

/* A request is there; its bytes are in call->received, or there are none
 * because the client closed its side or is gone. */
static void
call_on_receive(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, receive_tag);
    bool has_bytes = is_ok && call->received != NULL;
    struct rpc_error error;

    pthread_mutex_lock(&call->lock);
    bool is_finished = call->state == RPC_CALL_FINISHED;
    pthread_mutex_unlock(&call->lock);
    if (is_finished) { /* Only with RPC_BIDI: nobody wants it any more. */
        rpc_call_unref(call);
        return;
    }
    if (call->request != NULL) { /* Only with RPC_BIDI. */
        protobuf_c_message_free_unpacked(call->request, NULL);
        call->request = NULL;
    }
    if (has_bytes) {
        call->request = call_unpack(call, &error);
        grpc_byte_buffer_destroy(call->received);
        call->received = NULL;
    } else {
        rpc_error_set(&error, RPC_INVALID_ARGUMENT, "MALFORMED_REQUEST",
                      "the call came without a request");
    }
    pthread_mutex_lock(&call->lock);
    /* The end of the requests is told only to who had one. */
    bool is_end = !has_bytes && call->state == RPC_CALL_HANDLED;
    bool is_good = call->request != NULL || is_end;
    is_finished = call->state == RPC_CALL_FINISHED;
    if (is_good && !is_finished) {
        call->state = RPC_CALL_HANDLED;
        call_post(call, &call->handle_work);
    }
    pthread_mutex_unlock(&call->lock);
    if (!is_good && !is_finished) {
        rpc_call_fail(call, &error);
    }
    rpc_call_unref(call);
}

void
rpc_call_receive(struct rpc_call *call)
{
    CHECK(call->route->method->kind == RPC_BIDI);
    pthread_mutex_lock(&call->lock);
    call_start_receive(call);
    pthread_mutex_unlock(&call->lock);
}

void
rpc_call_stop(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool is_stream = (call->state == RPC_CALL_RECEIVING ||
                      call->state == RPC_CALL_HANDLED) &&
                     call->route != NULL && call->route->method != NULL &&
                     call->route->method->kind != RPC_UNARY;
    if (is_stream) {
        call->is_cancelled = true;
        call_post_cancelled(call);
    }
    pthread_mutex_unlock(&call->lock);
}

/* ---- What handlers ask ---- */

struct rpc_service *
rpc_call_service(const struct rpc_call *call)
{
    return call->route->service;
}

const char *
rpc_call_method(const struct rpc_call *call)
{
    return call->route->method->name;
}

const struct rpc_peer *
rpc_call_peer(const struct rpc_call *call)
{
    return &call->peer;
}

uint64_t
rpc_call_deadline_ns(const struct rpc_call *call)
{
    return call->deadline_ns;
}

bool
rpc_call_is_cancelled(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool is_cancelled = call->is_cancelled;
    pthread_mutex_unlock(&call->lock);
    return is_cancelled;
}

void
rpc_call_set_events(struct rpc_call *call, struct rpc_call_events *events)
{
    pthread_mutex_lock(&call->lock);
    CHECK(call->state == RPC_CALL_HANDLED);
    call->events = events;
    call_post_cancelled(call);
    pthread_mutex_unlock(&call->lock);
}
