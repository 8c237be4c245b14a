/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_STATE_H
#define LIB_STATE_STATE_H

/* A connection to the Weft database: what is in it, as values; what changes;
 * and transactions.
 *
 * The happy path.  state_open() connects in the background.  When the first
 * contents have come, listeners get every row as an insert, in one batch; from
 * then on a batch for each commit in the database.  Between batches the rows
 * are there to be read by state_<table>_get(), _find_by_<index>() and _next().
 *
 * To change something, fill a 'struct state_txn' and start it.  Its build()
 * is called when the connection is up; it looks at the rows and says what to
 * verify and to write.  done() comes when the database has committed that, and
 * the rows then show it (unless the connection was lost in between).
 *
 * Invariants:
 *
 *   (1) done(txn, 0) means: committed, and on stable storage at a majority of
 *       the servers (STORAGE.md S10).  Every transaction asks for that.
 *   (2) A failure other than -EREMOTEIO means that nothing of this transaction
 *       was committed, but see "Twice" below for -ECANCELED.
 *   (3) The rows only ever move from one commit to the next; a batch is never
 *       half applied when anybody looks.
 *   (4) After a reconnect listeners get the differences, and only those.  The
 *       rows stay readable (old, but consistent) while there is no connection.
 *   (5) done() and listeners are called from the loop only, never from inside
 *       any function here (but done() from state_close()).
 *
 * Twice.  After a change of leader a Raft server repeats a transaction by
 * itself, not knowing whether the first try was committed.  If it was, the
 * second try fails at its own verify: -ECANCELED may come for a transaction
 * that in truth was committed.  So do what one does after -EREMOTEIO: look at
 * the rows and decide again.  With STATE_TXN_RETRY this is done here, by
 * calling build() again: it finds in the rows that its work is done and
 * returns STATE_TXN_NOTHING.  (Inserts need no care: a UUID that exists
 * already settles the transaction as committed.)
 *
 * Durability.  The IDL of libopenvswitch cannot ask for a durable commit and
 * cannot tell a failed verify from a lost connection; hence this library works
 * on the layer below it, ovsdb-cs.  See lib/state/README.md.
 *
 * Thread: that of the loop.  Values passed out are borrowed until control goes
 * back to the loop, or the next batch; clone what must live longer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/state/loop.h"
#include "lib/state/row.h"
#include "lib/state/values.h"

struct state;

/* The lock of the one blockd that does the cloud's housekeeping. */
#define STATE_LOCK_STORAGE_MANAGER "storage_manager"

#define STATE_TABLES_ALL UINT64_MAX
#define STATE_TABLE_BIT(table) (UINT64_C(1) << (table))

/* ---- The connection ---- */

struct state_options {
    /* "tcp:10.0.0.1:6641,tcp:10.0.0.2:6641" or "unix:/run/weft/db.sock". */
    const char *remotes;
    /* Follow only the Raft leader.  For a connection with a lock; it costs
     * seconds at a change of leader, so not for any other. */
    bool is_leader_only;
    /* NULL, or the name of a lock to wait for: see state_lock_is_held(). */
    const char *lock;
    /* Which tables to follow; 0 stands for all. */
    uint64_t tables;
    /* Keep the lookups, state_<table>_next_by_<columns>(): they cost memory. */
    bool has_lookups;
    /* A silent server is probed after this, and given up after as much again;
     * 0: 2000; at least 1000.  Of several servers, one that does not answer
     * while a transaction waits for it is given up much sooner (silence.c). */
    uint32_t probe_ms;
};

/* Never waits.  -EINVAL: no remote, or one of an unknown kind. */
WEFT_MUST_CHECK int state_open(struct loop *loop,
                               const struct state_options *options,
                               struct state **ret_state);

/* Settles all transactions (-ESHUTDOWN: not sent; -EREMOTEIO: sent, outcome
 * unknown).  Not from inside a callback.  Accepts NULL. */
void state_close(struct state *state);

