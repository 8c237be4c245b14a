/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_IO_H
#define LIB_IO_IO_H

/* The one interface to disk, network, time and chance.
 *
 * There are two worlds behind it:
 *
 *   lib/io/uring.h   reactors: one thread, one io_uring each
 *   lib/io/sim.h     a deterministic world made from one seed
 *
 * A 'struct io' is one reactor, or one simulated node.  Everything below
 * blockd/export is written against this header only, so that the code that
 * keeps data safe is the very code that the simulator torments.
 *
 * The happy path of a user: fill an operation that is embedded in your own
 * structure, start it, return; later the world calls op->done() on the same
 * thread.  The rules, for every operation:
 *
 *   (1) x_start() returns void.  Every failure, a full ring included, arrives
 *       through done(): there is one error path.
 *   (2) done() never runs inside x_start(); it runs exactly once.
 *   (3) The operation and the memory it names are borrowed until done().
 *       io_op_cancel() asks for an early end; it releases nothing.
 *   (4) Nothing here blocks, allocates or locks once the objects are set up,
 *       except where a function says "set-up only".
 *   (5) All calls are made on the thread of the reactor ('io'), except
 *       io_post_send(), which any thread may call.
 *   (6) Results are 0 or -errno.  Short transfers are finished inside.
 *
 * Time is CLOCK_MONOTONIC in nanoseconds and serves liveness only. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/base/check.h"
#include "lib/base/list.h"

#define IO_NEVER UINT64_MAX
#define IO_ADDRESS_SIZE 128
#define IO_SEND_IOV_MAX 4
/* The most bytes that one call of on_data() brings: a user that has to stop in
 * the midst of a call (io_conn_pause) must keep the rest itself. */
#define IO_DATA_BYTES_MAX 65536u

struct io;
struct io_op;

typedef void io_op_done_fn(struct io_op *op, int result);

/* The head of every operation. */
struct io_op {
    io_op_done_fn *done;
    /* Private to the world. */
    struct list node;
    uint64_t sequence;
    int32_t result;
    uint32_t state;
};

/* Asks that 'op' end early.  done() still runs, with -ECANCELED if the cancel
 * came in time, or with the outcome.  A file write that was cancelled may
 * have happened.  Harmless on an operation that is already settling. */
void io_op_cancel(struct io *io, struct io_op *op);

/* ---- Time and chance ---- */

/* Now, CLOCK_MONOTONIC.  In a reactor it is read once per turn of the loop. */
uint64_t io_now_ns(struct io *io);

/* Unpredictable bits (uring: getrandom; sim: from the seed). */
uint64_t io_random_u64(struct io *io);
void io_random_bytes(struct io *io, void *data, size_t size);

struct io_timer;
typedef void io_timer_fn(struct io_timer *timer);

struct io_timer {
    io_timer_fn *fire;
    /* Private. */
    uint64_t deadline_ns;
    uint32_t heap_index; /* 0: not armed. */
};

/* Prepares a timer: not armed. */
void io_timer_init(struct io_timer *timer, io_timer_fn *fire);
/* Arms or re-arms; fires once, never inside this call. */
void io_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns);
/* Disarms.  fire() will not run after this returns.  Harmless if not armed. */
void io_timer_cancel(struct io *io, struct io_timer *timer);
bool io_timer_is_armed(const struct io_timer *timer);

/* ---- Work later on this thread, work on another ---- */

struct io_task;
typedef void io_task_fn(struct io_task *task);

/* Runs in this same turn of the loop, after every completion that has already
 * been reaped; tasks run in the order of io_task_defer().  This is how work is
 * batched (group commit) and how done() is kept out of start(). */
struct io_task {
    io_task_fn *run;
    /* Private. */
    struct list node;
    bool queued;
};

void io_task_init(struct io_task *task, io_task_fn *run);
/* Queues the task; harmless if it is queued already. */
void io_task_defer(struct io *io, struct io_task *task);
/* Takes it back; run() will not be called after this returns. */
void io_task_cancel(struct io *io, struct io_task *task);

