/* SPDX-License-Identifier: Apache-2.0 */

/* Disks and crashes in the simulator: invariants (2), (3) of lib/io/sim.h. */

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

/* ---- Crashes ---- */

/* (3): flushed bytes survive anything. */
static void
test_flushed_writes_survive_power(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct host host;
        struct op op;
        uint8_t data[8 * 4096];
        host_setup(&host, seed, true);
        assert_int_equal(write_fill(&host, 0, sizeof data, 1), 0);
        assert_int_equal(write_fill(&host, 4096, 4096, 2), 0);
        assert_int_equal(flush(&host), 0);
        /* Others, in flight and cached, elsewhere. */
        assert_int_equal(write_fill(&host, 65536, 4096, 3), 0);
        start(&host, &op, IO_FILE_WRITE, 131072, 4096, host.memory);
        restart(&host, SIM_CRASH_POWER);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        assert_true(is_filled(data, 4096, 1));
        assert_true(is_filled(data + 4096, 4096, 2));
        assert_true(is_filled(data + 8192, sizeof data - 8192, 1));
        sim_free(host.sim);
    }
}

/* Counts what the four sectors-worth versions of a block came out as. */
static void
test_unflushed_writes_survive_in_any_subset(void **state)
{
    unsigned counts[4] = { 0 };
    unsigned torn = 0;
    unsigned mixed_writes = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 800; seed++) {
        struct host host;
        uint8_t data[4096];
        uint8_t other[4096];
        host_setup(&host, seed, true);
        assert_int_equal(write_fill(&host, 0, 4096, 1), 0);
        assert_int_equal(flush(&host), 0);
        assert_int_equal(write_fill(&host, 0, 4096, 2), 0);
        assert_int_equal(write_fill(&host, 0, 4096, 3), 0);
        assert_int_equal(write_fill(&host, 8192, 4096, 3), 0);
        restart(&host, SIM_CRASH_POWER);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        sim_disk_peek(host.disk, 8192, other, sizeof other);
        for (unsigned i = 0; i < 8; i++) {
            uint8_t version = data[i * 512];
            assert_in_range(version, 1, 3);
            assert_true(is_filled(data + i * 512, 512, version));
            counts[version]++;
        }
        torn += !is_filled(data, 4096, data[0]);
        mixed_writes += is_filled(data, 4096, 1) && is_filled(other, 4096, 3);
        sim_free(host.sim);
    }
    assert_true(counts[1] > 600); /* Lost. */
    assert_true(counts[2] > 100); /* An older version came through. */
    assert_true(counts[3] > 600);
    assert_true(torn > 20);
    assert_true(mixed_writes > 5); /* A later write without an earlier. */
}

static void
test_tearing_respects_its_unit(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct host host;
        struct op op;
        uint8_t data[8 * 4096];
        host_setup(&host, seed, seed % 2 == 0);
        sim_disk_options(host.disk)->tear_bytes = 4096;
        assert_int_equal(write_fill(&host, 0, sizeof data, 1), 0);
        assert_int_equal(flush(&host), 0);
        assert_int_equal(write_fill(&host, 0, sizeof data, 2), 0);
        memset(host.memory, 3, sizeof data);
        start(&host, &op, IO_FILE_WRITE, 0, sizeof data, host.memory);
        restart(&host, SIM_CRASH_POWER);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        for (unsigned i = 0; i < 8; i++) {
            assert_true(is_filled(data + i * 4096, 4096, data[i * 4096]));
        }
        sim_free(host.sim);
    }
}

/* A write without a volatile cache is durable when done. */
static void
test_nonvolatile_disk_keeps_completed_writes(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct host host;
        uint8_t data[4096];
        host_setup(&host, seed, false);
        assert_int_equal(write_fill(&host, 0, 4096, 4), 0);
        restart(&host, SIM_CRASH_POWER);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        assert_true(is_filled(data, 4096, 4));
        sim_free(host.sim);
    }
}

static void
test_process_crash_keeps_the_cache(void **state)
{
    unsigned landed = 0;
    unsigned torn = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct host host;
        struct op op;
        uint8_t data[8192];
        host_setup(&host, seed, true);
        assert_int_equal(write_fill(&host, 0, 4096, 4), 0);
        memset(host.memory, 5, 4096);
        start(&host, &op, IO_FILE_WRITE, 4096, 4096, host.memory);
        restart(&host, SIM_CRASH_PROCESS);
        assert_false(op.is_done);
        sim_run_for(host.sim, NS_PER_S);
        assert_false(op.is_done); /* (2) */
        sim_disk_peek(host.disk, 0, data, sizeof data);
        assert_true(is_filled(data, 4096, 4));
        landed += is_filled(data + 4096, 4096, 5);
        torn += !is_filled(data + 4096, 4096, data[4096]);
        sim_free(host.sim);
    }
    assert_in_range(landed, 10, 90);
    assert_true(torn > 10);
}

