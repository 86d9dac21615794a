/* Spiking convolutions by all of their roads, lists, dense products and masks, as a program to
 * count instructions of or to time.
 *
 *     roads ROUNDS [KERNELS] < LAYERS
 *
 * A layer is a line `side channels out_channels kernel stride pool time_steps max_level rate kind
 * convolutions`: square, padded by kernel / 2; max_level 0 is of spikes, rate is the share of inputs
 * that are not 0 in percent, kind what comes out (esv_kind), of as many equal convolutions. For each
 * it prints: entries of lists in millionths of the inputs, the least nanoseconds of ROUNDS by
 * lists, products and masks, whether there are masks (else it is lists once more), and the automatic
 * choice: 0, 1 or 2. All must write the same bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "after.h"
#include "crew.h"
#include "spike_conv.h"
#include "spike_masks.h"
#include "layer.h"

#define MOST_CONVS 4
#define LEVELS 4 /* that come out, where levels do */

typedef struct {
    uint32_t side, channels, out_channels, kernel, stride, pool, steps, max_level, rate, kind, convs;
} shape;

typedef struct {
    esv_window window;
    esv_conv conv;
    esv_crew crew;
    uint8_t *input, *out[3];
    void *scratch;
} call;

/* Of a neuron that fires. */
static uint32_t firing_code(uint32_t steps)
{
    uint32_t code = 0;
    while (!code) {
        code = random_code(ONE + random_gaussian(ONE * 8 / 10), steps);
    }
    return code;
}

/* Levels are steady: at any step they may be one less. */
static void fill_input(const shape *s, call *c)
{
    uint32_t count = s->side * s->side * s->channels, planes = s->max_level ? s->steps : 1;
    c->input = take((size_t)count * planes + 64);
    for (uint32_t i = 0; i < count; i++) {
        if (random_bits() % 100 >= s->rate) {
            continue;
        }
        if (!s->max_level) {
            c->input[i] = (uint8_t)firing_code(s->steps);
            continue;
        }
        uint32_t less = s->steps == 1 || random_bits() % 2 ? 0 : random_bits();
        uint32_t level = 1 + random_bits() % s->max_level;
        for (uint32_t t = 0; t < s->steps; t++) {
            c->input[t * count + i] = (uint8_t)(level - (less >> t & 1));
        }
    }
}

static void fill_constants(const shape *s, call *c)
{
    uint32_t n = s->out_channels, inputs = s->kernel * s->kernel * s->channels;
    uint32_t padded = (n + ESV_LANES - 1) / ESV_LANES * ESV_LANES;
    uint8_t *weight = take((size_t)inputs * padded), *flags = take((n + 7) / 8 + 1);
    int32_t *bias = take(n * sizeof *bias), *threshold = take(LEVELS * n * sizeof *threshold);
    for (uint32_t i = 0; i < inputs * padded; i++) {
        weight[i] = (uint8_t)(random_gaussian(8));
    }
    for (uint32_t i = 0; i < n; i++) {
        bias[i] = random_gaussian(50);
    }
    for (uint32_t i = 0; i < LEVELS * n; i++) {
        threshold[i] = 20 + (int32_t)(random_bits() % 100); /* of membranes the scales */
    }
    memset(flags, 255, (n + 7) / 8 + 1);
    c->conv = (esv_conv){.weight = weight, .bits = 8, .bias = bias, .certified = flags};
    c->conv.after = (esv_after){.kind = (uint8_t)s->kind, .time_steps = (uint8_t)s->steps,
                                .channels = (uint16_t)n, .shift = 8, .scale = threshold,
                                .max_level = s->kind == ESV_MEMBRANE ? 32767 : LEVELS,
                                .tokens = (uint32_t)c->window.out_height * c->window.out_width,
                                .threshold = threshold};
}

static uint32_t aligned(uint64_t bytes)
{
    return (uint32_t)((bytes + 63) / 64 * 64);
}

static void *take_64(uint64_t bytes)
{
    void *memory = aligned_alloc(64, aligned(bytes + 64));
    if (!memory) {
        exit(1);
    }
    return memory;
}

static uint32_t shrunk(uint32_t size, uint32_t window, uint32_t stride)
{
    return (size + 2 * (window / 2) - window) / stride + 1;
}

static size_t out_bytes(const shape *s, const esv_after *after)
{
    size_t planes = s->kind == ESV_SPIKES ? 1 : s->kind == ESV_LEVELS ? s->steps : 2 * s->steps;
    return planes * after->tokens * s->out_channels;
}

