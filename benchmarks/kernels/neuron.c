/* The steps of 128 neurons alone, between marks for llvm-mca: their sums are in registers, where
 * the rows leave them. */
#include "spike_fire_neon.h"

#define SUMS 16
#define MADE(i) "=w"(sum[i])

/* Sums from nowhere: whatever is in the registers. */
INLINE void make_sums(int16x8_t *sum)
{
    __asm__ volatile("" : MADE(0), MADE(1), MADE(2), MADE(3), MADE(4), MADE(5), MADE(6), MADE(7),
                     MADE(8), MADE(9), MADE(10), MADE(11), MADE(12), MADE(13), MADE(14), MADE(15));
}

#define STEP(name, first, last)                                                                    \
    void name(const neurons *from)                                                                 \
    {                                                                                              \
        int16x8_t sum[SUMS];                                                                       \
        neurons at = *from;                                                                        \
        make_sums(sum);                                                                            \
        __asm__ volatile("# LLVM-MCA-BEGIN " #name                                                 \
                         : "+r"(at.threshold), "+r"(at.old_membrane), "+r"(at.old_codes),          \
                           "+r"(at.membrane), "+r"(at.codes), "+w"(at.shift));                     \
        fire_step(sum, SUMS / 2, at, first, last);                                                 \
        __asm__ volatile("# LLVM-MCA-END");                                                        \
    }

STEP(first, 1, 0)
STEP(middle, 0, 0)
STEP(last, 0, 1)
