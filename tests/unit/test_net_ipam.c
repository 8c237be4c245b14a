/* SPDX-License-Identifier: Apache-2.0 */
/* netd/api/ipam: ranges, numbers of addresses, what may be given out, hints. */
#include "tests/unit/unit.h"

#include <string.h>

#include "lib/base/array.h"
#include "netd/api/ipam.h"

static struct ip_prefix
prefix_of(const char *text)
{
    struct ip_prefix prefix;

    assert_int_equal(ip_prefix_parse(text, &prefix), 0);
    return prefix;
}

static struct ip_address
address_of(const char *text)
{
    struct ip_address address;

    assert_int_equal(ip_address_parse(text, &address), 0);
    return address;
}

static void
test_ranges(void **state)
{
    (void)state;
    static const char *const good[] = {
        "10.0.0.0/8",    "10.0.0.0/24", "192.168.1.0/31", "172.16.0.1/32",
        "100.64.0.0/10", "fd00:1::/64", "2001:db8::/32",  "fd00::1/128",
    };
    static const char *const bad[] = {
        "0.0.0.0/0",      "10.0.0.0/7",   "0.1.0.0/16",  "127.0.0.0/8",
        "127.1.2.0/24",   "224.0.0.0/24", "240.0.0.0/8", "255.255.255.255/32",
        "169.254.0.0/24", "::/0",         "::1/128",     "fe80::/64",
        "ff02::/64",      "2000::/3",
    };

    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        struct ip_prefix prefix = prefix_of(good[i]);
        assert_null(ipam_range_error(&prefix));
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct ip_prefix prefix = prefix_of(bad[i]);
        assert_non_null(ipam_range_error(&prefix));
    }
}

static void
test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *range;
        uint64_t size, number;
        const char *address;
    } cases[] = {
        { "10.0.0.0/24", 256, 0, "10.0.0.0" },
        { "10.0.0.0/24", 256, 255, "10.0.0.255" },
        { "10.0.0.128/25", 128, 127, "10.0.0.255" },
        { "10.0.0.0/8", 1 << 24, 65536 * 3 + 7, "10.3.0.7" },
        { "10.0.0.7/32", 1, 0, "10.0.0.7" },
        { "fd00::/64", UINT64_C(1) << 63, 0x10001, "fd00::1:1" },
        { "fd00::/120", 256, 255, "fd00::ff" },
        { "fd00::ffff:ffff:ffff:fff0/124", 16, 15,
          "fd00::ffff:ffff:ffff:ffff" },
        { "fd00::/48", UINT64_C(1) << 63, 5, "fd00::5" },
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct ip_prefix prefix = prefix_of(cases[i].range);
        struct ip_address address = ipam_nth(&prefix, cases[i].number);
        char text[IP_TEXT_SIZE];
        ip_format(&address, text);
        assert_string_equal(text, cases[i].address);
        assert_true(ipam_size(&prefix) == cases[i].size);
        assert_true(ipam_number(&prefix, &address) == cases[i].number);
    }
    /* Beyond what is chosen automatically. */
    struct ip_prefix wide = prefix_of("fd00::/48");
    struct ip_address far = address_of("fd00:0:0:1::1");
    assert_true(ipam_number(&wide, &far) == UINT64_MAX);
    far = address_of("fd00::ffff:ffff:ffff:ffff");
    assert_true(ipam_number(&wide, &far) == UINT64_MAX);
}

static bool
is_usable(const char *range, const char *gateway, const char *address)
{
    struct ipam_range whole = { .prefix = prefix_of(range),
                                .has_gateway = gateway != NULL };
    struct ip_address one = address_of(address);

    if (gateway != NULL) {
        whole.gateway = address_of(gateway);
    }
    return ipam_refusal(&whole, &one) == NULL;
}

static void
test_usable(void **state)
{
    (void)state;

    assert_false(is_usable("10.0.0.0/24", "10.0.0.1", "10.0.0.0"));
    assert_false(is_usable("10.0.0.0/24", "10.0.0.1", "10.0.0.1"));
    assert_true(is_usable("10.0.0.0/24", "10.0.0.1", "10.0.0.2"));
    assert_true(is_usable("10.0.0.0/24", NULL, "10.0.0.1"));
    assert_true(is_usable("10.0.0.0/24", "10.0.0.1", "10.0.0.254"));
    assert_false(is_usable("10.0.0.0/24", "10.0.0.1", "10.0.0.255"));
    assert_false(is_usable("10.0.0.0/24", "10.0.0.1", "10.0.1.2"));
    assert_false(is_usable("10.0.0.0/24", "10.0.0.1", "fd00::2"));
    /* The middle of a range that is wider than a byte. */
    assert_true(is_usable("10.0.0.0/22", "10.0.0.1", "10.0.1.255"));
    assert_true(is_usable("10.0.0.0/22", "10.0.0.1", "10.0.2.0"));
    assert_false(is_usable("10.0.0.0/22", "10.0.0.1", "10.0.3.255"));
    /* Point to point. */
    assert_true(is_usable("10.0.0.0/31", "10.0.0.0", "10.0.0.1"));
    assert_false(is_usable("10.0.0.0/31", "10.0.0.0", "10.0.0.0"));
    assert_true(is_usable("10.0.0.9/32", NULL, "10.0.0.9"));
    /* IPv6 has no broadcast. */
    assert_false(is_usable("fd00::/64", "fd00::1", "fd00::"));
    assert_true(is_usable("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff"));
}

static void
test_gateway(void **state)
{
    (void)state;
    static const struct {
        const char *range, *gateway; /* NULL: none. */
    } cases[] = {
        { "10.0.0.0/24", "10.0.0.1" },  { "10.0.0.128/25", "10.0.0.129" },
        { "10.0.0.0/31", "10.0.0.0" },  { "10.0.0.0/32", NULL },
        { "fd00:1::/64", "fd00:1::1" }, { "fd00:1::/128", NULL },
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct ip_prefix prefix = prefix_of(cases[i].range);
        struct ip_address gateway;
        char text[IP_TEXT_SIZE];
        bool found = ipam_default_gateway(&prefix, &gateway);
        assert_int_equal(found, cases[i].gateway != NULL);
        if (found) {
            ip_format(&gateway, text);
            assert_string_equal(text, cases[i].gateway);
            assert_null(ipam_gateway_refusal(&prefix, &gateway));
        }
    }
}

static void
test_hints(void **state)
{
    (void)state;
    static struct ipam_hints hints;
    struct weft_uuid a = { { 1 } }, same_slot = { { 1, 0, 7 } };

    assert_true(ipam_hint(&hints, &a) == 0);
    ipam_hint_set(&hints, &a, 40);
    assert_true(ipam_hint(&hints, &a) == 40);
    ipam_hint_lower(&hints, &a, 50);
    assert_true(ipam_hint(&hints, &a) == 40);
    ipam_hint_lower(&hints, &same_slot, 3); /* Another subnet. */
    assert_true(ipam_hint(&hints, &a) == 40);
    ipam_hint_lower(&hints, &a, 12);
    assert_true(ipam_hint(&hints, &a) == 12);
    ipam_hint_set(&hints, &same_slot, 9);
    assert_true(ipam_hint(&hints, &a) == 0); /* Forgotten, not wrong. */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_usable), cmocka_unit_test(test_gateway),
        cmocka_unit_test(test_hints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
