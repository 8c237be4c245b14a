/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Memory of lives.
 *
 * A crash takes a program's memory with it.  The linker wraps malloc() and
 * friends (sim_dep in meson.build); what is allocated while a life runs is
 * noted in a table and freed when the life is buried.  It is real memory from
 * the real malloc, so that AddressSanitizer sees every misuse.
 *
 * Fresh memory of a life is filled with garbage: the same on each run, because
 * a program that reads it by mistake must at least do so reproducibly. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/units.h"

#define GARBAGE 0xa7
#define GARBAGE_MAX ((size_t)1 << 20)

/* The names are the linker's.
 * NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *data, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **ret_data, size_t alignment, size_t size);
void __real_free(void *data);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *data, size_t size);
void *__wrap_reallocarray(void *data, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret_data, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
void __wrap_free(void *data);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- The simulator's own ---- */

void *
sim_alloc(size_t size)
{
    void *data = __real_calloc(1, size);
    CHECK(data != NULL);
    return data;
}

void *
sim_resize(void *data, size_t size)
{
    void *resized = __real_realloc(data, size);
    CHECK(resized != NULL);
    return resized;
}

void
sim_release(void *data)
{
    __real_free(data);
}

/* ---- The table: block -> life and size; open addressing ---- */

struct entry {
    void *data; /* NULL: free. */
    size_t size;
    struct sim_life *life;
};

/* Per thread, as worlds are. */
static _Thread_local struct entry *table;
static _Thread_local size_t table_mask, table_count;
static _Thread_local struct sim_life *owner;

static size_t
home_of(const void *data)
{
    return (size_t)sim_mix((uintptr_t)data >> 4, 0) & table_mask;
}

static struct entry *
table_find(const void *data)
{
    size_t i = home_of(data);

    while (table[i].data != NULL) {
        if (table[i].data == data) {
            return &table[i];
        }
        i = (i + 1) & table_mask;
    }
    return &table[i];
}

static void
table_grow(void)
{
    struct entry *old = table;
    size_t old_size = old == NULL ? 0 : table_mask + 1;
    size_t size = old_size == 0 ? 1024 : old_size * 2;

    table = sim_alloc(size * sizeof *table);
    table_mask = size - 1;
    for (size_t i = 0; i < old_size; i++) {
        if (old[i].data != NULL) {
            *table_find(old[i].data) = old[i];
        }
    }
    sim_release(old);
}

static void
table_add(void *data, size_t size, struct sim_life *life)
{
    if (table == NULL || (table_count + 1) * 2 > table_mask) {
        table_grow();
    }
    struct entry *entry = table_find(data);
    CHECK(entry->data == NULL);
    *entry = (struct entry){ .data = data, .size = size, .life = life };
    table_count++;
    life->heap_count++;
    life->heap_bytes += size;
}

/* Closes the gap that entry 'hole' leaves, see lib/base/map.c. */
static void
table_remove(struct entry *entry)
{
    size_t hole = (size_t)(entry - table);

    entry->life->heap_count--;
    entry->life->heap_bytes -= entry->size;
    table_count--;
    for (size_t i = (hole + 1) & table_mask; table[i].data != NULL;
         i = (i + 1) & table_mask) {
        size_t home = home_of(table[i].data);
        if (((i - home) & table_mask) >= ((i - hole) & table_mask)) {
            table[hole] = table[i];
            hole = i;
        }
    }
    table[hole].data = NULL;
    if (table_count == 0) {
        /* Nothing of ours is left over when the last world is freed. */
        sim_release(table);
        table = NULL;
    }
}

void
sim_heap_own(struct sim_life *life)
{
    owner = life;
}

/* ---- malloc() and friends ---- */

static void *
claim(void *data, size_t size, bool is_fresh)
{
    if (owner == NULL || data == NULL) {
        return data;
    }
    if (is_fresh) {
        memset(data, GARBAGE, size < GARBAGE_MAX ? size : GARBAGE_MAX);
    }
    table_add(data, size, owner);
    return data;
}

static struct entry *
entry_of(const void *data)
{
    if (table == NULL || data == NULL) {
        return NULL;
    }
    struct entry *entry = table_find(data);
    return entry->data == NULL ? NULL : entry;
}

void *
__wrap_malloc(size_t size)
{
    return claim(__real_malloc(size), size, true);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return claim(__real_calloc(count, size), count * size, false);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return claim(__real_aligned_alloc(alignment, size), size, true);
}

int
__wrap_posix_memalign(void **ret_data, size_t alignment, size_t size)
{
    int result = __real_posix_memalign(ret_data, alignment, size);
    if (result == 0) {
        claim(*ret_data, size, true);
    }
    return result;
}

void
__wrap_free(void *data)
{
    struct entry *entry = entry_of(data);

    if (entry != NULL) {
        sim_life_check_free(entry->life, data, entry->size);
        table_remove(entry);
    }
    __real_free(data);
}

void *
__wrap_realloc(void *data, size_t size)
{
    struct entry *entry = entry_of(data);

    if (data == NULL) {
        return __wrap_malloc(size);
    }
    if (entry == NULL) {
        return __real_realloc(data, size);
    }
    /* Always moves, as the real one might. */
    struct sim_life *life = entry->life;
    size_t old_size = entry->size;
    uint8_t *moved = __real_malloc(size);
    if (moved == NULL) {
        return NULL;
    }
    if (size > old_size) {
        memcpy(moved, data, old_size);
        memset(moved + old_size, GARBAGE, size - old_size);
    } else {
        memcpy(moved, data, size);
    }
    __wrap_free(data);
    table_add(moved, size, life);
    return moved;
}

void *
__wrap_reallocarray(void *data, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return __wrap_realloc(data, total);
}

char *
__wrap_strndup(const char *text, size_t size)
{
    size_t length = strnlen(text, size);
    char *copy = __wrap_malloc(length + 1);

    if (copy != NULL) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *
__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

/* ---- Blocks that are never freed by hand ---- */

struct block {
    struct list node;
    void *data;
};

static void *
block_new(struct sim_life *life, size_t size, size_t alignment)
{
    struct block *block = sim_alloc(sizeof *block);
    uint8_t *data = sim_alloc(size + alignment);

    block->data = data;
    list_push_back(&life->blocks, &block->node);
    uintptr_t misfit = (uintptr_t)data & (alignment - 1);
    return misfit == 0 ? data : data + (alignment - misfit);
}

void *
sim_node_alloc(struct io *io, size_t size)
{
    return block_new(sim_life_of(io), size, 64);
}

void *
sim_arena_alloc(struct io *io, size_t size)
{
    struct sim_life *life = sim_life_enter(io);
    uint64_t rounded = units_align_up(size, 4096);

    if (rounded < size ||
        rounded > life->sim->options.arena_bytes - life->arena_used_bytes) {
        return NULL;
    }
    life->arena_used_bytes += rounded;
    return block_new(life, rounded, 4096);
}

void
sim_heap_reclaim(struct sim_life *life)
{
    struct list *node;

    while ((node = list_pop_front(&life->blocks)) != NULL) {
        struct block *block = container_of(node, struct block, node);
        sim_release(block->data);
        sim_release(block);
    }
    for (size_t i = 0; life->heap_count != 0; i = (i + 1) & table_mask) {
        /* A removal may move another of its blocks here. */
        while (table != NULL && table[i].life == life &&
               table[i].data != NULL) {
            void *data = table[i].data;
            table_remove(&table[i]);
            __real_free(data);
        }
        if (table == NULL) {
            break;
        }
    }
    CHECK(life->heap_count == 0);
}
