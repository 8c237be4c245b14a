/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_VHOST_FIXTURE_H
#define TESTS_UNIT_VHOST_FIXTURE_H

/* What the tests of the vhost-user export share: an export over a volume in
 * memory, and a driver, all on the test's thread. */

#include "blockd/export/vhost.h"
#include "tests/support/fake_volume.h"
#include "tests/support/manual_io.h"
#include "tests/support/vhost_driver.h"

#define VHOST_FIXTURE_BYTES (UINT64_C(64) << 20)

struct vhost_fixture {
    struct manual_io manual;
    struct volume *volume;
    struct vhost_export *vhost_export; /* NULL: stopped. */
    struct vhost_driver driver;
    char path[64];
    bool stopped;
    int log_fd;
};

struct vhost_fixture_options {
    struct vhost_driver_options driver; /* path, idle are filled in. */
    struct payload_pool_options pool;
    uint64_t volume_bytes; /* 0: VHOST_FIXTURE_BYTES. */
    uint64_t spin_ns;
    bool no_start; /* The driver is left unconnected. */
};

/* 'options' may be NULL. */
void vhost_fixture_up(struct vhost_fixture *fixture,
                      const struct vhost_fixture_options *options);
void vhost_fixture_down(struct vhost_fixture *fixture);
void vhost_fixture_stop_export(struct vhost_fixture *fixture);
void vhost_fixture_settle(struct vhost_fixture *fixture);
/* A second driver, unconnected, towards the same export. */
void vhost_fixture_driver(struct vhost_fixture *fixture,
                          const struct vhost_driver_options *options,
                          struct vhost_driver *ret_driver);
/* What has been logged contains 'text'; and forgets it. */
void vhost_fixture_assert_logged(struct vhost_fixture *fixture,
                                 const char *text);
/* Takes one completion, which must be there: its status. */
uint8_t vhost_fixture_take(struct vhost_driver_queue *queue,
                           uint64_t *ret_cookie);
/* Nothing has completed. */
void vhost_fixture_assert_none(struct vhost_driver_queue *queue);
uint8_t vhost_fixture_byte(uint64_t position, uint64_t salt);
void vhost_fixture_fill(uint8_t *data, uint64_t size, uint64_t salt);

#endif /* TESTS_UNIT_VHOST_FIXTURE_H */
