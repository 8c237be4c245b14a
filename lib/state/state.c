/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/state.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/state/codec.h"
#include "lib/state/private.h"

/* Foreign: libopenvswitch. */
#include <openvswitch/json.h>
#include <openvswitch/poll-loop.h>
#include <ovsdb-cs.h>
#include <sset.h>

/* The connection: what libopenvswitch's ovsdb-cs does (sessions, monitors,
 * "is this server any good", locks), and what to do with its events.
 *
 * Reconnecting.  libopenvswitch backs off to 8 s between attempts, and a
 * connection that wants the leader can miss it for 15 s.  So as long as there
 * is no connection, its session is replaced by a fresh one: after a tenth of a
 * second at first, after two in the end, with jitter, so that a thousand hosts
 * do not come back in step.  A server that accepts us and then says nothing (a
 * frozen one) has half a second at first, and a minute in the end, if there are
 * others. */

#define RETRY_MIN_NS UINT64_C(100000000)
#define RETRY_MAX_NS UINT64_C(2000000000)
#define GREETING_MIN_NS UINT64_C(500000000)
#define GREETING_MAX_NS UINT64_C(60000000000)
#define GREETING_ALONE_NS UINT64_C(3600000000000)
#define PROBE_DEFAULT_MS 2000

static loop_runner_fn state_run;
static loop_runner_fn state_wait;

/* ---- What to follow ---- */

static bool
is_followed(const struct state *state, size_t table)
{
    return (state->tables >> table & 1) != 0;
}

/* {"Volume": [{"columns": ["name", ...]}], ...}, of what both this version and
 * the server's schema have. */
static struct json *
compose_monitor_requests(const struct json *schema_json, void *state_)
{
    const struct state *state = state_;
    struct shash *schema = ovsdb_cs_parse_schema(schema_json);
    struct json *requests = json_object_create();

    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        const struct state_class *class = &state_classes[i];
        const struct sset *known =
            schema == NULL ? NULL : shash_find_data(schema, class->name);
        if (!is_followed(state, i) || (schema != NULL && known == NULL)) {
            continue;
        }
        struct json *columns = json_array_create_empty();
        for (size_t j = 0; j < class->column_count; j++) {
            const char *name = class->columns[j].name;
            if (known == NULL || sset_contains(known, name)) {
                json_array_add(columns, json_string_create(name));
            }
        }
        struct json *request = json_object_create();
        json_object_put(request, "columns", columns);
        json_object_put(requests, class->name, json_array_create_1(request));
    }
    ovsdb_cs_free_schema(schema);
    return requests;
}

static const struct ovsdb_cs_ops cs_ops = { compose_monitor_requests };

/* What it returns is about this table only: the latest of all counts. */
static void
set_condition(struct state *state, const char *table,
              const struct json *clauses)
{
    unsigned seqno = ovsdb_cs_set_condition(state->cs, table, clauses);

    if ((int)(seqno - state->condition_seqno) > 0) {
        state->condition_seqno = seqno;
    }
}

void
state_set_condition(struct state *state, enum state_table table,
                    const struct state_row *const *examples, size_t count,
                    uint64_t column)
{
    const struct state_class *class = state_class_of(table);
    struct json *clauses = json_array_create_empty();

    CHECK(is_followed(state, table));
    if (examples == NULL || count == 0) {
        json_array_add(clauses, json_boolean_create(examples == NULL));
    }
    for (size_t i = 0; examples != NULL && i < count; i++) {
        CHECK(__builtin_popcountll(column) == 1);
        const struct state_column *which =
            &class->columns[__builtin_ctzll(column)];
        CHECK(which->shape == STATE_SHAPE_SCALAR);
        CHECK(examples[i]->table == table);
        json_array_add(clauses,
                       json_array_create_3(json_string_create(which->name),
                                           json_string_create("=="),
                                           codec_write(examples[i], which)));
    }
    set_condition(state, class->name, clauses);
    json_destroy(clauses);
}

