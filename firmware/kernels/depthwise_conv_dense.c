/* Depthwise convolution on processors with wide vectors: 16 channels of one output token at a
 * time, all their steps' sums in registers. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

#include "weights.h"

#define UNROLL _Pragma("GCC unroll 4")
#define MOST_STEPS 4 /* of spikes at a time */
#define TOKENS 4     /* of levels, which share their weights */

#ifdef __aarch64__
#include "depthwise_neon.h"
#else
#include "depthwise_avx2.h"
#endif

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    enum esv_kind kind;
    uint32_t narrow;      /* sums of levels fit int16 */
    const uint8_t *input; /* of any kind */
    uint64_t edge;        /* from this byte on 16 channels may end behind the input: read `tail` */
    uint8_t tail[4 * ESV_TILE];
    const esv_crew *crew;
    uint32_t parts, width; /* of currents */
} job;

typedef struct {
    int8_t *weight;    /* (width / 16, kernel * kernel, 16) */
    int32_t *bias;     /* (width) */
    int32_t *currents; /* (T, out_width, width) */
} part;

/* One window, as far as it is inside; or the first of several that all have the same taps. */
typedef struct {
    uint64_t at;           /* its first input, in elements, at channel `first` and step 0 */
    const int8_t *weight;  /* of the tap there */
    uint32_t height, width;
    const int32_t *bias;
    int32_t *currents;
    uint32_t tokens, apart; /* in elements */
} place;

static int prepare(const job *j, uint32_t member, part *p)
{
    const esv_window *w = j->window;
    esv_dense_memory memory = esv_dense_memory_of(j->crew, member);
    uint32_t taps = (uint32_t)w->kernel * w->kernel, channels = w->channels;
    p->weight = esv_dense_take(&memory, (uint64_t)taps * j->width);
    p->bias = esv_dense_take(&memory, j->width * sizeof *p->bias);
    p->currents = esv_dense_take(
        &memory, (uint64_t)w->time_steps * w->out_width * j->width * sizeof *p->currents);
    if (!p->currents) {
        return 0;
    }
    memset(p->weight, 0, taps * j->width);
    memset(p->bias, 0, j->width * sizeof *p->bias);
    memcpy(p->bias, j->conv->bias, channels * sizeof *p->bias);
    for (uint32_t first = 0; first < channels; first += ESV_TILE) {
        const uint8_t *row = esv_tile_at(j->conv, taps, first);
        uint32_t n = esv_lanes_of(channels, first), bytes = esv_row_bytes(j->conv->bits, n);
        for (uint32_t tap = 0; tap < taps; tap++, row += bytes) {
            int8_t unpacked[ESV_LANES], *to = p->weight + first * taps + tap * ESV_TILE;
            memcpy(to, esv_row(row, j->conv->bits, unpacked), n);
        }
    }
    return 1;
}

INLINE const uint8_t *bytes_at(const job *j, uint64_t at)
{
    return at < j->edge ? j->input + at : j->tail + (at - j->edge);
}

/* Sums of steps t to t + steps - 1. They fit int16: there are at most 256 taps. */
INLINE void sum_spikes(const job *j, const place *p, uint32_t t, const uint32_t steps)
{
    sums16 sum[MOST_STEPS];
    bytes16 bit[MOST_STEPS];
    uint32_t channels = j->window->channels, next = j->window->out_width * j->width;
    UNROLL for (uint32_t i = 0; i < steps; i++) {
        sum[i] = no_sums();
        bit[i] = bit_of(t + i);
    }
    for (uint32_t y = 0; y < p->height; y++) {
        const int8_t *weight = p->weight + y * j->window->kernel * ESV_TILE;
        uint64_t at = p->at + (uint64_t)y * j->window->width * channels;
        for (uint32_t x = 0; x < p->width; x++, weight += ESV_TILE, at += channels) {
            bytes16 code = load_bytes(bytes_at(j, at));
            weights16 w = load_weights(weight);
            UNROLL for (uint32_t i = 0; i < steps; i++) {
                add_fired(&sum[i], w, code, bit[i]);
            }
        }
    }
    UNROLL for (uint32_t i = 0; i < steps; i++) {
        widen(&sum[i], p->bias, p->currents + (t + i) * next);
    }
}

