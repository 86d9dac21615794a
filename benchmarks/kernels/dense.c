/* The rival: the same layer by dense int8 matrix products, blind to the spikes.
 *
 * Codes are spread to one byte a step, a block of tokens at a time, T rows a token; the product gives
 * int32 sums, and the neurons run on them. dense_*.h have the inner loops: PANEL channels of packed
 * weights times ROWS rows at a time, over K.
 */
#include "layer.h"

#define BLOCK 16 /* tokens */

#if defined __AVX512VNNI__
#include "dense_vnni.h"
#elif defined __AVX2__
#include "dense_avx2.h"
#elif defined __ARM_FEATURE_DOTPROD
#include "dense_sdot.h"
#elif defined __ARM_NEON
#include "dense_smull.h"
#elif defined __ARM_FEATURE_MVE
#include "dense_mve.h"
#elif defined __ARM_FEATURE_DSP
#include "dense_smlad.h"
#else
#error "no dense kernel for this processor"
#endif

typedef struct {
    int8_t *weight; /* (out_channels / PANEL, K * PANEL) in the order of the inner loop */
    int8_t *rows;   /* (BLOCK, T, K) 0 or 1 */
    int32_t *sums;  /* (BLOCK, T, out_channels) */
} buffers;

void *dense_prepare(const layer *l)
{
    uint32_t channels = l->shape.out_channels, rows = BLOCK * l->shape.time_steps;
    buffers *b = take(sizeof *b);
    b->weight = take((size_t)l->inputs * channels);
    b->rows = take((size_t)rows * l->inputs);
    b->sums = take((size_t)4 * rows * channels);
    for (uint32_t k = 0; k < l->inputs; k++) {
        for (uint32_t c = 0; c < channels; c++) {
            b->weight[c / PANEL * PANEL * l->inputs + panel_place(k, c % PANEL, l->inputs)] =
                l->weight[(size_t)k * channels + c];
        }
    }
    return b;
}

/* row (count): 1 where a code has the step's bit. Not inlined, or its pointers could be aliases. */
static __attribute__((noinline)) void spread(const uint8_t *restrict codes, size_t count,
                                             uint8_t step, int8_t *restrict row)
{
    for (size_t c = 0; c < count; c++) {
        row[c] = (codes[c] & step) != 0;
    }
}

/* rows (T, K) of one token. */
static void window(const layer *l, uint32_t token, int8_t *rows)
{
    const layer_shape *s = &l->shape;
    int32_t side = (int32_t)s->side, reach = (int32_t)s->kernel / 2;
    int32_t y0 = (int32_t)(token / s->side) - reach, x0 = (int32_t)(token % s->side) - reach;
    for (int32_t y = y0; y < y0 + (int32_t)s->kernel; y++) {
        for (int32_t x = x0; x < x0 + (int32_t)s->kernel; x++, rows += s->channels) {
            int inside = y >= 0 && y < side && x >= 0 && x < side;
            const uint8_t *codes = l->codes + (inside ? (uint32_t)(y * side + x) * s->channels : 0);
            for (uint32_t t = 0; t < s->time_steps; t++) {
                uint8_t step = (uint8_t)(inside ? 1u << t : 0);
                spread(codes, s->channels, step, rows + t * l->inputs);
            }
        }
    }
}

/* codes (n) of one token from sums (T, n). */
static void neurons(const layer *l, const int32_t *restrict sums, uint8_t *restrict out)
{
    enum { WIDTH = 16 }; /* a whole number of vectors, so that loops over it vectorise */
    for (uint32_t first = 0; first < l->shape.out_channels; first += WIDTH) {
        const int32_t *bias = l->bias + first, *threshold = l->threshold + first;
        int32_t v[WIDTH] = {0}, code[WIDTH] = {0};
        for (uint32_t t = 0; t < l->shape.time_steps; t++) {
            const int32_t *sum = sums + t * l->shape.out_channels + first;
            for (uint32_t c = 0; c < WIDTH; c++) {
                int32_t u = (v[c] + sum[c] + bias[c]) >> 1;
                int32_t fired = -(u >= threshold[c]);
                v[c] = u & ~fired;
                code[c] |= fired & (1 << t);
            }
        }
        for (uint32_t c = 0; c < WIDTH; c++) {
            out[first + c] = (uint8_t)code[c];
        }
    }
}

/* rows must be a multiple of ROWS: tokens are one of 4. */
void dense_run(const layer *l, void *prepared, uint8_t *out)
{
    buffers *b = prepared;
    uint32_t steps = l->shape.time_steps, channels = l->shape.out_channels;
    for (uint32_t token = 0; token < l->tokens; token += BLOCK) {
        uint32_t n = l->tokens - token < BLOCK ? l->tokens - token : BLOCK;
        for (uint32_t i = 0; i < n; i++) {
            window(l, token + i, b->rows + (size_t)i * steps * l->inputs);
        }
        for (uint32_t c = 0; c < channels; c += PANEL) {
            for (uint32_t r = 0; r < n * steps; r += ROWS) {
                multiply(b->rows + (size_t)r * l->inputs, b->weight + (size_t)c * l->inputs,
                         l->inputs, b->sums + r * channels + c, channels);
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            neurons(l, b->sums + i * steps * channels, out + (token + i) * channels);
        }
    }
}
