/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/codec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Foreign: libopenvswitch. */
#include <openvswitch/json.h>

/* ---- Reading ---- */

/* The second element of ["tag", x], or NULL. */
static const struct json *
tagged(const struct json *value, const char *tag)
{
    CHECK(value != NULL);
    if (value->type != JSON_ARRAY || value->array.n != 2 ||
        value->array.elems[0]->type != JSON_STRING ||
        strcmp(value->array.elems[0]->string, tag) != 0) {
        return NULL;
    }
    return value->array.elems[1];
}

static int
read_uuid(void *to, const struct json *value)
{
    const struct json *text = tagged(value, "uuid");
    struct weft_uuid uuid;

    if (text == NULL || text->type != JSON_STRING ||
        uuid_parse(text->string, &uuid) != 0) {
        return -EBADMSG;
    }
    memcpy(to, &uuid, sizeof uuid);
    return 0;
}

/* For the kinds that occur in sets and maps.  '*to' is overwritten. */
static int
read_atom(enum state_kind kind, void *to, const struct json *value)
{
    CHECK(value != NULL);
    if (kind == STATE_KIND_UUID) {
        return read_uuid(to, value);
    }
    if (kind == STATE_KIND_STRING && value->type == JSON_STRING) {
        char *copy = state_strdup(value->string);
        memcpy(to, &copy, sizeof copy);
        return 0;
    }
    if (kind == STATE_KIND_INT && value->type == JSON_INTEGER) {
        int64_t number = value->integer;
        memcpy(to, &number, sizeof number);
        return 0;
    }
    return -EBADMSG;
}

static int
read_number(struct state_row *row, const struct state_column *column,
            const struct json *value)
{
    void *to = state_member_mutable(row, column->offset);

    if (value->type != JSON_INTEGER) {
        return -EBADMSG;
    }
    int64_t number = value->integer;
    if (column->kind == STATE_KIND_U32) {
        uint32_t small = (uint32_t)number;
        if (number < 0 || number > UINT32_MAX) {
            return -EBADMSG;
        }
        memcpy(to, &small, sizeof small);
        return 0;
    }
    if (column->kind == STATE_KIND_U64 && number < 0) {
        return -EBADMSG;
    }
    memcpy(to, &number, sizeof number);
    return 0;
}

/* A text that this version does not know reads as 0, "unknown": a newer
 * version may have written it, and users fail closed (NETWORK.md N12). */
static int
read_enum(struct state_row *row, const struct state_column *column,
          const struct json *value)
{
    unsigned number = 0;

    if (value->type != JSON_STRING) {
        return -EBADMSG;
    }
    for (unsigned i = 1; i < column->enum_count; i++) {
        if (strcmp(column->enum_names[i], value->string) == 0) {
            number = i;
        }
    }
    memcpy(state_member_mutable(row, column->offset), &number, sizeof number);
    return 0;
}

static int
read_scalar(struct state_row *row, const struct state_column *column,
            const struct json *value)
{
    void *to = state_member_mutable(row, column->offset);

    /* An optional column is a set of up to one. */
    if (column->is_optional) {
        const struct json *set = tagged(value, "set");
        if (set != NULL) {
            if (set->type != JSON_ARRAY || set->array.n > 1) {
                return -EBADMSG;
            }
            if (set->array.n == 0) {
                memset(to, 0, sizeof(struct weft_uuid));
                return 0;
            }
            value = set->array.elems[0];
        }
    }

    switch (column->kind) {
    case STATE_KIND_UUID:
        return read_uuid(to, value);
    case STATE_KIND_STRING:
        if (value->type != JSON_STRING) {
            return -EBADMSG;
        }
        state_string_set(row, column, value->string);
        return 0;
    case STATE_KIND_INT:
    case STATE_KIND_U32:
    case STATE_KIND_U64:
        return read_number(row, column, value);
    case STATE_KIND_BOOL: {
        bool truth = value->type == JSON_TRUE;
        if (!truth && value->type != JSON_FALSE) {
            return -EBADMSG;
        }
        memcpy(to, &truth, sizeof truth);
        return 0;
    }
    case STATE_KIND_ENUM:
        return read_enum(row, column, value);
    }
    return -EBADMSG;
}

