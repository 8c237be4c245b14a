/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_OVS_H
#define TESTS_SUPPORT_OVS_H

/* A private Open vSwitch for a test: an ovsdb-server and an ovs-vswitchd with
 * the userspace datapath, as foreground children with their files in a
 * temporary directory, and a bridge br-int without flows.  They die with the
 * test.
 *
 *     struct ovs ovs;
 *     ovs_start(&ovs);
 *     ... ovs.management is "unix:DIRECTORY/br-int.mgmt"
 *     free(ovs_run(&ovs, "ovs-ofctl", "-OOpenFlow15", "dump-flows", "br-int",
 *                  NULL));
 *     ovs_kill(&ovs); ovs_restart(&ovs);
 *     ovs_stop(&ovs);
 *
 * ovs_start() moves the calling thread into a network namespace of its own, so
 * that bridges of several tests do not meet; that needs root.  Everything waits
 * for its condition, with a deadline, and aborts the test with a message when
 * that passes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ovs {
    char directory[64];
    char management[128]; /* Of br-int: a target for OpenFlow. */
    char database[128];   /* A remote for OVSDB, "unix:DIRECTORY/db.sock". */
    pid_t database_pid;
    pid_t switch_pid; /* 0: not running. */
};

/* Returns when br-int is there and answers. */
void ovs_start(struct ovs *ovs);
/* Kills what is left and removes the directory. */
void ovs_stop(struct ovs *ovs);

/* kill -9 of ovs-vswitchd, and waits for its end. */
void ovs_kill(struct ovs *ovs);
/* Starts it again; does not wait for it. */
void ovs_restart(struct ovs *ovs);
/* Until ovs-vswitchd answers and br-int is there. */
void ovs_wait_ready(struct ovs *ovs);

/* Runs a command of Open vSwitch with the environment of this one.  The
 * arguments end with NULL.  Returns its standard output, for free(); aborts if
 * it fails. */
char *ovs_run(struct ovs *ovs, const char *command, ...)
    __attribute__((sentinel));

#endif /* TESTS_SUPPORT_OVS_H */
