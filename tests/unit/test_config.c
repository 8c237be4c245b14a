/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/config: what a file may say, what each mistake is answered with,
 * and that the printed reference is a file that is accepted. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/cleanup.h"
#include "lib/base/config.h"
#include "lib/base/units.h"

static const char *const modes[] = { "fast", "safe", NULL };

static const struct config_option options[] = {
    { .section = "daemon",
      .key = "name",
      .type = CONFIG_STRING,
      .min = 1,
      .max = 8,
      .default_text = "weft",
      .doc = "What it is called." },
    { .section = "daemon",
      .key = "note",
      .type = CONFIG_STRING,
      .doc = "Any text." },
    { .section = "daemon",
      .key = "threads",
      .type = CONFIG_UINT,
      .min = 1,
      .max = 64,
      .default_text = "2",
      .doc = "A long sentence that has to be wrapped, because it goes on and "
             "on until it is longer than a line of the reference can be." },
    { .section = "daemon",
      .key = "strict",
      .type = CONFIG_BOOL,
      .default_text = "true",
      .doc = "Whether." },
    { .section = "store",
      .key = "cache",
      .type = CONFIG_SIZE,
      .min = MIB,
      .max = 4 * GIB,
      .default_text = "256M",
      .doc = "Memory." },
    { .section = "store",
      .key = "timeout",
      .type = CONFIG_DURATION,
      .max = 60 * NS_PER_S,
      .default_text = "5s",
      .doc = "Time." },
    { .section = "store",
      .key = "mode",
      .type = CONFIG_ENUM,
      .choices = modes,
      .default_text = "safe",
      .doc = "How." },
    { .section = "store",
      .key = "disk",
      .type = CONFIG_STRING,
      .is_repeated = true,
      .doc = "Paths." },
};

static int
parse(const char *text, struct config **ret_config, struct err *err)
{
    return config_parse("x.conf", text, strlen(text), options,
                        ARRAY_COUNT(options), ret_config, err);
}

static void
test_defaults(void **state)
{
    struct config *config = NULL;
    struct err err = { "untouched" };
    (void)state;

    assert_int_equal(parse("", &config, &err), 0);
    assert_string_equal(err.text, "untouched");
    assert_string_equal(config_string(config, "daemon", "name"), "weft");
    assert_false(config_has(config, "daemon", "note"));
    assert_int_equal(config_u64(config, "daemon", "threads"), 2);
    assert_true(config_bool(config, "daemon", "strict"));
    assert_int_equal(config_u64(config, "store", "cache"), 256 * MIB);
    assert_int_equal(config_u64(config, "store", "timeout"), 5 * NS_PER_S);
    assert_int_equal(config_enum(config, "store", "mode"), 1);
    assert_int_equal(config_count(config, "store", "disk"), 0);
    config_free(config);
    config_free(NULL);
}

static void
test_values(void **state)
{
    struct config *config = NULL;
    struct err err;
    (void)state;

    int error = parse("# comment\n"
                      "\n"
                      "; comment\r\n"
                      "  [ daemon ]  \r\n"
                      "name=a b\n"
                      "\tnote = x = y # z \r\n"
                      "threads = 64\n"
                      "strict = false\n"
                      "[store]\n"
                      "cache = 1G\n"
                      "timeout = 200ms\n"
                      "mode = fast\n"
                      "disk = /dev/a\n"
                      "disk = /dev/b\n"
                      "[daemon]\n"
                      "[store]\n"
                      "disk = /dev/c",
                      &config, &err);
    assert_int_equal(error, 0);
    assert_string_equal(config_string(config, "daemon", "name"), "a b");
    assert_string_equal(config_string(config, "daemon", "note"), "x = y # z");
    assert_int_equal(config_u64(config, "daemon", "threads"), 64);
    assert_false(config_bool(config, "daemon", "strict"));
    assert_int_equal(config_u64(config, "store", "cache"), GIB);
    assert_int_equal(config_u64(config, "store", "timeout"), 200 * NS_PER_MS);
    assert_int_equal(config_enum(config, "store", "mode"), 0);
    assert_int_equal(config_count(config, "store", "disk"), 3);
    assert_string_equal(config_string_at(config, "store", "disk", 0), "/dev/a");
    assert_string_equal(config_string_at(config, "store", "disk", 2), "/dev/c");
    config_free(config);
}

