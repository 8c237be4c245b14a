/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_NET_ROWS_H
#define TESTS_SUPPORT_NET_ROWS_H

/* Random rows of the tables that netd compiles: a few UUIDs per table, which
 * refer to each other whether the rows exist or not. */

#include "lib/base/rng.h"
#include "lib/state/row.h"

/* The tables that compile keeps. */
#define NET_ROWS_TABLES 16u
enum state_table net_rows_table(size_t number);

/* How many different rows of a table there can be. */
#define NET_ROWS_SLOTS 10u
/* The UUID of one of them. */
struct weft_uuid net_rows_uuid(enum state_table table, size_t slot);

/* A row with random content; the caller frees it by state_row_free(). */
struct state_row *net_rows_random(struct rng *rng, enum state_table table,
                                  size_t slot);

/* Names of hosts: "h0" ... */
#define NET_ROWS_HOSTS 4u
const char *net_rows_host(size_t number);

#endif /* TESTS_SUPPORT_NET_ROWS_H */
