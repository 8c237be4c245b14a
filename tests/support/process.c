/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS_MAX 32u

_Noreturn void
process_give_up(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "fixture: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

void
process_format(char *to, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(to, size, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size) {
        process_give_up("text too long: %s", format);
    }
}

uint64_t
process_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void
process_look_again_soon(uint64_t start_ms, const char *what)
{
    if (process_now_ms() - start_ms > PROCESS_DEADLINE_MS) {
        process_give_up("not in %u ms: %s", PROCESS_DEADLINE_MS, what);
    }
    poll(NULL, 0, 5);
}

pid_t
process_start(const char *const arguments[], const char *const environment[],
              int output)
{
    char *copies[ARGUMENTS_MAX + 1] = { NULL };
    pid_t parent = getpid();

    for (size_t i = 0; arguments[i] != NULL; i++) {
        if (i == ARGUMENTS_MAX) {
            process_give_up("too many arguments of %s", arguments[0]);
        }
        memcpy(&copies[i], &arguments[i], sizeof copies[i]); /* Casts const. */
    }
    pid_t pid = fork();
    if (pid < 0) {
        process_give_up("fork: %s", strerror(errno));
    }
    if (pid > 0) {
        return pid;
    }

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
    for (; environment != NULL && environment[0] != NULL; environment += 2) {
        setenv(environment[0], environment[1], 1);
    }
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(nowhere, STDIN_FILENO);
    dup2(output >= 0 ? output : nowhere, STDOUT_FILENO);
    execvp(copies[0], copies);
    fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
    _exit(127);
}

int
process_wait(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            process_give_up("waitpid: %s", strerror(errno));
        }
    }
    return status;
}

char *
process_run(const char *const arguments[], const char *const environment[])
{
    int ends[2];
    char *text = NULL;
    size_t used = 0, size = 0;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        process_give_up("pipe2: %s", strerror(errno));
    }
    pid_t pid = process_start(arguments, environment, ends[1]);
    close(ends[1]);
    for (;;) {
        if (size - used < 4096) {
            size = size * 2 + 8192;
            text = realloc(text, size);
            if (text == NULL) {
                process_give_up("no memory");
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
    int status = process_wait(pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
