/* The board runner for Linux: runs a spike program on a file of images and prints one line each.
 *
 *     edgesvit-runner [--threads N] [--kernels NAME] [--windows N --seconds S --idle S]
 *                     [--layers ROUNDS] PROGRAM.esv IMAGES.bin
 *
 * IMAGES.bin holds raw uint8 images (n, H, W, C), or event counts (n, T, H, W, C). One thread and
 * the processor's fastest kernels unless said; crew.h says what NAME may be. Lines on stdout, all
 * `word key=value ...`:
 *
 *     program crc=... steps=T input=BYTES classes=N arena=BYTES work=BYTES threads=N kernels=NAME
 *     check pass
 *     image index=I ns=NANOSECONDS instructions=COUNT logits=a,b,...
 *     window ... and samples ..., as in windows.h, with --windows alone
 *     layers ..., as in layers.h, with --layers alone
 *     memory file=BYTES arena=BYTES arena_used=BYTES code=BYTES data=BYTES stack=BYTES peak_rss=BYTES
 *     done images=N
 *
 * instructions is -1 where the kernel offers no hardware counter. Exit status: 0, or 1 with one
 * line on stderr.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "layers.h"
#include "probe.h"
#include "spike_conv.h"
#include "windows.h"

typedef struct {
    const char *program, *images, *kernels; /* kernels NULL: the fastest */
    uint32_t threads, layer_rounds;
    window_plan plan;
} options;

typedef struct {
    const esv_program *program;
    uint8_t *arena;
    const uint8_t *images; /* (images, input_bytes) */
    int32_t *logits;       /* (images, classes), as the first run of each gave them */
} repeated;

static void run_image(const esv_program *program, void *arena, const uint8_t *image, size_t index,
                      int counter)
{
    memcpy(esv_input(program, arena), image, program->input_bytes);
    /* The clock outside the counter: how many instructions reading it takes depends on the time.
     * The two system calls inside the clock cost it about a microsecond. */
    int64_t start = probe_ns();
    int64_t count = probe_count(counter);
    edgesvit_roi_begin();
    esv_run(program, arena);
    edgesvit_roi_end();
    int64_t instructions = counter < 0 ? -1 : probe_count(counter) - count;
    int64_t ns = probe_ns() - start;
    const int32_t *logits = esv_logits(program, arena);
    printf("image index=%zu ns=%" PRId64 " instructions=%" PRId64 " logits=", index, ns,
           instructions);
    for (uint32_t c = 0; c < program->classes; c++) {
        printf("%s%" PRId32, c ? "," : "", logits[c]);
    }
    putchar('\n');
    fflush(stdout);
}

static void repeat_image(void *context, size_t index)
{
    const repeated *all = context;
    const esv_program *program = all->program;
    size_t bytes = program->classes * sizeof *all->logits;
    memcpy(esv_input(program, all->arena), all->images + index * program->input_bytes,
           program->input_bytes);
    esv_run(program, all->arena);
    if (memcmp(esv_logits(program, all->arena), all->logits + index * program->classes, bytes)) {
        probe_fail("windows", "an image gave other logits than before");
    }
}

static void print_memory(const esv_program *program, const uint8_t *arena)
{
    printf("memory file=%" PRIu32 " arena=%" PRIu32 " arena_used=%zu code=%zu data=%zu stack=%ld "
           "peak_rss=%ld\n",
           program->file_bytes, program->arena_bytes, probe_used(arena, program->arena_bytes),
           probe_loaded_bytes(0), probe_loaded_bytes(1), probe_status_bytes("VmStk"),
           probe_status_bytes("VmHWM"));
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
        } else if (strcmp(argv[i], "--layers") == 0) {
            o.layer_rounds = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (!windows_option(&o.plan, argv[i], argv[i + 1])) {
            probe_fail(argv[i], "is no option");
        }
    }
    if (argc - i != 2) {
        probe_fail("usage", "edgesvit-runner [--threads N] [--kernels NAME] PROGRAM.esv IMAGES.bin");
    }
    o.program = argv[i];
    o.images = argv[i + 1];
    return o;
}

static uint8_t *painted_arena(const esv_program *program)
{
    uint8_t *arena = aligned_alloc(16, program->arena_bytes); /* a multiple of 16 */
    if (!arena) {
        probe_fail("arena", strerror(errno));
    }
    return memset(arena, PROBE_PAINT, program->arena_bytes);
}

static void print_program(const esv_program *program)
{
    const esv_crew *crew = program->crew;
    printf("program crc=%08" PRIx32 " steps=%u input=%" PRIu32 " classes=%u arena=%" PRIu32
           " work=%" PRIu64 " threads=%" PRIu32 " kernels=%s\n",
           program->crc, program->time_steps, program->input_bytes, program->classes,
           program->arena_bytes, (uint64_t)crew->work_bytes * crew->members + crew->prepared_bytes, crew->members,
           crew->kernel->name);
}

static void run_images(const esv_program *program, uint8_t *arena, const options *o)
{
    probe_file images = probe_map(o->images);
    size_t count = images.bytes / program->input_bytes;
    if (images.bytes % program->input_bytes) {
        probe_fail(o->images, "is no whole number of images");
    }
    print_program(program);
    if (esv_check(program, arena) != ESV_OK) {
        probe_fail(o->program, esv_status_text(ESV_CHECK_FAILED));
    }
    puts("check pass");
    int counter = probe_open_counter();
    int32_t *logits = malloc(count * program->classes * sizeof *logits);
    if (!logits) {
        probe_fail("logits", strerror(errno));
    }
    for (size_t i = 0; i < count; i++) {
        run_image(program, arena, images.data + i * program->input_bytes, i, counter);
        memcpy(logits + i * program->classes, esv_logits(program, arena),
               program->classes * sizeof *logits);
    }
    if (o->plan.windows) {
        repeated all = {program, arena, images.data, logits};
        windows_run(&o->plan, count, repeat_image, &all);
    }
    layers_run(program, arena, images.data, count, logits, o->layer_rounds, counter);
    free(logits);
    print_memory(program, arena);
    printf("done images=%zu\n", count);
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    probe_file file = probe_map(o.program);
    esv_program program;
    esv_status status = esv_open(&program, file.data, (uint32_t)file.bytes);
    if (status != ESV_OK) {
        probe_fail(o.program, esv_status_text(status));
    }
    const esv_crew *crew = crew_new(&program, o.kernels, o.threads);
    if (!crew) {
        probe_fail(o.kernels ? o.kernels : "kernels", "not on this processor, or no memory");
    }
    run_images(&program, painted_arena(&program), &o);
    crew_free(crew);
    return 0;
}
