/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_CONFIG_H
#define LIB_BASE_CONFIG_H

/* Configuration files.
 *
 *     # A comment has a line of its own.
 *     [store]
 *     cache_size = 256M
 *
 * A daemon declares its options in one constant table, with type, default,
 * bounds and documentation.  The same table checks a file, answers look-ups and
 * prints the reference, so that the three cannot disagree.
 *
 * Everything is refused that could hide a mistake: unknown sections and keys,
 * values out of bounds, a key given twice, NUL bytes, a missing required key.
 * Messages are of the form
 *
 *     blockd.conf:3: [store] cache_size: "1G5" is not a size; write a number
 *     with an optional K, M, G, T or P, such as "256M"
 *
 * Ownership: a 'struct config' owns its texts; the table is borrowed and
 * outlives it.  Constant after loading, and so free to share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/check.h"
#include "lib/base/err.h"

/* A larger file is refused. */
#define CONFIG_FILE_SIZE_MAX ((size_t)256 * 1024)

enum config_type {
    CONFIG_STRING,   /* min and max bound the length in bytes. */
    CONFIG_UINT,     /* A plain decimal number. */
    CONFIG_SIZE,     /* "256M", in bytes: see lib/base/units.h. */
    CONFIG_DURATION, /* "200ms", in nanoseconds. */
    CONFIG_BOOL,     /* "true" or "false". */
    CONFIG_ENUM,     /* One of 'choices'. */
};

struct config_option {
    const char *section;
    const char *key;
    enum config_type type;
    bool is_required;           /* The file must have it. */
    bool is_repeated;           /* May be given many times: config_count(). */
    const char *default_text;   /* As in a file; NULL: none, config_has(). */
    uint64_t min;               /* For numbers and lengths. */
    uint64_t max;               /* 0: no bound. */
    const char *const *choices; /* For CONFIG_ENUM; NULL ends it. */
    const char *doc;            /* Sentences. */
};

struct config;

/* Reads the file at 'path'.  -errno with text in 'err', which may be NULL. */
WEFT_MUST_CHECK int config_load(const char *path,
                                const struct config_option *options,
                                size_t count, struct config **ret_config,
                                struct err *err);

/* The same for 'text' of 'size' bytes; 'name' stands for the file's name. */
WEFT_MUST_CHECK int config_parse(const char *name, const char *text,
                                 size_t size,
                                 const struct config_option *options,
                                 size_t count, struct config **ret_config,
                                 struct err *err);

/* Accepts NULL. */
void config_free(struct config *config);

/* Look-ups.  [section] key must be in the table with a fitting type, and have a
 * value (given, or by default): anything else is a programmer's error. */

const char *config_string(const struct config *config, const char *section,
                          const char *key);

/* CONFIG_UINT, CONFIG_SIZE (bytes) or CONFIG_DURATION (nanoseconds). */
uint64_t config_u64(const struct config *config, const char *section,
                    const char *key);
bool config_bool(const struct config *config, const char *section,
                 const char *key);

/* The index into the option's choices. */
size_t config_enum(const struct config *config, const char *section,
                   const char *key);

/* Whether it has a value, given or by default. */
bool config_has(const struct config *config, const char *section,
                const char *key);

/* How often it is given (1 for a default), and the text of each. */
size_t config_count(const struct config *config, const char *section,
                    const char *key);
const char *config_string_at(const struct config *config, const char *section,
                             const char *key, size_t index);

/* Prints the reference of all options, as a commented sample file. */
void config_print_doc(FILE *out, const struct config_option *options,
                      size_t count);

#endif /* LIB_BASE_CONFIG_H */
