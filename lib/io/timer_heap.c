/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/timer_heap.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

static size_t
timer_heap_size_bytes(const struct timer_heap *heap)
{
    return (size_t)heap->capacity * sizeof(heap->entries[0]);
}

int
timer_heap_init(struct timer_heap *heap, uint32_t capacity)
{
    struct timer_heap made = { .capacity = capacity };
    void *memory;

    CHECK(capacity > 0);
    memory = mmap(NULL, timer_heap_size_bytes(&made), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return -errno;
    }
    made.entries = memory;
    *heap = made;
    return 0;
}

void
timer_heap_done(struct timer_heap *heap)
{
    if (heap->entries != NULL) {
        munmap(heap->entries, timer_heap_size_bytes(heap));
        heap->entries = NULL;
    }
}

/* Stores 'entry' at 'index' and keeps (2). */
static void
timer_heap_place(struct timer_heap *heap, uint32_t index,
                 struct timer_heap_entry entry)
{
    heap->entries[index] = entry;
    entry.timer->heap_index = index + 1;
}

/* 'entry' goes to 'index' or above. */
static void
timer_heap_sift_up(struct timer_heap *heap, uint32_t index,
                   struct timer_heap_entry entry)
{
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;

        if (heap->entries[parent].deadline_ns <= entry.deadline_ns) {
            break;
        }
        timer_heap_place(heap, index, heap->entries[parent]);
        index = parent;
    }
    timer_heap_place(heap, index, entry);
}

/* 'entry' goes to 'index' or below. */
static void
timer_heap_sift_down(struct timer_heap *heap, uint32_t index,
                     struct timer_heap_entry entry)
{
    for (;;) {
        uint32_t child = 2 * index + 1;

        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && heap->entries[child + 1].deadline_ns <
                                           heap->entries[child].deadline_ns) {
            child++;
        }
        if (entry.deadline_ns <= heap->entries[child].deadline_ns) {
            break;
        }
        timer_heap_place(heap, index, heap->entries[child]);
        index = child;
    }
    timer_heap_place(heap, index, entry);
}

/* 'entry' takes the place 'index', whose entry has gone elsewhere. */
static void
timer_heap_fill(struct timer_heap *heap, uint32_t index,
                struct timer_heap_entry entry)
{
    if (index > 0 &&
        entry.deadline_ns < heap->entries[(index - 1) / 2].deadline_ns) {
        timer_heap_sift_up(heap, index, entry);
    } else {
        timer_heap_sift_down(heap, index, entry);
    }
}

void
timer_heap_set(struct timer_heap *heap, struct io_timer *timer,
               uint64_t deadline_ns)
{
    struct timer_heap_entry entry = { .deadline_ns = deadline_ns,
                                      .timer = timer };

    timer->deadline_ns = deadline_ns;
    if (timer->heap_index == 0) {
        CHECK(heap->count < heap->capacity);
        timer_heap_sift_up(heap, heap->count++, entry);
        return;
    }
    CHECK(timer->heap_index <= heap->count);
    CHECK(heap->entries[timer->heap_index - 1].timer == timer);
    timer_heap_fill(heap, timer->heap_index - 1, entry);
}

void
timer_heap_remove(struct timer_heap *heap, struct io_timer *timer)
{
    uint32_t index = timer->heap_index;

    if (index == 0) {
        return;
    }
    index--;
    CHECK(index < heap->count);
    CHECK(heap->entries[index].timer == timer);
    timer->heap_index = 0;
    heap->count--;
    if (index != heap->count) {
        timer_heap_fill(heap, index, heap->entries[heap->count]);
    }
}

struct io_timer *
timer_heap_pop_due(struct timer_heap *heap, uint64_t now_ns)
{
    struct io_timer *timer;

    if (timer_heap_next_ns(heap) > now_ns || heap->count == 0) {
        return NULL;
    }
    timer = heap->entries[0].timer;
    timer_heap_remove(heap, timer);
    return timer;
}
