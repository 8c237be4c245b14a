/* SPDX-License-Identifier: Apache-2.0 */
/* lib/state while its servers die, freeze, lose power and come back.
 *
 * What must hold throughout (state.h): a commit that was reported is there
 * (1), one that was refused is not (2), none is there twice, and listeners
 * hear of real differences only (4). */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/state/state.h"
#include "tests/support/ovsdb.h"
#include "tests/support/state_client.h"
#include "tests/unit/unit.h"

static unsigned server_count = 1;

static void
start_servers(struct ovsdb *ovsdb, bool can_lose_power)
{
    ovsdb_start(ovsdb, &(struct ovsdb_options){
                           .server_count = server_count,
                           .can_lose_power = can_lose_power,
                       });
}

static struct state_host
make_host(struct client *client, const char *name, const char *address)
{
    struct state_host host = {
        .row = sample_row(STATE_TABLE_HOST),
        .name = name,
        .address = address,
    };
    assert_int_equal(CLIENT_COMMIT(client, { STEP_INSERT, &host.row,
                                             STATE_HOST_COL_ALL }),
                     0);
    return host;
}

static double
seconds_since(uint64_t start_ns)
{
    return (double)(loop_now_ns() - start_ns) / 1e9;
}

/* ---- A stream of commits ----
 *
 * Each transaction inserts an Event and raises the epoch of one volume to the
 * number of the event, if it is one less: exactly once each, or the two do not
 * agree in the end. */

struct stream {
    struct client_txn txn;
    struct weft_uuid volume;
    uint64_t number; /* Of the present transaction, from 1. */
    uint64_t acked;
    uint64_t longest_ns, total_ns;
    uint64_t retried;
};

static int
build_stream(struct state_txn *txn, struct state *state)
{
    struct client_txn *one = container_of(txn, struct client_txn, txn);
    struct stream *stream = container_of(one, struct stream, txn);
    const struct state_volume *old = state_volume_get(state, &stream->volume);
    char kind[32];

    if (old == NULL) {
        return -EAGAIN;
    }
    if (old->epoch >= stream->number) {
        return STATE_TXN_NOTHING;
    }
    if (old->epoch + 1 < stream->number) {
        return -EAGAIN; /* A server that lags behind. */
    }
    struct state_volume new = { .row = old->row, .epoch = stream->number };
    snprintf(kind, sizeof kind, "%" PRIu64, stream->number);
    struct state_event event = {
        .row = sample_row(STATE_TABLE_EVENT),
        .severity = STATE_EVENT_SEVERITY_INFO,
        .kind = kind,
    };
    state_txn_verify(txn, &old->row, STATE_VOLUME_COL_EPOCH);
    state_txn_update(txn, &new.row, STATE_VOLUME_COL_EPOCH);
    state_txn_insert(txn, &event.row, STATE_EVENT_COL_ALL);
    return 0;
}

static void
stream_init(struct stream *stream, struct client *client)
{
    struct state_volume volume = sample_make_volume(client);
    *stream = (struct stream){
        .txn.txn = { .build = build_stream, .flags = STATE_TXN_RETRY },
        .volume = volume.row.uuid,
    };
}

static void
stream_commit(struct stream *stream, struct client *client)
{
    uint64_t start_ns = loop_now_ns();

    stream->number++;
    stream->txn.txn.deadline_ns = start_ns + UINT64_C(30000000000);
    client_txn_start(client, &stream->txn, NULL);
    assert_int_equal(client_txn_wait(client, &stream->txn), 0);
    stream->acked++;
    stream->retried += stream->txn.txn.attempts > 1;
    uint64_t took_ns = loop_now_ns() - start_ns;
    stream->total_ns += took_ns;
    if (took_ns > stream->longest_ns) {
        stream->longest_ns = took_ns;
    }
}

