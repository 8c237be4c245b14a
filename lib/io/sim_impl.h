/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_SIM_IMPL_H
#define LIB_IO_SIM_IMPL_H

/* What the files of the simulator share.
 *
 *   sim_world.c  time, the event queue, running, chance, options
 *   sim_trace.c  the trace ring, the hash
 *   sim_heap.c   memory of lives, malloc() and friends
 *   sim_node.c   nodes, lives, clocks
 *   sim_turn.c   the loop of a life: ready list, timers, tasks, posts
 *   sim_disk.c   faults of disks, their public functions
 *   sim_pages.c  contents: pages, the volatile cache
 *   sim_file.c   io_file_op
 *   sim_net.c    connections: bytes under way
 *   sim_conn.c   connections: what io.h sees of them
 *   sim_wire.c   wires between nodes: listeners, blocks, cuts
 *
 * How an event reaches a program: something happens at its time in the kernel
 * or the device (a sim_event fires), which puts a 'struct sim_ready' on the
 * life's ready list; some time later the life has a *turn*, like a turn of a
 * reactor's loop: all that is ready, then timers, then tasks.  A frozen node
 * is one whose turns are put off. */

#include "lib/base/container_of.h"
#include "lib/base/units.h"
#include "lib/io/sim.h"
#include "lib/io/timer_heap.h"

/* ---- Memory of the simulator itself: never counted to a life ---- */

void *sim_alloc(size_t size); /* Zeroed; does not fail. */
void *sim_resize(void *data, size_t size);
void sim_release(void *data);

/* ---- Events ---- */

struct sim_event;
typedef void sim_event_fn(struct sim_event *event);

struct sim_event {
    sim_event_fn *fire;
    uint64_t time_ns;
    uint32_t heap_index; /* 0: not set. */
};

struct sim_heap_entry {
    uint64_t time_ns;
    uint64_t sequence;
    struct sim_event *event;
};

void sim_event_set(struct sim *sim, struct sim_event *event, uint64_t time_ns);
void sim_event_cancel(struct sim *sim, struct sim_event *event);

static inline bool
sim_event_is_set(const struct sim_event *event)
{
    return event->heap_index != 0;
}

/* ---- Trace ---- */

enum sim_note {
    SIM_NOTE_TEXT,
    SIM_NOTE_START,
    SIM_NOTE_CRASH,
    SIM_NOTE_FREEZE,
    SIM_NOTE_THAW,
    SIM_NOTE_PAUSE,
    SIM_NOTE_TURN,
    SIM_NOTE_TIMER,
    SIM_NOTE_POST,
    SIM_NOTE_RANDOM,
    SIM_NOTE_FILE_OPEN,
    SIM_NOTE_FILE_CLOSE,
    SIM_NOTE_READ,
    SIM_NOTE_WRITE,
    SIM_NOTE_FLUSH,
    SIM_NOTE_DISCARD,
    SIM_NOTE_SETTLED,
    SIM_NOTE_CUT_SHORT,
    SIM_NOTE_CACHE_LOST,
    SIM_NOTE_DISK_FAULT,
    SIM_NOTE_FLIP,
    SIM_NOTE_MISDIRECT,
    SIM_NOTE_LISTEN,
    SIM_NOTE_CONNECT,
    SIM_NOTE_CONNECTED,
    SIM_NOTE_ACCEPT,
    SIM_NOTE_SEND,
    SIM_NOTE_SENT,
    SIM_NOTE_SEGMENT,
    SIM_NOTE_DATA,
    SIM_NOTE_CLOSE,
    SIM_NOTE_CLOSED,
    SIM_NOTE_NET_CUT,
    SIM_NOTE_NET_BLOCK,
    SIM_NOTE_NET_HEAL,
    SIM_NOTE_COUNT,
};

#define SIM_NOTE_ARGUMENTS 4
#define SIM_TEXT_SIZE 104

struct sim_line {
    uint64_t time_ns;
    const char *node;
    enum sim_note note;
    uint64_t arguments[SIM_NOTE_ARGUMENTS];
    char text[SIM_TEXT_SIZE];
};

