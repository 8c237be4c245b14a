/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/server_setup.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/array.h"
#include "lib/base/units.h"
#include "lib/rpc/grpc_init.h"

#define SERVER_REQUEST_SIZE_MAX (1024u * 1024u)
#define SERVER_CALL_COUNT_MAX 1024u
#define SERVER_METADATA_SIZE_MAX 16384
#define SERVER_STREAMS_MAX 256 /* Calls at a time on one connection. */
#define SERVER_HANDSHAKE_MS 10000
#define SERVER_KEEPALIVE_MS 30000 /* Finds clients that are silently gone. */
#define SERVER_QUOTA_BYTES (256u * 1024u * 1024u)
#define SERVER_IDENTITY_ONLY 1 /* Bit of GRPC_COMPRESS_NONE. */

/* ---- Routes ---- */

static const struct rpc_method *
setup_find_method(const struct rpc_service *service, const char *name)
{
    for (size_t i = 0; i < service->method_count; i++) {
        if (strcmp(service->methods[i].name, name) == 0) {
            return &service->methods[i];
        }
    }
    return NULL;
}

static int
setup_add_service(struct rpc_server *server, struct rpc_service *service)
{
    const ProtobufCServiceDescriptor *descriptor = service->descriptor;
    size_t count = server->route_count + descriptor->n_methods;
    struct rpc_route *routes =
        reallocarray(server->routes, count, sizeof *routes);
    if (routes == NULL) {
        return -ENOMEM;
    }
    server->routes = routes;
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        const ProtobufCMethodDescriptor *method = &descriptor->methods[i];
        struct rpc_route *route = &server->routes[server->route_count];
        if (asprintf(&route->path, "/%s/%s", descriptor->name, method->name) <
            0) {
            return -ENOMEM;
        }
        route->service = service;
        route->method = setup_find_method(service, method->name);
        route->input = method->input;
        server->route_count++;
    }
    for (size_t i = 0; i < service->method_count; i++) {
        /* A handler for a method that the .proto does not have. */
        CHECK(protobuf_c_service_descriptor_get_method_by_name(
                  descriptor, service->methods[i].name) != NULL);
    }
    return rpc_health_set(&server->health, descriptor->name, true);
}

static int
setup_add_services(struct rpc_server *server)
{
    int result = rpc_health_set(&server->health, "", true);
    for (struct rpc_service *const *service = server->options.services;
         result == 0 && service != NULL && *service != NULL; service++) {
        result = setup_add_service(server, *service);
    }
    if (result == 0) {
        result = setup_add_service(server, &server->health.service);
    }
    if (result == 0) {
        result = setup_add_service(server, &server->reflection.service);
    }
    return result;
}

/* ---- gRPC ---- */

static grpc_arg
setup_integer(const char *key, int value)
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

static void
setup_create_server(struct rpc_server *server)
{
    grpc_resource_quota *quota = grpc_resource_quota_create("weft");
    grpc_resource_quota_resize(quota, SERVER_QUOTA_BYTES);
    grpc_arg quota_arg = setup_integer(GRPC_ARG_RESOURCE_QUOTA, 0);
    quota_arg.type = GRPC_ARG_POINTER;
    quota_arg.value.pointer.p = quota;
    quota_arg.value.pointer.vtable = grpc_resource_quota_arg_vtable();

    grpc_arg args[] = {
        quota_arg,
        /* Else a second server would share our port silently. */
        setup_integer(GRPC_ARG_ALLOW_REUSEPORT, 0),
        setup_integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                      (int)server->options.request_size_max),
        setup_integer(GRPC_ARG_MAX_METADATA_SIZE, SERVER_METADATA_SIZE_MAX),
        setup_integer(GRPC_ARG_MAX_CONCURRENT_STREAMS, SERVER_STREAMS_MAX),
        setup_integer(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                      SERVER_HANDSHAKE_MS),
        setup_integer(GRPC_ARG_KEEPALIVE_TIME_MS, SERVER_KEEPALIVE_MS),
        /* A small compressed request could become a huge one. */
        setup_integer(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                      SERVER_IDENTITY_ONLY),
        setup_integer(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
    };
    const grpc_channel_args list = { ARRAY_COUNT(args), args };
    server->server = grpc_server_create(&list, NULL);
    grpc_resource_quota_unref(quota);

    server->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->server, server->queue, NULL);
}

static int
setup_listen_tcp(struct rpc_server *server, const char *address,
                 struct err *err)
{
    uint64_t wanted;
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address ||
        units_parse_u64(colon + 1, &wanted) < 0 || wanted > UINT16_MAX) {
        err_set(err,
                "\"tcp:%s\" is not an address to listen on; give "
                "\"tcp:ADDRESS:PORT\"",
                address);
        return -EINVAL;
    }
    uint16_t *ports =
        reallocarray(server->ports, server->port_count + 1, sizeof *ports);
    if (ports == NULL) {
        return -ENOMEM;
    }
    server->ports = ports;
    grpc_server_credentials *credentials =
        grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->server, address, credentials);
    grpc_server_credentials_release(credentials);
    if (port <= 0) {
        err_set(err,
                "cannot listen on \"tcp:%s\": the port is in use, or the "
                "address is not this host's",
                address);
        return -EADDRINUSE;
    }
    server->ports[server->port_count++] = (uint16_t)port;
    return 0;
}

