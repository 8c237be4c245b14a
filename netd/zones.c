/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/zones.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "netd/unixctl.h"

#define RETRY_NS NS_PER_S
#define ZONE_COUNT 65536u
#define ASKED_MAX 1000u /* Zones of one question. */
#define TUPLE_SIZE sizeof "zone=65535,limit=4294967295"

enum limit_state {
    LIMIT_NONE, /* Not limited, or not since the last connect. */
    LIMIT_WANTED,
    LIMIT_ASKED,
    LIMIT_SET,
};

/* One zone that is being emptied. */
struct emptying {
    struct flow_flush flush;
    struct zones *zones;
    struct loop_timer retry;
    struct list node;
};

struct zones {
    struct zones_options options;
    struct list emptyings;

    uint8_t limits[ZONE_COUNT]; /* enum limit_state */
    uint32_t wanted;            /* How many LIMIT_WANTED. */
    struct loop_timer due;

    /* The question under way.  The thread reads 'params' and writes the answer;
     * the loop's looks at neither until 'answered' has come. */
    bool is_asking;
    pthread_t thread;
    struct loop_post answered;
    char dp[32];
    char tuples[ASKED_MAX][TUPLE_SIZE];
    const char *params[1 + ASKED_MAX];
    size_t param_count;
    int result;
    struct unixctl_answer answer;
    bool is_failure_told;
};

/* ---- Emptying ---- */

static void
empty_again(struct loop_timer *timer)
{
    struct emptying *mine = container_of(timer, struct emptying, retry);

    flow_flush_zone(mine->zones->options.flow, &mine->flush);
}

static void
emptied(struct flow_flush *flush, int result)
{
    struct emptying *mine = container_of(flush, struct emptying, flush);
    struct zones *zones = mine->zones;
    uint32_t zone = flush->zone;

    if (result != 0) {
        log_warning("netd",
                    "the switch did not empty a conntrack zone, trying again; "
                    "its port waits zone=%u result=%d",
                    zone, result);
        loop_timer_set(zones->options.loop, &mine->retry,
                       loop_now_ns() + RETRY_NS);
        return;
    }
    list_remove(&mine->node);
    free(mine);
    zones->options.listener->emptied(zones->options.listener, zone);
}

void
zones_empty(struct zones *zones, uint32_t zone)
{
    struct emptying *mine = calloc(1, sizeof *mine);

    CHECK(mine != NULL);
    mine->zones = zones;
    mine->flush.zone = (uint16_t)zone;
    mine->flush.done = emptied;
    loop_timer_init(&mine->retry, empty_again);
    list_push_back(&zones->emptyings, &mine->node);
    flow_flush_zone(zones->options.flow, &mine->flush);
}

/* ---- Limits ---- */

static void *
ask(void *argument)
{
    struct zones *zones = argument;

    zones->result =
        unixctl_ask(zones->options.run_dir, "dpctl/ct-set-limits",
                    zones->params, zones->param_count, &zones->answer);
    loop_post_send(zones->options.loop, &zones->answered);
    return NULL;
}

static void
ask_for_limits(struct zones *zones)
{
    zones->params[0] = zones->dp;
    zones->param_count = 1;
    for (uint32_t i = 0;
         i < ZONE_COUNT && zones->wanted > 0 && zones->param_count <= ASKED_MAX;
         i++) {
        if (zones->limits[i] != LIMIT_WANTED) {
            continue;
        }
        char *tuple = zones->tuples[zones->param_count - 1];
        (void)snprintf(tuple, TUPLE_SIZE, "zone=%" PRIu32 ",limit=%" PRIu32, i,
                       zones->options.limit);
        zones->params[zones->param_count++] = tuple;
        zones->limits[i] = LIMIT_ASKED;
        zones->wanted--;
    }
    zones->is_asking = true;
    CHECK(pthread_create(&zones->thread, NULL, ask, zones) == 0);
}

static void
limits_due(struct loop_timer *timer)
{
    struct zones *zones = container_of(timer, struct zones, due);

    if (!zones->is_asking && zones->wanted > 0) {
        ask_for_limits(zones);
    }
}

static void
want(struct zones *zones, uint32_t zone)
{
    zones->limits[zone] = LIMIT_WANTED;
    zones->wanted++;
}

static void
answered(struct loop_post *post)
{
    struct zones *zones = container_of(post, struct zones, answered);
    bool has_failed = zones->result != 0;

    CHECK(pthread_join(zones->thread, NULL) == 0);
    zones->is_asking = false;
    free(zones->answer.text);
    for (uint32_t i = 0; i < ZONE_COUNT; i++) {
        if (zones->limits[i] == LIMIT_ASKED && has_failed) {
            want(zones, i);
        } else if (zones->limits[i] == LIMIT_ASKED) {
            zones->limits[i] = LIMIT_SET;
        }
    }
    if (has_failed && !zones->is_failure_told) {
        log_warning("netd",
                    "the switch takes no limit of a port's connections, trying "
                    "on: a guest can fill the table of all reason=%s",
                    zones->answer.reason);
    }
    zones->is_failure_told = has_failed;
    loop_timer_set(zones->options.loop, &zones->due,
                   loop_now_ns() + (has_failed ? RETRY_NS : 0));
}

void
zones_limit(struct zones *zones, uint32_t zone)
{
    CHECK(zone < ZONE_COUNT);
    if (zones->limits[zone] != LIMIT_NONE) {
        return;
    }
    want(zones, zone);
    if (!zones->is_asking && zones->wanted == 1) {
        loop_timer_set(zones->options.loop, &zones->due, loop_now_ns());
    }
}

void
zones_connected(struct zones *zones)
{
    memset(zones->limits, LIMIT_NONE, sizeof zones->limits);
    zones->wanted = 0;
}

/* ---- Life ---- */

struct zones *
zones_new(const struct zones_options *options)
{
    struct zones *zones = calloc(1, sizeof *zones);

    CHECK(zones != NULL);
    zones->options = *options;
    zones->answered.run = answered;
    list_init(&zones->emptyings);
    loop_timer_init(&zones->due, limits_due);
    (void)snprintf(zones->dp, sizeof zones->dp, "%.12s@ovs-%.12s",
                   options->datapath, options->datapath);
    return zones;
}

void
zones_free(struct zones *zones)
{
    struct list *node;

    if (zones == NULL) {
        return;
    }
    while (zones->is_asking) {
        loop_run_once(zones->options.loop, LOOP_NEVER);
    }
    while ((node = list_pop_front(&zones->emptyings)) != NULL) {
        struct emptying *mine = container_of(node, struct emptying, node);
        flow_flush_cancel(zones->options.flow, &mine->flush);
        loop_timer_cancel(zones->options.loop, &mine->retry);
        free(mine);
    }
    loop_timer_cancel(zones->options.loop, &zones->due);
    free(zones);
}
