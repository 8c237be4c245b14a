/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/units.h"

void
table_init(struct table *table, const char *const *header)
{
    *table = (struct table){ .columns = 0 };
    for (; header[table->columns] != NULL; table->columns++) {
        table_add(table, header[table->columns]);
    }
}

void
table_done(struct table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = (struct table){ .columns = 0 };
}

void
table_add(struct table *table, const char *text)
{
    if (table->count == table->room) {
        table->room = table->room * 2 + 16;
        table->cells =
            reallocarray(table->cells, table->room, sizeof table->cells[0]);
        CHECK(table->cells != NULL);
    }
    char *cell = strdup(text == NULL || text[0] == '\0' ? "-" : text);
    CHECK(cell != NULL);
    for (char *c = cell; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '?';
        }
    }
    table->cells[table->count++] = cell;
}

void
table_add_format(struct table *table, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    table_add(table, text);
}

void
table_format_size(uint64_t bytes, char ret_text[TABLE_TEXT_SIZE])
{
    static const char units[] = "BKMGTPE";
    uint32_t unit = 0;
    uint64_t scale = 1;

    while (unit < 6 && bytes / scale >= 1024) {
        scale *= 1024;
        unit++;
    }
    uint64_t whole = bytes / scale;
    uint64_t tenth = scale >= 10 ? bytes % scale / (scale / 10) : 0;
    if (unit == 0 || bytes % scale == 0 || whole >= 100) {
        snprintf(ret_text, TABLE_TEXT_SIZE, "%llu%c", (unsigned long long)whole,
                 units[unit]);
    } else {
        snprintf(ret_text, TABLE_TEXT_SIZE, "%llu.%llu%c",
                 (unsigned long long)whole,
                 (unsigned long long)(tenth < 10 ? tenth : 9), units[unit]);
    }
}

void
table_add_size(struct table *table, int64_t bytes)
{
    char text[TABLE_TEXT_SIZE];
    table_format_size(bytes > 0 ? (uint64_t)bytes : 0, text);
    table_add(table, text);
}

void
table_format_time(const Google__Protobuf__Timestamp *timestamp,
                  char ret_text[TABLE_TEXT_SIZE])
{
    struct tm parts;

    ret_text[0] = '\0';
    if (timestamp != NULL) {
        time_t seconds = timestamp->seconds;
        if (localtime_r(&seconds, &parts) != NULL) {
            strftime(ret_text, TABLE_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &parts);
        }
    }
}

void
table_add_time(struct table *table,
               const Google__Protobuf__Timestamp *timestamp)
{
    char text[TABLE_TEXT_SIZE];
    table_format_time(timestamp, text);
    table_add(table, text);
}

void
table_format_enum(const ProtobufCEnumDescriptor *descriptor, int value,
                  const char *prefix, char ret_text[TABLE_TEXT_SIZE])
{
    const ProtobufCEnumValue *known =
        protobuf_c_enum_descriptor_get_value(descriptor, value);
    size_t prefix_size = strlen(prefix);

    if (value == 0) {
        ret_text[0] = '\0'; /* ..._UNSPECIFIED */
        return;
    }
    if (known == NULL) {
        snprintf(ret_text, TABLE_TEXT_SIZE, "%d", value);
        return;
    }
    const char *name = known->name;
    if (strncmp(name, prefix, prefix_size) == 0) {
        name += prefix_size;
    }
    snprintf(ret_text, TABLE_TEXT_SIZE, "%s", name);
    for (char *c = ret_text; *c != '\0'; c++) {
        if (*c >= 'A' && *c <= 'Z') {
            *c = (char)(*c - 'A' + 'a');
        } else if (*c == '_') {
            *c = '-';
        }
    }
}

void
table_add_enum(struct table *table, const ProtobufCEnumDescriptor *descriptor,
               int value)
{
    char text[TABLE_TEXT_SIZE];
    table_format_enum(descriptor, value, "", text);
    table_add(table, text);
}

/* Characters, not bytes, of UTF-8. */
static size_t
table_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

void
table_print(const struct table *table, FILE *file)
{
    size_t columns = table->columns;

    for (size_t i = 0; i < table->count; i++) {
        size_t column = i % columns;
        fputs(table->cells[i], file);
        if (column == columns - 1) {
            fputc('\n', file);
            continue;
        }
        size_t width = 0;
        for (size_t j = column; j < table->count; j += columns) {
            size_t other = table_width(table->cells[j]);
            width = other > width ? other : width;
        }
        for (size_t pad = table_width(table->cells[i]); pad < width + 2;
             pad++) {
            fputc(' ', file);
        }
    }
}

void
table_print_text(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        bool is_control = (unsigned char)*text < ' ' || *text == 0x7f;
        fputc(is_control ? '?' : *text, file);
    }
}
