/* Sixteen channels at a time, with AVX2: what depthwise_conv_dense.c adds with. */
#ifndef ESV_DEPTHWISE_AVX2_H
#define ESV_DEPTHWISE_AVX2_H

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

typedef __m128i bytes16;
typedef __m128i weights16;
typedef struct {
    __m256i all;
} sums16;
/* Channels 0 to 3 and 8 to 11, then the others: the order in which words become pairs. */
typedef struct {
    __m256i half[2];
} sums32;

INLINE sums16 no_sums(void)
{
    return (sums16){_mm256_setzero_si256()};
}

INLINE bytes16 load_bytes(const void *at)
{
    return _mm_loadu_si128((const __m128i *)at);
}

INLINE weights16 load_weights(const int8_t *at)
{
    return load_bytes(at);
}

INLINE __m256i load_sums(const int32_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

INLINE void store_sums(int32_t *at, __m256i sums)
{
    _mm256_storeu_si256((__m256i *)(void *)at, sums);
}

INLINE bytes16 bit_of(uint32_t step)
{
    return _mm_set1_epi8((char)(1u << step));
}

/* The weights of the channels that have this bit. */
INLINE void add_fired(sums16 *sum, weights16 w, bytes16 code, bytes16 bit)
{
    __m128i fired = _mm_and_si128(w, _mm_cmpeq_epi8(_mm_and_si128(code, bit), bit));
    sum->all = _mm256_add_epi16(sum->all, _mm256_cvtepi8_epi16(fired));
}

/* Levels below 128 whose sums fit int16. */
INLINE void add_levels16(sums16 *sum, weights16 w, const uint8_t *in)
{
    __m256i level = _mm256_cvtepu8_epi16(load_bytes(in));
    sum->all = _mm256_add_epi16(sum->all, _mm256_mullo_epi16(level, _mm256_cvtepi8_epi16(w)));
}

INLINE void widen(const sums16 *sum, const int32_t *bias, int32_t *currents)
{
    __m256i low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum->all));
    __m256i high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum->all, 1));
    store_sums(currents, _mm256_add_epi32(low, load_sums(bias)));
    store_sums(currents + 8, _mm256_add_epi32(high, load_sums(bias + 8)));
}

INLINE sums32 start(const int32_t *bias)
{
    __m256i low = load_sums(bias), high = load_sums(bias + 8);
    return (sums32){{_mm256_permute2x128_si256(low, high, 0x20),
                     _mm256_permute2x128_si256(low, high, 0x31)}};
}

/* Membranes (words), or any levels. */
INLINE void add_wide(sums32 *sum, const int8_t *weight, const uint8_t *in, int words)
{
    __m256i w = _mm256_cvtepi8_epi16(load_bytes(weight));
    __m256i x = words ? _mm256_loadu_si256((const __m256i *)(const void *)in)
                      : _mm256_cvtepu8_epi16(load_bytes(in));
    __m256i low = _mm256_mullo_epi16(x, w), high = _mm256_mulhi_epi16(x, w);
    sum->half[0] = _mm256_add_epi32(sum->half[0], _mm256_unpacklo_epi16(low, high));
    sum->half[1] = _mm256_add_epi32(sum->half[1], _mm256_unpackhi_epi16(low, high));
}

INLINE void store(const sums32 *sum, int32_t *currents)
{
    store_sums(currents, _mm256_permute2x128_si256(sum->half[0], sum->half[1], 0x20));
    store_sums(currents + 8, _mm256_permute2x128_si256(sum->half[0], sum->half[1], 0x31));
}
#endif
