/* SPDX-License-Identifier: Apache-2.0 */
/* service/api_list, api_name: filters, pages, resource names; with a call
 * that only remembers how it failed. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "proto/weft/v1/event.pb-c.h"
#include "proto/weft/v1/volume.pb-c.h"
#include "service/service.h"

static struct rpc_error failure; /* Of the last call; RPC_OK: none. */
static struct rpc_call *const call = (struct rpc_call *)(void *)&failure;

void
rpc_call_fail(struct rpc_call *failed, const struct rpc_error *error)
{
    assert_ptr_equal(failed, call);
    assert_int_equal(failure.code, RPC_OK);
    failure = *error;
}

static const char *method = "ListVolumes";

const char *
rpc_call_method(const struct rpc_call *asked)
{
    assert_ptr_equal(asked, call);
    return method;
}

static int
setup(void **state)
{
    (void)state;
    method = "ListVolumes";
    memset(&failure, 0, sizeof failure);
    return 0;
}

/* ---- Filters ---- */

static bool
parses(const char *text)
{
    struct api_filter *filter;

    memset(&failure, 0, sizeof failure);
    bool good =
        api_filter_parse(call, &weft__v1__volume__descriptor, text, &filter);
    assert_int_equal(good, failure.code == RPC_OK);
    if (!good) {
        assert_int_equal(failure.code, RPC_INVALID_ARGUMENT);
        assert_string_equal(failure.violations[0].field, "filter");
        assert_null(filter);
    }
    api_filter_free(filter);
    return good;
}

static void
test_filter_syntax(void **state)
{
    (void)state;
    static const char *const good[] = {
        "",
        "name = \"x\"",
        "name=\"x\"",
        "  name\t =  \"a b = c AND d\"  ",
        "name = \"\"",
        "state = \"ATTACHED\" AND pool = \"pools/p\"",
    };
    static const char *const bad[] = {
        " ",
        "name",
        "name =",
        "name = x",
        "name = \"x",
        "name = 'x'",
        "name == \"x\"",
        "name = \"x\" AND",
        "name = \"x\" AND ",
        "name = \"x\" OR name = \"y\"",
        "name = \"x\" and name = \"y\"",
        "name = \"x\" name = \"y\"",
        "AND name = \"x\"",
        "no_such_field = \"x\"",
        "size_bytes = \"4096\"", /* A number. */
        "mirrors = \"x\"",       /* Repeated. */
        "create_time = \"x\"",   /* A message. */
        "Name = \"x\"",
        "name = \"x\";",
        "state = \"NO_SUCH_STATE\"", /* It would match nothing. */
        "state = \"attached\"",
        "state = \"\"",
        "a_word_that_is_longer_than_any_field_of_any_resource_will_ever_be_xx"
        " = \"x\"",
    };

    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_true(parses(good[i]));
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(parses(bad[i]));
    }
}

/* As many terms, and values as long, as there is room for; one more is
 * refused. */
static void
test_filter_bounds(void **state)
{
    (void)state;
    char text[1024] = "";

    for (int terms = 1; terms <= 9; terms++) {
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                       terms > 1 ? " AND " : "", "name = \"x\"");
        assert_int_equal(parses(text), terms <= 8);
    }
    for (size_t size = 100; size < 150; size++) {
        char value[200];
        memset(value, 'v', size);
        value[size] = '\0';
        (void)snprintf(text, sizeof text, "name = \"%s\"", value);
        assert_int_equal(parses(text), size < 128);
    }
}

static bool
matches(const char *text, const ProtobufCMessage *message)
{
    struct api_filter *filter;

    assert_true(api_filter_parse(call, message->descriptor, text, &filter));
    bool result = api_filter_matches(filter, message);
    api_filter_free(filter);
    return result;
}

static void
test_filter_match(void **state)
{
    (void)state;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    Weft__V1__Operation operation = WEFT__V1__OPERATION__INIT;
    char name[] = "projects/default/volumes/v1", pool[] = "pools/p";

    volume.name = name;
    volume.pool = pool;
    volume.state = WEFT__V1__VOLUME__STATE__ATTACHED;
    assert_true(matches("", &volume.base));
    assert_true(matches("pool = \"pools/p\"", &volume.base));
    assert_false(matches("pool = \"pools/\"", &volume.base));
    assert_false(matches("pool = \"pools/pp\"", &volume.base));
    assert_true(matches("state = \"ATTACHED\"", &volume.base));
    assert_false(matches("state = \"CREATING\"", &volume.base));
    assert_true(
        matches("pool = \"pools/p\" AND state = \"ATTACHED\"", &volume.base));
    assert_false(
        matches("pool = \"pools/p\" AND state = \"CREATING\"", &volume.base));
    /* One that is not set is empty; a number without a name matches none. */
    assert_true(matches("owner_host = \"\"", &volume.base));
    volume.state = (Weft__V1__Volume__State)77;
    assert_false(matches("state = \"ATTACHED\"", &volume.base));

    assert_true(matches("done = \"false\"", &operation.base));
    operation.done = true;
    assert_true(matches("done = \"true\"", &operation.base));
    assert_false(matches("done = \"false\"", &operation.base));
}

