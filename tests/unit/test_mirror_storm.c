/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/mirror against model replicas (model_replica.h): a storm of failures,
 * judged by tests/sim/legal.h.  STORM_FIRST and STORM_COUNT choose the seeds,
 * STORM_PLANTED a planted bug (blockd/mirror/planted.h). */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/units.h"
#include "tests/unit/mirror_bed.h"

static void
storm_fault(struct bed *bed)
{
    uint32_t i = (uint32_t)rng_below(&bed->rng, bed->row.replica_count);
    struct model_replica *replica = &bed->replica[i];

    switch (rng_below(&bed->rng, 14)) {
    case 0:
        sim_trace(bed->sim, "fault down %u", i);
        model_replica_set_up(replica, false);
        break;
    case 1:
    case 2:
    case 3:
        sim_trace(bed->sim, "fault up %u", i);
        model_replica_set_up(replica, true);
        break;
    case 4:
        sim_trace(bed->sim, "fault power %u", i);
        model_replica_power_cut(replica);
        break;
    case 5:
        sim_trace(bed->sim, "fault write eio %u", i);
        replica->fail_next[STORE_WRITE] = -EIO;
        break;
    case 6:
        replica->fail_next[STORE_FLUSH] = -EIO;
        break;
    case 7:
        bed->mood = (enum db_mood)rng_below(&bed->rng, 4);
        bed->mood_count = (uint32_t)rng_between(&bed->rng, 1, 3);
        break;
    case 8:
        replica->full = rng_chance(&bed->rng, 1, 2);
        break;
    case 9:
        sim_trace(bed->sim, "fault rot %u", i);
        /* On one replica only, and only while all are in sync. */
        if (bed->row.in_sync == (1u << bed->row.replica_count) - 1 && i == 0 &&
            bed->row.replica_count > 1) {
            model_replica_rot(replica, rng_below(&bed->rng, MODEL_BLOCKS),
                              rng_chance(&bed->rng, 1, 2));
        }
        break;
    case 10:
        replica->fail_next[1 + rng_below(&bed->rng, STORE_SET_VIEW)] = -EIO;
        break;
    case 11:
        /* It hangs for a while (rule 3): whatever comes from now on takes until
         * then. */
        sim_trace(bed->sim, "fault hang %u", i);
        replica->hung_until_ns =
            io_now_ns(bed->io) +
            rng_between(&bed->rng, 100 * NS_PER_MS, 40 * NS_PER_S);
        break;
    case 12:
        sim_trace(bed->sim, "fault errors %u", i);
        replica->fail_next[STORE_WRITE] = -EIO;
        replica->fail_next[STORE_PUT_SLOT] = -EIO;
        replica->fail_next[STORE_LIST] = -EIO;
        break;
    default:
        replica->jitter_ns = rng_below(&bed->rng, 2 * NS_PER_MS);
        break;
    }
}

static void
storm_op(struct bed *bed)
{
    uint64_t block = rng_below(&bed->rng, MODEL_BLOCKS);
    uint32_t count = (uint32_t)rng_between(&bed->rng, 1, OP_BLOCKS_MAX);
    if (count > MODEL_BLOCKS - block) {
        count = (uint32_t)(MODEL_BLOCKS - block);
    }
    uint64_t dice = rng_below(&bed->rng, 20);
    bed_submit(bed,
               dice < 9    ? MIRROR_WRITE
               : dice < 12 ? MIRROR_DISCARD
               : dice < 18 ? MIRROR_READ
                           : MIRROR_FLUSH,
               block, count);
}

static void
storm_new_owner(struct bed *bed)
{
    bool clean = false;
    struct mirror_status status = bed_status(bed);
    if (status.state == MIRROR_READY && !status.held &&
        rng_chance(&bed->rng, 1, 3)) {
        mirror_stop(bed->owner.mirror, true, on_stopped);
        clean = sim_run_until_set(bed->sim, &bed->owner.stopped, NS_PER_S);
    }
    if (!bed->owner.stopped) {
        mirror_stop(bed->owner.mirror, false, on_stopped);
        assert_true(bed_wait(bed, &bed->owner.stopped));
    }
    clean = clean && bed->owner.clean;
    /* The guest lives on, if somebody has all that it has seen. */
    bool live = rng_chance(&bed->rng, 1, 2);
    sim_trace(bed->sim, "new owner live=%d clean=%d", live, clean);
    bed_attach(bed, live, clean);
    if (live) {
        if (!sim_run_until_set(bed->sim, &bed->owner.ready, 3 * NS_PER_S)) {
            live = false;
            bed_stop(bed, false);
            bed_attach(bed, false, false);
        }
    }
    for (uint32_t i = 0; i < 30 && !bed->owner.ready; i++) {
        for (uint32_t k = 0; k < bed->row.replica_count; k++) {
            model_replica_set_up(&bed->replica[k], true);
            bed->replica[k].full = false;
        }
        sim_run_until_set(bed->sim, &bed->owner.ready, NS_PER_S);
    }
    if (!bed->owner.ready) {
        status = bed_status(bed);
        fail_msg("not ready: state %d in sync %x: %s", (int)status.state,
                 status.row.in_sync, status.reason);
    }
    assert_int_equal(bed->owner.ready_result, 0);
    bed->generation++;
    legal_take_over(&bed->legal, live, ++bed->clock);
}

