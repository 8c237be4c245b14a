/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Disks as things: where they are, how they fail, what they count.  Contents
 * are in sim_pages.c, operations in sim_file.c. */

#include <errno.h>
#include <string.h>

static char *
copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = sim_alloc(size);
    memcpy(copy, text, size);
    return copy;
}

static void
place(struct sim_disk *disk, struct sim_node *node, const char *path)
{
    sim_release(disk->path);
    disk->path = NULL;
    disk->host = NULL;
    if (node != NULL) {
        CHECK(sim_disk_find(node->sim, node->name, path) == NULL);
        disk->path = copy_text(path);
        disk->host = node;
    }
}

static struct sim_disk *
disk_new(struct sim *sim, uint64_t size_bytes, bool is_volatile, uint64_t key)
{
    struct sim_disk *disk = sim_alloc(sizeof *disk);

    CHECK(size_bytes >= SIM_PAGE_SIZE);
    CHECK(size_bytes % SIM_SECTOR_SIZE == 0);
    disk->sim = sim;
    disk->number = ++sim->disk_count;
    disk->size_bytes = size_bytes;
    disk->is_volatile = is_volatile;
    disk->options = sim->options.disk;
    disk->capacity_pages = UINT64_MAX;
    list_init(&disk->in_flight);
    list_init(&disk->faults);
    sim_rng_init(sim, "disk time", key, &disk->time_rng);
    sim_rng_init(sim, "disk fault", key, &disk->fault_rng);
    sim_rng_init(sim, "disk crash", key, &disk->crash_rng);
    disk->salt = rng_u64(&disk->crash_rng);
    sim_pages_init(disk);
    return disk;
}

struct sim_disk *
sim_disk_add(struct sim_node *node, const char *path, uint64_t size_bytes,
             bool volatile_cache)
{
    uint64_t key = sim_mix(sim_hash_text(node->name), sim_hash_text(path));
    struct sim_disk *disk =
        disk_new(node->sim, size_bytes, volatile_cache, key);

    place(disk, node, path);
    list_push_back(&node->sim->disks, &disk->node);
    return disk;
}

struct sim_disk *
sim_disk_copy(const struct sim_disk *disk, struct sim_node *node,
              const char *path)
{
    uint64_t key = sim_mix(sim_hash_text(node->name), sim_hash_text(path));
    struct sim_disk *copy =
        disk_new(node->sim, disk->size_bytes, disk->is_volatile,
                 sim_mix(key, node->sim->disk_count));

    copy->options = disk->options;
    copy->policy = disk->policy;
    copy->capacity_pages = disk->capacity_pages;
    place(copy, node, path);
    sim_pages_copy(copy, disk);
    list_push_back(&node->sim->disks, &copy->node);
    return copy;
}

void
sim_disk_free(struct sim_disk *disk)
{
    CHECK(list_is_empty(&disk->in_flight));
    sim_disk_faults_clear(disk);
    sim_pages_done(disk);
    list_remove(&disk->node);
    sim_release(disk->path);
    sim_release(disk);
}

void
sim_disk_move(struct sim_disk *disk, struct sim_node *node, const char *path)
{
    if (disk->opener != NULL) {
        sim_file_fail_all(disk, -ENODEV);
        disk->opener->disk = NULL;
        disk->opener = NULL;
    }
    place(disk, node, path);
}

struct sim_disk *
sim_disk_find(struct sim *sim, const char *node_name, const char *path)
{
    LIST_FOREACH (entry, &sim->disks) {
        struct sim_disk *disk = container_of(entry, struct sim_disk, node);
        if (disk->host != NULL && strcmp(disk->host->name, node_name) == 0 &&
            strcmp(disk->path, path) == 0) {
            return disk;
        }
    }
    return NULL;
}

struct sim_disk_options *
sim_disk_options(struct sim_disk *disk)
{
    return &disk->options;
}

void
sim_disk_set_capacity(struct sim_disk *disk, uint64_t pages)
{
    disk->capacity_pages = pages;
}

