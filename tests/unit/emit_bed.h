/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_EMIT_BED_H
#define TESTS_UNIT_EMIT_BED_H

/* A compiler with a model out of a text (tests/support/net_model.h), and its
 * flows compared with a text. */

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "netd/compile/emit.h"
#include "netd/compile/pipeline.h"
#include "tests/support/net_model.h"

static inline void
emit_bed_ignore(struct compile_sink *sink, uint64_t unit,
                struct flow_spec *const *old_flows, size_t old_count,
                struct flow_spec *const *new_flows, size_t new_count)
{
    (void)sink;
    (void)unit;
    (void)old_flows;
    (void)old_count;
    (void)new_flows;
    (void)new_count;
}

struct emit_bed {
    struct compile_sink sink;
    struct compile *compile;
};

static inline void
emit_bed_start(struct emit_bed *bed, const char *model)
{
    bed->sink.replace = emit_bed_ignore;
    bed->compile = compile_new(&bed->sink);
    net_model_apply(bed->compile, model);
    compile_run(bed->compile);
}

static inline void
emit_bed_stop(struct emit_bed *bed)
{
    compile_free(bed->compile);
}

static inline void
emit_bed_apply(struct emit_bed *bed, const char *model)
{
    net_model_apply(bed->compile, model);
    compile_run(bed->compile);
}

/* Flows of a table in whose line is 'part' (NULL: all): exactly these. */
static inline void
emit_bed_expect(struct emit_bed *bed, int table, const char *part,
                const char *expected)
{
    char *flows = net_model_flows(bed->compile, table);
    char *found = malloc(strlen(flows) + 1);
    char *rest = flows;
    size_t length = 0;

    assert_non_null(found);
    while (*rest != '\0') {
        size_t size = strcspn(rest, "\n") + 1;
        char *line = strndup(rest, size);
        assert_non_null(line);
        if (part == NULL || strstr(line, part) != NULL) {
            memcpy(found + length, line, size);
            length += size;
        }
        free(line);
        rest += size;
    }
    found[length] = '\0';
    assert_string_equal(found, expected);
    free(found);
    free(flows);
}

/* How often 'part' is in the flows of a table. */
static inline size_t
emit_bed_count(struct emit_bed *bed, int table, const char *part)
{
    char *flows = net_model_flows(bed->compile, table);
    size_t count = 0;

    for (char *at = flows; (at = strstr(at, part)) != NULL; at++) {
        count++;
    }
    free(flows);
    return count;
}

#endif /* TESTS_UNIT_EMIT_BED_H */
