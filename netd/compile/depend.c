/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/model.h"

#include <stdlib.h>

/* Edges, out of chunks that are kept until the end: there are a few for each
 * port of each network here, and they come and go with each emission. */

#define CHUNK_EDGES 1024u

struct edge_chunk {
    struct edge_chunk *next;
    struct edge edges[CHUNK_EDGES];
};

static struct edge *
edge_get(struct compile *compile)
{
    if (compile->free_edges == NULL) {
        struct edge_chunk *chunk = state_alloc(sizeof *chunk);
        chunk->next = compile->chunks;
        compile->chunks = chunk;
        for (size_t i = CHUNK_EDGES; i-- > 0;) {
            chunk->edges[i].unit_next = compile->free_edges;
            compile->free_edges = &chunk->edges[i];
        }
    }

    struct edge *edge = compile->free_edges;
    compile->free_edges = edge->unit_next;
    compile->edge_count++;
    return edge;
}

void
depend_on(struct emit *emit, struct node *node)
{
    if (emit->unit == NULL || node->mark == emit->mark) {
        return;
    }
    node->mark = emit->mark;

    struct edge *edge = edge_get(emit->compile);
    *edge = (struct edge){ .node = node,
                           .unit = emit->unit,
                           .node_next = node->readers,
                           .unit_next = emit->unit->reads };
    if (node->readers != NULL) {
        node->readers->node_previous = edge;
    }
    node->readers = edge;
    emit->unit->reads = edge;
}

void
depend_drop(struct compile *compile, struct edge *reads)
{
    while (reads != NULL) {
        struct edge *edge = reads;
        struct node *node = edge->node;
        reads = edge->unit_next;

        if (edge->node_previous == NULL) {
            node->readers = edge->node_next;
        } else {
            edge->node_previous->node_next = edge->node_next;
        }
        if (edge->node_next != NULL) {
            edge->node_next->node_previous = edge->node_previous;
        }
        edge->unit_next = compile->free_edges;
        compile->free_edges = edge;
        compile->edge_count--;
        if (node->readers == NULL) {
            model_release(compile, node);
        }
    }
}

void
depend_touch_unit(struct compile *compile, struct unit *unit)
{
    if (unit->is_dirty) {
        return;
    }
    unit->is_dirty = true;
    if (compile->dirty_count == compile->dirty_capacity) {
        compile->dirty_capacity = compile->dirty_capacity * 2 + 64;
        compile->dirty = realloc(compile->dirty, compile->dirty_capacity *
                                                     sizeof compile->dirty[0]);
        CHECK(compile->dirty != NULL);
    }
    compile->dirty[compile->dirty_count++] = unit;
}

void
depend_touch(struct compile *compile, struct node *node)
{
    for (struct edge *edge = node->readers; edge != NULL;
         edge = edge->node_next) {
        depend_touch_unit(compile, edge->unit);
    }
}

void
depend_done(struct compile *compile)
{
    while (compile->chunks != NULL) {
        struct edge_chunk *chunk = compile->chunks;
        compile->chunks = chunk->next;
        free(chunk);
    }
    compile->free_edges = NULL;
    free(compile->dirty);
    compile->dirty = NULL;
}
