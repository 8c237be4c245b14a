/* SPDX-License-Identifier: Apache-2.0 */
/* The registry, its text, and the HTTP server against friends and foes. */

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"
#include "lib/metrics/http.h"
#include "lib/metrics/http_request.h"

static const struct metrics_family reads_family = {
    .name = "weft_test_reads",
    .help = "Reads, \"quoted\" and\nbroken \\ lines.",
    .type = METRICS_COUNTER,
};
static const struct metrics_family depth_family = {
    .name = "weft_test_depth",
    .help = "Requests under way.",
    .type = METRICS_GAUGE,
};
static const struct metrics_family latency_family = {
    .name = "weft_test_latency_seconds",
    .help = "Latency.",
    .type = METRICS_HISTOGRAM,
};

static void
test_buckets(void **state)
{
    (void)state;
    uint64_t previous = 0;
    for (uint32_t i = 0; i < METRICS_BUCKET_COUNT; i++) {
        uint64_t bound = metrics_bucket_bound_ns(i);
        assert_true(bound > previous);
        assert_int_equal(metrics_bucket_index(bound), i);
        assert_int_equal(metrics_bucket_index(previous + 1), i);
        previous = bound;
    }
    assert_int_equal(metrics_bucket_index(0), 0);
    assert_int_equal(metrics_bucket_index(UINT64_MAX),
                     METRICS_BUCKET_COUNT - 1);
}

static void
test_quantiles(void **state)
{
    (void)state;
    static struct metrics_histogram histogram;
    struct metrics_distribution seen = { 0 };

    assert_int_equal(metrics_distribution_quantile_ns(&seen, 500), 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        metrics_histogram_add(&histogram, i * NS_PER_US);
    }
    metrics_histogram_read(&histogram, &seen);
    assert_int_equal(seen.count, 1000);
    assert_int_equal(seen.sum_ns, 500500 * NS_PER_US);
    uint64_t median = metrics_distribution_quantile_ns(&seen, 500);
    assert_in_range(median, 500 * NS_PER_US, 750 * NS_PER_US);
    assert_int_equal(metrics_distribution_quantile_ns(&seen, 1000),
                     1000 * NS_PER_US);
    assert_true(metrics_distribution_quantile_ns(&seen, 0) > 0);
}

/* The text of a registry is stable, grouped by family, and escaped. */
static void
test_render(void **state)
{
    (void)state;
    struct metrics_registry *registry;
    static struct metrics_counter a, b;
    static struct metrics_gauge depth;
    static struct metrics_series a_series, b_series, depth_series;
    assert_int_equal(metrics_registry_new(&registry), 0);

    const struct metrics_label odd[] = { { "volume", "a\"b\\c\nd" },
                                         { "host", "h1" },
                                         { NULL, NULL } };
    assert_int_equal(metrics_add_counter(registry, &reads_family, &a_series, &a,
                                         odd),
                     0);
    assert_int_equal(metrics_add_gauge(registry, &depth_family, &depth_series,
                                       &depth, NULL),
                     0);
    assert_int_equal(metrics_add_counter(registry, &reads_family, &b_series, &b,
                                         NULL),
                     0);
    metrics_counter_add(&a, 3);
    metrics_counter_add_shared(&b, UINT64_MAX);
    metrics_gauge_add(&depth, -5);

    char *text;
    size_t size;
    assert_int_equal(metrics_render(registry, &text, &size), 0);
    assert_string_equal(
        text,
        "# TYPE weft_test_reads counter\n"
        "# HELP weft_test_reads Reads, \\\"quoted\\\" and\\nbroken \\\\ "
        "lines.\n"
        "weft_test_reads_total{volume=\"a\\\"b\\\\c\\nd\",host=\"h1\"} 3\n"
        "weft_test_reads_total 18446744073709551615\n"
        "# TYPE weft_test_depth gauge\n"
        "# HELP weft_test_depth Requests under way.\n"
        "weft_test_depth -5\n"
        "# EOF\n");
    assert_int_equal(size, strlen(text));
    free(text);

    metrics_remove(registry, &a_series);
    metrics_remove(registry, &a_series);
    metrics_remove(registry, &b_series);
    metrics_remove(registry, &depth_series);
    assert_int_equal(metrics_render(registry, &text, &size), 0);
    assert_string_equal(text, "# EOF\n");
    free(text);
    metrics_registry_free(registry);
}

