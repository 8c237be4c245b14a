/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_STATE_CODEC_H
#define LIB_STATE_CODEC_H

/* Between rows and the JSON of the OVSDB protocol (RFC 7047 section 5.1).
 * Private to lib/state. */

#include <stdbool.h>

#include "lib/base/check.h"
#include "lib/state/row_class.h"

struct json; /* libopenvswitch's. */

/* Sets a column of 'row' from a <value>, or with 'is_diff' from the difference
 * that an "update2" or "update3" carries: of a scalar the new value, of a set
 * the members that come or go, of a map the pairs that come, change or go.
 * -EBADMSG: the server sent what the schema does not allow; the column may
 * then have any valid value. */
WEFT_MUST_CHECK int codec_read(struct state_row *row,
                               const struct state_column *column,
                               const struct json *value, bool is_diff);

/* The same from a text, for tests, which know nothing of 'struct json'. */
WEFT_MUST_CHECK int codec_read_text(struct state_row *row,
                                    const struct state_column *column,
                                    const char *text, bool is_diff);

/* The <value> of a column.  Enums must be known ones. */
struct json *codec_write(const struct state_row *row,
                         const struct state_column *column);

/* A map column's keys, as a <set>; of a set the set itself. */
struct json *codec_write_keys(const struct state_row *row,
                              const struct state_column *column);

/* ["uuid", "..."] */
struct json *codec_write_uuid(const struct weft_uuid *uuid);

#endif /* LIB_STATE_CODEC_H */
