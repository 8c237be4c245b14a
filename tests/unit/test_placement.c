/* SPDX-License-Identifier: Apache-2.0 */
/* blockd/cluster/placement: copies on different failure domains, mirrors
 * spread by room, the same answer to the same question. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "blockd/cluster/placement.h"
#include "lib/base/array.h"
#include "lib/base/rng.h"
#include "lib/base/units.h"

#define DISKS_MAX 24
#define MIRRORS_MAX 64

static struct weft_uuid
uuid_of(uint8_t number)
{
    struct weft_uuid uuid = { { 0 } };

    uuid.bytes[0] = 1;
    uuid.bytes[15] = number;
    return uuid;
}

static struct placement_disk
disk_of(uint8_t number, const char *domain, uint64_t free_bytes)
{
    return (struct placement_disk){ .disk = uuid_of(number),
                                    .domain = domain,
                                    .free_bytes = free_bytes,
                                    .replicas_left = UINT32_MAX };
}

static size_t
index_of(const struct placement_disk *disks, size_t count,
         const struct weft_uuid *uuid)
{
    for (size_t i = 0; i < count; i++) {
        if (uuid_equal(&disks[i].disk, uuid)) {
            return i;
        }
    }
    fail_msg("a disk that was not offered");
    return 0;
}

/* The one with most room first. */
static void
test_room(void **state)
{
    (void)state;
    struct placement_disk disks[] = { disk_of(1, "h1", 10 * GIB),
                                      disk_of(2, "h2", 30 * GIB),
                                      disk_of(3, "h3", 20 * GIB) };
    struct placement_mirror mirror;
    struct err err = { "" };

    assert_int_equal(placement_choose(disks, 3, 2, GIB, 1, &err, &mirror), 0);
    assert_int_equal(index_of(disks, 3, &mirror.disk[0]), 1);
    assert_int_equal(index_of(disks, 3, &mirror.disk[1]), 2);
}

/* Never two copies in one domain, however much room there is. */
static void
test_domains(void **state)
{
    (void)state;
    struct placement_disk disks[] = { disk_of(1, "r1", 900 * GIB),
                                      disk_of(2, "r1", 800 * GIB),
                                      disk_of(3, "r1", 700 * GIB),
                                      disk_of(4, "r2", GIB) };
    struct placement_mirror mirrors[4];
    struct err err = { "" };

    assert_int_equal(placement_choose(disks, 4, 2, GIB, 4, &err, mirrors), 0);
    for (size_t i = 0; i < ARRAY_COUNT(mirrors); i++) {
        size_t a = index_of(disks, 4, &mirrors[i].disk[0]);
        size_t b = index_of(disks, 4, &mirrors[i].disk[1]);
        assert_true((a == 3) != (b == 3));
    }
    assert_int_equal(placement_choose(disks, 4, 3, GIB, 1, &err, mirrors),
                     -ENOSPC);
    assert_non_null(strstr(err.text, "3 copies"));
}

static void
test_none(void **state)
{
    (void)state;
    struct placement_mirror mirror;
    struct err err = { "" };

    assert_int_equal(placement_choose(NULL, 0, 1, GIB, 1, &err, &mirror),
                     -ENOSPC);
    assert_true(err.text[0] != '\0');
}

/* What one placement has given counts: a stripe does not pile up on one. */
static void
test_spread(void **state)
{
    (void)state;
    struct placement_disk disks[6];
    struct placement_mirror mirrors[6];
    uint32_t used[6] = { 0 };
    struct err err = { "" };
    static const char *const hosts[] = { "h1", "h2", "h3", "h4", "h5", "h6" };

    for (uint8_t i = 0; i < 6; i++) {
        disks[i] = disk_of(i, hosts[i], 100 * GIB);
    }
    assert_int_equal(placement_choose(disks, 6, 2, 10 * GIB, 6, &err, mirrors),
                     0);
    for (size_t i = 0; i < 6; i++) {
        used[index_of(disks, 6, &mirrors[i].disk[0])]++;
        used[index_of(disks, 6, &mirrors[i].disk[1])]++;
    }
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(used[i], 2);
    }
}

/* Volumes are thin: larger than what is free is no obstacle, and the sums do
 * not wrap. */
