/* Whether a spiking convolution is computed from lists, from masks or as a dense product. */
#include "bytes16.h"
#include "spike_masks.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <stddef.h>

#define MOST_KEPT (64u << 10)   /* weights of a layer that are expanded twice, when it is opened */
#define MOST_EXPANDED (1u << 20) /* weights of a layer that are expanded each time it runs */

/* How much fires is found by a look at pieces of the input that lie evenly in it. */
#define PIECE 64u
#define MOST_PIECES 16u /* 16 bits hold the sums of a lane, whatever is there */

/* sum += inputs of a whole piece that are not 0, in each lane. */
static ESV_INLINE bytes16 look_at_spikes(const uint8_t *input, bytes16 sum)
{
    for (uint32_t i = 0; i < PIECE; i += sizeof sum) {
        sum -= (bytes16)(load16(input + i) != 0); /* all ones where it is so */
    }
    return sum;
}

/* sum += entries of the lists of a whole piece of levels of several steps: of each input as many as
 * its highest level. */
static halves8 look_at_levels(const uint8_t *input, size_t plane, uint32_t planes, halves8 sum)
{
    for (uint32_t i = 0; i < PIECE; i += sizeof sum) {
        bytes16 most = load16(input + i);
        for (uint32_t t = 1; t < planes; t++) {
            bytes16 level = load16(input + t * plane + i), more = (bytes16)(level > most);
            most = (level & more) | (most & ~more);
        }
        sum += ((halves8)most & 255) + ((halves8)most >> 8);
    }
    return sum;
}

/* The same byte by byte, of less than a piece. */
static uint32_t look_at_few(const uint8_t *input, uint32_t plane, uint32_t planes)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < plane; i++) {
        uint32_t most = 0;
        for (uint32_t t = 0; t < planes; t++) {
            most = input[t * plane + i] > most ? input[t * plane + i] : most;
        }
        all += planes > 1 ? most : most != 0;
    }
    return all;
}

float esv_spike_listed(const esv_window *w, int levels, const uint8_t *input)
{
    uint32_t plane = (uint32_t)w->height * w->width * w->channels, all = 0;
    uint32_t planes = levels ? w->time_steps : 1;
    uint32_t pieces = plane / PIECE < MOST_PIECES ? plane / PIECE : MOST_PIECES;
    if (!pieces) {
        return (float)look_at_few(input, plane, planes) / (float)plane;
    }
    halves8 sum = {0};
    bytes16 spikes = {0};
    for (uint32_t i = 0; i < pieces; i++) {
        const uint8_t *piece = input + (size_t)plane * i / pieces / PIECE * PIECE;
        if (planes > 1) {
            sum = look_at_levels(piece, plane, planes, sum);
        } else {
            spikes = look_at_spikes(piece, spikes);
        }
    }
    sum += ((halves8)spikes & 255) + ((halves8)spikes >> 8);
    for (uint32_t i = 0; i < 8; i++) {
        all += sum[i];
    }
    return (float)all / (float)(pieces * PIECE);
}

static uint32_t weights_of(const esv_window *w, uint32_t channels)
{
    return esv_spike_rows(w) * channels;
}

static uint32_t tiles_of(uint32_t channels)
{
    return esv_dense_round(channels, ESV_TILE) / ESV_TILE;
}

/* What lists cost, in a unit of the processor's. */
typedef struct {
    float position; /* each one of the output, or before pooling; of spikes for each pattern */
    float each;     /* the same without patterns, for each convolution */
    float sort;     /* each pattern of each input pixel where image rows are sorted, or else each
                     * input of each position */
    float entry;    /* each entry of a position's lists */
    float add;      /* the same, for each 16 channels */
    float step;     /* each step of each position, for each 16 channels */
    float after;    /* the same in addition where no spikes come out, or the largest of several */
} lists_prices;

/* What products cost in the same unit. */
typedef struct {
    float multiply; /* an input of a token, for each 16 channels */
    uint32_t least; /* channels of which a product may consist: less than 16 for the last ones */
    float token;    /* a step of a token, for each 16 channels */
    float input;    /* a step of an input */
    float segment;  /* a stretch of a row of windows */
    float expand;   /* a weight */
    float after;    /* as that of lists, of each token that comes out */
} dense_prices;

