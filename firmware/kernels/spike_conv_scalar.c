/* Spiking convolution by event lists: only the weight rows of inputs that fired are read.
 *
 * For each output token the inputs that fired at step t are listed once, as row numbers of the
 * weight matrix; every tile of output channels then adds those rows and runs its neurons. Channels
 * with a certificate accumulate in int16 (modulo 2^16, exact because the final sum fits), others in
 * int32. `convolve` is the way from spikes to spikes that most networks spend their time in;
 * whatever has levels or membranes at an end, or pools, takes the currents out first.
 */
#include <stddef.h>

#include "after.h"
#include "lif.h"

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

/* Pooling keeps the largest current so far of each step and channel: (T, out_channels) int32. */
static uint32_t largest_bytes(const esv_window *w)
{
    return w->pool ? 4u * w->time_steps * w->out_channels : 0;
}

uint32_t esv_spike_conv_scratch(const esv_window *w)
{
    return largest_bytes(w) + 2u * w->time_steps * rows(w);
}

uint32_t esv_level_conv_scratch(const esv_window *w)
{
    return largest_bytes(w) + 3u * w->time_steps * rows(w);
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
        const uint8_t *in = levels + (t * w->height * w->width + pixel) * w->channels;
        uint32_t count = events[t].count;
        uint16_t *row = events[t].row;
        uint8_t *level = events[t].level;
        /* Written before it is known whether it counts: a branch on data would often be guessed
         * wrong. There is room, the list holds all inputs. */
        for (uint32_t c = 0; c < w->channels; c++) {
            level[count] = in[c];
            row[count] = (uint16_t)(base + c);
            count += in[c] != 0;
        }
        events[t].count = count;
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
    uint32_t n = left >= ESV_TILE ? ESV_TILE : left >= 16 ? 16 : left >= 8 ? 8 : left;
    if (!all_certified(conv->certified, first, n)) {
        tile32(w, conv, events, first, n, out);
        return n;
    }
    switch (n) {
    case ESV_TILE:
        tile16(w, conv, events, first, ESV_TILE, out);
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

static ESV_APART void sum_narrow(const esv_conv *conv, uint32_t stride, const event_list *events,
                                 uint32_t first, uint32_t n, uint16_t *restrict sum)
{
    if (n == ESV_TILE) {
        sum_rows16(conv, stride, events, first, ESV_TILE, sum);
    } else {
        sum_rows16(conv, stride, events, first, n, sum);
    }
}

static ESV_APART void sum_wide(const esv_conv *conv, uint32_t stride, const event_list *events,
                               uint32_t first, uint32_t n, uint32_t *restrict sum)
{
    sum_rows32(conv, stride, events, first, n, sum);
}

/* largest (T, out_channels) = max(largest, the currents of the position that was gathered). */
static void raise_currents(const esv_window *w, const esv_conv *conv, const event_list *events,
                           int32_t *largest)
{
    uint32_t stride = w->out_channels, wide[ESV_TILE];
    uint16_t narrow[ESV_TILE];
    for (uint32_t first = 0; first < stride; first += ESV_TILE) {
        uint32_t left = stride - first, n = left < ESV_TILE ? left : ESV_TILE;
        int certified = all_certified(conv->certified, first, n);
        for (uint32_t t = 0; t < w->time_steps; t++) {
            int32_t *most = largest + t * stride + first;
            if (certified) {
                sum_narrow(conv, stride, &events[t], first, n, narrow);
                for (uint32_t i = 0; i < n; i++) {
                    int32_t current = (int16_t)narrow[i];
                    most[i] = current > most[i] ? current : most[i];
                }
                continue;
            }
            sum_wide(conv, stride, &events[t], first, n, wide);
            for (uint32_t i = 0; i < n; i++) {
                int32_t current = (int32_t)wide[i];
                most[i] = current > most[i] ? current : most[i];
            }
        }
    }
}

/* Take the pooled currents of one output token on. */
static void after_pooling(const esv_window *w, const esv_conv *conv, uint32_t token,
                          const int32_t *largest)
{
    int32_t state[ESV_TILE];
    for (uint32_t first = 0; first < w->out_channels; first += ESV_TILE) {
        uint32_t left = w->out_channels - first, n = left < ESV_TILE ? left : ESV_TILE;
        for (uint32_t t = 0; t < w->time_steps; t++) {
            esv_after_currents(&conv->after, t, token, first, n,
                               largest + t * w->out_channels + first, state);
        }
    }
}

static int32_t positions(uint32_t size, const esv_window *w)
{
    return (int32_t)((size + 2u * w->pad - w->kernel) / w->stride + 1);
}

/* As convolve_to_any, but each output token takes the largest currents of a window of positions.
 * Windows overlap, and positions in two of them are computed twice: no row of currents has to be
 * kept. */
static ESV_APART void convolve_pooled(const esv_window *w, const esv_conv *conv,
                                      const uint8_t *input, event_list *events, int32_t *largest)
{
    int32_t height = positions(w->height, w), width = positions(w->width, w);
    for (uint32_t token = 0; token < (uint32_t)w->out_height * w->out_width; token++) {
        int32_t top = (int32_t)(token / w->out_width * w->pool_stride) - w->pool / 2;
        int32_t left = (int32_t)(token % w->out_width * w->pool_stride) - w->pool / 2;
        for (uint32_t i = 0; i < (uint32_t)w->time_steps * w->out_channels; i++) {
            largest[i] = INT32_MIN;
        }
        for (int32_t y = top < 0 ? 0 : top; y < top + w->pool && y < height; y++) {
            for (int32_t x = left < 0 ? 0 : left; x < left + w->pool && x < width; x++) {
                gather(w, input, y * w->stride - w->pad, x * w->stride - w->pad, events);
                raise_currents(w, conv, events, largest);
            }
        }
        after_pooling(w, conv, token, largest);
    }
}

/* current (n) of channels first .. first + n at the step of `events`. */
static void sum_events(const esv_conv *conv, uint32_t stride, const event_list *events,
                       uint32_t first, uint32_t n, int certified, int32_t *current)
{
    uint16_t narrow[ESV_TILE];
    if (!certified) {
        sum_wide(conv, stride, events, first, n, (uint32_t *)current);
        return;
    }
    sum_narrow(conv, stride, events, first, n, narrow);
    for (uint32_t i = 0; i < n; i++) {
        current[i] = (int16_t)narrow[i];
    }
}

/* The currents of a tile, step by step, on to what becomes of them. */
static ESV_APART void convolve_to_any(const esv_window *w, const esv_conv *conv,
                                      const uint8_t *input, event_list *events)
{
    int32_t current[ESV_TILE], state[ESV_TILE];
    for (uint32_t token = 0; token < (uint32_t)w->out_height * w->out_width; token++) {
        gather(w, input, (int32_t)(token / w->out_width * w->stride) - w->pad,
               (int32_t)(token % w->out_width * w->stride) - w->pad, events);
        for (uint32_t first = 0; first < w->out_channels; first += ESV_TILE) {
            uint32_t left = w->out_channels - first, n = left < ESV_TILE ? left : ESV_TILE;
            int certified = all_certified(conv->certified, first, n);
            for (uint32_t t = 0; t < w->time_steps; t++) {
                sum_events(conv, w->out_channels, &events[t], first, n, certified, current);
                esv_after_currents(&conv->after, t, token, first, n, current, state);
            }
        }
    }
}

static ESV_APART void convolve(const esv_window *w, const esv_conv *conv, const uint8_t *input,
                               uint8_t *out, event_list *events)
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

/* Lay the lists out in scratch behind the pooled currents, then run. */
static void run(const esv_window *w, const esv_conv *conv, const uint8_t *input, void *scratch,
                int with_levels)
{
    event_list events[MAX_STEPS] = {{0}};
    uint16_t *row = (uint16_t *)(void *)((uint8_t *)scratch + largest_bytes(w));
    uint8_t *level = (uint8_t *)(row + w->time_steps * rows(w));
    for (uint32_t t = 0; t < w->time_steps; t++) {
        events[t].row = row + t * rows(w);
        events[t].level = with_levels ? level + t * rows(w) : NULL;
    }
    if (w->pool) {
        convolve_pooled(w, conv, input, events, scratch);
    } else if (conv->after.kind == ESV_SPIKES && !with_levels) {
        convolve(w, conv, input, conv->after.out, events);
    } else {
        convolve_to_any(w, conv, input, events);
    }
}

void esv_spike_conv(const esv_window *w, const esv_conv *conv, const uint8_t *codes, void *scratch)
{
    run(w, conv, codes, scratch, 0);
}

void esv_level_conv(const esv_window *w, const esv_conv *conv, const uint8_t *levels,
                    void *scratch)
{
    run(w, conv, levels, scratch, 1);
}
