/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/reflection.h"

#include <stdlib.h>
#include <string.h>

#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/rpc/call.h"

/* protoc-c's names are what they are. */
typedef Grpc__Reflection__V1alpha__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1alpha__ServerReflectionResponse reflection_response;

#define REFLECTION_FILE_MAX 64u
#define REFLECTION_SERVICE_MAX 64u

/* One call. */
struct reflection_call {
    struct rpc_call_events events;
    struct rpc_call *call;
};

static rpc_handler_fn reflection_info;

static const struct rpc_method reflection_methods[] = {
    { "ServerReflectionInfo", RPC_BIDI, reflection_info },
};

void
rpc_reflection_init(struct rpc_reflection *reflection,
                    const struct rpc_descriptor_set *descriptors)
{
    reflection->service = (struct rpc_service){
        .descriptor = &grpc__reflection__v1alpha__server_reflection__descriptor,
        .methods = reflection_methods,
        .method_count = ARRAY_COUNT(reflection_methods),
    };
    reflection->sets[0] = &rpc_descriptors;
    reflection->sets[1] = descriptors;
}

static bool
reflection_has(const char *const *names, const char *name)
{
    for (; *names != NULL; names++) {
        if (strcmp(*names, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The file of the given name, or the one that defines 'symbol'; the other is
 * NULL. */
static const struct rpc_descriptor_file *
reflection_find(const struct rpc_reflection *reflection, const char *name,
                const char *symbol)
{
    for (size_t s = 0; s < RPC_REFLECTION_SET_COUNT; s++) {
        const struct rpc_descriptor_set *set = reflection->sets[s];
        for (size_t i = 0; set != NULL && i < set->count; i++) {
            const struct rpc_descriptor_file *file = &set->files[i];
            if (name != NULL     ? strcmp(file->name, name) == 0
                : symbol != NULL ? reflection_has(file->symbols, symbol)
                                 : false) {
                return file;
            }
        }
    }
    return NULL;
}

/* 'file' and all that it imports, each once. */
struct reflection_closure {
    const struct rpc_descriptor_file *files[REFLECTION_FILE_MAX];
    size_t count;
};

static void
reflection_close_over(const struct rpc_reflection *reflection,
                      const struct rpc_descriptor_file *file,
                      struct reflection_closure *closure)
{
    closure->files[0] = file;
    closure->count = 1;
    for (size_t done = 0; done < closure->count; done++) {
        const char *const *import = closure->files[done]->imports;
        for (; *import != NULL; import++) {
            const struct rpc_descriptor_file *next =
                reflection_find(reflection, *import, NULL);
            bool is_new = next != NULL;
            for (size_t i = 0; is_new && i < closure->count; i++) {
                is_new = strcmp(closure->files[i]->name, next->name) != 0;
            }
            if (is_new && closure->count < REFLECTION_FILE_MAX) {
                closure->files[closure->count++] = next;
            }
        }
    }
}

/* protobuf-c's structs take 'char *' and 'uint8_t *' and do not write through
 * them. */
static void *
reflection_constant(const void *data)
{
    union {
        const void *from;
        void *to;
    } both = { .from = data };
    return both.to;
}

/* False: the client is gone. */
static bool
reflection_send_error(struct rpc_call *call, reflection_response *response,
                      enum rpc_code code, const char *text)
{
    Grpc__Reflection__V1alpha__ErrorResponse error =
        GRPC__REFLECTION__V1ALPHA__ERROR_RESPONSE__INIT;
    error.error_code = (int32_t)code;
    error.error_message = reflection_constant(text);
    response->message_response_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response->error_response = &error;
    return rpc_stream_send(call, &response->base) == 0;
}

static bool
reflection_send_file(const struct rpc_reflection *reflection,
                     struct rpc_call *call, reflection_response *response,
                     const struct rpc_descriptor_file *file)
{
    Grpc__Reflection__V1alpha__FileDescriptorResponse files =
        GRPC__REFLECTION__V1ALPHA__FILE_DESCRIPTOR_RESPONSE__INIT;
    struct reflection_closure closure;
    ProtobufCBinaryData data[REFLECTION_FILE_MAX];

    if (file == NULL) {
        return reflection_send_error(call, response, RPC_NOT_FOUND,
                                     "there is no such file or symbol");
    }
    reflection_close_over(reflection, file, &closure);
    for (size_t i = 0; i < closure.count; i++) {
        data[i].data = reflection_constant(closure.files[i]->data);
        data[i].len = closure.files[i]->size;
    }
    files.n_file_descriptor_proto = closure.count;
    files.file_descriptor_proto = data;
    response->message_response_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    response->file_descriptor_response = &files;
    return rpc_stream_send(call, &response->base) == 0;
}

static bool
reflection_send_services(struct rpc_call *call, reflection_response *response)
{
    Grpc__Reflection__V1alpha__ListServiceResponse list =
        GRPC__REFLECTION__V1ALPHA__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1alpha__ServiceResponse items[REFLECTION_SERVICE_MAX];
    Grpc__Reflection__V1alpha__ServiceResponse
        *pointers[REFLECTION_SERVICE_MAX];
    const struct rpc_service *previous = NULL;

    /* The routes of a service stand together. */
    for (size_t i = 0; i < call->server->route_count; i++) {
        const struct rpc_service *service = call->server->routes[i].service;
        if (service == previous || list.n_service == REFLECTION_SERVICE_MAX) {
            continue;
        }
        previous = service;
        grpc__reflection__v1alpha__service_response__init(
            &items[list.n_service]);
        items[list.n_service].name =
            reflection_constant(service->descriptor->name);
        pointers[list.n_service] = &items[list.n_service];
        list.n_service++;
    }
    list.service = pointers;
    response->message_response_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    response->list_services_response = &list;
    return rpc_stream_send(call, &response->base) == 0;
}

static bool
reflection_answer(const struct rpc_reflection *reflection,
                  struct rpc_call *call, const reflection_request *request)
{
    reflection_response response =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__INIT;
    response.valid_host = request->host;
    response.original_request = reflection_constant(request);

    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        return reflection_send_file(reflection, call, &response,
                                    reflection_find(reflection,
                                                    request->file_by_filename,
                                                    NULL));
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        return reflection_send_file(
            reflection, call, &response,
            reflection_find(reflection, NULL, request->file_containing_symbol));
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        return reflection_send_services(call, &response);
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        return reflection_send_error(call, &response, RPC_NOT_FOUND,
                                     "proto3 has no extensions");
    case GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__NOT_SET:
    case _GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__CASE_IS_INT_SIZE:
        break;
    }
    return reflection_send_error(call, &response, RPC_INVALID_ARGUMENT,
                                 "the request asks for nothing");
}

static void
reflection_cancelled(struct rpc_call_events *events)
{
    struct reflection_call *state =
        container_of(events, struct reflection_call, events);
    rpc_stream_finish(state->call);
    free(state);
}

/* Called for each request of the stream, and with NULL at its end. */
static void
reflection_info(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct rpc_reflection *reflection =
        container_of(rpc_call_service(call), struct rpc_reflection, service);
    const reflection_request *request =
        (const reflection_request *)(const void *)message;

    if (call->events == NULL) {
        struct reflection_call *state = calloc(1, sizeof *state);
        if (state == NULL) {
            rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, NULL,
                               "out of memory");
            return;
        }
        state->call = call;
        state->events.cancelled = reflection_cancelled;
        rpc_call_set_events(call, &state->events);
    }
    /* One request at a time: the next is read after its answer was queued, so
     * that the queue is full only if the client does not read. */
    if (request == NULL || !reflection_answer(reflection, call, request)) {
        struct reflection_call *state =
            container_of(call->events, struct reflection_call, events);
        rpc_stream_finish(call);
        free(state);
        return;
    }
    rpc_call_receive(call);
}
