/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/row.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/state/row_class.h"

/* Values of any table, by their descriptors. */

void *
state_alloc(size_t size)
{
    void *memory = calloc(1, size == 0 ? 1 : size);
    CHECK(memory != NULL);
    return memory;
}

char *
state_strdup(const char *text)
{
    char *copy = strdup(text == NULL ? "" : text);
    CHECK(copy != NULL);
    return copy;
}

const char *
state_table_name(enum state_table table)
{
    return state_class_of(table)->name;
}

const void *
state_member(const struct state_row *row, size_t offset)
{
    return (const char *)row + offset;
}

void *
state_member_mutable(struct state_row *row, size_t offset)
{
    return (char *)row + offset;
}

/* ---- Atoms: the kinds that occur in sets and maps, and strings ---- */

/* The members have type 'const char *' because users borrow them; here is
 * where what lib/state allocated is freed and replaced. */
static char *
load_text(const void *from)
{
    char *text;
    memcpy(&text, from, sizeof text);
    return text;
}

static const char *
text_or_empty(const void *from)
{
    const char *text = load_text(from);
    return text == NULL ? "" : text;
}

static size_t
atom_size(enum state_kind kind)
{
    switch (kind) {
    case STATE_KIND_UUID:
        return sizeof(struct weft_uuid);
    case STATE_KIND_STRING:
        return sizeof(char *);
    case STATE_KIND_INT:
    case STATE_KIND_U64:
        return sizeof(uint64_t);
    case STATE_KIND_U32:
        return sizeof(uint32_t);
    case STATE_KIND_BOOL:
        return sizeof(bool);
    case STATE_KIND_ENUM:
        return sizeof(unsigned);
    }
    CHECK(false);
}

static void
atom_copy(enum state_kind kind, void *to, const void *from)
{
    if (kind == STATE_KIND_STRING) {
        char *copy = state_strdup(load_text(from));
        memcpy(to, &copy, sizeof copy);
    } else {
        memcpy(to, from, atom_size(kind));
    }
}

static void
atom_free(enum state_kind kind, void *atom)
{
    if (kind == STATE_KIND_STRING) {
        free(load_text(atom));
    }
}

static int
atom_compare(enum state_kind kind, const void *a, const void *b)
{
    if (kind == STATE_KIND_STRING) {
        return strcmp(text_or_empty(a), text_or_empty(b));
    }
    if (kind == STATE_KIND_INT) {
        int64_t x, y;
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return (x > y) - (x < y);
    }
    return memcmp(a, b, atom_size(kind));
}

static uint64_t
hash_bytes(const void *data, size_t size, uint64_t hash)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash ^ (hash >> 29);
}

static uint64_t
atom_hash(enum state_kind kind, const void *atom, uint64_t hash)
{
    if (kind == STATE_KIND_STRING) {
        const char *text = text_or_empty(atom);
        return hash_bytes(text, strlen(text) + 1, hash);
    }
    return hash_bytes(atom, atom_size(kind), hash);
}

uint64_t
state_uuid_hash(const struct weft_uuid *uuid)
{
    return atom_hash(STATE_KIND_UUID, uuid, UINT64_C(0xcbf29ce484222325));
}

/* ---- Items of sets and maps ---- */

void
state_item_copy(const struct state_column *column, void *to, const void *from)
{
    atom_copy(column->kind, to, from);
    if (column->shape == STATE_SHAPE_MAP) {
        atom_copy(column->value_kind, (char *)to + column->value_offset,
                  (const char *)from + column->value_offset);
    }
}

void
state_item_free(const struct state_column *column, void *item)
{
    atom_free(column->kind, item);
    if (column->shape == STATE_SHAPE_MAP) {
        atom_free(column->value_kind, (char *)item + column->value_offset);
    }
}

int
state_item_compare_keys(const struct state_column *column, const void *a,
                        const void *b)
{
    return atom_compare(column->kind, a, b);
}

