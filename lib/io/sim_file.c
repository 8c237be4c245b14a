/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Operations on disks.
 *
 *   started -- (held) --> in flight -- settled --> ready --> done()
 *                             |
 *                             +-- crash: lands in part, no done()
 *
 * A write's bytes are taken from the caller's memory in two gulps, sector by
 * sector: some at the start, the others when it settles.  A caller that
 * changes its buffer meanwhile gets a torn block, as with a real device.  A
 * read's destination holds garbage until it settles, but for the sectors that
 * came early.
 *
 * Faults are decided when the operation starts. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EIGHTHS 8u

static sim_ready_fn file_op_done;
static sim_event_fn file_op_fire;

/* ---- Files ---- */

int
sim_file_open(struct io *io, const char *path, enum io_cache_mode mode,
              struct io_file **ret_file)
{
    struct sim_life *life = sim_life_enter(io);
    struct sim_disk *disk = sim_disk_find(life->sim, life->node->name, path);

    if (life->is_dead) {
        return -EIO;
    }
    if (disk == NULL) {
        return -ENOENT;
    }
    if (disk->opener != NULL) {
        return -EBUSY;
    }
    if (disk->is_dead) {
        return -EIO;
    }
    struct sim_file *file = sim_alloc(sizeof *file);
    file->base.info = (struct io_file_info){
        .size_bytes = disk->size_bytes,
        .alignment_bytes = disk->options.alignment_bytes,
        .volatile_cache = mode == IO_CACHE_AUTO ? disk->is_volatile
                                                : mode == IO_CACHE_VOLATILE,
    };
    file->life = life;
    file->disk = disk;
    list_push_back(&life->files, &file->node);
    disk->opener = file;
    sim_note(life->sim, life->node, SIM_NOTE_FILE_OPEN, disk->number, 0, 0, 0);
    *ret_file = &file->base;
    return 0;
}

static void
file_free(struct sim_file *file)
{
    if (file->disk != NULL) {
        file->disk->opener = NULL;
    }
    list_remove(&file->node);
    sim_release(file);
}

void
sim_file_close(struct io *io, struct io_file *base)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead) {
        return;
    }
    struct sim_file *file = container_of(base, struct sim_file, base);
    CHECK(file->life == life);
    CHECK(file->pending == 0);
    sim_note(life->sim, life->node, SIM_NOTE_FILE_CLOSE,
             file->disk == NULL ? 0 : file->disk->number, 0, 0, 0);
    file_free(file);
}

/* ---- Moving bytes ---- */

/* What the sector (counted on the disk) shares its fate with. */
static uint64_t
tear_unit(const struct sim_file_op *fop, uint64_t sector)
{
    if (fop->disk->options.tear_bytes >= SIM_PAGE_SIZE) {
        return sector / SIM_PAGE_SECTORS;
    }
    return sector;
}

/* Whether the sector moves at the start. */
static bool
is_early(const struct sim_file_op *fop, uint64_t sector)
{
    if (fop->early == 0 || fop->early == EIGHTHS) {
        return fop->early != 0;
    }
    return sim_mix(fop->salt, tear_unit(fop, sector)) % EIGHTHS < fop->early;
}

/* Which sectors of which part of an operation move. */
enum part {
    PART_EARLY,
    PART_LATE,
    PART_TORN, /* Those late ones that a crash lets through. */
};

struct move {
    enum part part;
    uint64_t salt;
    uint32_t odds; /* PART_TORN: of 100. */
};

static bool
moves(const struct sim_file_op *fop, const struct move *move, uint64_t sector)
{
    bool early = is_early(fop, sector);

    if (move->part == PART_EARLY) {
        return early;
    }
    if (early || move->part == PART_LATE) {
        return !early;
    }
    return sim_mix(move->salt, tear_unit(fop, sector)) % 100 < move->odds;
}