static void
test_render_histogram(void **state)
{
    (void)state;
    struct metrics_registry *registry;
    static struct metrics_histogram histogram;
    static struct metrics_series series;
    assert_int_equal(metrics_registry_new(&registry), 0);
    const struct metrics_label labels[] = { { "op", "read" }, { NULL, NULL } };
    assert_int_equal(metrics_add_histogram(registry, &latency_family, &series,
                                           &histogram, labels),
                     0);
    metrics_histogram_add(&histogram, 1000);
    metrics_histogram_add(&histogram, 1500);
    metrics_histogram_add(&histogram, 100 * NS_PER_S);

    char *text;
    size_t size;
    assert_int_equal(metrics_render(registry, &text, &size), 0);
    assert_non_null(
        strstr(text, "_seconds_bucket{op=\"read\",le=\"0.000001024\"} 1\n"));
    assert_non_null(
        strstr(text, "_seconds_bucket{op=\"read\",le=\"0.000001536\"} 2\n"));
    assert_non_null(
        strstr(text, "_seconds_bucket{op=\"read\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "_seconds_count{op=\"read\"} 3\n"));
    assert_non_null(strstr(text, "_seconds_sum{op=\"read\"} 100.0000025\n"));
    free(text);
    metrics_registry_free(registry);
}

/* Invariants (1) and (2). */
static void
test_duplicates(void **state)
{
    (void)state;
    struct metrics_registry *registry;
    static struct metrics_counter counter;
    static struct metrics_gauge gauge;
    static struct metrics_series first, second;
    const struct metrics_family other = { "weft_test_reads", "Other.",
                                          METRICS_GAUGE };
    char long_text[METRICS_LABELS_SIZE];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    const struct metrics_label labels[] = { { "a", long_text },
                                            { NULL, NULL } };

    assert_int_equal(metrics_registry_new(&registry), 0);
    assert_int_equal(metrics_add_counter(registry, &reads_family, &first,
                                         &counter, NULL),
                     0);
    assert_int_equal(metrics_add_counter(registry, &reads_family, &second,
                                         &counter, NULL),
                     -EEXIST);
    assert_int_equal(metrics_add_gauge(registry, &other, &second, &gauge, NULL),
                     -EEXIST);
    assert_int_equal(metrics_add_counter(registry, &reads_family, &second,
                                         &counter, labels),
                     -ENAMETOOLONG);
    metrics_registry_free(registry);
    metrics_registry_free(NULL);
}

static int
parse(const char *text)
{
    struct http_request request;
    return http_request_parse(text, strlen(text), &request);
}

static void
test_parse(void **state)
{
    (void)state;
    assert_int_equal(parse("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_int_equal(parse("GET /metrics?a=b HTTP/1.0\r\n\r\n"), 200);
    assert_int_equal(parse("HEAD /healthz HTTP/1.1\r\n\r\n"), 200);
    assert_int_equal(parse(
                         "GET /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
                     200);

    assert_int_equal(parse(""), 0);
    assert_int_equal(parse("GET /metrics HTTP/1.1\r\nHost: x\r\n"), 0);

    assert_int_equal(parse("GET /metric HTTP/1.1\r\n\r\n"), 404);
    assert_int_equal(parse("GET /metrics/ HTTP/1.1\r\n\r\n"), 404);
    assert_int_equal(parse("GET /../metrics HTTP/1.1\r\n\r\n"), 404);
    assert_int_equal(parse("POST /metrics HTTP/1.1\r\n\r\n"), 405);
    assert_int_equal(parse("OPTIONS /metrics HTTP/1.1\r\n\r\n"), 405);
    assert_int_equal(parse("GET /metrics HTTP/2.0\r\n\r\n"), 505);
    assert_int_equal(parse("PRI * HTTP/2.0\r\n\r\n"), 505);

    static const char *const malformed[] = {
        "\r\n\r\n",
        "get /metrics HTTP/1.1\r\n\r\n",
        "GET  /metrics HTTP/1.1\r\n\r\n",
        "GET /metrics  HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.1 \r\n\r\n",
        "GET /metrics\r\n\r\n",
        "GET\r\n\r\n",
        "GET metrics HTTP/1.1\r\n\r\n",
        "GET http://x/metrics HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.1\nHost: x\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /metrics HTTP/1.1\r\n: x\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nA: \x01\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd",
        "GET /metrics HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "G\x80T /metrics HTTP/1.1\r\n\r\n",
        "\x16\x03\x01",
    };
    for (size_t i = 0; i < ARRAY_COUNT(malformed); i++) {
        if (parse(malformed[i]) != 400) {
            fail_msg("case %zu gives %d", i, parse(malformed[i]));
        }
    }
}

/* Random bytes and damaged requests never read out of bounds (ASan) and never
 * parse as anything but a status. */
static void
test_parse_random(void **state)
{
    (void)state;
    static const char good[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    struct rng rng;
    rng_init(&rng, 1);

    for (uint32_t round = 0; round < 20000; round++) {
        size_t size = rng_below(&rng, sizeof good);
        char *data = malloc(size + 1);
        assert_non_null(data);
        memcpy(data, good, size);
        for (uint64_t i = rng_below(&rng, 4); i > 0 && size > 0; i--) {
            data[rng_below(&rng, size)] = (char)rng_below(&rng, 256);
        }
        char *exact = malloc(size);
        memcpy(exact, data, size);
        struct http_request request;
        int status = http_request_parse(exact, size, &request);
        assert_true(status == 0 || (status >= 200 && status < 600));
        free(exact);
        free(data);
    }
}

/* ---- The server ---- */

struct fixture {
    struct metrics_registry *registry;
    struct metrics_http *server;
    struct metrics_health health;
    bool is_well;
};

static bool
fixture_check(struct metrics_health *health,
              char ret_text[METRICS_HTTP_TEXT_SIZE])
{
    struct fixture *fixture =
        (struct fixture *)(void *)((char *)health -
                                   offsetof(struct fixture, health));
    snprintf(ret_text, METRICS_HTTP_TEXT_SIZE, "%s",
             fixture->is_well ? "fine" : "no database");
    return fixture->is_well;
}

static void
fixture_start(struct fixture *fixture, const char *address, uint64_t timeout)
{
    struct err err = { "" };
    assert_int_equal(metrics_registry_new(&fixture->registry), 0);
    fixture->health.check = fixture_check;
    fixture->is_well = true;
    const struct metrics_http_options options = {
        .listen = address,
        .registry = fixture->registry,
        .health = &fixture->health,
        .timeout_ns = timeout,
    };
    int result = metrics_http_start(&options, &fixture->server, &err);
    if (result < 0) {
        fail_msg("%s", err.text);
    }
}

static void
fixture_stop(struct fixture *fixture)
{
    metrics_http_stop(fixture->server);
    metrics_registry_free(fixture->registry);
}

static int
fixture_connect(struct fixture *fixture)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(metrics_http_port(fixture->server)),
        .sin_addr = { htonl(INADDR_LOOPBACK) },
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address),
                     0);
    return fd;
}

/* Reads to the end of file, or to a reset by the server. */
static void
read_all(int fd, char *ret_text, size_t room)
{
    size_t used = 0;
    for (;;) {
        ssize_t size = read(fd, ret_text + used, room - 1 - used);
        if (size <= 0) {
            break;
        }
        used += (size_t)size;
    }
    ret_text[used] = '\0';
    close(fd);
}

static void
ask(int fd, const char *request, char *ret_text, size_t room)
{
    assert_int_equal(write(fd, request, strlen(request)),
                     (ssize_t)strlen(request));
    read_all(fd, ret_text, room);
}

static void
test_server(void **state)
{
    (void)state;
    struct fixture fixture;
    char text[8192];
    fixture_start(&fixture, "127.0.0.1:0", 0);

    ask(fixture_connect(&fixture), "GET /metrics HTTP/1.1\r\n\r\n", text,
        sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(text, "Content-Type: " METRICS_CONTENT_TYPE));
    assert_non_null(strstr(text, "\r\n\r\n# EOF\n"));

    ask(fixture_connect(&fixture), "HEAD /metrics HTTP/1.1\r\n\r\n", text,
        sizeof text);
    assert_non_null(strstr(text, "Content-Length: 6\r\n"));
    assert_null(strstr(text, "# EOF"));

    ask(fixture_connect(&fixture), "GET /healthz HTTP/1.1\r\n\r\n", text,
        sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nfine\n"));
    fixture.is_well = false;
    ask(fixture_connect(&fixture), "GET /healthz HTTP/1.1\r\n\r\n", text,
        sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 503 Service Unavailable\r\n"));

    ask(fixture_connect(&fixture), "GET / HTTP/1.1\r\n\r\n", text, sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 404 "));
    ask(fixture_connect(&fixture), "PUT /metrics HTTP/1.1\r\n\r\n", text,
        sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 405 "));
    assert_non_null(strstr(text, "Allow: GET, HEAD\r\n"));
    ask(fixture_connect(&fixture), "\x16\x03\x01garbage", text, sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 400 "));
    fixture_stop(&fixture);
}

static void
test_server_oversize(void **state)
{
    (void)state;
    struct fixture fixture;
    char text[8192];
    static char request[METRICS_HTTP_HEAD_SIZE * 4];
    memset(request, 'A', sizeof request - 1);
    memcpy(request, "GET /metrics HTTP/1.1\r\nX: ", 26);
    fixture_start(&fixture, "127.0.0.1:0", 0);
    ask(fixture_connect(&fixture), request, text, sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 431 "));
    fixture_stop(&fixture);
}

/* Clients that say nothing are cut off, and meanwhile do not keep others from
 * being served, though all places are taken. */
static void
test_server_silent(void **state)
{
    (void)state;
    struct fixture fixture;
    char text[8192];
    int fds[METRICS_HTTP_CONNECTION_MAX];
    fixture_start(&fixture, "127.0.0.1:0", 50 * NS_PER_MS);

    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
        fds[i] = fixture_connect(&fixture);
    }
    ask(fixture_connect(&fixture), "GET /metrics HTTP/1.1\r\n\r\n", text,
        sizeof text);
    assert_non_null(strstr(text, "HTTP/1.1 200 OK\r\n"));
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
        read_all(fds[i], text, sizeof text);
        assert_string_equal(text, "");
    }
    fixture_stop(&fixture);
}

static void
test_server_unix(void **state)
{
    (void)state;
    struct fixture fixture;
    char folder[] = "/tmp/weft-metrics-XXXXXX";
    char address[64], text[8192];
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "unix:%s/s", folder);
    snprintf(local.sun_path, sizeof local.sun_path, "%s/s", folder);
    fixture_start(&fixture, address, 0);
    assert_int_equal(metrics_http_port(fixture.server), 0);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&local, sizeof local), 0);
    ask(fd, "GET /metrics HTTP/1.1\r\n\r\n", text, sizeof text);
    assert_non_null(strstr(text, "# EOF\n"));
    fixture_stop(&fixture);
    assert_int_equal(access(local.sun_path, F_OK), -1);
    rmdir(folder);
}

static void
test_server_bad_address(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "localhost:80",
        "::1:80",
        "[::1:80",
        "unix:relative",
        "unix:",
        "127.0.0.1:-1",
        "256.0.0.1:1",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct metrics_http *server;
        struct err err = { "" };
        const struct metrics_http_options options = { .listen = bad[i] };
        assert_int_equal(metrics_http_start(&options, &server, &err), -EINVAL);
        assert_true(err.text[0] != '\0');
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_render_histogram),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_random),
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_server_oversize),
        cmocka_unit_test(test_server_silent),
        cmocka_unit_test(test_server_unix),
        cmocka_unit_test(test_server_bad_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
