/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "netd/compile/model.h"

/* Whom it concerns that some units' flows are not in the switch. */

static bool
is_among(const uint64_t *units, size_t count, uint64_t unit)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (units[middle] < unit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && units[low] == unit;
}

static void
mark(struct node *node)
{
    local_node_of(node)->is_concerned = local_node_of(node)->is_present;
}

static void
mark_set(struct compile *compile, const struct node_key *fact)
{
    struct node_key key = *fact;
    key.kind = NODE_LOCALS;

    struct node *set = model_find(compile, &key);
    if (set == NULL) {
        return;
    }
    struct tree_link *link = tree_first(&set_node_of(set)->members);
    for (; link != NULL; link = tree_next(link)) {
        model_local_of_link(link, 1u + key.index)->is_concerned = true;
    }
}

static void
mark_of_unit(struct compile *compile, const struct unit *unit)
{
    if (unit->subject->key.kind == NODE_LOCAL) {
        mark(unit->subject);
    }
    for (const struct edge *edge = unit->reads; edge != NULL;
         edge = edge->unit_next) {
        uint8_t kind = edge->node->key.kind;
        if (kind == NODE_LOCAL) {
            mark(edge->node);
        } else if (kind == NODE_LOCALS || kind == NODE_ANY_LOCAL) {
            mark_set(compile, &edge->node->key);
        }
    }
}

/* Those of a row or local port. */
static void
mark_of_node(struct compile *compile, struct node *node, const uint64_t *units,
             size_t count)
{
    const struct unit *mine = NULL;
    size_t mine_count = 0;

    if (node->key.kind == NODE_ROW) {
        mine = row_node_of(node)->units;
        mine_count = compile->row_emitters[node->key.table].count;
    } else if (node->key.kind == NODE_LOCAL) {
        mine = local_node_of(node)->units;
        mine_count = compile->local_emitters.count;
    }
    for (size_t i = 0; mine != NULL && i < mine_count; i++) {
        if (is_among(units, count, mine[i].id)) {
            mark_of_unit(compile, &mine[i]);
        }
    }
}

static bool
is_about_all(const struct compile *compile, const uint64_t *units, size_t count)
{
    for (size_t i = 0; i < compile->base_emitters.count; i++) {
        if (is_among(units, count, compile->base_units[i].id)) {
            return true;
        }
    }
    return false;
}

size_t
compile_concerned(struct compile *compile, const uint64_t *units, size_t count,
                  struct weft_uuid **ret_ports)
{
    bool is_all = is_about_all(compile, units, count);
    struct weft_uuid *ports =
        state_alloc((compile->locals.count + 1) * sizeof *ports);
    struct tree_link *link;
    size_t found = 0;

    for (size_t i = 0; i < compile->bucket_count && count > 0; i++) {
        struct node *node = compile->buckets[i];
        for (; node != NULL; node = node->hash_next) {
            mark_of_node(compile, node, units, count);
        }
    }
    for (link = tree_first(&compile->locals); link != NULL;
         link = tree_next(link)) {
        struct local_node *local = model_local_of_link(link, 0);
        if (local->is_concerned || is_all) {
            ports[found++] = local->node.key.uuid;
        }
        local->is_concerned = false;
    }
    *ret_ports = ports;
    return found;
}
