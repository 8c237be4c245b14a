/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/sync/cloud.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "netd/sync/cloud_private.h"
#include "netd/sync/pin.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/poll-loop.h>
#include <openvswitch/util.h>

/* Changes are given out as they come; what they mean for the scope is only
 * noted.  Once in each turn of the loop, after the connection has had its own,
 * the scope is computed if need be, and its conditions are set: the server
 * then sends more, or takes rows back, and so on until nothing changes. */

/* See cloud_ports_seqno(). */
#define PORT_TABLES                                                          \
    (STATE_TABLE_BIT(STATE_TABLE_PORT) | STATE_TABLE_BIT(STATE_TABLE_PLUG) | \
     STATE_TABLE_BIT(STATE_TABLE_NETWORK) |                                  \
     STATE_TABLE_BIT(STATE_TABLE_NET_HOST) |                                 \
     STATE_TABLE_BIT(STATE_TABLE_PORT_STATUS))

/* ---- Reading ---- */

const struct state_row *
cloud_row(const struct cloud *cloud, enum state_table table,
          const struct weft_uuid *uuid)
{
    const struct state_row *row = NULL;

    if (!row_set_has(&cloud->delivered, table, uuid)) {
        return NULL;
    }
    row = state_row_get(cloud->state, table, uuid);
    return row != NULL ? row : cloud_snapshot_row(cloud, table, uuid);
}

/* Those of the database, then those that only the snapshot has. */
const struct state_row *
cloud_next(const struct cloud *cloud, enum state_table table,
           const struct state_row *previous)
{
    const struct state_row *row = NULL;

    if (previous == NULL ||
        state_row_get(cloud->state, table, &previous->uuid) == previous) {
        row = cloud->is_open ? state_row_next(cloud->state, table, previous)
                             : NULL;
        if (row != NULL) {
            return row;
        }
        previous = NULL;
    }
    do {
        previous = cloud_snapshot_next(cloud, table, previous);
    } while (previous != NULL && cloud->is_open &&
             state_row_get(cloud->state, table, &previous->uuid) != NULL);
    return previous;
}

/* ---- Ports that are here ---- */

static bool
is_mine(const struct cloud *cloud, const struct state_port *port)
{
    return strcmp(port->host, cloud->host) == 0 ||
           strcmp(port->migrate_host, cloud->host) == 0 ||
           uuid_set_has(&cloud->interfaces, &port->row.uuid);
}

static void
note_port(struct cloud *cloud, const struct weft_uuid *uuid,
          const struct state_port *port)
{
    bool changed = false;

    if (port != NULL && is_mine(cloud, port)) {
        row_set_add(&cloud->mine, STATE_TABLE_PORT, uuid);
        changed = true; /* Its network or identity may be another. */
    } else {
        changed = row_set_remove(&cloud->mine, STATE_TABLE_PORT, uuid);
    }
    cloud->is_scope_dirty = cloud->is_scope_dirty || changed;
}

/* The others add nothing to the scope.  A rule that went may have. */
static bool
names_a_group(const struct state_row *rule)
{
    return rule == NULL ||
           !uuid_is_nil(&state_security_rule_from(rule)->peer_group);
}

static void
note_change(struct cloud *cloud, enum state_table table,
            const struct weft_uuid *uuid, const struct state_row *row)
{
    if (table == STATE_TABLE_PORT) {
        note_port(cloud, uuid, row == NULL ? NULL : state_port_from(row));
    } else if (table == STATE_TABLE_NETWORK_ROUTE ||
               table == STATE_TABLE_IDENTITY_MEMBER ||
               (table == STATE_TABLE_SECURITY_RULE && names_a_group(row))) {
        cloud->is_scope_dirty = true;
    }
    cloud->ports_seqno += (PORT_TABLES & STATE_TABLE_BIT(table)) != 0;
    cloud->is_changed = true;
}

void
cloud_deliver(struct cloud *cloud, const struct state_row *row)
{
    row_set_add(&cloud->delivered, row->table, &row->uuid);
    note_change(cloud, row->table, &row->uuid, row);
    cloud->listener->put(cloud->listener, row);
}

void
cloud_withdraw(struct cloud *cloud, enum state_table table,
               const struct weft_uuid *uuid)
{
    if (row_set_remove(&cloud->delivered, table, uuid)) {
        note_change(cloud, table, uuid, NULL);
        cloud->listener->remove(cloud->listener, table, uuid);
    }
}

uint64_t
cloud_ports_seqno(const struct cloud *cloud)
{
    return cloud->ports_seqno;
}

const struct uuid_set *
cloud_ports(const struct cloud *cloud)
{
    return &cloud->ports;
}

