/* SPDX-License-Identifier: Apache-2.0 */
/* lib/state against a server that talks nonsense: it drops the connection,
 * keeps what it had, applies nothing by halves, and never says of a
 * transaction what it does not know.
 *
 * The server is a child process that goes through a script: one connection for
 * each bad update, then one that is in order and answers transactions badly. */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/base/array.h"
#include "lib/state/state.h"
#include "tests/support/state_client.h"
#include "tests/unit/unit.h"

#define U(n) "\"ab000000-0000-0000-0000-00000000000" #n "\""

/* Second parameters of "update2". */
static const char *const bad_updates[] = {
    "7",
    "[]",
    "{\"Host\":7}",
    "{\"Host\":{\"no uuid\":{\"insert\":{}}}}",
    "{\"Host\":{" U(1) ":7}}",
    "{\"Host\":{" U(1) ":{}}}",
    "{\"Host\":{" U(1) ":{\"explode\":{}}}}",
    "{\"Host\":{" U(1) ":{\"insert\":7}}}",
    "{\"Host\":{" U(1) ":{\"delete\":7}}}",
    "{\"Host\":{" U(1) ":{\"insert\":{\"name\":7}}}}",
    "{\"Host\":{" U(1) ":{\"insert\":{\"enabled\":\"true\"}}}}",
    "{\"Host\":{" U(9) ":{\"modify\":{\"name\":\"x\"}}}}", /* Unknown row. */
    /* One half is in order: it must not be seen (3). */
    "{\"Host\":{" U(2) ":{\"insert\":{\"name\":\"half\"}}},"
                       "\"Volume\":{" U(3) ":{\"insert\":{\"epoch\":-1}}}}",
    "{\"Host\":{" U(2) ":{\"insert\":{\"name\":\"half\"}}},"
                       "\"Mirror\":{" U(
                           3) ":{\"insert\":{\"in_sync\":[\"set\",[7]]}}}}",
};

/* Whole messages. */
static const char *const bad_messages[] = {
    "}{",
    "\x01\xff garbage",
    "[1,2,3]",
    "{\"id\":null,\"method\":\"update2\"}",
    "{\"id\":null,\"method\":7,\"params\":[]}",
};

/* Results of "transact", for three operations: two waits and the rest. */
static const char *const bad_results[] = {
    "{}",
    "7",
    "null",
    "[]",
    "[7]",
    "[null,null,null]",
    "[{}]",
    "[{},{},{},{},{},{},{},{},{}]",
    "[{\"error\":7}]",
    "[{},{},{},{},{\"error\":\"I/O error\"}]",
};

/* ---- The server ---- */

/* How it takes transactions. */
enum manners { NONSENSE, NO_COMMITS, SILENCE };

static void
send_text(int fd, const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);
        if (sent < 0) {
            return; /* The client has had enough. */
        }
        text += sent;
        size -= (size_t)sent;
    }
}

/* One JSON object into 'text'; false at the end. */
static bool
receive_object(int fd, char *text, size_t size)
{
    size_t used = 0;
    int depth = 0;
    bool in_string = false;

    while (used < size - 1 && recv(fd, text + used, 1, 0) == 1) {
        char c = text[used++];
        if (in_string) {
            in_string = c != '"'; /* Ours have no escapes that matter. */
        } else if (c == '"') {
            in_string = true;
        } else {
            depth += (c == '{') - (c == '}');
        }
        if (depth == 0 && c == '}' && !in_string) {
            text[used] = '\0';
            return true;
        }
    }
    return false;
}

static void
reply(int fd, const char *request, const char *result)
{
    static char text[131072];
    const char *id = strstr(request, "\"id\":");
    unsigned long number = id == NULL ? 0 : strtoul(id + 5, NULL, 10);

    snprintf(text, sizeof text, "{\"id\":%lu,%s}", number, result);
    send_text(fd, text);
}

static void
send_update(int fd, const char *update)
{
    send_text(fd, "{\"id\":null,\"method\":\"update2\","
                  "\"params\":[[\"monid\",\"Weft\"],");
    send_text(fd, update);
    send_text(fd, "]}");
}

/* Serves one connection to its end.  'trouble' comes after the contents. */
static void
serve(int fd, const char *schema, enum manners manners, const char *update,
      const char *message)
{
    static char request[65536], text[70000];
    size_t transactions = 0;

    while (receive_object(fd, request, sizeof request)) {
        if (strstr(request, "\"get_schema\"") != NULL) {
            bool is_ours = strstr(request, "\"_Server\"") == NULL;
            snprintf(text, sizeof text, "\"error\":%s,\"result\":%s",
                     is_ours ? "null" : "\"no\"", is_ours ? schema : "null");
            reply(fd, request, text);
        } else if (strstr(request, "\"monitor_cond\"") != NULL) {
            reply(fd, request,
                  "\"error\":null,\"result\":{\"Host\":{" U(
                      8) ":{\"initial\":{\"name\":\"good\"}}}}");
            if (update != NULL) {
                send_update(fd, update);
            } else if (message != NULL) {
                send_text(fd, message);
            } else {
                send_update(fd, "{\"Host\":{" U(8) ":{\"modify\":"
                                                   "{\"rack\":\"end\"}}}}");
            }
        } else if (strstr(request, "\"transact\"") == NULL) {
            continue;
        } else if (strstr(request, "[\"_Server\"]") != NULL) {
            if (manners == NO_COMMITS) {
                reply(fd, request, "\"error\":null,\"result\":[]");
            }
        } else if (manners == NONSENSE) {
            snprintf(text, sizeof text, "\"error\":null,\"result\":%s",
                     bad_results[transactions++ % ARRAY_COUNT(bad_results)]);
            reply(fd, request, text);
        }
    }
    close(fd);
}

