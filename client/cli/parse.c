/* SPDX-License-Identifier: Apache-2.0 */
/* Options of all commands may stand anywhere, those of a command anywhere
 * behind its name, in the forms "--name VALUE", "--name=VALUE", "-n VALUE" and
 * "-nVALUE"; "--" ends them.  A value may begin with '-', so that "--size -5"
 * is told to be a bad size. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/command.h"
#include "lib/base/units.h"

#ifndef WEFT_VERSION
#define WEFT_VERSION "unknown"
#endif

enum global {
    GLOBAL_PROJECT,
    GLOBAL_ENDPOINT,
    GLOBAL_OUTPUT,
    GLOBAL_TIMEOUT,
    GLOBAL_HELP,
    GLOBAL_COUNT,
};

const struct cli_option cli_global_options[] = {
    { "project", 'p', "PROJECT", "the project (\"default\")" },
    { "endpoint", 'e', "ENDPOINT",
      "unix:/PATH or tcp:HOST:PORT of a blockd ($WEFT_ENDPOINT, or "
      "\"" WEFT_DEFAULT_ENDPOINT "\"), or of a netd for the network "
      "($WEFT_NET_ENDPOINT, or beside blockd)" },
    { "output", 'o', "table|json", "form of the output (\"table\")" },
    { "timeout", 0, "DURATION",
      "give up after so long, such as 30s (an operation: never)" },
    { "help", 'h', NULL, "show this" },
    { NULL, 0, NULL, NULL },
};

/* What the parser has found so far. */
struct parse {
    struct cli *cli;
    const struct cli_command *table; /* Of the noun; NULL: none yet. */
    const char *globals[GLOBAL_COUNT];
    const char *words[2 + CLI_ARGUMENT_MAX + 1];
    uint32_t word_count;
    int argc;
    char **argv;
    int next;
};

/* ---- Help ---- */

static void
help_options(FILE *file, const struct cli_option *options)
{
    for (; options != NULL && options->name != NULL; options++) {
        char text[64];
        char letter[8] = "    ";
        if (options->letter != 0) {
            snprintf(letter, sizeof letter, "-%c, ", options->letter);
        }
        snprintf(text, sizeof text, "%s--%s%s%s", letter, options->name,
                 options->argument != NULL ? " " : "",
                 options->argument != NULL ? options->argument : "");
        fprintf(file, "  %-30s %s\n", text, options->help);
    }
}

static void
help_line(FILE *file, const struct cli_command *command)
{
    char text[64];
    snprintf(text, sizeof text, "%s%s%s%s%s", command->noun,
             command->verb != NULL ? " " : "",
             command->verb != NULL ? command->verb : "",
             command->arguments[0] != '\0' ? " " : "", command->arguments);
    fprintf(file, "  %-30s %s\n", text, command->help);
}

static void
help_noun(FILE *file, const struct cli_command *table)
{
    fprintf(file, "Usage: weft %s VERB [OPTIONS] ...\n\n", table->noun);
    for (; table->noun != NULL; table++) {
        help_line(file, table);
    }
    fputs("\nOptions of all commands:\n", file);
    help_options(file, cli_global_options);
}

static void
help_all(FILE *file)
{
    fputs("Usage: weft NOUN VERB [OPTIONS] ...\n\n"
          "Storage and network of a private cloud.\n\n",
          file);
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        const struct cli_command *command = cli_commands[i];
        for (; command->noun != NULL; command++) {
            help_line(file, command);
        }
    }
    fputs("\nOptions of all commands:\n", file);
    help_options(file, cli_global_options);
    fputs("\nExit codes: 0 done, 1 failed, 2 usage.\n", file);
}

static void
help_command(FILE *file, const struct cli_command *command)
{
    bool has_options = command->options != NULL;
    fprintf(file, "Usage: weft %s%s%s%s%s%s\n\n%s.\n", command->noun,
            command->verb != NULL ? " " : "",
            command->verb != NULL ? command->verb : "",
            has_options ? " [OPTIONS]" : "",
            command->arguments[0] != '\0' ? " " : "", command->arguments,
            command->help);
    if (has_options) {
        fputs("\nOptions:\n", file);
        help_options(file, command->options);
    }
    fputs("\nOptions of all commands:\n", file);
    help_options(file, cli_global_options);
}

/* ---- Commands ---- */

static const struct cli_command *
parse_find_noun(const char *noun)
{
    for (size_t i = 0; cli_commands[i] != NULL; i++) {
        if (strcmp(cli_commands[i]->noun, noun) == 0) {
            return cli_commands[i];
        }
    }
    return NULL;
}

static const struct cli_command *
parse_find_verb(const struct cli_command *table, const char *verb)
{
    for (; table->noun != NULL; table++) {
        if (table->verb == NULL ||
            (verb != NULL && strcmp(table->verb, verb) == 0)) {
            return table;
        }
    }
    return NULL;
}

