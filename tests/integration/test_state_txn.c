/* SPDX-License-Identifier: Apache-2.0 */
/* The transactions of lib/state against real ovsdb-servers, standalone and
 * three in Raft, by the same tests: each result that state.h names, and what
 * it means. */

#include <errno.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/state/state.h"
#include "tests/support/ovsdb.h"
#include "tests/support/state_client.h"
#include "tests/unit/unit.h"

static struct ovsdb ovsdb;
static unsigned server_count = 1;

static int
setup(void **unused)
{
    (void)unused;
    ovsdb_start(&ovsdb,
                &(struct ovsdb_options){ .server_count = server_count });
    return 0;
}

static int
teardown(void **unused)
{
    (void)unused;
    ovsdb_stop(&ovsdb);
    return 0;
}

/* ---- Transactions ---- */

/* S11: two owners, one expectation; exactly one wins. */
static void
test_compare_and_set(void **unused)
{
    struct client a, b;
    (void)unused;
    client_open(&a, ovsdb.remotes);
    client_open(&b, ovsdb.remotes);

    struct state_volume old = sample_make_volume(&a);
    client_wait_row(&b, &old.row, STATE_VOLUME_COL_ALL);
    struct state_volume by_a = old, by_b = old;
    by_a.epoch = by_b.epoch = old.epoch + 1;
    by_a.owner_host = "a";
    by_b.owner_host = "b";
    uint64_t compare = STATE_VOLUME_COL_EPOCH | STATE_VOLUME_COL_OWNER_HOST;
    struct client_txn txn_a = { 0 }, txn_b = { 0 };
    client_txn_start(&a, &txn_a,
                     (struct client_step[]){
                         { STEP_VERIFY, &old.row, compare },
                         { STEP_UPDATE, &by_a.row, compare },
                         { STEP_END, NULL, 0 } });
    client_txn_start(&b, &txn_b,
                     (struct client_step[]){
                         { STEP_VERIFY, &old.row, compare },
                         { STEP_UPDATE, &by_b.row, compare },
                         { STEP_END, NULL, 0 } });
    int result_b = client_txn_wait(&b, &txn_b);
    int result_a = client_txn_wait(&a, &txn_a);
    assert_true((result_a == 0) != (result_b == 0));
    const struct client_txn *loser = result_a == 0 ? &txn_b : &txn_a;
    assert_int_equal(loser->result, -ECANCELED);
    assert_int_equal(loser->txn.conflict_table, STATE_TABLE_VOLUME);
    assert_int_equal(loser->txn.conflict_columns, compare);
    client_wait_row(&a, result_a == 0 ? &by_a.row : &by_b.row, compare);

    client_close(&b);
    client_close(&a);
}

/* Two clients raise one counter, each step by compare-and-set with retries. */
struct raise {
    struct client_txn txn;
    struct weft_uuid volume;
};

static int
build_raise(struct state_txn *txn, struct state *state)
{
    struct client_txn *one = container_of(txn, struct client_txn, txn);
    struct raise *raise = container_of(one, struct raise, txn);
    const struct state_volume *old = state_volume_get(state, &raise->volume);

    if (old == NULL) {
        return -EAGAIN; /* It has not come here yet. */
    }
    struct state_volume new = { .row = old->row, .epoch = old->epoch + 1 };
    state_txn_verify(txn, &old->row, STATE_VOLUME_COL_EPOCH);
    state_txn_update(txn, &new.row, STATE_VOLUME_COL_EPOCH);
    return 0;
}

