/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/compile.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "netd/compile/model.h"

/* Changes of the model, and reading it from outside. */

#define ALL_COLUMNS UINT64_MAX
#define NUMBER_MAX 0xffffffu /* 24 bits. */

struct compile *
compile_new_with(struct compile_sink *sink,
                 const struct emitter *const *emitters, size_t count)
{
    struct compile *compile = state_alloc(sizeof *compile);

    CHECK(count < UINT16_MAX);
    compile->sink = sink;
    compile->emitters = emitters;
    compile->emitter_count = count;
    unit_init(compile);
    model_init(compile);
    compile->base_units = unit_new_all(compile, NULL, &compile->base_emitters);
    return compile;
}

struct compile *
compile_new(struct compile_sink *sink)
{
    return compile_new_with(sink, emitter_list, emitter_count);
}

void
compile_free(struct compile *compile)
{
    if (compile == NULL) {
        return;
    }
    unit_free_all(compile, compile->base_units, &compile->base_emitters);
    model_done(compile);
    depend_done(compile);
    unit_done(compile);
    free(compile);
}

/* ---- Indexes ---- */

static const char *
text_of(const struct state_row *row, uint64_t column)
{
    const struct state_class *class = state_class_of(row->table);
    const char *text;

    memcpy(&text,
           state_member(row, class->columns[__builtin_ctzll(column)].offset),
           sizeof text);
    return text;
}

static const struct weft_uuid *
uuid_of(const struct state_row *row, uint64_t column)
{
    const struct state_class *class = state_class_of(row->table);
    return state_member(row, class->columns[__builtin_ctzll(column)].offset);
}

/* False: the row is in no entry of this index: its reference is nil, or the
 * filter does not pass it. */
static bool
index_key(const struct state_row *row, const struct model_index *index,
          unsigned number, struct node_key *ret_key)
{
    *ret_key = (struct node_key){ .kind = NODE_INDEX,
                                  .table = (uint8_t)row->table,
                                  .index = (uint8_t)number,
                                  .text = "" };
    if (index->filter != NULL && !index->filter(row)) {
        return false;
    }
    if (index->uuid_column != 0) {
        ret_key->uuid = *uuid_of(row, index->uuid_column);
        if (uuid_is_nil(&ret_key->uuid)) {
            return false;
        }
    }
    if (index->text_column != 0) {
        ret_key->text = text_of(row, index->text_column);
    }
    return true;
}

static bool
is_over(const struct model_index *index, uint64_t columns)
{
    return ((index->uuid_column | index->text_column | index->filter_columns) &
            columns) != 0;
}

static void
touch_fact(struct compile *compile, const struct node_key *key, uint8_t kind)
{
    struct node_key fact = *key;
    fact.kind = kind;

    struct node *node = model_find(compile, &fact);
    if (node != NULL) {
        depend_touch(compile, node);
    }
}

/* A set's count has passed between 'low' and 'low' + 1. */
static void
touch_facts(struct compile *compile, const struct node_key *key, size_t low)
{
    if (low == 0) {
        touch_fact(compile, key,
                   key->kind == NODE_INDEX ? NODE_ANY : NODE_ANY_LOCAL);
    } else if (low == MODEL_MANY && key->kind == NODE_INDEX) {
        touch_fact(compile, key, NODE_MANY);
    }
}

static void
enter_set(struct compile *compile, const struct node_key *key,
          struct tree_link *link, const struct weft_uuid *member)
{
    struct set_node *set = set_node_of(model_find_or_add(compile, key));
    tree_add(&set->members, link, member);
    depend_touch(compile, &set->node);
    touch_facts(compile, key, set->members.count - 1);
}

static void
leave_set(struct compile *compile, const struct node_key *key,
          struct tree_link *link)
{
    struct node *node = model_find(compile, key);
    CHECK(node != NULL);
    tree_remove(&set_node_of(node)->members, link);
    depend_touch(compile, node);
    touch_facts(compile, key, set_node_of(node)->members.count);
    model_release(compile, node);
}

