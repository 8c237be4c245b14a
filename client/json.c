/* SPDX-License-Identifier: Apache-2.0 */
#include "client/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "lib/base/check.h"

/* 0001-01-01 and 9999-12-31: the range of Timestamp. */
#define JSON_TIME_MIN INT64_C(-62135596800)
#define JSON_TIME_MAX INT64_C(253402300799)

struct json {
    FILE *file;
    uint32_t level;
    bool is_line; /* No newlines. */
};

static void json_message(struct json *json, const ProtobufCMessage *message);

static void
json_break(const struct json *json)
{
    if (json->is_line) {
        return;
    }
    fputc('\n', json->file);
    for (uint32_t i = 0; i < json->level; i++) {
        fputs("  ", json->file);
    }
}

void
json_print_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            fprintf(file, "\\%c", c);
        } else if (c == '\n') {
            fputs("\\n", file);
        } else if (c < ' ' || c == 0x7f) {
            fprintf(file, "\\u%04x", c);
        } else {
            fputc(c, file);
        }
    }
    fputc('"', file);
}

/* "size_bytes" becomes "sizeBytes". */
static void
json_name(FILE *file, const char *name)
{
    fputc('"', file);
    for (; *name != '\0'; name++) {
        if (*name == '_' && name[1] >= 'a' && name[1] <= 'z') {
            name++;
            fputc(*name - 'a' + 'A', file);
        } else if (*name != '_') {
            fputc(*name, file);
        }
    }
    fputc('"', file);
}

static void
json_bytes(FILE *file, const ProtobufCBinaryData *bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789+/";
    fputc('"', file);
    for (size_t i = 0; i < bytes->len; i += 3) {
        size_t left = bytes->len - i;
        uint32_t group = (uint32_t)bytes->data[i] << 16;
        group |= left > 1 ? (uint32_t)bytes->data[i + 1] << 8 : 0;
        group |= left > 2 ? bytes->data[i + 2] : 0;
        fputc(digits[group >> 18], file);
        fputc(digits[group >> 12 & 63], file);
        fputc(left > 1 ? digits[group >> 6 & 63] : '=', file);
        fputc(left > 2 ? digits[group & 63] : '=', file);
    }
    fputc('"', file);
}

/* Appends '.' and as many of 3, 6 or 9 digits as are needed, or nothing. */
static size_t
json_format_nanos(int32_t nanos, char *ret_text, size_t room)
{
    if (nanos == 0) {
        ret_text[0] = '\0';
        return 0;
    }
    int size;
    if (nanos % 1000000 == 0) {
        size = snprintf(ret_text, room, ".%03" PRId32, nanos / 1000000);
    } else if (nanos % 1000 == 0) {
        size = snprintf(ret_text, room, ".%06" PRId32, nanos / 1000);
    } else {
        size = snprintf(ret_text, room, ".%09" PRId32, nanos);
    }
    return (size_t)size;
}