static void
test_contended_counter(void **unused)
{
    enum { STEPS = 40 };
    struct client clients[2];
    struct raise raises[2] = { 0 };
    unsigned attempts = 0;
    (void)unused;
    client_open(&clients[0], ovsdb.remotes);
    client_open(&clients[1], ovsdb.remotes);
    struct state_volume volume = sample_make_volume(&clients[0]);

    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < 2; i++) {
            raises[i].volume = volume.row.uuid;
            raises[i].txn.txn.build = build_raise;
            raises[i].txn.txn.flags = STATE_TXN_RETRY;
            client_txn_start(&clients[i], &raises[i].txn, NULL);
        }
        for (int i = 0; i < 2; i++) {
            /* Both have read before either has committed. */
            loop_run_once(clients[i].loop, 0);
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(client_txn_wait(&clients[i], &raises[i].txn), 0);
            attempts += raises[i].txn.txn.attempts;
        }
    }
    volume.epoch = UINT64_C(2) * STEPS;
    client_wait_row(&clients[1], &volume.row, STATE_VOLUME_COL_EPOCH);
    assert_true(attempts > 2 * STEPS);
    print_message("# %u steps took %u attempts\n", 2 * STEPS, attempts);
    client_close(&clients[1]);
    client_close(&clients[0]);
}

static void
test_idempotent_insert(void **unused)
{
    struct client a, b;
    (void)unused;
    client_open(&a, ovsdb.remotes);
    client_open(&b, ovsdb.remotes);

    struct state_pool pool = sample_pool();
    state_uuid_derive(pool.name, "pool", &pool.row.uuid);
    struct client_step steps[] = {
        { STEP_INSERT, &pool.row, STATE_POOL_COL_ALL },
        { STEP_END, NULL, 0 },
    };
    struct client_txn txn_a = { 0 }, txn_b = { 0 };
    client_txn_start(&a, &txn_a, steps);
    client_txn_start(&b, &txn_b, steps);
    loop_run_once(a.loop, 0);
    loop_run_once(b.loop, 0); /* Neither sees the other's row. */
    assert_int_equal(txn_a.txn.attempts + txn_b.txn.attempts, 2);
    assert_int_equal(client_txn_wait(&b, &txn_b), 0);
    assert_int_equal(client_txn_wait(&a, &txn_a), 0);
    client_wait_row(&a, &pool.row, STATE_POOL_COL_ALL);

    /* Again, later: not even sent. */
    client_txn_start(&a, &txn_a, steps);
    assert_int_equal(client_txn_wait(&a, &txn_a), 0);
    assert_int_equal(txn_a.txn.attempts, 0);
    client_close(&b);
    client_close(&a);
}

static void
test_index_violation(void **unused)
{
    struct client client;
    (void)unused;
    client_open(&client, ovsdb.remotes);
    struct state_volume first = sample_make_volume(&client);

    struct state_volume second = first;
    state_uuid_random(&second.row.uuid);
    struct client_txn txn = { 0 };
    client_txn_start(&client, &txn,
                     (struct client_step[]){
                         { STEP_INSERT, &second.row, STATE_VOLUME_COL_ALL },
                         { STEP_END, NULL, 0 } });
    assert_int_equal(client_txn_wait(&client, &txn), -EEXIST);
    assert_int_equal(txn.txn.conflict_table, STATE_TABLE_VOLUME);
    assert_int_equal(txn.txn.conflict_columns,
                     STATE_VOLUME_COL_PROJECT | STATE_VOLUME_COL_NAME);
    assert_non_null(strstr(txn.txn.error, first.name));

    /* Exchanging two names in one commit is no violation, here or there. */
    struct state_volume other = sample_make_volume(&client);
    const char *name = other.name;
    other.name = first.name;
    first.name = name;
    assert_int_equal(
        CLIENT_COMMIT(&client,
                      { STEP_UPDATE, &first.row, STATE_VOLUME_COL_NAME },
                      { STEP_UPDATE, &other.row, STATE_VOLUME_COL_NAME }),
        0);
    client_wait_row(&client, &first.row, STATE_VOLUME_COL_ALL);
    assert_true(uuid_equal(&state_volume_find_by_project_name(client.state,
                                                              "default", name)
                                ->row.uuid,
                           &first.row.uuid));
    client_close(&client);
}

