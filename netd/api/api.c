/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "netd/api/internal.h"

#define TICK_NS NS_PER_S

struct netd_api *
netd_api_of(const struct rpc_call *call)
{
    return container_of(service_of(call), struct netd_api, service);
}

/* An address of a subnet is free again. */
static void
api_address_freed(struct netd_api *api, const struct state_address *row)
{
    const struct state_subnet *subnet =
        state_subnet_get(api->state, &row->subnet);
    struct ip_address address;

    if (subnet == NULL || ip_address_parse(row->ip, &address) != 0) {
        return;
    }
    struct ipam_range range = net_subnet_range(subnet);
    if (ip_prefix_contains(&range.prefix, &address)) {
        ipam_hint_lower(&api->hints, &subnet->row.uuid,
                        ipam_number(&range.prefix, &address));
    }
}

static void
api_changed(struct state_listener *listener, const struct state_change *change)
{
    struct netd_api *api = container_of(listener, struct netd_api, listener);

    if (change->table == STATE_TABLE_ADDRESS && change->old_row != NULL) {
        api_address_freed(api, state_address_from(change->old_row));
    }
    net_host_changed(api, change);
    net_watch_changed(api, change);
}

static void
api_batch_end(struct state_listener *listener)
{
    struct netd_api *api = container_of(listener, struct netd_api, listener);

    net_watch_batch_end(api);
    net_wait_check_all(api);
}

static void
api_tick(struct loop_timer *timer)
{
    struct netd_api *api = container_of(timer, struct netd_api, tick);

    loop_timer_set(api->loop, &api->tick, loop_now_ns() + TICK_NS);
    net_wait_check_all(api); /* Deadlines, and hosts that have died. */
    net_gc_tick(api->gc);
}

static const struct service_table *
api_tables(void)
{
    static struct service_table tables[] = {
        { &weft__v1__network_service__descriptor, net_network_methods, 0 },
        { &weft__v1__subnet_service__descriptor, net_subnet_methods, 0 },
        { &weft__v1__port_service__descriptor, net_port_methods, 0 },
        { &weft__v1__security_group_service__descriptor, net_group_methods, 0 },
        { &weft__v1__security_rule_service__descriptor, net_rule_methods, 0 },
        { &weft__v1__router_service__descriptor, net_router_methods, 0 },
        { &weft__v1__net_host_service__descriptor, net_host_methods, 0 },
        { &weft__v1__diagnosis_service__descriptor, net_diagnosis_methods, 0 },
        { NULL, NULL, 0 },
    };
    const size_t counts[] = {
        net_network_method_count, net_subnet_method_count,
        net_port_method_count,    net_group_method_count,
        net_rule_method_count,    net_router_method_count,
        net_host_method_count,    net_diagnosis_method_count,
    };

    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        tables[i].count = counts[i];
    }
    return tables;
}

int
netd_api_new(const struct netd_api_options *options, struct err *err,
             struct netd_api **ret_api)
{
    struct netd_api *api = calloc(1, sizeof *api);
    struct weft_uuid chance;
    uint64_t seed;

    if (api == NULL) {
        return -ENOMEM;
    }
    api->options = *options;
    api->loop = options->loop;
    api->state = options->state;
    state_uuid_random(&chance);
    memcpy(&seed, chance.bytes, sizeof seed);
    rng_init(&api->rng, seed);
    list_init(&api->reservations);
    net_wait_init(api);
    list_init(&api->watches);
    list_init(&api->traces);
    list_init(&api->alive);
    const struct service_options service = {
        .loop = api->loop,
        .state = api->state,
        .daemon = "netd",
        .database = options->database,
        .listen = options->listen,
        .tables = api_tables(),
    };
    int result = service_init(&api->service, &service, err);
    if (result != 0) {
        free(api);
        return result;
    }
    api->gc = net_gc_new(api);
    api->listener =
        (struct state_listener){ .change = api_changed, .end = api_batch_end };
    state_subscribe(api->state, &api->listener, STATE_TABLES_ALL);
    loop_timer_init(&api->tick, api_tick);
    loop_timer_set(api->loop, &api->tick, loop_now_ns() + TICK_NS);
    *ret_api = api;
    return 0;
}

void
netd_api_stop(struct netd_api *api)
{
    if (api == NULL) {
        return;
    }
    api->service.is_stopping = true;
    net_watch_stop_all(api);
    net_wait_stop_all(api);
    net_trace_stop_all(api);
    net_gc_stop(api->gc);
    service_refuse(&api->service);
}

void
netd_api_free(struct netd_api *api)
{
    if (api == NULL) {
        return;
    }
    service_done(&api->service);
    while (!net_gc_is_idle(api->gc) || !net_wait_is_idle(api) ||
           !net_trace_is_idle(api)) {
        net_wait_stop_all(api);
        loop_run_once(api->loop, loop_now_ns() + 10 * NS_PER_MS);
    }
    loop_timer_cancel(api->loop, &api->tick);
    loop_timer_cancel(api->loop, &api->deadline);
    state_unsubscribe(api->state, &api->listener);
    net_gc_free(api->gc);
    net_host_free(api);
    free(api);
}
