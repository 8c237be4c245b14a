/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused before protobuf-c sees it; errors to the wire and back; the
 * rule about descriptor numbers; the queue. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/array.h"
#include "lib/base/container_of.h"
#include "lib/base/rng.h"
#include "lib/rpc/error.h"
#include "lib/rpc/executor.h"
#include "lib/rpc/unix_listener.h"
#include "lib/rpc/wire.h"
#include "proto/weft/v1/volume.pb-c.h"

static int
check(const ProtobufCMessageDescriptor *descriptor, const char *bytes,
      size_t size)
{
    const char *field = NULL;
    uint8_t *exact = calloc(1, size + 1); /* For ASan. */
    memcpy(exact, bytes, size);
    int result =
        rpc_wire_check(descriptor, exact, size, RPC_WIRE_FIELD_MAX, &field);
    free(exact);
    return result;
}

#define GET(bytes) \
    check(&weft__v1__get_volume_request__descriptor, bytes, sizeof bytes - 1)
#define CREATE(bytes) \
    check(&weft__v1__create_volume_request__descriptor, bytes, sizeof bytes - 1)

static void
test_wire_good(void **state)
{
    (void)state;
    assert_int_equal(GET(""), 0);
    assert_int_equal(GET("\x0a\x03"
                         "abc"),
                     0);
    assert_int_equal(GET("\x0a\x00"), 0);
    assert_int_equal(GET("\x0a\x02\xc3\xa4\x10\x01"), 0);
    /* Unknown fields of every type. */
    assert_int_equal(GET("\x78\x05\x7d"
                         "abcd"
                         "\x79"
                         "abcdefgh"
                         "\x7a\x01z"),
                     0);
    /* volume { size_bytes: 1 } */
    assert_int_equal(CREATE("\x1a\x02\x20\x01"), 0);
}

