/* SPDX-License-Identifier: Apache-2.0 */

/* Replicas that are there and of no use: disks that hang (rule 3, S20), disks
 * that return errors, bytes that nobody wrote ((a), S4).
 *
 * Each scenario returns whether all went well, and is run twice: as it is, and
 * with the planted bug that it has to notice. */

#include "tests/unit/mirror_bed.h"

#include <errno.h>
#include <string.h>

#include "blockd/mirror/planted.h"
#include "lib/base/crc32c.h"
#include "lib/base/units.h"

#define HUNG_NS (3600 * NS_PER_S)

typedef bool scenario_fn(struct bed *bed);

static bool
scenario_run(scenario_fn *scenario, uint32_t replicas, uint32_t min_in_sync,
             uint32_t planted)
{
    struct bed bed;

    bed_init(&bed, 10, replicas, min_in_sync);
    bed.options.planted_bug = planted;
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bool good = scenario(&bed);
    bed_done(&bed);
    return good;
}

/* Both disks are as before, and all is well. */
static bool
comes_back(struct bed *bed)
{
    for (uint32_t i = 0; i < bed->row.replica_count; i++) {
        bed->replica[i].delay_ns = 50 * NS_PER_US;
    }
    bed_heal(bed);
    bed_stop(bed, true);
    bool equal = true;
    for (uint32_t i = 1; i < bed->row.replica_count; i++) {
        equal =
            equal && model_replica_equal(&bed->replica[0], &bed->replica[i]);
    }
    return equal && bed->owner.clean;
}

/* ---- Hanging disks ---- */

static bool
write_hangs(struct bed *bed)
{
    bed->replica[0].delay_ns = HUNG_NS; /* The local one. */
    struct op *op = bed_submit(bed, MIRROR_WRITE, 0, 4);
    sim_run_for(bed->sim, 2 * NS_PER_S);
    if (op->busy || (bed->row.in_sync & 1) != 0) {
        return false;
    }
    assert_int_equal(op->io.result, 0);
    assert_int_equal(bed_do(bed, MIRROR_READ, 0, 4), 0);
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 8, 4), 0);
    assert_int_equal(bed_do(bed, MIRROR_FLUSH, 0, 0), 0);
    return comes_back(bed);
}

static bool
flush_hangs(struct bed *bed)
{
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 4), 0);
    bed->replica[0].delay_ns = HUNG_NS;
    struct op *op = bed_submit(bed, MIRROR_FLUSH, 0, 0);
    sim_run_for(bed->sim, 4 * NS_PER_S);
    return !op->busy && op->io.result == 0 && comes_back(bed);
}

static bool
read_hangs(struct bed *bed)
{
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 4), 0);
    sim_run_for(bed->sim, 5 * NS_PER_S);
    bed->replica[0].delay_ns = HUNG_NS;
    struct op *op = bed_submit(bed, MIRROR_READ, 0, 4);
    sim_run_for(bed->sim, 2 * NS_PER_S);
    return !op->busy && op->io.result == 0 && block_value(op->data, 0) == 1 &&
           comes_back(bed);
}

/* In the middle of a membership change: another replica goes, and the SET_VIEW
 * that follows meets a disk that hangs. */
static bool
round_hangs(struct bed *bed)
{
    model_replica_set_up(&bed->replica[2], false);
    while (bed->commits == 0) {
        sim_run_for(bed->sim, 10 * NS_PER_US);
    }
    bed->replica[0].delay_ns = HUNG_NS;
    struct op *op = bed_submit(bed, MIRROR_WRITE, 0, 4);
    sim_run_for(bed->sim, 3 * NS_PER_S);
    if (op->busy || bed->row.in_sync != 2) {
        return false;
    }
    return comes_back(bed);
}

/* One read does not end, others do. */
static bool
one_read_hangs(struct bed *bed)
{
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 4), 0);
    sim_run_for(bed->sim, 5 * NS_PER_S);
    bed->replica[0].delay_ns = HUNG_NS;
    struct op *op = bed_submit(bed, MIRROR_READ, 0, 4);
    bed->replica[0].delay_ns = 50 * NS_PER_US;
    for (uint32_t i = 0; i < 40 && op->busy; i++) {
        assert_int_equal(bed_do(bed, MIRROR_READ, 8, 1), 0);
        sim_run_for(bed->sim, 100 * NS_PER_MS);
    }
    return !op->busy && op->io.result == 0 && block_value(op->data, 0) == 1 &&
           comes_back(bed);
}

