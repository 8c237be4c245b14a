/* SPDX-License-Identifier: Apache-2.0 */
/* blockd/cluster/record: the durable local records (S22) are read as they were
 * written, or not at all. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockd/cluster/cluster_internal.h"

struct fixture {
    struct cluster cluster;
    char directory[64];
    struct record record;
    uint32_t seen;
};

static struct fixture *found; /* By the callbacks, which have no owner. */

static struct weft_uuid
uuid_of(uint8_t number)
{
    struct weft_uuid uuid = { { 0 } };

    memset(uuid.bytes, number, sizeof uuid.bytes);
    return uuid;
}

static void
fill(struct record *record, uint8_t number)
{
    memset(record, 0, sizeof *record);
    record->volume = uuid_of(number);
    record->instance = uuid_of(0x22);
    record->boot_id = uuid_of(0x33);
    (void)snprintf(record->name, sizeof record->name, "default/v%u", number);
    record->epoch = 7;
    record->size_bytes = UINT64_C(1) << 40;
    record->extent_bytes = 4u << 20;
    record->slow_ms = 500;
    record->min_in_sync = 2;
    record->mirror_count = 2;
    for (uint8_t i = 0; i < 2; i++) {
        struct record_mirror *mirror = &record->mirrors[i];
        mirror->row.mirror = uuid_of((uint8_t)(0x40 + i));
        mirror->row.view = 9;
        mirror->row.replica_count = 3;
        mirror->row.in_sync = 5;
        for (uint8_t j = 0; j < 3; j++) {
            mirror->row.replica[j] = uuid_of((uint8_t)(0x50 + 4 * i + j));
            mirror->row.disk[j] = uuid_of((uint8_t)(0x60 + j));
            (void)snprintf(mirror->address[j], sizeof mirror->address[j],
                           "tcp:10.0.0.%u:7701", j + 1u);
        }
    }
}

static int
setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    (void)snprintf(fixture->directory, sizeof fixture->directory,
                   "/tmp/weft-record-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    fixture->cluster.state_dir = fixture->directory;
    fill(&fixture->record, 0x11);
    found = fixture;
    *state = fixture;
    return 0;
}

static void
remove_all(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inside[600];
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        if (unlink(inside) != 0) {
            remove_all(inside);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

static int
teardown(void **state)
{
    struct fixture *fixture = *state;

    remove_all(fixture->directory);
    free(fixture);
    return 0;
}

static void
path_of(const struct fixture *fixture, char ret_path[200])
{
    char text[UUID_TEXT_SIZE];

    uuid_format(&fixture->record.volume, text);
    (void)snprintf(ret_path, 200, "%s/volumes/%s", fixture->directory, text);
}

static void
count_volume(struct cluster *cluster, const struct record *record)
{
    assert_ptr_equal(cluster, &found->cluster);
    assert_int_equal(record->epoch, 7);
    found->seen++;
}

static void
test_round_trip(void **state)
{
    struct fixture *fixture = *state;
    struct record read;

    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     -ENOENT);
    assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     0);
    assert_memory_equal(&read, &fixture->record, sizeof read);

    /* Replaced as a whole; nothing else is left behind. */
    fixture->record.is_pending = 1;
    assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     0);
    assert_int_equal(read.is_pending, 1);
    record_for_each(&fixture->cluster, count_volume);
    assert_int_equal(fixture->seen, 1);

    record_remove(&fixture->cluster, &fixture->record.volume);
    record_remove(&fixture->cluster, &fixture->record.volume);
    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     -ENOENT);
}

static void
test_many(void **state)
{
    struct fixture *fixture = *state;

    record_for_each(&fixture->cluster, count_volume); /* No directory yet. */
    for (uint8_t i = 1; i <= 20; i++) {
        fill(&fixture->record, i);
        assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    }
    record_for_each(&fixture->cluster, count_volume);
    assert_int_equal(fixture->seen, 20);
}

/* Killed while it wrote: what it left goes with the next look at the records;
 * what is not ours stays. */