static void
test_thin(void **state)
{
    (void)state;
    struct placement_disk disks[] = { disk_of(1, "h1", 0),
                                      disk_of(2, "h2", 1) };
    struct placement_mirror mirrors[MIRRORS_MAX];
    struct err err = { "" };

    assert_int_equal(placement_choose(disks, 2, 2, UINT64_C(1) << 50,
                                      MIRRORS_MAX, &err, mirrors),
                     0);
    for (size_t i = 0; i < MIRRORS_MAX; i++) {
        assert_false(uuid_equal(&mirrors[i].disk[0], &mirrors[i].disk[1]));
    }
}

/* A disk that holds as many replicas as it can is left alone, whatever room it
 * has; that is said when nothing else is left. */
static void
test_replica_limit(void **state)
{
    (void)state;
    struct placement_disk disks[] = { disk_of(1, "h1", 900 * GIB),
                                      disk_of(2, "h1", GIB),
                                      disk_of(3, "h2", GIB) };
    struct placement_mirror mirrors[6];
    struct err err = { "" };

    disks[0].replicas_left = 2;
    disks[1].replicas_left = 3;
    disks[2].replicas_left = 5;
    assert_int_equal(placement_choose(disks, 3, 2, GIB, 5, &err, mirrors), 0);
    uint32_t used[3] = { 0 };
    for (size_t i = 0; i < 5; i++) {
        used[index_of(disks, 3, &mirrors[i].disk[0])]++;
        used[index_of(disks, 3, &mirrors[i].disk[1])]++;
    }
    assert_int_equal(used[0], 2);
    assert_int_equal(used[1], 3);
    assert_int_equal(used[2], 5);
    assert_int_equal(placement_choose(disks, 3, 2, GIB, 6, &err, mirrors),
                     -ENOSPC);
    assert_non_null(strstr(err.text, "as many replicas as they can"));
    disks[2].replicas_left = 0;
    assert_int_equal(placement_choose(disks, 3, 2, GIB, 1, &err, mirrors),
                     -ENOSPC);
    assert_int_equal(placement_choose(disks, 3, 1, GIB, 1, &err, mirrors), 0);
}

/* Any disks: the copies are on different domains if there are enough, and it is
 * refused exactly if not; and the order of the disks does not matter. */
static void
test_random(void **state)
{
    (void)state;
    static const char *const domains[] = { "a", "b", "c", "d", "e" };
    struct rng rng;

    rng_init(&rng, 7);
    for (int round = 0; round < 2000; round++) {
        struct placement_disk disks[DISKS_MAX], turned[DISKS_MAX];
        struct placement_mirror mirrors[8], again[8];
        size_t count = (size_t)rng_below(&rng, DISKS_MAX);
        uint32_t replicas = 1 + (uint32_t)rng_below(&rng, 3);
        uint32_t wanted = 1 + (uint32_t)rng_below(&rng, 8);
        uint32_t seen = 0;
        struct err err = { "" };

        for (uint8_t i = 0; i < count; i++) {
            uint64_t domain = rng_below(&rng, ARRAY_COUNT(domains));
            disks[i] = disk_of(i, domains[domain], rng_below(&rng, 5) * GIB);
            turned[count - 1 - i] = disks[i];
            seen |= 1u << domain;
        }
        int result = placement_choose(disks, count, replicas, GIB, wanted, &err,
                                      mirrors);
        bool enough = (uint32_t)__builtin_popcount(seen) >= replicas;
        assert_int_equal(result, enough ? 0 : -ENOSPC);
        if (result != 0) {
            continue;
        }
        assert_int_equal(placement_choose(turned, count, replicas, GIB, wanted,
                                          &err, again),
                         0);
        for (uint32_t i = 0; i < wanted; i++) {
            uint32_t used = 0;
            for (uint32_t j = 0; j < replicas; j++) {
                size_t at = index_of(disks, count, &mirrors[i].disk[j]);
                uint32_t bit = 1u << (disks[at].domain[0] - 'a');
                assert_int_equal(used & bit, 0);
                used |= bit;
                assert_true(uuid_equal(&mirrors[i].disk[j], &again[i].disk[j]));
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room),   cmocka_unit_test(test_domains),
        cmocka_unit_test(test_none),   cmocka_unit_test(test_spread),
        cmocka_unit_test(test_thin),   cmocka_unit_test(test_replica_limit),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
