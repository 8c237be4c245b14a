/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/volume/volume_internal.h"
#include "lib/base/units.h"

/* Extent e of the volume is extent e / width of mirror e % width. */

struct volume_place
volume_shape_place(const struct volume_shape *shape, uint64_t offset_bytes)
{
    uint64_t extent = offset_bytes / shape->extent_bytes;
    uint64_t inside = offset_bytes % shape->extent_bytes;

    return (struct volume_place){
        .mirror = (uint32_t)(extent % shape->width),
        .offset_bytes = extent / shape->width * shape->extent_bytes + inside,
        .rest_bytes = shape->extent_bytes - inside,
    };
}

uint64_t
volume_shape_share(const struct volume_shape *shape, uint64_t end_bytes,
                   uint32_t mirror)
{
    uint64_t extents = end_bytes / shape->extent_bytes;
    uint64_t inside = end_bytes % shape->extent_bytes;
    uint64_t share = extents / shape->width * shape->extent_bytes;
    uint64_t rest = extents % shape->width;

    if (mirror < rest) {
        share += shape->extent_bytes;
    } else if (mirror == rest) {
        share += inside;
    }
    return share;
}

uint64_t
volume_mirror_bytes(uint64_t size_bytes, uint64_t extent_bytes,
                    uint32_t mirror_count, uint32_t index)
{
    struct volume_shape shape = { .size_bytes = size_bytes,
                                  .extent_bytes = extent_bytes,
                                  .width = mirror_count };

    return units_align_up(volume_shape_share(&shape, size_bytes, index),
                          WEFT_BLOCK_SIZE);
}
