/* The parts of the spiking convolution on AArch64. */
#ifndef ESV_SPIKE_CONV_NEON_H
#define ESV_SPIKE_CONV_NEON_H

#include <stddef.h>
#include <string.h>

#include "neon.h"
#include "spike_conv.h"

#define ESV_NEON_WIDTH 128    /* channels at a time */
#define ESV_NEON_SORT_BYTES 48 /* each list has room for all inputs, and for some more */

/* `expand`, `sort`, `splits` and the two sums of esv_spike_neon. */
extern const esv_split esv_neon_splits[ESV_SPLITS];
void esv_neon_expand(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes, void *out,
                     uint32_t row_bytes);
void esv_neon_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                   int dissolve, esv_lists *lists, void *scratch);
void esv_neon_sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide,
                         int32_t *currents);
void esv_neon_sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                         int32_t *currents);

/* Step t of the neurons of a tile on the sums of two parts; its codes are done at the last step. */
void esv_neon_fire_wide(const esv_tile *tile, uint32_t t, const int16_t *part, const int16_t *rest,
                        int32_t *membrane, uint8_t *codes);

/* Its two functions of masks. */
void esv_neon_mask(const uint8_t *codes, uint32_t count, uint32_t steps, uint32_t apart,
                   uint8_t *masks);
void esv_neon_run_masks(const esv_tile *tile, const esv_masks *masks, uint32_t count,
                        uint8_t *codes, int32_t *currents, uint32_t stride);

/* out = the sum of `count` rows, at least one. */
typedef void esv_neon_sum_list(const int8_t *rows, uint32_t stride, const uint16_t *row,
                               uint32_t count, int16_t *out);
/* All steps of a tile: codes, or where that is NULL the currents, `stride` from step to step. */
typedef void esv_neon_run(const esv_tile *tile, const esv_lists *lists, uint8_t *codes,
                          int32_t *currents, uint32_t stride);

/* Kernels for one width and size of weights. */
typedef struct {
    esv_neon_sum_list *sum_list;
    esv_neon_run *run;
} esv_neon_kernels;

/* The kernels of a tile; without functions, where its width has none. */
const esv_neon_kernels *esv_neon_find(const esv_tile *tile);

/* The part of a tile from a column on that has kernels: all of the rest, or some of it. */
esv_tile esv_neon_part(const esv_tile *tile, uint32_t column);

#endif