static void
test_flush_covers_only_what_was_completed(void **state)
{
    unsigned lost = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct host host;
        struct op op;
        uint8_t data[4096];
        host_setup(&host, seed, true);
        sim_disk_slow(host.disk, 0);
        sim_disk_options(host.disk)->flush_ns =
            (struct sim_range){ 50 * NS_PER_MS, 50 * NS_PER_MS };
        start(&host, &op, IO_FILE_FLUSH, 0, 0, NULL);
        assert_int_equal(write_fill(&host, 0, 4096, 6), 0);
        assert_int_equal(finish(&host, &op), 0);
        restart(&host, SIM_CRASH_POWER);
        sim_disk_peek(host.disk, 0, data, sizeof data);
        lost += !is_filled(data, 4096, 6);
        sim_free(host.sim);
    }
    assert_true(lost > 50);
}

static void
test_boot_id_changes_with_power_only(void **state)
{
    struct host host;
    struct weft_uuid first, second, third;

    (void)state;
    host_setup(&host, 1, true);
    sim_node_boot_id(host.node, &first);
    restart(&host, SIM_CRASH_PROCESS);
    sim_node_boot_id(host.node, &second);
    restart(&host, SIM_CRASH_POWER);
    sim_node_boot_id(host.node, &third);
    assert_true(uuid_equal(&first, &second));
    assert_false(uuid_equal(&first, &third));
    sim_free(host.sim);
}

static void
test_policies(void **state)
{
    struct host host;
    uint8_t data[4096];

    (void)state;
    host_setup(&host, 3, true);
    sim_disk_set_policy(host.disk, SIM_POLICY_LOSE_ALL);
    assert_int_equal(write_fill(&host, 0, 4096, 1), 0);
    restart(&host, SIM_CRASH_POWER);
    sim_disk_peek(host.disk, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 0));
    sim_disk_set_policy(host.disk, SIM_POLICY_KEEP_ALL);
    assert_int_equal(write_fill(&host, 0, 4096, 2), 0);
    restart(&host, SIM_CRASH_POWER);
    sim_disk_peek(host.disk, 0, data, sizeof data);
    assert_true(is_filled(data, 4096, 2));
    sim_free(host.sim);
}

/* ---- A model: random operations and crashes against legal contents ---- */

#define MODEL_BLOCKS 32u
#define MODEL_VERSIONS 24u

/* Legal fills of one block: any version since the last one flushed. */
struct model_block {
    uint8_t versions[MODEL_VERSIONS];
    uint32_t count;
    uint8_t current;
};

static bool
model_allows(const struct model_block *block, uint8_t fill)
{
    for (uint32_t i = 0; i < block->count; i++) {
        if (block->versions[i] == fill) {
            return true;
        }
    }
    return false;
}

static void
model_crash(struct host *host, struct model_block *model, enum sim_crash crash)
{
    uint8_t data[4096];

    restart(host, crash);
    for (uint32_t i = 0; i < MODEL_BLOCKS; i++) {
        struct model_block *block = &model[i];
        sim_disk_peek(host->disk, i * 4096, data, sizeof data);
        for (uint32_t j = 0; j < 8; j++) {
            assert_true(is_filled(data + j * 512, 512, data[j * 512]));
            assert_true(model_allows(block, data[j * 512]));
            assert_true(crash == SIM_CRASH_POWER ||
                        data[j * 512] == block->current);
        }
        /* Start afresh with whole blocks. */
        memset(data, block->current, sizeof data);
        sim_disk_poke(host->disk, i * 4096, data, sizeof data);
        block->versions[0] = block->current;
        block->count = 1;
    }
}

static void
test_random_history_against_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct host host;
        struct model_block model[MODEL_BLOCKS] = { 0 };
        struct rng rng;
        host_setup(&host, seed, true);
        sim_rng_init(host.sim, "test", 0, &rng);
        for (uint32_t i = 0; i < MODEL_BLOCKS; i++) {
            model[i].count = 1; /* Zeros. */
        }
        for (uint32_t step = 0; step < 150; step++) {
            struct model_block *block = &model[rng_below(&rng, MODEL_BLOCKS)];
            uint32_t index = (uint32_t)(block - model);
            uint64_t draw = rng_below(&rng, 100);
            if (draw < 3) {
                model_crash(&host, model,
                            draw == 0 ? SIM_CRASH_PROCESS : SIM_CRASH_POWER);
            } else if (draw < 8) {
                assert_int_equal(flush(&host), 0);
                for (uint32_t i = 0; i < MODEL_BLOCKS; i++) {
                    model[i].versions[0] = model[i].current;
                    model[i].count = 1;
                }
            } else if (draw < 40) {
                assert_int_equal(run(&host, IO_FILE_READ, index * 4096, 4096,
                                     host.memory),
                                 0);
                assert_true(is_filled(host.memory, 4096, block->current));
            } else if (block->count < MODEL_VERSIONS) {
                uint8_t fill = (uint8_t)rng_u64(&rng);
                assert_int_equal(write_fill(&host, index * 4096, 4096, fill),
                                 0);
                block->versions[block->count++] = fill;
                block->current = fill;
            }
        }
        sim_free(host.sim);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flushed_writes_survive_power),
        cmocka_unit_test(test_unflushed_writes_survive_in_any_subset),
        cmocka_unit_test(test_tearing_respects_its_unit),
        cmocka_unit_test(test_nonvolatile_disk_keeps_completed_writes),
        cmocka_unit_test(test_process_crash_keeps_the_cache),
        cmocka_unit_test(test_flush_covers_only_what_was_completed),
        cmocka_unit_test(test_boot_id_changes_with_power_only),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_random_history_against_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
