/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "blockd/export/vhost_internal.h"

/* Descriptor chains, and the bytes behind them.
 *
 * A chain is walked once; each descriptor is copied out of the guest's memory
 * before it is looked at, and only the copy counts (the guest may change it
 * meanwhile).  A walk takes at most as many steps as the table has entries, so
 * that a loop is found by its length.
 *
 * What cannot be a chain at all is answered with a reason, and breaks the
 * ring.  A chain whose buffers are in no region, or are cut into more pieces
 * than anybody needs, is 'unmapped': the request fails, the ring lives. */

struct vhost_walk {
    const struct vhost_mem *mem;
    const uint8_t *table;   /* Direct. */
    uint64_t indirect_addr; /* If table is NULL. */
    uint32_t table_count;
    bool saw_writable;
};

static bool
vhost_walk_desc(const struct vhost_walk *walk, uint32_t index,
                struct vring_desc *ret_desc)
{
    uint64_t offset = index * sizeof *ret_desc;

    if (walk->table == NULL) {
        uint64_t addr;
        return !__builtin_add_overflow(walk->indirect_addr, offset, &addr) &&
               vhost_mem_read(walk->mem, addr, ret_desc, sizeof *ret_desc);
    }
    memcpy(ret_desc, walk->table + offset, sizeof *ret_desc);
    vhost_copied();
    return true;
}

static void
vhost_chain_add(struct vhost_chain *chain, const struct vhost_mem *mem,
                uint64_t addr, uint32_t size_bytes)
{
    chain->status = NULL; /* Of an unmapped piece there is none. */
    while (size_bytes > 0) {
        uint64_t step;
        uint8_t *data = vhost_mem_guest(mem, addr, size_bytes, &step);
        if (data == NULL) {
            chain->unmapped = true;
            return;
        }
        chain->status = data + step - 1;
        if (chain->piece_count == VHOST_PIECES_MAX) {
            chain->unmapped = true; /* But the status may be found. */
        } else {
            chain->pieces[chain->piece_count++] = (struct vhost_piece){
                .data = data,
                .size_bytes = (uint32_t)step,
            };
        }
        addr += step;
        size_bytes -= (uint32_t)step;
        if (size_bytes > 0 && addr == 0) {
            chain->unmapped = true; /* Beyond the top of the address space. */
            chain->status = NULL;
            return;
        }
    }
}

static const char *
vhost_chain_enter(struct vhost_walk *walk, const struct vring_desc *desc,
                  uint32_t ring_num)
{
    uint32_t bytes = le32_get(desc->size_bytes);
    uint32_t count = bytes / (uint32_t)sizeof *desc;
    uint32_t count_max =
        ring_num > VHOST_SEG_MAX + 2u ? ring_num : VHOST_SEG_MAX + 2u;

    if (walk->table == NULL) {
        return "an indirect table inside another";
    }
    if ((le16_get(desc->flags) & VRING_DESC_NEXT) != 0) {
        return "an indirect descriptor with a next one";
    }
    if (bytes == 0 || bytes % sizeof *desc != 0 || count > count_max) {
        return "an indirect table of no sound size";
    }
    walk->table = NULL;
    walk->indirect_addr = le64_get(desc->addr);
    walk->table_count = count;
    return NULL;
}

static const char *
vhost_chain_step(struct vhost_walk *walk, struct vhost_chain *chain,
                 const struct vring_desc *desc)
{
    uint32_t size = le32_get(desc->size_bytes);

    if ((le16_get(desc->flags) & VRING_DESC_WRITE) != 0) {
        walk->saw_writable = true;
        chain->in_segments++;
        chain->in_bytes += size;
        if (size > 0) {
            vhost_chain_add(chain, walk->mem, le64_get(desc->addr), size);
        }
        return NULL;
    }
    if (walk->saw_writable) {
        return "a readable descriptor behind a writable one";
    }
    chain->out_segments++;
    chain->out_bytes += size;
    if (size > 0) {
        vhost_chain_add(chain, walk->mem, le64_get(desc->addr), size);
        chain->status = NULL;
    }
    chain->out_pieces = chain->piece_count;
    return NULL;
}

