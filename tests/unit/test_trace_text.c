/* SPDX-License-Identifier: Apache-2.0 */
/* netd/trace_text: questions to ofproto/trace, and its answers, as OVS 3.1.0
 * gives them (shortened). */
#include "tests/unit/unit.h"

#include <string.h>

#include "netd/trace_text.h"

#define TUNNEL 1u

static struct netd_trace_packet
packet_of(const char *from, const char *to, uint8_t protocol)
{
    struct netd_trace_packet packet = { .port = { { 7 } },
                                        .mac_src = { { 0x0a, 1 } },
                                        .mac_dst = { { 0x0a, 2 } },
                                        .protocol = protocol,
                                        .ttl = 64 };

    assert_int_equal(ip_address_parse(from, &packet.ip_src), 0);
    assert_int_equal(ip_address_parse(to, &packet.ip_dst), 0);
    return packet;
}

static void
test_questions(void **state)
{
    (void)state;
    struct netd_trace_packet packet = packet_of("10.0.0.2", "10.0.0.3", 6);
    char flow[TRACE_FLOW_SIZE];

    packet.l4_src = 40000;
    packet.l4_dst = 22;
    trace_format_flow(&packet, 5, "10.78.0.1", flow);
    assert_string_equal(
        flow, "in_port=5,dl_src=0a:01:00:00:00:00,dl_dst=0a:02:00:00:00:00,"
              "dl_type=0x0800,nw_proto=6,nw_src=10.0.0.2,nw_dst=10.0.0.3,"
              "nw_ttl=64,tp_src=40000,tp_dst=22,ct_state=trk|new,"
              "ct_nw_src=10.0.0.2,ct_nw_dst=10.0.0.3,ct_nw_proto=6,"
              "ct_tp_src=40000,ct_tp_dst=22");
    /* Ports of UDP have names of their own: tp_src is TCP's. */
    packet.protocol = 17;
    trace_format_flow(&packet, 5, "10.78.0.1", flow);
    assert_non_null(strstr(flow, ",udp_src=40000,udp_dst=22,"));
    packet.protocol = 132;
    trace_format_flow(&packet, 5, "10.78.0.1", flow);
    assert_non_null(strstr(flow, ",sctp_src=40000,sctp_dst=22,"));
    packet = packet_of("fd00::2", "fd00::3", 58);
    memset(&packet.port, 0, sizeof packet.port);
    packet.vni = 0x1c5a37;
    packet.identity = 0x2d5402;
    packet.l4_src = 128;
    assert_int_equal(ip_address_parse("10.78.0.2", &packet.tunnel_src), 0);
    trace_format_flow(&packet, TUNNEL, "10.78.0.1", flow);
    assert_string_equal(
        flow, "in_port=1,tun_id=0x1c5a37,tun_src=10.78.0.2,tun_dst=10.78.0.1,"
              "tun_metadata0=0x12d5402,dl_src=0a:01:00:00:00:00,"
              "dl_dst=0a:02:00:00:00:00,dl_type=0x86dd,nw_proto=58,"
              "ipv6_src=fd00::2,ipv6_dst=fd00::3,nw_ttl=64,icmpv6_type=128,"
              "icmpv6_code=0,ct_state=trk|new,ct_ipv6_src=fd00::2,"
              "ct_ipv6_dst=fd00::3,ct_nw_proto=58");
}

static struct trace_result
parse(const char *text)
{
    struct netd_trace_packet packet = packet_of("10.0.0.2", "10.0.0.3", 6);
    struct trace_result result;

    trace_parse_text(text, &packet, TUNNEL, &result);
    return result;
}

static void
test_tunnelled(void **state)
{
    (void)state;
    struct trace_result result = parse(
        "bridge(\"br-int\")\n"
        "----------------\n"
        "    thaw\n"
        "        Resuming from table 13\n"
        "13. reg1=0x2d5402, priority 3000, cookie 0xad58e035a93b1263\n"
        "    resubmit(,14)\n"
        "22. priority 100, cookie 0xccdb0b690bee3957\n"
        "    output:1\n"
        "     -> output to native tunnel\n"
        "     -> tunneling to 10.78.0.2 via br-phy\n"
        "\n"
        "bridge(\"br-phy\")\n"
        "----------------\n"
        " 0. priority 0\n"
        "    NORMAL\n"
        "     -> forwarding to learned port\n"
        "    output:9\n"
        "\n"
        "Final flow: recirc_id=0x7,eth,tcp,reg1=0x2d5402,tun_src=0.0.0.0,"
        "tun_dst=10.78.0.2,tun_ipv6_src=::,tun_metadata0=0x12d5402,"
        "metadata=0x1c5a37,in_port=2,dl_src=0a:74:b7:0d:09:bc,"
        "dl_dst=0a:a3:4d:df:d5:75,nw_src=10.0.0.2,nw_dst=10.0.0.3,nw_ttl=63,"
        "nw_frag=no\n"
        "Datapath actions: ct(commit),tnl_push(tnl_port(4)),1\n");
    char text[IP_TEXT_SIZE];

    assert_int_equal(result.verdict, NETD_TRACE_TUNNELLED);
    ip_format(&result.tunnel_dst, text);
    assert_string_equal(text, "10.78.0.2");
    assert_int_equal(result.out.vni, 0x1c5a37);
    assert_int_equal(result.out.identity, 0x2d5402);
    assert_int_equal(result.out.ttl, 63);
    assert_int_equal(result.out.mac_src.bytes[1], 0x74);
    assert_int_equal(result.out.mac_dst.bytes[5], 0x75);
    assert_true(uuid_is_nil(&result.out.port));
}

