/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdlib.h>

#include "lib/base/container_of.h"
#include "lib/base/log.h"
#include "netd/compile/emit.h"
#include "netd/flow/desired.h"
#include "tests/support/net_rows.h"

/* Whatever the emitters say can be said in OpenFlow: every match has its
 * prerequisites, no two flows mean the same key.
 *
 *     test_flow_compile [SEEDS [FIRST_SEED]] */

#define STEPS 2000u

static unsigned seed_count = 5;
static unsigned first_seed = 1;

struct fake_flow {
    struct compile_sink sink;
    struct desired desired;
};

static void
on_replace(struct compile_sink *sink, uint64_t unit,
           struct flow_spec *const *old_flows, size_t old_count,
           struct flow_spec *const *new_flows, size_t new_count)
{
    struct fake_flow *fake = container_of(sink, struct fake_flow, sink);
    desired_replace(&fake->desired, unit, old_flows, old_count, new_flows,
                    new_count);
}

static void
settle(struct desired *desired, size_t *total)
{
    struct list *node;
    char text[2048];

    while ((node = list_pop_front(&desired->dirty)) != NULL) {
        struct flow_entry *entry = container_of(node, struct flow_entry, node);
        desired_settle(desired, entry, NULL);
        if (entry->error != NULL) {
            flow_spec_format(entry->desired, text, sizeof text);
            fail_msg("%s: %s", entry->error, text);
        }
        *total += entry->desired != NULL;
        desired_release(desired, entry);
    }
}

static void
change(struct rng *rng, struct compile *compile)
{
    enum state_table table = net_rows_table(rng_below(rng, NET_ROWS_TABLES));
    size_t slot = rng_below(rng, NET_ROWS_SLOTS);
    struct local_port local = {
        .port = net_rows_uuid(STATE_TABLE_PORT, slot),
        .ofport = (uint32_t)rng_below(rng, 20),
        .zone = 2000 + (uint32_t)rng_below(rng, 20),
    };

    if (rng_chance(rng, 1, 6)) {
        compile_put_local(compile, &local);
    } else if (rng_chance(rng, 1, 30)) {
        compile_delete_local(compile, &local.port);
    } else if (rng_chance(rng, 1, 10)) {
        struct weft_uuid uuid = net_rows_uuid(table, slot);
        compile_delete_row(compile, table, &uuid);
    } else {
        struct state_row *row = net_rows_random(rng, table, slot);
        compile_put_row(compile, row);
        state_row_free(row);
    }
}

static void
test_encodable(void **state)
{
    size_t total = 0;

    (void)state;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_set_fd(nowhere); /* Random rows make owners disagree. */
    for (unsigned seed = first_seed; seed < first_seed + seed_count; seed++) {
        struct fake_flow fake = { .sink = { .replace = on_replace } };
        struct rng rng;

        rng_init(&rng, seed);
        desired_init(&fake.desired);
        struct compile *compile = compile_new(&fake.sink);
        struct compile_self self = { .host = "h0",
                                     .tunnel_ofport = 100,
                                     .underlay_mtu = 1500 };
        compile_set_self(compile, &self);
        for (unsigned step = 0; step < STEPS; step++) {
            change(&rng, compile);
            compile_run(compile);
            settle(&fake.desired, &total);
        }
        compile_free(compile);
        desired_done(&fake.desired);
    }
    log_set_fd(2);
    close(nowhere);
    print_message("# %zu flows encoded\n", total);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_encodable) };

    if (argc > 1) {
        seed_count = (unsigned)strtoul(argv[1], NULL, 10);
    }
    if (argc > 2) {
        first_seed = (unsigned)strtoul(argv[2], NULL, 10);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
