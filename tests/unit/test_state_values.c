/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as values: comparison and cloning, what the server's JSON becomes and
 * what it must not do to us, the cache with its indexes, derived UUIDs.  No
 * server: tests/integration/test_state.c has one. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/state/cache.h"
#include "lib/state/codec.h"
#include "lib/state/state.h"
#include "tests/unit/unit.h"

static const struct state_column *
column_of(enum state_table table, uint64_t column)
{
    return &state_class_of(table)->columns[__builtin_ctzll(column)];
}

static struct weft_uuid
uuid_of(uint8_t last)
{
    struct weft_uuid uuid = { { 0 } };
    uuid.bytes[0] = 0xab;
    uuid.bytes[15] = last;
    return uuid;
}

static struct state_mirror *
mirror_with(const uint8_t *in_sync, size_t count)
{
    struct weft_uuid uuids[8];
    struct state_pair_uuid_uuid pairs[8];
    struct state_mirror mirror = {
        .row = { STATE_TABLE_MIRROR, uuid_of(1) },
        .in_sync = uuids,
        .in_sync_count = count,
        .replicas = pairs,
        .replicas_count = count,
    };
    for (size_t i = 0; i < count; i++) {
        uuids[i] = pairs[i].key = uuid_of(in_sync[i]);
        pairs[i].value = uuid_of((uint8_t)(in_sync[i] + 100));
    }
    return state_mirror_clone(&mirror);
}

/* ---- Values ---- */

static void
test_difference(void **unused)
{
    (void)unused;
    struct state_pair_string_string options[] = { { "k", "v" } };
    struct state_attachment a = {
        .row = { STATE_TABLE_ATTACHMENT, uuid_of(1) },
        .host = "h",
        .kind = STATE_ATTACHMENT_KIND_NBD,
        .options = options,
        .options_count = 1,
    };
    struct state_attachment *b = state_attachment_clone(&a);
    assert_int_equal(state_row_difference(&a.row, &b->row), 0);
    assert_ptr_not_equal(b->host, a.host);
    assert_ptr_not_equal(b->options[0].value, a.options[0].value);
    options[0].value = "w";
    assert_int_equal(state_row_difference(&a.row, &b->row),
                     STATE_ATTACHMENT_COL_OPTIONS);
    a.kind = STATE_ATTACHMENT_KIND_VHOST_USER;
    a.host = NULL; /* The same as "". */
    assert_int_equal(state_row_difference(&a.row, &b->row),
                     STATE_ATTACHMENT_COL_OPTIONS | STATE_ATTACHMENT_COL_KIND |
                         STATE_ATTACHMENT_COL_HOST);
    char text[64];
    state_row_format_columns(STATE_TABLE_ATTACHMENT,
                             STATE_ATTACHMENT_COL_KIND |
                                 STATE_ATTACHMENT_COL_HOST,
                             text, sizeof text);
    assert_string_equal(text, "host,kind");
    state_row_free(&b->row);
    state_row_free(NULL);
}

static void
from_wrong_table(void *row)
{
    state_volume_from(row);
}

static void
test_wrong_table_aborts(void **unused)
{
    (void)unused;
    struct state_pool pool = { .row = { STATE_TABLE_POOL, uuid_of(1) } };
    assert_ptr_equal(state_pool_from(&pool.row), &pool);
    assert_null(state_volume_from(NULL));
    assert_true(unit_aborts(from_wrong_table, &pool.row));
}

static void
test_enum_names(void **unused)
{
    (void)unused;
    assert_string_equal(state_volume_state_name(STATE_VOLUME_STATE_READY),
                        "ready");
    assert_string_equal(state_volume_state_name(0), "unknown");
    assert_string_equal(state_volume_state_name((enum state_volume_state)99),
                        "unknown");
}

static void
test_derived_uuids(void **unused)
{
    struct weft_uuid a, b, c, d;
    char text[UUID_TEXT_SIZE];
    (void)unused;
    state_uuid_derive("request", "volume", &a);
    state_uuid_derive("request", "volume", &b);
    state_uuid_derive("request", "mirror/0", &c);
    state_uuid_derive("requestv", "olume", &d);
    assert_true(uuid_equal(&a, &b));
    assert_false(uuid_equal(&a, &c));
    assert_false(uuid_equal(&a, &d));
    /* Written down: a new version must derive the same. */
    uuid_format(&a, text);
    assert_string_equal(text, "6e5cf916-6aa1-5bba-ac7d-bf7370b5f46b");
    state_uuid_random(&a);
    state_uuid_random(&b);
    assert_false(uuid_equal(&a, &b));
}

