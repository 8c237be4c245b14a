/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/model.h"

#include <stdlib.h>
#include <string.h>

/* Nodes by key, and which tables and indexes there are. */

static bool
is_out_rule(const struct state_row *row)
{
    return state_security_rule_from(row)->direction ==
           STATE_SECURITY_RULE_DIRECTION_OUT;
}

static bool
is_out_rule_to_group(const struct state_row *row)
{
    return is_out_rule(row) &&
           !uuid_is_nil(&state_security_rule_from(row)->peer_group);
}

static bool
is_flood_network(const struct state_row *row)
{
    return state_network_from(row)->flood;
}

/* Adding an index costs 32 bytes a row, and a node per distinct value. */
static const struct model_table model_tables[] = {
    { STATE_TABLE_NET_HOST, { { .text_column = STATE_NET_HOST_COL_HOST } } },
    { STATE_TABLE_NETWORK,
      { { .filter_columns = STATE_NETWORK_COL_FLOOD,
          .filter = is_flood_network } } },
    { STATE_TABLE_NETWORK_ROUTE,
      { { .uuid_column = STATE_NETWORK_ROUTE_COL_NETWORK },
        { .uuid_column = STATE_NETWORK_ROUTE_COL_ROUTER } } },
    { STATE_TABLE_SUBNET, { { .uuid_column = STATE_SUBNET_COL_NETWORK } } },
    { STATE_TABLE_MAC,
      { { .uuid_column = STATE_MAC_COL_OWNER },
        { .uuid_column = STATE_MAC_COL_NETWORK },
        { .uuid_column = STATE_MAC_COL_NETWORK,
          .text_column = STATE_MAC_COL_MAC } } },
    { STATE_TABLE_PORT,
      { { .uuid_column = STATE_PORT_COL_NETWORK },
        { .uuid_column = STATE_PORT_COL_IDENTITY },
        { .uuid_column = STATE_PORT_COL_NETWORK,
          .text_column = STATE_PORT_COL_HOST },
        { .uuid_column = STATE_PORT_COL_NETWORK,
          .text_column = STATE_PORT_COL_MIGRATE_HOST } } },
    { STATE_TABLE_ADDRESS,
      { { .uuid_column = STATE_ADDRESS_COL_NETWORK },
        { .uuid_column = STATE_ADDRESS_COL_SUBNET },
        { .uuid_column = STATE_ADDRESS_COL_PORT },
        { .uuid_column = STATE_ADDRESS_COL_ROUTER_PORT },
        { .uuid_column = STATE_ADDRESS_COL_NETWORK,
          .text_column = STATE_ADDRESS_COL_IP } } },
    { STATE_TABLE_BINDING,
      { { .uuid_column = STATE_BINDING_COL_PORT },
        { .uuid_column = STATE_BINDING_COL_NETWORK,
          .text_column = STATE_BINDING_COL_HOST } } },
    { STATE_TABLE_PLUG, { { .uuid_column = STATE_PLUG_COL_PORT } } },
    { STATE_TABLE_SECURITY_GROUP, { { 0 } } },
    { STATE_TABLE_SECURITY_RULE,
      { { .uuid_column = STATE_SECURITY_RULE_COL_GROUP },
        { .uuid_column = STATE_SECURITY_RULE_COL_PEER_GROUP },
        { .uuid_column = STATE_SECURITY_RULE_COL_GROUP,
          .filter_columns = STATE_SECURITY_RULE_COL_DIRECTION,
          .filter = is_out_rule },
        { .filter_columns = STATE_SECURITY_RULE_COL_DIRECTION |
                            STATE_SECURITY_RULE_COL_PEER_GROUP,
          .filter = is_out_rule_to_group } } },
    { STATE_TABLE_IDENTITY, { { 0 } } },
    { STATE_TABLE_IDENTITY_MEMBER,
      { { .uuid_column = STATE_IDENTITY_MEMBER_COL_IDENTITY },
        { .uuid_column = STATE_IDENTITY_MEMBER_COL_GROUP } } },
    { STATE_TABLE_ROUTER, { { 0 } } },
    { STATE_TABLE_ROUTER_PORT,
      { { .uuid_column = STATE_ROUTER_PORT_COL_ROUTER },
        { .uuid_column = STATE_ROUTER_PORT_COL_SUBNET },
        { .uuid_column = STATE_ROUTER_PORT_COL_NETWORK } } },
};

