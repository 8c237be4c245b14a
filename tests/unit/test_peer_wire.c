/* SPDX-License-Identifier: Apache-2.0 */

/* blockd/peer: wire.h against docs/peer-protocol.md, codec, parser, pages. */

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blockd/peer/codec.h"
#include "blockd/peer/pages.h"
#include "blockd/peer/parser.h"
#include "lib/base/array.h"
#include "lib/base/crc32c.h"
#include "lib/base/rng.h"

/* ---- The document ---- */

static char *document; /* The text. */

struct field {
    const char *structure;
    const char *field;
    size_t offset, size;
};

#define FIELD(structure, field)                                \
    {                                                          \
#structure, #field, offsetof(struct structure, field), \
            sizeof(((struct structure *)NULL)->field)          \
    }

static const struct field fields[] = {
    FIELD(peer_header, magic),
    FIELD(peer_header, kind),
    FIELD(peer_header, version),
    FIELD(peer_header, opcode),
    FIELD(peer_header, id),
    FIELD(peer_header, meta_bytes),
    FIELD(peer_header, data_bytes),
    FIELD(peer_header, meta_crc),
    FIELD(peer_header, header_crc),
    FIELD(peer_hello, version_min),
    FIELD(peer_hello, version_max),
    FIELD(peer_hello, reserved0),
    FIELD(peer_hello, features),
    FIELD(peer_hello, cluster),
    FIELD(peer_hello, disk),
    FIELD(peer_hello, instance),
    FIELD(peer_hello, link),
    FIELD(peer_hello, reserved1),
    FIELD(peer_hello, host),
    FIELD(peer_welcome, version),
    FIELD(peer_welcome, reserved),
    FIELD(peer_welcome, window_requests),
    FIELD(peer_welcome, features),
    FIELD(peer_welcome, window_bytes),
    FIELD(peer_welcome, silence_ms),
    FIELD(peer_welcome, disk),
    FIELD(peer_welcome, instance),
    FIELD(peer_welcome, host),
    FIELD(peer_bye, status),
    FIELD(peer_bye, reserved),
    FIELD(peer_bye, text),
    FIELD(peer_request, replica),
    FIELD(peer_request, session),
    FIELD(peer_request, sequence),
    FIELD(peer_request, block),
    FIELD(peer_request, block_count),
    FIELD(peer_request, epoch),
    FIELD(peer_request, layer),
    FIELD(peer_request, flags),
    FIELD(peer_request, entries_max),
    FIELD(peer_request, reserved),
    FIELD(peer_membership, epoch),
    FIELD(peer_membership, in_sync_count),
    FIELD(peer_membership, view),
    FIELD(peer_membership, in_sync),
    FIELD(peer_create, volume),
    FIELD(peer_create, mirror_index),
    FIELD(peer_create, reserved),
    FIELD(peer_create, size_blocks),
    FIELD(peer_create, membership),
    FIELD(peer_reply, status),
    FIELD(peer_reply, epoch),
    FIELD(peer_reply, count),
    FIELD(peer_reply, flags),
    FIELD(peer_reply, value),
    FIELD(peer_reply, data_crc),
    FIELD(peer_reply, reserved),
    FIELD(peer_fenced, session),
    FIELD(peer_fenced, incarnation),
    FIELD(peer_fenced, known_good),
    FIELD(peer_fenced, max_sequence),
    FIELD(peer_fenced, session_incarnation),
    FIELD(peer_fenced, slot_blocks),
    FIELD(peer_fenced, reserved),
    FIELD(peer_fenced, membership),
    FIELD(peer_entry, slot_index),
    FIELD(peer_entry, sequence),
    FIELD(peer_entry, digest),
    FIELD(peer_credit, requests),
    FIELD(peer_credit, bytes),
};

struct constant {
    const char *name;
    uint64_t value;
};

#define CONSTANT(name) \
    {                  \
#name, name    \
    }

static const struct constant constants[] = {
    CONSTANT(PEER_MAGIC),
    CONSTANT(PEER_VERSION_MIN),
    CONSTANT(PEER_VERSION_MAX),
    CONSTANT(PEER_FEATURES),
    CONSTANT(PEER_HOST_SIZE),
    CONSTANT(PEER_TEXT_SIZE),
    CONSTANT(PEER_DATA_BYTES_MAX),
    CONSTANT(PEER_META_BYTES_MAX),
    CONSTANT(PEER_ENTRIES_MAX),
    CONSTANT(PEER_WINDOW_REQUESTS_MAX),
    CONSTANT(PEER_WINDOW_BYTES_MAX),
    CONSTANT(PEER_BLOCK_MAX),
    CONSTANT(STORE_REQ_BLOCKS_MAX),
    CONSTANT(STORE_REPLICAS_MAX),
    CONSTANT(STORE_EPOCH_MAX),
    CONSTANT(WEFT_BLOCK_SIZE),
};

