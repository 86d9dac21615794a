/* Depthwise convolution: with weights of 8 bits four channels at a time, whose sums stay in
 * registers of a small processor while the taps pass. Packed weights: taps outermost, a row is
 * unpacked for all its channels. */
#include <string.h>

#include "dense.h"
#include "dsp_words.h"
#include "weights.h"

/* The window of one output token at one step. */
typedef struct {
    int32_t y0, x0; /* its first tap, possibly outside the input */
    uint32_t t;
} place;

/* current (n) of channels first .. first + n. Added unsigned: a damaged program's sums may wrap,
 * but never overflow. */
static ESV_INLINE void sum_taps(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                                const void *input, place p, uint32_t first, uint32_t n,
                                int32_t *current)
{
    uint32_t sum[ESV_TILE], step = kind == ESV_SPIKES ? 0 : p.t * w->height * w->width;
    const uint8_t *tile = esv_tile_at(conv, (uint32_t)w->kernel * w->kernel, first);
    int8_t unpacked[ESV_LANES];
    for (uint32_t i = 0; i < n; i++) {
        sum[i] = (uint32_t)conv->bias[first + i];
    }
    for (int32_t y = p.y0 < 0 ? 0 : p.y0; y < p.y0 + w->kernel && y < w->height; y++) {
        for (int32_t x = p.x0 < 0 ? 0 : p.x0; x < p.x0 + w->kernel && x < w->width; x++) {
            uint32_t tap = (uint32_t)((y - p.y0) * w->kernel + (x - p.x0));
            uint32_t at = (step + (uint32_t)y * w->width + (uint32_t)x) * w->channels + first;
            const int8_t *weight =
                esv_row(tile + tap * esv_row_bytes(conv->bits, n), conv->bits, unpacked);
            const uint8_t *bytes = (const uint8_t *)input + at;
            const int16_t *words = (const int16_t *)input + at;
            for (uint32_t i = 0; i < n; i++) {
                int32_t in = kind == ESV_MEMBRANE ? words[i]
                             : kind == ESV_LEVELS ? bytes[i]
                                                  : bytes[i] >> p.t & 1;
                sum[i] += (uint32_t)(weight[i] * in);
            }
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        current[i] = (int32_t)sum[i];
    }
}

/* The part of a window inside the image, of four channels or one. */
typedef struct {
    const int8_t *weight; /* of its first tap */
    const void *in;       /* of its first tap */
    uint32_t height, width;
    uint32_t next_weight, weight_row; /* from a tap to the next, from a row of taps to the next */
    uint32_t next_in, in_row;
} view;

#define EVERY_TAP(v, weight, in, type)                                                             \
    const int8_t *weight = (v)->weight, *weight##_row = weight;                                    \
    const type *in = (v)->in, *in##_row = in;                                                      \
    for (uint32_t y = (v)->height; y; y--, weight = weight##_row += (v)->weight_row,               \
                  in = in##_row += (v)->in_row)                                                    \
        for (uint32_t x = (v)->width; x; x--, weight += (v)->next_weight, in += (v)->next_in)

/* Four bytes in a word: those that fire are added as weight + 128 in fields of 16 bits, which hold
 * 255 taps, and counted in a byte each. The first channel is in the lowest byte. */
static ESV_INLINE void spikes_of_four(const view *v, uint32_t t, uint32_t sum[4])
{
    uint32_t even = 0, odd = 0, count = 0;
    EVERY_TAP(v, weight, in, uint8_t)
    {
        uint32_t four, code;
        memcpy(&four, weight, sizeof four);
        memcpy(&code, in, sizeof code);
        uint32_t fired = code >> t & 0x01010101u;
        four = (four ^ 0x80808080u) & ((fired << 8) - fired);
        even += four & 0x00FF00FFu;
        odd += four >> 8 & 0x00FF00FFu;
        count += fired;
    }
    sum[0] += (even & 0xFFFF) - 128 * (count & 255);
    sum[1] += (odd & 0xFFFF) - 128 * (count >> 8 & 255);
    sum[2] += (even >> 16) - 128 * (count >> 16 & 255);
    sum[3] += (odd >> 16) - 128 * (count >> 24);
}

#define SIGNALS_OF_FOUR(name, type)                                                                \
    static ESV_INLINE void name(const view *v, uint32_t sum[4])                                    \
    {                                                                                              \
        uint32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];                                   \
        EVERY_TAP(v, weight, in, type)                                                             \
        {                                                                                          \
            a += (uint32_t)(weight[0] * in[0]);                                                    \
            b += (uint32_t)(weight[1] * in[1]);                                                    \
            c += (uint32_t)(weight[2] * in[2]);                                                    \
            d += (uint32_t)(weight[3] * in[3]);                                                    \
        }                                                                                          \
        sum[0] = a;                                                                                \
        sum[1] = b;                                                                                \
        sum[2] = c;                                                                                \
        sum[3] = d;                                                                                \
    }

SIGNALS_OF_FOUR(levels_of_four, uint8_t)
#ifdef ESV_DSP
static ESV_INLINE void membranes_of_four(const view *v, uint32_t sum[4])
{
    uint32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
    EVERY_TAP(v, weight, in, int16_t)
    {
        uint32_t four = esv_dsp_word(weight), low = esv_dsp_word(in), high = esv_dsp_word(in + 2);
        uint32_t even = esv_dsp_even(four), odd = esv_dsp_odd(four);
        a = esv_dsp_bb(low, even, a);
        b = esv_dsp_tb(low, odd, b);
        c = esv_dsp_bt(high, even, c);
        d = esv_dsp_tt(high, odd, d);
    }
    sum[0] = a;
    sum[1] = b;
    sum[2] = c;
    sum[3] = d;
}
#else
SIGNALS_OF_FOUR(membranes_of_four, int16_t)
#endif

static ESV_APART void sum_four(const view *v, enum esv_kind kind, uint32_t t, uint32_t sum[4])
{
    if (kind == ESV_SPIKES) {
        spikes_of_four(v, t, sum);
    } else if (kind == ESV_LEVELS) {
        levels_of_four(v, sum);
    } else {
        membranes_of_four(v, sum);
    }
}

/* The last channels, fewer than four. */
static ESV_APART void sum_one(const view *v, enum esv_kind kind, uint32_t t, uint32_t *sum)
{
    if (kind == ESV_MEMBRANE) {
        EVERY_TAP(v, weight, in, int16_t) { *sum += (uint32_t)(*weight * *in); }
        return;
    }
    EVERY_TAP(v, weight, in, uint8_t)
    {
        *sum += (uint32_t)(*weight * (kind == ESV_LEVELS ? *in : *in >> t & 1));
    }
}

/* How many taps of a window from `first` on are inside, and in *from the first of them. */
static uint32_t clip(int32_t first, int32_t kernel, int32_t size, uint32_t *from)
{
    int32_t begin = first < 0 ? 0 : first, end = first + kernel < size ? first + kernel : size;
    *from = (uint32_t)begin;
    return end > begin ? (uint32_t)(end - begin) : 0;
}

/* current (n) of channels first .. first + n, from weights of 8 bits. */
static void sum_tile(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                     const void *input, place p, uint32_t first, uint32_t n, int32_t *current)
{
    uint32_t y, x, c = 0, *sum = (uint32_t *)current, size = kind == ESV_MEMBRANE ? 2 : 1;
    view v = {.next_weight = n, .weight_row = w->kernel * n, .next_in = w->channels,
              .in_row = (uint32_t)w->width * w->channels};
    v.height = clip(p.y0, w->kernel, w->height, &y);
    v.width = clip(p.x0, w->kernel, w->width, &x);
    uint32_t tap = (y - (uint32_t)p.y0) * w->kernel + (x - (uint32_t)p.x0);
    uint32_t step = kind == ESV_SPIKES ? 0 : p.t * w->height * w->width;
    uint32_t at = (step + y * w->width + x) * w->channels + first;
    const uint8_t *in = (const uint8_t *)input + at * size;
    v.weight = (const int8_t *)esv_tile_at(conv, (uint32_t)w->kernel * w->kernel, first) + tap * n;
    memcpy(sum, conv->bias + first, n * sizeof *sum);
    for (; c + 4 <= n; c += 4, v.weight += 4, in += 4 * size) {
        v.in = in;
        sum_four(&v, kind, p.t, sum + c);
    }
    for (; c < n; c++, v.weight++, in += size) {
        v.in = in;
        sum_one(&v, kind, p.t, sum + c);
    }
}

#define MOST_KERNEL 15 /* whose taps a byte counts */

static ESV_APART void sum_any(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                              const void *input, place p, uint32_t first, uint32_t n,
                              int32_t *current)
{
    if (conv->bits == 8 && w->kernel <= MOST_KERNEL) {
        sum_tile(w, conv, kind, input, p, first, n, current);
    } else {
        sum_taps(w, conv, kind, input, p, first, n, current);
    }
}

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    enum esv_kind kind;
    const void *input;
} job;

static void convolve_row(void *context, uint32_t row, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->window;
    const esv_conv *conv = j->conv;
    int32_t current[ESV_TILE], state[ESV_TILE];
    (void)member;
    for (uint32_t token = row * w->out_width; token < (row + 1) * w->out_width; token++) {
        place p = {(int32_t)(token / w->out_width * w->stride) - w->pad,
                   (int32_t)(token % w->out_width * w->stride) - w->pad, 0};
        for (uint32_t first = 0; first < w->channels; first += ESV_TILE) {
            uint32_t left = w->channels - first, n = left < ESV_TILE ? left : ESV_TILE;
            for (p.t = 0; p.t < w->time_steps; p.t++) {
                sum_any(w, conv, j->kind, j->input, p, first, n, current);
                esv_after_currents(&conv->after, p.t, token, first, n, current, state);
            }
        }
    }
}

void esv_depthwise_conv(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                        const void *input, const esv_crew *crew)
{
#ifdef ESV_DENSE
    if (esv_depthwise_conv_dense(w, conv, kind, input, crew)) {
        return;
    }
#endif
    job j = {w, conv, kind, input};
    esv_share(crew, convolve_row, &j, w->out_height);
}
