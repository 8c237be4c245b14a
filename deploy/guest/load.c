/* SPDX-License-Identifier: Apache-2.0
 *
 * The load of 'deploy/quickstart --drill', inside a guest:
 *
 *   weft-load FILE MIB ADDRESS
 *
 * One process writes and reads random blocks of FILE, past the page cache, with
 * an fsync now and then.  It knows what each block holds (its number, and how
 * often it was written) and compares every byte that it reads.  Another one
 * pings ADDRESS ten times a second.  The first one says four times a second, on
 * one line, what the two have seen so far:
 *
 *   @@load ops=N errors=N wrong=N stall=MS sent=N lost=N
 *
 * stall is the longest time that one request took (an unfinished one counts)
 * since the line before; the other numbers are totals.  A ping is lost if its
 * answer takes more than a second.  Anything on the standard input ends it: all
 * blocks are read once more, and the last line begins with @@done.
 *
 * The processes share one page.  Each number has one writer, but for stall_ms,
 * which is why all are atomic.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_SIZE 4096U
#define WORDS (BLOCK_SIZE / sizeof(uint64_t))
#define OPS_PER_FSYNC 50U
#define PAUSE_MS 4 /* Without it, emulated guests eat the whole machine. */
#define LINE_MS 250
#define PING_MS 100U
#define LOST_MS 1000U
#define PINGS 1024U /* Remembered: far more than are sent in LOST_MS. */

struct shared {
    atomic_bool stop;
    atomic_uint_least64_t ops, errors, wrong, sent, lost;
    atomic_uint_least64_t stall_ms; /* Longest of those finished since. */
    atomic_uint_least64_t began_ms; /* The request under way; 0: none. */
};

struct disk {
    struct shared *shared;
    int fd;
    uint64_t block_count;
    uint64_t *generations; /* By block: how often it was written. */
    uint64_t *buffer;
    uint64_t random;
};

static uint64_t
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
pause_ms(int ms)
{
    (void)poll(NULL, 0, ms);
}

/* The next of a sequence that looks random (splitmix64). */
static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* ---- The disk ---- */

static void
begin(struct disk *disk)
{
    atomic_store(&disk->shared->began_ms, now_ms());
}

static void
end(struct disk *disk, bool is_ok)
{
    struct shared *shared = disk->shared;
    uint64_t took = now_ms() - atomic_load(&shared->began_ms);
    uint64_t longest = atomic_load(&shared->stall_ms);
    while (took > longest &&
           !atomic_compare_exchange_weak(&shared->stall_ms, &longest, took)) {
    }
    atomic_store(&shared->began_ms, 0);
    atomic_fetch_add(&shared->ops, 1);
    if (!is_ok) {
        atomic_fetch_add(&shared->errors, 1);
    }
}

/* What a block holds after it was written that often. */
static uint64_t
seed_of(uint64_t block, uint64_t generation)
{
    return block << 40 ^ generation;
}

static void
write_block(struct disk *disk, uint64_t block)
{
    uint64_t state = seed_of(block, disk->generations[block] + 1);
    for (size_t i = 0; i < WORDS; i++) {
        disk->buffer[i] = next_random(&state);
    }
    begin(disk);
    ssize_t size =
        pwrite(disk->fd, disk->buffer, BLOCK_SIZE, (off_t)(block * BLOCK_SIZE));
    bool is_ok = size == (ssize_t)BLOCK_SIZE;
    if (is_ok) {
        disk->generations[block]++;
    }
    end(disk, is_ok);
}

/* Counts the bytes that are not what was written last. */
static void
read_block(struct disk *disk, uint64_t block)
{
    begin(disk);
    ssize_t size =
        pread(disk->fd, disk->buffer, BLOCK_SIZE, (off_t)(block * BLOCK_SIZE));
    end(disk, size == (ssize_t)BLOCK_SIZE);
    if (size != (ssize_t)BLOCK_SIZE) {
        return;
    }
    uint64_t state = seed_of(block, disk->generations[block]);
    uint64_t wrong = 0;
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t differ = disk->buffer[i] ^ next_random(&state);
        for (; differ != 0; differ >>= 8) {
            wrong += (differ & 0xff) != 0;
        }
    }
    atomic_fetch_add(&disk->shared->wrong, wrong);
}

static void
sync_disk(struct disk *disk)
{
    begin(disk);
    end(disk, fsync(disk->fd) == 0);
}

static void
run_disk(struct disk *disk)
{
    for (uint64_t block = 0; block < disk->block_count; block++) {
        write_block(disk, block);
    }
    for (unsigned int i = 1; !atomic_load(&disk->shared->stop); i++) {
        uint64_t random = next_random(&disk->random);
        uint64_t block = (random >> 1) % disk->block_count;
        if ((random & 1) != 0) {
            write_block(disk, block);
        } else {
            read_block(disk, block);
        }
        if (i % OPS_PER_FSYNC == 0) {
            sync_disk(disk);
        }
        pause_ms(PAUSE_MS);
    }
    sync_disk(disk);
    for (uint64_t block = 0; block < disk->block_count; block++) {
        read_block(disk, block);
    }
}

/* ---- The network ---- */

static uint16_t
checksum(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < size; i += 2) {
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum += sum >> 16;
    return htons((uint16_t)~sum);
}

