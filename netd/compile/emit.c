/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/emit.h"

#include "netd/compile/model.h"

/* What emitters read, each look-up with its dependency.
 *
 * The oracle (emit->unit is NULL) makes no nodes and no edges. */

/* NULL only for the oracle: there is nothing. */
static struct node *
read_node(struct emit *emit, const struct node_key *key)
{
    if (emit->unit == NULL) {
        return model_find(emit->compile, key);
    }
    struct node *node = model_find_or_add(emit->compile, key);
    depend_on(emit, node);
    return node;
}

static const struct state_row *
read_row(struct emit *emit, struct row_node *row)
{
    depend_on(emit, &row->node);
    return row->row;
}

const struct state_row *
emit_row(struct emit *emit, enum state_table table,
         const struct weft_uuid *uuid)
{
    const struct node_key key = {
        .kind = NODE_ROW, .table = (uint8_t)table, .uuid = *uuid, .text = ""
    };

    CHECK(model_table_of(table) != NULL);
    if (uuid_is_nil(uuid)) {
        return NULL;
    }
    struct node *node = read_node(emit, &key);
    return node == NULL ? NULL : row_node_of(node)->row;
}

/* The row after 'previous' among the members of a set that was read. */
static const struct state_row *
next_row(struct emit *emit, struct node *set, unsigned number,
         const struct state_row *previous)
{
    struct tree_link *link;

    if (set == NULL) {
        return NULL;
    }
    if (previous == NULL) {
        link = tree_first(&set_node_of(set)->members);
    } else {
        struct row_node *row =
            model_find_row(emit->compile, previous->table, &previous->uuid);
        CHECK(row != NULL);
        CHECK(row->row == previous);
        link = tree_next(&row->links[number]);
    }
    return link == NULL ? NULL
                        : read_row(emit, model_row_of_link(link, number));
}

const struct state_row *
emit_next(struct emit *emit, enum state_table table, uint64_t column,
          const struct weft_uuid *value, const struct state_row *previous)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = (uint8_t)table,
        .index = (uint8_t)model_index_of(table, column, 0),
        .uuid = *value,
        .text = "",
    };

    if (uuid_is_nil(value)) {
        return NULL;
    }
    return next_row(emit, read_node(emit, &key), 1u + key.index, previous);
}

const struct state_row *
emit_next_all(struct emit *emit, enum state_table table,
              const struct state_row *previous)
{
    struct set_node *all = emit->compile->tables[table];

    CHECK(all != NULL);
    depend_on(emit, &all->node);
    return next_row(emit, &all->node, 0, previous);
}

/* By a text column, with or without a reference beside it. */
static const struct state_row *
find_by_text(struct emit *emit, enum state_table table, uint64_t uuid_column,
             const struct weft_uuid *uuid, uint64_t text_column,
             const char *text)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = (uint8_t)table,
        .index = (uint8_t)model_index_of(table, uuid_column, text_column),
        .uuid = *uuid,
        .text = text,
    };
    return next_row(emit, read_node(emit, &key), 1u + key.index, NULL);
}

const struct state_net_host *
emit_host(struct emit *emit, const char *name)
{
    static const struct weft_uuid nil = { { 0 } };
    const struct state_row *row =
        find_by_text(emit, STATE_TABLE_NET_HOST, 0, &nil,
                     STATE_NET_HOST_COL_HOST, name);
    return row == NULL ? NULL : state_net_host_from(row);
}

const struct state_address *
emit_find_address(struct emit *emit, const struct weft_uuid *network,
                  const char *ip)
{
    const struct state_row *row =
        find_by_text(emit, STATE_TABLE_ADDRESS, STATE_ADDRESS_COL_NETWORK,
                     network, STATE_ADDRESS_COL_IP, ip);
    return row == NULL ? NULL : state_address_from(row);
}

/* ---- Local ports ---- */

static const struct local_port *
read_local(struct emit *emit, struct local_node *local)
{
    depend_on(emit, &local->node);
    return local->is_present ? &local->local : NULL;
}

const struct local_port *
emit_local(struct emit *emit, const struct weft_uuid *port)
{
    const struct node_key key = { .kind = NODE_LOCAL,
                                  .uuid = *port,
                                  .text = "" };
    if (uuid_is_nil(port)) {
        return NULL;
    }
    struct node *node = read_node(emit, &key);
    return node == NULL ? NULL : read_local(emit, local_node_of(node));
}

static const struct local_port *
next_local(struct emit *emit, enum local_index index,
           const struct weft_uuid *value, const struct local_port *previous)
{
    const struct node_key key = {
        .kind = NODE_LOCALS, .index = (uint8_t)index, .uuid = *value, .text = ""
    };
    struct tree_link *link;

    if (uuid_is_nil(value)) {
        return NULL;
    }
    struct node *set = read_node(emit, &key);
    if (set == NULL) {
        return NULL;
    }
    if (previous == NULL) {
        link = tree_first(&set_node_of(set)->members);
    } else {
        struct local_node *local =
            model_find_local(emit->compile, &previous->port);
        CHECK(local != NULL);
        link = tree_next(&local->links[1 + index]);
    }
    return link == NULL
               ? NULL
               : read_local(emit, model_local_of_link(link, 1u + index));
}

