/* SPDX-License-Identifier: Apache-2.0 */
/* Routers, and what leads from table to table. */

#include "tests/unit/emit_bed.h"

static const char model[] =
    "self h1 tunnel=100\n"
    "host h1 ip=192.0.2.1\n"
    "network a vni=5 mtu=1442\n"
    "network b vni=6 mtu=1442\n"
    "subnet a4 network=a cidr=10.0.0.0/24\n"
    "subnet b6 network=b cidr=fd00:b::/64\n"
    "identity i number=9\n"
    "router r tag=3\n"
    "router_port ra router=r subnet=a4 network=a mac=02:00:00:00:00:fa\n"
    "router_port rb router=r subnet=b6 network=b mac=02:00:00:00:00:fb\n"
    "address 10.0.0.1 network=a subnet=a4 router_port=ra\n"
    "address fd00:b::1 network=b subnet=b6 router_port=rb\n"
    "port p network=a mac=02:00:00:00:00:01 identity=i host=h1\n"
    "address 10.0.0.4 network=a subnet=a4 port=p\n"
    "binding p host=h1\n"
    "local p ofport=7 zone=1024\n";

static void
test_entry(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_L2_CLASS, "reg9",
                    "table=7,priority=100,metadata=5,"
                    "eth_dst=02:00:00:00:00:fa "
                    "actions=set_field:3->reg9,resubmit(,8)\n"
                    "table=7,priority=100,metadata=6,"
                    "eth_dst=02:00:00:00:00:fb "
                    "actions=set_field:3->reg9,resubmit(,8)\n");
    /* N21: the gateway's link-local address. */
    emit_bed_expect(&bed, TABLE_PORT_SEC, "metadata",
                    "table=2,priority=160,metadata=6,eth_type=0x86dd,"
                    "ipv6_src=fe80::ff:fe00:fb actions=drop\n");
    emit_bed_apply(&bed, "delete router r");
    emit_bed_expect(&bed, TABLE_L2_CLASS, "reg9", "");
    emit_bed_stop(&bed);
}

static void
test_echo(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_ROUTE_IN, "icmp_type",
                    "table=8,priority=300,reg9=3,eth_type=0x800,nw_proto=1,"
                    "nw_dst=10.0.0.1,icmp_type=8 "
                    "actions=set_field:0->icmp_type,"
                    "move:eth_src[0..47]->xxreg3[0..47],"
                    "move:eth_dst[0..47]->eth_src[0..47],"
                    "move:xxreg3[0..47]->eth_dst[0..47],"
                    "move:nw_src[0..31]->reg8[0..31],"
                    "move:nw_dst[0..31]->nw_src[0..31],"
                    "move:reg8[0..31]->nw_dst[0..31],"
                    "set_field:64->nw_ttl,in_port\n");
    /* Its global and its link-local address. */
    assert_int_equal(emit_bed_count(&bed, TABLE_ROUTE_IN, "icmpv6_type=128 "),
                     2);
    emit_bed_stop(&bed);
}

static void
test_routes(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_ROUTE, "reg9",
                    "table=9,priority=1640,reg9=3,eth_type=0x86dd,"
                    "ipv6_dst=fd00:b::/64 actions=set_field:6->metadata,"
                    "move:ipv6_dst[0..127]->xxreg3[0..127],"
                    "set_field:0x2/0x2->reg0,resubmit(,10)\n"
                    "table=9,priority=1240,reg9=3,eth_type=0x800,"
                    "nw_dst=10.0.0.0/24 actions=set_field:5->metadata,"
                    "move:nw_dst[0..31]->reg8[0..31],"
                    "set_field:0x2/0x2->reg0,resubmit(,10)\n");
    /* N23: packets of b may not fit into a. */
    emit_bed_apply(&bed, "network b vni=6 mtu=1500");
    emit_bed_expect(&bed, TABLE_ROUTE, "nw_dst=10.0.0.0/24",
                    "table=9,priority=1240,reg9=3,eth_type=0x800,"
                    "nw_dst=10.0.0.0/24 actions=set_field:5->metadata,"
                    "move:nw_dst[0..31]->reg8[0..31],"
                    "set_field:0x2/0x2->reg0,"
                    "check_pkt_larger(1456)->reg0[4],resubmit(,10)\n");
    emit_bed_stop(&bed);
}

static void
test_neighbours(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_NEIGHBOUR, "metadata",
                    "table=10,priority=100,metadata=5,reg8=0xa000004,"
                    "eth_type=0x800 "
                    "actions=set_field:02:00:00:00:00:fa->eth_src,"
                    "set_field:02:00:00:00:00:01->eth_dst,dec_ttl,"
                    "resubmit(,11)\n");
    emit_bed_apply(&bed, "delete binding p host=h1");
    emit_bed_expect(&bed, TABLE_NEIGHBOUR, "metadata", "");
    emit_bed_apply(&bed, "binding p host=h1\ndelete router_port ra");
    emit_bed_expect(&bed, TABLE_NEIGHBOUR, "metadata", "");
    emit_bed_stop(&bed);
}

/* N19: by flows of the port, whose meter limits them. */
static void
test_errors(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    assert_int_equal(emit_bed_count(&bed, TABLE_ROUTE_IN, "kind=5,"), 4);
    assert_int_equal(emit_bed_count(&bed, TABLE_ROUTE, "kind=8,"), 1);
    assert_int_equal(emit_bed_count(&bed, TABLE_ROUTE, "kind=7,"), 1);
    assert_int_equal(emit_bed_count(&bed, TABLE_NEIGHBOUR, "kind=6,"), 1);
    assert_int_equal(emit_bed_count(&bed, TABLE_NEIGHBOUR, "kind=7,"), 1);
    assert_int_equal(emit_bed_count(&bed, -1, "meter_id=4098,"), 8);
    emit_bed_apply(&bed, "delete router_port ra");
    assert_int_equal(emit_bed_count(&bed, -1, "meter_id=4098,"), 0);
    emit_bed_stop(&bed);
}

static void
test_base(void **state)
{
    static const struct {
        int from, to;
    } steps[] = {
        { TABLE_SERVICE, TABLE_ARP_ND },  { TABLE_ARP_ND, TABLE_DNAT },
        { TABLE_DNAT, TABLE_L2_CLASS },   { TABLE_L2_CLASS, TABLE_RESOLVE },
        { TABLE_ROUTE_IN, TABLE_ROUTE },  { TABLE_SNAT, TABLE_DELIVER },
        { TABLE_DELIVER, TABLE_TUN_OUT }, { TABLE_UN_LB, TABLE_OUTPUT },
    };
    char expected[128];
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, "self h1 tunnel=100\n");
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        (void)snprintf(expected, sizeof expected,
                       "table=%d,priority=0 actions=resubmit(,%d)\n",
                       steps[i].from, steps[i].to);
        emit_bed_expect(&bed, steps[i].from, "priority=0 ", expected);
    }
    emit_bed_expect(&bed, TABLE_TUN_OUT, NULL,
                    "table=22,priority=200,reg0=0x1/0x1 actions=drop\n"
                    "table=22,priority=100 "
                    "actions=move:metadata[0..23]->tun_id[0..23],"
                    "set_field:0x1000000->tun_metadata0,"
                    "move:reg1[0..23]->tun_metadata0[0..23],"
                    "move:reg7[0..31]->tun_dst[0..31],output:100\n");
    emit_bed_stop(&bed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry),  cmocka_unit_test(test_echo),
        cmocka_unit_test(test_routes), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