static void
collect_ports(struct cloud *cloud)
{
    uuid_set_clear(&cloud->ports);
    for (size_t i = 0; i < cloud->mine.capacity; i++) {
        if (cloud->mine.slots[i].table != 0) {
            uuid_set_add(&cloud->ports, &cloud->mine.slots[i].uuid);
        }
    }
    uuid_set_seal(&cloud->ports);
}

void
cloud_set_interfaces(struct cloud *cloud, const struct weft_uuid *ports,
                     size_t count)
{
    struct uuid_set fresh = { NULL, 0, 0 };

    for (size_t i = 0; i < count; i++) {
        uuid_set_add(&fresh, &ports[i]);
    }
    uuid_set_seal(&fresh);
    if (uuid_set_equal(&fresh, &cloud->interfaces)) {
        uuid_set_done(&fresh);
        return;
    }
    struct uuid_set old = cloud->interfaces;
    cloud->interfaces = fresh;
    for (size_t i = 0; i < old.count + fresh.count; i++) {
        const struct weft_uuid *uuid =
            i < old.count ? &old.items[i] : &fresh.items[i - old.count];
        const struct state_row *row = cloud_row(cloud, STATE_TABLE_PORT, uuid);
        note_port(cloud, uuid, row == NULL ? NULL : state_port_from(row));
    }
    uuid_set_done(&old);
    cloud->is_scope_dirty = true;
}

/* ---- The scope ---- */

struct row_array {
    const struct state_row **items;
    size_t count, capacity;
};

static void
push_row(struct row_array *array, const struct state_row *row)
{
    if (array->count == array->capacity) {
        array->capacity = array->capacity == 0 ? 64 : array->capacity * 2;
        array->items =
            realloc(array->items, array->capacity * sizeof array->items[0]);
        CHECK(array->items != NULL);
    }
    array->items[array->count++] = row;
}

/* Since a row is the first member of its structure, an array of pointers to
 * rows is one of pointers to structures. */
static void
collect_table(const struct cloud *cloud, enum state_table table,
              struct row_array *array)
{
    for (const struct state_row *row = NULL;
         (row = cloud_next(cloud, table, row)) != NULL;) {
        push_row(array, row);
    }
}

/* The interfaces whose ports have to be asked for one by one.  Those that the
 * database has on this host come by that; the condition would change with each
 * plug, and the server go over all ports there are.  What was asked for once is
 * asked for until its interface goes. */
static void
collect_interfaces(const struct cloud *cloud, struct uuid_set *set)
{
    for (size_t i = 0; i < cloud->interfaces.count; i++) {
        const struct weft_uuid *uuid = &cloud->interfaces.items[i];
        const struct state_row *row = cloud_row(cloud, STATE_TABLE_PORT, uuid);
        if (row == NULL || uuid_set_has(&cloud->scope.ports, uuid) ||
            strcmp(state_port_from(row)->host, cloud->host) != 0) {
            uuid_set_add(set, uuid);
        }
    }
}

static void
compute_scope(struct cloud *cloud)
{
    struct row_array ports = { NULL, 0, 0 }, routes = ports, members = ports,
                     rules = ports;
    struct uuid_set interfaces = { NULL, 0, 0 };

    collect_interfaces(cloud, &interfaces);
    collect_ports(cloud);
    for (size_t i = 0; i < cloud->ports.count; i++) {
        const struct state_row *row =
            cloud_row(cloud, STATE_TABLE_PORT, &cloud->ports.items[i]);
        if (row != NULL) {
            push_row(&ports, row);
        }
    }
    collect_table(cloud, STATE_TABLE_NETWORK_ROUTE, &routes);
    collect_table(cloud, STATE_TABLE_IDENTITY_MEMBER, &members);
    collect_table(cloud, STATE_TABLE_SECURITY_RULE, &rules);
    struct scope_rows rows = {
        .interfaces = interfaces.items,
        .interface_count = interfaces.count,
        .ports = (const struct state_port *const *)(const void *)ports.items,
        .port_count = ports.count,
        .routes = (const struct state_network_route *const *)(const void *)
                      routes.items,
        .route_count = routes.count,
        .members = (const struct state_identity_member *const *)(const void *)
                       members.items,
        .member_count = members.count,
        .rules = (const struct state_security_rule *const *)(const void *)
                     rules.items,
        .rule_count = rules.count,
    };
    size_t left_out = cloud->scope.left_out;
    scope_compute(&rows, &cloud->scope);
    if (cloud->scope.left_out > left_out) {
        log_warning("sync",
                    "networks and routers join more than is followed, the "
                    "rest cannot be reached from here left_out=%zu "
                    "routers_max=%u networks_max=%u",
                    cloud->scope.left_out, SCOPE_NETWORK_ROUTERS,
                    SCOPE_ROUTER_NETWORKS);
    }
    uuid_set_done(&interfaces);
    free(ports.items);
    free(routes.items);
    free(members.items);
    free(rules.items);
}

