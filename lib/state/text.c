/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "lib/state/codec.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/json.h>
#include <openvswitch/shash.h>

/* Rows as text, for files. */

char *
state_row_encode(const struct state_row *row)
{
    const struct state_class *class = state_class_of(row->table);
    struct json *object = json_object_create();

    for (size_t i = 0; i < class->column_count; i++) {
        const struct state_column *column = &class->columns[i];
        if (column->kind == STATE_KIND_ENUM &&
            *(const unsigned *)state_member(row, column->offset) == 0) {
            continue; /* One that this version does not know. */
        }
        json_object_put(object, column->name, codec_write(row, column));
    }
    char *text = json_to_string(object, 0);
    json_destroy(object);
    return text;
}

int
state_row_decode(enum state_table table, const struct weft_uuid *uuid,
                 const char *text, struct state_row **ret_row)
{
    const struct state_class *class = state_class_of(table);
    struct json *object = json_from_string(text);

    if (object->type != JSON_OBJECT) { /* A text: what is wrong with it. */
        json_destroy(object);
        return -EBADMSG;
    }
    struct state_row *row = state_row_new(table, uuid);
    int result = 0;
    for (size_t i = 0; result == 0 && i < class->column_count; i++) {
        const struct json *value =
            shash_find_data(json_object(object), class->columns[i].name);
        if (value != NULL) {
            result = codec_read(row, &class->columns[i], value, false);
        }
    }
    json_destroy(object);
    if (result != 0) {
        state_row_free(row);
        return result;
    }
    *ret_row = row;
    return 0;
}
