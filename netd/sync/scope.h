/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_SCOPE_H
#define NETD_SYNC_SCOPE_H

/* What a host follows (N10), as a pure function of the rows that it has:
 *
 *     its ports -> their networks -> routers on those -> networks on them
 *     its ports -> their identities -> groups -> rules -> peer groups
 *                                   -> identities that are in those
 *
 * Each step needs rows that the step before made the server send; so it is
 * computed again whenever such rows come, until nothing is added.  Rows that
 * are there without need (they came before, and will go) change nothing: the
 * way is always from the ports outwards.
 *
 * A network with a port here brings in SCOPE_NETWORK_ROUTERS routers at most,
 * and a router SCOPE_ROUTER_NETWORKS networks, those with the lowest UUIDs
 * first, so that every host leaves out the same ones.  So what one tenant makes
 * the host follow has a limit, whatever the others do.  Networks with a port
 * here are followed in any case. */

#include <stddef.h>

#include "lib/base/uuid.h"
#include "lib/state/state.h"
#include "netd/sync/uuid_set.h"

#define SCOPE_NETWORK_ROUTERS 16u
#define SCOPE_ROUTER_NETWORKS 64u

struct scope {
    struct uuid_set ports;    /* That are here by their interface only. */
    struct uuid_set networks; /* All that are followed, */
    struct uuid_set local;    /* those that have a port here. */
    struct uuid_set routers;
    struct uuid_set groups;     /* Of ports here: their rules are followed. */
    struct uuid_set peers;      /* Groups that those rules name. */
    struct uuid_set own;        /* Identities of ports here, */
    struct uuid_set identities; /* and all that are followed. */
    size_t left_out;            /* Routers and networks above a limit. */
};

/* The rows to go by.  All arrays are borrowed. */
struct scope_rows {
    /* iface-ids that are here, of ports that nothing else brings in. */
    const struct weft_uuid *interfaces;
    size_t interface_count;
    const struct state_port *const *ports; /* That are here, or shall be. */
    size_t port_count;
    const struct state_network_route *const *routes;
    size_t route_count;
    const struct state_identity_member *const *members;
    size_t member_count;
    const struct state_security_rule *const *rules;
    size_t rule_count;
};

/* 'ret_scope' is zeros, or an older scope, which is replaced. */
void scope_compute(const struct scope_rows *rows, struct scope *ret_scope);
bool scope_equal(const struct scope *a, const struct scope *b);
void scope_done(struct scope *scope);

/* ---- As conditions ---- */

/* The tables that have one. */
extern const enum state_table scope_tables[];
extern const size_t scope_table_count;
/* Those, and what is followed whole. */
uint64_t scope_table_mask(void);

struct scope_clauses {
    struct state_clause *items;
    size_t count, capacity;
};
/* Fills 'ret_clauses' (zeros, or used before) with the condition of a table.
 * 'host' is borrowed by the result. */
void scope_clauses(const struct scope *scope, const char *host,
                   enum state_table table, struct scope_clauses *ret_clauses);

/* Everything that can have a Scope_Seq here: networks, routers, groups and
 * 'wire' (see scope_wire()).  Adds to 'set' and seals it. */
void scope_all(const struct scope *scope, struct uuid_set *set);

/* The scope that stands for numbers on the wire (N2), which all hosts follow.
 */
void scope_wire(struct weft_uuid *ret_uuid);

#endif /* NETD_SYNC_SCOPE_H */