/* ---- Pages ---- */

struct page {
    char names[200][32];
    size_t count;
    char token[64];
};

/* Lists volumes v000, v001, ... of which 'skip' is gone, as one call does. */
static void
list(uint32_t total, uint32_t skip, int32_t page_size, const char *token,
     const char *filter, bool descending, struct page *ret_page)
{
    struct api_list items;
    ProtobufCMessage **got;
    char *next;

    assert_true(api_list_begin(&items, call, &weft__v1__volume__descriptor,
                               "projects/-", page_size, token, filter));
    items.descending = descending;
    for (uint32_t i = 0; i < total; i++) {
        /* In no particular order. */
        uint32_t number = (i * 7919u) % total;
        Weft__V1__Volume *volume = reply_alloc(&items.arena, sizeof *volume);
        weft__v1__volume__init(volume);
        volume->name = reply_text(&items.arena, "v%03u", number);
        volume->pool = reply_text(&items.arena, "pools/p%u", number % 2);
        if (number != skip) {
            api_list_add(&items, &volume->base, NULL);
        }
    }
    api_list_page(&items, &got, &ret_page->count, &next);
    assert_true(ret_page->count <= ARRAY_COUNT(ret_page->names));
    for (size_t i = 0; i < ret_page->count; i++) {
        const Weft__V1__Volume *volume = (const void *)got[i];
        (void)snprintf(ret_page->names[i], sizeof ret_page->names[i], "%s",
                       volume->name);
    }
    (void)snprintf(ret_page->token, sizeof ret_page->token, "%s", next);
    api_list_end(&items);
}

static void
walk(uint32_t total, int32_t page_size, const char *filter, bool descending,
     uint32_t step, uint32_t expected)
{
    static struct page page;
    char token[64] = "";
    uint32_t seen = 0;

    do {
        list(total, UINT32_MAX, page_size, token, filter, descending, &page);
        assert_true(page.count <= (size_t)page_size);
        for (size_t i = 0; i < page.count; i++) {
            char name[32];
            uint32_t number = seen * step;
            (void)snprintf(name, sizeof name, "v%03u",
                           descending ? total - 1 - number : number);
            assert_string_equal(page.names[i], name);
            seen++;
        }
        (void)snprintf(token, sizeof token, "%s", page.token);
    } while (token[0] != '\0');
    assert_int_equal(seen, expected);
}

/* All of them, once, in order; the last page has no token. */
static void
test_pages(void **state)
{
    (void)state;
    for (int32_t size = 1; size <= 120; size += size < 12 ? 1 : 9) {
        walk(101, size, "", false, 1, 101);
        walk(101, size, "", true, 1, 101);
        walk(101, size, "pool = \"pools/p0\"", false, 2, 51);
    }
    walk(100, 100, "", false, 1, 100);
    walk(0, 10, "", false, 1, 0);
}

/* The item that a token names has gone in between: nothing is missed. */
static void
test_gone_between_pages(void **state)
{
    (void)state;
    static struct page page;
    char token[64];

    list(50, UINT32_MAX, 10, "", "", false, &page);
    (void)snprintf(token, sizeof token, "%s", page.token);
    list(50, 9, 10, token, "", false, &page);
    assert_string_equal(page.names[0], "v010");
    list(50, UINT32_MAX, 10, "", "", true, &page);
    (void)snprintf(token, sizeof token, "%s", page.token);
    list(50, 40, 10, token, "", true, &page);
    assert_string_equal(page.names[0], "v039");
}

static bool
begins(const char *parent, const char *token, const char *filter)
{
    struct api_list items;

    memset(&failure, 0, sizeof failure);
    if (!api_list_begin(&items, call, &weft__v1__volume__descriptor, parent, 0,
                        token, filter)) {
        assert_int_equal(failure.code, RPC_INVALID_ARGUMENT);
        assert_string_equal(failure.violations[0].field, "page_token");
        return false;
    }
    api_list_end(&items);
    return true;
}

/* Good for the method, parent and filter that it was made for, only. */
static void
test_token_of_another_list(void **state)
{
    (void)state;
    static struct page page;
    static const char *const garbage[] = {
        "x", "-", "v009", "00000000-v009", "0000000", "\xff\xff", "%s%n",
    };

    list(50, UINT32_MAX, 10, "", "", false, &page);
    assert_true(begins("projects/-", page.token, ""));
    assert_false(begins("projects/default", page.token, ""));
    assert_false(begins("projects/-", page.token, "pool = \"pools/p0\""));
    method = "ListDisks";
    assert_false(begins("projects/-", page.token, ""));
    for (size_t i = 0; i < ARRAY_COUNT(garbage); i++) {
        assert_false(begins("projects/-", garbage[i], ""));
    }
}

