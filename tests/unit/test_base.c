/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of lib/base that are small enough to share a file: check, cleanup,
 * container_of, array, err, le, be, rng, backoff, slab. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/backoff.h"
#include "lib/base/be.h"
#include "lib/base/check.h"
#include "lib/base/cleanup.h"
#include "lib/base/container_of.h"
#include "lib/base/err.h"
#include "lib/base/le.h"
#include "lib/base/rng.h"
#include "lib/base/slab.h"
#include "lib/base/units.h"

static void
run_check(void *argument)
{
    const int *value = argument;
    CHECK(*value == 1);
}

static void
test_check(void **state)
{
    int good = 1;
    int bad = 2;
    (void)state;

    assert_false(unit_aborts(run_check, &good));
    assert_true(unit_aborts(run_check, &bad));
}

static int
close_in_scope(bool take)
{
    CLEANUP_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    errno = ENOSPC;
    return take ? cleanup_take_fd(&fd) : fd;
}

static void
test_cleanup_fd(void **state)
{
    (void)state;

    int closed = close_in_scope(false);
    assert_int_equal(errno, ENOSPC); /* Preserved. */
    assert_int_equal(fcntl(closed, F_GETFD), -1);
    int taken = close_in_scope(true);
    assert_true(fcntl(taken, F_GETFD) >= 0);
    close(taken);
}

static void
test_cleanup_memory(void **state)
{
    (void)state;

    /* Leaks and double frees are for the sanitizer to find. */
    CLEANUP_FREE char *text = strdup("text");
    CLEANUP_FREE uint64_t *numbers = calloc(4, sizeof *numbers);
    CLEANUP_FREE char *none = NULL;
    CLEANUP_FILE FILE *file = fopen("/dev/null", "re");
    CLEANUP_FREE char *taken = cleanup_take_text(&text);
    assert_null(text);
    assert_null(none);
    assert_non_null(numbers);
    assert_non_null(file);
    assert_string_equal(taken, "text");
}

static void
test_container_of(void **state)
{
    struct outer {
        int first;
        int second;
    } outer = { 1, 2 };
    (void)state;

    assert_ptr_equal(container_of(&outer.second, struct outer, second), &outer);
    assert_int_equal(ARRAY_COUNT(((int[7]){ 0 })), 7);
}

static void
test_err(void **state)
{
    struct err err;
    char blanks[600];
    (void)state;

    err_set(NULL, "nobody %d", 1);
    err_prefix(NULL, "nobody");
    err_clear(NULL);

    err_set(&err, "disk %d", 3);
    assert_string_equal(err.text, "disk 3");
    err_set(&err, "%s is gone", err.text);
    assert_string_equal(err.text, "disk 3 is gone");
    err_prefix(&err, "host %s: ", "a");
    assert_string_equal(err.text, "host a: disk 3 is gone");

    memset(blanks, ' ', sizeof blanks - 1);
    blanks[sizeof blanks - 1] = '\0';
    err_set(&err, "%s", blanks);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    err_prefix(&err, "x%s", "y");
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_memory_equal(err.text, "xy ", 3);
    err_prefix(&err, "%s", blanks);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    err_clear(&err);
    assert_string_equal(err.text, "");
}

