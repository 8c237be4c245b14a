/* SPDX-License-Identifier: Apache-2.0 */

/* The reactor's side of one disk. */

#include <errno.h>
#include <string.h>

#include "blockd/cluster/plane_internal.h"
#include "lib/base/container_of.h"

static void plane_disk_open_store(struct plane_disk *pd);

static struct plane_disk *
plane_disk_of(struct hop *hop)
{
    return container_of(hop, struct plane_disk, hop);
}

/* ---- Open ---- */

static void
plane_disk_fail(struct plane_disk *pd, int result)
{
    pd->result = result;
    if (pd->file != NULL) {
        io_file_close(pd->plane->io, pd->file);
        pd->file = NULL;
    }
    hop_return(&pd->hop);
}

static void
plane_disk_refused(struct store_close *op)
{
    struct plane_disk *pd = container_of(op, struct plane_disk, close);

    pd->store = NULL;
    pd->result = -EPERM;
    hop_return(&pd->hop);
}

/* Why a store that opened well is not ours, or NULL. */
static const char *
plane_disk_objection(const struct plane_disk *pd)
{
    const struct store_info *info = &pd->info;

    if (!uuid_equal(&pd->row_claim, &info->claim_current) &&
        !uuid_equal(&pd->row_claim, &info->claim_previous) &&
        (uuid_is_nil(&info->claim_next) ||
         !uuid_equal(&pd->row_claim, &info->claim_next))) {
        return "its claim is not the one in the database: it is an old copy, "
               "or was served elsewhere since";
    }
    return NULL;
}

static void
plane_disk_claimed(struct store_claim *op, int result)
{
    struct plane_disk *pd = container_of(op, struct plane_disk, claim);

    pd->result = result;
    if (result != 0) {
        err_set(&pd->err, "%s: the superblock cannot be written: %s", pd->path,
                strerror(-result));
    }
    hop_return(&pd->hop);
}

static void
plane_disk_claim(struct plane_disk *pd, bool committed)
{
    pd->claim = (struct store_claim){
        .store = pd->store,
        .next = pd->next_claim,
        .committed = committed,
        .done = plane_disk_claimed,
    };
    store_claim_start(&pd->claim);
}

/* The store is open: is it ours, and under which claim? */
static void
plane_disk_check(struct plane_disk *pd)
{
    store_info_get(pd->store, &pd->info);
    const char *objection = plane_disk_objection(pd);
    if (objection != NULL) {
        err_set(&pd->err, "%s: %s", pd->path, objection);
        pd->close.store = pd->store;
        pd->close.done = plane_disk_refused;
        store_close_start(&pd->close);
        return;
    }
    if (pd->is_resume) {
        hop_return(&pd->hop);
        return;
    }
    /* The transaction for a claim that was not settled may be committed, or be
     * committed yet.  With another one we would then refuse our own disk. */
    if (!uuid_is_nil(&pd->info.claim_next)) {
        pd->next_claim = pd->info.claim_next;
    }
    plane_disk_claim(pd, false);
}

static void
plane_disk_opened(struct store_open *op, int result)
{
    struct plane_disk *pd = container_of(op, struct plane_disk, open);

    if (result == -EMEDIUMTYPE && pd->may_format && !pd->is_formatted) {
        plane_disk_open_store(pd); /* Formats first. */
        return;
    }
    if (result == -EIO) {
        pd->lost_writes = true; /* S6: the next open begins an incarnation. */
    }
    if (result != 0) {
        err_set(&pd->err, "%s: %s", pd->path,
                op->err.text[0] != '\0' ? op->err.text : strerror(-result));
        plane_disk_fail(pd, result == -EMEDIUMTYPE || result == -EPROTO ||
                                    result == -EUCLEAN
                                ? -EPERM
                                : result);
        return;
    }
    pd->file = NULL; /* The store's. */
    pd->lost_writes = false;
    pd->store = op->store;
    plane_disk_check(pd);
}