void
state_set_conditions(struct state *state, enum state_table table,
                     const struct state_clause *clauses, size_t count)
{
    const struct state_class *class = state_class_of(table);
    struct json *list = json_array_create_empty();

    CHECK(is_followed(state, table));
    if (count == 0) {
        json_array_add(list, json_boolean_create(false));
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = "_uuid";
        struct json *value;
        if (clauses[i].column == 0) {
            value = codec_write_uuid(&clauses[i].uuid);
        } else {
            CHECK(__builtin_popcountll(clauses[i].column) == 1);
            const struct state_column *which =
                &class->columns[__builtin_ctzll(clauses[i].column)];
            CHECK(which->shape == STATE_SHAPE_SCALAR);
            CHECK(which->kind == STATE_KIND_UUID ||
                  which->kind == STATE_KIND_STRING);
            name = which->name;
            value = which->kind == STATE_KIND_UUID
                        ? codec_write_uuid(&clauses[i].uuid)
                        : json_string_create(clauses[i].text);
        }
        json_array_add(list,
                       json_array_create_3(json_string_create(name),
                                           json_string_create("=="), value));
    }
    set_condition(state, class->name, list);
    json_destroy(list);
}

bool
state_conditions_are_met(const struct state *state)
{
    return state->status.is_connected &&
           (int)(ovsdb_cs_get_condition_seqno(state->cs) -
                 state->condition_seqno) >= 0;
}

/* ---- Life ---- */

static bool
is_valid_remote(const char *remotes)
{
    static const char *const kinds[] = { "tcp:", "unix:", "ssl:" };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t length = strlen(kinds[i]);
        if (strncmp(remotes, kinds[i], length) == 0) {
            return remotes[length] != '\0';
        }
    }
    return false;
}

static void
open_session(struct state *state)
{
    ovsdb_cs_set_remote(state->cs, NULL, true);
    ovsdb_cs_set_remote(state->cs, state->remotes, true);
    ovsdb_cs_set_probe_interval(state->cs, (int)state->probe_ms);
}

int
state_open(struct loop *loop, const struct state_options *options,
           struct state **ret_state)
{
    if (options->remotes == NULL || !is_valid_remote(options->remotes)) {
        return -EINVAL;
    }

    struct state *state = state_alloc(sizeof *state);
    state->loop = loop;
    state->remotes = state_strdup(options->remotes);
    state->probe_ms =
        options->probe_ms == 0 ? PROBE_DEFAULT_MS : options->probe_ms;
    CHECK(state->probe_ms <= INT_MAX);
    state->tables = options->tables == 0 ? STATE_TABLES_ALL : options->tables;
    state->has_lock_name = options->lock != NULL;
    state->has_more_servers = strchr(options->remotes, ',') != NULL;
    state->status.since_ns = loop_now_ns();
    struct weft_uuid random;
    state_uuid_random(&random);
    memcpy(&state->rng, random.bytes, sizeof state->rng);
    cache_init(&state->cache);
    state->cache.has_lookups = options->has_lookups;
    list_init(&state->listeners);
    list_init(&state->txns);
    list_init(&state->finished);

    state->cs = ovsdb_cs_create(STATE_SCHEMA_NAME, 3, &cs_ops, state);
    ovsdb_cs_set_leader_only(state->cs, options->is_leader_only);
    if (options->lock != NULL) {
        ovsdb_cs_set_lock(state->cs, options->lock);
    }
    open_session(state);

    state->runner = (struct loop_runner){
        .run = state_run,
        .wait = state_wait,
    };
    loop_add_runner(loop, &state->runner);
    *ret_state = state;
    return 0;
}

void
state_close(struct state *state)
{
    if (state == NULL) {
        return;
    }

    CHECK(!state->is_running);
    txn_close_all(state);
    CHECK(list_is_empty(&state->txns));
    while (!list_is_empty(&state->listeners)) {
        list_remove(list_front(&state->listeners));
    }
    loop_remove_runner(state->loop, &state->runner);
    silence_reset(state);
    ovsdb_cs_destroy(state->cs);
    cache_done(&state->cache);
    free(state->remotes);
    free(state);
}