/* Adds to trace and hash.  'node' may be NULL. */
void sim_note(struct sim *sim, const struct sim_node *node, enum sim_note note,
              uint64_t a, uint64_t b, uint64_t c, uint64_t d);
void sim_hash_bytes(struct sim *sim, const void *data, size_t size);
void sim_trace_watch(struct sim *sim); /* Its trace is printed at abort(). */
void sim_trace_unwatch(struct sim *sim);

/* ---- World ---- */

struct sim {
    uint64_t seed;
    uint64_t now_ns;
    uint64_t sequence;
    uint64_t hash;
    uint64_t event_count;
    struct sim_options options;

    struct sim_heap_entry *heap; /* From index 1. */
    uint32_t heap_count, heap_capacity;

    struct sim_node *nodes[SIM_NODES_MAX];
    uint32_t node_count;
    struct list disks;
    struct list links;     /* struct sim_link */
    struct list alarms;    /* struct sim_alarm_impl */
    struct list graveyard; /* Lives whose memory is yet to be reclaimed. */
    uint64_t link_count;   /* Ever made: names them. */
    uint64_t disk_count;

    struct sim_life *current; /* Whose code is running. */
    struct sim_life *paused;  /* 'current' before sim_world_begin(). */
    bool is_stepping;

    struct sim_line *lines;
    uint64_t line_count; /* Ever written. */
    uint8_t *scratch;    /* SIM_CHUNK_MAX bytes, for on_data(). */
};

#define SIM_CHUNK_MAX 65536u

uint64_t sim_range_draw(struct rng *rng, const struct sim_range *range);
bool sim_ppm(struct rng *rng, uint32_t ppm);
uint64_t sim_mix(uint64_t a, uint64_t b);
uint64_t sim_hash_text(const char *text);

/* ---- Lives ---- */

struct sim_ready;
typedef void sim_ready_fn(struct sim_ready *ready);

/* Something that a life is to be told in a turn. */
struct sim_ready {
    struct list node;
    sim_ready_fn *run;
};

struct sim_arena_block {
    struct list node;
};

struct sim_life {
    struct io io; /* First. */
    struct sim *sim;
    struct sim_node *node;
    struct list grave;
    uint64_t number;
    bool is_dead;
    bool in_turn;

    uint64_t turn_now_ns; /* The clock, as read at the beginning. */
    uint64_t busy_until_ns;
    struct sim_event turn;
    struct sim_event alarm; /* The first timer is due. */
    struct list ready;      /* struct sim_ready */
    struct list batch;      /* Those of this turn. */
    struct list tasks;      /* struct io_task */
    struct list task_batch; /* Those of this round. */
    struct timer_heap timers;

    struct list ops;       /* struct sim_file_op: started, not done. */
    struct list sends;     /* struct sim_send: started, not done. */
    struct list posts;     /* struct sim_post: sent by this life. */
    struct list files;     /* struct sim_file */
    struct list ends;      /* struct sim_end with an owner here. */
    struct list listeners; /* struct sim_listener */

    struct list blocks; /* struct sim_block: io_arena_alloc and so on. */
    uint64_t arena_used_bytes;
    uint64_t heap_count, heap_bytes;
};

struct sim_node {
    struct sim *sim;
    char *name;
    uint32_t index;
    uint64_t life_count;
    struct sim_life *life;
    struct sim_program *program;
    struct weft_uuid boot_id;
    uint64_t clock_offset_ns;
    int64_t skew_ppm;
    uint64_t frozen_until_ns;
    uint64_t blocked_to; /* Bit i: what we send to node i is held. */
    uint64_t extra_ns[SIM_NODES_MAX]; /* sim_net_slow() */
    uint64_t links_to[SIM_NODES_MAX]; /* Ever made. */
    uint32_t next_port;
    bool is_on;
    struct rng clock_rng, turn_rng, random_rng;
};

extern const struct io_vtable sim_vtable;

struct sim_life *sim_life_of(struct io *io);
/* The same, and CHECKs that its code may be running now. */
struct sim_life *sim_life_enter(struct io *io);
void sim_life_push(struct sim_life *life, struct sim_ready *ready);
void sim_life_wake(struct sim_life *life);
/* Runs fn of 'life' from outside the loop, e.g. boot. */
uint64_t sim_node_clock(const struct sim_node *node);
/* The world's time at which the node's clock shows 'local_ns'. */
uint64_t sim_node_world_time(const struct sim_node *node, uint64_t local_ns);

