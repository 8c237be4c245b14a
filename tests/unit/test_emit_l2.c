/* SPDX-License-Identifier: Apache-2.0 */
/* RESOLVE: where ports are; and flood. */

#include "tests/unit/emit_bed.h"

static const char model[] = "self h1 tunnel=100\n"
                            "host h1 ip=192.0.2.1\n"
                            "host h2 ip=192.0.2.2\n"
                            "host h3 ip=192.0.2.3\n"
                            "network n vni=5\n"
                            "subnet s4 network=n cidr=10.0.0.0/24\n"
                            "identity i number=9\n";

#define PORT "port p network=n mac=02:00:00:00:00:01 identity=i "
#define LOCAL "local p ofport=7 zone=1024\n"

#define FROM_TUNNEL                                                     \
    "table=11,priority=100,metadata=5,reg0=0x1/0x1,"                    \
    "eth_dst=02:00:00:00:00:01 "                                        \
    "actions=set_field:7->reg4,set_field:1024->reg6,set_field:9->reg2," \
    "resubmit(,16)\n"
#define FROM_LOCAL                                   \
    "table=11,priority=100,metadata=5,reg0=0x0/0x1," \
    "eth_dst=02:00:00:00:00:01 actions="
#define TO_LOCAL                                                \
    "set_field:7->reg4,set_field:1024->reg6,set_field:9->reg2," \
    "resubmit(,12)"
#define TO_H2 "set_field:0xc0000202->reg7,resubmit(,12)"
#define TO_H3 "set_field:0xc0000203->reg7,resubmit(,12)"

static void
expect(const char *port, const char *expected)
{
    struct emit_bed bed;

    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, port);
    emit_bed_expect(&bed, TABLE_RESOLVE, NULL, expected);
    emit_bed_stop(&bed);
}

static void
test_local(void **state)
{
    (void)state;
    expect(PORT "host=h1\nbinding p host=h1\n" LOCAL,
           FROM_LOCAL TO_LOCAL "\n" FROM_TUNNEL);
    /* Before its binding is written. */
    expect(PORT "host=h1\n" LOCAL, FROM_LOCAL TO_LOCAL "\n" FROM_TUNNEL);
    /* Here, but it should not be. */
    expect(PORT "host=h2\n" LOCAL, "");
    expect(PORT "host=h1 disabled\nbinding p host=h1\n" LOCAL, "");
    expect(PORT "\n" LOCAL, "");
}

/* What OUTPUT lets out of a port is for that port's MAC. */
static void
test_output(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_OUTPUT, NULL, "");
    emit_bed_apply(&bed, PORT "host=h1\n" LOCAL);
    emit_bed_expect(&bed, TABLE_OUTPUT, NULL,
                    "table=21,priority=100,reg4=7,"
                    "eth_dst=02:00:00:00:00:01 actions=output:7\n");
    emit_bed_stop(&bed);
}

static void
test_remote(void **state)
{
    (void)state;
    expect(PORT "host=h2\nbinding p host=h2\n", FROM_LOCAL TO_H2 "\n");
    expect(PORT "host=h2\n", "");
    /* N13: just one host counts. */
    expect(PORT "host=h2\nbinding p host=h2\nbinding p host=h3\n" LOCAL,
           FROM_LOCAL TO_H2 "\n");
    expect(PORT "host=h2\nbinding p host=h3\n", "");
    expect(PORT "\nbinding p host=h2\n", FROM_LOCAL TO_H2 "\n");
    expect(PORT "host=h2 disabled\nbinding p host=h2\n", "");
    /* N2. */
    expect(PORT "host=h2\nbinding p host=h2\n"
                "host h2 ip=192.0.2.2 disabled\n",
           "");
    expect(PORT "host=h9\nbinding p host=h9\n", "");
}

/* N14. */
static void
test_migration(void **state)
{
    (void)state;
    expect(PORT "host=h2 migrate=h3\nbinding p host=h2\nbinding p host=h3\n",
           FROM_LOCAL TO_H2 "," TO_H3 "\n");
    expect(PORT "host=h2 migrate=h3\nbinding p host=h2\n",
           FROM_LOCAL TO_H2 "\n");
    expect(PORT "host=h2 migrate=h3\nbinding p host=h3\n",
           FROM_LOCAL TO_H3 "\n");
    expect(PORT
           "host=h1 migrate=h3\nbinding p host=h1\nbinding p host=h3\n" LOCAL,
           FROM_LOCAL TO_LOCAL "," TO_H3 "\n" FROM_TUNNEL);
    expect(PORT
           "host=h3 migrate=h1\nbinding p host=h1\nbinding p host=h3\n" LOCAL,
           FROM_LOCAL TO_LOCAL "," TO_H3 "\n" FROM_TUNNEL);
}