static _Noreturn void
run_server(int listener, enum manners manners)
{
    static char schema[65536];
    FILE *file = fopen(getenv("WEFT_SCHEMA"), "r");

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (file == NULL || fread(schema, 1, sizeof schema - 1, file) == 0) {
        abort();
    }
    fclose(file);
    for (size_t i = 0; manners == NONSENSE && i < ARRAY_COUNT(bad_updates);
         i++) {
        serve(accept(listener, NULL, NULL), schema, manners, bad_updates[i],
              NULL);
    }
    for (size_t i = 0; manners == NONSENSE && i < ARRAY_COUNT(bad_messages);
         i++) {
        serve(accept(listener, NULL, NULL), schema, manners, NULL,
              bad_messages[i]);
    }
    for (;;) {
        serve(accept(listener, NULL, NULL), schema, manners, NULL, NULL);
    }
}

struct server {
    pid_t pid;
    char directory[32];
    struct sockaddr_un address;
    char remote[160];
    char remotes[320]; /* As if there were two of it. */
};

static void
server_start(struct server *server, enum manners manners)
{
    *server = (struct server){ .directory = "/tmp/weft-hostile-XXXXXX" };
    assert_non_null(mkdtemp(server->directory));
    server->address.sun_family = AF_UNIX;
    snprintf(server->address.sun_path, sizeof server->address.sun_path,
             "%s/socket", server->directory);
    snprintf(server->remote, sizeof server->remote, "unix:%s",
             server->address.sun_path);
    snprintf(server->remotes, sizeof server->remotes, "%s,%s", server->remote,
             server->remote);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)(void *)&server->address,
                          sizeof server->address),
                     0);
    assert_int_equal(listen(listener, 16), 0);
    fflush(NULL);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        run_server(listener, manners);
    }
    close(listener);
}

static void
server_stop(struct server *server)
{
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    unlink(server->address.sun_path);
    rmdir(server->directory);
}

/* The row that it has in the end. */
static struct state_host
wait_good(struct client *client)
{
    struct state_host good = {
        .row = { STATE_TABLE_HOST, { { 0xab } } },
        .rack = "end",
    };
    good.row.uuid.bytes[15] = 8;
    client_wait_row(client, &good.row, STATE_HOST_COL_RACK);
    return good;
}

/* ---- The tests ---- */

static void
test_nonsense(void **unused)
{
    struct server server;
    struct client client;
    (void)unused;

    server_start(&server, NONSENSE);
    client_start(&client, &(struct state_options){ .remotes = server.remote });
    struct state_host good = wait_good(&client);
    assert_int_equal(state_row_count(client.state, STATE_TABLE_HOST), 1);
    assert_int_equal(state_row_count(client.state, STATE_TABLE_VOLUME), 0);
    /* Of the many connections only what was new was heard of: (4). */
    assert_string_equal(client.trace, "{+Host good}{~Host good rack}");
    assert_true(state_status(client.state)->connect_count >
                ARRAY_COUNT(bad_updates));

    for (size_t i = 0; i < ARRAY_COUNT(bad_results); i++) {
        assert_int_equal(CLIENT_COMMIT(&client,
                                       { STEP_UPDATE, &good.row,
                                         STATE_HOST_COL_RACK },
                                       { STEP_VERIFY, &good.row, 0 }),
                         -EREMOTEIO);
    }
    client_close(&client);
    server_stop(&server);
}

/* silence.c (1), (2): a server that answers is not left, though nothing is
 * committed; one that does not is, long before a probe. */
static void
test_waiting(void **unused)
{
    const enum manners manners[] = { NO_COMMITS, SILENCE };
    (void)unused;

    for (size_t i = 0; i < ARRAY_COUNT(manners); i++) {
        struct server server;
        struct client client;
        server_start(&server, manners[i]);
        client_start(&client, &(struct state_options){
                                  .remotes = server.remotes,
                                  .probe_ms = 600000,
                              });
        struct state_host good = wait_good(&client);
        struct client_txn txn = {
            .txn.deadline_ns = loop_now_ns() + UINT64_C(2000000000),
        };
        struct client_step steps[] = {
            { STEP_UPDATE, &good.row, STATE_HOST_COL_RACK },
            { STEP_END, NULL, 0 },
        };
        client_txn_start(&client, &txn, steps);
        assert_int_equal(client_txn_wait(&client, &txn), -EREMOTEIO);
        if (manners[i] == SILENCE) {
            client_wait_connected(&client);
            assert_true(state_status(client.state)->connect_count > 1);
        } else {
            assert_int_equal(state_status(client.state)->connect_count, 1);
        }
        client_close(&client);
        server_stop(&server);
    }
}

/* One that accepts, and is then never heard of, is left for the other. */
static void
test_mute(void **unused)
{
    struct server server, mute;
    struct client client;
    char remotes[400];
    (void)unused;

    server_start(&server, NO_COMMITS);
    server_start(&mute, NO_COMMITS);
    kill(mute.pid, SIGSTOP); /* The kernel goes on accepting for it. */
    /* Which of them is asked first is a matter of chance: several times. */
    for (int i = 0; i < 4; i++) {
        snprintf(remotes, sizeof remotes, "%s,%s", mute.remote, server.remote);
        client_start(&client, &(struct state_options){
                                  .remotes = remotes,
                                  .probe_ms = 600000,
                              });
        (void)wait_good(&client);
        client_close(&client);
    }
    server_stop(&mute);
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_mute),
    };
    return cmocka_run_group_tests_name("state, hostile server", tests, NULL,
                                       NULL);
}
