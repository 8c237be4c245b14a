/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_COMPILE_PORTS_H
#define NETD_COMPILE_PORTS_H

/* Ranges of 16-bit numbers as values under a mask, which is all that a flow can
 * match. */

#include <stddef.h>
#include <stdint.h>

/* 1..65534 is the worst range. */
#define PORT_MASKS_MAX 30u

struct port_mask {
    uint16_t value;
    uint16_t mask; /* 0: any number. */
};

/* The fewest that cover first..last and nothing else, rising.  0: 'first' is
 * above 'last'. */
size_t ports_split(uint16_t first, uint16_t last,
                   struct port_mask ret_masks[PORT_MASKS_MAX]);

#endif /* NETD_COMPILE_PORTS_H */
