/* SPDX-License-Identifier: Apache-2.0 */

/* docs/disk-format.md says what the code says: every row of its tables of
 * structures, constants, record sizes, types and states is compared, and every
 * field of the code must have a row. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "blockd/store/disk.h"
#include "blockd/store/geometry.h"
#include "lib/base/array.h"
#include "lib/base/units.h"

struct field {
    const char *owner;
    const char *name;
    size_t offset, size;
};

#define FIELD(owner, name)                           \
    {                                                \
#owner, #name, offsetof(struct owner, name), \
            sizeof(((struct owner *)0)->name)        \
    }

static const struct field fields[] = {
    FIELD(disk_super, magic),
    FIELD(disk_super, version),
    FIELD(disk_super, crc),
    FIELD(disk_super, generation),
    FIELD(disk_super, disk),
    FIELD(disk_super, cluster),
    FIELD(disk_super, format_nonce),
    FIELD(disk_super, size_bytes),
    FIELD(disk_super, slot_blocks),
    FIELD(disk_super, flags),
    FIELD(disk_super, journal_blocks),
    FIELD(disk_super, journal_window),
    FIELD(disk_super, replica_pages),
    FIELD(disk_super, region_pages),
    FIELD(disk_super, slots_total),
    FIELD(disk_super, incarnation),
    FIELD(disk_super, boot_id),
    FIELD(disk_super, claim_current),
    FIELD(disk_super, claim_previous),
    FIELD(disk_super, claim_next),
    FIELD(disk_super, journal_era),
    FIELD(disk_super, journal_tail),
    FIELD(disk_super, checkpoint),
    FIELD(disk_super, checkpoint_begun),
    FIELD(disk_super, reserved),
    FIELD(disk_page, magic),
    FIELD(disk_page, crc),
    FIELD(disk_page, generation),
    FIELD(disk_page, number),
    FIELD(disk_page, format_nonce),
    FIELD(disk_page, kind),
    FIELD(disk_page, owner),
    FIELD(disk_page, part),
    FIELD(disk_page, reserved),
    FIELD(disk_page, entries),
    FIELD(disk_replica, replica),
    FIELD(disk_replica, volume),
    FIELD(disk_replica, mirror_index),
    FIELD(disk_replica, state),
    FIELD(disk_replica, size_blocks),
    FIELD(disk_replica, epoch),
    FIELD(disk_replica, in_sync_count),
    FIELD(disk_replica, view),
    FIELD(disk_replica, in_sync),
    FIELD(disk_replica, session),
    FIELD(disk_replica, session_incarnation),
    FIELD(disk_replica, known_good),
    FIELD(disk_replica, owner_instance),
    FIELD(disk_replica, reserved),
    FIELD(disk_slot, replica),
    FIELD(disk_slot, layer),
    FIELD(disk_slot, logical),
    FIELD(disk_slot, sequence),
    FIELD(disk_journal, magic),
    FIELD(disk_journal, crc),
    FIELD(disk_journal, era),
    FIELD(disk_journal, position),
    FIELD(disk_journal, flushed),
    FIELD(disk_journal, super_generation),
    FIELD(disk_journal, format_nonce),
    FIELD(disk_journal, record_bytes),
    FIELD(disk_journal, reserved),
    FIELD(disk_journal, records),
};

struct named {
    const char *name;
    uint64_t value;
};

#define NAMED(name)           \
    {                         \
#name, (uint64_t)name \
    }
#define SIZED(name)                          \
    {                                        \
        "struct " #name, sizeof(struct name) \
    }

/* Of the form "| `NAME` | value |". */
static const struct named constants[] = {
    NAMED(DISK_VERSION),
    NAMED(DISK_SUPER_MAGIC),
    NAMED(DISK_PAGE_MAGIC),
    NAMED(DISK_JOURNAL_MAGIC),
    NAMED(DISK_EXTENT_BLOCKS),
    NAMED(DISK_SLOT_BLOCKS_MIN),
    NAMED(DISK_SLOT_BLOCKS_MAX),
    NAMED(DISK_SUPER_CLEAN),
    NAMED(DISK_SUPER_VOLATILE),
    NAMED(DISK_REPLICAS_PER_PAGE),
    NAMED(DISK_REGIONS_PER_PAGE),
    NAMED(DISK_ENTRIES_BYTES),
    NAMED(DISK_RECORDS_BYTES),
    NAMED(DISK_RECORD_EXACT),
    NAMED(DISK_RECORD_CRASHED),
    SIZED(disk_intent),
    SIZED(disk_state),
    SIZED(disk_alloc),
    SIZED(disk_free),
    SIZED(disk_region),
    SIZED(disk_hot),
    SIZED(disk_replica_set),
    SIZED(disk_region_page),
    SIZED(disk_known_good),
};

