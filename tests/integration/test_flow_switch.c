/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/flow_bed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/rng.h"
#include "netd/compile/pipeline.h"
#include "tests/support/flow_random.h"

/* netd/flow against a real ovs-vswitchd: flows. */

#define FLOWS 10000u

/* N8: what was installed is what is dumped, for every kind of flow. */
static void
test_install_many(void **state)
{
    struct flow_bed *bed = *state;
    struct rng rng;
    struct flow_status before;

    rng_init(&rng, 7);
    bed_connect(bed);
    flow_get_status(bed->flow, &before);
    for (uint32_t i = 0; i < FLOWS; i++) {
        bed_put(bed, i, flow_random(&rng, i));
    }
    uint64_t start_ns = loop_now_ns();
    bed_commit(bed);
    print_message("# %u random flows confirmed in %u ms\n", FLOWS,
                  (unsigned)((loop_now_ns() - start_ns) / 1000000));

    struct flow_status status;
    flow_get_status(bed->flow, &status);
    assert_string_equal(status.last_error, "");
    assert_int_equal(status.installed, FLOWS);
    assert_int_equal(status.rejected, 0);
    assert_int_equal(status.pending, 0);
    assert_int_equal(status.flow_mods - before.flow_mods, FLOWS);
    assert_int_equal(status.bundles - before.bundles, 1);
    assert_int_equal(bed_count_flows(bed), FLOWS);

    start_ns = loop_now_ns();
    bed_check(bed);
    print_message("# a self-check of them took %u ms\n",
                  (unsigned)((loop_now_ns() - start_ns) / 1000000));
    assert_int_equal(bed->drifts, 0);
    bed_expect_mods(bed, &status, 0);
}

static void
test_change_one(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status before;

    bed_connect(bed);
    for (uint32_t i = 0; i < 100; i++) {
        bed_put(bed, i, flow_plain(1, i, 1));
    }
    bed_commit(bed);
    flow_get_status(bed->flow, &before);

    bed_put(bed, 5, flow_plain(1, 5, 2));
    bed_commit(bed);
    bed_expect_mods(bed, &before, 1);

    /* There and back again before the commit: nothing to send. */
    bed_put(bed, 5, flow_plain(1, 5, 3));
    bed_put(bed, 5, flow_plain(1, 5, 2));
    bed_put(bed, 6, NULL);
    bed_put(bed, 6, flow_plain(1, 6, 1));
    bed_put(bed, 200, flow_plain(1, 200, 1));
    bed_put(bed, 200, NULL);
    bed_commit(bed);
    bed_expect_mods(bed, &before, 1);

    bed_put(bed, 7, NULL);
    bed_commit(bed);
    bed_expect_mods(bed, &before, 2);
    assert_int_equal(bed_count_flows(bed), 99);
    bed_check(bed);
    assert_int_equal(bed->drifts, 0);
}

/* While a bundle is under way the next one gathers. */
static void
test_coalesce(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status before, after;

    bed_connect(bed);
    flow_get_status(bed->flow, &before);
    for (uint32_t i = 0; i < 200; i++) {
        bed_put(bed, i, flow_plain(1, i, 1));
        bed_put(bed, 1000, flow_plain(2, 1000, 1 + i));
        flow_commit(bed->flow);
        loop_run_once(bed->loop, 0);
    }
    bed_commit(bed);
    flow_get_status(bed->flow, &after);
    assert_int_equal(after.confirmed, after.committed);
    assert_true(after.bundles - before.bundles < 200);
    assert_int_equal(bed_count_flows(bed), 201);
    bed_check(bed);
    assert_int_equal(bed->drifts, 0);
}

/* N9 */
static void
test_owners(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status before, status;
    struct flow_builder b;

    bed_connect(bed);
    for (uint32_t i = 0; i < 50; i++) {
        flow_begin(&b, 13, 1);
        flow_match_u64(&b, FIELD_METADATA, 5);
        flow_conjunction(&b, 100 + i, 0, 2);
        bed_put(bed, 50 - i, flow_finish(&b));
        bed_put(bed, 100 + i, flow_plain(3, 1, 1));
    }
    flow_get_status(bed->flow, &before);
    bed_commit(bed);
    bed_expect_mods(bed, &before, 2);
    assert_int_equal(bed_count_flows(bed), 2);

    /* One owner less: the conjunctions change, the shared flow does not. */
    bed_put(bed, 20, NULL);
    bed_put(bed, 120, NULL);
    bed_commit(bed);
    bed_expect_mods(bed, &before, 3);

    /* A disagreement: the lowest unit wins, and is told. */
    bed_put(bed, 90, flow_plain(3, 1, 2));
    bed_commit(bed);
    bed_expect_mods(bed, &before, 4);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.conflicts, 1);
    bed_put(bed, 90, NULL);
    bed_commit(bed);
    bed_expect_mods(bed, &before, 5);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.conflicts, 0);
    bed_check(bed);
    assert_int_equal(bed->drifts, 0);
}

