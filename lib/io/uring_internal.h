/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_URING_INTERNAL_H
#define LIB_IO_URING_INTERNAL_H

/* What the files of the reactor share.  Private to lib/io/uring*.c.
 *
 * Invariants:
 *
 *   (1) Everything in 'struct reactor' belongs to its thread, except the
 *       fields under "Any thread".
 *   (2) Each request in the kernel has user_data made by uring_data(): a tag
 *       and the object it belongs to.  The object is not released before its
 *       last completion; so user_data never dangles.
 *   (3) Nothing calls back from inside a start: what is decided there goes to
 *       the settled, attention or backlog list, which the loop empties.
 *   (4) A connection slot is free only when no request and no io_send of it
 *       is pending. */

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "lib/base/container_of.h"
#include "lib/base/list.h"
#include "lib/io/address.h"
#include "lib/io/io.h"
#include "lib/io/post_queue.h"
#include "lib/io/timer_heap.h"
#include "lib/io/uring.h"

#define URING_SEND_IOV_COUNT 64
#define URING_SEND_BYTES_MAX (4U << 20)
/* A paused connection that holds this many buffers stops receiving. */
#define URING_HELD_MAX 4
#define URING_BUFFER_GROUP 0
#define URING_NO_BUFFER UINT32_MAX
/* The kernel's limit for one registered buffer. */
#define URING_ARENA_CHUNK_BYTES (1ULL << 30)
#define URING_LINGER_NS 1000000000ULL
#define URING_ACCEPT_RETRY_NS 50000000ULL

/* ---- user_data ---- */

enum uring_tag {
    URING_TAG_NONE,    /* Nobody waits for it. */
    URING_TAG_EVENT,   /* The reactor's own eventfd. */
    URING_TAG_MESSAGE, /* A failed MSG_RING; the target reactor. */
    URING_TAG_FILE,    /* struct io_file_op. */
    URING_TAG_RECV,    /* struct uring_conn, and the next three. */
    URING_TAG_POLL,
    URING_TAG_SEND,
    URING_TAG_CONNECT,
    URING_TAG_SEND_ZC, /* struct io_send. */
    URING_TAG_ACCEPT,  /* struct uring_listener. */
    URING_TAG_WATCH,   /* struct io_watch. */
};

#define URING_TAG_SHIFT 56

static inline uint64_t
uring_data(enum uring_tag tag, const void *object)
{
    uint64_t address = (uintptr_t)object;

    CHECK(address >> URING_TAG_SHIFT == 0);
    return (uint64_t)tag << URING_TAG_SHIFT | address;
}

static inline enum uring_tag
uring_data_tag(uint64_t data)
{
    return (enum uring_tag)(data >> URING_TAG_SHIFT);
}

static inline void *
uring_data_object(uint64_t data)
{
    return (void *)(uintptr_t)(data & ((1ULL << URING_TAG_SHIFT) - 1));
}

/* ---- Objects ---- */

/* io_op.state. */
enum uring_op_state {
    URING_OP_IDLE = 0,
    URING_OP_BACKLOG,     /* File operation, not yet in the kernel. */
    URING_OP_FLYING,      /* File operation, in the kernel. */
    URING_OP_CANCELLING,  /* The same, and a cancel is on its way. */
    URING_OP_SEND_QUEUED, /* No byte of it is in the kernel. */
    URING_OP_SEND_FLYING,
    URING_OP_SEND_NOTIFY, /* Sent; the kernel still reads the memory. */
    URING_OP_SETTLED,     /* File operation, on the settled list. */
    URING_OP_SEND_SETTLED,
};

struct uring_file {
    struct io_file file;
    struct list node; /* reactor.files_free while unused. */
    int fd;
    int lock_fd;
    uint32_t index; /* In the table of fixed files. */
    uint32_t pending;
    bool block_device;
    bool in_memory; /* By system calls: see uring_file.c. */
};

enum uring_conn_state {
    URING_CONN_CONNECTING,
    URING_CONN_OPEN,
    URING_CONN_DRAINING, /* io_conn_close_after_sends(). */
    URING_CONN_CLOSING,
};

