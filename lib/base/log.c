/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/log.h"

/* The format is walked here rather than by vsnprintf(), because only the walk
 * knows which characters of the line are the format's, and so structure, and
 * which come from arguments, and so are to be quoted.  Each conversion is then
 * given to snprintf() on its own. */

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/array.h"

#define VALUE_SIZE 1024

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static atomic_int threshold = LOG_LEVEL_INFO;
static atomic_int sink = STDERR_FILENO;

/* Text that is cut at the end of its buffer.  No NUL. */
struct text {
    char *at;
    size_t used;
    size_t capacity;
};

struct walk {
    const char *at; /* What is left of the format. */
    va_list args;
};

static void
text_put(struct text *text, char c)
{
    if (text->used < text->capacity) {
        text->at[text->used++] = c;
    }
}

static void
text_put_all(struct text *text, const char *string)
{
    for (; *string != '\0'; string++) {
        text_put(text, *string);
    }
}

static bool
is_plain(char c)
{
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

/* Puts the 'size' bytes of 'value', in quotes if they need them. */
static void
text_put_value(struct text *text, const char *value, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    bool plain = size > 0;

    for (size_t i = 0; i < size; i++) {
        plain = plain && is_plain(value[i]);
    }
    if (!plain) {
        text_put(text, '"');
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c == '"' || c == '\\') {
            text_put(text, '\\');
            text_put(text, (char)c);
        } else if (c == '\n') {
            text_put_all(text, "\\n");
        } else if (c < ' ' || c >= 0x7f) {
            text_put_all(text, "\\x");
            text_put(text, digits[c >> 4]);
            text_put(text, digits[c & 0x0f]);
        } else {
            text_put(text, (char)c);
        }
    }
    if (!plain) {
        text_put(text, '"');
    }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

/* Gives one integer to snprintf().  'length' counts the 'l' and 'z' (as one
 * 'l') and 'j' (likewise) of 'spec'; 'h' arguments are promoted to int. */
static int
print_integer(char *to, size_t size, const char *spec, int length,
              bool is_signed, va_list *args)
{
    if (length >= 2) {
        return is_signed ? snprintf(to, size, spec, va_arg(*args, long long))
                         : snprintf(to, size, spec,
                                    va_arg(*args, unsigned long long));
    }
    if (length == 1) {
        return is_signed
                   ? snprintf(to, size, spec, va_arg(*args, long))
                   : snprintf(to, size, spec, va_arg(*args, unsigned long));
    }
    return is_signed ? snprintf(to, size, spec, va_arg(*args, int))
                     : snprintf(to, size, spec, va_arg(*args, unsigned));
}

/* Prints the argument of 'spec' into 'text'. */
static void
print_argument(struct text *text, const char *spec, char conversion, int length,
               va_list *args)
{
    char *to = text->at + text->used;
    size_t room = text->capacity - text->used; /* At least 1: see below. */
    int size = -1;

    switch (conversion) {
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        size = print_integer(to, room, spec, length,
                             conversion == 'd' || conversion == 'i', args);
        break;
    case 'c':
        size = snprintf(to, room, spec, va_arg(*args, int));
        break;
    case 'e':
    case 'f':
    case 'g':
        size = snprintf(to, room, spec, va_arg(*args, double));
        break;
    case 'p':
        size = snprintf(to, room, spec, va_arg(*args, void *));
        break;
    case 's': {
        const char *string = va_arg(*args, const char *);
        size = snprintf(to, room, spec, string != NULL ? string : "(null)");
        break;
    }
    default:
        CHECK(!"a conversion that the log knows");
    }
    CHECK(size >= 0);
    text->used += (size_t)size < room ? (size_t)size : room - 1;
}
#pragma GCC diagnostic pop

/* Appends the conversion at walk->at, which is a '%', to 'text'. */
static void
walk_conversion(struct walk *walk, struct text *text)
{
    char spec[16];
    size_t used = 0;
    int length = 0;

    spec[used++] = *walk->at++;
    while (*walk->at != '\0' && strchr("-+ #0123456789.", *walk->at) != NULL) {
        CHECK(used < sizeof spec - 4);
        spec[used++] = *walk->at++;
    }
    while (*walk->at != '\0' && strchr("hlzj", *walk->at) != NULL) {
        CHECK(used < sizeof spec - 2);
        length += *walk->at != 'h';
        spec[used++] = *walk->at++;
    }
    char conversion = *walk->at;
    CHECK(conversion != '\0');
    walk->at++;
    spec[used++] = conversion;
    spec[used] = '\0';

    if (conversion == '%') {
        text_put(text, '%');
    } else {
        print_argument(text, spec, conversion, length, &walk->args);
    }
}

/* Expands the format into 'text' until a blank or the end. */
static void
walk_word(struct walk *walk, struct text *text)
{
    while (*walk->at != '\0' && *walk->at != ' ') {
        if (*walk->at == '%') {
            /* snprintf() wants room for a NUL, which is written over. */
            text->capacity--;
            walk_conversion(walk, text);
            text->capacity++;
        } else {
            text_put(text, *walk->at++);
        }
    }
}

/* Whether the word at 'at' is a pair: it has a '=' before any '%'. */
static bool
begins_pair(const char *at)
{
    return at[strcspn(at, " =%")] == '=';
}

static void
walk_format(struct walk *walk, struct text *line)
{
    char buffer[VALUE_SIZE];
    struct text value = { buffer, 0, sizeof buffer };

    while (*walk->at != '\0' && !begins_pair(walk->at)) {
        walk_word(walk, &value);
        if (*walk->at == ' ') {
            walk->at++;
            if (*walk->at != '\0' && !begins_pair(walk->at)) {
                text_put(&value, ' ');
            }
        }
    }
    text_put_all(line, " event=");
    text_put_value(line, value.at, value.used);

    while (*walk->at != '\0') {
        text_put(line, ' ');
        while (*walk->at != '\0' && *walk->at != '=') {
            text_put(line, *walk->at++);
        }
        CHECK(*walk->at == '='); /* Else a blank in a pair's format. */
        text_put(line, *walk->at++);
        value.used = 0;
        walk_word(walk, &value);
        text_put_value(line, value.at, value.used);
        if (*walk->at == ' ') {
            walk->at++;
        }
    }
}

static void
put_time(struct text *line)
{
    struct timespec now = { 0 };
    struct tm utc = { 0 };
    char text[64];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(text, sizeof text, "time=%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + used, sizeof text - used, ".%03dZ",
             (int)(now.tv_nsec / 1000000));
    text_put_all(line, text);
}

static void
write_line(enum log_level level, const char *module, const char *format,
           va_list args)
{
    if (!log_is_enabled(level)) {
        return;
    }

    int saved = errno;
    char buffer[LOG_LINE_SIZE];
    struct text line = { buffer, 0, sizeof buffer - 1 };
    struct walk walk = { .at = format };

    put_time(&line);
    text_put_all(&line, " level=");
    text_put_all(&line, log_level_name(level));
    text_put_all(&line, " module=");
    text_put_all(&line, module);
    va_copy(walk.args, args);
    walk_format(&walk, &line);
    va_end(walk.args);
    buffer[line.used] = '\n'; /* The byte that was kept free. */

    ssize_t written = write(atomic_load(&sink), buffer, line.used + 1);
    (void)written; /* A full disk behind stderr must not stop the store. */
    errno = saved;
}

void
log_write(enum log_level level, const char *module, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line(level, module, format, args);
    va_end(args);
}

void
log_error(const char *module, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line(LOG_LEVEL_ERROR, module, format, args);
    va_end(args);
}

void
log_warning(const char *module, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line(LOG_LEVEL_WARNING, module, format, args);
    va_end(args);
}

void
log_info(const char *module, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line(LOG_LEVEL_INFO, module, format, args);
    va_end(args);
}

void
log_debug(const char *module, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_line(LOG_LEVEL_DEBUG, module, format, args);
    va_end(args);
}

void
log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

bool
log_is_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&threshold, memory_order_relaxed);
}

int
log_level_parse(const char *text, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_COUNT(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *
log_level_name(enum log_level level)
{
    CHECK((size_t)level < ARRAY_COUNT(level_names));
    return level_names[level];
}

void
log_set_fd(int fd)
{
    atomic_store(&sink, fd);
}
