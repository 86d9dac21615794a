/* Dense products of bytes, with the instruction of Armv8.2 that adds four products to a sum. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __aarch64__ && !defined __linux__
int esv_dense_has_bytes(const esv_spike_variant *kernel)
{
    (void)kernel;
    return 0;
}

void esv_dense_product_bytes(const esv_dense *layer, const void *in, uint32_t stride,
                             uint32_t rows, int32_t *currents)
{
    (void)layer, (void)in, (void)stride, (void)rows, (void)currents;
}
#elif defined ESV_DENSE && defined __aarch64__
#include <arm_neon.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>

#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 4")
#define HAS_DOT_PRODUCTS (1ul << 20) /* HWCAP_ASIMDDP */

int esv_dense_has_bytes(const esv_spike_variant *kernel)
{
    return kernel->multiplies_bytes && (getauxval(AT_HWCAP) & HAS_DOT_PRODUCTS) != 0;
}

/* Four inputs of a row. */
INLINE int8x8_t four(const int8_t *in)
{
    uint32_t all;
    memcpy(&all, in, sizeof all);
    return vcreate_s8(all);
}

#define MULTIPLY(dot, lane)                                                                        \
    do {                                                                                           \
        UNROLL for (uint32_t j = 0; j < quarters; j++) {                                           \
            int8x16_t w = vld1q_s8(weight + 16 * j);                                               \
            UNROLL for (uint32_t r = 0; r < 4; r++) {                                              \
                sum[r][j] = dot(sum[r][j], w, x[r], lane);                                         \
            }                                                                                      \
        }                                                                                          \
        weight += 4 * ESV_TILE;                                                                    \
    } while (0)

/* Four rows times one tile, or times 4 or 8 of its channels: up to 16 sums of four lanes; 16
 * inputs at a time, then four. */
INLINE void multiply_tile(const esv_dense *layer, const int8_t *weight, const int32_t *bias,
                          const int8_t *in, uint32_t stride, const uint32_t quarters,
                          int32_t *currents)
{
    int32x4_t sum[4][4];
    UNROLL for (uint32_t j = 0; j < quarters; j++) {
        sum[0][j] = sum[1][j] = sum[2][j] = sum[3][j] = vld1q_s32(bias + 4 * j);
    }
    for (uint32_t s = 0; s < layer->segments; s++, in += layer->apart) {
        size_t k = 0;
        for (; k + 16 <= layer->inputs; k += 16) {
            int8x16_t x[4];
            UNROLL for (uint32_t r = 0; r < 4; r++) {
                x[r] = vld1q_s8(in + r * stride + k);
            }
            MULTIPLY(vdotq_laneq_s32, 0);
            MULTIPLY(vdotq_laneq_s32, 1);
            MULTIPLY(vdotq_laneq_s32, 2);
            MULTIPLY(vdotq_laneq_s32, 3);
        }
        for (; k < layer->inputs; k += 4) {
            int8x8_t x[4];
            UNROLL for (uint32_t r = 0; r < 4; r++) {
                x[r] = four(in + r * stride + k);
            }
            MULTIPLY(vdotq_lane_s32, 0);
        }
    }
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        UNROLL for (uint32_t j = 0; j < quarters; j++) {
            vst1q_s32(currents + r * layer->width + 4 * j, sum[r][j]);
        }
    }
}

INLINE void multiply_rows(const esv_dense *layer, uint32_t first, const int8_t *in, uint32_t stride,
                          uint32_t rows, const uint32_t quarters, int32_t *currents)
{
    const int8_t *weight = (const int8_t *)layer->weight + layer->segments * layer->inputs * first;
    for (uint32_t i = 0; i < rows; i += ESV_DENSE_ROWS) {
        multiply_tile(layer, weight, layer->bias + first, in + i * stride, stride, quarters,
                      currents + i * layer->width + first);
    }
}

TARGET void esv_dense_product_bytes(const esv_dense *layer, const void *in, uint32_t stride,
                                    uint32_t rows, int32_t *currents)
{
    for (uint32_t c = 0; c < layer->width; c += ESV_TILE) {
        uint32_t left = layer->channels - c;
        if (left <= 4) {
            multiply_rows(layer, c, in, stride, rows, 1, currents);
        } else if (left <= 8) {
            multiply_rows(layer, c, in, stride, rows, 2, currents);
        } else {
            multiply_rows(layer, c, in, stride, rows, 4, currents);
        }
    }
}
#endif
