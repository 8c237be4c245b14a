/* SPDX-License-Identifier: Apache-2.0 */
/* The client against the server: every way in which a call can go. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "proto/weft/v1/host.pb-c.h"
#include "tests/unit/rpc_fixture.h"

static void
test_unary(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_start(&fixture, 0);
    const char *const endpoints[] = { fixture.unix_endpoint,
                                      fixture.tcp_endpoint };
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++) {
        struct rpc_channel *channel = fixture_channel(endpoints[i]);
        struct rpc_error error;
        int64_t epoch;
        assert_int_equal(fixture_get(channel, "v", TIMEOUT, &epoch, &error), 0);
        assert_int_equal(epoch, 1);
        assert_int_equal(fixture_get(channel, "", RPC_NO_TIMEOUT, &epoch,
                                     &error),
                         0);
        assert_int_equal(epoch, 0);
        assert_int_equal(fixture_get(channel, "thread", TIMEOUT, &epoch,
                                     &error),
                         0);
        assert_int_equal(epoch, 4711);
        rpc_channel_free(channel);
        fixture_wait(&fixture.gets, 3 * ((int)i + 1));
        if (i == 0) {
            assert_int_equal(fixture.peers[i].transport, RPC_TRANSPORT_UNIX);
            assert_int_equal(fixture.peers[i].uid, getuid());
            assert_int_equal(fixture.peers[i].gid, getgid());
            assert_int_equal(fixture.peers[i].pid, getpid());
        } else {
            assert_int_equal(fixture.peers[i].transport, RPC_TRANSPORT_TCP);
            assert_memory_equal(fixture.peers[i].address,
                                "ipv4:127.0.0.1:", 15);
        }
    }
    fixture_stop(&fixture);
}

static void
test_errors(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rpc_error error;
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.unix_endpoint);
    assert_int_equal(fixture_get(channel, "fail", TIMEOUT, NULL, &error),
                     -ENOENT);
    assert_int_equal(error.code, RPC_NOT_FOUND);
    assert_string_equal(error.text, "there is no volume \"fail\" \xc3\xa4\n%");
    assert_string_equal(error.reason, "VOLUME_NOT_FOUND");
    assert_string_equal(error.resource, "projects/p/volumes/fail");
    assert_int_equal(fixture_get(channel, "fail", TIMEOUT, NULL, NULL),
                     -ENOENT);

    assert_int_equal(fixture_get(channel, "invalid", TIMEOUT, NULL, &error),
                     -EINVAL);
    assert_int_equal(error.violation_count, 1);
    assert_string_equal(error.violations[0].field, "name");
    assert_string_equal(error.violations[0].text, "must not be \"invalid\"");

    /* Not UTF-8: refused before any handler sees it. */
    assert_int_equal(fixture_get(channel, "\xff", TIMEOUT, NULL, &error),
                     -EINVAL);
    assert_string_equal(error.reason, "MALFORMED_REQUEST");
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

static int
call_method(struct rpc_channel *channel,
            const ProtobufCServiceDescriptor *service, const char *method,
            const ProtobufCMessage *request, struct rpc_error *error)
{
    ProtobufCMessage *reply;
    int result = rpc_channel_call(channel, service, method, request, TIMEOUT,
                                  &reply, error);
    if (result == 0) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    return result;
}

static void
test_refusals(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rpc_error error;
    fixture_start(&fixture, 0);
    struct rpc_channel *local = fixture_channel(fixture.unix_endpoint);
    struct rpc_channel *tcp = fixture_channel(fixture.tcp_endpoint);
    Weft__V1__DetachVolumeRequest detach =
        WEFT__V1__DETACH_VOLUME_REQUEST__INIT;
    Weft__V1__ListHostsRequest list = WEFT__V1__LIST_HOSTS_REQUEST__INIT;

    /* Known to the .proto, but without handler; a service that is not there;
     * and what the authorizer lets through from a unix socket only. */
    assert_int_equal(call_method(local, &SERVICE, "DetachVolume", &detach.base,
                                 &error),
                     -ENOSYS);
    assert_int_equal(call_method(local, &weft__v1__host_service__descriptor,
                                 "ListHosts", &list.base, &error),
                     -ENOSYS);
    assert_int_equal(call_method(tcp, &SERVICE, "DetachVolume", &detach.base,
                                 &error),
                     -EACCES);
    assert_int_equal(error.code, RPC_PERMISSION_DENIED);

    /* Another message's bytes: field 1 is a number where a name should be. */
    list.page_size = 5;
    assert_int_equal(call_method(tcp, &SERVICE, "GetVolume", &list.base,
                                 &error),
                     -EINVAL);
    assert_string_equal(error.text,
                        "the request is no well-formed "
                        "weft.v1.GetVolumeRequest: look at field name");

    /* Over the limit of 1 MiB. */
    char *name = malloc(2 * MIB);
    memset(name, 'n', 2 * MIB - 1);
    name[2 * MIB - 1] = '\0';
    assert_int_equal(fixture_get(tcp, name, TIMEOUT, NULL, &error), -ENOBUFS);
    assert_int_equal(error.code, RPC_RESOURCE_EXHAUSTED);
    name[MIB / 2] = '\0';
    assert_int_equal(fixture_get(tcp, name, TIMEOUT, NULL, &error), 0);
    free(name);
    rpc_channel_free(local);
    rpc_channel_free(tcp);
    fixture_stop(&fixture);
}

