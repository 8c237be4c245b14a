/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/scope.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"

const enum state_table scope_tables[] = {
    STATE_TABLE_NETWORK,
    STATE_TABLE_NETWORK_ROUTE,
    STATE_TABLE_SUBNET,
    STATE_TABLE_PORT,
    STATE_TABLE_ADDRESS,
    STATE_TABLE_BINDING,
    STATE_TABLE_PLUG,
    STATE_TABLE_PORT_STATUS,
    STATE_TABLE_SECURITY_GROUP,
    STATE_TABLE_SECURITY_RULE,
    STATE_TABLE_IDENTITY,
    STATE_TABLE_IDENTITY_MEMBER,
    STATE_TABLE_ROUTER,
    STATE_TABLE_ROUTER_PORT,
    STATE_TABLE_SCOPE_SEQ,
    STATE_TABLE_FOLLOW,
    STATE_TABLE_NET_HOST_STATUS,
};
const size_t scope_table_count = ARRAY_COUNT(scope_tables);

uint64_t
scope_table_mask(void)
{
    uint64_t mask = STATE_TABLE_BIT(STATE_TABLE_GLOBAL) |
                    STATE_TABLE_BIT(STATE_TABLE_NET_HOST);

    for (size_t i = 0; i < scope_table_count; i++) {
        mask |= STATE_TABLE_BIT(scope_tables[i]);
    }
    return mask;
}

/* ---- The closure ---- */

static void
clear(struct scope *scope)
{
    uuid_set_clear(&scope->ports);
    uuid_set_clear(&scope->networks);
    uuid_set_clear(&scope->local);
    uuid_set_clear(&scope->routers);
    uuid_set_clear(&scope->groups);
    uuid_set_clear(&scope->peers);
    uuid_set_clear(&scope->own);
    uuid_set_clear(&scope->identities);
    scope->left_out = 0;
}

static int
compare_by_router(const void *a_, const void *b_)
{
    const struct state_network_route *a =
        *(const struct state_network_route *const *)a_;
    const struct state_network_route *b =
        *(const struct state_network_route *const *)b_;
    int order = uuid_compare(&a->router, &b->router);

    return order != 0 ? order : uuid_compare(&a->network, &b->network);
}

static int
compare_by_network(const void *a_, const void *b_)
{
    const struct state_network_route *a =
        *(const struct state_network_route *const *)a_;
    const struct state_network_route *b =
        *(const struct state_network_route *const *)b_;
    int order = uuid_compare(&a->network, &b->network);

    return order != 0 ? order : uuid_compare(&a->router, &b->router);
}

/* The routes, for free(). */
static const struct state_network_route **
sort_routes(const struct scope_rows *rows,
            int (*compare)(const void *, const void *))
{
    const struct state_network_route **sorted =
        calloc(rows->route_count + 1, sizeof(void *));

    CHECK(sorted != NULL);
    if (rows->route_count > 0) {
        memcpy(sorted, rows->routes, rows->route_count * sizeof(void *));
        qsort(sorted, rows->route_count, sizeof(void *), compare);
    }
    return sorted;
}

static bool
is_same_route(const struct state_network_route *a,
              const struct state_network_route *b)
{
    return uuid_equal(&a->router, &b->router) &&
           uuid_equal(&a->network, &b->network);
}

/* Routers on local networks, up to the limit of each. */
static void
add_routers(const struct scope_rows *rows, struct scope *scope)
{
    const struct state_network_route **sorted =
        sort_routes(rows, compare_by_network);
    size_t on_network = 0;

    for (size_t i = 0; i < rows->route_count; i++) {
        if (i == 0 ||
            !uuid_equal(&sorted[i - 1]->network, &sorted[i]->network)) {
            on_network = 0;
        } else if (is_same_route(sorted[i - 1], sorted[i])) {
            continue;
        }
        if (!uuid_set_has(&scope->local, &sorted[i]->network)) {
            continue;
        }
        on_network++;
        if (on_network <= SCOPE_NETWORK_ROUTERS) {
            uuid_set_add(&scope->routers, &sorted[i]->router);
        } else {
            scope->left_out++;
        }
    }
    uuid_set_seal(&scope->routers);
    free(sorted);
}

