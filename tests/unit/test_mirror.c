/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/mirror against model replicas (model_replica.h): the rules one by one.
 * The storm is in test_mirror_storm.c. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/mirror/planted.h"
#include "lib/base/units.h"
#include "tests/unit/mirror_bed.h"

static void
test_write_read(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 1, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 5, 3), 0);
    struct op *op = bed_submit(&bed, MIRROR_READ, 4, 5);
    sim_run_for(bed.sim, 5 * NS_PER_MS);
    assert_false(op->busy);
    assert_int_equal(op->io.result, 0);
    assert_int_equal(block_value(op->data, 4), 0);
    assert_int_equal(block_value(op->data + 4096, 5), 1);
    assert_int_equal(op->states[0], STORE_BLOCK_ABSENT);
    assert_int_equal(op->states[1], STORE_BLOCK_DATA);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[2]));
    assert_int_equal(bed_do(&bed, MIRROR_DISCARD, 0, 64), 0);
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), 0);
    assert_true(bed.replica[2].known_good < store_seq_make(1, 2));
    bed_stop(&bed, true);
    assert_true(bed.owner.clean);
    assert_int_equal(bed.replica[2].known_good, store_seq_make(1, 2));
    bed_done(&bed);
}

/* (1), (2): acknowledged only after the failed one is committed stale. */
static void
test_shrink_before_ack(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 2, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[1].fail_next[STORE_WRITE] = -EIO;
    uint32_t writes = (uint32_t)bed.replica[0].counts[STORE_WRITE];
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    sim_run_for(bed.sim, NS_PER_MS);
    assert_true(op->busy); /* The commit takes 2 ms. */
    assert_int_equal(bed.row.in_sync, 7);
    sim_run_for(bed.sim, 3 * NS_PER_MS);
    assert_false(op->busy);
    assert_int_equal(op->io.result, 0);
    /* The good ones were not asked twice; the view is persisted (S12). */
    assert_int_equal(bed.replica[0].counts[STORE_WRITE], writes + 1);
    assert_int_equal(bed.replica[0].membership.in_sync_count, 2);
    assert_int_equal(bed.replica[0].membership.view, 2);
    /* It comes back by itself. */
    bed_heal(&bed);
    assert_int_equal(bed.row.in_sync, 7);
    assert_int_equal(bed.row.view, 3);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S19: below min_in_sync it holds, reads too (S21), and goes on in place. */
static void
test_hold_below_min(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 3, 2, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 2), 0);
    model_replica_set_up(&bed.replica[1], false);
    struct op *write = bed_submit(&bed, MIRROR_WRITE, 1, 1);
    struct op *read = bed_submit(&bed, MIRROR_READ, 0, 1);
    sim_run_for(bed.sim, 3 * NS_PER_S);
    assert_true(write->busy);
    assert_true(read->busy);
    assert_true(bed_status(&bed).held);
    assert_int_equal(bed.row.view, 1);
    model_replica_set_up(&bed.replica[1], true);
    sim_run_for(bed.sim, NS_PER_S);
    assert_false(write->busy);
    assert_false(read->busy);
    assert_int_equal(bed.row.view, 1);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S11: an unknown outcome is settled before anything else. */
static void
test_unknown_commit(void **state)
{
    static const enum db_mood moods[] = { DB_UNKNOWN_DONE, DB_UNKNOWN_NOT };
    (void)state;
    for (uint32_t k = 0; k < 2; k++) {
        struct bed bed;
        bed_init(&bed, 4, 3, 2);
        bed_attach(&bed, false, false);
        bed_ready(&bed);
        bed.mood = moods[k];
        bed.mood_count = 1;
        bed.replica[2].fail_next[STORE_WRITE] = -EIO;
        assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), 0);
        assert_int_equal(bed.replica[0].membership.in_sync_count, 2);
        bed_heal(&bed);
        bed_stop(&bed, true);
        bed_done(&bed);
    }
}

/* S6: a changed incarnation in a flush. */
static void
test_flush_incarnation(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 5, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), 0);
    bed.replica[1].incarnation++;
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), 0);
    assert_int_equal(bed.replica[0].membership.in_sync_count, 2);
    bed_heal(&bed);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* Rule 5 and STORAGE (a). */
