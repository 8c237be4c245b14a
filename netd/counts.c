/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/counts.h"

#include <stdlib.h>

#include "lib/base/array.h"
#include "netd/bind/bind.h"
#include "netd/compile/compile.h"
#include "netd/compile/pipeline.h"
#include "netd/flow/flow.h"
#include "netd/sync/cloud.h"
#include "netd/sync/follow.h"

enum gauge {
    GAUGE_DATABASE_CONNECTED,
    GAUGE_ROWS_COMPLETE,
    GAUGE_SWITCH_CONNECTED,
    GAUGE_SWITCH_IN_SYNC,
    GAUGE_ROWS,
    GAUGE_UNITS,
    GAUGE_DEPENDENCIES,
    GAUGE_SCOPES,
    GAUGE_PORTS_SCHEDULED,
    GAUGE_PORTS_BOUND,
    GAUGE_PORTS_UP,
    GAUGE_PORTS_DOWN,
    GAUGE_FLOWS_DESIRED,
    GAUGE_FLOWS_INSTALLED,
    GAUGE_FLOWS_PENDING,
    GAUGE_FLOWS_REJECTED,
    GAUGE_FLOWS_CONFLICTS,
    GAUGE_METERS,
    GAUGE_COUNT,
};

static const struct {
    struct metrics_family family;
    const char *label, *value;
} gauges[GAUGE_COUNT] = {
    [GAUGE_DATABASE_CONNECTED] = { { "weft_netd_database_connected",
                                     "Whether the Weft database answers.",
                                     METRICS_GAUGE },
                                   NULL,
                                   NULL },
    [GAUGE_ROWS_COMPLETE] = { { "weft_netd_rows_complete",
                                "Whether all rows that this host needs are "
                                "known.",
                                METRICS_GAUGE },
                              NULL,
                              NULL },
    [GAUGE_SWITCH_CONNECTED] = { { "weft_netd_switch_connected",
                                   "Whether the switch answers.",
                                   METRICS_GAUGE },
                                 NULL,
                                 NULL },
    [GAUGE_SWITCH_IN_SYNC] = { { "weft_netd_switch_in_sync",
                                 "Whether the switch has all flows that it "
                                 "should.",
                                 METRICS_GAUGE },
                               NULL,
                               NULL },
    [GAUGE_ROWS] = { { "weft_netd_rows",
                       "Rows of the Weft database that are "
                       "followed.",
                       METRICS_GAUGE },
                     NULL,
                     NULL },
    [GAUGE_UNITS] = { { "weft_netd_compile_units",
                        "Units of the compiler that have flows.",
                        METRICS_GAUGE },
                      NULL,
                      NULL },
    [GAUGE_DEPENDENCIES] = { { "weft_netd_compile_dependencies",
                               "What the compiler's units have read.",
                               METRICS_GAUGE },
                             NULL,
                             NULL },
    [GAUGE_SCOPES] = { { "weft_netd_scopes",
                         "Networks, routers and groups that are followed.",
                         METRICS_GAUGE },
                       NULL,
                       NULL },
    [GAUGE_PORTS_SCHEDULED] = { { "weft_netd_ports", "Ports on this host.",
                                  METRICS_GAUGE },
                                "state",
                                "scheduled" },
    [GAUGE_PORTS_BOUND] = { { "weft_netd_ports", "Ports on this host.",
                              METRICS_GAUGE },
                            "state",
                            "bound" },
    [GAUGE_PORTS_UP] = { { "weft_netd_ports", "Ports on this host.",
                           METRICS_GAUGE },
                         "state",
                         "up" },
    [GAUGE_PORTS_DOWN] = { { "weft_netd_ports", "Ports on this host.",
                             METRICS_GAUGE },
                           "state",
                           "down" },
    [GAUGE_FLOWS_DESIRED] = { { "weft_netd_flows", "Flows of the switch.",
                                METRICS_GAUGE },
                              "state",
                              "desired" },
    [GAUGE_FLOWS_INSTALLED] = { { "weft_netd_flows", "Flows of the switch.",
                                  METRICS_GAUGE },
                                "state",
                                "installed" },
    [GAUGE_FLOWS_PENDING] = { { "weft_netd_flows", "Flows of the switch.",
                                METRICS_GAUGE },
                              "state",
                              "pending" },
    [GAUGE_FLOWS_REJECTED] = { { "weft_netd_flows", "Flows of the switch.",
                                 METRICS_GAUGE },
                               "state",
                               "rejected" },
    [GAUGE_FLOWS_CONFLICTS] = { { "weft_netd_flows", "Flows of the switch.",
                                  METRICS_GAUGE },
                                "state",
                                "conflicting" },
    [GAUGE_METERS] = { { "weft_netd_meters", "Meters of the switch.",
                         METRICS_GAUGE },
                       NULL,
                       NULL },
};