const struct model_table *
model_table_of(enum state_table table)
{
    for (size_t i = 0; i < sizeof model_tables / sizeof model_tables[0]; i++) {
        if (model_tables[i].table == table) {
            return &model_tables[i];
        }
    }
    return NULL;
}

unsigned
model_index_count(const struct model_table *table)
{
    unsigned count = 0;
    while (count < MODEL_INDEX_MAX &&
           (table->indexes[count].uuid_column |
            table->indexes[count].text_column |
            table->indexes[count].filter_columns) != 0) {
        count++;
    }
    return count;
}

unsigned
model_index_of(enum state_table table, uint64_t uuid_column,
               uint64_t text_column)
{
    const struct model_table *model_table = model_table_of(table);

    CHECK(model_table != NULL);
    for (unsigned i = 0; i < model_index_count(model_table); i++) {
        const struct model_index *index = &model_table->indexes[i];
        if (index->uuid_column == uuid_column &&
            index->text_column == text_column && index->filter_columns == 0) {
            return i;
        }
    }
    CHECK(!"the column is not indexed; see model_tables");
    return 0;
}

unsigned
model_index_of_filter(enum state_table table, uint64_t uuid_column,
                      uint64_t filter_columns)
{
    const struct model_table *model_table = model_table_of(table);

    CHECK(model_table != NULL);
    for (unsigned i = 0; i < model_index_count(model_table); i++) {
        if (model_table->indexes[i].uuid_column == uuid_column &&
            model_table->indexes[i].filter_columns == filter_columns) {
            return i;
        }
    }
    CHECK(!"there is no such filter; see model_tables");
    return 0;
}

/* ---- Nodes ---- */

static uint32_t
hash_of(const struct node_key *key)
{
    uint64_t high, low;
    memcpy(&high, key->uuid.bytes, sizeof high);
    memcpy(&low, key->uuid.bytes + 8, sizeof low);

    uint64_t hash =
        (uint64_t)key->kind << 16 | (uint64_t)key->table << 8 | key->index;
    hash = (hash ^ high) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 32 ^ low) * UINT64_C(0xbf58476d1ce4e5b9);
    for (const char *at = key->text; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(hash ^ hash >> 32);
}

static bool
is_key(const struct node *node, const struct node_key *key, uint32_t hash)
{
    return node->hash == hash && node->key.kind == key->kind &&
           node->key.table == key->table && node->key.index == key->index &&
           uuid_equal(&node->key.uuid, &key->uuid) &&
           strcmp(node->key.text, key->text) == 0;
}

static struct node **
bucket_of(const struct compile *compile, uint32_t hash)
{
    return &compile->buckets[hash & (compile->bucket_count - 1)];
}

struct node *
model_find(const struct compile *compile, const struct node_key *key)
{
    uint32_t hash = hash_of(key);
    struct node *node = *bucket_of(compile, hash);
    while (node != NULL && !is_key(node, key, hash)) {
        node = node->hash_next;
    }
    return node;
}

static void
grow(struct compile *compile)
{
    struct node **old = compile->buckets;
    size_t old_count = compile->bucket_count;

    compile->bucket_count *= 2;
    compile->buckets =
        state_alloc(compile->bucket_count * sizeof compile->buckets[0]);
    for (size_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct node *node = old[i];
            old[i] = node->hash_next;
            struct node **bucket = bucket_of(compile, node->hash);
            node->hash_next = *bucket;
            *bucket = node;
        }
    }
    free(old);
}

static struct node *
node_alloc(const struct node_key *key)
{
    switch ((enum node_kind)key->kind) {
    case NODE_ROW: {
        const struct model_table *table =
            model_table_of((enum state_table)key->table);
        CHECK(table != NULL);
        struct row_node *row =
            state_alloc(sizeof *row +
                        (1 + model_index_count(table)) * sizeof row->links[0]);
        return &row->node;
    }
    case NODE_LOCAL: {
        struct local_node *local = state_alloc(sizeof *local);
        return &local->node;
    }
    case NODE_TABLE:
    case NODE_INDEX:
    case NODE_LOCALS: {
        struct set_node *set = state_alloc(sizeof *set);
        return &set->node;
    }
    case NODE_ANY:
    case NODE_MANY:
    case NODE_ANY_LOCAL:
    case NODE_SELF:
        return state_alloc(sizeof(struct node));
    }
    CHECK(!"a kind of node");
    return NULL;
}