static void
test_repair(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 6, 2, 1);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 4), 0);
    model_replica_rot(&bed.replica[0], 2, false);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 4), 0);
    assert_int_equal(bed_status(&bed).repairs, 1);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    /* Suspect at both: one's bytes are adopted. */
    model_replica_rot(&bed.replica[0], 1, true);
    model_replica_rot(&bed.replica[1], 1, true);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 4), 0);
    assert_int_equal(bed_status(&bed).adoptions, 1);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    /* Bad at both: no bytes. */
    model_replica_rot(&bed.replica[0], 3, false);
    model_replica_rot(&bed.replica[1], 3, false);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 4), -EIO);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 3), 0);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* A new owner fences the old one (d). */
static void
test_fenced(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 7, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    for (uint32_t i = 0; i < 3; i++) {
        bed.replica[i].epoch = 9;
        bed.replica[i].session++;
    }
    bed.epoch = 9;
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), -ESTALE);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 0, 1), -ESTALE);
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), -ESTALE);
    assert_int_equal(bed.row.view, 1);
    assert_int_equal(bed_status(&bed).state, MIRROR_FENCED);
    bed_stop(&bed, false);
    bed_done(&bed);
}

/* S12: a replica remembers more than the database. */
static void
test_rolled_back(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 8, 3, 2);
    bed.replica[1].membership.view = 5;
    bed_attach(&bed, false, false);
    assert_true(bed_wait(&bed, &bed.owner.ready));
    assert_int_equal(bed.owner.ready_result, -ENXIO);
    bed_stop(&bed, false);
    bed_done(&bed);
}

/* (c) and S17: broken sources. */
static void
test_reconcile_sources(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 9, 2, 1);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 8), 0);
    /* Killed, with one replica that loses its cache. */
    mirror_stop(bed.owner.mirror, false, on_stopped);
    assert_true(bed_wait(&bed, &bed.owner.stopped));
    model_replica_power_cut(&bed.replica[0]);
    model_replica_set_up(&bed.replica[0], true);
    bed_attach(&bed, true, false);
    bed_ready(&bed);
    for (uint32_t i = 0; i < 8; i++) {
        struct op *op = bed_submit(&bed, MIRROR_READ, i, 1);
        sim_run_for(bed.sim, 5 * NS_PER_MS);
        assert_false(op->busy);
        assert_int_equal(block_value(op->data, i), 1);
    }
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    /* Both lose it: a living guest has to wait, a new one goes on. */
    bed_stop(&bed, false);
    for (uint32_t i = 0; i < 2; i++) {
        model_replica_power_cut(&bed.replica[i]);
        model_replica_set_up(&bed.replica[i], true);
    }
    bed_attach(&bed, true, false);
    sim_run_for(bed.sim, 5 * NS_PER_S);
    assert_false(bed.owner.ready);
    assert_true(bed_status(&bed).held);
    bed_stop(&bed, false);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);
    /* Clean: nothing is listed. */
    uint64_t lists = bed.replica[0].counts[STORE_LIST];
    bed_attach(&bed, false, true);
    bed_ready(&bed);
    assert_int_equal(bed.replica[0].counts[STORE_LIST], lists);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S7 and the two policies for a full disk. */
static void
test_no_space(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 10, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[1].full = true;
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    sim_run_for(bed.sim, NS_PER_S);
    assert_true(op->busy);
    assert_true(bed_status(&bed).held);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 8, 1), 0);
    bed.replica[1].full = false;
    sim_run_for(bed.sim, 3 * NS_PER_S);
    assert_false(op->busy);
    assert_int_equal(op->io.result, 0);
    assert_false(bed_status(&bed).held);
    assert_true(model_replica_equal(&bed.replica[0], &bed.replica[1]));
    bed_stop(&bed, true);

    bed.options.enospc_holds = false;
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    for (uint32_t i = 0; i < 3; i++) {
        bed.replica[i].full = true;
    }
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 20, 1), -ENOSPC);
    bed.replica[0].full = bed.replica[2].full = false;
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 24, 1), 0);
    assert_int_equal(bed.row.in_sync, 5);
    bed_heal(&bed);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* While a write waits for space the status says so, whatever else completes
 * meanwhile; afterwards it does not. */
