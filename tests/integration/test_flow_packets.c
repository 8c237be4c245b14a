/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/flow_bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netd/compile/pipeline.h"
#include "tests/support/flow_random.h"

/* netd/flow against a real ovs-vswitchd: packets, meters, connections.  The
 * guest is a packet socket on an internal port, in this network namespace. */

#define ZONE 1500u
#define FRAME_SIZE 60u

static const struct weft_uuid port_uuid = { { 1, 2, 3, 4, 5, 6, 7, 8, 9 } };

struct guest {
    int fd;
    uint32_t port;
};

static void
guest_up(struct flow_bed *bed, const char *name, struct guest *ret_guest)
{
    struct sockaddr_ll address = { .sll_family = AF_PACKET,
                                   .sll_protocol = htons(0x88b5) };
    struct ifreq request = { 0 };

    bed_vsctl(bed, "--may-exist", "add-port", "br-int", name, "--", "set",
              "Interface", name, "type=internal", NULL);
    char database[160] = "--db=";
    strncat(database, bed->ovs.database, sizeof database - 6);
    char *output = ovs_run(&bed->ovs, "ovs-vsctl", database, "wait-until",
                           "Interface", name, "ofport>0", "--", "get",
                           "Interface", name, "ofport", NULL);
    ret_guest->port = (uint32_t)strtoul(output, NULL, 10);
    free(output);

    ret_guest->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
    assert_true(ret_guest->fd >= 0);
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    assert_int_equal(ioctl(ret_guest->fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
    assert_int_equal(ioctl(ret_guest->fd, SIOCSIFFLAGS, &request), 0);
    address.sll_ifindex = (int)if_nametoindex(name);
    assert_int_equal(bind(ret_guest->fd, (struct sockaddr *)&address,
                          sizeof address),
                     0);
}

static void
make_frame(uint8_t frame[FRAME_SIZE], uint8_t number)
{
    memset(frame, 0, FRAME_SIZE);
    memset(frame, 0x02, 12);
    frame[12] = 0x88; /* Of nobody: local experiments. */
    frame[13] = 0xb5;
    frame[14] = number;
}

static void
guest_send(struct guest *guest, uint8_t number)
{
    uint8_t frame[FRAME_SIZE];

    make_frame(frame, number);
    assert_int_equal(send(guest->fd, frame, sizeof frame, 0), sizeof frame);
}

/* The next frame that the guest gets. */
static void
guest_expect(struct guest *guest, uint8_t number)
{
    struct pollfd poller = { .fd = guest->fd, .events = POLLIN };
    uint8_t frame[FRAME_SIZE], got[2048];

    make_frame(frame, number);
    assert_int_equal(poll(&poller, 1, 10000), 1);
    assert_int_equal(recv(guest->fd, got, sizeof got, 0), sizeof frame);
    assert_memory_equal(got, frame, sizeof frame);
}

/* A barrier does not wait until the datapath forgets what it cached. */
static void
wait_for_datapath(struct flow_bed *bed)
{
    char control[128];

    snprintf(control, sizeof control, "%s/switch.ctl", bed->ovs.directory);
    free(ovs_run(&bed->ovs, "ovs-appctl", "-t", control, "revalidator/wait",
                 NULL));
}

static struct flow_spec *
controller_flow(uint32_t port, enum packet_in_kind kind, uint32_t meter)
{
    struct flow_builder b;

    flow_begin(&b, 0, 10);
    flow_match_u32(&b, FIELD_IN_PORT, port);
    flow_match_u32(&b, FIELD_ETH_TYPE, 0x88b5);
    flow_set_u64(&b, FIELD_METADATA, 1234567);
    flow_controller(&b, meter, kind, &port_uuid);
    return flow_finish(&b);
}

static void
test_packet_in_and_out(void **state)
{
    struct flow_bed *bed = *state;
    struct guest a, b;
    uint8_t frame[FRAME_SIZE];
    uint32_t meter = pipeline_meter_id(ZONE, METER_ND);

    bed_connect(bed);
    guest_up(bed, "weft-a", &a);
    guest_up(bed, "weft-b", &b);
    bed_put(bed, 1, controller_flow(a.port, PACKET_IN_RS, meter));
    bed_commit(bed);
    wait_for_datapath(bed);

    guest_send(&a, 1);
    BED_WAIT(bed, bed->packets == 1);
    make_frame(frame, 1);
    assert_int_equal(bed->packet.size, sizeof frame);
    assert_int_equal(bed->packet.total_size, sizeof frame);
    assert_memory_equal(bed->bytes, frame, sizeof frame);
    assert_int_equal(bed->packet.in_port, a.port);
    assert_int_equal(bed->packet.table, 0);
    assert_int_equal(bed->packet.kind, PACKET_IN_RS);
    assert_true(uuid_equal(&bed->packet.uuid, &port_uuid));
    assert_int_equal(bed->packet.metadata, 1234567);

    /* The answer goes back out of the same port. */
    make_frame(frame, 2);
    assert_int_equal(flow_packet_out(bed->flow, FLOW_PORT_NONE, a.port, frame,
                                     sizeof frame),
                     0);
    BED_WAIT(bed,
             poll(&(struct pollfd){ .fd = a.fd, .events = POLLIN }, 1, 0) == 1);
    guest_expect(&a, 2);

    /* Through the pipeline as if from a: it meets the flow. */
    make_frame(frame, 3);
    assert_int_equal(flow_packet_out_pipeline(bed->flow, a.port, frame,
                                              sizeof frame),
                     0);
    BED_WAIT(bed, bed->packets == 2);
    assert_int_equal(bed->bytes[14], 3);
    assert_int_equal(bed->packet.in_port, a.port);

    /* Nonsense is refused here. */
    assert_int_equal(flow_packet_out(bed->flow, FLOW_PORT_NONE, a.port, frame,
                                     13),
                     -EINVAL);
    assert_int_equal(flow_packet_out(bed->flow, FLOW_PORT_NONE, 0, frame, 60),
                     -EINVAL);
    assert_int_equal(flow_packet_out(bed->flow, FLOW_PORT_NONE, 0xfffffffb,
                                     frame, 60),
                     -EINVAL);
    assert_int_equal(flow_packet_out(bed->flow, 0xffffff00, a.port, frame, 60),
                     -EINVAL);

    bed_check(bed);
    uint64_t count;
    assert_int_equal(flow_packet_count(bed->flow, bed->units[1], &count), 0);
    close(a.fd);
    close(b.fd);
}

/* What no flow of ours sent does not get through: N19. */
static void
test_packets_without_reason(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status status;
    struct guest a;

    bed_connect(bed);
    guest_up(bed, "weft-a", &a);
    bed_put(bed, 1, controller_flow(a.port, 99, 0));
    bed_commit(bed);
    wait_for_datapath(bed);
    guest_send(&a, 1);
    BED_WAIT(bed,
             (flow_get_status(bed->flow, &status), status.packet_ins_bad == 1));
    bed_put(bed, 1, NULL);
    bed_commit(bed);
    bed_ofctl(bed, "add-flow", "table=0,actions=controller");
    wait_for_datapath(bed);
    guest_send(&a, 1);
    BED_WAIT(bed,
             (flow_get_status(bed->flow, &status), status.packet_ins_bad >= 2));
    assert_int_equal(bed->packets, 0);

    /* A time-to-live that ran out is no reason either. */
    bed_ofctl(bed, "del-flows", NULL);
    bed_ofctl(bed, "add-flow", "table=0,ip,actions=dec_ttl");
    bed_barrier(bed);
    flow_get_status(bed->flow, &status);
    uint64_t bad = status.packet_ins_bad;
    bed_ofctl(bed, "packet-out",
              "in_port=controller,packet="
              "02020202020202020202020208004500001c000000000011"
              "00007f0000017f00000100010002000800000000000000000000000000000000"
              "00000000,actions=table");
    bed_barrier(bed);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.packet_ins_bad, bad);
    assert_int_equal(bed->packets, 0);
    close(a.fd);
}

static void
test_meters(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_status before, status;
    struct guest a;
    uint32_t dhcp = pipeline_meter_id(ZONE, METER_DHCP);
    uint32_t flood = pipeline_meter_id(ZONE, METER_FLOOD);
    struct flow_builder b;

    bed_connect(bed);
    flow_get_status(bed->flow, &before);
    guest_up(bed, "weft-a", &a);
    bed_put(bed, 1, controller_flow(a.port, PACKET_IN_DHCP4, dhcp));
    for (uint32_t i = 2; i < 5; i++) {
        flow_begin(&b, 3, 1);
        flow_match_u64(&b, FIELD_METADATA, i);
        flow_meter(&b, flood);
        flow_output(&b, 1);
        bed_put(bed, i, flow_finish(&b));
    }
    bed_commit(bed);
    char *text = bed_ask(bed, "dump-meters", NULL);
    assert_non_null(strstr(text, "meter=6000 "));
    assert_non_null(strstr(text, "rate=20 "));
    assert_non_null(strstr(text, "meter=6003 "));
    assert_non_null(strstr(text, "rate=1000 "));
    free(text);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.meters, 2);
    assert_int_equal(status.meter_mods - before.meter_mods, 2);

    wait_for_datapath(bed);
    /* 300 at once; 20 pass, and some more if that takes a while. */
    for (uint32_t i = 0; i < 300; i++) {
        guest_send(&a, (uint8_t)i);
    }
    BED_WAIT(bed, bed->packets > 0);
    bed_barrier(bed);
    assert_true(bed->packets >= 1);
    assert_true(bed->packets < 200);

    /* Drift of meters. */
    bed_ofctl(bed, "mod-meter", "meter=6000,pktps,bands=type=drop,rate=7");
    bed_ofctl(bed, "add-meter", "meter=77,pktps,bands=type=drop,rate=7");
    /* The switch deletes the flows that use it as well. */
    bed_ofctl(bed, "del-meter", "meter=6003");
    assert_int_equal(bed_count_flows(bed), 1);
    bed_check(bed);
    assert_int_equal(bed->drifts, 1);
    assert_int_equal(bed->drift.meters, 3);
    assert_int_equal(bed->drift.missing, 3);
    assert_int_equal(bed_count_flows(bed), 4);
    bed_barrier(bed);
    text = bed_ask(bed, "dump-meters", NULL);
    assert_null(strstr(text, "rate=7 "));
    assert_null(strstr(text, "meter=77 "));
    free(text);
    bed_check(bed);
    assert_int_equal(bed->drifts, 1);

    /* The last user gone, the meter goes. */
    bed_put(bed, 2, NULL);
    bed_put(bed, 3, NULL);
    bed_commit(bed);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.meters, 2);
    bed_put(bed, 4, NULL);
    bed_commit(bed);
    bed_barrier(bed);
    flow_get_status(bed->flow, &status);
    assert_int_equal(status.meters, 1);
    text = bed_ask(bed, "dump-meters", NULL);
    assert_null(strstr(text, "meter=6003 "));
    free(text);
    assert_int_equal(bed_count_flows(bed), 1);
    close(a.fd);
}