struct state_status {
    bool is_connected; /* And up to date: transactions can be sent. */
    bool has_contents; /* The rows have been read at least once. */
    bool is_locked;    /* The lock of the options is held. */
    int last_error;    /* -errno of the last lost connection; 0: none. */
    uint64_t since_ns; /* CLOCK_MONOTONIC, of the last change of the above. */
    uint64_t connect_count;
};

const struct state_status *state_status(const struct state *state);

/* Something else has fallen silent, and a transaction may be needed soon: has
 * the server answer a question now, so that one that is gone with it has been
 * changed for another by then.  Cheap; a transaction does it by itself. */
void state_suspect(struct state *state);

/* Gives up the present connection and makes another: for tests. */
void state_reconnect(struct state *state);

/* Whether this process holds the lock as far as it knows; every transaction
 * on a connection with a lock asserts it in the server.
 *
 * A lock is a matter of one server, not of the cluster: at a change of leader
 * there may for a moment be two holders, each asserting it successfully at
 * "its" server.  It keeps two managers from doing the same work; it never
 * keeps data safe.  Safety comes from state_txn_verify(). */
bool state_lock_is_held(const struct state *state);

/* Follow only the rows of a table that have the same value as one of the
 * 'count' examples in the given column (one bit), which costs the server a
 * hash look-up.  'count' 0: no rows at all; 'examples' NULL: all of them.
 * Rows that leave the selection are delivered as deleted. */
void state_set_condition(struct state *state, enum state_table table,
                         const struct state_row *const *examples, size_t count,
                         uint64_t column);
/* The same over several columns: a row is followed if any clause fits. */
struct state_clause {
    uint64_t column;       /* One bit, of a scalar; 0: the row's own UUID. */
    struct weft_uuid uuid; /* The value, of a UUID or a reference; */
    const char *text;      /* that of a text, borrowed for the call. */
};

/* 'count' 0: no rows at all.  Before the connection is up, that is right after
 * state_open(), it keeps the server from sending everything first. */
void state_set_conditions(struct state *state, enum state_table table,
                          const struct state_clause *clauses, size_t count);
/* Whether the rows follow all conditions that have been set. */
bool state_conditions_are_met(const struct state *state);

/* ---- Reading ----
 *
 * Typed functions are in values.h: state_volume_get(), state_volume_next(),
 * state_volume_find_by_project_name(), and of lookups (gen_values.py)
 * state_port_next_by_identity(), state_port_count_by_identity(), ... */

/* NULL when there is none. */
const struct state_row *state_row_get(const struct state *state,
                                      enum state_table table,
                                      const struct weft_uuid *uuid);
/* In no particular order; 'previous' NULL begins, NULL ends. */
const struct state_row *state_row_next(const struct state *state,
                                       enum state_table table,
                                       const struct state_row *previous);
size_t state_row_count(const struct state *state, enum state_table table);

/* ---- Changes ---- */

enum state_change_kind {
    STATE_CHANGE_INSERT,
    STATE_CHANGE_UPDATE,
    STATE_CHANGE_DELETE,
};

struct state_change {
    enum state_change_kind kind;
    enum state_table table;
    const struct state_row *old_row; /* NULL for an insert. */
    const struct state_row *new_row; /* NULL for a delete. */
    uint64_t columns;                /* What an update changed. */
};

struct state_listener;
typedef void state_listener_fn(struct state_listener *listener);
typedef void state_change_fn(struct state_listener *listener,
                             const struct state_change *change);

struct state_listener {
    /* Any of these may be NULL.  Between begin() and end() all rows are
     * already at their new values.  All of them may start transactions and
     * unsubscribe; none may close the connection. */
    state_listener_fn *begin;
    state_change_fn *change;
    state_listener_fn *end;
    state_listener_fn *status; /* state_status() has changed. */
    /* Private. */
    uint64_t tables;
    bool is_primed;
    struct list node;
};

/* Delivers changes of 'tables' (a mask of STATE_TABLE_BIT).  If there are rows
 * already, they come first, as inserts, in a batch of their own, soon. */
void state_subscribe(struct state *state, struct state_listener *listener,
                     uint64_t tables);
void state_unsubscribe(struct state *state, struct state_listener *listener);

/* ---- Transactions ---- */