/* One item of a set, or one [key, value] of a map. */
static int
read_item(const struct state_column *column, void *to, const struct json *value)
{
    if (column->shape == STATE_SHAPE_SET) {
        return read_atom(column->kind, to, value);
    }

    if (value->type != JSON_ARRAY || value->array.n != 2) {
        return -EBADMSG;
    }
    int error = read_atom(column->kind, to, value->array.elems[0]);
    if (error != 0) {
        return error;
    }
    error = read_atom(column->value_kind, (char *)to + column->value_offset,
                      value->array.elems[1]);
    if (error != 0 && column->kind == STATE_KIND_STRING) {
        char *key;
        memcpy(&key, to, sizeof key);
        free(key);
    }
    return error;
}

/* All items of a <set> or <map>, or of a set that is written as its only
 * member; sorted. */
static int
read_items(const struct state_column *column, const struct json *value,
           struct state_items *ret_items)
{
    bool is_map = column->shape == STATE_SHAPE_MAP;
    const struct json *list = tagged(value, is_map ? "map" : "set");
    struct state_items items = { 0 };
    size_t count = 1;

    if (list != NULL) {
        if (list->type != JSON_ARRAY) {
            return -EBADMSG;
        }
        count = list->array.n;
    } else if (is_map) {
        return -EBADMSG;
    }

    int error = 0;
    if (count > 0) {
        items.items = state_alloc(count * column->item_size);
    }
    for (size_t i = 0; i < count && error == 0; i++) {
        error = read_item(column, (char *)items.items + i * column->item_size,
                          list != NULL ? list->array.elems[i] : value);
        if (error == 0) {
            items.count++;
        }
    }
    if (error == 0 && !state_items_sort(column, items)) {
        error = -EBADMSG;
    }
    if (error != 0) {
        state_items_free(column, items);
        return error;
    }
    *ret_items = items;
    return 0;
}

/* 'items' and 'diff' are sorted.  A member of both goes, unless it is a pair
 * whose value differs, which changes; others stay or come. */
static struct state_items
apply_diff(const struct state_column *column, struct state_items items,
           struct state_items diff)
{
    struct state_items result = { 0 };
    size_t size = column->item_size;
    size_t i = 0, j = 0;

    if (items.count + diff.count > 0) {
        result.items = state_alloc((items.count + diff.count) * size);
    }
    while (i < items.count || j < diff.count) {
        const char *a = (char *)items.items + i * size;
        const char *b = (char *)diff.items + j * size;
        const char *chosen;
        int order = i == items.count  ? 1
                    : j == diff.count ? -1
                                      : state_item_compare_keys(column, a, b);
        if (order < 0) {
            chosen = a;
            i++;
        } else if (order > 0) {
            chosen = b;
            j++;
        } else {
            chosen = state_item_equal(column, a, b) ? NULL : b;
            i++;
            j++;
        }
        if (chosen != NULL) {
            state_item_copy(column, (char *)result.items + result.count * size,
                            chosen);
            result.count++;
        }
    }
    return result;
}

int
codec_read(struct state_row *row, const struct state_column *column,
           const struct json *value, bool is_diff)
{
    if (column->shape == STATE_SHAPE_SCALAR) {
        return read_scalar(row, column, value);
    }

    struct state_items items;
    int error = read_items(column, value, &items);
    if (error != 0) {
        return error;
    }
    if (is_diff) {
        struct state_items diff = items;
        items = apply_diff(column, state_items_get(row, column), diff);
        state_items_free(column, diff);
    }
    if (items.count > column->max_count) {
        state_items_free(column, items);
        return -EBADMSG;
    }
    state_items_set(row, column, items);
    return 0;
}

