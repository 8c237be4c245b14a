/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rpc_fixture.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "proto/descriptors.h"

/* A call that is answered when it is cancelled, or a stream under way. */
struct held_call {
    struct rpc_call_events events;
    struct fixture *fixture;
    struct rpc_call *call;
    uint32_t sent;
    uint32_t count;
    char text[512];
};

static void
held_cancelled(struct rpc_call_events *events)
{
    struct held_call *held = container_of(events, struct held_call, events);
    assert_true(rpc_call_is_cancelled(held->call));
    held->fixture->cancelled++;
    held->fixture->held--;
    rpc_call_fail_text(held->call, RPC_CANCELLED, NULL, "cancelled");
    free(held);
}

/* Sends until the queue is full or all is sent. */
static void
held_send(struct rpc_call_events *events)
{
    struct held_call *held = container_of(events, struct held_call, events);
    Weft__V1__WatchVolumesResponse response =
        WEFT__V1__WATCH_VOLUMES_RESPONSE__INIT;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    response.volume = &volume;
    volume.name = held->text;
    while (held->sent < held->count) {
        volume.epoch = held->sent;
        int result = rpc_stream_send(held->call, &response.base);
        if (result == -EAGAIN) {
            return;
        }
        if (result == -ECANCELED) {
            return; /* held_cancelled() follows. */
        }
        assert_int_equal(result, 0);
        held->sent++;
    }
    if (held->count == UINT32_MAX) {
        return;
    }
    held->fixture->held--;
    rpc_stream_finish(held->call);
    free(held);
}

static struct held_call *
hold(struct fixture *fixture, struct rpc_call *call)
{
    struct held_call *held = calloc(1, sizeof *held);
    assert_non_null(held);
    held->fixture = fixture;
    held->call = call;
    held->events.cancelled = held_cancelled;
    held->events.writable = held_send;
    memset(held->text, 'v', sizeof held->text - 1);
    fixture->held++;
    return held;
}

void *
fixture_reply(void *argument)
{
    struct rpc_call *call = argument;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    volume.epoch = 4711;
    rpc_call_reply(call, &volume.base);
    return NULL;
}

static void
handle_get(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct fixture *fixture =
        container_of(rpc_call_service(call), struct fixture, service);
    const Weft__V1__GetVolumeRequest *request =
        (const Weft__V1__GetVolumeRequest *)(const void *)message;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    struct rpc_error error;

    assert_string_equal(rpc_call_method(call), "GetVolume");
    fixture->peers[rpc_call_peer(call)->transport] = *rpc_call_peer(call);
    fixture->gets++;
    if (strcmp(request->name, "fail") == 0) {
        rpc_error_set(&error, RPC_NOT_FOUND, "VOLUME_NOT_FOUND",
                      "there is no volume \"%s\" \xc3\xa4\n%%", request->name);
        rpc_error_set_resource(&error, "projects/p/volumes/fail");
        rpc_call_fail(call, &error);
    } else if (strcmp(request->name, "invalid") == 0) {
        rpc_error_set_invalid(&error);
        rpc_error_add_violation(&error, "name", "must not be \"%s\"",
                                request->name);
        rpc_call_fail(call, &error);
    } else if (strcmp(request->name, "hold") == 0) {
        struct held_call *held = hold(fixture, call);
        rpc_call_set_events(call, &held->events);
    } else if (strcmp(request->name, "park") == 0) {
        assert_null(fixture->parked);
        fixture->parked = call;
        fixture->held++;
    } else if (strcmp(request->name, "unpark") == 0) {
        fixture_reply(fixture->parked);
        fixture->parked = NULL;
        fixture->held--;
        rpc_call_reply(call, &volume.base);
    } else if (strcmp(request->name, "thread") == 0) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, fixture_reply, call), 0);
        pthread_detach(thread);
    } else {
        volume.name = request->name;
        volume.size_bytes = INT64_MIN;
        volume.epoch = rpc_call_deadline_ns(call) == UINT64_MAX ? 0 : 1;
        rpc_call_reply(call, &volume.base);
    }
}

static void
handle_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct fixture *fixture =
        container_of(rpc_call_service(call), struct fixture, service);
    const Weft__V1__WatchVolumesRequest *request =
        (const Weft__V1__WatchVolumesRequest *)(const void *)message;
    struct held_call *held = hold(fixture, call);
    uint64_t count;

    held->count = UINT32_MAX;
    if (strcmp(request->name, "idle") == 0) {
        rpc_call_set_events(call, &held->events);
        return;
    }
    if (strcmp(request->name, "endless") != 0) {
        assert_int_equal(units_parse_u64(request->name, &count), 0);
        held->count = (uint32_t)count;
    }
    rpc_call_set_events(call, &held->events);
    held_send(&held->events);
}

static const struct rpc_method methods[] = {
    { "GetVolume", RPC_UNARY, handle_get },
    { "WatchVolumes", RPC_SERVER_STREAM, handle_watch },
};

static enum rpc_code
authorize(struct rpc_authorizer *authorizer, const struct rpc_peer *peer,
          const char *method)
{
    struct fixture *fixture =
        container_of(authorizer, struct fixture, authorizer);
    (void)fixture;
    if (strcmp(method, "/weft.v1.VolumeService/DetachVolume") == 0) {
        return peer->transport == RPC_TRANSPORT_UNIX ? RPC_OK
                                                     : RPC_PERMISSION_DENIED;
    }
    return RPC_OK;
}

static void
on_stopped(struct rpc_server_events *events)
{
    struct fixture *fixture = container_of(events, struct fixture, events);
    fixture->stopped++;
}