struct io_post;
typedef void io_post_fn(struct io_post *post);

/* A message to a reactor, embedded in what it carries. */
struct io_post {
    io_post_fn *run; /* Called on the thread of the target. */
    /* Private. */
    struct io_post *next;
};

/* Delivers 'post' to 'to'.  Any thread.  'from' is the calling reactor
 * (delivered by MSG_RING) or NULL for a foreign thread (by eventfd).  Order is
 * kept between one sender and one target.  The post is borrowed until run(). */
void io_post_send(struct io *from, struct io *to, struct io_post *post);

/* ---- Memory ---- */

/* Set-up only.  Memory for I/O, aligned to 4096 bytes, zeroed, freed with the
 * world.  A reactor registers it with its ring, and file operations inside it
 * become fixed-buffer operations by themselves.  Returns NULL when the arena
 * (see the world's options) is exhausted. */
void *io_arena_alloc(struct io *io, size_t size);

/* ---- Files: block devices or regular files, O_DIRECT ---- */

struct io_file; /* Opaque, from io_file_open(). */

struct io_file_info {
    uint64_t size_bytes;
    uint32_t alignment_bytes; /* Of offset, size and memory; at most 4096. */
    bool volatile_cache;      /* A completed write may be lost until a flush. */
};

enum io_cache_mode {
    IO_CACHE_AUTO, /* Ask the device; a regular file is volatile. */
    IO_CACHE_VOLATILE,
    IO_CACHE_NONVOLATILE, /* The administrator vouches for it. */
};

/* Set-up only; blocks.  Opens an existing file or block device for exclusive
 * use (a block device with O_EXCL, a file with an exclusive lock): -EBUSY when
 * another process has it.  The file is closed with io_file_close(). */
WEFT_MUST_CHECK int io_file_open(struct io *io, const char *path,
                                 enum io_cache_mode mode,
                                 struct io_file **ret_file);
void io_file_info_get(const struct io_file *file, struct io_file_info *ret);
/* No operation may be pending.  NULL is accepted. */
void io_file_close(struct io *io, struct io_file *file);

enum io_file_kind {
    IO_FILE_READ,
    IO_FILE_WRITE,
    IO_FILE_FLUSH,   /* Device flush: covers writes completed before start. */
    IO_FILE_DISCARD, /* Punches a hole; contents read as anything after. */
};

struct io_file_op {
    struct io_op op;
    /* Set by the caller; constant until done(). */
    struct io_file *file;
    enum io_file_kind kind;
    uint32_t size_bytes;    /* Multiple of the alignment; 0 for a flush. */
    uint64_t offset_bytes;  /* Multiple of the alignment. */
    uint64_t discard_bytes; /* IO_FILE_DISCARD: the size (may exceed 4 GiB). */
    void *data;             /* READ: written to; WRITE: only read. */
    /* Private. */
    uint32_t done_bytes;
    uint32_t slot;
};

/* Errors: -EIO, -ENOSPC (a thin file), -EINVAL (beyond the end of the file),
 * -ECANCELED, -ENODEV, -EOPNOTSUPP (a discard that the file cannot do) ... */
void io_file_start(struct io *io, struct io_file_op *op);

/* ---- Connections: TCP or unix stream ---- */

/* "tcp:10.1.0.1:7701", "tcp:[fd00::1]:7701", "unix:/run/weft/x.sock"; in the
 * simulator "tcp:NODE:PORT". */
struct io_conn;
struct io_listener;
struct io_accepted; /* Opaque; valid inside on_accept() only. */

/* Take the connection with io_conn_adopt() inside the call, or it is closed. */
typedef void io_accept_fn(struct io_listener *listener,
                          struct io_accepted *accepted);

struct io_listener {
    io_accept_fn *on_accept;
    /* Private. */
    void *impl;
};

