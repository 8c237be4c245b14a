/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/integration/flow_bed.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"

static struct flow_bed *
bed_of(struct flow_listener *listener)
{
    return container_of(listener, struct flow_bed, listener);
}

static void
on_confirmed(struct flow_listener *listener, uint64_t version)
{
    struct flow_bed *bed = bed_of(listener);
    assert_true(version > bed->confirmed);
    bed->confirmed = version;
}

static void
on_connection(struct flow_listener *listener, bool is_connected)
{
    bed_of(listener)->is_connected = is_connected;
}

static void
on_drift(struct flow_listener *listener, const struct flow_drift *drift)
{
    bed_of(listener)->drifts++;
    bed_of(listener)->drift = *drift;
}

static void
on_rejected(struct flow_listener *listener, const struct flow_spec *spec,
            const char *error)
{
    char text[512];

    flow_spec_format(spec, text, sizeof text);
    print_message("# refused: %s: %s\n", error, text);
    bed_of(listener)->rejections++;
}

static void
on_packet_in(struct flow_listener *listener,
             const struct flow_packet_in *packet)
{
    struct flow_bed *bed = bed_of(listener);

    bed->packets++;
    bed->packet = *packet;
    assert_true(packet->size <= sizeof bed->bytes);
    memcpy(bed->bytes, packet->bytes, packet->size);
}

int
bed_start(void **state)
{
    struct flow_bed *bed = calloc(1, sizeof *bed);

    assert_non_null(bed);
    log_set_level(LOG_LEVEL_WARNING);
    (void)signal(SIGPIPE, SIG_IGN); /* As netd does. */
    ovs_start(&bed->ovs);
    assert_int_equal(loop_new(&bed->loop), 0);
    bed->listener = (struct flow_listener){
        .confirmed = on_confirmed,
        .packet_in = on_packet_in,
        .rejected = on_rejected,
        .drift = on_drift,
        .connection = on_connection,
    };
    *state = bed;
    return 0;
}

int
bed_stop(void **state)
{
    struct flow_bed *bed = *state;

    loop_free(bed->loop);
    ovs_stop(&bed->ovs);
    free(bed);
    return 0;
}

static void
forget(struct flow_bed *bed)
{
    bed->is_connected = false;
    bed->confirmed = 0;
    bed->drifts = 0;
    bed->drift = (struct flow_drift){ 0 };
    bed->rejections = 0;
    bed->packets = 0;
    bed->check_interval_s = 0;
}

int
bed_set_up(void **state)
{
    struct flow_bed *bed = *state;

    forget(bed);
    ovs_wait_ready(&bed->ovs);
    bed_ofctl(bed, "del-flows", NULL);
    bed_ofctl(bed, "del-meters", NULL);
    return 0;
}

static void
forget_flows(struct flow_spec **specs)
{
    for (size_t i = 0; i < BED_UNITS; i++) {
        flow_spec_unref(specs[i]);
        specs[i] = NULL;
    }
}

int
bed_tear_down(void **state)
{
    struct flow_bed *bed = *state;

    flow_free(bed->flow);
    bed->flow = NULL;
    forget_flows(bed->units);
    forget_flows(bed->saved);
    return 0;
}

static void
open_flow(struct flow_bed *bed)
{
    struct flow_options options = {
        .loop = bed->loop,
        .target = bed->ovs.management,
        .listener = &bed->listener,
        .check_interval_s = bed->check_interval_s,
    };

    assert_int_equal(flow_new(&options, &bed->flow), 0);
    flow_set_complete(bed->flow, true);
}

void
bed_connect(struct flow_bed *bed)
{
    open_flow(bed);
    BED_WAIT(bed, bed_is_in_sync(bed));
}

void
bed_reopen(struct flow_bed *bed)
{
    flow_free(bed->flow);
    forget(bed);
    forget_flows(bed->saved);
    memcpy(bed->saved, bed->units, sizeof bed->units);
    memset(bed->units, 0, sizeof bed->units);
    open_flow(bed);
}

void
bed_put(struct flow_bed *bed, uint32_t unit, struct flow_spec *spec)
{
    struct compile_sink *sink = flow_sink(bed->flow);
    struct flow_spec *old = bed->units[unit];

    bed->units[unit] = spec;
    sink->replace(sink, unit, &old, old != NULL, &spec, spec != NULL);
    flow_spec_unref(old);
}

void
bed_commit(struct flow_bed *bed)
{
    uint64_t version = flow_commit(bed->flow);
    BED_WAIT(bed, bed->confirmed >= version);
}

void
bed_check(struct flow_bed *bed)
{
    struct flow_status before, now;

    flow_get_status(bed->flow, &before);
    flow_check(bed->flow);
    BED_WAIT(bed, (flow_get_status(bed->flow, &now),
                   now.dumps > before.dumps && now.is_in_sync));
}

static void
on_flushed(struct flow_flush *flush, int result)
{
    assert_int_equal(result, 0);
    flush->zone = 0;
}

void
bed_barrier(struct flow_bed *bed)
{
    struct flow_flush flush = { .zone = 65535, .done = on_flushed };

    flow_flush_zone(bed->flow, &flush);
    BED_WAIT(bed, flush.zone == 0);
}

bool
bed_is_in_sync(const struct flow_bed *bed)
{
    struct flow_status status;
    flow_get_status(bed->flow, &status);
    return status.is_in_sync;
}

void
bed_expect_mods(const struct flow_bed *bed, const struct flow_status *before,
                uint64_t count)
{
    struct flow_status now;
    flow_get_status(bed->flow, &now);
    assert_int_equal(now.flow_mods - before->flow_mods, count);
}

char *
bed_ask(struct flow_bed *bed, const char *command, const char *argument)
{
    return ovs_run(&bed->ovs, "ovs-ofctl", "-OOpenFlow15", command,
                   bed->ovs.management, argument, NULL);
}

void
bed_ofctl(struct flow_bed *bed, const char *command, const char *argument)
{
    free(bed_ask(bed, command, argument));
}

unsigned
bed_count_flows(struct flow_bed *bed)
{
    char *text = bed_ask(bed, "dump-aggregate", NULL);
    const char *at = strstr(text, "flow_count=");
    assert_non_null(at);
    unsigned count = (unsigned)strtoul(at + strlen("flow_count="), NULL, 10);
    free(text);
    return count;
}

void
bed_expect_tlv(struct flow_bed *bed)
{
    char *text = bed_ask(bed, "dump-tlv-map", NULL);
    assert_non_null(strstr(text, "0xff57"));
    assert_non_null(strstr(text, "tun_metadata0"));
    assert_non_null(strstr(text, "tun_metadata1"));
    free(text);
}

void
bed_vsctl(struct flow_bed *bed, ...)
{
    const char *arguments[16] = { 0 };
    char database[160] = "--db=";
    size_t count = 0;
    va_list list;

    strncat(database, bed->ovs.database, sizeof database - 6);
    va_start(list, bed);
    while (count < 15 && (arguments[count] = va_arg(list, char *)) != NULL) {
        count++;
    }
    va_end(list);
    free(ovs_run(&bed->ovs, "ovs-vsctl", database, arguments[0], arguments[1],
                 arguments[2], arguments[3], arguments[4], arguments[5],
                 arguments[6], arguments[7], arguments[8], arguments[9],
                 arguments[10], arguments[11], arguments[12], arguments[13],
                 arguments[14], NULL));
}