uint64_t
sim_disk_pages_used(const struct sim_disk *disk)
{
    return disk->page_count;
}

void
sim_disk_set_policy(struct sim_disk *disk, enum sim_crash_policy policy)
{
    disk->policy = policy;
}

void
sim_disk_stats(const struct sim_disk *disk, struct sim_disk_stats *ret_stats)
{
    *ret_stats = disk->stats;
}

/* ---- Whole-disk trouble ---- */

void
sim_disk_power_cut(struct sim_disk *disk)
{
    sim_file_fail_all(disk, -EIO);
    sim_pages_lose(disk);
}

void
sim_disk_kill(struct sim_disk *disk)
{
    disk->is_dead = true;
    sim_file_fail_all(disk, -EIO);
}

void
sim_disk_revive(struct sim_disk *disk)
{
    disk->is_dead = false;
}

void
sim_disk_slow(struct sim_disk *disk, uint64_t extra_ns)
{
    disk->extra_ns = extra_ns;
}

/* ---- Contents, behind the programs' backs ---- */

void
sim_disk_peek(const struct sim_disk *disk, uint64_t offset_bytes,
              void *ret_data, size_t size)
{
    uint8_t page[SIM_PAGE_SIZE];
    uint8_t *to = ret_data;

    CHECK(offset_bytes <= disk->size_bytes);
    CHECK(size <= disk->size_bytes - offset_bytes);
    while (size != 0) {
        uint64_t within = offset_bytes % SIM_PAGE_SIZE;
        size_t part = SIM_PAGE_SIZE - within;
        if (part > size) {
            part = size;
        }
        sim_pages_read(disk, offset_bytes / SIM_PAGE_SIZE, 0xff, page);
        memcpy(to, page + within, part);
        to += part;
        offset_bytes += part;
        size -= part;
    }
}

void
sim_disk_poke(struct sim_disk *disk, uint64_t offset_bytes, const void *data,
              size_t size)
{
    uint8_t page[SIM_PAGE_SIZE];
    const uint8_t *from = data;
    bool is_volatile = disk->is_volatile;

    CHECK(offset_bytes <= disk->size_bytes);
    CHECK(size <= disk->size_bytes - offset_bytes);
    sim_pages_flush(disk, UINT64_MAX);
    disk->is_volatile = false; /* Past the cache. */
    while (size != 0) {
        uint64_t number = offset_bytes / SIM_PAGE_SIZE;
        uint64_t within = offset_bytes % SIM_PAGE_SIZE;
        size_t part = SIM_PAGE_SIZE - within;
        if (part > size) {
            part = size;
        }
        sim_pages_read(disk, number, 0xff, page);
        memcpy(page + within, from, part);
        sim_pages_write(disk, number, 0xff, page, 0);
        from += part;
        offset_bytes += part;
        size -= part;
    }
    disk->is_volatile = is_volatile;
}

void
sim_disk_flip_bit(struct sim_disk *disk, uint64_t offset_bytes, uint32_t bit)
{
    static const uint8_t zeros[SIM_PAGE_SIZE];
    uint64_t number = offset_bytes / SIM_PAGE_SIZE;
    uint64_t within = offset_bytes % SIM_PAGE_SIZE;
    uint8_t flip = (uint8_t)(1u << bit % 8);

    CHECK(offset_bytes < disk->size_bytes);
    if (sim_pages_find(disk, number) == NULL) {
        sim_disk_poke(disk, number * SIM_PAGE_SIZE, zeros, SIM_PAGE_SIZE);
    }
    struct sim_page *page = sim_pages_find(disk, number);
    page->current[within] ^= flip;
    if (page->medium != NULL) {
        page->medium[within] ^= flip;
    }
    LIST_FOREACH (entry, &page->versions) {
        container_of(entry, struct sim_version, node)->data[within] ^= flip;
    }
    disk->stats.bits_flipped++;
    sim_note(disk->sim, disk->host, SIM_NOTE_FLIP, disk->number, offset_bytes,
             bit % 8, 0);
}