static const struct cli_option *
parse_find_option(const struct cli_option *options, const char *name,
                  size_t size)
{
    for (; options != NULL && options->name != NULL; options++) {
        if (strlen(options->name) == size &&
            memcmp(options->name, name, size) == 0) {
            return options;
        }
    }
    return NULL;
}

static const struct cli_option *
parse_find_letter(const struct cli_option *options, char letter)
{
    for (; options != NULL && options->name != NULL; options++) {
        if (options->letter == letter) {
            return options;
        }
    }
    return NULL;
}

/* ---- Options ---- */

static bool
parse_is_repeatable(const struct cli_option *option)
{
    size_t size = option->argument != NULL ? strlen(option->argument) : 0;

    return size > 3 && strcmp(option->argument + size - 3, "...") == 0;
}

/* Where the value of an option is kept. */
static const char **
parse_slot(struct parse *parse, const struct cli_option *option)
{
    const struct cli_command *command = parse->cli->command;

    if (option >= cli_global_options &&
        option < cli_global_options + GLOBAL_COUNT) {
        return &parse->globals[option - cli_global_options];
    }
    CHECK(command != NULL);
    size_t index = (size_t)(option - command->options);
    CHECK(index < CLI_OPTION_MAX);
    return &parse->cli->values[index];
}

static bool
parse_set(struct parse *parse, const struct cli_option *option,
          const char *value, const char *text, enum cli_exit *ret_exit)
{
    const char **slot = parse_slot(parse, option);

    if (option->argument == NULL) {
        if (value != NULL) {
            *ret_exit = cli_usage_error(parse->cli, "--%s takes no value",
                                        option->name);
            return false;
        }
        *slot = "";
        return true;
    }
    if (value == NULL) {
        if (parse->next == parse->argc) {
            *ret_exit = cli_usage_error(parse->cli, "%s needs a value: --%s %s",
                                        text, option->name, option->argument);
            return false;
        }
        value = parse->argv[parse->next++];
    }
    if (parse_is_repeatable(option)) {
        struct cli *cli = parse->cli;
        if (cli->repeat_count == CLI_REPEAT_MAX) {
            *ret_exit =
                cli_usage_error(cli, "there are too many --%s", option->name);
            return false;
        }
        cli->repeats[cli->repeat_count].option = option;
        cli->repeats[cli->repeat_count].value = value;
        cli->repeat_count++;
        *slot = value;
        return true;
    }
    if (*slot != NULL) {
        *ret_exit =
            cli_usage_error(parse->cli, "--%s is given twice", option->name);
        return false;
    }
    *slot = value;
    return true;
}

static bool
parse_option(struct parse *parse, const char *text, enum cli_exit *ret_exit)
{
    const struct cli_option *own =
        parse->cli->command != NULL ? parse->cli->command->options : NULL;
    const struct cli_option *option;
    const char *value = NULL;

    if (text[1] == '-') {
        const char *equals = strchr(text, '=');
        size_t size =
            equals != NULL ? (size_t)(equals - text - 2) : strlen(text + 2);
        option = parse_find_option(own, text + 2, size);
        if (option == NULL) {
            option = parse_find_option(cli_global_options, text + 2, size);
        }
        value = equals != NULL ? equals + 1 : NULL;
    } else {
        option = parse_find_letter(own, text[1]);
        if (option == NULL) {
            option = parse_find_letter(cli_global_options, text[1]);
        }
        value = text[2] != '\0' ? text + 2 : NULL;
    }
    if (option == NULL) {
        *ret_exit = cli_usage_error(parse->cli, "there is no option %s", text);
        return false;
    }
    return parse_set(parse, option, value, text, ret_exit);
}

/* A word that is no option: the noun, the verb, then the arguments. */
static bool
parse_word(struct parse *parse, const char *text, enum cli_exit *ret_exit)
{
    struct cli *cli = parse->cli;

    if (parse->word_count == sizeof parse->words / sizeof parse->words[0]) {
        *ret_exit = cli_usage_error(cli, "there are too many arguments");
        return false;
    }
    parse->words[parse->word_count++] = text;
    if (parse->word_count == 1) {
        const struct cli_command *table = parse_find_noun(text);
        if (table == NULL) {
            *ret_exit =
                cli_usage_error(cli, "there is no command \"%s\"", text);
            return false;
        }
        parse->table = table;
        if (table->verb == NULL) {
            cli->command = table;
        }
    } else if (parse->word_count == 2 && cli->command == NULL) {
        cli->command = parse_find_verb(parse->table, text);
        if (cli->command == NULL) {
            *ret_exit = cli_usage_error(cli, "there is no command \"%s %s\"",
                                        parse->words[0], text);
            return false;
        }
    }
    return true;
}

