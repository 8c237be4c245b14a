/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/mirror/decide.h: every rule as a case, then all inputs for the
 * promises that must hold whatever comes in. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/mirror/decide.h"
#include "lib/base/array.h"

static const struct {
    struct decide_input input;
    enum decide_action action;
    uint32_t set, source;
} cases[] = {
    /* All is well. */
    { { .in_sync = 7, .open = 7, .trusted = 7, .min_in_sync = 2 },
      DECIDE_GO,
      7,
      0 },
    /* One failed: shrink to those that never did. */
    { { .in_sync = 7, .open = 7, .trusted = 5, .min_in_sync = 2 },
      DECIDE_COMMIT,
      5,
      0 },
    /* S19: never below min_in_sync; hold. */
    { { .in_sync = 3, .open = 1, .trusted = 1, .min_in_sync = 2 },
      DECIDE_WAIT,
      0,
      0 },
    /* ... until it is back: made equal in place, from the trusted one. */
    { { .in_sync = 3,
        .open = 3,
        .trusted = 2,
        .unbroken = 1,
        .min_in_sync = 2,
        .local = 1 },
      DECIDE_RECONCILE,
      3,
      1 },
    /* S11: never empty. */
    { { .in_sync = 1, .open = 0, .trusted = 0, .min_in_sync = 1 },
      DECIDE_WAIT,
      0,
      0 },
    /* S17: a guest lives, and the one that is here lost its cache. */
    { { .in_sync = 3,
        .open = 1,
        .trusted = 0,
        .unbroken = 0,
        .min_in_sync = 1 },
      DECIDE_WAIT,
      0,
      0 },
    { { .in_sync = 3, .open = 3, .unbroken = 2, .min_in_sync = 1 },
      DECIDE_RECONCILE,
      3,
      1 },
    { { .in_sync = 3,
        .open = 3,
        .unbroken = 0,
        .min_in_sync = 1,
        .initial = true,
        .live_guest = true },
      DECIDE_WAIT,
      0,
      0 },
    /* A new guest takes what there is: (c). */
    { { .in_sync = 3,
        .open = 3,
        .unbroken = 0,
        .min_in_sync = 1,
        .initial = true,
        .max_sequence = { 5, 9 } },
      DECIDE_RECONCILE,
      3,
      1 },
    { { .in_sync = 3,
        .open = 3,
        .unbroken = 1,
        .min_in_sync = 1,
        .initial = true,
        .max_sequence = { 5, 9 } },
      DECIDE_RECONCILE,
      3,
      0 },
    /* Attach: the others have their time to appear, then are stale. */
    { { .in_sync = 7, .open = 3, .min_in_sync = 2, .initial = true },
      DECIDE_WAIT,
      0,
      0 },
    { { .in_sync = 7,
        .open = 3,
        .min_in_sync = 2,
        .initial = true,
        .grace_over = true },
      DECIDE_COMMIT,
      3,
      0 },
    { { .in_sync = 7,
        .open = 1,
        .min_in_sync = 2,
        .initial = true,
        .grace_over = true },
      DECIDE_WAIT,
      0,
      0 },
    /* Cleanly detached, and they agree. */
    { { .in_sync = 3,
        .open = 3,
        .min_in_sync = 1,
        .initial = true,
        .clean = true,
        .known_good = { 9, 9 },
        .max_sequence = { 9, 8 } },
      DECIDE_TRUST,
      3,
      0 },
    /* The row says so, and they do not. */
    { { .in_sync = 3,
        .open = 3,
        .min_in_sync = 1,
        .initial = true,
        .clean = true,
        .known_good = { 9, 9 },
        .max_sequence = { 9, 10 } },
      DECIDE_RECONCILE,
      3,
      1 },
    { { .in_sync = 3,
        .open = 3,
        .min_in_sync = 1,
        .initial = true,
        .clean = true,
        .known_good = { 9, 7 },
        .max_sequence = { 7, 7 } },
      DECIDE_RECONCILE,
      3,
      0 },
};

static void
test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct decide_result result = decide_membership(&cases[i].input);
        assert_int_equal(result.action, cases[i].action);
        if (result.action == DECIDE_WAIT) {
            assert_non_null(result.reason);
            continue;
        }
        assert_int_equal(result.set, cases[i].set);
        if (result.action == DECIDE_RECONCILE) {
            assert_int_equal(result.source, cases[i].source);
        }
    }
}

static void
check_promises(const struct decide_input *input)
{
    struct decide_result r = decide_membership(input);
    bool must_keep = input->live_guest || !input->initial;

    switch (r.action) {
    case DECIDE_GO:
        assert_int_equal(input->trusted, input->in_sync);
        break;
    case DECIDE_COMMIT:
        assert_true(r.set != 0);                                /* S11 */
        assert_true(decide_count(r.set) >= input->min_in_sync); /* S19 */
        assert_int_equal(r.set & ~(input->in_sync & input->open), 0);
        assert_true(r.set != input->in_sync || input->trusted != r.set);
        if (must_keep) {
            /* S17: somebody in it has everything. */
            assert_true((r.set & (input->trusted | input->unbroken)) != 0);
        }
        break;
    case DECIDE_TRUST:
    case DECIDE_RECONCILE:
        assert_int_equal(r.set, input->in_sync);
        assert_int_equal(r.set & ~input->open, 0);
        if (r.action == DECIDE_RECONCILE) {
            uint32_t bit = 1u << r.source;
            assert_true((r.set & bit) != 0);
            if (must_keep) {
                assert_true((bit & (input->trusted | input->unbroken)) != 0);
            }
            if (input->trusted != 0) {
                assert_true((bit & input->trusted) != 0);
            }
        } else {
            assert_true(input->clean && input->initial);
        }
        break;
    case DECIDE_WAIT:
        assert_non_null(r.reason);
        break;
    }
}