/* Copies the sectors of a page and returns how many. */
static uint32_t
move_page(struct sim_file_op *fop, uint64_t offset_bytes, uint64_t done_bytes,
          uint8_t mask)
{
    /* The page may begin before or end after the operation's memory: only
     * sectors of the mask are touched. */
    uintptr_t within = offset_bytes % SIM_PAGE_SIZE;
    uint64_t number = offset_bytes / SIM_PAGE_SIZE;
    uint8_t page[SIM_PAGE_SIZE];
    uint8_t *data = (uint8_t *)fop->data + done_bytes;

    for (uint32_t i = 0; i < SIM_PAGE_SECTORS && fop->kind == IO_FILE_WRITE;
         i++) {
        if (mask & 1u << i) {
            memcpy(page + i * SIM_SECTOR_SIZE,
                   data + (i * SIM_SECTOR_SIZE - within), SIM_SECTOR_SIZE);
        }
    }
    if (fop->kind == IO_FILE_WRITE) {
        sim_pages_write(fop->disk, number, mask, page, fop->number);
    } else {
        sim_pages_read(fop->disk, number, mask, page);
    }
    for (uint32_t i = 0; i < SIM_PAGE_SECTORS && fop->kind == IO_FILE_READ;
         i++) {
        if (mask & 1u << i) {
            memcpy(data + (i * SIM_SECTOR_SIZE - within),
                   page + i * SIM_SECTOR_SIZE, SIM_SECTOR_SIZE);
        }
    }
    return (uint32_t)__builtin_popcount(mask);
}

static uint64_t
move_bytes(struct sim_file_op *fop, const struct move *move)
{
    uint64_t offset_bytes = fop->landing_offset_bytes;
    uint64_t done_bytes = 0;
    uint64_t sectors = 0;

    while (done_bytes < fop->size_bytes) {
        uint64_t within = offset_bytes % SIM_PAGE_SIZE;
        uint64_t part = SIM_PAGE_SIZE - within;
        uint8_t mask = 0;
        if (part > fop->size_bytes - done_bytes) {
            part = fop->size_bytes - done_bytes;
        }
        for (uint64_t i = 0; i < part / SIM_SECTOR_SIZE; i++) {
            if (moves(fop, move, offset_bytes / SIM_SECTOR_SIZE + i)) {
                mask |= (uint8_t)(1u << (within / SIM_SECTOR_SIZE + i));
            }
        }
        if (mask != 0) {
            sectors += move_page(fop, offset_bytes, done_bytes, mask);
        }
        done_bytes += part;
        offset_bytes += part;
    }
    return sectors;
}

/* Contents after a discard may be anything: what was there, or zeros. */
static void
discard_pages(struct sim_file_op *fop, uint32_t odds)
{
    uint64_t first = units_divide_up(fop->offset_bytes, SIM_PAGE_SIZE);
    uint64_t end = (fop->offset_bytes + fop->size_bytes) / SIM_PAGE_SIZE;

    for (struct sim_page *page = sim_pages_next(fop->disk, first);
         page != NULL && page->number < end;) {
        uint64_t number = page->number;
        if (sim_mix(fop->salt, number) % 100 < odds) {
            sim_pages_zero(fop->disk, number, fop->number);
        }
        page = number + 1 < end ? sim_pages_next(fop->disk, number + 1) : NULL;
    }
}

static void
fill_garbage(struct sim_file_op *fop)
{
    /* Not one of the bytes that a memset() of somebody else would leave. */
    memset(fop->data, (int)(0x41 + fop->number % 26), fop->size_bytes);
}

/* A flush has failed: the kernel forgets what was dirty, and the disk may
 * have lost it. */
static void
flush_fail(struct sim_disk *disk)
{
    if (rng_chance(&disk->fault_rng, 1, 2)) {
        sim_pages_lose(disk);
    }
}

/* ---- End of an operation ---- */

static void
file_op_free(struct sim_file_op *fop)
{
    sim_event_cancel(fop->life->sim, &fop->event);
    list_remove(&fop->ready.node);
    list_remove(&fop->disk_node);
    list_remove(&fop->node);
    fop->file->pending--;
    sim_release(fop);
}

