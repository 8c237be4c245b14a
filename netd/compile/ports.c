/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/compile/ports.h"

#include "lib/base/check.h"

size_t
ports_split(uint16_t first, uint16_t last,
            struct port_mask ret_masks[PORT_MASKS_MAX])
{
    uint32_t at = first;
    size_t count = 0;

    while (at <= last) {
        /* The largest aligned block that begins here and ends in time. */
        uint32_t size = 1;
        while (at % (size * 2) == 0 && at + size * 2 - 1 <= last) {
            size *= 2;
        }
        CHECK(count < PORT_MASKS_MAX);
        ret_masks[count++] = (struct port_mask){
            .value = (uint16_t)at,
            .mask = (uint16_t) ~(size - 1),
        };
        at += size;
    }
    return count;
}