static uint32_t
storm(uint64_t seed)
{
    struct bed *bed = calloc(1, sizeof *bed);
    uint32_t replicas = 1 + (uint32_t)(seed % 3);
    bed_init(bed, seed, replicas, 1 + (uint32_t)(seed / 3 % replicas));
    bed->legal_on = true;
    const char *planted = getenv("STORM_PLANTED");
    if (planted != NULL) {
        bed->options.planted_bug = (uint32_t)strtoul(planted, NULL, 10);
    }
    bed_attach(bed, false, false);
    bed_ready(bed);
    for (uint32_t i = 0; i < 400; i++) {
        uint64_t dice = rng_below(&bed->rng, 100);
        if (dice < 80) {
            storm_op(bed);
        } else if (dice < 99) {
            storm_fault(bed);
        } else {
            storm_new_owner(bed);
        }
        sim_run_for(bed->sim, rng_below(&bed->rng, 3 * NS_PER_MS));
        struct mirror_status status = bed_status(bed);
        if (status.state == MIRROR_FENCED) {
            fail_msg("fenced without reason: %s", status.reason);
        }
    }
    /* All is well again: whatever waits must end, and all copies be equal.  A
     * guest whose writes are lost everywhere has to be started anew. */
    for (uint32_t i = 0; i < replicas; i++) {
        model_replica_set_up(&bed->replica[i], true);
        bed->replica[i].full = false;
    }
    bed->mood = DB_FINE;
    sim_run_for(bed->sim, 10 * NS_PER_S);
    struct mirror_status status = bed_status(bed);
    if (status.held && strstr(status.reason, "sure to have") != NULL) {
        bed_stop(bed, false);
        bed_attach(bed, false, false);
        bed_ready(bed);
        bed->generation++;
        legal_take_over(&bed->legal, false, ++bed->clock);
    }
    if (!bed_try_heal(bed)) {
        /* Rot of the last copy, while the others were away: they stay away
         * until the block is overwritten. */
        for (uint32_t i = 0; i < MODEL_BLOCKS; i += 8) {
            assert_int_equal(bed_do(bed, MIRROR_WRITE, i, 8), 0);
        }
        bed_heal(bed);
    }
    for (uint32_t i = 0; i < OPS; i++) {
        assert_false(bed->ops[i].busy);
    }
    for (uint32_t i = 0; i < MODEL_BLOCKS; i += 8) {
        assert_int_equal(bed_do(bed, MIRROR_READ, i, 8), 0);
    }
    bed_stop(bed, true);
    assert_true(bed->owner.clean);
    for (uint32_t i = 1; i < replicas; i++) {
        assert_true(model_replica_equal(&bed->replica[0], &bed->replica[i]));
    }
    uint32_t wrong = bed->wrong;
    bed_done(bed);
    free(bed);
    return wrong;
}

static void
test_storm(void **state)
{
    const char *first = getenv("STORM_FIRST");
    const char *count = getenv("STORM_COUNT");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : 60;
    (void)state;
    for (uint64_t seed = from; seed < from + n; seed++) {
        if (first != NULL) {
            fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        }
        assert_int_equal(storm(seed), 0);
    }
}

/* The storm notices when G runs ahead of the durable point (docs/testing.md):
 * this program again, with the bug, has to fail. */
static void
test_planted_is_found(void **state)
{
    (void)state;
    if (getenv("STORM_PLANTED") != NULL) {
        skip();
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL ||
            freopen("/dev/null", "w", stdout) == NULL ||
            setenv("STORM_PLANTED", "19", 1) != 0 ||
            setenv("STORM_FIRST", "1", 1) != 0 ||
            setenv("STORM_COUNT", "1", 1) != 0) {
            _exit(0);
        }
        execl("/proc/self/exe", "test_mirror_storm", (char *)NULL);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_planted_is_found),
    };
    return cmocka_run_group_tests_name("mirror_storm", tests, NULL, NULL);
}
