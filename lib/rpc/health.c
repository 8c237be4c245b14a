/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/health.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/health/v1/health.pb-c.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"

/* The wire names the states so. */
typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus health_status;

#define HEALTH_SERVING \
    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define HEALTH_NOT_SERVING \
    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define HEALTH_SERVICE_UNKNOWN \
    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

struct health_entry {
    struct list node;
    health_status status;
    char name[]; /* Full name of the service; "": the whole server. */
};

/* One Watch call. */
struct health_watch {
    struct list node; /* Unlinked when the call is about to be finished. */
    struct rpc_health *health;
    struct rpc_call *call;
    struct rpc_call_events events;
    bool is_behind; /* A change did not fit into the stream's queue. */
    char name[];
};

static rpc_handler_fn health_check;
static rpc_handler_fn health_watch;

static const struct rpc_method health_methods[] = {
    { "Check", RPC_UNARY, health_check },
    { "Watch", RPC_SERVER_STREAM, health_watch },
};

int
rpc_health_init(struct rpc_health *health)
{
    health->service = (struct rpc_service){
        .descriptor = &grpc__health__v1__health__descriptor,
        .methods = health_methods,
        .method_count = ARRAY_COUNT(health_methods),
    };
    list_init(&health->entries);
    list_init(&health->watchers);
    return -pthread_mutex_init(&health->lock, NULL);
}

void
rpc_health_done(struct rpc_health *health)
{
    CHECK(list_is_empty(&health->watchers));
    LIST_FOREACH (node, &health->entries) {
        list_remove(node);
        free(container_of(node, struct health_entry, node));
    }
    pthread_mutex_destroy(&health->lock);
}

/* NULL: no such service.  The lock is held, here and below. */
static struct health_entry *
health_find(const struct rpc_health *health, const char *name)
{
    LIST_FOREACH (node, &health->entries) {
        struct health_entry *entry =
            container_of(node, struct health_entry, node);
        if (strcmp(entry->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

static void
health_tell(struct health_watch *watch)
{
    Grpc__Health__V1__HealthCheckResponse response =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    const struct health_entry *entry = health_find(watch->health, watch->name);

    response.status = entry != NULL ? entry->status : HEALTH_SERVICE_UNKNOWN;
    /* -ECANCELED: an event is on its way that ends the watch. */
    watch->is_behind = rpc_stream_send(watch->call, &response.base) == -EAGAIN;
}

static void
health_change(struct rpc_health *health, struct health_entry *entry,
              health_status status)
{
    if (entry->status == status) {
        return;
    }
    entry->status = status;
    LIST_FOREACH (node, &health->watchers) {
        struct health_watch *watch =
            container_of(node, struct health_watch, node);
        if (strcmp(watch->name, entry->name) == 0) {
            health_tell(watch);
        }
    }
}

int
rpc_health_set(struct rpc_health *health, const char *name, bool is_serving)
{
    int result = 0;

    pthread_mutex_lock(&health->lock);
    struct health_entry *entry = health_find(health, name);
    if (entry == NULL) {
        size_t size = strlen(name) + 1;
        entry = calloc(1, sizeof *entry + size);
        if (entry == NULL) {
            result = -ENOMEM;
            goto out;
        }
        memcpy(entry->name, name, size);
        entry->status = HEALTH_SERVICE_UNKNOWN;
        list_push_back(&health->entries, &entry->node);
    }
    health_change(health, entry,
                  is_serving ? HEALTH_SERVING : HEALTH_NOT_SERVING);
out:
    pthread_mutex_unlock(&health->lock);
    return result;
}

void
rpc_health_set_all(struct rpc_health *health, bool is_serving)
{
    pthread_mutex_lock(&health->lock);
    LIST_FOREACH (node, &health->entries) {
        health_change(health, container_of(node, struct health_entry, node),
                      is_serving ? HEALTH_SERVING : HEALTH_NOT_SERVING);
    }
    pthread_mutex_unlock(&health->lock);
}

/* ---- Calls ---- */

static const char *
health_request_service(const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *request =
        (const Grpc__Health__V1__HealthCheckRequest *)(const void *)message;
    return request->service;
}

static void
health_check(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct rpc_health *health =
        container_of(rpc_call_service(call), struct rpc_health, service);
    Grpc__Health__V1__HealthCheckResponse response =
        GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    const char *name = health_request_service(message);

    pthread_mutex_lock(&health->lock);
    const struct health_entry *entry = health_find(health, name);
    if (entry != NULL) {
        response.status = entry->status;
    }
    pthread_mutex_unlock(&health->lock);
    if (entry != NULL) {
        rpc_call_reply(call, &response.base);
    } else {
        rpc_call_fail_text(call, RPC_NOT_FOUND, "NO_SUCH_SERVICE",
                           "there is no service \"%.128s\"", name);
    }
}

static void
health_watch_cancelled(struct rpc_call_events *events)
{
    struct health_watch *watch =
        container_of(events, struct health_watch, events);

    pthread_mutex_lock(&watch->health->lock);
    list_remove(&watch->node);
    pthread_mutex_unlock(&watch->health->lock);
    rpc_stream_finish(watch->call);
    free(watch);
}

static void
health_watch_writable(struct rpc_call_events *events)
{
    struct health_watch *watch =
        container_of(events, struct health_watch, events);

    pthread_mutex_lock(&watch->health->lock);
    if (watch->is_behind) {
        health_tell(watch);
    }
    pthread_mutex_unlock(&watch->health->lock);
}

static void
health_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct rpc_health *health =
        container_of(rpc_call_service(call), struct rpc_health, service);
    const char *name = health_request_service(message);
    size_t size = strlen(name) + 1;
    struct health_watch *watch = calloc(1, sizeof *watch + size);

    if (watch == NULL) {
        rpc_call_fail_text(call, RPC_RESOURCE_EXHAUSTED, NULL, "out of memory");
        return;
    }
    memcpy(watch->name, name, size);
    watch->health = health;
    watch->call = call;
    watch->events.cancelled = health_watch_cancelled;
    watch->events.writable = health_watch_writable;
    list_init(&watch->node);

    pthread_mutex_lock(&health->lock);
    list_push_back(&health->watchers, &watch->node);
    health_tell(watch);
    pthread_mutex_unlock(&health->lock);
    rpc_call_set_events(call, &watch->events);
}