/* Set-up only.  -EADDRINUSE, -EINVAL (address) ...  A stale unix socket file
 * is replaced. */
WEFT_MUST_CHECK int io_listener_open(struct io *io,
                                     struct io_listener *listener,
                                     const char *address);
/* The bound address ("tcp:127.0.0.1:0" has become a real port). */
void io_listener_address(const struct io_listener *listener,
                         char ret_address[IO_ADDRESS_SIZE]);
/* on_accept() will not run after this returns. */
void io_listener_close(struct io *io, struct io_listener *listener);

/* Result of io_conn_connect(): 0, -ECONNREFUSED, -ETIMEDOUT, ..., or -ECANCELED
 * when io_conn_close() came first.  Called exactly once.  After an error
 * on_closed() follows, too: closing has one path. */
typedef void io_conn_connected_fn(struct io_conn *conn, int result);
/* Bytes have arrived, in order, at most IO_DATA_BYTES_MAX at once.  'data' is
 * valid inside the call only: copy (and checksum) what you need in one pass.
 * May call any io_conn function. */
typedef void io_conn_data_fn(struct io_conn *conn, const uint8_t *data,
                             uint32_t size_bytes);
/* The connection is over: all sends have settled, nothing is pending, no
 * callback follows; the memory is the owner's again.  'reason' is 0 for an
 * orderly end by the other side or by io_conn_close(), else -errno. */
typedef void io_conn_closed_fn(struct io_conn *conn, int reason);

/* Embedded in its owner.  States:
 *
 *   (unused) -- io_conn_connect --> CONNECTING --> OPEN --> CLOSING -->
 * (unused)
 *            -- io_conn_adopt   ------------------> OPEN
 *
 * OPEN goes to CLOSING by io_conn_close(), by the other side's end, or by an
 * error; on_closed() is called exactly once, never inside a start. */
struct io_conn {
    io_conn_connected_fn *on_connected; /* Only for io_conn_connect(). */
    io_conn_data_fn *on_data;
    io_conn_closed_fn *on_closed;
    /* Private.  'impl' is NULL when unused: zero the structure at first. */
    void *impl;
    struct list node;
    int32_t result;
};

/* Begins to connect; 'deadline_ns' bounds it (IO_NEVER: the system's). */
void io_conn_connect(struct io *io, struct io_conn *conn, const char *address,
                     uint64_t deadline_ns);
/* Inside on_accept(): 'conn' becomes OPEN; -ENOMEM or -EMFILE if the world has
 * no room for it. */
WEFT_MUST_CHECK int io_conn_adopt(struct io *io, struct io_conn *conn,
                                  struct io_accepted *accepted);

struct io_send {
    struct io_op op;
    /* Set by the caller; the bytes are borrowed until done(). */
    struct iovec iov[IO_SEND_IOV_MAX];
    uint32_t iov_count;
    /* Private. */
    uint32_t size_bytes;
    uint32_t sent_bytes;
};

/* Queues bytes; whole sends leave in order, several may share one system call.
 * done(0): handed to the transport and the memory is free; done(-errno): the
 * connection is ending (some bytes may have left).  In any state but OPEN:
 * done(-ENOTCONN), later. */
void io_conn_send(struct io *io, struct io_conn *conn, struct io_send *send);

/* Stops and resumes on_data() (what the ring already holds is kept for later;
 * the transport's window then pushes back on the sender). */
void io_conn_pause(struct io *io, struct io_conn *conn);
void io_conn_resume(struct io *io, struct io_conn *conn);

/* Cuts the connection: pending sends settle, then on_closed().  Harmless when
 * CLOSING. */
void io_conn_close(struct io *io, struct io_conn *conn);

/* Sends everything queued so far, then closes (for a last refusal).  on_data()
 * and new sends have ended when this returns. */
void io_conn_close_after_sends(struct io *io, struct io_conn *conn);

/* ---- Foreign file descriptors (reactors only; the simulator has none) ---- */