/* Turn: sim_turn.c. */
void sim_turn_init(struct sim_life *life);
void sim_turn_done(struct sim_life *life);
void sim_timer_set(struct io *io, struct io_timer *timer, uint64_t deadline_ns);
void sim_timer_cancel(struct io *io, struct io_timer *timer);
void sim_task_defer(struct io *io, struct io_task *task);
void sim_task_cancel(struct io *io, struct io_task *task);
void sim_post_send(struct io *from, struct io *to, struct io_post *post);

/* Heap: sim_heap.c. */
void *sim_arena_alloc(struct io *io, size_t size);
void sim_heap_reclaim(struct sim_life *life);
/* Whose memory malloc() is now; NULL: nobody's. */
void sim_heap_own(struct sim_life *life);
/* What follows is not the code of any node: returns whose it was. */
struct sim_life *sim_world_enter(struct sim *sim);
void sim_world_leave(struct sim *sim, struct sim_life *life);
/* CHECKs that nothing that the world holds on to is inside the block. */
void sim_life_check_free(const struct sim_life *life, const void *data,
                         size_t size);

/* State of an io_op while the world has it. */
#define SIM_OP_PENDING 0x53494d21u

/* Marks 'op' as started; CHECKs that it was not. */
void sim_op_begin(struct io_op *op, const void *impl);
void sim_op_end(struct io_op *op, int result); /* Without done(). */
void sim_op_cancel(struct io *io, struct io_op *op);

/* ---- Disks ---- */

#define SIM_PAGE_SIZE ((size_t)4096)
#define SIM_PAGE_SECTORS 8u
#define SIM_CHUNK_PAGES 256u

/* One page of one write that the disk's cache has and its medium may not. */
struct sim_version {
    struct list node;
    uint64_t sequence;
    uint64_t write; /* Which write: names it. */
    uint8_t mask;   /* Sectors that it has. */
    uint8_t data[SIM_PAGE_SIZE];
};

struct sim_page {
    uint64_t number;
    uint8_t *current;     /* What a read sees. */
    uint8_t *medium;      /* Only if dirty: what is durable. */
    struct list versions; /* struct sim_version, oldest first. */
    uint32_t version_count;
    struct list dirty;
};

struct sim_disk_fault {
    struct list node;
    enum sim_fault fault;
    uint64_t offset_bytes, size_bytes;
    uint32_t count; /* 0: for ever. */
};

struct sim_disk {
    struct list node;
    struct sim *sim;
    struct sim_node *host; /* NULL: on the shelf. */
    char *path;
    uint64_t number;
    uint64_t size_bytes;
    bool is_volatile;
    bool is_dead;
    struct sim_disk_options options;
    enum sim_crash_policy policy;
    uint64_t capacity_pages;
    uint64_t extra_ns;
    struct sim_file *opener; /* Exclusive. */
    struct sim_disk_hook *hook;

    struct sim_page ***chunks;
    uint64_t chunk_count;
    uint64_t page_count;
    struct list dirty; /* struct sim_page */
    uint64_t version_count;
    uint64_t sequence;
    uint64_t op_count;
    uint64_t salt;

    struct list in_flight; /* struct sim_file_op, by start. */
    struct list faults;
    struct sim_disk_stats stats;
    struct rng time_rng, fault_rng, crash_rng;
};

/* Contents: sim_pages.c.  'mask' has bit i for sector i of the page. */
void sim_pages_init(struct sim_disk *disk);
void sim_pages_done(struct sim_disk *disk);
struct sim_page *sim_pages_find(const struct sim_disk *disk, uint64_t number);
/* The first page at or after 'number', NULL if there is none. */
struct sim_page *sim_pages_next(const struct sim_disk *disk, uint64_t number);
void sim_pages_write(struct sim_disk *disk, uint64_t number, uint8_t mask,
                     const uint8_t *data, uint64_t write);