struct uring_conn {
    struct io_conn *conn;
    struct reactor *reactor;
    struct list node;      /* reactor.conns_free while unused. */
    struct list flush;     /* On reactor.flush: has something to send. */
    struct list attention; /* On reactor.attention: uring_conn_attend(). */
    struct list sends;     /* In order; the first may be in the kernel. */
    struct list notifies;  /* Zero-copy sends the kernel still reads. */
    enum uring_conn_state state;
    int fd;
    uint32_t index; /* In the table of fixed files, and of the slot. */
    int reason;
    uint32_t sends_pending;    /* Started and not done(). */
    uint32_t requests;         /* In the kernel; notifications owed, too. */
    uint32_t zerocopy_pending; /* Of these, without a copy. */
    bool recv_armed;
    bool recv_cancelling;
    bool poll_armed;
    bool send_flying;
    bool connect_flying;
    bool report_connect; /* on_connected() is owed. */
    bool tcp;
    bool paused;
    bool ended;          /* The other side will send no more. */
    bool write_shut;     /* DRAINING: everything has been sent. */
    uint32_t held_first; /* Buffers that wait for io_conn_resume(). */
    uint32_t held_last;
    uint32_t held_count;
    struct io_timer timer; /* CONNECTING: deadline; DRAINING: linger. */
    struct io_address peer;
    struct msghdr message;
    struct iovec iov[URING_SEND_IOV_COUNT];
};

struct uring_listener {
    struct io_listener_impl impl;
    struct io_listener *listener; /* NULL: closing. */
    struct list node;             /* reactor.listeners_free while unused. */
    int fd;
    bool accept_armed;
    bool open;
    bool unlink_path;
    uint64_t path_device;
    uint64_t path_inode;
    struct io_timer retry;
    struct io_address address;
};

struct io_accepted {
    struct uring_listener *listener;
    int fd; /* -1: taken. */
};

/* io_watch.state. */
enum uring_watch_state {
    URING_WATCH_IDLE = 0,
    URING_WATCH_ARMED,
    URING_WATCH_FAILED,   /* The kernel refused to poll. */
    URING_WATCH_STOPPING, /* Waits for its last completion. */
};

struct reactor {
    struct io io;
    struct reactor_options options;
    struct io_uring ring;
    bool ring_ready;
    bool fixed_files;
    bool fixed_buffers;
    bool stopping;

    uint64_t now_ns;
    struct timer_heap timers;
    struct list tasks;
    struct list settled;   /* io_op.node */
    struct list attention; /* uring_conn.attention */
    struct list refused;   /* io_conn.node: no slot, or a bad address. */
    struct list flush;     /* uring_conn.flush */
    struct list backlog;   /* io_op.node of file operations. */
    struct list inlined;   /* The same, of files in memory. */
    struct list pollers;
    struct list watches; /* io_watch.node */
    struct list watches_stopped;

    struct uring_file *files;
    struct list files_free;
    uint32_t files_open;
    uint32_t file_ops; /* In the kernel. */

    struct uring_conn *conns;
    struct list conns_free;
    uint32_t conns_open;

    struct uring_listener *listeners;
    struct list listeners_free;
    uint32_t listeners_open;

    uint8_t *arena;
    size_t arena_size_bytes; /* Rounded up. */
    size_t arena_used_bytes;

    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    size_t buffers_size_bytes;
    uint32_t *held_next;  /* By buffer. */
    uint32_t *held_bytes; /* By buffer. */
    uint32_t held_total;
    uint32_t buffers_returned; /* Not yet shown to the kernel. */
    uint8_t *reserve_buffer;   /* See uring_recv.c. */

    uint8_t random[256];
    uint32_t random_left;

    struct reactor_info info;

    /* Any thread. */
    struct post_queue posts;
    _Atomic bool asleep;
    int event_fd;
    pthread_t thread;
    bool started;         /* Control thread only. */
    pthread_mutex_t lock; /* Guards start_result and reactor_call.finished. */
    pthread_cond_t changed;
    int start_result; /* 1: not yet known. */
};

extern const struct io_vtable uring_vtable;
extern _Thread_local struct reactor *uring_current;

/* The reactor behind 'io'; the caller runs on its thread. */
static inline struct reactor *
uring_reactor(struct io *io)
{
    struct reactor *reactor = container_of(io, struct reactor, io);

    CHECK(reactor == uring_current);
    return reactor;
}

/* ---- uring_loop.c ---- */

/* A submission entry; submits when the ring is full.  Never NULL. */
struct io_uring_sqe *uring_sqe(struct reactor *reactor);
/* Cancels the request with this user_data; its own result is ignored. */
void uring_cancel(struct reactor *reactor, uint64_t data);
/* done() will be called in this turn. */
void uring_settle(struct reactor *reactor, struct io_op *op,
                  enum uring_op_state state, int result);
void uring_run(struct reactor *reactor);
void uring_event_arm(struct reactor *reactor);

void uring_now_refresh(struct reactor *reactor);
void uring_post_send(struct io *from, struct io *to, struct io_post *post);
void uring_op_cancel(struct io *io, struct io_op *op);

/* ---- uring_setup.c ---- */

int uring_setup(struct reactor *reactor);
void uring_teardown(struct reactor *reactor);
void *uring_arena_alloc(struct io *io, size_t size);
/* Puts 'fd' into the table, or -1 to take it out. */
void uring_fixed_file_set(struct reactor *reactor, uint32_t index, int fd);
/* The index of the registered buffer that holds all of it, or -1. */
int uring_fixed_buffer(const struct reactor *reactor, const void *data,
                       size_t size);

