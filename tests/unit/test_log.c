/* SPDX-License-Identifier: Apache-2.0 */
/* lib/base/log, through a pipe, and lib/base/sdnotify, through a socket. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/sdnotify.h"

static int pipe_fds[2];
static char line[LOG_LINE_SIZE + 1];

static int
set_up(void **state)
{
    (void)state;
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return -1;
    }
    log_set_fd(pipe_fds[1]);
    log_set_level(LOG_LEVEL_INFO);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    log_set_fd(STDERR_FILENO);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return 0;
}

/* What has been written, behind the time. */
static const char *
read_line(void)
{
    ssize_t size = read(pipe_fds[0], line, sizeof line - 1);
    if (size <= 0) {
        return "";
    }
    line[size] = '\0';
    const char *blank = strchr(line, ' ');
    return blank != NULL ? blank + 1 : line;
}

static void
test_line(void **state)
{
    (void)state;

    errno = ENOENT;
    log_info("store", "replica opened replica=%s blocks=%u size=%" PRIu64,
             "abc", 12u, UINT64_C(20) << 30);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(read_line(), "level=info module=store "
                                     "event=\"replica opened\" replica=abc "
                                     "blocks=12 size=21474836480\n");
    log_error("store", "failed");
    assert_string_equal(read_line(), "level=error module=store event=failed\n");
    log_warning("m", "100%% of %d done x=%%", 5);
    assert_string_equal(read_line(), "level=warning module=m "
                                     "event=\"100% of 5 done\" x=%\n");
    log_write(LOG_LEVEL_INFO, "m",
              "e a=%d b=%5.1f c=%c d=%zu e=%llx f=%ld g=%hhu h=%s/%s", -3, 2.5,
              'x', (size_t)9, 255ULL, -7L, (unsigned char)200, "p", "q");
    assert_string_equal(read_line(),
                        "level=info module=m event=e a=-3 b=\"  2.5\" c=x d=9 "
                        "e=ff f=-7 g=200 h=p/q\n");
}

static void
test_quoting(void **state)
{
    (void)state;

    /* No argument can end its value, its line, or add a pair. */
    log_info("m", "e a=%s b=%s c=%s d=%s e=%s", "", "x y=z", "\"q\\",
             "1\nlevel=error", "\x1b[31m\xc3\xa4");
    assert_string_equal(read_line(),
                        "level=info module=m event=e a=\"\" b=\"x y=z\" "
                        "c=\"\\\"q\\\\\" d=\"1\\nlevel=error\" "
                        "e=\"\\x1b[31m\\xc3\\xa4\"\n");
    log_info("m", "got %s a=1", "b=2");
    assert_string_equal(read_line(),
                        "level=info module=m event=\"got b=2\" a=1\n");
}

static void
test_level(void **state)
{
    enum log_level level = LOG_LEVEL_ERROR;
    (void)state;

    log_debug("m", "hidden");
    assert_string_equal(read_line(), "");
    assert_false(log_is_enabled(LOG_LEVEL_DEBUG));
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("m", "seen");
    assert_string_equal(read_line(), "level=debug module=m event=seen\n");
    log_set_level(LOG_LEVEL_ERROR);
    log_warning("m", "hidden");
    assert_string_equal(read_line(), "");

    assert_int_equal(log_level_parse("warning", &level), 0);
    assert_int_equal(level, LOG_LEVEL_WARNING);
    assert_int_equal(log_level_parse("Warning", &level), -EINVAL);
    assert_int_equal(level, LOG_LEVEL_WARNING);
    assert_string_equal(log_level_name(level), "warning");
}

static void
test_long(void **state)
{
    char text[5000];
    (void)state;

    /* Cut, and still one line. */
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_info("m", "e a=%s b=%s c=%s d=1", text, text, text);
    read_line();
    assert_int_equal(strlen(line), LOG_LINE_SIZE);
    assert_ptr_equal(strchr(line, '\n'), line + LOG_LINE_SIZE - 1);
    assert_string_equal(read_line(), "");

    memset(text, '\n', sizeof text - 1);
    log_info("m", "%s %s a=%s", text, text, text);
    read_line();
    assert_ptr_equal(strchr(line, '\n'), line + LOG_LINE_SIZE - 1);
    log_info("m", "e a=%4000d b=%d", 1, 2);
    read_line();
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

/* Not time(): that clock lags a little. */
static time_t
seconds_now(void)
{
    struct timespec now = { 0 };
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

static void
test_time(void **state)
{
    struct tm utc = { 0 };
    (void)state;

    time_t before = seconds_now();
    log_info("m", "e");
    read_line();
    time_t after = seconds_now();
    const char *rest = strptime(line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    assert_non_null(rest);
    assert_in_range(timegm(&utc), before, after);
    assert_int_equal(rest[0], '.');
    assert_int_equal(strspn(rest + 1, "0123456789"), 3);
    assert_int_equal(rest[4], 'Z');
}

static void *
write_lines(void *argument)
{
    const char *name = argument;
    for (int i = 0; i < 100; i++) {
        log_info("thread", "step name=%s i=%d", name, i);
    }
    return NULL;
}

static void
test_threads(void **state)
{
    char names[4][2] = { "a", "b", "c", "d" };
    char text[65536];
    pthread_t threads[4];
    int lines = 0;
    (void)state;

    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines,
                                        names[i]),
                         0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    ssize_t size = read(pipe_fds[0], text, sizeof text - 1);
    assert_true(size > 0);
    text[size] = '\0';
    for (char *at = text; *at != '\0'; lines++) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        assert_memory_equal(at, "time=2", 6);
        at = end + 1;
    }
    assert_int_equal(lines, 400);
}

static void
bad_format(void *argument)
{
    (void)argument;
    log_info("m", "e a=1 loose"); /* A word behind the pairs. */
}

static void
test_bad_format(void **state)
{
    (void)state;
    assert_true(unit_aborts(bad_format, NULL));
}

/* Binds a datagram socket to 'name' ('@': abstract), says READY, and compares
 * what arrives. */
static void
notify_through(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char text[64];
    size_t length = strlen(name);

    memcpy(address.sun_path, name, length);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                                      length)),
                     0);
    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(sdnotify_ready(), 0);
    ssize_t size = recv(fd, text, sizeof text, MSG_DONTWAIT);
    assert_int_equal(size, 7);
    assert_memory_equal(text, "READY=1", 7);
    assert_int_equal(sdnotify_stopping(), 0);
    assert_int_equal(recv(fd, text, sizeof text, MSG_DONTWAIT), 10);
    assert_memory_equal(text, "STOPPING=1", 10);
}

static void
test_sdnotify(void **state)
{
    char folder[] = "/tmp/weft-notify-XXXXXX";
    char name[64];
    char long_name[200];
    (void)state;

    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(sdnotify_ready(), 0);
    setenv("NOTIFY_SOCKET", "", 1);
    assert_int_equal(sdnotify_ready(), 0);

    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof name, "%s/socket", folder);
    notify_through(name);
    assert_int_equal(sdnotify_ready(), -ECONNREFUSED); /* Nobody there. */
    unlink(name);
    assert_int_equal(sdnotify_ready(), -ENOENT);
    rmdir(folder);
    snprintf(name, sizeof name, "@weft-notify-%d", (int)getpid());
    notify_through(name);

    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(sdnotify_ready(), -EINVAL);
    memset(long_name, '/', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    setenv("NOTIFY_SOCKET", long_name, 1);
    assert_int_equal(sdnotify_ready(), -EINVAL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quoting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_level, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_format, set_up, tear_down),
        cmocka_unit_test(test_sdnotify),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
