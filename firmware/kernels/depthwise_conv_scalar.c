/* Depthwise convolution: taps outermost, so that the loop over channels reads weights and inputs in
 * order and holds no branch. */
#include "dense.h"
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

static ESV_INLINE void sum_tile(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                                const void *input, place p, uint32_t first, uint32_t n,
                                int32_t *current)
{
    if (n == ESV_TILE) {
        sum_taps(w, conv, kind, input, p, first, ESV_TILE, current);
    } else {
        sum_taps(w, conv, kind, input, p, first, n, current);
    }
}

static ESV_APART void sum_any(const esv_window *w, const esv_conv *conv, enum esv_kind kind,
                              const void *input, place p, uint32_t first, uint32_t n,
                              int32_t *current)
{
    switch (kind) {
    case ESV_SPIKES:
        sum_tile(w, conv, ESV_SPIKES, input, p, first, n, current);
        break;
    case ESV_LEVELS:
        sum_tile(w, conv, ESV_LEVELS, input, p, first, n, current);
        break;
    default:
        sum_tile(w, conv, ESV_MEMBRANE, input, p, first, n, current);
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
#if defined ESV_DENSE && defined __aarch64__
    if (esv_depthwise_conv_neon(w, conv, kind, input, crew)) {
        return;
    }
#endif
    job j = {w, conv, kind, input};
    esv_share(crew, convolve_row, &j, w->out_height);
}
