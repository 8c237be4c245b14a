/* SPDX-License-Identifier: Apache-2.0 */

/* The disks of the simulator (lib/io/sim.h): reading, writing, faults. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"
#include "tests/unit/sim_fixture.h"

/* ---- Reading and writing ---- */

static void
test_read_returns_what_was_written(void **state)
{
    struct host host;
    struct io_file_info info;

    (void)state;
    host_setup(&host, 1, true);
    io_file_info_get(host.file, &info);
    assert_int_equal(info.size_bytes, DISK_SIZE);
    assert_true(info.volatile_cache);

    assert_int_equal(write_fill(&host, 8192, 65536, 0x5a), 0);
    assert_int_equal(write_fill(&host, 8192 + 512, 512, 0x11), 0);
    assert_int_equal(run(&host, IO_FILE_READ, 4096, 65536 + 8192, host.memory),
                     0);
    assert_true(is_filled(host.memory, 4096, 0));
    assert_true(is_filled(host.memory + 4096, 512, 0x5a));
    assert_true(is_filled(host.memory + 4608, 512, 0x11));
    assert_true(is_filled(host.memory + 5120, 65536 - 1024, 0x5a));
    assert_true(is_filled(host.memory + 4096 + 65536, 4096, 0));

    assert_int_equal(run(&host, IO_FILE_READ, DISK_SIZE, 512, host.memory),
                     -EINVAL);
    assert_int_equal(run(&host, IO_FILE_READ, DISK_SIZE - 512, 1024,
                         host.memory),
                     -EINVAL);
    sim_free(host.sim);
}

static void
test_read_destination_is_garbage_until_done(void **state)
{
    unsigned garbage = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct host host;
        struct op op;
        host_setup(&host, seed, true);
        assert_int_equal(write_fill(&host, 0, 4096, 0x77), 0);
        memset(host.memory, 0x77, 4096);
        start(&host, &op, IO_FILE_READ, 0, 4096, host.memory);
        garbage += !is_filled(host.memory, 4096, 0x77);
        assert_int_equal(finish(&host, &op), 0);
        assert_true(is_filled(host.memory, 4096, 0x77));
        sim_free(host.sim);
    }
    assert_true(garbage > 25);
}

static void
test_changing_the_source_tears_the_write(void **state)
{
    unsigned torn = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct host host;
        struct op op;
        uint8_t data[4096];
        host_setup(&host, seed, true);
        memset(host.memory, 1, 4096);
        start(&host, &op, IO_FILE_WRITE, 0, 4096, host.memory);
        memset(host.memory, 2, 4096);
        assert_int_equal(finish(&host, &op), 0);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        torn += !is_filled(data, 4096, 1) && !is_filled(data, 4096, 2);
        sim_free(host.sim);
    }
    assert_true(torn > 10);
}

static void
test_discard_leaves_old_or_zeros(void **state)
{
    unsigned zeros = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct host host;
        uint8_t data[4096];
        host_setup(&host, seed, seed % 2 == 0);
        assert_int_equal(write_fill(&host, 0, 3 * 4096, 9), 0);
        assert_int_equal(run(&host, IO_FILE_DISCARD, 4096, 4096, NULL), 0);
        sim_disk_peek(host.disk, 4096, data, sizeof data);
        assert_true(is_filled(data, 4096, 0) || is_filled(data, 4096, 9));
        zeros += data[0] == 0;
        sim_disk_peek(host.disk, 0, data, sizeof data);
        assert_true(is_filled(data, 4096, 9));
        sim_disk_peek(host.disk, 8192, data, sizeof data);
        assert_true(is_filled(data, 4096, 9));
        sim_free(host.sim);
    }
    assert_in_range(zeros, 5, 39);
}

/* ---- Faults ---- */

