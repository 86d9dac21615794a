#include "dense.h"
#include "encode_windows.h"
#include "weights.h"

#ifdef ESV_WINDOWS
#define FIXED_LANES 0
#define PLACE ESV_RARE /* only windows too large for it come here */
#else
#define FIXED_LANES 1
#define PLACE ESV_APART
#endif

/* current (n) += the pixels of one tap times their rows. */
static ESV_INLINE void add_tap(const uint8_t *pixel, uint32_t channels, const uint8_t *row,
                               uint32_t bits, uint32_t n, int32_t *current)
{
    int8_t unpacked[ESV_LANES];
    for (uint32_t c = 0; c < channels; c++, row += esv_row_bytes(bits, n)) {
        const int8_t *weight = esv_row(row, bits, unpacked);
        for (uint32_t i = 0; i < n; i++) {
            current[i] += pixel[c] * weight[i];
        }
    }
}

static void pixel_current(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                          int32_t y0, int32_t x0, uint32_t first, uint32_t n, int32_t *current)
{
    uint32_t rows = (uint32_t)w->kernel * w->kernel * w->channels;
    const uint8_t *row = esv_tile_at(conv, rows, first);
    for (uint32_t i = 0; i < n; i++) {
        current[i] = conv->bias[first + i];
    }
    for (int32_t y = y0; y < y0 + w->kernel; y++) {
        for (int32_t x = x0; x < x0 + w->kernel; x++) {
            int inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
            const uint8_t *pixel =
                inside ? pixels + ((uint32_t)y * w->width + (uint32_t)x) * w->channels
                       : conv->pad_pixel;
            if (FIXED_LANES && n == ESV_LANES) {
                add_tap(pixel, w->channels, row, conv->bits, ESV_LANES, current);
            } else {
                add_tap(pixel, w->channels, row, conv->bits, n, current);
            }
            row += w->channels * esv_row_bytes(conv->bits, n);
        }
    }
}

/* The largest currents over the positions that an output token pools; one without pooling. */
static PLACE void pooled_current(const esv_window *w, const esv_conv *conv,
                                     const uint8_t *pixels, uint32_t token, uint32_t first,
                                     uint32_t n, int32_t *largest)
{
    int32_t height = (w->height + 2 * w->pad - w->kernel) / w->stride + 1;
    int32_t width = (w->width + 2 * w->pad - w->kernel) / w->stride + 1;
    int32_t side = w->pool ? w->pool : 1, step = w->pool ? w->pool_stride : 1;
    int32_t top = (int32_t)(token / w->out_width) * step - w->pool / 2;
    int32_t left = (int32_t)(token % w->out_width) * step - w->pool / 2;
    int32_t current[ESV_TILE];
    for (uint32_t i = 0; i < n; i++) {
        largest[i] = INT32_MIN;
    }
    for (int32_t y = top < 0 ? 0 : top; y < top + side && y < height; y++) {
        for (int32_t x = left < 0 ? 0 : left; x < left + side && x < width; x++) {
            pixel_current(w, conv, pixels, y * w->stride - w->pad, x * w->stride - w->pad, first,
                          n, current);
            for (uint32_t i = 0; i < n; i++) {
                largest[i] = current[i] > largest[i] ? current[i] : largest[i];
            }
        }
    }
}

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    const uint8_t *pixels;
} job;

static PLACE void encode_row(void *context, uint32_t row, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->window;
    const esv_conv *conv = j->conv;
    int32_t current[ESV_TILE], state[ESV_TILE];
    (void)member;
    for (uint32_t token = row * w->out_width; token < (row + 1) * w->out_width; token++) {
        for (uint32_t first = 0; first < w->out_channels; first += ESV_TILE) {
            uint32_t left = w->out_channels - first;
            uint32_t n = left < ESV_TILE ? left : ESV_TILE;
            pooled_current(w, conv, j->pixels, token, first, n, current);
            for (uint32_t t = 0; t < w->time_steps; t++) {
                esv_after_currents(&conv->after, t, token, first, n, current, state);
            }
        }
    }
}

void esv_encode_conv(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                     const esv_crew *crew)
{
#ifdef ESV_DENSE
    if (esv_encode_conv_dense(w, conv, pixels, crew)) {
        return;
    }
#elif defined ESV_WINDOWS
    if (esv_encode_windows(w, conv, pixels)) {
        return;
    }
#endif
    job j = {w, conv, pixels};
    esv_share(crew, encode_row, &j, w->out_height);
}