static void *
queue_thread(void *argument)
{
    struct fixture *fixture = argument;
    for (;;) {
        struct pollfd polls[] = {
            { .fd = rpc_queue_fd(&fixture->queue), .events = POLLIN },
            { .fd = fixture->stop_fd, .events = POLLIN },
        };
        poll(polls, ARRAY_COUNT(polls), -1);
        rpc_queue_run(&fixture->queue);
        if (polls[1].revents != 0) {
            rpc_queue_run(&fixture->queue);
            return NULL;
        }
    }
}

void
fixture_start(struct fixture *fixture, uint32_t call_count_max)
{
    struct err err = { "" };
    char listen_unix[64];

    memset(fixture, 0, sizeof *fixture);
    snprintf(fixture->folder, sizeof fixture->folder, "%s",
             "/tmp/weft-rpc-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(listen_unix, sizeof listen_unix, "unix:%s/s", fixture->folder);
    memcpy(fixture->unix_endpoint, listen_unix, sizeof listen_unix);
    assert_int_equal(rpc_queue_init(&fixture->queue), 0);
    fixture->stop_fd = eventfd(0, EFD_CLOEXEC);
    fixture->service = (struct rpc_service){
        .descriptor = &SERVICE,
        .methods = methods,
        .method_count = ARRAY_COUNT(methods),
        .executor = &fixture->queue.executor,
    };
    fixture->authorizer.authorize = authorize;
    fixture->events.stopped = on_stopped;
    assert_int_equal(pthread_create(&fixture->thread, NULL, queue_thread,
                                    fixture),
                     0);

    struct rpc_service *services[] = { &fixture->service, NULL };
    const char *const listen[] = { listen_unix, "tcp:127.0.0.1:0", NULL };
    const struct rpc_server_options options = {
        .listen = listen,
        .services = services,
        .descriptors = &weft_v1_descriptors,
        .authorizer = &fixture->authorizer,
        .call_count_max = call_count_max,
        .events = &fixture->events,
        .executor = &fixture->queue.executor,
    };
    if (rpc_server_start(&options, &fixture->server, &err) < 0) {
        fail_msg("%s", err.text);
    }
    snprintf(fixture->tcp_endpoint, sizeof fixture->tcp_endpoint,
             "tcp:127.0.0.1:%u", rpc_server_port(fixture->server, 0));
}

void
fixture_stop(struct fixture *fixture)
{
    uint64_t one = 1;
    rpc_server_free(fixture->server);
    assert_int_equal(write(fixture->stop_fd, &one, sizeof one), sizeof one);
    pthread_join(fixture->thread, NULL);
    assert_int_equal(fixture->held, 0);
    assert_int_equal(fixture->stopped, 1);
    rpc_queue_done(&fixture->queue);
    close(fixture->stop_fd);
    assert_int_equal(access(fixture->unix_endpoint + 5, F_OK), -1);
    rmdir(fixture->folder);
}

struct rpc_channel *
fixture_channel(const char *endpoint)
{
    struct rpc_channel *channel;
    struct err err = { "" };
    if (rpc_channel_new(endpoint, &channel, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return channel;
}

int
fixture_get(struct rpc_channel *channel, const char *name, uint64_t timeout_ns,
            int64_t *ret_epoch, struct rpc_error *error)
{
    Weft__V1__GetVolumeRequest request = WEFT__V1__GET_VOLUME_REQUEST__INIT;
    ProtobufCMessage *reply;
    request.name = (char *)name;
    int result = rpc_channel_call(channel, &SERVICE, "GetVolume", &request.base,
                                  timeout_ns, &reply, error);
    if (result == 0) {
        const Weft__V1__Volume *volume =
            (const Weft__V1__Volume *)(const void *)reply;
        if (ret_epoch != NULL) {
            *ret_epoch = volume->epoch;
        }
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    return result;
}

struct rpc_reader *
fixture_watch(struct rpc_channel *channel, const char *name)
{
    Weft__V1__WatchVolumesRequest request =
        WEFT__V1__WATCH_VOLUMES_REQUEST__INIT;
    struct rpc_reader *reader;
    request.name = (char *)name;
    assert_int_equal(rpc_reader_open(channel, &SERVICE, "WatchVolumes",
                                     &request.base, TIMEOUT, &reader, NULL),
                     0);
    return reader;
}

uint32_t
fixture_read_all(struct rpc_reader *reader, int *ret_result)
{
    uint32_t count = 0;
    ProtobufCMessage *message;
    int result;
    while ((result = rpc_reader_next(reader, &message, NULL)) == 1) {
        const Weft__V1__WatchVolumesResponse *response =
            (const Weft__V1__WatchVolumesResponse *)(const void *)message;
        assert_int_equal(response->volume->epoch, count);
        count++;
        protobuf_c_message_free_unpacked(message, NULL);
    }
    *ret_result = result;
    return count;
}

void
fixture_wait(const atomic_int *value, int wanted)
{
    for (uint32_t i = 0; *value != wanted; i++) {
        const struct timespec pause = { .tv_nsec = NS_PER_MS };
        if (i > 20000) {
            fail_msg("waited in vain");
        }
        nanosleep(&pause, NULL);
    }
}

static void *
getter_thread(void *argument)
{
    struct getter *getter = argument;
    getter->result = fixture_get(getter->channel, getter->name, TIMEOUT,
                                 &getter->epoch, NULL);
    return NULL;
}

void
getter_start(struct getter *getter, struct rpc_channel *channel,
             const char *name)
{
    getter->channel = channel;
    getter->name = name;
    assert_int_equal(pthread_create(&getter->thread, NULL, getter_thread,
                                    getter),
                     0);
}
