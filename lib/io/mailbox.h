/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIB_IO_MAILBOX_H
#define LIB_IO_MAILBOX_H

/* From reactors to a thread that has a poll loop of its own (the control
 * thread).  The other direction is io_post_send(NULL, ...).
 *
 *     poll(mailbox_fd(&box) for POLLIN, ...);
 *     mailbox_drain(&box);          runs every post that has arrived
 *
 * mailbox_send() never blocks and takes no lock; it writes to the eventfd only
 * when the box was empty.  The posts of one sender keep their order.  A post
 * is borrowed until run() is called. */

#include "lib/io/post_queue.h"

struct mailbox {
    /* Private. */
    struct post_queue posts;
    int event_fd;
};

WEFT_MUST_CHECK int mailbox_init(struct mailbox *box);
/* Nobody may send any more; posts that were not drained are never run. */
void mailbox_done(struct mailbox *box);

/* Readable while posts wait.  Owned by the mailbox. */
int mailbox_fd(const struct mailbox *box);

/* Any thread. */
void mailbox_send(struct mailbox *box, struct io_post *post);

/* The one receiving thread.  Runs what had arrived when it was called, so
 * that posts that cause posts cannot keep it for ever.  Returns how many. */
size_t mailbox_drain(struct mailbox *box);

#endif /* LIB_IO_MAILBOX_H */
