/* The spiking convolution on AArch64: rows of weights and what is added to them, 16 * n columns at
 * a time, n a constant of at most 8.
 *
 * A row costs two loads and 16 widening adds; weights of at most 7 bits are added in pairs as bytes
 * before they are widened, of at most 6 bits in fours.
 */
#ifndef ESV_SPIKE_ROWS_NEON_H
#define ESV_SPIKE_ROWS_NEON_H

#include "spike_conv_neon.h"

#define VECTORS (ESV_NEON_WIDTH / 8)

/* In assembly: compilers copy what `ld1` of four registers gives before they use it. Rows are
 * loaded to v0 to v7, the sums are in whatever registers the compiler keeps them in. The blocks
 * name no memory that they read: weights do not change while they run, see `settled`.
 * Macros, as the number of operands depends on that of registers. */
#define WIDEN(v, low, high)                                                                        \
    "saddw %" #low ".8h, %" #low ".8h, v" #v ".8b\n\t"                                             \
    "saddw2 %" #high ".8h, %" #high ".8h, v" #v ".16b\n\t"
#define START(v, low, high)                                                                        \
    "sxtl %" #low ".8h, v" #v ".8b\n\t"                                                            \
    "sxtl2 %" #high ".8h, v" #v ".16b\n\t"
#define BYTES(v, w) "add v" #v ".16b, v" #v ".16b, v" #w ".16b\n\t"

/* By the number of 16-column registers: the instructions for all of them, from registers 0 or 4. */
#define LOAD_0_1(p) "ld1 {v0.16b}, [%[" #p "]], #16\n\t"
#define LOAD_0_2(p) "ld1 {v0.16b-v1.16b}, [%[" #p "]], #32\n\t"
#define LOAD_0_4(p) "ld1 {v0.16b-v3.16b}, [%[" #p "]], #64\n\t"
#define LOAD_4_1(p) "ld1 {v4.16b}, [%[" #p "]], #16\n\t"
#define LOAD_4_2(p) "ld1 {v4.16b-v5.16b}, [%[" #p "]], #32\n\t"
#define LOAD_4_4(p) "ld1 {v4.16b-v7.16b}, [%[" #p "]], #64\n\t"
#define WIDEN_0_1 WIDEN(0, 0, 1)
#define WIDEN_0_2 WIDEN_0_1 WIDEN(1, 2, 3)
#define WIDEN_0_4 WIDEN_0_2 WIDEN(2, 4, 5) WIDEN(3, 6, 7)
#define START_0_1 START(0, 0, 1)
#define START_0_2 START_0_1 START(1, 2, 3)
#define START_0_4 START_0_2 START(2, 4, 5) START(3, 6, 7)
#define WIDEN_4_1 WIDEN(4, 0, 1)
#define WIDEN_4_2 WIDEN_4_1 WIDEN(5, 2, 3)
#define WIDEN_4_4 WIDEN_4_2 WIDEN(6, 4, 5) WIDEN(7, 6, 7)
#define BYTES_1 BYTES(0, 4)
#define BYTES_2 BYTES_1 BYTES(1, 5)
#define BYTES_4 BYTES_2 BYTES(2, 6) BYTES(3, 7)
#define SUMS_1(how) how(s[0]), how(s[1])
#define SUMS_2(how) SUMS_1(how), how(s[2]), how(s[3])
#define SUMS_4(how) SUMS_2(how), how(s[4]), how(s[5]), how(s[6]), how(s[7])
#define READS(p, n) "m"(*(const int16_t(*)[n])(p))
#define TAKEN "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"

/* Set sums s to 16 * n columns of one row, or add one, two or four rows, and advance the rows past
 * them. */
#define BLOCK(n)                                                                                   \
    INLINE void first_row_##n(int16x8_t *s, const int8_t **p)                                      \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) START_0_##n : SUMS_##n("=w"), [p] "+r"(p[0]) : : TAKEN);             \
    }                                                                                              \
    INLINE void one_row_##n(int16x8_t *s, const int8_t **p)                                        \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) WIDEN_0_##n : SUMS_##n("+w"), [p] "+r"(p[0]) : : TAKEN);             \
    }                                                                                              \
    INLINE void two_rows_##n(int16x8_t *s, const int8_t **p)                                       \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) WIDEN_0_##n WIDEN_4_##n                                \
                : SUMS_##n("+w"), [p] "+r"(p[0]), [q] "+r"(p[1]) : : TAKEN);                       \
    }                                                                                              \
    INLINE void two_as_bytes_##n(int16x8_t *s, const int8_t **p)                                   \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) BYTES_##n WIDEN_0_##n                                  \
                : SUMS_##n("+w"), [p] "+r"(p[0]), [q] "+r"(p[1]) : : TAKEN);                       \
    }                                                                                              \
    INLINE void four_as_bytes_##n(int16x8_t *s, const int8_t **p)                                  \
    {                                                                                              \
        __asm__(LOAD_0_##n(p) LOAD_4_##n(q) BYTES_##n LOAD_4_##n(x) BYTES_##n LOAD_4_##n(y)        \
                BYTES_##n WIDEN_0_##n                                                              \
                : SUMS_##n("+w"), [p] "+r"(p[0]), [q] "+r"(p[1]), [x] "+r"(p[2]),                  \
                  [y] "+r"(p[3]) : : TAKEN);                                                       \
    }
