/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H

/* A simulated cluster: what the files of the cluster simulation share.
 *
 *   cluster_sim.c    command line, seeds, processes
 *   cluster_world.c  one seed: the schedule of faults, the end, the verdict
 *   cluster_faults.c  what goes wrong
 *   cluster_grey.c   disks that hang or return errors
 *   cluster_repair.c  stale replicas are replaced
 *   cluster_compare.c  the copies, block by block
 *   cluster_host.c   a host: disk, store, peer server, links, owner of a volume
 *   cluster_db.c     the database: rows, compare-and-set, bad moods
 *   cluster_guest.c  the guest: requests, and the model of what is legal
 *
 * Real are lib/io/sim, blockd/store, peer, mirror and volume.  Everything of
 * struct world and below is the test's own memory and outlives the lives of
 * the hosts; pointers into a life are forgotten in host_crashed(). */

#include <stdbool.h>
#include <stdint.h>

#include <stdio.h>

#include "blockd/peer/link_local.h"
#include "blockd/peer/peer_client.h"
#include "blockd/peer/peer_server.h"
#include "blockd/store/store.h"
#include "blockd/volume/volume.h"
#include "lib/base/rng.h"
#include "lib/io/sim.h"
#include "tests/sim/legal.h"

#define HOSTS 3u
#define MIRRORS_MAX 2u
#define OPS 12u
#define DB_OPS 16u
#define EXTENT_BYTES (UINT32_C(1) << 20)
/* The part of the volume that the guest uses; it spans extents. */
#define WINDOW_FIRST (EXTENT_BYTES - 192u * 1024u)
#define WINDOW_BYTES (384u * 1024u)
#define SECTOR VOLUME_SECTOR_SIZE
#define CELLS (WINDOW_BYTES / SECTOR)
#define VOLUME_BYTES (2u * EXTENT_BYTES + 256u * 1024u + SECTOR)

struct world;

/* ---- Database ---- */

enum db_mood { DB_FINE, DB_AWAY };

struct db_op {
    struct sim_alarm alarm;
    struct world *world;
    struct mirror_commit *commit; /* NULL: free, or nobody waits any more. */
    struct mirror_commit wanted;  /* A copy. */
    struct host *host;
    uint32_t life;
    uint64_t apply_ns, answer_ns; /* UINT64_MAX: done, or never. */
    bool used, unknown;
};

struct db {
    struct mirror_row rows[MIRRORS_MAX];
    struct mirror_row before[MIRRORS_MAX]; /* For a rollback (S12). */
    uint32_t epoch;
    struct weft_uuid instance;
    bool clean;
    enum db_mood mood;
    uint32_t unknown_pct;
    struct db_op ops[DB_OPS];
};

struct owner;
void db_init(struct world *world);
void db_commit(struct mirror_meta *meta, struct mirror_commit *op);
void db_notify(struct mirror_meta *meta, struct mirror *mirror,
               const char *kind, const char *text);
/* Nobody of that life waits any more. */
void db_forget(struct host *host);

/* ---- Hosts ---- */

/* A blockd's share in one attachment. */
struct owner {
    struct host *host;
    struct mirror_meta meta;
    struct volume *volume;
    uint32_t epoch;
    struct weft_uuid instance;
    uint32_t generation; /* Of the world, when it became ready. */
    bool live, ready, stopping, stopped, clean;
    int ready_result;
    uint64_t attached_ns;
};

struct host {
    struct world *world;
    uint32_t index;
    struct sim_program program;
    struct sim_node *node;
    struct sim_disk *disk;
    struct weft_uuid disk_uuid;
    struct store_format_options format_options;
    uint64_t data_first_bytes, data_bytes;
    uint32_t planted_store_bug;

    /* Of the current life. */
    uint32_t life;
    struct io *io;
    struct io_file *file;
    struct store *store;
    struct link *links[HOSTS]; /* By the disk's host. */
    struct link *published;    /* Of the own store, for the peer server. */
    struct peer_server *server;
    struct payload_pool *payloads;
    struct store_format format;
    struct store_open open;
    struct io_timer retry;
    bool up; /* Serves its disk. */
    struct owner owner;
    struct peer_directory directory;

    /* Beyond lives. */
    bool formatted, lost_writes;
    bool guest_died; /* The next owner here is of a new guest. */
    struct sim_alarm restart;
    bool down;
    struct sim_disk_hook hook; /* See cluster_grey.c. */
    struct sim_alarm unhang;
    uint64_t hung_until_ns; /* 0: its disk answers. */

    /* The local record of S22. */
    struct mirror_row record[MIRRORS_MAX];
    uint32_t record_epoch;
    struct weft_uuid record_instance;
    bool record_pending[MIRRORS_MAX];
};

