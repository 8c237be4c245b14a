/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/peer/pages.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/base/container_of.h"
#include "lib/base/units.h"

#define RUN_PAGES_MAX (1u << (PAGES_ORDERS - 1))

static void
add_free(struct pages *pages, uint32_t index, uint32_t order)
{
    struct pages_state *state = &pages->states[index];

    state->order = (uint8_t)order;
    state->is_free = true;
    list_push_front(&pages->free[order], &state->node);
}

int
pages_init_at(struct pages *pages, void *memory, uint64_t size_bytes)
{
    uint64_t count = size_bytes / WEFT_BLOCK_SIZE;

    CHECK(memory != NULL);
    CHECK(count != 0 && count % RUN_PAGES_MAX == 0);
    CHECK(count <= UINT32_MAX);
    *pages = (struct pages){ .memory = memory, .page_count = (uint32_t)count };
    for (uint32_t order = 0; order < PAGES_ORDERS; order++) {
        list_init(&pages->free[order]);
    }
    pages->states = calloc(count, sizeof *pages->states);
    if (pages->states == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < pages->page_count; i++) {
        list_init(&pages->states[i].node);
    }
    for (uint32_t i = pages->page_count; i != 0; i -= RUN_PAGES_MAX) {
        add_free(pages, i - RUN_PAGES_MAX, PAGES_ORDERS - 1);
    }
    return 0;
}

int
pages_init(struct pages *pages, struct io *io, uint64_t size_bytes)
{
    void *memory = io_arena_alloc(io, size_bytes);

    if (memory == NULL) {
        *pages = (struct pages){ .memory = NULL };
        return -ENOMEM;
    }
    return pages_init_at(pages, memory, size_bytes);
}

void
pages_done(struct pages *pages)
{
    free(pages->states);
    pages->states = NULL;
}

void *
pages_get(struct pages *pages, uint32_t size_bytes)
{
    uint32_t order = 0;

    CHECK(size_bytes != 0 && size_bytes <= RUN_PAGES_MAX * WEFT_BLOCK_SIZE);
    while (WEFT_BLOCK_SIZE << order < size_bytes) {
        order++;
    }
    uint32_t found = order;
    struct list *node = NULL;
    for (; found < PAGES_ORDERS; found++) {
        node = list_pop_front(&pages->free[found]);
        if (node != NULL) {
            break;
        }
    }
    if (node == NULL) {
        return NULL;
    }
    struct pages_state *state = container_of(node, struct pages_state, node);
    uint32_t index = (uint32_t)(state - pages->states);
    state->is_free = false;
    while (found > order) { /* The upper halves stay free. */
        found--;
        add_free(pages, index + (1u << found), found);
    }
    state->is_used = true;
    state->order = (uint8_t)order;
    pages->used_count += 1u << order;
    return pages->memory + (uint64_t)index * WEFT_BLOCK_SIZE;
}

void
pages_put(struct pages *pages, void *run)
{
    uint64_t offset_bytes = (uint64_t)((uint8_t *)run - pages->memory);
    uint32_t index = (uint32_t)(offset_bytes / WEFT_BLOCK_SIZE);

    CHECK(offset_bytes % WEFT_BLOCK_SIZE == 0);
    CHECK(offset_bytes / WEFT_BLOCK_SIZE < pages->page_count);
    struct pages_state *state = &pages->states[index];
    CHECK(state->is_used);
    state->is_used = false;
    uint32_t order = state->order;
    pages->used_count -= 1u << order;
    while (order < PAGES_ORDERS - 1) {
        uint32_t buddy = index ^ 1u << order;
        struct pages_state *other = &pages->states[buddy];
        if (!other->is_free || other->order != order) {
            break;
        }
        other->is_free = false;
        list_remove(&other->node);
        index = index < buddy ? index : buddy;
        order++;
    }
    add_free(pages, index, order);
}