struct node *
model_find_or_add(struct compile *compile, const struct node_key *key)
{
    struct node *node = model_find(compile, key);
    if (node != NULL) {
        return node;
    }

    node = node_alloc(key);
    node->key = *key;
    node->key.text = key->text[0] == '\0' ? "" : state_strdup(key->text);
    node->hash = hash_of(key);
    if (compile->node_count >= compile->bucket_count) {
        grow(compile);
    }
    struct node **bucket = bucket_of(compile, node->hash);
    node->hash_next = *bucket;
    *bucket = node;
    compile->node_count++;
    return node;
}

static bool
is_needed(struct node *node)
{
    switch ((enum node_kind)node->key.kind) {
    case NODE_ROW:
        return row_node_of(node)->row != NULL ||
               row_node_of(node)->units != NULL;
    case NODE_LOCAL:
        return local_node_of(node)->is_present ||
               local_node_of(node)->units != NULL;
    case NODE_INDEX:
    case NODE_LOCALS:
        return set_node_of(node)->members.count > 0;
    case NODE_ANY:
    case NODE_MANY:
    case NODE_ANY_LOCAL:
        return false;
    case NODE_TABLE:
    case NODE_SELF:
        return true; /* One each, from first to last. */
    }
    CHECK(!"a kind of node");
    return true;
}

static void
node_free(struct node *node)
{
    union {
        const char *borrowed;
        char *owned;
    } text = { .borrowed = node->key.text };

    if (text.borrowed[0] != '\0') {
        free(text.owned);
    }
    free(node); /* The first member of each kind. */
}

void
model_release(struct compile *compile, struct node *node)
{
    if (node->readers != NULL || is_needed(node)) {
        return;
    }

    struct node **place = bucket_of(compile, node->hash);
    while (*place != node) {
        place = &(*place)->hash_next;
    }
    *place = node->hash_next;
    compile->node_count--;
    node_free(node);
}

struct row_node *
model_row_of_link(struct tree_link *link, unsigned number)
{
    char *at = (char *)link;
    return (struct row_node *)(void *)(at - offsetof(struct row_node, links) -
                                       number * sizeof *link);
}

struct local_node *
model_local_of_link(struct tree_link *link, unsigned number)
{
    char *at = (char *)link;
    return (struct local_node *)(void *)(at -
                                         offsetof(struct local_node, links) -
                                         number * sizeof *link);
}

struct row_node *
model_find_row(const struct compile *compile, enum state_table table,
               const struct weft_uuid *uuid)
{
    const struct node_key key = {
        .kind = NODE_ROW, .table = (uint8_t)table, .uuid = *uuid, .text = ""
    };
    struct node *node = model_find(compile, &key);
    return node == NULL ? NULL : row_node_of(node);
}

struct local_node *
model_find_local(const struct compile *compile, const struct weft_uuid *port)
{
    const struct node_key key = { .kind = NODE_LOCAL,
                                  .uuid = *port,
                                  .text = "" };
    struct node *node = model_find(compile, &key);
    return node == NULL ? NULL : local_node_of(node);
}

/* ---- From first to last ---- */

void
model_init(struct compile *compile)
{
    compile->bucket_count = 64;
    compile->buckets =
        state_alloc(compile->bucket_count * sizeof compile->buckets[0]);
    for (size_t i = 0; i < sizeof model_tables / sizeof model_tables[0]; i++) {
        enum state_table table = model_tables[i].table;
        const struct node_key key = { .kind = NODE_TABLE,
                                      .table = (uint8_t)table,
                                      .text = "" };
        compile->tables[table] = set_node_of(model_find_or_add(compile, &key));
    }
    const struct node_key key = { .kind = NODE_SELF, .text = "" };
    compile->self_node = model_find_or_add(compile, &key);
}

static void
free_content(struct compile *compile, struct node *node)
{
    if (node->key.kind == NODE_ROW) {
        struct row_node *row = row_node_of(node);
        unit_free_all(compile, row->units,
                      &compile->row_emitters[node->key.table]);
        state_row_free(row->row);
    } else if (node->key.kind == NODE_LOCAL) {
        unit_free_all(compile, local_node_of(node)->units,
                      &compile->local_emitters);
    }
}

void
model_done(struct compile *compile)
{
    for (size_t i = 0; i < compile->bucket_count; i++) {
        while (compile->buckets[i] != NULL) {
            struct node *node = compile->buckets[i];
            compile->buckets[i] = node->hash_next;
            free_content(compile, node);
            node_free(node);
        }
    }
    free(compile->buckets);
}