/* As a write of zeros, but frees the page if it can. */
void sim_pages_zero(struct sim_disk *disk, uint64_t number, uint64_t write);
void sim_pages_read(const struct sim_disk *disk, uint64_t number, uint8_t mask,
                    uint8_t *ret_data);
/* Makes versions up to 'sequence' durable. */
void sim_pages_flush(struct sim_disk *disk, uint64_t sequence);
/* The cache goes. */
void sim_pages_lose(struct sim_disk *disk);
void sim_pages_copy(struct sim_disk *to, const struct sim_disk *from);

struct sim_file {
    struct io_file base; /* First. */
    struct sim_life *life;
    struct sim_disk *disk; /* NULL: it has gone. */
    struct list node;
    uint32_t pending;
};

struct sim_file_op {
    struct sim_ready ready;
    struct sim_event event;
    struct list node;      /* life->ops */
    struct list disk_node; /* disk->in_flight, until it settles. */
    struct io_file_op *op;
    struct sim_life *life;
    struct sim_file *file;
    struct sim_disk *disk;
    /* As it was started. */
    enum io_file_kind kind;
    uint64_t offset_bytes, size_bytes;
    void *data;
    uint64_t number;   /* Names it. */
    uint64_t salt;     /* Of its tearing. */
    uint64_t sequence; /* FLUSH: what it covers. */
    uint64_t landing_offset_bytes;
    uint32_t early; /* 0..8: how many eighths of its sectors move first. */
    int result;
    bool is_lost; /* Says 0, does nothing. */
    bool is_held;
    bool is_cancelled;
};

int sim_file_open(struct io *io, const char *path, enum io_cache_mode mode,
                  struct io_file **ret_file);
void sim_file_close(struct io *io, struct io_file *base);
void sim_file_start(struct io *io, struct io_file_op *op);
void sim_file_op_cancel(struct sim_file_op *fop);
/* A crash: operations of the life end without done(). */
void sim_file_abandon(struct sim_life *life);
void sim_file_bury(struct sim_life *life);
/* Operations in flight fail with 'result', landing as they may. */
void sim_file_fail_all(struct sim_disk *disk, int result);
/* Whether a fault of the kind strikes the range now; uses it up. */
bool sim_disk_fault_take(struct sim_disk *disk, enum sim_fault fault,
                         uint64_t offset_bytes, uint64_t size_bytes);
void sim_disk_fault_overwrite(struct sim_disk *disk, uint64_t offset_bytes,
                              uint64_t size_bytes);
void sim_disk_flip_somewhere(struct sim_disk *disk);
void sim_disk_free(struct sim_disk *disk);

/* ---- Network ---- */

enum sim_segment_kind {
    SIM_SEGMENT_SYN,
    SIM_SEGMENT_SYN_ACK,
    SIM_SEGMENT_DATA,
    SIM_SEGMENT_FIN,
    SIM_SEGMENT_RST,
};

struct sim_segment {
    struct list node;
    enum sim_segment_kind kind;
    uint64_t arrival_ns;
    uint32_t size_bytes;
    uint32_t read_bytes; /* By the receiver. */
    uint8_t data[];
};

enum sim_end_state {
    SIM_END_CONNECTING,
    SIM_END_BACKLOG, /* Open in the kernel; nobody has adopted it. */
    SIM_END_OPEN,
    SIM_END_CLOSING, /* on_closed() is to be called. */
    SIM_END_DONE,    /* The kernel answers with a reset. */
    SIM_END_SILENT,  /* Went with the power. */
};

struct sim_send {
    struct sim_ready ready;
    struct list node;       /* life->sends */
    struct list queue_node; /* end->queue, until it settles. */
    struct io_send *send;
    struct sim_life *life;
    struct sim_end *end; /* NULL: settled. */
    uint32_t sent_bytes;
    int result;
};

struct sim_listener;

struct sim_end {
    struct sim_link *link;
    uint32_t index;
    struct sim_node *node;
    struct sim_life *life; /* NULL: no owner. */
    struct list life_node;
    struct io_conn *conn;
    enum sim_end_state state;
    int reason;
    bool is_paused;
    bool is_ending; /* close_after_sends: no data in, FIN when drained. */
    bool got_fin;
    bool rst_sent;
    struct sim_listener *listener; /* BACKLOG. */
    struct list backlog_node;