/* N7: what nobody can judge yet is left alone; then the difference is sent. */
static void
test_restart_of_netd(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status status;
    struct rng rng;

    bed_connect(bed);
    rng_init(&rng, 3);
    for (uint32_t i = 0; i < 1000; i++) {
        bed_put(bed, i, flow_random(&rng, i));
    }
    bed_commit(bed);

    bed_reopen(bed);
    flow_set_complete(bed->flow, false);
    BED_WAIT(bed, bed->is_connected);
    bed_barrier(bed);
    assert_int_equal(bed_count_flows(bed), 1000);

    /* Half of the model, not complete yet. */
    for (uint32_t i = 0; i < 500; i++) {
        bed_put(bed, i, flow_spec_ref(bed->saved[i]));
    }
    flow_commit(bed->flow);
    bed_barrier(bed);
    assert_int_equal(bed_count_flows(bed), 1000);
    assert_int_equal(bed->confirmed, 0);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.flow_mods, 0);
    assert_int_equal(status.dumps, 0);

    for (uint32_t i = 500; i < 998; i++) {
        bed_put(bed, i, flow_spec_ref(bed->saved[i]));
    }
    bed_put(bed, 2000, flow_plain(1, 2000, 1));
    flow_set_complete(bed->flow, true);
    bed_commit(bed);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.flow_mods, 3); /* Two too many, one too few. */
    assert_int_equal(status.resynced, 3);
    assert_int_equal(status.bundles, 1);
    assert_int_equal(bed_count_flows(bed), 999);
    assert_int_equal(bed->drifts, 0);

    /* Nothing differs, nothing is sent. */
    bed_reopen(bed);
    for (uint32_t i = 0; i < 998; i++) {
        bed_put(bed, i, flow_spec_ref(bed->saved[i]));
    }
    bed_put(bed, 2000, flow_plain(1, 2000, 1));
    bed_commit(bed);
    flow_get_status(bed->flow, &status);
    assert_true(status.is_in_sync);
    assert_int_equal(status.flow_mods, 0);
    assert_int_equal(status.meter_mods, 0);
    assert_int_equal(status.resynced, 0);
}

static void
test_restart_of_switch(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status before;

    bed_connect(bed);
    for (uint32_t i = 0; i < 2000; i++) {
        bed_put(bed, i, flow_plain(1, i, 1));
    }
    bed_commit(bed);
    flow_get_status(bed->flow, &before);

    for (unsigned round = 0; round < 2; round++) {
        ovs_kill(&bed->ovs);
        BED_WAIT(bed, !bed->is_connected);
        bed_put(bed, 5000 + round, flow_plain(2, round, 1));
        uint64_t version = flow_commit(bed->flow);
        uint64_t start_ns = loop_now_ns();
        ovs_restart(&bed->ovs);
        BED_WAIT(bed, bed->is_connected);
        uint64_t up_ns = loop_now_ns();
        BED_WAIT(bed, bed->confirmed >= version);
        print_message("# vswitchd answers after %u ms, flows %u ms later\n",
                      (unsigned)((up_ns - start_ns) / 1000000),
                      (unsigned)((loop_now_ns() - up_ns) / 1000000));
        assert_int_equal(bed_count_flows(bed), 2001 + round);
        bed_expect_tlv(bed);
    }
    assert_int_equal(bed->drifts, 0);
    bed_expect_mods(bed, &before, 2001 + 2002);
}

/* A switch that dies in the middle of a bundle. */
static void
test_killed_under_bundle(void **state)
{
    struct flow_bed *bed = *state;
    uint64_t version = 0;

    bed_connect(bed);
    for (unsigned round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 3000; i++) {
            bed_put(bed, i, flow_plain(1, i, 1 + round));
        }
        version = flow_commit(bed->flow);
        for (unsigned turn = 0; turn < round; turn++) {
            loop_run_once(bed->loop, loop_now_ns() + 1000000);
        }
        ovs_kill(&bed->ovs);
        BED_WAIT(bed, !bed->is_connected);
        ovs_restart(&bed->ovs);
        BED_WAIT(bed, bed->is_connected);
    }
    BED_WAIT(bed, bed->confirmed >= version);
    assert_int_equal(bed_count_flows(bed), 3000);
    bed_check(bed);
    assert_int_equal(bed->drifts, 0);
}

static void
test_drift(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status before;

    bed_connect(bed);
    for (uint32_t i = 0; i < 10; i++) {
        bed_put(bed, i, flow_plain(1, i, 1));
    }
    bed_commit(bed);
    flow_get_status(bed->flow, &before);

    bed_ofctl(bed, "add-flow", "table=1,priority=100,metadata=77,actions=drop");
    bed_ofctl(bed, "add-flow",
              "table=200,priority=1,tun_metadata0=5,tcp,tp_dst=80,"
              "actions=write_actions(output:1),goto_table:201");
    bed_ofctl(bed, "del-flows", "table=1,metadata=3/-1");
    bed_ofctl(bed, "mod-flows", "table=1,metadata=4/-1,actions=output:9");
    bed_ofctl(bed, "add-flow",
              "table=1,priority=100,metadata=5/-1,idle_timeout=1000,"
              "actions=output:1");
    bed_check(bed);
    assert_int_equal(bed->drifts, 1);
    assert_int_equal(bed->drift.missing, 1);
    assert_int_equal(bed->drift.changed, 2);
    assert_int_equal(bed->drift.foreign, 2);
    bed_expect_mods(bed, &before, 5);
    assert_int_equal(bed_count_flows(bed), 10);
    bed_check(bed);
    assert_int_equal(bed->drifts, 1);
}

