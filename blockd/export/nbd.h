/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCKD_EXPORT_NBD_H
#define BLOCKD_EXPORT_NBD_H

/* The NBD server: fixed newstyle, over TCP and unix sockets.
 *
 * One server of a reactor listens on any number of addresses and serves all
 * volumes that were added to it, under their names ("project/volume").  Any
 * number of clients (to connections_max) may use one export at a time: all of
 * them share one flush domain, so CAN_MULTI_CONN is told.
 *
 *   (1) Nothing a client sends is trusted: lengths are bounded before memory
 *       is taken, ranges are checked against the volume, and a stream that
 *       cannot be followed is cut.
 *   (2) A write's bytes are copied and checksummed once, from the receive
 *       buffer into the payload.
 *   (3) When requests or payloads run out, the connection stops reading: the
 *       client is slowed, nothing is refused.  Only a client that stands still
 *       for half a minute while others wait for what it holds is cut.
 *   (4) A client that goes away leaves nothing: what is in flight settles, then
 *       its memory is freed.
 *
 * Thread: the reactor of 'io'; the exported volumes live there, too. */

#include <stdint.h>

#include "blockd/volume/volume.h"
#include "lib/base/check.h"
#include "lib/io/io.h"

struct nbd_server;
struct nbd_export;

struct nbd_server_options {
    struct io *io;
    uint32_t connections_max; /* 0: 128. */
    uint32_t requests_max;    /* Of all connections; 0: 2048. */
};

/* Set-up (allocates).  -ENOMEM. */
WEFT_MUST_CHECK int nbd_server_new(const struct nbd_server_options *options,
                                   struct nbd_server **ret_server);

/* Listens on one more address (see lib/io/io.h); 'ret_address' may be NULL. */
WEFT_MUST_CHECK int nbd_server_listen(struct nbd_server *server,
                                      const char *address,
                                      char ret_address[IO_ADDRESS_SIZE]);

/* Offers 'volume' as 'name' (copied).  -EEXIST, -EINVAL (name), -ENOMEM.  The
 * volume must live until the export is removed. */
WEFT_MUST_CHECK int nbd_export_add(struct nbd_server *server, const char *name,
                                   struct volume *volume,
                                   struct nbd_export **ret_export);

typedef void nbd_export_removed_fn(void *owner);
/* Cuts its clients; removed() runs, not inside this call, when nothing of it
 * is in flight any more.  The export is freed. */
void nbd_export_remove(struct nbd_export *nbd_export,
                       nbd_export_removed_fn *removed, void *owner);

/* Clients connected to the export now. */
uint32_t nbd_export_clients(const struct nbd_export *nbd_export);

typedef void nbd_server_stopped_fn(void *owner);
/* All exports must have been removed.  Cuts the rest, stops listening, frees
 * the server, then stopped(). */
void nbd_server_stop(struct nbd_server *server, nbd_server_stopped_fn *stopped,
                     void *owner);

#endif /* BLOCKD_EXPORT_NBD_H */
