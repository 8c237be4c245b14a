/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/err.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void
err_clear(struct err *err)
{
    if (err != NULL) {
        err->text[0] = '\0';
    }
}

void
err_set(struct err *err, const char *format, ...)
{
    if (err == NULL) {
        return;
    }

    /* By way of a copy: an argument may be the old text. */
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(err->text, text, sizeof text);
}

void
err_prefix(struct err *err, const char *format, ...)
{
    if (err == NULL) {
        return;
    }

    char text[sizeof err->text] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    size_t used = strlen(text);
    size_t rest = strlen(err->text);
    if (rest > sizeof text - 1 - used) {
        rest = sizeof text - 1 - used;
    }
    memcpy(text + used, err->text, rest);
    text[used + rest] = '\0';
    memcpy(err->text, text, used + rest + 1);
}
