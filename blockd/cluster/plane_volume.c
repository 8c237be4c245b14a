/* SPDX-License-Identifier: Apache-2.0 */

/* The reactor's side of one volume: links, the volume, its export. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "blockd/cluster/plane_internal.h"
#include "lib/base/container_of.h"

static struct plane_volume *
plane_volume_of(struct hop *hop)
{
    return container_of(hop, struct plane_volume, hop);
}

static void
plane_volume_put_links(struct plane_volume *pv)
{
    for (uint32_t i = 0; i < pv->options.mirror_count; i++) {
        for (uint32_t j = 0; j < STORE_REPLICAS_MAX; j++) {
            plane_link_put(pv->links[i][j]);
            pv->links[i][j] = NULL;
        }
    }
}

static int
plane_volume_get_links(struct plane_volume *pv, uint32_t index)
{
    struct volume_mirror_options *mirror = &pv->mirrors[index];

    for (uint32_t j = 0; j < mirror->row.replica_count; j++) {
        pv->links[index][j] =
            plane_link_get(pv->plane, &pv->replicas[index][j]);
        if (pv->links[index][j] == NULL) {
            return -ENOMEM;
        }
        mirror->links[j] = pv->links[index][j]->link;
    }
    return 0;
}

/* ---- Start ---- */

static void
plane_volume_tell(struct plane_volume *pv, int result)
{
    if (!pv->is_told) {
        pv->is_told = true;
        pv->ready(pv, result);
    }
}

static int
plane_volume_open_nbd(struct plane_volume *pv)
{
    struct plane *plane = pv->plane;
    int result = nbd_export_add(plane->nbd_server, pv->name, pv->volume,
                                &pv->nbd_export);
    if (result != 0) {
        return result;
    }
    if (plane->nbd_address[0] != '\0') {
        (void)snprintf(pv->uri, sizeof pv->uri, "nbd://%s/%s",
                       plane->nbd_address + strlen("tcp:"), pv->name);
    } else {
        (void)snprintf(pv->uri, sizeof pv->uri, "nbd+unix:///%s?socket=%s",
                       pv->name, plane->nbd_unix + strlen("unix:"));
    }
    return 0;
}

static int
plane_volume_open_vhost(struct plane_volume *pv)
{
    char serial[UUID_TEXT_SIZE];
    struct err err = { "" };
    int result;

    uuid_format(&pv->options.uuid, serial);
    serial[20] = '\0'; /* All that virtio has room for. */
    struct vhost_export_options options = {
        .io = pv->plane->io,
        .volume = pv->volume,
        .socket_path = pv->socket,
        .serial = serial,
        .spin_ns = pv->plane->spin_us * NS_PER_US,
    };
    result = vhost_export_new(&options, &err, &pv->vhost_export);
    if (result == 0) {
        (void)snprintf(pv->uri, sizeof pv->uri, "%s", pv->socket);
    }
    return result;
}

static void
plane_volume_is_ready(struct volume *volume, int result)
{
    struct plane_volume *pv = volume_owner(volume);

    if (pv->is_stopping) {
        result = -ESHUTDOWN;
    }
    if (result == 0) {
        result = pv->is_vhost ? plane_volume_open_vhost(pv)
                              : plane_volume_open_nbd(pv);
    }
    plane_volume_tell(pv, result);
}

void
plane_volume_start(struct hop *hop)
{
    struct plane_volume *pv = plane_volume_of(hop);

    pv->result = 0;
    pv->is_told = false;
    pv->is_stopping = false;
    pv->is_forced = false;
    pv->is_volume_stopped = false;
    pv->uri[0] = '\0';
    for (uint32_t i = 0; i < pv->options.mirror_count && pv->result == 0; i++) {
        pv->result = plane_volume_get_links(pv, i);
    }
    if (pv->result == 0) {
        pv->options.io = pv->plane->io;
        pv->options.payloads = pv->plane->payloads;
        pv->options.mirrors = pv->mirrors;
        pv->result =
            volume_new(&pv->options, plane_volume_is_ready, pv, &pv->volume);
    }
    if (pv->result != 0) {
        pv->volume = NULL;
        plane_volume_put_links(pv);
    }
    hop_return(hop);
}

/* ---- Update ---- */

void
plane_volume_update(struct hop *hop)
{
    struct plane_volume *pv = plane_volume_of(hop);

    for (uint32_t i = 0; pv->volume != NULL && i < pv->options.mirror_count;
         i++) {
        struct plane_link *old[STORE_REPLICAS_MAX];
        memcpy(old, pv->links[i], sizeof old);
        memset(pv->links[i], 0, sizeof pv->links[i]);
        if (plane_volume_get_links(pv, i) == 0) {
            mirror_row_changed(volume_mirror(pv->volume, i),
                               &pv->mirrors[i].row, pv->mirrors[i].links);
        } else {
            /* No memory: it goes on with the old ones. */
            for (uint32_t j = 0; j < STORE_REPLICAS_MAX; j++) {
                struct plane_link *made = pv->links[i][j];
                pv->links[i][j] = old[j];
                old[j] = made;
            }
        }
        for (uint32_t j = 0; j < STORE_REPLICAS_MAX; j++) {
            plane_link_put(old[j]);
        }
    }
    hop_return(hop);
}

