/* The board runner for .tflite files: the lines of firmware/linux/runner.c through LiteRT.
 *
 *     edgesvit-litert [--threads N] [--windows N --seconds S --idle S] LIBRARY MODEL.tflite IMAGES.bin
 *
 * LIBRARY is libLiteRt.so of the ai-edge-litert wheel. The model takes one image, int8, each pixel
 * less 128, and gives the scores of the classes in float. Its last 8 bytes are `ESVT` and the CRC-32
 * of those before: LiteRT would crash on a damaged file. No arena can be read, LiteRT's is inside
 * XNNPACK: `arena_used` is by how much the anonymous part of resident memory grew since before the
 * model was loaded. Exit status: 0, or 1 with one line on stderr.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "litert.h"
#include "probe.h"
#include "windows.h"

typedef struct {
    const char *library, *model, *images;
    uint32_t threads;
    window_plan plan;
} options;

typedef struct {
    litert_api api;
    void *environment, *compiled, *input, *output;
    size_t input_bytes, classes;
} session;

static options parse(int argc, char **argv)
{
    options o = {.threads = 1};
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--threads") == 0) {
            o.threads = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (!windows_option(&o.plan, argv[i], argv[i + 1])) {
            probe_fail(argv[i], "is no option");
        }
    }
    if (argc - i != 3) {
        probe_fail("usage", "edgesvit-litert [--threads N] LIBRARY MODEL.tflite IMAGES.bin");
    }
    o.library = argv[i], o.model = argv[i + 1], o.images = argv[i + 2];
    return o;
}

static litert_api load_library(const char *path)
{
    litert_api api;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        probe_fail("library", dlerror());
    }
#define F(name, arguments)                                                                         \
    *(void **)&api.name = dlsym(library, "LiteRt" #name);                                          \
    if (!api.name) {                                                                               \
        probe_fail(path, "is another version of LiteRT: it has no LiteRt" #name);                  \
    }
    LITERT_FUNCTIONS(F)
#undef F
    return api;
}

static void require(int status, const char *what, const char *why)
{
    if (status != 0) {
        char said[128];
        snprintf(said, sizeof said, "%s (LiteRT status %d)", why, status);
        probe_fail(what, said);
    }
}

static void *new_options(const litert_api *api, uint32_t threads)
{
    void *all, *processor;
    char *text = malloc(32); /* freed by LiteRT */
    if (!text) {
        probe_fail("options", "no memory");
    }
    snprintf(text, 32, "num_threads = %" PRIu32 "\n", threads);
    require(api->CreateOptions(&all), "options", "refused");
    require(api->SetOptionsHardwareAccelerators(all, LITERT_CPU), "options", "refused");
    require(api->CreateOpaqueOptions("xnnpack", text, free, &processor), "options", "refused");
    require(api->AddOpaqueOptions(all, processor), "options", "refused");
    return all;
}

static uint32_t crc32_of(const uint8_t *data, size_t bytes)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
        }
    }
    return ~crc;
}

/* The model's checksum; ends the process when it is not the model's. */
static uint32_t checked(const probe_file *model, const char *path)
{
    uint32_t said = 0;
    size_t bytes = model->bytes < 16 ? 0 : model->bytes - 8;
    const uint8_t *end = model->data + bytes;
    if (!bytes || memcmp(model->data + 4, "TFL3", 4) != 0 || memcmp(end, "ESVT", 4) != 0) {
        probe_fail(path, "is no .tflite file of edgesvit, or a truncated one");
    }
    for (int i = 3; i >= 0; i--) {
        said = said << 8 | end[4 + i];
    }
    if (crc32_of(model->data, bytes) != said) {
        probe_fail(path, "corrupted: the checksum differs");
    }
    return said;
}

static size_t elements(const litert_layout *layout)
{
    size_t count = 1;
    for (unsigned i = 0; i < layout->rank; i++) {
        count *= (size_t)layout->dimensions[i];
    }
    return count;
}

static session start_litert(const char *library)
{
    session s = {.api = load_library(library)};
    require(s.api.CreateEnvironment(0, NULL, &s.environment), "LiteRT", "does not start");
    return s;
}

static void compile(session *s, const options *o)
{
    void *model;
    require(s->api.CreateModelFromFile(s->environment, o->model, &model), o->model,
            "is no .tflite file that this LiteRT knows");
    require(s->api.CreateCompiledModel(s->environment, model, new_options(&s->api, o->threads),
                                       &s->compiled), o->model, "LiteRT cannot run it");
}

