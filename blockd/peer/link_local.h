/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_LINK_LOCAL_H
#define BLOCKD_PEER_LINK_LOCAL_H

/* A link to a store of this process.
 *
 * A request without a deadline (IO_NEVER), if the store belongs to the reactor
 * of the link, is a direct call.  Every other request is copied into a slot
 * and, if the store belongs to another reactor, posted there and back: no state
 * is shared, and the order of submission is kept.  When all slots are in use,
 * further requests wait in the link, first come, first served.
 *
 * A request *with* a deadline can be left behind, as on a link to another host:
 * a disk that hangs must not hold its users.  So its data, CRCs, states and
 * entries go through memory of the link (one copy more; whoever cannot go on
 * without this disk anyway sets no deadline and saves it).  When a deadline
 * passes, or by link_cut():
 *
 *   (1) All requests with a deadline fail: the late ones with -ETIMEDOUT, the
 *       others with -ENOTCONN.  Then the link is DOWN.
 *   (2) The store still works on what it had; its memory stays the link's.
 *   (3) When the last of these has been answered the link is UP again.  So
 *       nothing of before comes after the FENCE that follows, and a disk that
 *       hangs costs what was under way once, not again and again.
 *   (4) Requests without a deadline pass all the while.
 *
 * Before the store is closed, every link to it is closed (link_close_start):
 * quiet() says that the store will not be called any more, and that it has
 * answered all.
 *
 * Ownership: the link is freed by link_close_start(); the store is borrowed
 * until quiet(). */

#include <stdint.h>

#include "blockd/peer/link.h"
#include "blockd/store/store.h"
#include "lib/base/check.h"
#include "lib/io/io.h"

/* Requests of a link that are in slots at the same time. */
#define LINK_LOCAL_SLOTS 256u
/* Data of requests with a deadline that are under way at the same time. */
#define LINK_LOCAL_BYTES (UINT64_C(8) << 20)

/* Set-up (allocates), on the reactor 'io' of the link's users.  'store_io' is
 * the reactor of the store.  The link is UP at once.  -ENOMEM. */
WEFT_MUST_CHECK int link_local_new(struct io *io, struct store *store,
                                   struct io *store_io,
                                   const struct weft_uuid *disk,
                                   struct link **ret_link);

#endif /* BLOCKD_PEER_LINK_LOCAL_H */
