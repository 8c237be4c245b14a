/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/array.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Each table goes from the largest unit to the smallest. */
static const struct unit sizes[] = {
    { "P", PIB }, { "T", TIB }, { "G", GIB },
    { "M", MIB }, { "K", KIB }, { "", 1 },
};
static const struct unit durations[] = {
    { "h", 3600 * NS_PER_S }, { "m", 60 * NS_PER_S }, { "s", NS_PER_S },
    { "ms", NS_PER_MS },      { "us", NS_PER_US },    { "ns", 1 },
};

/* Reads the digits at the start of '*text' and moves it behind them. */
static int
parse_digits(const char **text, uint64_t *ret_value)
{
    const char *at = *text;
    uint64_t value = 0;

    if (*at < '0' || *at > '9') {
        return -EINVAL;
    }
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (unsigned)(*at - '0'), &value)) {
            return -ERANGE;
        }
    }
    *text = at;
    *ret_value = value;
    return 0;
}

int
units_parse_u64(const char *text, uint64_t *ret_value)
{
    uint64_t value;
    int error = parse_digits(&text, &value);

    if (error != 0) {
        return error;
    }
    if (*text != '\0') {
        return -EINVAL;
    }
    *ret_value = value;
    return 0;
}

static int
parse_with_unit(const char *text, const struct unit *units, size_t count,
                uint64_t *ret_value)
{
    uint64_t value;
    int error = parse_digits(&text, &value);

    if (error != 0) {
        return error;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, units[i].suffix) == 0) {
            if (__builtin_mul_overflow(value, units[i].factor, &value)) {
                return -ERANGE;
            }
            *ret_value = value;
            return 0;
        }
    }
    return -EINVAL;
}

int
units_parse_size(const char *text, uint64_t *ret_bytes)
{
    char plain[UNITS_TEXT_SIZE];
    size_t length = strlen(text);

    /* "20GiB" is "20G"; "20iB" is nothing. */
    if (length > 3 && length < sizeof plain + 2 &&
        strcmp(text + length - 2, "iB") == 0 &&
        strchr("KMGTP", text[length - 3]) != NULL) {
        memcpy(plain, text, length - 2);
        plain[length - 2] = '\0';
        text = plain;
    }
    return parse_with_unit(text, sizes, ARRAY_COUNT(sizes), ret_bytes);
}

int
units_parse_duration(const char *text, uint64_t *ret_ns)
{
    return parse_with_unit(text, durations, ARRAY_COUNT(durations), ret_ns);
}

static void
format_with_unit(uint64_t value, const struct unit *units, size_t count,
                 char ret_text[UNITS_TEXT_SIZE])
{
    size_t i = 0;

    if (value == 0) {
        i = count - 1;
    }
    while (value % units[i].factor != 0) {
        i++; /* Ends at the last unit, whose factor is 1. */
    }
    snprintf(ret_text, UNITS_TEXT_SIZE, "%" PRIu64 "%s",
             value / units[i].factor, units[i].suffix);
}

void
units_format_size(uint64_t bytes, char ret_text[UNITS_TEXT_SIZE])
{
    format_with_unit(bytes, sizes, ARRAY_COUNT(sizes), ret_text);
}

void
units_format_duration(uint64_t ns, char ret_text[UNITS_TEXT_SIZE])
{
    format_with_unit(ns, durations, ARRAY_COUNT(durations), ret_text);
}