/* N4: just where a rule of direction out asks for a group. */
static void
test_identity_of_the_target(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, PORT "host=h2\nbinding p host=h2\n");
    emit_bed_apply(&bed, "group g tag=1\n"
                         "rule u group=g dir=out peer=g tag=3");
    emit_bed_expect(&bed, TABLE_RESOLVE, NULL,
                    FROM_LOCAL "set_field:9->reg3," TO_H2 "\n");
    /* Not followed, and so in no group that a rule here names. */
    emit_bed_apply(&bed, "delete identity i");
    emit_bed_expect(&bed, TABLE_RESOLVE, NULL, FROM_LOCAL TO_H2 "\n");
    emit_bed_apply(&bed, "delete rule u");
    emit_bed_expect(&bed, TABLE_RESOLVE, NULL, FROM_LOCAL TO_H2 "\n");
    emit_bed_stop(&bed);
}

/* A change costs what it touches, and what is not bound costs nothing. */
static void
test_cost(void **state)
{
    struct emit_bed bed;
    struct compile_counts before, after;
    char line[256];

    (void)state;
    emit_bed_start(&bed, model);
    compile_count(bed.compile, &before);
    for (unsigned i = 0; i < 10000; i++) {
        (void)snprintf(line, sizeof line,
                       "port q%u network=n mac=02:00:00:01:%02x:%02x "
                       "identity=i host=h2\n"
                       "address 10.1.%u.%u network=n subnet=s4 port=q%u\n",
                       i, i >> 8, i & 255, i >> 8, i & 255, i);
        net_model_apply(bed.compile, line);
    }
    compile_run(bed.compile);
    compile_count(bed.compile, &after);
    assert_int_equal(after.flows, before.flows);
    assert_int_equal(after.units, before.units);

    for (unsigned i = 0; i < 10000; i++) {
        (void)snprintf(line, sizeof line, "binding q%u host=h2\n", i);
        net_model_apply(bed.compile, line);
    }
    compile_run(bed.compile);
    compile_count(bed.compile, &before);
    emit_bed_apply(&bed, PORT "host=h1\naddress 10.0.0.4 network=n subnet=s4 "
                              "port=p\nbinding p host=h1\n" LOCAL);
    compile_count(bed.compile, &after);
    /* Its own units, and the two or three of its identity. */
    assert_in_range(after.emissions - before.emissions, 1, 32);
    emit_bed_stop(&bed);
}