/* Every acknowledged commit is there, and none twice. */
static void
stream_check(const struct stream *stream, struct client *client)
{
    static bool seen[100000];
    uint64_t count = 0;

    memset(seen, 0, sizeof seen);
    for (const struct state_event *event = NULL;
         (event = state_event_next(client->state, event)) != NULL;) {
        uint64_t number = strtoull(event->kind, NULL, 10);
        assert_in_range(number, 1, stream->acked);
        assert_false(seen[number]);
        seen[number] = true;
        count++;
    }
    assert_int_equal(count, stream->acked);
    assert_int_equal(state_volume_get(client->state, &stream->volume)->epoch,
                     stream->acked);
}

/* Waits until a fresh client sees the last commit. */
static void
stream_check_anew(const struct stream *stream, const struct ovsdb *ovsdb)
{
    struct client client;
    client_open(&client, ovsdb->remotes);
    struct state_volume last = {
        .row = { STATE_TABLE_VOLUME, stream->volume },
        .epoch = stream->acked,
    };
    client_wait_row(&client, &last.row, STATE_VOLUME_COL_EPOCH);
    stream_check(stream, &client);
    client_close(&client);
}

/* ---- Restarts ---- */

/* (4) The database changes while this client is not connected, by way of a
 * restart of all servers, which makes them send everything again. */
static void
test_reconnect_delivers_differences(void **unused)
{
    struct ovsdb ovsdb;
    struct client client;
    (void)unused;
    start_servers(&ovsdb, false);
    client_open(&client, ovsdb.remotes);
    make_host(&client, "same", "1");
    struct state_host changed = make_host(&client, "changed", "2");
    struct state_host gone = make_host(&client, "gone", "3");
    unsigned connect_count =
        (unsigned)state_status(client.state)->connect_count;
    assert_int_equal(connect_count, 1);
    client_trace_clear(&client);

    /* The client's loop stands still until all of this is done. */
    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_kill(&ovsdb, i);
    }
    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_restart(&ovsdb, i);
    }
    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_wait_ready(&ovsdb, i);
    }
    free(ovsdb_transact(
        &ovsdb, 0,
        "[\"Weft\","
        "{\"op\":\"update\",\"table\":\"Host\",\"row\":{\"address\":\"9\"},"
        "\"where\":[[\"name\",\"==\",\"changed\"]]},"
        "{\"op\":\"delete\",\"table\":\"Host\","
        "\"where\":[[\"name\",\"==\",\"gone\"]]},"
        "{\"op\":\"insert\",\"table\":\"Host\",\"row\":"
        "{\"name\":\"new\"}}]"));

    client_wait_gone(&client, STATE_TABLE_HOST, &gone.row.uuid);
    changed.address = "9";
    client_wait_row(&client, &changed.row, STATE_HOST_COL_ALL);
    client_wait_connected(&client);
    assert_int_equal(client.batch_count, 1);
    assert_int_equal(client.change_count, 3);
    assert_non_null(strstr(client.trace, "~Host changed address"));
    assert_non_null(strstr(client.trace, "-Host gone"));
    assert_non_null(strstr(client.trace, "+Host new"));
    assert_int_equal(state_status(client.state)->connect_count, 2);

    /* A plain loss of the connection brings nothing at all. */
    client_trace_clear(&client);
    state_reconnect(client.state);
    client_wait_disconnected(&client);
    assert_non_null(state_host_find_by_name(client.state, "same"));
    client_wait_connected(&client);
    assert_string_equal(client.trace, "");

    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* DESIGN rule 2: with every server down what was read stays readable, and
 * changes wait. */
