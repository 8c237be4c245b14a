/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_EMIT_H
#define NETD_COMPILE_EMIT_H

/* What an emitter sees: look-ups that are remembered as dependencies, and a
 * place to put flows.  See compile.h. */

#include "netd/compile/compile.h"
#include "netd/compile/pipeline.h"

struct emit;

/* ---- Reading; each is a dependency of the unit ---- */

/* NULL when there is no such row (the unit runs again when there is). */
const struct state_row *emit_row(struct emit *emit, enum state_table table,
                                 const struct weft_uuid *uuid);
/* The rows of 'table' whose indexed 'column' equals 'value', in the order of
 * their UUIDs; previous NULL begins.  The dependency is on who is in the list
 * and on every row that was returned. */
const struct state_row *emit_next(struct emit *emit, enum state_table table,
                                  uint64_t column,
                                  const struct weft_uuid *value,
                                  const struct state_row *previous);
/* All rows of a small table (Net_Host), in the order of their UUIDs. */
const struct state_row *emit_next_all(struct emit *emit, enum state_table table,
                                      const struct state_row *previous);
/* NULL: the port is not on this host. */
const struct local_port *emit_local(struct emit *emit,
                                    const struct weft_uuid *port);
/* All local ports that are in a network / have an identity. */
const struct local_port *
emit_next_local_of_network(struct emit *emit, const struct weft_uuid *network,
                           const struct local_port *previous);
const struct local_port *
emit_next_local_of_identity(struct emit *emit, const struct weft_uuid *identity,
                            const struct local_port *previous);
const struct compile_self *emit_self(struct emit *emit);

/* The Net_Host row of a host by its name; NULL: unknown. */
const struct state_net_host *emit_host(struct emit *emit, const char *name);

/* The Address row of an IP (canonical text) in a network; NULL: none. */
const struct state_address *emit_find_address(struct emit *emit,
                                              const struct weft_uuid *network,
                                              const char *ip);

/* Whether there are any such; the dependency is on the answer alone, so that
 * one more or less makes nothing run again. */
bool emit_has_local_of_identity(struct emit *emit,
                                const struct weft_uuid *identity);
bool emit_has_out_rule(struct emit *emit, const struct weft_uuid *group);
/* More than MODEL_MANY. */
bool emit_has_many_rules(struct emit *emit, const struct weft_uuid *group);
bool emit_has_out_rule_to_group(struct emit *emit); /* In any group. */
bool emit_has_flood_network(struct emit *emit);
/* A port of the network whose 'host', or 'migrate_host', is this; a binding of
 * this host. */
bool emit_has_port_at(struct emit *emit, const struct weft_uuid *network,
                      const char *host);
bool emit_has_port_coming_to(struct emit *emit, const struct weft_uuid *network,
                             const char *host);
bool emit_has_binding_at(struct emit *emit, const struct weft_uuid *network,
                         const char *host);

/* ---- Writing ---- */

/* Finishes the builder and gives the flow to the unit.  The same flow twice
 * from one unit is one flow; conjunctions with the same key are merged; the
 * same key with any other actions is an error, logged and counted
 * (compile_counts.conflicts): one of the flows is left out. */
void emit_flow(struct emit *emit, struct flow_builder *builder);

/* ---- The emitters ---- */

typedef void emit_fn(struct emit *emit, const struct state_row *row);
typedef void emit_local_fn(struct emit *emit, const struct local_port *local);
typedef void emit_base_fn(struct emit *emit);

/* What an emitter is called for. */
enum emitter_scope {
    EMIT_BASE,  /* Once. */
    EMIT_ROWS,  /* For each row of 'table'. */
    EMIT_LOCAL, /* For each local port. */
};

struct emitter {
    const char *name; /* The feature, for cookies' explanations and metrics. */
    enum emitter_scope scope;
    enum state_table table;
    emit_fn *emit;
    emit_local_fn *emit_local;
    emit_base_fn *emit_base;
};

/* A feature file exports one 'const struct emitter emitter_<name>' for each of
 * its emitters; emitters.c gathers them by name. */
extern const struct emitter *const emitter_list[];
extern const size_t emitter_count;

/* compile_new() with other emitters, borrowed until compile_free(): for tests.
 */
struct compile *compile_new_with(struct compile_sink *sink,
                                 const struct emitter *const *emitters,
                                 size_t count);

#endif /* NETD_COMPILE_EMIT_H */
