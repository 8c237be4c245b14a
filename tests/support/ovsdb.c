/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ovsdb.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "tests/support/process.h"

#define RUN(...) process_run((const char *[]){ __VA_ARGS__, NULL }, NULL)

static void
must(char *output, const char *what)
{
    if (output == NULL) {
        process_give_up("%s failed", what);
    }
    free(output);
}

/* ---- What has been synced ----
 *
 * tests/support/sync_log.c, preloaded into the server, appends a line "inode
 * size" after each successful sync. */

static void
note_synced(const struct ovsdb_server *server)
{
    struct stat status;
    CLEANUP_FILE FILE *log = fopen(server->sync_log, "ae");

    if (log == NULL || stat(server->database, &status) < 0) {
        process_give_up("%s: %s", server->database, strerror(errno));
    }
    fprintf(log, "%llu %llu\n", (unsigned long long)status.st_ino,
            (unsigned long long)status.st_size);
}

static uint64_t
synced_size(const struct ovsdb_server *server)
{
    CLEANUP_FILE FILE *log = fopen(server->sync_log, "re");
    char line[64];
    uint64_t found = 0;
    struct stat status;

    if (log == NULL || stat(server->database, &status) < 0) {
        process_give_up("%s: %s", server->database, strerror(errno));
    }
    while (fgets(line, sizeof line, log) != NULL) {
        char *end;
        uint64_t inode = strtoull(line, &end, 10);
        uint64_t size = strtoull(end, NULL, 10);
        if (inode == status.st_ino && size > found) {
            found = size;
        }
    }
    return found;
}

/* ---- Servers ---- */

static bool
is_clustered(const struct ovsdb *ovsdb)
{
    return ovsdb->options.server_count > 1;
}

static void
create_database(struct ovsdb *ovsdb, unsigned index)
{
    struct ovsdb_server *server = &ovsdb->servers[index];
    const char *schema = ovsdb->options.schema;
    char own[160], first[160], timer[64];

    process_format(own, sizeof own, "unix:%s/raft%u", ovsdb->directory, index);
    process_format(first, sizeof first, "unix:%s/raft0", ovsdb->directory);
    process_format(timer, sizeof timer, "--election-timer=%u",
                   ovsdb->options.election_timer_ms == 0
                       ? 1000
                       : ovsdb->options.election_timer_ms);
    if (!is_clustered(ovsdb)) {
        must(RUN("ovsdb-tool", "create", server->database, schema),
             "ovsdb-tool create");
    } else if (index == 0) {
        must(RUN("ovsdb-tool", timer, "create-cluster", server->database,
                 schema, own),
             "ovsdb-tool create-cluster");
    } else {
        must(RUN("ovsdb-tool", "join-cluster", server->database, "Weft", own,
                 first),
             "ovsdb-tool join-cluster");
    }
    note_synced(server);
}

void
ovsdb_restart(struct ovsdb *ovsdb, unsigned index)
{
    struct ovsdb_server *server = &ovsdb->servers[index];
    char remote[160], control[160], log[160];

    if (server->pid != 0) {
        process_give_up("server %u runs already", index);
    }
    process_format(remote, sizeof remote, "--remote=punix:%s", server->socket);
    process_format(control, sizeof control, "--unixctl=%s", server->control);
    process_format(log, sizeof log, "--log-file=%s/log%u", ovsdb->directory,
                   index);
    const char *arguments[] = { "ovsdb-server",
                                "-vconsole:off",
                                "-vsyslog:off",
                                server->database,
                                remote,
                                control,
                                log,
                                NULL };
    const char *preload = getenv("WEFT_SYNC_LOG_LIB");
    const char *environment[] = { "LD_PRELOAD", preload, "WEFT_SYNC_LOG",
                                  server->sync_log, NULL };
    server->pid =
        process_start(arguments,
                      ovsdb->options.can_lose_power ? environment : NULL, -1);
}

static void
check_running(const struct ovsdb_server *server)
{
    int status;
    if (server->pid == 0 || waitpid(server->pid, &status, WNOHANG) != 0) {
        process_give_up("the server of %s has ended by itself",
                        server->database);
    }
}

void
ovsdb_wait_ready(struct ovsdb *ovsdb, unsigned index)
{
    struct ovsdb_server *server = &ovsdb->servers[index];
    uint64_t start_ms = process_now_ms();
    char remote[160];

    process_format(remote, sizeof remote, "unix:%s", server->socket);
    while (access(server->socket, F_OK) != 0) {
        check_running(server);
        process_look_again_soon(start_ms, "a socket");
    }
    must(RUN("ovsdb-client", "-vconsole:off", "-t30", "wait", remote, "Weft",
             "connected"),
         "ovsdb-client wait");
}

