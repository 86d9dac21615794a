/* One call of the spiking convolution, shared by its two halves: spike_gather.c sorts what fires in
 * the windows of a block of tokens, spike_conv.c applies weights and neurons to it.
 */
#ifndef ESV_SPIKE_LAYER_H
#define ESV_SPIKE_LAYER_H

#include "spike_conv.h"

#define ESV_ALIGNED(bytes) (((bytes) + 15u) & ~15u)

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
    uint32_t block; /* tokens */
    const esv_crew *crew;
    uint8_t *scratch;
} esv_spike_layer;

/* Where the parts of one member's memory are. */
typedef struct {
    uint8_t *window;   /* the bytes of one window: (K), of levels (T, K) */
    uint8_t *patterns; /* (room + 1, K) for levels: the steps at which an input is 1, 2, ... */
    uint8_t *sorting;  /* (K, sort_bytes), of levels (room, K, sort_bytes) */
    uint8_t *weights;  /* (K, width) expanded */
    int32_t *currents; /* (T, width), with pooling (2, T, width) */
    uint8_t *spots;    /* (block, spots): esv_spike_spot with its lists, then their rows */
} esv_spike_memory;

/* What fires in the window of one position. */
typedef struct {
    uint32_t by_level;  /* a list holds a level of one step; else it holds a firing pattern */
    uint32_t positions; /* of the token, at its first position: pooling clips at the edge */
    esv_lists lists[];
} esv_spike_spot;

/* Bytes of everything but the lists, and of the lists of one output token. */
uint32_t esv_spike_fixed_bytes(const esv_window *w, int levels,
                               const esv_spike_variant *kernel);
uint32_t esv_spike_token_bytes(const esv_window *w, int levels);

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

/* Position `index` of the block's token number `slot`. */
esv_spike_spot *esv_spike_spot_at(const esv_spike_layer *layer, const esv_spike_memory *memory,
                                  uint32_t slot, uint32_t index);

/* Sort what fires in the windows of one output token. */
void esv_spike_gather(const esv_spike_layer *layer, const esv_spike_memory *memory,
                          uint32_t token, uint32_t slot);

#endif