BLOCK(1)
BLOCK(2)
BLOCK(4)

/* The functions of a block for all 16 * n columns. */
#define WHOLE(name)                                                                                \
    INLINE void name(int16x8_t *sum, unsigned n, const int8_t **p)                                 \
    {                                                                                              \
        UNROLL for (unsigned i = 0; i < n / 4; i++) {                                              \
            name##_4(sum + 8 * i, p);                                                              \
        }                                                                                          \
        if (n & 2) {                                                                               \
            name##_2(sum + 2 * (n & ~3u), p);                                                      \
        }                                                                                          \
        if (n & 1) {                                                                               \
            name##_1(sum + 2 * (n & ~1u), p);                                                      \
        }                                                                                          \
    }
WHOLE(first_row)
WHOLE(one_row)
WHOLE(two_rows)
WHOLE(two_as_bytes)
WHOLE(four_as_bytes)

/* rows, but as if just computed from all that is in memory. */
INLINE const int8_t *settled(const int8_t *rows)
{
    __asm__ volatile("" : "+r"(rows) : : "memory");
    return rows;
}

/* sum += the listed rows, `group` of them at a time as bytes. */
INLINE void add_rows(int16x8_t *sum, unsigned n, unsigned group, const int8_t *rows,
                     uint32_t stride, const uint16_t *row, uint32_t count)
{
    for (; count >= 4; count -= 4, row += 4) {
        const int8_t *p[4] = {rows + (size_t)row[0] * stride, rows + (size_t)row[1] * stride,
                              rows + (size_t)row[2] * stride, rows + (size_t)row[3] * stride};
        if (group == 4) {
            four_as_bytes(sum, n, p);
        } else {
            (group == 2 ? two_as_bytes : two_rows)(sum, n, p);
            (group == 2 ? two_as_bytes : two_rows)(sum, n, p + 2);
        }
    }
    if (count & 2) {
        const int8_t *p[2] = {rows + (size_t)row[0] * stride, rows + (size_t)row[1] * stride};
        (group == 1 ? two_rows : two_as_bytes)(sum, n, p);
        row += 2;
    }
    if (count & 1) {
        const int8_t *p[1] = {rows + (size_t)row[0] * stride};
        one_row(sum, n, p);
    }
}

INLINE void load_sum(int16x8_t *sum, unsigned n, const int16_t *from)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        sum[i] = vld1q_s16(from + 8 * i);
    }
}

INLINE void store_sum(const int16x8_t *sum, unsigned n, int16_t *to)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        vst1q_s16(to + 8 * i, sum[i]);
    }
}

/* Compilers load registers in pairs, `ld1` takes four. */
INLINE void add_sum(int16x8_t *sum, unsigned n, const int16_t *from)
{
    if (n & 1) {
        sum[2 * n - 2] = vaddq_s16(sum[2 * n - 2], vld1q_s16(from + 16 * n - 16));
        sum[2 * n - 1] = vaddq_s16(sum[2 * n - 1], vld1q_s16(from + 16 * n - 8));
    }
    UNROLL for (unsigned i = 0; i < n / 2; i++) {
        int16x8_t *s = sum + 4 * i;
        __asm__("ld1 {v0.8h-v3.8h}, [%[from]], #64\n\t"
                "add %0.8h, %0.8h, v0.8h\n\tadd %1.8h, %1.8h, v1.8h\n\t"
                "add %2.8h, %2.8h, v2.8h\n\tadd %3.8h, %3.8h, v3.8h"
                : SUMS_2("+w"), [from] "+r"(from) : READS(from, 32) : TAKEN);
    }
}

/* See esv_neon_sum_list. */
INLINE void sum_list(unsigned n, unsigned group, const int8_t *rows, uint32_t stride,
                     const uint16_t *row, uint32_t count, int16_t *out)
{
    int16x8_t sum[VECTORS];
    const int8_t *p[1] = {rows + (size_t)row[0] * stride};
    first_row(sum, n, p);
    add_rows(sum, n, group, rows, stride, row + 1, count - 1);
    store_sum(sum, n, out);
}

#endif