/* ---- JSON ---- */

static int
read_text(struct state_row *row, uint64_t column, const char *text,
          bool is_diff)
{
    return codec_read_text(row, column_of(row->table, column), text, is_diff);
}

static void
test_good_json(void **unused)
{
    (void)unused;
    struct weft_uuid uuid = uuid_of(1);
    struct state_row *row = state_row_new(STATE_TABLE_VOLUME, &uuid);
    const struct state_volume *volume = state_volume_from(row);

    assert_string_equal(volume->name, "");
    assert_int_equal(read_text(row, STATE_VOLUME_COL_NAME, "\"v\"", false), 0);
    assert_string_equal(volume->name, "v");
    assert_int_equal(read_text(row, STATE_VOLUME_COL_EPOCH,
                               "9223372036854775807", false),
                     0);
    assert_int_equal(volume->epoch, INT64_MAX);
    assert_int_equal(read_text(row, STATE_VOLUME_COL_CLEAN, "true", true), 0);
    assert_true(volume->clean);
    assert_int_equal(read_text(row, STATE_VOLUME_COL_STATE, "\"deleting\"",
                               false),
                     0);
    assert_int_equal(volume->state, STATE_VOLUME_STATE_DELETING);
    /* N12: of a newer version. */
    assert_int_equal(read_text(row, STATE_VOLUME_COL_STATE, "\"shrinking\"",
                               false),
                     0);
    assert_int_equal(volume->state, STATE_VOLUME_STATE_UNKNOWN);
    state_row_free(row);
}

static void
test_set_and_map_differences(void **unused)
{
    (void)unused;
    struct state_mirror *mirror = mirror_with((uint8_t[]){ 9, 3 }, 2);
    char text[512];
    char u[4][UUID_TEXT_SIZE];
    for (uint8_t i = 0; i < 4; i++) {
        struct weft_uuid uuid = uuid_of((uint8_t)(3 * (i + 1)));
        uuid_format(&uuid, u[i]); /* 3, 6, 9, 12 */
    }
    struct state_items items =
        state_items_get(&mirror->row, column_of(STATE_TABLE_MIRROR,
                                                STATE_MIRROR_COL_IN_SYNC));
    assert_true(state_items_sort(column_of(STATE_TABLE_MIRROR,
                                           STATE_MIRROR_COL_IN_SYNC),
                                 items));
    items = state_items_get(&mirror->row, column_of(STATE_TABLE_MIRROR,
                                                    STATE_MIRROR_COL_REPLICAS));
    assert_true(state_items_sort(column_of(STATE_TABLE_MIRROR,
                                           STATE_MIRROR_COL_REPLICAS),
                                 items));

    /* 3 goes, 6 comes; a lone member may stand without its set. */
    snprintf(text, sizeof text,
             "[\"set\",[[\"uuid\",\"%s\"],"
             "[\"uuid\",\"%s\"]]]",
             u[1], u[0]);
    assert_int_equal(read_text(&mirror->row, STATE_MIRROR_COL_IN_SYNC, text,
                               true),
                     0);
    assert_int_equal(mirror->in_sync_count, 2);
    assert_int_equal(mirror->in_sync[0].bytes[15], 6);
    assert_int_equal(mirror->in_sync[1].bytes[15], 9);
    snprintf(text, sizeof text, "[\"uuid\",\"%s\"]", u[3]);
    assert_int_equal(read_text(&mirror->row, STATE_MIRROR_COL_IN_SYNC, text,
                               true),
                     0);
    assert_int_equal(mirror->in_sync_count, 3);
    assert_int_equal(read_text(&mirror->row, STATE_MIRROR_COL_IN_SYNC, text,
                               false),
                     0);
    assert_int_equal(mirror->in_sync_count, 1);

    /* Of a map: 3 changes its value, 9 goes (same value), 12 comes. */
    struct weft_uuid same = uuid_of(109);
    char same_text[UUID_TEXT_SIZE];
    uuid_format(&same, same_text);
    snprintf(text, sizeof text,
             "[\"map\",[[[\"uuid\",\"%s\"],[\"uuid\",\"%s\"]],"
             "[[\"uuid\",\"%s\"],[\"uuid\",\"%s\"]],"
             "[[\"uuid\",\"%s\"],[\"uuid\",\"%s\"]]]]",
             u[0], u[1], u[2], same_text, u[3], u[3]);
    assert_int_equal(read_text(&mirror->row, STATE_MIRROR_COL_REPLICAS, text,
                               true),
                     0);
    assert_int_equal(mirror->replicas_count, 2);
    assert_int_equal(mirror->replicas[0].key.bytes[15], 3);
    assert_int_equal(mirror->replicas[0].value.bytes[15], 6);
    assert_int_equal(mirror->replicas[1].key.bytes[15], 12);
    state_row_free(&mirror->row);
}

