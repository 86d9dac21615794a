/* Spiking convolution: blocks of tokens, tiles of channels and what becomes of the currents. How
 * rows are sorted and added is a variant's business (spike_conv.h).
 *
 * The inputs of all tokens of a block are sorted first, then one tile of output channels after the
 * other is expanded and applied to every token. With only the arena's scratch a block is one token
 * and nothing is expanded.
 */
#include <string.h>

#include "after.h"
#include "spike_layer.h"
#include "spike_masks.h"
#include "weights.h"

/* Constants of the channels, and of the padding, which gets none. A threshold below int16 is
 * reached by every membrane in int16, as its lowest value is; one above by none, as is its highest
 * value: a membrane stays below the largest sum. */
static void copy_constants(const esv_conv *conv, esv_ready_tile *r)
{
    const esv_after *after = &conv->after;
    int spikes = after->kind == ESV_SPIKES;
    for (uint32_t i = 0; i < r->tile.width; i++) {
        int32_t threshold = i < r->n && spikes ? after->threshold[r->first + i] : INT16_MAX;
        r->bias[i] = i < r->n ? conv->bias[r->first + i] : 0;
        r->bias16[i] = (int16_t)r->bias[i];
        r->threshold[i] = threshold;
        threshold = threshold < INT16_MIN ? INT16_MIN : threshold;
        r->threshold16[i] = (int16_t)(threshold > INT16_MAX ? INT16_MAX : threshold);
    }
    r->tile.bias = r->bias;
    r->tile.threshold = r->threshold;
    r->tile.bias16 = r->bias16;
    r->tile.threshold16 = r->threshold16;
}

/* Expand the channels of r to `weights`, (rows, n rounded up to ESV_LANES). */
static void expand(uint32_t rows, const esv_conv *conv, const esv_spike_variant *k,
                   uint8_t *weights, esv_ready_tile *r)
{
    uint32_t width = (r->n + ESV_LANES - 1u) / ESV_LANES * ESV_LANES;
    r->tile.rows = weights;
    r->tile.row_bytes = width * k->weight_bytes;
    r->tile.width = (uint16_t)width;
    for (uint32_t c = 0; c < r->n; c += ESV_LANES) {
        k->expand(esv_tile_at(conv, rows, r->first + c), rows, conv->bits,
                  esv_lanes_of(conv->after.channels, r->first + c), weights + c * k->weight_bytes,
                  r->tile.row_bytes);
    }
    copy_constants(conv, r);
    r->tile.most_rows = esv_spike_any_rows(r->bias, r->n, conv->bits);
}

/* Whether all thresholds are in int16, as a variant that runs in place takes them. */
static int comparable(const esv_after *after, uint32_t first, uint32_t n)
{
    for (uint32_t c = first; after->kind == ESV_SPIKES && c < first + n; c++) {
        if (after->threshold[c] != (int16_t)after->threshold[c]) {
            return 0;
        }
    }
    return 1;
}

/* Nothing is copied: on a small core this is done for every token. */
static void point_at(uint32_t rows, const esv_conv *conv, esv_ready_tile *r)
{
    r->tile.rows = esv_tile_at(conv, rows, r->first);
    r->tile.row_bytes = esv_row_bytes(conv->bits, r->n < ESV_LANES ? r->n : ESV_LANES);
    r->tile.tile_bytes = r->tile.row_bytes * rows;
    r->tile.width = (uint16_t)r->n;
    r->tile.bias = conv->bias + r->first;
    r->tile.threshold = conv->after.kind == ESV_SPIKES ? conv->after.threshold + r->first : NULL;
}

