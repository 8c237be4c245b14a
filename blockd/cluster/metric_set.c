/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/metric_set.h"

#include <string.h>

#include "lib/base/check.h"
#include "lib/base/log.h"

void
metric_set_init(struct metric_set *set, struct metrics_registry *registry,
                const struct metric_item *items, size_t count,
                const struct metrics_label *labels)
{
    CHECK(count <= METRIC_SET_MAX);

    memset(set, 0, sizeof *set);
    set->registry = registry;
    set->items = items;
    set->count = count;
    for (size_t i = 0; registry != NULL && i < count; i++) {
        int result =
            items[i].family.type == METRICS_COUNTER
                ? metrics_add_counter(registry, &items[i].family,
                                      &set->series[i], &set->values[i].counter,
                                      labels)
                : metrics_add_gauge(registry, &items[i].family, &set->series[i],
                                    &set->values[i].gauge, labels);
        if (result != 0) {
            log_debug("cluster", "metric left out name=%s result=%d",
                      items[i].family.name, result);
        }
    }
}

void
metric_set_update(struct metric_set *set, const void *report)
{
    for (size_t i = 0; i < set->count; i++) {
        uint64_t now;
        memcpy(&now, (const char *)report + set->items[i].offset, sizeof now);
        if (set->items[i].family.type == METRICS_GAUGE) {
            metrics_gauge_set(&set->values[i].gauge, (int64_t)now);
            continue;
        }
        uint64_t shown = metrics_counter_read(&set->values[i].counter);
        if (now > shown) {
            metrics_counter_add(&set->values[i].counter, now - shown);
        }
    }
}

void
metric_set_done(struct metric_set *set)
{
    for (size_t i = 0; set->registry != NULL && i < set->count; i++) {
        metrics_remove(set->registry, &set->series[i]);
    }
    set->registry = NULL;
    set->count = 0;
}
