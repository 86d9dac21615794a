/* What the AVX2 and AVX-512 kernels of the spiking convolution share: the expanded weights.
 *
 * A weight w of b bits is expanded to the byte 2^(b - 1) - 1 - w, between 0 and 2^b - 1, and a row
 * is added as it lies in memory: as words of 16 bits, low + 256 * high, with an even channel in the
 * low half and an odd one in the high half. Two sums over rows, modulo 2^16, keep both apart:
 *   pair = sum of the words       high = sum of the words >> 8
 *   even = pair - 256 * high      odd = high
 * so a row of int8 costs one addition more than a row of int16 would, and half its memory traffic.
 * With 7 bits or less two words are added first: no half can carry.
 *
 * The sign is turned because the neuron then is one instruction. With n(x) = 32767 - x, which takes
 * int16 to 0..65535, the average of unsigned words that rounds up, avg(a, b) = (a + b + 1) >> 1,
 * gives avg(n(v), n(c)) = (65535 - (v + c)) >> 1 = 32767 - ((v + c) >> 1) = n((v + c) >> 1):
 * 65535 is odd, so that what is rounded down here was rounded down there. The sum has 17 bits, as
 * in esv_lif16. And v >= threshold is n(v) <= n(threshold), unsigned.
 */
#ifndef ESV_SPIKE_CONV_X86_H
#define ESV_SPIKE_CONV_X86_H

#include <immintrin.h>
#include <string.h>

#include "spike_conv.h"

#define ESV_TURN 0x7FFF /* n(x) = ESV_TURN ^ x = ESV_TURN - x */

/* What a weight of 0 expands to: `rows` rows have that often too much in their sum. */
static inline uint32_t esv_x86_zero(uint32_t bits)
{
    return (1u << (bits - 1)) - 1;
}

/* 16 codes of `bits` < 8 bits, as weights.h stores them. */
static inline __attribute__((always_inline, target("avx2"))) __m128i
esv_x86_unpack(const uint8_t *row, uint32_t bits)
{
    __m128i codes = _mm_setzero_si128();
    if (bits & 4) {
        __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)row), high;
        high = _mm_and_si128(_mm_srli_epi16(low, 4), _mm_set1_epi8(15));
        codes = _mm_unpacklo_epi32(_mm_and_si128(low, _mm_set1_epi8(15)), high);
        row += 8;
    }
    if (bits & 2) {
        int32_t four;
        memcpy(&four, row, sizeof four);
        __m128i two = _mm_srlv_epi32(_mm_set1_epi32(four), _mm_setr_epi32(0, 2, 4, 6));
        two = _mm_and_si128(two, _mm_set1_epi8(3));
        codes = _mm_or_si128(codes, bits & 4 ? _mm_slli_epi16(two, 4) : two);
        row += 4;
    }
    if (bits & 1) {
        const __m128i byte = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        const __m128i bit = _mm_set1_epi64x((int64_t)0x8040201008040201);
        int16_t two;
        memcpy(&two, row, sizeof two);
        __m128i one = _mm_and_si128(_mm_shuffle_epi8(_mm_set1_epi16(two), byte), bit);
        one = _mm_and_si128(_mm_cmpeq_epi8(one, bit), _mm_set1_epi8((int8_t)(1 << (bits - 1))));
        codes = _mm_or_si128(codes, one);
    }
    return codes;
}

/* All rows of a tile, `bits` a constant. */
static inline __attribute__((always_inline, target("avx2"))) void
esv_x86_expand_rows(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes,
                    uint8_t *out, uint32_t row_bytes)
{
    /* Stored are w as int8, or w + 2^(b - 1). */
    const __m128i turn = _mm_set1_epi8((int8_t)(bits == 8 ? 127 : (1 << bits) - 1));
    for (uint32_t r = 0; r < rows; r++, out += row_bytes) {
        __m128i row = _mm_setzero_si128();
        if (bits < 8) {
            row = esv_x86_unpack(packed, bits);
            packed += 2 * bits;
        } else if (lanes == ESV_LANES) {
            row = _mm_loadu_si128((const __m128i *)(const void *)packed);
            packed += ESV_LANES;
        } else {
            memcpy(&row, packed, lanes);
            packed += lanes;
        }
        _mm_storeu_si128((__m128i *)(void *)out, _mm_xor_si128(row, turn));
    }
}

/* Both variants' `expand`. */
static __attribute__((target("avx2"))) void expand(const uint8_t *packed, uint32_t rows,
                                                   uint32_t bits, uint32_t lanes, void *out,
                                                   uint32_t row_bytes)
{
    switch (bits) {
    case 2: esv_x86_expand_rows(packed, rows, 2, lanes, out, row_bytes); break;
    case 3: esv_x86_expand_rows(packed, rows, 3, lanes, out, row_bytes); break;
    case 4: esv_x86_expand_rows(packed, rows, 4, lanes, out, row_bytes); break;
    case 5: esv_x86_expand_rows(packed, rows, 5, lanes, out, row_bytes); break;
    case 6: esv_x86_expand_rows(packed, rows, 6, lanes, out, row_bytes); break;
    case 7: esv_x86_expand_rows(packed, rows, 7, lanes, out, row_bytes); break;
    default: esv_x86_expand_rows(packed, rows, 8, lanes, out, row_bytes);
    }
}

#endif