bool
state_item_equal(const struct state_column *column, const void *a,
                 const void *b)
{
    if (atom_compare(column->kind, a, b) != 0) {
        return false;
    }
    return column->shape != STATE_SHAPE_MAP ||
           atom_compare(column->value_kind,
                        (const char *)a + column->value_offset,
                        (const char *)b + column->value_offset) == 0;
}

struct state_items
state_items_get(const struct state_row *row, const struct state_column *column)
{
    struct state_items items;
    memcpy(&items.items, state_member(row, column->offset), sizeof items.items);
    memcpy(&items.count, state_member(row, column->count_offset),
           sizeof items.count);
    return items;
}

static void
store_items(struct state_row *row, const struct state_column *column,
            struct state_items items)
{
    memcpy(state_member_mutable(row, column->offset), &items.items,
           sizeof items.items);
    memcpy(state_member_mutable(row, column->count_offset), &items.count,
           sizeof items.count);
}

void
state_items_set(struct state_row *row, const struct state_column *column,
                struct state_items items)
{
    state_items_free(column, state_items_get(row, column));
    store_items(row, column, items);
}

void
state_items_free(const struct state_column *column, struct state_items items)
{
    char *at = items.items;
    for (size_t i = 0; i < items.count; i++) {
        state_item_free(column, at + i * column->item_size);
    }
    free(items.items);
}

static int
compare_items(const void *a, const void *b, void *column)
{
    return state_item_compare_keys(column, a, b);
}

bool
state_items_sort(const struct state_column *column, struct state_items items)
{
    struct state_column copy = *column; /* qsort_r() takes no const. */

    if (items.count < 2) {
        return true;
    }
    qsort_r(items.items, items.count, column->item_size, compare_items, &copy);
    for (size_t i = 1; i < items.count; i++) {
        const char *at = (char *)items.items + i * column->item_size;
        if (state_item_compare_keys(column, at - column->item_size, at) == 0) {
            return false;
        }
    }
    return true;
}

/* ---- Columns ---- */

void
state_string_set(struct state_row *row, const struct state_column *column,
                 const char *text)
{
    void *member = state_member_mutable(row, column->offset);
    char *copy = state_strdup(text);

    CHECK(column->shape == STATE_SHAPE_SCALAR);
    CHECK(column->kind == STATE_KIND_STRING);
    free(load_text(member));
    memcpy(member, &copy, sizeof copy);
}

static void
column_copy(const struct state_column *column, struct state_row *to,
            const struct state_row *from)
{
    if (column->shape == STATE_SHAPE_SCALAR) {
        atom_copy(column->kind, state_member_mutable(to, column->offset),
                  state_member(from, column->offset));
        return;
    }

    struct state_items source = state_items_get(from, column);
    struct state_items copy = { .count = source.count };
    if (source.count > 0) {
        copy.items = state_alloc(source.count * column->item_size);
    }
    for (size_t i = 0; i < source.count; i++) {
        state_item_copy(column, (char *)copy.items + i * column->item_size,
                        (char *)source.items + i * column->item_size);
    }
    store_items(to, column, copy);
}

static bool
column_equal(const struct state_column *column, const struct state_row *a,
             const struct state_row *b)
{
    if (column->shape == STATE_SHAPE_SCALAR) {
        return atom_compare(column->kind, state_member(a, column->offset),
                            state_member(b, column->offset)) == 0;
    }

    struct state_items x = state_items_get(a, column);
    struct state_items y = state_items_get(b, column);
    if (x.count != y.count) {
        return false;
    }
    for (size_t i = 0; i < x.count; i++) {
        if (!state_item_equal(column, (char *)x.items + i * column->item_size,
                              (char *)y.items + i * column->item_size)) {
            return false;
        }
    }
    return true;
}

/* ---- Rows ---- */

struct state_row *
state_row_new(enum state_table table, const struct weft_uuid *uuid)
{
    const struct state_class *class = state_class_of(table);
    struct state_row *row = state_alloc(class->size);

    row->table = table;
    row->uuid = *uuid;
    for (size_t i = 0; i < class->column_count; i++) {
        const struct state_column *column = &class->columns[i];
        if (column->shape == STATE_SHAPE_SCALAR &&
            column->kind == STATE_KIND_STRING) {
            state_string_set(row, column, "");
        }
    }
    return row;
}

