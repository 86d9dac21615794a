/* One call of the spiking convolution, shared by its two halves: spike_gather.c sorts what fires in
 * the windows of a block of tokens, spike_conv.c applies weights and neurons to it.
 */
#ifndef ESV_SPIKE_LAYER_H
#define ESV_SPIKE_LAYER_H

#include "spike_conv.h"

#define ESV_MOST_TOKENS 256 /* of a block */
#define ESV_ALIGNED(bytes) (((bytes) + 15u) & ~15u)

/* Microcontrollers have no memory for sorted image rows, and their firmware goes without that code;
 * nor for expanded weights. ESV_WIDEST: channels of an expanded tile. */
#if defined __ARM_ARCH_PROFILE && __ARM_ARCH_PROFILE == 'M'
#define ESV_KEEPS_LINES 0
#define ESV_WIDEST 1
#else
#define ESV_KEEPS_LINES 1
#define ESV_WIDEST 128
#endif

/* A tile and the constants that its pointers point at; prepared ones are kept behind each other. */
typedef struct {
    esv_tile tile;
    uint32_t first, n; /* its channels */
    int wide;          /* sums of all rows need int32 */
    int32_t bias[ESV_WIDEST], threshold[ESV_WIDEST];
    int16_t bias16[ESV_WIDEST] __attribute__((aligned(16)));
    int16_t threshold16[ESV_WIDEST] __attribute__((aligned(16)));
} esv_ready_tile;

/* What does not change from token to token. */
typedef struct {
    const esv_window *w;
    const esv_conv *conv; /* (count) */
    uint32_t count;
    const uint8_t *input;
    const esv_spike_variant *kernel;
    int levels;
    uint32_t rows;  /* K */
    uint32_t sets;  /* most esv_lists of a position; some only lend their room */
    uint32_t spots; /* positions that an output token pools over, 1 without pooling */
    uint32_t lists_bytes, rows_bytes, spot_bytes; /* of a position's lists, of the rows of one */
    uint32_t block; /* tokens */
    uint32_t lines; /* image rows whose lists are kept (spike_lines.c), 0: windows share nothing */
    const esv_crew *crew;
    uint8_t *scratch;
    uint32_t before; /* bytes of a member's work that are not for lists */
} esv_spike_layer;

#define ESV_UNCOUNTED UINT32_MAX

/* Where the parts of one member's memory are. */
typedef struct {
    uint8_t *window;   /* the bytes of one window: (K), of levels (T, K) */
    uint8_t *patterns; /* (room + 1, K) for levels: the steps at which an input is 1, 2, ... */
    uint8_t *sorting;  /* (K, sort_bytes), of levels (room, K, sort_bytes), of lines (W * C, ...) */
    uint8_t *weights;  /* (K, width) expanded */
    int32_t *currents; /* (T, width), with pooling (2, T, width) */
    uint8_t *lines;    /* sorted image rows */
    uint8_t *spots;    /* (block, spots): esv_spike_spot with its lists, then their rows */
    int32_t next_line; /* the image row to be sorted next */
} esv_spike_memory;

/* What fires in the window of one position. */
typedef struct {
    uint32_t by_level;  /* a list holds a level of one step; else it holds a firing pattern */
    uint32_t most_rows; /* of a step; ESV_UNCOUNTED before it is asked for */
    uint32_t positions; /* of the token, at its first position: pooling clips at the edge */
    esv_lists lists[];
} esv_spike_spot;

/* Bytes of everything but the lists, with so many sorted image rows; and of the lists of one output
 * token. */
uint32_t esv_spike_fixed_bytes(const esv_window *w, int levels, uint32_t lines,
                               const esv_spike_variant *kernel);
uint32_t esv_spike_token_bytes(const esv_window *w, int levels);

/* Of what esv_spike_prepare makes the part for lists, which comes first. */
uint64_t esv_spike_tiles_bytes(uint32_t rows, const esv_conv *conv, const esv_spike_variant *kernel);

void esv_spike_prepare_tiles(uint32_t rows, uint32_t max_level, const esv_conv *conv,
                             const esv_spike_variant *kernel, void *memory);

/* Fill in what follows from the window, and that it is of levels. */
void esv_spike_measure(esv_spike_layer *layer);

esv_spike_memory esv_spike_memory_of(const esv_spike_layer *layer, uint32_t member);

static inline uint32_t esv_spike_rows(const esv_window *w)
{
    return (uint32_t)w->kernel * w->kernel * w->channels;
}

static inline uint32_t esv_spike_nibbles(const esv_window *w)
{
    return w->max_level > 15 ? 2 : 1;
}

