/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_FLOW_STORE_H
#define TESTS_SUPPORT_FLOW_STORE_H

/* A sink that keeps what the compiler says, by unit, and checks that it says
 * nothing that does not fit. */

#include "netd/compile/compile.h"

struct flow_store_unit {
    uint64_t unit;
    struct flow_spec **flows; /* Holds references. */
    size_t count;
};

struct flow_store {
    struct compile_sink sink;
    struct flow_store_unit *units; /* By growing number. */
    size_t count, capacity;
    uint64_t calls; /* Of the sink. */
};

void flow_store_init(struct flow_store *store);
void flow_store_done(struct flow_store *store);

/* All flows as one table: conjunctions merged, in the order of
 * flow_spec_compare().  CHECK: two units contradict each other.  The caller
 * unrefs each and frees the array. */
struct flow_spec **flow_store_table(const struct flow_store *store,
                                    size_t *ret_count);
void flow_store_table_free(struct flow_spec **flows, size_t count);

/* Whether both hold the same flows; by unit, or (is_table) in all.  Prints the
 * first difference to stderr. */
bool flow_store_equal(const struct flow_store *a, const struct flow_store *b,
                      bool is_table);

#endif /* TESTS_SUPPORT_FLOW_STORE_H */