/* What masks cost in the same unit. */
typedef struct {
    float line;     /* 16 codes, for each kind of mask */
    float position; /* of the output, or before pooling, for each 128 channels */
    float word;     /* a look at up to 64 inputs of one kind in an image row, for each 128 channels */
    float entry;    /* each bit that is set, for each 128 channels */
    float add;      /* the same, for each 16 channels */
    float step;     /* as that of lists */
    float after;
} masks_prices;

enum input { SPIKES, SPIKES_IN_LINES, LEVELS, LEVELS_IN_LINES, LEVELS_OF_STEPS };

/* Instructions on Arm, nanoseconds here on x86: benchmarks/roads.py measures and fits them. */
#ifdef __aarch64__
#include "spike_prices_neon.h"
#else
#include "spike_prices_x86.h"
#endif

static enum input input_of(const esv_window *w, int levels)
{
    if (levels && w->time_steps > 1) {
        return LEVELS_OF_STEPS;
    }
    int lines = esv_spike_lines(w, levels) > 0;
    return levels ? (lines ? LEVELS_IN_LINES : LEVELS) : lines ? SPIKES_IN_LINES : SPIKES;
}

/* Lists that a line has for each pixel. */
static float patterns_of(const esv_window *w, int levels)
{
    uint32_t steps = w->time_steps;
    if (levels) {
        return w->max_level;
    }
    return (float)((1u << (steps < 4 ? steps : 4)) - 1 + (steps > 4 ? (1u << (steps - 4)) - 1 : 0));
}

typedef struct {
    float always, listed; /* of each entry that an input has on average */
} road_cost;

static road_cost cost_of_lists(const esv_window *w, int levels, const esv_spike_variant *k,
                                const esv_conv *conv, uint32_t count)
{
    enum input kind = input_of(w, levels);
    const lists_prices *p = &lists_prices_of(k)[kind];
    int lines = kind == SPIKES_IN_LINES || kind == LEVELS_IN_LINES;
    float rows = (float)esv_spike_rows(w), pixels = (float)(w->height * w->width);
    float positions = (float)(esv_dense_size(w->height, w) * esv_dense_size(w->width, w));
    float patterns = patterns_of(w, levels);
    road_cost cost = {
        positions * (levels ? 1 : patterns) * p->position +
            p->sort * (lines ? pixels * patterns : positions * rows),
        p->entry * positions * rows,
    };
    for (uint32_t i = 0; i < count; i++) {
        float tiles = (float)tiles_of(conv[i].after.channels);
        int fused = conv[i].after.kind == ESV_SPIKES && !w->pool;
        float step = p->step + (fused ? 0 : p->after);
        cost.always += positions * (p->each + tiles * step * w->time_steps);
        cost.listed += positions * tiles * p->add * rows;
    }
    return cost;
}

static float product_tiles(uint32_t channels, const dense_prices *p)
{
    uint32_t last = channels % ESV_TILE, least = p->least;
    while (least < last) {
        least *= 2;
    }
    return (float)(channels / ESV_TILE) + (last ? (float)least / ESV_TILE : 0);
}

/* One convolution; expanded: how often its weights are. */
static float cost_of_dense(const esv_window *w, int levels, const esv_spike_variant *k,
                        const esv_conv *conv, uint32_t expanded)
{
    uint32_t channels = conv->after.channels;
    int narrow = esv_spike_certified(conv, 0, channels);
    const dense_prices *p = dense_prices_of(k, narrow, levels ? w->max_level : 1);
    uint32_t rows = esv_dense_size(w->height, w), columns = esv_dense_size(w->width, w);
    uint32_t row = w->kernel * esv_dense_round((uint32_t)w->kernel * w->channels, ESV_DENSE_STEP);
    float tokens = w->kernel == 1 && w->stride == 1
                       ? (float)(rows * columns)
                       : (float)(rows * esv_dense_round(columns, ESV_DENSE_ROWS));
    float tiles = (float)tiles_of(channels), inputs = (float)w->height * w->width * w->channels;
    float products = p->multiply * (float)row * product_tiles(channels, p);
    float step = tokens * (products + p->token * tiles) + p->input * inputs +
                 p->segment * (float)(w->kernel > 1 ? rows * w->kernel : 0);
    if (conv->after.kind != ESV_SPIKES) {
        step += p->after * tiles * (float)(w->out_height * w->out_width);
    }
    return w->time_steps * step + p->expand * (float)(weights_of(w, channels) * expanded);
}