static void
file_op_done(struct sim_ready *ready)
{
    struct sim_file_op *fop = container_of(ready, struct sim_file_op, ready);
    struct io_file_op *op = fop->op;
    int result = fop->result;

    /* Borrowed until done(): nobody may have changed it. */
    CHECK(op->file == &fop->file->base);
    CHECK(op->kind == fop->kind);
    CHECK(op->offset_bytes == fop->offset_bytes || op->kind == IO_FILE_FLUSH);
    CHECK(op->data == fop->data || op->kind > IO_FILE_WRITE);
    sim_op_end(&op->op, result);
    file_op_free(fop);
    op->op.done(&op->op, result);
}

/* The operation leaves the disk with 'result'. */
static void
file_op_settle(struct sim_file_op *fop, int result)
{
    struct sim_disk *disk = fop->disk;

    sim_event_cancel(disk->sim, &fop->event);
    list_remove(&fop->disk_node);
    fop->result = result;
    if (result == -EIO) {
        disk->stats.eio++;
    } else if (result == -ENOSPC) {
        disk->stats.enospc++;
    }
    sim_note(disk->sim, fop->life->node, SIM_NOTE_SETTLED, disk->number,
             (uint64_t)-result, 0, fop->number);
    if (disk->hook != NULL && disk->hook->settled != NULL) {
        struct sim_life *life = fop->life;
        struct sim_life *caller = sim_world_enter(disk->sim);
        disk->hook->settled(disk->hook, disk, fop->op, result);
        sim_world_leave(disk->sim, caller);
        if (life->is_dead) {
            return; /* And the operation with it. */
        }
    }
    sim_life_push(fop->life, &fop->ready);
}

/* What lands of a write that does not end well. */
static void
land_torn(struct sim_file_op *fop)
{
    struct rng *rng = &fop->disk->crash_rng;
    struct move move = { .part = PART_TORN, .salt = rng_u64(rng) };
    uint64_t draw = rng_below(rng, 4);

    if (fop->kind == IO_FILE_DISCARD) {
        discard_pages(fop, (uint32_t)rng_below(rng, 101));
        return;
    }
    if (fop->kind != IO_FILE_WRITE || fop->is_lost) {
        return;
    }
    if (draw == 0) {
        move.odds = 0;
    } else if (draw == 1) {
        move.odds = 100;
    } else {
        move.odds = (uint32_t)rng_between(rng, 10, 90);
    }
    if (fop->disk->policy == SIM_POLICY_KEEP_ALL) {
        move.odds = 100;
    } else if (fop->disk->policy == SIM_POLICY_LOSE_ALL) {
        move.odds = 0;
    }
    uint64_t landed = move_bytes(fop, &move);
    sim_note(fop->disk->sim, fop->life->node, SIM_NOTE_CUT_SHORT,
             fop->disk->number, landed, fop->size_bytes / SIM_SECTOR_SIZE,
             fop->number);
}

static void
file_op_fire(struct sim_event *event)
{
    struct sim_file_op *fop = container_of(event, struct sim_file_op, event);
    struct sim_disk *disk = fop->disk;
    const struct move late = { .part = PART_LATE };
    int result = fop->result;

    switch (fop->kind) {
    case IO_FILE_READ:
        move_bytes(fop, &late);
        if (result == 0) {
            sim_hash_bytes(disk->sim, fop->data, fop->size_bytes);
        } else {
            fill_garbage(fop);
        }
        break;
    case IO_FILE_WRITE:
        if (result == -ENOSPC) {
            break;
        }
        if (result != 0) {
            land_torn(fop);
        } else if (!fop->is_lost) {
            move_bytes(fop, &late);
            sim_disk_fault_overwrite(disk, fop->landing_offset_bytes,
                                     fop->size_bytes);
        }
        sim_hash_bytes(disk->sim, fop->data, fop->size_bytes);
        break;
    case IO_FILE_FLUSH:
        if (result == 0) {
            sim_pages_flush(disk, fop->sequence);
        } else {
            flush_fail(disk);
        }
        break;
    case IO_FILE_DISCARD:
        discard_pages(fop, result == 0 ? 75 : 40);
        break;
    }
    file_op_settle(fop, result);
}