/* Reads leave a local disk that is much slower, but for one a second. */
static void
test_reads_move(void **state)
{
    struct bed bed;

    (void)state;
    bed_init(&bed, 15, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 4), 0);
    bed.replica[0].link.latency_ns = 40 * NS_PER_MS;
    bed.replica[1].link.latency_ns = 3 * NS_PER_MS;
    bed.replica[2].link.latency_ns = 2 * NS_PER_MS;
    uint64_t local = bed.replica[0].counts[STORE_READ];
    uint64_t remote = bed.replica[2].counts[STORE_READ];
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 1), 0);
        sim_run_for(bed.sim, 20 * NS_PER_MS);
    }
    local = bed.replica[0].counts[STORE_READ] - local;
    remote = bed.replica[2].counts[STORE_READ] - remote;
    assert_true(local >= 2 && local <= 4);
    assert_int_equal(local + remote, 100);
    bed.replica[0].link.latency_ns = 5 * NS_PER_MS;
    local = bed.replica[0].counts[STORE_READ];
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 1), 0);
    }
    assert_int_equal(bed.replica[0].counts[STORE_READ] - local, 10);
    bed_stop(&bed, true);
    bed_done(&bed);
}

static void
test_local_hangs(void **state)
{
    static scenario_fn *const scenarios[] = { write_hangs, flush_hangs,
                                              read_hangs, one_read_hangs };
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t replicas = 2; replicas <= 3; replicas++) {
            assert_true(scenario_run(scenarios[i], replicas, 1, 0));
            assert_false(scenario_run(scenarios[i], replicas, 1,
                                      MIRROR_PLANTED_LOCAL_HANGS));
        }
    }
    assert_true(scenario_run(round_hangs, 3, 1, 0));
    assert_false(scenario_run(round_hangs, 3, 1, MIRROR_PLANTED_LOCAL_HANGS));
}

/* S19, S20: with min_in_sync 2 of 2 it is waited for, and comes back in place;
 * the deadline of requests ends what was under way. */
static void
test_hang_at_minimum(void **state)
{
    struct bed bed;

    (void)state;
    bed_init(&bed, 10, 2, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[0].delay_ns = 20 * NS_PER_S;
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 4);
    sim_run_for(bed.sim, 10 * NS_PER_S);
    assert_true(op->busy);
    assert_int_equal(bed.row.in_sync, 3);
    bed.replica[0].delay_ns = 50 * NS_PER_US;
    sim_run_for(bed.sim, 20 * NS_PER_S);
    assert_false(op->busy);
    assert_int_equal(bed.row.in_sync, 3);
    assert_true(comes_back(&bed));
    bed_done(&bed);
}

/* FENCE has a deadline, on whatever link: a row that takes the disk out is
 * applied, and a stop ends. */
static void
test_fence_hangs(void **state)
{
    struct bed bed;
    struct link *links[STORE_REPLICAS_MAX] = { NULL };

    (void)state;
    bed_init(&bed, 12, 2, 1);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    model_replica_set_up(&bed.replica[0], false);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 4), 0);
    bed.replica[0].delay_ns = HUNG_NS;
    model_replica_set_up(&bed.replica[0], true);
    sim_run_for(bed.sim, NS_PER_S); /* Its FENCE is under way. */

    uuid_make_random(1, 9, &bed.row.replica[0]);
    model_replica_init(&bed.replica[2], bed.io, 77, &bed.row.replica[0], true);
    bed.row.view++;
    links[0] = &bed.replica[2].link;
    links[1] = &bed.replica[1].link;
    mirror_row_changed(bed.owner.mirror, &bed.row, links);
    for (uint32_t i = 0; i < 30 && bed.row.in_sync != 3; i++) {
        sim_run_for(bed.sim, NS_PER_S);
    }
    assert_int_equal(bed.row.in_sync, 3);
    assert_true(model_replica_equal(&bed.replica[1], &bed.replica[2]));
    bed_stop(&bed, true);
    bed_done(&bed);
}

static void
test_stop_hangs(void **state)
{
    struct bed bed;

    (void)state;
    bed_init(&bed, 13, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[0].delay_ns = HUNG_NS;
    struct op *op = bed_submit(&bed, MIRROR_READ, 0, 4);
    mirror_stop(bed.owner.mirror, false, on_stopped);
    assert_true(sim_run_until_set(bed.sim, &bed.owner.stopped, 2 * NS_PER_S));
    assert_false(op->busy);
    bed_done(&bed);
}

/* ---- Errors ---- */

/* A sector that cannot be written: the replica is not resynced each second. */
static bool
errors_go_on(struct bed *bed)
{
    uint64_t puts = bed->replica[1].counts[STORE_LIST];

    for (uint32_t i = 0; i < 6000; i++) {
        bed->replica[1].fail_next[STORE_WRITE] = -EIO;
        bed->replica[1].fail_next[STORE_PUT_SLOT] = -EIO;
        if (i % 100 == 0) {
            assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 1), 0);
        }
        sim_run_for(bed->sim, 10 * NS_PER_MS);
    }
    /* At 1, 2, 4, ... 32 s: five to seven resyncs in a minute. */
    puts = bed->replica[1].counts[STORE_LIST] - puts;
    return puts >= 4 && puts <= 8 && comes_back(bed);
}

static void
test_errors_go_on(void **state)
{
    (void)state;
    assert_true(scenario_run(errors_go_on, 3, 2, 0));
    assert_false(scenario_run(errors_go_on, 3, 2, MIRROR_PLANTED_NO_PENALTY));
}