static void
enter_indexes(struct compile *compile, struct row_node *row, uint64_t columns)
{
    const struct model_table *table = model_table_of(row->row->table);
    struct node_key key;

    for (unsigned i = 0; i < model_index_count(table); i++) {
        if (is_over(&table->indexes[i], columns) &&
            index_key(row->row, &table->indexes[i], i, &key)) {
            enter_set(compile, &key, &row->links[1 + i], &row->node.key.uuid);
        }
    }
}

static void
leave_indexes(struct compile *compile, struct row_node *row, uint64_t columns)
{
    const struct model_table *table = model_table_of(row->row->table);
    struct node_key key;

    for (unsigned i = 0; i < model_index_count(table); i++) {
        if (is_over(&table->indexes[i], columns) &&
            index_key(row->row, &table->indexes[i], i, &key)) {
            leave_set(compile, &key, &row->links[1 + i]);
        }
    }
}

/* ---- Local ports ---- */

/* Brings the sets that a local port is in up to date with its Port row. */
static void
place_local(struct compile *compile, struct local_node *local)
{
    const struct row_node *row =
        model_find_row(compile, STATE_TABLE_PORT, &local->node.key.uuid);
    struct weft_uuid keys[LOCAL_INDEX_COUNT] = { 0 };

    if (local->is_present && row != NULL && row->row != NULL) {
        const struct state_port *port = state_port_from(row->row);
        keys[LOCALS_OF_NETWORK] = port->network;
        keys[LOCALS_OF_IDENTITY] = port->identity;
    }
    for (unsigned i = 0; i < LOCAL_INDEX_COUNT; i++) {
        struct node_key key = { .kind = NODE_LOCALS,
                                .index = (uint8_t)i,
                                .uuid = local->keys[i],
                                .text = "" };
        if (uuid_equal(&keys[i], &local->keys[i])) {
            continue;
        }
        if (!uuid_is_nil(&key.uuid)) {
            leave_set(compile, &key, &local->links[1 + i]);
        }
        local->keys[i] = keys[i];
        key.uuid = keys[i];
        if (!uuid_is_nil(&key.uuid)) {
            enter_set(compile, &key, &local->links[1 + i],
                      &local->node.key.uuid);
        }
    }
}

static void
place_local_of_row(struct compile *compile, enum state_table table,
                   const struct weft_uuid *uuid)
{
    if (table != STATE_TABLE_PORT) {
        return;
    }
    struct local_node *local = model_find_local(compile, uuid);
    if (local != NULL && local->is_present) {
        place_local(compile, local);
    }
}

void
compile_put_local(struct compile *compile, const struct local_port *local)
{
    const struct node_key key = { .kind = NODE_LOCAL,
                                  .uuid = local->port,
                                  .text = "" };
    struct local_node *node = local_node_of(model_find_or_add(compile, &key));

    if (node->is_present && node->local.ofport == local->ofport &&
        node->local.zone == local->zone) {
        return;
    }
    node->local = *local;
    if (!node->is_present) {
        node->is_present = true;
        tree_add(&compile->locals, &node->links[0], &node->node.key.uuid);
        place_local(compile, node);
    }
    if (node->units == NULL) {
        node->units =
            unit_new_all(compile, &node->node, &compile->local_emitters);
    } else {
        unit_touch_all(compile, node->units, &compile->local_emitters);
    }
    depend_touch(compile, &node->node);
}

void
compile_delete_local(struct compile *compile, const struct weft_uuid *port)
{
    struct local_node *node = model_find_local(compile, port);
    if (node == NULL || !node->is_present) {
        return;
    }

    node->is_present = false;
    tree_remove(&compile->locals, &node->links[0]);
    place_local(compile, node);
    depend_touch(compile, &node->node);
    unit_touch_all(compile, node->units, &compile->local_emitters);
    unit_subject_dies(compile, &node->node);
}

