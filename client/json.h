/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

/* Canonical proto3 JSON of any protobuf-c message.
 *
 * Names are lowerCamelCase, 64-bit integers are strings, enums are their names,
 * bytes are base64, Timestamp is RFC 3339 and Duration "1.5s".  Fields with
 * default values are printed, too, so that programs find what they look for;
 * messages that are absent, and members of a oneof that are not set, are
 * not. */

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <stdio.h>

/* Prints 'message' without a final newline; further lines are indented by
 * 'level' steps of two blanks. */
void json_print_message(FILE *file, const ProtobufCMessage *message,
                        uint32_t level);

/* The same on one line. */
void json_print_line(FILE *file, const ProtobufCMessage *message);

/* A quoted string. */
void json_print_text(FILE *file, const char *text);

/* "2025-03-01T12:00:00.5Z"; "" for what is out of range. */
#define JSON_TIME_SIZE 40
void json_format_time(int64_t seconds, int32_t nanos,
                      char ret_text[JSON_TIME_SIZE]);

#endif /* CLIENT_JSON_H */