static void
set_conditions(struct cloud *cloud)
{
    for (size_t i = 0; i < scope_table_count; i++) {
        scope_clauses(&cloud->scope, cloud->host, scope_tables[i],
                      &cloud->clauses);
        state_set_conditions(cloud->state, scope_tables[i],
                             cloud->clauses.items, cloud->clauses.count);
    }
}

/* ---- Which cloud is it? ---- */

static void
check_pin(struct cloud *cloud)
{
    const struct state_global *global = state_global_next(cloud->state, NULL);
    bool is_open = false;
    struct err err = { "" };

    if (global == NULL || uuid_is_nil(&global->cloud_uuid)) {
        is_open = false; /* Nobody has given it a name yet. */
    } else if (uuid_is_nil(&cloud->pinned)) {
        if (pin_write(cloud->state_dir, &global->cloud_uuid, &err) == 0) {
            cloud->pinned = global->cloud_uuid;
            is_open = true;
        } else {
            log_error("sync",
                      "the cloud's UUID cannot be kept, holding "
                      "everything reason=%s",
                      err.text);
        }
    } else {
        is_open = uuid_equal(&cloud->pinned, &global->cloud_uuid);
        if (!is_open && !cloud->is_refused) {
            char ours[UUID_TEXT_SIZE], theirs[UUID_TEXT_SIZE];
            uuid_format(&cloud->pinned, ours);
            uuid_format(&global->cloud_uuid, theirs);
            log_error("sync",
                      "the database is that of another cloud, everything "
                      "stays as it is ours=%s theirs=%s",
                      ours, theirs);
        }
        cloud->is_refused = !is_open;
    }
    if (is_open != cloud->is_open) {
        cloud->is_open = is_open;
        cloud->is_changed = true;
        cloud->ports_seqno++;
        cloud->is_complete = cloud->is_complete && is_open;
    }
}

/* All rows again, and away with what is no more. */
static void
reconcile(struct cloud *cloud)
{
    struct row_key *gone = NULL;
    size_t count = 0;

    cloud->needs_reconcile = false;
    cloud_snapshot_touch_all(cloud);
    for (enum state_table table = 0; table < STATE_TABLE_COUNT; table++) {
        if ((scope_table_mask() >> table & 1) == 0) {
            continue;
        }
        for (const struct state_row *row = NULL;
             (row = state_row_next(cloud->state, table, row)) != NULL;) {
            cloud_deliver(cloud, row);
        }
    }
    gone = calloc(cloud->delivered.count + 1, sizeof *gone);
    CHECK(gone != NULL);
    for (size_t i = 0; i < cloud->delivered.capacity; i++) {
        const struct row_key *key = &cloud->delivered.slots[i];
        if (key->table != 0 &&
            state_row_get(cloud->state, (enum state_table)(key->table - 1),
                          &key->uuid) == NULL) {
            gone[count++] = *key;
        }
    }
    for (size_t i = 0; i < count; i++) {
        cloud_withdraw(cloud, (enum state_table)(gone[i].table - 1),
                       &gone[i].uuid);
    }
    free(gone);
}

/* ---- The connection's callbacks ---- */

static void
rows_begin(struct state_listener *listener)
{
    check_pin(container_of(listener, struct cloud, rows));
}

static void
rows_change(struct state_listener *listener, const struct state_change *change)
{
    struct cloud *cloud = container_of(listener, struct cloud, rows);
    const struct state_row *row =
        change->new_row != NULL ? change->new_row : change->old_row;

    if (!cloud->is_open || cloud->needs_reconcile) {
        cloud->needs_reconcile = true;
        return;
    }
    if (change->kind != STATE_CHANGE_DELETE) {
        cloud_deliver(cloud, change->new_row);
    } else if (cloud_snapshot_row(cloud, change->table,
                                  &change->old_row->uuid) == NULL) {
        cloud_withdraw(cloud, change->table, &change->old_row->uuid);
    }
    cloud_snapshot_touch(cloud, change->table, &row->uuid);
}

/* ---- Once a turn ---- */

/* While the snapshot stands in its rows stay until all of the database's are
 * there; so the scope is the union of what both call for until then. */
static void
update_complete(struct cloud *cloud)
{
    bool is_complete = cloud->is_open && !cloud->is_scope_dirty &&
                       !cloud->needs_reconcile &&
                       state_conditions_are_met(cloud->state);

    if (is_complete && !cloud->is_snapshot_over) {
        cloud->is_snapshot_over = true;
        if (cloud->snapshot != NULL) {
            cloud_snapshot_forget(cloud);
            reconcile(cloud);
            is_complete = !cloud->is_scope_dirty;
        }
    }
    if (is_complete != cloud->is_complete) {
        cloud->is_complete = is_complete;
        cloud->ports_seqno++;
        cloud->is_changed = true;
    }
}

