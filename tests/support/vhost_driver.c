/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/vhost_driver.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/units.h"

/* The socket: messages, negotiation, start and stop.  Rings are in
 * vhost_driver_ring.c. */

#define VHOST_DRIVER_PATIENCE_MS 30000
#define VHOST_DRIVER_FDS_MAX 16u

#define VHOST_DRIVER_FEATURES                                            \
    (VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH | \
     VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_MQ | \
     VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES |                  \
     VIRTIO_F_RING_INDIRECT_DESC | VIRTIO_F_RING_EVENT_IDX |             \
     VIRTIO_F_VERSION_1 | VHOST_F_PROTOCOL_FEATURES)
#define VHOST_DRIVER_PROTOCOL_FEATURES                  \
    (VHOST_PROTOCOL_F_MQ | VHOST_PROTOCOL_F_REPLY_ACK | \
     VHOST_PROTOCOL_F_CONFIG | VHOST_PROTOCOL_F_INFLIGHT_SHMFD)

/* ---- Memory ---- */

uint8_t *
vhost_driver_at(const struct vhost_driver *driver, uint64_t addr)
{
    return driver->mem + (addr - VHOST_DRIVER_GUEST_BASE);
}

uint64_t
vhost_driver_alloc(struct vhost_driver *driver, uint64_t size_bytes,
                   uint64_t alignment)
{
    uint64_t at = units_align_up(driver->mem_used, alignment);

    if (at > driver->options.mem_bytes ||
        size_bytes > driver->options.mem_bytes - at) {
        return 0;
    }
    driver->mem_used = at + size_bytes;
    return VHOST_DRIVER_GUEST_BASE + at;
}

static void
vhost_driver_queue_clear(struct vhost_driver_queue *queue)
{
    memset(queue->desc, 0, vring_desc_bytes(queue->num));
    memset(queue->avail, 0, vring_avail_bytes(queue->num));
    memset(queue->used, 0, vring_used_bytes(queue->num));
    queue->avail_idx = queue->avail_kicked = queue->last_used = 0;
    queue->free_count = 0;
    for (uint32_t i = queue->num; i > 0; i--) {
        queue->free_heads[queue->free_count++] = (uint16_t)(i - 1);
    }
    memset(queue->is_out, 0, queue->num * sizeof queue->is_out[0]);
    queue->out_count = 0;
}

static int
vhost_driver_queue_init(struct vhost_driver *driver, uint32_t index)
{
    struct vhost_driver_queue *queue = &driver->queues[index];
    uint32_t num = driver->options.queue_size;

    *queue = (struct vhost_driver_queue){
        .driver = driver,
        .index = index,
        .num = num,
        .desc_addr = vhost_driver_alloc(driver, vring_desc_bytes(num), 16),
        .avail_addr = vhost_driver_alloc(driver, vring_avail_bytes(num), 2),
        .used_addr = vhost_driver_alloc(driver, vring_used_bytes(num), 4),
        .table_addr = vhost_driver_alloc(
            driver, num * vring_desc_bytes(VHOST_DRIVER_SEGS_MAX), 16),
        .header_addr =
            vhost_driver_alloc(driver, num * sizeof(struct virtio_blk_header),
                               16),
        .status_addr = vhost_driver_alloc(driver, num, 1),
        .kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .free_heads = calloc(num, sizeof(uint16_t)),
        .chain_next = calloc(num, sizeof(uint16_t)),
        .cookies = calloc(num, sizeof(uint64_t)),
        .is_out = calloc(num, sizeof(bool)),
    };
    if (queue->status_addr == 0 || queue->free_heads == NULL ||
        queue->chain_next == NULL || queue->cookies == NULL ||
        queue->is_out == NULL || queue->kick_fd < 0 || queue->call_fd < 0) {
        return -ENOMEM;
    }
    queue->desc = (void *)vhost_driver_at(driver, queue->desc_addr);
    queue->avail = vhost_driver_at(driver, queue->avail_addr);
    queue->used = vhost_driver_at(driver, queue->used_addr);
    vhost_driver_queue_clear(queue);
    return 0;
}

static int
vhost_driver_mem_init(struct vhost_driver *driver)
{
    uint64_t bytes = driver->options.mem_bytes;

    driver->mem_fd = memfd_create("guest", MFD_CLOEXEC);
    if (driver->mem_fd < 0 || ftruncate(driver->mem_fd, (off_t)bytes) != 0) {
        return -errno;
    }
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                     driver->mem_fd, 0);
    if (mem == MAP_FAILED) {
        return -errno;
    }
    driver->mem = mem;
    return 0;
}