void
compile_set_self(struct compile *compile, const struct compile_self *self)
{
    if (strcmp(compile->self.host, self->host) == 0 &&
        compile->self.tunnel_ofport == self->tunnel_ofport &&
        compile->self.underlay_mtu == self->underlay_mtu) {
        return;
    }
    compile->self = *self;
    depend_touch(compile, compile->self_node);
}

/* ---- Rows ---- */

static void
change_row(struct compile *compile, struct row_node *node,
           const struct state_row *row)
{
    uint64_t columns = state_row_difference(node->row, row);
    if (columns == 0) {
        return;
    }
    leave_indexes(compile, node, columns);
    state_row_free(node->row);
    node->row = state_row_clone(row);
    enter_indexes(compile, node, columns);
}

static void
add_row(struct compile *compile, struct row_node *node,
        const struct state_row *row)
{
    struct set_node *all = compile->tables[row->table];

    node->row = state_row_clone(row);
    tree_add(&all->members, &node->links[0], &node->node.key.uuid);
    depend_touch(compile, &all->node);
    enter_indexes(compile, node, ALL_COLUMNS);
    compile->counts.rows++;
}

static void
put_row(struct compile *compile, const struct state_row *row)
{
    const struct node_key key = { .kind = NODE_ROW,
                                  .table = (uint8_t)row->table,
                                  .uuid = row->uuid,
                                  .text = "" };

    if (model_table_of(row->table) == NULL) {
        return;
    }
    struct row_node *node = row_node_of(model_find_or_add(compile, &key));
    if (node->row == NULL) {
        add_row(compile, node, row);
    } else if (state_row_difference(node->row, row) != 0) {
        change_row(compile, node, row);
    } else {
        return;
    }

    const struct emitter_set *set = &compile->row_emitters[row->table];
    if (node->units == NULL) {
        node->units = unit_new_all(compile, &node->node, set);
    } else {
        unit_touch_all(compile, node->units, set);
    }
    depend_touch(compile, &node->node);
    place_local_of_row(compile, row->table, &row->uuid);
}

static bool
is_within(uint64_t number, uint64_t least, uint64_t most)
{
    return number >= least && number <= most;
}

/* Numbers that become parts of flows.  The database's constraints and the API
 * keep them in their ranges; were one outside, its other bits would be cut off
 * and it would be the number of another network, identity or rule. */
static bool
is_sound(const struct state_row *row)
{
    if (row->table == STATE_TABLE_NETWORK) {
        return is_within(state_network_from(row)->vni, 1, NUMBER_MAX) &&
               state_network_from(row)->mtu <= UINT16_MAX;
    }
    if (row->table == STATE_TABLE_IDENTITY) {
        return is_within(state_identity_from(row)->number, IDENTITY_FIRST,
                         NUMBER_MAX);
    }
    if (row->table == STATE_TABLE_SECURITY_RULE) {
        return is_within(state_security_rule_from(row)->tag, 1, NUMBER_MAX);
    }
    if (row->table == STATE_TABLE_ROUTER) {
        return is_within(state_router_from(row)->tag, 1, NUMBER_MAX);
    }
    return true;
}

void
compile_put_row(struct compile *compile, const struct state_row *row)
{
    char text[UUID_TEXT_SIZE];

    if (!is_sound(row)) {
        uuid_format(&row->uuid, text);
        log_error("compile",
                  "a row has a number that cannot be, it is left out with all "
                  "that needs it table=%s row=%s",
                  state_class_of(row->table)->name, text);
        compile_delete_row(compile, row->table, &row->uuid);
        return;
    }
    put_row(compile, row);
}
void
compile_delete_row(struct compile *compile, enum state_table table,
                   const struct weft_uuid *uuid)
{
    const struct weft_uuid port = *uuid; /* May be in the row itself. */
    struct row_node *node = model_find_row(compile, table, uuid);
    if (node == NULL || node->row == NULL) {
        return;
    }

    leave_indexes(compile, node, ALL_COLUMNS);
    tree_remove(&compile->tables[table]->members, &node->links[0]);
    depend_touch(compile, &compile->tables[table]->node);
    state_row_free(node->row);
    node->row = NULL;
    compile->counts.rows--;
    place_local_of_row(compile, table, &port);
    depend_touch(compile, &node->node);
    unit_touch_all(compile, node->units, &compile->row_emitters[table]);
    unit_subject_dies(compile, &node->node);
}