/* The next tile, from channel `first` on; weights: where there is room to expand them. */
static void ready(uint32_t rows, const esv_conv *conv, const esv_spike_variant *k, uint32_t first,
                  uint8_t *weights, esv_ready_tile *r)
{
    uint32_t left = conv->after.channels - first, width = k->width;
    r->first = first;
    r->n = left < width ? left : width;
    r->tile.bits = conv->bits;
    r->tile.time_steps = conv->after.time_steps;
    if (ESV_WIDEST > 1 && k->weight_bytes) {
        r->wide = !esv_spike_certified(conv, first, r->n);
        expand(rows, conv, k, weights, r);
        return;
    }
    r->n = left >= width ? width : esv_lanes_of(conv->after.channels, first);
    r->wide = !esv_spike_certified(conv, first, r->n);
    r->tile.most_rows = r->wide && comparable(&conv->after, first, r->n)
                       ? esv_spike_any_rows(conv->bias + first, r->n, conv->bits) : -1;
    point_at(rows, conv, r);
}

static uint32_t tiles_of(const esv_conv *conv, const esv_spike_variant *k)
{
    return (conv->after.channels + k->width - 1u) / k->width;
}

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

uint64_t esv_spike_tiles_bytes(uint32_t rows, const esv_conv *conv, const esv_spike_variant *k)
{
    uint64_t width = (conv->after.channels + ESV_LANES - 1u) / ESV_LANES * ESV_LANES;
    return !k->weight_bytes ? 0 : round_up(tiles_of(conv, k) * sizeof(esv_ready_tile)) +
                                      round_up(rows * width * k->weight_bytes);
}

void esv_spike_prepare_tiles(uint32_t rows, uint32_t max_level, const esv_conv *conv,
                             const esv_spike_variant *k, void *memory)
{
    esv_ready_tile *tile = memory;
    uint8_t *weights = (uint8_t *)memory + round_up(tiles_of(conv, k) * sizeof *tile);
    for (uint32_t first = 0; first < conv->after.channels; first += tile->n, tile++) {
        ready(rows, conv, k, first, weights + (size_t)rows * first * k->weight_bytes, tile);
        if (ESV_WIDEST > 1 && tile->wide) {
            tile->tile.most_rows = esv_spike_most_rows(conv, rows, first, tile->n, max_level);
        }
    }
}

static int fire_to(const esv_spike_variant *k, const esv_tile *tile, const esv_lists *lists,
                   int wide, uint8_t *codes)
{
    if (wide) {
        return k->fire_wide && k->fire_wide(tile, lists, codes);
    }
    k->fire(tile, lists, codes);
    return 1;
}

/* Returns 0 where the variant does not fire from wide sums. */
static int fire(const esv_spike_layer *l, const esv_after *after, const esv_ready_tile *r,
                uint32_t token, const esv_lists *lists, int wide)
{
    uint8_t *out = (uint8_t *)after->out + token * after->channels + r->first;
    uint8_t codes[ESV_WIDEST]; /* in place, n is the width */
    if (r->n == r->tile.width) {
        return fire_to(l->kernel, &r->tile, lists, wide, out);
    }
    if (!fire_to(l->kernel, &r->tile, lists, wide, codes)) {
        return 0;
    }
    memcpy(out, codes, r->n);
    return 1;
}

/* Rows of the step that has the most. */
static ESV_APART uint32_t count_rows(const esv_lists *lists, uint32_t steps)
{
    uint32_t most = 0;
    for (uint32_t t = 0; t < steps; t++) {
        const uint16_t *count = lists[t / 4].count;
        uint32_t step = 1u << t % 4, rows = 0;
        for (uint32_t p = step; p < ESV_LISTS; p = (p + 1) | step) {
            rows += count[p];
        }
        most = rows > most ? rows : most;
    }
    return most;
}

/* The same of lists by level, each row as often as its level says. */
static ESV_APART uint32_t count_levels(const esv_lists *lists, uint32_t steps, uint32_t nibbles)
{
    uint32_t most = 0;
    for (uint32_t t = 0; t < steps; t++) {
        uint32_t rows = 0;
        for (uint32_t g = 0; g < nibbles; g++, lists++) {
            for (uint32_t p = 1; p < ESV_LISTS; p++) {
                rows += (p << 4 * g) * lists->count[p];
            }
        }
        most = rows > most ? rows : most;
    }
    return most;
}