/* N18. */
static void
test_flood(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, "network n vni=5 flood\n"
                         "identity j number=10\n" PORT "host=h1\n" LOCAL
                         "port q network=n mac=02:00:00:00:00:02 identity=j "
                         "host=h1\nlocal q ofport=8 zone=1025\n"
                         "port r network=n mac=02:00:00:00:00:03 identity=i "
                         "host=h1\nlocal r ofport=9 zone=1026\n"
                         "port s network=n mac=02:00:00:00:00:04 identity=i "
                         "host=h2\nbinding s host=h2\n"
                         "port t network=n mac=02:00:00:00:00:05 identity=i "
                         "host=h2\nbinding t host=h2\nbinding t host=h3\n");
    emit_bed_expect(&bed, TABLE_L2_CLASS, "in_port=7",
                    "table=7,priority=50,in_port=7,"
                    "eth_dst=01:00:00:00:00:00/01:00:00:00:00:00 "
                    "actions=meter:4099,resubmit(,11)\n");
    emit_bed_expect(&bed, TABLE_RESOLVE, "priority=50",
                    "table=11,priority=50,metadata=5,reg0=0x0/0x1,"
                    "eth_dst=01:00:00:00:00:00/01:00:00:00:00:00 "
                    "actions=set_field:0x20/0x20->reg0,resubmit(,13)\n"
                    "table=11,priority=50,metadata=5,reg0=0x1/0x1,"
                    "eth_dst=01:00:00:00:00:00/01:00:00:00:00:00 "
                    "actions=resubmit(,23)\n");
    emit_bed_expect(&bed, TABLE_DELIVER, "priority=200",
                    "table=16,priority=200,metadata=5,reg0=0x20/0x20 "
                    "actions=move:metadata[0..23]->tun_id[0..23],"
                    "set_field:0x1000000->tun_metadata0,"
                    "move:reg1[0..23]->tun_metadata0[0..23],"
                    "set_field:192.0.2.2->tun_dst,output:100,resubmit(,23)\n");
    emit_bed_expect(&bed, TABLE_FLOOD, NULL,
                    "table=23,priority=100,metadata=5 "
                    "actions=set_field:9->reg2,resubmit(,24),"
                    "set_field:10->reg2,resubmit(,24)\n");
    emit_bed_expect(&bed, TABLE_FLOOD_OUT, NULL,
                    "table=25,priority=100,metadata=5,reg2=9 "
                    "actions=output:7,output:9\n"
                    "table=25,priority=100,metadata=5,reg2=10 "
                    "actions=output:8\n");
    emit_bed_apply(&bed, "network n vni=5");
    assert_int_equal(emit_bed_count(&bed, TABLE_FLOOD, "metadata=5"), 0);
    assert_int_equal(emit_bed_count(&bed, TABLE_FLOOD_OUT, "metadata=5"), 0);
    emit_bed_stop(&bed);
}

/* One more port on a host that is flooded already, or one less, is no concern
 * of the flood; the last one is. */
static void
test_flood_cost(void **state)
{
    struct emit_bed bed;
    struct compile_counts before, after;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, "network n vni=5 flood\n"
                         "port s network=n mac=02:00:00:00:00:04 identity=i "
                         "host=h2\nbinding s host=h2\n"
                         "port t network=n mac=02:00:00:00:00:05 identity=i "
                         "host=h2\n");
    assert_int_equal(emit_bed_count(&bed, TABLE_DELIVER, "192.0.2.2"), 1);
    compile_count(bed.compile, &before);
    emit_bed_apply(&bed, "binding t host=h2\n");
    compile_count(bed.compile, &after);
    /* That of the binding, to which RESOLVE sends. */
    assert_in_range(after.emissions - before.emissions, 1, 3);
    emit_bed_apply(&bed, "port s network=n mac=02:00:00:00:00:04 identity=i "
                         "host=h3\n");
    assert_int_equal(emit_bed_count(&bed, TABLE_DELIVER, "192.0.2.2"), 1);
    emit_bed_apply(&bed, "port t network=n mac=02:00:00:00:00:05 identity=i "
                         "host=h3\n");
    assert_int_equal(emit_bed_count(&bed, TABLE_DELIVER, "192.0.2.2"), 0);
    emit_bed_apply(&bed, "port t network=n mac=02:00:00:00:00:05 identity=i "
                         "host=h3 migrate=h2\n");
    assert_int_equal(emit_bed_count(&bed, TABLE_DELIVER, "192.0.2.2"), 1);
    emit_bed_stop(&bed);
}

/* N18: 256 hosts are flooded, 257 not at all. */
static void
test_flood_limit(void **state)
{
    struct emit_bed bed;
    char line[256];

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, "network n vni=5 flood\n");
    for (unsigned i = 0; i < 257; i++) {
        assert_int_equal(emit_bed_count(&bed, TABLE_DELIVER, "output:100"), i);
        (void)snprintf(line, sizeof line,
                       "host k%u ip=198.51.%u.%u\n"
                       "port k%u network=n mac=02:00:00:02:%02x:%02x "
                       "identity=i host=k%u\nbinding k%u host=k%u\n",
                       i, 100 + (i >> 8), i & 255, i, i >> 8, i & 255, i, i, i);
        emit_bed_apply(&bed, line);
    }
    assert_int_equal(emit_bed_count(&bed, TABLE_DELIVER, "output:100"), 0);
    assert_int_equal(emit_bed_count(&bed, TABLE_RESOLVE, "priority=50"), 0);
    emit_bed_stop(&bed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_remote),
        cmocka_unit_test(test_migration),
        cmocka_unit_test(test_identity_of_the_target),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_flood_cost),
        cmocka_unit_test(test_flood_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
