/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_SIM_H
#define LIB_IO_SIM_H

/* A deterministic world behind io.h: nodes, disks, a network, clocks, chance.
 *
 * Everything that happens follows from one seed: the same program and the same
 * seed give the same events, in the same order, in every process.  The world
 * is hostile within the promises of io.h and of real hardware; whatever a
 * program gets away with here by luck, another seed will punish.
 *
 *     struct sim *sim = sim_new(seed, &options);
 *     struct sim_node *node = sim_node_add(sim, "a");
 *     struct sim_disk *disk = sim_disk_add(node, "/d0", 64 * MIB, true);
 *     sim_node_start(node, &host->program);   // calls program->boot()
 *     sim_run_for(sim, 5 * NS_PER_S);
 *     sim_node_crash(node, SIM_CRASH_POWER);
 *     sim_node_start(node, &host->program);   // a new life
 *     ...
 *     sim_free(sim);
 *
 * Invariants:
 *
 *   (1) Same seed, same calls: same sim_hash().  Time never goes back.
 *   (2) A *life* of a node lasts from start to crash.  Nothing of a dead life
 *       ever runs again, and all its memory is reclaimed: what its code got
 *       from malloc() and friends, from io_arena_alloc() and sim_node_alloc().
 *   (3) What a disk had flushed survives every crash.  Of what it had not, any
 *       subset of 512-byte sectors survives a power cut, each in any version
 *       since the last flush.
 *   (4) The bytes of a connection arrive in order, without loss in the middle;
 *       an end may be missing.
 *   (5) Each disk, node and connection draws from a stream of chance of its
 *       own, so that a change in one place leaves the others as they were.
 *
 * Memory: while code of a node runs (boot, callbacks, sim_node_enter), malloc
 * and friends belong to its life (the linker wraps them, see sim_dep).  Test
 * code that allocates something of its own inside such a callback uses
 * sim_world_begin() and sim_world_end() around it.
 *
 * A program that breaks the rules of io.h (an operation started twice or
 * changed while pending, memory freed under a pending operation, a call on
 * another node's io) ends in a failed CHECK with the trace printed.
 *
 * Thread: one world, one thread.  Not in the simulator: io_watch, io_poller. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/check.h"
#include "lib/base/list.h"
#include "lib/base/rng.h"
#include "lib/base/uuid.h"
#include "lib/io/io.h"

struct sim;
struct sim_node;
struct sim_disk;

#define SIM_SECTOR_SIZE ((size_t)512)
#define SIM_NODES_MAX 64u

/* ---- Options ---- */

/* A duration drawn between the two; most draws are near 'low_ns'. */
struct sim_range {
    uint64_t low_ns;
    uint64_t high_ns;
};

/* Rates are in millionths of the operations concerned.  Each disk has its own
 * copy: sim_disk_options(). */
struct sim_disk_options {
    struct sim_range read_ns, write_ns, flush_ns;
    struct sim_range stall_ns; /* In place of the above, */
    uint32_t stall_ppm;        /* this often. */
    uint32_t tear_bytes;       /* 512, or 4096: what a crash never tears. */
    uint32_t alignment_bytes;  /* 512, or 4096: told by io_file_info_get(). */
    uint32_t read_eio_ppm;     /* Once: the next read may succeed. */
    uint32_t read_medium_ppm;  /* The sectors fail until overwritten. */
    uint32_t write_eio_ppm;    /* Any part of the write may have landed. */
    uint32_t write_enospc_ppm; /* Nothing landed. */
    uint32_t flush_eio_ppm;    /* Any part of the cache may be lost. */
    uint32_t write_lost_ppm;   /* Acknowledged, but never lands. */
    uint32_t write_misdirect_ppm; /* Acknowledged, but lands elsewhere. */
    uint32_t flip_ppm;            /* A stored bit changes. */
};

struct sim_net_options {
    struct sim_range latency_ns; /* One way, each segment. */
    struct sim_range stall_ns;   /* In place of the above, */
    uint32_t stall_ppm;          /* for so many segments. */
    uint32_t reset_ppm;          /* Segments that break their connection. */
    uint32_t window_bytes;       /* In flight or unread, per direction. */
    uint32_t small_chunks_pct;   /* Deliveries cut into odd small pieces. */
    uint32_t heal_reset_pct;     /* Connections that die when a cut heals. */
    uint64_t connect_timeout_ns; /* "The system's". */
};