static void
cloud_run(struct loop_runner *runner)
{
    struct cloud *cloud = container_of(runner, struct cloud, runner);
    bool is_connected = state_status(cloud->state)->is_connected;

    if (is_connected != cloud->was_connected) {
        cloud->was_connected = is_connected;
        cloud->is_changed = true;
        if (is_connected) {
            log_info("sync", "the Weft database answers");
        } else {
            log_warning("sync",
                        "no connection to the Weft database, going on "
                        "with what is known reason=%s",
                        strerror(-state_status(cloud->state)->last_error));
        }
    }
    if (cloud->is_open && cloud->needs_reconcile) {
        reconcile(cloud);
    }
    if (cloud->is_scope_dirty) {
        cloud->is_scope_dirty = false;
        compute_scope(cloud);
        set_conditions(cloud);
        cloud->is_changed = true;
    }
    if (is_connected) {
        update_complete(cloud);
    }
    if (cloud->is_changed) {
        cloud->is_changed = false;
        cloud->listener->changed(cloud->listener);
    }
}

static void
cloud_wait(struct loop_runner *runner)
{
    struct cloud *cloud = container_of(runner, struct cloud, runner);

    if (cloud->is_scope_dirty || cloud->is_changed ||
        (cloud->is_open && cloud->needs_reconcile)) {
        poll_immediate_wake();
    }
}

/* ---- Life ---- */

static char *
duplicate(const char *text)
{
    char *copy = strdup(text);
    CHECK(copy != NULL);
    return copy;
}

int
cloud_new(const struct cloud_options *options, struct err *err,
          struct cloud **ret_cloud)
{
    struct state_options state_options = {
        .remotes = options->remotes,
        .tables = scope_table_mask(),
    };
    struct weft_uuid pinned = { { 0 } };
    int result = pin_read(options->state_dir, &pinned, err);

    if (result != 0 && result != -ENOENT) {
        return result;
    }
    struct cloud *cloud = calloc(1, sizeof *cloud);
    CHECK(cloud != NULL);
    cloud->loop = options->loop;
    cloud->listener = options->listener;
    cloud->pinned = pinned;
    result = state_open(options->loop, &state_options, &cloud->state);
    if (result != 0) {
        err_set(err, "[database] remotes = %s: %s", options->remotes,
                strerror(-result));
        free(cloud);
        return result;
    }
    cloud->host = duplicate(options->host);
    cloud->state_dir = duplicate(options->state_dir);
    set_conditions(cloud);
    cloud->rows = (struct state_listener){
        .begin = rows_begin,
        .change = rows_change,
    };
    state_subscribe(cloud->state, &cloud->rows, scope_table_mask());
    cloud->runner =
        (struct loop_runner){ .run = cloud_run, .wait = cloud_wait };
    loop_add_runner(cloud->loop, &cloud->runner);
    cloud_snapshot_start(cloud);
    *ret_cloud = cloud;
    return 0;
}

void
cloud_free(struct cloud *cloud)
{
    if (cloud == NULL) {
        return;
    }
    cloud_snapshot_stop(cloud);
    loop_remove_runner(cloud->loop, &cloud->runner);
    state_unsubscribe(cloud->state, &cloud->rows);
    state_close(cloud->state);
    scope_done(&cloud->scope);
    free(cloud->clauses.items);
    row_set_done(&cloud->delivered);
    row_set_done(&cloud->mine);
    row_set_done(&cloud->snapshot_news);
    uuid_set_done(&cloud->ports);
    uuid_set_done(&cloud->interfaces);
    free(cloud->host);
    free(cloud->state_dir);
    free(cloud);
}

struct state *
cloud_state(struct cloud *cloud)
{
    return cloud->state;
}

bool
cloud_is_complete(const struct cloud *cloud)
{
    return cloud->is_complete;
}

const struct scope *
cloud_scope(const struct cloud *cloud)
{
    return &cloud->scope;
}

void
cloud_get_status(const struct cloud *cloud, struct cloud_status *ret_status)
{
    *ret_status = (struct cloud_status){
        .is_connected = state_status(cloud->state)->is_connected,
        .is_complete = cloud->is_complete,
        .is_from_snapshot = cloud->snapshot != NULL,
        .is_refused = cloud->is_refused,
        .is_pinned = !uuid_is_nil(&cloud->pinned),
        .connects = state_status(cloud->state)->connect_count,
        .left_out = cloud->scope.left_out,
    };
}