const struct state_status *
state_status(const struct state *state)
{
    return &state->status;
}

bool
state_lock_is_held(const struct state *state)
{
    return state->status.is_locked;
}

void
state_reconnect(struct state *state)
{
    ovsdb_cs_force_reconnect(state->cs);
}

/* ---- Reading ---- */

static const struct state_row *
row_of(const struct cache_entry *entry)
{
    return entry == NULL ? NULL : entry->row;
}

const struct state_row *
state_row_get(const struct state *state, enum state_table table,
              const struct weft_uuid *uuid)
{
    return row_of(cache_find(&state->cache, table, uuid));
}

const struct state_row *
state_row_find(const struct state *state, const struct state_row *key,
               size_t index)
{
    return row_of(cache_find_by_index(&state->cache, key, index));
}

const struct state_row *
state_row_next(const struct state *state, enum state_table table,
               const struct state_row *previous)
{
    const struct cache_entry *entry = NULL;

    if (previous != NULL) {
        entry = cache_find(&state->cache, table, &previous->uuid);
        CHECK(entry != NULL); /* The loop must not run in between. */
    }
    return row_of(cache_next(&state->cache, table, entry));
}

const struct state_row *
state_row_next_alike(const struct state *state, const struct state_row *key,
                     size_t lookup, const struct state_row *previous)
{
    const struct cache_entry *entry = NULL;

    if (previous != NULL) {
        entry = cache_find(&state->cache, key->table, &previous->uuid);
        CHECK(entry != NULL); /* The loop must not run in between. */
    }
    return row_of(cache_next_alike(&state->cache, key, lookup, entry));
}

size_t
state_row_count_alike(const struct state *state, const struct state_row *key,
                      size_t lookup)
{
    return cache_count_alike(&state->cache, key, lookup);
}

size_t
state_row_count(const struct state *state, enum state_table table)
{
    return state->cache.tables[table].count;
}

/* ---- Running ---- */

static void
handle_reconnect(struct state *state)
{
    bool is_waiting =
        state->condition_seqno != ovsdb_cs_get_condition_seqno(state->cs);

    state->is_monitoring = false;
    silence_reset(state);
    txn_lose_all(state);

    /* Conditions that are under way are asked for again, and counted when they
     * are met; but a session that starts from nothing starts with them. */
    state->condition_seqno = ovsdb_cs_get_condition_seqno(state->cs);
    if (is_waiting && state->status.has_contents && !state->is_flagged) {
        state->condition_seqno++;
    }
    state->is_flagged = false;
}

static void
handle_update(struct state *state, const struct ovsdb_cs_update_event *update)
{
    struct change_set changes = { 0 };

    if (apply_update(state, update, &changes) != 0) {
        /* This server and we do not understand each other: start anew. */
        state->is_flagged = true;
        ovsdb_cs_flag_inconsistency(state->cs);
        return;
    }
    state->seqno++;
    if (update->monitor_reply) {
        state->is_monitoring = true;
        state->status.has_contents = true;
    }
    listen_deliver(state, &changes);
    change_set_done(&changes);
}

static void
handle_event(struct state *state, const struct ovsdb_cs_event *event)
{
    switch (event->type) {
    case OVSDB_CS_EVENT_TYPE_RECONNECT:
        handle_reconnect(state);
        return;
    case OVSDB_CS_EVENT_TYPE_LOCKED:
        return; /* update_status() sees it. */
    case OVSDB_CS_EVENT_TYPE_UPDATE:
        handle_update(state, &event->update);
        return;
    case OVSDB_CS_EVENT_TYPE_TXN_REPLY:
        if (!silence_take_answer(state, event->txn_reply)) {
            txn_reply(state, event->txn_reply);
        }
        return;
    }
}

