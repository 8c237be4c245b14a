/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_OVSDB_H
#define TESTS_SUPPORT_OVSDB_H

/* Real ovsdb-servers for a test: one (standalone) or several (Raft), as
 * foreground children with their files in a temporary directory, reached by
 * unix sockets there.  They die with the test.
 *
 *     struct ovsdb ovsdb;
 *     ovsdb_start(&ovsdb, &(struct ovsdb_options){ .server_count = 3 });
 *     state_open(loop, &(struct state_options){ .remotes = ovsdb.remotes },
 *                &state);
 *     ...
 *     ovsdb_kill(&ovsdb, ovsdb_find_leader(&ovsdb));
 *     ...
 *     ovsdb_stop(&ovsdb);
 *
 * Everything waits for its condition, with a deadline, and aborts the test
 * with a message when that passes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OVSDB_SERVERS_MAX 5

struct ovsdb_options {
    unsigned server_count;      /* 1: standalone; 3 or 5: Raft. */
    const char *schema;         /* NULL: $WEFT_SCHEMA. */
    unsigned election_timer_ms; /* 0: the server's default, 1000. */
    bool can_lose_power;        /* Needs $WEFT_SYNC_LOG_LIB. */
};

struct ovsdb_server {
    pid_t pid; /* 0: not running. */
    char database[128];
    char socket[128];
    char control[128];
    char sync_log[128];
};

struct ovsdb {
    struct ovsdb_options options;
    char directory[64];
    char remotes[OVSDB_SERVERS_MAX * 128]; /* For state_open(). */
    struct ovsdb_server servers[OVSDB_SERVERS_MAX];
};

/* Returns when all servers accept clients (Raft: have a leader). */
void ovsdb_start(struct ovsdb *ovsdb, const struct ovsdb_options *options);

/* Kills what is left and removes the directory. */
void ovsdb_stop(struct ovsdb *ovsdb);

/* kill -9, and waits for its end. */
void ovsdb_kill(struct ovsdb *ovsdb, unsigned index);

/* kill -9, and then takes away from its database file whatever had not been
 * synced: what a loss of power does. */
void ovsdb_lose_power(struct ovsdb *ovsdb, unsigned index);

/* Starts a server that was killed; does not wait for it. */
void ovsdb_restart(struct ovsdb *ovsdb, unsigned index);

/* Waits until a server accepts clients, and (Raft) has joined a majority. */
void ovsdb_wait_ready(struct ovsdb *ovsdb, unsigned index);

/* SIGSTOP and SIGCONT. */
void ovsdb_freeze(struct ovsdb *ovsdb, unsigned index);
void ovsdb_thaw(struct ovsdb *ovsdb, unsigned index);

/* Waits for a Raft leader among the running servers; standalone: 0. */
unsigned ovsdb_find_leader(struct ovsdb *ovsdb);

/* Runs a transaction by ovsdb-client, which asks for no durability.  'json'
 * is the array ["Weft", {...}, ...].  Returns its standard output, for
 * free(). */
char *ovsdb_transact(struct ovsdb *ovsdb, unsigned index, const char *json);

/* Converts the running database to the schema in the file 'path'. */
void ovsdb_convert(struct ovsdb *ovsdb, unsigned index, const char *path);

#endif /* TESTS_SUPPORT_OVSDB_H */
