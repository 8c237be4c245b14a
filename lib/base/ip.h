/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_BASE_IP_H
#define LIB_BASE_IP_H

/* IPv4 and IPv6 addresses, prefixes, and MAC addresses, as values and as
 * canonical text: one text for one address, so that texts can be compared and
 * indexed (N16). */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/check.h"

#define IP_TEXT_SIZE 46        /* An address and its NUL. */
#define IP_PREFIX_TEXT_SIZE 50 /* "/128" more. */
#define MAC_TEXT_SIZE 18

struct ip_address {
    bool is_ipv6;
    uint8_t bytes[16]; /* IPv4: the first 4; the others are zero. */
};

struct ip_prefix {
    struct ip_address address; /* No bit is set behind 'length'. */
    uint32_t length;
};

struct mac_address {
    uint8_t bytes[6];
};

/* Any text form of an address (RFC 4291 2.2; IPv4: four decimal numbers).
 * -EINVAL */
WEFT_MUST_CHECK int ip_address_parse(const char *text,
                                     struct ip_address *ret_address);
/* RFC 5952. */
void ip_format(const struct ip_address *address, char ret_text[IP_TEXT_SIZE]);
/* IPv4 before IPv6, then by value. */
int ip_compare(const struct ip_address *a, const struct ip_address *b);

/* "10.0.0.0/24".  -EINVAL: not of that form; -EDOM: bits are set behind the
 * length, and '*ret_prefix' is the prefix without them. */
WEFT_MUST_CHECK int ip_prefix_parse(const char *text,
                                    struct ip_prefix *ret_prefix);
void ip_prefix_format(const struct ip_prefix *prefix,
                      char ret_text[IP_PREFIX_TEXT_SIZE]);
bool ip_prefix_contains(const struct ip_prefix *prefix,
                        const struct ip_address *address);
bool ip_prefix_overlaps(const struct ip_prefix *a, const struct ip_prefix *b);

/* 32 or 128. */
static inline uint32_t
ip_bits(bool is_ipv6)
{
    return is_ipv6 ? 128 : 32;
}

/* Six pairs of hexadecimal digits of either case, with colons.  -EINVAL */
WEFT_MUST_CHECK int mac_parse(const char *text, struct mac_address *ret_mac);
/* In lower case. */
void mac_format(const struct mac_address *mac, char ret_text[MAC_TEXT_SIZE]);

#endif /* LIB_BASE_IP_H */
