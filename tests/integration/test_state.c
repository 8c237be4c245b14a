/* SPDX-License-Identifier: Apache-2.0 */
/* lib/state against real ovsdb-servers, standalone and three in Raft, by the
 * same tests: values, changes, conditions, the lock.  See also
 * test_state_txn.c and test_state_faults.c. */

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

/* ---- Values ---- */

/* Compares what 'reader' has with what was written. */
static void
check_mirror(struct client *reader, const struct state_mirror *wanted)
{
    const struct state_mirror *found =
        state_mirror_find_by_volume_index(reader->state, &wanted->volume,
                                          wanted->index);

    assert_non_null(found);
    assert_int_equal(found->view, wanted->view);
    assert_int_equal(found->replicas_count, wanted->replicas_count);
    for (size_t i = 0; i < wanted->replicas_count; i++) {
        const struct weft_uuid *disk =
            state_pairs_find(found->replicas, found->replicas_count,
                             &wanted->replicas[i].key);
        assert_non_null(disk);
        assert_true(uuid_equal(disk, &wanted->replicas[i].value));
    }
    assert_int_equal(found->in_sync_count, wanted->in_sync_count);
    for (size_t i = 0; i < wanted->in_sync_count; i++) {
        assert_true(state_uuids_contain(found->in_sync, found->in_sync_count,
                                        &wanted->in_sync[i]));
    }
}

static void
test_scalars_sets_and_uuid_maps(void **unused)
{
    struct client writer, reader;
    (void)unused;
    client_open(&writer, ovsdb.remotes);
    client_open(&reader, ovsdb.remotes);

    struct state_volume volume = sample_make_volume(&writer);
    struct state_pair_uuid_uuid replicas[3];
    struct weft_uuid in_sync[2];
    for (size_t i = 0; i < 3; i++) {
        state_uuid_random(&replicas[i].key);
        state_uuid_random(&replicas[i].value);
    }
    in_sync[0] = replicas[2].key;
    in_sync[1] = replicas[0].key;
    struct state_mirror mirror = {
        .row = sample_row(STATE_TABLE_MIRROR),
        .volume = volume.row.uuid,
        .index = UINT32_MAX,
        .view = INT64_MAX,
        .replicas = replicas,
        .replicas_count = 3,
        .in_sync = in_sync,
        .in_sync_count = 2,
    };
    assert_int_equal(CLIENT_COMMIT(&writer, { STEP_INSERT, &mirror.row,
                                              STATE_MIRROR_COL_ALL }),
                     0);
    client_wait_row(&reader, &mirror.row, STATE_MIRROR_COL_INDEX);
    check_mirror(&reader, &mirror);

    const struct state_volume *v =
        state_volume_get(reader.state, &volume.row.uuid);
    assert_int_equal(state_row_difference(&v->row, &volume.row), 0);
    assert_int_equal(v->state, STATE_VOLUME_STATE_READY);
    assert_string_equal(v->request_id, volume.request_id);
    assert_string_equal(v->owner_host, "");
    assert_true(uuid_is_nil(&v->owner_instance));
    assert_ptr_equal(v,
                     state_volume_find_by_project_name(reader.state, "default",
                                                       volume.name));
    assert_null(
        state_volume_find_by_project_name(reader.state, "other", volume.name));
    client_close(&reader);
    client_close(&writer);
}

static void
test_maps_of_texts_and_numbers(void **unused)
{
    struct client writer, reader;
    (void)unused;
    client_open(&writer, ovsdb.remotes);
    client_open(&reader, ovsdb.remotes);

    struct state_volume volume = sample_make_volume(&writer);
    struct state_pair_string_string options[] = { { "port", "10809" },
                                                  { "address", "" } };
    struct state_attachment attachment = {
        .row = sample_row(STATE_TABLE_ATTACHMENT),
        .volume = volume.row.uuid,
        .host = "h1",
        .kind = STATE_ATTACHMENT_KIND_VHOST_USER,
        .options = options,
        .options_count = 2,
    };
    struct state_pair_int_int progress[] = { { 7, 1 }, { 0, INT64_MAX } };
    struct state_attachment_status status = {
        .row = sample_row(STATE_TABLE_ATTACHMENT_STATUS),
        .volume = volume.row.uuid,
        .host = "h1",
        .state = STATE_ATTACHMENT_STATUS_STATE_HELD,
        .progress = progress,
        .progress_count = 2,
    };
    assert_int_equal(CLIENT_COMMIT(&writer,
                                   { STEP_INSERT, &attachment.row,
                                     STATE_ATTACHMENT_COL_ALL },
                                   { STEP_INSERT, &status.row,
                                     STATE_ATTACHMENT_STATUS_COL_ALL }),
                     0);
    client_wait_row(&reader, &status.row, STATE_ATTACHMENT_STATUS_COL_HOST);

    const struct state_attachment *a =
        state_attachment_find_by_volume(reader.state, &volume.row.uuid);
    assert_int_equal(a->kind, STATE_ATTACHMENT_KIND_VHOST_USER);
    assert_string_equal(state_options_find(a->options, 2, "port"), "10809");
    assert_string_equal(state_options_find(a->options, 2, "address"), "");
    assert_null(state_options_find(a->options, 2, "other"));

    const struct state_attachment_status *s =
        state_attachment_status_get(reader.state, &status.row.uuid);
    assert_int_equal(s->progress_count, 2);
    assert_int_equal(s->progress[0].key, 0);
    assert_int_equal(s->progress[0].value, INT64_MAX);
    assert_string_equal(state_attachment_status_state_name(s->state), "held");
    client_close(&reader);
    client_close(&writer);
}

