/* SPDX-License-Identifier: Apache-2.0 */
/* The server as a whole: health, stopping, addresses, and strangers. */

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "grpc/health/v1/health.pb-c.h"
#include "lib/base/array.h"
#include "lib/base/rng.h"
#include "tests/unit/rpc_fixture.h"

/* ---- Health ---- */

static int
health_ask(struct rpc_channel *channel, const char *service, int *ret_status)
{
    Grpc__Health__V1__HealthCheckRequest request =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.service = (char *)service;
    int result =
        rpc_channel_call(channel, &grpc__health__v1__health__descriptor,
                         "Check", &request.base, TIMEOUT, &reply, NULL);
    if (result == 0) {
        const Grpc__Health__V1__HealthCheckResponse *response =
            (const void *)reply;
        *ret_status = (int)response->status;
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    return result;
}

static int
health_next(struct rpc_reader *reader)
{
    ProtobufCMessage *message;
    assert_int_equal(rpc_reader_next(reader, &message, NULL), 1);
    const Grpc__Health__V1__HealthCheckResponse *response =
        (const void *)message;
    int status = (int)response->status;
    protobuf_c_message_free_unpacked(message, NULL);
    return status;
}

#define SERVING 1
#define NOT_SERVING 2
#define SERVICE_UNKNOWN 3

static void
test_health(void **state)
{
    (void)state;
    struct fixture fixture;
    int status;
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.unix_endpoint);
    assert_int_equal(health_ask(channel, "", &status), 0);
    assert_int_equal(status, SERVING);
    assert_int_equal(health_ask(channel, "weft.v1.VolumeService", &status), 0);
    assert_int_equal(status, SERVING);
    assert_int_equal(health_ask(channel, "later", &status), -ENOENT);

    Grpc__Health__V1__HealthCheckRequest request =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_reader *reader;
    request.service = (char *)"later";
    assert_int_equal(rpc_reader_open(channel,
                                     &grpc__health__v1__health__descriptor,
                                     "Watch", &request.base, TIMEOUT, &reader,
                                     NULL),
                     0);
    assert_int_equal(health_next(reader), SERVICE_UNKNOWN);
    rpc_server_set_health(fixture.server, "later", true);
    assert_int_equal(health_next(reader), SERVING);
    rpc_server_set_health(fixture.server, "later", true);
    rpc_server_set_health(fixture.server, "later", false);
    assert_int_equal(health_next(reader), NOT_SERVING);
    rpc_server_set_health(fixture.server, "later", true);
    assert_int_equal(health_next(reader), SERVING);

    /* Stopping is told, then the watch ends. */
    ProtobufCMessage *message;
    struct rpc_error error;
    rpc_server_stop(fixture.server, TIMEOUT);
    assert_int_equal(health_next(reader), NOT_SERVING);
    assert_int_equal(rpc_reader_next(reader, &message, &error), -EHOSTUNREACH);
    assert_string_equal(error.reason, "STOPPING");
    rpc_reader_close(reader);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

/* ---- Stop ---- */

/* Within the grace a call that is under way is answered; streams end. */
static void
test_stop_graceful(void **state)
{
    (void)state;
    struct fixture fixture;
    struct getter getter;
    int result;
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.unix_endpoint);
    struct rpc_reader *reader = fixture_watch(channel, "idle");
    getter_start(&getter, channel, "park");
    fixture_wait(&fixture.held, 2);
    rpc_server_stop(fixture.server, TIMEOUT);
    assert_int_equal(fixture_read_all(reader, &result), 0);
    assert_int_equal(result, -ECANCELED); /* What held_cancelled() said. */
    rpc_reader_close(reader);
    assert_int_equal(fixture.stopped, 0);
    fixture_reply(fixture.parked);
    fixture.held--;
    pthread_join(getter.thread, NULL);
    assert_int_equal(getter.result, 0);
    assert_int_equal(getter.epoch, 4711);
    fixture_wait(&fixture.stopped, 1);
    assert_int_equal(fixture_get(channel, "v", TIMEOUT, NULL, NULL),
                     -EHOSTUNREACH);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

/* After the grace it is cut. */
static void
test_stop_cut(void **state)
{
    (void)state;
    struct fixture fixture;
    struct getter getter;
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.tcp_endpoint);
    getter_start(&getter, channel, "hold");
    fixture_wait(&fixture.held, 1);
    rpc_server_stop(fixture.server, UINT64_MAX);
    rpc_server_stop(fixture.server, 10 * NS_PER_MS);
    pthread_join(getter.thread, NULL);
    assert_true(getter.result < 0);
    fixture_wait(&fixture.stopped, 1);
    assert_int_equal(fixture.cancelled, 1);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

/* ---- Addresses, and strangers ---- */

static void
test_addresses(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rpc_server *server;
    struct rpc_channel *channel;
    fixture_start(&fixture, 0);
    static const char *const bad[] = {
        "",
        "nonsense",
        "unix:relative",
        "tcp:127.0.0.1",
        "tcp::1",
        "tcp:127.0.0.1:65536",
        "tcp:203.0.113.1:1",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad) + 2; i++) {
        struct err err = { "" };
        /* The last two are taken. */
        const char *address = i < ARRAY_COUNT(bad)    ? bad[i]
                              : i == ARRAY_COUNT(bad) ? fixture.unix_endpoint
                                                      : fixture.tcp_endpoint;
        const char *const listen[] = { address, NULL };
        const struct rpc_server_options options = { .listen = listen };
        assert_true(rpc_server_start(&options, &server, &err) < 0);
        assert_true(err.text[0] != '\0');
    }
    static const char *const bad_endpoints[] = {
        "",      "http://x", "unix:x",     "tcp:",        "tcp::80",
        "tcp:h", "tcp:h:0",  "tcp:h/x:80", "tcp:h:65536",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad_endpoints); i++) {
        struct err err = { "" };
        assert_int_equal(rpc_channel_new(bad_endpoints[i], &channel, &err),
                         -EINVAL);
        assert_true(err.text[0] != '\0');
    }
    fixture_stop(&fixture);

    /* Nobody is there any more; and a socket left over is replaced. */
    struct rpc_error error;
    channel = fixture_channel(fixture.unix_endpoint);
    assert_int_equal(fixture_get(channel, "v", TIMEOUT, NULL, &error),
                     -EHOSTUNREACH);
    assert_int_equal(error.code, RPC_UNAVAILABLE);
    rpc_channel_free(channel);
}