int
vhost_driver_init(struct vhost_driver *driver,
                  const struct vhost_driver_options *options)
{
    *driver = (struct vhost_driver){
        .options = *options,
        .fd = -1,
        .mem_fd = -1,
        .inflight_fd = -1,
    };
    struct vhost_driver_options *own = &driver->options;
    own->queue_count = own->queue_count != 0 ? own->queue_count : 1;
    own->queue_size = own->queue_size != 0 ? own->queue_size : 128;
    own->mem_bytes = own->mem_bytes != 0 ? own->mem_bytes : 16 * MIB;
    own->regions = own->regions != 0 ? own->regions : 1;
    CHECK(own->queue_count <= VHOST_DRIVER_QUEUES_MAX);
    for (uint32_t i = 0; i < VHOST_DRIVER_QUEUES_MAX; i++) {
        driver->queues[i].kick_fd = driver->queues[i].call_fd = -1;
    }

    int result = vhost_driver_mem_init(driver);
    for (uint32_t i = 0; i < own->queue_count && result == 0; i++) {
        result = vhost_driver_queue_init(driver, i);
    }
    if (result != 0) {
        vhost_driver_done(driver);
    }
    return result;
}

static void
vhost_driver_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void
vhost_driver_done(struct vhost_driver *driver)
{
    vhost_driver_disconnect(driver);
    for (uint32_t i = 0; i < VHOST_DRIVER_QUEUES_MAX; i++) {
        struct vhost_driver_queue *queue = &driver->queues[i];
        vhost_driver_close(&queue->kick_fd);
        vhost_driver_close(&queue->call_fd);
        free(queue->free_heads);
        free(queue->chain_next);
        free(queue->cookies);
        free(queue->is_out);
    }
    vhost_driver_close(&driver->inflight_fd);
    if (driver->mem != NULL) {
        munmap(driver->mem, driver->options.mem_bytes);
        driver->mem = NULL;
    }
    vhost_driver_close(&driver->mem_fd);
}

void
vhost_driver_reset(struct vhost_driver *driver)
{
    for (uint32_t i = 0; i < driver->options.queue_count; i++) {
        vhost_driver_queue_clear(&driver->queues[i]);
    }
    vhost_driver_close(&driver->inflight_fd);
}

/* ---- Messages ---- */

static int
vhost_driver_wait(struct vhost_driver *driver, short events)
{
    struct pollfd poll_fd = { .fd = driver->fd, .events = events };

    if (driver->options.idle != NULL) {
        driver->options.idle(driver->options.context);
        return poll(&poll_fd, 1, 0) > 0 ? 0 : -ETIMEDOUT;
    }
    return poll(&poll_fd, 1, VHOST_DRIVER_PATIENCE_MS) > 0 ? 0 : -ETIMEDOUT;
}

int
vhost_driver_send(struct vhost_driver *driver, uint32_t request, uint32_t flags,
                  const void *payload, uint32_t size_bytes, const int *fds,
                  uint32_t fd_count)
{
    struct vhost_wire_header header = {
        .request = le32_make(request),
        .flags = le32_make(VHOST_FLAG_VERSION | flags),
        .size_bytes = le32_make(size_bytes),
    };
    uint8_t bytes[1024];
    union {
        char buffer[CMSG_SPACE(VHOST_DRIVER_FDS_MAX * sizeof(int))];
        struct cmsghdr header;
    } control = { .buffer = { 0 } };

    CHECK(size_bytes <= sizeof bytes - sizeof header);
    CHECK(fd_count <= VHOST_DRIVER_FDS_MAX);
    memcpy(bytes, &header, sizeof header);
    if (size_bytes > 0) {
        memcpy(bytes + sizeof header, payload, size_bytes);
    }
    struct iovec iov = { .iov_base = bytes,
                         .iov_len = sizeof header + size_bytes };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (fd_count > 0) {
        message.msg_control = control.buffer;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
    }
    for (;;) {
        ssize_t sent = sendmsg(driver->fd, &message, MSG_NOSIGNAL);
        if (sent == (ssize_t)iov.iov_len) {
            return 0;
        }
        if (sent >= 0) {
            return -EMSGSIZE; /* Never of a unix socket this empty. */
        }
        if (errno != EAGAIN) {
            return errno == EPIPE ? -ECONNRESET : -errno;
        }
        int result = vhost_driver_wait(driver, POLLOUT);
        if (result != 0) {
            return result;
        }
    }
}