/* The optional reference: present, changed, and away again. */
static void
test_optional_reference(void **unused)
{
    struct client client;
    (void)unused;
    client_open(&client, ovsdb.remotes);

    struct state_pool pool = sample_pool();
    struct state_disk disk = {
        .row = sample_row(STATE_TABLE_DISK),
        .host = "h1",
        .path = sample_name("/dev/"),
        .state = STATE_DISK_STATE_ADDING,
    };
    state_uuid_random(&disk.disk_uuid);
    assert_int_equal(
        CLIENT_COMMIT(&client, { STEP_INSERT, &pool.row, STATE_POOL_COL_ALL },
                      { STEP_INSERT, &disk.row, STATE_DISK_COL_ALL }),
        0);
    client_wait_row(&client, &disk.row, STATE_DISK_COL_ALL);
    for (int i = 0; i < 2; i++) {
        disk.pool = pool.row.uuid;
        assert_int_equal(CLIENT_COMMIT(&client, { STEP_UPDATE, &disk.row,
                                                  STATE_DISK_COL_POOL }),
                         0);
        client_wait_row(&client, &disk.row, STATE_DISK_COL_ALL);
        memset(&disk.pool, 0, sizeof disk.pool);
        assert_int_equal(CLIENT_COMMIT(&client, { STEP_UPDATE, &disk.row,
                                                  STATE_DISK_COL_POOL }),
                         0);
        client_wait_row(&client, &disk.row, STATE_DISK_COL_ALL);
    }
    client_close(&client);
}

/* ---- Changes ---- */

static void
test_one_batch_a_commit(void **unused)
{
    struct client writer, reader;
    char expected[512];
    (void)unused;
    client_open(&writer, ovsdb.remotes);
    client_open(&reader, ovsdb.remotes);
    client_trace_clear(&reader);

    struct state_volume volume = sample_make_volume(&writer);
    client_wait_row(&reader, &volume.row, STATE_VOLUME_COL_ALL);
    const struct state_pool *pool = state_pool_get(reader.state, &volume.pool);
    char pool_name[64];
    snprintf(pool_name, sizeof pool_name, "%s", pool->name);
    snprintf(expected, sizeof expected, "{+Pool %s +Volume %s}", pool_name,
             volume.name);
    assert_string_equal(reader.trace, expected);

    client_trace_clear(&reader);
    volume.size_bytes = 8192;
    volume.clean = true;
    assert_int_equal(CLIENT_COMMIT(&writer, { STEP_UPDATE, &volume.row,
                                              STATE_VOLUME_COL_ALL }),
                     0);
    client_wait_row(&reader, &volume.row, STATE_VOLUME_COL_ALL);
    snprintf(expected, sizeof expected, "{~Volume %s size_bytes,clean}",
             volume.name);
    assert_string_equal(reader.trace, expected);

    /* What changes nothing is no change. */
    client_trace_clear(&reader);
    assert_int_equal(CLIENT_COMMIT(&writer, { STEP_UPDATE, &volume.row,
                                              STATE_VOLUME_COL_ALL }),
                     0);
    struct state_row pool_row = { STATE_TABLE_POOL, volume.pool };
    assert_int_equal(CLIENT_COMMIT(&writer, { STEP_DELETE, &volume.row, 0 },
                                   { STEP_DELETE, &pool_row, 0 }),
                     0);
    client_wait_gone(&reader, STATE_TABLE_VOLUME, &volume.row.uuid);
    snprintf(expected, sizeof expected, "{-Pool %s -Volume %s}", pool_name,
             volume.name);
    assert_string_equal(reader.trace, expected);

    client_close(&reader);
    client_close(&writer);
}

