/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/io/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int
mailbox_init(struct mailbox *box)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0) {
        return -errno;
    }
    atomic_init(&box->posts.head, NULL);
    box->event_fd = fd;
    return 0;
}

void
mailbox_done(struct mailbox *box)
{
    if (box->event_fd >= 0) {
        close(box->event_fd);
        box->event_fd = -1;
    }
}

int
mailbox_fd(const struct mailbox *box)
{
    return box->event_fd;
}

void
mailbox_send(struct mailbox *box, struct io_post *post)
{
    CHECK(post->run != NULL);
    if (post_queue_push(&box->posts, post)) {
        uint64_t one = 1;
        ssize_t written = write(box->event_fd, &one, sizeof(one));

        /* EAGAIN: the counter is at its end, so the reader is awake. */
        CHECK(written == (ssize_t)sizeof(one) || errno == EAGAIN);
    }
}

size_t
mailbox_drain(struct mailbox *box)
{
    uint64_t count;
    struct io_post *post;
    size_t run = 0;

    /* First the event, then the queue: a post that comes in between is taken
     * now and wakes us once more for nothing.  The other way round it could
     * be left behind. */
    if (read(box->event_fd, &count, sizeof(count)) < 0) {
        CHECK(errno == EAGAIN || errno == EINTR);
    }
    post = post_queue_take(&box->posts);
    while (post != NULL) {
        struct io_post *next = post->next;

        post->next = NULL;
        post->run(post);
        post = next;
        run++;
    }
    return run;
}
