/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/rpc/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "lib/base/array.h"
#include "lib/rpc/wire.h"

#define ERROR_TYPE_PREFIX "type.googleapis.com/"
#define ERROR_INFO_TYPE ERROR_TYPE_PREFIX "google.rpc.ErrorInfo"
#define ERROR_BAD_REQUEST_TYPE ERROR_TYPE_PREFIX "google.rpc.BadRequest"
#define ERROR_DOMAIN "weft"
#define ERROR_RESOURCE_KEY "resource"
#define ERROR_DETAIL_MAX 2
/* A google.rpc.Status of ours has far fewer fields. */
#define ERROR_FIELD_MAX 1024

const char *
rpc_code_name(enum rpc_code code)
{
    static const char *const names[] = {
        [RPC_OK] = "OK",
        [RPC_CANCELLED] = "CANCELLED",
        [RPC_UNKNOWN] = "UNKNOWN",
        [RPC_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
        [RPC_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
        [RPC_NOT_FOUND] = "NOT_FOUND",
        [RPC_ALREADY_EXISTS] = "ALREADY_EXISTS",
        [RPC_PERMISSION_DENIED] = "PERMISSION_DENIED",
        [RPC_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
        [RPC_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
        [RPC_ABORTED] = "ABORTED",
        [RPC_OUT_OF_RANGE] = "OUT_OF_RANGE",
        [RPC_UNIMPLEMENTED] = "UNIMPLEMENTED",
        [RPC_INTERNAL] = "INTERNAL",
        [RPC_UNAVAILABLE] = "UNAVAILABLE",
        [RPC_DATA_LOSS] = "DATA_LOSS",
        [RPC_UNAUTHENTICATED] = "UNAUTHENTICATED",
    };
    size_t index = (size_t)code;
    return index < ARRAY_COUNT(names) ? names[index] : "UNKNOWN";
}

int
rpc_code_to_errno(enum rpc_code code)
{
    static const int numbers[] = {
        [RPC_OK] = 0,
        [RPC_CANCELLED] = -ECANCELED,
        [RPC_UNKNOWN] = -EIO,
        [RPC_INVALID_ARGUMENT] = -EINVAL,
        [RPC_DEADLINE_EXCEEDED] = -ETIMEDOUT,
        [RPC_NOT_FOUND] = -ENOENT,
        [RPC_ALREADY_EXISTS] = -EEXIST,
        [RPC_PERMISSION_DENIED] = -EACCES,
        [RPC_RESOURCE_EXHAUSTED] = -ENOBUFS,
        [RPC_FAILED_PRECONDITION] = -EBUSY,
        [RPC_ABORTED] = -EAGAIN,
        [RPC_OUT_OF_RANGE] = -ERANGE,
        [RPC_UNIMPLEMENTED] = -ENOSYS,
        [RPC_INTERNAL] = -EIO,
        [RPC_UNAVAILABLE] = -EHOSTUNREACH,
        [RPC_DATA_LOSS] = -EBADMSG,
        [RPC_UNAUTHENTICATED] = -EACCES,
    };
    size_t index = (size_t)code;
    return index < ARRAY_COUNT(numbers) ? numbers[index] : -EIO;
}

void
rpc_error_set(struct rpc_error *error, enum rpc_code code, const char *reason,
              const char *format, ...)
{
    va_list arguments;

    error->code = code;
    error->resource[0] = '\0';
    error->violation_count = 0;
    snprintf(error->reason, sizeof error->reason, "%s",
             reason != NULL ? reason : "");
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
}

void
rpc_error_set_resource(struct rpc_error *error, const char *name)
{
    snprintf(error->resource, sizeof error->resource, "%s", name);
}

void
rpc_error_set_invalid(struct rpc_error *error)
{
    rpc_error_set(error, RPC_INVALID_ARGUMENT, "INVALID_ARGUMENT", "%s", "");
}

void
rpc_error_add_violation(struct rpc_error *error, const char *field,
                        const char *format, ...)
{
    va_list arguments;

    if (error->violation_count == RPC_ERROR_VIOLATION_MAX) {
        return;
    }
    struct rpc_violation *violation =
        &error->violations[error->violation_count++];
    snprintf(violation->field, sizeof violation->field, "%s", field);
    va_start(arguments, format);
    vsnprintf(violation->text, sizeof violation->text, format, arguments);
    va_end(arguments);
    if (error->text[0] == '\0') {
        snprintf(error->text, sizeof error->text, "%s: %s", violation->field,
                 violation->text);
    }
}

/* ---- To the wire ---- */

/* protobuf-c's structs take 'char *' and do not write through it. */
static char *
error_text(const char *text)
{
    union {
        const char *from;
        char *to;
    } both = { .from = text };
    return both.to;
}

/* Packs 'message' into '*ret_any'; its value is to be freed. */
static int
error_pack_any(const char *type, const ProtobufCMessage *message,
               Google__Protobuf__Any *ret_any)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *data = malloc(size + 1); /* Not 0 bytes. */
    if (data == NULL) {
        return -ENOMEM;
    }
    protobuf_c_message_pack(message, data);
    google__protobuf__any__init(ret_any);
    ret_any->type_url = error_text(type);
    ret_any->value.data = data;
    ret_any->value.len = size;
    return 0;
}

static int
error_pack_info(const struct rpc_error *error, Google__Protobuf__Any *ret_any)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry entry =
        GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry *entries[] = { &entry };

    info.reason = error_text(error->reason);
    info.domain = error_text(ERROR_DOMAIN);
    if (error->resource[0] != '\0') {
        entry.key = error_text(ERROR_RESOURCE_KEY);
        entry.value = error_text(error->resource);
        info.n_metadata = 1;
        info.metadata = entries;
    }
    return error_pack_any(ERROR_INFO_TYPE, &info.base, ret_any);
}

static int
error_pack_bad_request(const struct rpc_error *error,
                       Google__Protobuf__Any *ret_any)
{
    Google__Rpc__BadRequest request = GOOGLE__RPC__BAD_REQUEST__INIT;
    Google__Rpc__BadRequest__FieldViolation violations[RPC_ERROR_VIOLATION_MAX];
    Google__Rpc__BadRequest__FieldViolation *pointers[RPC_ERROR_VIOLATION_MAX];

    for (uint32_t i = 0; i < error->violation_count; i++) {
        google__rpc__bad_request__field_violation__init(&violations[i]);
        violations[i].field = error_text(error->violations[i].field);
        violations[i].description = error_text(error->violations[i].text);
        pointers[i] = &violations[i];
    }
    request.n_field_violations = error->violation_count;
    request.field_violations = pointers;
    return error_pack_any(ERROR_BAD_REQUEST_TYPE, &request.base, ret_any);
}

int
rpc_error_encode(const struct rpc_error *error, uint8_t **ret_data,
                 size_t *ret_size)
{
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    Google__Protobuf__Any details[ERROR_DETAIL_MAX];
    Google__Protobuf__Any *pointers[ERROR_DETAIL_MAX];
    size_t count = 0;
    int result = 0;
    uint8_t *data = NULL;

    if (error->reason[0] != '\0' || error->resource[0] != '\0') {
        result = error_pack_info(error, &details[count]);
        if (result < 0) {
            goto out;
        }
        pointers[count] = &details[count];
        count++;
    }
    if (error->violation_count > 0) {
        result = error_pack_bad_request(error, &details[count]);
        if (result < 0) {
            goto out;
        }
        pointers[count] = &details[count];
        count++;
    }
    status.code = (int32_t)error->code;
    status.message = error_text(error->text);
    status.n_details = count;
    status.details = pointers;
    size_t size = google__rpc__status__get_packed_size(&status);
    data = malloc(size + 1);
    if (data == NULL) {
        result = -ENOMEM;
        goto out;
    }
    google__rpc__status__pack(&status, data);
    *ret_data = data;
    *ret_size = size;
out:
    for (size_t i = 0; i < count; i++) {
        free(details[i].value.data);
    }
    return result;
}

/* ---- From the wire ---- */

static void
error_unpack_info(struct rpc_error *error, const Google__Protobuf__Any *any)
{
    ProtobufCMessage *message =
        rpc_wire_unpack(&google__rpc__error_info__descriptor, any->value.data,
                        any->value.len, ERROR_FIELD_MAX);
    if (message == NULL) {
        return;
    }
    const Google__Rpc__ErrorInfo *info =
        (const Google__Rpc__ErrorInfo *)(const void *)message;
    snprintf(error->reason, sizeof error->reason, "%s", info->reason);
    for (size_t i = 0; i < info->n_metadata; i++) {
        if (strcmp(info->metadata[i]->key, ERROR_RESOURCE_KEY) == 0) {
            rpc_error_set_resource(error, info->metadata[i]->value);
        }
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

static void
error_unpack_bad_request(struct rpc_error *error,
                         const Google__Protobuf__Any *any)
{
    ProtobufCMessage *message =
        rpc_wire_unpack(&google__rpc__bad_request__descriptor, any->value.data,
                        any->value.len, ERROR_FIELD_MAX);
    if (message == NULL) {
        return;
    }
    const Google__Rpc__BadRequest *request =
        (const Google__Rpc__BadRequest *)(const void *)message;
    for (size_t i = 0; i < request->n_field_violations; i++) {
        rpc_error_add_violation(error, request->field_violations[i]->field,
                                "%s",
                                request->field_violations[i]->description);
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

void
rpc_error_decode(struct rpc_error *error, enum rpc_code code, const char *text,
                 const void *data, size_t size)
{
    rpc_error_set(error, code, NULL, "%s", text);
    ProtobufCMessage *message =
        size == 0 ? NULL
                  : rpc_wire_unpack(&google__rpc__status__descriptor, data,
                                    size, ERROR_FIELD_MAX);
    if (message == NULL) {
        return;
    }
    const Google__Rpc__Status *status =
        (const Google__Rpc__Status *)(const void *)message;
    for (size_t i = 0; i < status->n_details; i++) {
        const Google__Protobuf__Any *any = status->details[i];
        if (strcmp(any->type_url, ERROR_INFO_TYPE) == 0) {
            error_unpack_info(error, any);
        } else if (strcmp(any->type_url, ERROR_BAD_REQUEST_TYPE) == 0) {
            error_unpack_bad_request(error, any);
        }
    }
    protobuf_c_message_free_unpacked(message, NULL);
}