static void
test_verdicts(void **state)
{
    (void)state;
    static const char delivered[] =
        "21. priority 100, cookie 0xccd0d9690be58fdc\n"
        "    output:NXM_NX_REG4[]\n"
        "     -> output port is 2\n";
    struct trace_result result = parse(delivered);

    assert_int_equal(result.verdict, NETD_TRACE_DELIVERED);
    assert_int_equal(result.ofport, 2);
    result = parse("18. No match.\n    drop\n\nFinal flow: unchanged\n");
    assert_int_equal(result.verdict, NETD_TRACE_DROPPED);
    assert_non_null(strstr(result.reason, "do not let it in"));
    result = parse("13. No match.\n    drop\n");
    assert_non_null(strstr(result.reason, "do not let it out"));
    result = parse(" 8. icmp, priority 300\n    IN_PORT\n");
    assert_int_equal(result.verdict, NETD_TRACE_ANSWERED);
    result = parse(" 9. reg0=0/0x4,in_port=2, priority 10\n"
                   "    controller(userdata=57.45.46.54.00.00.00.07.4b.dc,"
                   "meter_id=4098)\n");
    assert_int_equal(result.verdict, NETD_TRACE_DROPPED);
    assert_non_null(strstr(result.reason, "no route"));
    result = parse(" 4. udp, priority 10\n"
                   "    controller(userdata=57.45.46.54.00.00.00.01.4b.dc)\n");
    assert_int_equal(result.verdict, NETD_TRACE_ANSWERED);
    /* Whatever else it may say. */
    result = parse("");
    assert_int_equal(result.verdict, NETD_TRACE_DROPPED);
    result = parse("output:\n99999999999999999999. \ncontroller(\n-> output "
                   "port is \nFinal flow: \nbridge(\n\n\x01\xff");
    assert_int_equal(result.ofport, 0);
}

/* Between two ports of one host: what the tracer forgets is told again. */
static void
test_rest(void **state)
{
    (void)state;
    static const char text[] =
        "Flow: tcp,in_port=2\n\nbridge(\"br-int\")\n"
        "recirc(0x8) - resume conntrack with default ct_state=trk|new\n"
        "====\n\n"
        "Flow: recirc_id=0x8,ct_state=new|trk,ct_zone=1025,eth,tcp,reg1=0x3,"
        "in_port=2,nw_frag=no,tp_src=40000,tp_dst=22,tcp_flags=0\n\n"
        "bridge(\"br-int\")\n----------------\n    thaw\n"
        "        Resuming from table 18\n18. No match.\n    drop\n";
    struct netd_trace_packet packet = packet_of("10.0.0.2", "10.0.0.3", 6);
    char flow[TRACE_FLOW_SIZE], actions[32];

    packet.l4_src = 40000;
    packet.l4_dst = 22;
    assert_true(trace_format_rest(text, &packet, flow, actions));
    assert_string_equal(
        flow, "ct_state=new|trk,ct_zone=1025,tcp,reg1=0x3,in_port=2,nw_frag=no,"
              "tp_src=40000,tp_dst=22,tcp_flags=0,ct_nw_src=10.0.0.2,"
              "ct_nw_dst=10.0.0.3,ct_nw_proto=6,ct_tp_src=40000,ct_tp_dst=22");
    assert_string_equal(actions, "resubmit(,18)");
    assert_false(trace_format_rest("", &packet, flow, actions));
    assert_false(
        trace_format_rest("\nFlow: recirc_id=0x8", &packet, flow, actions));
    assert_false(trace_format_rest("\nFlow: recirc_id=0x8,eth,ct_nw_proto=6\n"
                                   "Resuming from table 18\n",
                                   &packet, flow, actions));
    assert_false(trace_format_rest("\nFlow: recirc_id=0x8,x,eth,tcp\n"
                                   "Resuming from table 13\n",
                                   &packet, flow, actions));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_tunnelled),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
