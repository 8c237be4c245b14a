/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/config_value.h"

/* One value of one option.  The first of each option is in the array of the
 * config, at the option's index; more of them, if it is repeated, follow. */
struct config_value {
    char *text; /* NULL: no value. */
    uint64_t number;
    struct config_value *next;
    unsigned line; /* 0: the default. */
};

struct config {
    const struct config_option *options;
    size_t count;
    struct config_value *values;
};

/* Where the parser is. */
struct parser {
    const char *name;
    unsigned line;
    char section[64];
    struct config *config;
    struct err *err;
};

static int
add_value(struct config *config, size_t index, const char *text,
          uint64_t number, unsigned line)
{
    struct config_value *value = &config->values[index];

    if (value->text != NULL) {
        while (value->next != NULL) {
            value = value->next;
        }
        value->next = calloc(1, sizeof *value->next);
        if (value->next == NULL) {
            return -ENOMEM;
        }
        value = value->next;
    }
    value->text = strdup(text);
    value->number = number;
    value->line = line;
    return value->text != NULL ? 0 : -ENOMEM;
}

static bool
has_section(const struct config *config, const char *section)
{
    for (size_t i = 0; i < config->count; i++) {
        if (strcmp(config->options[i].section, section) == 0) {
            return true;
        }
    }
    return false;
}

/* The index of an option, or config->count. */
static size_t
find_option(const struct config *config, const char *section, const char *key)
{
    size_t i = 0;
    while (i < config->count &&
           (strcmp(config->options[i].section, section) != 0 ||
            strcmp(config->options[i].key, key) != 0)) {
        i++;
    }
    return i;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* 'text' without blanks at both ends, in place. */
static char *
trim(char *text)
{
    while (is_blank(*text)) {
        text++;
    }
    size_t length = strlen(text);
    while (length > 0 && is_blank(text[length - 1])) {
        length--;
    }
    text[length] = '\0';
    return text;
}

static int
parse_section(struct parser *parser, char *line)
{
    size_t length = strlen(line);

    if (line[length - 1] != ']') {
        err_set(parser->err,
                "%s:%u: a section without its end; write \"[name]\"",
                parser->name, parser->line);
        return -EINVAL;
    }
    line[length - 1] = '\0';
    char *section = trim(line + 1);
    if (strlen(section) >= sizeof parser->section ||
        !has_section(parser->config, section)) {
        err_set(parser->err, "%s:%u: there is no section [%.64s]", parser->name,
                parser->line, section);
        return -EINVAL;
    }
    memcpy(parser->section, section, strlen(section) + 1);
    return 0;
}

static int
parse_pair(struct parser *parser, char *line)
{
    struct config *config = parser->config;
    struct err why;
    uint64_t number;

    char *equals = strchr(line, '=');
    if (equals == NULL) {
        err_set(parser->err,
                "%s:%u: \"%.64s\" is neither a comment, a section "
                "nor a setting; write \"key = value\"",
                parser->name, parser->line, line);
        return -EINVAL;
    }
    *equals = '\0';
    const char *key = trim(line);
    const char *text = trim(equals + 1);

    if (parser->section[0] == '\0') {
        err_set(
            parser->err,
            "%s:%u: \"%.64s\" is before any section; write \"[name]\" first",
            parser->name, parser->line, key);
        return -EINVAL;
    }
    size_t index = find_option(config, parser->section, key);
    if (index == config->count) {
        err_set(parser->err, "%s:%u: [%s] has no key \"%.64s\"", parser->name,
                parser->line, parser->section, key);
        return -EINVAL;
    }
    const struct config_option *option = &config->options[index];
    if (config->values[index].text != NULL && !option->is_repeated) {
        err_set(parser->err,
                "%s:%u: [%s] %s is given twice; line %u has it already",
                parser->name, parser->line, parser->section, key,
                config->values[index].line);
        return -EINVAL;
    }
    if (config_value_parse(option, text, &number, &why) != 0) {
        err_set(parser->err, "%s:%u: [%s] %s: %s", parser->name, parser->line,
                parser->section, key, why.text);
        return -EINVAL;
    }
    int error = add_value(config, index, text, number, parser->line);
    if (error != 0) {
        err_set(parser->err, "%s: out of memory", parser->name);
    }
    return error;
}

static int
parse_line(struct parser *parser, char *line)
{
    line = trim(line);
    if (line[0] == '\0' || line[0] == '#' || line[0] == ';') {
        return 0;
    }
    if (line[0] == '[') {
        return parse_section(parser, line);
    }
    return parse_pair(parser, line);
}

/* Gives every option that the file left out its default. */
static int
fill_defaults(struct parser *parser)
{
    struct config *config = parser->config;

    for (size_t i = 0; i < config->count; i++) {
        const struct config_option *option = &config->options[i];
        uint64_t number = 0;

        if (config->values[i].text != NULL) {
            continue;
        }
        if (option->is_required) {
            err_set(parser->err, "%s: [%s] %s is missing; it is required",
                    parser->name, option->section, option->key);
            return -EINVAL;
        }
        if (option->default_text == NULL) {
            continue;
        }
        int error =
            config_value_parse(option, option->default_text, &number, NULL);
        CHECK(error == 0); /* A default that its own bounds forbid. */
        error = add_value(config, i, option->default_text, number, 0);
        if (error != 0) {
            err_set(parser->err, "%s: out of memory", parser->name);
            return error;
        }
    }
    return 0;
}

static int
parse_lines(struct parser *parser, char *text)
{
    for (char *line = text; line != NULL;) {
        char *end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        parser->line++;
        int error = parse_line(parser, line);
        if (error != 0) {
            return error;
        }
        line = end;
    }
    return fill_defaults(parser);
}

int
config_parse(const char *name, const char *text, size_t size,
             const struct config_option *options, size_t count,
             struct config **ret_config, struct err *err)
{
    if (memchr(text, '\0', size) != NULL) {
        err_set(err, "%s: has a NUL byte; it must be a text file", name);
        return -EINVAL;
    }

    CLEANUP_FREE char *copy = strndup(text, size);
    struct config *config = calloc(1, sizeof *config);
    if (config != NULL) {
        config->values = calloc(count, sizeof *config->values);
    }
    if (copy == NULL || config == NULL || config->values == NULL) {
        config_free(config);
        err_set(err, "%s: out of memory", name);
        return -ENOMEM;
    }
    config->options = options;
    config->count = count;

    struct parser parser = { .name = name, .config = config, .err = err };
    int error = parse_lines(&parser, copy);
    if (error != 0) {
        config_free(config);
        return error;
    }
    *ret_config = config;
    return 0;
}

/* Reads up to 'capacity' bytes. */
static ssize_t
read_all(int fd, char *ret_text, size_t capacity)
{
    size_t used = 0;

    while (used < capacity) {
        ssize_t size = read(fd, ret_text + used, capacity - used);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return -errno;
        }
        if (size == 0) {
            break;
        }
        used += (size_t)size;
    }
    return (ssize_t)used;
}