void host_init(struct world *world, uint32_t index);
void host_crash(struct host *host, enum sim_crash crash, uint64_t back_ns);
void host_start(struct host *host);
/* -errno of a request to the host's own store, waited for. */
int host_store_run(struct host *host, struct store_req *req);
void host_attach(struct host *host, bool live, bool resume, bool clean);
void host_detach(struct host *host, bool flush);

/* ---- Faults ---- */

/* Something goes wrong, if the seed has that kind. */
void world_fault(struct world *world);

/* Its disk answers nothing for so long, or until: */
void host_hang(struct host *host, uint64_t duration_ns);
void host_unhang(struct host *host);
/* Somewhere so many bytes cannot be written, until sim_disk_faults_clear(). */
void host_spoil(struct host *host, uint64_t size_bytes);
/* The act before the storm. */
void world_grey(struct world *world);

/* ---- cluster_repair.c ---- */

/* The manager's turn; it begins new repairs only if 'anew'. */
void world_repair(struct world *world, bool anew);

/* ---- Guest ---- */

enum op_kind { OP_READ, OP_WRITE, OP_FLUSH, OP_DISCARD, OP_ZEROES, OP_STATUS };

struct guest_op {
    struct volume_req req;
    struct world *world;
    struct host *host;
    uint32_t life, generation;
    bool busy, zombie, waited;
    enum op_kind kind;
    uint64_t number, begin;
    uint32_t first, count; /* Cells. */
    uint64_t offset;
    uint32_t size;
    struct volume_extent extents[64];
};

/* Starts one, if there is room and somebody to ask. */
void guest_step(struct world *world, struct host *host);
bool guest_is_idle(const struct world *world);
/* Its blockd died: what was in flight is nobody's any more. */
void guest_forget(struct host *host);
/* One request, waited for. */
int guest_run(struct world *world, struct host *host, enum op_kind kind,
              uint64_t offset, uint32_t size);
void guest_read_all(struct world *world, struct host *host);
/* Reads of all, not waited for: who has lost its session hears of it. */
void guest_poke(struct world *world, struct host *host);
void guest_write_all(struct world *world, struct host *host);

/* ---- The world ---- */

struct swarm {
    bool power, process, all_power, partition, oneway, cut, freeze, slow;
    bool read_eio, write_eio, flush_eio, flips, small_disk, db_away, db_unknown;
    bool moves, clean_moves, zombies, resumes, volatile_cache;
    bool enospc_holds;
    bool hang, spoil, repairs;
};

/* One at a time. */
struct repair {
    struct store_req req; /* CREATE */
    bool busy, answered;
    uint32_t mirror, index;
    struct host *host;
    uint32_t life;
    uint64_t view; /* Of the row that it is made for. */
    uint64_t number;
    struct weft_uuid uuid;
};

struct world {
    uint64_t seed;
    struct sim *sim;
    struct rng rng;
    struct swarm swarm;
    struct host hosts[HOSTS];
    struct db db;
    struct weft_uuid cluster, volume;
    uint32_t mirrors, replicas, min_in_sync;
    uint32_t where[MIRRORS_MAX][STORE_REPLICAS_MAX]; /* Hosts. */
    uint32_t depth;
    struct repair repair;
    uint32_t planted, planted_store;
    uint32_t flip_host;
    uint64_t flips;
    uint64_t adoptions;
    uint32_t resyncs[MIRRORS_MAX]; /* Begun. */
    bool spoiled[CELLS];           /* A bit flip may have been adopted there. */

    bool rolled_back;      /* The last act (S12). */
    struct host *attached; /* According to the database. */
    struct host *current;  /* The one whose guest counts; NULL: none now. */
    bool guest_alive;
    uint32_t generation;
    struct legal legal;
    uint64_t clock, number;
    struct guest_op ops[OPS];
    uint64_t requests, reads_checked;

    bool failed;
    char why[512];
};

/* The verdict: the first one is kept. */
void world_fail(struct world *world, const char *format, ...) WEFT_PRINTF(2, 3);
/* All copies are equal, or the world fails.  Nobody has the volume. */
void world_compare(struct world *world);
/* In sync everywhere, and nothing under way; false: not within that time. */
bool world_wait_whole(struct world *world, uint64_t limit_ns);
/* An owner has become ready, or never will be. */
void world_owner_ready(struct host *host, int result);

struct world_options {
    uint32_t planted, planted_store;
    bool trace, hashes;
};

/* 0: clean.  Otherwise 'why' has the reason. */
int world_run_seed(uint64_t seed, const struct world_options *options,
                   char *why, uint32_t why_size);

#endif /* TESTS_SIM_CLUSTER_H */
