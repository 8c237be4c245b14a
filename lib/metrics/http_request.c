/* SPDX-License-Identifier: Apache-2.0 */
/* Strict: lines end with CR LF, the request line has exactly two blanks, field
 * names are tokens, no obsolete folding, no body.  Whatever a proxy in front
 * might read differently is refused, not guessed. */

#include "lib/metrics/http_request.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

struct http_span {
    const char *data;
    size_t size;
};

static bool
http_span_equal(struct http_span span, const char *text)
{
    return span.size == strlen(text) && memcmp(span.data, text, span.size) == 0;
}

static bool
http_span_equal_nocase(struct http_span span, const char *text)
{
    return span.size == strlen(text) &&
           strncasecmp(span.data, text, span.size) == 0;
}

/* tchar of RFC 9110. */
static bool
http_is_token(struct http_span span)
{
    for (size_t i = 0; i < span.size; i++) {
        char c = span.data[i];
        if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
            (c >= 'a' && c <= 'z')) {
            continue;
        }
        if (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL) {
            return false;
        }
    }
    return span.size > 0;
}

/* "HTTP/" DIGIT "." DIGIT */
static bool
http_is_version(struct http_span span)
{
    return span.size == 8 && memcmp(span.data, "HTTP/", 5) == 0 &&
           span.data[5] >= '0' && span.data[5] <= '9' && span.data[6] == '.' &&
           span.data[7] >= '0' && span.data[7] <= '9';
}

/* Cuts the next line off '*rest', without its CR LF; false at a malformed
 * one. */
static bool
http_take_line(struct http_span *rest, struct http_span *ret_line)
{
    const char *end = memchr(rest->data, '\n', rest->size);
    if (end == NULL || end == rest->data || end[-1] != '\r') {
        return false;
    }
    ret_line->data = rest->data;
    ret_line->size = (size_t)(end - rest->data) - 1;
    for (size_t i = 0; i < ret_line->size; i++) {
        unsigned char c = (unsigned char)ret_line->data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    rest->size -= (size_t)(end + 1 - rest->data);
    rest->data = end + 1;
    return true;
}

/* Cuts a word off '*rest', with the blank that ends it. */
static bool
http_take_word(struct http_span *rest, struct http_span *ret_word)
{
    const char *end = memchr(rest->data, ' ', rest->size);
    if (end == NULL || end == rest->data) {
        return false;
    }
    ret_word->data = rest->data;
    ret_word->size = (size_t)(end - rest->data);
    rest->size -= ret_word->size + 1;
    rest->data = end + 1;
    return true;
}

/* 0, or the status of the refusal. */
static int
http_check_field(struct http_span line)
{
    const char *colon = memchr(line.data, ':', line.size);
    if (colon == NULL) {
        return 400;
    }
    struct http_span name = { line.data, (size_t)(colon - line.data) };
    if (!http_is_token(name)) {
        return 400;
    }
    struct http_span value = { colon + 1, line.size - name.size - 1 };
    while (value.size > 0 && (*value.data == ' ' || *value.data == '\t')) {
        value.data++;
        value.size--;
    }
    if (http_span_equal_nocase(name, "transfer-encoding")) {
        return 400;
    }
    if (http_span_equal_nocase(name, "content-length") &&
        !http_span_equal(value, "0")) {
        return 400;
    }
    return 0;
}

static int
http_check_target(struct http_span target, enum http_path *ret_path)
{
    if (target.data[0] != '/') {
        return 400;
    }
    const char *query = memchr(target.data, '?', target.size);
    if (query != NULL) {
        target.size = (size_t)(query - target.data);
    }
    if (http_span_equal(target, "/metrics")) {
        *ret_path = HTTP_PATH_METRICS;
        return 200;
    }
    if (http_span_equal(target, "/healthz")) {
        *ret_path = HTTP_PATH_HEALTHZ;
        return 200;
    }
    return 404;
}

int
http_request_parse(const char *data, size_t size,
                   struct http_request *ret_request)
{
    /* What cannot begin a request is refused at once, not at the timeout. */
    if (size > 0 && (data[0] < 'A' || data[0] > 'Z')) {
        return 400;
    }
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    struct http_span rest = { data, (size_t)(end - data) + 2 };
    struct http_span line, method, target;
    if (!http_take_line(&rest, &line) || !http_take_word(&line, &method) ||
        !http_take_word(&line, &target) || !http_is_token(method)) {
        return 400;
    }
    if (!http_span_equal(line, "HTTP/1.1") &&
        !http_span_equal(line, "HTTP/1.0")) {
        return http_is_version(line) ? 505 : 400;
    }
    while (rest.size > 0) {
        if (!http_take_line(&rest, &line)) {
            return 400;
        }
        int status = http_check_field(line);
        if (status != 0) {
            return status;
        }
    }
    struct http_request request = { .path = HTTP_PATH_METRICS };
    int status = http_check_target(target, &request.path);
    if (status != 200) {
        return status;
    }
    if (http_span_equal(method, "HEAD")) {
        request.is_head = 1;
    } else if (!http_span_equal(method, "GET")) {
        return 405;
    }
    *ret_request = request;
    return 200;
}
