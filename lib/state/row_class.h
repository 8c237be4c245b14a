/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_ROW_CLASS_H
#define LIB_STATE_ROW_CLASS_H

/* How the generated structures are laid out, for code that works on any of
 * them.  Private to lib/state. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/state/row.h"
#include "lib/state/values.h"

#define STATE_INDEX_MAX 2
#define STATE_LOOKUP_MAX 4

enum state_shape {
    STATE_SHAPE_SCALAR,
    STATE_SHAPE_SET,
    STATE_SHAPE_MAP,
};

/* The first three also occur as items of sets and maps. */
enum state_kind {
    STATE_KIND_UUID,
    STATE_KIND_STRING,
    STATE_KIND_INT,
    STATE_KIND_U32,
    STATE_KIND_U64,
    STATE_KIND_BOOL,
    STATE_KIND_ENUM,
};

struct state_column {
    const char *name;
    enum state_shape shape;
    enum state_kind kind;       /* Of the scalar, item or key. */
    enum state_kind value_kind; /* Maps only. */
    bool is_optional;           /* A uuid that may be nil. */
    size_t offset;
    /* Sets and maps. */
    size_t count_offset;
    size_t item_size;
    size_t value_offset; /* In an item. */
    uint32_t min_count, max_count;
    /* Enums. */
    const char *const *enum_names;
    size_t enum_count; /* With "unknown". */
};

struct state_class {
    const char *name;
    size_t size;
    size_t column_count;
    const struct state_column *columns;
    size_t index_count;
    uint64_t indexes[STATE_INDEX_MAX]; /* Masks of columns. */
    size_t lookup_count;
    uint64_t lookups[STATE_LOOKUP_MAX]; /* Likewise. */
};

extern const struct state_class state_classes[STATE_TABLE_COUNT];

static inline const struct state_class *
state_class_of(enum state_table table)
{
    CHECK((size_t)table < STATE_TABLE_COUNT);
    return &state_classes[table];
}

/* The items of a set or map. */
struct state_items {
    void *items;
    size_t count;
};

void *state_alloc(size_t size); /* Zeroed; aborts when memory is out. */
char *state_strdup(const char *text);

/* A row with every column at its default; for state_row_free(). */
struct state_row *state_row_new(enum state_table table,
                                const struct weft_uuid *uuid);

/* The address of a member. */
const void *state_member(const struct state_row *row, size_t offset);
void *state_member_mutable(struct state_row *row, size_t offset);

/* Reads and replaces the items of a set or map.  Setting takes ownership of
 * the new ones and frees the old. */
struct state_items state_items_get(const struct state_row *row,
                                   const struct state_column *column);
void state_items_set(struct state_row *row, const struct state_column *column,
                     struct state_items items);
void state_items_free(const struct state_column *column,
                      struct state_items items);
/* Sorts by key.  Returns false if a key occurs twice. */
WEFT_MUST_CHECK bool state_items_sort(const struct state_column *column,
                                      struct state_items items);

/* Copies one item, with the strings in it. */
void state_item_copy(const struct state_column *column, void *to,
                     const void *from);
void state_item_free(const struct state_column *column, void *item);
int state_item_compare_keys(const struct state_column *column, const void *a,
                            const void *b);
bool state_item_equal(const struct state_column *column, const void *a,
                      const void *b);

/* Replaces a scalar string by a copy of 'text'. */
void state_string_set(struct state_row *row, const struct state_column *column,
                      const char *text);

/* Over the given columns only, as an index compares. */
bool state_row_equal(const struct state_row *a, const struct state_row *b,
                     uint64_t columns);
uint64_t state_row_hash(const struct state_row *row, uint64_t columns);
uint64_t state_uuid_hash(const struct weft_uuid *uuid);

/* ---- cache.c: what is in the database, as far as we know ---- */

/* From values.c, by way of struct state. */
const struct state_row *state_row_get(const struct state *state,
                                      enum state_table table,
                                      const struct weft_uuid *uuid);
const struct state_row *state_row_next(const struct state *state,
                                       enum state_table table,
                                       const struct state_row *previous);
/* 'key' has the columns of index 'index' filled. */
const struct state_row *state_row_find(const struct state *state,
                                       const struct state_row *key,
                                       size_t index);
/* 'key' has the columns of lookup 'lookup' filled. */
const struct state_row *state_row_next_alike(const struct state *state,
                                             const struct state_row *key,
                                             size_t lookup,
                                             const struct state_row *previous);
size_t state_row_count_alike(const struct state *state,
                             const struct state_row *key, size_t lookup);

#endif /* LIB_STATE_ROW_CLASS_H */
