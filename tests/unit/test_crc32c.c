/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/crc32c: known values (RFC 3720, B.4), and the instruction, the
 * table, the copy and the combination against a bit-by-bit definition. */
#include "tests/unit/unit.h"

#include <string.h>

#include "lib/base/array.h"
#include "lib/base/crc32c.h"
#include "lib/base/rng.h"

#define DATA_SIZE 20000u

static unsigned char data[DATA_SIZE];
static unsigned char copy[DATA_SIZE + 2];

static uint32_t
crc32c_by_definition(uint32_t seed, const unsigned char *at, size_t size)
{
    uint32_t state = ~seed;
    for (size_t i = 0; i < size; i++) {
        state ^= at[i];
        for (int bit = 0; bit < 8; bit++) {
            state = (state & 1) != 0 ? state >> 1 ^ 0x82f63b78u : state >> 1;
        }
    }
    return ~state;
}

static void
test_known(void **state)
{
    unsigned char bytes[32];
    (void)state;

    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x46dd794eu);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x113fdb5cu);
}

static void
check_one(size_t offset, size_t size, uint32_t seed)
{
    uint32_t expected = crc32c_by_definition(seed, data + offset, size);

    assert_int_equal(crc32c(seed, data + offset, size), expected);
    assert_int_equal(crc32c_portable(seed, data + offset, size), expected);

    memset(copy, 0xa5, sizeof copy);
    assert_int_equal(crc32c_copy(seed, copy + 1, data + offset, size),
                     expected);
    assert_memory_equal(copy + 1, data + offset, size);
    assert_int_equal(copy[0], 0xa5); /* Nothing beside it. */
    assert_int_equal(copy[size + 1], 0xa5);
}

static void
test_sizes(void **state)
{
    /* Around the lanes (168 and 1352 bytes, three of each) and the block. */
    static const size_t around[] = { 504, 1008, 4056, 4096, 4560, 8192, 16384 };
    struct rng rng;
    (void)state;

    rng_init(&rng, 11);
    rng_fill(&rng, data, sizeof data);
    for (size_t size = 0; size < 600; size++) {
        check_one(size % 9, size, (uint32_t)rng_u64(&rng));
    }
    for (size_t i = 0; i < ARRAY_COUNT(around); i++) {
        for (size_t size = around[i] - 9; size <= around[i] + 9; size++) {
            check_one(size % 7, size, (uint32_t)rng_u64(&rng));
        }
    }
}

static void
test_chaining(void **state)
{
    struct rng rng;
    (void)state;

    rng_init(&rng, 12);
    rng_fill(&rng, data, sizeof data);
    for (int i = 0; i < 300; i++) {
        size_t size = rng_below(&rng, sizeof data + 1);
        size_t cut = rng_below(&rng, size + 1);
        uint32_t whole = crc32c(0, data, size);
        uint32_t a = crc32c(0, data, cut);
        uint32_t b = crc32c(0, data + cut, size - cut);

        assert_int_equal(crc32c(a, data + cut, size - cut), whole);
        assert_int_equal(crc32c_combine(a, b, size - cut), whole);
    }

    /* 64-bit sizes: n zero bytes appended at once, or in two steps. */
    uint64_t n = (UINT64_C(1) << 40) + 12345;
    uint32_t a = crc32c(0, "weft", 4);
    uint32_t once = crc32c_combine(a, 0, 2 * n);
    assert_int_equal(crc32c_combine(crc32c_combine(a, 0, n), 0, n), once);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_chaining),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
