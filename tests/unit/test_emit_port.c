/* SPDX-License-Identifier: Apache-2.0 */
/* Local ports: CLASSIFY, PORT_SEC, PORT_SEC_ND, SERVICE, ARP_ND; and hosts. */

#include "tests/unit/emit_bed.h"

static const char model[] =
    "self h1 tunnel=100\n"
    "host h1 ip=192.0.2.1\n"
    "host h2 ip=192.0.2.2\n"
    "network n vni=5\n"
    "subnet s4 network=n cidr=10.0.0.0/24 dhcp\n"
    "identity i number=9\n"
    "port p network=n mac=02:00:00:00:00:01 identity=i host=h1\n"
    "address 10.0.0.4 network=n subnet=s4 port=p\n"
    "binding p host=h1\n"
    "local p ofport=7 zone=1024\n";

static const char classified[] =
    "table=0,priority=100,in_port=7 actions=set_field:0x0->tun_metadata0,"
    "set_field:5->metadata,set_field:9->reg1,set_field:1024->reg5,"
    "set_field:7->reg10,resubmit(,2)\n";

/* Without such a flow all that a guest sends is dropped. */
static void
test_classify(void **state)
{
    static const char *const nowhere[] = {
        "port p network=n mac=02:00:00:00:00:01 identity=i host=h1 disabled",
        "port p network=n mac=02:00:00:00:00:01 identity=i host=h2",
        /* N14: the target of a migration is mute. */
        "port p network=n mac=02:00:00:00:00:01 identity=i host=h2 migrate=h1",
        "local p ofport=0 zone=1024",
        "delete local p",
        "delete identity i",
        "delete network n",
        "delete port p",
    };
    struct emit_bed bed;

    (void)state;
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        emit_bed_start(&bed, model);
        emit_bed_expect(&bed, TABLE_CLASSIFY, "in_port=7 ", classified);
        emit_bed_apply(&bed, nowhere[i]);
        emit_bed_expect(&bed, TABLE_CLASSIFY, "in_port=7 ", "");
        emit_bed_apply(&bed, model);
        emit_bed_expect(&bed, TABLE_CLASSIFY, "in_port=7 ", classified);
        emit_bed_stop(&bed);
    }
}

/* N13: a port that is assigned to no host lives where it was bound first. */
static void
test_unassigned(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, "port p network=n mac=02:00:00:00:00:01 identity=i");
    emit_bed_expect(&bed, TABLE_CLASSIFY, "in_port=7 ", classified);
    emit_bed_apply(&bed, "delete binding p host=h1");
    emit_bed_expect(&bed, TABLE_CLASSIFY, "in_port=7 ", "");
    emit_bed_apply(&bed, "binding p host=h2");
    emit_bed_expect(&bed, TABLE_CLASSIFY, "in_port=7 ", "");
    emit_bed_stop(&bed);
}

/* N21. */
static void
test_port_security(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(
        &bed, TABLE_PORT_SEC, "in_port=7",
        "table=2,priority=200,in_port=7,vlan_tci=0x1000/0x1000 actions=drop\n"
        "table=2,priority=140,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x86dd,nw_proto=58,nw_ttl=255,ip_frag=0x0,icmpv6_type=133 "
        "actions=resubmit(,3)\n"
        "table=2,priority=140,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x86dd,nw_proto=58,nw_ttl=255,ip_frag=0x0,icmpv6_type=135 "
        "actions=resubmit(,3)\n"
        "table=2,priority=140,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x86dd,nw_proto=58,nw_ttl=255,ip_frag=0x0,icmpv6_type=136 "
        "actions=resubmit(,3)\n"
        "table=2,priority=100,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x806 actions=resubmit(,3)\n"
        "table=2,priority=100,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x800,nw_src=10.0.0.4 actions=resubmit(,4)\n"
        "table=2,priority=100,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x86dd,ipv6_src=fe80::/64 actions=resubmit(,4)\n"
        "table=2,priority=100,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x800,nw_proto=17,nw_src=0.0.0.0,nw_dst=255.255.255.255,"
        "udp_src=68,udp_dst=67 actions=resubmit(,4)\n"
        "table=2,priority=10,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x800 actions=drop\n"
        "table=2,priority=10,in_port=7,eth_src=02:00:00:00:00:01,"
        "eth_type=0x86dd actions=drop\n"
        "table=2,priority=5,in_port=7,eth_src=02:00:00:00:00:01 actions=drop\n"
        "table=2,priority=1,in_port=7 actions=drop\n");
    emit_bed_expect(&bed, TABLE_PORT_SEC_ND, "eth_type=0x806",
                    "table=3,priority=100,in_port=7,eth_type=0x806,"
                    "arp_spa=0.0.0.0,arp_sha=02:00:00:00:00:01 "
                    "actions=resubmit(,5)\n"
                    "table=3,priority=100,in_port=7,eth_type=0x806,"
                    "arp_spa=10.0.0.4,arp_sha=02:00:00:00:00:01 "
                    "actions=resubmit(,5)\n"
                    "table=3,priority=10,in_port=7,eth_type=0x806 "
                    "actions=drop\n");
    emit_bed_stop(&bed);
}

