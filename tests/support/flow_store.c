/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/flow_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"

static size_t
place_of(const struct flow_store *store, uint64_t unit)
{
    size_t low = 0, high = store->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (store->units[middle].unit < unit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void
free_flows(struct flow_spec **flows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        flow_spec_unref(flows[i]);
    }
    free(flows);
}

static bool
same(struct flow_spec *const *a, size_t a_count, struct flow_spec *const *b,
     size_t b_count)
{
    if (a_count != b_count) {
        return false;
    }
    for (size_t i = 0; i < a_count; i++) {
        if (flow_spec_compare(a[i], b[i]) != 0) {
            return false;
        }
    }
    return true;
}

static void
replace(struct compile_sink *sink, uint64_t unit,
        struct flow_spec *const *old_flows, size_t old_count,
        struct flow_spec *const *new_flows, size_t new_count)
{
    struct flow_store *store = container_of(sink, struct flow_store, sink);
    size_t at = place_of(store, unit);
    bool is_known = at < store->count && store->units[at].unit == unit;

    store->calls++;
    CHECK(is_known == (old_count > 0));
    CHECK(!same(old_flows, old_count, new_flows, new_count));
    for (size_t i = 1; i < new_count; i++) {
        CHECK(flow_spec_compare(new_flows[i - 1], new_flows[i]) < 0);
        CHECK(!flow_spec_same_key(new_flows[i - 1], new_flows[i]));
    }
    if (is_known) {
        CHECK(same(store->units[at].flows, store->units[at].count, old_flows,
                   old_count));
        free_flows(store->units[at].flows, store->units[at].count);
        memmove(&store->units[at], &store->units[at + 1],
                (store->count - at - 1) * sizeof store->units[0]);
        store->count--;
    }
    if (new_count == 0) {
        return;
    }
    if (store->count == store->capacity) {
        store->capacity = store->capacity * 2 + 16;
        store->units =
            realloc(store->units, store->capacity * sizeof store->units[0]);
        CHECK(store->units != NULL);
    }
    memmove(&store->units[at + 1], &store->units[at],
            (store->count - at) * sizeof store->units[0]);
    store->count++;

    struct flow_spec **flows = calloc(new_count, sizeof(struct flow_spec *));
    CHECK(flows != NULL);
    for (size_t i = 0; i < new_count; i++) {
        flows[i] = flow_spec_ref(new_flows[i]);
    }
    store->units[at] = (struct flow_store_unit){ unit, flows, new_count };
}

void
flow_store_init(struct flow_store *store)
{
    *store = (struct flow_store){ .sink = { replace } };
}

void
flow_store_done(struct flow_store *store)
{
    for (size_t i = 0; i < store->count; i++) {
        free_flows(store->units[i].flows, store->units[i].count);
    }
    free(store->units);
    *store = (struct flow_store){ .sink = { replace } };
}

/* ---- As one table ---- */

static int
compare_flows(const void *a, const void *b)
{
    struct flow_spec *const *x = a;
    struct flow_spec *const *y = b;
    return flow_spec_compare(*x, *y);
}

static void
complain(const char *what, const struct flow_spec *flow)
{
    char text[2048];
    flow_spec_format(flow, text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
}

static struct flow_spec *
join(struct flow_spec *a, struct flow_spec *b)
{
    struct flow_spec *joined;

    if (flow_spec_same_actions(a, b)) {
        joined = flow_spec_ref(a);
    } else {
        if (!flow_spec_is_conjunctive(a) || !flow_spec_is_conjunctive(b)) {
            complain("contradiction", a);
            complain("contradiction", b);
        }
        joined = flow_spec_merge(a, b);
    }
    flow_spec_unref(a);
    flow_spec_unref(b);
    return joined;
}

struct flow_spec **
flow_store_table(const struct flow_store *store, size_t *ret_count)
{
    size_t count = 0, left = 0;
    for (size_t i = 0; i < store->count; i++) {
        count += store->units[i].count;
    }

    struct flow_spec **flows = calloc(count + 1, sizeof(struct flow_spec *));
    CHECK(flows != NULL);
    count = 0;
    for (size_t i = 0; i < store->count; i++) {
        for (size_t j = 0; j < store->units[i].count; j++) {
            flows[count++] = flow_spec_ref(store->units[i].flows[j]);
        }
    }
    qsort(flows, count, sizeof(struct flow_spec *), compare_flows);
    for (size_t i = 0; i < count; i++) {
        if (left > 0 && flow_spec_same_key(flows[left - 1], flows[i])) {
            flows[left - 1] = join(flows[left - 1], flows[i]);
        } else {
            flows[left++] = flows[i];
        }
    }
    *ret_count = left;
    return flows;
}

void
flow_store_table_free(struct flow_spec **flows, size_t count)
{
    free_flows(flows, count);
}

/* ---- Comparing ---- */

/* All flows of all units, sorted, doubles included. */
static struct flow_spec **
all_flows(const struct flow_store *store, size_t *ret_count)
{
    size_t count = 0;
    for (size_t i = 0; i < store->count; i++) {
        count += store->units[i].count;
    }
    struct flow_spec **flows = calloc(count + 1, sizeof(struct flow_spec *));
    CHECK(flows != NULL);
    *ret_count = count;
    count = 0;
    for (size_t i = 0; i < store->count; i++) {
        for (size_t j = 0; j < store->units[i].count; j++) {
            flows[count++] = flow_spec_ref(store->units[i].flows[j]);
        }
    }
    qsort(flows, count, sizeof(struct flow_spec *), compare_flows);
    return flows;
}

static bool
compare_lists(struct flow_spec *const *a, size_t a_count,
              struct flow_spec *const *b, size_t b_count)
{
    for (size_t i = 0; i < a_count || i < b_count; i++) {
        int order = i == a_count   ? 1
                    : i == b_count ? -1
                                   : flow_spec_compare(a[i], b[i]);
        if (order < 0) {
            complain("only in the first", a[i]);
            return false;
        } else if (order > 0) {
            complain("only in the second", b[i]);
            return false;
        }
    }
    return true;
}

bool
flow_store_equal(const struct flow_store *a, const struct flow_store *b,
                 bool is_table)
{
    bool is_equal = true;

    if (is_table) {
        size_t a_count, b_count;
        struct flow_spec **a_flows = all_flows(a, &a_count);
        struct flow_spec **b_flows = all_flows(b, &b_count);
        is_equal = compare_lists(a_flows, a_count, b_flows, b_count);
        free_flows(a_flows, a_count);
        free_flows(b_flows, b_count);
        return is_equal;
    }
    for (size_t i = 0; is_equal && (i < a->count || i < b->count); i++) {
        if (i == a->count || i == b->count ||
            a->units[i].unit != b->units[i].unit) {
            fprintf(stderr, "not the same units: %zu and %zu\n", a->count,
                    b->count);
            return flow_store_equal(a, b, true) && false;
        }
        is_equal = compare_lists(a->units[i].flows, a->units[i].count,
                                 b->units[i].flows, b->units[i].count);
    }
    return is_equal;
}
