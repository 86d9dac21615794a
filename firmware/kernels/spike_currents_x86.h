/* The spiking convolution on x86-64: currents, for both lengths of registers; spike_sums_x86.h says
 * how a variant includes this. It has defined WITH_SHAPE.
 */
#ifndef ESV_SPIKE_CURRENTS_X86_H
#define ESV_SPIKE_CURRENTS_X86_H

#include "spike_sums_x86.h"

#define QUARTER (UNIT / 4) /* numbers of 32 bits in a register */

typedef uint32_t numbers __attribute__((vector_size(UNIT)));
/* Where currents are: of int32_t, at any of them. */
typedef uint32_t numbers_in_memory __attribute__((vector_size(UNIT), aligned(4), may_alias));

/* Channels QUARTER * q to QUARTER * q + QUARTER - 1 of a unit, in their order. */
INLINE numbers quarter(split x, uint32_t q);

/* sum[t] = n(current) of step t of a nibble, for all of its `steps`. */
INLINE void sum_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                       sums sum[4]);

/* Quarter q of unit u of the currents, or NULL beyond the tile. */
INLINE numbers_in_memory *currents_at(const esv_tile *tile, uint32_t u, uint32_t q,
                                      int32_t *currents)
{
    uint32_t channel = u * UNIT + q * QUARTER;
    return channel < tile->width ? (numbers_in_memory *)(void *)(currents + channel) : NULL;
}

/* currents (width) from n(current). */
INLINE void store_currents(shape s, const esv_tile *tile, const sums *sum, int32_t *currents)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split x = unpack_sums(sum, u, excess_of(tile, sum));
        UNROLL for (uint32_t q = 0; q < 4; q++) {
            numbers_in_memory *at = currents_at(tile, u, q, currents);
            if (at) {
                *at = ESV_TURN - quarter(x, q);
            }
        }
    }
}

INLINE void narrow_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                          int32_t *currents)
{
    sums sum[4];
    sum_nibble(s, tile, lists, steps, sum);
    UNROLL for (uint32_t t = 0; t < 4; t++) {
        if (t < steps) {
            store_currents(s, tile, &sum[t], currents + t * tile->width);
        }
    }
}

/* Rows whose even and odd sums fit in 16 bits without sign: 257 * 255 = 65535. */
#define SAFE_ROWS 256u

/* currents (width) -= factor * what the rows sum to. */
INLINE void subtract_wide(shape s, const esv_tile *tile, const sums *sum, uint32_t factor,
                          int32_t *currents)
{
    uint32_t excess = sum->count * esv_x86_zero(tile->bits);
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split x = unpack_sums(sum, u, all(0));
        UNROLL for (uint32_t q = 0; q < 4; q++) {
            numbers_in_memory *at = currents_at(tile, u, q, currents);
            if (at) {
                *at -= (quarter(x, q) - excess) * factor;
            }
        }
    }
}

/* Add list p, times its factor for each step, to the currents of those steps. factor[t] = 0: not
 * of step t. */
INLINE void add_wide_list(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t p,
                          uint32_t steps, const uint32_t *factor, int32_t *currents)
{
    for (uint32_t from = 0; from < lists->count[p]; from += SAFE_ROWS) {
        uint32_t left = lists->count[p] - from, n = left < SAFE_ROWS ? left : SAFE_ROWS;
        sums sum;
        clear(s, &sum);
        add_rows(s, tile, lists->row + lists->first[p] + from, n, &sum);
        for (uint32_t t = 0; t < steps; t++) {
            if (factor[t]) {
                subtract_wide(s, tile, &sum, factor[t], currents + t * tile->width);
            }
        }
    }
}

INLINE void wide_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                        int32_t *currents)
{
    for (uint32_t t = 0; t < steps; t++) {
        memcpy(currents + t * tile->width, tile->bias, tile->width * sizeof *currents);
    }
    for (uint32_t p = 1; p < 1u << steps; p++) {
        const uint32_t factor[4] = {p & 1, p >> 1 & 1, p >> 2 & 1, p >> 3};
        add_wide_list(s, tile, lists, p, steps, factor, currents);
    }
}

static TARGET void sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide,
                              int32_t *currents)
{
    for (uint32_t first = 0; first < tile->time_steps; first += 4, lists++) {
        uint32_t left = tile->time_steps - first, steps = left < 4 ? left : 4;
        if (wide) {
            WITH_SHAPE(tile, wide_nibble, tile, lists, steps, currents + first * tile->width);
        } else {
            WITH_SHAPE(tile, narrow_nibble, tile, lists, steps, currents + first * tile->width);
        }
    }
}

INLINE void narrow_levels(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                          int32_t *currents)
{
    sums sum, list;
    start_from_bias(s, tile, &sum);
    for (uint32_t g = 0; g < nibbles; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            clear(s, &list);
            add_list(s, tile, &lists[g], p, &list);
            add_sums(s, &sum, &list, p << (4 * g));
        }
    }
    store_currents(s, tile, &sum, currents);
}

INLINE void wide_levels(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                        int32_t *currents)
{
    memcpy(currents, tile->bias, tile->width * sizeof *currents);
    for (uint32_t g = 0; g < nibbles; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            const uint32_t level = p << (4 * g);
            add_wide_list(s, tile, &lists[g], p, 1, &level, currents);
        }
    }
}

static TARGET void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                              int wide, int32_t *currents)
{
    if (wide) {
        WITH_SHAPE(tile, wide_levels, tile, lists, nibbles, currents);
    } else {
        WITH_SHAPE(tile, narrow_levels, tile, lists, nibbles, currents);
    }
}

#endif
