/* Max pooling of spikes is OR, and OR knows no channels: whole words of a pixel at a time. */
#include <stddef.h>
#include <string.h>

#include "esv_kernels.h"

#define MOST 4 /* words of a pixel at a time: their sums are in registers */

/* The longest word that the processor takes at once. */
#if defined __aarch64__ || defined __SSE2__
typedef uint64_t word __attribute__((vector_size(16)));
#else
typedef size_t word;
#endif

/* Where the window of an output pixel lies inside the input. */
typedef struct {
    const uint8_t *pixel; /* its first one */
    size_t next_row;      /* bytes from a pixel to the one below */
    uint32_t height, width, channels;
} view;

static inline word load(const uint8_t *at)
{
    word all;
    memcpy(&all, at, sizeof all);
    return all;
}

/* `n` words from channel c on, at most MOST; returns the channel behind them. */
static inline __attribute__((always_inline)) uint32_t pool_words(const view *v, uint32_t c,
                                                                 uint32_t n, uint8_t *out)
{
    word all[MOST];
    const uint8_t *row = v->pixel + c;
    memset(all, 0, sizeof all);
    for (uint32_t y = 0; y < v->height; y++, row += v->next_row) {
        const uint8_t *in = row;
        for (uint32_t x = 0; x < v->width; x++, in += v->channels) {
            for (uint32_t i = 0; i < n; i++) {
                all[i] |= load(in + i * sizeof(word));
            }
        }
    }
    memcpy(out + c, all, n * sizeof(word));
    return c + n * (uint32_t)sizeof(word);
}

static void pool_byte(const view *v, uint32_t c, uint8_t *out)
{
    uint8_t a = 0;
    for (uint32_t y = 0; y < v->height; y++) {
        for (uint32_t x = 0; x < v->width; x++) {
            a |= v->pixel[y * v->next_row + x * v->channels + c];
        }
    }
    out[c] = a;
}

static void pool_pixel(const view *v, uint8_t *out)
{
    uint32_t c = 0, channels = v->channels;
    while (c + MOST * sizeof(word) <= channels) {
        c = pool_words(v, c, MOST, out);
    }
    while (c + 2 * sizeof(word) <= channels) {
        c = pool_words(v, c, 2, out);
    }
    if (c + sizeof(word) <= channels) {
        c = pool_words(v, c, 1, out);
    }
    for (; c < channels; c++) {
        pool_byte(v, c, out);
    }
}

/* The part of a window of `kernel` that starts at `first` and lies below `size`: its length, and in
 * *from where it starts. */
static uint32_t clip(int32_t first, uint32_t kernel, uint32_t size, uint32_t *from)
{
    uint32_t end = (uint32_t)(first + (int32_t)kernel);
    *from = first < 0 ? 0 : (uint32_t)first;
    end = end < size ? end : size;
    return end > *from ? end - *from : 0;
}

void esv_max_pool(const esv_window *w, const uint8_t *codes, uint8_t *out)
{
    size_t row_bytes = (size_t)w->width * w->channels;
    for (uint32_t y = 0; y < w->out_height; y++) {
        uint32_t top, left;
        uint32_t height = clip((int32_t)(y * w->stride) - w->pad, w->kernel, w->height, &top);
        for (uint32_t x = 0; x < w->out_width; x++, out += w->channels) {
            uint32_t width = clip((int32_t)(x * w->stride) - w->pad, w->kernel, w->width, &left);
            view v = {codes + top * row_bytes + left * w->channels, row_bytes, height, width,
                      w->channels};
            pool_pixel(&v, out);
        }
    }
}
