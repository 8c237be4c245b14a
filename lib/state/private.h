/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_PRIVATE_H
#define LIB_STATE_PRIVATE_H

/* What the files of the connection share.
 *
 * libopenvswitch keeps out of this header: its types are only named. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/state/cache.h"
#include "lib/state/state.h"

struct json;
struct jsonrpc_msg;
struct ovsdb_cs;
struct ovsdb_cs_update_event;

/* See silence.c. */
struct silence {
    struct json *question; /* The number of the request; NULL: none. */
    uint64_t look_ns;      /* Of the next look. */
    uint64_t quiet_ns;     /* From then on patience is short again. */
    unsigned looks;        /* Since something was heard; 0: nobody waits. */
    unsigned doublings;
    bool is_suspected;
    bool is_answered; /* A question, just now. */
};

/* What one update changed: new rows are the cache's, old rows are owned. */
struct change_set {
    struct state_change *changes;
    size_t count, capacity;
};

struct state {
    struct loop *loop;
    struct loop_runner runner;
    struct ovsdb_cs *cs;
    uint64_t tables; /* Followed. */
    bool has_lock_name;
    bool has_more_servers;

    struct cache cache;
    uint64_t seqno;     /* Of updates applied: rises with each. */
    bool is_monitoring; /* Contents have come since the last reconnect. */
    bool is_flagged;    /* We asked for everything anew. */
    unsigned condition_seqno;
    uint64_t retry_ns;    /* While there is no connection: see state.c. */
    uint64_t greeting_ns; /* What the last one was given. */
    bool is_accepted;     /* It may have said nothing yet. */
    uint64_t rng;
    char *remotes;
    uint32_t probe_ms;
    struct silence silence;
    struct state_status status;

    struct list listeners;
    struct list *next_listener;           /* While one is being called. */
    struct state_listener *this_listener; /* NULL once it unsubscribes. */
    bool has_unprimed;
    bool is_calling;
    bool is_running;

    struct list txns;     /* Not settled yet, in order of start. */
    struct list finished; /* Whose done() is due. */
    bool needs_turn;      /* A transaction was started outside of run. */
};

/* ---- apply.c ---- */

/* Applies an update completely, or not at all: -EBADMSG.  Appends to
 * 'changes', in order of tables and UUIDs. */
WEFT_MUST_CHECK int apply_update(struct state *state,
                                 const struct ovsdb_cs_update_event *update,
                                 struct change_set *changes);
void change_set_done(struct change_set *changes);

/* ---- listen.c ---- */

void listen_deliver(struct state *state, const struct change_set *changes);
/* All rows, to those who have not had any. */
void listen_prime(struct state *state);
void listen_status(struct state *state);

/* ---- silence.c ---- */

/* A fresh connection, or the end. */
void silence_reset(struct state *state);
/* Whether a reply is to a question from here. */
bool silence_take_answer(struct state *state, const struct jsonrpc_msg *reply);
/* After what has arrived was read: 'has_heard', if that was anything. */
void silence_run(struct state *state, bool has_heard);
void silence_wait(const struct state *state);

/* ---- txn.c ---- */

bool txn_is_on_its_way(const struct state *state);

/* The connection was lost: what had been sent has an unknown outcome. */
void txn_lose_all(struct state *state);
void txn_reply(struct state *state, const struct jsonrpc_msg *reply);
/* Sends what can be sent, notices deadlines. */
void txn_run(struct state *state);
void txn_wait(struct state *state);
/* Calls the done() of what is settled. */
void txn_finish(struct state *state);
void txn_close_all(struct state *state);

/* ---- txn_build.c ---- */

/* What an operation of a request is about, to explain an error in its
 * reply. */
struct txn_note {
    enum state_table table;
    uint64_t columns;
    struct weft_uuid uuid; /* Of the row; nil for verify_absent. */
};

struct state_txn_private {
    struct json *operations; /* While building: the request's parameters. */
    struct json *request_id; /* While sent. */
    struct txn_note *notes;  /* One an operation. */
    size_t note_count, note_capacity;
    bool is_building;
    bool is_found_done; /* An insert found its row. */
};

struct state_txn_private *txn_build_new(void);
void txn_build_free(struct state_txn_private *private);
/* Forgets what was built. */
void txn_build_reset(struct state_txn_private *private);
/* Calls build(). */
WEFT_MUST_CHECK int txn_build_call(struct state_txn *txn);
/* The complete parameters of "transact": the caller's. */
struct json *txn_build_take(struct state_txn *txn);

/* ---- txn_result.c ---- */

enum txn_verdict {
    TXN_VERDICT_COMMITTED,
    TXN_VERDICT_CONFLICT, /* 'result' says which. */
    TXN_VERDICT_REFUSED,  /* 'result' says why. */
    TXN_VERDICT_UNKNOWN,
    TXN_VERDICT_WRONG_SERVER, /* Not executed: it has no such database. */
};

/* Judges a reply; fills txn->error and the conflict, and 'ret_result' but for
 * the first and the last two. */
enum txn_verdict txn_result_judge(struct state_txn *txn,
                                  const struct jsonrpc_msg *reply,
                                  int *ret_result);

#endif /* LIB_STATE_PRIVATE_H */
