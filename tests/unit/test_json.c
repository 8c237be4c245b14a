/* SPDX-License-Identifier: Apache-2.0 */
/* Canonical proto3 JSON of every kind of field. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/json.h"
#include "google/protobuf/duration.pb-c.h"
#include "grpc/reflection/v1alpha/reflection.pb-c.h"
#include "proto/weft/v1/operation.pb-c.h"
#include "proto/weft/v1/volume.pb-c.h"

static char *
line_of(const ProtobufCMessage *message)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    json_print_line(file, message);
    fclose(file);
    return text;
}

static void
check(const ProtobufCMessage *message, const char *expected)
{
    char *text = line_of(message);
    assert_string_equal(text, expected);
    free(text);
}

static void
test_scalars(void **state)
{
    (void)state;
    Weft__V1__Progress progress = WEFT__V1__PROGRESS__INIT;
    check(&progress.base, "{\"done\":\"0\",\"total\":\"0\",\"unit\":\"\"}");
    progress.done = INT64_MIN;
    progress.total = INT64_MAX;
    progress.unit = (char *)"a\"\\\n\t\x7f\xc3\xa4";
    check(&progress.base, "{\"done\":\"-9223372036854775808\","
                          "\"total\":\"9223372036854775807\","
                          "\"unit\":\"a\\\"\\\\\\n\\u0009\\u007f\xc3\xa4\"}");

    Weft__V1__Replica replica = WEFT__V1__REPLICA__INIT;
    replica.state = (Weft__V1__Replica__State)77;
    check(&replica.base,
          "{\"uid\":\"\",\"disk\":\"\",\"host\":\"\",\"state\":77,"
          "\"stateReason\":\"\"}");

    Weft__V1__DetachVolumeRequest detach =
        WEFT__V1__DETACH_VOLUME_REQUEST__INIT;
    detach.force = 1;
    check(&detach.base, "{\"name\":\"\",\"force\":true,\"requestId\":\"\","
                        "\"host\":\"\"}");
}

static void
test_messages(void **state)
{
    (void)state;
    Weft__V1__WaitOperationRequest wait =
        WEFT__V1__WAIT_OPERATION_REQUEST__INIT;
    Google__Protobuf__Duration duration = GOOGLE__PROTOBUF__DURATION__INIT;
    check(&wait.base, "{\"name\":\"\"}");
    wait.timeout = &duration;
    check(&wait.base, "{\"name\":\"\",\"timeout\":\"0s\"}");
    duration.seconds = 1;
    duration.nanos = 500000000;
    check(&duration.base, "\"1.500s\"");
    duration.seconds = 0;
    duration.nanos = -1;
    check(&duration.base, "\"-0.000000001s\"");

    Weft__V1__Mirror mirror = WEFT__V1__MIRROR__INIT;
    Weft__V1__Replica replicas[2] = { WEFT__V1__REPLICA__INIT,
                                      WEFT__V1__REPLICA__INIT };
    Weft__V1__Replica *pointers[] = { &replicas[0], &replicas[1] };
    mirror.n_replicas = 2;
    mirror.replicas = pointers;
    char *text = line_of(&mirror.base);
    assert_non_null(strstr(text, "\"replicas\":[{\"uid\""));
    assert_non_null(strstr(text, "},{\"uid\""));
    free(text);
}

/* Bytes, and a oneof of which one member is set. */
static void
test_oneof(void **state)
{
    (void)state;
    Grpc__Reflection__V1alpha__ServerReflectionRequest request =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__INIT;
    check(&request.base, "{\"host\":\"\"}");
    request.message_request_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME;
    request.file_by_filename = (char *)"x";
    check(&request.base, "{\"host\":\"\",\"fileByFilename\":\"x\"}");

    Grpc__Reflection__V1alpha__FileDescriptorResponse files =
        GRPC__REFLECTION__V1ALPHA__FILE_DESCRIPTOR_RESPONSE__INIT;
    uint8_t bytes[] = { 0xff, 0, 'a', 'b' };
    ProtobufCBinaryData data[] = {
        { 0, bytes }, { 1, bytes }, { 2, bytes }, { 3, bytes }, { 4, bytes },
    };
    files.n_file_descriptor_proto = 5;
    files.file_descriptor_proto = data;
    check(&files.base, "{\"fileDescriptorProto\":[\"\",\"/w==\",\"/wA=\","
                       "\"/wBh\",\"/wBhYg==\"]}");
}

static void
test_times(void **state)
{
    (void)state;
    char text[JSON_TIME_SIZE];
    json_format_time(0, 0, text);
    assert_string_equal(text, "1970-01-01T00:00:00Z");
    json_format_time(1700000000, 123456789, text);
    assert_string_equal(text, "2023-11-14T22:13:20.123456789Z");
    json_format_time(INT64_C(253402300799), 1000, text);
    assert_string_equal(text, "9999-12-31T23:59:59.000001Z");
    json_format_time(INT64_MAX, 0, text);
    assert_string_equal(text, "");
    json_format_time(INT64_MIN, 0, text);
    assert_string_equal(text, "");
    json_format_time(0, -1, text);
    assert_string_equal(text, "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_oneof),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
