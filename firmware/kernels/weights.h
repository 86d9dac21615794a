/* How a file stores the weights of a layer, K rows (inputs) of C channels in b bits: tiles of
 * ESV_LANES channels one after the other, the last one narrower, and in each tile its K rows.
 *
 * 8 bits: a row is one int8 a channel. Fewer: a row has ESV_LANES channels whatever the tile has,
 * each as w + 2^(b - 1), cut into fields of 4, 2 and 1 bits as b needs them, lowest bits first:
 *   4 bits: 8 bytes; byte 4 k + i is channel 8 k + i, and in its high half 8 k + 4 + i
 *   2 bits: 4 bytes; byte i holds channels i, 4 + i, 8 + i and 12 + i from its low end on
 *   1 bit:  2 bytes, little-endian; bit c is channel c
 * Masks then bring four channels at a time into the four bytes of a word.
 */
#ifndef ESV_WEIGHTS_H
#define ESV_WEIGHTS_H

#include "esv_kernels.h"

static inline uint32_t esv_row_bytes(uint32_t bits, uint32_t lanes)
{
    return bits == 8 ? lanes : bits * ESV_LANES / 8;
}

static inline uint32_t esv_lanes_of(uint32_t channels, uint32_t first)
{
    return channels - first < ESV_LANES ? channels - first : ESV_LANES;
}

/* The tile that starts at channel `first`, a multiple of ESV_LANES. */
static inline const uint8_t *esv_tile_at(const esv_conv *conv, uint32_t rows, uint32_t first)
{
    return conv->weight + first / ESV_LANES * rows * esv_row_bytes(conv->bits, ESV_LANES);
}

/* A packed row of fewer than 8 bits as ESV_LANES int8. */
void esv_unpack_row(const uint8_t *row, uint32_t bits, int8_t *unpacked);

/* One row as int8: in place, or unpacked to `unpacked`. */
static inline const int8_t *esv_row(const uint8_t *row, uint32_t bits, int8_t *unpacked)
{
    if (bits == 8) {
        return (const int8_t *)row;
    }
    esv_unpack_row(row, bits, unpacked);
    return unpacked;
}

#endif
