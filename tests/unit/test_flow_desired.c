/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdlib.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "lib/base/rng.h"
#include "netd/compile/pipeline.h"
#include "netd/flow/desired.h"

/* The table of desired flows against one that is made anew each time. */

#define UNITS 12u
#define KEYS 10u

/* What each unit wants: a flow or NULL for each key. */
struct model {
    struct flow_spec *wants[UNITS][KEYS];
};

/* Few kinds of actions, so that owners agree, merge and disagree. */
static struct flow_spec *
make_flow(struct rng *rng, uint32_t key)
{
    struct flow_builder b;

    flow_begin(&b, 13, 1);
    flow_match_u64(&b, FIELD_METADATA, key);
    if (rng_chance(rng, 1, 3)) {
        flow_controller(&b,
                        pipeline_meter_id((uint32_t)rng_below(rng, 2) + 1024,
                                          METER_ND),
                        PACKET_IN_NS, NULL);
    } else if (rng_chance(rng, 1, 8)) {
        flow_output(&b, 1);
    } else {
        for (uint64_t left = rng_between(rng, 1, 3); left > 0; left--) {
            flow_conjunction(&b, (uint32_t)rng_below(rng, 4),
                             (uint8_t)rng_below(rng, 2), 2);
        }
    }
    return flow_finish(&b);
}

static int
compare(const void *a, const void *b)
{
    struct flow_spec *const *x = a, *const *y = b;
    return flow_spec_compare(*x, *y);
}

static size_t
list_flows(struct flow_spec *const wants[KEYS], struct flow_spec **ret_flows)
{
    size_t count = 0;

    for (size_t i = 0; i < KEYS; i++) {
        if (wants[i] != NULL) {
            ret_flows[count++] = wants[i];
        }
    }
    if (count > 0) {
        qsort(ret_flows, count, sizeof *ret_flows, compare);
    }
    return count;
}

static void
change_unit(struct model *model, struct desired *desired, struct rng *rng)
{
    uint32_t unit = (uint32_t)rng_below(rng, UNITS);
    struct flow_spec *old[KEYS], *now[KEYS], *made[KEYS];

    for (uint32_t i = 0; i < KEYS; i++) {
        struct flow_spec *want = model->wants[unit][i];
        made[i] = want == NULL ? NULL : flow_spec_ref(want);
        if (rng_chance(rng, 1, 3)) {
            flow_spec_unref(made[i]);
            made[i] = rng_chance(rng, 1, 3) ? NULL : make_flow(rng, i);
        }
    }
    size_t old_count = list_flows(model->wants[unit], old);
    size_t now_count = list_flows(made, now);
    desired_replace(desired, unit, old, old_count, now, now_count);
    for (uint32_t i = 0; i < KEYS; i++) {
        flow_spec_unref(model->wants[unit][i]);
        model->wants[unit][i] = made[i];
    }
}

/* N9, said naively. */
static struct flow_spec *
expect(const struct model *model, uint32_t key, bool *ret_is_conflict)
{
    struct flow_spec *lowest = NULL, *merged = NULL;
    bool may_merge = true, agree = true;

    *ret_is_conflict = false;
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        struct flow_spec *want = model->wants[unit][key];
        if (want == NULL) {
            continue;
        }
        may_merge = may_merge && flow_spec_is_conjunctive(want);
        if (lowest == NULL) {
            lowest = want;
        }
        agree = agree && flow_spec_same_actions(lowest, want);
        if (may_merge) {
            struct flow_spec *sum = merged == NULL
                                        ? flow_spec_ref(want)
                                        : flow_spec_merge(merged, want);
            flow_spec_unref(merged);
            merged = sum;
        }
    }
    if (lowest == NULL) {
        return NULL;
    }
    if (may_merge) {
        return merged;
    }
    flow_spec_unref(merged);
    *ret_is_conflict = !agree;
    return flow_spec_ref(lowest);
}