static void
test_refusals(void **unused)
{
    struct client client;
    (void)unused;
    client_open(&client, ovsdb.remotes);
    struct state_volume volume = sample_make_volume(&client);

    struct state_pool bad = sample_pool();
    bad.replicas = 7;
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_INSERT, &bad.row,
                                              STATE_POOL_COL_ALL }),
                     -EINVAL);
    /* An enum without a value is not in the schema. */
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_INSERT, &bad.row,
                                              STATE_POOL_COL_NAME }),
                     -EINVAL);
    struct state_volume lost = sample_volume(&bad);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_INSERT, &lost.row,
                                              STATE_VOLUME_COL_ALL }),
                     -EINVAL);
    /* S11: the in-sync set is never empty. */
    struct state_mirror mirror = { .row = sample_row(STATE_TABLE_MIRROR),
                                   .volume = volume.row.uuid };
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_INSERT, &mirror.row,
                                              STATE_MIRROR_COL_ALL }),
                     -EINVAL);
    struct state_row used = { STATE_TABLE_POOL, volume.pool };
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_DELETE, &used, 0 }), -EBUSY);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_UPDATE, &lost.row,
                                              STATE_VOLUME_COL_CLEAN }),
                     -ECANCELED);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_VERIFY, &lost.row, 0 },
                                   { STEP_DELETE, &lost.row, 0 }),
                     -ECANCELED);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_ABSENT, &volume.row,
                                              STATE_VOLUME_COL_PROJECT |
                                                  STATE_VOLUME_COL_NAME }),
                     -ECANCELED);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_DELETE, &lost.row, 0 }), 0);
    assert_int_equal(CLIENT_COMMIT(&client,
                                   { STEP_ABSENT, &lost.row,
                                     STATE_VOLUME_COL_PROJECT |
                                         STATE_VOLUME_COL_NAME },
                                   { STEP_VERIFY, &volume.row, 0 }),
                     0);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_END, NULL, 0 }), 0);
    client_close(&client);
}

static void
test_add_and_remove(void **unused)
{
    struct client client;
    (void)unused;
    client_open(&client, ovsdb.remotes);
    struct state_volume volume = sample_make_volume(&client);
    struct weft_uuid replicas[3];
    for (size_t i = 0; i < 3; i++) {
        state_uuid_random(&replicas[i]);
    }
    struct state_mirror mirror = {
        .row = sample_row(STATE_TABLE_MIRROR),
        .volume = volume.row.uuid,
        .in_sync = replicas,
        .in_sync_count = 2,
    };
    struct state_pair_string_string options[] = { { "a", "1" }, { "b", "2" } };
    struct state_attachment attachment = {
        .row = sample_row(STATE_TABLE_ATTACHMENT),
        .volume = volume.row.uuid,
        .host = "h",
        .kind = STATE_ATTACHMENT_KIND_NBD,
        .options = options,
        .options_count = 2,
    };
    assert_int_equal(CLIENT_COMMIT(&client,
                                   { STEP_INSERT, &mirror.row,
                                     STATE_MIRROR_COL_ALL },
                                   { STEP_INSERT, &attachment.row,
                                     STATE_ATTACHMENT_COL_ALL }),
                     0);

    struct state_mirror gone = mirror, come = mirror;
    gone.in_sync_count = 1;
    come.in_sync = &replicas[2];
    come.in_sync_count = 1;
    struct state_pair_string_string more[] = { { "b", "3" }, { "c", "4" } };
    struct state_attachment changed = attachment;
    changed.options = more;
    assert_int_equal(
        CLIENT_COMMIT(&client,
                      { STEP_REMOVE, &gone.row, STATE_MIRROR_COL_IN_SYNC },
                      { STEP_ADD, &come.row, STATE_MIRROR_COL_IN_SYNC },
                      { STEP_ADD, &changed.row, STATE_ATTACHMENT_COL_OPTIONS }),
        0);
    const struct state_mirror *m =
        state_mirror_get(client.state, &mirror.row.uuid);
    assert_int_equal(m->in_sync_count, 2);
    assert_false(state_uuids_contain(m->in_sync, 2, &replicas[0]));
    assert_true(state_uuids_contain(m->in_sync, 2, &replicas[2]));
    const struct state_attachment *a =
        state_attachment_get(client.state, &attachment.row.uuid);
    assert_int_equal(a->options_count, 3);
    assert_string_equal(state_options_find(a->options, 3, "a"), "1");
    assert_string_equal(state_options_find(a->options, 3, "b"), "3");
    assert_string_equal(state_options_find(a->options, 3, "c"), "4");

    /* S11 again: the last member cannot go. */
    mirror.in_sync = m->in_sync;
    struct state_mirror *all = state_mirror_clone(m);
    assert_int_equal(CLIENT_COMMIT(&client, { STEP_REMOVE, &all->row,
                                              STATE_MIRROR_COL_IN_SYNC }),
                     -EINVAL);
    state_row_free(&all->row);
    client_close(&client);
}