const struct local_port *
emit_next_local_of_network(struct emit *emit, const struct weft_uuid *network,
                           const struct local_port *previous)
{
    return next_local(emit, LOCALS_OF_NETWORK, network, previous);
}

const struct local_port *
emit_next_local_of_identity(struct emit *emit, const struct weft_uuid *identity,
                            const struct local_port *previous)
{
    return next_local(emit, LOCALS_OF_IDENTITY, identity, previous);
}

const struct compile_self *
emit_self(struct emit *emit)
{
    depend_on(emit, emit->compile->self_node);
    return &emit->compile->self;
}

/* ---- Whether there are any ---- */

/* How many are in the set of 'key'; the dependency is on 'kind' alone, which
 * stands for a fact about that number. */
static size_t
read_count(struct emit *emit, const struct node_key *key, uint8_t kind)
{
    struct node_key fact = *key;
    fact.kind = kind;
    (void)read_node(emit, &fact);

    struct node *set = model_find(emit->compile, key);
    return set == NULL ? 0 : set_node_of(set)->members.count;
}

static bool
read_any(struct emit *emit, const struct node_key *key)
{
    return read_count(emit, key,
                      key->kind == NODE_INDEX ? NODE_ANY : NODE_ANY_LOCAL) > 0;
}

bool
emit_has_local_of_identity(struct emit *emit, const struct weft_uuid *identity)
{
    const struct node_key key = { .kind = NODE_LOCALS,
                                  .index = LOCALS_OF_IDENTITY,
                                  .uuid = *identity,
                                  .text = "" };
    return read_any(emit, &key);
}

bool
emit_has_out_rule(struct emit *emit, const struct weft_uuid *group)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = STATE_TABLE_SECURITY_RULE,
        .index =
            (uint8_t)model_index_of_filter(STATE_TABLE_SECURITY_RULE,
                                           STATE_SECURITY_RULE_COL_GROUP,
                                           STATE_SECURITY_RULE_COL_DIRECTION),
        .uuid = *group,
        .text = "",
    };
    return read_any(emit, &key);
}

bool
emit_has_many_rules(struct emit *emit, const struct weft_uuid *group)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = STATE_TABLE_SECURITY_RULE,
        .index = (uint8_t)model_index_of(STATE_TABLE_SECURITY_RULE,
                                         STATE_SECURITY_RULE_COL_GROUP, 0),
        .uuid = *group,
        .text = "",
    };
    return read_count(emit, &key, NODE_MANY) > MODEL_MANY;
}

bool
emit_has_out_rule_to_group(struct emit *emit)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = STATE_TABLE_SECURITY_RULE,
        .index = (uint8_t)
            model_index_of_filter(STATE_TABLE_SECURITY_RULE, 0,
                                  STATE_SECURITY_RULE_COL_DIRECTION |
                                      STATE_SECURITY_RULE_COL_PEER_GROUP),
        .text = "",
    };
    return read_any(emit, &key);
}

bool
emit_has_flood_network(struct emit *emit)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = STATE_TABLE_NETWORK,
        .index = (uint8_t)model_index_of_filter(STATE_TABLE_NETWORK, 0,
                                                STATE_NETWORK_COL_FLOOD),
        .text = "",
    };
    return read_any(emit, &key);
}

static bool
has_text(struct emit *emit, enum state_table table, uint64_t uuid_column,
         const struct weft_uuid *uuid, uint64_t text_column, const char *text)
{
    const struct node_key key = {
        .kind = NODE_INDEX,
        .table = (uint8_t)table,
        .index = (uint8_t)model_index_of(table, uuid_column, text_column),
        .uuid = *uuid,
        .text = text,
    };
    return read_any(emit, &key);
}

bool
emit_has_port_at(struct emit *emit, const struct weft_uuid *network,
                 const char *host)
{
    return has_text(emit, STATE_TABLE_PORT, STATE_PORT_COL_NETWORK, network,
                    STATE_PORT_COL_HOST, host);
}

bool
emit_has_port_coming_to(struct emit *emit, const struct weft_uuid *network,
                        const char *host)
{
    return has_text(emit, STATE_TABLE_PORT, STATE_PORT_COL_NETWORK, network,
                    STATE_PORT_COL_MIGRATE_HOST, host);
}

bool
emit_has_binding_at(struct emit *emit, const struct weft_uuid *network,
                    const char *host)
{
    return has_text(emit, STATE_TABLE_BINDING, STATE_BINDING_COL_NETWORK,
                    network, STATE_BINDING_COL_HOST, host);
}

/* ---- Writing ---- */

void
emit_flow(struct emit *emit, struct flow_builder *builder)
{
    unit_add_flow(emit, flow_finish(builder));
}