static void open_layer(const shape *s, const char *name, call *c)
{
    int levels = s->max_level > 0;
    uint32_t side = shrunk(s->side, s->kernel, s->stride);
    side = s->pool ? shrunk(side, s->pool, 2) : side;
    memset(c, 0, sizeof *c);
    c->window = (esv_window){
        .height = (uint16_t)s->side, .width = (uint16_t)s->side, .channels = (uint16_t)s->channels,
        .out_height = (uint16_t)side, .out_width = (uint16_t)side,
        .out_channels = (uint16_t)s->out_channels, .kernel = (uint8_t)s->kernel,
        .stride = (uint8_t)s->stride, .pad = (uint8_t)(s->kernel / 2),
        .time_steps = (uint8_t)s->steps, .max_level = (uint16_t)(levels ? s->max_level : 1),
        .pool = (uint8_t)s->pool, .pool_stride = 2};
    fill_input(s, c);
    fill_constants(s, c);
    const struct esv_spike_variant *kernel = crew_kernels(name);
    uint32_t work = aligned(esv_spike_conv_work(&c->window, levels, kernel));
    void *prepared = take_64(esv_spike_prepared_bytes(&c->window, levels, &c->conv, kernel));
    esv_spike_prepare(&c->window, levels, &c->conv, kernel, prepared);
    c->conv.prepared = prepared;
    c->scratch = take_64(esv_spike_conv_scratch(&c->window, levels));
    c->crew = (esv_crew){.kernel = kernel, .members = 1, .work = take_64(work), .work_bytes = work};
    for (uint32_t i = 0; i < 3; i++) {
        c->out[i] = take_64(out_bytes(s, &c->conv.after));
    }
}

/* The least nanoseconds of `rounds`. */
static int64_t run(call *c, uint32_t convs, int levels, enum esv_road road, uint8_t *out,
                   uint32_t rounds)
{
    int64_t least = INT64_MAX;
    c->conv.after.out = out;
    c->crew.road = road;
    esv_conv conv[MOST_CONVS];
    for (uint32_t i = 0; i < convs; i++) {
        conv[i] = c->conv;
    }
    for (uint32_t i = 0; i < rounds; i++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        bench_begin();
        esv_spike_conv(&c->window, conv, convs, levels, c->input, c->scratch, &c->crew);
        bench_end();
        clock_gettime(CLOCK_MONOTONIC, &to);
        int64_t ns = (to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec;
        least = ns < least ? ns : least;
    }
    return least;
}

static enum esv_road choose(const call *c, uint32_t convs, int levels)
{
    esv_conv conv[MOST_CONVS];
    for (uint32_t i = 0; i < convs; i++) {
        conv[i] = c->conv;
    }
    return esv_spike_choose(&c->window, conv, convs, levels, c->input, &c->crew);
}

int main(int count, char **words)
{
    uint32_t rounds = count > 1 ? (uint32_t)atoi(words[1]) : 1;
    shape s;
    call c;
    random_start(1);
    while (scanf("%u %u %u %u %u %u %u %u %u %u %u", &s.side, &s.channels, &s.out_channels,
                 &s.kernel, &s.stride, &s.pool, &s.steps, &s.max_level, &s.rate, &s.kind,
                 &s.convs) == 11) {
        int levels = s.max_level > 0;
        open_layer(&s, count > 2 ? words[2] : NULL, &c);
        int masks = esv_spike_takes_masks(&c.window, &c.conv, 1, levels, &c.crew);
        const enum esv_road roads[] = {ESV_LISTS_ALONE, ESV_DENSE_ALONE,
                                       masks ? ESV_MASKS_FIRST : ESV_LISTS_ALONE};
        printf("%.0f", 1e6 * (double)esv_spike_listed(&c.window, levels, c.input));
        for (uint32_t i = 0; i < 3; i++) {
            printf(" %" PRId64, run(&c, s.convs, levels, roads[i], c.out[i], rounds));
        }
        c.crew.road = ESV_ANY_ROAD;
        enum esv_road chosen = choose(&c, s.convs, levels);
        printf(" %d %d\n", masks,
               chosen == ESV_DENSE_ALONE ? 1 : chosen == ESV_MASKS_FIRST ? 2 : 0);
        size_t bytes = out_bytes(&s, &c.conv.after);
        if (memcmp(c.out[0], c.out[1], bytes) || memcmp(c.out[0], c.out[2], bytes)) {
            fprintf(stderr, "the roads differ\n");
            return 1;
        }
    }
    return 0;
}
