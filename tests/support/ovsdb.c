/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ovsdb.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/cleanup.h"

/* Loaded machines and sanitizers are slow; a healthy run takes a fraction. */
#define DEADLINE_MS 30000

static _Noreturn void __attribute__((format(printf, 1, 2)))
give_up(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "ovsdb fixture: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

static void __attribute__((format(printf, 3, 4)))
format_text(char *to, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(to, size, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size) {
        give_up("text too long: %s", format);
    }
}

static uint64_t
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Starts 'arguments' with standard output to 'output' (or to nowhere). */
static pid_t
spawn(char *const arguments[], int output, const char *preload,
      const char *sync_log)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid < 0) {
        give_up("fork: %s", strerror(errno));
    }
    if (pid > 0) {
        return pid;
    }

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(nowhere, STDIN_FILENO);
    dup2(output >= 0 ? output : nowhere, STDOUT_FILENO);
    if (preload != NULL) {
        setenv("LD_PRELOAD", preload, 1);
        setenv("WEFT_SYNC_LOG", sync_log, 1);
    }
    execvp(arguments[0], arguments);
    fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
    _exit(127);
}

static int
wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            give_up("waitpid: %s", strerror(errno));
        }
    }
    return status;
}

/* Runs a command; returns its standard output, or NULL if it failed. */
static char *
run(char *const arguments[])
{
    int ends[2];
    char *text = NULL;
    size_t used = 0;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        give_up("pipe2: %s", strerror(errno));
    }
    pid_t pid = spawn(arguments, ends[1], NULL, NULL);
    close(ends[1]);
    for (;;) {
        text = realloc(text, used + 4096);
        if (text == NULL) {
            give_up("no memory");
        }
        ssize_t got = read(ends[0], text + used, 4095);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
    }
    text[used] = '\0';
    close(ends[0]);
    int status = wait_for(pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

#define RUN(...) run((char *[]){ __VA_ARGS__, NULL })

static void
must(char *output, const char *what)
{
    if (output == NULL) {
        give_up("%s failed", what);
    }
    free(output);
}

static char *mutable(const char *text)
{
    char *copy;
    memcpy(&copy, &text, sizeof copy);
    return copy;
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
        give_up("%s: %s", server->database, strerror(errno));
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
        give_up("%s: %s", server->database, strerror(errno));
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
    char *schema = mutable(ovsdb->options.schema);
    char own[160], first[160], timer[64];

    format_text(own, sizeof own, "unix:%s/raft%u", ovsdb->directory, index);
    format_text(first, sizeof first, "unix:%s/raft0", ovsdb->directory);
    format_text(timer, sizeof timer, "--election-timer=%u",
                ovsdb->options.election_timer_ms == 0
                    ? 1000
                    : ovsdb->options.election_timer_ms);
    if (!is_clustered(ovsdb)) {
        must(RUN(mutable("ovsdb-tool"), mutable("create"), server->database,
                 schema),
             "ovsdb-tool create");
    } else if (index == 0) {
        must(RUN(mutable("ovsdb-tool"), timer, mutable("create-cluster"),
                 server->database, schema, own),
             "ovsdb-tool create-cluster");
    } else {
        must(RUN(mutable("ovsdb-tool"), mutable("join-cluster"),
                 server->database, mutable("Weft"), own, first),
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
        give_up("server %u runs already", index);
    }
    format_text(remote, sizeof remote, "--remote=punix:%s", server->socket);
    format_text(control, sizeof control, "--unixctl=%s", server->control);
    format_text(log, sizeof log, "--log-file=%s/log%u", ovsdb->directory,
                index);
    char *arguments[] = { mutable("ovsdb-server"),
                          mutable("-vconsole:off"),
                          mutable("-vsyslog:off"),
                          server->database,
                          remote,
                          control,
                          log,
                          NULL };
    server->pid =
        spawn(arguments, -1,
              ovsdb->options.can_lose_power ? getenv("WEFT_SYNC_LOG_LIB")
                                            : NULL,
              server->sync_log);
}

/* Lets the servers go on for a moment: between two looks at a condition. */
static void
look_again_soon(uint64_t start_ms, const char *what)
{
    if (now_ms() - start_ms > DEADLINE_MS) {
        give_up("not in %u ms: %s", DEADLINE_MS, what);
    }
    poll(NULL, 0, 5);
}

static void
check_running(const struct ovsdb_server *server)
{
    int status;
    if (server->pid == 0 || waitpid(server->pid, &status, WNOHANG) != 0) {
        give_up("the server of %s has ended by itself", server->database);
    }
}

void
ovsdb_wait_ready(struct ovsdb *ovsdb, unsigned index)
{
    struct ovsdb_server *server = &ovsdb->servers[index];
    uint64_t start_ms = now_ms();
    char remote[160];

    format_text(remote, sizeof remote, "unix:%s", server->socket);
    while (access(server->socket, F_OK) != 0) {
        check_running(server);
        look_again_soon(start_ms, "a socket");
    }
    must(RUN(mutable("ovsdb-client"), mutable("-vconsole:off"), mutable("-t30"),
             mutable("wait"), remote, mutable("Weft"), mutable("connected")),
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
        give_up("WEFT_SCHEMA must name proto/weft.ovsschema");
    }
    if (options->can_lose_power && getenv("WEFT_SYNC_LOG_LIB") == NULL) {
        give_up("WEFT_SYNC_LOG_LIB must name the library sync_log");
    }
    format_text(ovsdb->directory, sizeof ovsdb->directory,
                "/tmp/weft-ovsdb-XXXXXX");
    if (mkdtemp(ovsdb->directory) == NULL) {
        give_up("mkdtemp: %s", strerror(errno));
    }

    for (unsigned i = 0; i < options->server_count; i++) {
        struct ovsdb_server *server = &ovsdb->servers[i];
        size_t used = strlen(ovsdb->remotes);
        format_text(server->database, sizeof server->database, "%s/db%u",
                    ovsdb->directory, i);
        format_text(server->socket, sizeof server->socket, "%s/sock%u",
                    ovsdb->directory, i);
        format_text(server->control, sizeof server->control, "%s/ctl%u",
                    ovsdb->directory, i);
        format_text(server->sync_log, sizeof server->sync_log, "%s/sync%u",
                    ovsdb->directory, i);
        format_text(ovsdb->remotes + used, sizeof ovsdb->remotes - used,
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
    wait_for(server->pid);
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
        give_up("truncate: %s", strerror(errno));
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
    uint64_t start_ms = now_ms();

    if (!is_clustered(ovsdb)) {
        return 0;
    }
    for (;;) {
        for (unsigned i = 0; i < ovsdb->options.server_count; i++) {
            if (ovsdb->servers[i].pid == 0) {
                continue;
            }
            char *text = RUN(mutable("ovs-appctl"), mutable("-T5"),
                             mutable("-t"), ovsdb->servers[i].control,
                             mutable("cluster/status"), mutable("Weft"));
            bool is_leader =
                text != NULL && strstr(text, "Role: leader") != NULL;
            free(text);
            if (is_leader) {
                return i;
            }
        }
        look_again_soon(start_ms, "a leader");
    }
}

char *
ovsdb_transact(struct ovsdb *ovsdb, unsigned index, const char *json)
{
    char remote[160];

    format_text(remote, sizeof remote, "unix:%s", ovsdb->servers[index].socket);
    char *text =
        RUN(mutable("ovsdb-client"), mutable("-vconsole:off"), mutable("-t30"),
            mutable("transact"), remote, mutable(json));
    if (text == NULL) {
        give_up("ovsdb-client transact failed");
    }
    return text;
}

void
ovsdb_convert(struct ovsdb *ovsdb, unsigned index, const char *path)
{
    char remote[160];

    format_text(remote, sizeof remote, "unix:%s", ovsdb->servers[index].socket);
    must(RUN(mutable("ovsdb-client"), mutable("-vconsole:off"), mutable("-t30"),
             mutable("convert"), remote, mutable(path)),
         "ovsdb-client convert");
}

void
ovsdb_stop(struct ovsdb *ovsdb)
{
    for (unsigned i = 0; i < ovsdb->options.server_count; i++) {
        if (ovsdb->servers[i].pid != 0) {
            kill(ovsdb->servers[i].pid, SIGKILL);
            wait_for(ovsdb->servers[i].pid);
            ovsdb->servers[i].pid = 0;
        }
    }
    must(RUN(mutable("rm"), mutable("-rf"), ovsdb->directory), "rm");
}