static TARGET void sum_all_spikes(const job *j, const place *p)
{
    uint32_t t = 0, steps = j->window->time_steps;
    for (; t + 4 <= steps; t += 4) {
        sum_spikes(j, p, t, 4);
    }
    if (t + 2 <= steps) {
        sum_spikes(j, p, t, 2);
        t += 2;
    }
    if (t < steps) {
        sum_spikes(j, p, t, 1);
    }
}

/* Whether no tap of the windows' row from `at` on needs the tail. */
INLINE int is_inside(const job *j, const place *p, uint64_t at, uint32_t bytes)
{
    at += (uint64_t)(p->width - 1) * j->window->channels + (p->tokens - 1) * p->apart;
    return at * bytes < j->edge;
}

INLINE void add_levels(const job *j, const place *p, uint64_t at, unsigned tokens, int inside,
                       const int8_t *weight, sums16 *sum)
{
    uint32_t channels = j->window->channels, apart = p->apart;
    const uint8_t *from = j->input + at;
    for (uint32_t x = 0; x < p->width; x++, weight += ESV_TILE, from += channels, at += channels) {
        weights16 w = load_weights(weight);
        UNROLL for (unsigned r = 0; r < tokens; r++) {
            add_levels16(&sum[r], w, inside ? from + r * apart : bytes_at(j, at + r * apart));
        }
    }
}

INLINE void sum_levels(const job *j, const place *p, uint64_t from, unsigned tokens,
                       int32_t *currents)
{
    sums16 sum[TOKENS];
    UNROLL for (unsigned r = 0; r < tokens; r++) {
        sum[r] = no_sums();
    }
    for (uint32_t y = 0; y < p->height && p->width; y++) {
        const int8_t *weight = p->weight + y * j->window->kernel * ESV_TILE;
        uint64_t at = from + (uint64_t)y * j->window->width * j->window->channels;
        if (is_inside(j, p, at, 1)) {
            add_levels(j, p, at, tokens, 1, weight, sum);
        } else {
            add_levels(j, p, at, tokens, 0, weight, sum);
        }
    }
    UNROLL for (unsigned r = 0; r < tokens; r++) {
        widen(&sum[r], p->bias, currents + r * j->width);
    }
}

/* Levels below 128 whose sums fit int16, at one step. */
static TARGET void sum_narrow(const job *j, const place *p, uint64_t from, int32_t *currents)
{
    if (p->tokens > 1) {
        sum_levels(j, p, from, TOKENS, currents);
    } else {
        sum_levels(j, p, from, 1, currents);
    }
}

INLINE void add_row(const job *j, const place *p, uint64_t at, int words, int inside,
                    const int8_t *weight, sums32 *sum)
{
    uint32_t bytes = words ? 2 : 1, next = j->window->channels * bytes;
    const uint8_t *from = j->input + at * bytes;
    at *= bytes;
    for (uint32_t x = 0; x < p->width; x++, weight += ESV_TILE, from += next, at += next) {
        add_wide(sum, weight, inside ? from : bytes_at(j, at), words);
    }
}

/* Membranes (words), or any levels, at one step. */
INLINE void sum_wide(const job *j, const place *p, uint64_t from, int words, int32_t *currents)
{
    sums32 sum = start(p->bias);
    for (uint32_t y = 0; y < p->height && p->width; y++) {
        const int8_t *weight = p->weight + y * j->window->kernel * ESV_TILE;
        uint64_t at = from + (uint64_t)y * j->window->width * j->window->channels;
        if (is_inside(j, p, at, words ? 2 : 1)) {
            add_row(j, p, at, words, 1, weight, &sum);
        } else {
            add_row(j, p, at, words, 0, weight, &sum);
        }
    }
    store(&sum, currents);
}