/* Rows "| number | `name` |". */
static const struct constant numbers[] = {
    CONSTANT(PEER_HELLO),
    CONSTANT(PEER_WELCOME),
    CONSTANT(PEER_REQUEST),
    CONSTANT(PEER_REPLY),
    CONSTANT(PEER_PING),
    CONSTANT(PEER_PONG),
    CONSTANT(PEER_CREDIT),
    CONSTANT(PEER_BYE),
    CONSTANT(STORE_READ),
    CONSTANT(STORE_WRITE),
    CONSTANT(STORE_DISCARD),
    CONSTANT(STORE_FLUSH),
    CONSTANT(STORE_FENCE),
    CONSTANT(STORE_LIST),
    CONSTANT(STORE_PUT_SLOT),
    CONSTANT(STORE_SET_VIEW),
    CONSTANT(STORE_CREATE),
    CONSTANT(STORE_REMOVE),
    CONSTANT(STORE_BLOCK_ABSENT),
    CONSTANT(STORE_BLOCK_DATA),
    CONSTANT(STORE_BLOCK_ZERO),
    CONSTANT(STORE_BLOCK_SUSPECT),
    CONSTANT(STORE_BLOCK_BAD),
    CONSTANT(PEER_OK),
    CONSTANT(PEER_E_NO_REPLICA),
    CONSTANT(PEER_E_STALE),
    CONSTANT(PEER_E_NO_SPACE),
    CONSTANT(PEER_E_IO),
    CONSTANT(PEER_E_BAD_DATA),
    CONSTANT(PEER_E_INVALID),
    CONSTANT(PEER_E_NOT_CONNECTED),
    CONSTANT(PEER_E_TIMED_OUT),
    CONSTANT(PEER_E_SHUTDOWN),
    CONSTANT(PEER_E_EXISTS),
    CONSTANT(PEER_E_PROTOCOL),
    CONSTANT(PEER_E_VERSION),
    CONSTANT(PEER_E_CLUSTER),
    CONSTANT(PEER_E_NO_DISK),
    CONSTANT(PEER_E_BUSY),
    CONSTANT(PEER_E_NO_MEMORY),
    CONSTANT(PEER_E_NOT_SUPPORTED),
    CONSTANT(PEER_E_AGAIN),
};

static uint32_t
count_rows(const char *begin, const char *end)
{
    uint32_t rows = 0;

    for (const char *at = begin; (at = strstr(at, "\n| ")) != NULL && at < end;
         at++) {
        rows += at[3] >= '0' && at[3] <= '9';
    }
    return rows;
}

/* The part of the text under the heading of 'structure'. */
static const char *
find_section(const char *structure, const char **ret_end)
{
    char heading[64];

    snprintf(heading, sizeof heading, "(`%s`)\n", structure);
    const char *begin = strstr(document, heading);
    if (begin == NULL) {
        fail_msg("no section for %s", structure);
        abort();
    }
    const char *end = strstr(begin + 1, "\n#");
    *ret_end = end != NULL ? end : begin + strlen(begin);
    return begin;
}

static void
expect_row(const char *begin, const char *end, const char *row)
{
    const char *found = strstr(begin, row);

    if (found == NULL || found >= end) {
        fail_msg("no row \"%s\"", row + 1);
    }
}

static void
test_fields(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ARRAY_COUNT(fields); i++) {
        const char *end;
        const char *begin = find_section(fields[i].structure, &end);
        char row[128];
        uint32_t count = 0;

        snprintf(row, sizeof row, "\n| %zu | %zu | `%s` |", fields[i].offset,
                 fields[i].size, fields[i].field);
        expect_row(begin, end, row);
        size_t size = 0;
        for (uint32_t j = 0; j < ARRAY_COUNT(fields); j++) {
            if (strcmp(fields[j].structure, fields[i].structure) == 0) {
                count++;
                size += fields[j].size;
            }
        }
        /* Nothing is documented that is not there; there is no padding. */
        assert_int_equal(count_rows(begin, end), count);
        if (strcmp(fields[i].structure, "peer_header") != 0) {
            snprintf(row, sizeof row, "\n%zu bytes.\n", size);
            expect_row(begin, end, row);
        }
    }
}

