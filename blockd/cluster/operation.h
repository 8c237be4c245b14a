/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_OPERATION_H
#define BLOCKD_CLUSTER_OPERATION_H

/* Operations: whether what a request asked for has come to be.
 *
 * An Operation row says what was asked.  While it says "running", how far it is
 * is read off the rows of its target: so it needs no writer, cannot be
 * forgotten by a host that dies, and is the same on every host.
 *
 *   CreateVolume   done when the volume is ready; failed when a replica of it
 *                  can never be made
 *   AttachVolume   done when the attachment has a URI; failed when its host
 *                  says so
 *   DetachVolume   done when nobody owns the volume
 *   CreateDisk     done when the disk is in service; failed when refused
 *   others         done when committed
 *
 * As soon as it has ended, the manager writes down how and when (manager.c).
 * From then on the row alone counts: what becomes of the target later, even
 * another one of that name, is no longer its matter. */

#include <stdbool.h>

#include "lib/state/state.h"

struct operation_verdict {
    bool is_done;
    bool has_failed;
    const char *text; /* Why, or what it waits for, for people; NULL: nothing.
                       * Borrowed like a row. */
};

struct operation_verdict operation_judge(struct state *state,
                                         const struct state_operation *row);

/* Why a volume that is being created never will be, or NULL. */
const char *operation_creation_error(struct state *state,
                                     const struct state_volume *volume);

#endif /* BLOCKD_CLUSTER_OPERATION_H */