/* Kinds of masks, and how many of them an input that fires is in, about. */
static uint32_t kinds_of(uint32_t steps)
{
    return steps + (steps > 1) + (steps > 2) + (steps > 3);
}

static float entries_of(uint32_t steps)
{
    return steps < 3 ? 1 : steps == 3 ? 1.15f : 1.25f;
}

static road_cost cost_of_masks(const esv_window *w, const esv_spike_variant *k,
                               const esv_conv *conv, uint32_t count)
{
    const masks_prices *p = masks_prices_of(k);
    float kinds = (float)kinds_of(w->time_steps), rows = (float)esv_spike_rows(w);
    float chunks = (float)(w->height * ((w->width * w->channels + 15u) / 16));
    float positions = (float)(esv_dense_size(w->height, w) * esv_dense_size(w->width, w));
    float words = kinds * (float)(w->kernel * ((w->kernel * w->channels + 63u) / 64));
    float entries = positions * rows * entries_of(w->time_steps);
    road_cost cost = {chunks * kinds * p->line, 0};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t channels = conv[i].after.channels;
        float tiles = (float)tiles_of(channels), wide = (float)((channels + 127) / 128);
        int fused = conv[i].after.kind == ESV_SPIKES && !w->pool;
        float step = p->step + (fused ? 0 : p->after);
        cost.always += positions * (wide * (p->position + words * p->word) +
                                    tiles * step * w->time_steps);
        cost.listed += entries * (wide * p->entry + tiles * p->add);
    }
    return cost;
}

/* No input has more entries. */
static float most_listed(const esv_window *w, int levels)
{
    return levels && w->time_steps > 1 ? w->max_level : 1;
}

int esv_spike_keeps_dense(const esv_window *w, int levels, const esv_conv *conv,
                          const esv_spike_variant *k)
{
    if (!k->weight_bytes || weights_of(w, conv->after.channels) > MOST_KEPT) {
        return 0;
    }
    road_cost lists = cost_of_lists(w, levels, k, conv, 1);
    return cost_of_dense(w, levels, k, conv, 0) <
           lists.always + lists.listed * most_listed(w, levels);
}

uint64_t esv_spike_planned_work(const esv_window *w, int levels, const esv_spike_variant *k)
{
    uint32_t channels = w->out_channels;
    if (!k->weight_bytes || weights_of(w, channels) > MOST_EXPANDED) {
        return 0;
    }
    return esv_spike_dense_work(w, levels, channels, k, 0);
}

enum { LISTS, PRODUCTS, MASKS, ROADS };

static uint32_t cheapest(const road_cost cost[ROADS], float listed)
{
    uint32_t best = LISTS;
    float least = cost[LISTS].always + cost[LISTS].listed * listed;
    for (uint32_t road = PRODUCTS; road < ROADS; road++) {
        float price = cost[road].always + cost[road].listed * listed;
        if (price < least) {
            best = road;
            least = price;
        }
    }
    return best;
}

static const enum esv_road roads[ROADS] = {ESV_LISTS_ALONE, ESV_DENSE_ALONE, ESV_MASKS_FIRST};

enum esv_road esv_spike_choose(const esv_window *w, const esv_conv *conv, uint32_t count,
                               int levels, const uint8_t *input, const esv_crew *crew)
{
    if (!esv_dense_runs(crew) || crew->road != ESV_ANY_ROAD) {
        return esv_dense_runs(crew) ? crew->road : ESV_LISTS_ALONE;
    }
    const esv_spike_variant *k = crew->kernel;
    uint32_t parts = esv_dense_parts(crew, w->out_height);
    road_cost cost[ROADS] = {cost_of_lists(w, levels, k, conv, count)};
    for (uint32_t i = 0; i < count; i++) {
        int kept = esv_spike_dense_prepared(w, &conv[i], k) != NULL;
        cost[PRODUCTS].always += cost_of_dense(w, levels, k, &conv[i], kept ? 0 : parts);
    }
    cost[MASKS] = esv_spike_takes_masks(w, conv, count, levels, crew)
                      ? cost_of_masks(w, k, conv, count) : cost[LISTS];
    /* Costs grow evenly with what fires: the input is looked at only where that can decide. */
    uint32_t none = cheapest(cost, 0), all = cheapest(cost, most_listed(w, levels));
    return roads[none == all ? none : cheapest(cost, esv_spike_listed(w, levels, input))];
}
#endif
