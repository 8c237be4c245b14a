/* SPDX-License-Identifier: Apache-2.0 */
#include "service/service.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "proto/descriptors.h"

#define STOP_GRACE_NS (200 * NS_PER_MS)

struct service *
service_of(const struct rpc_call *call)
{
    struct rpc_service *rpc = rpc_call_service(call);

    return container_of(rpc, struct service_entry, rpc)->service;
}

uint64_t
service_wall_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool
api_refuse_if_stopping(struct rpc_call *call)
{
    const struct service *service = service_of(call);

    if (!service->is_stopping) {
        return false;
    }
    rpc_call_fail_text(call, RPC_UNAVAILABLE, "STOPPING",
                       "this %s stops; ask another host", service->daemon);
    return true;
}

Google__Protobuf__Timestamp *
api_time(struct reply_arena *arena, uint64_t time_ms)
{
    Google__Protobuf__Timestamp *time = reply_alloc(arena, sizeof *time);

    if (time_ms == 0) {
        return NULL;
    }
    google__protobuf__timestamp__init(time);
    time->seconds = (int64_t)(time_ms / 1000);
    time->nanos = (int32_t)(time_ms % 1000 * 1000000);
    return time;
}

static void
service_server_stopped(struct rpc_server_events *events)
{
    container_of(events, struct service, server_events)->is_server_stopped =
        true;
}

static void
service_queue_ready(struct loop_fd *fd, short revents)
{
    struct service *service = container_of(fd, struct service, queue_fd);
    (void)revents;

    rpc_queue_run(&service->queue);
}

static bool
service_gate(struct rpc_call *call)
{
    const struct service *service = service_of(call);
    const struct state_status *status = state_status(service->state);

    if (service->database == NULL || status->has_contents) {
        return true;
    }
    rpc_call_fail_text(call, RPC_UNAVAILABLE, "DATABASE_UNAVAILABLE",
                       "this %s has not reached the database (%s) since it "
                       "started, and knows nothing yet%s%s; ask another host, "
                       "or try again",
                       service->daemon, service->database,
                       status->last_error != 0 ? ": " : "",
                       status->last_error != 0 ? strerror(-status->last_error)
                                               : "");
    return false;
}

static void
service_fill_entries(struct service *service,
                     const struct service_table *tables)
{
    for (uint32_t i = 0; tables[i].descriptor != NULL; i++) {
        CHECK(i < SERVICE_ENTRIES_MAX);
        service->entries[i] = (struct service_entry){
            .rpc = { .descriptor = tables[i].descriptor,
                     .methods = tables[i].methods,
                     .method_count = tables[i].count,
                     .executor = &service->queue.executor,
                     .gate = service_gate },
            .service = service,
        };
        service->entry_list[i] = &service->entries[i].rpc;
    }
}

int
service_init(struct service *service, const struct service_options *options,
             struct err *err)
{
    *service = (struct service){
        .loop = options->loop,
        .state = options->state,
        .daemon = options->daemon,
        .database = options->database,
        .server_events.stopped = service_server_stopped,
    };
    list_init(&service->ops);
    int result = rpc_queue_init(&service->queue);
    if (result != 0) {
        err_set(err, "the API's queue cannot be made");
        return result;
    }
    service_fill_entries(service, options->tables);
    struct rpc_server_options server = {
        .listen = options->listen,
        .services = service->entry_list,
        .descriptors = &weft_v1_descriptors,
        .events = &service->server_events,
        .executor = &service->queue.executor,
    };
    result = rpc_server_start(&server, &service->server, err);
    if (result != 0) {
        rpc_queue_done(&service->queue);
        return result;
    }
    service->queue_fd = (struct loop_fd){ .fd = rpc_queue_fd(&service->queue),
                                          .events = POLLIN,
                                          .ready = service_queue_ready };
    loop_add_fd(service->loop, &service->queue_fd);
    return 0;
}

static void
service_cancel_ops(struct service *service)
{
    LIST_FOREACH (node, &service->ops) {
        state_txn_cancel(&container_of(node, struct api_op, node)->txn);
    }
}

void
service_refuse(struct service *service)
{
    service->is_stopping = true;
    service_cancel_ops(service);
    rpc_server_stop(service->server, STOP_GRACE_NS);
}

void
service_done(struct service *service)
{
    /* What is still open has to be finished by this thread: calls that came
     * in the last moment are in the queue, changes at the database. */
    while (!service->is_server_stopped) {
        service_cancel_ops(service);
        loop_run_once(service->loop, loop_now_ns() + 10 * NS_PER_MS);
    }
    CHECK(list_is_empty(&service->ops));
    rpc_server_free(service->server);
    loop_remove_fd(service->loop, &service->queue_fd);
    rpc_queue_done(&service->queue);
}
