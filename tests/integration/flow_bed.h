/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_INTEGRATION_FLOW_BED_H
#define TESTS_INTEGRATION_FLOW_BED_H

/* netd/flow, a real switch, and what flow told.  One switch for all tests of a
 * program; BED_TEST empties it before each. */

#include "tests/unit/unit.h"

#include "lib/state/loop.h"
#include "netd/flow/flow.h"
#include "tests/support/ovs.h"

#define BED_DEADLINE_NS (UINT64_C(60) * 1000000000)
#define BED_UNITS 20000u

struct flow_bed {
    struct ovs ovs;
    struct loop *loop;
    struct flow_switch *flow;
    struct flow_listener listener;
    uint32_t check_interval_s;          /* For the next; 0: the default. */
    struct flow_spec *units[BED_UNITS]; /* What each has; NULL: nothing. */
    struct flow_spec *saved[BED_UNITS]; /* And had before bed_reopen(). */
    /* Told so far. */
    bool is_connected;
    uint64_t confirmed;
    unsigned drifts;
    struct flow_drift drift; /* The last. */
    unsigned rejections;
    unsigned packets;
    struct flow_packet_in packet; /* The last, but its bytes. */
    uint8_t bytes[2048];
};

/* Group fixtures, and those of a test. */
int bed_start(void **state);
int bed_stop(void **state);
int bed_set_up(void **state);
int bed_tear_down(void **state);
#define BED_TEST(test) \
    cmocka_unit_test_setup_teardown(test, bed_set_up, bed_tear_down)

/* Turns the loop until the condition holds. */
#define BED_WAIT(bed, condition)                                              \
    for (uint64_t bed_end = loop_now_ns() + BED_DEADLINE_NS; !(condition);) { \
        assert_true(loop_now_ns() < bed_end);                                 \
        loop_run_once((bed)->loop, loop_now_ns() + 100 * 1000 * 1000);        \
    }

/* A new 'struct flow_switch', complete, without flows; waits until the switch
 * is in sync with that. */
void bed_connect(struct flow_bed *bed);
/* As if netd restarted: a new one without flows, complete. */
void bed_reopen(struct flow_bed *bed);
/* Unit 'unit' has this flow now, or none; takes the reference. */
void bed_put(struct flow_bed *bed, uint32_t unit, struct flow_spec *spec);
/* And waits until it is confirmed. */
void bed_commit(struct flow_bed *bed);
/* A self-check, its repairs included. */
void bed_check(struct flow_bed *bed);
/* Until whatever is under way has come back. */
void bed_barrier(struct flow_bed *bed);
bool bed_is_in_sync(const struct flow_bed *bed);
/* How many flow_mods went out since. */
void bed_expect_mods(const struct flow_bed *bed,
                     const struct flow_status *before, uint64_t count);

/* As ovs-ofctl counts them. */
unsigned bed_count_flows(struct flow_bed *bed);
void bed_expect_tlv(struct flow_bed *bed);
/* ovs-ofctl COMMAND br-int [ARGUMENT]; its output is for free(). */
char *bed_ask(struct flow_bed *bed, const char *command, const char *argument);
void bed_ofctl(struct flow_bed *bed, const char *command, const char *argument);
void bed_vsctl(struct flow_bed *bed, ...) __attribute__((sentinel));

#endif /* TESTS_INTEGRATION_FLOW_BED_H */
