/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking calls.  Each has a completion queue of its own, on which the thread
 * that made the call plucks the tags of its batches: no thread of ours. */

#include "lib/rpc/client.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/list.h"
#include "lib/base/units.h"
#include "lib/rpc/grpc_init.h"
#include "lib/rpc/wire.h"

#define CLIENT_DETAILS_KEY "grpc-status-details-bin"
#define CLIENT_MESSAGE_SIZE_MAX (64 * 1024 * 1024)
#define CLIENT_RECONNECT_MIN_MS 100
#define CLIENT_RECONNECT_MAX_MS 2000

struct rpc_channel {
    grpc_channel *channel;
    pthread_mutex_t lock;
    /* Under the lock: */
    struct list calls; /* struct client_call */
    bool is_interrupted;
};

/* One call, unary or not. */
struct client_call {
    struct list node;
    struct rpc_channel *channel;
    grpc_call *call;
    grpc_completion_queue *queue;
    const ProtobufCMessageDescriptor *output;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *received;
    grpc_status_code code;
    grpc_slice text;
    char begin_tag, message_tag, status_tag; /* Their addresses are the tags. */
};

struct rpc_reader {
    struct client_call call;
    bool is_over; /* The status is there. */
};

/* ---- Channel ---- */

static grpc_arg
client_integer(const char *key, int value)
{
    union {
        const char *from;
        char *to; /* gRPC does not write through it. */
    } both = { .from = key };
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER,
        .key = both.to,
        .value.integer = value,
    };
}

/* gRPC's name for 'endpoint'; false if it is malformed. */
static bool
client_target(const char *endpoint, char *ret_target, size_t room)
{
    uint64_t port;

    if (strncmp(endpoint, "unix:/", 6) == 0) {
        return snprintf(ret_target, room, "%s", endpoint) < (int)room;
    }
    if (strncmp(endpoint, "tcp:", 4) != 0) {
        return false;
    }
    const char *address = endpoint + 4;
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || strchr(address, '/') != NULL ||
        units_parse_u64(colon + 1, &port) < 0 || port == 0 ||
        port > UINT16_MAX) {
        return false;
    }
    return snprintf(ret_target, room, "dns:///%s", address) < (int)room;
}

int
rpc_channel_new(const char *endpoint, struct rpc_channel **ret_channel,
                struct err *err)
{
    char target[512];
    if (!client_target(endpoint, target, sizeof target)) {
        err_set(err,
                "\"%s\" is not an endpoint; give \"unix:/PATH\" or "
                "\"tcp:HOST:PORT\"",
                endpoint);
        return -EINVAL;
    }
    struct rpc_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) {
        err_set(err, "out of memory");
        return -ENOMEM;
    }
    list_init(&channel->calls);
    pthread_mutex_init(&channel->lock, NULL);
    rpc_grpc_init();

    grpc_arg args[] = {
        client_integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                       CLIENT_MESSAGE_SIZE_MAX),
        client_integer(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        client_integer(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        /* Repeating is up to who knows the request_id. */
        client_integer(GRPC_ARG_ENABLE_RETRIES, 0),
        client_integer(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                       CLIENT_RECONNECT_MIN_MS),
        client_integer(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                       CLIENT_RECONNECT_MAX_MS),
        /* Channels that share connections would share their fate, too. */
        client_integer(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
    };
    const grpc_channel_args list = { ARRAY_COUNT(args), args };
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    channel->channel = grpc_channel_create(target, credentials, &list);
    grpc_channel_credentials_release(credentials);
    *ret_channel = channel;
    return 0;
}

void
rpc_channel_free(struct rpc_channel *channel)
{
    if (channel == NULL) {
        return;
    }
    CHECK(list_is_empty(&channel->calls));
    grpc_channel_destroy(channel->channel);
    pthread_mutex_destroy(&channel->lock);
    free(channel);
    rpc_grpc_done();
}

void
rpc_channel_interrupt(struct rpc_channel *channel, bool is_on)
{
    pthread_mutex_lock(&channel->lock);
    channel->is_interrupted = is_on;
    if (is_on) {
        LIST_FOREACH (node, &channel->calls) {
            struct client_call *call =
                container_of(node, struct client_call, node);
            grpc_call_cancel(call->call, NULL);
        }
    }
    pthread_mutex_unlock(&channel->lock);
}

/* ---- Calls ---- */

static gpr_timespec
client_deadline(uint64_t timeout_ns)
{
    if (timeout_ns > (uint64_t)INT64_MAX) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos((int64_t)timeout_ns, GPR_TIMESPAN));
}