/* Directs 'sqe' to a file that may be in the table. */
static inline void
uring_sqe_target(const struct reactor *reactor, struct io_uring_sqe *sqe,
                 int fd, uint32_t index)
{
    if (reactor->fixed_files) {
        sqe->fd = (int)index;
        sqe->flags |= (uint8_t)IOSQE_FIXED_FILE;
    } else {
        sqe->fd = fd;
    }
}

/* ---- uring_file.c ---- */

int uring_file_open(struct io *io, const char *path, enum io_cache_mode mode,
                    struct io_file **ret_file);
void uring_file_close(struct io *io, struct io_file *base);
void uring_file_start(struct io *io, struct io_file_op *op);
void uring_file_cancel(struct reactor *reactor, struct io_file_op *op);
void uring_file_complete(struct reactor *reactor, struct io_file_op *op,
                         int result);
/* Submits what waits, as far as the limit allows. */
void uring_file_run_backlog(struct reactor *reactor);
/* Does what is to be done on files in memory. */
void uring_file_run_inlined(struct reactor *reactor);

/* ---- uring_conn.c ---- */

void uring_conn_connect(struct io *io, struct io_conn *conn,
                        const char *address, uint64_t deadline_ns);
int uring_conn_adopt(struct io *io, struct io_conn *conn,
                     struct io_accepted *accepted);
void uring_conn_close(struct io *io, struct io_conn *conn);
void uring_conn_close_after_sends(struct io *io, struct io_conn *conn);
void uring_conn_connect_complete(struct uring_conn *slot, int result);
/* To CLOSING, if it is not there yet. */
void uring_conn_cut(struct uring_conn *slot, int reason);
/* The loop will call uring_conn_attend() in this turn. */
void uring_conn_want_attention(struct uring_conn *slot);
/* Whatever is now possible: held data, the next step of closing. */
void uring_conn_attend(struct uring_conn *slot);
/* on_connected() and on_closed() of a connection that got no slot. */
void uring_conn_report_refused(struct io_conn *conn);

/* ---- uring_send.c ---- */

void uring_conn_send(struct io *io, struct io_conn *conn, struct io_send *send);
void uring_send_cancel(struct reactor *reactor, struct io_send *send);
/* Starts the next send, if none is in the kernel. */
void uring_send_flush(struct uring_conn *slot);
void uring_send_complete(struct uring_conn *slot, int result);
void uring_send_zc_complete(struct io_send *send, int result, uint32_t flags);
/* CLOSING: settles every send that is not in the kernel. */
void uring_send_abandon(struct uring_conn *slot);
/* Called when a send is about to be done(). */
void uring_send_settled(struct io_send *send);

/* ---- uring_recv.c ---- */

int uring_recv_setup(struct reactor *reactor);
void uring_recv_teardown(struct reactor *reactor);
void uring_conn_pause(struct io *io, struct io_conn *conn);
void uring_conn_resume(struct io *io, struct io_conn *conn);
void uring_recv_arm(struct uring_conn *slot);
void uring_recv_complete(struct uring_conn *slot, int result, uint32_t flags);
void uring_recv_poll_complete(struct uring_conn *slot, int result);
/* Hands over what was held, until it is paused again. */
void uring_recv_deliver_held(struct uring_conn *slot);
void uring_recv_drop_held(struct uring_conn *slot);
/* Shows returned buffers to the kernel. */
void uring_recv_publish(struct reactor *reactor);

/* ---- uring_listen.c ---- */

int uring_listener_open(struct io *io, struct io_listener *listener,
                        const char *text);
void uring_listener_address(const struct io_listener *listener,
                            char ret_address[IO_ADDRESS_SIZE]);
void uring_listener_close(struct io *io, struct io_listener *listener);
void uring_accept_complete(struct uring_listener *slot, int result,
                           uint32_t flags);

/* ---- uring_watch.c ---- */

void uring_watch_start(struct io *io, struct io_watch *watch, int fd);
void uring_watch_stop(struct io *io, struct io_watch *watch,
                      io_watch_fn *stopped);
void uring_watch_complete(struct reactor *reactor, struct io_watch *watch,
                          int result, uint32_t flags);
void uring_watch_run_stopped(struct reactor *reactor);
void uring_poller_add(struct io *io, struct io_poller *poller);
void uring_poller_remove(struct io *io, struct io_poller *poller);
/* Calls every poller; true if one wants the loop to stay awake. */
bool uring_poll_all(struct reactor *reactor);

#endif /* LIB_IO_URING_INTERNAL_H */
