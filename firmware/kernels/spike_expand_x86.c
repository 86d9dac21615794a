/* The spiking convolution on x86-64: packed weights to rows of bytes, see spike_conv_x86.h. */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#include "spike_conv_x86.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* 16 codes of `bits` < 8 bits, as weights.h stores them. */
INLINE __m128i unpack(const uint8_t *row, uint32_t bits)
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
INLINE void expand_rows(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes,
                        uint8_t *out, uint32_t row_bytes)
{
    /* Stored are w as int8, or w + 2^(b - 1). */
    const __m128i turn = _mm_set1_epi8((int8_t)(bits == 8 ? 127 : (1 << bits) - 1));
    for (uint32_t r = 0; r < rows; r++, out += row_bytes) {
        __m128i row = _mm_setzero_si128();
        if (bits < 8) {
            row = unpack(packed, bits);
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

TARGET void esv_x86_expand(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes,
                           void *out, uint32_t row_bytes)
{
    switch (bits) {
    case 2: expand_rows(packed, rows, 2, lanes, out, row_bytes); break;
    case 3: expand_rows(packed, rows, 3, lanes, out, row_bytes); break;
    case 4: expand_rows(packed, rows, 4, lanes, out, row_bytes); break;
    case 5: expand_rows(packed, rows, 5, lanes, out, row_bytes); break;
    case 6: expand_rows(packed, rows, 6, lanes, out, row_bytes); break;
    case 7: expand_rows(packed, rows, 7, lanes, out, row_bytes); break;
    default: expand_rows(packed, rows, 8, lanes, out, row_bytes);
    }
}
#endif
