/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_CLUSTER_PLACEMENT_H
#define BLOCKD_CLUSTER_PLACEMENT_H

/* Which disks a new volume's replicas go to: a pure function.
 *
 * Each mirror gets its replicas on different failure domains; mirrors of one
 * volume are spread over all disks, the one with most room first (free space
 * less what this placement already gave it).  Volumes are thin: a disk is
 * eligible even if the volume is larger than its free space, but not if it
 * holds as many replicas as it can. */

#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/base/uuid.h"

#define PLACEMENT_REPLICAS_MAX 3u

struct placement_disk {
    struct weft_uuid disk;
    const char *domain; /* Host or rack. */
    uint64_t free_bytes;
    uint32_t replicas_left; /* How many more it can hold. */
    /* Private. */
    uint64_t given_bytes;
    uint32_t given_count;
};

struct placement_mirror {
    struct weft_uuid disk[PLACEMENT_REPLICAS_MAX];
};

/* Places 'mirror_count' mirrors of 'mirror_bytes' each with 'replicas' copies.
 * -ENOSPC with text: too few failure domains, or too many replicas there. */
WEFT_MUST_CHECK int placement_choose(struct placement_disk *disks,
                                     size_t disk_count, uint32_t replicas,
                                     uint64_t mirror_bytes,
                                     uint32_t mirror_count, struct err *err,
                                     struct placement_mirror *ret_mirrors);

#endif /* BLOCKD_CLUSTER_PLACEMENT_H */
