/* The spiking convolution on x86-64: sums of rows in registers, for both lengths of registers.
 *
 * A variant includes this once. It has defined TARGET; UNIT, the channels and bytes of a register;
 * MAX_UNITS; and what its kernels are compiled for, a `shape` with at least
 *   units: registers of a row, 1 to MAX_UNITS
 *   pairs: two rows can be added before their halves are kept apart
 * It defines later the functions that are only declared here.
 */
#ifndef ESV_SPIKE_SUMS_X86_H
#define ESV_SPIKE_SUMS_X86_H

#include <immintrin.h>
#include <string.h>

#include "spike_conv_x86.h"

#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 8")

typedef uint16_t words __attribute__((vector_size(UNIT)));

/* Of `count` rows. */
typedef struct {
    words pair[MAX_UNITS], odd[MAX_UNITS];
    uint32_t count;
} sums;

/* Channels of a unit as they are computed with. */
typedef struct {
    words even, odd;
} split;

/* The part of row `number` in unit u; channels that it has not are anything. */
INLINE words row_at(shape s, const esv_tile *tile, uint32_t number, uint32_t u);

/* Unit u of values, one for each channel of the tile. */
INLINE split values_at(const esv_tile *tile, const int16_t *values, uint32_t u);

/* The same value in all words. */
INLINE words all(uint32_t value)
{
    return (words){0} + (uint16_t)value;
}

INLINE void clear(shape s, sums *sum)
{
    sum->count = 0;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        sum->pair[u] = sum->odd[u] = all(0);
    }
}

/* Not an assignment of all: that would go through memory. */
INLINE void copy(shape s, sums *to, const sums *from)
{
    to->count = from->count;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        to->pair[u] = from->pair[u];
        to->odd[u] = from->odd[u];
    }
}

/* to += times * from. */
INLINE void add_sums(shape s, sums *to, const sums *from, uint32_t times)
{
    to->count += from->count * times;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        to->pair[u] += from->pair[u] * all(times);
        to->odd[u] += from->odd[u] * all(times);
    }
}

INLINE void add_word(sums *sum, uint32_t u, words word)
{
    __asm__("" : "+v"(word)); /* or the compiler loads it for each use */
    sum->pair[u] += word;
    sum->odd[u] += word >> 8;
}

/* The rows are added to a copy: the compiler then keeps the loops' registers apart. */
INLINE void add_rows(shape s, const esv_tile *tile, const uint16_t *row, uint32_t count, sums *to)
{
    const uint16_t *end = row + count;
    sums sum;
    copy(s, &sum, to);
    for (; s.pairs && row + 1 < end; row += 2) {
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            add_word(&sum, u, row_at(s, tile, row[0], u) + row_at(s, tile, row[1], u));
        }
    }
    for (; row < end; row++) {
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            add_word(&sum, u, row_at(s, tile, row[0], u));
        }
    }
    sum.count += count;
    copy(s, to, &sum);
}

INLINE void add_list(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t p, sums *sum)
{
    add_rows(s, tile, lists->row + lists->first[p], lists->count[p], sum);
}

/* Add list p to the sums of all of its steps. */
INLINE void add_shared(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t p, sums *sum)
{
    sums list;
    if (!lists->count[p]) {
        return;
    }
    clear(s, &list);
    add_list(s, tile, lists, p, &list);
    UNROLL for (uint32_t t = 0; t < 4; t++) {
        if (p >> t & 1) {
            add_sums(s, &sum[t], &list, 1);
        }
    }
}

/* n() of unit u of biases or thresholds. */
INLINE split turned(const esv_tile *tile, const int16_t *values, uint32_t u)
{
    split x = values_at(tile, values, u);
    return (split){x.even ^ ESV_TURN, x.odd ^ ESV_TURN};
}

/* What unpack_sums takes to n(bias). */
INLINE void start_from_bias(shape s, const esv_tile *tile, sums *sum)
{
    sum->count = 0;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split bias = turned(tile, tile->bias16, u);
        sum->odd[u] = bias.odd;
        sum->pair[u] = bias.even + (bias.odd << 8);
    }
}

/* The sums of even and odd channels, without the `excess` that is in each of them. */
INLINE split unpack_sums(const sums *sum, uint32_t u, words excess)
{
    words even = sum->pair[u] - (sum->odd[u] << 8);
    return (split){even - excess, sum->odd[u] - excess};
}

/* What is too much in a sum. */
INLINE words excess_of(const esv_tile *tile, const sums *sum)
{
    return all(sum->count * esv_x86_zero(tile->bits));
}

#endif