static void
test_all_servers_down_and_back(void **unused)
{
    struct ovsdb ovsdb;
    struct client client;
    struct stream stream;
    (void)unused;
    start_servers(&ovsdb, false);
    client_open(&client, ovsdb.remotes);
    stream_init(&stream, &client);
    stream_commit(&stream, &client);

    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_kill(&ovsdb, i);
    }
    client_wait_disconnected(&client);
    assert_true(state_status(client.state)->has_contents);
    assert_int_equal(state_volume_get(client.state, &stream.volume)->epoch, 1);

    /* A deadline in the dark, certain to have no effect; and one that waits. */
    struct state_host host = { .row = sample_row(STATE_TABLE_HOST),
                               .name = "never" };
    struct client_txn late = {
        .txn.deadline_ns = loop_now_ns() + 20000000,
    };
    struct client_step steps[] = {
        { STEP_INSERT, &host.row, STATE_HOST_COL_ALL },
        { STEP_END, NULL, 0 },
    };
    client_txn_start(&client, &late, steps);
    assert_int_equal(client_txn_wait(&client, &late), -ETIMEDOUT);

    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_restart(&ovsdb, i);
    }
    uint64_t start_ns = loop_now_ns();
    stream_commit(&stream, &client);
    print_message("# all servers back: first commit after %.2f s\n",
                  seconds_since(start_ns));
    assert_null(state_host_find_by_name(client.state, "never"));
    stream_check(&stream, &client);
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* ---- The leader dies under a stream of commits ---- */