const char *
vhost_chain_read(const struct vhost_ring *ring, const struct vhost_mem *mem,
                 uint16_t head, struct vhost_chain *ret_chain)
{
    struct vhost_walk walk = {
        .mem = mem,
        .table = ring->desc,
        .table_count = ring->num,
    };
    struct vhost_chain *chain = ret_chain;
    uint32_t index = head;
    uint32_t steps = 0;
    struct vring_desc desc;
    const char *why;

    chain->piece_count = chain->out_pieces = 0;
    chain->out_segments = chain->in_segments = 0;
    chain->out_bytes = chain->in_bytes = 0;
    chain->status = NULL;
    chain->unmapped = false;
    for (;;) {
        if (index >= walk.table_count) {
            return "a descriptor beyond its table";
        }
        if (steps++ == walk.table_count) {
            return "a chain that is a loop";
        }
        if (!vhost_walk_desc(&walk, index, &desc)) {
            return "an indirect table outside the shared memory";
        }
        uint16_t flags = le16_get(desc.flags);
        if ((flags & VRING_DESC_INDIRECT) != 0) {
            why = ring->indirect
                      ? vhost_chain_enter(&walk, &desc, ring->num)
                      : "an indirect descriptor, which was not negotiated";
            if (why != NULL) {
                return why;
            }
            index = 0;
            steps = 0;
            continue;
        }
        why = vhost_chain_step(&walk, chain, &desc);
        if (why != NULL) {
            return why;
        }
        if ((flags & VRING_DESC_NEXT) == 0) {
            break;
        }
        index = le16_get(desc.next);
    }
    return NULL;
}

/* ---- Bytes ---- */

/* The next piece of at most 'size_bytes' at the cursor, which moves on. */
static struct vhost_piece
vhost_cursor_next(const struct vhost_chain *chain, struct vhost_cursor *cursor,
                  uint64_t size_bytes)
{
    CHECK(cursor->piece < chain->piece_count);
    const struct vhost_piece *piece = &chain->pieces[cursor->piece];
    uint32_t left = piece->size_bytes - cursor->offset;
    struct vhost_piece part = {
        .data = piece->data + cursor->offset,
        .size_bytes = size_bytes < left ? (uint32_t)size_bytes : left,
    };

    cursor->offset += part.size_bytes;
    if (cursor->offset == piece->size_bytes) {
        cursor->piece++;
        cursor->offset = 0;
    }
    return part;
}

void
vhost_chain_copy_out(const struct vhost_chain *chain,
                     struct vhost_cursor *cursor, void *data,
                     uint32_t size_bytes)
{
    uint8_t *to = data;

    while (size_bytes > 0) {
        struct vhost_piece part = vhost_cursor_next(chain, cursor, size_bytes);
        memcpy(to, part.data, part.size_bytes);
        to += part.size_bytes;
        size_bytes -= part.size_bytes;
    }
    vhost_copied();
}

void
vhost_chain_to_payload(const struct vhost_chain *chain,
                       struct vhost_cursor *cursor, struct payload *payload,
                       uint32_t size_bytes)
{
    while (size_bytes > 0) {
        struct vhost_piece part = vhost_cursor_next(chain, cursor, size_bytes);
        payload_append(payload, part.data, part.size_bytes);
        size_bytes -= part.size_bytes;
    }
}

void
vhost_chain_copy_in(const struct vhost_chain *chain,
                    struct vhost_cursor *cursor, const void *data,
                    uint32_t size_bytes)
{
    const uint8_t *from = data;

    while (size_bytes > 0) {
        struct vhost_piece part = vhost_cursor_next(chain, cursor, size_bytes);
        memcpy(part.data, from, part.size_bytes);
        from += part.size_bytes;
        size_bytes -= part.size_bytes;
    }
}

void
vhost_chain_skip(const struct vhost_chain *chain, struct vhost_cursor *cursor,
                 uint64_t size_bytes)
{
    while (size_bytes > 0) {
        size_bytes -= vhost_cursor_next(chain, cursor, size_bytes).size_bytes;
    }
}