struct sim_node_options {
    struct sim_range turn_ns;  /* From something to do until it is done. */
    struct sim_range pause_ns; /* Now and then the whole process stands still */
    uint32_t pause_ppm;        /* so long, in so many of its turns. */
    uint32_t skew_ppm_max;     /* Clocks run this much wrong. */
};

struct sim_options {
    struct sim_disk_options disk; /* For disks added from now on. */
    struct sim_net_options net;
    struct sim_node_options node;
    uint64_t arena_bytes; /* io_arena_alloc() of one life. */
    uint32_t trace_lines; /* Kept for sim_trace_dump(). */
    bool trace;           /* Print each line on stderr at once. */
};

/* A sound, fast world: delays and jitter, no faults (crashes are yours). */
void sim_options_default(struct sim_options *ret_options);

/* A mix drawn from 'seed': some worlds are slow, some choppy, some pause.
 * Still no disk faults and no connection resets: set what you can judge. */
void sim_options_swarm(struct sim_options *ret_options, uint64_t seed);

/* ---- World ---- */

/* 'options' is copied; NULL: sim_options_default().  WEFT_SIM_TRACE=1 in the
 * environment turns 'trace' on. */
struct sim *sim_new(uint64_t seed, const struct sim_options *options);
/* NULL is accepted.  Ends all lives. */
void sim_free(struct sim *sim);

uint64_t sim_now_ns(const struct sim *sim);
uint64_t sim_seed(const struct sim *sim);
/* Of everything that has happened so far. */
uint64_t sim_hash(const struct sim *sim);
uint64_t sim_event_count(const struct sim *sim);

/* Chance for the test's own choices: a stream of its own for each name. */
void sim_rng_init(const struct sim *sim, const char *name, uint64_t number,
                  struct rng *ret_rng);

/* The next event; false if there is none.  Never from inside the world. */
bool sim_step(struct sim *sim);
/* All events up to 'time_ns'; then it is 'time_ns'. */
void sim_run_until(struct sim *sim, uint64_t time_ns);
void sim_run_for(struct sim *sim, uint64_t duration_ns);
/* Until '*flag', at most 'limit_ns' longer; returns '*flag'. */
bool sim_run_until_set(struct sim *sim, const bool *flag, uint64_t limit_ns);

struct sim_condition;
typedef bool sim_condition_fn(struct sim_condition *condition);

/* Embedded in what the condition is about. */
struct sim_condition {
    sim_condition_fn *holds;
};

/* Until holds(), looked at after each event, at most 'limit_ns' longer. */
bool sim_run_until_holds(struct sim *sim, struct sim_condition *condition,
                         uint64_t limit_ns);

/* An alarm of the test itself, outside of all nodes: may crash nodes, cut
 * wires and so on.  Set up with { .fire = ... }. */
struct sim_alarm;
typedef void sim_alarm_fn(struct sim_alarm *alarm);

struct sim_alarm {
    sim_alarm_fn *fire;
    /* Private. */
    struct sim *sim;
    void *impl;
};

void sim_alarm_set(struct sim *sim, struct sim_alarm *alarm, uint64_t time_ns);
void sim_alarm_cancel(struct sim_alarm *alarm);

/* ---- Trace ---- */

/* Adds a line (cut at about 100 characters).  No addresses in it: the text is
 * part of the hash.  'io' must be a simulated one. */
void sim_trace(struct sim *sim, const char *format, ...) WEFT_PRINTF(2, 3);
void sim_trace_io(struct io *io, const char *format, ...) WEFT_PRINTF(2, 3);
/* Whether 'io' is a simulated node's. */
bool sim_is_io(const struct io *io);
/* The last lines, oldest first; happens by itself on abort(). */
void sim_trace_dump(const struct sim *sim, FILE *file);

/* ---- Nodes ---- */

struct sim_program;
/* Sets the program up on a new life; runs as the node. */
typedef void sim_program_boot_fn(struct sim_program *program,
                                 struct sim_node *node, struct io *io);
/* The life is over: forget every pointer into it.  Runs outside the node. */
typedef void sim_program_crashed_fn(struct sim_program *program,
                                    struct sim_node *node);

/* Embedded in the test's description of a host, which outlives its lives. */
struct sim_program {
    sim_program_boot_fn *boot;
    sim_program_crashed_fn *crashed; /* May be NULL. */
};