struct state_txn;
struct state_txn_private;
typedef int state_txn_build_fn(struct state_txn *txn, struct state *state);
typedef void state_txn_done_fn(struct state_txn *txn, int result);

/* build() returns
 *     0                   send it (with no operation at all: done, 0)
 *     STATE_TXN_NOTHING   all is as it should be: done, 0, nothing sent
 *     -EAGAIN             call me again when the database has changed
 *     other -errno        done with that */
#define STATE_TXN_NOTHING 1

enum state_txn_flags {
    /* After -ECANCELED or -EREMOTEIO build again on the then current rows,
     * until the deadline.  For a build() that is idempotent: it verifies
     * or inserts by a derived UUID what makes a second commit impossible, and
     * verifies rows as it reads them here (against a fixed expectation it
     * would fail again and again). */
    STATE_TXN_RETRY = 1,
};

/* Must be all zeros but for what the user sets.  Result, in done():
 *
 *     0            committed and durable; or found done
 *     -ECANCELED   a verify failed, or an updated row is gone
 *     -EEXIST      an index would have two rows alike: see 'conflict_table'
 *     -EINVAL      a value or reference that the schema does not allow
 *     -EBUSY       a row that is to go is referred to by another
 *     -EACCES      this host or role may not write that
 *     -ENOLCK      the lock is not held
 *     -ETIMEDOUT   the deadline came before it could be sent; no effect
 *     -ESHUTDOWN   the connection was closed before it was sent; no effect
 *     -EREMOTEIO   sent, and the answer is not known: it may be committed, or
 *                  be committed yet.  Hold, and decide from the rows (S11)
 *     other        what build() returned */
struct state_txn {
    /* Set by the user.  'comment' (who and why) goes to the server's log; it
     * is borrowed until done(). */
    state_txn_build_fn *build;
    state_txn_done_fn *done;
    const char *comment;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none. */
    unsigned flags;       /* enum state_txn_flags */

    /* Results, valid in done(). */
    char error[256];                 /* The database's words; "" without any. */
    enum state_table conflict_table; /* With -EEXIST and -ECANCELED. */
    uint64_t conflict_columns;       /* The index; 0: the row's UUID. */
    uint32_t attempts;               /* How often it was sent. */

    /* Private. */
    int state;
    int result;
    uint64_t seqno;
    struct state *owner;
    struct state_txn_private *private;
    struct list node;
};

/* Queues the transaction.  It is borrowed until done(). */
void state_txn_start(struct state *state, struct state_txn *txn);

/* Asks for an early end: -ETIMEDOUT or -EREMOTEIO, as with a deadline that
 * has come, or the true result.  Harmless after done(). */
void state_txn_cancel(struct state_txn *txn);

/* The following may be called in build() only.  They copy the values. */

/* Compare-and-set: the row exists, and these columns are as in 'row'.  With no
 * columns: it exists. */
void state_txn_verify(struct state_txn *txn, const struct state_row *row,
                      uint64_t columns);
/* No row has the values of 'row' in these columns (say, those of an index). */
void state_txn_verify_absent(struct state_txn *txn, const struct state_row *row,
                             uint64_t columns);
/* A new row, with row->uuid for its UUID (not nil: state_uuid_derive(), or
 * state_uuid_random() made once, not in each build); columns that are not
 * named get the schema's defaults.  If the rows have this UUID already, the
 * whole transaction has been committed before: it ends with 0, unsent. */
void state_txn_insert(struct state_txn *txn, const struct state_row *row,
                      uint64_t columns);
/* The row must exist, or it is -ECANCELED. */
void state_txn_update(struct state_txn *txn, const struct state_row *row,
                      uint64_t columns);
/* Adds the members of 'row' in one set or map column (one bit) to what the
 * database has, or removes them (of a map, by key).  Needs no verify. */
void state_txn_add(struct state_txn *txn, const struct state_row *row,
                   uint64_t column);
void state_txn_remove(struct state_txn *txn, const struct state_row *row,
                      uint64_t column);
/* A row that does not exist is no error. */
void state_txn_delete(struct state_txn *txn, enum state_table table,
                      const struct weft_uuid *uuid);

#endif /* LIB_STATE_STATE_H */
