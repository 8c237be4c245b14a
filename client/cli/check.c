/* SPDX-License-Identifier: Apache-2.0 */
/* What the user typed, checked before anything is sent. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"
#include "lib/base/name.h"
#include "lib/base/units.h"

const char *
cli_short_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash != NULL ? slash + 1 : name;
}

static enum cli_exit
check_name(const struct cli *cli, const char *what, const char *text)
{
    if (name_is_valid(text)) {
        return CLI_DONE;
    }
    return cli_usage_error(cli, "%s \"%s\" is not a name; " NAME_RULE_TEXT,
                           what, text);
}

enum cli_exit
cli_check_name(const struct cli *cli, const char *what, const char *collection,
               const char *text, char ret_name[CLI_NAME_SIZE])
{
    size_t size = strlen(collection);
    if (strncmp(text, collection, size) == 0 && text[size] == '/') {
        text += size + 1;
    }
    enum cli_exit code = check_name(cli, what, text);
    if (code == CLI_DONE) {
        snprintf(ret_name, CLI_NAME_SIZE, "%s/%s", collection, text);
    }
    return code;
}

enum cli_exit
cli_check_project(const struct cli *cli, char ret_name[CLI_NAME_SIZE])
{
    return cli_check_name(cli, "--project", "projects", cli->project, ret_name);
}

enum cli_exit
cli_check_volume(const struct cli *cli, const char *text,
                 char ret_name[CLI_NAME_SIZE])
{
    char project[CLI_NAME_SIZE];
    enum cli_exit code = cli_check_project(cli, project);
    if (code == CLI_DONE) {
        code = check_name(cli, "NAME", text);
    }
    if (code == CLI_DONE) {
        int size =
            snprintf(ret_name, CLI_NAME_SIZE, "%s/volumes/%s", project, text);
        CHECK(size < CLI_NAME_SIZE); /* Both parts have at most 63 bytes. */
    }
    return code;
}

enum cli_exit
cli_check_size(const struct cli *cli, const char *what, const char *text,
               uint64_t min_bytes, uint64_t max_bytes, uint64_t *ret_bytes)
{
    uint64_t bytes;
    char min_text[UNITS_TEXT_SIZE], max_text[UNITS_TEXT_SIZE];
    int result = units_parse_size(text, &bytes);

    if (result == -EINVAL) {
        return cli_usage_error(cli,
                               "%s \"%s\" is not a size; give a number and K, "
                               "M, G or T, such as 20G",
                               what, text);
    }
    units_format_size(min_bytes, min_text);
    units_format_size(max_bytes, max_text);
    if (result < 0 || bytes < min_bytes || bytes > max_bytes) {
        return cli_usage_error(cli,
                               "%s \"%s\" is out of range; give a size from "
                               "%s to %s",
                               what, text, min_text, max_text);
    }
    if (!units_is_aligned(bytes, WEFT_BLOCK_SIZE)) {
        return cli_usage_error(cli,
                               "%s \"%s\" is not a multiple of 4K; the next "
                               "one is %llu",
                               what, text,
                               (unsigned long long)
                                   units_align_up(bytes, WEFT_BLOCK_SIZE));
    }
    *ret_bytes = bytes;
    return CLI_DONE;
}

enum cli_exit
cli_check_number(const struct cli *cli, const char *what, const char *text,
                 uint64_t min, uint64_t max, uint64_t *ret_number)
{
    uint64_t number;
    if (units_parse_u64(text, &number) < 0 || number < min || number > max) {
        return cli_usage_error(cli,
                               "%s must be a number from %llu to %llu, "
                               "not \"%s\"",
                               what, (unsigned long long)min,
                               (unsigned long long)max, text);
    }
    *ret_number = number;
    return CLI_DONE;
}

enum cli_exit
cli_check_word(const struct cli *cli, const char *what, const char *text,
               const char *const *words, uint32_t *ret_index)
{
    char list[256] = "";
    size_t used = 0;

    for (uint32_t i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *ret_index = i;
            return CLI_DONE;
        }
        int size = snprintf(list + used, sizeof list - used, "%s\"%s\"",
                            i == 0                 ? ""
                            : words[i + 1] == NULL ? " or "
                                                   : ", ",
                            words[i]);
        used += (size_t)size;
        CHECK(used < sizeof list);
    }
    return cli_usage_error(cli, "%s must be %s, not \"%s\"", what, list, text);
}
