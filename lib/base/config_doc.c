/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "lib/base/config.h"
#include "lib/base/config_value.h"

#define DOC_COLUMNS 78

static const char *const type_names[] = {
    [CONFIG_STRING] = "text",        [CONFIG_UINT] = "number",
    [CONFIG_SIZE] = "size",          [CONFIG_DURATION] = "duration",
    [CONFIG_BOOL] = "true or false", [CONFIG_ENUM] = "one of",
};

/* Prints 'text' as comment lines of at most DOC_COLUMNS. */
static void
print_wrapped(FILE *out, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column == 0) {
            column = (size_t)fprintf(out, "#");
        } else if (column + 1 + length > DOC_COLUMNS) {
            fputc('\n', out);
            column = (size_t)fprintf(out, "#");
        }
        column += (size_t)fprintf(out, " %.*s", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
    if (column > 0) {
        fputc('\n', out);
    }
}

static void
print_type(FILE *out, const struct config_option *option)
{
    char bound[CONFIG_BOUND_SIZE];
    const char *what = option->type == CONFIG_STRING ? ", length" : ",";

    fprintf(out, "# Type: %s", type_names[option->type]);
    if (option->type == CONFIG_ENUM) {
        for (size_t i = 0; option->choices[i] != NULL; i++) {
            fprintf(out, "%s %s", i == 0 ? "" : ",", option->choices[i]);
        }
    }
    if (option->min != 0) {
        config_value_format(option, option->min, bound);
        fprintf(out, "%s at least %s", what, bound);
    }
    if (option->max != 0) {
        config_value_format(option, option->max, bound);
        fprintf(out, "%s at most %s", what, bound);
    }
    fprintf(out, "%s%s.\n", option->is_required ? "; required" : "",
            option->is_repeated ? "; may be repeated" : "");
}

void
config_print_doc(FILE *out, const struct config_option *options, size_t count)
{
    const char *section = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct config_option *option = &options[i];

        if (section == NULL || strcmp(section, option->section) != 0) {
            section = option->section;
            fprintf(out, "%s[%s]\n", i == 0 ? "" : "\n", section);
        }
        fputc('\n', out);
        print_wrapped(out, option->doc);
        print_type(out, option);
        if (option->default_text != NULL) {
            fprintf(out, "#%s = %s\n", option->key, option->default_text);
        } else {
            fprintf(out, "#%s =\n", option->key);
        }
    }
}
