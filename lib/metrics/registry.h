/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_METRICS_REGISTRY_H
#define LIB_METRICS_REGISTRY_H

/* The inside of the registry: private to lib/metrics. */

#include <pthread.h>

#include "lib/base/list.h"
#include "lib/metrics/metrics.h"

/* A family and its series, at least one. */
struct metrics_group {
    struct list node;
    const struct metrics_family *family; /* Of its first series. */
    struct list series;
};

struct metrics_registry {
    pthread_mutex_t lock; /* Of all below, the series' values excepted. */
    struct list families;
};

#endif /* LIB_METRICS_REGISTRY_H */
