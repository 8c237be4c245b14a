/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/state_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/state/row_class.h"

#define DEADLINE_NS UINT64_C(30000000000)

static void
trace_add(struct client *client, const char *text)
{
    size_t used = strlen(client->trace);
    snprintf(client->trace + used, sizeof client->trace - used, "%s", text);
}

static const char *
row_title(const struct state_row *row)
{
    const struct state_class *class = state_class_of(row->table);

    for (size_t i = 0; i < class->column_count; i++) {
        const struct state_column *column = &class->columns[i];
        if (column->kind == STATE_KIND_STRING &&
            column->shape == STATE_SHAPE_SCALAR &&
            strcmp(column->name, "project") != 0) {
            const char *text;
            memcpy(&text, state_member(row, column->offset), sizeof text);
            return text;
        }
    }
    return "";
}

static void
on_begin(struct state_listener *listener)
{
    struct client *client = container_of(listener, struct client, listener);
    CHECK(!client->is_in_batch);
    client->is_in_batch = true;
    client->batch_count++;
    trace_add(client, "{");
}

static void
on_change(struct state_listener *listener, const struct state_change *change)
{
    struct client *client = container_of(listener, struct client, listener);
    const struct state_row *row =
        change->new_row != NULL ? change->new_row : change->old_row;
    char columns[128], text[256];

    CHECK(client->is_in_batch);
    CHECK((change->new_row == NULL) == (change->kind == STATE_CHANGE_DELETE));
    CHECK((change->old_row == NULL) == (change->kind == STATE_CHANGE_INSERT));
    CHECK((change->columns != 0) == (change->kind == STATE_CHANGE_UPDATE));
    if (change->new_row != NULL) {
        CHECK(state_row_get(client->state, change->table, &row->uuid) == row);
    }
    state_row_format_columns(change->table, change->columns, columns,
                             sizeof columns);
    snprintf(text, sizeof text, "%s%c%s %s%s%s",
             client->trace[strlen(client->trace) - 1] == '{' ? "" : " ",
             "+~-"[change->kind], state_table_name(change->table),
             row_title(row), columns[0] == '\0' ? "" : " ", columns);
    trace_add(client, text);
    client->change_count++;
}

static void
on_end(struct state_listener *listener)
{
    struct client *client = container_of(listener, struct client, listener);
    CHECK(client->is_in_batch);
    client->is_in_batch = false;
    trace_add(client, "}");
}

static void
on_status(struct state_listener *listener)
{
    container_of(listener, struct client, listener)->status_count++;
}

void
client_trace_clear(struct client *client)
{
    client->trace[0] = '\0';
    client->batch_count = 0;
    client->change_count = 0;
}

void
client_start(struct client *client, const struct state_options *options)
{
    *client = (struct client){
        .listener = {
            .begin = on_begin,
            .change = on_change,
            .end = on_end,
            .status = on_status,
        },
    };
    int error = loop_new(&client->loop);
    CHECK(error == 0);
    error = state_open(client->loop, options, &client->state);
    CHECK(error == 0);
    state_subscribe(client->state, &client->listener, STATE_TABLES_ALL);
}

void
client_open_with(struct client *client, const struct state_options *options)
{
    client_start(client, options);
    client_wait_connected(client);
}

void
client_open(struct client *client, const char *remotes)
{
    client_open_with(client, &(struct state_options){ .remotes = remotes });
}

void
client_close(struct client *client)
{
    state_close(client->state);
    loop_free(client->loop);
}

/* ---- Waiting ---- */

void
client_wait(struct client *client, client_condition_fn *condition,
            const void *argument, const char *what)
{
    uint64_t deadline_ns = loop_now_ns() + DEADLINE_NS;

    while (!condition(client, argument)) {
        if (loop_now_ns() >= deadline_ns) {
            fprintf(stderr, "not in time: %s\ntrace: %s\n", what,
                    client->trace);
            abort();
        }
        loop_run_once(client->loop, deadline_ns);
    }
}

static bool
is_connected(struct client *client, const void *unused)
{
    (void)unused;
    return state_status(client->state)->is_connected;
}

static bool
is_disconnected(struct client *client, const void *unused)
{
    (void)unused;
    return !state_status(client->state)->is_connected;
}

void
client_wait_connected(struct client *client)
{
    client_wait(client, is_connected, NULL, "connected");
}

void
client_wait_disconnected(struct client *client)
{
    client_wait(client, is_disconnected, NULL, "disconnected");
}

void
client_turn(struct client *client)
{
    for (int i = 0; i < 20; i++) {
        loop_run_once(client->loop, 0);
    }
}

struct wanted_row {
    const struct state_row *row;
    uint64_t columns;
};

static bool
has_row(struct client *client, const void *argument)
{
    const struct wanted_row *wanted = argument;
    const struct state_row *row =
        state_row_get(client->state, wanted->row->table, &wanted->row->uuid);
    return row != NULL && state_row_equal(row, wanted->row, wanted->columns);
}

