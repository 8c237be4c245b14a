/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLI_TABLE_H
#define CLIENT_CLI_TABLE_H

/* A table for people: columns as wide as their widest cell, two blanks between
 * them, no lines.  Cells are copied; control characters in them, which could
 * come from anywhere, are shown as '?'. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "google/protobuf/timestamp.pb-c.h"
#include "lib/base/check.h"

struct table {
    size_t columns;
    size_t count; /* Cells. */
    size_t room;
    char **cells; /* Row by row; the first row is the header. */
};

/* 'header' is a list of titles that ends with NULL. */
void table_init(struct table *table, const char *const *header);
void table_done(struct table *table);

/* Adds the next cell; NULL and "" become "-". */
void table_add(struct table *table, const char *text);
void table_add_format(struct table *table, const char *format, ...)
    WEFT_PRINTF(2, 3);

/* "20G", "1.5G" for people. */
#define TABLE_TEXT_SIZE 64
void table_format_size(uint64_t bytes, char ret_text[TABLE_TEXT_SIZE]);
void table_add_size(struct table *table, int64_t bytes);

/* Local time; "" for NULL. */
void table_format_time(const Google__Protobuf__Timestamp *time,
                       char ret_text[TABLE_TEXT_SIZE]);
void table_add_time(struct table *table,
                    const Google__Protobuf__Timestamp *time);

/* The name of an enum's value, in lower case, without the prefix. */
void table_format_enum(const ProtobufCEnumDescriptor *descriptor, int value,
                       const char *prefix, char ret_text[TABLE_TEXT_SIZE]);
void table_add_enum(struct table *table,
                    const ProtobufCEnumDescriptor *descriptor, int value);

void table_print(const struct table *table, FILE *file);

/* Text from elsewhere, on one line and without control characters. */
void table_print_text(FILE *file, const char *text);

#endif /* CLIENT_CLI_TABLE_H */
