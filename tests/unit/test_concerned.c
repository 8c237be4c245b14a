/* SPDX-License-Identifier: Apache-2.0 */
/* Which ports it concerns that some flows are not in the switch. */

#include "tests/unit/emit_bed.h"

#include "lib/base/container_of.h"

static const char model[] =
    "self h1 tunnel=100\n"
    "host h1 ip=192.0.2.1\n"
    "host h2 ip=192.0.2.2\n"
    "network n vni=5 flood\n"
    "network m vni=6\n"
    "subnet s4 network=n cidr=10.0.0.0/24\n"
    "group g tag=1\n"
    "rule u group=g dir=in tag=2\n"
    "identity i number=9 groups=g\n"
    "identity j number=10\n"
    "port p network=n mac=02:00:00:00:00:01 identity=i host=h1\n"
    "local p ofport=7 zone=1024\n"
    "port q network=n mac=02:00:00:00:00:02 identity=j host=h1\n"
    "local q ofport=8 zone=1025\n"
    "port r network=m mac=02:00:00:00:00:03 identity=j host=h1\n"
    "local r ofport=9 zone=1026\n"
    "port s network=n mac=02:00:00:00:00:04 identity=i host=h2\n"
    "binding s host=h2\n";

/* Remembers whose flow it was that has 'part' in its text. */
struct listening {
    struct compile_sink sink;
    const char *part;
    uint64_t unit;
};

static void
listen(struct compile_sink *sink, uint64_t unit,
       struct flow_spec *const *old_flows, size_t old_count,
       struct flow_spec *const *new_flows, size_t new_count)
{
    struct listening *mine = container_of(sink, struct listening, sink);
    char text[1000];

    (void)old_flows;
    (void)old_count;
    for (size_t i = 0; i < new_count; i++) {
        flow_spec_format(new_flows[i], text, sizeof text);
        if (strstr(text, mine->part) != NULL) {
            assert_true(mine->unit == 0 || mine->unit == unit);
            mine->unit = unit;
        }
    }
}

static bool
is_among(const struct weft_uuid *ports, size_t count, const char *name)
{
    struct weft_uuid uuid;

    net_model_uuid("port", name, &uuid);
    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&ports[i], &uuid)) {
            return true;
        }
    }
    return false;
}

/* 'expected': "p", "pq", ... */
static void
expect(const char *part, const char *expected)
{
    static const char *const names[] = { "p", "q", "r", "s" };
    struct listening mine = { .sink.replace = listen, .part = part };
    struct weft_uuid *ports;

    struct compile *compile = compile_new(&mine.sink);
    net_model_apply(compile, model);
    compile_run(compile);
    assert_int_not_equal(mine.unit, 0);
    for (unsigned turn = 0; turn < 2; turn++) { /* It leaves nothing behind. */
        size_t count = compile_concerned(compile, &mine.unit, 1, &ports);
        assert_int_equal(count, strlen(expected));
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(is_among(ports, count, names[i]),
                             strstr(expected, names[i]) != NULL);
        }
        free(ports);
        assert_int_equal(compile_concerned(compile, NULL, 0, &ports), 0);
        free(ports);
    }
    compile_free(compile);
}

static void
test_concerned(void **state)
{
    (void)state;
    expect("table=0,priority=100,in_port=8", "q"); /* A port's own. */
    expect("table=18,priority=20000", "p");        /* A rule. */
    expect("table=13,priority=20000,reg1=10", "qr");
    expect("table=23,", "pq");  /* A network's floods. */
    expect("table=15,", "pqr"); /* What all need. */
    expect("eth_dst=02:00:00:00:00:04", "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_concerned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