/* Networks of the followed routers, up to the limit of each. */
static void
add_routed(const struct scope_rows *rows, struct scope *scope)
{
    const struct state_network_route **sorted =
        sort_routes(rows, compare_by_router);
    size_t in_router = 0;

    for (size_t i = 0; i < rows->route_count; i++) {
        if (i == 0 || !uuid_equal(&sorted[i - 1]->router, &sorted[i]->router)) {
            in_router = 0;
        } else if (is_same_route(sorted[i - 1], sorted[i])) {
            continue;
        }
        if (!uuid_set_has(&scope->routers, &sorted[i]->router)) {
            continue;
        }
        in_router++;
        if (in_router <= SCOPE_ROUTER_NETWORKS) {
            uuid_set_add(&scope->networks, &sorted[i]->network);
        } else if (!uuid_set_has(&scope->local, &sorted[i]->network)) {
            scope->left_out++;
        }
    }
    free(sorted);
}

static void
find_networks(const struct scope_rows *rows, struct scope *scope)
{
    for (size_t i = 0; i < rows->port_count; i++) {
        uuid_set_add(&scope->local, &rows->ports[i]->network);
        uuid_set_add(&scope->networks, &rows->ports[i]->network);
        uuid_set_add(&scope->own, &rows->ports[i]->identity);
        uuid_set_add(&scope->identities, &rows->ports[i]->identity);
    }
    uuid_set_seal(&scope->local);
    uuid_set_seal(&scope->own);
    add_routers(rows, scope);
    add_routed(rows, scope);
    uuid_set_seal(&scope->networks);
}

static void
find_groups(const struct scope_rows *rows, struct scope *scope)
{
    for (size_t i = 0; i < rows->member_count; i++) {
        if (uuid_set_has(&scope->own, &rows->members[i]->identity)) {
            uuid_set_add(&scope->groups, &rows->members[i]->group);
        }
    }
    uuid_set_seal(&scope->groups);
    for (size_t i = 0; i < rows->rule_count; i++) {
        if (uuid_set_has(&scope->groups, &rows->rules[i]->group)) {
            uuid_set_add(&scope->peers, &rows->rules[i]->peer_group);
        }
    }
    uuid_set_seal(&scope->peers);
    for (size_t i = 0; i < rows->member_count; i++) {
        if (uuid_set_has(&scope->peers, &rows->members[i]->group)) {
            uuid_set_add(&scope->identities, &rows->members[i]->identity);
        }
    }
    uuid_set_seal(&scope->identities);
}

void
scope_compute(const struct scope_rows *rows, struct scope *ret_scope)
{
    clear(ret_scope);
    for (size_t i = 0; i < rows->interface_count; i++) {
        uuid_set_add(&ret_scope->ports, &rows->interfaces[i]);
    }
    uuid_set_seal(&ret_scope->ports);
    find_networks(rows, ret_scope);
    find_groups(rows, ret_scope);
}

bool
scope_equal(const struct scope *a, const struct scope *b)
{
    return uuid_set_equal(&a->ports, &b->ports) &&
           uuid_set_equal(&a->networks, &b->networks) &&
           uuid_set_equal(&a->local, &b->local) &&
           uuid_set_equal(&a->routers, &b->routers) &&
           uuid_set_equal(&a->groups, &b->groups) &&
           uuid_set_equal(&a->peers, &b->peers) &&
           uuid_set_equal(&a->own, &b->own) &&
           uuid_set_equal(&a->identities, &b->identities);
}

void
scope_done(struct scope *scope)
{
    uuid_set_done(&scope->ports);
    uuid_set_done(&scope->networks);
    uuid_set_done(&scope->local);
    uuid_set_done(&scope->routers);
    uuid_set_done(&scope->groups);
    uuid_set_done(&scope->peers);
    uuid_set_done(&scope->own);
    uuid_set_done(&scope->identities);
}

void
scope_wire(struct weft_uuid *ret_uuid)
{
    state_uuid_derive("weft", "scope/wire", ret_uuid);
}

void
scope_all(const struct scope *scope, struct uuid_set *set)
{
    const struct uuid_set *const parts[] = { &scope->networks, &scope->routers,
                                             &scope->groups, &scope->peers };

    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        for (size_t j = 0; j < parts[i]->count; j++) {
            uuid_set_add(set, &parts[i]->items[j]);
        }
    }
    struct weft_uuid wire;
    scope_wire(&wire);
    uuid_set_add(set, &wire);
    uuid_set_seal(set);
}

/* ---- Conditions ---- */