static void
test_wire_bad(void **state)
{
    (void)state;
    assert_int_equal(GET("\x0a"), -EBADMSG); /* No length. */
    assert_int_equal(GET("\x0a\x05"
                         "abc"),
                     -EBADMSG);                              /* Too long. */
    assert_int_equal(GET("\x08\x01"), -EBADMSG);             /* Wrong type. */
    assert_int_equal(GET("\x0a\x01\xff"), -EBADMSG);         /* UTF-8: */
    assert_int_equal(GET("\x0a\x02\xc0\x80"), -EBADMSG);     /* overlong, */
    assert_int_equal(GET("\x0a\x03\xed\xa0\x80"), -EBADMSG); /* surrogate, */
    assert_int_equal(GET("\x0a\x04\xf4\x90\x80\x80"), -EBADMSG);
    assert_int_equal(GET("\x0a\x02\xe2\x82"), -EBADMSG); /* cut. */
    assert_int_equal(GET("\x0a\x03"
                         "a\0b"),
                     -EBADMSG);                  /* NUL. */
    assert_int_equal(GET("\x02\x00"), -EBADMSG); /* Field 0. */
    assert_int_equal(GET("\x7b\x7c"), -EBADMSG); /* A group. */
    assert_int_equal(GET("\x7f\x01"), -EBADMSG); /* No such type. */
    assert_int_equal(GET("\x80\x80\x80\x80\x80\x01\x01"), -EBADMSG);
    assert_int_equal(GET("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                     -EBADMSG); /* An 11-byte varint. */
    assert_int_equal(GET("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                     -EBADMSG);
    /* volume { name: "\xff" } */
    assert_int_equal(CREATE("\x1a\x03\x0a\x01\xff"), -EBADMSG);
}

/* A megabyte of empty mirrors would become a hundred megabytes. */
static void
test_wire_many(void **state)
{
    (void)state;
    size_t count = 100000;
    uint8_t *data = malloc(count * 2);
    const char *field;
    for (size_t i = 0; i < count; i++) {
        data[2 * i] = 0x72; /* mirrors */
        data[2 * i + 1] = 0;
    }
    assert_int_equal(rpc_wire_check(&weft__v1__volume__descriptor, data,
                                    count * 2, RPC_WIRE_FIELD_MAX, &field),
                     -EBADMSG);
    assert_int_equal(rpc_wire_check(&weft__v1__volume__descriptor, data,
                                    count * 2, UINT32_MAX, &field),
                     0);
    free(data);
}

/* What passes the check can be unpacked. */
static void
test_wire_random(void **state)
{
    (void)state;
    struct rng rng;
    uint32_t passed = 0;
    Weft__V1__Volume volume = WEFT__V1__VOLUME__INIT;
    Weft__V1__Attachment attachment = WEFT__V1__ATTACHMENT__INIT;
    Weft__V1__Attachment *attachments[] = { &attachment };
    uint8_t good[256];
    volume.name = (char *)"projects/p/volumes/v";
    volume.size_bytes = INT64_C(1) << 40;
    volume.n_attachments = 1;
    volume.attachments = attachments;
    attachment.uri = (char *)"nbd://h/v";
    size_t good_size = weft__v1__volume__pack(&volume, good);

    rng_init(&rng, 7);
    for (uint32_t round = 0; round < 50000; round++) {
        size_t size = rng_between(&rng, 0, good_size);
        uint8_t *data = malloc(size + 1);
        memcpy(data, good, size);
        for (uint64_t i = rng_below(&rng, 4); i > 0 && size > 0; i--) {
            data[rng_below(&rng, size)] = (uint8_t)rng_below(&rng, 256);
        }
        const char *field;
        if (rpc_wire_check(&weft__v1__volume__descriptor, data, size,
                           RPC_WIRE_FIELD_MAX, &field) == 0) {
            ProtobufCMessage *message =
                protobuf_c_message_unpack(&weft__v1__volume__descriptor, NULL,
                                          size, data);
            assert_non_null(message);
            protobuf_c_message_free_unpacked(message, NULL);
            passed++;
        }
        free(data);
    }
    assert_true(passed > 100);
}

static void
test_error_round_trip(void **state)
{
    (void)state;
    struct rpc_error error, back;
    uint8_t *data;
    size_t size;

    rpc_error_set_invalid(&error);
    rpc_error_set_resource(&error, "projects/p/volumes/v");
    rpc_error_add_violation(&error, "volume.size_bytes", "is %d", -1);
    for (uint32_t i = 0; i < RPC_ERROR_VIOLATION_MAX + 3; i++) {
        rpc_error_add_violation(&error, "volume.pool", "is empty");
    }
    assert_string_equal(error.text, "volume.size_bytes: is -1");
    assert_int_equal(rpc_error_encode(&error, &data, &size), 0);
    rpc_error_decode(&back, RPC_INVALID_ARGUMENT, error.text, data, size);
    assert_string_equal(back.text, error.text);
    assert_string_equal(back.reason, "INVALID_ARGUMENT");
    assert_string_equal(back.resource, "projects/p/volumes/v");
    assert_int_equal(back.violation_count, RPC_ERROR_VIOLATION_MAX);
    assert_string_equal(back.violations[0].field, "volume.size_bytes");
    assert_string_equal(back.violations[1].text, "is empty");

    /* Damaged details are ignored, never fatal. */
    struct rng rng;
    rng_init(&rng, 3);
    for (uint32_t round = 0; round < 20000; round++) {
        data[rng_below(&rng, size)] = (uint8_t)rng_below(&rng, 256);
        rpc_error_decode(&back, RPC_UNKNOWN, "x", data,
                         rng_between(&rng, 0, size));
    }
    free(data);
    assert_int_equal(rpc_code_to_errno(RPC_NOT_FOUND), -ENOENT);
    assert_int_equal(rpc_code_to_errno((enum rpc_code)99), -EIO);
    assert_string_equal(rpc_code_name((enum rpc_code)99), "UNKNOWN");
}

/* Rule (1) of unix_listener.h. */
static void
test_unix_numbers(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct unix_numbers numbers;
    const struct unix_binding root = { .uid = 0, .gid = 0, .pid = 1 };
    const struct unix_binding user = { .uid = 1000, .gid = 1000, .pid = 2 };
    struct rpc_peer peer;
    int number;

    getrlimit(RLIMIT_NOFILE, &old);
    small = old;
    small.rlim_cur = 128;
    setrlimit(RLIMIT_NOFILE, &small);
    assert_int_equal(unix_numbers_init(&numbers), 0);
    assert_int_equal(numbers.first, 64);
    assert_int_equal(numbers.count, 64);

    /* Half of them were root's once. */
    for (int i = 0; i < 32; i++) {
        assert_int_equal(
            unix_numbers_take(&numbers, open("/dev/null", O_RDONLY | O_CLOEXEC),
                              &root, &number),
            0);
        assert_in_range(number, 64, 127);
        close(number);
    }
    /* A user gets all the others, and no more. */
    int taken[64];
    int count = 0;
    while (unix_numbers_take(&numbers, open("/dev/null", O_RDONLY | O_CLOEXEC),
                             &user, &number) == 0) {
        assert_true(unix_numbers_find(&numbers, number, &peer));
        assert_int_equal(peer.uid, 1000);
        assert_int_equal(peer.transport, RPC_TRANSPORT_UNIX);
        taken[count++] = number;
    }
    assert_int_equal(count, 32);
    for (int i = 0; i < count; i++) {
        close(taken[i]);
    }
    /* Root still finds its own. */
    assert_int_equal(unix_numbers_take(&numbers,
                                       open("/dev/null", O_RDONLY | O_CLOEXEC),
                                       &root, &number),
                     0);
    assert_true(unix_numbers_find(&numbers, number, &peer));
    assert_int_equal(peer.uid, 0);
    close(number);
    assert_false(unix_numbers_find(&numbers, 3, &peer));
    assert_false(unix_numbers_find(&numbers, 128, &peer));
    unix_numbers_done(&numbers);
    setrlimit(RLIMIT_NOFILE, &old);
}

struct counted {
    struct rpc_work work;
    struct rpc_queue *queue;
    int again;
    int *runs;
};

static void
counted_run(struct rpc_work *work)
{
    struct counted *counted = container_of(work, struct counted, work);
    (*counted->runs)++;
    if (counted->again-- > 0) {
        counted->queue->executor.post(&counted->queue->executor, work);
    }
}

static void
test_queue(void **state)
{
    (void)state;
    struct rpc_queue queue;
    int runs = 0;
    struct counted item = { { .run = counted_run }, &queue, 1, &runs };
    assert_int_equal(rpc_queue_init(&queue), 0);
    struct pollfd entry = { .fd = rpc_queue_fd(&queue), .events = POLLIN };
    assert_int_equal(poll(&entry, 1, 0), 0);
    queue.executor.post(&queue.executor, &item.work);
    assert_int_equal(poll(&entry, 1, 0), 1);
    rpc_queue_run(&queue);
    assert_int_equal(runs, 1); /* The second turn is another one's. */
    assert_int_equal(poll(&entry, 1, 0), 1);
    rpc_queue_run(&queue);
    assert_int_equal(runs, 2);
    assert_int_equal(poll(&entry, 1, 0), 0);
    rpc_queue_done(&queue);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_good),
        cmocka_unit_test(test_wire_bad),
        cmocka_unit_test(test_wire_many),
        cmocka_unit_test(test_wire_random),
        cmocka_unit_test(test_error_round_trip),
        cmocka_unit_test(test_unix_numbers),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
