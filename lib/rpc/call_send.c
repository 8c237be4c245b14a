/* SPDX-License-Identifier: Apache-2.0 */
/* What a call sends: a queue of messages, then the status.
 *
 * gRPC takes one batch at a time.  call_pump() begins the next one when there
 * is none under way and there is something to send; rpc_call_on_sent() calls it
 * again.  The last message and the status go in one batch. */

#include "lib/rpc/call.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"

#define CALL_DETAILS_KEY "grpc-status-details-bin"
/* Initial metadata, a message, the status. */
#define CALL_OP_MAX 3

grpc_byte_buffer *
rpc_call_pop_message(struct rpc_call *call)
{
    CHECK(call->message_count > 0);
    grpc_byte_buffer *message = call->messages[call->message_first];
    call->message_first = (call->message_first + 1) % RPC_STREAM_QUEUE_COUNT;
    call->message_count--;
    call->message_bytes -= grpc_byte_buffer_length(message);
    return message;
}

static void
call_push_message(struct rpc_call *call, grpc_byte_buffer *message)
{
    CHECK(call->message_count < RPC_STREAM_QUEUE_COUNT);
    uint32_t index =
        (call->message_first + call->message_count) % RPC_STREAM_QUEUE_COUNT;
    call->messages[index] = message;
    call->message_count++;
    call->message_bytes += grpc_byte_buffer_length(message);
}

static void
call_fill_status(struct rpc_call *call, grpc_op *op)
{
    op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op->data.send_status_from_server.status = (grpc_status_code)call->code;
    op->data.send_status_from_server.status_details = &call->text;
    if (call->has_details) {
        op->data.send_status_from_server.trailing_metadata_count = 1;
        op->data.send_status_from_server.trailing_metadata =
            &call->details_entry;
    }
}

/* Begins the next batch, if one can; the lock is held. */
static void
call_pump(struct rpc_call *call)
{
    grpc_op ops[CALL_OP_MAX];
    size_t count = 0;
    grpc_byte_buffer *message = NULL;
    bool is_finished = call->state == RPC_CALL_FINISHED;

    if (call->is_sending || call->is_closed || call->is_status_sent) {
        return;
    }
    memset(ops, 0, sizeof ops);
    if (!call->is_started) {
        call->is_started = true;
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    }
    if (call->message_count > 0) {
        message = rpc_call_pop_message(call);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count].data.send_message.send_message = message;
        count++;
    }
    if (is_finished && call->message_count == 0) {
        call->is_status_sent = true;
        call_fill_status(call, &ops[count++]);
    }
    if (count > 0) {
        call->is_sending = true;
        call->references++;
        grpc_call_error error = grpc_call_start_batch(call->call, ops, count,
                                                      &call->send_tag, NULL);
        CHECK(error == GRPC_CALL_OK);
    }
    if (message != NULL) {
        grpc_byte_buffer_destroy(message); /* gRPC holds its own reference. */
    }
}

void
rpc_call_on_sent(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, send_tag);

    pthread_mutex_lock(&call->lock);
    call->is_sending = false;
    if (!is_ok) {
        call->is_closed = true; /* Nothing more can be sent. */
    }
    call_pump(call);
    if (call->wants_writable &&
        call->message_count <= RPC_STREAM_QUEUE_COUNT / 2 &&
        call->message_bytes <= RPC_STREAM_QUEUE_BYTES / 2) {
        call->wants_writable = false;
        rpc_call_post_writable(call);
    }
    pthread_mutex_unlock(&call->lock);
    rpc_call_unref(call);
}

/* NULL without memory. */
static grpc_byte_buffer *
call_pack(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    grpc_slice slice = grpc_slice_malloc(size);
    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

/* Releases the lock, with the handler's reference. */
static void
call_end_finish(struct rpc_call *call)
{
    call_pump(call);
    pthread_mutex_unlock(&call->lock);
    rpc_call_unref(call);
}

static void
call_set_status(struct rpc_call *call, const struct rpc_error *error)
{
    uint8_t *data;
    size_t size;

    call->code = error->code;
    call->text = grpc_slice_from_copied_string(error->text);
    if (rpc_error_encode(error, &data, &size) < 0) {
        return; /* The code and the text have to do. */
    }
    call->details_entry.key = grpc_slice_from_static_string(CALL_DETAILS_KEY);
    call->details_entry.value =
        grpc_slice_from_copied_buffer((const char *)data, size);
    call->has_details = true;
    free(data);
}

void
rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *reply)
{
    CHECK(call->route->method->kind == RPC_UNARY);
    grpc_byte_buffer *message = call_pack(reply);

    rpc_call_begin_finish(call);
    call_push_message(call, message);
    call->code = RPC_OK;
    call_end_finish(call);
}

void
rpc_call_fail(struct rpc_call *call, const struct rpc_error *error)
{
    CHECK(error->code != RPC_OK);
    rpc_call_begin_finish(call);
    call_set_status(call, error);
    call_end_finish(call);
}

void
rpc_call_fail_text(struct rpc_call *call, enum rpc_code code,
                   const char *reason, const char *format, ...)
{
    struct rpc_error error;
    char text[sizeof error.text];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    rpc_error_set(&error, code, reason, "%s", text);
    rpc_call_fail(call, &error);
}

void
rpc_stream_finish(struct rpc_call *call)
{
    CHECK(call->route->method->kind != RPC_UNARY);
    rpc_call_begin_finish(call);
    if (call->is_cancelled) {
        /* Not by the client, or nobody would read this: the server stops. */
        struct rpc_error error;
        rpc_error_set(&error, RPC_UNAVAILABLE, "STOPPING",
                      "the server is about to stop");
        call_set_status(call, &error);
    } else {
        call->code = RPC_OK;
    }
    call_end_finish(call);
}

int
rpc_stream_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    int result = 0;

    CHECK(call->route->method->kind != RPC_UNARY);
    pthread_mutex_lock(&call->lock);
    CHECK(call->state == RPC_CALL_HANDLED);
    if (call->is_cancelled || call->is_closed) {
        result = -ECANCELED;
    } else if (call->message_count == RPC_STREAM_QUEUE_COUNT ||
               call->message_bytes > RPC_STREAM_QUEUE_BYTES) {
        call->wants_writable = true;
        result = -EAGAIN;
    } else {
        call_push_message(call, call_pack(message));
        call_pump(call);
    }
    pthread_mutex_unlock(&call->lock);
    return result;
}