enum sim_crash {
    /* kill -9.  Writes in flight land in whole, in part or not at all; the
     * disks' caches stay; the others see an end or a reset of connections. */
    SIM_CRASH_PROCESS,
    /* Also the disks' caches go, in any subset; the others see silence. */
    SIM_CRASH_POWER,
};

/* Names have no ':'.  The node is up, but runs no program. */
struct sim_node *sim_node_add(struct sim *sim, const char *name);
const char *sim_node_name(const struct sim_node *node);
struct sim *sim_node_sim(const struct sim_node *node);
/* The node 'io' belongs to, in its life or after. */
struct sim_node *sim_node_of(struct io *io);
/* The io of the current life; NULL if there is none. */
struct io *sim_node_io(struct sim_node *node);

/* Starts a life (there is none).  Switches a node on that lost power. */
void sim_node_start(struct sim_node *node, struct sim_program *program);
/* Ends it.  Allowed anywhere, the node's own callbacks and hooks included: the
 * caller's code runs on, without effect, until it returns to the world.  With
 * SIM_CRASH_POWER, harmless extra on a node without a life. */
void sim_node_crash(struct sim_node *node, enum sim_crash crash);
bool sim_node_is_alive(const struct sim_node *node);

/* The node does nothing (as after SIGSTOP) for 'duration_ns', IO_NEVER: until
 * sim_node_thaw().  Its kernel still accepts connections and bytes. */
void sim_node_freeze(struct sim_node *node, uint64_t duration_ns);
void sim_node_thaw(struct sim_node *node);

/* Changes with every SIM_CRASH_POWER. */
void sim_node_boot_id(const struct sim_node *node,
                      struct weft_uuid *ret_boot_id);
/* The node's CLOCK_MONOTONIC. */
uint64_t sim_node_now_ns(const struct sim_node *node);

/* Zeroed memory of the life; never freed by hand. */
void *sim_node_alloc(struct io *io, size_t size);
/* Runs code "as the node" from outside: who allocates in between is the life.
 * Needed only for code that allocates or checks.  Does not nest. */
void sim_node_enter(struct sim_node *node);
void sim_node_leave(struct sim_node *node);
/* The reverse: inside a node's callback, what follows belongs to the test. */
void sim_world_begin(struct sim *sim);
void sim_world_end(struct sim *sim);

/* What the current life holds: for tests of a clean close. */
struct sim_holdings {
    uint32_t operations; /* File operations and sends not yet done. */
    uint32_t timers;     /* Armed. */
    uint32_t tasks;      /* Queued. */
    uint32_t files;      /* Open. */
    uint32_t connections;
    uint32_t listeners;
    uint64_t heap_count; /* Blocks from malloc and friends. */
    uint64_t heap_bytes;
};

void sim_node_holdings(const struct sim_node *node,
                       struct sim_holdings *ret_holdings);

/* ---- Disks ---- */

/* A disk full of zeros, found by io_file_open(io of node, path).  It outlives
 * all lives; memory is used for what is written only. */
struct sim_disk *sim_disk_add(struct sim_node *node, const char *path,
                              uint64_t size_bytes, bool volatile_cache);
/* An independent disk with the same contents (its cache's, too). */
struct sim_disk *sim_disk_copy(const struct sim_disk *disk,
                               struct sim_node *node, const char *path);
/* Into another host or under another name; node NULL: on the shelf.  A file
 * that was open on it gets -ENODEV from now on. */
void sim_disk_move(struct sim_disk *disk, struct sim_node *node,
                   const char *path);
struct sim_disk *sim_disk_find(struct sim *sim, const char *node_name,
                               const char *path);
/* To be changed at will. */
struct sim_disk_options *sim_disk_options(struct sim_disk *disk);
/* Pages of 4 KiB that can be stored before -ENOSPC; UINT64_MAX at first. */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t pages);
uint64_t sim_disk_pages_used(const struct sim_disk *disk);

/* Only this disk loses power: its cache goes as at SIM_CRASH_POWER, operations
 * in flight fail with -EIO; then it works on. */
void sim_disk_power_cut(struct sim_disk *disk);
/* All operations fail with -EIO from now on, those in flight included. */
void sim_disk_kill(struct sim_disk *disk);
void sim_disk_revive(struct sim_disk *disk);
/* Every operation takes this much longer from now on; 0: as before. */
void sim_disk_slow(struct sim_disk *disk, uint64_t extra_ns);

