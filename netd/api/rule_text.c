/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/api/rule_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/array.h"
#include "lib/base/units.h"

#define PROTOCOL_ICMP 1u
#define PROTOCOL_TCP 6u
#define PROTOCOL_UDP 17u
#define PROTOCOL_ICMPV6 58u
#define PROTOCOL_SCTP 132u
#define PORT_MAX 65535u

static const struct {
    const char *name;
    uint32_t number;
} protocols[] = {
    { "any", RULE_ANY },          { "tcp", PROTOCOL_TCP },
    { "udp", PROTOCOL_UDP },      { "sctp", PROTOCOL_SCTP },
    { "icmp", PROTOCOL_ICMP },    { "icmpv6", PROTOCOL_ICMPV6 },
    { "icmp6", PROTOCOL_ICMPV6 },
};

static bool rule_fail(struct rule_error *error, const char *field,
                      const char *format, ...) WEFT_PRINTF(3, 4);

static bool
rule_fail(struct rule_error *error, const char *field, const char *format, ...)
{
    va_list args;

    error->field = field;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return false;
}

bool
rule_parse_protocol(const char *text, uint32_t *ret_protocol)
{
    uint64_t number;

    if (text[0] == '\0') {
        *ret_protocol = RULE_ANY;
        return true;
    }
    for (size_t i = 0; i < ARRAY_COUNT(protocols); i++) {
        if (strcmp(text, protocols[i].name) == 0) {
            *ret_protocol = protocols[i].number;
            return true;
        }
    }
    if (units_parse_u64(text, &number) == 0 && number < RULE_ANY) {
        *ret_protocol = (uint32_t)number;
        return true;
    }
    return false;
}

void
rule_format_protocol(uint32_t protocol, char ret_text[16])
{
    for (size_t i = 0; i < ARRAY_COUNT(protocols); i++) {
        if (protocols[i].number == protocol) {
            (void)snprintf(ret_text, 16, "%s", protocols[i].name);
            return;
        }
    }
    (void)snprintf(ret_text, 16, "%u", protocol);
}

bool
rule_has_ports(uint32_t protocol)
{
    return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP ||
           protocol == PROTOCOL_SCTP;
}

static bool
rule_is_icmp(uint32_t protocol)
{
    return protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6;
}

/* "A" or "A<separator>B", both at most 'max'. */
static bool
parse_pair(const char *text, char separator, uint64_t max, uint64_t *ret_first,
           uint64_t *ret_second, bool *ret_has_second)
{
    char first[24];
    const char *mark = strchr(text, separator);
    size_t size = mark != NULL ? (size_t)(mark - text) : strlen(text);

    if (size >= sizeof first) {
        return false;
    }
    memcpy(first, text, size);
    first[size] = '\0';
    *ret_has_second = mark != NULL;
    if (units_parse_u64(first, ret_first) != 0 || *ret_first > max) {
        return false;
    }
    return mark == NULL ||
           (units_parse_u64(mark + 1, ret_second) == 0 && *ret_second <= max);
}

static bool
parse_ports(const char *text, struct rule_spec *spec, struct rule_error *error)
{
    uint64_t first = 0, last = 0;
    bool has_last = false;

    spec->port_first = 0;
    spec->port_last = PORT_MAX;
    if (text[0] == '\0') {
        return true;
    }
    if (!rule_has_ports(spec->protocol)) {
        return rule_fail(error, "ports",
                         "\"%.40s\" needs a protocol that has ports: tcp, udp "
                         "or sctp",
                         text);
    }
    if (!parse_pair(text, '-', PORT_MAX, &first, &last, &has_last)) {
        return rule_fail(error, "ports",
                         "\"%.40s\" is no port; write a number from 0 to "
                         "65535, or a range such as 8000-8080",
                         text);
    }
    if (!has_last) {
        last = first;
    }
    if (last < first) {
        return rule_fail(error, "ports",
                         "\"%.40s\" is reversed; the range is %llu-%llu", text,
                         (unsigned long long)last, (unsigned long long)first);
    }
    spec->port_first = (uint32_t)first;
    spec->port_last = (uint32_t)last;
    return true;
}

static bool
parse_icmp(const char *text, struct rule_spec *spec, struct rule_error *error)
{
    uint64_t type = 0, code = 0;
    bool has_code = false;

    spec->icmp_type = RULE_ANY;
    spec->icmp_code = RULE_ANY;
    if (text[0] == '\0') {
        return true;
    }
    if (!rule_is_icmp(spec->protocol)) {
        return rule_fail(error, "icmp",
                         "\"%.40s\" needs the protocol icmp or icmpv6", text);
    }
    if (!parse_pair(text, '/', 255, &type, &code, &has_code)) {
        return rule_fail(error, "icmp",
                         "\"%.40s\" is no ICMP type; write TYPE or TYPE/CODE, "
                         "each from 0 to 255",
                         text);
    }
    spec->icmp_type = (uint32_t)type;
    spec->icmp_code = has_code ? (uint32_t)code : RULE_ANY;
    return true;
}