/* Whether the sums of a position fit int16. */
static int fits(const esv_spike_layer *l, const esv_ready_tile *r, esv_spike_spot *spot)
{
    if (!r->wide || r->tile.most_rows < 0) {
        return !r->wide;
    }
    if (spot->most_rows == ESV_UNCOUNTED) {
        uint32_t steps = l->w->time_steps;
        spot->most_rows = spot->by_level ? count_levels(spot->lists, steps, esv_spike_nibbles(l->w))
                                         : count_rows(spot->lists, steps);
    }
    return spot->most_rows <= (uint32_t)r->tile.most_rows;
}

/* currents (T, width) of one position. */
static void sum(const esv_spike_layer *l, const esv_ready_tile *r, esv_spike_spot *spot,
                int32_t *currents)
{
    int wide = !fits(l, r, spot);
    if (!spot->by_level) {
        l->kernel->sum_spikes(&r->tile, spot->lists, wide, currents);
        return;
    }
    for (uint32_t t = 0, n = esv_spike_nibbles(l->w); t < l->w->time_steps; t++) {
        l->kernel->sum_levels(&r->tile, spot->lists + t * n, n, wide,
                              currents + t * r->tile.width);
    }
}

static void go_on(const esv_spike_layer *l, const esv_after *after, const esv_ready_tile *r,
                  uint32_t token, const int32_t *currents)
{
    int32_t state[ESV_TILE];
    for (uint32_t c = 0; c < r->n; c += ESV_TILE) {
        uint32_t n = r->n - c < ESV_TILE ? r->n - c : ESV_TILE;
        for (uint32_t t = 0; t < l->w->time_steps; t++) {
            esv_after_currents(after, t, token, r->first + c, n,
                               currents + t * r->tile.width + c, state);
        }
    }
}

/* Token number `slot` of the block; of its positions the largest currents count. */
static ESV_APART void sum_and_go_on(const esv_spike_layer *l, const esv_spike_memory *m,
                                    const esv_after *after, const esv_ready_tile *r, uint32_t token,
                                    uint32_t slot)
{
    uint32_t numbers = (uint32_t)l->w->time_steps * r->tile.width;
    int32_t *currents = m->currents, *more = currents + numbers;
    esv_spike_spot *first = esv_spike_spot_at(l, m, slot, 0);
    sum(l, r, first, currents);
    for (uint32_t index = 1; index < first->positions; index++) {
        sum(l, r, esv_spike_spot_at(l, m, slot, index), more);
        for (uint32_t i = 0; i < numbers; i++) {
            currents[i] = more[i] > currents[i] ? more[i] : currents[i];
        }
    }
    go_on(l, after, r, token, currents);
}

/* One tile of the `n` tokens of a block, which begins at token `from`. */
static void run_tile(const esv_spike_layer *l, const esv_spike_memory *m, const esv_after *after,
                     const esv_ready_tile *r, uint32_t from, uint32_t n)
{
    int spikes = after->kind == ESV_SPIKES && !l->w->pool;
    for (uint32_t slot = 0; slot < n; slot++) {
        esv_spike_spot *spot = esv_spike_spot_at(l, m, slot, 0);
        if (!spikes || spot->by_level ||
            !fire(l, after, r, from + slot, spot->lists, !fits(l, r, spot))) {
            sum_and_go_on(l, m, after, r, from + slot, slot);
        }
    }
}

/* One block of tokens, by one member. */
static void run_block(void *context, uint32_t index, uint32_t member)
{
    const esv_spike_layer *l = context;
    esv_spike_memory m = esv_spike_memory_of(l, member);
    uint32_t from = index * l->block, tokens = (uint32_t)l->w->out_height * l->w->out_width;
    uint32_t n = tokens - from < l->block ? tokens - from : l->block;
    for (uint32_t slot = 0; slot < n; slot++) {
        esv_spike_gather(l, &m, from + slot, slot);
    }
    for (const esv_conv *conv = l->conv; conv < l->conv + l->count; conv++) {
        const esv_ready_tile *r = l->kernel->weight_bytes ? conv->prepared : NULL;
        esv_ready_tile own;
        for (uint32_t first = 0, i = 0; first < conv->after.channels; first += own.n, i++) {
            if (r) {
                own.n = r[i].n;
            } else {
                ready(l->rows, conv, l->kernel, first, m.weights, &own);
            }
            run_tile(l, &m, &conv->after, r ? &r[i] : &own, from, n);
        }
    }
}

