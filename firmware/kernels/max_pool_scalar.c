/* Max pooling of spikes is OR, and OR knows no channels: whole words of a pixel at a time. */
#include <stddef.h>
#include <string.h>

#include "after.h"

/* The longest word that the processor takes at once. */
#ifdef __ARM_FEATURE_MVE
#include <arm_mve.h>
typedef uint8x16_t word;
#elif defined __aarch64__ || defined __SSE2__
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
#ifdef __ARM_FEATURE_MVE
    return vldrbq_u8(at); /* a copy would go through memory */
#else
    word all;
    memcpy(&all, at, sizeof all);
    return all;
#endif
}

static inline void store(word all, uint8_t *at)
{
#ifdef __ARM_FEATURE_MVE
    vstrbq_u8(at, all);
#else
    memcpy(at, &all, sizeof all);
#endif
}

/* The word from channel c on of all pixels of the window. */
static inline __attribute__((always_inline)) word pool_word(const view *v, uint32_t height,
                                                            uint32_t width, uint32_t c)
{
    const uint8_t *row = v->pixel + c;
    word all = load(row);
#pragma GCC unroll 3
    for (uint32_t y = 0; y < height; y++, row += v->next_row) {
        const uint8_t *in = row;
#pragma GCC unroll 3
        for (uint32_t x = 0; x < width; x++, in += v->channels) {
            all |= load(in);
        }
    }
    return all;
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

/* The last word ends with the last channel, and may have some that the one before had. */
static inline __attribute__((always_inline)) void pool_words(const view *v, uint32_t height,
                                                             uint32_t width, uint8_t *out)
{
    for (uint32_t c = 0, last = v->channels - (uint32_t)sizeof(word);;) {
        store(pool_word(v, height, width, c), out + c);
        if (c == last) {
            return;
        }
        c += (uint32_t)sizeof(word);
        c = c < last ? c : last;
    }
}

/* Other windows, and those at an edge. */
static ESV_RARE void pool_unusual(const view *v, uint8_t *out)
{
    if (v->channels < sizeof(word) || !v->height || !v->width) {
        for (uint32_t c = 0; c < v->channels; c++) {
            pool_byte(v, c, out);
        }
    } else {
        pool_words(v, v->height, v->width, out);
    }
}

/* Windows of 2 x 2 and 3 x 3 are the usual ones. */
static void pool_pixel(const view *v, uint8_t *out)
{
    uint32_t side = v->height == v->width && v->channels >= sizeof(word) ? v->height : 0;
    if (side == 3) {
        pool_words(v, 3, 3, out);
    } else if (side == 2) {
        pool_words(v, 2, 2, out);
    } else {
        pool_unusual(v, out);
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