/* Sets the family to 'family'; false: it is the other one already. */
static bool
narrow_family(struct rule_spec *spec, enum rule_family family)
{
    if (spec->family != RULE_FAMILY_ANY && spec->family != family) {
        return false;
    }
    spec->family = family;
    return true;
}

static bool
parse_cidr(const char *text, struct rule_spec *spec, struct rule_error *error)
{
    struct ip_prefix prefix;
    struct ip_address address;

    spec->cidr[0] = '\0';
    if (text[0] == '\0') {
        return true;
    }
    int result = ip_prefix_parse(text, &prefix);
    if (result == -EINVAL && ip_address_parse(text, &address) == 0) {
        /* A single host. */
        prefix = (struct ip_prefix){ .address = address,
                                     .length = ip_bits(address.is_ipv6) };
        result = 0;
    }
    if (result == -EINVAL) {
        return rule_fail(error, "cidr",
                         "\"%.60s\" is not a range of addresses; write "
                         "ADDRESS/LENGTH, such as 10.0.0.0/24 or ::/0",
                         text);
    }
    ip_prefix_format(&prefix, spec->cidr);
    if (result == -EDOM) {
        return rule_fail(error, "cidr",
                         "\"%.60s\" has bits set behind its length; the range "
                         "is %s",
                         text, spec->cidr);
    }
    bool is_ipv6 = prefix.address.is_ipv6;
    if (!narrow_family(spec, is_ipv6 ? RULE_FAMILY_IPV6 : RULE_FAMILY_IPV4)) {
        return rule_fail(error, "cidr",
                         "%s is of %s, but the rule's family or protocol is "
                         "of the other",
                         spec->cidr, is_ipv6 ? "IPv6" : "IPv4");
    }
    return true;
}

bool
rule_parse(const struct rule_wish *wish, struct rule_spec *ret_spec,
           struct rule_error *ret_error)
{
    struct rule_spec spec = { .is_out = wish->is_out,
                              .family = wish->family,
                              .has_peer = wish->has_peer,
                              .peer = wish->peer };

    if (!rule_parse_protocol(wish->protocol, &spec.protocol)) {
        return rule_fail(ret_error, "protocol",
                         "\"%.40s\" is not a protocol; write tcp, udp, sctp, "
                         "icmp, any, or a number from 0 to 255",
                         wish->protocol);
    }
    if (spec.protocol == PROTOCOL_ICMPV6 &&
        !narrow_family(&spec, RULE_FAMILY_IPV6)) {
        return rule_fail(ret_error, "protocol",
                         "icmpv6 is of IPv6, but the rule's family is IPv4; "
                         "write icmp");
    }
    if (!parse_ports(wish->ports, &spec, ret_error) ||
        !parse_icmp(wish->icmp, &spec, ret_error)) {
        return false;
    }
    if (wish->has_peer && wish->cidr[0] != '\0') {
        return rule_fail(ret_error, "cidr",
                         "and a group cannot both say who the other side is; "
                         "make two rules");
    }
    if (!parse_cidr(wish->cidr, &spec, ret_error)) {
        return false;
    }
    /* One form for one meaning: all IPv4 addresses are the family's. */
    if (strcmp(spec.cidr, "0.0.0.0/0") == 0 || strcmp(spec.cidr, "::/0") == 0) {
        spec.cidr[0] = '\0';
    }
    if (spec.protocol == PROTOCOL_ICMPV6) {
        spec.protocol = PROTOCOL_ICMP; /* Of the family at hand. */
    }
    *ret_spec = spec;
    return true;
}

void
rule_canonical(const struct rule_spec *spec, char ret_text[RULE_CANONICAL_SIZE])
{
    static const char *const families[] = { "any", "ipv4", "ipv6" };
    char protocol[16], detail[32] = "", peer[UUID_TEXT_SIZE];

    rule_format_protocol(spec->protocol, protocol);
    if (rule_has_ports(spec->protocol)) {
        (void)snprintf(detail, sizeof detail, " %u-%u", spec->port_first,
                       spec->port_last);
    } else if (rule_is_icmp(spec->protocol) && spec->icmp_type != RULE_ANY) {
        if (spec->icmp_code != RULE_ANY) {
            (void)snprintf(detail, sizeof detail, " %u/%u", spec->icmp_type,
                           spec->icmp_code);
        } else {
            (void)snprintf(detail, sizeof detail, " %u", spec->icmp_type);
        }
    }
    uuid_format(&spec->peer, peer);
    (void)snprintf(ret_text, RULE_CANONICAL_SIZE, "%s %s %s%s %s %s%s",
                   spec->is_out ? "out" : "in", families[spec->family],
                   protocol, detail, spec->is_out ? "to" : "from",
                   spec->has_peer          ? "group "
                   : spec->cidr[0] != '\0' ? spec->cidr
                                           : "any",
                   spec->has_peer ? peer : "");
}
