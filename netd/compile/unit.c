/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "netd/compile/model.h"

/* Units: running emitters, and telling the sink what came out. */

#define CONFLICTS_LOGGED 20u

static void
set_add(struct emitter_set *set, uint16_t emitter)
{
    set->emitters =
        realloc(set->emitters, (set->count + 1) * sizeof set->emitters[0]);
    CHECK(set->emitters != NULL);
    set->emitters[set->count++] = emitter;
}

void
unit_init(struct compile *compile)
{
    for (uint16_t i = 0; i < compile->emitter_count; i++) {
        const struct emitter *emitter = compile->emitters[i];
        switch (emitter->scope) {
        case EMIT_BASE:
            CHECK(emitter->emit_base != NULL);
            set_add(&compile->base_emitters, i);
            break;
        case EMIT_ROWS:
            CHECK(emitter->emit != NULL);
            CHECK(model_table_of(emitter->table) != NULL);
            set_add(&compile->row_emitters[emitter->table], i);
            break;
        case EMIT_LOCAL:
            CHECK(emitter->emit_local != NULL);
            set_add(&compile->local_emitters, i);
            break;
        }
    }
}

void
unit_done(struct compile *compile)
{
    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        free(compile->row_emitters[i].emitters);
    }
    free(compile->local_emitters.emitters);
    free(compile->base_emitters.emitters);
    free(compile->dying);
}

struct unit *
unit_new_all(struct compile *compile, struct node *subject,
             const struct emitter_set *set)
{
    if (set->count == 0) {
        return NULL;
    }

    struct unit *units = state_alloc(set->count * sizeof *units);
    for (size_t i = 0; i < set->count; i++) {
        units[i].subject = subject;
        units[i].emitter = set->emitters[i];
        units[i].id = ++compile->last_unit;
        depend_touch_unit(compile, &units[i]);
    }
    compile->counts.units += set->count;
    return units;
}

void
unit_touch_all(struct compile *compile, struct unit *units,
               const struct emitter_set *set)
{
    for (size_t i = 0; units != NULL && i < set->count; i++) {
        depend_touch_unit(compile, &units[i]);
    }
}

static void
free_flows(struct flow_spec **flows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        flow_spec_unref(flows[i]);
    }
    free(flows);
}

void
unit_free_all(struct compile *compile, struct unit *units,
              const struct emitter_set *set)
{
    if (units == NULL) {
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        compile->counts.flows -= units[i].flow_count;
        free_flows(units[i].flows, units[i].flow_count);
    }
    compile->counts.units -= set->count;
    free(units);
}

void
unit_subject_dies(struct compile *compile, struct node *subject)
{
    bool *is_dying = subject->key.kind == NODE_ROW
                         ? &row_node_of(subject)->is_dying
                         : &local_node_of(subject)->is_dying;
    bool has_units = subject->key.kind == NODE_ROW
                         ? row_node_of(subject)->units != NULL
                         : local_node_of(subject)->units != NULL;

    if (!has_units) {
        model_release(compile, subject);
        return;
    }
    if (*is_dying) {
        return;
    }
    *is_dying = true;
    if (compile->dying_count == compile->dying_capacity) {
        compile->dying_capacity = compile->dying_capacity * 2 + 16;
        compile->dying = realloc(compile->dying, compile->dying_capacity *
                                                     sizeof compile->dying[0]);
        CHECK(compile->dying != NULL);
    }
    compile->dying[compile->dying_count++] = subject;
}

/* ---- Emitting ---- */

void
unit_add_flow(struct emit *emit, struct flow_spec *flow)
{
    if (emit->count == emit->capacity) {
        emit->capacity = emit->capacity * 2 + 8;
        emit->flows =
            realloc(emit->flows, emit->capacity * sizeof emit->flows[0]);
        CHECK(emit->flows != NULL);
    }
    emit->flows[emit->count++] = flow;
}

static int
compare_flows(const void *a, const void *b)
{
    struct flow_spec *const *x = a;
    struct flow_spec *const *y = b;
    return flow_spec_compare(*x, *y);
}

static void
report_conflict(struct emit *emit, const char *emitter,
                const struct flow_spec *kept, const struct flow_spec *left_out)
{
    char kept_text[600], left_out_text[600];

    if (emit->unit == NULL ||
        emit->compile->counts.conflicts++ >= CONFLICTS_LOGGED) {
        return;
    }
    flow_spec_format(kept, kept_text, sizeof kept_text);
    flow_spec_format(left_out, left_out_text, sizeof left_out_text);
    log_error("compile",
              "flow left out, contradiction emitter=%s kept=%s left_out=%s",
              emitter, kept_text, left_out_text);
}

/* Two flows of one key in one unit: the same, or conjunctions.  Anything else
 * is a mistake in the emitter, or rows that the database's indexes should have
 * refused: that must not end netd and the work of all other units, so one of
 * the flows is taken, always the same, and it is counted. */
static struct flow_spec *
join_flows(struct emit *emit, const char *emitter, struct flow_spec *a,
           struct flow_spec *b)
{
    struct flow_spec *merged;

    if (flow_spec_same_actions(a, b)) {
        flow_spec_unref(b);
        return a;
    }
    if (!flow_spec_is_conjunctive(a) || !flow_spec_is_conjunctive(b)) {
        report_conflict(emit, emitter, a, b);
        flow_spec_unref(b);
        return a;
    }
    merged = flow_spec_merge(a, b);
    flow_spec_unref(a);
    flow_spec_unref(b);
    return merged;
}