struct bad_case {
    enum state_table table;
    uint64_t column;
    const char *text;
};

#define U "[\"uuid\",\"ab000000-0000-0000-0000-000000000001\"]"

static const struct bad_case bad_cases[] = {
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_NAME, "7" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_NAME, "[\"set\",[]]" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_NAME, "null" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_EPOCH, "-1" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_EPOCH, "1.5" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_EPOCH, "\"1\"" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_STRIPE_WIDTH, "4294967296" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_STRIPE_WIDTH, "-1" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_CLEAN, "1" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_STATE, "{}" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_POOL, "[\"uuid\",\"x\"]" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_POOL, "[\"uuid\",7]" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_POOL, "[\"uuid\"]" },
    { STATE_TABLE_VOLUME, STATE_VOLUME_COL_POOL, "[]" },
    { STATE_TABLE_DISK, STATE_DISK_COL_POOL, "[\"set\",[" U "," U "]]" },
    { STATE_TABLE_DISK, STATE_DISK_COL_POOL, "[\"set\",7]" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_IN_SYNC, "[\"set\",[7]]" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_IN_SYNC, "[\"set\",{}]" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_IN_SYNC, "[\"set\",[" U "," U "]]" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_REPLICAS, "7" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_REPLICAS, "[\"map\",[" U "]]" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_REPLICAS,
      "[\"map\",[[" U "," U "," U "]]]" },
    { STATE_TABLE_MIRROR, STATE_MIRROR_COL_REPLICAS,
      "[\"map\",[[" U "," U "],[" U "," U "]]]" },
    { STATE_TABLE_ATTACHMENT, STATE_ATTACHMENT_COL_OPTIONS,
      "[\"map\",[[\"a\",7]]]" },
    { STATE_TABLE_ATTACHMENT, STATE_ATTACHMENT_COL_OPTIONS,
      "[\"map\",[[\"a\",\"b\"],[\"c\"]]]" },
};

static void
test_bad_json(void **unused)
{
    struct weft_uuid uuid = uuid_of(1);
    (void)unused;
    for (size_t i = 0; i < ARRAY_COUNT(bad_cases); i++) {
        const struct bad_case *bad = &bad_cases[i];
        struct state_row *row = state_row_new(bad->table, &uuid);
        assert_int_equal(read_text(row, bad->column, bad->text, false),
                         -EBADMSG);
        assert_int_equal(read_text(row, bad->column, bad->text, true),
                         -EBADMSG);
        state_row_free(row); /* Whole, whatever happened. */
    }
    /* More members than the schema has room for. */
    char text[1024] = "[\"set\",[";
    for (int i = 0; i < 9; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used,
                 "%s[\"uuid\",\"ab000000-0000-0000-0000-00000000000%d\"]",
                 i == 0 ? "" : ",", i);
    }
    strncat(text, "]]", 3);
    struct state_row *row = state_row_new(STATE_TABLE_MIRROR, &uuid);
    assert_int_equal(read_text(row, STATE_MIRROR_COL_IN_SYNC, text, false),
                     -EBADMSG);
    state_row_free(row);
}

/* ---- The cache ---- */

static struct state_row *
host_row(unsigned number, const char *name)
{
    struct state_host host = {
        .row = { STATE_TABLE_HOST, uuid_of((uint8_t)number) },
        .name = name,
    };
    host.row.uuid.bytes[1] = (uint8_t)(number >> 8);
    return &state_host_clone(&host)->row;
}

static const struct cache_entry *
find_host(const struct cache *cache, const char *name)
{
    struct state_host key = { .row = { .table = STATE_TABLE_HOST },
                              .name = name };
    return cache_find_by_index(cache, &key.row, 0);
}