enum counter {
    COUNTER_EMISSIONS,
    COUNTER_DATABASE_CONNECTS,
    COUNTER_SWITCH_CONNECTS,
    COUNTER_BUNDLES,
    COUNTER_BUNDLE_FAILURES,
    COUNTER_FLOW_MODS,
    COUNTER_RESYNCED,
    COUNTER_DRIFT,
    COUNTER_PACKET_INS_BAD,
    COUNTER_COUNT,
};

static const struct metrics_family counters[COUNTER_COUNT] = {
    [COUNTER_EMISSIONS] = { "weft_netd_compile_emissions",
                            "Calls of the compiler's emitters.",
                            METRICS_COUNTER },
    [COUNTER_DATABASE_CONNECTS] = { "weft_netd_database_connects",
                                    "Connections made to the Weft database.",
                                    METRICS_COUNTER },
    [COUNTER_SWITCH_CONNECTS] = { "weft_netd_switch_connects",
                                  "Connections made to the switch.",
                                  METRICS_COUNTER },
    [COUNTER_BUNDLES] = { "weft_netd_bundles", "Bundles of flows sent.",
                          METRICS_COUNTER },
    [COUNTER_BUNDLE_FAILURES] = { "weft_netd_bundle_failures",
                                  "Bundles that the switch refused.",
                                  METRICS_COUNTER },
    [COUNTER_FLOW_MODS] = { "weft_netd_flow_mods",
                            "Flows added, changed and deleted.",
                            METRICS_COUNTER },
    [COUNTER_RESYNCED] = { "weft_netd_flows_resynced",
                           "Flows found different after a connection was "
                           "made.",
                           METRICS_COUNTER },
    [COUNTER_DRIFT] = { "weft_netd_flows_drifted",
                        "Flows and meters found different by self-checks.",
                        METRICS_COUNTER },
    [COUNTER_PACKET_INS_BAD] = { "weft_netd_packet_ins_malformed",
                                 "Messages with a packet that made no sense.",
                                 METRICS_COUNTER },
};

static const char *const kinds[PACKET_IN_KIND_COUNT] = {
    [0] = "other",
    [PACKET_IN_DHCP4] = "dhcp4",
    [PACKET_IN_DHCP6] = "dhcp6",
    [PACKET_IN_RS] = "rs",
    [PACKET_IN_NS] = "ns",
    [PACKET_IN_TTL] = "ttl",
    [PACKET_IN_TOO_BIG] = "too_big",
    [PACKET_IN_UNREACHABLE] = "unreachable",
    [PACKET_IN_ROUTER] = "router",
};

static const struct metrics_family packet_ins = {
    "weft_netd_packet_ins", "Packets of guests handled by netd.",
    METRICS_COUNTER
};

struct counts {
    struct metrics_registry *registry;
    struct metrics_gauge gauges[GAUGE_COUNT];
    struct metrics_series gauge_series[GAUGE_COUNT];
    struct metrics_counter counters[COUNTER_COUNT];
    struct metrics_series counter_series[COUNTER_COUNT];
    struct metrics_counter packets[PACKET_IN_KIND_COUNT][2];
    struct metrics_series packet_series[PACKET_IN_KIND_COUNT][2];
};

struct counts *
counts_new(struct metrics_registry *registry)
{
    struct counts *counts = calloc(1, sizeof *counts);

    CHECK(counts != NULL);
    counts->registry = registry;
    for (size_t i = 0; i < GAUGE_COUNT; i++) {
        struct metrics_label labels[] = {
            { gauges[i].label, gauges[i].value },
            { NULL, NULL },
        };
        CHECK(metrics_add_gauge(registry, &gauges[i].family,
                                &counts->gauge_series[i], &counts->gauges[i],
                                labels) == 0);
    }
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        CHECK(metrics_add_counter(registry, &counters[i],
                                  &counts->counter_series[i],
                                  &counts->counters[i], NULL) == 0);
    }
    for (size_t i = 0; i < PACKET_IN_KIND_COUNT; i++) {
        for (size_t j = 0; j < 2; j++) {
            struct metrics_label labels[] = {
                { "kind", kinds[i] },
                { "result", j == 0 ? "answered" : "dropped" },
                { NULL, NULL },
            };
            CHECK(metrics_add_counter(registry, &packet_ins,
                                      &counts->packet_series[i][j],
                                      &counts->packets[i][j], labels) == 0);
        }
    }
    return counts;
}