/* The rest of a token is any text: a place in the order. */
static void
test_token_of_anything(void **state)
{
    (void)state;
    static const char *const beyond[] = { "zzz", "v999", "\xff\xff" };
    static const char *const before[] = { "a", " ", "\x01", "v" };
    static struct page page;
    char token[64];

    list(50, UINT32_MAX, 10, "", "", false, &page);
    (void)snprintf(token, sizeof token, "%s", page.token);
    char *place = strchr(token, '-') + 1;
    for (size_t i = 0; i < ARRAY_COUNT(beyond); i++) {
        (void)snprintf(place, 16, "%s", beyond[i]);
        list(50, UINT32_MAX, 10, token, "", false, &page);
        assert_int_equal(page.count, 0);
        assert_string_equal(page.token, "");
    }
    for (size_t i = 0; i < ARRAY_COUNT(before); i++) {
        (void)snprintf(place, 16, "%s", before[i]);
        list(50, UINT32_MAX, 10, token, "", false, &page);
        assert_string_equal(page.names[0], "v000");
    }
}

static void
test_page_size(void **state)
{
    (void)state;
    static struct page page;
    struct api_list items;

    list(150, UINT32_MAX, 0, "", "", false, &page);
    assert_int_equal(page.count, API_PAGE_SIZE_DEFAULT);
    list(150, UINT32_MAX, INT32_MAX, "", "", false, &page);
    assert_int_equal(page.count, 150);
    assert_false(api_list_begin(&items, call, &weft__v1__volume__descriptor,
                                "projects/-", -1, "", ""));
    assert_string_equal(failure.violations[0].field, "page_size");
}

/* ---- Names ---- */

static void
test_names(void **state)
{
    (void)state;
    char a[API_NAME_PART_SIZE], b[API_NAME_PART_SIZE], text[200];
    static const char *const bad[] = {
        "",         "hosts",      "hosts/",    "hosts/h1/", "/hosts/h1",
        "host/h1",  "hostsx/h1",  "hosts//h1", "hosts/H1",  "hosts/h1/disks",
        "hosts/..", "hosts/h 1",  "h1",        "hosts/h1 ", "HOSTS/h1",
        "hosts/--", "hosts/h1\n", "hosts/-h",
    };

    assert_true(api_name_parse("hosts/h1", "hosts", a));
    assert_string_equal(a, "h1");
    assert_true(api_name_parse("hosts/-", "hosts", a)); /* All. */
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(api_name_parse(bad[i], "hosts", a));
    }
    assert_true(api_name_parse_two("projects/p/volumes/v", "projects",
                                   "volumes", a, b));
    assert_string_equal(a, "p");
    assert_string_equal(b, "v");
    assert_false(api_name_parse_two("projects/p", "projects", "volumes", a, b));
    assert_false(
        api_name_parse_two("projects/p/", "projects", "volumes", a, b));
    assert_false(api_name_parse_two("projects/p/volumes/v/x", "projects",
                                    "volumes", a, b));
    assert_false(api_name_parse_two("volumes/v/projects/p", "projects",
                                    "volumes", a, b));

    /* 63 characters, and no more. */
    for (size_t size = 60; size < 70; size++) {
        (void)snprintf(text, sizeof text, "hosts/%.*s", (int)size,
                       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        assert_int_equal(api_name_parse(text, "hosts", a),
                         size <= NAME_SIZE_MAX);
    }
}

/* The refusal names the field and quotes the value, cut to its room. */
static void
test_name_refused(void **state)
{
    (void)state;
    char a[API_NAME_PART_SIZE], b[API_NAME_PART_SIZE];
    char *text = malloc(1u << 20);

    assert_non_null(text);
    memset(text, 'x', (1u << 20) - 1);
    text[(1u << 20) - 1] = '\0';
    assert_false(api_take_name(call, "parent", text, "hosts", a));
    assert_int_equal(failure.code, RPC_INVALID_ARGUMENT);
    assert_string_equal(failure.violations[0].field, "parent");
    memset(&failure, 0, sizeof failure);
    assert_false(
        api_take_name_two(call, "name", "hosts/%n%s", "hosts", "disks", a, b));
    assert_non_null(strstr(failure.violations[0].text, "hosts/%n%s"));
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_filter_syntax, setup),
        cmocka_unit_test_setup(test_filter_bounds, setup),
        cmocka_unit_test_setup(test_filter_match, setup),
        cmocka_unit_test_setup(test_pages, setup),
        cmocka_unit_test_setup(test_gone_between_pages, setup),
        cmocka_unit_test_setup(test_token_of_another_list, setup),
        cmocka_unit_test_setup(test_token_of_anything, setup),
        cmocka_unit_test_setup(test_page_size, setup),
        cmocka_unit_test_setup(test_names, setup),
        cmocka_unit_test_setup(test_name_refused, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
