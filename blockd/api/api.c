/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/api/api.h"

#include <errno.h>
#include <stdlib.h>

#include "blockd/api/api_internal.h"
#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"

#define TICK_NS NS_PER_S

struct api *
api_of(const struct rpc_call *call)
{
    return container_of(service_of(call), struct api, service);
}

void
api_op_reply_operation(struct api_op *op)
{
    struct state *state = op->service->state;
    const struct state_operation *row =
        state_operation_get(state, &op->operation);
    struct reply_arena arena = { NULL };

    if (row == NULL) {
        rpc_call_fail_text(op->call, RPC_UNAVAILABLE, "DATABASE_UNAVAILABLE",
                           "the change was made, but the connection to the "
                           "database was lost just then; look again");
        return;
    }
    rpc_call_reply(op->call, &api_operation_message(&arena, state, row)->base);
    reply_free(&arena);
}

static void
api_changed(struct state_listener *listener, const struct state_change *change)
{
    struct api *api = container_of(listener, struct api, listener);

    if (api_alive_changed(api, change)) {
        api_watch_changed(api, change);
    }
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
    api_alive_tick(api);
}

static const struct service_table *
api_tables(void)
{
    static struct service_table tables[] = {
        { &weft__v1__host_service__descriptor, api_host_methods, 0 },
        { &weft__v1__disk_service__descriptor, api_disk_methods, 0 },
        { &weft__v1__pool_service__descriptor, api_pool_methods, 0 },
        { &weft__v1__volume_service__descriptor, api_volume_methods, 0 },
        { &weft__v1__event_service__descriptor, api_event_methods, 0 },
        { &weft__v1__operation_service__descriptor, api_operation_methods, 0 },
        { &weft__v1__status_service__descriptor, api_status_methods, 0 },
        { NULL, NULL, 0 },
    };
    const size_t counts[] = {
        api_host_method_count,   api_disk_method_count,
        api_pool_method_count,   api_volume_method_count,
        api_event_method_count,  api_operation_method_count,
        api_status_method_count,
    };

    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        tables[i].count = counts[i];
    }
    return tables;
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
    list_init(&api->waits);
    list_init(&api->watches);
    list_init(&api->alive);
    const struct service_options service = {
        .loop = api->loop,
        .state = api->state,
        .daemon = "blockd",
        .listen = options->listen,
        .tables = api_tables(),
    };
    int result = service_init(&api->service, &service, err);
    if (result != 0) {
        free(api);
        return result;
    }
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
    api->service.is_stopping = true;
    api_watch_stop_all(api);
    api_wait_stop_all(api);
    service_refuse(&api->service);
}

void
api_free(struct api *api)
{
    if (api == NULL) {
        return;
    }
    service_done(&api->service);
    loop_timer_cancel(api->loop, &api->tick);
    state_unsubscribe(api->state, &api->listener);
    api_alive_free(api);
    free(api);
}
