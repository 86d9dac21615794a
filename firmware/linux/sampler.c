/* Reads a board's own power sensors while a program runs there, on the clock the program uses.
 *
 *     edgesvit-sampler --period-ms N (--file PATH)... | --command CMD | --stream CMD  -- PROGRAM ...
 *
 * --file reads numbers from sysfs, --command runs a shell command each period, --stream starts one
 * and takes each of its lines. Every sample is a line on stdout, between the program's own lines:
 *
 *     sample NANOSECONDS TEXT
 *
 * with CLOCK_MONOTONIC halfway between begin and end of the reading; a file that cannot be read
 * gives a dash, lines of a command are joined with `|`. Ends with the program, with its status.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 64, LINE_BYTES = 65536, VALUE_BYTES = 64 };

typedef struct {
    char text[LINE_BYTES];
    size_t length;
} line_buffer;

static const char *files[MOST_FILES];
static int file_count;
static const char *command, *stream;
static int64_t period_ns = 100000000;
static line_buffer from_program, from_stream;
static int inside_line; /* the program's line is longer than we can hold and partly passed on */

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "edgesvit-sampler: %s: %s\n", what, why);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void read_value(const char *path, char *value)
{
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, value, VALUE_BYTES - 1);
    if (fd >= 0) {
        close(fd);
    }
    value[got > 0 ? got : 0] = 0;
    value[strcspn(value, " \n")] = 0;
    if (!*value) {
        strcpy(value, "-");
    }
}

static void sample_files(void)
{
    static char text[MOST_FILES * (VALUE_BYTES + 1) + 1]; /* every value and its blank */
    size_t length = 0;
    int64_t begin = now_ns();
    for (int i = 0; i < file_count; i++) {
        char value[VALUE_BYTES];
        read_value(files[i], value);
        length += (size_t)snprintf(text + length, sizeof text - length, " %s", value);
    }
    int64_t end = now_ns();
    printf("sample %" PRId64 "%s\n", begin + (end - begin) / 2, text);
}

static void sample_command(void)
{
    static char text[LINE_BYTES];
    int64_t begin = now_ns();
    FILE *output = popen(command, "r");
    size_t length = output ? fread(text, 1, sizeof text - 1, output) : 0;
    if (output) {
        pclose(output);
    }
    int64_t end = now_ns();
    text[length] = 0;
    for (char *c = text; *c; c++) {
        *c = *c == '\n' ? '|' : *c;
    }
    printf("sample %" PRId64 " %s\n", begin + (end - begin) / 2, text);
}

/* A child whose stdout is a pipe to us and who does not outlive us. */
static pid_t start(char *const *argv, int *output)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        fail("pipe", strerror(errno));
    }
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        dup2(ends[1], 1);
        execvp(argv[0], argv);
        fail(argv[0], strerror(errno));
    }
    close(ends[1]);
    *output = ends[0];
    return child;
}

/* Pass on the complete lines that have come, each as a sample where `sampled`; 0 at the end. */
static int pass_lines(int fd, line_buffer *buffer, int sampled)
{
    ssize_t got = read(fd, buffer->text + buffer->length, LINE_BYTES - buffer->length);
    if (got <= 0) {
        return got < 0 && errno == EINTR;
    }
    buffer->length += (size_t)got;
    char *line = buffer->text, *end;
    size_t left = buffer->length;
    while ((end = memchr(line, '\n', left)) != NULL) {
        if (sampled) {
            printf("sample %" PRId64 " ", now_ns());
        } else {
            inside_line = 0;
        }
        fwrite(line, 1, (size_t)(end - line) + 1, stdout);
        left -= (size_t)(end - line) + 1;
        line = end + 1;
    }
    if (left == LINE_BYTES && !sampled) {
        fwrite(line, 1, left, stdout);
        left = 0;
        inside_line = 1;
    }
    memmove(buffer->text, line, left);
    buffer->length = left % LINE_BYTES;
    return 1;
}

static void watch(struct pollfd *inputs)
{
    int64_t next = now_ns();
    for (;;) {
        int64_t wait_ns = stream || inside_line ? 1000000000 : next - now_ns();
        if (wait_ns <= 0) {
            command ? sample_command() : sample_files();
            int64_t now = now_ns();
            next = next + period_ns > now ? next + period_ns : now + period_ns;
            continue;
        }
        fflush(stdout);
        if (poll(inputs, 2, (int)((wait_ns + 999999) / 1000000)) < 0 && errno != EINTR) {
            fail("poll", strerror(errno));
        }
        if (inputs[1].revents && !inside_line && !pass_lines(inputs[1].fd, &from_stream, 1)) {
            inputs[1].fd = -1;
        }
        if (inputs[0].revents && !pass_lines(inputs[0].fd, &from_program, 0)) {
            fwrite(from_program.text, 1, from_program.length, stdout);
            return;
        }
    }
}

static char **parse(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--") == 0) {
            return argv + i + 1;
        } else if (strcmp(argv[i], "--period-ms") == 0) {
            period_ns = strtol(value, NULL, 10) * 1000000L;
        } else if (strcmp(argv[i], "--file") == 0 && file_count < MOST_FILES) {
            files[file_count++] = value;
        } else if (strcmp(argv[i], "--command") == 0) {
            command = value;
        } else if (strcmp(argv[i], "--stream") == 0) {
            stream = value;
        } else {
            fail(argv[i], "is no option");
        }
    }
    fail("usage", "edgesvit-sampler --period-ms N --file PATH... -- PROGRAM ARGUMENT...");
    return NULL;
}

int main(int argc, char **argv)
{
    char **program = parse(argc, argv);
    if (period_ns <= 0 || !*program || (file_count > 0) + !!command + !!stream != 1) {
        fail("usage", "a period, a program, and one of --file, --command, --stream");
    }
    struct pollfd inputs[2] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    pid_t streamer = -1;
    if (stream) {
        char *shell[] = {"sh", "-c", (char *)(uintptr_t)stream, NULL};
        streamer = start(shell, &inputs[1].fd);
    }
    pid_t child = start(program, &inputs[0].fd);
    watch(inputs);
    int status = 0;
    waitpid(child, &status, 0);
    if (streamer > 0) {
        kill(-streamer, SIGKILL);
    }
    fflush(stdout);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