/* Of the form "| value | `NAME` | ...". */
static const struct named numbers[] = {
    NAMED(DISK_BLOCK_ABSENT),       NAMED(DISK_BLOCK_DATA),
    NAMED(DISK_BLOCK_ZERO),         NAMED(DISK_BLOCK_SUSPECT),
    NAMED(DISK_RECORD_NOP),         NAMED(DISK_RECORD_INTENT),
    NAMED(DISK_RECORD_STATE),       NAMED(DISK_RECORD_ALLOC),
    NAMED(DISK_RECORD_FREE),        NAMED(DISK_RECORD_REGION),
    NAMED(DISK_RECORD_HOT),         NAMED(DISK_RECORD_REPLICA),
    NAMED(DISK_RECORD_REGION_PAGE), NAMED(DISK_RECORD_KNOWN_GOOD),
};

#define LINE_SIZE 2048

static FILE *
page_open(void)
{
    const char *root = getenv("WEFT_SOURCE_ROOT");
    char path[1024];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/docs/disk-format.md",
                   root != NULL ? root : WEFT_SOURCE_ROOT);
    file = fopen(path, "re");
    assert_non_null(file);
    return file;
}

static void
test_structures(void **state)
{
    FILE *file = page_open();
    char line[LINE_SIZE];
    char owner[64] = "";
    size_t found = 0;

    (void)state;
    while (fgets(line, sizeof(line), file) != NULL) {
        char name[64];
        unsigned long offset;
        unsigned long size;
        size_t i;

        if (sscanf(line, "### `struct %63[a-z_]`", owner) == 1) {
            continue;
        }
        if (sscanf(line, "| %lu | %lu | `%63[a-z_]` |", &offset, &size, name) !=
            3) {
            continue;
        }
        for (i = 0; i < ARRAY_COUNT(fields); i++) {
            if (strcmp(fields[i].owner, owner) == 0 &&
                strcmp(fields[i].name, name) == 0) {
                break;
            }
        }
        if (i == ARRAY_COUNT(fields)) {
            fail_msg("no field %s.%s in the code", owner, name);
        }
        if (fields[i].offset != offset || fields[i].size != size) {
            fail_msg("%s.%s: the page says %lu, %lu; the code %zu, %zu", owner,
                     name, offset, size, fields[i].offset, fields[i].size);
        }
        found++;
    }
    (void)fclose(file);
    assert_int_equal(found, ARRAY_COUNT(fields));
}

static void
check_named(const struct named *table, size_t count, const char *name,
            uint64_t value, size_t *found)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, name) == 0) {
            if (table[i].value != value) {
                fail_msg("%s: the page says %llu, the code %llu", name,
                         (unsigned long long)value,
                         (unsigned long long)table[i].value);
            }
            (*found)++;
            return;
        }
    }
    fail_msg("no %s in the code", name);
}

static void
test_constants(void **state)
{
    FILE *file = page_open();
    char line[LINE_SIZE];
    size_t found_constants = 0;
    size_t found_numbers = 0;

    (void)state;
    while (fgets(line, sizeof(line), file) != NULL) {
        char name[64];
        char text[64];

        if (sscanf(line, "| `%63[A-Za-z_ ]` | %63[0-9a-fx] |", name, text) ==
            2) {
            check_named(constants, ARRAY_COUNT(constants), name,
                        strtoull(text, NULL, 0), &found_constants);
        } else if (sscanf(line, "| %63[0-9] | `DISK_%58[A-Z_]` |", text,
                          name + 5) == 2) {
            memcpy(name, "DISK_", 5);
            check_named(numbers, ARRAY_COUNT(numbers), name,
                        strtoull(text, NULL, 0), &found_numbers);
        }
    }
    (void)fclose(file);
    assert_int_equal(found_constants, ARRAY_COUNT(constants));
    assert_int_equal(found_numbers, ARRAY_COUNT(numbers));
}

/* What the page says of the sizes that format chooses. */
static void
test_geometry(void **state)
{
    struct geometry g;
    struct err err;

    (void)state;
    for (uint64_t size = 4 * MIB; size <= 64 * TIB; size *= 2) {
        for (uint32_t slot = 16384; slot <= MIB; slot *= 2) {
            uint64_t end;

            if (geometry_plan(size + 12345, slot, 0, &g, &err) != 0) {
                assert_true(size <= 16 * MIB);
                continue;
            }
            end = g.data_first + (uint64_t)g.slots_total * g.slot_blocks;
            assert_true(end <= size / WEFT_BLOCK_SIZE + 3);
            /* Little is wasted. */
            assert_true(size / WEFT_BLOCK_SIZE - end <
                            2 * (uint64_t)g.slot_blocks + 4096 ||
                        size >= 16 * TIB);
            assert_int_equal(g.data_first % g.slot_blocks, 0);
            assert_true(g.journal_limit >= g.journal_blocks / 2);
        }
    }
    assert_int_equal(geometry_plan(TIB, 0, 0, &g, &err), 0);
    assert_int_equal(g.slot_blocks, 16);
    assert_int_equal(g.entry_bytes, 92);
    assert_int_equal(g.entries_per_page, 43);
    assert_int_equal(g.journal_blocks, GIB / WEFT_BLOCK_SIZE);
    assert_int_equal(g.window, 512);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structures),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_geometry),
    };

    return cmocka_run_group_tests_name("store_disk", tests, NULL, NULL);
}