int
config_load(const char *path, const struct config_option *options, size_t count,
            struct config **ret_config, struct err *err)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int error = -errno;
        err_set(err, "%s: cannot be opened: %s", path, strerror(-error));
        return error;
    }
    CLEANUP_FREE char *text = malloc(CONFIG_FILE_SIZE_MAX + 1);
    if (text == NULL) {
        err_set(err, "%s: out of memory", path);
        return -ENOMEM;
    }
    ssize_t size = read_all(fd, text, CONFIG_FILE_SIZE_MAX + 1);
    if (size < 0) {
        err_set(err, "%s: cannot be read: %s", path, strerror((int)-size));
        return (int)size;
    }
    if ((size_t)size > CONFIG_FILE_SIZE_MAX) {
        err_set(err, "%s: is larger than %zu bytes", path,
                CONFIG_FILE_SIZE_MAX);
        return -EFBIG;
    }
    return config_parse(path, text, (size_t)size, options, count, ret_config,
                        err);
}

void
config_free(struct config *config)
{
    if (config == NULL) {
        return;
    }
    for (size_t i = 0; config->values != NULL && i < config->count; i++) {
        struct config_value *next = config->values[i].next;
        while (next != NULL) {
            struct config_value *value = next;
            next = value->next;
            free(value->text);
            free(value);
        }
        free(config->values[i].text);
    }
    free(config->values);
    free(config);
}

static const struct config_value *
get_value(const struct config *config, const char *section, const char *key,
          size_t *ret_index)
{
    size_t index = find_option(config, section, key);
    CHECK(index < config->count);
    *ret_index = index;
    return &config->values[index];
}

const char *
config_string(const struct config *config, const char *section, const char *key)
{
    return config_string_at(config, section, key, 0);
}

uint64_t
config_u64(const struct config *config, const char *section, const char *key)
{
    size_t index;
    const struct config_value *value = get_value(config, section, key, &index);
    enum config_type type = config->options[index].type;

    CHECK(type == CONFIG_UINT || type == CONFIG_SIZE ||
          type == CONFIG_DURATION);
    CHECK(value->text != NULL);
    return value->number;
}

bool
config_bool(const struct config *config, const char *section, const char *key)
{
    size_t index;
    const struct config_value *value = get_value(config, section, key, &index);

    CHECK(config->options[index].type == CONFIG_BOOL);
    CHECK(value->text != NULL);
    return value->number != 0;
}

size_t
config_enum(const struct config *config, const char *section, const char *key)
{
    size_t index;
    const struct config_value *value = get_value(config, section, key, &index);

    CHECK(config->options[index].type == CONFIG_ENUM);
    CHECK(value->text != NULL);
    return value->number;
}

bool
config_has(const struct config *config, const char *section, const char *key)
{
    size_t index;
    return get_value(config, section, key, &index)->text != NULL;
}

size_t
config_count(const struct config *config, const char *section, const char *key)
{
    size_t index;
    size_t count = 0;

    for (const struct config_value *value =
             get_value(config, section, key, &index);
         value != NULL && value->text != NULL; value = value->next) {
        count++;
    }
    return count;
}

const char *
config_string_at(const struct config *config, const char *section,
                 const char *key, size_t index)
{
    size_t option;
    const struct config_value *value = get_value(config, section, key, &option);

    for (; index > 0; index--) {
        CHECK(value->next != NULL);
        value = value->next;
    }
    CHECK(value->text != NULL);
    return value->text;
}
