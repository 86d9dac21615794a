/* The steps of 128 neurons alone, between marks for llvm-mca: their sums are in registers, where
 * the rows leave them. */
#include "spike_fire_neon.h"

#define SUMS 16

/* Sums and codes from nowhere: whatever is in the registers. */
INLINE void make(int16x8_t *sum, uint8x16_t *code)
{
    UNROLL for (unsigned i = 0; i < SUMS; i++) {
        __asm__ volatile("" : "=w"(sum[i]));
    }
    load_codes(code, SUMS / 2, NULL);
}

/* As if the next step used them. */
INLINE void keep(const uint8x16_t *code)
{
    UNROLL for (unsigned i = 0; i < SUMS / 2; i++) {
        __asm__ volatile("" : : "w"(code[i]));
    }
}

#define STEP(name, first, last)                                                                    \
    void name(const neurons *from, uint8_t *codes)                                                 \
    {                                                                                              \
        int16x8_t sum[SUMS];                                                                       \
        uint8x16_t code[SUMS / 2];                                                                 \
        neurons at = *from;                                                                        \
        make(sum, code);                                                                           \
        __asm__ volatile("# LLVM-MCA-BEGIN " #name                                                 \
                         : "+r"(at.threshold), "+r"(at.old_membrane), "+r"(at.membrane),           \
                           "+r"(at.bit));                                                          \
        fire_step(sum, SUMS / 2, at, code, first, last);                                           \
        if (last) {                                                                                \
            store_codes(code, SUMS / 2, codes);                                                    \
        } else {                                                                                   \
            keep(code);                                                                            \
        }                                                                                          \
        __asm__ volatile("# LLVM-MCA-END");                                                        \
    }

STEP(first, 1, 0)
STEP(middle, 0, 0)
STEP(last, 0, 1)