static void
test_mistakes(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        { "name = x\n", "x.conf:1: \"name\" is before any section; write "
                        "\"[name]\" first" },
        { "\n[disk]\n", "x.conf:2: there is no section [disk]" },
        { "[\n", "x.conf:1: a section without its end; write \"[name]\"" },
        { "[]\n", "x.conf:1: there is no section []" },
        { "[store\n", "x.conf:1: a section without its end; write \"[name]\"" },
        { "[store]\nname = x\n", "x.conf:2: [store] has no key \"name\"" },
        { "[store]\n= x\n", "x.conf:2: [store] has no key \"\"" },
        { "[store]\nwhat\n", "x.conf:2: \"what\" is neither a comment, a "
                             "section nor a setting; write \"key = value\"" },
        { "[daemon]\nthreads = 1\nthreads = 1\n",
          "x.conf:3: [daemon] threads is given twice; line 2 has it already" },
        { "[daemon]\nthreads = -1\n",
          "x.conf:2: [daemon] threads: \"-1\" is not a number; write decimal "
          "digits, such as \"16\"" },
        { "[daemon]\nthreads = 0\n", "x.conf:2: [daemon] threads: \"0\" is too "
                                     "small; the value is at least 1" },
        { "[daemon]\nthreads = 65\n",
          "x.conf:2: [daemon] threads: \"65\" is too large; the value is at "
          "most 64" },
        { "[daemon]\nthreads = 99999999999999999999\n",
          "x.conf:2: [daemon] threads: \"99999999999999999999\" is too large "
          "for 64 bits" },
        { "[daemon]\nname =\n", "x.conf:2: [daemon] name: \"\" is too small; "
                                "the length is at least 1" },
        { "[daemon]\nname = 123456789\n",
          "x.conf:2: [daemon] name: \"123456789\" is too large; the length is "
          "at most 8" },
        { "[daemon]\nstrict = yes\n",
          "x.conf:2: [daemon] strict: \"yes\" is not a choice; write true or "
          "false" },
        { "[store]\ncache = 1G5\n",
          "x.conf:2: [store] cache: \"1G5\" is not a size; write a number with "
          "an optional K, M, G, T or P, such as \"256M\"" },
        { "[store]\ncache = 5G\n", "x.conf:2: [store] cache: \"5G\" is too "
                                   "large; the value is at most 4G" },
        { "[store]\ntimeout = 5\n",
          "x.conf:2: [store] timeout: \"5\" is not a duration; write a number "
          "with ns, us, ms, s, m or h, such as \"200ms\"" },
        { "[store]\ntimeout = 61s\n", "x.conf:2: [store] timeout: \"61s\" is "
                                      "too large; the value is at most 1m" },
        { "[store]\nmode = Fast\n", "x.conf:2: [store] mode: \"Fast\" is not a "
                                    "choice; write one of: fast, safe" },
    };
    struct config *config = NULL;
    struct err err;
    (void)state;

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_int_equal(parse(cases[i].text, &config, &err), -EINVAL);
        assert_string_equal(err.text, cases[i].message);
        assert_int_equal(parse(cases[i].text, &config, NULL), -EINVAL);
        assert_null(config); /* Untouched. */
    }
    assert_int_equal(config_parse("x", "[st\0ore]", 8, options,
                                  ARRAY_COUNT(options), &config, &err),
                     -EINVAL);
}

static void
test_required(void **state)
{
    static const struct config_option required[] = {
        { .section = "a",
          .key = "b",
          .type = CONFIG_STRING,
          .is_required = true,
          .doc = "Needed." },
    };
    struct config *config = NULL;
    struct err err;
    (void)state;

    assert_int_equal(config_parse("x.conf", "[a]\n", 4, required, 1, &config,
                                  &err),
                     -EINVAL);
    assert_string_equal(err.text, "x.conf: [a] b is missing; it is required");
    assert_int_equal(config_parse("x.conf", "[a]\nb=1", 7, required, 1, &config,
                                  &err),
                     0);
    config_free(config);
}

static void
test_load(void **state)
{
    char path[] = "/tmp/weft-config-XXXXXX";
    struct config *config = NULL;
    struct err err;
    (void)state;

    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "[daemon]\nname = file\n", 21), 21);
    assert_int_equal(config_load(path, options, ARRAY_COUNT(options), &config,
                                 &err),
                     0);
    assert_string_equal(config_string(config, "daemon", "name"), "file");
    config_free(config);
    assert_int_equal(ftruncate(fd, CONFIG_FILE_SIZE_MAX + 1), 0);
    assert_int_equal(config_load(path, options, ARRAY_COUNT(options), &config,
                                 &err),
                     -EFBIG);
    close(fd);
    unlink(path);
    assert_int_equal(config_load(path, options, ARRAY_COUNT(options), &config,
                                 &err),
                     -ENOENT);
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(config_load("/tmp", options, ARRAY_COUNT(options), &config,
                                 &err),
                     -EISDIR);
}

static void
wrong_type(void *argument)
{
    config_u64(argument, "daemon", "name");
}

static void
unknown_key(void *argument)
{
    config_string(argument, "daemon", "nmae");
}

static void
no_value(void *argument)
{
    config_string(argument, "daemon", "note");
}

static void
test_misuse(void **state)
{
    struct config *config = NULL;
    (void)state;

    assert_int_equal(parse("", &config, NULL), 0);
    assert_true(unit_aborts(wrong_type, config));
    assert_true(unit_aborts(unknown_key, config));
    assert_true(unit_aborts(no_value, config));
    config_free(config);
}

static void
test_doc(void **state)
{
    char *text = NULL;
    size_t size = 0;
    struct config *config = NULL;
    struct err err = { "" };
    (void)state;

    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    config_print_doc(out, options, ARRAY_COUNT(options));
    fclose(out);

    assert_non_null(strstr(text, "[daemon]\n\n# What it is called.\n"
                                 "# Type: text, length at least 1, length at "
                                 "most 8.\n#name = weft\n"));
    assert_non_null(strstr(text, "\n[store]\n"));
    assert_non_null(strstr(text, "# Type: size, at least 1M, at most 4G.\n"));
    assert_non_null(strstr(text, "# Type: one of fast, safe.\n"));
    assert_non_null(strstr(text, "# Type: text; may be repeated.\n#disk =\n"));
    assert_int_equal(parse(text, &config, &err), 0);
    config_free(config);

    /* With every default uncommented it says the same, and no line is long. */
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_true(end - line <= 78);
        char *equals = memchr(line, '=', (size_t)(end - line));
        if (line[0] == '#' && line[1] != ' ' && equals[1] == ' ') {
            line[0] = ' ';
        }
        line = end + 1;
    }
    assert_int_equal(parse(text, &config, &err), 0);
    assert_int_equal(config_u64(config, "store", "cache"), 256 * MIB);
    config_free(config);
    free(text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_values),
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_required),
        cmocka_unit_test(test_load),     cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_doc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
