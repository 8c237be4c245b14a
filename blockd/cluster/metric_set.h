/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_METRIC_SET_H
#define BLOCKD_CLUSTER_METRIC_SET_H

/* Metrics of one object whose numbers a reactor keeps as plain uint64_t.
 *
 * The control thread gets a copy of the numbers (a report) about once a second
 * and hands it to metric_set_update(); /metrics shows them.  So the data path
 * pays nothing for metrics, and what is shown is at most a second old. */

#include <stddef.h>
#include <stdint.h>

#include "lib/metrics/metrics.h"

struct metric_item {
    struct metrics_family family; /* METRICS_COUNTER or METRICS_GAUGE. */
    size_t offset;                /* Of the uint64_t in the report. */
};

#define METRIC_SET_MAX 24u

struct metric_set {
    struct metrics_registry *registry;
    const struct metric_item *items;
    size_t count;
    struct metrics_series series[METRIC_SET_MAX];
    union {
        struct metrics_counter counter;
        struct metrics_gauge gauge;
    } values[METRIC_SET_MAX];
};

/* 'items' is constant; 'labels' are copied.  A family that cannot be added is
 * left out. */
void metric_set_init(struct metric_set *set, struct metrics_registry *registry,
                     const struct metric_item *items, size_t count,
                     const struct metrics_label *labels);
/* A counter never goes back: while the number of an object that began anew is
 * below what was shown, the old value stays. */
void metric_set_update(struct metric_set *set, const void *report);
/* Accepts a set of zeros. */
void metric_set_done(struct metric_set *set);

#endif /* BLOCKD_CLUSTER_METRIC_SET_H */