/* ---- Ends ---- */

static void
test_no_server(void **unused)
{
    struct client client;
    struct state_pool pool = sample_pool();
    struct client_step steps[] = {
        { STEP_INSERT, &pool.row, STATE_POOL_COL_ALL },
        { STEP_END, NULL, 0 },
    };
    struct client_txn late = { 0 }, cancelled = { 0 }, closed = { 0 };
    (void)unused;
    client_start(&client, &(struct state_options){
                              .remotes = "unix:/nonexistent/weft" });
    late.txn.deadline_ns = loop_now_ns() + 10000000;
    client_txn_start(&client, &late, steps);
    client_txn_start(&client, &cancelled, steps);
    client_txn_start(&client, &closed, steps);
    assert_int_equal(client_txn_wait(&client, &late), -ETIMEDOUT);
    state_txn_cancel(&cancelled.txn);
    assert_false(cancelled.is_done);
    assert_int_equal(client_txn_wait(&client, &cancelled), -ETIMEDOUT);
    state_txn_cancel(&cancelled.txn); /* Harmless. */
    assert_false(state_status(client.state)->is_connected);
    assert_int_equal(state_status(client.state)->last_error, -ENOENT);
    client_close(&client);
    assert_true(closed.is_done);
    assert_int_equal(closed.result, -ESHUTDOWN);

    struct state *state;
    struct loop *loop;
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(state_open(loop, &(struct state_options){ .remotes = "" },
                                &state),
                     -EINVAL);
    assert_int_equal(state_open(loop,
                                &(struct state_options){ .remotes = "udp:1" },
                                &state),
                     -EINVAL);
    loop_free(loop);
}

/* Closed between sending and answer: nobody knows. */
static void
test_close_while_sent(void **unused)
{
    struct client client;
    struct state_pool pool = sample_pool();
    struct client_txn txn = { 0 };
    (void)unused;
    client_open(&client, ovsdb.remotes);
    client_txn_start(&client, &txn,
                     (struct client_step[]){
                         { STEP_INSERT, &pool.row, STATE_POOL_COL_ALL },
                         { STEP_END, NULL, 0 } });
    loop_run_once(client.loop, 0);
    assert_int_equal(txn.txn.attempts, 1);
    client_close(&client);
    assert_true(txn.is_done);
    assert_int_equal(txn.result, -EREMOTEIO);
}

int
main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_and_set),
        cmocka_unit_test(test_contended_counter),
        cmocka_unit_test(test_idempotent_insert),
        cmocka_unit_test(test_index_violation),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_add_and_remove),
        cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_close_while_sent),
    };

    if (argc > 1 && strcmp(argv[1], "raft") == 0) {
        server_count = 3;
    }
    return cmocka_run_group_tests_name(
        server_count == 1 ? "state transactions, one server"
                          : "state transactions, three servers in Raft",
        tests, setup, teardown);
}
