/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_ROW_H
#define LIB_STATE_ROW_H

/* Rows of the Weft database as plain values.
 *
 * Each table has a structure, 'struct state_<table>' in the generated
 * lib/state/values.h, that begins with a 'struct state_row'.  Code that works
 * on any table takes '&volume->row' and turns it back by
 * state_<table>_from(), which checks the table.
 *
 * A value is in one of two conditions, which its owner knows:
 *
 *   (1) owned by lib/state: complete, sets sorted, strings never NULL.  The
 *       users see it by a const pointer, valid until the next state_run()
 *       (that is: not across a return to the loop).
 *   (2) made by the user, for a transaction: any members that the column mask
 *       does not name may be garbage, strings may be NULL (""), sets need no
 *       order.  lib/state copies what it needs before it returns.
 *
 * A clone is like (1), but belongs to whoever made it: state_row_free(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/check.h"
#include "lib/base/uuid.h"
#include "lib/state/tables.h"

struct state_row {
    enum state_table table;
    struct weft_uuid uuid; /* The row's own, its _uuid in the database. */
};

struct state_pair_uuid_uuid {
    struct weft_uuid key;
    struct weft_uuid value;
};

struct state_pair_string_string {
    const char *key;
    const char *value;
};

struct state_pair_int_int {
    int64_t key;
    int64_t value;
};

/* "Volume" */
const char *state_table_name(enum state_table table);

/* A deep copy.  Aborts when memory is out, as all of lib/state does. */
struct state_row *state_row_clone(const struct state_row *row);

/* Frees a clone; accepts NULL. */
void state_row_free(struct state_row *row);

/* A row as one line of JSON, {"column": value, ...} in the protocol's notation,
 * for free(): to be kept in a file. */
char *state_row_encode(const struct state_row *row);
/* The other way round; columns that 'text' does not have get their defaults,
 * those that the schema does not have are left out.  A clone.  -EBADMSG. */
WEFT_MUST_CHECK int state_row_decode(enum state_table table,
                                     const struct weft_uuid *uuid,
                                     const char *text,
                                     struct state_row **ret_row);

/* The columns (a mask) in which two rows of one table differ, both as of (1)
 * or clones.  The row's own UUID is not looked at. */
WEFT_MUST_CHECK uint64_t state_row_difference(const struct state_row *a,
                                              const struct state_row *b);

/* "name,size_bytes" for a mask of columns: for messages.  Cut to 'size'. */
void state_row_format_columns(enum state_table table, uint64_t columns,
                              char *ret_text, size_t size);

/* Membership in sets and maps of up to a few dozen members. */
bool state_uuids_contain(const struct weft_uuid *uuids, size_t count,
                         const struct weft_uuid *wanted);
/* The value, or NULL. */
const struct weft_uuid *
state_pairs_find(const struct state_pair_uuid_uuid *pairs, size_t count,
                 const struct weft_uuid *key);
const char *state_options_find(const struct state_pair_string_string *pairs,
                               size_t count, const char *key);

/* A UUID that is always the same for the same two texts (RFC 9562 version 5):
 * what makes an insert idempotent.  'purpose' tells the rows of one request
 * apart ("volume", "mirror/0"). */
void state_uuid_derive(const char *request_id, const char *purpose,
                       struct weft_uuid *ret_uuid);

/* A random UUID, from the kernel. */
void state_uuid_random(struct weft_uuid *ret_uuid);

#endif /* LIB_STATE_ROW_H */