/* A second listener, which comes late, and leaves in the middle of a batch. */
struct late {
    struct state_listener listener;
    struct client *client;
    unsigned seen, leave_after;
    bool has_ended;
};

static void
late_change(struct state_listener *listener, const struct state_change *change)
{
    struct late *late = container_of(listener, struct late, listener);
    assert_int_equal(change->table, STATE_TABLE_POOL);
    assert_int_equal(change->kind, STATE_CHANGE_INSERT);
    if (++late->seen == late->leave_after) {
        state_unsubscribe(late->client->state, listener);
    }
}

static void
late_end(struct state_listener *listener)
{
    container_of(listener, struct late, listener)->has_ended = true;
}

static bool
late_has_ended(struct client *client, const void *argument)
{
    (void)client;
    return ((const struct late *)argument)->has_ended;
}

static bool
late_has_left(struct client *client, const void *argument)
{
    const struct late *late = argument;
    (void)client;
    return late->seen == late->leave_after;
}

static void
test_late_listener(void **unused)
{
    struct client client;
    (void)unused;
    client_open(&client, ovsdb.remotes);
    sample_make_volume(&client);
    sample_make_volume(&client);
    sample_make_volume(&client);
    size_t count = state_row_count(client.state, STATE_TABLE_POOL);
    assert_true(count >= 3);

    struct late all = { .listener = { .change = late_change, .end = late_end },
                        .client = &client };
    struct late two = { .listener = { .change = late_change, .end = late_end },
                        .client = &client,
                        .leave_after = 2 };
    state_subscribe(client.state, &two.listener,
                    STATE_TABLE_BIT(STATE_TABLE_POOL));
    state_subscribe(client.state, &all.listener,
                    STATE_TABLE_BIT(STATE_TABLE_POOL));
    assert_int_equal(all.seen, 0); /* Not inside the call: (5). */
    client_wait(&client, late_has_ended, &all, "the late listener");
    client_wait(&client, late_has_left, &two, "the leaving listener");
    assert_int_equal(all.seen, count);
    assert_int_equal(two.seen, 2);
    assert_false(two.has_ended);
    state_unsubscribe(client.state, &all.listener);
    client_close(&client);
}

/* ---- Conditions ---- */

static bool
conditions_are_met(struct client *client, const void *unused)
{
    (void)unused;
    return state_conditions_are_met(client->state);
}

static void
test_conditions(void **unused)
{
    struct client writer, reader;
    (void)unused;
    client_open(&writer, ovsdb.remotes);
    client_start(&reader, &(struct state_options){
                              .remotes = ovsdb.remotes,
                              .tables = STATE_TABLE_BIT(STATE_TABLE_HOST) });
    /* Set before there is a connection. */
    struct state_host here = { .row = sample_row(STATE_TABLE_HOST),
                               .name = sample_name("here") };
    struct state_host there = { .row = sample_row(STATE_TABLE_HOST),
                                .name = sample_name("there") };
    state_set_condition(reader.state, STATE_TABLE_HOST,
                        (const struct state_row *[]){ &here.row }, 1,
                        STATE_HOST_COL_NAME);
    assert_int_equal(
        CLIENT_COMMIT(&writer, { STEP_INSERT, &there.row, STATE_HOST_COL_ALL },
                      { STEP_INSERT, &here.row, STATE_HOST_COL_ALL }),
        0);
    client_wait(&reader, conditions_are_met, NULL, "the first condition");
    client_wait_row(&reader, &here.row, STATE_HOST_COL_ALL);
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST), 1);

    state_set_condition(reader.state, STATE_TABLE_HOST,
                        (const struct state_row *[]){ &here.row, &there.row },
                        2, STATE_HOST_COL_NAME);
    assert_false(state_conditions_are_met(reader.state));
    client_wait(&reader, conditions_are_met, NULL, "a wider condition");
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST), 2);

    state_set_condition(reader.state, STATE_TABLE_HOST,
                        (const struct state_row *[]){ NULL }, 0, 0);
    client_wait(&reader, conditions_are_met, NULL, "no rows");
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST), 0);

    state_set_condition(reader.state, STATE_TABLE_HOST, NULL, 0, 0);
    client_wait(&reader, conditions_are_met, NULL, "all rows");
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST),
                     state_row_count(writer.state, STATE_TABLE_HOST));
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_POOL), 0);
    client_close(&reader);
    client_close(&writer);
}

