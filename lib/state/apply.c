/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/be.h"
#include "lib/state/codec.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/json.h>
#include <ovsdb-cs.h>
#include <ovsdb-error.h>

/* From an update of the protocol to changed rows.
 *
 * An update is read completely into a list of steps before the first row is
 * touched, so that a malformed one changes nothing.
 *
 * After a reconnect the server may send everything again ('clear').  Then each
 * row that comes is compared with ours, and gets the new generation; what has
 * an old one at the end is gone.  So listeners see real differences only. */

struct step {
    enum state_table table;
    struct weft_uuid uuid;
    struct state_row *row; /* NULL: delete. */
};

struct steps {
    struct step *items;
    size_t count, capacity;
};

static void
steps_add(struct steps *steps, struct step step)
{
    if (steps->count == steps->capacity) {
        steps->capacity = steps->capacity == 0 ? 16 : steps->capacity * 2;
        steps->items =
            reallocarray(steps->items, steps->capacity, sizeof *steps->items);
        CHECK(steps->items != NULL);
    }
    steps->items[steps->count++] = step;
}

static void
steps_done(struct steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        state_row_free(steps->items[i].row);
    }
    free(steps->items);
}

static void
change_set_add(struct change_set *changes, struct state_change change)
{
    if (changes->count == changes->capacity) {
        changes->capacity = changes->capacity == 0 ? 16 : changes->capacity * 2;
        changes->changes = reallocarray(changes->changes, changes->capacity,
                                        sizeof *changes->changes);
        CHECK(changes->changes != NULL);
    }
    changes->changes[changes->count++] = change;
}

void
change_set_done(struct change_set *changes)
{
    for (size_t i = 0; i < changes->count; i++) {
        void *old; /* Const only for those who listen. */
        memcpy(&old, &changes->changes[i].old_row, sizeof(void *));
        state_row_free(old);
    }
    free(changes->changes);
    *changes = (struct change_set){ 0 };
}

static struct weft_uuid
uuid_from_ovs(const struct uuid *from)
{
    struct weft_uuid uuid;

    for (size_t i = 0; i < 4; i++) {
        struct be32 part = be32_make(from->parts[i]);
        memcpy(uuid.bytes + 4 * i, &part, sizeof part);
    }
    return uuid;
}

static bool
find_table(const char *name, enum state_table *ret_table)
{
    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        if (strcmp(state_classes[i].name, name) == 0) {
            *ret_table = (enum state_table)i;
            return true;
        }
    }
    return false;
}

/* Reads the columns that came.  Others keep what 'row' has: the default of a
 * new row, or the old value. */
static int
read_columns(struct state_row *row, const struct shash *columns, bool is_diff)
{
    const struct state_class *class = state_class_of(row->table);

    for (size_t i = 0; i < class->column_count; i++) {
        const struct state_column *column = &class->columns[i];
        const struct json *value = shash_find_data(columns, column->name);
        if (value != NULL) {
            int error = codec_read(row, column, value, is_diff);
            if (error != 0) {
                return error;
            }
        }
    }
    return 0;
}

static int
read_row(const struct state *state, enum state_table table,
         const struct ovsdb_cs_row_update *update, struct steps *steps)
{
    struct step step = {
        .table = table,
        .uuid = uuid_from_ovs(&update->row_uuid),
    };
    bool is_diff = update->type == OVSDB_CS_ROW_XOR;

    if (update->type == OVSDB_CS_ROW_DELETE) {
        steps_add(steps, step);
        return 0;
    }

    if (is_diff || update->type == OVSDB_CS_ROW_UPDATE) {
        const struct cache_entry *entry =
            cache_find(&state->cache, table, &step.uuid);
        if (entry == NULL) {
            return -EBADMSG; /* A change of a row that we never got. */
        }
        step.row = state_row_clone(entry->row);
    } else {
        step.row = state_row_new(table, &step.uuid);
    }
    int error = read_columns(step.row, update->columns, is_diff);
    if (error != 0) {
        state_row_free(step.row);
        return error;
    }
    steps_add(steps, step);
    return 0;
}

static int
read_update(const struct state *state,
            const struct ovsdb_cs_update_event *update, struct steps *steps)
{
    struct ovsdb_cs_db_update *parsed;
    struct ovsdb_error *problem =
        ovsdb_cs_parse_db_update(update->table_updates, update->version,
                                 &parsed);
    int error = 0;

    if (problem != NULL) {
        ovsdb_error_destroy(problem);
        return -EBADMSG;
    }
    for (size_t i = 0; i < parsed->n && error == 0; i++) {
        const struct ovsdb_cs_table_update *rows = &parsed->table_updates[i];
        enum state_table table;
        if (!find_table(rows->table_name, &table)) {
            continue;
        }
        for (size_t j = 0; j < rows->n && error == 0; j++) {
            error = read_row(state, table, &rows->row_updates[j], steps);
        }
    }
    ovsdb_cs_db_update_destroy(parsed);
    return error;
}

/* Consumes the step's row. */
static void
apply_step(struct state *state, struct step *step, struct change_set *changes)
{
    struct state_change change = { .table = step->table };

    if (step->row == NULL) {
        change.kind = STATE_CHANGE_DELETE;
        change.old_row = cache_take(&state->cache, step->table, &step->uuid);
        if (change.old_row != NULL) {
            change_set_add(changes, change);
        }
        return;
    }

    struct cache_entry *entry =
        cache_find(&state->cache, step->table, &step->uuid);
    if (entry == NULL) {
        change.kind = STATE_CHANGE_INSERT;
    } else {
        change.kind = STATE_CHANGE_UPDATE;
        change.columns = state_row_difference(entry->row, step->row);
        if (change.columns == 0) {
            entry->generation = state->cache.generation;
            return;
        }
    }
    change.new_row = step->row;
    change.old_row = cache_put(&state->cache, step->row);
    step->row = NULL;
    change_set_add(changes, change);
}

/* Removes what a complete transfer did not mention. */
static void
sweep(struct state *state, struct change_set *changes)
{
    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        enum state_table table = (enum state_table)i;
        struct cache_entry *entry = cache_next(&state->cache, table, NULL);
        while (entry != NULL) {
            struct cache_entry *next = cache_next(&state->cache, table, entry);
            if (entry->generation != state->cache.generation) {
                struct step gone = { .table = table, .uuid = entry->row->uuid };
                apply_step(state, &gone, changes);
            }
            entry = next;
        }
    }
}

static int
compare_changes(const void *a_, const void *b_)
{
    const struct state_change *a = a_;
    const struct state_change *b = b_;
    const struct state_row *x = a->new_row != NULL ? a->new_row : a->old_row;
    const struct state_row *y = b->new_row != NULL ? b->new_row : b->old_row;

    if (a->table != b->table) {
        return a->table < b->table ? -1 : 1;
    }
    return uuid_compare(&x->uuid, &y->uuid);
}

int
apply_update(struct state *state, const struct ovsdb_cs_update_event *update,
             struct change_set *changes)
{
    struct steps steps = { 0 };

    int error = read_update(state, update, &steps);
    if (error != 0) {
        steps_done(&steps);
        return error;
    }

    if (update->clear) {
        state->cache.generation++;
    }
    for (size_t i = 0; i < steps.count; i++) {
        apply_step(state, &steps.items[i], changes);
    }
    if (update->clear) {
        sweep(state, changes);
    }
    steps_done(&steps);
    if (changes->count > 1) {
        qsort(changes->changes, changes->count, sizeof *changes->changes,
              compare_changes);
    }
    return 0;
}
