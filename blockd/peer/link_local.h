/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_PEER_LINK_LOCAL_H
#define BLOCKD_PEER_LINK_LOCAL_H

/* A link to a store of this process.
 *
 * If the store belongs to the reactor of the link, a request is a direct call.
 * Else it is copied into a slot, posted to the store's reactor, submitted
 * there, and posted back: no state is shared, and the order of submission is
 * kept.  When all slots are in use, further requests wait in the link, first
 * come, first served.
 *
 * Before the store is closed, every link to it is closed (link_close_start):
 * quiet() says that the store will not be called any more.
 *
 * Ownership: the link is freed by link_close_start(); the store is borrowed
 * until quiet(). */

#include <stdint.h>

#include "blockd/peer/link.h"
#include "blockd/store/store.h"
#include "lib/base/check.h"
#include "lib/io/io.h"

/* Requests of a link that are at another reactor at the same time. */
#define LINK_LOCAL_SLOTS 256u

/* Set-up (allocates), on the reactor 'io' of the link's users.  'store_io' is
 * the reactor of the store.  The link is UP at once.  -ENOMEM. */
WEFT_MUST_CHECK int link_local_new(struct io *io, struct store *store,
                                   struct io *store_io,
                                   const struct weft_uuid *disk,
                                   struct link **ret_link);

#endif /* BLOCKD_PEER_LINK_LOCAL_H */
