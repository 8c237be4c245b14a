/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_METRICS_HTTP_REQUEST_H
#define LIB_METRICS_HTTP_REQUEST_H

/* The parser of the metrics server: pure, for hostile bytes. */

#include <stddef.h>

enum http_path {
    HTTP_PATH_METRICS,
    HTTP_PATH_HEALTHZ,
};

struct http_request {
    enum http_path path;
    int is_head;
};

/* Parses the first 'size' bytes of a request.  Returns 0 if its head is not
 * complete yet, else the HTTP status with which it is to be answered: 200 with
 * '*ret_request' set, or an error. */
int http_request_parse(const char *data, size_t size,
                       struct http_request *ret_request);

#endif /* LIB_METRICS_HTTP_REQUEST_H */
