/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_FOLLOW_H
#define NETD_SYNC_FOLLOW_H

/* Acknowledging changes (N11).
 *
 * A change that somebody waits for raises the Scope_Seq of its scope in its own
 * transaction.  This host has a Follow row for each scope that it follows; when
 * a barrier has confirmed flows that were made from rows with some number, it
 * writes that number there.
 *
 *     follow_step()          the rows may have changed
 *     follow_committed(v)    what the (complete) rows call for is on its way
 *     follow_confirmed(v)    the switch has it
 *
 * Thread: that of the loop. */

#include <stddef.h>
#include <stdint.h>

#include "netd/sync/cloud.h"
#include "netd/sync/report.h"

struct follow;

/* All borrowed.  Aborts when memory is out. */
struct follow *follow_new(struct cloud *cloud, struct report *report,
                          const char *host);
void follow_free(struct follow *follow); /* Accepts NULL. */

/* Begins and ends to follow, as the scope is now. */
void follow_step(struct follow *follow);
void follow_committed(struct follow *follow, uint64_t version);
void follow_confirmed(struct follow *follow, uint64_t version);

size_t follow_count(const struct follow *follow);

#endif /* NETD_SYNC_FOLLOW_H */