static void
vhost_driver_keep_fd(struct msghdr *message, int *fd)
{
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);

    if (cmsg != NULL && cmsg->cmsg_level == SOL_SOCKET &&
        cmsg->cmsg_type == SCM_RIGHTS &&
        cmsg->cmsg_len == CMSG_LEN(sizeof *fd)) {
        vhost_driver_close(fd);
        memcpy(fd, CMSG_DATA(cmsg), sizeof *fd);
    }
}

static int
vhost_driver_read(struct vhost_driver *driver, void *data, uint32_t size,
                  int *fd)
{
    uint8_t *to = data;
    union {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control;

    while (size > 0) {
        struct iovec iov = { .iov_base = to, .iov_len = size };
        struct msghdr message = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control.buffer,
            .msg_controllen = sizeof control.buffer,
        };
        ssize_t got = recvmsg(driver->fd, &message, MSG_CMSG_CLOEXEC);
        if (got == 0) {
            return -ECONNRESET;
        }
        if (got < 0) {
            int result =
                errno == EAGAIN ? vhost_driver_wait(driver, POLLIN) : -errno;
            if (result != 0) {
                return result;
            }
            continue;
        }
        vhost_driver_keep_fd(&message, fd);
        to += got;
        size -= (uint32_t)got;
    }
    return 0;
}

int
vhost_driver_receive(struct vhost_driver *driver, uint32_t request,
                     void *payload, uint32_t size_bytes, int *ret_fd)
{
    struct vhost_wire_header header;
    int fd = -1;

    int result = vhost_driver_read(driver, &header, sizeof header, &fd);
    if (result == 0 &&
        (le32_get(header.request) != request ||
         le32_get(header.size_bytes) != size_bytes ||
         (le32_get(header.flags) & (VHOST_FLAG_VERSION | VHOST_FLAG_REPLY)) !=
             (VHOST_FLAG_VERSION | VHOST_FLAG_REPLY))) {
        result = -EPROTO;
    }
    if (result == 0) {
        result = vhost_driver_read(driver, payload, size_bytes, &fd);
    }
    if (ret_fd != NULL && result == 0) {
        *ret_fd = fd;
    } else {
        vhost_driver_close(&fd);
    }
    return result;
}

int
vhost_driver_ask_u64(struct vhost_driver *driver, uint32_t request,
                     uint64_t *ret_value)
{
    struct le64 wire;

    int result = vhost_driver_send(driver, request, 0, NULL, 0, NULL, 0);
    if (result == 0) {
        result =
            vhost_driver_receive(driver, request, &wire, sizeof wire, NULL);
    }
    if (result == 0) {
        *ret_value = le64_get(wire);
    }
    return result;
}

int
vhost_driver_tell(struct vhost_driver *driver, uint32_t request,
                  const void *payload, uint32_t size_bytes, const int *fds,
                  uint32_t fd_count)
{
    bool ack = (driver->protocol_features & VHOST_PROTOCOL_F_REPLY_ACK) != 0;
    uint64_t value = 0;

    int result =
        vhost_driver_send(driver, request, ack ? VHOST_FLAG_NEED_REPLY : 0,
                          payload, size_bytes, fds, fd_count);
    if (result != 0) {
        return result;
    }
    if (!ack) {
        return vhost_driver_ask_u64(driver, VHOST_GET_FEATURES, &value);
    }
    struct le64 wire;
    result = vhost_driver_receive(driver, request, &wire, sizeof wire, NULL);
    if (result == 0 && le64_get(wire) != 0) {
        result = -EREMOTEIO;
    }
    return result;
}

static int
vhost_driver_tell_u64(struct vhost_driver *driver, uint32_t request,
                      uint64_t value, const int *fd)
{
    struct le64 wire = le64_make(value);

    return vhost_driver_tell(driver, request, &wire, sizeof wire, fd,
                             fd != NULL ? 1 : 0);
}

static int
vhost_driver_tell_state(struct vhost_driver *driver, uint32_t request,
                        uint32_t index, uint32_t num)
{
    struct vhost_wire_state wire = {
        .index = le32_make(index),
        .num = le32_make(num),
    };

    return vhost_driver_tell(driver, request, &wire, sizeof wire, NULL, 0);
}

/* ---- Connecting ---- */