static void open_model(session *s, const options *o)
{
    const litert_api *api = &s->api;
    void *needed;
    litert_tensor image = {.element = LITERT_INT8}, scores = {.element = LITERT_FLOAT32};
    compile(s, o);
    require(api->GetCompiledModelInputTensorLayout(s->compiled, 0, 0, &image.layout), o->model,
            "does not take one image");
    require(api->GetCompiledModelOutputTensorLayouts(s->compiled, 0, 1, &scores.layout, true),
            o->model, "does not give the scores of classes");
    require(api->GetCompiledModelInputBufferRequirements(s->compiled, 0, 0, &needed), o->model,
            "does not say what it takes");
    require(api->CreateManagedTensorBufferFromRequirements(s->environment, &image, needed, &s->input),
            o->model, "does not take int8");
    require(api->GetCompiledModelOutputBufferRequirements(s->compiled, 0, 0, &needed), o->model,
            "does not say what it gives");
    require(api->CreateManagedTensorBufferFromRequirements(s->environment, &scores, needed,
                                                           &s->output), o->model,
            "does not give float");
    s->input_bytes = elements(&image.layout);
    s->classes = elements(&scores.layout);
}

static void set_input(session *s, const uint8_t *image)
{
    void *at;
    require(s->api.LockTensorBuffer(s->input, &at, LITERT_WRITE), "input", "cannot be written");
    for (size_t i = 0; i < s->input_bytes; i++) {
        ((uint8_t *)at)[i] = image[i] ^ 0x80; /* as int8: less 128 */
    }
    require(s->api.UnlockTensorBuffer(s->input), "input", "cannot be written");
}

static void infer(session *s)
{
    require(s->api.RunCompiledModel(s->compiled, 0, 1, &s->input, 1, &s->output), "LiteRT",
            "fails to run the model");
}

/* The scores of the last run go to `kept`, or must be those in it. */
static void keep_logits(session *s, float *kept, bool again)
{
    void *at;
    size_t bytes = s->classes * sizeof *kept;
    require(s->api.LockTensorBuffer(s->output, &at, LITERT_READ), "output", "cannot be read");
    if (again && memcmp(at, kept, bytes) != 0) {
        probe_fail("windows", "an image gave other logits than before");
    }
    memcpy(kept, at, bytes);
    require(s->api.UnlockTensorBuffer(s->output), "output", "cannot be read");
}

typedef struct {
    session *s;
    const uint8_t *images; /* (images, input_bytes) */
    float *logits;         /* (images, classes) */
} repeated;

static void repeat_image(void *context, size_t index)
{
    const repeated *all = context;
    set_input(all->s, all->images + index * all->s->input_bytes);
    infer(all->s);
    keep_logits(all->s, all->logits + index * all->s->classes, true);
}

static void print_logits(session *s)
{
    void *at;
    require(s->api.LockTensorBuffer(s->output, &at, LITERT_READ), "output", "cannot be read");
    for (size_t c = 0; c < s->classes; c++) {
        printf("%s%.9g", c ? "," : "", (double)((const float *)at)[c]);
    }
    require(s->api.UnlockTensorBuffer(s->output), "output", "cannot be read");
}

static void run_image(session *s, const uint8_t *image, size_t index, int counter)
{
    set_input(s, image);
    int64_t start = probe_ns();
    int64_t count = probe_count(counter);
    edgesvit_roi_begin();
    infer(s);
    edgesvit_roi_end();
    int64_t instructions = counter < 0 ? -1 : probe_count(counter) - count;
    int64_t ns = probe_ns() - start;
    printf("image index=%zu ns=%" PRId64 " instructions=%" PRId64 " logits=", index, ns,
           instructions);
    print_logits(s);
    putchar('\n');
    fflush(stdout);
}

static const char *kernels(const session *s)
{
    bool whole = false;
    s->api.CompiledModelIsFullyAccelerated(s->compiled, &whole);
    return whole ? "xnnpack" : "xnnpack+builtin";
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    probe_file model = probe_map(o.model), images = probe_map(o.images);
    uint32_t crc = checked(&model, o.model);
    session s = start_litert(o.library);
    long before = probe_status_bytes("RssAnon");
    open_model(&s, &o);
    if (images.bytes % s.input_bytes) {
        probe_fail(o.images, "is no whole number of images");
    }
    size_t count = images.bytes / s.input_bytes;
    printf("program crc=%08" PRIx32 " steps=0 input=%zu classes=%zu arena=0 work=0 threads=%" PRIu32
           " kernels=%s\n", crc, s.input_bytes, s.classes, o.threads, kernels(&s));
    set_input(&s, images.data);
    infer(&s); /* nothing is allocated or packed while the clock runs */
    int counter = probe_open_counter();
    float *logits = malloc((count + 1) * s.classes * sizeof *logits);
    if (!logits) {
        probe_fail("logits", "no memory");
    }
    for (size_t i = 0; i < count; i++) {
        run_image(&s, images.data + i * s.input_bytes, i, counter);
        keep_logits(&s, logits + i * s.classes, false);
    }
    if (o.plan.windows) {
        repeated all = {&s, images.data, logits};
        windows_run(&o.plan, count, repeat_image, &all);
    }
    free(logits);
    long grown = probe_status_bytes("RssAnon") - before;
    printf("memory file=%zu arena=0 arena_used=%ld code=%zu data=%zu stack=%ld peak_rss=%ld\n",
           model.bytes, grown, probe_loaded_bytes(0), probe_loaded_bytes(1),
           probe_status_bytes("VmStk"), probe_status_bytes("VmHWM"));
    printf("done images=%zu\n", count);
    return 0;
}
