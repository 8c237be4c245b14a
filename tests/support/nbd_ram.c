/* SPDX-License-Identifier: Apache-2.0 */

/* An NBD server over a volume in memory, for tests with other people's clients:
 *
 *     nbd_ram SOCKET SIZE [DELAY_US [ERROR_PPM]]
 *
 * Exports "p/v" of SIZE bytes and "p/other" of 64 KiB on the unix socket and
 * on a TCP port of 127.0.0.1; prints the port, and "ready".  Lives until its
 * standard input ends; then takes the exports back, prints what was asked of
 * the volume, and leaves with 0 if nothing was left behind. */

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blockd/export/nbd.h"
#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/uring.h"
#include "tests/support/ram_volume.h"

struct program {
    struct reactor_call call;
    struct io *io;
    const char *path;
    struct ram_volume_options options;
    struct volume *volume, *other_volume;
    struct nbd_server *server;
    struct nbd_export *nbd_export, *other;
    char tcp[IO_ADDRESS_SIZE];
    uint32_t removed;
    struct ram_volume_stats stats;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopped;
};

static void
start(struct reactor_call *call)
{
    struct program *program = container_of(call, struct program, call);
    struct nbd_server_options server = { .io = program->io };
    struct ram_volume_options other = {
        .io = program->io,
        .size_bytes = 65536,
        .payloads = { 8, 8, 1 },
    };
    char address[IO_ADDRESS_SIZE];

    snprintf(address, sizeof address, "unix:%s", program->path);
    CHECK(ram_volume_new(&program->options, &program->volume) == 0);
    CHECK(ram_volume_new(&other, &program->other_volume) == 0);
    CHECK(nbd_server_new(&server, &program->server) == 0);
    CHECK(nbd_server_listen(program->server, address, NULL) == 0);
    CHECK(nbd_server_listen(program->server, "tcp:127.0.0.1:0", program->tcp) ==
          0);
    CHECK(nbd_export_add(program->server, "p/v", program->volume,
                         &program->nbd_export) == 0);
    CHECK(nbd_export_add(program->server, "p/other", program->other_volume,
                         &program->other) == 0);
}

static void
server_stopped(void *owner)
{
    struct program *program = owner;

    ram_volume_stats(program->volume, &program->stats);
    ram_volume_free(program->volume);
    ram_volume_free(program->other_volume);
    pthread_mutex_lock(&program->lock);
    program->stopped = true;
    pthread_cond_signal(&program->changed);
    pthread_mutex_unlock(&program->lock);
}

static void
export_removed(void *owner)
{
    struct program *program = owner;

    if (++program->removed == 2) {
        nbd_server_stop(program->server, server_stopped, program);
    }
}

static void
stop(struct reactor_call *call)
{
    struct program *program = container_of(call, struct program, call);

    nbd_export_remove(program->nbd_export, export_removed, program);
    nbd_export_remove(program->other, export_removed, program);
}

static uint64_t
number(const char *text)
{
    uint64_t value;

    if (units_parse_u64(text, &value) != 0) {
        fprintf(stderr, "nbd_ram: '%s' is not a number\n", text);
        exit(2);
    }
    return value;
}

static void
wait_for_end_of_input(void)
{
    char byte;

    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

int
main(int argc, char **argv)
{
    struct program program = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    struct reactor_options options;
    struct reactor *reactor;

    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: nbd_ram SOCKET SIZE [DELAY_US [ERROR_PPM]]\n");
        return 2;
    }
    program.path = argv[1];
    program.options.size_bytes = number(argv[2]);
    program.options.delay_max_ns = argc > 3 ? number(argv[3]) * NS_PER_US : 0;
    program.options.error_ppm = argc > 4 ? (uint32_t)number(argv[4]) : 0;
    program.options.payloads = (struct payload_pool_options){ 512, 128, 24 };

    reactor_options_init(&options);
    options.arena_bytes = (size_t)64 << 20;
    CHECK(reactor_new(&options, &reactor) == 0);
    CHECK(reactor_start(reactor) == 0);
    program.io = reactor_io(reactor);
    program.options.io = program.io;
    program.call.run = start;
    reactor_call(reactor, &program.call);
    printf("%s\nready\n", strrchr(program.tcp, ':') + 1);
    fflush(stdout);

    wait_for_end_of_input();
    program.call.run = stop;
    reactor_call(reactor, &program.call);
    pthread_mutex_lock(&program.lock);
    while (!program.stopped) {
        pthread_cond_wait(&program.changed, &program.lock);
    }
    pthread_mutex_unlock(&program.lock);
    reactor_stop(reactor);
    reactor_free(reactor);
    for (uint32_t i = 0; i < RAM_KINDS; i++) {
        printf("%u %u %u\n", program.stats.count[i], program.stats.fua[i],
               program.stats.failed[i]);
    }
    return 0;
}