static void
test_no_space_is_told(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 14, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 8, 1), 0);
    bed.replica[1].full = true;
    for (uint32_t i = 0; i < 3; i++) {
        bed.replica[i].delay_ns = 3 * NS_PER_MS;
    }
    struct op *first = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    struct op *second = bed_submit(&bed, MIRROR_WRITE, 20, 1);
    sim_run_for(bed.sim, 20 * NS_PER_MS);
    for (uint32_t i = 0; i < 3000; i++) {
        if (i % 4 == 0) {
            (void)bed_submit(&bed, MIRROR_WRITE, 8, 1); /* Has its slot. */
        }
        assert_true(first->busy && second->busy);
        assert_true(bed_status(&bed).held);
        sim_run_for(bed.sim, NS_PER_MS);
    }
    bed.replica[1].full = false;
    for (uint32_t i = 0; first->busy || second->busy; i++) {
        assert_true(i < 5000);
        assert_true(bed_status(&bed).held);
        sim_run_for(bed.sim, NS_PER_MS);
    }
    sim_run_for(bed.sim, 10 * NS_PER_MS);
    assert_false(bed_status(&bed).held);
    assert_string_equal(bed.last_notice, "mirror-resumed");
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S20: slow on another host's evidence only. */
static void
test_slow(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed, 11, 3, 2);
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    bed.replica[2].delay_ns = 3 * NS_PER_S; /* 1 is another host, too. */
    assert_int_equal(bed.expects, 0);
    struct op *op = bed_submit(&bed, MIRROR_WRITE, 0, 1);
    sim_run_for(bed.sim, 400 * NS_PER_MS);
    assert_true(bed.expects > 0); /* The database hears of it first. */
    assert_int_equal(bed.row.in_sync, 7);
    sim_run_for(bed.sim, 600 * NS_PER_MS);
    assert_false(op->busy);
    assert_int_equal(bed.row.in_sync, 3);
    bed.replica[2].delay_ns = 50 * NS_PER_US;
    bed_heal(&bed);
    /* All but the local one are slow: the owner may be the grey one. */
    bed.replica[1].delay_ns = bed.replica[2].delay_ns = 3 * NS_PER_S;
    uint64_t view = bed.row.view;
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 0, 1), 0);
    assert_int_equal(bed.row.view, view);
    bed_stop(&bed, true);
    bed_done(&bed);
}

/* S4: replica 2 never had the slot, replica 1 has it from before its discard. 1
 * is filled from 2, which was filled from 0, where the discard happened. */
static bool
touch_travels(uint32_t planted)
{
    struct bed bed;

    bed_init(&bed, 12, 3, 1);
    bed.options.planted_bug = planted;
    bed_attach(&bed, false, false);
    bed_ready(&bed);
    model_replica_set_up(&bed.replica[2], false);
    assert_int_equal(bed_do(&bed, MIRROR_WRITE, 8, 4), 0);
    assert_int_equal(bed_do(&bed, MIRROR_FLUSH, 0, 0), 0);
    sim_run_for(bed.sim, 4 * NS_PER_S); /* G follows. */
    model_replica_set_up(&bed.replica[1], false);
    assert_int_equal(bed_do(&bed, MIRROR_DISCARD, 8, 4), 0);
    assert_int_equal(bed.row.in_sync, 1);
    model_replica_set_up(&bed.replica[2], true);
    for (uint32_t i = 0; i < 1000 && bed.row.in_sync != 5; i++) {
        sim_run_for(bed.sim, NS_PER_MS);
    }
    assert_int_equal(bed.row.in_sync, 5);
    model_replica_set_up(&bed.replica[0], false);
    assert_int_equal(bed_do(&bed, MIRROR_READ, 8, 4), 0);
    assert_int_equal(bed.row.in_sync, 4);
    model_replica_set_up(&bed.replica[1], true);
    for (uint32_t i = 0; i < 1000 && bed.row.in_sync != 6; i++) {
        sim_run_for(bed.sim, NS_PER_MS);
    }
    assert_int_equal(bed.row.in_sync, 6);
    bool equal = model_replica_equal(&bed.replica[1], &bed.replica[2]);
    bed_stop(&bed, true);
    bed_done(&bed);
    return equal;
}

static void
test_touch_travels(void **state)
{
    (void)state;
    assert_true(touch_travels(MIRROR_PLANTED_NONE));
    assert_false(touch_travels(MIRROR_PLANTED_TOUCH_STAYS));
    assert_false(touch_travels(MIRROR_PLANTED_IGNORE_TOUCHED));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_read),
        cmocka_unit_test(test_shrink_before_ack),
        cmocka_unit_test(test_hold_below_min),
        cmocka_unit_test(test_unknown_commit),
        cmocka_unit_test(test_flush_incarnation),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_rolled_back),
        cmocka_unit_test(test_reconcile_sources),
        cmocka_unit_test(test_no_space),
        cmocka_unit_test(test_no_space_is_told),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_touch_travels),
    };
    return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