int
codec_read_text(struct state_row *row, const struct state_column *column,
                const char *text, bool is_diff)
{
    /* The parser takes arrays and objects only. */
    size_t size = strlen(text) + 3;
    char *wrapped = state_alloc(size);
    snprintf(wrapped, size, "[%s]", text);

    struct json *json = json_from_string(wrapped);
    int error = -EBADMSG;
    if (json->type == JSON_ARRAY && json->array.n == 1) {
        error = codec_read(row, column, json->array.elems[0], is_diff);
    }
    json_destroy(json);
    free(wrapped);
    return error;
}

/* ---- Writing ---- */

struct json *
codec_write_uuid(const struct weft_uuid *uuid)
{
    char text[UUID_TEXT_SIZE];

    uuid_format(uuid, text);
    return json_array_create_2(json_string_create("uuid"),
                               json_string_create(text));
}

static struct json *
write_atom(enum state_kind kind, const void *from)
{
    if (kind == STATE_KIND_UUID) {
        struct weft_uuid uuid;
        memcpy(&uuid, from, sizeof uuid);
        return codec_write_uuid(&uuid);
    }
    if (kind == STATE_KIND_STRING) {
        char *text;
        memcpy(&text, from, sizeof text);
        return json_string_create(text == NULL ? "" : text);
    }
    CHECK(kind == STATE_KIND_INT);
    int64_t number;
    memcpy(&number, from, sizeof number);
    return json_integer_create(number);
}

static struct json *
write_scalar(const struct state_row *row, const struct state_column *column)
{
    const void *from = state_member(row, column->offset);

    switch (column->kind) {
    case STATE_KIND_UUID:
    case STATE_KIND_STRING:
    case STATE_KIND_INT:
        return write_atom(column->kind, from);
    case STATE_KIND_U32: {
        uint32_t number;
        memcpy(&number, from, sizeof number);
        return json_integer_create(number);
    }
    case STATE_KIND_U64: {
        uint64_t number;
        memcpy(&number, from, sizeof number);
        CHECK(number <= INT64_MAX);
        return json_integer_create((long long)number);
    }
    case STATE_KIND_BOOL: {
        bool truth;
        memcpy(&truth, from, sizeof truth);
        return json_boolean_create(truth);
    }
    case STATE_KIND_ENUM: {
        unsigned number;
        memcpy(&number, from, sizeof number);
        CHECK(number > 0);
        CHECK(number < column->enum_count);
        return json_string_create(column->enum_names[number]);
    }
    }
    CHECK(false);
}

static struct json *
write_items(const struct state_row *row, const struct state_column *column,
            bool with_values)
{
    struct state_items items = state_items_get(row, column);
    struct json *list = json_array_create_empty();

    for (size_t i = 0; i < items.count; i++) {
        const char *item = (char *)items.items + i * column->item_size;
        struct json *atom = write_atom(column->kind, item);
        if (with_values) {
            atom = json_array_create_2(atom,
                                       write_atom(column->value_kind,
                                                  item + column->value_offset));
        }
        json_array_add(list, atom);
    }
    return json_array_create_2(json_string_create(with_values ? "map" : "set"),
                               list);
}

struct json *
codec_write(const struct state_row *row, const struct state_column *column)
{
    if (column->shape != STATE_SHAPE_SCALAR) {
        return write_items(row, column, column->shape == STATE_SHAPE_MAP);
    }
    if (column->is_optional) {
        struct weft_uuid uuid;
        memcpy(&uuid, state_member(row, column->offset), sizeof uuid);
        if (uuid_is_nil(&uuid)) {
            return json_array_create_2(json_string_create("set"),
                                       json_array_create_empty());
        }
    }
    return write_scalar(row, column);
}

struct json *
codec_write_keys(const struct state_row *row, const struct state_column *column)
{
    CHECK(column->shape != STATE_SHAPE_SCALAR);
    return write_items(row, column, false);
}