static void
test_faults_on_demand(void **state)
{
    struct host host;
    struct sim_disk_stats stats;
    uint8_t data[4096];

    (void)state;
    host_setup(&host, 5, true);
    assert_int_equal(write_fill(&host, 0, 16384, 1), 0);

    sim_disk_fault(host.disk, SIM_FAULT_READ_EIO, 4096, 4096, 2);
    assert_int_equal(run(&host, IO_FILE_READ, 0, 4096, host.memory), 0);
    assert_int_equal(run(&host, IO_FILE_READ, 4096, 4096, host.memory), -EIO);
    assert_int_equal(run(&host, IO_FILE_READ, 0, 8192, host.memory), -EIO);
    assert_int_equal(run(&host, IO_FILE_READ, 0, 8192, host.memory), 0);

    sim_disk_fault(host.disk, SIM_FAULT_READ_MEDIUM, 4096, 8192, 0);
    assert_int_equal(run(&host, IO_FILE_READ, 4096, 4096, host.memory), -EIO);
    assert_int_equal(write_fill(&host, 4096, 4096, 2), 0);
    assert_int_equal(run(&host, IO_FILE_READ, 4096, 4096, host.memory), 0);
    assert_int_equal(run(&host, IO_FILE_READ, 8192, 4096, host.memory), -EIO);
    sim_disk_faults_clear(host.disk);

    sim_disk_fault(host.disk, SIM_FAULT_WRITE_ENOSPC, 0, DISK_SIZE, 1);
    assert_int_equal(write_fill(&host, 0, 4096, 3), -ENOSPC);
    sim_disk_peek(host.disk, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 1));

    sim_disk_fault(host.disk, SIM_FAULT_WRITE_LOST, 0, DISK_SIZE, 1);
    assert_int_equal(write_fill(&host, 0, 4096, 3), 0);
    sim_disk_peek(host.disk, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 1));

    sim_disk_fault(host.disk, SIM_FAULT_WRITE_MISDIRECTED, 0, DISK_SIZE, 1);
    assert_int_equal(write_fill(&host, 0, 4096, 3), 0);
    sim_disk_peek(host.disk, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 1));

    sim_disk_fault(host.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 1);
    assert_int_equal(flush(&host), -EIO);
    assert_int_equal(flush(&host), 0);

    sim_disk_flip_bit(host.disk, 12288, 3);
    assert_int_equal(run(&host, IO_FILE_READ, 12288, 4096, host.memory), 0);
    sim_disk_stats(host.disk, &stats);
    assert_int_equal(stats.bits_flipped, 1);
    assert_int_equal(stats.writes_lost, 1);
    assert_int_equal(stats.writes_misdirected, 1);
    sim_free(host.sim);
}

static void
test_a_failed_flush_may_lose_the_cache(void **state)
{
    unsigned lost = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct host host;
        uint8_t data[4096];
        host_setup(&host, seed, true);
        assert_int_equal(write_fill(&host, 0, 4096, 1), 0);
        sim_disk_fault(host.disk, SIM_FAULT_FLUSH_EIO, 0, 0, 1);
        assert_int_equal(flush(&host), -EIO);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        lost += !is_filled(data, 4096, 1);
        sim_free(host.sim);
    }
    assert_in_range(lost, 5, 55);
}

static void
test_thin_disk_is_full(void **state)
{
    struct host host;

    (void)state;
    host_setup(&host, 6, false);
    sim_disk_set_capacity(host.disk, 2);
    assert_int_equal(write_fill(&host, 0, 8192, 1), 0);
    assert_int_equal(write_fill(&host, 8192, 4096, 1), -ENOSPC);
    assert_int_equal(write_fill(&host, 4096, 4096, 2), 0);
    assert_int_equal(sim_disk_pages_used(host.disk), 2);
    sim_free(host.sim);
}

static void
test_dead_and_moved_disks(void **state)
{
    struct host host;
    struct op op;
    struct io_file *file;

    (void)state;
    host_setup(&host, 7, true);
    assert_int_equal(io_file_open(host.io, "/d", IO_CACHE_AUTO, &file), -EBUSY);
    assert_int_equal(io_file_open(host.io, "/e", IO_CACHE_AUTO, &file),
                     -ENOENT);
    start(&host, &op, IO_FILE_READ, 0, 4096, host.memory);
    sim_disk_kill(host.disk);
    assert_int_equal(finish(&host, &op), -EIO);
    assert_int_equal(write_fill(&host, 0, 4096, 1), -EIO);
    sim_disk_revive(host.disk);
    assert_int_equal(write_fill(&host, 0, 4096, 1), 0);

    struct sim_node *other = sim_node_add(host.sim, "b");
    sim_disk_move(host.disk, other, "/x");
    assert_int_equal(write_fill(&host, 0, 4096, 2), -ENODEV);
    assert_ptr_equal(sim_disk_find(host.sim, "b", "/x"), host.disk);
    io_file_close(host.io, host.file);
    struct host second = {
        .program = { .boot = host_boot, .crashed = host_crashed },
        .sim = host.sim,
        .node = other,
    };
    sim_disk_move(host.disk, other, "/d");
    sim_node_start(other, &second.program);
    assert_int_equal(second.open_result, 0);
    assert_int_equal(run(&second, IO_FILE_READ, 0, 4096, second.memory), 0);
    assert_true(is_filled(second.memory, 4096, 1));

    struct sim_disk *copy = sim_disk_copy(host.disk, other, "/copy");
    uint8_t data[4096];
    sim_disk_peek(copy, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 1));
    sim_free(host.sim);
}