#ifdef ESV_DENSE
/* The currents of a tile at the positions in the first n slots. */
static void sum_tile(const esv_spike_layer *l, const esv_spike_memory *m, const esv_ready_tile *r,
                     uint32_t n, int32_t *currents, uint32_t width)
{
    uint32_t steps = l->w->time_steps, sums = r->tile.width;
    for (uint32_t slot = 0; slot < n; slot++, currents += steps * width) {
        esv_spike_spot *spot = esv_spike_spot_at(l, m, slot, 0);
        if (sums == width) {
            sum(l, r, spot, currents);
            continue;
        }
        sum(l, r, spot, m->currents);
        for (uint32_t t = 0; t < steps; t++) {
            memcpy(currents + t * width + r->first, m->currents + t * sums, sums * sizeof(int32_t));
        }
    }
}

void esv_spike_sum_positions(const esv_spike_layer *l, const esv_spike_memory *m, uint32_t n,
                             int32_t *currents, uint32_t width)
{
    const esv_ready_tile *r = l->kernel->weight_bytes ? l->conv->prepared : NULL;
    esv_ready_tile own;
    for (uint32_t first = 0, i = 0; first < l->conv->after.channels; first += own.n, i++) {
        if (r) {
            own.n = r[i].n;
        } else {
            ready(l->rows, l->conv, l->kernel, first, m->weights, &own);
        }
        sum_tile(l, m, r ? &r[i] : &own, n, currents, width);
    }
}
#endif

/* With a crew whose memory holds an expanded tile: blocks as large as fit, but enough of them for
 * all members. Otherwise one token at a time in the arena's scratch. */
static void choose(esv_spike_layer *l, const esv_crew *crew)
{
    const esv_window *w = l->w;
    uint32_t tokens = (uint32_t)w->out_height * w->out_width;
    uint32_t token = esv_spike_token_bytes(w, l->levels);
    l->kernel = &ESV_SPIKE_IN_PLACE;
    l->block = 1;
    if (!crew) {
        return;
    }
    uint32_t lines = ESV_KEEPS_LINES ? esv_spike_lines(w, l->levels) : 0;
    uint32_t fixed = esv_spike_fixed_bytes(w, l->levels, lines, crew->kernel);
    if (crew->work_bytes < fixed + token) {
        return;
    }
    uint32_t fit = (crew->work_bytes - fixed) / token;
    uint32_t share = (tokens + crew->members - 1) / crew->members;
    l->crew = crew;
    l->kernel = crew->kernel;
    l->lines = lines;
    l->block = fit < share ? fit : share;
    l->block = l->block < ESV_MOST_TOKENS ? l->block : ESV_MOST_TOKENS;
}

void esv_spike_conv(const esv_window *w, const esv_conv *conv, uint32_t count, int levels,
                    const uint8_t *input, void *scratch, const esv_crew *crew)
{
#ifdef ESV_DENSE
    enum esv_road road = esv_spike_choose(w, conv, count, levels, input, crew);
    if (road == ESV_MASKS_FIRST && esv_spike_takes_masks(w, conv, count, levels, crew)) {
        esv_spike_conv_masks(w, conv, count, input, crew);
        return;
    }
    if (road == ESV_DENSE_ALONE && esv_spike_conv_dense(w, conv, count, levels, input, crew)) {
        return;
    }
#endif
    esv_spike_layer l = {
        .w = w, .conv = conv, .count = count, .input = input, .levels = levels,
        .scratch = scratch,
    };
    esv_spike_measure(&l);
    choose(&l, crew);
#ifdef ESV_DENSE
    if (w->pool && l.crew && esv_spike_conv_pooled(&l)) {
        return;
    }
#endif
    uint32_t blocks = ((uint32_t)w->out_height * w->out_width + l.block - 1) / l.block;
    esv_share(l.crew, run_block, &l, blocks);
}
