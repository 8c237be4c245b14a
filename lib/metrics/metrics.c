/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: a list of families, each with its list of series, so that the
 * samples of a family stand together, as OpenMetrics wants it.  Rendering is
 * in render.c. */

#include "lib/metrics/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/metrics/registry.h"

static bool
metrics_name_is_valid(const char *name)
{
    if (name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

static bool
metrics_text_ends_with(const char *text, const char *suffix)
{
    size_t text_size = strlen(text);
    size_t suffix_size = strlen(suffix);
    return text_size >= suffix_size &&
           strcmp(text + text_size - suffix_size, suffix) == 0;
}

int
metrics_registry_new(struct metrics_registry **ret_registry)
{
    struct metrics_registry *registry = calloc(1, sizeof *registry);
    if (registry == NULL) {
        return -ENOMEM;
    }
    int result = pthread_mutex_init(&registry->lock, NULL);
    if (result != 0) {
        free(registry);
        return -result;
    }
    list_init(&registry->families);
    *ret_registry = registry;
    return 0;
}

void
metrics_registry_free(struct metrics_registry *registry)
{
    if (registry == NULL) {
        return;
    }
    LIST_FOREACH (node, &registry->families) {
        list_remove(node);
        free(container_of(node, struct metrics_group, node));
    }
    pthread_mutex_destroy(&registry->lock);
    free(registry);
}

/* Appends one label to 'text'; false if it does not fit. */
static bool
metrics_labels_append(char *text, size_t *size, const char *name,
                      const char *value)
{
    size_t used = *size;
    /* Each byte of the value takes up to two; then ',' '="' '"' and NUL. */
    size_t room = METRICS_LABELS_SIZE - used;

    if (strlen(name) + 2 * strlen(value) + 5 > room) {
        return false;
    }
    if (used > 0) {
        text[used++] = ',';
    }
    memcpy(text + used, name, strlen(name));
    used += strlen(name);
    text[used++] = '=';
    text[used++] = '"';
    for (const char *byte = value; *byte != '\0'; byte++) {
        if (*byte == '\\' || *byte == '"' || *byte == '\n') {
            text[used++] = '\\';
        }
        text[used++] = *byte == '\n' ? 'n' : *byte;
    }
    text[used++] = '"';
    text[used] = '\0';
    *size = used;
    return true;
}

static int
metrics_labels_format(const struct metrics_label *labels,
                      char ret_text[METRICS_LABELS_SIZE])
{
    size_t size = 0;

    ret_text[0] = '\0';
    for (; labels != NULL && labels->name != NULL; labels++) {
        CHECK(metrics_name_is_valid(labels->name));
        CHECK(strcmp(labels->name, "le") != 0);
        if (!metrics_labels_append(ret_text, &size, labels->name,
                                   labels->value)) {
            return -ENAMETOOLONG;
        }
    }
    return 0;
}

/* The group of 'family', which is made if needed; the lock is held. */
static int
metrics_group_get(struct metrics_registry *registry,
                  const struct metrics_family *family,
                  struct metrics_group **ret_group)
{
    LIST_FOREACH (node, &registry->families) {
        struct metrics_group *group =
            container_of(node, struct metrics_group, node);
        if (strcmp(group->family->name, family->name) != 0) {
            continue;
        }
        if (group->family->type != family->type ||
            strcmp(group->family->help, family->help) != 0) {
            return -EEXIST; /* (1) */
        }
        *ret_group = group;
        return 0;
    }
    struct metrics_group *group = calloc(1, sizeof *group);
    if (group == NULL) {
        return -ENOMEM;
    }
    group->family = family;
    list_init(&group->series);
    list_push_back(&registry->families, &group->node);
    *ret_group = group;
    return 0;
}

static int
metrics_add_locked(struct metrics_registry *registry,
                   const struct metrics_family *family,
                   struct metrics_series *series)
{
    struct metrics_group *group;
    int result = metrics_group_get(registry, family, &group);
    if (result < 0) {
        return result;
    }
    LIST_FOREACH (node, &group->series) {
        const struct metrics_series *other =
            container_of(node, struct metrics_series, node);
        if (strcmp(other->labels, series->labels) == 0) {
            return -EEXIST; /* (2) */
        }
    }
    list_push_back(&group->series, &series->node);
    return 0;
}

static int
metrics_add(struct metrics_registry *registry,
            const struct metrics_family *family, struct metrics_series *series,
            const void *value, const struct metrics_label *labels)
{
    CHECK(metrics_name_is_valid(family->name));
    CHECK(!metrics_text_ends_with(family->name, "_total"));
    CHECK(family->type != METRICS_HISTOGRAM ||
          metrics_text_ends_with(family->name, "_seconds"));

    char text[METRICS_LABELS_SIZE];
    int result = metrics_labels_format(labels, text);
    if (result < 0) {
        return result;
    }
    memcpy(series->labels, text, sizeof series->labels);
    series->value = value;
    list_init(&series->node);

    pthread_mutex_lock(&registry->lock);
    result = metrics_add_locked(registry, family, series);
    pthread_mutex_unlock(&registry->lock);
    return result;
}

int
metrics_add_counter(struct metrics_registry *registry,
                    const struct metrics_family *family,
                    struct metrics_series *series,
                    const struct metrics_counter *counter,
                    const struct metrics_label *labels)
{
    CHECK(family->type == METRICS_COUNTER);
    return metrics_add(registry, family, series, counter, labels);
}

int
metrics_add_gauge(struct metrics_registry *registry,
                  const struct metrics_family *family,
                  struct metrics_series *series,
                  const struct metrics_gauge *gauge,
                  const struct metrics_label *labels)
{
    CHECK(family->type == METRICS_GAUGE);
    return metrics_add(registry, family, series, gauge, labels);
}

int
metrics_add_histogram(struct metrics_registry *registry,
                      const struct metrics_family *family,
                      struct metrics_series *series,
                      const struct metrics_histogram *histogram,
                      const struct metrics_label *labels)
{
    CHECK(family->type == METRICS_HISTOGRAM);
    return metrics_add(registry, family, series, histogram, labels);
}

void
metrics_remove(struct metrics_registry *registry, struct metrics_series *series)
{
    /* Zeros are recognised before the lock: an object that was never added
     * may belong to no registry. */
    if (series->value == NULL) {
        return;
    }
    pthread_mutex_lock(&registry->lock);
    struct list *before = series->node.prev;
    list_remove(&series->node);
    /* The last one of its group takes the group along, so that the family's
     * name, which is borrowed, is not kept. */
    if (before != &series->node && list_is_empty(before)) {
        struct metrics_group *group =
            container_of(before, struct metrics_group, series);
        list_remove(&group->node);
        free(group);
    }
    series->value = NULL;
    pthread_mutex_unlock(&registry->lock);
}

void
metrics_histogram_read(const struct metrics_histogram *histogram,
                       struct metrics_distribution *distribution)
{
    for (uint32_t i = 0; i < METRICS_BUCKET_COUNT; i++) {
        uint64_t count =
            atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        distribution->buckets[i] += count;
        distribution->count += count;
    }
    distribution->sum_ns +=
        atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    uint64_t max_ns =
        atomic_load_explicit(&histogram->max_ns, memory_order_relaxed);
    if (max_ns > distribution->max_ns) {
        distribution->max_ns = max_ns;
    }
}

uint64_t
metrics_distribution_quantile_ns(
    const struct metrics_distribution *distribution, uint32_t per_mille)
{
    CHECK(per_mille <= 1000);
    if (distribution->count == 0) {
        return 0;
    }
    /* Rounded up: the median of three is the second.  Divided first, so that
     * it cannot overflow. */
    uint64_t rank = distribution->count / 1000 * per_mille +
                    (distribution->count % 1000 * per_mille + 999) / 1000;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < METRICS_BUCKET_COUNT; i++) {
        seen += distribution->buckets[i];
        if (seen >= rank && seen > 0) {
            uint64_t bound = metrics_bucket_bound_ns(i);
            return bound < distribution->max_ns ? bound : distribution->max_ns;
        }
    }
    return distribution->max_ns;
}
