/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_IPAM_H
#define NETD_API_IPAM_H

/* Which addresses of a range can be given out.  Pure: no rows, no clock.
 *
 * An address is numbered by its distance from the first one of its range; of
 * very large IPv6 ranges only the first 2^63 can be chosen automatically. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/base/uuid.h"

struct ipam_range {
    struct ip_prefix prefix;
    struct ip_address gateway;
    bool has_gateway;
};

/* Whether that can be the range of a subnet at all; else why not, and what
 * would be right.  NULL: it can. */
const char *ipam_range_error(const struct ip_prefix *prefix);

/* How many addresses it has, from number 0 on. */
uint64_t ipam_size(const struct ip_prefix *prefix);
struct ip_address ipam_nth(const struct ip_prefix *prefix, uint64_t number);
/* Of an address of the range; UINT64_MAX if it is beyond 2^63. */
uint64_t ipam_number(const struct ip_prefix *prefix,
                     const struct ip_address *address);

/* Why an address cannot be a port's: "is outside of ...".  NULL: it can. */
const char *ipam_refusal(const struct ipam_range *range,
                         const struct ip_address *address);
/* Why an address cannot be the gateway.  NULL: it can. */
const char *ipam_gateway_refusal(const struct ip_prefix *prefix,
                                 const struct ip_address *address);
/* The gateway if nobody says otherwise; false: the range is too small. */
bool ipam_default_gateway(const struct ip_prefix *prefix,
                          struct ip_address *ret_gateway);

/* ---- Where to begin looking for a free address ---- */

#define IPAM_HINTS 1024u

/* For some subnets: all numbers below are known to be taken. */
struct ipam_hints {
    struct {
        struct weft_uuid subnet;
        uint64_t number;
    } slots[IPAM_HINTS];
};

uint64_t ipam_hint(const struct ipam_hints *hints,
                   const struct weft_uuid *subnet);
void ipam_hint_set(struct ipam_hints *hints, const struct weft_uuid *subnet,
                   uint64_t number);
/* An address has become free. */
void ipam_hint_lower(struct ipam_hints *hints, const struct weft_uuid *subnet,
                     uint64_t number);

#endif /* NETD_API_IPAM_H */