static void
test_endian(void **state)
{
    static const uint8_t up[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct le16 l16;
    struct le32 l32;
    struct le64 l64;
    struct be16 b16;
    struct be32 b32;
    struct be64 b64;
    (void)state;

    le16_set(&l16, 0x0201);
    le32_set(&l32, 0x04030201);
    le64_set(&l64, UINT64_C(0x0807060504030201));
    assert_memory_equal(l16.bytes, up, 2);
    assert_memory_equal(l32.bytes, up, 4);
    assert_memory_equal(l64.bytes, up, 8);
    assert_int_equal(le16_get(l16), 0x0201);
    assert_int_equal(le32_get(l32), 0x04030201);
    assert_true(le64_get(l64) == UINT64_C(0x0807060504030201));

    be16_set(&b16, 0x0102);
    be32_set(&b32, 0x01020304);
    be64_set(&b64, UINT64_C(0x0102030405060708));
    assert_memory_equal(b16.bytes, up, 2);
    assert_memory_equal(b32.bytes, up, 4);
    assert_memory_equal(b64.bytes, up, 8);
    assert_int_equal(be16_get(b16), 0x0102);
    assert_int_equal(be32_get(b32), 0x01020304);
    assert_true(be64_get(b64) == UINT64_C(0x0102030405060708));
}

/* The reference implementations of splitmix64 and xoshiro256**, as published
 * by their authors, give these numbers for seed 42. */
static void
test_rng_reference(void **state)
{
    static const uint64_t expected[] = {
        UINT64_C(0x15780b2e0c2ec716),
        UINT64_C(0x6104d9866d113a7e),
        UINT64_C(0xae17533239e499a1),
        UINT64_C(0xecb8ad4703b360a1),
    };
    struct rng rng;
    (void)state;

    rng_init(&rng, 42);
    for (size_t i = 0; i < ARRAY_COUNT(expected); i++) {
        uint64_t value = rng_u64(&rng);
        if (value != expected[i]) {
            fprintf(stderr, "# %zu: %016llx\n", i, (unsigned long long)value);
        }
        assert_true(value == expected[i]);
    }
}

static void
test_rng_ranges(void **state)
{
    struct rng rng;
    struct rng same;
    uint32_t counts[5] = { 0 };
    uint32_t chances = 0;
    uint8_t bytes[13] = { 0 };
    uint8_t again[13] = { 0 };
    (void)state;

    rng_init(&rng, 7);
    for (uint32_t i = 0; i < 50000; i++) {
        counts[rng_below(&rng, 5)]++;
        chances += rng_chance(&rng, 1, 10);
        uint64_t between = rng_between(&rng, 10, 12);
        assert_true(between >= 10 && between <= 12);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    assert_in_range(chances, 4700, 5300);
    assert_int_equal(rng_below(&rng, 1), 0);
    assert_int_equal(rng_between(&rng, 3, 3), 3);
    rng_between(&rng, 0, UINT64_MAX);
    assert_false(rng_chance(&rng, 0, 3));
    assert_true(rng_chance(&rng, 3, 3));

    same = rng;
    rng_fill(&rng, bytes, sizeof bytes);
    rng_fill(&same, again, sizeof again);
    assert_memory_equal(bytes, again, sizeof bytes);
    assert_true(bytes[8] != 0 || bytes[9] != 0 || bytes[12] != 0);
}

static void
test_backoff(void **state)
{
    const uint64_t base_ns = 100 * NS_PER_MS;
    const uint64_t max_ns = 5 * NS_PER_S;
    struct backoff backoff;
    struct rng rng;
    (void)state;

    rng_init(&rng, 1);
    backoff_init(&backoff, base_ns, max_ns);
    for (int round = 0; round < 2; round++) {
        uint64_t whole_ns = base_ns;
        for (int i = 0; i < 100; i++) {
            uint64_t wait_ns = backoff_next(&backoff, &rng);
            assert_in_range(wait_ns, whole_ns / 2, whole_ns);
            whole_ns = whole_ns * 2 < max_ns ? whole_ns * 2 : max_ns;
        }
        backoff_reset(&backoff);
    }

    /* Nothing overflows at the top. */
    backoff_init(&backoff, 1, UINT64_MAX);
    for (int i = 0; i < 200; i++) {
        backoff_next(&backoff, &rng);
    }
    assert_true(backoff_next(&backoff, &rng) >= UINT64_MAX / 2);
}

static void
put_twice(void *argument)
{
    struct slab *slab = argument;
    void *object = slab_get(slab);
    slab_put(slab, object);
    slab_put(slab, object);
}

static void
put_foreign(void *argument)
{
    struct slab *slab = argument;
    char *object = slab_get(slab);
    slab_put(slab, object + 1);
}

static void
test_slab(void **state)
{
    struct slab slab = { 0 };
    void *objects[8];
    (void)state;

    slab_done(&slab);
    assert_int_equal(slab_init(&slab, 5000, 4096, 8), 0);
    for (uint32_t i = 0; i < 8; i++) {
        objects[i] = slab_get(&slab);
        assert_non_null(objects[i]);
        assert_true((uintptr_t)objects[i] % 4096 == 0);
        assert_int_equal(slab_index(&slab, objects[i]), i);
        assert_ptr_equal(slab_at(&slab, i), objects[i]);
        memset(objects[i], 0xff, 5000);
    }
    assert_null(slab_get(&slab));
    assert_int_equal(slab_used_count(&slab), 8);
    slab_put(&slab, objects[3]);
    assert_ptr_equal(slab_get(&slab), objects[3]);
    slab_put(&slab, objects[3]);
    assert_true(unit_aborts(put_twice, &slab));
    assert_true(unit_aborts(put_foreign, &slab));
    slab_done(&slab);

    assert_int_equal(slab_init(&slab, SIZE_MAX / 4, 8, 1024), -ENOMEM);
    assert_int_equal(slab_init(&slab, 8, 8, 0), 0);
    assert_null(slab_get(&slab));
    slab_done(&slab);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_cleanup_fd),
        cmocka_unit_test(test_cleanup_memory),
        cmocka_unit_test(test_container_of),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_endian),
        cmocka_unit_test(test_rng_reference),
        cmocka_unit_test(test_rng_ranges),
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_slab),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
