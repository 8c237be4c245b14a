/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/sim_impl.h"

/* Contents of a disk, and its volatile cache.
 *
 * A page (4 KiB) has its current bytes and, while the cache holds writes to it
 * that the medium may lack (it is *dirty*), the medium's bytes and a list of
 * versions: one for each write since the last flush, with the sectors that it
 * wrote.
 *
 * Invariants:
 *
 *   (1) current = medium overlaid with all versions, oldest first.
 *   (2) A flush moves into the medium the versions that it covers.
 *   (3) After a power cut each 512-byte sector is the medium's or that of any
 *       of its versions: a cache writes back when and in which order it likes,
 *       and may have written an older version before it was overtaken.
 *   (4) Of a disk without volatile cache no page is ever dirty.
 *
 * Index: chunks of 256 page pointers, made when first written to. */

#include <stdlib.h>
#include <string.h>

/* Beyond these the cache writes back by itself. */
#define VERSIONS_PER_PAGE_MAX 12
#define VERSIONS_PER_DISK_MAX 8192

void
sim_pages_init(struct sim_disk *disk)
{
    uint64_t pages = units_divide_up(disk->size_bytes, SIM_PAGE_SIZE);

    disk->chunk_count = units_divide_up(pages, SIM_CHUNK_PAGES);
    disk->chunks = sim_alloc(disk->chunk_count * sizeof *disk->chunks);
    list_init(&disk->dirty);
}

struct sim_page *
sim_pages_find(const struct sim_disk *disk, uint64_t number)
{
    uint64_t chunk = number / SIM_CHUNK_PAGES;

    CHECK(chunk < disk->chunk_count);
    if (disk->chunks[chunk] == NULL) {
        return NULL;
    }
    return disk->chunks[chunk][number % SIM_CHUNK_PAGES];
}

struct sim_page *
sim_pages_next(const struct sim_disk *disk, uint64_t number)
{
    uint64_t chunk = number / SIM_CHUNK_PAGES;
    uint64_t index = number % SIM_CHUNK_PAGES;

    for (; chunk < disk->chunk_count; chunk++, index = 0) {
        if (disk->chunks[chunk] == NULL) {
            continue;
        }
        for (; index < SIM_CHUNK_PAGES; index++) {
            if (disk->chunks[chunk][index] != NULL) {
                return disk->chunks[chunk][index];
            }
        }
    }
    return NULL;
}

static struct sim_page *
page_make(struct sim_disk *disk, uint64_t number)
{
    struct sim_page *page = sim_pages_find(disk, number);
    uint64_t chunk = number / SIM_CHUNK_PAGES;

    if (page != NULL) {
        return page;
    }
    if (disk->chunks[chunk] == NULL) {
        disk->chunks[chunk] =
            sim_alloc(SIM_CHUNK_PAGES * sizeof(struct sim_page *));
    }
    page = sim_alloc(sizeof *page);
    page->number = number;
    page->current = sim_alloc(SIM_PAGE_SIZE);
    list_init(&page->versions);
    list_init(&page->dirty);
    disk->chunks[chunk][number % SIM_CHUNK_PAGES] = page;
    disk->page_count++;
    return page;
}

static void
versions_drop(struct sim_disk *disk, struct sim_page *page)
{
    struct list *node;

    while ((node = list_pop_front(&page->versions)) != NULL) {
        sim_release(container_of(node, struct sim_version, node));
        disk->version_count--;
    }
    page->version_count = 0;
}

/* All is durable: the medium is what is current. */
static void
page_clean(struct sim_disk *disk, struct sim_page *page)
{
    versions_drop(disk, page);
    sim_release(page->medium);
    page->medium = NULL;
    list_remove(&page->dirty);
}

static void
page_free(struct sim_disk *disk, struct sim_page *page)
{
    page_clean(disk, page);
    disk->chunks[page->number / SIM_CHUNK_PAGES]
                [page->number % SIM_CHUNK_PAGES] = NULL;
    disk->page_count--;
    sim_release(page->current);
    sim_release(page);
}

void
sim_pages_done(struct sim_disk *disk)
{
    struct sim_page *page;

    while ((page = sim_pages_next(disk, 0)) != NULL) {
        /* Whole chunks at a time, or this would be quadratic. */
        uint64_t chunk = page->number / SIM_CHUNK_PAGES;
        for (uint64_t i = 0; i < SIM_CHUNK_PAGES; i++) {
            if (disk->chunks[chunk][i] != NULL) {
                page_free(disk, disk->chunks[chunk][i]);
            }
        }
        sim_release(disk->chunks[chunk]);
        disk->chunks[chunk] = NULL;
    }
    for (uint64_t i = 0; i < disk->chunk_count; i++) {
        sim_release(disk->chunks[i]);
    }
    sim_release(disk->chunks);
    disk->chunks = NULL;
}

