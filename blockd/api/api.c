/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/api/api.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "blockd/api/api_internal.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "proto/descriptors.h"

#define TICK_NS NS_PER_S
#define STOP_GRACE_NS (200 * NS_PER_MS)

struct api *
api_of(const struct rpc_call *call)
{
    struct rpc_service *rpc = rpc_call_service(call);

    return container_of(rpc, struct api_service, rpc)->api;
}

bool
api_refuse_if_stopping(struct rpc_call *call)
{
    if (!api_of(call)->is_stopping) {
        return false;
    }
    rpc_call_fail_text(call, RPC_UNAVAILABLE, "STOPPING",
                       "this blockd stops; ask another host");
    return true;
}

static void
api_server_stopped(struct rpc_server_events *events)
{
    container_of(events, struct api, server_events)->is_server_stopped = true;
}

static void
api_queue_ready(struct loop_fd *fd, short revents)
{
    struct api *api = container_of(fd, struct api, queue_fd);
    (void)revents;

    rpc_queue_run(&api->queue);
}

static void
api_changed(struct state_listener *listener, const struct state_change *change)
{
    struct api *api = container_of(listener, struct api, listener);

    api_watch_changed(api, change);
}

static void
api_batch_end(struct state_listener *listener)
{
    struct api *api = container_of(listener, struct api, listener);

    api_watch_batch_end(api);
    api_wait_check_all(api);
}

static void
api_tick(struct loop_timer *timer)
{
    struct api *api = container_of(timer, struct api, tick);

    loop_timer_set(api->loop, &api->tick, loop_now_ns() + TICK_NS);
    api_wait_check_all(api); /* Deadlines. */
}

static void
api_fill_services(struct api *api)
{
    const struct {
        const ProtobufCServiceDescriptor *descriptor;
        const struct rpc_method *methods;
        size_t count;
    } tables[API_SERVICES] = {
        { &weft__v1__host_service__descriptor, api_host_methods,
          api_host_method_count },
        { &weft__v1__disk_service__descriptor, api_disk_methods,
          api_disk_method_count },
        { &weft__v1__pool_service__descriptor, api_pool_methods,
          api_pool_method_count },
        { &weft__v1__volume_service__descriptor, api_volume_methods,
          api_volume_method_count },
        { &weft__v1__event_service__descriptor, api_event_methods,
          api_event_method_count },
        { &weft__v1__operation_service__descriptor, api_operation_methods,
          api_operation_method_count },
        { &weft__v1__status_service__descriptor, api_status_methods,
          api_status_method_count },
    };

    for (uint32_t i = 0; i < API_SERVICES; i++) {
        api->services[i] = (struct api_service){
            .rpc = { .descriptor = tables[i].descriptor,
                     .methods = tables[i].methods,
                     .method_count = tables[i].count,
                     .executor = &api->queue.executor },
            .api = api,
        };
        api->service_list[i] = &api->services[i].rpc;
    }
}

int
api_new(const struct api_options *options, struct err *err,
        struct api **ret_api)
{
    struct api *api = calloc(1, sizeof *api);
    if (api == NULL) {
        return -ENOMEM;
    }
    api->options = *options;
    api->loop = options->loop;
    api->state = cluster_state(options->cluster);
    list_init(&api->ops);
    list_init(&api->waits);
    list_init(&api->watches);
    int result = rpc_queue_init(&api->queue);
    if (result != 0) {
        err_set(err, "the API's queue cannot be made");
        free(api);
        return result;
    }
    api_fill_services(api);
    api->server_events.stopped = api_server_stopped;
    struct rpc_server_options server = {
        .listen = options->listen,
        .services = api->service_list,
        .descriptors = &weft_v1_descriptors,
        .events = &api->server_events,
        .executor = &api->queue.executor,
    };
    result = rpc_server_start(&server, &api->server, err);
    if (result != 0) {
        rpc_queue_done(&api->queue);
        free(api);
        return result;
    }
    api->queue_fd = (struct loop_fd){ .fd = rpc_queue_fd(&api->queue),
                                      .events = POLLIN,
                                      .ready = api_queue_ready };
    loop_add_fd(api->loop, &api->queue_fd);
    api->listener =
        (struct state_listener){ .change = api_changed, .end = api_batch_end };
    state_subscribe(api->state, &api->listener, STATE_TABLES_ALL);
    loop_timer_init(&api->tick, api_tick);
    loop_timer_set(api->loop, &api->tick, loop_now_ns() + TICK_NS);
    *ret_api = api;
    return 0;
}

void
api_stop(struct api *api)
{
    if (api == NULL) {
        return;
    }
    api->is_stopping = true;
    api_watch_stop_all(api);
    api_wait_stop_all(api);
    LIST_FOREACH (node, &api->ops) {
        state_txn_cancel(&container_of(node, struct api_op, node)->txn);
    }
    rpc_server_stop(api->server, STOP_GRACE_NS);
}

void
api_free(struct api *api)
{
    if (api == NULL) {
        return;
    }
    /* What is still open has to be finished by this thread: calls that came
     * in the last moment are in the queue, changes at the database. */
    while (!api->is_server_stopped) {
        LIST_FOREACH (node, &api->ops) {
            state_txn_cancel(&container_of(node, struct api_op, node)->txn);
        }
        loop_run_once(api->loop, loop_now_ns() + 10 * NS_PER_MS);
    }
    CHECK(list_is_empty(&api->ops));
    rpc_server_free(api->server);
    loop_timer_cancel(api->loop, &api->tick);
    loop_remove_fd(api->loop, &api->queue_fd);
    state_unsubscribe(api->state, &api->listener);
    rpc_queue_done(&api->queue);
    free(api);
}
