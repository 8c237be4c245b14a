/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/private.h"

#include <stdlib.h>

#include "lib/state/codec.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/json.h>

/* From the calls that build() makes to the parameters of a "transact" request
 * (RFC 7047 section 4.1.3):
 *
 *     [ "Weft", { "op": "wait", ... }, { "op": "update", ... }, ...,
 *       { "op": "comment" }, { "op": "commit", "durable": true } ]
 *
 * The server executes them in order, all or nothing.  A "wait" with timeout 0
 * is the compare of compare-and-set.  The "commit" makes the server sync its
 * log before it answers (S10): without it a standalone server does not.  (A
 * Raft server always does before it counts an entry as its own.) */

struct state_txn_private *
txn_build_new(void)
{
    return state_alloc(sizeof(struct state_txn_private));
}

void
txn_build_reset(struct state_txn_private *private)
{
    json_destroy(private->operations);
    private->operations = NULL;
    private->note_count = 0;
    private->is_found_done = false;
}

void
txn_build_free(struct state_txn_private *private)
{
    if (private == NULL) {
        return;
    }
    txn_build_reset(private);
    json_destroy(private->request_id);
    free(private->notes);
    free(private);
}

/* A new operation, which the caller completes. */
static struct json *
add_operation(struct state_txn *txn, const char *name, enum state_table table,
              const struct weft_uuid *uuid, uint64_t columns)
{
    static const struct weft_uuid nil;
    struct state_txn_private *private = txn->private;
    struct json *operation = json_object_create();

    CHECK(private->is_building);
    if (private->note_count == private->note_capacity) {
        private->note_capacity =
            private->note_capacity == 0 ? 16 : private->note_capacity * 2;
        private->notes = reallocarray(private->notes, private->note_capacity,
                                      sizeof *private->notes);
        CHECK(private->notes != NULL);
    }
    private->notes[private->note_count++] = (struct txn_note){
        .table = table,
        .columns = columns,
        .uuid = uuid == NULL ? nil : *uuid,
    };
    json_object_put_string(operation, "op", name);
    json_object_put_string(operation, "table", state_table_name(table));
    json_array_add(private->operations, operation);
    return operation;
}

/* [["_uuid", "==", ["uuid", "..."]]] */
static struct json *
where_uuid(const struct weft_uuid *uuid)
{
    return json_array_create_1(json_array_create_3(json_string_create("_uuid"),
                                                   json_string_create("=="),
                                                   codec_write_uuid(uuid)));
}

static const struct state_column *
column_at(enum state_table table, size_t index)
{
    return &state_class_of(table)->columns[index];
}

static void
check_columns(enum state_table table, uint64_t columns)
{
    size_t count = state_class_of(table)->column_count;
    CHECK(count == 64 || columns >> count == 0);
}

static const struct state_column *
only_column(enum state_table table, uint64_t column)
{
    CHECK(__builtin_popcountll(column) == 1);
    check_columns(table, column);
    return column_at(table, (size_t)__builtin_ctzll(column));
}

/* {"name": value, ...} */
static struct json *
write_columns(const struct state_row *row, uint64_t columns)
{
    const struct state_class *class = state_class_of(row->table);
    struct json *values = json_object_create();

    check_columns(row->table, columns);
    for (size_t i = 0; i < class->column_count; i++) {
        if ((columns >> i & 1) != 0) {
            json_object_put(values, class->columns[i].name,
                            codec_write(row, &class->columns[i]));
        }
    }
    return values;
}

void
state_txn_verify(struct state_txn *txn, const struct state_row *row,
                 uint64_t columns)
{
    const struct state_class *class = state_class_of(row->table);
    struct json *operation =
        add_operation(txn, "wait", row->table, &row->uuid, columns);
    struct json *names = json_array_create_empty();

    for (size_t i = 0; i < class->column_count; i++) {
        if ((columns >> i & 1) != 0) {
            json_array_add(names, json_string_create(class->columns[i].name));
        }
    }
    json_object_put(operation, "timeout", json_integer_create(0));
    json_object_put(operation, "where", where_uuid(&row->uuid));
    json_object_put(operation, "columns", names);
    json_object_put_string(operation, "until", "==");
    json_object_put(operation, "rows",
                    json_array_create_1(write_columns(row, columns)));
}

