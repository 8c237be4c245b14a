/* SPDX-License-Identifier: Apache-2.0 */
/* OpenMetrics 1.0 text.
 *
 *     # TYPE weft_volume_reads counter
 *     # HELP weft_volume_reads Reads that clients asked for.
 *     weft_volume_reads_total{volume="a"} 12
 *     # EOF
 *
 * The text is written under the registry's lock into memory, so that a slow
 * scraper holds nobody up.  A histogram is read once: its buckets, which are
 * cumulative in the text, and its count agree even while it is updated. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/container_of.h"
#include "lib/metrics/registry.h"

static const char *
render_type_name(enum metrics_type type)
{
    switch (type) {
    case METRICS_COUNTER:
        return "counter";
    case METRICS_GAUGE:
        return "gauge";
    case METRICS_HISTOGRAM:
        return "histogram";
    }
    return "unknown";
}

static void
render_help(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            fputs("\\n", file);
        } else if (*text == '\\' || *text == '"') {
            fprintf(file, "\\%c", *text);
        } else {
            fputc(*text, file);
        }
    }
}

/* "{labels}", or nothing. */
static void
render_labels(FILE *file, const char *labels)
{
    if (labels[0] != '\0') {
        fprintf(file, "{%s}", labels);
    }
}

/* Nanoseconds as seconds, exactly, and with a point, as OpenMetrics asks of
 * the bounds. */
static void
render_seconds(FILE *file, uint64_t ns)
{
    char fraction[10];
    snprintf(fraction, sizeof fraction, "%09" PRIu64,
             ns % UINT64_C(1000000000));
    size_t size = 9;
    while (size > 1 && fraction[size - 1] == '0') {
        size--;
    }
    fprintf(file, "%" PRIu64 ".%.*s", ns / UINT64_C(1000000000), (int)size,
            fraction);
}

static void
render_histogram(FILE *file, const char *name,
                 const struct metrics_series *series)
{
    const struct metrics_histogram *histogram = series->value;
    struct metrics_distribution seen = { 0 };
    uint64_t count = 0;
    const char *comma = series->labels[0] != '\0' ? "," : "";

    metrics_histogram_read(histogram, &seen);
    for (uint32_t i = 0; i < METRICS_BUCKET_COUNT; i++) {
        count += seen.buckets[i];
        fprintf(file, "%s_bucket{%s%sle=\"", name, series->labels, comma);
        if (i == METRICS_BUCKET_COUNT - 1) {
            fputs("+Inf", file);
        } else {
            render_seconds(file, metrics_bucket_bound_ns(i));
        }
        fprintf(file, "\"} %" PRIu64 "\n", count);
    }
    fprintf(file, "%s_count", name);
    render_labels(file, series->labels);
    fprintf(file, " %" PRIu64 "\n%s_sum", count, name);
    render_labels(file, series->labels);
    fputc(' ', file);
    render_seconds(file, seen.sum_ns);
    fputc('\n', file);
}

static void
render_series(FILE *file, const struct metrics_family *family,
              const struct metrics_series *series)
{
    const char *name = family->name;

    switch (family->type) {
    case METRICS_COUNTER:
        fprintf(file, "%s_total", name);
        render_labels(file, series->labels);
        fprintf(file, " %" PRIu64 "\n", metrics_counter_read(series->value));
        return;
    case METRICS_GAUGE:
        fputs(name, file);
        render_labels(file, series->labels);
        fprintf(file, " %" PRId64 "\n", metrics_gauge_read(series->value));
        return;
    case METRICS_HISTOGRAM:
        render_histogram(file, name, series);
        return;
    }
}

static void
render_group(FILE *file, const struct metrics_group *group)
{
    const struct metrics_family *family = group->family;

    fprintf(file, "# TYPE %s %s\n", family->name,
            render_type_name(family->type));
    if (family->type == METRICS_HISTOGRAM) {
        fprintf(file, "# UNIT %s seconds\n", family->name);
    }
    fprintf(file, "# HELP %s ", family->name);
    render_help(file, family->help);
    fputc('\n', file);
    LIST_FOREACH (node, &group->series) {
        render_series(file, family,
                      container_of(node, struct metrics_series, node));
    }
}

int
metrics_render(struct metrics_registry *registry, char **ret_text,
               size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL) {
        return -ENOMEM;
    }
    pthread_mutex_lock(&registry->lock);
    LIST_FOREACH (node, &registry->families) {
        render_group(file, container_of(node, struct metrics_group, node));
    }
    pthread_mutex_unlock(&registry->lock);
    fputs("# EOF\n", file);

    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) {
        free(text);
        return -ENOMEM;
    }
    *ret_text = text;
    *ret_size = size;
    return 0;
}
