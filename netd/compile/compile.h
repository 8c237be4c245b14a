/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_COMPILE_H
#define NETD_COMPILE_COMPILE_H

/* From the tenant's tables to flows, incrementally.
 *
 * The compiler holds a copy of the rows that concern this host (a *model*) and
 * a list of *emitters*, one file per feature.  An emitter is a pure function
 * from one row, and whatever that refers to, to flows.  (emitter, row) is a
 * *unit*; it owns the flows that it emitted.
 *
 *     compile_put_row() ...        the model changes; units become dirty
 *     compile_run()                dirty units emit again; the sink is told
 *                                  what changed, unit by unit
 *
 * How a change finds its units: while an emitter runs, each of its look-ups is
 * recorded as a dependency, on a row or on the members of an index.  When that
 * row, or the membership of that index entry, changes, the unit is dirty.  So
 * the reverse index cannot forget anything that was read; and emitters can read
 * in no other way.
 *
 * Invariants:
 *   (1) After compile_run() the flows of all units are what the emitters would
 *       give for the present model, called afresh: compile_oracle() does just
 *       that, and tests compare the two.
 *   (2) An emitter reads by its 'struct emit' only; no clock, no chance, no
 *       state of its own.
 *   (3) A row that is put again unchanged makes nothing dirty; a unit whose
 *       flows come out as before is not told to the sink.
 *   (4) Cost of a change: the units that read what changed.  No emitter may
 *       look at all ports of a network (N10, N18; but flood networks).
 *
 * One thread, no I/O.  Memory: aborts when it is out, as lib/state. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/state/row.h"
#include "lib/state/values.h"
#include "netd/compile/flow_spec.h"

struct compile;

/* ---- The model ---- */

/* A port that is on this host: facts that are no rows. */
struct local_port {
    struct weft_uuid port; /* Port row. */
    uint32_t ofport;       /* Of its interface; 0: not there yet. */
    uint32_t zone;         /* Conntrack zone, persistent. */
};

struct compile_self {
    char host[64];          /* Net_Host.host of this host. */
    uint32_t tunnel_ofport; /* 0: no tunnel port yet. */
    uint32_t underlay_mtu;  /* 0: not known. */
};

/* Tells what changed in the flows of one unit.  'old' and 'new' are sorted by
 * flow_spec_compare() without doubles; the sink takes references of its own to
 * what it keeps.  'unit' is a number that names the unit as long as it has
 * flows. */
struct compile_sink;
typedef void compile_sink_fn(struct compile_sink *sink, uint64_t unit,
                             struct flow_spec *const *old_flows,
                             size_t old_count,
                             struct flow_spec *const *new_flows,
                             size_t new_count);
struct compile_sink {
    compile_sink_fn *replace;
};

/* 'sink' is borrowed until compile_free(). */
struct compile *compile_new(struct compile_sink *sink);
void compile_free(struct compile *compile); /* Accepts NULL. */

/* Adds or replaces; copies.  Tables that no emitter reads are ignored. */
void compile_put_row(struct compile *compile, const struct state_row *row);
void compile_delete_row(struct compile *compile, enum state_table table,
                        const struct weft_uuid *uuid);
void compile_put_local(struct compile *compile, const struct local_port *local);
void compile_delete_local(struct compile *compile,
                          const struct weft_uuid *port);
void compile_set_self(struct compile *compile, const struct compile_self *self);

/* Whether compile_run() has something to do. */
bool compile_is_dirty(const struct compile *compile);
void compile_run(struct compile *compile);

/* Emits everything afresh, into 'sink', with old_count 0; changes nothing. */
void compile_oracle(struct compile *compile, struct compile_sink *sink);

struct compile_counts {
    size_t rows, locals, units, flows, dependencies;
    uint64_t emissions; /* Calls of emitters so far. */
    uint64_t conflicts; /* Flows left out, see emit_flow(); should be 0. */
};
void compile_count(const struct compile *compile,
                   struct compile_counts *ret_counts);

/* The local ports that these units (as the sink knows them, sorted) are about:
 * of which they are units, or about which they have read anything; the units of
 * the whole host are about all.  The caller frees the array.  Looks at all
 * units: for when something is wrong. */
size_t compile_concerned(struct compile *compile, const uint64_t *units,
                         size_t count, struct weft_uuid **ret_ports);

/* ---- Reading the model without dependencies: for packet_in, sync, tests ----
 */

const struct state_row *compile_row(const struct compile *compile,
                                    enum state_table table,
                                    const struct weft_uuid *uuid);
/* The rows of 'table' whose 'column' (one bit, a uuid or reference column that
 * is indexed, see model.c) equals 'value'; begins with previous NULL. */
const struct state_row *compile_next(const struct compile *compile,
                                     enum state_table table, uint64_t column,
                                     const struct weft_uuid *value,
                                     const struct state_row *previous);
/* All rows of a table, in the order of their UUIDs. */
const struct state_row *compile_next_all(const struct compile *compile,
                                         enum state_table table,
                                         const struct state_row *previous);
/* The Address row of an IP (canonical text) in a network, or NULL; one hash
 * look-up, for packet_in's answers to neighbour solicitations. */
const struct state_address *
compile_find_address(const struct compile *compile,
                     const struct weft_uuid *network, const char *ip);
const struct local_port *compile_local(const struct compile *compile,
                                       const struct weft_uuid *port);
const struct local_port *compile_next_local(const struct compile *compile,
                                            const struct local_port *previous);
const struct compile_self *compile_self(const struct compile *compile);

#endif /* NETD_COMPILE_COMPILE_H */