static void
plane_disk_load(struct plane_disk *pd)
{
    pd->open = (struct store_open){
        .io = pd->plane->io,
        .file = pd->file,
        .options = { .boot_id = pd->boot_id,
                     .disk = pd->disk,
                     .cluster = pd->cloud,
                     .lost_writes = pd->lost_writes },
        .done = plane_disk_opened,
    };
    store_open_start(&pd->open);
}

static void
plane_disk_formatted(struct store_format *op, int result)
{
    struct plane_disk *pd = container_of(op, struct plane_disk, format);

    if (result != 0) {
        err_set(&pd->err, "%s: %s", pd->path,
                op->err.text[0] != '\0' ? op->err.text : strerror(-result));
        plane_disk_fail(pd, result == -EEXIST || result == -ENOSPC ? -EPERM
                                                                   : result);
        return;
    }
    pd->is_formatted = true;
    plane_disk_load(pd);
}

static void
plane_disk_open_store(struct plane_disk *pd)
{
    pd->format = (struct store_format){
        .io = pd->plane->io,
        .file = pd->file,
        .options = { .disk = pd->disk,
                     .cluster = pd->cloud,
                     .force = pd->force },
        .done = plane_disk_formatted,
    };
    store_format_start(&pd->format);
}

void
plane_disk_open(struct hop *hop)
{
    struct plane_disk *pd = plane_disk_of(hop);
    enum io_cache_mode mode =
        pd->assume_nonvolatile ? IO_CACHE_NONVOLATILE : IO_CACHE_AUTO;

    pd->result = 0;
    pd->is_formatted = false;
    err_clear(&pd->err);
    if (pd->store != NULL) { /* A claim that could not be committed. */
        plane_disk_check(pd);
        return;
    }
    int result = io_file_open(pd->plane->io, pd->path, mode, &pd->file);
    if (result != 0) {
        err_set(&pd->err, "%s cannot be opened: %s%s", pd->path,
                strerror(-result),
                result == -ENOENT ? "; a file must exist with its final size"
                : result == -EBUSY
                    ? "; it is mounted, or another process has it"
                    : "");
        plane_disk_fail(pd, pd->may_format ? -EPERM : result);
        return;
    }
    plane_disk_load(pd);
}

/* ---- Serve, inspect, close ---- */

static void
plane_disk_settled(struct store_claim *op, int result)
{
    struct plane_disk *pd = container_of(op, struct plane_disk, claim);

    pd->result = result;
    if (result == 0) {
        store_serve(pd->store);
        store_info_get(pd->store, &pd->info);
    } else {
        err_set(&pd->err, "%s: the superblock cannot be written: %s", pd->path,
                strerror(-result));
    }
    hop_return(&pd->hop);
}

void
plane_disk_serve(struct hop *hop)
{
    struct plane_disk *pd = plane_disk_of(hop);

    if (pd->is_resume) {
        pd->result = 0;
        store_serve(pd->store);
        store_info_get(pd->store, &pd->info);
        hop_return(hop);
        return;
    }
    plane_disk_claim(pd, true);
    pd->claim.done = plane_disk_settled;
}

void
plane_disk_inspect(struct hop *hop)
{
    struct plane_disk *pd = plane_disk_of(hop);

    store_info_get(pd->store, &pd->info);
    store_stats_get(pd->store, &pd->stats);
    hop_return(hop);
}

static void
plane_disk_closed(struct store_close *op)
{
    struct plane_disk *pd = container_of(op, struct plane_disk, close);

    pd->store = NULL;
    hop_return(&pd->hop);
}

void
plane_disk_close(struct hop *hop)
{
    struct plane_disk *pd = plane_disk_of(hop);

    if (pd->store == NULL) {
        hop_return(hop);
        return;
    }
    pd->close.store = pd->store;
    pd->close.done = plane_disk_closed;
    store_close_start(&pd->close);
}

/* ---- Requests of replica.c ---- */

static void
plane_request_done(struct store_req *req)
{
    struct plane_request *request =
        container_of(req, struct plane_request, req);

    hop_return(&request->hop);
}

void
plane_request_run(struct hop *hop)
{
    struct plane_request *request =
        container_of(hop, struct plane_request, hop);

    request->req.done = plane_request_done;
    store_submit(request->store, &request->req);
}