static void
test_random_faults_strike(void **state)
{
    struct host host;
    struct sim_disk_stats stats;

    (void)state;
    host_setup(&host, 8, true);
    struct sim_disk_options *options = sim_disk_options(host.disk);
    options->read_eio_ppm = options->write_eio_ppm = 100000;
    options->flip_ppm = options->write_lost_ppm = 100000;
    options->write_misdirect_ppm = options->flush_eio_ppm = 100000;
    options->read_medium_ppm = options->write_enospc_ppm = 100000;
    for (uint64_t i = 0; i < 300; i++) {
        int result = write_fill(&host, i % 100 * 4096, 4096, 1);
        assert_true(result == 0 || result == -EIO || result == -ENOSPC);
        result = run(&host, IO_FILE_READ, i % 100 * 4096, 4096, host.memory);
        assert_true(result == 0 || result == -EIO);
        result = flush(&host);
        assert_true(result == 0 || result == -EIO);
    }
    sim_disk_stats(host.disk, &stats);
    assert_true(stats.eio > 50);
    assert_true(stats.enospc > 10);
    assert_true(stats.bits_flipped > 50);
    assert_true(stats.writes_lost > 10);
    assert_true(stats.writes_misdirected > 10);
    sim_free(host.sim);
}

/* ---- Hooks ---- */

struct hook {
    struct sim_disk_hook hook;
    struct host *host;
    enum sim_verdict verdict;
    int result;
    unsigned started, settled;
    bool crash_at_start, crash_at_settled;
};

static enum sim_verdict
hook_started(struct sim_disk_hook *base, struct sim_disk *disk,
             const struct io_file_op *op, int *ret_result)
{
    struct hook *hook = container_of(base, struct hook, hook);

    assert_ptr_equal(disk, hook->host->disk);
    (void)op;
    hook->started++;
    *ret_result = hook->result;
    if (hook->crash_at_start) {
        sim_node_crash(hook->host->node, SIM_CRASH_POWER);
    }
    return hook->verdict;
}

static void
hook_settled(struct sim_disk_hook *base, struct sim_disk *disk,
             const struct io_file_op *op, int result)
{
    struct hook *hook = container_of(base, struct hook, hook);

    (void)disk;
    (void)op;
    (void)result;
    hook->settled++;
    if (hook->crash_at_settled) {
        sim_node_crash(hook->host->node, SIM_CRASH_PROCESS);
    }
}

static void
test_hooks(void **state)
{
    struct host host;
    struct op op;
    uint8_t data[4096];

    (void)state;
    host_setup(&host, 9, true);
    struct hook hook = {
        .hook = { .started = hook_started, .settled = hook_settled },
        .host = &host,
        .verdict = SIM_FAIL,
        .result = -ETIMEDOUT,
    };
    sim_disk_set_hook(host.disk, &hook.hook);
    assert_int_equal(write_fill(&host, 0, 4096, 1), -ETIMEDOUT);
    sim_disk_peek(host.disk, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 0));

    hook.verdict = SIM_HOLD;
    memset(host.memory, 1, 4096);
    start(&host, &op, IO_FILE_WRITE, 0, 4096, host.memory);
    sim_run_for(host.sim, NS_PER_S);
    assert_false(op.is_done);
    sim_disk_release(host.disk, NULL);
    assert_int_equal(finish(&host, &op), 0);
    assert_int_equal(hook.started, 2);
    assert_int_equal(hook.settled, 2);

    hook.verdict = SIM_PASS;
    hook.crash_at_settled = true;
    start(&host, &op, IO_FILE_WRITE, 0, 4096, host.memory);
    sim_run_for(host.sim, NS_PER_S);
    assert_false(op.is_done);
    assert_null(host.io);

    hook.crash_at_settled = false;
    hook.crash_at_start = true;
    sim_node_start(host.node, &host.program);
    start(&host, &op, IO_FILE_WRITE, 0, 4096, host.memory);
    assert_null(host.io);
    sim_run_for(host.sim, NS_PER_S);
    assert_false(op.is_done);
    sim_free(host.sim);
}

/* ---- Cancel ---- */

static void
test_cancel_settles(void **state)
{
    unsigned cancelled = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct host host;
        struct op op;
        uint8_t data[4096];
        host_setup(&host, seed, true);
        memset(host.memory, 7, 4096);
        start(&host, &op, IO_FILE_WRITE, 0, 4096, host.memory);
        io_op_cancel(host.io, &op.file.op);
        io_op_cancel(host.io, &op.file.op);
        assert_false(op.is_done);
        int result = finish(&host, &op);
        assert_true(result == 0 || result == -ECANCELED);
        cancelled += result == -ECANCELED;
        sim_disk_peek(host.disk, 0, data, sizeof data);
        assert_true(result != 0 || is_filled(data, 4096, 7));
        io_op_cancel(host.io, &op.file.op); /* Harmless. */
        sim_free(host.sim);
    }
    assert_in_range(cancelled, 10, 50);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_returns_what_was_written),
        cmocka_unit_test(test_read_destination_is_garbage_until_done),
        cmocka_unit_test(test_changing_the_source_tears_the_write),
        cmocka_unit_test(test_discard_leaves_old_or_zeros),
        cmocka_unit_test(test_faults_on_demand),
        cmocka_unit_test(test_a_failed_flush_may_lose_the_cache),
        cmocka_unit_test(test_thin_disk_is_full),
        cmocka_unit_test(test_dead_and_moved_disks),
        cmocka_unit_test(test_random_faults_strike),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_cancel_settles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