static int
vhost_driver_get_config(struct vhost_driver *driver)
{
    struct vhost_wire_config wire = {
        .size_bytes = le32_make(sizeof driver->config),
    };
    uint32_t size = (uint32_t)(offsetof(struct vhost_wire_config, bytes) +
                               sizeof driver->config);

    int result =
        vhost_driver_send(driver, VHOST_GET_CONFIG, 0, &wire, size, NULL, 0);
    if (result == 0) {
        result =
            vhost_driver_receive(driver, VHOST_GET_CONFIG, &wire, size, NULL);
    }
    if (result == 0) {
        memcpy(&driver->config, wire.bytes, sizeof driver->config);
    }
    return result;
}

static int
vhost_driver_negotiate(struct vhost_driver *driver)
{
    uint64_t offered = 0;
    uint64_t queues = 1;

    driver->protocol_features = 0;
    int result = vhost_driver_ask_u64(driver, VHOST_GET_FEATURES, &offered);
    if (result != 0) {
        return result;
    }
    driver->features =
        offered & VHOST_DRIVER_FEATURES & ~driver->options.features_off;
    if ((driver->features & VHOST_F_PROTOCOL_FEATURES) != 0) {
        result =
            vhost_driver_ask_u64(driver, VHOST_GET_PROTOCOL_FEATURES, &offered);
        if (result != 0) {
            return result;
        }
        uint64_t wanted = offered & VHOST_DRIVER_PROTOCOL_FEATURES &
                          ~driver->options.protocol_features_off;
        result = vhost_driver_tell_u64(driver, VHOST_SET_PROTOCOL_FEATURES,
                                       wanted, NULL);
        driver->protocol_features = wanted;
    }
    if (result == 0) {
        result = vhost_driver_tell(driver, VHOST_SET_OWNER, NULL, 0, NULL, 0);
    }
    if (result == 0 && (driver->protocol_features & VHOST_PROTOCOL_F_MQ) != 0) {
        result = vhost_driver_ask_u64(driver, VHOST_GET_QUEUE_NUM, &queues);
    }
    if (result == 0 && queues < driver->options.queue_count) {
        result = -ERANGE;
    }
    if (result == 0 &&
        (driver->protocol_features & VHOST_PROTOCOL_F_CONFIG) != 0) {
        result = vhost_driver_get_config(driver);
    }
    return result;
}

int
vhost_driver_connect(struct vhost_driver *driver)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t size = strlen(driver->options.path);

    CHECK(driver->fd < 0);
    CHECK(size < sizeof address.sun_path);
    memcpy(address.sun_path, driver->options.path, size);
    driver->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (driver->fd < 0) {
        return -errno;
    }
    int result = connect(driver->fd, (const struct sockaddr *)&address,
                         sizeof address) == 0
                     ? vhost_driver_negotiate(driver)
                     : -errno;
    if (result != 0) {
        vhost_driver_disconnect(driver);
    }
    return result;
}

void
vhost_driver_disconnect(struct vhost_driver *driver)
{
    vhost_driver_close(&driver->fd);
    driver->running = false;
}

/* ---- Running ---- */

uint32_t
vhost_driver_mem_table(const struct vhost_driver *driver,
                       struct vhost_wire_mem *ret_table)
{
    uint32_t count = driver->options.regions;
    uint64_t step =
        units_align_up(driver->options.mem_bytes / count, WEFT_BLOCK_SIZE);

    CHECK(count <= VHOST_REGIONS_MAX);
    memset(ret_table, 0, sizeof *ret_table);
    ret_table->count = le32_make(count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at = i * step;
        uint64_t left = driver->options.mem_bytes - at;
        ret_table->regions[i] = (struct vhost_wire_region){
            .guest_addr = le64_make(VHOST_DRIVER_GUEST_BASE + at),
            .size_bytes = le64_make(left < step ? left : step),
            .user_addr = le64_make((uint64_t)(uintptr_t)driver->mem + at),
            .mmap_offset = le64_make(at),
        };
    }
    return (uint32_t)(offsetof(struct vhost_wire_mem, regions) +
                      count * sizeof ret_table->regions[0]);
}

int
vhost_driver_set_mem(struct vhost_driver *driver)
{
    struct vhost_wire_mem table;
    int fds[VHOST_REGIONS_MAX];
    uint32_t size = vhost_driver_mem_table(driver, &table);

    for (uint32_t i = 0; i < driver->options.regions; i++) {
        fds[i] = driver->mem_fd;
    }
    return vhost_driver_tell(driver, VHOST_SET_MEM_TABLE, &table, size, fds,
                             driver->options.regions);
}

