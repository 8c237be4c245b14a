/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_SYNC_REPORT_H
#define NETD_SYNC_REPORT_H

/* The rows that this host writes of itself, as they should be: Binding,
 * Port_Status, Follow, Net_Host_Status.
 *
 * Users put and remove; the difference to what the database has is written in
 * one transaction at a time, and again if somebody else changes it.  The UUIDs
 * of these rows are derived from what they are about, so that a netd that was
 * started again finds its rows.
 *
 * Invariants:
 *   (1) Nothing is written before report_start(), which is for when the
 *       connection's own rows have come.
 *   (2) A row of this host in those tables (but Net_Host_Status) that nobody
 *       put is deleted, after report_sweep().
 *   (3) When nothing differs nothing is sent.
 *
 * Thread: that of the loop. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/state/state.h"

struct report;

/* 'host' is borrowed.  Aborts when memory is out. */
struct report *report_new(struct loop *loop, struct state *state,
                          const char *host);
/* After the connection was closed (which settles the transaction). */
void report_free(struct report *report);

/* The UUID of this host's row in 'table' about 'subject' (nil: itself). */
void report_uuid(const struct report *report, enum state_table table,
                 const struct weft_uuid *subject, struct weft_uuid *ret_uuid);

/* 'row' is complete, with row->uuid from report_uuid(); copied. */
void report_put(struct report *report, const struct state_row *row);
void report_remove(struct report *report, enum state_table table,
                   const struct weft_uuid *uuid);

void report_start(struct report *report);
/* While held nothing is written: the database is another cloud's (N7), whose
 * rows of a host of this name are not ours. */
void report_hold(struct report *report, bool is_held);
void report_sweep(struct report *report);

/* A row of those tables has changed in the database. */
void report_notice(struct report *report, enum state_table table,
                   const struct weft_uuid *uuid);

/* Rows that differ from the database, as far as is known. */
size_t report_pending(const struct report *report);

#endif /* NETD_SYNC_REPORT_H */
