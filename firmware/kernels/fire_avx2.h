/* Sixteen neurons on membranes, all in int16, with AVX2: what fire_dense.c runs. */
#ifndef ESV_FIRE_AVX2_H
#define ESV_FIRE_AVX2_H

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

INLINE __m256i load(const int16_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* 16 numbers up to 255 as bytes. */
INLINE void store_narrow(uint8_t *out, __m256i words)
{
    __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(words, words), 0xD8);
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(bytes));
}

/* (a + b) >> 1 that does not wrap: what both have, and half of what one has. */
INLINE __m256i half_sum(__m256i a, __m256i b)
{
    return _mm256_add_epi16(_mm256_and_si256(a, b),
                            _mm256_srai_epi16(_mm256_xor_si256(a, b), 1));
}

/* codes (16) of all steps, `step` membranes apart. */
INLINE void spike_block(const int16_t *in, uint32_t step, uint32_t steps, const int16_t *border,
                        uint8_t *out)
{
    __m256i v = _mm256_setzero_si256(), code = v, limit = load(border);
    UNROLL for (uint32_t t = 0; t < steps; t++, in += step) {
        v = half_sum(v, load(in));
        __m256i fired = _mm256_cmpgt_epi16(v, limit);
        v = _mm256_andnot_si256(fired, v);
        __m256i bit = _mm256_set1_epi16((int16_t)(1u << t));
        code = _mm256_or_si256(code, _mm256_and_si256(fired, bit));
    }
    store_narrow(out, code);
}

/* levels (16): how many of the borders (rows), `length` apart, are exceeded. */
INLINE void level_block(const int16_t *in, uint32_t rows, uint32_t length, const int16_t *border,
                        uint8_t *out)
{
    __m256i membrane = load(in), level = _mm256_setzero_si256();
    for (uint32_t d = 0; d < rows; d++, border += length) {
        level = _mm256_sub_epi16(level, _mm256_cmpgt_epi16(membrane, load(border)));
    }
    store_narrow(out, level);
}
#endif