static void
test_deadline(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rpc_error error;
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.tcp_endpoint);
    assert_int_equal(fixture_get(channel, "hold", 50 * NS_PER_MS, NULL, &error),
                     -ETIMEDOUT);
    assert_int_equal(error.code, RPC_DEADLINE_EXCEEDED);
    fixture_wait(&fixture.cancelled, 1);
    fixture_wait(&fixture.held, 0);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

static void
test_interrupt(void **state)
{
    (void)state;
    struct fixture fixture;
    struct getter getters[4];
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.unix_endpoint);
    for (size_t i = 0; i < ARRAY_COUNT(getters); i++) {
        getter_start(&getters[i], channel, "hold");
    }
    fixture_wait(&fixture.held, ARRAY_COUNT(getters));
    rpc_channel_interrupt(channel, true);
    for (size_t i = 0; i < ARRAY_COUNT(getters); i++) {
        pthread_join(getters[i].thread, NULL);
        assert_int_equal(getters[i].result, -ECANCELED);
    }
    fixture_wait(&fixture.cancelled, ARRAY_COUNT(getters));
    assert_int_equal(fixture_get(channel, "v", TIMEOUT, NULL, NULL),
                     -ECANCELED);
    rpc_channel_interrupt(channel, false);
    assert_int_equal(fixture_get(channel, "v", TIMEOUT, NULL, NULL), 0);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

/* Ten thousand messages, far more than the queue holds, arrive in order. */
static void
test_stream(void **state)
{
    (void)state;
    struct fixture fixture;
    int result;
    fixture_start(&fixture, 0);
    const char *const endpoints[] = { fixture.unix_endpoint,
                                      fixture.tcp_endpoint };
    for (size_t i = 0; i < ARRAY_COUNT(endpoints); i++) {
        struct rpc_channel *channel = fixture_channel(endpoints[i]);
        struct rpc_reader *reader = fixture_watch(channel, "10000");
        assert_int_equal(fixture_read_all(reader, &result), 10000);
        assert_int_equal(result, 0);
        assert_int_equal(fixture_read_all(reader, &result), 0);
        assert_int_equal(result, 0);
        rpc_reader_close(reader);
        reader = fixture_watch(channel, "0");
        assert_int_equal(fixture_read_all(reader, &result), 0);
        assert_int_equal(result, 0);
        rpc_reader_close(reader);
        rpc_channel_free(channel);
    }
    fixture_stop(&fixture);
}

struct streamer {
    pthread_t thread;
    struct rpc_channel *channel;
    uint32_t count;
    int result;
};

static void *
streamer_thread(void *argument)
{
    struct streamer *streamer = argument;
    struct rpc_reader *reader = fixture_watch(streamer->channel, "2000");
    streamer->count = fixture_read_all(reader, &streamer->result);
    rpc_reader_close(reader);
    return NULL;
}

static void
test_concurrent_streams(void **state)
{
    (void)state;
    struct fixture fixture;
    struct streamer streamers[16];
    fixture_start(&fixture, 0);
    struct rpc_channel *channels[] = { fixture_channel(fixture.unix_endpoint),
                                       fixture_channel(fixture.tcp_endpoint) };
    for (size_t i = 0; i < ARRAY_COUNT(streamers); i++) {
        streamers[i].channel = channels[i % 2];
        assert_int_equal(pthread_create(&streamers[i].thread, NULL,
                                        streamer_thread, &streamers[i]),
                         0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(streamers); i++) {
        pthread_join(streamers[i].thread, NULL);
        assert_int_equal(streamers[i].count, 2000);
        assert_int_equal(streamers[i].result, 0);
    }
    rpc_channel_free(channels[0]);
    rpc_channel_free(channels[1]);
    fixture_stop(&fixture);
}

/* A client that does not read, then goes away, costs the server a bounded
 * queue; the handler hears of it. */
static void
test_stream_cancel(void **state)
{
    (void)state;
    struct fixture fixture;
    ProtobufCMessage *message;
    int result;
    fixture_start(&fixture, 0);
    struct rpc_channel *channel = fixture_channel(fixture.tcp_endpoint);
    struct rpc_reader *reader = fixture_watch(channel, "endless");
    assert_int_equal(rpc_reader_next(reader, &message, NULL), 1);
    protobuf_c_message_free_unpacked(message, NULL);
    rpc_reader_cancel(reader);
    struct rpc_reader *other =
        fixture_watch(channel, "0"); /* Is not concerned. */
    fixture_read_all(other, &result);
    assert_int_equal(result, 0);
    rpc_reader_close(other);
    rpc_reader_close(reader);
    fixture_wait(&fixture.cancelled, 1);

    reader = fixture_watch(channel, "idle");
    fixture_wait(&fixture.held, 1);
    rpc_reader_close(reader);
    fixture_wait(&fixture.cancelled, 2);
    fixture_wait(&fixture.held, 0);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

static void
test_too_many(void **state)
{
    (void)state;
    struct fixture fixture;
    struct getter getter;
    struct rpc_error error;
    fixture_start(&fixture, 1);
    struct rpc_channel *channel = fixture_channel(fixture.unix_endpoint);
    getter_start(&getter, channel, "hold");
    fixture_wait(&fixture.held, 1);
    assert_int_equal(fixture_get(channel, "v", TIMEOUT, NULL, &error),
                     -ENOBUFS);
    assert_string_equal(error.reason, "TOO_MANY_CALLS");
    rpc_channel_interrupt(channel, true);
    pthread_join(getter.thread, NULL);
    rpc_channel_free(channel);
    fixture_stop(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_concurrent_streams),
        cmocka_unit_test(test_stream_cancel),
        cmocka_unit_test(test_too_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