/* ---- Adoption ---- */

/* Replica 0 alone is in sync, and has a block that it cannot judge; replica 1
 * has a write there that was never acknowledged, so that the slot is copied to
 * it, with the bytes of 0; replica 2 has none of it, and a G above the slot's
 * old sequence.  It must not become in sync with the bytes of before. */
static bool
adoption_is_news(struct bed *bed)
{
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 4), 0);
    sim_run_for(bed->sim, 5 * NS_PER_S);
    assert_int_equal(bed_do(bed, MIRROR_FLUSH, 0, 0), 0);
    model_replica_set_up(&bed->replica[2], false);
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 8, 1), 0);
    model_replica_set_up(&bed->replica[1], false);
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 8, 1), 0);
    assert_int_equal(bed->row.in_sync, 1);

    struct model_slot *slot = &bed->replica[1].now.slots[0];
    slot->sequence += 1000;
    memset(slot->data[0], 0x77, WEFT_BLOCK_SIZE);
    slot->crcs[0] = crc32c(0, slot->data[0], WEFT_BLOCK_SIZE);
    bed->replica[1].flushed = bed->replica[1].now;
    /* An overwrite landed, its intent did not (S1). */
    slot = &bed->replica[0].now.slots[0];
    memset(slot->data[1], 0x55, WEFT_BLOCK_SIZE);
    slot->states[1] = STORE_BLOCK_SUSPECT;
    bed->replica[0].flushed = bed->replica[0].now;

    model_replica_set_up(&bed->replica[1], true);
    for (uint32_t i = 0; i < 100 && bed->row.in_sync != 3; i++) {
        sim_run_for(bed->sim, NS_PER_S);
    }
    assert_int_equal(bed->row.in_sync, 3);
    assert_int_equal(bed_status(bed).adoptions, 1);
    return comes_back(bed);
}

/* The same where a reconcile adopts. */
static bool
adoption_is_news_at_attach(struct bed *bed)
{
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 4), 0);
    sim_run_for(bed->sim, 5 * NS_PER_S);
    assert_int_equal(bed_do(bed, MIRROR_FLUSH, 0, 0), 0);
    model_replica_set_up(&bed->replica[2], false);
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 8, 1), 0);
    assert_int_equal(bed->row.in_sync, 3);
    bed_stop(bed, false);

    struct model_slot *slot = &bed->replica[1].now.slots[0];
    slot->sequence += 1000;
    slot->states[1] = STORE_BLOCK_SUSPECT;
    slot = &bed->replica[0].now.slots[0];
    memset(slot->data[1], 0x55, WEFT_BLOCK_SIZE);
    slot->states[1] = STORE_BLOCK_SUSPECT;
    bed->replica[0].flushed = bed->replica[0].now;
    bed->replica[1].flushed = bed->replica[1].now;
    bed_attach(bed, false, false);
    bed_ready(bed);
    assert_int_equal(bed_status(bed).adoptions, 1);
    return comes_back(bed);
}

/* And where the source cannot read a block, and a helper has discarded it, as
 * it might: that was not acknowledged. */
static bool
help_is_news(struct bed *bed)
{
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 0, 4), 0);
    sim_run_for(bed->sim, 5 * NS_PER_S);
    assert_int_equal(bed_do(bed, MIRROR_FLUSH, 0, 0), 0);
    model_replica_set_up(&bed->replica[2], false);
    assert_int_equal(bed_do(bed, MIRROR_WRITE, 8, 1), 0);
    assert_int_equal(bed->row.in_sync, 3);
    bed_stop(bed, false);

    struct model_state *helper = &bed->replica[1].now;
    helper->touched = helper->slots[0].sequence + 1000;
    memset(&helper->slots[0], 0, sizeof helper->slots[0]);
    bed->replica[1].flushed = *helper;
    bed->replica[0].now.slots[0].states[1] = STORE_BLOCK_BAD;
    bed->replica[0].flushed = bed->replica[0].now;
    bed_attach(bed, false, false);
    bed_ready(bed);
    return comes_back(bed);
}

static void
test_adoption_is_news(void **state)
{
    (void)state;
    assert_true(scenario_run(help_is_news, 3, 1, 0));
    assert_false(scenario_run(help_is_news, 3, 1, MIRROR_PLANTED_ADOPT_KEEPS));
    assert_true(scenario_run(adoption_is_news, 3, 1, 0));
    assert_false(
        scenario_run(adoption_is_news, 3, 1, MIRROR_PLANTED_ADOPT_KEEPS));
    assert_true(scenario_run(adoption_is_news_at_attach, 3, 1, 0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local_hangs),
        cmocka_unit_test(test_reads_move),
        cmocka_unit_test(test_hang_at_minimum),
        cmocka_unit_test(test_fence_hangs),
        cmocka_unit_test(test_stop_hangs),
        cmocka_unit_test(test_errors_go_on),
        cmocka_unit_test(test_adoption_is_news),
    };
    return cmocka_run_group_tests_name("mirror_grey", tests, NULL, NULL);
}
