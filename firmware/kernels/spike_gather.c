/* Windows of a spiking convolution and the sorted lists of what fires in them. */
#include "spike_layer.h"

#include <string.h>

#define OVER_READ 16u /* what `sort` may read beyond its input, rounded up */

static uint32_t rows_bytes(uint32_t rows)
{
    return ESV_ALIGNED(2 * (rows + ESV_LIST_SLACK));
}

static uint32_t spot_bytes(const esv_window *w, int levels)
{
    uint32_t sets = esv_spike_sets(w, levels);
    return ESV_ALIGNED(sets * (uint32_t)sizeof(esv_lists)) + sets * rows_bytes(esv_spike_rows(w));
}

uint32_t esv_spike_token_bytes(const esv_window *w, int levels)
{
    return (w->pool ? (uint32_t)w->pool * w->pool : 1) * spot_bytes(w, levels);
}

static uint32_t window_buffer_bytes(uint32_t rows)
{
    return ESV_ALIGNED(rows + OVER_READ);
}

static uint32_t currents_bytes(const esv_window *w, const esv_spike_variant *k)
{
    return ESV_ALIGNED(2u * w->time_steps * k->width * (uint32_t)sizeof(int32_t));
}

uint32_t esv_spike_fixed_bytes(const esv_window *w, const esv_spike_variant *k)
{
    uint32_t rows = esv_spike_rows(w);
    return window_buffer_bytes(rows) + ESV_ALIGNED(rows * k->sort_bytes) +
           ESV_ALIGNED(rows * k->width * k->weight_bytes) + currents_bytes(w, k);
}

esv_spike_memory esv_spike_memory_of(const esv_spike_layer *l, uint32_t member)
{
    const esv_spike_variant *k = l->kernel;
    uint8_t *at = l->crew ? (uint8_t *)l->crew->work + (size_t)member * l->crew->work_bytes
                          : l->scratch;
    esv_spike_memory m = {.window = at};
    m.sorting = m.window + window_buffer_bytes(l->rows);
    m.weights = m.sorting + ESV_ALIGNED(l->rows * k->sort_bytes);
    at = m.weights + ESV_ALIGNED(l->rows * k->width * k->weight_bytes);
    m.currents = (int32_t *)(void *)at;
    m.lists = at + currents_bytes(l->w, k);
    return m;
}

esv_lists *esv_spike_lists(const esv_spike_layer *l, const esv_spike_memory *m, uint32_t slot,
                           uint32_t spot)
{
    return (esv_lists *)(void *)(m->lists +
                                 (slot * l->spots + spot) * spot_bytes(l->w, l->levels));
}

/* The bytes of one step's window whose first tap is at (y0, x0), with OVER_READ bytes behind. */
static const uint8_t *window_bytes(const esv_window *w, const uint8_t *plane, int32_t y0,
                                   int32_t x0, uint8_t *buffer)
{
    uint32_t channels = w->channels, last = (uint32_t)w->height * w->width * channels;
    if (w->kernel == 1 && !w->pad) {
        uint32_t at = ((uint32_t)y0 * w->width + (uint32_t)x0) * channels;
        if (at + channels + OVER_READ <= last) {
            return plane + at;
        }
    }
    uint8_t *to = buffer;
    for (int32_t y = y0; y < y0 + w->kernel; y++) {
        for (int32_t x = x0; x < x0 + w->kernel; x++, to += channels) {
            if (y < 0 || y >= w->height || x < 0 || x >= w->width) {
                memset(to, 0, channels);
            } else {
                memcpy(to, plane + ((uint32_t)y * w->width + (uint32_t)x) * channels, channels);
            }
        }
    }
    return buffer;
}

static void sort_spikes(const esv_spike_layer *l, const esv_spike_memory *m, int32_t y0,
                        int32_t x0, esv_lists *lists)
{
    const uint8_t *bytes = window_bytes(l->w, l->input, y0, x0, m->window);
    uint32_t steps = (1u << l->w->time_steps) - 1; /* nothing beyond step T - 1, whatever comes */
    for (uint32_t g = 0; g < l->sets; g++) {
        l->kernel->sort(bytes, l->rows, g, steps >> (4 * g) & 15, 1, &lists[g], m->sorting);
    }
}

static void sort_levels(const esv_spike_layer *l, const esv_spike_memory *m, int32_t y0,
                        int32_t x0, esv_lists *lists)
{
    const esv_window *w = l->w;
    uint32_t plane = (uint32_t)w->height * w->width * w->channels, n = esv_spike_nibbles(w);
    for (uint32_t t = 0; t < w->time_steps; t++) {
        const uint8_t *bytes = window_bytes(w, l->input + t * plane, y0, x0, m->window);
        for (uint32_t g = 0; g < n; g++) {
            l->kernel->sort(bytes, l->rows, g, 15, 0, &lists[t * n + g], m->sorting);
        }
    }
}

static void sort_spot(const esv_spike_layer *l, const esv_spike_memory *m, int32_t y, int32_t x,
                      esv_lists *lists)
{
    const esv_window *w = l->w;
    uint8_t *rows = (uint8_t *)lists + ESV_ALIGNED(l->sets * (uint32_t)sizeof *lists);
    for (uint32_t set = 0; set < l->sets; set++) {
        lists[set].row = (uint16_t *)(void *)(rows + set * rows_bytes(l->rows));
    }
    (l->levels ? sort_levels : sort_spikes)(l, m, y * w->stride - w->pad, x * w->stride - w->pad,
                                            lists);
}

static int32_t positions(uint32_t size, const esv_window *w)
{
    return (int32_t)((size + 2u * w->pad - w->kernel) / w->stride + 1);
}

uint32_t esv_spike_gather(const esv_spike_layer *l, const esv_spike_memory *m, uint32_t token,
                          uint32_t slot)
{
    const esv_window *w = l->w;
    int32_t y = (int32_t)(token / w->out_width), x = (int32_t)(token % w->out_width);
    if (!w->pool) {
        sort_spot(l, m, y, x, esv_spike_lists(l, m, slot, 0));
        return 1;
    }
    int32_t height = positions(w->height, w), width = positions(w->width, w);
    uint32_t spot = 0;
    y = y * w->pool_stride - w->pool / 2;
    x = x * w->pool_stride - w->pool / 2;
    for (int32_t py = y < 0 ? 0 : y; py < y + w->pool && py < height; py++) {
        for (int32_t px = x < 0 ? 0 : x; px < x + w->pool && px < width; px++, spot++) {
            sort_spot(l, m, py, px, esv_spike_lists(l, m, slot, spot));
        }
    }
    return spot;
}
