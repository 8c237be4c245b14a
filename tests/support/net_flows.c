/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the flows of a model on its standard input (see net_model.h): what
 * tests in Python give to a real switch.
 *
 *     net_flows < model > flows */

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/net_model.h"

static void
ignore(struct compile_sink *sink, uint64_t unit,
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

int
main(void)
{
    struct compile_sink sink = { .replace = ignore };
    struct compile *compile = compile_new(&sink);
    char line[4096];

    while (fgets(line, sizeof line, stdin) != NULL) {
        net_model_apply(compile, line);
    }
    compile_run(compile);
    char *flows = net_model_flows(compile, -1);
    (void)fputs(flows, stdout);
    free(flows);
    compile_free(compile);
    return 0;
}