    /* Out. */
    struct list queue;     /* struct sim_send */
    struct sim_event pump; /* Copies from the queue to the wire. */
    struct list wire;      /* struct sim_segment, towards the other end. */
    struct sim_event arrive;
    uint64_t last_arrival_ns;
    uint32_t outstanding_bytes; /* Not yet read, or not known to be. */
    uint32_t held_ack_bytes;    /* Read by the other; the news is blocked. */
    struct rng rng;

    /* In. */
    struct list inbox;    /* struct sim_segment of data */
    uint32_t chop_scales; /* Not 0: no chunk is larger than 2^this. */
    uint64_t inbox_bytes;
    struct sim_ready connected, data, closed;
    struct sim_event deadline;
};

struct sim_link {
    struct list node;
    struct sim *sim;
    uint64_t number;
    char port[IO_ADDRESS_SIZE];
    struct sim_end ends[2]; /* 0 connected to 1. */
};

struct sim_listener {
    struct io_listener_impl impl; /* First. */
    struct sim_life *life;
    struct list node;
    struct io_listener *listener;
    char address[IO_ADDRESS_SIZE];
    struct list backlog; /* struct sim_end */
    struct sim_ready ready;
};

/* sim_net.c */
struct sim_end *sim_end_peer(struct sim_end *end);
struct sim_link *sim_link_new(struct sim *sim, struct sim_node *from,
                              struct sim_node *to, const char *port);
void sim_link_release(struct sim_link *link); /* If both ends are over. */
void sim_link_free(struct sim_link *link);
void sim_wire_put(struct sim_end *from, enum sim_segment_kind kind);
void sim_wire_put_data(struct sim_end *from, struct sim_segment *segment);
/* The bytes under way are lost from some point on. */
void sim_wire_truncate(struct sim_end *from);
void sim_wire_schedule(struct sim_end *from, uint64_t extra_ns);
bool sim_wire_is_open(const struct sim_node *from, const struct sim_node *to);
void sim_link_cut(struct sim_link *link);
void sim_end_pump_soon(struct sim_end *end);
void sim_end_consumed(struct sim_end *end, uint32_t size_bytes);
void sim_end_drop_inbox(struct sim_end *end);

/* sim_conn.c: told by the wire. */
void sim_end_init(struct sim_end *end);
void sim_end_opened(struct sim_end *end);
void sim_end_arrived(struct sim_end *end);
/* The owner is gone: the kernel tells the other end, or nobody does. */
void sim_end_orphan(struct sim_end *end, enum sim_crash crash);
void sim_end_fail(struct sim_end *end, int reason);
void sim_send_settle(struct sim_send *send, int result);
void sim_conn_abandon(struct sim_life *life, enum sim_crash crash);
void sim_conn_connect(struct io *io, struct io_conn *conn, const char *address,
                      uint64_t deadline_ns);
int sim_conn_adopt(struct io *io, struct io_conn *conn,
                   struct io_accepted *accepted);
void sim_conn_send(struct io *io, struct io_conn *conn, struct io_send *send);
void sim_conn_pause(struct io *io, struct io_conn *conn);
void sim_conn_resume(struct io *io, struct io_conn *conn);
void sim_conn_close(struct io *io, struct io_conn *conn);
void sim_conn_close_after_sends(struct io *io, struct io_conn *conn);
void sim_send_cancel(struct sim_send *send);

/* sim_wire.c */
int sim_listener_open(struct io *io, struct io_listener *listener,
                      const char *address);
void sim_listener_address(const struct io_listener *listener,
                          char ret_address[IO_ADDRESS_SIZE]);
void sim_listener_close(struct io *io, struct io_listener *listener);
void sim_listener_abandon(struct sim_listener *impl, enum sim_crash crash);
/* A SYN has arrived; returns false if nobody listens. */
bool sim_listener_offer(struct sim_end *end);
/* What was held goes on, where nothing holds it any more. */
void sim_wire_resume(struct sim *sim);
bool sim_address_parse(const char *address, char ret_node[IO_ADDRESS_SIZE],
                       char ret_port[IO_ADDRESS_SIZE]);

#endif /* LIB_IO_SIM_IMPL_H */