static void
send_ping(int fd, const struct sockaddr_in *to, uint16_t id, uint64_t number)
{
    struct icmphdr echo;
    memset(&echo, 0, sizeof echo);
    echo.type = ICMP_ECHO;
    echo.un.echo.id = htons(id);
    echo.un.echo.sequence = htons((uint16_t)number);
    echo.checksum = checksum(&echo, sizeof echo);
    /* One that cannot be sent is one that is not answered. */
    (void)sendto(fd, &echo, sizeof echo, 0, (const struct sockaddr *)to,
                 sizeof *to);
}

/* Takes one packet; whether it is an answer to us, and to which. */
static bool
take_answer(int fd, uint16_t id, uint16_t *ret_sequence)
{
    uint8_t packet[2048];
    ssize_t size = recv(fd, packet, sizeof packet, MSG_DONTWAIT);
    if (size <= 0) {
        return false;
    }
    size_t header = (size_t)(packet[0] & 0xfU) * 4;
    struct icmphdr echo;
    if ((size_t)size < header + sizeof echo) {
        return false;
    }
    memcpy(&echo, packet + header, sizeof echo);
    if (echo.type != ICMP_ECHOREPLY || ntohs(echo.un.echo.id) != id) {
        return false;
    }
    *ret_sequence = ntohs(echo.un.echo.sequence);
    return true;
}

static void
run_ping(struct shared *shared, const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (fd < 0) {
        perror("weft-load: socket");
        return;
    }
    static uint64_t sent_ms[PINGS]; /* 0: answered, or lost and counted. */
    uint16_t id = (uint16_t)getpid();
    uint64_t next_ms = now_ms(), sent = 0, oldest = 0;
    while (!atomic_load(&shared->stop)) {
        uint64_t now = now_ms();
        if (now >= next_ms) {
            sent_ms[sent % PINGS] = now;
            send_ping(fd, to, id, sent);
            atomic_store(&shared->sent, ++sent);
            next_ms = now + PING_MS;
        }
        for (; oldest < sent; oldest++) {
            uint64_t at = sent_ms[oldest % PINGS];
            if (at != 0 && now < at + LOST_MS) {
                break;
            }
            atomic_fetch_add(&shared->lost, at != 0);
        }
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        uint16_t sequence;
        if (poll(&ready, 1, 10) > 0 && take_answer(fd, id, &sequence)) {
            /* The latest number that ends so; not one counted as lost. */
            uint64_t number =
                sent - 1 - (uint16_t)((uint16_t)(sent - 1) - sequence);
            if (number >= oldest && number < sent) {
                sent_ms[number % PINGS] = 0;
            }
        }
    }
}

/* ---- All ---- */

static void
report(struct shared *shared, const char *what)
{
    uint64_t stall = atomic_exchange(&shared->stall_ms, 0);
    uint64_t began = atomic_load(&shared->began_ms), now = now_ms();
    if (began != 0 && now > began && now - began > stall) {
        stall = now - began;
    }
    printf("@@%s ops=%llu errors=%llu wrong=%llu stall=%llu sent=%llu "
           "lost=%llu\n",
           what, (unsigned long long)atomic_load(&shared->ops),
           (unsigned long long)atomic_load(&shared->errors),
           (unsigned long long)atomic_load(&shared->wrong),
           (unsigned long long)stall,
           (unsigned long long)atomic_load(&shared->sent),
           (unsigned long long)atomic_load(&shared->lost));
    fflush(stdout);
}

static void
open_disk(struct disk *disk, const char *path, uint64_t mib)
{
    disk->block_count = mib * 1024 * 1024 / BLOCK_SIZE;
    disk->generations = calloc(disk->block_count, sizeof *disk->generations);
    disk->buffer = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);
    disk->fd =
        open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    if (disk->fd < 0 || disk->generations == NULL || disk->buffer == NULL) {
        perror("weft-load: open");
        exit(1);
    }
}

static pid_t
start(void)
{
    pid_t child = fork();
    if (child < 0) {
        perror("weft-load: fork");
        exit(1);
    }
    return child;
}

int
main(int argc, char **argv)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    uint64_t mib = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
    if (mib == 0 || mib > 1024 ||
        inet_pton(AF_INET, argv[3], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: weft-load FILE MIB ADDRESS\n");
        return 2;
    }
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("weft-load: mmap");
        return 1;
    }
    struct disk disk = { .shared = shared, .random = now_ms() };
    open_disk(&disk, argv[1], mib);
    pid_t writer = start();
    if (writer == 0) {
        run_disk(&disk);
        _exit(0);
    }
    pid_t pinger = start();
    if (pinger == 0) {
        run_ping(shared, &to);
        _exit(0);
    }
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    while (poll(&input, 1, LINE_MS) == 0) {
        report(shared, "load");
    }
    char ignored[64];
    (void)!read(STDIN_FILENO, ignored, sizeof ignored);
    atomic_store(&shared->stop, true);
    int status = 0;
    bool is_ok = waitpid(writer, &status, 0) == writer && status == 0 &&
                 waitpid(pinger, &status, 0) == pinger && status == 0;
    report(shared, "done");
    return is_ok ? 0 : 1;
}
