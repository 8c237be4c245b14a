/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_MODEL_H
#define NETD_COMPILE_MODEL_H

/* Private to netd/compile: the model, and who read what of it.
 *
 * Whatever can be read on its own is a *node*: a row (present or not), the
 * members of an index entry, all rows of a table, a local port, the local ports
 * of a network or identity, the facts of this host.  A node that somebody read
 * while nothing was there exists too: it is what makes the reader run again
 * when something comes.
 *
 *     node  <--- edge ("read by") ---  unit (emitter, subject)
 *
 * (1) An edge exists for each node that the last emission of a unit read, once.
 * (2) A node without content and without edges is freed.
 * (3) A unit's subject (its row or local port) needs no edge: its units are
 *     made dirty directly.
 * (4) Changing a node's content makes its readers dirty; it never runs them. */

#include "lib/base/container_of.h"
#include "lib/state/row_class.h"
#include "netd/compile/emit.h"
#include "netd/compile/tree.h"

#define MODEL_INDEX_MAX 6 /* Of one table; besides the list of all rows. */

#define MODEL_MANY 1500u

enum node_kind {
    NODE_ROW,       /* table, uuid */
    NODE_TABLE,     /* table */
    NODE_INDEX,     /* table, index, uuid, text */
    NODE_ANY,       /* Likewise: whether that index entry has any members. */
    NODE_MANY,      /* Likewise: whether it has more than MODEL_MANY. */
    NODE_LOCAL,     /* uuid of the port */
    NODE_LOCALS,    /* index: enum local_index, uuid */
    NODE_ANY_LOCAL, /* Likewise: whether there are any. */
    NODE_SELF,
};

enum local_index {
    LOCALS_OF_NETWORK,
    LOCALS_OF_IDENTITY,
    LOCAL_INDEX_COUNT,
};

struct node_key {
    uint8_t kind;
    uint8_t table;
    uint8_t index;
    struct weft_uuid uuid;
    const char *text; /* "" but in indexes with a text column. */
};

struct edge {
    struct node *node;
    struct unit *unit;
    struct edge *node_next, *node_previous;
    struct edge *unit_next;
};

struct node {
    struct node *hash_next;
    struct node_key key; /* The text is the node's own. */
    uint32_t hash;
    struct edge *readers;
    uint64_t mark; /* Number of the emission that read it last. */
};

/* NODE_TABLE, NODE_INDEX, NODE_LOCALS. */
struct set_node {
    struct node node;
    struct tree members;
};

struct unit {
    struct node *subject; /* row_node or local_node; NULL: base. */
    struct edge *reads;
    struct flow_spec **flows; /* Sorted; owns a reference of each. */
    uint64_t id;
    uint32_t flow_count;
    uint16_t emitter; /* In compile->emitters. */
    bool is_dirty;
};

struct row_node {
    struct node node;
    struct state_row *row;    /* NULL: there is none. */
    struct unit *units;       /* One per emitter of the table; or NULL. */
    bool is_dying;            /* Is in compile->dying. */
    struct tree_link links[]; /* [0]: all of the table; then the indexes. */
};

struct local_node {
    struct node node;
    bool is_present;
    bool is_dying;
    bool is_concerned; /* Within compile_concerned(). */
    struct local_port local;
    struct unit *units;
    struct weft_uuid keys[LOCAL_INDEX_COUNT];      /* Nil: in no set. */
    struct tree_link links[1 + LOCAL_INDEX_COUNT]; /* [0]: all; the indexes. */
};

/* An index: equal values in a reference column (or none), and in a text column
 * (or none); of all rows, or those that a filter passes. */
struct model_index {
    uint64_t uuid_column; /* One bit, or 0. */
    uint64_t text_column;
    uint64_t filter_columns; /* What 'filter' looks at; 0: no filter. */
    bool (*filter)(const struct state_row *row);
};

struct model_table {
    enum state_table table;
    struct model_index indexes[MODEL_INDEX_MAX]; /* Up to the first of zeros. */
};

/* The emitters of one scope and table. */
struct emitter_set {
    uint16_t *emitters;
    size_t count;
};

struct edge_chunk;