static void
test_half_written(void **state)
{
    struct fixture *fixture = *state;
    char path[200], left[210], others[220];

    assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    path_of(fixture, path);
    (void)snprintf(left, sizeof left, "%s.new", path);
    (void)snprintf(others, sizeof others, "%s.newer", path);
    assert_int_equal(rename(path, left), 0);
    int fd = open(others, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    record_for_each(&fixture->cluster, count_volume);
    assert_int_equal(fixture->seen, 0);
    assert_int_equal(access(left, F_OK), -1);
    assert_int_equal(unlink(others), 0);
}

/* Each byte of the file matters, whichever way it is wrong. */
static void
test_damaged(void **state)
{
    struct fixture *fixture = *state;
    struct record read;
    struct stat info;
    char path[200];

    assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    path_of(fixture, path);
    assert_int_equal(stat(path, &info), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (off_t at = 0; at < info.st_size; at += at < 200 ? 1 : 997) {
        uint8_t byte;
        if (at >= 20 && at < 24) {
            continue; /* Not used. */
        }
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                     &read),
                         -EUCLEAN);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     0);
    (void)close(fd);
}

static void
test_truncated(void **state)
{
    struct fixture *fixture = *state;
    struct record read;
    struct stat info;
    char path[200];

    assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    path_of(fixture, path);
    assert_int_equal(stat(path, &info), 0);
    for (off_t size = info.st_size - 1; size >= 0;
         size = size > 500 ? size - 499 : size - 1) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                     &read),
                         -EUCLEAN);
    }
    record_for_each(&fixture->cluster, count_volume);
    assert_int_equal(fixture->seen, 0);
}

/* Of another program: another version, another size, something else. */
static void
test_foreign(void **state)
{
    struct fixture *fixture = *state;
    struct record read;
    char path[200];
    uint32_t version = 1;

    assert_int_equal(record_write(&fixture->cluster, &fixture->record), 0);
    path_of(fixture, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &version, sizeof version, 8), sizeof version);
    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     -EUCLEAN);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, "hello\n", 6, 0), 6);
    assert_int_equal(record_read(&fixture->cluster, &fixture->record.volume,
                                 &read),
                     -EUCLEAN);
    (void)close(fd);
}

/* Values that would lead astray though the checksum is right. */
static void
test_insane(void **state)
{
    struct fixture *fixture = *state;
    struct record read;

    for (int round = 0; round < 6; round++) {
        struct record *record = &fixture->record;
        fill(record, 0x11);
        switch (round) {
        case 0:
            record->mirror_count = VOLUME_MIRRORS_MAX + 1;
            break;
        case 1:
            record->mirror_count = 0;
            break;
        case 2:
            memset(record->name, 'x', sizeof record->name);
            break;
        case 3:
            record->mirrors[1].row.replica_count = STORE_REPLICAS_MAX + 1;
            break;
        case 4:
            record->mirrors[1].row.in_sync = 8; /* Of three replicas. */
            break;
        default:
            memset(record->mirrors[0].address[2], 'x', IO_ADDRESS_SIZE);
            break;
        }
        assert_int_equal(record_write(&fixture->cluster, record), 0);
        assert_int_equal(record_read(&fixture->cluster, &record->volume, &read),
                         -EUCLEAN);
    }
    record_for_each(&fixture->cluster, count_volume);
    assert_int_equal(fixture->seen, 0);
}

static void
count_disk(struct cluster *cluster, const struct disk_record *record)
{
    assert_ptr_equal(cluster, &found->cluster);
    assert_string_equal(record->path, "/dev/nvme0n1");
    found->seen++;
}

static void
test_disk(void **state)
{
    struct fixture *fixture = *state;
    struct disk_record record;

    memset(&record, 0, sizeof record);
    record.disk = uuid_of(1);
    record.claim = uuid_of(2);
    (void)snprintf(record.path, sizeof record.path, "/dev/nvme0n1");
    assert_int_equal(disk_record_write(&fixture->cluster, &record), 0);
    disk_record_for_each(&fixture->cluster, count_disk);
    assert_int_equal(fixture->seen, 1);
    disk_record_remove(&fixture->cluster, &record.disk);
    disk_record_for_each(&fixture->cluster, count_disk);
    assert_int_equal(fixture->seen, 1);

    /* A path without an end. */
    memset(record.path, 'x', sizeof record.path);
    assert_int_equal(disk_record_write(&fixture->cluster, &record), 0);
    disk_record_for_each(&fixture->cluster, count_disk);
    assert_int_equal(fixture->seen, 1);
}

/* Nowhere to write to. */
static void
test_no_directory(void **state)
{
    struct fixture *fixture = *state;
    char path[80];

    (void)snprintf(path, sizeof path, "%s/none/none", fixture->directory);
    fixture->cluster.state_dir = path;
    assert_int_equal(record_write(&fixture->cluster, &fixture->record),
                     -ENOENT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
        cmocka_unit_test_setup_teardown(test_insane, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_directory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
