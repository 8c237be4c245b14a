/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/stub_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <sanitizer/asan_interface.h>

#include "lib/base/container_of.h"
#include "lib/io/timer_heap.h"

#define STUB_LISTENERS_MAX 4u
#define STUB_ARENA_BYTES ((size_t)256 << 20)
#define STUB_TIMERS_MAX 65536u
/* More turns than this without time passing is a loop. */
#define STUB_TURNS_MAX 1000000u

enum stub_state {
    STUB_CONNECTING,
    STUB_OPEN,
    STUB_DRAINING,
    STUB_CLOSING,
    STUB_OVER
};

struct stub_conn {
    struct stub_world *world;
    struct list node;
    struct io_conn *conn;
    enum stub_state state;
    int reason;
    bool paused, stalled;
    struct list sends; /* io_op.node, pending. */
    uint8_t *sent;
    size_t sent_size;
    uint64_t sent_bytes;
};

struct stub_listener {
    struct io_listener_impl impl;
    struct io_listener *listener;
};

struct io_accepted {
    struct stub_conn *stub;
    bool taken;
};

/* Kept from world to world: fresh pages cost more than everything else. */
static uint8_t *arena;
static size_t arena_used;

struct stub_world {
    struct io io;
    uint64_t now_ns, random;
    struct timer_heap timers;
    struct list tasks, conns;
    struct stub_listener listeners[STUB_LISTENERS_MAX];
    uint32_t listener_count;
    struct stub_conn *connected;
};

static struct stub_world *
world_of(struct io *io)
{
    return container_of(io, struct stub_world, io);
}

static struct stub_conn *
stub_of(const struct io_conn *conn)
{
    struct stub_conn *stub = conn->impl;
    CHECK(stub != NULL);
    CHECK(stub->conn == conn);
    return stub;
}

/* ---- Time, chance, tasks, memory ---- */

static void
stub_op_cancel(struct io *io, struct io_op *op)
{
    (void)io;
    (void)op; /* It settles by itself. */
}

static uint64_t
stub_now_ns(struct io *io)
{
    return world_of(io)->now_ns;
}

static void
stub_random_bytes(struct io *io, void *data, size_t size)
{
    struct stub_world *world = world_of(io);
    uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++) {
        world->random = world->random * 6364136223846793005u + 1442695040888963;
        bytes[i] = (uint8_t)(world->random >> 56);
    }
}

static void
stub_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns)
{
    timer_heap_set(&world_of(io)->timers, timer, deadline_ns);
}

static void
stub_timer_cancel(struct io *io, struct io_timer *timer)
{
    timer_heap_remove(&world_of(io)->timers, timer);
}

static void
stub_task_defer(struct io *io, struct io_task *task)
{
    list_init(&task->node);
    list_push_back(&world_of(io)->tasks, &task->node);
    task->queued = true;
}

static void
stub_task_cancel(struct io *io, struct io_task *task)
{
    (void)io;
    list_remove(&task->node);
    task->queued = false;
}