/* The highest level that is taken apart into patterns; with one step a list for each level is as
 * good. */
static inline uint32_t esv_spike_room(const esv_window *w)
{
    return w->time_steps < 2 ? 0 : w->max_level < 6 ? w->max_level : 6;
}

static inline uint32_t esv_spike_sets(const esv_window *w, int levels)
{
    uint32_t groups = (w->time_steps + 3u) / 4, patterns = esv_spike_room(w) * groups;
    uint32_t each = w->time_steps * esv_spike_nibbles(w);
    return !levels ? groups : each > patterns ? each : patterns;
}

/* Whether the sums of channels `first` to first + n - 1 fit int16; `first` is a multiple of 8. */
static inline int esv_spike_certified(const esv_conv *conv, uint32_t first, uint32_t n)
{
    uint32_t c = first;
    for (; c + 8 <= first + n; c += 8) {
        if (conv->certified[c >> 3] != 255) {
            return 0;
        }
    }
    for (; c < first + n; c++) {
        if (!(conv->certified[c >> 3] >> (c & 7) & 1)) {
            return 0;
        }
    }
    return 1;
}

/* Position `index` of the block's token number `slot`. */
static inline esv_spike_spot *esv_spike_spot_at(const esv_spike_layer *layer,
                                                const esv_spike_memory *memory, uint32_t slot,
                                                uint32_t index)
{
    uint32_t at = (slot * layer->spots + index) * layer->spot_bytes;
    return (esv_spike_spot *)(void *)(memory->spots + at);
}

/* Sort what fires in the window of one position, (y, x) before pooling. */
void esv_spike_gather_at(const esv_spike_layer *layer, esv_spike_memory *memory, int32_t y,
                         int32_t x, esv_spike_spot *spot);

/* Sort what fires in the windows of one output token. */
void esv_spike_gather(const esv_spike_layer *layer, esv_spike_memory *memory, uint32_t token,
                      uint32_t slot);

/* The highest level that is taken apart into patterns. Where memory allows it may be higher than
 * lists have room for if all inputs had it. */
uint32_t esv_spike_pattern_room(const esv_window *w, const esv_spike_variant *kernel);

/* Sort `count` bytes of steps by pattern. */
void esv_spike_sort_codes(const esv_spike_layer *layer, const esv_spike_memory *memory,
                          const uint8_t *codes, uint32_t count, esv_lists *lists);

/* ---- spike_levels.c ---- */

/* The levels of each step's window, plane (T, K); returns whether lists are of patterns, or 0 where
 * they are of levels. */
int esv_spike_sort_levels(const esv_spike_layer *layer, const esv_spike_memory *memory,
                          const uint8_t *const *plane, esv_lists *lists);
/* Make one list of the lists of a single step's levels, which is then that of a pattern; returns 0
 * where this would not pay or has no room. */
int esv_spike_join_levels(const esv_spike_layer *layer, esv_lists *lists);

/* ---- spike_bound.c: rows whose sums fit int16 together with the bias; -1: not even none ---- */

/* Whichever the weights of `bits` bits are. */
int32_t esv_spike_any_rows(const int32_t *bias, uint32_t n, uint32_t bits);

/* Of the weights that channels `first` to first + n - 1 have; a row counts up to `times` times. */
int32_t esv_spike_most_rows(const esv_conv *conv, uint32_t rows, uint32_t first, uint32_t n,
                            uint32_t times);

/* ---- spike_conv_pooled.c: where memory allows, every position is looked at once ---- */

/* 0: nothing was done, there is too little memory. */
int esv_spike_conv_pooled(const esv_spike_layer *layer);
/* Bytes that it takes beyond those of lists. */
uint64_t esv_spike_pooled_bytes(const esv_window *w, uint32_t channels);
/* currents (n, T, width) of the positions in the first n slots, by the layer's one convolution. */
void esv_spike_sum_positions(const esv_spike_layer *layer, const esv_spike_memory *memory,
                             uint32_t n, int32_t *currents, uint32_t width);

/* ---- spike_lines.c ---- */

/* Image rows to keep sorted where there is memory; 0: it would be of no use. */
uint32_t esv_spike_lines(const esv_window *w, int levels);
uint32_t esv_spike_lines_bytes(const esv_window *w, uint32_t lines);

/* lists (T / 4, rounded up; of levels one) of the window whose first tap is at (y, x). Windows of a block come in
 * such an order that no row is needed again after `layer->lines` later ones. */
void esv_spike_sort_window(const esv_spike_layer *layer, esv_spike_memory *memory, int32_t y,
                           int32_t x, esv_lists *lists);

#endif