void
counts_free(struct counts *counts)
{
    if (counts == NULL) {
        return;
    }
    for (size_t i = 0; i < GAUGE_COUNT; i++) {
        metrics_remove(counts->registry, &counts->gauge_series[i]);
    }
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        metrics_remove(counts->registry, &counts->counter_series[i]);
    }
    for (size_t i = 0; i < PACKET_IN_KIND_COUNT; i++) {
        metrics_remove(counts->registry, &counts->packet_series[i][0]);
        metrics_remove(counts->registry, &counts->packet_series[i][1]);
    }
    free(counts);
}

void
counts_packet_in(struct counts *counts, uint32_t kind, int result)
{
    size_t row = kind < PACKET_IN_KIND_COUNT ? kind : 0;

    metrics_counter_add(&counts->packets[row][result == 0 ? 0 : 1], 1);
}

static void
set(struct counts *counts, enum gauge gauge, uint64_t value)
{
    metrics_gauge_set(&counts->gauges[gauge], (int64_t)value);
}

/* The part's own counter only grows. */
static void
raise(struct counts *counts, enum counter counter, uint64_t value)
{
    uint64_t now = metrics_counter_read(&counts->counters[counter]);

    metrics_counter_add(&counts->counters[counter], value - now);
}

static void
update_flow(struct counts *counts, const struct flow_switch *flow)
{
    struct flow_status status;

    flow_get_status(flow, &status);
    set(counts, GAUGE_SWITCH_CONNECTED, status.is_connected);
    set(counts, GAUGE_SWITCH_IN_SYNC, status.is_in_sync);
    set(counts, GAUGE_FLOWS_DESIRED, status.desired);
    set(counts, GAUGE_FLOWS_INSTALLED, status.installed);
    set(counts, GAUGE_FLOWS_PENDING, status.pending);
    set(counts, GAUGE_FLOWS_REJECTED, status.rejected);
    set(counts, GAUGE_FLOWS_CONFLICTS, status.conflicts);
    set(counts, GAUGE_METERS, status.meters);
    raise(counts, COUNTER_SWITCH_CONNECTS, status.connects);
    raise(counts, COUNTER_BUNDLES, status.bundles);
    raise(counts, COUNTER_BUNDLE_FAILURES, status.bundle_failures);
    raise(counts, COUNTER_FLOW_MODS, status.flow_mods);
    raise(counts, COUNTER_RESYNCED, status.resynced);
    raise(counts, COUNTER_DRIFT,
          status.drift.missing + status.drift.changed + status.drift.foreign +
              status.drift.meters);
    raise(counts, COUNTER_PACKET_INS_BAD, status.packet_ins_bad);
}

void
counts_update(struct counts *counts, const struct counts_of *of)
{
    struct cloud_status cloud;
    struct compile_counts compile;
    struct bind_counts ports;

    cloud_get_status(of->cloud, &cloud);
    set(counts, GAUGE_DATABASE_CONNECTED, cloud.is_connected);
    set(counts, GAUGE_ROWS_COMPLETE, cloud.is_complete);
    raise(counts, COUNTER_DATABASE_CONNECTS, cloud.connects);
    compile_count(of->compile, &compile);
    set(counts, GAUGE_ROWS, compile.rows);
    set(counts, GAUGE_UNITS, compile.units);
    set(counts, GAUGE_DEPENDENCIES, compile.dependencies);
    raise(counts, COUNTER_EMISSIONS, compile.emissions);
    set(counts, GAUGE_SCOPES, follow_count(of->follow));
    bind_count(of->bind, &ports);
    set(counts, GAUGE_PORTS_SCHEDULED, ports.scheduled);
    set(counts, GAUGE_PORTS_BOUND, ports.bound);
    set(counts, GAUGE_PORTS_UP, ports.up);
    set(counts, GAUGE_PORTS_DOWN, ports.down);
    update_flow(counts, of->flow);
}