static char *
dump_conntrack(struct flow_bed *bed)
{
    char control[128];

    snprintf(control, sizeof control, "%s/switch.ctl", bed->ovs.directory);
    return ovs_run(&bed->ovs, "ovs-appctl", "-t", control,
                   "dpctl/dump-conntrack", NULL);
}

static void
on_flush(struct flow_flush *flush, int result)
{
    assert_int_equal(result, 0);
    flush->zone = 0;
}

static void
commit_connection(struct flow_bed *bed, const char *zone)
{
    char text[512];

    snprintf(text, sizeof text,
             "in_port=controller,packet=%s,actions=ct(commit,zone=%s)",
             "02020202020202020202020208004500001c0000000040117ccf7f000001"
             "7f0000010001000200080000",
             zone);
    bed_ofctl(bed, "packet-out", text);
}

static void
test_flush(void **state)
{
    struct flow_bed *bed = *state;
    struct flow_flush flush = { .zone = 1500, .done = on_flush };
    struct flow_flush other = { .zone = 1502, .done = on_flush };

    bed_connect(bed);
    commit_connection(bed, "1500");
    commit_connection(bed, "1501");
    char *text = dump_conntrack(bed);
    assert_non_null(strstr(text, "zone=1500"));
    assert_non_null(strstr(text, "zone=1501"));
    free(text);

    flow_flush_zone(bed->flow, &flush);
    BED_WAIT(bed, flush.zone == 0);
    text = dump_conntrack(bed);
    assert_null(strstr(text, "zone=1500"));
    assert_non_null(strstr(text, "zone=1501"));
    free(text);

    /* One that waits for a switch, and one that nobody waits for any more. */
    ovs_kill(&bed->ovs);
    BED_WAIT(bed, !bed->is_connected);
    flush.zone = 1501;
    flow_flush_zone(bed->flow, &flush);
    flow_flush_zone(bed->flow, &other);
    assert_int_equal(flow_packet_out(bed->flow, FLOW_PORT_NONE, 1, bed, 60),
                     -ENOTCONN);
    ovs_restart(&bed->ovs);
    flow_flush_cancel(bed->flow, &other);
    BED_WAIT(bed, flush.zone == 0);
    assert_int_equal(other.zone, 1502);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BED_TEST(test_packet_in_and_out),
        BED_TEST(test_packets_without_reason),
        BED_TEST(test_meters),
        BED_TEST(test_flush),
    };
    return cmocka_run_group_tests(tests, bed_start, bed_stop);
}
