/* SPDX-License-Identifier: Apache-2.0 */

/* Ranges of ports as masks: each number of the range is in one of them, and no
 * other is in any. */

#include "tests/unit/unit.h"

#include "lib/base/rng.h"
#include "netd/compile/ports.h"

static void
check_split(uint16_t first, uint16_t last)
{
    struct port_mask masks[PORT_MASKS_MAX];
    size_t count = ports_split(first, last, masks);

    for (uint32_t port = 0; port <= UINT16_MAX; port++) {
        size_t hits = 0;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(masks[i].value & ~masks[i].mask, 0);
            hits += (port & masks[i].mask) == masks[i].value;
        }
        assert_int_equal(hits, port >= first && port <= last);
    }
}

static void
test_ports(void **state)
{
    (void)state;
    struct port_mask masks[PORT_MASKS_MAX];
    struct rng rng;

    rng_init(&rng, 1);
    assert_int_equal(ports_split(0, 65535, masks), 1);
    assert_int_equal(masks[0].mask, 0);
    assert_int_equal(ports_split(1, 65534, masks), PORT_MASKS_MAX);
    assert_int_equal(ports_split(22, 22, masks), 1);
    assert_int_equal(ports_split(23, 22, masks), 0);
    assert_int_equal(ports_split(65535, 65535, masks), 1);
    check_split(0, 65535);
    check_split(1, 65534);
    check_split(65535, 65535);
    check_split(5, 4);
    for (unsigned i = 0; i < 100; i++) {
        check_split((uint16_t)rng_u64(&rng), (uint16_t)rng_u64(&rng));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