static void
stream_while_servers_die(unsigned election_timer_ms)
{
    enum { KILLS = 4, COMMITS = 60 };
    struct ovsdb ovsdb;
    struct client client;
    struct stream stream;
    ovsdb_start(&ovsdb, &(struct ovsdb_options){
                            .server_count = server_count,
                            .election_timer_ms = election_timer_ms,
                        });
    client_open(&client, ovsdb.remotes);
    stream_init(&stream, &client);

    for (unsigned kill = 0; kill < KILLS; kill++) {
        for (int i = 0; i < COMMITS; i++) {
            stream_commit(&stream, &client);
        }
        /* With a commit on its way. */
        unsigned leader = ovsdb_find_leader(&ovsdb);
        struct stream *s = &stream;
        s->number++;
        s->txn.txn.deadline_ns = loop_now_ns() + UINT64_C(30000000000);
        client_txn_start(&client, &s->txn, NULL);
        loop_run_once(client.loop, 0);
        uint64_t start_ns = loop_now_ns();
        ovsdb_kill(&ovsdb, leader);
        if (server_count == 1) {
            ovsdb_restart(&ovsdb, leader);
        }
        assert_int_equal(client_txn_wait(&client, &s->txn), 0);
        s->acked++;
        s->retried += s->txn.txn.attempts > 1;
        print_message("# server %u killed: next commit after %.2f s, "
                      "%u attempts\n",
                      leader, seconds_since(start_ns), s->txn.txn.attempts);
        if (server_count > 1) {
            ovsdb_restart(&ovsdb, leader);
        }
        ovsdb_wait_ready(&ovsdb, leader);
    }
    stream_check(&stream, &client);
    stream_check_anew(&stream, &ovsdb);
    print_message("# %" PRIu64 " commits, %" PRIu64 " repeated; in quiet "
                  "times %.2f ms each, longest %.2f ms\n",
                  stream.acked, stream.retried,
                  (double)stream.total_ns / 1e6 / (KILLS * COMMITS),
                  (double)stream.longest_ns / 1e6);
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

static void
test_stream_while_servers_die(void **unused)
{
    (void)unused;
    stream_while_servers_die(1000);
}

/* What a test bed or a cloud on one good network would choose. */
static void
test_stream_with_short_elections(void **unused)
{
    (void)unused;
    stream_while_servers_die(200);
}

/* Without retries: an unknown outcome is reported as such, and whatever is
 * reported as certain is true. */
static void
test_outcomes_are_true(void **unused)
{
    enum { ROUNDS = 6, BURST = 8 };
    struct ovsdb ovsdb;
    struct client client;
    static struct state_host hosts[ROUNDS * BURST];
    static struct client_txn txns[ROUNDS * BURST];
    static struct client_step steps[ROUNDS * BURST][2];
    static char names[ROUNDS * BURST][16];
    unsigned unknown = 0, committed = 0, other = 0;
    (void)unused;
    memset(txns, 0, sizeof txns);
    start_servers(&ovsdb, false);
    client_open(&client, ovsdb.remotes);

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned leader = ovsdb_find_leader(&ovsdb);
        for (unsigned i = round * BURST; i < (round + 1) * BURST; i++) {
            snprintf(names[i], sizeof names[i], "h%u", i);
            hosts[i] = (struct state_host){ .row = sample_row(STATE_TABLE_HOST),
                                            .name = names[i] };
            steps[i][0] = (struct client_step){ STEP_INSERT, &hosts[i].row,
                                                STATE_HOST_COL_ALL };
            steps[i][1] = (struct client_step){ STEP_END, NULL, 0 };
            client_txn_start(&client, &txns[i], steps[i]);
        }
        for (unsigned i = 0; i < round * 2; i++) {
            loop_run_once(client.loop, 0);
        }
        ovsdb_kill(&ovsdb, leader);
        ovsdb_restart(&ovsdb, leader);
        for (unsigned i = round * BURST; i < (round + 1) * BURST; i++) {
            client_txn_wait(&client, &txns[i]);
        }
        ovsdb_wait_ready(&ovsdb, leader);
        client_wait_connected(&client);
    }

    struct state_host end = make_host(&client, "end", "");
    struct client fresh;
    client_open(&fresh, ovsdb.remotes);
    client_wait_row(&fresh, &end.row, STATE_HOST_COL_ALL);
    for (unsigned i = 0; i < ROUNDS * BURST; i++) {
        bool is_there = state_host_get(fresh.state, &hosts[i].row.uuid) != NULL;
        if (txns[i].result == 0) {
            committed++;
            assert_true(is_there); /* (1) */
        } else if (txns[i].result == -EREMOTEIO) {
            unknown++;
        } else {
            other++;
            assert_false(is_there); /* (2) */
        }
    }
    print_message("# %u committed, %u unknown, %u refused\n", committed,
                  unknown, other);
    client_close(&fresh);
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* A server that stands still is given up after the probes. */
static void
test_frozen_server(void **unused)
{
    struct ovsdb ovsdb;
    struct client client;
    struct stream stream;
    (void)unused;
    start_servers(&ovsdb, false);
    client_open_with(&client, &(struct state_options){
                                  .remotes = ovsdb.remotes,
                                  .probe_ms = 1000,
                              });
    stream_init(&stream, &client);
    stream_commit(&stream, &client);

    unsigned leader = ovsdb_find_leader(&ovsdb);
    uint64_t start_ns = loop_now_ns();
    ovsdb_freeze(&ovsdb, leader);
    if (server_count == 1) {
        client_wait_disconnected(&client);
        print_message("# frozen server noticed after %.2f s\n",
                      seconds_since(start_ns));
        ovsdb_thaw(&ovsdb, leader);
        stream_commit(&stream, &client);
    } else {
        stream_commit(&stream, &client);
        print_message("# leader frozen: next commit after %.2f s\n",
                      seconds_since(start_ns));
        ovsdb_thaw(&ovsdb, leader);
    }
    stream_check(&stream, &client);
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* One of several that stands still is left long before the probes would say
 * so: here they never would. */
static void
test_frozen_server_is_left(void **unused)
{
    struct ovsdb ovsdb;
    struct client client;
    struct stream stream;
    (void)unused;
    if (server_count == 1) {
        return;
    }
    ovsdb_start(&ovsdb, &(struct ovsdb_options){
                            .server_count = server_count,
                            .election_timer_ms = 200,
                        });
    client_open_with(&client, &(struct state_options){
                                  .remotes = ovsdb.remotes,
                                  .probe_ms = 600000,
                              });
    stream_init(&stream, &client);
    stream_commit(&stream, &client);

    /* One of them is the one in use. */
    for (unsigned i = 0; i < server_count; i++) {
        uint64_t connects = state_status(client.state)->connect_count;
        uint64_t start_ns = loop_now_ns();
        ovsdb_freeze(&ovsdb, i);
        stream_commit(&stream, &client);
        print_message("# server %u frozen: next commit after %.2f s, %" PRIu64
                      " new connections\n",
                      i, seconds_since(start_ns),
                      state_status(client.state)->connect_count - connects);
        ovsdb_thaw(&ovsdb, i);
        ovsdb_wait_ready(&ovsdb, i);
    }
    assert_true(state_status(client.state)->connect_count > 1);

    /* Nobody waits, but there is a suspicion: with an answer, and without. */
    client_wait_connected(&client);
    state_suspect(client.state);
    client_turn(&client);
    assert_true(state_status(client.state)->is_connected);
    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_freeze(&ovsdb, i);
    }
    state_suspect(client.state);
    client_wait_disconnected(&client);
    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_thaw(&ovsdb, i);
    }
    stream_commit(&stream, &client);
    stream_check(&stream, &client);
    stream_check_anew(&stream, &ovsdb);
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* ---- A newer schema, while this version runs ---- */

/* The schema with one more column, one more table, and one more value in an
 * enumeration. */
static void
write_newer_schema(const char *path)
{
    static const char *const changes[][2] = {
        { "\"version\": \"1.0.0\"", "\"version\": \"1.9.0\"" },
        { "\"Host\": {\n      \"columns\": {",
          "\"Later\": {\"columns\": {\"a\": {\"type\": \"string\"}}, "
          "\"isRoot\": true},\n\"Host\": {\n \"columns\": { "
          "\"later\": {\"type\": \"string\"}," },
        { "[\"creating\", \"ready\", \"deleting\"]",
          "[\"creating\", \"ready\", \"deleting\", \"resting\"]" },
    };
    static char text[65536];
    FILE *file = fopen(getenv("WEFT_SCHEMA"), "r");

    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    file = fopen(path, "w");
    assert_non_null(file);
    const char *at = text;
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        const char *found = strstr(at, changes[i][0]);
        assert_non_null(found);
        fwrite(at, 1, (size_t)(found - at), file);
        fputs(changes[i][1], file);
        at = found + strlen(changes[i][0]);
    }
    fputs(at, file);
    assert_int_equal(fclose(file), 0);
}

