/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/mirror/range_lock.h (S15): fair, exclusive, deferred. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockd/mirror/range_lock.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"

#define LOCKS 40u

struct entry {
    struct range_lock lock;
    struct bed *bed;
    bool used, granted;
    uint64_t first, end;
    bool exclusive;
    uint64_t order;
};

struct bed {
    struct sim *sim;
    struct sim_program program;
    struct io *io;
    struct range_lock_table table;
    struct entry entries[LOCKS];
    uint64_t order;
};

static void
bed_boot(struct sim_program *program, struct sim_node *node, struct io *io)
{
    (void)node;
    container_of(program, struct bed, program)->io = io;
}

static void
on_granted(struct range_lock *lock)
{
    struct entry *entry = container_of(lock, struct entry, lock);
    assert_true(entry->used);
    assert_false(entry->granted);
    entry->granted = true;
}

static void
bed_init(struct bed *bed)
{
    *bed = (struct bed){ .program = { .boot = bed_boot } };
    bed->sim = sim_new(1, NULL);
    sim_node_start(sim_node_add(bed->sim, "a"), &bed->program);
    range_lock_table_init(&bed->table, bed->io);
}

static void
bed_done(struct bed *bed)
{
    range_lock_table_done(&bed->table);
    sim_free(bed->sim);
}

static void
acquire(struct bed *bed, uint32_t i, uint64_t first, uint64_t count,
        bool exclusive)
{
    struct entry *entry = &bed->entries[i];
    *entry = (struct entry){ .bed = bed,
                             .used = true,
                             .first = first,
                             .end = first + count,
                             .exclusive = exclusive,
                             .order = ++bed->order };
    entry->lock.granted = on_granted;
    range_lock_acquire(&bed->table, &entry->lock, first, count, exclusive);
    assert_false(entry->granted); /* Never inside. */
}

static void
release(struct bed *bed, uint32_t i)
{
    bed->entries[i].used = false;
    range_lock_release(&bed->table, &bed->entries[i].lock);
}

static void
turn(struct bed *bed)
{
    sim_run_for(bed->sim, NS_PER_MS);
}

static void
test_shared_and_exclusive(void **state)
{
    struct bed bed;
    (void)state;
    bed_init(&bed);
    acquire(&bed, 0, 0, 10, false);
    acquire(&bed, 1, 5, 10, false);
    acquire(&bed, 2, 9, 1, true);
    acquire(&bed, 3, 9, 1, false); /* Behind the writer: fair. */
    acquire(&bed, 4, 20, 1, true);
    turn(&bed);
    assert_true(bed.entries[0].granted);
    assert_true(bed.entries[1].granted);
    assert_false(bed.entries[2].granted);
    assert_false(bed.entries[3].granted);
    assert_true(bed.entries[4].granted);
    release(&bed, 0);
    turn(&bed);
    assert_false(bed.entries[2].granted);
    release(&bed, 1);
    turn(&bed);
    assert_true(bed.entries[2].granted);
    assert_false(bed.entries[3].granted);
    release(&bed, 2);
    turn(&bed);
    assert_true(bed.entries[3].granted);
    release(&bed, 3);
    release(&bed, 4);
    bed_done(&bed);
}

static void
test_withdraw_and_try(void **state)
{
    struct bed bed;
    struct range_lock lock = { .granted = on_granted };
    (void)state;
    bed_init(&bed);
    assert_true(range_lock_try(&bed.table, &lock, 0, 4, true));
    acquire(&bed, 0, 3, 1, true);
    acquire(&bed, 1, 3, 2, true);
    struct range_lock other;
    assert_false(range_lock_try(&bed.table, &other, 4, 1, false));
    release(&bed, 0); /* Withdrawn while waiting. */
    range_lock_release(&bed.table, &lock);
    turn(&bed);
    assert_false(bed.entries[0].granted);
    assert_true(bed.entries[1].granted);
    /* Withdrawn between grant and granted(). */
    acquire(&bed, 2, 100, 1, true);
    release(&bed, 2);
    turn(&bed);
    assert_false(bed.entries[2].granted);
    release(&bed, 1);
    bed_done(&bed);
}

static bool
conflict(const struct entry *a, const struct entry *b)
{
    return a->first < b->end && b->first < a->end &&
           (a->exclusive || b->exclusive);
}

/* Against the definition: granted exactly if no earlier lock conflicts. */
static void
test_random(void **state)
{
    struct bed bed;
    struct rng rng;
    (void)state;
    bed_init(&bed);
    rng_init(&rng, 4);
    for (uint32_t step = 0; step < 4000; step++) {
        uint32_t i = (uint32_t)rng_below(&rng, LOCKS);
        if (bed.entries[i].used) {
            release(&bed, i);
        } else {
            acquire(&bed, i, rng_below(&rng, 60), 1 + rng_below(&rng, 12),
                    rng_chance(&rng, 1, 2));
        }
        if (rng_chance(&rng, 1, 3)) {
            turn(&bed);
            for (uint32_t a = 0; a < LOCKS; a++) {
                bool free = true;
                for (uint32_t b = 0; b < LOCKS; b++) {
                    free =
                        free && !(bed.entries[b].used &&
                                  bed.entries[b].order < bed.entries[a].order &&
                                  conflict(&bed.entries[a], &bed.entries[b]));
                }
                if (bed.entries[a].used) {
                    assert_int_equal(bed.entries[a].granted, free);
                }
            }
        }
    }
    for (uint32_t i = 0; i < LOCKS; i++) {
        if (bed.entries[i].used) {
            release(&bed, i);
        }
    }
    bed_done(&bed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_and_exclusive),
        cmocka_unit_test(test_withdraw_and_try),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests_name("range_lock", tests, NULL, NULL);
}
