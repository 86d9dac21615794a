#include "esv_kernels.h"

#include "lif.h"

#define TILE 32

/* current[i] += pixel * row[i] for one tap's input channels; row stride is out_channels. */
static void add_tap(int32_t *current, uint32_t n, const uint8_t *pixel, uint32_t channels,
                    const int8_t *row, uint32_t row_stride)
{
    for (uint32_t c = 0; c < channels; c++, row += row_stride) {
        for (uint32_t i = 0; i < n; i++) {
            current[i] += pixel[c] * row[i];
        }
    }
}

static void pixel_current(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                          int32_t y0, int32_t x0, uint32_t first, uint32_t n, int32_t *current)
{
    const int8_t *row = conv->weight + first; /* (K, out_channels), from channel `first` on */
    for (uint32_t i = 0; i < n; i++) {
        current[i] = conv->bias[first + i];
    }
    for (int32_t y = y0; y < y0 + w->kernel; y++) {
        for (int32_t x = x0; x < x0 + w->kernel; x++) {
            int inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
            const uint8_t *pixel =
                inside ? pixels + ((uint32_t)y * w->width + (uint32_t)x) * w->channels
                       : conv->pad_pixel;
            add_tap(current, n, pixel, w->channels, row, w->out_channels);
            row += (uint32_t)w->channels * w->out_channels;
        }
    }
}

/* The same current at every step. */
static void fire(const int32_t *current, const int32_t *threshold, uint32_t n, uint8_t steps,
                 uint8_t *codes)
{
    for (uint32_t i = 0; i < n; i++) {
        int32_t membrane = 0;
        uint32_t code = 0;
        for (uint32_t t = 0; t < steps; t++) {
            code |= (uint32_t)esv_lif32(&membrane, current[i], threshold[i]) << t;
        }
        codes[i] = (uint8_t)code;
    }
}

/* The largest currents over the positions that an output token pools; one without pooling. */
static void pooled_current(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                           uint32_t token, uint32_t first, uint32_t n, int32_t *largest)
{
    int32_t height = (w->height + 2 * w->pad - w->kernel) / w->stride + 1;
    int32_t width = (w->width + 2 * w->pad - w->kernel) / w->stride + 1;
    int32_t side = w->pool ? w->pool : 1, step = w->pool ? w->pool_stride : 1;
    int32_t top = (int32_t)(token / w->out_width) * step - w->pool / 2;
    int32_t left = (int32_t)(token % w->out_width) * step - w->pool / 2;
    int32_t current[TILE];
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

void esv_encode_conv(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                     uint8_t *codes)
{
    int32_t current[TILE];
    for (uint32_t token = 0; token < (uint32_t)w->out_height * w->out_width; token++) {
        for (uint32_t first = 0; first < w->out_channels; first += TILE) {
            uint32_t left = w->out_channels - first;
            uint32_t n = left < TILE ? left : TILE;
            pooled_current(w, conv, pixels, token, first, n, current);
            fire(current, conv->threshold + first, n, w->time_steps, codes + first);
        }
        codes += w->out_channels;
    }
}