void
state_txn_verify_absent(struct state_txn *txn, const struct state_row *row,
                        uint64_t columns)
{
    const struct state_class *class = state_class_of(row->table);
    struct json *operation =
        add_operation(txn, "wait", row->table, NULL, columns);
    struct json *where = json_array_create_empty();

    CHECK(columns != 0);
    check_columns(row->table, columns);
    for (size_t i = 0; i < class->column_count; i++) {
        if ((columns >> i & 1) != 0) {
            json_array_add(
                where,
                json_array_create_3(json_string_create(class->columns[i].name),
                                    json_string_create("=="),
                                    codec_write(row, &class->columns[i])));
        }
    }
    json_object_put(operation, "timeout", json_integer_create(0));
    json_object_put(operation, "where", where);
    json_object_put(operation, "columns", json_array_create_empty());
    json_object_put_string(operation, "until", "==");
    json_object_put(operation, "rows", json_array_create_empty());
}

void
state_txn_insert(struct state_txn *txn, const struct state_row *row,
                 uint64_t columns)
{
    struct json *operation =
        add_operation(txn, "insert", row->table, &row->uuid, 0);
    char text[UUID_TEXT_SIZE];

    CHECK(!uuid_is_nil(&row->uuid));
    uuid_format(&row->uuid, text);
    json_object_put_string(operation, "uuid", text);
    json_object_put(operation, "row", write_columns(row, columns));
    if (state_row_get(txn->owner, row->table, &row->uuid) != NULL) {
        txn->private->is_found_done = true;
    }
}

void
state_txn_update(struct state_txn *txn, const struct state_row *row,
                 uint64_t columns)
{
    /* An update of no row would succeed. */
    state_txn_verify(txn, row, 0);
    struct json *operation =
        add_operation(txn, "update", row->table, &row->uuid, columns);
    json_object_put(operation, "where", where_uuid(&row->uuid));
    json_object_put(operation, "row", write_columns(row, columns));
}

static void
mutate(struct state_txn *txn, const struct state_row *row, uint64_t mask,
       bool remove, bool add)
{
    const struct state_column *column = only_column(row->table, mask);
    struct json *mutations = json_array_create_empty();

    CHECK(column->shape != STATE_SHAPE_SCALAR);
    state_txn_verify(txn, row, 0);
    struct json *operation =
        add_operation(txn, "mutate", row->table, &row->uuid, mask);
    if (remove) {
        json_array_add(mutations,
                       json_array_create_3(json_string_create(column->name),
                                           json_string_create("delete"),
                                           codec_write_keys(row, column)));
    }
    if (add) {
        json_array_add(mutations,
                       json_array_create_3(json_string_create(column->name),
                                           json_string_create("insert"),
                                           codec_write(row, column)));
    }
    json_object_put(operation, "where", where_uuid(&row->uuid));
    json_object_put(operation, "mutations", mutations);
}

void
state_txn_add(struct state_txn *txn, const struct state_row *row,
              uint64_t column)
{
    /* Of a map the protocol's "insert" leaves the keys that are there as they
     * are; hence first away with them. */
    mutate(txn, row, column,
           only_column(row->table, column)->shape == STATE_SHAPE_MAP, true);
}

void
state_txn_remove(struct state_txn *txn, const struct state_row *row,
                 uint64_t column)
{
    mutate(txn, row, column, true, false);
}

void
state_txn_delete(struct state_txn *txn, enum state_table table,
                 const struct weft_uuid *uuid)
{
    struct json *operation = add_operation(txn, "delete", table, uuid, 0);
    json_object_put(operation, "where", where_uuid(uuid));
}

int
txn_build_call(struct state_txn *txn)
{
    struct state_txn_private *private = txn->private;

    txn_build_reset(private);
    private->operations =
        json_array_create_1(json_string_create(STATE_SCHEMA_NAME));
    private->is_building = true;
    int result = txn->build(txn, txn->owner);
    private->is_building = false;
    CHECK(result <= 0 || result == STATE_TXN_NOTHING);

    if (result == 0 && (private->note_count == 0 || private->is_found_done)) {
        return STATE_TXN_NOTHING;
    }
    return result;
}

struct json *
txn_build_take(struct state_txn *txn)
{
    struct state_txn_private *private = txn->private;
    struct json *operations = private->operations;
    struct json *commit = json_object_create();

    if (txn->comment != NULL) {
        struct json *comment = json_object_create();
        json_object_put_string(comment, "op", "comment");
        json_object_put_string(comment, "comment", txn->comment);
        json_array_add(operations, comment);
    }
    json_object_put_string(commit, "op", "commit");
    json_object_put(commit, "durable", json_boolean_create(true));
    json_array_add(operations, commit);
    private->operations = NULL;
    return operations;
}
