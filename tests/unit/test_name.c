/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/name: which names are taken. */
#include "tests/unit/unit.h"

#include <string.h>

#include "lib/base/array.h"
#include "lib/base/name.h"

static void
test_good(void **state)
{
    (void)state;
    static const char *const names[] = {
        "a",      "0",          "h1",   "a-b",  "a.b_c-d",
        "rack.7", "0123456789", "a--b", "a..b",
    };

    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        assert_true(name_is_valid(names[i]));
    }
}

static void
test_bad(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",   "-",   ".",   "_",     "..",       "-a",    "a-",   ".a",
        "a.", "_a",  "a_",  "A",     "aB",       "a/b",   "../a", "a b",
        " a", "a\n", "\ta", "a\x7f", "\xc3\xa4", "a\xff", "a:b",  "a%s",
    };

    assert_false(name_is_valid(NULL));
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        assert_false(name_is_valid(names[i]));
    }
}

static void
test_length(void **state)
{
    (void)state;
    char name[2 * NAME_SIZE_MAX];

    for (size_t size = 1; size < sizeof name; size++) {
        memset(name, 'x', size);
        name[size] = '\0';
        assert_int_equal(name_is_valid(name), size <= NAME_SIZE_MAX);
    }
}

/* Every single character, in the middle and at the ends. */
static void
test_characters(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        bool is_end = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool is_inside = is_end || c == '.' || c == '_' || c == '-';
        char inside[] = { 'a', (char)c, 'a', '\0' };
        char first[] = { (char)c, 'a', '\0' };
        char last[] = { 'a', (char)c, '\0' };

        assert_int_equal(name_is_valid(inside), is_inside);
        assert_int_equal(name_is_valid(first), is_end);
        assert_int_equal(name_is_valid(last), is_end);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