static void *
stub_arena_alloc(struct io *io, size_t size)
{
    (void)io;
    if (arena == NULL) {
        arena = mmap(NULL, STUB_ARENA_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(arena != MAP_FAILED);
    }
    if (size > STUB_ARENA_BYTES - 4096 - arena_used) {
        return NULL;
    }
    uint8_t *bytes = arena + arena_used;
    arena_used += (size + 4096 + 4095) / 4096 * 4096; /* A page between. */
    ASAN_UNPOISON_MEMORY_REGION(bytes, size);
    memset(bytes, 0, size);
    ASAN_POISON_MEMORY_REGION(bytes + size, 4096);
    return bytes;
}

/* ---- Connections ---- */

static int
stub_listener_open(struct io *io, struct io_listener *listener,
                   const char *address)
{
    struct stub_world *world = world_of(io);
    (void)address;

    CHECK(listener->on_accept != NULL);
    if (world->listener_count == STUB_LISTENERS_MAX) {
        return -EMFILE;
    }
    struct stub_listener *stub = &world->listeners[world->listener_count++];
    stub->impl.io = io;
    stub->listener = listener;
    listener->impl = stub;
    return 0;
}

static void
stub_listener_address(const struct io_listener *listener,
                      char ret_address[IO_ADDRESS_SIZE])
{
    CHECK(listener->impl != NULL);
    memcpy(ret_address, "tcp:stub:1", sizeof "tcp:stub:1");
}

static void
stub_listener_close(struct io *io, struct io_listener *listener)
{
    struct stub_listener *stub = listener->impl;
    (void)io;

    CHECK(stub != NULL);
    stub->listener = NULL;
    listener->impl = NULL;
}

static struct stub_conn *
stub_conn_new(struct stub_world *world, enum stub_state state)
{
    struct stub_conn *stub = calloc(1, sizeof *stub);
    CHECK(stub != NULL);
    stub->world = world;
    stub->state = state;
    list_init(&stub->node);
    list_init(&stub->sends);
    list_push_back(&world->conns, &stub->node);
    return stub;
}

static void
stub_conn_free(struct stub_conn *stub)
{
    list_remove(&stub->node);
    free(stub->sent);
    free(stub);
}

static void
stub_conn_connect(struct io *io, struct io_conn *conn, const char *address,
                  uint64_t deadline_ns)
{
    struct stub_world *world = world_of(io);
    (void)address;
    (void)deadline_ns;

    CHECK(conn->impl == NULL);
    world->connected = stub_conn_new(world, STUB_CONNECTING);
    world->connected->conn = conn;
    conn->impl = world->connected;
}

static int
stub_conn_adopt(struct io *io, struct io_conn *conn,
                struct io_accepted *accepted)
{
    (void)io;
    CHECK(!accepted->taken);
    CHECK(conn->impl == NULL);
    accepted->taken = true;
    accepted->stub->conn = conn;
    conn->impl = accepted->stub;
    return 0;
}

static void
stub_conn_send(struct io *io, struct io_conn *conn, struct io_send *send)
{
    struct stub_conn *stub = stub_of(conn);
    (void)io;

    send->op.result =
        stub->state == STUB_OPEN && stub->reason == 0 ? 0 : -ENOTCONN;
    list_init(&send->op.node);
    list_push_back(&stub->sends, &send->op.node);
}

static void
stub_conn_pause(struct io *io, struct io_conn *conn)
{
    (void)io;
    stub_of(conn)->paused = true;
}

static void
stub_conn_resume(struct io *io, struct io_conn *conn)
{
    (void)io;
    stub_of(conn)->paused = false;
}

static void
stub_conn_close(struct io *io, struct io_conn *conn)
{
    struct stub_conn *stub = stub_of(conn);
    (void)io;

    if (stub->state != STUB_OVER) {
        stub->state = STUB_CLOSING;
    }
}

static void
stub_conn_close_after_sends(struct io *io, struct io_conn *conn)
{
    struct stub_conn *stub = stub_of(conn);
    (void)io;

    if (stub->state == STUB_OPEN) {
        stub->state = STUB_DRAINING;
    }
}

static const struct io_vtable stub_vtable = {
    .op_cancel = stub_op_cancel,
    .now_ns = stub_now_ns,
    .random_bytes = stub_random_bytes,
    .timer_set = stub_timer_set,
    .timer_cancel = stub_timer_cancel,
    .task_defer = stub_task_defer,
    .task_cancel = stub_task_cancel,
    .arena_alloc = stub_arena_alloc,
    .listener_open = stub_listener_open,
    .listener_address = stub_listener_address,
    .listener_close = stub_listener_close,
    .conn_connect = stub_conn_connect,
    .conn_adopt = stub_conn_adopt,
    .conn_send = stub_conn_send,
    .conn_pause = stub_conn_pause,
    .conn_resume = stub_conn_resume,
    .conn_close = stub_conn_close,
    .conn_close_after_sends = stub_conn_close_after_sends,
};

/* ---- The loop ---- */

static void
stub_record(struct stub_conn *stub, const struct io_send *send)
{
    for (uint32_t i = 0; i < send->iov_count; i++) {
        size_t size = send->iov[i].iov_len;
        size_t room = STUB_SENT_MAX - stub->sent_size;
        stub->sent_bytes += size;
        size = size < room ? size : room;
        if (size == 0) {
            continue;
        }
        stub->sent = realloc(stub->sent, stub->sent_size + size);
        CHECK(stub->sent != NULL);
        memcpy(stub->sent + stub->sent_size, send->iov[i].iov_base, size);
        stub->sent_size += size;
    }
}

/* Settles what there is; true: something was done. */
static bool
stub_sends_settle(struct stub_conn *stub)
{
    bool dead = stub->state == STUB_CLOSING;
    struct list settled;

    if (stub->stalled && !dead) {
        return false;
    }
    list_init(&settled);
    list_splice_back(&settled, &stub->sends);
    bool any = !list_is_empty(&settled);
    for (struct list *node = list_pop_front(&settled); node != NULL;
         node = list_pop_front(&settled)) {
        struct io_op *op = container_of(node, struct io_op, node);
        struct io_send *send = container_of(op, struct io_send, op);
        int result = op->result != 0 ? op->result : dead ? -ECANCELED : 0;
        if (result == 0) {
            stub_record(stub, send);
        }
        op->done(op, result);
    }
    return any;
}

static bool
stub_conn_turn(struct stub_conn *stub)
{
    if (stub->state == STUB_CONNECTING) {
        stub->state = STUB_OPEN;
        stub->conn->on_connected(stub->conn, 0);
        return true;
    }
    if (stub_sends_settle(stub)) {
        return true;
    }
    if (stub->state == STUB_CLOSING ||
        (stub->state == STUB_DRAINING && list_is_empty(&stub->sends))) {
        struct io_conn *conn = stub->conn;
        stub->state = STUB_OVER;
        stub->conn = NULL;
        conn->impl = NULL;
        conn->on_closed(conn, stub->reason);
        return true;
    }
    return false;
}

static bool
stub_turn(struct stub_world *world)
{
    struct list *node = list_pop_front(&world->tasks);
    if (node != NULL) {
        struct io_task *task = container_of(node, struct io_task, node);
        task->queued = false;
        task->run(task);
        return true;
    }
    LIST_FOREACH (one, &world->conns) {
        if (stub_conn_turn(container_of(one, struct stub_conn, node))) {
            return true;
        }
    }
    return false;
}

void
stub_run(struct stub_world *world)
{
    for (uint32_t turns = 0; stub_turn(world); turns++) {
        CHECK(turns < STUB_TURNS_MAX);
    }
}

void
stub_advance(struct stub_world *world, uint64_t duration_ns)
{
    uint64_t end = world->now_ns + duration_ns;

    stub_run(world);
    while (timer_heap_next_ns(&world->timers) <= end) {
        uint64_t next = timer_heap_next_ns(&world->timers);
        world->now_ns = next > world->now_ns ? next : world->now_ns;
        struct io_timer *timer =
            timer_heap_pop_due(&world->timers, world->now_ns);
        timer->fire(timer);
        stub_run(world);
    }
    world->now_ns = end;
}

/* ---- The other side ---- */

struct stub_conn *
stub_connect(struct stub_world *world, uint32_t listener)
{
    if (listener >= world->listener_count ||
        world->listeners[listener].listener == NULL) {
        return NULL;
    }
    struct io_listener *door = world->listeners[listener].listener;
    struct io_accepted accepted = { stub_conn_new(world, STUB_OPEN), false };
    door->on_accept(door, &accepted);
    if (!accepted.taken) {
        stub_conn_free(accepted.stub);
        return NULL;
    }
    return accepted.stub;
}

struct stub_conn *
stub_connected(struct stub_world *world)
{
    return world->connected;
}

bool
stub_feed(struct stub_conn *stub, const uint8_t *data, uint32_t size)
{
    CHECK(size > 0);
    CHECK(size <= IO_DATA_BYTES_MAX);
    if (stub->state != STUB_OPEN || stub->paused) {
        return false;
    }
    uint8_t *exact = malloc(size);
    CHECK(exact != NULL);
    memcpy(exact, data, size);
    stub->conn->on_data(stub->conn, exact, size);
    free(exact);
    return true;
}

void
stub_end(struct stub_conn *stub, int reason)
{
    if (stub->state == STUB_OPEN || stub->state == STUB_DRAINING) {
        stub->state = STUB_CLOSING;
        stub->reason = reason;
    }
}

void
stub_stall(struct stub_conn *stub, bool stall)
{
    stub->stalled = stall;
}

bool
stub_is_open(const struct stub_conn *stub)
{
    return stub->state == STUB_OPEN;
}

const uint8_t *
stub_sent(const struct stub_conn *stub, size_t *ret_size)
{
    *ret_size = stub->sent_size;
    return stub->sent;
}

void
stub_sent_drop(struct stub_conn *stub)
{
    stub->sent_size = 0;
}

uint64_t
stub_sent_bytes(const struct stub_conn *stub)
{
    return stub->sent_bytes;
}

/* ---- Life ---- */

struct stub_world *
stub_world_new(void)
{
    struct stub_world *world = calloc(1, sizeof *world);
    CHECK(world != NULL);
    world->io.vtable = &stub_vtable;
    world->now_ns = 1000000000;
    int result = timer_heap_init(&world->timers, STUB_TIMERS_MAX);
    CHECK(result == 0);
    list_init(&world->tasks);
    list_init(&world->conns);
    return world;
}

void
stub_world_free(struct stub_world *world)
{
    CHECK(list_is_empty(&world->tasks));
    CHECK(timer_heap_next_ns(&world->timers) == IO_NEVER);
    for (uint32_t i = 0; i < world->listener_count; i++) {
        CHECK(world->listeners[i].listener == NULL);
    }
    for (struct list *node = list_front(&world->conns); node != NULL;
         node = list_front(&world->conns)) {
        struct stub_conn *stub = container_of(node, struct stub_conn, node);
        CHECK(stub->state == STUB_OVER);
        stub_conn_free(stub);
    }
    if (arena_used > 0) {
        ASAN_POISON_MEMORY_REGION(arena, arena_used);
        arena_used = 0;
    }
    timer_heap_done(&world->timers);
    free(world);
}

struct io *
stub_world_io(struct stub_world *world)
{
    return &world->io;
}
