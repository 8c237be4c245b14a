/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/unixctl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/check.h"

#define ANSWER_MAX (1024u * 1024u)
#define ANSWER_S 5
#define PATH_SIZE sizeof((struct sockaddr_un *)NULL)->sun_path

/* ---- The socket ---- */

/* Debian's is named after the process; ours in the test bed is not. */
static void
socket_find(const char *run_dir, char *ret_path, size_t size)
{
    char path[256];
    unsigned pid = 0;

    (void)snprintf(ret_path, size, "%.90s/vswitchd.ctl", run_dir);
    if (access(ret_path, F_OK) == 0) {
        return;
    }
    (void)snprintf(path, sizeof path, "%.200s/ovs-vswitchd.pid", run_dir);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    char line[32] = "";
    if (fgets(line, sizeof line, file) != NULL) {
        pid = (unsigned)strtoul(line, NULL, 10);
    }
    (void)fclose(file);
    (void)snprintf(ret_path, size, "%.70s/ovs-vswitchd.%u.ctl", run_dir, pid);
}

static int
socket_open(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct timeval limit = { .tv_sec = ANSWER_S };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)(const void *)&address,
                sizeof address) != 0) {
        int result = -errno;
        (void)close(fd);
        return result;
    }
    return fd;
}

/* ---- JSON ---- */

static size_t
json_put_utf8(char *out, unsigned long code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = '?'; /* The switch speaks ASCII. */
    return 1;
}

/* The string that begins at 'text' (a quote) without its escapes, to be freed;
 * '*ret_end' is behind it.  NULL: it does not end. */
static char *
json_take_string(const char *text, const char **ret_end)
{
    char *string = malloc(strlen(text) + 1);
    size_t size = 0;

    CHECK(string != NULL);
    for (text++; *text != '\0' && *text != '"'; text++) {
        if (*text != '\\') {
            string[size++] = *text;
            continue;
        }
        text++;
        if (*text == 'n') {
            string[size++] = '\n';
        } else if (*text == 't') {
            string[size++] = ' ';
        } else if (*text == 'u' && strlen(text) > 4) {
            const char digits[5] = { text[1], text[2], text[3], text[4], 0 };
            size += json_put_utf8(string + size, strtoul(digits, NULL, 16));
            text += 4;
        } else if (*text != '\0') {
            string[size++] = *text;
        } else {
            break;
        }
    }
    string[size] = '\0';
    if (*text != '"') {
        free(string);
        return NULL;
    }
    *ret_end = text + 1;
    return string;
}

/* Whether 'text' is a whole object. */
static bool
json_is_whole(const char *text)
{
    int depth = 0;

    for (; *text != '\0'; text++) {
        if (*text == '"') {
            const char *end = text + 1;
            while (*end != '\0' && *end != '"') {
                end += *end == '\\' && end[1] != '\0' ? 2 : 1;
            }
            if (*end == '\0') {
                return false;
            }
            text = end;
        } else if (*text == '{') {
            depth++;
        } else if (*text == '}' && --depth == 0) {
            return true;
        }
    }
    return false;
}

/* The string member 'name' of the answer; NULL: it is null or not there. */
static char *
json_member(const char *text, const char *name)
{
    char key[32];

    (void)snprintf(key, sizeof key, "\"%s\":", name);
    for (const char *at = text; *at != '\0'; at++) {
        if (strncmp(at, key, strlen(key)) == 0) {
            at += strlen(key);
            const char *end;
            return *at == '"' ? json_take_string(at, &end) : NULL;
        }
        if (*at == '"') { /* Not inside of strings. */
            const char *end = NULL;
            free(json_take_string(at, &end));
            if (end == NULL) {
                return NULL;
            }
            at = end - 1;
        }
    }
    return NULL;
}

static char *
answer_read(int fd)
{
    size_t size = 0, room = 16384;
    char *text = malloc(room);

    CHECK(text != NULL);
    for (;;) {
        ssize_t got = recv(fd, text + size, room - size - 1, 0);
        if (got <= 0) {
            free(text);
            return NULL;
        }
        size += (size_t)got;
        text[size] = '\0';
        if (json_is_whole(text)) {
            return text;
        }
        if (room - size < 4096) {
            if (room >= ANSWER_MAX) {
                free(text);
                return NULL;
            }
            room *= 2;
            text = realloc(text, room);
            CHECK(text != NULL);
        }
    }
}

/* To be freed. */
static char *
request_format(const char *method, const char *const *params, size_t count)
{
    size_t size = 64 + strlen(method);

    for (size_t i = 0; i < count; i++) {
        size += strlen(params[i]) + 3;
    }
    char *request = malloc(size);
    CHECK(request != NULL);
    int at = snprintf(request, size,
                      "{\"id\":0,\"method\":\"%s\","
                      "\"params\":[",
                      method);
    for (size_t i = 0; i < count; i++) {
        at += snprintf(request + at, size - (size_t)at, "%s\"%s\"",
                       i == 0 ? "" : ",", params[i]);
    }
    (void)snprintf(request + at, size - (size_t)at, "]}");
    return request;
}

static int
answer_take(char *answer, struct unixctl_answer *ret_answer)
{
    char *text = json_member(answer, "result");

    if (text == NULL) {
        char *error = json_member(answer, "error");
        (void)snprintf(ret_answer->reason, sizeof ret_answer->reason,
                       "the switch refuses: %.150s",
                       error != NULL ? error : "no reason");
        free(error);
        return -EPROTO;
    }
    ret_answer->text = text;
    return 0;
}

int
unixctl_ask(const char *run_dir, const char *method, const char *const *params,
            size_t count, struct unixctl_answer *ret_answer)
{
    char path[PATH_SIZE];

    *ret_answer = (struct unixctl_answer){ 0 };
    socket_find(run_dir, path, sizeof path);
    int fd = socket_open(path);
    if (fd < 0) {
        (void)snprintf(ret_answer->reason, sizeof ret_answer->reason,
                       "the switch cannot be reached at %.90s: %s", path,
                       strerror(-fd));
        return fd;
    }
    char *request = request_format(method, params, count);
    ssize_t size = (ssize_t)strlen(request);
    char *answer = send(fd, request, (size_t)size, MSG_NOSIGNAL) == size
                       ? answer_read(fd)
                       : NULL;
    (void)close(fd);
    free(request);
    if (answer == NULL) {
        (void)snprintf(ret_answer->reason, sizeof ret_answer->reason,
                       "the switch does not answer");
        return -ETIMEDOUT;
    }
    int result = answer_take(answer, ret_answer);
    free(answer);
    return result;
}