/* Nobody has to ask. */
static void
test_periodic_check(void **state)
{
    struct flow_bed *bed = *state;

    bed->check_interval_s = 1;
    bed_connect(bed);
    bed_put(bed, 1, flow_plain(1, 1, 1));
    bed_commit(bed);
    bed_ofctl(bed, "add-flow", "table=1,priority=7,actions=drop");
    BED_WAIT(bed, bed->drifts > 0 && bed_is_in_sync(bed));
    assert_int_equal(bed_count_flows(bed), 1);
}

struct counting_visitor {
    struct flow_visitor visitor;
    unsigned count;
};

static void
count_visit(struct flow_visitor *visitor, const struct flow_spec *spec,
            bool is_installed, uint64_t packet_count)
{
    struct counting_visitor *counting =
        container_of(visitor, struct counting_visitor, visitor);

    assert_true(is_installed);
    assert_int_equal(packet_count, 0);
    assert_int_equal(spec->table, 1);
    counting->count++;
}

static void
test_visit(void **state)
{
    struct flow_bed *bed = *state;
    struct counting_visitor counting = { .visitor = { count_visit } };
    uint64_t count;

    bed_connect(bed);
    for (uint32_t i = 0; i < 5; i++) {
        bed_put(bed, i, flow_plain(1, i, 1));
    }
    bed_commit(bed);
    flow_visit(bed->flow, &counting.visitor);
    assert_int_equal(counting.count, 5);
    assert_int_equal(flow_packet_count(bed->flow, bed->units[0], &count), 0);
    struct flow_spec *other = flow_plain(2, 0, 1);
    assert_int_equal(flow_packet_count(bed->flow, other, &count), -ENOENT);
    flow_spec_unref(other);
}

/* One flow that the switch refuses does not stop the others: refused when it
 * is added to the bundle (OFPFMFC_... of its contents), and when the bundle is
 * committed (a full table). */
static void
test_refused(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status status;
    struct flow_builder b;

    bed_connect(bed);
    /* Without its option the switch does not know the field. */
    bed_ofctl(bed, "del-tlv-map", NULL);
    flow_begin(&b, 1, 1);
    flow_match_u32(&b, FIELD_TUN_TLV0, 5);
    bed_put(bed, 1, flow_finish(&b));
    /* Nobody sends this one at all. */
    flow_begin(&b, 1, 1);
    flow_match_u32(&b, FIELD_TCP_DST, 5);
    bed_put(bed, 2, flow_finish(&b));
    for (uint32_t i = 10; i < 20; i++) {
        bed_put(bed, i, flow_plain(1, i, 1));
    }
    bed_commit(bed);
    assert_int_equal(bed->rejections, 2);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.rejected, 2);
    assert_int_equal(status.installed, 10);
    assert_int_equal(bed_count_flows(bed), 10);

    /* The check mends the options, and tries again. */
    bed_check(bed);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.rejected, 1);
    assert_int_equal(status.installed, 11);
    assert_int_equal(bed->drifts, 0);
}

static void
test_full_table(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status status;

    bed_connect(bed);
    bed_vsctl(bed, "--id=@t", "create", "Flow_Table", "flow_limit=3",
              "overflow_policy=refuse", "--", "set", "Bridge", "br-int",
              "flow_tables:5=@t", NULL);
    for (uint32_t i = 0; i < 6; i++) {
        bed_put(bed, i, flow_plain(5, i, 1));
        bed_put(bed, 10 + i, flow_plain(6, i, 1));
    }
    bed_commit(bed);
    assert_int_equal(bed->rejections, 3);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.bundle_failures, 3);
    assert_int_equal(status.installed, 9);
    assert_int_equal(bed_count_flows(bed), 9);

    /* Room again: deletes go first within the bundle or not, all is well
     * after the next check. */
    bed_vsctl(bed, "clear", "Bridge", "br-int", "flow_tables", NULL);
    bed_check(bed);
    BED_WAIT(bed, bed_is_in_sync(bed));
    assert_int_equal(bed_count_flows(bed), 12);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_install_many),
        BED_TEST(test_change_one),
        BED_TEST(test_coalesce),
        BED_TEST(test_owners),
        BED_TEST(test_restart_of_netd),
        BED_TEST(test_restart_of_switch),
        BED_TEST(test_killed_under_bundle),
        BED_TEST(test_drift),
        BED_TEST(test_periodic_check),
        BED_TEST(test_visit),
        BED_TEST(test_refused),
        BED_TEST(test_full_table),
    };
    return cmocka_run_group_tests(tests, bed_start, bed_stop);
}