static void
test_cache(void **unused)
{
    enum { COUNT = 3000 };
    struct cache cache;
    char name[32];
    (void)unused;
    cache_init(&cache);
    assert_null(find_host(&cache, "h0"));
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "h%u", i);
        assert_null(cache_put(&cache, host_row(i, name)));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "h%u", i);
        struct state_row *probe = host_row(i, name);
        const struct cache_entry *entry =
            cache_find(&cache, STATE_TABLE_HOST, &probe->uuid);
        assert_non_null(entry);
        assert_ptr_equal(entry, find_host(&cache, name));
        state_row_free(probe);
    }

    /* Two rows exchange names, one after the other: alike for a moment. */
    state_row_free(cache_put(&cache, host_row(1, "h2")));
    state_row_free(cache_put(&cache, host_row(2, "h1")));
    struct weft_uuid one = uuid_of(1);
    assert_true(uuid_equal(&find_host(&cache, "h2")->row->uuid, &one));
    assert_false(uuid_equal(&find_host(&cache, "h1")->row->uuid, &one));

    unsigned left = COUNT;
    for (struct cache_entry *entry = cache_next(&cache, STATE_TABLE_HOST, NULL),
                            *next;
         entry != NULL; entry = next) {
        next = cache_next(&cache, STATE_TABLE_HOST, entry);
        if (left % 2 == 0) {
            struct weft_uuid uuid = entry->row->uuid;
            state_row_free(cache_take(&cache, STATE_TABLE_HOST, &uuid));
            assert_null(cache_find(&cache, STATE_TABLE_HOST, &uuid));
            assert_null(cache_take(&cache, STATE_TABLE_HOST, &uuid));
        }
        left--;
    }
    assert_int_equal(left, 0);
    assert_int_equal(cache.tables[STATE_TABLE_HOST].count, COUNT / 2);
    cache_done(&cache);
}

/* Port 'number' with one of seven identities. */
static struct state_row *
port_row(unsigned number, unsigned identity)
{
    struct state_port port = {
        .row = { STATE_TABLE_PORT, uuid_of((uint8_t)number) },
        .network = uuid_of(200),
        .identity = uuid_of((uint8_t)identity),
    };
    char name[16];

    snprintf(name, sizeof name, "p%u", number);
    port.row.uuid.bytes[1] = (uint8_t)(number >> 8);
    port.name = name;
    return &state_port_clone(&port)->row;
}

/* Lookups: network, identity, host, as in gen_values.py. */
static size_t
count_ports(const struct cache *cache, size_t lookup, unsigned value)
{
    const struct state_port key = {
        .row = { .table = STATE_TABLE_PORT },
        .network = uuid_of((uint8_t)value),
        .identity = uuid_of((uint8_t)value),
    };
    size_t count = 0;

    for (struct cache_entry *entry = NULL;
         (entry = cache_next_alike(cache, &key.row, lookup, entry)) != NULL;) {
        const struct state_port *port = state_port_from(entry->row);
        assert_true(uuid_equal(lookup == 0 ? &port->network : &port->identity,
                               &key.identity));
        count++;
    }
    assert_int_equal(count, cache_count_alike(cache, &key.row, lookup));
    return count;
}

static void
test_cache_lookups(void **unused)
{
    enum { COUNT = 2100, KINDS = 7 };
    struct cache cache;
    (void)unused;

    cache_init(&cache);
    cache.has_lookups = true;
    assert_int_equal(count_ports(&cache, 0, 200), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_null(cache_put(&cache, port_row(i, i % KINDS)));
    }
    assert_int_equal(count_ports(&cache, 0, 200), COUNT);
    assert_int_equal(count_ports(&cache, 0, 201), 0);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        assert_int_equal(count_ports(&cache, 1, kind), COUNT / KINDS);
    }
    /* All of one kind become of another, or of a new one. */
    for (unsigned i = 0; i < COUNT; i += KINDS) {
        state_row_free(cache_put(&cache, port_row(i, i % 2 == 0 ? 1 : 99)));
    }
    assert_int_equal(count_ports(&cache, 1, 0), 0);
    assert_int_equal(count_ports(&cache, 1, 1),
                     COUNT / KINDS + COUNT / KINDS / 2);
    assert_int_equal(count_ports(&cache, 1, 99), COUNT / KINDS / 2);
    for (unsigned i = 0; i < COUNT; i++) {
        struct state_row *probe = port_row(i, 0);
        state_row_free(cache_take(&cache, STATE_TABLE_PORT, &probe->uuid));
        state_row_free(probe);
        assert_int_equal(cache.tables[STATE_TABLE_PORT].count, COUNT - 1 - i);
    }
    assert_int_equal(count_ports(&cache, 0, 200), 0);
    assert_int_equal(count_ports(&cache, 1, 99), 0);
    assert_null(cache_put(&cache, port_row(1, 3)));
    cache_done(&cache);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_wrong_table_aborts),
        cmocka_unit_test(test_enum_names),
        cmocka_unit_test(test_derived_uuids),
        cmocka_unit_test(test_good_json),
        cmocka_unit_test(test_set_and_map_differences),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_lookups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