struct compile {
    struct compile_sink *sink; /* Borrowed. */
    const struct emitter *const *emitters;
    size_t emitter_count;
    struct emitter_set row_emitters[STATE_TABLE_COUNT];
    struct emitter_set local_emitters;
    struct emitter_set base_emitters;

    struct compile_self self;
    struct node *self_node;
    struct unit *base_units;

    /* All nodes but the self node. */
    struct node **buckets;
    size_t bucket_count; /* A power of two. */
    size_t node_count;
    struct set_node *tables[STATE_TABLE_COUNT]; /* NULL: not kept. */
    struct tree locals;

    struct edge_chunk *chunks;
    struct edge *free_edges;
    size_t edge_count;

    struct unit **dirty;
    size_t dirty_count, dirty_capacity;
    struct node **dying; /* Lost their content; units are still to go. */
    size_t dying_count, dying_capacity;

    uint64_t last_unit;
    uint64_t last_mark;
    struct compile_counts counts;
};

struct emit {
    struct compile *compile;
    struct unit *unit; /* NULL: the oracle, which leaves no edges. */
    uint64_t mark;     /* Which emission this is. */
    struct flow_spec **flows;
    size_t count, capacity;
};

/* ---- model.c ---- */

void model_init(struct compile *compile);
void model_done(struct compile *compile);

/* NULL: 'table' is not kept. */
const struct model_table *model_table_of(enum state_table table);
unsigned model_index_count(const struct model_table *table);
/* The number of the index over just these columns, from 0; CHECK if none. */
unsigned model_index_of(enum state_table table, uint64_t uuid_column,
                        uint64_t text_column);
/* That of the index with this filter. */
unsigned model_index_of_filter(enum state_table table, uint64_t uuid_column,
                               uint64_t filter_columns);

struct node *model_find(const struct compile *compile,
                        const struct node_key *key);
struct node *model_find_or_add(struct compile *compile,
                               const struct node_key *key);
/* Frees it if nothing needs it any more (2). */
void model_release(struct compile *compile, struct node *node);

/* 'number' is that of the link in 'links'. */
struct row_node *model_row_of_link(struct tree_link *link, unsigned number);
struct local_node *model_local_of_link(struct tree_link *link, unsigned number);
struct row_node *model_find_row(const struct compile *compile,
                                enum state_table table,
                                const struct weft_uuid *uuid);
struct local_node *model_find_local(const struct compile *compile,
                                    const struct weft_uuid *port);

static inline struct row_node *
row_node_of(struct node *node)
{
    CHECK(node->key.kind == NODE_ROW);
    return container_of(node, struct row_node, node);
}

static inline struct local_node *
local_node_of(struct node *node)
{
    CHECK(node->key.kind == NODE_LOCAL);
    return container_of(node, struct local_node, node);
}

static inline struct set_node *
set_node_of(struct node *node)
{
    CHECK(node->key.kind == NODE_TABLE || node->key.kind == NODE_INDEX ||
          node->key.kind == NODE_LOCALS);
    return container_of(node, struct set_node, node);
}

/* ---- depend.c ---- */

/* The unit at work reads 'node'. */
void depend_on(struct emit *emit, struct node *node);
void depend_drop(struct compile *compile, struct edge *reads);
void depend_touch(struct compile *compile, struct node *node);
void depend_touch_unit(struct compile *compile, struct unit *unit);
void depend_done(struct compile *compile);

/* ---- unit.c ---- */

void unit_init(struct compile *compile);
void unit_done(struct compile *compile);

/* Makes the units of a new subject, all dirty. */
struct unit *unit_new_all(struct compile *compile, struct node *subject,
                          const struct emitter_set *set);
void unit_touch_all(struct compile *compile, struct unit *units,
                    const struct emitter_set *set);
/* 'subject' has lost its content: its units go after the next run. */
void unit_subject_dies(struct compile *compile, struct node *subject);
/* Takes the reference. */
void unit_add_flow(struct emit *emit, struct flow_spec *flow);
/* Without telling the sink: at the end. */
void unit_free_all(struct compile *compile, struct unit *units,
                   const struct emitter_set *set);

#endif /* NETD_COMPILE_MODEL_H */