static void
test_addresses_come_and_go(void **state)
{
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_apply(&bed, "address fd00::4 network=n subnet=s6 port=p");
    assert_int_equal(emit_bed_count(&bed, TABLE_PORT_SEC, "ipv6_src=fd00::4 "),
                     1);
    assert_int_equal(emit_bed_count(&bed, TABLE_PORT_SEC_ND,
                                    "nd_target=fd00::4,"),
                     2);
    assert_int_equal(emit_bed_count(&bed, TABLE_PORT_SEC_ND,
                                    "ipv6_src=fd00::4,"),
                     3);
    emit_bed_apply(&bed, "delete address fd00::4 network=n\n"
                         "delete address 10.0.0.4 network=n");
    assert_int_equal(emit_bed_count(&bed, -1, "fd00::4"), 0);
    assert_int_equal(emit_bed_count(&bed, -1, "10.0.0.4"), 0);
    emit_bed_stop(&bed);
}

static void
test_services(void **state)
{
    struct emit_bed bed;
    struct weft_uuid uuid;
    char hex[33], expected[512];

    (void)state;
    net_model_uuid("port", "p", &uuid);
    for (size_t i = 0; i < sizeof uuid.bytes; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", uuid.bytes[i]);
    }
    emit_bed_start(&bed, model);
    (void)snprintf(expected, sizeof expected,
                   "table=4,priority=100,in_port=7,eth_type=0x800,nw_proto=17,"
                   "ip_frag=0x0,udp_src=68,udp_dst=67 "
                   "actions=controller(meter_id=4096,kind=1,uuid=%s)\n",
                   hex);
    emit_bed_expect(&bed, TABLE_SERVICE, "in_port=7", expected);

    emit_bed_apply(&bed, "subnet s4 network=n cidr=10.0.0.0/24");
    emit_bed_expect(&bed, TABLE_SERVICE, "in_port=7", "");

    emit_bed_apply(&bed, "subnet s6 network=n cidr=fd00::/64 dhcp");
    assert_int_equal(emit_bed_count(&bed, TABLE_SERVICE, "kind=2,"), 1);
    assert_int_equal(emit_bed_count(&bed, TABLE_SERVICE, "kind=3,"), 1);
    emit_bed_stop(&bed);
}

/* N20: each known address is answered for, but never to its owner. */
static void
test_arp(void **state)
{
    static const char own[] =
        "table=5,priority=200,in_port=7,eth_type=0x806,arp_tpa=10.0.0.4 "
        "actions=drop\n";
    static const char answer[] =
        "table=5,priority=100,metadata=5,eth_type=0x806,arp_op=1,"
        "arp_tpa=10.0.0.4 actions=move:eth_src[0..47]->eth_dst[0..47],"
        "set_field:02:00:00:00:00:01->eth_src,set_field:2->arp_op,"
        "move:arp_sha[0..47]->arp_tha[0..47],"
        "move:arp_spa[0..31]->arp_tpa[0..31],"
        "set_field:02:00:00:00:00:01->arp_sha,set_field:10.0.0.4->arp_spa,"
        "in_port\n";
    char both[sizeof own + sizeof answer];
    struct emit_bed bed;

    (void)state;
    (void)snprintf(both, sizeof both, "%s%s", own, answer);
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_ARP_ND, "arp_tpa", both);
    emit_bed_apply(&bed, "delete binding p host=h1");
    emit_bed_expect(&bed, TABLE_ARP_ND, "arp_tpa", own);
    emit_bed_apply(&bed, "delete local p\nbinding p host=h1");
    emit_bed_expect(&bed, TABLE_ARP_ND, "arp_tpa", answer);

    emit_bed_apply(&bed, "router_port rp router=r subnet=s4 network=n "
                         "mac=02:00:00:00:00:fe\n"
                         "address 10.0.0.1 network=n subnet=s4 "
                         "router_port=rp");
    assert_int_equal(emit_bed_count(&bed, TABLE_ARP_ND, "arp_tpa=10.0.0.1 "),
                     1);
    emit_bed_stop(&bed);
}

/* N3. */
static void
test_hosts(void **state)
{
    static const char taken[] =
        "table=1,priority=100,in_port=100,tun_src=192.0.2.2,"
        "tun_metadata0=0x1000000/0xff000000 "
        "actions=move:tun_id[0..23]->metadata[0..23],"
        "move:tun_metadata0[0..23]->reg1[0..23],set_field:100->reg10,"
        "set_field:0x1/0x1->reg0,resubmit(,11)\n";
    struct emit_bed bed;

    (void)state;
    emit_bed_start(&bed, model);
    emit_bed_expect(&bed, TABLE_TUN_IN, NULL, taken);
    emit_bed_apply(&bed, "host h2 ip=192.0.2.2 disabled");
    emit_bed_expect(&bed, TABLE_TUN_IN, NULL, "");
    emit_bed_apply(&bed, "host h2 ip=192.0.2.2");
    emit_bed_expect(&bed, TABLE_TUN_IN, NULL, taken);
    emit_bed_apply(&bed, "self h1 tunnel=0");
    emit_bed_expect(&bed, TABLE_TUN_IN, NULL, "");
    emit_bed_expect(&bed, TABLE_TUN_OUT, NULL, "");
    emit_bed_stop(&bed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classify),
        cmocka_unit_test(test_unassigned),
        cmocka_unit_test(test_port_security),
        cmocka_unit_test(test_addresses_come_and_go),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_arp),
        cmocka_unit_test(test_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
