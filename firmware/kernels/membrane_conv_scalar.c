/* A linear layer on membranes: they are rarely 0, so all weights are read. */
#include <string.h>

#include "dense.h"
#include "dsp_words.h"
#include "weights.h"

/* sum (4) of four channels of rows k .. end: in registers of a small processor. */
static ESV_INLINE void sum_four(const int8_t *weight, uint32_t next, const int16_t *in,
                                const int16_t *end, uint32_t *sum)
{
    uint32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
#ifdef ESV_DSP
    for (; in + 2 <= end; in += 2, weight += 2 * next) { /* two rows at a time */
        uint32_t x = esv_dsp_word(in), one = esv_dsp_word(weight);
        uint32_t other = esv_dsp_word(weight + next);
        uint32_t even = esv_dsp_even(one), odd = esv_dsp_odd(one);
        uint32_t more_even = esv_dsp_even(other), more_odd = esv_dsp_odd(other);
        a = esv_dsp_both(x, esv_dsp_low(even, more_even), a);
        b = esv_dsp_both(x, esv_dsp_low(odd, more_odd), b);
        c = esv_dsp_both(x, esv_dsp_high(even, more_even), c);
        d = esv_dsp_both(x, esv_dsp_high(odd, more_odd), d);
    }
#endif
    for (; in < end; in++, weight += next) {
        int32_t x = *in;
        a += (uint32_t)(x * weight[0]);
        b += (uint32_t)(x * weight[1]);
        c += (uint32_t)(x * weight[2]);
        d += (uint32_t)(x * weight[3]);
    }
    sum[0] = a;
    sum[1] = b;
    sum[2] = c;
    sum[3] = d;
}

/* Rows that are unpacked together. */
#define BLOCK 8

/* sum (n) += `rows` rows. */
static void add_rows(const int8_t *weight, uint32_t next, const int16_t *in, uint32_t rows,
                     uint32_t n, uint32_t *sum)
{
    uint32_t c = 0;
    for (; c + 4 <= n; c += 4) {
        sum_four(weight + c, next, in, in + rows, sum + c);
    }
    for (; c < n; c++) {
        for (uint32_t k = 0; k < rows; k++) {
            sum[c] += (uint32_t)(in[k] * weight[k * next + c]);
        }
    }
}

/* current (n) of channels first .. first + n at one token and step. Added unsigned: a damaged
 * program's sums may wrap, but never overflow. */
static ESV_INLINE void sum_inputs(const esv_window *w, const esv_conv *conv, const int16_t *in,
                                  uint32_t first, uint32_t n, int32_t *current)
{
    uint32_t *sum = (uint32_t *)current, bytes = esv_row_bytes(conv->bits, n);
    const uint8_t *row = esv_tile_at(conv, w->channels, first);
    int8_t unpacked[BLOCK][ESV_LANES];
    memcpy(sum, conv->bias + first, n * sizeof *sum);
    if (conv->bits == 8) {
        add_rows((const int8_t *)row, n, in, w->channels, n, sum);
    }
    for (uint32_t k = 0; conv->bits < 8 && k < w->channels; k += BLOCK) {
        uint32_t rows = w->channels - k < BLOCK ? w->channels - k : BLOCK;
        for (uint32_t i = 0; i < rows; i++, row += bytes) {
            esv_row(row, conv->bits, unpacked[i]);
        }
        add_rows(unpacked[0], ESV_LANES, in + k, rows, n, sum);
    }
}

static ESV_APART void sum_tile(const esv_window *w, const esv_conv *conv, const int16_t *in,
                               uint32_t first, uint32_t n, int32_t *current)
{
    sum_inputs(w, conv, in, first, n, current);
}

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    const int16_t *membranes;
} job;

static void sum_row(void *context, uint32_t row, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->window;
    const esv_conv *conv = j->conv;
    int32_t current[ESV_TILE], state[ESV_TILE];
    uint32_t tokens = (uint32_t)w->height * w->width;
    (void)member;
    for (uint32_t token = row * w->width; token < (row + 1) * w->width; token++) {
        for (uint32_t first = 0; first < w->out_channels; first += ESV_TILE) {
            uint32_t left = w->out_channels - first, n = left < ESV_TILE ? left : ESV_TILE;
            for (uint32_t t = 0; t < w->time_steps; t++) {
                sum_tile(w, conv, j->membranes + (t * tokens + token) * w->channels, first, n,
                         current);
                esv_after_currents(&conv->after, t, token, first, n, current, state);
            }
        }
    }
}

void esv_membrane_conv(const esv_window *w, const esv_conv *conv, const int16_t *membranes,
                       const esv_crew *crew)
{
#ifdef ESV_DENSE
    if (esv_membrane_conv_dense(w, conv, membranes, crew)) {
        return;
    }
#endif
    job j = {w, conv, membranes};
    esv_share(crew, sum_row, &j, w->height);
}