void
client_wait_row(struct client *client, const struct state_row *row,
                uint64_t columns)
{
    client_wait(client, has_row, &(struct wanted_row){ row, columns }, "a row");
}

static bool
has_no_row(struct client *client, const void *argument)
{
    const struct state_row *key = argument;
    return state_row_get(client->state, key->table, &key->uuid) == NULL;
}

void
client_wait_gone(struct client *client, enum state_table table,
                 const struct weft_uuid *uuid)
{
    client_wait(client, has_no_row,
                &(struct state_row){ .table = table, .uuid = *uuid },
                "a row to go");
}

/* ---- Transactions ---- */

static int
build_steps(struct state_txn *txn, struct state *state)
{
    const struct client_step *step =
        container_of(txn, struct client_txn, txn)->steps;

    (void)state;
    for (; step->kind != STEP_END; step++) {
        switch (step->kind) {
        case STEP_INSERT:
            state_txn_insert(txn, step->row, step->columns);
            break;
        case STEP_UPDATE:
            state_txn_update(txn, step->row, step->columns);
            break;
        case STEP_DELETE:
            state_txn_delete(txn, step->row->table, &step->row->uuid);
            break;
        case STEP_VERIFY:
            state_txn_verify(txn, step->row, step->columns);
            break;
        case STEP_ABSENT:
            state_txn_verify_absent(txn, step->row, step->columns);
            break;
        case STEP_ADD:
            state_txn_add(txn, step->row, step->columns);
            break;
        case STEP_REMOVE:
            state_txn_remove(txn, step->row, step->columns);
            break;
        case STEP_END:
            break;
        }
    }
    return 0;
}

static void
on_done(struct state_txn *txn, int result)
{
    struct client_txn *one = container_of(txn, struct client_txn, txn);
    CHECK(!one->is_done);
    one->is_done = true;
    one->result = result;
}

void
client_txn_start(struct client *client, struct client_txn *txn,
                 const struct client_step *steps)
{
    txn->steps = steps;
    txn->is_done = false;
    if (txn->txn.build == NULL) {
        txn->txn.build = build_steps;
    }
    txn->txn.done = on_done;
    txn->txn.comment = "test";
    state_txn_start(client->state, &txn->txn);
    CHECK(!txn->is_done);
}

static bool
is_done(struct client *client, const void *argument)
{
    (void)client;
    return ((const struct client_txn *)argument)->is_done;
}

int
client_txn_wait(struct client *client, struct client_txn *txn)
{
    client_wait(client, is_done, txn, "a transaction");
    return txn->result;
}

int
client_commit(struct client *client, const struct client_step *steps)
{
    struct client_txn txn = {
        .txn.deadline_ns = loop_now_ns() + DEADLINE_NS,
    };
    client_txn_start(client, &txn, steps);
    return client_txn_wait(client, &txn);
}

/* ---- Samples ---- */

/* Tests of a group share a database: each uses names of its own. */
const char *
sample_name(const char *prefix)
{
    static char names[64][32];
    static unsigned name_count;
    char *name = names[name_count % 64];
    snprintf(name, sizeof names[0], "%s%u", prefix, name_count++);
    return name;
}

struct state_row
sample_row(enum state_table table)
{
    struct state_row row = { .table = table };
    state_uuid_random(&row.uuid);
    return row;
}

struct state_pool
sample_pool(void)
{
    return (struct state_pool){
        .row = sample_row(STATE_TABLE_POOL),
        .name = sample_name("pool"),
        .replicas = 3,
        .min_in_sync = 2,
        .failure_domain = STATE_POOL_FAILURE_DOMAIN_RACK,
        .device_class = "ssd",
        .extent_bytes = 1 << 22,
        .stripe_width = 4,
        .trash_seconds = UINT32_MAX,
        .slow_ms = 500,
    };
}

struct state_volume
sample_volume(const struct state_pool *pool)
{
    return (struct state_volume){
        .row = sample_row(STATE_TABLE_VOLUME),
        .project = "default",
        .name = sample_name("volume"),
        .pool = pool->row.uuid,
        .size_bytes = INT64_MAX,
        .stripe_width = 1,
        .extent_bytes = 1 << 22,
        .state = STATE_VOLUME_STATE_READY,
        .request_id = "quoted \"text\" \\ \xc3\xa9",
        .create_time_ms = 1700000000123,
    };
}

/* A pool and a volume in it, committed. */
struct state_volume
sample_make_volume(struct client *client)
{
    struct state_pool pool = sample_pool();
    struct state_volume volume = sample_volume(&pool);

    int result =
        CLIENT_COMMIT(client, { STEP_INSERT, &pool.row, STATE_POOL_COL_ALL },
                      { STEP_INSERT, &volume.row, STATE_VOLUME_COL_ALL });
    CHECK(result == 0);
    return volume;
}
