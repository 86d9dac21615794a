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
#include "weights.h"

#if defined __ARM_ARCH_PROFILE && __ARM_ARCH_PROFILE == 'M'
#define WIDEST ESV_LANES /* channels of a tile: its constants are on the stack */
#else
#define WIDEST 128
#endif
#define MAX_BLOCK 256 /* tokens */
#define LIST_BYTES (256u << 10) /* of a block: more would leave the second-level cache */

/* A tile and the constants that its pointers point at. */
typedef struct {
    esv_tile tile;
    uint32_t first, n; /* its channels */
    int wide;          /* sums need int32 */
    int32_t bias[WIDEST], threshold[WIDEST];
    int16_t bias16[WIDEST] __attribute__((aligned(16)));
    int16_t threshold16[WIDEST] __attribute__((aligned(16)));
} ready_tile;

static int certified(const esv_conv *conv, uint32_t first, uint32_t n)
{
    for (uint32_t c = first; c < first + n; c++) {
        if (!(conv->certified[c >> 3] >> (c & 7) & 1)) {
            return 0;
        }
    }
    return 1;
}

/* Constants of the channels, and of the padding, which gets none. A threshold below int16 is
 * reached by every membrane in int16, as its lowest value is; one above by none. */
static void ready_constants(const esv_spike_layer *l, ready_tile *r)
{
    const esv_after *after = &l->conv->after;
    int spikes = after->kind == ESV_SPIKES;
    r->wide = !certified(l->conv, r->first, r->n);
    for (uint32_t i = 0; i < r->tile.width; i++) {
        int32_t threshold = i < r->n && spikes ? after->threshold[r->first + i] : INT16_MAX;
        r->bias[i] = i < r->n ? l->conv->bias[r->first + i] : 0;
        r->bias16[i] = (int16_t)r->bias[i];
        r->wide |= threshold > INT16_MAX;
        r->threshold[i] = threshold < INT16_MIN ? INT16_MIN : threshold;
        r->threshold16[i] = (int16_t)r->threshold[i];
    }
}

static void ready(const esv_spike_layer *l, const esv_spike_memory *m, uint32_t first, ready_tile *r)
{
    const esv_spike_variant *k = l->kernel;
    uint32_t left = l->w->out_channels - first, bits = l->conv->bits;
    r->first = first;
    r->n = left < k->width ? left : k->width;
    uint32_t width = k->weight_bytes ? (r->n + ESV_LANES - 1u) / ESV_LANES * ESV_LANES : r->n;
    r->tile = (esv_tile){
        .rows = m->weights, .row_bytes = width * k->weight_bytes, .width = (uint16_t)width,
        .bits = (uint8_t)bits, .time_steps = l->w->time_steps,
        .bias = r->bias, .threshold = r->threshold, .bias16 = r->bias16,
        .threshold16 = r->threshold16,
    };
    if (!k->weight_bytes) {
        r->tile.rows = esv_tile_at(l->conv, l->rows, first);
        r->tile.row_bytes = esv_row_bytes(bits, r->n);
    }
    for (uint32_t c = 0; k->weight_bytes && c < r->n; c += ESV_LANES) {
        k->expand(esv_tile_at(l->conv, l->rows, first + c), l->rows, bits,
                  esv_lanes_of(l->w->out_channels, first + c), m->weights + c * k->weight_bytes,
                  r->tile.row_bytes);
    }
    ready_constants(l, r);
}

static void fire(const esv_spike_layer *l, const ready_tile *r, uint32_t token, const esv_lists *lists)
{
    uint8_t *out = (uint8_t *)l->conv->after.out + token * l->w->out_channels + r->first;
    uint8_t codes[WIDEST];
    if (r->n == r->tile.width) {
        l->kernel->fire(&r->tile, lists, out);
    } else {
        l->kernel->fire(&r->tile, lists, codes);
        memcpy(out, codes, r->n);
    }
}

/* currents (T, width) of one position. */
static void sum(const esv_spike_layer *l, const ready_tile *r, const esv_spike_spot *spot,
                int32_t *currents)
{
    if (!spot->by_level) {
        l->kernel->sum_spikes(&r->tile, spot->lists, r->wide, currents);
        return;
    }
    for (uint32_t t = 0, n = esv_spike_nibbles(l->w); t < l->w->time_steps; t++) {
        l->kernel->sum_levels(&r->tile, spot->lists + t * n, n, r->wide,
                              currents + t * r->tile.width);
    }
}

