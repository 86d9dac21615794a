/* A linear layer on membranes: they are rarely 0, so all weights are read. */
#include "dense.h"
#include "weights.h"

/* current (n) of channels first .. first + n at one token and step. Added unsigned: a damaged
 * program's sums may wrap, but never overflow. Four rows at a time, so that a sum is loaded and
 * stored once for four products. */
static ESV_INLINE void sum_inputs(const esv_window *w, const esv_conv *conv, const int16_t *in,
                                  uint32_t first, uint32_t n, int32_t *current)
{
    uint32_t sum[ESV_TILE], k = 0, bytes = esv_row_bytes(conv->bits, n);
    const uint8_t *row = esv_tile_at(conv, w->channels, first);
    int8_t unpacked[4][ESV_LANES];
    for (uint32_t i = 0; i < n; i++) {
        sum[i] = (uint32_t)conv->bias[first + i];
    }
    for (; k + 4 <= w->channels; k += 4, row += 4 * bytes) {
        const int8_t *a = esv_row(row, conv->bits, unpacked[0]);
        const int8_t *b = esv_row(row + bytes, conv->bits, unpacked[1]);
        const int8_t *c = esv_row(row + 2 * bytes, conv->bits, unpacked[2]);
        const int8_t *d = esv_row(row + 3 * bytes, conv->bits, unpacked[3]);
        int32_t ka = in[k], kb = in[k + 1], kc = in[k + 2], kd = in[k + 3];
        for (uint32_t i = 0; i < n; i++) {
            sum[i] += (uint32_t)(ka * a[i] + kb * b[i] + kc * c[i] + kd * d[i]);
        }
    }
    for (; k < w->channels; k++, row += bytes) {
        const int8_t *a = esv_row(row, conv->bits, unpacked[0]);
        for (uint32_t i = 0; i < n; i++) {
            sum[i] += (uint32_t)(in[k] * a[i]);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        current[i] = (int32_t)sum[i];
    }
}

static ESV_APART void sum_tile(const esv_window *w, const esv_conv *conv, const int16_t *in,
                               uint32_t first, uint32_t n, int32_t *current)
{
    if (n == ESV_TILE) {
        sum_inputs(w, conv, in, first, ESV_TILE, current);
    } else {
        sum_inputs(w, conv, in, first, n, current);
    }
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
