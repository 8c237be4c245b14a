/* SPDX-License-Identifier: Apache-2.0 */
#include "service/reply_arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_SIZE 16384u

struct reply_chunk {
    struct reply_chunk *next;
    size_t used, size;
    _Alignas(max_align_t) unsigned char memory[];
};

void *
reply_alloc(struct reply_arena *arena, size_t size)
{
    size_t rounded = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) *
                     sizeof(max_align_t);
    struct reply_chunk *chunk = arena->chunks;

    if (chunk == NULL || chunk->size - chunk->used < rounded) {
        size_t room = rounded > CHUNK_SIZE ? rounded : CHUNK_SIZE;
        chunk = calloc(1, sizeof *chunk + room);
        CHECK(chunk != NULL);
        chunk->size = room;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    void *memory = chunk->memory + chunk->used;
    chunk->used += rounded;
    return memory;
}

char *
reply_text(struct reply_arena *arena, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(size >= 0);
    char *text = reply_alloc(arena, (size_t)size + 1);
    (void)vsnprintf(text, (size_t)size + 1, format, again);
    va_end(again);
    return text;
}

char *
reply_uuid(struct reply_arena *arena, const struct weft_uuid *uuid)
{
    char *text = reply_alloc(arena, UUID_TEXT_SIZE);

    uuid_format(uuid, text);
    return text;
}

void
reply_free(struct reply_arena *arena)
{
    while (arena->chunks != NULL) {
        struct reply_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
}
