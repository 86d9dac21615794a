/* Dense products of bytes, with the instruction of AVX-512 VNNI that adds four to a sum. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __x86_64__
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 4")

int esv_dense_has_bytes(const esv_spike_variant *kernel)
{
    return kernel->multiplies_bytes && __builtin_cpu_supports("avx512vnni");
}

/* Four inputs of a row in every lane. */
INLINE __m512i four(const uint8_t *in)
{
    int32_t all;
    memcpy(&all, in, sizeof all);
    return _mm512_set1_epi32(all);
}

/* Four rows times one tile or two: a register has the sums of all channels of a tile. */
INLINE void multiply_tiles(const esv_dense *layer, uint32_t first, const uint8_t *in,
                           uint32_t stride, const uint32_t tiles, int32_t *currents)
{
    uint32_t tile = layer->segments * layer->inputs * ESV_TILE;
    const int8_t *weight = (const int8_t *)layer->weight + first / ESV_TILE * tile;
    __m512i sum[2][4];
    UNROLL for (uint32_t j = 0; j < tiles; j++) {
        UNROLL for (uint32_t r = 0; r < 4; r++) {
            sum[j][r] = _mm512_loadu_si512(layer->bias + first + j * ESV_TILE);
        }
    }
    for (uint32_t s = 0; s < layer->segments; s++, in += layer->apart) {
        for (size_t k = 0; k < layer->inputs; k += 4, weight += 4 * ESV_TILE) {
            __m512i x[4];
            UNROLL for (uint32_t r = 0; r < 4; r++) {
                x[r] = four(in + r * stride + k);
            }
            UNROLL for (uint32_t j = 0; j < tiles; j++) {
                __m512i w = _mm512_loadu_si512(weight + j * tile);
                UNROLL for (uint32_t r = 0; r < 4; r++) {
                    sum[j][r] = _mm512_dpbusd_epi32(sum[j][r], x[r], w);
                }
            }
        }
    }
    UNROLL for (uint32_t j = 0; j < tiles; j++) {
        UNROLL for (uint32_t r = 0; r < 4; r++) {
            _mm512_storeu_si512(currents + r * layer->width + first + j * ESV_TILE, sum[j][r]);
        }
    }
}

TARGET void esv_dense_product_bytes(const esv_dense *layer, const void *in, uint32_t stride,
                                    uint32_t rows, int32_t *currents)
{
    const uint8_t *from = in;
    for (uint32_t first = 0; first < layer->width; first += 2 * ESV_TILE) {
        for (uint32_t i = 0; i < rows; i += ESV_DENSE_ROWS) {
            const uint8_t *row = from + i * stride;
            if (first + ESV_TILE < layer->width) {
                multiply_tiles(layer, first, row, stride, 2, currents + i * layer->width);
            } else {
                multiply_tiles(layer, first, row, stride, 1, currents + i * layer->width);
            }
        }
    }
}
#endif