void
ovsdb_start(struct ovsdb *ovsdb, const struct ovsdb_options *options)
{
    *ovsdb = (struct ovsdb){ .options = *options };
    if (ovsdb->options.schema == NULL) {
        ovsdb->options.schema = getenv("WEFT_SCHEMA");
    }
    if (ovsdb->options.schema == NULL) {
        process_give_up("WEFT_SCHEMA must name proto/weft.ovsschema");
    }
    if (options->can_lose_power && getenv("WEFT_SYNC_LOG_LIB") == NULL) {
        process_give_up("WEFT_SYNC_LOG_LIB must name the library sync_log");
    }
    process_format(ovsdb->directory, sizeof ovsdb->directory,
                   "/tmp/weft-ovsdb-XXXXXX");
    if (mkdtemp(ovsdb->directory) == NULL) {
        process_give_up("mkdtemp: %s", strerror(errno));
    }

    for (unsigned i = 0; i < options->server_count; i++) {
        struct ovsdb_server *server = &ovsdb->servers[i];
        size_t used = strlen(ovsdb->remotes);
        process_format(server->database, sizeof server->database, "%s/db%u",
                       ovsdb->directory, i);
        process_format(server->socket, sizeof server->socket, "%s/sock%u",
                       ovsdb->directory, i);
        process_format(server->control, sizeof server->control, "%s/ctl%u",
                       ovsdb->directory, i);
        process_format(server->sync_log, sizeof server->sync_log, "%s/sync%u",
                       ovsdb->directory, i);
        process_format(ovsdb->remotes + used, sizeof ovsdb->remotes - used,
                       "%sunix:%s", i == 0 ? "" : ",", server->socket);
        create_database(ovsdb, i);
        ovsdb_restart(ovsdb, i);
        ovsdb_wait_ready(ovsdb, i);
    }
}

void
ovsdb_kill(struct ovsdb *ovsdb, unsigned index)
{
    struct ovsdb_server *server = &ovsdb->servers[index];

    check_running(server);
    kill(server->pid, SIGKILL);
    process_wait(server->pid);
    server->pid = 0;
    /* So that ovsdb_wait_ready() does not see the old one. */
    unlink(server->socket);
    unlink(server->control);
}

void
ovsdb_lose_power(struct ovsdb *ovsdb, unsigned index)
{
    struct ovsdb_server *server = &ovsdb->servers[index];

    if (server->pid != 0) {
        ovsdb_kill(ovsdb, index);
    }
    uint64_t size = synced_size(server);
    if (truncate(server->database, (off_t)size) < 0) {
        process_give_up("truncate: %s", strerror(errno));
    }
}

void
ovsdb_freeze(struct ovsdb *ovsdb, unsigned index)
{
    check_running(&ovsdb->servers[index]);
    kill(ovsdb->servers[index].pid, SIGSTOP);
}

void
ovsdb_thaw(struct ovsdb *ovsdb, unsigned index)
{
    kill(ovsdb->servers[index].pid, SIGCONT);
}

unsigned
ovsdb_find_leader(struct ovsdb *ovsdb)
{
    uint64_t start_ms = process_now_ms();

    if (!is_clustered(ovsdb)) {
        return 0;
    }
    for (;;) {
        for (unsigned i = 0; i < ovsdb->options.server_count; i++) {
            if (ovsdb->servers[i].pid == 0) {
                continue;
            }
            char *text =
                RUN("ovs-appctl", "-T5", "-t", ovsdb->servers[i].control,
                    "cluster/status", "Weft");
            bool is_leader =
                text != NULL && strstr(text, "Role: leader") != NULL;
            free(text);
            if (is_leader) {
                return i;
            }
        }
        process_look_again_soon(start_ms, "a leader");
    }
}

char *
ovsdb_transact(struct ovsdb *ovsdb, unsigned index, const char *json)
{
    char remote[160];

    process_format(remote, sizeof remote, "unix:%s",
                   ovsdb->servers[index].socket);
    char *text =
        RUN("ovsdb-client", "-vconsole:off", "-t30", "transact", remote, json);
    if (text == NULL) {
        process_give_up("ovsdb-client transact failed");
    }
    return text;
}

void
ovsdb_convert(struct ovsdb *ovsdb, unsigned index, const char *path)
{
    char remote[160];

    process_format(remote, sizeof remote, "unix:%s",
                   ovsdb->servers[index].socket);
    must(RUN("ovsdb-client", "-vconsole:off", "-t30", "convert", remote, path),
         "ovsdb-client convert");
}

void
ovsdb_stop(struct ovsdb *ovsdb)
{
    for (unsigned i = 0; i < ovsdb->options.server_count; i++) {
        if (ovsdb->servers[i].pid != 0) {
            kill(ovsdb->servers[i].pid, SIGKILL);
            process_wait(ovsdb->servers[i].pid);
            ovsdb->servers[i].pid = 0;
        }
    }
    must(RUN("rm", "-rf", ovsdb->directory), "rm");
}
