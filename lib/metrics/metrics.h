/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_METRICS_METRICS_H
#define LIB_METRICS_METRICS_H

/* Counters, gauges and histograms, and the registry that lists them.
 *
 * A value is embedded in what it measures and has one writing thread (usually
 * the reactor that owns the object): an update is a plain load and store, with
 * no locked instruction and no shared cache line.  Any thread may read, with
 * relaxed atomics: a reader sees some recent value of each, and of several
 * values no common instant.
 *
 *     struct volume_stats {
 *         struct metrics_counter reads;
 *         struct metrics_series reads_series;
 *     };
 *     metrics_add_counter(registry, &volume_reads_family,
 *                         &stats->reads_series, &stats->reads,
 *                         (const struct metrics_label[]){
 *                             { "volume", name }, { NULL, NULL } });
 *     ...
 *     metrics_counter_add(&stats->reads, 1);         on the owner's thread
 *     ...
 *     metrics_remove(registry, &stats->reads_series);  before it is freed
 *
 * A value that several threads write is split: one value for each, with a
 * label that tells them apart ("reactor"), and the reader's sum().
 *
 * Invariants:
 *
 *   (1) A family has one name, type and help; the registry refuses another
 *       family of the same name.
 *   (2) Two series of a family differ in their labels.
 *   (3) After metrics_remove() has returned, nobody reads the value.
 *
 * Threads: adding, removing and rendering may be done by any thread; they take
 * the registry's lock.  Updating takes none. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/list.h"

/* ---- Values ---- */

/* Only grows. */
struct metrics_counter {
    _Atomic uint64_t value;
};

static inline void
metrics_counter_add(struct metrics_counter *counter, uint64_t amount)
{
    uint64_t value =
        atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, value + amount,
                          memory_order_relaxed);
}

/* For the rare value with several writers. */
static inline void
metrics_counter_add_shared(struct metrics_counter *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(&counter->value, amount, memory_order_relaxed);
}