static void
test_constants(void **state)
{
    char row[128];

    (void)state;
    for (uint32_t i = 0; i < ARRAY_COUNT(constants); i++) {
        snprintf(row, sizeof row, "\n| `%s` | ", constants[i].name);
        const char *found = strstr(document, row);
        if (found == NULL) {
            fail_msg("%s is not documented", constants[i].name);
            return;
        }
        assert_true(strtoull(found + strlen(row), NULL, 0) ==
                    constants[i].value);
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        snprintf(row, sizeof row, "\n| %llu | `%s` |",
                 (unsigned long long)numbers[i].value, numbers[i].name);
        expect_row(document, document + strlen(document), row);
    }
    for (uint32_t status = 0; status < PEER_STATUS_COUNT; status++) {
        snprintf(row, sizeof row, "` | %s |", peer_status_name(status));
        expect_row(document, document + strlen(document), row);
    }
    const char *end;
    const char *begin = find_section("peer_entry", &end);
    begin = strstr(begin, "### Statuses");
    assert_non_null(begin);
    assert_int_equal(count_rows(begin, strstr(begin, "\n## ")),
                     PEER_STATUS_COUNT);
}

/* ---- Errors ---- */

static void
test_statuses(void **state)
{
    int result;

    (void)state;
    for (uint32_t status = 0; status < PEER_STATUS_COUNT; status++) {
        assert_int_equal(peer_status_result(status, &result), 0);
        assert_true(status == 0 ? result == 0 : result < 0);
        assert_int_equal(peer_status_of(result), status);
    }
    assert_int_equal(peer_status_result(PEER_STATUS_COUNT, &result), -EPROTO);
    assert_int_equal(peer_status_result(UINT32_MAX, &result), -EPROTO);
    assert_null(peer_status_name(PEER_STATUS_COUNT));
    assert_int_equal(peer_status_of(-EXDEV), PEER_E_IO);
    assert_int_equal(peer_status_of(5), PEER_E_IO);
}

/* ---- Header ---- */