static void go_on(const esv_spike_layer *l, const ready_tile *r, uint32_t token,
                  const int32_t *currents)
{
    int32_t state[ESV_TILE];
    for (uint32_t c = 0; c < r->n; c += ESV_TILE) {
        uint32_t n = r->n - c < ESV_TILE ? r->n - c : ESV_TILE;
        for (uint32_t t = 0; t < l->w->time_steps; t++) {
            esv_after_currents(&l->conv->after, t, token, r->first + c, n,
                               currents + t * r->tile.width + c, state);
        }
    }
}

/* Token number `slot` of the block; of its positions the largest currents count. */
static ESV_APART void sum_and_go_on(const esv_spike_layer *l, const esv_spike_memory *m,
                                    const ready_tile *r, uint32_t token, uint32_t slot)
{
    uint32_t numbers = (uint32_t)l->w->time_steps * r->tile.width;
    int32_t *currents = m->currents, *more = currents + numbers;
    const esv_spike_spot *first = esv_spike_spot_at(l, m, slot, 0);
    sum(l, r, first, currents);
    for (uint32_t index = 1; index < first->positions; index++) {
        sum(l, r, esv_spike_spot_at(l, m, slot, index), more);
        for (uint32_t i = 0; i < numbers; i++) {
            currents[i] = more[i] > currents[i] ? more[i] : currents[i];
        }
    }
    go_on(l, r, token, currents);
}

/* One tile of the `n` tokens of a block, which begins at token `from`. */
static void run_tile(const esv_spike_layer *l, const esv_spike_memory *m, const ready_tile *r,
                     uint32_t from, uint32_t n)
{
    int narrow = l->conv->after.kind == ESV_SPIKES && !l->w->pool && !r->wide;
    for (uint32_t slot = 0; slot < n; slot++) {
        const esv_spike_spot *spot = esv_spike_spot_at(l, m, slot, 0);
        if (narrow && !spot->by_level) {
            fire(l, r, from + slot, spot->lists);
        } else {
            sum_and_go_on(l, m, r, from + slot, slot);
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
    for (uint32_t first = 0; first < l->w->out_channels; first += l->kernel->width) {
        ready_tile r;
        ready(l, &m, first, &r);
        run_tile(l, &m, &r, from, n);
    }
}

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
    uint32_t fixed = esv_spike_fixed_bytes(w, l->levels, crew->kernel);
    if (crew->work_bytes < fixed + token) {
        return;
    }
    uint32_t fit = (crew->work_bytes - fixed) / token;
    uint32_t share = (tokens + crew->members - 1) / crew->members;
    l->crew = crew;
    l->kernel = crew->kernel;
    l->block = fit < share ? fit : share;
    l->block = l->block < MAX_BLOCK ? l->block : MAX_BLOCK;
}

static void run(const esv_window *w, const esv_conv *conv, const uint8_t *input, int levels,
                void *scratch, const esv_crew *crew)
{
    esv_spike_layer l = {
        .w = w, .conv = conv, .input = input, .levels = levels, .rows = esv_spike_rows(w),
        .sets = esv_spike_sets(w, levels), .scratch = scratch,
        .spots = w->pool ? (uint32_t)w->pool * w->pool : 1,
    };
    choose(&l, crew);
    uint32_t blocks = ((uint32_t)w->out_height * w->out_width + l.block - 1) / l.block;
    esv_share(l.crew, run_block, &l, blocks);
}

void esv_spike_conv(const esv_window *w, const esv_conv *conv, const uint8_t *codes, void *scratch,
                    const esv_crew *crew)
{
    run(w, conv, codes, 0, scratch, crew);
}

void esv_level_conv(const esv_window *w, const esv_conv *conv, const uint8_t *levels,
                    void *scratch, const esv_crew *crew)
{
    run(w, conv, levels, 1, scratch, crew);
}

uint32_t esv_spike_conv_scratch(const esv_window *w, int levels)
{
    return esv_spike_fixed_bytes(w, levels, &ESV_SPIKE_IN_PLACE) +
           esv_spike_token_bytes(w, levels);
}

uint32_t esv_spike_conv_work(const esv_window *w, int levels, const esv_spike_variant *kernel)
{
    uint32_t tokens = (uint32_t)w->out_height * w->out_width, token;
    uint32_t most = tokens < MAX_BLOCK ? tokens : MAX_BLOCK;
    token = esv_spike_token_bytes(w, levels);
    uint32_t block = token < LIST_BYTES / most ? most : LIST_BYTES / token;
    return esv_spike_fixed_bytes(w, levels, kernel) + (block ? block : 1) * token;
}