/* NETWORK.md N12: what is new is ignored, or unknown; the rest goes on. */
static void
test_schema_conversion(void **unused)
{
    struct ovsdb ovsdb;
    struct client client;
    struct stream stream;
    char path[128];
    (void)unused;
    start_servers(&ovsdb, false);
    client_open(&client, ovsdb.remotes);
    stream_init(&stream, &client);
    stream_commit(&stream, &client);
    make_host(&client, "h", "1");
    client_trace_clear(&client);

    snprintf(path, sizeof path, "%s/newer", ovsdb.directory);
    write_newer_schema(path);
    ovsdb_convert(&ovsdb, 0, path);
    stream_commit(&stream, &client);
    char *reply = ovsdb_transact(
        &ovsdb, 0,
        "[\"Weft\",{\"op\":\"insert\",\"table\":\"Later\",\"row\":"
        "{\"a\":\"x\"}},{\"op\":\"update\",\"table\":\"Host\","
        "\"where\":[],\"row\":{\"later\":\"x\"}},"
        "{\"op\":\"update\",\"table\":\"Volume\",\"where\":[],"
        "\"row\":{\"state\":\"resting\"}}]");
    assert_null(strstr(reply, "error"));
    free(reply);
    stream_commit(&stream, &client);
    struct state_volume wanted = {
        .row = { STATE_TABLE_VOLUME, stream.volume },
        .state = STATE_VOLUME_STATE_UNKNOWN,
    };
    client_wait_row(&client, &wanted.row, STATE_VOLUME_COL_STATE);
    stream_check(&stream, &client);
    assert_null(strstr(client.trace, "Host")); /* Its columns are the same. */
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* ---- S10: power ---- */

static void
test_commit_survives_power_loss(void **unused)
{
    enum { ROUNDS = 3, COMMITS = 20 };
    struct ovsdb ovsdb;
    struct client client;
    struct stream stream;
    (void)unused;
    start_servers(&ovsdb, true);
    client_open(&client, ovsdb.remotes);
    stream_init(&stream, &client);

    for (unsigned round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COMMITS; i++) {
            stream_commit(&stream, &client);
        }
        /* All at once, right after an acknowledgement. */
        for (unsigned i = 0; i < server_count; i++) {
            ovsdb_lose_power(&ovsdb, i);
        }
        for (unsigned i = 0; i < server_count; i++) {
            ovsdb_restart(&ovsdb, i);
        }
        for (unsigned i = 0; i < server_count; i++) {
            ovsdb_wait_ready(&ovsdb, i);
        }
        stream_check_anew(&stream, &ovsdb);
    }
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* The control: what nobody asked to be durable is lost by this same loss of
 * power, so the test above tests something.  (Raft syncs regardless.) */
static void
test_power_loss_loses_what_is_not_synced(void **unused)
{
    struct ovsdb ovsdb;
    struct client client;
    (void)unused;
    start_servers(&ovsdb, true);
    client_open(&client, ovsdb.remotes);
    struct state_host durable = make_host(&client, "durable", "");
    free(ovsdb_transact(&ovsdb, 0,
                        "[\"Weft\",{\"op\":\"insert\",\"table\":\"Host\","
                        "\"row\":{\"name\":\"fleeting\"}}]"));
    client_close(&client);

    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_lose_power(&ovsdb, i);
    }
    for (unsigned i = 0; i < server_count; i++) {
        ovsdb_restart(&ovsdb, i);
    }
    client_open(&client, ovsdb.remotes);
    client_wait_row(&client, &durable.row, STATE_HOST_COL_ALL);
    assert_true((state_host_find_by_name(client.state, "fleeting") != NULL) ==
                (server_count > 1));
    client_close(&client);
    ovsdb_stop(&ovsdb);
}