static void
update_status(struct state *state, const struct state_status *before)
{
    struct state_status *status = &state->status;
    int last_error = ovsdb_cs_get_last_error(state->cs);

    status->is_connected =
        state->is_monitoring && ovsdb_cs_is_connected(state->cs);
    status->is_locked = status->is_connected && state->has_lock_name &&
                        ovsdb_cs_has_lock(state->cs);
    if (last_error != 0) {
        status->last_error = last_error == EOF ? -ECONNRESET : -last_error;
    }
    if (status->is_connected == before->is_connected &&
        status->has_contents == before->has_contents &&
        status->is_locked == before->is_locked) {
        return;
    }
    if (status->is_connected && !before->is_connected) {
        status->connect_count++;
    }
    status->since_ns = loop_now_ns();
    listen_status(state);
}

/* How long a server that has accepted us may take until its contents are here.
 * Longer each time: those of a large database must get through in the end. */
static uint64_t
greeting_ns(struct state *state)
{
    uint64_t wait_ns = 2 * state->greeting_ns;
    uint64_t min_ns =
        state->status.has_contents ? GREETING_MIN_NS : 8 * GREETING_MIN_NS;

    if (!state->has_more_servers) {
        return GREETING_ALONE_NS; /* libopenvswitch's probes will tell. */
    }
    wait_ns = wait_ns < min_ns            ? min_ns
              : wait_ns > GREETING_MAX_NS ? GREETING_MAX_NS
                                          : wait_ns;
    state->greeting_ns = wait_ns;
    return wait_ns;
}

/* A fresh session when this one has had its time: see the head. */
static void
retry_session(struct state *state)
{
    uint64_t now_ns = loop_now_ns();
    bool was_accepted = state->is_accepted;

    state->is_accepted = ovsdb_cs_is_connected(state->cs);
    if (state->status.is_connected) {
        state->retry_ns = 0;
        state->greeting_ns = 0;
        return;
    }
    if (state->is_accepted && (!was_accepted || state->retry_ns == 0)) {
        state->retry_ns = now_ns + greeting_ns(state);
    } else if (was_accepted && !state->is_accepted) {
        state->retry_ns = 0; /* It is no good: the next one. */
    }
    if (state->retry_ns != 0 && now_ns < state->retry_ns) {
        return;
    }
    if (state->retry_ns != 0 && state->is_accepted) {
        ovsdb_cs_force_reconnect(state->cs); /* The next one. */
    } else if (state->retry_ns != 0) {
        open_session(state);
    }
    uint64_t wait_ns = (now_ns - state->status.since_ns) / 4;
    wait_ns = wait_ns < RETRY_MIN_NS   ? RETRY_MIN_NS
              : wait_ns > RETRY_MAX_NS ? RETRY_MAX_NS
                                       : wait_ns;
    state->rng = state->rng * UINT64_C(6364136223846793005) + 1;
    state->retry_ns = now_ns + wait_ns + (state->rng >> 33) % (wait_ns / 4);
}

static void
state_run(struct loop_runner *runner)
{
    struct state *state = container_of(runner, struct state, runner);
    struct state_status before = state->status;
    struct ovs_list events;
    struct ovsdb_cs_event *event;
    bool has_heard = false;

    state->is_running = true;
    retry_session(state);
    ovsdb_cs_run(state->cs, &events);
    LIST_FOR_EACH_POP(event, list_node, &events)
    {
        has_heard = true;
        handle_event(state, event);
        ovsdb_cs_event_destroy(event);
    }
    update_status(state, &before);
    listen_prime(state);
    txn_run(state);
    txn_finish(state);
    silence_run(state, has_heard);
    state->is_running = false;
}

static void
state_wait(struct loop_runner *runner)
{
    struct state *state = container_of(runner, struct state, runner);
    uint64_t now_ns = loop_now_ns();

    ovsdb_cs_wait(state->cs);
    txn_wait(state);
    silence_wait(state);
    if (state->has_unprimed && state->status.has_contents) {
        poll_immediate_wake();
    }
    if (state->status.is_connected) {
        return;
    }
    if (state->retry_ns <= now_ns) {
        poll_immediate_wake();
    } else {
        poll_timer_wait((int)((state->retry_ns - now_ns) / 1000000 + 1));
    }
}