static void
test_promises(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 8 * 8 * 8 * 8 * 3 * 16; n++) {
        uint32_t k = n;
        struct decide_input input = { 0 };
        input.in_sync = k % 8;
        k /= 8;
        input.open = k % 8;
        k /= 8;
        input.trusted = k % 8 & input.in_sync & input.open;
        k /= 8;
        input.unbroken = k % 8;
        k /= 8;
        input.min_in_sync = 1 + k % 3;
        k /= 3;
        input.initial = (k & 1) != 0;
        input.clean = (k & 2) != 0;
        input.live_guest = (k & 4) != 0;
        input.grace_over = (k & 8) != 0;
        if (input.in_sync != 0) {
            check_promises(&input);
        }
    }
}

/* S12. */
static void
test_row_is_old(void **state)
{
    struct mirror_row row = { .view = 5, .replica_count = 3, .in_sync = 5 };
    struct store_membership persisted = { .view = 4 };
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        row.replica[i].bytes[0] = (uint8_t)(i + 1);
    }
    assert_false(decide_row_is_old(&row, &persisted));
    persisted.view = 6;
    assert_true(decide_row_is_old(&row, &persisted));
    persisted.view = 5;
    assert_false(decide_row_is_old(&row, &persisted)); /* Never told. */
    persisted.in_sync_count = 2;
    persisted.in_sync[0] = row.replica[2];
    persisted.in_sync[1] = row.replica[0];
    assert_false(decide_row_is_old(&row, &persisted));
    persisted.in_sync[1] = row.replica[1];
    assert_true(decide_row_is_old(&row, &persisted));
}

/* S20. */
static void
test_slow(void **state)
{
    (void)state;
    /* Replica 0 is local; 1 answered in time, 2 did not. */
    assert_int_equal(decide_slow(4, 3, 6, 7, 2), 4);
    /* Only the local one answered: the owner itself may be grey. */
    assert_int_equal(decide_slow(6, 1, 6, 7, 1), 0);
    /* The local one is slow, another host was not. */
    assert_int_equal(decide_slow(1, 6, 6, 7, 2), 1);
    /* Better slow than standing still. */
    assert_int_equal(decide_slow(4, 3, 6, 7, 3), 0);
    /* A resync target may always be set aside. */
    assert_int_equal(decide_slow(4, 3, 6, 3, 2), 4);
    assert_int_equal(decide_slow(2, 1, 2, 1, 1), 2);
}

static void
test_units(void **state)
{
    uint64_t units[DECIDE_UNITS_MAX / 64];
    const struct store_list_entry a[] = {
        { 0, 10, 1 }, { 2, 11, 2 }, { 5, 12, 3 }, { 7, 13, 0 }
    };
    const struct store_list_entry b[] = {
        { 0, 10, 1 }, { 3, 11, 2 }, { 5, 12, 4 }, { 7, 13, 0 }
    };
    const struct decide_list lists[] = { { a, 4, 4 }, { b, 4, 4 } };
    (void)state;
    /* 2, 3: in one list only; 5: other content; 7: unknown content. */
    assert_int_equal(decide_units(lists, 2, 0, 4, units), 4);
    assert_int_equal(units[0], 1u << 2 | 1u << 3 | 1u << 5 | 1u << 7);
    /* One replica alone: only what is suspect. */
    assert_int_equal(decide_units(lists, 1, 0, 4, units), 1);
    assert_int_equal(units[0], 1u << 7);
    /* Slots of different sizes are not compared. */
    const struct store_list_entry wide[] = { { 0, 10, 1 }, { 1, 9, 1 } };
    const struct decide_list mixed[] = { { a, 4, 4 }, { wide, 2, 16 } };
    assert_int_equal(decide_units(mixed, 2, 0, 16, units), 2);
    assert_int_equal(units[0], 3);
    /* Equal sequence, other content: copied (S16).  Equal content, other
     * sequence: copied, too. */
    const struct store_list_entry c[] = { { 0, 11, 1 } };
    const struct decide_list seq[] = { { a, 1, 4 }, { c, 1, 4 } };
    assert_int_equal(decide_units(seq, 2, 0, 4, units), 1);
    /* A peer that lies about the region is ignored. */
    const struct store_list_entry far[] = { { UINT64_MAX / 8, 11, 1 } };
    const struct decide_list liar[] = { { far, 1, 4 }, { NULL, 0, 4 } };
    assert_int_equal(decide_units(liar, 2, 0, 4, units), 0);
    const struct decide_list region[] = { { a, 4, 4 }, { NULL, 0, 4 } };
    assert_int_equal(decide_units(region, 2, STORE_REGION_BLOCKS, 4, units), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),      cmocka_unit_test(test_promises),
        cmocka_unit_test(test_row_is_old), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_units),
    };
    return cmocka_run_group_tests_name("mirror_decide", tests, NULL, NULL);
}