static inline uint64_t
metrics_counter_read(const struct metrics_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/* Goes up and down. */
struct metrics_gauge {
    _Atomic int64_t value;
};

static inline void
metrics_gauge_set(struct metrics_gauge *gauge, int64_t value)
{
    atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

static inline int64_t
metrics_gauge_read(const struct metrics_gauge *gauge)
{
    return atomic_load_explicit(&gauge->value, memory_order_relaxed);
}

static inline void
metrics_gauge_add(struct metrics_gauge *gauge, int64_t amount)
{
    metrics_gauge_set(gauge, metrics_gauge_read(gauge) + amount);
}

/* Distribution of durations.  Two buckets an octave: their upper bounds are
 * 2^k and 1.5 * 2^k ns, from 1.024 us to 34 s; the last bucket has no bound.
 * A quantile read from it is at most half too high. */
#define METRICS_BUCKET_COUNT 52u
#define METRICS_BUCKET_FIRST_SHIFT 10u

struct metrics_histogram {
    _Atomic uint64_t buckets[METRICS_BUCKET_COUNT];
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t max_ns; /* Not rendered; for `show` and tests. */
};

/* Index of the bucket of a duration: the first whose bound is not below it. */
static inline uint32_t
metrics_bucket_index(uint64_t duration_ns)
{
    if (duration_ns <= UINT64_C(1) << METRICS_BUCKET_FIRST_SHIFT) {
        return 0;
    }
    /* The largest k with 2^k < duration, and which half of that octave. */
    uint64_t below = duration_ns - 1;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(below);
    uint32_t half = (uint32_t)(below >> (shift - 1)) & 1u;
    uint32_t index = (shift - METRICS_BUCKET_FIRST_SHIFT) * 2 + half + 1;
    return index < METRICS_BUCKET_COUNT ? index : METRICS_BUCKET_COUNT - 1;
}

/* Upper bound, included, of a bucket; UINT64_MAX for the last. */
static inline uint64_t
metrics_bucket_bound_ns(uint32_t index)
{
    if (index == METRICS_BUCKET_COUNT - 1) {
        return UINT64_MAX;
    }
    uint64_t power = UINT64_C(1) << (METRICS_BUCKET_FIRST_SHIFT + index / 2);
    return index % 2 == 0 ? power : power + power / 2;
}

static inline void
metrics_histogram_add(struct metrics_histogram *histogram, uint64_t duration_ns)
{
    _Atomic uint64_t *bucket =
        &histogram->buckets[metrics_bucket_index(duration_ns)];
    uint64_t count = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(bucket, count + 1, memory_order_relaxed);

    uint64_t sum =
        atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    atomic_store_explicit(&histogram->sum_ns, sum + duration_ns,
                          memory_order_relaxed);
    if (duration_ns >
        atomic_load_explicit(&histogram->max_ns, memory_order_relaxed)) {
        atomic_store_explicit(&histogram->max_ns, duration_ns,
                              memory_order_relaxed);
    }
}

/* What a reader saw; sums over several histograms by adding to it. */
struct metrics_distribution {
    uint64_t buckets[METRICS_BUCKET_COUNT];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

/* Adds what 'histogram' holds to '*distribution', which is zero at first. */
void metrics_histogram_read(const struct metrics_histogram *histogram,
                            struct metrics_distribution *distribution);

/* Bound of the bucket in which the given part of the durations ends (500 for
 * the median, 990 for p99, 1000 for the maximum), but not above the maximum;
 * 0 if there are none. */
uint64_t metrics_distribution_quantile_ns(
    const struct metrics_distribution *distribution, uint32_t per_mille);

/* ---- Registry ---- */

enum metrics_type {
    METRICS_COUNTER,
    METRICS_GAUGE,
    METRICS_HISTOGRAM,
};

/* Constant; usually a static object beside the code that updates it.  'name'
 * matches [a-z][a-z0-9_]*, without the suffix "_total" of counters; that of a
 * histogram ends in "_seconds". */
struct metrics_family {
    const char *name;
    const char *help;
    enum metrics_type type;
};

/* A list of labels ends with a NULL name.  Names match [a-z][a-z0-9_]*, but not
 * "le"; values are any UTF-8. */
struct metrics_label {
    const char *name;
    const char *value;
};

#define METRICS_LABELS_SIZE 512

/* One value's entry in the registry, embedded beside the value. */
struct metrics_series {
    /* Private to metrics.c. */
    struct list node;
    const void *value;
    char labels[METRICS_LABELS_SIZE]; /* 'name="value",...', escaped. */
};

struct metrics_registry;

/* -ENOMEM. */
WEFT_MUST_CHECK int
metrics_registry_new(struct metrics_registry **ret_registry);

/* Accepts NULL.  Series that are left are forgotten, not touched. */
void metrics_registry_free(struct metrics_registry *registry);

/* Add one value.  'labels' may be NULL; it is copied.  'family', 'series' and
 * the value are borrowed until metrics_remove().  -EEXIST: invariant (1) or
 * (2).  -ENAMETOOLONG: the labels exceed METRICS_LABELS_SIZE.  -ENOMEM.  A
 * malformed family or label name, or a family of the wrong type, is a
 * programmer's error. */
WEFT_MUST_CHECK int metrics_add_counter(struct metrics_registry *registry,
                                        const struct metrics_family *family,
                                        struct metrics_series *series,
                                        const struct metrics_counter *counter,
                                        const struct metrics_label *labels);
WEFT_MUST_CHECK int metrics_add_gauge(struct metrics_registry *registry,
                                      const struct metrics_family *family,
                                      struct metrics_series *series,
                                      const struct metrics_gauge *gauge,
                                      const struct metrics_label *labels);
WEFT_MUST_CHECK int metrics_add_histogram(
    struct metrics_registry *registry, const struct metrics_family *family,
    struct metrics_series *series, const struct metrics_histogram *histogram,
    const struct metrics_label *labels);

/* Does nothing for a series of zeros, or one that was removed. */
void metrics_remove(struct metrics_registry *registry,
                    struct metrics_series *series);

/* The registry as OpenMetrics 1.0 text; the caller frees '*ret_text'.
 * -ENOMEM. */
WEFT_MUST_CHECK int metrics_render(struct metrics_registry *registry,
                                   char **ret_text, size_t *ret_size);

#define METRICS_CONTENT_TYPE \
    "application/openmetrics-text; version=1.0.0; charset=utf-8"

#endif /* LIB_METRICS_METRICS_H */