static int
vhost_driver_share_inflight(struct vhost_driver *driver)
{
    int result = 0;

    if ((driver->protocol_features & VHOST_PROTOCOL_F_INFLIGHT_SHMFD) == 0) {
        return 0;
    }
    if (driver->inflight_fd < 0) {
        driver->inflight = (struct vhost_wire_inflight){
            .queue_count = le16_make((uint16_t)driver->options.queue_count),
            .queue_size = le16_make((uint16_t)driver->options.queue_size),
        };
        result = vhost_driver_send(driver, VHOST_GET_INFLIGHT_FD, 0,
                                   &driver->inflight, sizeof driver->inflight,
                                   NULL, 0);
        if (result == 0) {
            result =
                vhost_driver_receive(driver, VHOST_GET_INFLIGHT_FD,
                                     &driver->inflight, sizeof driver->inflight,
                                     &driver->inflight_fd);
        }
        if (result == 0 && driver->inflight_fd < 0) {
            result = -EPROTO;
        }
    }
    if (result == 0) {
        result =
            vhost_driver_tell(driver, VHOST_SET_INFLIGHT_FD, &driver->inflight,
                              sizeof driver->inflight, &driver->inflight_fd, 1);
    }
    return result;
}

static int
vhost_driver_start_queue(struct vhost_driver_queue *queue)
{
    struct vhost_driver *driver = queue->driver;
    uint64_t user = (uint64_t)(uintptr_t)driver->mem - VHOST_DRIVER_GUEST_BASE;
    struct vhost_wire_addr addr = {
        .index = le32_make(queue->index),
        .desc = le64_make(user + queue->desc_addr),
        .used = le64_make(user + queue->used_addr),
        .avail = le64_make(user + queue->avail_addr),
    };
    uint16_t used_idx =
        le16toh(__atomic_load_n((const uint16_t *)(void *)(queue->used +
                                                           VRING_IDX_OFFSET),
                                __ATOMIC_ACQUIRE));

    int result = vhost_driver_tell_state(driver, VHOST_SET_VRING_NUM,
                                         queue->index, queue->num);
    if (result == 0) {
        result = vhost_driver_tell_state(driver, VHOST_SET_VRING_BASE,
                                         queue->index, used_idx);
    }
    if (result == 0) {
        result = vhost_driver_tell(driver, VHOST_SET_VRING_ADDR, &addr,
                                   sizeof addr, NULL, 0);
    }
    if (result == 0) {
        result = vhost_driver_tell_u64(driver, VHOST_SET_VRING_KICK,
                                       queue->index, &queue->kick_fd);
    }
    if (result == 0) {
        result = vhost_driver_tell_u64(driver, VHOST_SET_VRING_CALL,
                                       queue->index, &queue->call_fd);
    }
    return result;
}

int
vhost_driver_start(struct vhost_driver *driver)
{
    int result = vhost_driver_share_inflight(driver);

    if (result == 0) {
        result = vhost_driver_tell_u64(driver, VHOST_SET_FEATURES,
                                       driver->features, NULL);
    }
    if (result == 0) {
        result = vhost_driver_set_mem(driver);
    }
    for (uint32_t i = 0; i < driver->options.queue_count && result == 0; i++) {
        result = vhost_driver_start_queue(&driver->queues[i]);
    }
    if ((driver->features & VHOST_F_PROTOCOL_FEATURES) != 0) {
        for (uint32_t i = 0; i < driver->options.queue_count && result == 0;
             i++) {
            result =
                vhost_driver_tell_state(driver, VHOST_SET_VRING_ENABLE, i, 1);
        }
    }
    driver->running = result == 0;
    return result;
}

int
vhost_driver_stop(struct vhost_driver *driver)
{
    int result = 0;

    for (uint32_t i = 0; i < driver->options.queue_count && result == 0; i++) {
        struct vhost_wire_state wire = { .index = le32_make(i) };
        result = vhost_driver_send(driver, VHOST_GET_VRING_BASE, 0, &wire,
                                   sizeof wire, NULL, 0);
        if (result == 0) {
            result = vhost_driver_receive(driver, VHOST_GET_VRING_BASE, &wire,
                                          sizeof wire, NULL);
        }
        if (result == 0 && le32_get(wire.index) != i) {
            result = -EPROTO;
        }
    }
    driver->running = false;
    return result;
}
