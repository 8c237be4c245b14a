/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_STATE_CLIENT_H
#define TESTS_SUPPORT_STATE_CLIENT_H

/* A database connection for tests: it waits for conditions, commits one
 * transaction at a time, and writes down the changes it hears of.
 *
 * Several clients of one process are independent: one makes progress only
 * while its own loop is being run, that is while somebody waits for it.  This
 * makes "while it was not looking" a matter of course. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/state/state.h"

#define CLIENT_TRACE_SIZE 8192

struct client {
    struct loop *loop;
    struct state *state;
    struct state_listener listener;
    unsigned batch_count;
    unsigned change_count;
    unsigned status_count;
    bool is_in_batch;
    /* "{+Pool p1 ~Pool p1 slow_ms -Pool p1}": a batch in braces; insert,
     * update with columns, delete; rows by their first text column. */
    char trace[CLIENT_TRACE_SIZE];
};

/* Opens and waits for the first contents. */
void client_open(struct client *client, const char *remotes);
void client_open_with(struct client *client,
                      const struct state_options *options);
/* Opens without waiting. */
void client_start(struct client *client, const struct state_options *options);
void client_close(struct client *client);

/* Runs the loop until the condition holds; aborts after 30 s. */
typedef bool client_condition_fn(struct client *client, const void *argument);
void client_wait(struct client *client, client_condition_fn *condition,
                 const void *argument, const char *what);
void client_wait_connected(struct client *client);
void client_wait_disconnected(struct client *client);
/* Until a row is there as in 'row', in these columns. */
void client_wait_row(struct client *client, const struct state_row *row,
                     uint64_t columns);
void client_wait_gone(struct client *client, enum state_table table,
                      const struct weft_uuid *uuid);
/* Some turns of the loop, without waiting for anything. */
void client_turn(struct client *client);
void client_trace_clear(struct client *client);

/* A transaction that is a list of steps. */
enum step_kind {
    STEP_END,
    STEP_INSERT,
    STEP_UPDATE,
    STEP_DELETE,
    STEP_VERIFY,
    STEP_ABSENT,
    STEP_ADD,
    STEP_REMOVE,
};

struct client_step {
    enum step_kind kind;
    const struct state_row *row;
    uint64_t columns;
};

struct client_txn {
    struct state_txn txn;
    const struct client_step *steps;
    bool is_done;
    int result;
};

void client_txn_start(struct client *client, struct client_txn *txn,
                      const struct client_step *steps);
/* Waits for done(); returns its result. */
int client_txn_wait(struct client *client, struct client_txn *txn);
/* Both; a deadline of 30 s, no retries. */
int client_commit(struct client *client, const struct client_step *steps);

#define CLIENT_COMMIT(client, ...)                      \
    client_commit(client, (const struct client_step[]){ \
                              __VA_ARGS__, { STEP_END, NULL, 0 } })

/* ---- Samples: rows that the schema allows ---- */

/* "pool7": one that no other test of this process has; lives for 64 more. */
const char *sample_name(const char *prefix);
/* A row's head, with a random UUID. */
struct state_row sample_row(enum state_table table);
struct state_pool sample_pool(void);
struct state_volume sample_volume(const struct state_pool *pool);
/* A pool and a volume in it, committed. */
struct state_volume sample_make_volume(struct client *client);

#endif /* TESTS_SUPPORT_STATE_CLIENT_H */