static void
client_call_init(struct client_call *call, struct rpc_channel *channel,
                 const ProtobufCServiceDescriptor *service, const char *method,
                 uint64_t timeout_ns)
{
    const ProtobufCMethodDescriptor *descriptor =
        protobuf_c_service_descriptor_get_method_by_name(service, method);
    CHECK(descriptor != NULL);

    char path[256];
    snprintf(path, sizeof path, "/%s/%s", service->name, method);
    grpc_slice path_slice = grpc_slice_from_copied_string(path);

    memset(call, 0, sizeof *call);
    call->channel = channel;
    call->output = descriptor->output;
    call->queue = grpc_completion_queue_create_for_pluck(NULL);
    call->call = grpc_channel_create_call(channel->channel, NULL,
                                          GRPC_PROPAGATE_DEFAULTS, call->queue,
                                          path_slice, NULL,
                                          client_deadline(timeout_ns), NULL);
    grpc_slice_unref(path_slice);
    call->text = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);

    pthread_mutex_lock(&channel->lock);
    list_push_back(&channel->calls, &call->node);
    if (channel->is_interrupted) {
        grpc_call_cancel(call->call, NULL);
    }
    pthread_mutex_unlock(&channel->lock);
}

static void
client_call_done(struct client_call *call)
{
    pthread_mutex_lock(&call->channel->lock);
    list_remove(&call->node);
    pthread_mutex_unlock(&call->channel->lock);

    if (call->received != NULL) {
        grpc_byte_buffer_destroy(call->received);
    }
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->text);
    grpc_call_unref(call->call);
    grpc_completion_queue_shutdown(call->queue);
    while (grpc_completion_queue_pluck(call->queue, NULL,
                                       gpr_inf_future(GPR_CLOCK_MONOTONIC),
                                       NULL)
               .type != GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(call->queue);
}

static bool
client_pluck(struct client_call *call, char *tag)
{
    grpc_event event =
        grpc_completion_queue_pluck(call->queue, tag,
                                    gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    CHECK(event.type == GRPC_OP_COMPLETE);
    return event.success != 0;
}

static void
client_batch(struct client_call *call, const grpc_op *ops, size_t count,
             char *tag)
{
    grpc_call_error error =
        grpc_call_start_batch(call->call, ops, count, tag, NULL);
    CHECK(error == GRPC_CALL_OK);
}

/* Sends the request and asks for the initial metadata. */
static void
client_begin(struct client_call *call, const ProtobufCMessage *request)
{
    size_t size = protobuf_c_message_get_packed_size(request);
    grpc_slice slice = grpc_slice_malloc(size);
    protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);

    const grpc_op ops[] = {
        { .op = GRPC_OP_SEND_INITIAL_METADATA },
        { .op = GRPC_OP_SEND_MESSAGE,
          .data.send_message.send_message = message },
        { .op = GRPC_OP_SEND_CLOSE_FROM_CLIENT },
        { .op = GRPC_OP_RECV_INITIAL_METADATA,
          .data.recv_initial_metadata.recv_initial_metadata = &call->initial },
    };
    client_batch(call, ops, ARRAY_COUNT(ops), &call->begin_tag);
    grpc_byte_buffer_destroy(message);

    const grpc_op status = {
        .op = GRPC_OP_RECV_STATUS_ON_CLIENT,
        .data.recv_status_on_client = {
            .trailing_metadata = &call->trailing,
            .status = &call->code,
            .status_details = &call->text,
        },
    };
    client_batch(call, &status, 1, &call->status_tag);
}