static int
setup_listen_unix(struct rpc_server *server, const char *path, struct err *err)
{
    struct unix_listener *listeners =
        reallocarray(server->unix_listeners, server->unix_listener_count + 1,
                     sizeof *listeners);
    if (listeners == NULL) {
        return -ENOMEM;
    }
    server->unix_listeners = listeners;
    mode_t mode =
        server->options.unix_mode != 0 ? server->options.unix_mode : 0600;
    int result =
        unix_listener_open(path, mode, &listeners[server->unix_listener_count],
                           err);
    if (result == 0) {
        server->unix_listener_count++;
    }
    return result;
}

static int
setup_listen(struct rpc_server *server, struct err *err)
{
    const char *const *listen = server->options.listen;

    for (; *listen != NULL; listen++) {
        int result;
        if (strncmp(*listen, "unix:", 5) == 0) {
            result = setup_listen_unix(server, *listen + 5, err);
        } else if (strncmp(*listen, "tcp:", 4) == 0) {
            result = setup_listen_tcp(server, *listen + 4, err);
        } else {
            err_set(err,
                    "\"%s\" is not an address to listen on; give "
                    "\"unix:/PATH\" or \"tcp:ADDRESS:PORT\"",
                    *listen);
            return -EINVAL;
        }
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* ---- Together ---- */

static int
setup_fill(struct rpc_server *server, struct err *err)
{
    server->watch_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->watch_fd < 0) {
        err_set(err, "eventfd: %s", strerror(errno));
        return -errno;
    }
    int result = setup_add_services(server);
    if (result == 0) {
        result = unix_numbers_init(&server->numbers);
    }
    if (result < 0) {
        err_set(err, "cannot set up the RPC server: %s", strerror(-result));
        return result;
    }
    setup_create_server(server);
    return setup_listen(server, err);
}

int
server_setup_new(const struct rpc_server_options *options,
                 struct rpc_server **ret_server, struct err *err)
{
    struct rpc_server *server = calloc(1, sizeof *server);
    int result;

    if (server == NULL) {
        err_set(err, "out of memory");
        return -ENOMEM;
    }
    server->options = *options;
    if (server->options.request_size_max == 0) {
        server->options.request_size_max = SERVER_REQUEST_SIZE_MAX;
    }
    if (server->options.call_count_max == 0) {
        server->options.call_count_max = SERVER_CALL_COUNT_MAX;
    }
    server->watch_fd = -1;
    server->shutdown_tag.run = rpc_server_on_shutdown;
    list_init(&server->calls);
    pthread_mutex_init(&server->lock, NULL);
    result = rpc_health_init(&server->health);
    CHECK(result == 0);
    result = rpc_queue_init(&server->own);
    if (result < 0) {
        err_set(err, "eventfd: %s", strerror(-result));
        rpc_health_done(&server->health);
        free(server);
        return result;
    }
    rpc_reflection_init(&server->reflection, options->descriptors);
    rpc_grpc_init();
    result = setup_fill(server, err);
    if (result < 0) {
        server_setup_free(server);
        return result;
    }
    *ret_server = server;
    return 0;
}

/* A server that never ran: gRPC wants it to be shut down all the same. */
static void
setup_shut_down_unused(struct rpc_server *server)
{
    grpc_server_shutdown_and_notify(server->server, server->queue,
                                    &server->shutdown_tag);
    grpc_server_cancel_all_calls(server->server);
    grpc_completion_queue_next(server->queue,
                               gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_completion_queue_shutdown(server->queue);
    while (grpc_completion_queue_next(server->queue,
                                      gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL)
               .type != GRPC_QUEUE_SHUTDOWN) {
    }
}

void
server_setup_free(struct rpc_server *server)
{
    if (server->server != NULL) {
        if (!server->is_stopped) {
            setup_shut_down_unused(server);
        }
        grpc_server_destroy(server->server);
        grpc_completion_queue_destroy(server->queue);
    }
    for (size_t i = 0; i < server->unix_listener_count; i++) {
        unix_listener_close(&server->unix_listeners[i]);
    }
    for (size_t i = 0; i < server->route_count; i++) {
        free(server->routes[i].path);
    }
    rpc_grpc_done();
    free(server->unix_listeners);
    free(server->routes);
    free(server->ports);
    unix_numbers_done(&server->numbers);
    rpc_health_done(&server->health);
    rpc_queue_done(&server->own);
    if (server->watch_fd >= 0) {
        close(server->watch_fd);
    }
    pthread_mutex_destroy(&server->lock);
    free(server);
}