static void
add_clause(struct scope_clauses *clauses, struct state_clause clause)
{
    if (clauses->count == clauses->capacity) {
        clauses->capacity = clauses->capacity == 0 ? 16 : clauses->capacity * 2;
        clauses->items = realloc(clauses->items,
                                 clauses->capacity * sizeof clauses->items[0]);
        CHECK(clauses->items != NULL);
    }
    clauses->items[clauses->count++] = clause;
}

static void
add_text(struct scope_clauses *clauses, uint64_t column, const char *text)
{
    add_clause(clauses,
               (struct state_clause){ .column = column, .text = text });
}

static void
add_set(struct scope_clauses *clauses, uint64_t column,
        const struct uuid_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        add_clause(clauses, (struct state_clause){ .column = column,
                                                   .uuid = set->items[i] });
    }
}

static void
add_scopes(struct scope_clauses *clauses, const struct scope *scope)
{
    struct uuid_set all = { NULL, 0, 0 };

    scope_all(scope, &all);
    add_set(clauses, STATE_SCOPE_SEQ_COL_SCOPE, &all);
    uuid_set_done(&all);
}

static void
add_policies(const struct scope *scope, enum state_table table,
             struct scope_clauses *clauses)
{
    if (table == STATE_TABLE_SECURITY_GROUP) {
        add_set(clauses, 0, &scope->groups);
        add_set(clauses, 0, &scope->peers);
    } else if (table == STATE_TABLE_SECURITY_RULE) {
        add_set(clauses, STATE_SECURITY_RULE_COL_GROUP, &scope->groups);
    } else if (table == STATE_TABLE_IDENTITY) {
        add_set(clauses, 0, &scope->identities);
    } else if (table == STATE_TABLE_IDENTITY_MEMBER) {
        add_set(clauses, STATE_IDENTITY_MEMBER_COL_IDENTITY, &scope->own);
        add_set(clauses, STATE_IDENTITY_MEMBER_COL_GROUP, &scope->peers);
    }
}

static void
add_networks(const struct scope *scope, const char *host,
             enum state_table table, struct scope_clauses *clauses)
{
    const struct uuid_set *networks = &scope->networks;

    if (table == STATE_TABLE_NETWORK) {
        add_set(clauses, 0, networks);
    } else if (table == STATE_TABLE_NETWORK_ROUTE) {
        add_set(clauses, STATE_NETWORK_ROUTE_COL_NETWORK, &scope->local);
        add_set(clauses, STATE_NETWORK_ROUTE_COL_ROUTER, &scope->routers);
    } else if (table == STATE_TABLE_SUBNET) {
        add_set(clauses, STATE_SUBNET_COL_NETWORK, networks);
    } else if (table == STATE_TABLE_PORT) {
        add_text(clauses, STATE_PORT_COL_HOST, host);
        add_text(clauses, STATE_PORT_COL_MIGRATE_HOST, host);
        add_set(clauses, 0, &scope->ports);
        add_set(clauses, STATE_PORT_COL_NETWORK, networks);
    } else if (table == STATE_TABLE_ADDRESS) {
        add_set(clauses, STATE_ADDRESS_COL_NETWORK, networks);
    } else if (table == STATE_TABLE_BINDING) {
        add_text(clauses, STATE_BINDING_COL_HOST, host);
        add_set(clauses, STATE_BINDING_COL_NETWORK, networks);
    } else if (table == STATE_TABLE_ROUTER) {
        add_set(clauses, 0, &scope->routers);
    } else if (table == STATE_TABLE_ROUTER_PORT) {
        add_set(clauses, STATE_ROUTER_PORT_COL_NETWORK, networks);
    }
}

void
scope_clauses(const struct scope *scope, const char *host,
              enum state_table table, struct scope_clauses *ret_clauses)
{
    ret_clauses->count = 0;
    if (table == STATE_TABLE_PLUG) {
        add_text(ret_clauses, STATE_PLUG_COL_HOST, host);
    } else if (table == STATE_TABLE_PORT_STATUS) {
        add_text(ret_clauses, STATE_PORT_STATUS_COL_HOST, host);
    } else if (table == STATE_TABLE_FOLLOW) {
        add_text(ret_clauses, STATE_FOLLOW_COL_HOST, host);
    } else if (table == STATE_TABLE_NET_HOST_STATUS) {
        add_text(ret_clauses, STATE_NET_HOST_STATUS_COL_HOST, host);
    } else if (table == STATE_TABLE_SCOPE_SEQ) {
        add_scopes(ret_clauses, scope);
    } else {
        add_networks(scope, host, table, ret_clauses);
        add_policies(scope, table, ret_clauses);
    }
}