/* Waits for a message: 1 with '*ret_message', 0 if there is none, -EBADMSG. */
static int
client_receive(struct client_call *call, ProtobufCMessage **ret_message)
{
    const grpc_op op = {
        .op = GRPC_OP_RECV_MESSAGE,
        .data.recv_message.recv_message = &call->received,
    };
    client_batch(call, &op, 1, &call->message_tag);
    client_pluck(call, &call->message_tag);
    if (call->received == NULL) {
        return 0;
    }
    grpc_byte_buffer_reader reader;
    ProtobufCMessage *message = NULL;
    if (grpc_byte_buffer_reader_init(&reader, call->received)) {
        grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
        message = rpc_wire_unpack(call->output, GRPC_SLICE_START_PTR(slice),
                                  GRPC_SLICE_LENGTH(slice), UINT32_MAX);
        grpc_slice_unref(slice);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_byte_buffer_destroy(call->received);
    call->received = NULL;
    if (message == NULL) {
        return -EBADMSG;
    }
    *ret_message = message;
    return 1;
}

/* Waits for the tags that are still out; the status is then known. */
static void
client_end(struct client_call *call)
{
    client_pluck(call, &call->begin_tag);
    client_pluck(call, &call->status_tag);
}

/* 0, or -errno with 'error' set, by the status of the call. */
static int
client_status(const struct client_call *call, struct rpc_error *error)
{
    enum rpc_code code = (enum rpc_code)call->code;
    char text[sizeof error->text];
    const void *details = NULL;
    size_t details_size = 0;

    if (code == RPC_OK) {
        return 0;
    }
    size_t size = GRPC_SLICE_LENGTH(call->text);
    snprintf(text, sizeof text, "%.*s", size < sizeof text ? (int)size : 511,
             (const char *)GRPC_SLICE_START_PTR(call->text));
    for (size_t i = 0; i < call->trailing.count; i++) {
        const grpc_metadata *entry = &call->trailing.metadata[i];
        if (grpc_slice_str_cmp(entry->key, CLIENT_DETAILS_KEY) == 0) {
            details = GRPC_SLICE_START_PTR(entry->value);
            details_size = GRPC_SLICE_LENGTH(entry->value);
        }
    }
    if (error != NULL) {
        rpc_error_decode(error, code, text, details, details_size);
    }
    return rpc_code_to_errno(code);
}

static int
client_malformed(struct rpc_error *error, const char *what)
{
    if (error != NULL) {
        rpc_error_set(error, RPC_INTERNAL, "MALFORMED_REPLY",
                      "the server sent %s", what);
    }
    return -EBADMSG;
}

int
rpc_channel_call(struct rpc_channel *channel,
                 const ProtobufCServiceDescriptor *service, const char *method,
                 const ProtobufCMessage *request, uint64_t timeout_ns,
                 ProtobufCMessage **ret_reply, struct rpc_error *error)
{
    struct client_call call;
    ProtobufCMessage *reply = NULL;

    client_call_init(&call, channel, service, method, timeout_ns);
    client_begin(&call, request);
    int received = client_receive(&call, &reply);
    client_end(&call);
    int result = client_status(&call, error);
    if (result == 0 && received < 0) {
        result = client_malformed(error, "a malformed reply");
    } else if (result == 0 && received == 0) {
        result = client_malformed(error, "no reply");
    }
    client_call_done(&call);
    if (result < 0) {
        if (reply != NULL) {
            protobuf_c_message_free_unpacked(reply, NULL);
        }
        return result;
    }
    *ret_reply = reply;
    return 0;
}

/* ---- Streams ---- */

int
rpc_reader_open(struct rpc_channel *channel,
                const ProtobufCServiceDescriptor *service, const char *method,
                const ProtobufCMessage *request, uint64_t timeout_ns,
                struct rpc_reader **ret_reader, struct rpc_error *error)
{
    struct rpc_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        if (error != NULL) {
            rpc_error_set(error, RPC_RESOURCE_EXHAUSTED, NULL, "out of memory");
        }
        return -ENOMEM;
    }
    client_call_init(&reader->call, channel, service, method, timeout_ns);
    client_begin(&reader->call, request);
    *ret_reader = reader;
    return 0;
}

int
rpc_reader_next(struct rpc_reader *reader, ProtobufCMessage **ret_message,
                struct rpc_error *error)
{
    if (!reader->is_over) {
        int result = client_receive(&reader->call, ret_message);
        if (result == 1) {
            return 1;
        }
        if (result < 0) {
            grpc_call_cancel(reader->call.call, NULL);
            return client_malformed(error, "a malformed message");
        }
        client_end(&reader->call);
        reader->is_over = true;
    }
    return client_status(&reader->call, error);
}

void
rpc_reader_cancel(struct rpc_reader *reader)
{
    grpc_call_cancel(reader->call.call, NULL);
}

void
rpc_reader_close(struct rpc_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    if (!reader->is_over) {
        grpc_call_cancel(reader->call.call, NULL);
        client_end(&reader->call);
    }
    client_call_done(&reader->call);
    free(reader);
}
