/* Max pooling of spikes is OR, and OR knows no channels: whole words of a pixel at a time. */
#include <stddef.h>
#include <string.h>

#include "esv_kernels.h"

#define WORDS 4 /* of a pixel at a time: their sums are in registers */

/* Where the window of an output pixel lies inside the input. */
typedef struct {
    const uint8_t *pixel; /* its first one */
    size_t next_row;      /* bytes from a pixel to the one below */
    uint32_t height, width, channels;
} view;

static inline size_t load(const uint8_t *at)
{
    size_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static void pool_words(const view *v, uint32_t c, uint8_t *out)
{
    size_t a = 0, b = 0, d = 0, e = 0;
    const uint8_t *row = v->pixel + c;
    for (uint32_t y = 0; y < v->height; y++, row += v->next_row) {
        const uint8_t *in = row;
        for (uint32_t x = 0; x < v->width; x++, in += v->channels) {
            a |= load(in);
            b |= load(in + sizeof a);
            d |= load(in + 2 * sizeof a);
            e |= load(in + 3 * sizeof a);
        }
    }
    const size_t all[WORDS] = {a, b, d, e};
    memcpy(out + c, all, sizeof all);
}

static void pool_word(const view *v, uint32_t c, uint8_t *out)
{
    size_t a = 0;
    for (uint32_t y = 0; y < v->height; y++) {
        for (uint32_t x = 0; x < v->width; x++) {
            a |= load(v->pixel + y * v->next_row + x * v->channels + c);
        }
    }
    memcpy(out + c, &a, sizeof a);
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
    for (; c + WORDS * sizeof(size_t) <= channels; c += (uint32_t)(WORDS * sizeof(size_t))) {
        pool_words(v, c, out);
    }
    for (; c + sizeof(size_t) <= channels; c += (uint32_t)sizeof(size_t)) {
        pool_word(v, c, out);
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