/* ---- Start ---- */

static uint64_t
draw_elsewhere(struct sim_file_op *fop)
{
    struct sim_disk *disk = fop->disk;
    uint64_t places = (disk->size_bytes - fop->size_bytes) / SIM_PAGE_SIZE + 1;
    uint64_t place = rng_below(&disk->fault_rng, places);

    if (place == fop->offset_bytes / SIM_PAGE_SIZE) {
        place = (place + 1) % places;
    }
    return place * SIM_PAGE_SIZE;
}

/* Draws what will go wrong with the operation; result and landing. */
static void
draw_faults(struct sim_file_op *fop)
{
    struct sim_disk *disk = fop->disk;
    struct rng *rng = &disk->fault_rng;
    const struct sim_disk_options *o = &disk->options;
    uint64_t offset = fop->offset_bytes;
    uint64_t size = fop->size_bytes;

    if (sim_ppm(rng, o->flip_ppm)) {
        sim_disk_flip_somewhere(disk);
    }
    switch (fop->kind) {
    case IO_FILE_READ:
        if (sim_ppm(rng, o->read_medium_ppm)) {
            uint64_t sector = offset + rng_below(rng, size / SIM_SECTOR_SIZE) *
                                           SIM_SECTOR_SIZE;
            sim_disk_fault(disk, SIM_FAULT_READ_MEDIUM, sector, SIM_SECTOR_SIZE,
                           0);
        }
        if (sim_ppm(rng, o->read_eio_ppm) ||
            sim_disk_fault_take(disk, SIM_FAULT_READ_EIO, offset, size) ||
            sim_disk_fault_take(disk, SIM_FAULT_READ_MEDIUM, offset, size)) {
            fop->result = -EIO;
        }
        break;
    case IO_FILE_WRITE:
        if (sim_ppm(rng, o->write_lost_ppm) ||
            sim_disk_fault_take(disk, SIM_FAULT_WRITE_LOST, offset, size)) {
            fop->is_lost = true;
            disk->stats.writes_lost++;
        }
        if (sim_ppm(rng, o->write_misdirect_ppm) ||
            sim_disk_fault_take(disk, SIM_FAULT_WRITE_MISDIRECTED, offset,
                                size)) {
            fop->landing_offset_bytes = draw_elsewhere(fop);
            disk->stats.writes_misdirected++;
            sim_note(disk->sim, disk->host, SIM_NOTE_MISDIRECT, disk->number,
                     offset, fop->landing_offset_bytes, size);
        }
        if (sim_ppm(rng, o->write_eio_ppm) ||
            sim_disk_fault_take(disk, SIM_FAULT_WRITE_EIO, offset, size)) {
            fop->result = -EIO;
        }
        if (sim_ppm(rng, o->write_enospc_ppm) ||
            sim_disk_fault_take(disk, SIM_FAULT_WRITE_ENOSPC, offset, size)) {
            fop->result = -ENOSPC;
        }
        break;
    case IO_FILE_FLUSH:
        if (sim_ppm(rng, o->flush_eio_ppm) ||
            sim_disk_fault_take(disk, SIM_FAULT_FLUSH_EIO, 0, 0)) {
            fop->result = -EIO;
        }
        break;
    case IO_FILE_DISCARD:
        break;
    }
}

/* A thin disk takes no more new pages than it has room for. */
static bool
has_room(const struct sim_file_op *fop)
{
    const struct sim_disk *disk = fop->disk;
    uint64_t missing = 0;

    if (disk->capacity_pages == UINT64_MAX) {
        return true;
    }
    for (uint64_t n = fop->landing_offset_bytes / SIM_PAGE_SIZE;
         n * SIM_PAGE_SIZE < fop->landing_offset_bytes + fop->size_bytes; n++) {
        missing += sim_pages_find(disk, n) == NULL;
    }
    return disk->page_count + missing <= disk->capacity_pages;
}

