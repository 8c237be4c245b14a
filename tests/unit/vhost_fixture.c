/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vhost_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "tests/unit/unit.h"

static void
vhost_fixture_idle(void *context)
{
    vhost_fixture_settle(context);
}

void
vhost_fixture_driver(struct vhost_fixture *fixture,
                     const struct vhost_driver_options *options,
                     struct vhost_driver *ret_driver)
{
    struct vhost_driver_options own = { 0 };

    if (options != NULL) {
        own = *options;
    }
    own.path = fixture->path;
    own.idle = vhost_fixture_idle;
    own.context = fixture;
    assert_int_equal(vhost_driver_init(ret_driver, &own), 0);
}

void
vhost_fixture_up(struct vhost_fixture *fixture,
                 const struct vhost_fixture_options *options)
{
    static const struct vhost_fixture_options none = { 0 };
    struct err err = { .text = "" };

    if (options == NULL) {
        options = &none;
    }
    memset(fixture, 0, sizeof *fixture);
    fixture->log_fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(fixture->log_fd >= 0);
    log_set_fd(fixture->log_fd);
    (void)snprintf(fixture->path, sizeof fixture->path,
                   "/tmp/weft-vhost-%d.sock", (int)getpid());
    manual_io_init(&fixture->manual);
    fixture->volume =
        fake_volume_new(&fixture->manual.io,
                        options->volume_bytes != 0 ? options->volume_bytes
                                                   : VHOST_FIXTURE_BYTES,
                        &options->pool);

    struct vhost_export_options export_options = {
        .io = &fixture->manual.io,
        .volume = fixture->volume,
        .socket_path = fixture->path,
        .serial = "weft-serial-0123456789",
        .spin_ns = options->spin_ns,
    };
    assert_int_equal(vhost_export_new(&export_options, &err,
                                      &fixture->vhost_export),
                     0);
    vhost_fixture_driver(fixture, &options->driver, &fixture->driver);
    if (!options->no_start) {
        assert_int_equal(vhost_driver_connect(&fixture->driver), 0);
        assert_int_equal(vhost_driver_start(&fixture->driver), 0);
    }
}

static void
vhost_fixture_stopped(void *owner)
{
    struct vhost_fixture *fixture = owner;

    fixture->stopped = true;
    fixture->vhost_export = NULL;
}

void
vhost_fixture_stop_export(struct vhost_fixture *fixture)
{
    vhost_export_stop(fixture->vhost_export, vhost_fixture_stopped, fixture);
    vhost_fixture_settle(fixture);
}

void
vhost_fixture_down(struct vhost_fixture *fixture)
{
    if (fixture->volume->holds) {
        fake_volume_release(fixture->volume);
        vhost_fixture_settle(fixture);
    }
    if (fixture->vhost_export != NULL) {
        vhost_fixture_stop_export(fixture);
    }
    assert_true(fixture->stopped);
    assert_int_equal(access(fixture->path, F_OK), -1);
    vhost_driver_done(&fixture->driver);
    fake_volume_free(fixture->volume);
    manual_io_done(&fixture->manual);
    log_set_fd(STDERR_FILENO);
    close(fixture->log_fd);
}

void
vhost_fixture_settle(struct vhost_fixture *fixture)
{
    manual_io_settle(&fixture->manual);
}

void
vhost_fixture_assert_logged(struct vhost_fixture *fixture, const char *text)
{
    char log[8192];

    ssize_t size = pread(fixture->log_fd, log, sizeof log - 1, 0);
    assert_true(size >= 0);
    log[size] = '\0';
    if (strstr(log, text) == NULL) {
        fail_msg("\"%s\" is not in the log: %s", text, log);
    }
    assert_int_equal(ftruncate(fixture->log_fd, 0), 0);
    assert_int_equal(lseek(fixture->log_fd, 0, SEEK_SET), 0);
}

uint8_t
vhost_fixture_take(struct vhost_driver_queue *queue, uint64_t *ret_cookie)
{
    uint64_t cookie;
    uint16_t head;

    assert_int_equal(vhost_driver_take(queue, &cookie, &head, NULL), 1);
    if (ret_cookie != NULL) {
        *ret_cookie = cookie;
    }
    return vhost_driver_status(queue, head);
}

void
vhost_fixture_assert_none(struct vhost_driver_queue *queue)
{
    uint64_t cookie;

    assert_int_equal(vhost_driver_take(queue, &cookie, NULL, NULL), 0);
}

uint8_t
vhost_fixture_byte(uint64_t position, uint64_t salt)
{
    return (
        uint8_t)(((position + salt * 1000003) * UINT64_C(0x9e3779b97f4a7c15)) >>
                 56);
}

void
vhost_fixture_fill(uint8_t *data, uint64_t size, uint64_t salt)
{
    for (uint64_t i = 0; i < size; i++) {
        data[i] = vhost_fixture_byte(i, salt);
    }
}