void
sim_disk_flip_somewhere(struct sim_disk *disk)
{
    struct rng *rng = &disk->fault_rng;
    uint64_t pages = disk->size_bytes / SIM_PAGE_SIZE;
    struct sim_page *page = sim_pages_next(disk, rng_below(rng, pages));

    if (page == NULL) {
        page = sim_pages_next(disk, 0);
    }
    if (page != NULL) {
        uint64_t start = page->number * SIM_PAGE_SIZE;
        uint64_t size = disk->size_bytes - start;
        if (size > SIM_PAGE_SIZE) {
            size = SIM_PAGE_SIZE;
        }
        sim_disk_flip_bit(disk, start + rng_below(rng, size),
                          (uint32_t)rng_below(rng, 8));
    }
}

/* ---- Faults to come ---- */

void
sim_disk_fault(struct sim_disk *disk, enum sim_fault fault,
               uint64_t offset_bytes, uint64_t size_bytes, uint32_t count)
{
    struct sim_disk_fault *entry = sim_alloc(sizeof *entry);

    entry->fault = fault;
    entry->offset_bytes = offset_bytes;
    entry->size_bytes = size_bytes;
    entry->count = count;
    list_push_back(&disk->faults, &entry->node);
}

void
sim_disk_faults_clear(struct sim_disk *disk)
{
    struct list *node;

    while ((node = list_pop_front(&disk->faults)) != NULL) {
        sim_release(container_of(node, struct sim_disk_fault, node));
    }
}

static bool
overlaps(const struct sim_disk_fault *fault, uint64_t offset_bytes,
         uint64_t size_bytes)
{
    return fault->offset_bytes < offset_bytes + size_bytes &&
           offset_bytes < fault->offset_bytes + fault->size_bytes;
}

bool
sim_disk_fault_take(struct sim_disk *disk, enum sim_fault kind,
                    uint64_t offset_bytes, uint64_t size_bytes)
{
    LIST_FOREACH (node, &disk->faults) {
        struct sim_disk_fault *fault =
            container_of(node, struct sim_disk_fault, node);
        if (fault->fault != kind ||
            (kind != SIM_FAULT_FLUSH_EIO &&
             !overlaps(fault, offset_bytes, size_bytes))) {
            continue;
        }
        sim_note(disk->sim, disk->host, SIM_NOTE_DISK_FAULT, disk->number,
                 (uint64_t)kind, offset_bytes, size_bytes);
        if (fault->count != 0 && --fault->count == 0) {
            list_remove(&fault->node);
            sim_release(fault);
        }
        return true;
    }
    return false;
}

/* Medium errors go when the sectors are written: the disk remaps them. */
void
sim_disk_fault_overwrite(struct sim_disk *disk, uint64_t offset_bytes,
                         uint64_t size_bytes)
{
    uint64_t end_bytes = offset_bytes + size_bytes;

    LIST_FOREACH (node, &disk->faults) {
        struct sim_disk_fault *fault =
            container_of(node, struct sim_disk_fault, node);
        uint64_t fault_end = fault->offset_bytes + fault->size_bytes;
        if (fault->fault != SIM_FAULT_READ_MEDIUM ||
            !overlaps(fault, offset_bytes, size_bytes)) {
            continue;
        }
        if (fault_end > end_bytes) {
            sim_disk_fault(disk, SIM_FAULT_READ_MEDIUM, end_bytes,
                           fault_end - end_bytes, fault->count);
        }
        if (fault->offset_bytes < offset_bytes) {
            fault->size_bytes = offset_bytes - fault->offset_bytes;
        } else {
            list_remove(&fault->node);
            sim_release(fault);
        }
    }
}

/* ---- Hooks ---- */

void
sim_disk_set_hook(struct sim_disk *disk, struct sim_disk_hook *hook)
{
    disk->hook = hook;
}