static uint64_t
draw_time(struct sim_file_op *fop)
{
    struct sim_disk *disk = fop->disk;
    const struct sim_disk_options *o = &disk->options;
    const struct sim_range *range = &o->write_ns;

    if (fop->kind == IO_FILE_READ) {
        range = &o->read_ns;
    } else if (fop->kind == IO_FILE_FLUSH) {
        range = &o->flush_ns;
    }
    if (sim_ppm(&disk->time_rng, o->stall_ppm)) {
        range = &o->stall_ns;
    }
    uint64_t time_ns = sim_range_draw(&disk->time_rng, range);
    if (fop->kind <= IO_FILE_WRITE) {
        time_ns += fop->size_bytes / 2; /* 2 GB/s */
    }
    return disk->sim->now_ns + time_ns + disk->extra_ns;
}

static struct sim_file_op *
file_op_new(struct sim_life *life, struct io_file_op *op)
{
    struct sim_file_op *fop = sim_alloc(sizeof *fop);
    struct sim_file *file = container_of(op->file, struct sim_file, base);

    CHECK(file->life == life);
    sim_op_begin(&op->op, fop);
    fop->ready.run = file_op_done;
    fop->event.fire = file_op_fire;
    list_init(&fop->ready.node);
    list_init(&fop->node);
    list_init(&fop->disk_node);
    fop->op = op;
    fop->life = life;
    fop->file = file;
    fop->disk = file->disk;
    fop->kind = op->kind;
    fop->offset_bytes = op->kind == IO_FILE_FLUSH ? 0 : op->offset_bytes;
    fop->landing_offset_bytes = fop->offset_bytes;
    fop->size_bytes =
        op->kind == IO_FILE_DISCARD ? op->discard_bytes : op->size_bytes;
    fop->data = op->kind <= IO_FILE_WRITE ? op->data : NULL;
    file->pending++;
    list_push_back(&life->ops, &fop->node);
    return fop;
}

static void
count_op(struct sim_file_op *fop)
{
    struct sim_disk *disk = fop->disk;
    enum sim_note note = SIM_NOTE_READ;
    uint64_t where = fop->offset_bytes;

    switch (fop->kind) {
    case IO_FILE_READ:
        disk->stats.reads++;
        disk->stats.read_bytes += fop->size_bytes;
        break;
    case IO_FILE_WRITE:
        disk->stats.writes++;
        disk->stats.write_bytes += fop->size_bytes;
        note = SIM_NOTE_WRITE;
        break;
    case IO_FILE_FLUSH:
        disk->stats.flushes++;
        note = SIM_NOTE_FLUSH;
        where = fop->sequence;
        break;
    case IO_FILE_DISCARD:
        disk->stats.discards++;
        note = SIM_NOTE_DISCARD;
        break;
    }
    sim_note(disk->sim, fop->life->node, note, disk->number, where,
             fop->size_bytes, fop->number);
}

/* The hook's say.  Returns false if the operation does not go on now. */
static bool
ask_hook(struct sim_file_op *fop)
{
    struct sim_disk *disk = fop->disk;
    struct sim_life *life = fop->life;
    enum sim_verdict verdict = SIM_PASS;
    int result = -EIO;

    if (disk->hook == NULL || disk->hook->started == NULL) {
        return true;
    }
    struct sim_life *caller = sim_world_enter(disk->sim);
    verdict = disk->hook->started(disk->hook, disk, fop->op, &result);
    sim_world_leave(disk->sim, caller);
    if (life->is_dead) {
        return false; /* The hook has crashed the node. */
    }
    switch (verdict) {
    case SIM_PASS:
        break;
    case SIM_FAIL:
        file_op_settle(fop, result);
        return false;
    case SIM_HOLD:
        fop->is_held = true;
        return false;
    }
    return true;
}