static TARGET void sum_place(const job *j, const place *p)
{
    const esv_window *w = j->window;
    if (j->kind == ESV_SPIKES) {
        sum_all_spikes(j, p);
        return;
    }
    int32_t *currents = p->currents;
    uint64_t at = p->at, step = (uint64_t)w->height * w->width * w->channels;
    for (uint32_t t = 0; t < w->time_steps; t++, at += step) {
        if (j->kind == ESV_MEMBRANE) {
            sum_wide(j, p, at, 1, currents);
        } else if (j->narrow) {
            sum_narrow(j, p, at, currents);
        } else {
            sum_wide(j, p, at, 0, currents);
        }
        currents += w->out_width * j->width;
    }
}

/* How many taps of a window from `first` on are inside, and in *from the first of them. */
INLINE uint32_t clip(int32_t first, int32_t kernel, int32_t size, uint32_t *from)
{
    int32_t begin = first < 0 ? 0 : first, end = first + kernel < size ? first + kernel : size;
    *from = (uint32_t)begin;
    return end > begin ? (uint32_t)(end - begin) : 0;
}

/* How many windows from a column on are taken together. */
INLINE uint32_t tokens_from(const job *j, uint32_t column)
{
    const esv_window *w = j->window;
    uint32_t from = column * w->stride, last = from + (TOKENS - 1) * w->stride;
    int inside = from >= w->pad && column + TOKENS <= w->out_width &&
                 last + w->kernel <= (uint32_t)w->width + w->pad;
    return j->kind == ESV_LEVELS && j->narrow && inside ? TOKENS : 1;
}

/* Returns how many tokens are done. */
static TARGET uint32_t sum_tokens(const job *j, const part *p, uint32_t row, uint32_t column)
{
    const esv_window *w = j->window;
    int32_t y0 = (int32_t)(row * w->stride) - w->pad, x0 = (int32_t)(column * w->stride) - w->pad;
    uint32_t y, x, taps = (uint32_t)w->kernel * w->kernel;
    place at = {.height = clip(y0, w->kernel, w->height, &y), .tokens = tokens_from(j, column),
                .apart = (uint32_t)w->stride * w->channels};
    at.width = clip(x0, w->kernel, w->width, &x);
    uint32_t tap = (uint32_t)((int32_t)y - y0) * w->kernel + (uint32_t)((int32_t)x - x0);
    for (uint32_t first = 0; first < w->channels; first += ESV_TILE) {
        at.at = ((uint64_t)y * w->width + x) * w->channels + first;
        at.weight = p->weight + first * taps + tap * ESV_TILE;
        at.bias = p->bias + first;
        at.currents = p->currents + column * j->width + first;
        sum_place(j, &at);
    }
    return at.tokens;
}

static void convolve_rows(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->window;
    uint32_t row = w->out_height * index / j->parts, end = w->out_height * (index + 1) / j->parts;
    part p;
    prepare(j, member, &p);
    for (; row < end; row++) {
        for (uint32_t x = 0; x < w->out_width;) {
            x += sum_tokens(j, &p, row, x);
        }
        esv_after_rows(&j->conv->after, row * w->out_width, w->out_width, p.currents, j->width,
                       w->out_width * j->width);
    }
}

/* Copy the end of the input to where there is room behind it. */
static void keep_tail(job *j)
{
    const esv_window *w = j->window;
    uint64_t bytes = (uint64_t)w->height * w->width * w->channels;
    bytes *= j->kind == ESV_SPIKES ? 1 : w->time_steps;
    bytes *= j->kind == ESV_MEMBRANE ? 2 : 1;
    uint64_t last = bytes < 2 * ESV_TILE ? bytes : 2 * ESV_TILE;
    j->edge = bytes - last;
    memcpy(j->tail, j->input + j->edge, last);
}

int esv_depthwise_conv_dense(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                             const void *input, const esv_crew *crew)
{
    if (!esv_dense_runs(crew)) {
        return 0;
    }
    job j = {.window = w, .conv = conv, .kind = kind, .input = input, .crew = crew,
             .parts = esv_dense_parts(crew, w->out_height),
             .width = esv_dense_round(w->channels, ESV_TILE)};
    j.narrow = w->max_level <= 127 && w->max_level * 128u * w->kernel * w->kernel <= INT16_MAX;
    part p;
    if (!prepare(&j, 0, &p)) {
        return 0;
    }
    keep_tail(&j);
    esv_share(crew, convolve_rows, &j, j.parts);
    return 1;
}
#endif
