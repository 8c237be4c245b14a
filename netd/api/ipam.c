/* SPDX-License-Identifier: Apache-2.0 */
#include "netd/api/ipam.h"

#include <string.h>

#include "lib/base/array.h"
#include "lib/base/check.h"

static bool
is_within(const char *text, const struct ip_prefix *prefix)
{
    struct ip_prefix range;
    int result = ip_prefix_parse(text, &range);

    CHECK(result == 0);
    return ip_prefix_overlaps(&range, prefix);
}

const char *
ipam_range_error(const struct ip_prefix *prefix)
{
    static const struct {
        const char *range, *error;
    } bad[] = {
        { "0.0.0.0/8", "overlaps 0.0.0.0/8, which nobody can use; take a part "
                       "of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16" },
        { "127.0.0.0/8", "overlaps loopback, 127.0.0.0/8; take a part of "
                         "10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16" },
        { "169.254.0.0/16", "overlaps link-local, 169.254.0.0/16; take a part "
                            "of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16" },
        { "224.0.0.0/3", "overlaps multicast and reserved addresses, "
                         "224.0.0.0/3; take a part of 10.0.0.0/8, "
                         "172.16.0.0/12 or 192.168.0.0/16" },
        { "::/8", "overlaps reserved addresses, ::/8; take a part of fd00::/8 "
                  "or of 2000::/3" },
        { "fe80::/10", "overlaps link-local, fe80::/10; take a part of "
                       "fd00::/8 or of 2000::/3" },
        { "ff00::/8", "overlaps multicast, ff00::/8; take a part of fd00::/8 "
                      "or of 2000::/3" },
    };

    if (!prefix->address.is_ipv6 && prefix->length < 8) {
        return "is too large; an IPv4 subnet has /8 to /32";
    }
    if (prefix->address.is_ipv6 && prefix->length < 16) {
        return "is too large; an IPv6 subnet has /16 to /128, as a rule /64";
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (is_within(bad[i].range, prefix)) {
            return bad[i].error;
        }
    }
    return NULL;
}

/* ---- Numbers ---- */

/* The last 64 bits of an IPv6 address, or an IPv4 address. */
static uint64_t
low_bits(const struct ip_address *address)
{
    uint64_t value = 0;
    uint32_t first = address->is_ipv6 ? 8 : 0;
    uint32_t end = address->is_ipv6 ? 16 : 4;

    for (uint32_t i = first; i < end; i++) {
        value = value << 8 | address->bytes[i];
    }
    return value;
}

uint64_t
ipam_size(const struct ip_prefix *prefix)
{
    uint32_t host_bits = ip_bits(prefix->address.is_ipv6) - prefix->length;

    return UINT64_C(1) << (host_bits > 63 ? 63 : host_bits);
}

struct ip_address
ipam_nth(const struct ip_prefix *prefix, uint64_t number)
{
    struct ip_address address = prefix->address;
    uint64_t value = low_bits(&address) + number;
    uint32_t last = address.is_ipv6 ? 15 : 3;

    CHECK(number < ipam_size(prefix));
    for (uint32_t i = 0; i < (address.is_ipv6 ? 8 : 4); i++) {
        address.bytes[last - i] = (uint8_t)(value >> (i * 8));
    }
    return address;
}

uint64_t
ipam_number(const struct ip_prefix *prefix, const struct ip_address *address)
{
    CHECK(ip_prefix_contains(prefix, address));
    uint64_t number = low_bits(address) - low_bits(&prefix->address);

    if (address->is_ipv6 &&
        memcmp(address->bytes, prefix->address.bytes, 8) != 0) {
        return UINT64_MAX;
    }
    return number < ipam_size(prefix) ? number : UINT64_MAX;
}

/* ---- What may be used ---- */

static bool
is_last(const struct ip_prefix *prefix, const struct ip_address *address)
{
    uint32_t bits = ip_bits(address->is_ipv6);

    for (uint32_t i = prefix->length; i < bits; i++) {
        if ((address->bytes[i / 8] >> (7 - i % 8) & 1) == 0) {
            return false;
        }
    }
    return true;
}

const char *
ipam_gateway_refusal(const struct ip_prefix *prefix,
                     const struct ip_address *address)
{
    uint32_t host_bits = ip_bits(prefix->address.is_ipv6) - prefix->length;

    if (!ip_prefix_contains(prefix, address)) {
        return "is outside of the subnet's range";
    }
    if (host_bits < 2) {
        return NULL; /* Point to point: both can be used. */
    }
    if (ip_compare(address, &prefix->address) == 0) {
        return address->is_ipv6
                   ? "is the subnet-router anycast address, the first of "
                     "the range"
                   : "is the network's own address, the first of the range";
    }
    if (!address->is_ipv6 && is_last(prefix, address)) {
        return "is the broadcast address, the last of the range";
    }
    return NULL;
}

const char *
ipam_refusal(const struct ipam_range *range, const struct ip_address *address)
{
    const char *refusal = ipam_gateway_refusal(&range->prefix, address);

    if (refusal == NULL && range->has_gateway &&
        ip_compare(address, &range->gateway) == 0) {
        return "is the subnet's gateway";
    }
    return refusal;
}

bool
ipam_default_gateway(const struct ip_prefix *prefix,
                     struct ip_address *ret_gateway)
{
    uint64_t size = ipam_size(prefix);

    if (size < 2) {
        return false; /* It would be all that there is. */
    }
    *ret_gateway = ipam_nth(prefix, size == 2 ? 0 : 1);
    return true;
}

/* ---- Hints ---- */

static size_t
hint_slot(const struct weft_uuid *subnet)
{
    return (subnet->bytes[0] | (size_t)subnet->bytes[1] << 8) % IPAM_HINTS;
}

uint64_t
ipam_hint(const struct ipam_hints *hints, const struct weft_uuid *subnet)
{
    size_t slot = hint_slot(subnet);

    return uuid_equal(&hints->slots[slot].subnet, subnet)
               ? hints->slots[slot].number
               : 0;
}

void
ipam_hint_set(struct ipam_hints *hints, const struct weft_uuid *subnet,
              uint64_t number)
{
    size_t slot = hint_slot(subnet);

    hints->slots[slot].subnet = *subnet;
    hints->slots[slot].number = number;
}

void
ipam_hint_lower(struct ipam_hints *hints, const struct weft_uuid *subnet,
                uint64_t number)
{
    size_t slot = hint_slot(subnet);

    if (uuid_equal(&hints->slots[slot].subnet, subnet) &&
        number < hints->slots[slot].number) {
        hints->slots[slot].number = number;
    }
}