static void
test_stale_socket(void **state)
{
    (void)state;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct rpc_server *server;
    struct err err = { "" };
    char folder[] = "/tmp/weft-rpc-XXXXXX";
    char endpoint[128];
    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
    snprintf(endpoint, sizeof endpoint, "unix:%s", address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    const char *const listen[] = { endpoint, NULL };
    const struct rpc_server_options options = { .listen = listen };
    assert_int_equal(rpc_server_start(&options, &server, &err), 0);
    rpc_server_free(server);
    /* What is no socket is left alone. */
    FILE *file = fopen(address.sun_path, "w");
    assert_non_null(file);
    fclose(file);
    assert_true(rpc_server_start(&options, &server, &err) < 0);
    assert_int_equal(unlink(address.sun_path), 0);
    rmdir(folder);
}

static int
connect_raw(const struct fixture *fixture, bool is_unix)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    struct sockaddr_in tcp = {
        .sin_family = AF_INET,
        .sin_port = htons(rpc_server_port(fixture->server, 0)),
        .sin_addr = { htonl(INADDR_LOOPBACK) },
    };
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(local.sun_path, sizeof local.sun_path, "%s",
             fixture->unix_endpoint + 5);
    assert_int_equal(is_unix
                         ? connect(fd, (struct sockaddr *)&local, sizeof local)
                         : connect(fd, (struct sockaddr *)&tcp, sizeof tcp),
                     0);
    return fd;
}

static void
test_garbage(void **state)
{
    (void)state;
    struct fixture fixture;
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct rng rng;
    rng_init(&rng, 1);
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.tcp_endpoint);
    for (uint32_t round = 0; round < 200; round++) {
        int fd = connect_raw(&fixture, round % 2 == 0);
        char data[512];
        for (size_t i = 0; i < sizeof data; i++) {
            data[i] = (char)rng_below(&rng, 256);
        }
        if (round % 4 < 2) { /* Garbage behind a good beginning. */
            memcpy(data, preface, sizeof preface - 1);
        }
        ssize_t size = send(fd, data, sizeof data, MSG_NOSIGNAL);
        (void)size;
        close(fd);
    }
    assert_int_equal(fixture_get(channel, "v", TIMEOUT, NULL, NULL), 0);
    /* Connections that say nothing do not keep the server from stopping. */
    int silent[] = { connect_raw(&fixture, true),
                     connect_raw(&fixture, false) };
    rpc_channel_free(channel);
    fixture_stop(&fixture);
    close(silent[0]);
    close(silent[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_stop_graceful),
        cmocka_unit_test(test_stop_cut),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_stale_socket),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