/* ---- Stop ----
 *
 * In order: the export takes no more requests and ends; the volume flushes and
 * stops; both are gone.  Forced: the volume stops at once, which ends the
 * requests that the export waits for, so that the two end in any order. */

static void
plane_volume_maybe_gone(struct plane_volume *pv)
{
    if (!pv->is_volume_stopped || pv->nbd_export != NULL ||
        pv->vhost_export != NULL) {
        return;
    }
    volume_free(pv->volume);
    pv->volume = NULL;
    plane_volume_put_links(pv);
    plane_volume_tell(pv, -ESHUTDOWN);
    hop_return(&pv->hop);
}

static void
plane_volume_stopped(struct volume *volume, bool clean)
{
    struct plane_volume *pv = volume_owner(volume);

    pv->clean = clean;
    pv->is_volume_stopped = true;
    plane_volume_maybe_gone(pv);
}

static void
plane_volume_export_gone(void *owner)
{
    struct plane_volume *pv = owner;

    pv->nbd_export = NULL;
    pv->vhost_export = NULL;
    if (!pv->is_forced) {
        volume_stop(pv->volume, true, plane_volume_stopped);
    }
    plane_volume_maybe_gone(pv);
}

static void
plane_volume_cut(struct plane_volume *pv)
{
    if (pv->volume == NULL || !pv->is_stopping || pv->is_forced ||
        pv->is_volume_stopped) {
        return;
    }
    pv->is_forced = true;
    if (pv->vhost_export != NULL) {
        vhost_export_cut(pv->vhost_export);
    }
    volume_stop(pv->volume, false, plane_volume_stopped);
}

void
plane_volume_stop(struct hop *hop)
{
    struct plane_volume *pv = plane_volume_of(hop);

    pv->clean = false;
    pv->is_stopping = true;
    if (pv->volume == NULL) { /* It never started. */
        hop_return(hop);
        return;
    }
    if (pv->nbd_export != NULL) {
        nbd_export_remove(pv->nbd_export, plane_volume_export_gone, pv);
    } else if (pv->vhost_export != NULL) {
        vhost_export_stop(pv->vhost_export, plane_volume_export_gone, pv);
    } else if (pv->flush) {
        plane_volume_export_gone(pv);
    }
    if (!pv->flush) {
        plane_volume_cut(pv);
    }
}

void
plane_volume_force(struct hop *hop)
{
    plane_volume_cut(container_of(hop, struct plane_force, hop)->pv);
    hop_return(hop);
}

/* ---- Report ---- */

static void
plane_report_mirror(struct plane_report *report, uint32_t index,
                    const struct mirror_status *status)
{
    struct plane_report_mirror *mirror = &report->mirrors[index];
    uint64_t done = 0, total = 0;

    *mirror = (struct plane_report_mirror){ .in_sync = status->row.in_sync };
    for (uint32_t j = 0; j < status->row.replica_count; j++) {
        if (status->replica[j].up) {
            mirror->up |= 1u << j;
        }
        if (status->replica[j].resyncing) {
            mirror->resyncing |= 1u << j;
            done += status->replica[j].resync_done;
            total += status->replica[j].resync_total;
        }
    }
    mirror->percent = total > 0 ? (uint32_t)(done * 100 / total) : 0;
    report->is_fenced |= status->state == MIRROR_FENCED;
    if (status->held && !report->is_held) {
        report->is_held = true;
        (void)snprintf(report->reason, sizeof report->reason, "mirror %u: %s",
                       index, status->reason);
    }
    report->reads += status->reads;
    report->writes += status->writes;
    report->discards += status->discards;
    report->flushes += status->flushes;
    report->repairs += status->repairs;
    report->crc_errors += status->crc_errors;
    report->replicas_missing +=
        status->row.replica_count -
        (uint32_t)__builtin_popcount(status->row.in_sync);
    if (status->longest_stall_ns > report->longest_stall_ns) {
        report->longest_stall_ns = status->longest_stall_ns;
    }
}

void
plane_report_fill(struct plane_report *report)
{
    struct plane_volume *pv = report->pv;

    *report =
        (struct plane_report){ .pv = pv, .is_running = pv->volume != NULL };
    report->clients =
        pv->nbd_export != NULL ? nbd_export_clients(pv->nbd_export) : 0;
    for (uint32_t i = 0; pv->volume != NULL && i < pv->options.mirror_count;
         i++) {
        struct mirror_status status;
        mirror_status_get(volume_mirror(pv->volume, i), &status);
        plane_report_mirror(report, i, &status);
    }
    report->held = report->is_held;
}