static void
sort_flows(struct emit *emit, const char *emitter)
{
    size_t left = 0;

    if (emit->count > 0) {
        qsort(emit->flows, emit->count, sizeof emit->flows[0], compare_flows);
    }
    for (size_t i = 0; i < emit->count; i++) {
        if (left > 0 &&
            flow_spec_same_key(emit->flows[left - 1], emit->flows[i])) {
            emit->flows[left - 1] =
                join_flows(emit, emitter, emit->flows[left - 1],
                           emit->flows[i]);
            continue;
        }
        emit->flows[left++] = emit->flows[i];
    }
    emit->count = left;
}

/* Whether the subject is there; calls the emitter if so. */
static void
call_emitter(struct emit *emit, const struct unit *unit)
{
    const struct emitter *emitter = emit->compile->emitters[unit->emitter];

    switch (emitter->scope) {
    case EMIT_BASE:
        emitter->emit_base(emit);
        break;
    case EMIT_ROWS:
        if (row_node_of(unit->subject)->row == NULL) {
            return;
        }
        emitter->emit(emit, row_node_of(unit->subject)->row);
        break;
    case EMIT_LOCAL:
        if (!local_node_of(unit->subject)->is_present) {
            return;
        }
        emitter->emit_local(emit, &local_node_of(unit->subject)->local);
        break;
    }
    sort_flows(emit, emitter->name);
    emit->compile->counts.emissions += emit->unit != NULL;
}

static bool
is_same(struct flow_spec *const *a, size_t a_count, struct flow_spec *const *b,
        size_t b_count)
{
    if (a_count != b_count) {
        return false;
    }
    for (size_t i = 0; i < a_count; i++) {
        if (!flow_spec_same_key(a[i], b[i]) ||
            !flow_spec_same_actions(a[i], b[i])) {
            return false;
        }
    }
    return true;
}

static void
run_unit(struct compile *compile, struct unit *unit)
{
    struct emit emit = { .compile = compile,
                         .unit = unit,
                         .mark = ++compile->last_mark };
    struct edge *old_reads = unit->reads;

    /* New edges first, so that a node that is read again is not freed. */
    unit->reads = NULL;
    unit->is_dirty = false;
    call_emitter(&emit, unit);
    depend_drop(compile, old_reads);

    if (is_same(unit->flows, unit->flow_count, emit.flows, emit.count)) {
        free_flows(emit.flows, emit.count);
        return;
    }
    compile->sink->replace(compile->sink, unit->id, unit->flows,
                           unit->flow_count, emit.flows, emit.count);
    compile->counts.flows += emit.count - unit->flow_count;
    free_flows(unit->flows, unit->flow_count);
    if (emit.count == 0) {
        free(emit.flows);
        emit.flows = NULL;
    }
    unit->flows = emit.flows;
    unit->flow_count = (uint32_t)emit.count;
}

/* By emitter, then by the UUID of the subject: not by history. */
static int
compare_units(const void *a, const void *b)
{
    struct unit *const *x = a;
    struct unit *const *y = b;
    if ((*x)->emitter != (*y)->emitter) {
        return (*x)->emitter < (*y)->emitter ? -1 : 1;
    }
    if ((*x)->subject == NULL) {
        return 0;
    }
    return uuid_compare(&(*x)->subject->key.uuid, &(*y)->subject->key.uuid);
}

/* Subjects that are gone, and whose flows are gone by now. */
static void
bury(struct compile *compile)
{
    for (size_t i = 0; i < compile->dying_count; i++) {
        struct node *node = compile->dying[i];
        if (node->key.kind == NODE_ROW) {
            struct row_node *row = row_node_of(node);
            row->is_dying = false;
            if (row->row == NULL) {
                unit_free_all(compile, row->units,
                              &compile->row_emitters[node->key.table]);
                row->units = NULL;
            }
        } else {
            struct local_node *local = local_node_of(node);
            local->is_dying = false;
            if (!local->is_present) {
                unit_free_all(compile, local->units, &compile->local_emitters);
                local->units = NULL;
            }
        }
        model_release(compile, node);
    }
    compile->dying_count = 0;
}

void
compile_run(struct compile *compile)
{
    size_t count = compile->dirty_count;

    if (count > 0) {
        qsort(compile->dirty, count, sizeof compile->dirty[0], compare_units);
    }
    for (size_t i = 0; i < count; i++) {
        run_unit(compile, compile->dirty[i]);
    }
    CHECK(compile->dirty_count == count); /* Emitters change nothing. */
    compile->dirty_count = 0;
    bury(compile);
}

/* ---- The oracle ---- */

static void
oracle_units(struct compile *compile, struct compile_sink *sink,
             const struct unit *unit)
{
    struct emit emit = { .compile = compile };

    call_emitter(&emit, unit);
    if (emit.count > 0) {
        sink->replace(sink, unit->id, NULL, 0, emit.flows, emit.count);
    }
    free_flows(emit.flows, emit.count);
}

void
compile_oracle(struct compile *compile, struct compile_sink *sink)
{
    for (size_t i = 0; i < compile->base_emitters.count; i++) {
        oracle_units(compile, sink, &compile->base_units[i]);
    }
    for (size_t table = 0; table < STATE_TABLE_COUNT; table++) {
        if (compile->row_emitters[table].count == 0) {
            continue;
        }
        struct tree_link *link = tree_first(&compile->tables[table]->members);
        for (; link != NULL; link = tree_next(link)) {
            struct row_node *row = model_row_of_link(link, 0);
            for (size_t i = 0; i < compile->row_emitters[table].count; i++) {
                oracle_units(compile, sink, &row->units[i]);
            }
        }
    }
    struct tree_link *link = tree_first(&compile->locals);
    for (; link != NULL; link = tree_next(link)) {
        struct local_node *local = model_local_of_link(link, 0);
        for (size_t i = 0; i < compile->local_emitters.count; i++) {
            oracle_units(compile, sink, &local->units[i]);
        }
    }
}
