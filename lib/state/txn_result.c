/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/state/private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Foreign: libopenvswitch. */
#include <jsonrpc.h>
#include <openvswitch/json.h>

/* Judges the server's reply to a transaction: an array with one result for
 * each operation, and one more when the commit itself failed.  The first that
 * has an "error" is the cause; what follows it is null.
 *
 * What is not known here to leave the database unchanged is UNKNOWN, since
 * "nothing was committed" is a promise on which others build. */

static const char *
member_text(const struct json *object, const char *name)
{
    const struct json *text = shash_find_data(json_object(object), name);
    return text != NULL && text->type == JSON_STRING ? text->string : NULL;
}

/* Finds table and index of a violation in the server's words:
 *
 *     Transaction causes multiple rows in "Volume" table to have identical
 *     values (...) for index on columns "name" and "project".  First row ...
 *
 * The table stands before any value of a row, so it is certain.  Values may
 * imitate the rest; at worst the index is then not recognised. */
static bool
find_index(const char *details, enum state_table *ret_table,
           uint64_t *ret_columns)
{
    static const char mark[] = ") for index on column";
    char text[80];

    for (size_t i = 0; i < STATE_TABLE_COUNT; i++) {
        const struct state_class *class = &state_classes[i];
        snprintf(text, sizeof text,
                 "Transaction causes multiple rows in \"%s\" table",
                 class->name);
        if (strncmp(details, text, strlen(text)) != 0) {
            continue;
        }
        *ret_table = (enum state_table)i;
        *ret_columns = 0;

        const char *at = strstr(details, mark);
        const char *end = at == NULL ? NULL : strchr(at, '.');
        if (end == NULL) {
            return true;
        }
        for (size_t c = 0; c < class->column_count; c++) {
            snprintf(text, sizeof text, "\"%s\"", class->columns[c].name);
            const char *found = strstr(at, text);
            if (found != NULL && found < end) {
                *ret_columns |= UINT64_C(1) << c;
            }
        }
        return true;
    }
    return false;
}

static void
set_error(struct state_txn *txn, const char *tag, const char *details)
{
    snprintf(txn->error, sizeof txn->error, "%s%s%s", tag,
             details == NULL ? "" : ": ", details == NULL ? "" : details);
}

static enum txn_verdict
judge_commit_error(struct state_txn *txn, const char *tag, const char *details,
                   int *ret_result)
{
    if (strcmp(tag, "constraint violation") == 0) {
        if (details != NULL &&
            find_index(details, &txn->conflict_table, &txn->conflict_columns)) {
            *ret_result = -EEXIST;
            return TXN_VERDICT_CONFLICT;
        }
        *ret_result = -EINVAL;
        return TXN_VERDICT_REFUSED;
    }
    if (strcmp(tag, "referential integrity violation") == 0) {
        bool is_in_use =
            details != NULL && strncmp(details, "cannot delete", 13) == 0;
        *ret_result = is_in_use ? -EBUSY : -EINVAL;
        return TXN_VERDICT_REFUSED;
    }
    return TXN_VERDICT_UNKNOWN; /* "I/O error" and the like. */
}

/* 'note' is that of the operation that failed. */
static enum txn_verdict
judge_operation_error(struct state_txn *txn, const struct txn_note *note,
                      const char *tag, const char *details, int *ret_result)
{
    if (strcmp(tag, "timed out") == 0) { /* A "wait". */
        txn->conflict_table = note->table;
        txn->conflict_columns = note->columns;
        *ret_result = -ECANCELED;
        return TXN_VERDICT_CONFLICT;
    }
    if (strcmp(tag, "duplicate uuid") == 0) {
        /* Whatever made this row made the whole transaction. */
        if (state_row_get(txn->owner, note->table, &note->uuid) != NULL) {
            return TXN_VERDICT_COMMITTED;
        }
        txn->conflict_table = note->table;
        txn->conflict_columns = 0;
        *ret_result = -EEXIST;
        return TXN_VERDICT_CONFLICT;
    }
    if (strcmp(tag, "not owner") == 0) {
        *ret_result = -ENOLCK;
        return TXN_VERDICT_REFUSED;
    }
    if (strcmp(tag, "not allowed") == 0 ||
        strcmp(tag, "permission error") == 0) {
        *ret_result = -EACCES;
        return TXN_VERDICT_REFUSED;
    }
    if (strcmp(tag, "unknown database") == 0) {
        return TXN_VERDICT_WRONG_SERVER;
    }
    /* An operation that failed was not committed, whatever it says. */
    enum txn_verdict verdict =
        judge_commit_error(txn, tag, details, ret_result);
    if (verdict == TXN_VERDICT_UNKNOWN) {
        *ret_result = -EINVAL;
        return TXN_VERDICT_REFUSED;
    }
    return verdict;
}

static enum txn_verdict
judge_results(struct state_txn *txn, const struct json *results,
              int *ret_result)
{
    static const struct txn_note no_note;
    const struct state_txn_private *private = txn->private;
    /* Ours, the comment, the commit, and the lock's assert. */
    size_t sent = private->note_count + (txn->comment != NULL) + 1 +
                  txn->owner->has_lock_name;

    for (size_t i = 0; i < results->array.n; i++) {
        const struct json *one = results->array.elems[i];
        if (one->type != JSON_OBJECT) {
            return TXN_VERDICT_UNKNOWN;
        }
        if (shash_find_data(json_object(one), "error") == NULL) {
            continue;
        }
        const char *tag = member_text(one, "error");
        const char *details = member_text(one, "details");
        if (tag == NULL) {
            return TXN_VERDICT_UNKNOWN;
        }
        set_error(txn, tag, details);
        if (i >= sent) {
            return judge_commit_error(txn, tag, details, ret_result);
        }
        return judge_operation_error(txn,
                                     i < private->note_count
                                         ? &private->notes[i]
                                         : &no_note,
                                     tag, details, ret_result);
    }
    return results->array.n == sent ? TXN_VERDICT_COMMITTED
                                    : TXN_VERDICT_UNKNOWN;
}

enum txn_verdict
txn_result_judge(struct state_txn *txn, const struct jsonrpc_msg *reply,
                 int *ret_result)
{
    if (reply->type == JSONRPC_REPLY && reply->result != NULL &&
        reply->result->type == JSON_ARRAY) {
        return judge_results(txn, reply->result, ret_result);
    }

    const struct json *error = reply->error;
    if (error != NULL && error->type == JSON_OBJECT) {
        const char *tag = member_text(error, "error");
        if (tag != NULL && strcmp(tag, "unknown database") == 0) {
            return TXN_VERDICT_WRONG_SERVER;
        }
    }
    /* "canceled": the database was closed or converted, perhaps between the
     * commit and the answer. */
    set_error(txn, "the server gave up",
              error != NULL && error->type == JSON_STRING ? error->string
                                                          : NULL);
    return TXN_VERDICT_UNKNOWN;
}
