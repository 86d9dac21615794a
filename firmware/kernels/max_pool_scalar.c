#include "esv_kernels.h"

static uint8_t pool_one(const esv_window *w, const uint8_t *codes, int32_t y0, int32_t x0,
                        uint32_t channel)
{
    uint8_t code = 0;
    for (int32_t y = y0; y < y0 + w->kernel; y++) {
        for (int32_t x = x0; x < x0 + w->kernel; x++) {
            if (y >= 0 && y < w->height && x >= 0 && x < w->width) {
                code |= codes[((uint32_t)y * w->width + (uint32_t)x) * w->channels + channel];
            }
        }
    }
    return code;
}

void esv_max_pool(const esv_window *w, const uint8_t *codes, uint8_t *out)
{
    for (uint32_t y = 0; y < w->out_height; y++) {
        for (uint32_t x = 0; x < w->out_width; x++) {
            for (uint32_t c = 0; c < w->channels; c++) {
                *out++ = pool_one(w, codes, (int32_t)(y * w->stride) - w->pad,
                                  (int32_t)(x * w->stride) - w->pad, c);
            }
        }
    }
}
