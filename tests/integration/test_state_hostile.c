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
serve(int fd, const char *schema, const char *update, const char *message)
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
        } else if (strstr(request, "\"transact\"") != NULL) {
            snprintf(text, sizeof text, "\"error\":null,\"result\":%s",
                     bad_results[transactions++ % ARRAY_COUNT(bad_results)]);
            reply(fd, request, text);
        }
    }
    close(fd);
}

static _Noreturn void
run_server(int listener)
{
    static char schema[65536];
    FILE *file = fopen(getenv("WEFT_SCHEMA"), "r");

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (file == NULL || fread(schema, 1, sizeof schema - 1, file) == 0) {
        abort();
    }
    fclose(file);
    for (size_t i = 0; i < ARRAY_COUNT(bad_updates); i++) {
        serve(accept(listener, NULL, NULL), schema, bad_updates[i], NULL);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad_messages); i++) {
        serve(accept(listener, NULL, NULL), schema, NULL, bad_messages[i]);
    }
    for (;;) {
        serve(accept(listener, NULL, NULL), schema, NULL, NULL);
    }
}

/* ---- The test ---- */

static void
test_nonsense(void **unused)
{
    char directory[] = "/tmp/weft-hostile-XXXXXX";
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char remote[160];
    struct client client;
    (void)unused;

    assert_non_null(mkdtemp(directory));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
    snprintf(remote, sizeof remote, "unix:%s", address.sun_path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)(void *)&address,
                          sizeof address),
                     0);
    assert_int_equal(listen(listener, 16), 0);
    fflush(NULL);
    pid_t server = fork();
    assert_true(server >= 0);
    if (server == 0) {
        run_server(listener);
    }
    close(listener);

    client_start(&client, &(struct state_options){ .remotes = remote });
    struct state_host good = {
        .row = { STATE_TABLE_HOST, { { 0xab } } },
        .rack = "end",
    };
    good.row.uuid.bytes[15] = 8;
    client_wait_row(&client, &good.row, STATE_HOST_COL_RACK);
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
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    unlink(address.sun_path);
    rmdir(directory);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests_name("state, hostile server", tests, NULL,
                                       NULL);
}