struct io_watch;
typedef void io_watch_fn(struct io_watch *watch);

/* Calls ready() whenever 'fd' is readable or hung up (multishot poll, edge:
 * the callee drains the descriptor). */
struct io_watch {
    io_watch_fn *ready;
    /* Private. */
    struct io_op op;
    struct list node;
    io_watch_fn *stopped;
    int fd;
    uint32_t state;
};

void io_watch_start(struct io *io, struct io_watch *watch, int fd);
/* ready() will not run after this returns; the descriptor stays the caller's
 * and may be closed at once.  The watch's memory is free when 'stopped' (may
 * be NULL only if the memory outlives the reactor) has run. */
void io_watch_stop(struct io *io, struct io_watch *watch, io_watch_fn *stopped);

/* A busy-wait hook: called each turn; returns true if it found work.  While a
 * poller has found work within the last 'spin_ns' the loop does not sleep. */
struct io_poller;
typedef bool io_poller_fn(struct io_poller *poller);

struct io_poller {
    io_poller_fn *poll;
    uint64_t spin_ns;
    /* Private. */
    struct list node;
    uint64_t last_work_ns;
};

void io_poller_add(struct io *io, struct io_poller *poller);
void io_poller_remove(struct io *io, struct io_poller *poller);

/* ---- What a world implements ----
 *
 * One table per world; 'struct io' is the first member of the world's own
 * structure.  Entries marked (reactor) may be NULL in the simulator. */
struct io_vtable {
    void (*op_cancel)(struct io *io, struct io_op *op);
    uint64_t (*now_ns)(struct io *io);
    void (*random_bytes)(struct io *io, void *data, size_t size);
    void (*timer_set)(struct io *io, struct io_timer *timer,
                      uint64_t deadline_ns);
    void (*timer_cancel)(struct io *io, struct io_timer *timer);
    void (*task_defer)(struct io *io, struct io_task *task);
    void (*task_cancel)(struct io *io, struct io_task *task);
    void (*post_send)(struct io *from, struct io *to, struct io_post *post);
    void *(*arena_alloc)(struct io *io, size_t size);
    int (*file_open)(struct io *io, const char *path, enum io_cache_mode mode,
                     struct io_file **ret_file);
    void (*file_close)(struct io *io, struct io_file *file);
    void (*file_start)(struct io *io, struct io_file_op *op);
    int (*listener_open)(struct io *io, struct io_listener *listener,
                         const char *address);
    void (*listener_address)(const struct io_listener *listener,
                             char ret_address[IO_ADDRESS_SIZE]);
    void (*listener_close)(struct io *io, struct io_listener *listener);
    void (*conn_connect)(struct io *io, struct io_conn *conn,
                         const char *address, uint64_t deadline_ns);
    int (*conn_adopt)(struct io *io, struct io_conn *conn,
                      struct io_accepted *accepted);
    void (*conn_send)(struct io *io, struct io_conn *conn,
                      struct io_send *send);
    void (*conn_pause)(struct io *io, struct io_conn *conn);
    void (*conn_resume)(struct io *io, struct io_conn *conn);
    void (*conn_close)(struct io *io, struct io_conn *conn);
    void (*conn_close_after_sends)(struct io *io, struct io_conn *conn);
    /* (reactor) */
    void (*watch_start)(struct io *io, struct io_watch *watch, int fd);
    void (*watch_stop)(struct io *io, struct io_watch *watch,
                       io_watch_fn *stopped);
    void (*poller_add)(struct io *io, struct io_poller *poller);
    void (*poller_remove)(struct io *io, struct io_poller *poller);
};

struct io {
    const struct io_vtable *vtable;
};

/* The part of a file that both worlds share: first member of theirs. */
struct io_file {
    struct io_file_info info;
};

/* What 'impl' of an open listener points to begins with this, in both worlds;
 * io_listener_address() finds the table by it. */
struct io_listener_impl {
    struct io *io;
};

#endif /* LIB_IO_IO_H */
