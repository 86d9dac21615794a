/* Windows of a spiking convolution and the sorted lists of what fires in them. */
#include "after.h"
#include "spike_layer.h"

#include <string.h>

#define OVER_READ 16u /* what `sort` may read beyond its input, rounded up */

static uint32_t rows_bytes(uint32_t rows)
{
    return ESV_ALIGNED(2 * (rows + ESV_LIST_SLACK));
}

static uint32_t lists_bytes(uint32_t sets)
{
    return ESV_ALIGNED((uint32_t)sizeof(esv_spike_spot) + sets * (uint32_t)sizeof(esv_lists));
}

static uint32_t spot_bytes(const esv_window *w, int levels)
{
    uint32_t sets = esv_spike_sets(w, levels);
    return lists_bytes(sets) + sets * rows_bytes(esv_spike_rows(w));
}

uint32_t esv_spike_token_bytes(const esv_window *w, int levels)
{
    return (w->pool ? (uint32_t)w->pool * w->pool : 1) * spot_bytes(w, levels);
}

void esv_spike_measure(esv_spike_layer *l)
{
    l->rows = esv_spike_rows(l->w);
    l->sets = esv_spike_sets(l->w, l->levels);
    l->spots = l->w->pool ? (uint32_t)l->w->pool * l->w->pool : 1;
    l->lists_bytes = lists_bytes(l->sets);
    l->rows_bytes = rows_bytes(l->rows);
    l->spot_bytes = l->lists_bytes + l->sets * l->rows_bytes;
}

static uint32_t window_bytes_of(uint32_t rows)
{
    return ESV_ALIGNED(rows + OVER_READ);
}

static uint32_t currents_bytes(const esv_window *w, const esv_spike_variant *k)
{
    uint32_t sets = w->pool ? 2 : 1;
    return ESV_ALIGNED(sets * w->time_steps * k->width * (uint32_t)sizeof(int32_t));
}

#define MOST_LEVELS 24

uint32_t esv_spike_pattern_room(const esv_window *w, const esv_spike_variant *k)
{
    uint32_t room = esv_spike_room(w), rows = esv_spike_rows(w);
    uint32_t most = w->max_level < MOST_LEVELS ? w->max_level : MOST_LEVELS;
    uint32_t numbers = (UINT16_MAX - ESV_LIST_SLACK) / rows;
    if (!room || !k->weight_bytes || numbers <= room) {
        return room;
    }
    return most < numbers ? most : numbers - 1;
}

/* Where the parts of a member's memory begin; the window's bytes are at 0. */
typedef struct {
    uint32_t patterns, sorting, weights, currents, lines, spots;
} layout;

static layout lay_out(const esv_window *w, int levels, uint32_t lines, const esv_spike_variant *k)
{
    uint32_t rows = esv_spike_rows(w), planes = levels ? w->time_steps : 1;
    uint32_t room = levels && esv_spike_room(w) ? esv_spike_pattern_room(w, k) : 1;
    uint32_t line = lines ? (uint32_t)w->width * w->channels : 0;
    uint32_t sorted = room * rows > line ? room * rows : line;
    layout at;
    at.patterns = planes * window_bytes_of(rows);
    at.sorting = at.patterns + (levels ? ESV_ALIGNED((room + 1) * rows + OVER_READ) : 0);
    at.weights = at.sorting + ESV_ALIGNED(sorted * k->sort_bytes);
    at.currents = at.weights + ESV_ALIGNED(rows * k->width * k->weight_bytes);
    at.lines = at.currents + currents_bytes(w, k);
    at.spots = at.lines + (ESV_KEEPS_LINES ? esv_spike_lines_bytes(w, lines) : 0);
    return at;
}

uint32_t esv_spike_fixed_bytes(const esv_window *w, int levels, uint32_t lines,
                               const esv_spike_variant *k)
{
    return lay_out(w, levels, lines, k).spots;
}

esv_spike_memory esv_spike_memory_of(const esv_spike_layer *l, uint32_t member)
{
    layout at = lay_out(l->w, l->levels, l->lines, l->kernel);
    uint8_t *start = l->crew ? (uint8_t *)l->crew->work + (size_t)member * l->crew->work_bytes +
                                   (ESV_KEEPS_LINES ? l->before : 0)
                             : l->scratch;
    esv_spike_memory m = {
        start, start + at.patterns, start + at.sorting, start + at.weights,
        (int32_t *)(void *)(start + at.currents), start + at.lines, start + at.spots, 0,
    };
    return m;
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

void esv_spike_sort_codes(const esv_spike_layer *l, const esv_spike_memory *m,
                          const uint8_t *codes, uint32_t count, esv_lists *lists)
{
    uint32_t steps = (1u << l->w->time_steps) - 1; /* nothing beyond step T - 1, whatever comes */
    for (uint32_t g = 0; 4 * g < l->w->time_steps; g++) {
        l->kernel->sort(codes, count, g, steps >> (4 * g) & 15, 1, &lists[g], m->sorting);
    }
}

void esv_spike_gather_at(const esv_spike_layer *l, esv_spike_memory *m, int32_t y, int32_t x,
                         esv_spike_spot *spot)
{
    const esv_window *w = l->w;
    int32_t top = y * w->stride - w->pad, left = x * w->stride - w->pad;
    uint32_t plane = (uint32_t)w->height * w->width * w->channels;
    uint8_t *rows = (uint8_t *)spot + l->lists_bytes;
    const uint8_t *bytes[8];
    for (uint32_t set = 0; set < l->sets; set++) {
        spot->lists[set].row = (uint16_t *)(void *)(rows + set * l->rows_bytes);
    }
    spot->by_level = 0;
    spot->most_rows = ESV_UNCOUNTED;
    if (ESV_KEEPS_LINES && l->lines) {
        esv_spike_sort_window(l, m, top, left, spot->lists);
        spot->by_level = l->levels && !esv_spike_join_levels(l, spot->lists);
        return;
    }
    for (uint32_t t = 0; t < (l->levels ? w->time_steps : 1u); t++) {
        bytes[t] = window_bytes(w, l->input + t * plane, top, left,
                                m->window + t * window_bytes_of(l->rows));
    }
    if (l->levels) {
        spot->by_level = !esv_spike_sort_levels(l, m, bytes, spot->lists);
    } else {
        esv_spike_sort_codes(l, m, bytes[0], l->rows, spot->lists);
    }
}

static int32_t positions(uint32_t size, const esv_window *w)
{
    return (int32_t)((size + 2u * w->pad - w->kernel) / w->stride + 1);
}

void esv_spike_gather(const esv_spike_layer *l, esv_spike_memory *m, uint32_t token, uint32_t slot)
{
    const esv_window *w = l->w;
    int32_t y = (int32_t)(token / w->out_width), x = (int32_t)(token % w->out_width);
    esv_spike_spot *first = esv_spike_spot_at(l, m, slot, 0);
    first->positions = 1;
    if (!w->pool) {
        esv_spike_gather_at(l, m, y, x, first);
        return;
    }
    int32_t height = positions(w->height, w), width = positions(w->width, w);
    uint32_t spot = 0;
    y = y * w->pool_stride - w->pool / 2;
    x = x * w->pool_stride - w->pool / 2;
    for (int32_t py = y < 0 ? 0 : y; py < y + w->pool && py < height; py++) {
        for (int32_t px = x < 0 ? 0 : x; px < x + w->pool && px < width; px++, spot++) {
            esv_spike_gather_at(l, m, py, px, esv_spike_spot_at(l, m, slot, spot));
        }
    }
    first->positions = spot;
}
