/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_TIMER_HEAP_H
#define LIB_IO_TIMER_HEAP_H

/* The armed timers of one world: a binary heap ordered by deadline.
 *
 * Invariants:
 *
 *   (1) entries[0] has the smallest deadline.
 *   (2) entries[i].timer->heap_index == i + 1; a timer that is not in a heap
 *       has heap_index 0.
 *
 * Setting and cancelling cost O(log n), without allocation: the room for
 * 'capacity' timers is reserved at the start (address space only; a page is
 * used when a timer needs it).  One timer more is a programmer's error.
 * The order of equal deadlines is unspecified but deterministic. */

#include <stdint.h>

#include "lib/io/io.h"

struct timer_heap_entry {
    uint64_t deadline_ns;
    struct io_timer *timer;
};

struct timer_heap {
    struct timer_heap_entry *entries;
    uint32_t count;
    uint32_t capacity;
};

WEFT_MUST_CHECK int timer_heap_init(struct timer_heap *heap, uint32_t capacity);
/* Accepts a zeroed heap. */
void timer_heap_done(struct timer_heap *heap);

/* Inserts or moves. */
void timer_heap_set(struct timer_heap *heap, struct io_timer *timer,
                    uint64_t deadline_ns);
/* Takes out; harmless if it is not in. */
void timer_heap_remove(struct timer_heap *heap, struct io_timer *timer);

/* The smallest deadline, or IO_NEVER. */
static inline uint64_t
timer_heap_next_ns(const struct timer_heap *heap)
{
    return heap->count == 0 ? IO_NEVER : heap->entries[0].deadline_ns;
}

/* Takes out and returns the first timer if it is due, or NULL. */
struct io_timer *timer_heap_pop_due(struct timer_heap *heap, uint64_t now_ns);

#endif /* LIB_IO_TIMER_HEAP_H */
