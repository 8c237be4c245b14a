/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/config_value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/units.h"

void
config_value_format(const struct config_option *option, uint64_t number,
                    char ret_text[CONFIG_BOUND_SIZE])
{
    char text[UNITS_TEXT_SIZE];

    switch (option->type) {
    case CONFIG_SIZE:
        units_format_size(number, text);
        break;
    case CONFIG_DURATION:
        units_format_duration(number, text);
        break;
    case CONFIG_STRING:
    case CONFIG_UINT:
    case CONFIG_BOOL:
    case CONFIG_ENUM:
        snprintf(text, sizeof text, "%" PRIu64, number);
        break;
    }
    snprintf(ret_text, CONFIG_BOUND_SIZE, "%s", text);
}

static int
check_bounds(const struct config_option *option, const char *text,
             uint64_t number, struct err *err)
{
    char bound[CONFIG_BOUND_SIZE];
    const char *what = option->type == CONFIG_STRING ? "length" : "value";

    if (number < option->min) {
        config_value_format(option, option->min, bound);
        err_set(err, "\"%s\" is too small; the %s is at least %s", text, what,
                bound);
        return -EINVAL;
    }
    if (option->max != 0 && number > option->max) {
        config_value_format(option, option->max, bound);
        err_set(err, "\"%s\" is too large; the %s is at most %s", text, what,
                bound);
        return -EINVAL;
    }
    return 0;
}

static int
parse_number(const struct config_option *option, const char *text,
             uint64_t *ret_number, struct err *err)
{
    const char *right;
    int error;

    if (option->type == CONFIG_SIZE) {
        error = units_parse_size(text, ret_number);
        right = "a size; write a number with an optional K, M, G, T or P, "
                "such as \"256M\"";
    } else if (option->type == CONFIG_DURATION) {
        error = units_parse_duration(text, ret_number);
        right = "a duration; write a number with ns, us, ms, s, m or h, such "
                "as \"200ms\"";
    } else {
        error = units_parse_u64(text, ret_number);
        right = "a number; write decimal digits, such as \"16\"";
    }
    if (error == -ERANGE) {
        err_set(err, "\"%s\" is too large for 64 bits", text);
    } else if (error != 0) {
        err_set(err, "\"%s\" is not %s", text, right);
    }
    return error != 0 ? -EINVAL : 0;
}

static int
parse_choice(const struct config_option *option, const char *text,
             uint64_t *ret_number, struct err *err)
{
    char names[256] = "";
    size_t used = 0;

    for (uint64_t i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *ret_number = i;
            return 0;
        }
        int size = snprintf(names + used, sizeof names - used, "%s%s",
                            i == 0 ? "" : ", ", option->choices[i]);
        CHECK(size >= 0);
        used += (size_t)size;
        CHECK(used < sizeof names); /* A table with too many choices. */
    }
    err_set(err, "\"%s\" is not a choice; write one of: %s", text, names);
    return -EINVAL;
}

int
config_value_parse(const struct config_option *option, const char *text,
                   uint64_t *ret_number, struct err *err)
{
    uint64_t number = 0;
    int error = 0;

    switch (option->type) {
    case CONFIG_STRING:
        number = strlen(text);
        break;
    case CONFIG_UINT:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        error = parse_number(option, text, &number, err);
        break;
    case CONFIG_BOOL:
        number = strcmp(text, "true") == 0;
        if (number == 0 && strcmp(text, "false") != 0) {
            err_set(err, "\"%s\" is not a choice; write true or false", text);
            error = -EINVAL;
        }
        break;
    case CONFIG_ENUM:
        error = parse_choice(option, text, &number, err);
        break;
    }
    if (error == 0 && option->type != CONFIG_BOOL &&
        option->type != CONFIG_ENUM) {
        error = check_bounds(option, text, number, err);
    }
    if (error == 0) {
        *ret_number = number;
    }
    return error;
}
