/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/slab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/units.h"

/* The memory is: objects, then the stack, then one flag an object. */

int
slab_init(struct slab *slab, size_t object_size, size_t alignment,
          uint32_t capacity)
{
    size_t stride;
    size_t objects_size;
    size_t total_size;
    void *memory;

    CHECK(object_size > 0);
    CHECK(units_is_power_of_two(alignment));
    CHECK(alignment >= sizeof(void *));

    stride = units_align_up(object_size, alignment);
    if (__builtin_mul_overflow(stride, capacity, &objects_size) ||
        __builtin_add_overflow(objects_size,
                               capacity * (sizeof(uint32_t) + sizeof(bool)),
                               &total_size)) {
        return -ENOMEM;
    }
    if (posix_memalign(&memory, alignment, total_size + 1) != 0) {
        return -ENOMEM;
    }

    *slab = (struct slab){
        .memory = memory,
        .object_size = stride,
        .capacity = capacity,
        .free_count = capacity,
    };
    slab->free = (uint32_t *)(void *)(slab->memory + objects_size);
    slab->used = (bool *)(void *)(slab->free + capacity);
    for (uint32_t i = 0; i < capacity; i++) {
        slab->free[i] = capacity - 1 - i; /* The first get gives object 0. */
        slab->used[i] = false;
    }
    return 0;
}

void
slab_done(struct slab *slab)
{
    free(slab->memory);
    *slab = (struct slab){ .memory = NULL };
}

void *
slab_get(struct slab *slab)
{
    if (slab->free_count == 0) {
        return NULL;
    }
    uint32_t index = slab->free[--slab->free_count];
    CHECK(!slab->used[index]);
    slab->used[index] = true;
    return slab_at(slab, index);
}

void
slab_put(struct slab *slab, void *object)
{
    uint32_t index = slab_index(slab, object);

    CHECK(slab->used[index]);
    slab->used[index] = false;
    slab->free[slab->free_count++] = index;
}

uint32_t
slab_index(const struct slab *slab, const void *object)
{
    uintptr_t offset = (uintptr_t)object - (uintptr_t)slab->memory;

    CHECK(offset % slab->object_size == 0);
    CHECK(offset / slab->object_size < slab->capacity);
    return (uint32_t)(offset / slab->object_size);
}

void *
slab_at(const struct slab *slab, uint32_t index)
{
    CHECK(index < slab->capacity);
    return slab->memory + index * slab->object_size;
}
