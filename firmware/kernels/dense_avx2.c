#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __x86_64__
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 4")

/* Two inputs of a row in every lane. */
INLINE __m256i pair(const int16_t *in)
{
    int32_t both;
    memcpy(&both, in, sizeof both);
    return _mm256_set1_epi32(both);
}

INLINE __m256i load(const void *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

/* Four rows times one tile, two inputs at a time: their products are below 2^31. */
INLINE void multiply_tile(const esv_dense *layer, const int16_t *weight, const int32_t *bias,
                          const int16_t *in, uint32_t stride, int32_t *currents)
{
    __m256i sum[4][2];
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        sum[r][0] = load(bias);
        sum[r][1] = load(bias + 8);
    }
    for (uint32_t s = 0; s < layer->segments; s++, in += layer->apart) {
        for (size_t k = 0; k < layer->inputs; k += 2, weight += 2 * ESV_TILE) {
            __m256i low = load(weight), high = load(weight + 16);
            UNROLL for (uint32_t r = 0; r < 4; r++) {
                __m256i x = pair(in + r * stride + k);
                sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(low, x));
                sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(high, x));
            }
        }
    }
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        _mm256_storeu_si256((__m256i *)(void *)(currents + r * layer->width), sum[r][0]);
        _mm256_storeu_si256((__m256i *)(void *)(currents + r * layer->width + 8), sum[r][1]);
    }
}

static TARGET void product(const esv_dense *layer, const int16_t *in, uint32_t stride,
                           uint32_t rows, int32_t *currents)
{
    uint32_t tile = layer->segments * layer->inputs;
    const int16_t *weight = layer->weight;
    for (uint32_t c = 0; c < layer->width; c += ESV_TILE, weight += tile * ESV_TILE) {
        for (uint32_t i = 0; i < rows; i += ESV_DENSE_ROWS) {
            multiply_tile(layer, weight, layer->bias + c, in + i * stride, stride,
                          currents + i * layer->width + c);
        }
    }
}

void esv_dense_product(const esv_dense *layer, const void *in, uint32_t stride, uint32_t rows,
                       int32_t *currents)
{
    if (layer->bytes == 1) {
        esv_dense_product_bytes(layer, in, stride, rows, currents);
    } else {
        product(layer, in, stride, rows, currents);
    }
}
#endif