static void
copy_sectors(uint8_t *to, const uint8_t *from, uint8_t mask)
{
    if (mask == 0xff) {
        memcpy(to, from, SIM_PAGE_SIZE);
        return;
    }
    for (uint32_t i = 0; i < SIM_PAGE_SECTORS; i++) {
        if (mask & 1u << i) {
            memcpy(to + i * SIM_SECTOR_SIZE, from + i * SIM_SECTOR_SIZE,
                   SIM_SECTOR_SIZE);
        }
    }
}

/* The oldest version becomes durable. */
static void
write_back_oldest(struct sim_disk *disk, struct sim_page *page)
{
    struct list *node = list_pop_front(&page->versions);
    CHECK(node != NULL);
    struct sim_version *version = container_of(node, struct sim_version, node);

    copy_sectors(page->medium, version->data, version->mask);
    sim_release(version);
    page->version_count--;
    disk->version_count--;
}

static void
write_back_some(struct sim_disk *disk)
{
    struct list *node = list_front(&disk->dirty);

    CHECK(node != NULL);
    page_clean(disk, container_of(node, struct sim_page, dirty));
}

void
sim_pages_write(struct sim_disk *disk, uint64_t number, uint8_t mask,
                const uint8_t *data, uint64_t write)
{
    if (mask == 0) {
        return;
    }
    struct sim_page *page = page_make(disk, number);
    if (disk->is_volatile) {
        struct sim_version *version = sim_alloc(sizeof *version);
        version->sequence = ++disk->sequence;
        version->write = write;
        version->mask = mask;
        copy_sectors(version->data, data, mask);
        if (page->medium == NULL) {
            page->medium = sim_alloc(SIM_PAGE_SIZE);
            memcpy(page->medium, page->current, SIM_PAGE_SIZE);
            list_push_back(&disk->dirty, &page->dirty);
        }
        list_push_back(&page->versions, &version->node);
        page->version_count++;
        disk->version_count++;
        if (page->version_count > VERSIONS_PER_PAGE_MAX) {
            write_back_oldest(disk, page);
        }
    }
    copy_sectors(page->current, data, mask);
    if (disk->version_count > VERSIONS_PER_DISK_MAX) {
        write_back_some(disk);
    }
}

void
sim_pages_zero(struct sim_disk *disk, uint64_t number, uint64_t write)
{
    static const uint8_t zeros[SIM_PAGE_SIZE];
    struct sim_page *page = sim_pages_find(disk, number);

    if (page == NULL) {
        return;
    }
    if (disk->is_volatile) {
        sim_pages_write(disk, number, 0xff, zeros, write);
    } else {
        page_free(disk, page);
    }
}

void
sim_pages_read(const struct sim_disk *disk, uint64_t number, uint8_t mask,
               uint8_t *ret_data)
{
    static const uint8_t zeros[SIM_PAGE_SIZE];
    const struct sim_page *page = sim_pages_find(disk, number);

    copy_sectors(ret_data, page == NULL ? zeros : page->current, mask);
}

void
sim_pages_flush(struct sim_disk *disk, uint64_t sequence)
{
    LIST_FOREACH (entry, &disk->dirty) {
        struct sim_page *page = container_of(entry, struct sim_page, dirty);
        struct list *node;
        while ((node = list_front(&page->versions)) != NULL &&
               container_of(node, struct sim_version, node)->sequence <=
                   sequence) {
            write_back_oldest(disk, page);
        }
        if (page->version_count == 0) {
            page_clean(disk, page);
        }
    }
}

/* ---- Power cut ---- */

enum lose_mode {
    LOSE_ALL,
    LOSE_NONE,
    LOSE_WRITES,  /* Each write as a whole survives or not. */
    LOSE_PAGES,   /* Each page of each write. */
    LOSE_SECTORS, /* Each sector is any of its versions. */
    LOSE_LATE,    /* All since some point. */
    LOSE_MODES,
};

struct lose_plan {
    enum lose_mode mode;
    uint64_t salt;
    uint64_t point; /* LOSE_LATE: the last sequence to survive. */
    uint32_t odds;  /* Of 100: to survive. */
};