/* Contents as a read would see them; no time passes, no fault strikes. */
void sim_disk_peek(const struct sim_disk *disk, uint64_t offset_bytes,
                   void *ret_data, size_t size);
/* Durable at once. */
void sim_disk_poke(struct sim_disk *disk, uint64_t offset_bytes,
                   const void *data, size_t size);
/* In all versions, cached or not. */
void sim_disk_flip_bit(struct sim_disk *disk, uint64_t offset_bytes,
                       uint32_t bit);

enum sim_fault {
    SIM_FAULT_READ_EIO,
    SIM_FAULT_READ_MEDIUM, /* -EIO for sectors until they are overwritten. */
    SIM_FAULT_WRITE_EIO,
    SIM_FAULT_WRITE_ENOSPC,
    SIM_FAULT_WRITE_LOST,
    SIM_FAULT_WRITE_MISDIRECTED,
    SIM_FAULT_FLUSH_EIO, /* The range does not matter. */
};

/* The next 'count' operations of the kind that touch the range have the fault;
 * 0: all, until sim_disk_faults_clear(). */
void sim_disk_fault(struct sim_disk *disk, enum sim_fault fault,
                    uint64_t offset_bytes, uint64_t size_bytes, uint32_t count);
void sim_disk_faults_clear(struct sim_disk *disk);

/* What happened to a disk so far: random faults included. */
struct sim_disk_stats {
    uint64_t reads, writes, flushes, discards; /* Started. */
    uint64_t read_bytes, write_bytes;
    uint64_t eio, enospc; /* Given as results. */
    uint64_t bits_flipped, writes_lost, writes_misdirected;
    uint64_t sectors_lost; /* Un-flushed, at power cuts. */
};

void sim_disk_stats(const struct sim_disk *disk,
                    struct sim_disk_stats *ret_stats);

/* How un-flushed and in-flight writes fare at crashes. */
enum sim_crash_policy {
    SIM_POLICY_RANDOM,
    SIM_POLICY_KEEP_ALL, /* The kindest. */
    SIM_POLICY_LOSE_ALL, /* The plainest. */
};

void sim_disk_set_policy(struct sim_disk *disk, enum sim_crash_policy policy);

enum sim_verdict {
    SIM_PASS, /* As if there were no hook. */
    SIM_FAIL, /* Done with '*ret_result'; nothing lands. */
    SIM_HOLD, /* Kept in flight until sim_disk_release(). */
};

struct sim_disk_hook;
/* At each start of an operation; it may crash the node as well. */
typedef enum sim_verdict sim_disk_started_fn(struct sim_disk_hook *hook,
                                             struct sim_disk *disk,
                                             const struct io_file_op *op,
                                             int *ret_result);
/* The effect is on the disk; done() has not been called yet. */
typedef void sim_disk_settled_fn(struct sim_disk_hook *hook,
                                 struct sim_disk *disk,
                                 const struct io_file_op *op, int result);

/* For targeted tests.  Either may be NULL; they run outside the node. */
struct sim_disk_hook {
    sim_disk_started_fn *started;
    sim_disk_settled_fn *settled;
};

void sim_disk_set_hook(struct sim_disk *disk, struct sim_disk_hook *hook);
/* Lets held operations go on; 'op' NULL: all of them, oldest first. */
void sim_disk_release(struct sim_disk *disk, const struct io_file_op *op);

/* ---- Network: addresses are "tcp:NODE:PORT" ---- */

/* Bytes from 'from' to 'to' are held: a black hole in that direction.  New
 * connections between the two time out. */
void sim_net_block(struct sim_node *from, struct sim_node *to);
void sim_net_unblock(struct sim_node *from, struct sim_node *to);
/* Both directions between the nodes of the set and all others.  Bit i of the
 * set is the i-th node that was added. */
void sim_net_partition(struct sim *sim, uint64_t set);
/* Removes all blocks. */
void sim_net_heal(struct sim *sim);
/* Breaks the connections between the two (NULL: between 'a' and anyone); both
 * ends notice, each in its time; bytes in flight are lost from some point. */
void sim_net_cut(struct sim_node *a, struct sim_node *b);
/* Every segment between the two takes longer from now on; 0: as before. */
void sim_net_slow(struct sim_node *a, struct sim_node *b, uint64_t extra_ns);

#endif /* LIB_IO_SIM_H */