void
json_format_time(int64_t seconds, int32_t nanos, char ret_text[JSON_TIME_SIZE])
{
    time_t time = seconds;
    struct tm parts;
    char fraction[16];

    if (seconds < JSON_TIME_MIN || seconds > JSON_TIME_MAX || nanos < 0 ||
        nanos > 999999999 || gmtime_r(&time, &parts) == NULL) {
        ret_text[0] = '\0';
        return;
    }
    json_format_nanos(nanos, fraction, sizeof fraction);
    size_t size =
        strftime(ret_text, JSON_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(ret_text + size, JSON_TIME_SIZE - size, "%sZ", fraction);
}

static void
json_timestamp(FILE *file, const Google__Protobuf__Timestamp *timestamp)
{
    char text[JSON_TIME_SIZE];
    json_format_time(timestamp->seconds, timestamp->nanos, text);
    fprintf(file, "\"%s\"", text);
}

static void
json_duration(FILE *file, const Google__Protobuf__Duration *duration)
{
    char fraction[16];
    bool is_negative = duration->seconds < 0 || duration->nanos < 0;
    int32_t nanos = duration->nanos % 1000000000;
    json_format_nanos(nanos < 0 ? -nanos : nanos, fraction, sizeof fraction);
    uint64_t seconds = duration->seconds < 0 ? 0 - (uint64_t)duration->seconds
                                             : (uint64_t)duration->seconds;
    fprintf(file, "\"%s%" PRIu64 "%ss\"", is_negative ? "-" : "", seconds,
            fraction);
}

static void
json_double(FILE *file, double value)
{
    if (isnan(value)) {
        fputs("\"NaN\"", file);
    } else if (isinf(value)) {
        fputs(value < 0 ? "\"-Infinity\"" : "\"Infinity\"", file);
    } else {
        fprintf(file, "%.17g", value);
    }
}

static void
json_enum(FILE *file, const ProtobufCEnumDescriptor *descriptor, int value)
{
    const ProtobufCEnumValue *known =
        protobuf_c_enum_descriptor_get_value(descriptor, value);
    if (known != NULL) {
        json_print_text(file, known->name);
    } else {
        fprintf(file, "%d", value);
    }
}

/* Copy a member out, whatever its type is beside it: nothing is cast. */
#define JSON_DEFINE_READ(name, type)               \
    static type json_read_##name(const void *data) \
    {                                              \
        type value;                                \
        memcpy(&value, data, sizeof value);        \
        return value;                              \
    }

JSON_DEFINE_READ(i32, int32_t)
JSON_DEFINE_READ(u32, uint32_t)
JSON_DEFINE_READ(i64, int64_t)
JSON_DEFINE_READ(u64, uint64_t)
JSON_DEFINE_READ(float, float)
JSON_DEFINE_READ(double, double)
JSON_DEFINE_READ(bool, protobuf_c_boolean)
JSON_DEFINE_READ(size, size_t)
JSON_DEFINE_READ(bytes, ProtobufCBinaryData)
JSON_DEFINE_READ(pointer, const void *)

static void
json_value(struct json *json, const ProtobufCFieldDescriptor *field,
           const void *data)
{
    FILE *file = json->file;

    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        fprintf(file, "%" PRId32, json_read_i32(data));
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        fprintf(file, "%" PRIu32, json_read_u32(data));
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        fprintf(file, "\"%" PRId64 "\"", json_read_i64(data));
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        fprintf(file, "\"%" PRIu64 "\"", json_read_u64(data));
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        json_double(file, (double)json_read_float(data));
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        json_double(file, json_read_double(data));
        return;
    case PROTOBUF_C_TYPE_BOOL:
        fputs(json_read_bool(data) ? "true" : "false", file);
        return;
    case PROTOBUF_C_TYPE_ENUM:
        json_enum(file, field->descriptor, json_read_i32(data));
        return;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = json_read_pointer(data);
        json_print_text(file, text != NULL ? text : "");
        return;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData bytes = json_read_bytes(data);
        json_bytes(file, &bytes);
        return;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        json_message(json, json_read_pointer(data));
        return;
    }
}

/* Bytes that an element of a repeated field takes. */
static size_t
json_element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    return 0;
}

static void
json_array(struct json *json, const ProtobufCFieldDescriptor *field,
           const char *data, size_t count)
{
    size_t size = json_element_size(field->type);

    fputc('[', json->file);
    json->level++;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            fputc(',', json->file);
        }
        json_break(json);
        json_value(json, field, data + i * size);
    }
    json->level--;
    if (count > 0) {
        json_break(json);
    }
    fputc(']', json->file);
}

/* Whether a field that is not repeated is printed. */
static bool
json_is_present(const ProtobufCMessage *message,
                const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return json_read_u32(base + field->quantifier_offset) == field->id;
    }
    return field->type != PROTOBUF_C_TYPE_MESSAGE ||
           json_read_pointer(base + field->offset) != NULL;
}

static void
json_fields(struct json *json, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const char *base = (const char *)message;
    bool is_first = true;

    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        bool is_repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        if (!is_repeated && !json_is_present(message, field)) {
            continue;
        }
        if (!is_first) {
            fputc(',', json->file);
        }
        is_first = false;
        json_break(json);
        json_name(json->file, field->name);
        fputs(json->is_line ? ":" : ": ", json->file);
        if (is_repeated) {
            json_array(json, field, json_read_pointer(base + field->offset),
                       json_read_size(base + field->quantifier_offset));
        } else {
            json_value(json, field, base + field->offset);
        }
    }
}

static void
json_message(struct json *json, const ProtobufCMessage *message)
{
    if (message->descriptor == &google__protobuf__timestamp__descriptor) {
        json_timestamp(json->file, (const void *)message);
        return;
    }
    if (message->descriptor == &google__protobuf__duration__descriptor) {
        json_duration(json->file, (const void *)message);
        return;
    }
    fputc('{', json->file);
    json->level++;
    json_fields(json, message);
    json->level--;
    if (message->descriptor->n_fields > 0) {
        json_break(json);
    }
    fputc('}', json->file);
}

void
json_print_message(FILE *file, const ProtobufCMessage *message, uint32_t level)
{
    struct json json = { .file = file, .level = level };
    json_message(&json, message);
}

void
json_print_line(FILE *file, const ProtobufCMessage *message)
{
    struct json json = { .file = file, .is_line = true };
    json_message(&json, message);
}