struct state_row *
state_row_clone(const struct state_row *row)
{
    const struct state_class *class = state_class_of(row->table);
    struct state_row *copy = state_alloc(class->size);

    copy->table = row->table;
    copy->uuid = row->uuid;
    for (size_t i = 0; i < class->column_count; i++) {
        column_copy(&class->columns[i], copy, row);
    }
    return copy;
}

void
state_row_free(struct state_row *row)
{
    if (row == NULL) {
        return;
    }

    const struct state_class *class = state_class_of(row->table);
    for (size_t i = 0; i < class->column_count; i++) {
        const struct state_column *column = &class->columns[i];
        if (column->shape == STATE_SHAPE_SCALAR) {
            atom_free(column->kind, state_member_mutable(row, column->offset));
        } else {
            state_items_free(column, state_items_get(row, column));
        }
    }
    free(row);
}

uint64_t
state_row_difference(const struct state_row *a, const struct state_row *b)
{
    const struct state_class *class = state_class_of(a->table);
    uint64_t columns = 0;

    CHECK(a->table == b->table);
    for (size_t i = 0; i < class->column_count; i++) {
        if (!column_equal(&class->columns[i], a, b)) {
            columns |= UINT64_C(1) << i;
        }
    }
    return columns;
}

bool
state_row_equal(const struct state_row *a, const struct state_row *b,
                uint64_t columns)
{
    const struct state_class *class = state_class_of(a->table);

    CHECK(a->table == b->table);
    for (size_t i = 0; i < class->column_count; i++) {
        if ((columns >> i & 1) != 0 &&
            !column_equal(&class->columns[i], a, b)) {
            return false;
        }
    }
    return true;
}

uint64_t
state_row_hash(const struct state_row *row, uint64_t columns)
{
    const struct state_class *class = state_class_of(row->table);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < class->column_count; i++) {
        const struct state_column *column = &class->columns[i];
        if ((columns >> i & 1) == 0) {
            continue;
        }
        CHECK(column->shape == STATE_SHAPE_SCALAR);
        hash = atom_hash(column->kind, state_member(row, column->offset), hash);
    }
    return hash;
}

void
state_row_format_columns(enum state_table table, uint64_t columns,
                         char *ret_text, size_t size)
{
    const struct state_class *class = state_class_of(table);
    size_t used = 0;

    CHECK(size > 0);
    ret_text[0] = '\0';
    for (size_t i = 0; i < class->column_count; i++) {
        if ((columns >> i & 1) == 0) {
            continue;
        }
        int length = snprintf(ret_text + used, size - used, "%s%s",
                              used == 0 ? "" : ",", class->columns[i].name);
        if (length < 0 || (size_t)length >= size - used) {
            return;
        }
        used += (size_t)length;
    }
}

/* ---- Small helpers for users ---- */

bool
state_uuids_contain(const struct weft_uuid *uuids, size_t count,
                    const struct weft_uuid *wanted)
{
    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&uuids[i], wanted)) {
            return true;
        }
    }
    return false;
}

const struct weft_uuid *
state_pairs_find(const struct state_pair_uuid_uuid *pairs, size_t count,
                 const struct weft_uuid *key)
{
    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&pairs[i].key, key)) {
            return &pairs[i].value;
        }
    }
    return NULL;
}

const char *
state_options_find(const struct state_pair_string_string *pairs, size_t count,
                   const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(pairs[i].key, key) == 0) {
            return pairs[i].value;
        }
    }
    return NULL;
}

void
state_uuid_random(struct weft_uuid *ret_uuid)
{
    uint64_t bits[2];
    ssize_t got;

    do {
        got = getrandom(bits, sizeof bits, 0);
    } while (got < 0 && errno == EINTR);
    CHECK(got == (ssize_t)sizeof bits);
    uuid_make_random(bits[0], bits[1], ret_uuid);
}