/* ---- The lock ---- */

static bool
has_lock(struct client *client, const void *unused)
{
    (void)unused;
    return state_lock_is_held(client->state);
}

/* The lock outlives its server: whoever finds the new leader first has it, and
 * only one has. */
static void
test_lock_after_the_server_died(void **unused)
{
    struct ovsdb ovsdb;
    struct client clients[2];
    (void)unused;
    start_servers(&ovsdb, false);
    for (int i = 0; i < 2; i++) {
        client_open_with(&clients[i], &(struct state_options){
                                          .remotes = ovsdb.remotes,
                                          .is_leader_only = true,
                                          .lock = "manager",
                                      });
    }
    client_wait(&clients[0], has_lock, NULL, "the lock");
    unsigned leader = ovsdb_find_leader(&ovsdb);
    uint64_t start_ns = loop_now_ns();
    ovsdb_kill(&ovsdb, leader);
    if (server_count == 1) {
        ovsdb_restart(&ovsdb, leader);
    }
    /* The other one comes first this time. */
    client_wait(&clients[1], has_lock, NULL, "the lock of the new leader");
    print_message("# leader killed: lock taken over after %.2f s\n",
                  seconds_since(start_ns));
    client_wait_disconnected(&clients[0]);
    assert_false(state_lock_is_held(clients[0].state));
    client_wait_connected(&clients[0]);
    client_turn(&clients[0]);
    assert_false(state_lock_is_held(clients[0].state));
    make_host(&clients[1], "by the holder", "");
    client_close(&clients[1]);
    client_wait(&clients[0], has_lock, NULL, "the lock again");
    client_close(&clients[0]);
    ovsdb_stop(&ovsdb);
}

int
main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reconnect_delivers_differences),
        cmocka_unit_test(test_all_servers_down_and_back),
        cmocka_unit_test(test_stream_while_servers_die),
        cmocka_unit_test(test_stream_with_short_elections),
        cmocka_unit_test(test_outcomes_are_true),
        cmocka_unit_test(test_frozen_server),
        cmocka_unit_test(test_frozen_server_is_left),
        cmocka_unit_test(test_schema_conversion),
        cmocka_unit_test(test_commit_survives_power_loss),
        cmocka_unit_test(test_power_loss_loses_what_is_not_synced),
        cmocka_unit_test(test_lock_after_the_server_died),
    };

    if (argc > 1 && strcmp(argv[1], "raft") == 0) {
        server_count = 3;
    }
    return cmocka_run_group_tests_name(
        server_count == 1 ? "state faults, one server"
                          : "state faults, three servers in Raft",
        tests, NULL, NULL);
}