static bool
parse_words(struct parse *parse, enum cli_exit *ret_exit)
{
    bool only_words = false;

    while (parse->next < parse->argc) {
        const char *text = parse->argv[parse->next++];
        if (!only_words && strcmp(text, "--") == 0) {
            only_words = true;
        } else if (!only_words && strcmp(text, "--version") == 0) {
            printf("weft %s\n", WEFT_VERSION);
            *ret_exit = CLI_DONE;
            return false;
        } else if (!only_words && text[0] == '-' && text[1] != '\0') {
            if (!parse_option(parse, text, ret_exit)) {
                return false;
            }
        } else if (!parse_word(parse, text, ret_exit)) {
            return false;
        }
    }
    return true;
}

/* Whether the arguments are those that the command wants. */
static bool
parse_arguments(struct parse *parse, enum cli_exit *ret_exit)
{
    struct cli *cli = parse->cli;
    uint32_t first = cli->command->verb != NULL ? 2 : 1;
    uint32_t given = parse->word_count - first;
    const char *wanted = cli->command->arguments;
    uint32_t count = 0;

    while (*wanted != '\0') {
        size_t size = strcspn(wanted, " ");
        if (count >= given) {
            *ret_exit =
                cli_usage_error(cli, "%.*s is missing", (int)size, wanted);
            return false;
        }
        cli->arguments[count] = parse->words[first + count];
        count++;
        wanted += size;
        wanted += *wanted == ' ';
    }
    if (given > count) {
        *ret_exit = cli_usage_error(cli, "what is \"%s\" for?",
                                    parse->words[first + count]);
        return false;
    }
    return true;
}

static bool
parse_globals(struct parse *parse, enum cli_exit *ret_exit)
{
    struct cli *cli = parse->cli;
    static const char *const outputs[] = { "table", "json", NULL };
    uint32_t output = CLI_TABLE;

    cli->project = parse->globals[GLOBAL_PROJECT];
    if (cli->project == NULL) {
        cli->project = "default";
    }
    cli_find_endpoint(cli, parse->globals[GLOBAL_ENDPOINT]);
    if (parse->globals[GLOBAL_OUTPUT] != NULL) {
        *ret_exit =
            cli_check_word(cli, "--output", parse->globals[GLOBAL_OUTPUT],
                           outputs, &output);
        if (*ret_exit != CLI_DONE) {
            return false;
        }
    }
    cli->output = (enum cli_output)output;
    cli->timeout_ns = RPC_NO_TIMEOUT;
    const char *timeout = parse->globals[GLOBAL_TIMEOUT];
    if (timeout != NULL &&
        (units_parse_duration(timeout, &cli->timeout_ns) < 0 ||
         cli->timeout_ns == 0)) {
        *ret_exit = cli_usage_error(cli,
                                    "--timeout \"%s\" is not a duration; give "
                                    "a number and s, m or h, such as 30s",
                                    timeout);
        return false;
    }
    return true;
}

bool
cli_parse(int argc, char **argv, struct cli *cli, enum cli_exit *ret_exit)
{
    struct parse parse = { .cli = cli, .argc = argc, .argv = argv, .next = 1 };

    memset(cli, 0, sizeof *cli);
    if (!parse_words(&parse, ret_exit)) {
        return false;
    }
    bool wants_help = parse.globals[GLOBAL_HELP] != NULL;
    FILE *file = wants_help ? stdout : stderr;
    *ret_exit = wants_help ? CLI_DONE : CLI_USAGE;
    if (parse.table == NULL) {
        help_all(file);
        return false;
    }
    if (cli->command == NULL) {
        help_noun(file, parse.table);
        return false;
    }
    if (wants_help) {
        help_command(file, cli->command);
        return false;
    }
    return parse_arguments(&parse, ret_exit) && parse_globals(&parse, ret_exit);
}

const char *
cli_value(const struct cli *cli, const char *name)
{
    const struct cli_option *option =
        parse_find_option(cli->command->options, name, strlen(name));
    CHECK(option != NULL);
    return cli->values[option - cli->command->options];
}

const char *
cli_next_value(const struct cli *cli, const char *name, uint32_t *cursor)
{
    const struct cli_option *option =
        parse_find_option(cli->command->options, name, strlen(name));

    CHECK(option != NULL && parse_is_repeatable(option));
    while (*cursor < cli->repeat_count) {
        uint32_t index = (*cursor)++;
        if (cli->repeats[index].option == option) {
            return cli->repeats[index].value;
        }
    }
    return NULL;
}

bool
cli_flag(const struct cli *cli, const char *name)
{
    return cli_value(cli, name) != NULL;
}
