/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: see ip.h. */

#include "lib/base/ip.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

int
ip_address_parse(const char *text, struct ip_address *ret_address)
{
    struct ip_address address;

    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, text, address.bytes) == 1) {
        *ret_address = address;
        return 0;
    }
    address.is_ipv6 = true;
    if (inet_pton(AF_INET6, text, address.bytes) == 1) {
        *ret_address = address;
        return 0;
    }
    return -EINVAL;
}

void
ip_format(const struct ip_address *address, char ret_text[IP_TEXT_SIZE])
{
    const char *text = inet_ntop(address->is_ipv6 ? AF_INET6 : AF_INET,
                                 address->bytes, ret_text, IP_TEXT_SIZE);
    CHECK(text != NULL);
}

int
ip_compare(const struct ip_address *a, const struct ip_address *b)
{
    if (a->is_ipv6 != b->is_ipv6) {
        return a->is_ipv6 ? 1 : -1;
    }
    return memcmp(a->bytes, b->bytes, a->is_ipv6 ? 16 : 4);
}

/* Whether the first 'length' bits are the same. */
static bool
bits_are_equal(const uint8_t *a, const uint8_t *b, uint32_t length)
{
    uint32_t bytes = length / 8;

    if (memcmp(a, b, bytes) != 0) {
        return false;
    }
    return length % 8 == 0 || ((a[bytes] ^ b[bytes]) >> (8 - length % 8)) == 0;
}

/* A decimal number without sign, blanks or leading zeros. */
static int
parse_length(const char *text, uint32_t max, uint32_t *ret_length)
{
    uint32_t length = 0;
    size_t size = strlen(text);

    if (size < 1 || size > 3 || (text[0] == '0' && size > 1)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -EINVAL;
        }
        length = length * 10 + (uint32_t)(text[i] - '0');
    }
    if (length > max) {
        return -EINVAL;
    }
    *ret_length = length;
    return 0;
}

int
ip_prefix_parse(const char *text, struct ip_prefix *ret_prefix)
{
    const char *slash = strchr(text, '/');
    char address_text[IP_TEXT_SIZE];
    struct ip_prefix prefix;

    memset(&prefix, 0, sizeof prefix);
    if (slash == NULL || (size_t)(slash - text) >= sizeof address_text) {
        return -EINVAL;
    }
    memcpy(address_text, text, (size_t)(slash - text));
    address_text[slash - text] = '\0';
    int result = ip_address_parse(address_text, &prefix.address);
    if (result == 0) {
        result = parse_length(slash + 1, ip_bits(prefix.address.is_ipv6),
                              &prefix.length);
    }
    if (result != 0) {
        return result;
    }
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t kept = prefix.length < i * 8 ? 0 : prefix.length - i * 8;
        uint8_t mask = (uint8_t)(0xff00u >> (kept >= 8 ? 8 : kept));
        if ((prefix.address.bytes[i] & (uint8_t)~mask) != 0) {
            result = -EDOM;
        }
        prefix.address.bytes[i] &= mask;
    }
    *ret_prefix = prefix;
    return result;
}

void
ip_prefix_format(const struct ip_prefix *prefix,
                 char ret_text[IP_PREFIX_TEXT_SIZE])
{
    char address[IP_TEXT_SIZE];

    ip_format(&prefix->address, address);
    (void)snprintf(ret_text, IP_PREFIX_TEXT_SIZE, "%.45s/%u", address,
                   prefix->length % 1000);
}

bool
ip_prefix_contains(const struct ip_prefix *prefix,
                   const struct ip_address *address)
{
    return prefix->address.is_ipv6 == address->is_ipv6 &&
           bits_are_equal(prefix->address.bytes, address->bytes,
                          prefix->length);
}

bool
ip_prefix_overlaps(const struct ip_prefix *a, const struct ip_prefix *b)
{
    return a->length <= b->length ? ip_prefix_contains(a, &b->address)
                                  : ip_prefix_contains(b, &a->address);
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int
mac_parse(const char *text, struct mac_address *ret_mac)
{
    struct mac_address mac;

    if (strnlen(text, MAC_TEXT_SIZE) != MAC_TEXT_SIZE - 1) {
        return -EINVAL;
    }
    for (size_t i = 0; i < sizeof mac.bytes; i++) {
        int high = hex_digit(text[i * 3]), low = hex_digit(text[i * 3 + 1]);
        if (high < 0 || low < 0 || (i < 5 && text[i * 3 + 2] != ':')) {
            return -EINVAL;
        }
        mac.bytes[i] = (uint8_t)(high * 16 + low);
    }
    *ret_mac = mac;
    return 0;
}

void
mac_format(const struct mac_address *mac, char ret_text[MAC_TEXT_SIZE])
{
    (void)snprintf(ret_text, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x",
                   mac->bytes[0], mac->bytes[1], mac->bytes[2], mac->bytes[3],
                   mac->bytes[4], mac->bytes[5]);
}