static void
test_header(void **state)
{
    struct peer_head head = {
        .kind = PEER_REPLY,
        .version = 1,
        .opcode = STORE_LIST,
        .id = 0x0123456789abcdef,
        .meta_bytes = PEER_META_BYTES_MAX,
        .data_bytes = PEER_DATA_BYTES_MAX,
        .meta_crc = 0xdeadbeef,
    };
    uint8_t bytes[PEER_HEADER_BYTES];
    struct peer_head back;
    const char *why = NULL;

    (void)state;
    peer_head_encode(&head, bytes);
    assert_memory_equal(bytes, "WFTP\x04\x01\x06\x00\xef\xcd\xab\x89", 12);
    assert_int_equal(peer_head_decode(bytes, &back, &why), 0);
    assert_int_equal(back.kind, head.kind);
    assert_int_equal(back.version, head.version);
    assert_int_equal(back.opcode, head.opcode);
    assert_int_equal(back.id, head.id);
    assert_int_equal(back.meta_bytes, head.meta_bytes);
    assert_int_equal(back.data_bytes, head.data_bytes);
    assert_int_equal(back.meta_crc, head.meta_crc);
    for (uint32_t bit = 0; bit < 8 * PEER_HEADER_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        why = NULL;
        assert_int_equal(peer_head_decode(bytes, &back, &why), -EPROTO);
        assert_non_null(why);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    head.meta_bytes++;
    peer_head_encode(&head, bytes);
    assert_int_equal(peer_head_decode(bytes, &back, &why), -EPROTO);
    head.meta_bytes--;
    head.data_bytes++;
    peer_head_encode(&head, bytes);
    assert_int_equal(peer_head_decode(bytes, &back, &why), -EPROTO);
    head.data_bytes = 0;
    head.kind = (enum peer_kind)9;
    peer_head_encode(&head, bytes);
    assert_int_equal(peer_head_decode(bytes, &back, &why), -EPROTO);
    head.kind = (enum peer_kind)0;
    peer_head_encode(&head, bytes);
    assert_int_equal(peer_head_decode(bytes, &back, &why), -EPROTO);
}

/* ---- Codec: limits of counts ---- */

static int
shape_of(uint16_t opcode, uint32_t block_count, uint32_t entries_max,
         uint32_t meta_extra, uint32_t data_bytes)
{
    static uint8_t meta[PEER_META_BYTES_MAX + 1];
    struct peer_request request;
    struct peer_shape shape;
    struct peer_head head = {
        .kind = PEER_REQUEST,
        .opcode = opcode,
        .meta_bytes = peer_request_fixed_bytes(opcode) + meta_extra,
        .data_bytes = data_bytes,
    };

    memset(meta, 0, sizeof meta);
    memset(&request, 0, sizeof request);
    request.block_count = le32_make(block_count);
    request.entries_max = le32_make(entries_max);
    memcpy(meta, &request, sizeof request);
    return peer_request_shape(&head, meta, &shape);
}

static void
test_shapes(void **state)
{
    (void)state;
    assert_int_equal(shape_of(0, 1, 0, 0, 0), -EPROTO);
    assert_int_equal(shape_of(11, 1, 0, 64, 0), -EPROTO);
    assert_int_equal(shape_of(STORE_READ, 1, 0, 0, 0), 0);
    assert_int_equal(shape_of(STORE_READ, 256, 0, 0, 0), 0);
    assert_int_equal(shape_of(STORE_READ, 0, 0, 0, 0), -EPROTO);
    assert_int_equal(shape_of(STORE_READ, 257, 0, 0, 0), -EPROTO);
    assert_int_equal(shape_of(STORE_READ, 1, 0, 1, 0), -EPROTO);
    assert_int_equal(shape_of(STORE_READ, 1, 0, 0, 4096), -EPROTO);
    assert_int_equal(shape_of(STORE_WRITE, 2, 0, 8, 8192), 0);
    assert_int_equal(shape_of(STORE_WRITE, 2, 0, 8, 8191), -EPROTO);
    assert_int_equal(shape_of(STORE_WRITE, 2, 0, 7, 8192), -EPROTO);
    assert_int_equal(shape_of(STORE_WRITE, UINT32_MAX, 0, 8, 8192), -EPROTO);
    assert_int_equal(shape_of(STORE_PUT_SLOT, 2, 0, 10, 0), 0);
    assert_int_equal(shape_of(STORE_PUT_SLOT, 2, 0, 10, 4096), -EPROTO);
    assert_int_equal(shape_of(STORE_PUT_SLOT, 257, 0, 1285, 0), -EPROTO);
    assert_int_equal(shape_of(STORE_LIST, 1, 1, 0, 0), 0);
    assert_int_equal(shape_of(STORE_LIST, 1, 0, 0, 0), -EPROTO);
    assert_int_equal(shape_of(STORE_LIST, 1, PEER_ENTRIES_MAX, 0, 0), 0);
    assert_int_equal(shape_of(STORE_LIST, 1, PEER_ENTRIES_MAX + 1, 0, 0),
                     -EPROTO);
    assert_int_equal(shape_of(STORE_DISCARD, UINT32_MAX, 0, 0, 0), 0);
    assert_int_equal(shape_of(STORE_FENCE, 0, 0, 0, 0), 0);
    assert_int_equal(shape_of(STORE_CREATE, 0, 0, 1, 0), -EPROTO);
}

/* ---- Parser ---- */

#define STREAM_BYTES 40000u

/* Any cutting of a stream gives the same messages. */
static void
test_parser(void **state)
{
    static uint8_t stream[STREAM_BYTES];
    uint32_t meta_sizes[64];
    uint32_t data_sizes[64];
    struct rng rng;
    uint32_t used = 0;
    uint32_t count = 0;

    (void)state;
    rng_init(&rng, 1);
    while (count < 64) {
        struct peer_head head = {
            .kind = PEER_REPLY,
            .id = count,
            .meta_bytes =
                rng_chance(&rng, 1, 3) ? 0 : (uint32_t)rng_below(&rng, 300),
            .data_bytes =
                rng_chance(&rng, 1, 2) ? 0 : (uint32_t)rng_below(&rng, 900),
        };
        uint32_t body = head.meta_bytes + head.data_bytes;
        uint8_t *at = stream + used;
        if (used + PEER_HEADER_BYTES + body > STREAM_BYTES) {
            break;
        }
        rng_fill(&rng, at + PEER_HEADER_BYTES, body);
        head.meta_crc = head.meta_bytes == 0 ? 0
                                             : crc32c(0, at + PEER_HEADER_BYTES,
                                                      head.meta_bytes);
        peer_head_encode(&head, at);
        meta_sizes[count] = head.meta_bytes;
        data_sizes[count] = head.data_bytes;
        used += PEER_HEADER_BYTES + body;
        count++;
    }
    for (uint32_t round = 0; round < 300; round++) {
        struct peer_parser parser;
        uint32_t at = 0;
        uint32_t seen = 0;
        uint32_t position = 0; /* In the stream, of what was given out. */

        peer_parser_init(&parser);
        while (at < used) {
            uint32_t scale = round % 12 + 1;
            uint32_t size = (uint32_t)rng_between(&rng, 1, 1u << scale);
            size = size < used - at ? size : used - at;
            const uint8_t *data = stream + at;
            enum peer_step step;
            at += size;
            while ((step = peer_parser_step(&parser, &data, &size)) !=
                   PEER_STEP_MORE) {
                if (step == PEER_STEP_HEAD && rng_chance(&rng, 1, 3)) {
                    peer_parser_hold(&parser);
                    step = peer_parser_step(&parser, &data, &size);
                    assert_int_equal(step, PEER_STEP_HEAD);
                }
                if (step == PEER_STEP_HEAD) {
                    assert_int_equal(parser.head.id, seen);
                    assert_int_equal(parser.head.meta_bytes, meta_sizes[seen]);
                    assert_int_equal(parser.data_left, data_sizes[seen]);
                    position += PEER_HEADER_BYTES;
                    assert_memory_equal(parser.meta, stream + position,
                                        meta_sizes[seen]);
                    position += meta_sizes[seen];
                    seen++;
                } else {
                    assert_int_equal(step, PEER_STEP_DATA);
                    assert_true(parser.chunk_bytes != 0);
                    assert_memory_equal(parser.chunk, stream + position,
                                        parser.chunk_bytes);
                    position += parser.chunk_bytes;
                }
            }
            assert_int_equal(size, 0);
        }
        assert_int_equal(seen, count);
        assert_int_equal(position, used);
    }
}

/* ---- Pages ---- */

static _Alignas(4096) uint8_t arena[8u << 20];

static void *
arena_alloc(struct io *io, size_t size)
{
    (void)io;
    return size <= sizeof arena ? arena : NULL;
}

static const struct io_vtable arena_vtable = { .arena_alloc = arena_alloc };

static void
test_pages(void **state)
{
    struct io io = { &arena_vtable };
    uint8_t *runs[4096];
    uint32_t sizes[4096];
    uint32_t count = 0;
    struct pages pages;
    struct rng rng;

    (void)state;
    rng_init(&rng, 9);
    assert_int_equal(pages_init(&pages, &io, 16u << 20), -ENOMEM);
    assert_int_equal(pages_init(&pages, &io, sizeof arena), 0);
    for (uint32_t round = 0; round < 20000; round++) {
        if (rng_chance(&rng, 11, 20)) {
            uint32_t size =
                (uint32_t)rng_between(&rng, 1,
                                      UINT64_C(1) << rng_between(&rng, 0, 20));
            uint8_t *run = pages_get(&pages, size);
            if (run == NULL) {
                continue;
            }
            assert_true((uintptr_t)run % 4096 == 0);
            assert_true(run + size <= arena + sizeof arena);
            memset(run, (int)(count & 0xff), size);
            runs[count] = run;
            sizes[count] = size;
            count++;
        } else if (count != 0) {
            uint32_t i = (uint32_t)rng_below(&rng, count);
            uint8_t mark = runs[i][0];
            for (uint32_t b = 0; b < sizes[i]; b += 512) {
                assert_int_equal(runs[i][b], mark); /* Nobody else's. */
            }
            pages_put(&pages, runs[i]);
            count--;
            runs[i] = runs[count];
            sizes[i] = sizes[count];
        }
    }
    while (count != 0) {
        count--;
        pages_put(&pages, runs[count]);
    }
    assert_int_equal(pages.used_count, 0);
    for (uint32_t i = 0; i < 8; i++) { /* All has grown together. */
        assert_non_null(pages_get(&pages, 1u << 20));
    }
    assert_null(pages_get(&pages, 1));
    pages_done(&pages);
}

static char *
read_document(const char *path)
{
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        return NULL;
    }
    char *text = calloc(1, 1 << 20);
    if (text != NULL && fread(text, 1, (1 << 20) - 1, file) == 0) {
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),   cmocka_unit_test(test_constants),
        cmocka_unit_test(test_statuses), cmocka_unit_test(test_header),
        cmocka_unit_test(test_shapes),   cmocka_unit_test(test_parser),
        cmocka_unit_test(test_pages),
    };

    document = read_document(argc == 2 ? argv[1] : "docs/peer-protocol.md");
    if (document == NULL) {
        fprintf(stderr, "usage: test_peer_wire docs/peer-protocol.md\n");
        return 2;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(document);
    return failed;
}