/* Of several columns and the row's own UUID, over several tables: met only when
 * all of them are acknowledged, in whatever order they were set. */
static void
test_conditions_of_many(void **unused)
{
    struct client writer, reader;
    (void)unused;
    client_open(&writer, ovsdb.remotes);
    client_start(&reader, &(struct state_options){
                              .remotes = ovsdb.remotes,
                              .tables = STATE_TABLE_BIT(STATE_TABLE_HOST) |
                                        STATE_TABLE_BIT(STATE_TABLE_POOL) });
    state_set_conditions(reader.state, STATE_TABLE_HOST, NULL, 0);
    state_set_conditions(reader.state, STATE_TABLE_POOL, NULL, 0);
    struct state_host hosts[3];
    for (size_t i = 0; i < 3; i++) {
        hosts[i] = (struct state_host){ .row = sample_row(STATE_TABLE_HOST),
                                        .name = sample_name("many"),
                                        .rack = i == 1 ? "many-rack" : "" };
    }
    assert_int_equal(
        CLIENT_COMMIT(&writer,
                      { STEP_INSERT, &hosts[0].row, STATE_HOST_COL_ALL },
                      { STEP_INSERT, &hosts[1].row, STATE_HOST_COL_ALL },
                      { STEP_INSERT, &hosts[2].row, STATE_HOST_COL_ALL }),
        0);
    client_wait(&reader, conditions_are_met, NULL, "no rows at first");
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST), 0);

    struct state_clause clauses[] = {
        { .uuid = hosts[0].row.uuid },
        { .column = STATE_HOST_COL_RACK, .text = "many-rack" },
        { .column = STATE_HOST_COL_NAME, .text = "nobody" },
    };
    state_set_conditions(reader.state, STATE_TABLE_HOST, clauses, 3);
    state_set_conditions(reader.state, STATE_TABLE_POOL, NULL, 0); /* As was. */
    assert_false(state_conditions_are_met(reader.state));
    client_wait(&reader, conditions_are_met, NULL, "three clauses");
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST), 2);
    assert_null(state_host_get(reader.state, &hosts[2].row.uuid));

    state_reconnect(reader.state);
    client_wait_disconnected(&reader);
    client_wait(&reader, conditions_are_met, NULL, "them after a reconnect");
    assert_int_equal(state_row_count(reader.state, STATE_TABLE_HOST), 2);
    client_close(&reader);
    client_close(&writer);
}

/* ---- The lock ---- */

static bool
has_lock(struct client *client, const void *unused)
{
    (void)unused;
    return state_lock_is_held(client->state);
}

static void
test_lock_handover(void **unused)
{
    struct client first, second;
    struct state_options options = {
        .remotes = ovsdb.remotes,
        .is_leader_only = true,
        .lock = "manager",
    };
    (void)unused;
    client_open_with(&first, &options);
    client_wait(&first, has_lock, NULL, "the lock");
    client_open_with(&second, &options);
    assert_false(state_lock_is_held(second.state));

    struct state_pool pool = sample_pool();
    assert_int_equal(CLIENT_COMMIT(&second, { STEP_INSERT, &pool.row,
                                              STATE_POOL_COL_ALL }),
                     -ENOLCK);
    assert_int_equal(CLIENT_COMMIT(&first, { STEP_INSERT, &pool.row,
                                             STATE_POOL_COL_ALL }),
                     0);
    client_close(&first);
    client_wait(&second, has_lock, NULL, "the lock that became free");
    assert_int_equal(CLIENT_COMMIT(&second, { STEP_DELETE, &pool.row, 0 }), 0);
    client_close(&second);
}

int
main(int argc, char *argv[])
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_sets_and_uuid_maps),
        cmocka_unit_test(test_maps_of_texts_and_numbers),
        cmocka_unit_test(test_optional_reference),
        cmocka_unit_test(test_one_batch_a_commit),
        cmocka_unit_test(test_late_listener),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_conditions_of_many),
        cmocka_unit_test(test_lock_handover),
    };

    if (argc > 1 && strcmp(argv[1], "raft") == 0) {
        server_count = 3;
    }
    return cmocka_run_group_tests_name(server_count == 1
                                           ? "state, one server"
                                           : "state, three servers in Raft",
                                       tests, setup, teardown);
}
