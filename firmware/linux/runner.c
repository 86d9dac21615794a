/* The board runner for Linux: runs a spike program on a file of images and prints one line each.
 *
 *     edgesvit-runner [--threads N] [--kernels NAME] PROGRAM.esv IMAGES.bin
 *
 * IMAGES.bin holds raw uint8 images (n, H, W, C), or event counts (n, T, H, W, C). One thread and
 * the processor's fastest kernels unless said. Lines on stdout, all `word key=value ...`:
 *
 *     program crc=... steps=T input=BYTES classes=N arena=BYTES work=BYTES threads=N kernels=NAME
 *     check pass
 *     image index=I ns=NANOSECONDS instructions=COUNT logits=a,b,...
 *     memory file=BYTES arena=BYTES arena_used=BYTES code=BYTES data=BYTES stack=BYTES peak_rss=BYTES
 *     done images=N
 *
 * instructions is -1 where the kernel offers no hardware counter. Exit status: 0, or 1 with one
 * line on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "crew.h"
#include "spike_conv.h"

#define PAINT 0xA5

typedef struct {
    const char *program, *images, *kernels; /* kernels NULL: the fastest */
    uint32_t threads;
} options;

typedef struct {
    const uint8_t *data; /* (bytes) */
    size_t bytes;
} mapped_file;

/* A counting emulator plug-in brackets an inference by the addresses of these two. */
void edgesvit_roi_begin(void);
void edgesvit_roi_end(void);
__attribute__((noinline)) void edgesvit_roi_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void edgesvit_roi_end(void) { __asm__ volatile("" ::: "memory"); }

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "edgesvit-runner: %s: %s\n", what, why);
    exit(1);
}

static mapped_file map_file(const char *path)
{
    mapped_file file = {0};
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        fail(path, strerror(errno));
    }
    file.bytes = (size_t)st.st_size;
    if (file.bytes == 0) {
        fail(path, "is empty");
    }
    void *at = mmap(NULL, file.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
        fail(path, strerror(errno));
    }
    close(fd);
    file.data = at;
    return file;
}

static int open_instruction_counter(void)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_HARDWARE;
    attr.config = PERF_COUNT_HW_INSTRUCTIONS;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static int64_t read_counter(int fd)
{
    int64_t count = -1;
    if (fd < 0 || read(fd, &count, sizeof count) != (ssize_t)sizeof count) {
        return -1;
    }
    return count;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void run_image(const esv_program *program, void *arena, const uint8_t *image, size_t index,
                      int counter)
{
    memcpy(esv_input(program, arena), image, program->input_bytes);
    /* The clock outside the counter: how many instructions reading it takes depends on the time.
     * The two system calls inside the clock cost it about a microsecond. */
    int64_t start = now_ns();
    int64_t count = read_counter(counter);
    edgesvit_roi_begin();
    esv_run(program, arena);
    edgesvit_roi_end();
    int64_t instructions = counter < 0 ? -1 : read_counter(counter) - count;
    int64_t ns = now_ns() - start;
    const int32_t *logits = esv_logits(program, arena);
    printf("image index=%zu ns=%" PRId64 " instructions=%" PRId64 " logits=", index, ns,
           instructions);
    for (uint32_t c = 0; c < program->classes; c++) {
        printf("%s%" PRId32, c ? "," : "", logits[c]);
    }
    putchar('\n');
    fflush(stdout);
}

/* The highest byte of the arena that an inference wrote. */
static size_t used(const uint8_t *arena, size_t bytes)
{
    while (bytes && arena[bytes - 1] == PAINT) {
        bytes--;
    }
    return bytes;
}

/* A field of /proc/self/status in bytes, -1 when it is not told. getrusage would not do: its peak
 * counts what the parent held before exec. */
static long status_bytes(const char *field)
{
    char line[128];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && kib < 0 && fgets(line, sizeof line, status)) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kib = strtol(line + strlen(field) + 1, NULL, 10);
        }
    }
    if (status) {
        fclose(status);
    }
    return kib < 0 ? -1 : kib * 1024;
}

/* Bytes of our own segments in memory that are writable (data and bss), or not (code). */
static size_t loaded_bytes(int writable)
{
    const ElfW(Phdr) *header = (const void *)getauxval(AT_PHDR); /* (AT_PHNUM) */
    size_t bytes = 0;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) {
        if (header[i].p_type == PT_LOAD && !(header[i].p_flags & PF_W) == !writable) {
            bytes += header[i].p_memsz;
        }
    }
    return bytes;
}

static void print_memory(const esv_program *program, const uint8_t *arena)
{
    printf("memory file=%" PRIu32 " arena=%" PRIu32 " arena_used=%zu code=%zu data=%zu stack=%ld "
           "peak_rss=%ld\n",
           program->file_bytes, program->arena_bytes, used(arena, program->arena_bytes),
           loaded_bytes(0), loaded_bytes(1), status_bytes("VmStk"), status_bytes("VmHWM"));
}

static options parse(int argc, char **argv)
{
    options o = {.threads = 1};
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--kernels") == 0) {
            o.kernels = argv[i + 1];
        } else if (strcmp(argv[i], "--threads") == 0) {
            o.threads = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else {
            fail(argv[i], "is no option");
        }
    }
    if (argc - i != 2) {
        fail("usage", "edgesvit-runner [--threads N] [--kernels NAME] PROGRAM.esv IMAGES.bin");
    }
    o.program = argv[i];
    o.images = argv[i + 1];
    return o;
}

static uint8_t *painted_arena(const esv_program *program)
{
    uint8_t *arena = aligned_alloc(16, program->arena_bytes); /* a multiple of 16 */
    if (!arena) {
        fail("arena", strerror(errno));
    }
    return memset(arena, PAINT, program->arena_bytes);
}

static void print_program(const esv_program *program)
{
    const esv_crew *crew = program->crew;
    printf("program crc=%08" PRIx32 " steps=%u input=%" PRIu32 " classes=%u arena=%" PRIu32
           " work=%" PRIu64 " threads=%" PRIu32 " kernels=%s\n",
           program->crc, program->time_steps, program->input_bytes, program->classes,
           program->arena_bytes, (uint64_t)crew->work_bytes * crew->members, crew->members,
           crew->kernel->name);
}

static void run_images(const esv_program *program, uint8_t *arena, const options *o)
{
    mapped_file images = map_file(o->images);
    size_t count = images.bytes / program->input_bytes;
    if (images.bytes % program->input_bytes) {
        fail(o->images, "is no whole number of images");
    }
    print_program(program);
    if (esv_check(program, arena) != ESV_OK) {
        fail(o->program, esv_status_text(ESV_CHECK_FAILED));
    }
    puts("check pass");
    int counter = open_instruction_counter();
    for (size_t i = 0; i < count; i++) {
        run_image(program, arena, images.data + i * program->input_bytes, i, counter);
    }
    print_memory(program, arena);
    printf("done images=%zu\n", count);
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    mapped_file file = map_file(o.program);
    esv_program program;
    esv_status status = esv_open(&program, file.data, (uint32_t)file.bytes);
    if (status != ESV_OK) {
        fail(o.program, esv_status_text(status));
    }
    const esv_crew *crew = crew_new(&program, o.kernels, o.threads);
    if (!crew) {
        fail(o.kernels ? o.kernels : "kernels", "not on this processor, or no memory");
    }
    run_images(&program, painted_arena(&program), &o);
    crew_free(crew);
    return 0;
}