/* ---- Reading from outside ---- */

bool
compile_is_dirty(const struct compile *compile)
{
    return compile->dirty_count > 0;
}

void
compile_count(const struct compile *compile, struct compile_counts *ret_counts)
{
    *ret_counts = compile->counts;
    ret_counts->locals = compile->locals.count;
    ret_counts->dependencies = compile->edge_count;
}

const struct state_row *
compile_row(const struct compile *compile, enum state_table table,
            const struct weft_uuid *uuid)
{
    const struct row_node *node = model_find_row(compile, table, uuid);
    return node == NULL ? NULL : node->row;
}

/* The row after 'previous' in the members of 'node'. */
static const struct state_row *
next_member(const struct compile *compile, struct node *node, unsigned number,
            const struct state_row *previous)
{
    struct tree_link *link;

    if (node == NULL) {
        return NULL;
    }
    if (previous == NULL) {
        link = tree_first(&set_node_of(node)->members);
    } else {
        struct row_node *row =
            model_find_row(compile, previous->table, &previous->uuid);
        CHECK(row != NULL);
        CHECK(row->row != NULL);
        link = tree_next(&row->links[number]);
    }
    return link == NULL ? NULL : model_row_of_link(link, number)->row;
}

const struct state_row *
compile_next(const struct compile *compile, enum state_table table,
             uint64_t column, const struct weft_uuid *value,
             const struct state_row *previous)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = (uint8_t)table,
        .index = (uint8_t)model_index_of(table, column, 0),
        .uuid = *value,
        .text = "",
    };
    return next_member(compile, model_find(compile, &key), 1u + key.index,
                       previous);
}

const struct state_row *
compile_next_all(const struct compile *compile, enum state_table table,
                 const struct state_row *previous)
{
    CHECK(compile->tables[table] != NULL);
    return next_member(compile, &compile->tables[table]->node, 0, previous);
}

const struct state_address *
compile_find_address(const struct compile *compile,
                     const struct weft_uuid *network, const char *ip)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = STATE_TABLE_ADDRESS,
        .index = (uint8_t)model_index_of(STATE_TABLE_ADDRESS,
                                         STATE_ADDRESS_COL_NETWORK,
                                         STATE_ADDRESS_COL_IP),
        .uuid = *network,
        .text = ip,
    };
    const struct state_row *row =
        next_member(compile, model_find(compile, &key), 1u + key.index, NULL);
    return row == NULL ? NULL : state_address_from(row);
}

const struct local_port *
compile_local(const struct compile *compile, const struct weft_uuid *port)
{
    const struct local_node *node = model_find_local(compile, port);
    return node == NULL || !node->is_present ? NULL : &node->local;
}

const struct local_port *
compile_next_local(const struct compile *compile,
                   const struct local_port *previous)
{
    struct tree_link *link;

    if (previous == NULL) {
        link = tree_first(&compile->locals);
    } else {
        struct local_node *node = model_find_local(compile, &previous->port);
        CHECK(node != NULL);
        CHECK(node->is_present);
        link = tree_next(&node->links[0]);
    }
    return link == NULL ? NULL : &model_local_of_link(link, 0)->local;
}

const struct compile_self *
compile_self(const struct compile *compile)
{
    return &compile->self;
}
