/* Spiking convolution by event lists: only the weight rows of inputs that fired are read.
 *
 * For each output token the inputs that fired at step t are listed once, as row numbers of the
 * weight matrix; every tile of output channels then adds those rows and runs its neurons. Channels
 * with a certificate accumulate in int16 (modulo 2^16, exact because the final sum fits), others in
 * int32.
 */
#include "esv_kernels.h"

#include "lif.h"

#define TILE 32
#define MAX_STEPS 8

/* The inputs that fired at one step. */
typedef struct {
    uint16_t *row;   /* (K) weight rows to add, `count` of them used */
    uint8_t *level;  /* (K) how often each; NULL for spikes: once */
    uint32_t count;
} event_list;

#define ACC uint16_t
#define MEMBRANE int16_t
#define LIF esv_lif16
#define NAME(x) x##16
#include "spike_conv_tile.h"
#undef ACC
#undef MEMBRANE
#undef LIF
#undef NAME

#define ACC uint32_t
#define MEMBRANE int32_t
#define LIF esv_lif32
#define NAME(x) x##32
#include "spike_conv_tile.h"

static uint32_t rows(const esv_window *w)
{
    return (uint32_t)w->kernel * w->kernel * w->channels;
}

uint32_t esv_spike_conv_scratch(const esv_window *w)
{
    return 2u * w->time_steps * rows(w);
}

uint32_t esv_level_conv_scratch(const esv_window *w)
{
    return 3u * w->time_steps * rows(w);
}

static void list_codes(const esv_window *w, const uint8_t *codes, uint32_t pixel, uint32_t base,
                       event_list *events)
{
    const uint8_t *code = codes + pixel * w->channels;
    /* A damaged program may feed bytes that are no codes: no list beyond step T - 1. */
    uint32_t steps = (1u << w->time_steps) - 1;
    for (uint32_t c = 0; c < w->channels; c++) {
        event_list *list = events;
        for (uint32_t bits = code[c] & steps; bits; bits >>= 1, list++) {
            if (bits & 1) {
                list->row[list->count++] = (uint16_t)(base + c);
            }
        }
    }
}

static void list_levels(const esv_window *w, const uint8_t *levels, uint32_t pixel, uint32_t base,
                        event_list *events)
{
    for (uint32_t t = 0; t < w->time_steps; t++) {
        const uint8_t *level = levels + (t * w->height * w->width + pixel) * w->channels;
        for (uint32_t c = 0; c < w->channels; c++) {
            if (level[c]) {
                events[t].level[events[t].count] = level[c];
                events[t].row[events[t].count++] = (uint16_t)(base + c);
            }
        }
    }
}

/* Walk the taps of one output token and list what fired. */
static void gather(const esv_window *w, const uint8_t *input, int32_t y0, int32_t x0,
                   event_list *events)
{
    uint32_t base = 0;
    for (uint32_t t = 0; t < w->time_steps; t++) {
        events[t].count = 0;
    }
    for (int32_t y = y0; y < y0 + w->kernel; y++) {
        for (int32_t x = x0; x < x0 + w->kernel; x++, base += w->channels) {
            if (y < 0 || y >= w->height || x < 0 || x >= w->width) {
                continue;
            }
            uint32_t pixel = (uint32_t)y * w->width + (uint32_t)x;
            if (events[0].level) {
                list_levels(w, input, pixel, base, events);
            } else {
                list_codes(w, input, pixel, base, events);
            }
        }
    }
}

static int all_certified(const uint8_t *certified, uint32_t first, uint32_t n)
{
    for (uint32_t c = first; c < first + n; c++) {
        if (!(certified[c >> 3] >> (c & 7) & 1)) {
            return 0;
        }
    }
    return 1;
}

/* Run the next tile of `left` channels and return its width. A width that is a constant lets the
 * compiler unroll and vectorise. */
static uint32_t run_tile(const esv_window *w, const esv_conv *conv, const event_list *events,
                         uint32_t first, uint32_t left, uint8_t *out)
{
    uint32_t n = left >= TILE ? TILE : left >= 16 ? 16 : left >= 8 ? 8 : left;
    if (!all_certified(conv->certified, first, n)) {
        tile32(w, conv, events, first, n, out);
        return n;
    }
    switch (n) {
    case TILE:
        tile16(w, conv, events, first, TILE, out);
        break;
    case 16:
        tile16(w, conv, events, first, 16, out);
        break;
    case 8:
        tile16(w, conv, events, first, 8, out);
        break;
    default:
        tile16(w, conv, events, first, n, out);
    }
    return n;
}

static void convolve(const esv_window *w, const esv_conv *conv, const uint8_t *input, uint8_t *out,
                     event_list *events)
{
    for (uint32_t y = 0; y < w->out_height; y++) {
        for (uint32_t x = 0; x < w->out_width; x++) {
            gather(w, input, (int32_t)(y * w->stride) - w->pad, (int32_t)(x * w->stride) - w->pad,
                   events);
            for (uint32_t first = 0; first < w->out_channels;) {
                first += run_tile(w, conv, events, first, w->out_channels - first, out + first);
            }
            out += w->out_channels;
        }
    }
}

void esv_spike_conv(const esv_window *w, const esv_conv *conv, const uint8_t *codes, uint8_t *out,
                    void *scratch)
{
    event_list events[MAX_STEPS] = {{0}};
    for (uint32_t t = 0; t < w->time_steps; t++) {
        events[t].row = (uint16_t *)scratch + t * rows(w);
    }
    convolve(w, conv, codes, out, events);
}

void esv_level_conv(const esv_window *w, const esv_conv *conv, const uint8_t *levels, uint8_t *out,
                    void *scratch)
{
    event_list events[MAX_STEPS] = {{0}};
    uint8_t *level = (uint8_t *)scratch + esv_spike_conv_scratch(w);
    for (uint32_t t = 0; t < w->time_steps; t++) {
        events[t].row = (uint16_t *)scratch + t * rows(w);
        events[t].level = level + t * rows(w);
    }
    convolve(w, conv, levels, out, events);
}
