/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NETD_API_RULE_TEXT_H
#define NETD_API_RULE_TEXT_H

/* Security rules as tenants write them, as columns, and as one canonical text,
 * so that none is in a group twice.  Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/ip.h"
#include "lib/base/uuid.h"

#define RULE_ANY 256u /* Any protocol, ICMP type or code. */
#define RULE_CANONICAL_SIZE 256

enum rule_family {
    RULE_FAMILY_ANY,
    RULE_FAMILY_IPV4,
    RULE_FAMILY_IPV6,
};

/* What was asked for; no text is NULL. */
struct rule_wish {
    bool is_out;
    enum rule_family family; /* ANY: by cidr or protocol, else both. */
    const char *protocol, *ports, *icmp, *cidr;
    bool has_peer;
    struct weft_uuid peer;
};

struct rule_spec {
    bool is_out;
    enum rule_family family;
    uint32_t protocol;
    uint32_t port_first, port_last;
    uint32_t icmp_type, icmp_code;
    char cidr[IP_PREFIX_TEXT_SIZE]; /* "": any. */
    bool has_peer;
    struct weft_uuid peer;
};

/* What was wrong: a field, and what would be right. */
struct rule_error {
    const char *field;
    char text[256];
};

/* False, with '*ret_error'. */
bool rule_parse(const struct rule_wish *wish, struct rule_spec *ret_spec,
                struct rule_error *ret_error);

/* A protocol by name or number, "" for any.  False: it is none. */
bool rule_parse_protocol(const char *text, uint32_t *ret_protocol);
/* "tcp", "icmp", "47", "any" */
void rule_format_protocol(uint32_t protocol, char ret_text[16]);
/* Whether it has ports. */
bool rule_has_ports(uint32_t protocol);

/* "in ipv4 tcp 22-80 from 10.0.0.0/8" */
void rule_canonical(const struct rule_spec *spec,
                    char ret_text[RULE_CANONICAL_SIZE]);

#endif /* NETD_API_RULE_TEXT_H */
