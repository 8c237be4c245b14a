/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_LOG_H
#define LIB_BASE_LOG_H

/* The log: one line an event, as key=value, on stderr.
 *
 *     log_info("store", "replica opened replica=%s blocks=%u", text, count);
 *
 *     time=2025-03-01T12:00:00.123Z level=info module=store
 *     event="replica opened" replica=9f3c... blocks=12    (all in one line)
 *
 * The format is that of printf, without '*' and %n.  It begins with the name
 * of the event; the first word that has a '=' begins the pairs, which single
 * blanks separate.  This is decided by the format alone: whatever characters
 * an argument has, it cannot end its value, because values are quoted and
 * escaped as needed.  Lines over LOG_LINE_SIZE are cut.
 *
 * A library function does not log above debug; whoever decides the consequence
 * logs once, and names the consequence.  Thread-safe: each line is one
 * write(). errno is preserved. */

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/check.h"

#define LOG_LINE_SIZE 2048

enum log_level {
    LOG_LEVEL_ERROR,   /* Somebody has to act. */
    LOG_LEVEL_WARNING, /* It goes on, with less than promised. */
    LOG_LEVEL_INFO,    /* What an operator wants to know of a healthy day. */
    LOG_LEVEL_DEBUG,
};

/* 'module' is a word, such as the name of the folder. */
void log_write(enum log_level level, const char *module, const char *format,
               ...) WEFT_PRINTF(3, 4);
void log_error(const char *module, const char *format, ...) WEFT_PRINTF(2, 3);
void log_warning(const char *module, const char *format, ...) WEFT_PRINTF(2, 3);
void log_info(const char *module, const char *format, ...) WEFT_PRINTF(2, 3);
void log_debug(const char *module, const char *format, ...) WEFT_PRINTF(2, 3);

/* Lines above 'level' are dropped.  At first: LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);
bool log_is_enabled(enum log_level level);

/* "error", "warning", "info" or "debug", else -EINVAL. */
WEFT_MUST_CHECK int log_level_parse(const char *text,
                                    enum log_level *ret_level);
const char *log_level_name(enum log_level level);

/* Writes to 'fd', which is borrowed, in place of stderr: for tests. */
void log_set_fd(int fd);

#endif /* LIB_BASE_LOG_H */
