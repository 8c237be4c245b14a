/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/cluster/placement.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Room that is left, which may be "negative": given more than is free. */
static bool
placement_is_roomier(const struct placement_disk *a,
                     const struct placement_disk *b)
{
    uint64_t left = a->free_bytes + b->given_bytes;
    uint64_t right = b->free_bytes + a->given_bytes;

    return left > right ||
           (left == right && uuid_compare(&a->disk, &b->disk) < 0);
}

static bool
placement_has_domain(const struct placement_disk *const chosen[],
                     uint32_t count, const char *domain)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(chosen[i]->domain, domain) == 0) {
            return true;
        }
    }
    return false;
}

static bool
placement_is_full(const struct placement_disk *disk)
{
    return disk->given_count >= disk->replicas_left;
}

static struct placement_disk *
placement_next(struct placement_disk *disks, size_t disk_count,
               const struct placement_disk *const chosen[], uint32_t count)
{
    struct placement_disk *best = NULL;

    for (size_t i = 0; i < disk_count; i++) {
        if (!placement_is_full(&disks[i]) &&
            !placement_has_domain(chosen, count, disks[i].domain) &&
            (best == NULL || placement_is_roomier(&disks[i], best))) {
            best = &disks[i];
        }
    }
    return best;
}

static void
placement_explain(const struct placement_disk *disks, size_t disk_count,
                  uint32_t replicas, uint32_t found, struct err *err)
{
    size_t full = 0;

    for (size_t i = 0; i < disk_count; i++) {
        full += placement_is_full(&disks[i]);
    }
    if (full == 0) {
        err_set(err,
                "%u copies need ready disks in %u different failure domains, "
                "there are %u; add disks with 'weft disk add'",
                replicas, replicas, found);
        return;
    }
    err_set(err,
            "%u copies need ready disks in %u different failure domains, there "
            "are %u with room: %zu disks hold, or would with this volume, as "
            "many replicas as they can (one for each 256 MiB of their size, at "
            "least 30); delete volumes, or add disks with 'weft disk add'",
            replicas, replicas, found, full);
}

int
placement_choose(struct placement_disk *disks, size_t disk_count,
                 uint32_t replicas, uint64_t mirror_bytes,
                 uint32_t mirror_count, struct err *err,
                 struct placement_mirror *ret_mirrors)
{
    CHECK(replicas >= 1);
    CHECK(replicas <= PLACEMENT_REPLICAS_MAX);

    for (size_t i = 0; i < disk_count; i++) {
        disks[i].given_bytes = 0;
        disks[i].given_count = 0;
    }
    for (uint32_t m = 0; m < mirror_count; m++) {
        const struct placement_disk *chosen[PLACEMENT_REPLICAS_MAX];
        for (uint32_t r = 0; r < replicas; r++) {
            struct placement_disk *disk =
                placement_next(disks, disk_count, chosen, r);
            if (disk == NULL) {
                placement_explain(disks, disk_count, replicas, r, err);
                return -ENOSPC;
            }
            disk->given_bytes += mirror_bytes;
            disk->given_count++;
            chosen[r] = disk;
            ret_mirrors[m].disk[r] = disk->disk;
        }
    }
    return 0;
}
