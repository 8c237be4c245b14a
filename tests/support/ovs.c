/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ovs.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/process.h"

#define ARGUMENTS_MAX 24
/* All files of all its programs are in one directory. */
#define OVS_ENVIRONMENT(ovs)                                           \
    {                                                                  \
        "OVS_RUNDIR", (ovs)->directory, "OVS_DBDIR", (ovs)->directory, \
            "OVS_LOGDIR", (ovs)->directory, "OVS_SYSCONFDIR",          \
            (ovs)->directory, NULL                                     \
    }
#define SCHEMA "/usr/share/openvswitch/vswitch.ovsschema"

static pid_t
start(const struct ovs *ovs, const char *const arguments[])
{
    const char *const environment[] = OVS_ENVIRONMENT(ovs);

    return process_start(arguments, environment, -1);
}

static char *
run(const struct ovs *ovs, const char *const arguments[])
{
    const char *const environment[] = OVS_ENVIRONMENT(ovs);

    return process_run(arguments, environment);
}

char *
ovs_run(struct ovs *ovs, const char *command, ...)
{
    const char *arguments[ARGUMENTS_MAX] = { command };
    size_t count = 1;
    const char *argument;
    va_list list;

    va_start(list, command);
    while ((argument = va_arg(list, const char *)) != NULL) {
        if (count == ARGUMENTS_MAX - 1) {
            process_give_up("too many arguments of %s", command);
        }
        arguments[count++] = argument;
    }
    va_end(list);

    char *output = run(ovs, arguments);
    if (output == NULL) {
        process_give_up("%s %s failed", command, arguments[1]);
    }
    return output;
}

static void
start_database(struct ovs *ovs)
{
    char file[96], remote[160], control[96];
    uint64_t start_ms = process_now_ms();

    process_format(file, sizeof file, "%s/conf.db", ovs->directory);
    process_format(remote, sizeof remote, "--remote=p%s", ovs->database);
    process_format(control, sizeof control, "--unixctl=%s/db.ctl",
                   ovs->directory);
    free(ovs_run(ovs, "ovsdb-tool", "create", file, SCHEMA, NULL));
    const char *arguments[] = { "ovsdb-server",
                                "-vconsole:off",
                                "-vsyslog:off",
                                file,
                                remote,
                                control,
                                NULL };
    ovs->database_pid = start(ovs, arguments);
    while (access(ovs->database + strlen("unix:"), F_OK) != 0) {
        process_look_again_soon(start_ms, "the socket of ovsdb-server");
    }
}

static char *
vsctl_option(struct ovs *ovs, char *text, size_t size)
{
    process_format(text, size, "--db=%s", ovs->database);
    return text;
}

void
ovs_restart(struct ovs *ovs)
{
    char control[96], log[96];

    if (ovs->switch_pid != 0) {
        process_give_up("ovs-vswitchd runs already");
    }
    process_format(control, sizeof control, "--unixctl=%s/switch.ctl",
                   ovs->directory);
    process_format(log, sizeof log, "--log-file=%s/switch.log", ovs->directory);
    const char *arguments[] = { "ovs-vswitchd",
                                "-vconsole:off",
                                "-vsyslog:off",
                                log,
                                control,
                                ovs->database,
                                NULL };
    ovs->switch_pid = start(ovs, arguments);
}

void
ovs_wait_ready(struct ovs *ovs)
{
    uint64_t start_ms = process_now_ms();
    char *path = ovs->management + strlen("unix:");
    const char *arguments[] = {
        "ovs-ofctl",     "-t5", "-vconsole:off", "-OOpenFlow15", "show",
        ovs->management, NULL
    };

    for (;;) {
        int status;
        if (ovs->switch_pid == 0 ||
            waitpid(ovs->switch_pid, &status, WNOHANG) != 0) {
            process_give_up("ovs-vswitchd has ended by itself");
        }
        if (access(path, F_OK) == 0) {
            char *output = run(ovs, arguments);
            free(output);
            if (output != NULL) {
                return;
            }
        }
        process_look_again_soon(start_ms, "br-int");
    }
}

void
ovs_start(struct ovs *ovs)
{
    char database[160];

    *ovs = (struct ovs){ 0 };
    if (unshare(CLONE_NEWNET) < 0) {
        process_give_up("unshare: %s", strerror(errno));
    }
    process_format(ovs->directory, sizeof ovs->directory,
                   "/tmp/weft-ovs-XXXXXX");
    if (mkdtemp(ovs->directory) == NULL) {
        process_give_up("mkdtemp: %s", strerror(errno));
    }
    process_format(ovs->management, sizeof ovs->management,
                   "unix:%s/br-int.mgmt", ovs->directory);
    process_format(ovs->database, sizeof ovs->database, "unix:%s/db.sock",
                   ovs->directory);
    start_database(ovs);
    vsctl_option(ovs, database, sizeof database);
    free(ovs_run(ovs, "ovs-vsctl", database, "--no-wait", "init", "--", "set",
                 "Open_vSwitch", ".", "other_config:n-handler-threads=1",
                 "other_config:n-revalidator-threads=1", NULL));
    free(ovs_run(ovs, "ovs-vsctl", database, "--no-wait", "add-br", "br-int",
                 "--", "set", "Bridge", "br-int", "datapath_type=netdev",
                 "fail_mode=secure", NULL));
    ovs_restart(ovs);
    ovs_wait_ready(ovs);
}

void
ovs_kill(struct ovs *ovs)
{
    if (ovs->switch_pid == 0) {
        process_give_up("ovs-vswitchd is not running");
    }
    kill(ovs->switch_pid, SIGKILL);
    process_wait(ovs->switch_pid);
    ovs->switch_pid = 0;
}

void
ovs_stop(struct ovs *ovs)
{
    char database[160];

    /* While it can: internal ports and taps go with their bridge. */
    if (ovs->switch_pid != 0) {
        vsctl_option(ovs, database, sizeof database);
        free(ovs_run(ovs, "ovs-vsctl", database, "del-br", "br-int", NULL));
        ovs_kill(ovs);
    }
    if (ovs->database_pid != 0) {
        kill(ovs->database_pid, SIGKILL);
        process_wait(ovs->database_pid);
    }
    const char *arguments[] = { "rm", "-rf", ovs->directory, NULL };
    free(run(ovs, arguments));
}