static bool
survives(const struct lose_plan *plan, const struct sim_page *page,
         const struct sim_version *version, uint32_t sector)
{
    uint64_t key;

    switch (plan->mode) {
    case LOSE_ALL:
        return false;
    case LOSE_LATE:
        return version->sequence <= plan->point;
    case LOSE_WRITES:
        key = sim_mix(plan->salt, version->write);
        break;
    case LOSE_PAGES:
        key = sim_mix(plan->salt ^ version->write, page->number);
        break;
    case LOSE_SECTORS:
        key = sim_mix(plan->salt ^ version->sequence,
                      page->number * SIM_PAGE_SECTORS + sector);
        break;
    case LOSE_NONE:
    case LOSE_MODES:
    default:
        return true;
    }
    return key % 100 < plan->odds;
}

/* Returns how many sectors are no longer current. */
static uint32_t
page_lose(struct sim_page *page, const struct lose_plan *plan)
{
    uint32_t lost = 0;

    LIST_FOREACH (entry, &page->versions) {
        struct sim_version *version =
            container_of(entry, struct sim_version, node);
        uint8_t mask = 0;
        for (uint32_t i = 0; i < SIM_PAGE_SECTORS; i++) {
            if ((version->mask & 1u << i) && survives(plan, page, version, i)) {
                mask |= (uint8_t)(1u << i);
            }
        }
        copy_sectors(page->medium, version->data, mask);
    }
    for (uint32_t i = 0; i < SIM_PAGE_SECTORS; i++) {
        uint32_t at = i * SIM_SECTOR_SIZE;
        if (memcmp(page->medium + at, page->current + at, SIM_SECTOR_SIZE) !=
            0) {
            lost++;
        }
    }
    memcpy(page->current, page->medium, SIM_PAGE_SIZE);
    return lost;
}

static void
plan_make(struct sim_disk *disk, struct lose_plan *ret_plan)
{
    struct rng *rng = &disk->crash_rng;

    ret_plan->mode = (enum lose_mode)rng_below(rng, LOSE_MODES);
    ret_plan->salt = rng_u64(rng);
    ret_plan->odds = (uint32_t)rng_between(rng, 5, 95);
    /* Near the end, where it matters most. */
    uint64_t window = 1 + rng_below(rng, disk->version_count + 1);
    ret_plan->point =
        disk->sequence < window ? 0 : disk->sequence - rng_below(rng, window);
    if (ret_plan->mode == LOSE_SECTORS &&
        disk->options.tear_bytes >= SIM_PAGE_SIZE) {
        ret_plan->mode = LOSE_PAGES;
    }
    if (disk->policy == SIM_POLICY_KEEP_ALL) {
        ret_plan->mode = LOSE_NONE;
    } else if (disk->policy == SIM_POLICY_LOSE_ALL) {
        ret_plan->mode = LOSE_ALL;
    }
}

void
sim_pages_lose(struct sim_disk *disk)
{
    struct lose_plan plan;
    uint64_t lost = 0;

    plan_make(disk, &plan);
    LIST_FOREACH (entry, &disk->dirty) {
        struct sim_page *page = container_of(entry, struct sim_page, dirty);
        lost += page_lose(page, &plan);
        page_clean(disk, page);
    }
    disk->stats.sectors_lost += lost;
    sim_note(disk->sim, disk->host, SIM_NOTE_CACHE_LOST, disk->number,
             (uint64_t)plan.mode, lost, 0);
}

/* ---- Copy ---- */

void
sim_pages_copy(struct sim_disk *to, const struct sim_disk *from)
{
    const struct sim_page *page = sim_pages_next(from, 0);

    for (; page != NULL; page = sim_pages_next(from, page->number + 1)) {
        struct sim_page *copy = page_make(to, page->number);
        memcpy(copy->current, page->current, SIM_PAGE_SIZE);
    }
    LIST_FOREACH (entry, &from->dirty) {
        page = container_of(entry, struct sim_page, dirty);
        struct sim_page *copy = page_make(to, page->number);
        copy->medium = sim_alloc(SIM_PAGE_SIZE);
        memcpy(copy->medium, page->medium, SIM_PAGE_SIZE);
        list_push_back(&to->dirty, &copy->dirty);
        LIST_FOREACH (node, &page->versions) {
            struct sim_version *version = sim_alloc(sizeof(struct sim_version));
            *version = *container_of(node, struct sim_version, node);
            list_init(&version->node);
            list_push_back(&copy->versions, &version->node);
            copy->version_count++;
            to->version_count++;
        }
    }
    to->sequence = from->sequence;
}
