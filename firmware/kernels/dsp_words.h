/* Instructions of Armv7E-M's DSP extension (Cortex-M4, M7) on words of two halves, which compilers
 * do not choose themselves.
 */
#ifndef ESV_DSP_WORDS_H
#define ESV_DSP_WORDS_H

#if defined(__ARM_FEATURE_SIMD32) && !defined(__ARM_FEATURE_MVE) && !defined(__aarch64__) && \
    defined(__thumb2__)
#define ESV_DSP

#include <stdint.h>
#include <string.h>

#include "after.h"

static ESV_INLINE uint32_t esv_dsp_word(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Bytes 0 and 2 of a word, or 1 and 3, as signed halves. */
static ESV_INLINE uint32_t esv_dsp_even(uint32_t word)
{
    __asm("sxtb16 %0, %1" : "=r"(word) : "r"(word));
    return word;
}

static ESV_INLINE uint32_t esv_dsp_odd(uint32_t word)
{
    __asm("sxtb16 %0, %1, ror #8" : "=r"(word) : "r"(word));
    return word;
}

/* The lower halves of two words, the first one's lowest; and the upper ones. */
static ESV_INLINE uint32_t esv_dsp_low(uint32_t a, uint32_t b)
{
    __asm("pkhbt %0, %0, %1, lsl #16" : "+r"(a) : "r"(b));
    return a;
}

static ESV_INLINE uint32_t esv_dsp_high(uint32_t a, uint32_t b)
{
    __asm("pkhtb %0, %1, %0, asr #16" : "+r"(a) : "r"(b));
    return a;
}

/* sum + the products of both halves. */
static ESV_INLINE uint32_t esv_dsp_both(uint32_t a, uint32_t b, uint32_t sum)
{
    __asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

/* sum + the product of one half of each, in the order in which they are named. */
#define ESV_DSP_PRODUCT(halves)                                                                    \
    static ESV_INLINE uint32_t esv_dsp_##halves(uint32_t a, uint32_t b, uint32_t sum)              \
    {                                                                                              \
        __asm("smla" #halves " %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));                      \
        return sum;                                                                                \
    }
ESV_DSP_PRODUCT(bb)
ESV_DSP_PRODUCT(bt)
ESV_DSP_PRODUCT(tb)
ESV_DSP_PRODUCT(tt)

/* (a * b) >> 32. */
static ESV_INLINE int32_t esv_dsp_upper(int32_t a, int32_t b)
{
    __asm("smmul %0, %1, %2" : "=r"(a) : "r"(a), "r"(b));
    return a;
}

/* (a * b + 2^31) >> 32. */
static ESV_INLINE int32_t esv_dsp_rounded(int32_t a, int32_t b)
{
    __asm("smmulr %0, %1, %2" : "=r"(a) : "r"(a), "r"(b));
    return a;
}

/* One step of the neurons of two channels. A code moves down by a bit a step and gets bit 7 where
 * they fire. */
static ESV_INLINE void esv_dsp_lif(uint32_t *membrane, uint32_t current, uint32_t threshold,
                                   uint32_t *code)
{
    uint32_t fired;
    __asm("shadd16 %[v], %[v], %[current]\n"
          "ssub16 %[fired], %[v], %[threshold]\n"
          "sel %[fired], %[bits], %[zero]\n"
          "sel %[v], %[zero], %[v]\n"
          "orr %[code], %[fired], %[code], lsr #1\n"
          : [v] "+&r"(*membrane), [fired] "=&r"(fired), [code] "+r"(*code)
          : [current] "r"(current), [threshold] "r"(threshold), [bits] "r"(0x00800080u),
            [zero] "r"(0)
          : "cc");
}

#endif
#endif
