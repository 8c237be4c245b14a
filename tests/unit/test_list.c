/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/list and lib/base/map. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/base/rng.h"

struct item {
    int number;
    struct list node;
};

/* The numbers of the list's items, as decimal digits. */
static uint64_t
digits_of(const struct list *head)
{
    uint64_t digits = 0;
    LIST_FOREACH (node, head) {
        struct item *item = container_of(node, struct item, node);
        digits = digits * 10 + (uint64_t)item->number;
    }
    return digits;
}

static void
test_list(void **state)
{
    struct item items[5];
    struct list a;
    struct list b;
    (void)state;

    list_init(&a);
    list_init(&b);
    assert_true(list_is_empty(&a));
    assert_null(list_front(&a));
    assert_null(list_back(&a));
    assert_null(list_pop_front(&a));
    assert_int_equal(digits_of(&a), 0);

    for (int i = 0; i < 5; i++) {
        items[i].number = i + 1;
        list_init(&items[i].node);
        assert_false(list_is_linked(&items[i].node));
    }
    list_push_back(&a, &items[1].node);
    list_push_back(&a, &items[2].node);
    list_push_front(&a, &items[0].node);
    assert_int_equal(digits_of(&a), 123);
    assert_int_equal(list_count(&a), 3);
    assert_true(list_is_linked(&items[1].node));
    assert_ptr_equal(list_front(&a), &items[0].node);
    assert_ptr_equal(list_back(&a), &items[2].node);

    list_remove(&items[1].node);
    list_remove(&items[1].node); /* Harmless. */
    assert_false(list_is_linked(&items[1].node));
    assert_int_equal(digits_of(&a), 13);
    list_insert_before(&items[2].node, &items[1].node);
    assert_int_equal(digits_of(&a), 123);

    list_splice_back(&a, &b);
    assert_int_equal(digits_of(&a), 123);
    list_push_back(&b, &items[3].node);
    list_push_back(&b, &items[4].node);
    list_splice_back(&a, &b);
    assert_true(list_is_empty(&b));
    assert_int_equal(digits_of(&a), 12345);
    list_splice_back(&b, &a);
    assert_true(list_is_empty(&a));
    assert_int_equal(digits_of(&b), 12345);

    /* The body of the loop may remove its own node. */
    LIST_FOREACH (node, &b) {
        if (container_of(node, struct item, node)->number % 2 == 0) {
            list_remove(node);
        }
    }
    assert_int_equal(digits_of(&b), 135);
    assert_ptr_equal(list_pop_front(&b), &items[0].node);
    assert_int_equal(digits_of(&b), 35);
}

#define KEYS 300u

/* Random operations against an array. */
static void
compare_with_array(uint64_t seed, uint32_t capacity)
{
    struct map map;
    struct rng rng;
    bool present[KEYS] = { false };
    uint32_t values[KEYS] = { 0 };
    uint32_t count = 0;

    rng_init(&rng, seed);
    assert_int_equal(map_init(&map, capacity, rng_u64(&rng)), 0);
    for (uint32_t step = 0; step < 20000; step++) {
        uint32_t k = (uint32_t)rng_below(&rng, KEYS);
        uint64_t key = (uint64_t)k << 32; /* Poor low bits. */
        uint32_t value = UINT32_MAX;

        assert_int_equal(map_find(&map, key, &value), present[k]);
        assert_true(!present[k] || value == values[k]);
        if (rng_chance(&rng, 1, 2)) {
            bool fits = present[k] || count < capacity;
            value = (uint32_t)rng_u64(&rng);
            assert_int_equal(map_put(&map, key, value), fits ? 0 : -ENOSPC);
            if (fits) {
                count += !present[k];
                present[k] = true;
                values[k] = value;
            }
        } else {
            assert_int_equal(map_remove(&map, key), present[k]);
            count -= present[k];
            present[k] = false;
        }
        assert_int_equal(map.count, count);
    }

    uint32_t cursor = 0;
    uint32_t seen = 0;
    uint64_t key;
    uint32_t value;
    while (map_next(&map, &cursor, &key, &value)) {
        assert_true(present[key >> 32]);
        assert_int_equal(values[key >> 32], value);
        seen++;
    }
    assert_int_equal(seen, count);
    map_clear(&map);
    assert_int_equal(map.count, 0);
    assert_false(map_find(&map, 0, NULL));
    map_done(&map);
    map_done(&map);
}

static void
test_map(void **state)
{
    static const uint32_t capacities[] = { 1, 2, 3, 100, 128, 300, 1000 };
    (void)state;

    for (size_t i = 0; i < ARRAY_COUNT(capacities); i++) {
        for (uint64_t seed = 0; seed < 5; seed++) {
            compare_with_array(seed, capacities[i]);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