static void
file_op_go(struct sim_file_op *fop)
{
    struct sim_disk *disk = fop->disk;
    const struct move early = { .part = PART_EARLY };

    draw_faults(fop);
    if (fop->kind == IO_FILE_WRITE && fop->result == 0 && !has_room(fop)) {
        fop->result = -ENOSPC;
    }
    if (rng_chance(&disk->time_rng, 1, 2) && fop->result == 0 &&
        !fop->is_lost) {
        fop->early = (uint32_t)rng_below(&disk->time_rng, EIGHTHS + 1);
        move_bytes(fop, &early);
    }
    sim_event_set(disk->sim, &fop->event, draw_time(fop));
}

void
sim_file_start(struct io *io, struct io_file_op *op)
{
    struct sim_life *life = sim_life_enter(io);

    if (life->is_dead) {
        return;
    }
    struct sim_file_op *fop = file_op_new(life, op);
    struct sim_disk *disk = fop->disk;
    if (disk == NULL) {
        fop->result = -ENODEV;
        sim_life_push(life, &fop->ready);
        return;
    }
    fop->number = ++disk->op_count;
    fop->salt = sim_mix(disk->salt, fop->number);
    fop->sequence = disk->sequence;
    list_push_back(&disk->in_flight, &fop->disk_node);
    count_op(fop);
    if (fop->offset_bytes > disk->size_bytes ||
        fop->size_bytes > disk->size_bytes - fop->offset_bytes) {
        file_op_settle(fop, -EINVAL);
        return;
    }
    if (fop->kind == IO_FILE_READ) {
        fill_garbage(fop);
    }
    if (disk->is_dead) {
        file_op_settle(fop, -EIO);
        return;
    }
    if (ask_hook(fop)) {
        file_op_go(fop);
    }
}

/* ---- Cancel, release, crash ---- */

void
sim_file_op_cancel(struct sim_file_op *fop)
{
    if (!list_is_linked(&fop->disk_node) || fop->is_cancelled) {
        return; /* It is settling. */
    }
    fop->is_cancelled = true;
    if (!fop->is_held && rng_chance(&fop->disk->time_rng, 1, 2)) {
        return; /* Too late: it will have its outcome. */
    }
    land_torn(fop);
    file_op_settle(fop, -ECANCELED);
}

void
sim_disk_release(struct sim_disk *disk, const struct io_file_op *op)
{
    LIST_FOREACH (entry, &disk->in_flight) {
        struct sim_file_op *fop =
            container_of(entry, struct sim_file_op, disk_node);
        if (fop->is_held && (op == NULL || fop->op == op)) {
            fop->is_held = false;
            file_op_go(fop);
        }
    }
}

void
sim_file_fail_all(struct sim_disk *disk, int result)
{
    struct list *node;

    while ((node = list_front(&disk->in_flight)) != NULL) {
        struct sim_file_op *fop =
            container_of(node, struct sim_file_op, disk_node);
        land_torn(fop);
        file_op_settle(fop, result);
    }
}

void
sim_file_abandon(struct sim_life *life)
{
    struct list *node;

    while ((node = list_front(&life->ops)) != NULL) {
        struct sim_file_op *fop = container_of(node, struct sim_file_op, node);
        if (list_is_linked(&fop->disk_node)) {
            land_torn(fop);
        }
        file_op_free(fop);
    }
    LIST_FOREACH (entry, &life->files) {
        struct sim_file *file = container_of(entry, struct sim_file, node);
        if (file->disk != NULL) {
            file->disk->opener = NULL;
            file->disk = NULL;
        }
    }
}

/* Code of the dead life may have looked at its files until now. */
void
sim_file_bury(struct sim_life *life)
{
    struct list *node;

    while ((node = list_front(&life->files)) != NULL) {
        file_free(container_of(node, struct sim_file, node));
    }
}
