/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_EXPORT_VHOST_H
#define BLOCKD_EXPORT_VHOST_H

/* A vhost-user-blk back end: one volume, one unix socket, one guest.
 *
 * The front end (QEMU) connects, shares the guest's memory and its virtqueues
 * (vhost-user protocol, docs/interop/vhost-user.rst of QEMU; virtio 1.2 section
 * 5.2 for the block device).  blockd polls or is kicked, reads requests from
 * the split rings and completes them.
 *
 *   (1) Nothing the guest or front end says is trusted: every address is looked
 *       up in the shared regions with its length, every index is bounded by
 *       the ring, a descriptor chain is at most the ring long; descriptors are
 * read once (no second fetch), and lengths come from that copy. (2) Guest data
 * is copied once into the payload and checksummed in that pass; afterwards the
 * guest may change its buffer as it likes. (3) Requests in flight are recorded
 * in the in-flight region that the front end keeps
 * (VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD): a restarted blockd submits again what
 * was in flight, in order, and loses nothing. (4) A guest's memory is never
 * touched after SET_MEM_TABLE or the end of the connection has been acted upon:
 * both wait until nothing is in flight that refers to it. (5) A file truncated
 * under a mapping is the front end's fault: SIGBUS is not caught, so only memfd
 * regions whose size covers the region are mapped (F_SEAL_SHRINK or fstat at
 * mapping time).
 *
 * Thread: the reactor of 'io'; the volume lives there, too. */

#include <stdint.h>

#include "blockd/volume/volume.h"
#include "lib/base/check.h"
#include "lib/base/err.h"
#include "lib/io/io.h"

#define VHOST_QUEUES_MAX 16u
#define VHOST_RING_SIZE_MAX 1024u

struct vhost_export;

struct vhost_export_options {
    struct io *io;
    struct volume *volume;
    const char *socket_path; /* Created; a stale one is replaced. */
    const char *serial;      /* Of the disk, at most 20 bytes. */
    uint64_t spin_ns; /* Adaptive polling of busy rings; 0: kicks only. */
};

/* Set-up (allocates).  -errno with text. */
WEFT_MUST_CHECK int vhost_export_new(const struct vhost_export_options *options,
                                     struct err *err,
                                     struct vhost_export **ret_export);

typedef void vhost_export_stopped_fn(void *owner);
/* Takes no new requests, waits for those in flight, closes the connection and
 * the socket (the path is removed), frees the export, then stopped(). */
void vhost_export_stop(struct vhost_export *vhost_export,
                       vhost_export_stopped_fn *stopped, void *owner);

/* After vhost_export_stop(): waits for nothing more.  The connection is cut, so
 * that the guest sees no answer to what is in flight (which therefore stays in
 * its in-flight region, for the blockd that it connects to next). */
void vhost_export_cut(struct vhost_export *vhost_export);

/* Whether a front end is connected. */
bool vhost_export_is_connected(const struct vhost_export *vhost_export);

#endif /* BLOCKD_EXPORT_VHOST_H */
