/* SPDX-License-Identifier: Apache-2.0 */

/* The heap of timers against a plain array. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lib/io/timer_heap.h"
#include "tests/unit/uring_fixture.h"

#define HEAP_TIMERS 500

static void
never_fires(struct io_timer *timer)
{
    (void)timer;
    CHECK(false);
}

static void
test_heap_model(void **state)
{
    struct timer_heap heap = { 0 };
    struct io_timer timers[HEAP_TIMERS];
    uint64_t model[HEAP_TIMERS]; /* 0: not armed. */
    uint64_t seed = 42;

    (void)state;
    assert_int_equal(timer_heap_init(&heap, HEAP_TIMERS), 0);
    memset(model, 0, sizeof(model));
    for (uint32_t i = 0; i < HEAP_TIMERS; i++) {
        io_timer_init(&timers[i], never_fires);
    }
    for (uint32_t step = 0; step < 200000; step++) {
        uint32_t i = (uint32_t)(fixture_random(&seed) % HEAP_TIMERS);
        uint64_t best = IO_NEVER;

        switch (fixture_random(&seed) % 8) {
        case 0:
        case 1:
            timer_heap_remove(&heap, &timers[i]);
            model[i] = 0;
            break;
        case 2: {
            struct io_timer *timer = timer_heap_pop_due(&heap, 500);

            if (timer != NULL) {
                uint32_t k = (uint32_t)(timer - timers);

                assert_true(model[k] <= 500);
                assert_int_not_equal(model[k], 0);
                model[k] = 0;
            } else {
                for (uint32_t k = 0; k < HEAP_TIMERS; k++) {
                    assert_true(model[k] == 0 || model[k] > 500);
                }
            }
            break;
        }
        default:
            model[i] = 1 + fixture_random(&seed) % 1000;
            timer_heap_set(&heap, &timers[i], model[i]);
            break;
        }
        for (uint32_t k = 0; k < HEAP_TIMERS && step % 16 == 0; k++) {
            assert_int_equal(io_timer_is_armed(&timers[k]), model[k] != 0);
            if (model[k] != 0 && model[k] < best) {
                best = model[k];
            }
        }
        if (step % 16 == 0) {
            assert_int_equal(timer_heap_next_ns(&heap), best);
        }
    }
    timer_heap_done(&heap);
    timer_heap_done(&heap); /* Harmless. */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
