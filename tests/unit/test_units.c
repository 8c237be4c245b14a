/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/units and lib/base/uuid: what is taken, what is refused, and that
 * text and value lead to each other. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "lib/base/uuid.h"

struct parse_case {
    const char *text;
    int error;
    uint64_t value;
};

static const struct parse_case size_cases[] = {
    { "0", 0, 0 },
    { "4096", 0, 4096 },
    { "64K", 0, 64 * KIB },
    { "20G", 0, 20 * GIB },
    { "20GiB", 0, 20 * GIB },
    { "3T", 0, 3 * TIB },
    { "0007P", 0, 7 * PIB },
    { "18446744073709551615", 0, UINT64_MAX },
    { "16383P", 0, 16383 * PIB },
    { "16384P", -ERANGE, 0 },
    { "18446744073709551616", -ERANGE, 0 },
    { "99999999999999999999999999999999GiB", -ERANGE, 0 },
    { "", -EINVAL, 0 },
    { "G", -EINVAL, 0 },
    { "GiB", -EINVAL, 0 },
    { "20iB", -EINVAL, 0 },
    { "20B", -EINVAL, 0 },
    { "20g", -EINVAL, 0 },
    { "20GB", -EINVAL, 0 },
    { "20 G", -EINVAL, 0 },
    { " 20G", -EINVAL, 0 },
    { "20G ", -EINVAL, 0 },
    { "-1", -EINVAL, 0 },
    { "+1", -EINVAL, 0 },
    { "1.5G", -EINVAL, 0 },
    { "0x10", -EINVAL, 0 },
    { "1e3", -EINVAL, 0 },
};

static const struct parse_case duration_cases[] = {
    { "0s", 0, 0 },
    { "5ns", 0, 5 },
    { "10us", 0, 10 * NS_PER_US },
    { "200ms", 0, 200 * NS_PER_MS },
    { "90s", 0, 90 * NS_PER_S },
    { "2m", 0, 120 * NS_PER_S },
    { "1h", 0, 3600 * NS_PER_S },
    { "99999999999h", -ERANGE, 0 },
    { "5", -EINVAL, 0 },
    { "5 s", -EINVAL, 0 },
    { "s", -EINVAL, 0 },
    { "5d", -EINVAL, 0 },
    { "", -EINVAL, 0 },
};

typedef int parse_fn(const char *text, uint64_t *ret_value);

static void
run_cases(const struct parse_case *cases, size_t count, parse_fn *parse)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 12345;
        int error = parse(cases[i].text, &value);
        if (error != cases[i].error) {
            fprintf(stderr, "# \"%s\": %d\n", cases[i].text, error);
        }
        assert_int_equal(error, cases[i].error);
        /* Outputs are untouched on failure. */
        assert_true(value == (error == 0 ? cases[i].value : 12345));
    }
}

static void
test_parse(void **state)
{
    uint64_t value = 0;
    (void)state;

    run_cases(size_cases, ARRAY_COUNT(size_cases), units_parse_size);
    run_cases(duration_cases, ARRAY_COUNT(duration_cases),
              units_parse_duration);
    assert_int_equal(units_parse_u64("17", &value), 0);
    assert_int_equal(value, 17);
    assert_int_equal(units_parse_u64("17G", &value), -EINVAL);
    assert_int_equal(units_parse_u64("", &value), -EINVAL);
}

static void
test_format(void **state)
{
    char text[UNITS_TEXT_SIZE];
    struct rng rng;
    (void)state;

    units_format_size(20 * GIB, text);
    assert_string_equal(text, "20G");
    units_format_size(GIB + GIB / 2, text);
    assert_string_equal(text, "1536M");
    units_format_size(0, text);
    assert_string_equal(text, "0");
    units_format_duration(1500 * NS_PER_MS, text);
    assert_string_equal(text, "1500ms");
    units_format_duration(0, text);
    assert_string_equal(text, "0ns");

    rng_init(&rng, 3);
    for (int i = 0; i < 2000; i++) {
        uint64_t value = rng_u64(&rng) >> rng_below(&rng, 64);
        uint64_t back = 0;
        value <<= rng_below(&rng, 20);
        units_format_size(value, text);
        assert_int_equal(units_parse_size(text, &back), 0);
        assert_true(back == value);
        units_format_duration(value, text);
        assert_int_equal(units_parse_duration(text, &back), 0);
        assert_true(back == value);
    }
}

static void
test_align(void **state)
{
    (void)state;

    assert_int_equal(WEFT_BLOCK_SIZE, 1u << WEFT_BLOCK_SHIFT);
    assert_true(units_is_aligned(8192, 4096));
    assert_false(units_is_aligned(8193, 4096));
    assert_int_equal(units_align_down(8191, 4096), 4096);
    assert_int_equal(units_align_up(4097, 4096), 8192);
    assert_int_equal(units_align_up(4096, 4096), 4096);
    assert_int_equal(units_align_up(0, 4096), 0);
    assert_int_equal(units_divide_up(10, 3), 4);
    assert_int_equal(units_divide_up(9, 3), 3);
    assert_true(units_divide_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
    assert_true(units_is_power_of_two(1));
    assert_false(units_is_power_of_two(0));
    assert_false(units_is_power_of_two(12));
}

static void
test_uuid(void **state)
{
    static const char *const bad[] = {
        "",
        "01234567-89ab-cdef-0123-456789abcde",
        "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567089ab-cdef-0123-456789abcdef",
        "01234567-89ab-cdef-0123-456789abcdeg",
        "-1234567-89ab-cdef-0123-456789abcdef",
        "{1234567-89ab-cdef-0123-456789abcde}",
        "0123456789abcdef0123456789abcdef0123",
        "012345678-9ab-cdef-0123-456789abcdef",
    };
    static const char good[] = "01234567-89ab-cdef-0123-456789abcdef";
    struct weft_uuid uuid;
    struct weft_uuid other;
    char text[UUID_TEXT_SIZE];
    (void)state;

    assert_int_equal(uuid_parse(good, &uuid), 0);
    assert_int_equal(uuid.bytes[0], 0x01);
    assert_int_equal(uuid.bytes[15], 0xef);
    uuid_format(&uuid, text);
    assert_string_equal(text, good);
    assert_int_equal(uuid_parse("01234567-89AB-CDEF-0123-456789abcdEF", &other),
                     0);
    assert_true(uuid_equal(&uuid, &other));
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_int_equal(uuid_parse(bad[i], &other), -EINVAL);
        assert_true(uuid_equal(&uuid, &other)); /* Untouched. */
    }

    memset(&other, 0, sizeof other);
    assert_true(uuid_is_nil(&other));
    assert_false(uuid_is_nil(&uuid));
    assert_true(uuid_compare(&other, &uuid) < 0);
    assert_true(uuid_compare(&uuid, &other) > 0);
    assert_int_equal(uuid_compare(&uuid, &uuid), 0);

    uuid_make_random(UINT64_MAX, UINT64_MAX, &uuid);
    uuid_format(&uuid, text);
    assert_string_equal(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    uuid_make_random(0, 0, &uuid);
    uuid_format(&uuid, text);
    assert_string_equal(text, "00000000-0000-4000-8000-000000000000");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_align),
        cmocka_unit_test(test_uuid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
