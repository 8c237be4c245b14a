/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ovs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Loaded machines and sanitizers are slow; a healthy run takes a fraction. */
#define DEADLINE_MS 30000
#define ARGUMENTS_MAX 24
#define SCHEMA "/usr/share/openvswitch/vswitch.ovsschema"

static _Noreturn void __attribute__((format(printf, 1, 2)))
give_up(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "ovs fixture: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

static void __attribute__((format(printf, 3, 4)))
format_text(char *to, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(to, size, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size) {
        give_up("text too long: %s", format);
    }
}

static uint64_t
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static char *mutable(const char *text)
{
    char *copy;
    memcpy(&copy, &text, sizeof copy);
    return copy;
}

static pid_t
spawn(const struct ovs *ovs, char *const arguments[], int output)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid < 0) {
        give_up("fork: %s", strerror(errno));
    }
    if (pid > 0) {
        return pid;
    }

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    static const char *const names[] = { "OVS_RUNDIR", "OVS_DBDIR",
                                         "OVS_LOGDIR", "OVS_SYSCONFDIR" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        setenv(names[i], ovs->directory, 1);
    }
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(nowhere, STDIN_FILENO);
    dup2(output >= 0 ? output : nowhere, STDOUT_FILENO);
    execvp(arguments[0], arguments);
    fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
    _exit(127);
}

static int
wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            give_up("waitpid: %s", strerror(errno));
        }
    }
    return status;
}

/* Its standard output, or NULL if it failed. */
static char *
run(const struct ovs *ovs, char *const arguments[])
{
    int ends[2];
    char *text = NULL;
    size_t used = 0, size = 0;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        give_up("pipe2: %s", strerror(errno));
    }
    pid_t pid = spawn(ovs, arguments, ends[1]);
    close(ends[1]);
    for (;;) {
        if (size - used < 4096) {
            size = size * 2 + 8192;
            text = realloc(text, size);
            if (text == NULL) {
                give_up("no memory");
            }
        }
        ssize_t got = read(ends[0], text + used, size - used - 1);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
    }
    text[used] = '\0';
    close(ends[0]);
    int status = wait_for(pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

char *
ovs_run(struct ovs *ovs, const char *command, ...)
{
    char *arguments[ARGUMENTS_MAX] = { mutable(command) };
    size_t count = 1;
    const char *argument;
    va_list list;

    va_start(list, command);
    while ((argument = va_arg(list, const char *)) != NULL) {
        if (count == ARGUMENTS_MAX - 1) {
            give_up("too many arguments of %s", command);
        }
        arguments[count++] = mutable(argument);
    }
    va_end(list);

    char *output = run(ovs, arguments);
    if (output == NULL) {
        give_up("%s %s failed", command, arguments[1]);
    }
    return output;
}

/* Lets the others go on for a moment: between two looks at a condition. */
static void
look_again_soon(uint64_t start_ms, const char *what)
{
    if (now_ms() - start_ms > DEADLINE_MS) {
        give_up("not in %u ms: %s", DEADLINE_MS, what);
    }
    poll(NULL, 0, 5);
}

static void
start_database(struct ovs *ovs)
{
    char file[96], remote[160], control[96];
    uint64_t start_ms = now_ms();

    format_text(file, sizeof file, "%s/conf.db", ovs->directory);
    format_text(remote, sizeof remote, "--remote=p%s", ovs->database);
    format_text(control, sizeof control, "--unixctl=%s/db.ctl", ovs->directory);
    free(ovs_run(ovs, "ovsdb-tool", "create", file, SCHEMA, NULL));
    char *arguments[] = { mutable("ovsdb-server"),
                          mutable("-vconsole:off"),
                          mutable("-vsyslog:off"),
                          file,
                          remote,
                          control,
                          NULL };
    ovs->database_pid = spawn(ovs, arguments, -1);
    while (access(ovs->database + strlen("unix:"), F_OK) != 0) {
        look_again_soon(start_ms, "the socket of ovsdb-server");
    }
}

static char *
vsctl_option(struct ovs *ovs, char *text, size_t size)
{
    format_text(text, size, "--db=%s", ovs->database);
    return text;
}

void
ovs_restart(struct ovs *ovs)
{
    char control[96], log[96];

    if (ovs->switch_pid != 0) {
        give_up("ovs-vswitchd runs already");
    }
    format_text(control, sizeof control, "--unixctl=%s/switch.ctl",
                ovs->directory);
    format_text(log, sizeof log, "--log-file=%s/switch.log", ovs->directory);
    char *arguments[] = { mutable("ovs-vswitchd"),
                          mutable("-vconsole:off"),
                          mutable("-vsyslog:off"),
                          log,
                          control,
                          ovs->database,
                          NULL };
    ovs->switch_pid = spawn(ovs, arguments, -1);
}

void
ovs_wait_ready(struct ovs *ovs)
{
    uint64_t start_ms = now_ms();
    char *path = ovs->management + strlen("unix:");
    char *arguments[] = { mutable("ovs-ofctl"),
                          mutable("-t5"),
                          mutable("-vconsole:off"),
                          mutable("-OOpenFlow15"),
                          mutable("show"),
                          ovs->management,
                          NULL };

    for (;;) {
        int status;
        if (ovs->switch_pid == 0 ||
            waitpid(ovs->switch_pid, &status, WNOHANG) != 0) {
            give_up("ovs-vswitchd has ended by itself");
        }
        if (access(path, F_OK) == 0) {
            char *output = run(ovs, arguments);
            free(output);
            if (output != NULL) {
                return;
            }
        }
        look_again_soon(start_ms, "br-int");
    }
}

void
ovs_start(struct ovs *ovs)
{
    char database[160];

    *ovs = (struct ovs){ 0 };
    if (unshare(CLONE_NEWNET) < 0) {
        give_up("unshare: %s", strerror(errno));
    }
    format_text(ovs->directory, sizeof ovs->directory, "/tmp/weft-ovs-XXXXXX");
    if (mkdtemp(ovs->directory) == NULL) {
        give_up("mkdtemp: %s", strerror(errno));
    }
    format_text(ovs->management, sizeof ovs->management, "unix:%s/br-int.mgmt",
                ovs->directory);
    format_text(ovs->database, sizeof ovs->database, "unix:%s/db.sock",
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
        give_up("ovs-vswitchd is not running");
    }
    kill(ovs->switch_pid, SIGKILL);
    wait_for(ovs->switch_pid);
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
        wait_for(ovs->database_pid);
    }
    char *arguments[] = { mutable("rm"), mutable("-rf"), ovs->directory, NULL };
    free(run(ovs, arguments));
}