static void
check(const struct model *model, struct desired *desired)
{
    uint64_t wanted = 0, conflicts = 0;
    uint32_t users[2] = { 0 };

    for (uint32_t i = 0; i < KEYS; i++) {
        bool is_conflict;
        struct flow_spec *expected = expect(model, i, &is_conflict);
        struct flow_builder b;
        flow_begin(&b, 13, 1);
        flow_match_u64(&b, FIELD_METADATA, i);
        struct flow_spec *key = flow_finish(&b);
        struct flow_entry *entry = desired_find(desired, key);
        flow_spec_unref(key);
        if (expected == NULL) {
            assert_true(entry == NULL || entry->desired == NULL);
            continue;
        }
        assert_non_null(entry);
        assert_non_null(entry->desired);
        assert_true(flow_spec_same_actions(entry->desired, expected));
        assert_null(entry->error);
        assert_ptr_equal(desired_find_code(desired, &entry->code.key), entry);
        wanted++;
        conflicts += is_conflict;
        const struct flow_action *action = flow_spec_actions(expected);
        if (action->kind == ACTION_CONTROLLER) {
            users[action->number == pipeline_meter_id(1025, METER_ND)]++;
        }
        flow_spec_unref(expected);
    }
    assert_int_equal(desired->wanted, wanted);
    assert_int_equal(desired->conflicts, conflicts);
    assert_int_equal(hmap_count(&desired->meters.meters),
                     (users[0] > 0) + (users[1] > 0));
}

static void
settle_all(struct desired *desired, struct rng *rng)
{
    struct list *node;

    while ((node = list_pop_front(&desired->dirty)) != NULL) {
        struct flow_entry *entry = container_of(node, struct flow_entry, node);
        desired_settle(desired, entry, NULL);
        /* As if it had been sent, mostly. */
        if (flow_entry_is_due(entry) && rng_chance(rng, 9, 10)) {
            desired_set_installed(desired, entry,
                                  entry->desired == NULL ? NULL
                                                         : &entry->code.rest);
            assert_true(flow_entry_is_right(entry));
        }
        desired_release(desired, entry);
    }
}

static void
test_random_owners(void **state)
{
    struct desired desired;
    struct model model = { 0 };
    struct rng rng;

    (void)state;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_set_fd(nowhere); /* Of conflicts there are many. */
    rng_init(&rng, 11);
    desired_init(&desired);
    for (unsigned round = 0; round < 3000; round++) {
        for (uint64_t left = rng_between(&rng, 1, 4); left > 0; left--) {
            change_unit(&model, &desired, &rng);
        }
        settle_all(&desired, &rng);
        check(&model, &desired);
    }

    /* Nothing is left when all owners are gone and the switch is empty. */
    for (uint32_t unit = 0; unit < UNITS; unit++) {
        struct flow_spec *old[KEYS];
        size_t count = list_flows(model.wants[unit], old);
        desired_replace(&desired, unit, old, count, NULL, 0);
        for (uint32_t i = 0; i < KEYS; i++) {
            flow_spec_unref(model.wants[unit][i]);
        }
    }
    struct flow_entry *entry, *next;
    HMAP_FOR_EACH_SAFE(entry, next, spec_node, &desired.by_spec)
    {
        list_remove(&entry->node);
        desired_set_installed(&desired, entry, NULL);
        desired_release(&desired, entry);
    }
    assert_int_equal(hmap_count(&desired.by_spec), 0);
    assert_int_equal(hmap_count(&desired.by_code), 0);
    assert_int_equal(desired.wanted, 0);
    assert_int_equal(desired.installed, 0);
    assert_int_equal(desired.conflicts, 0);
    meter_table_forget(&desired.meters);
    assert_int_equal(hmap_count(&desired.meters.meters), 0);
    desired_done(&desired);
    log_set_fd(2);
    close(nowhere);
}

/* Thousands of owners of one flow (10,000 rules with one source): merged in
 * time that does not grow with the square, and refused where it fits no
 * message, not aborted. */
static void
test_many_owners(void **state)
{
    struct desired desired;
    struct flow_builder b;
    static struct flow_spec *flows[10000];

    (void)state;
    desired_init(&desired);
    for (uint32_t i = 0; i < 10000; i++) {
        flow_begin(&b, 18, 1);
        flow_match_u64(&b, FIELD_METADATA, 1);
        flow_conjunction(&b, i, 0, 2);
        flows[i] = flow_finish(&b);
        desired_replace(&desired, i, NULL, 0, &flows[i], 1);
        if (i == 2999 || i == 9999) {
            struct flow_entry *entry = desired_find(&desired, flows[0]);
            desired_settle(&desired, entry, NULL);
            assert_int_equal(entry->desired->action_count, i + 1);
            assert_int_equal(entry->error == NULL, i == 2999);
        }
    }
    for (uint32_t i = 0; i < 10000; i++) {
        flow_spec_unref(flows[i]);
    }
    desired_done(&desired);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_owners),
        cmocka_unit_test(test_many_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
