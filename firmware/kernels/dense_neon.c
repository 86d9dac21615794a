#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __aarch64__
#include <arm_neon.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 4")

/* sum (16) += one input of a row times its weights. */
#define MULTIPLY(sum, x, lane)                                                                     \
    do {                                                                                           \
        (sum)[0] = vmlal_lane_s16((sum)[0], vget_low_s16(low), x, lane);                           \
        (sum)[1] = vmlal_high_lane_s16((sum)[1], low, x, lane);                                    \
        (sum)[2] = vmlal_lane_s16((sum)[2], vget_low_s16(high), x, lane);                          \
        (sum)[3] = vmlal_high_lane_s16((sum)[3], high, x, lane);                                   \
    } while (0)

#define MULTIPLY_ALL(lane)                                                                         \
    do {                                                                                           \
        int16x8_t low = vld1q_s16(weight + 16 * (lane));                                           \
        int16x8_t high = vld1q_s16(weight + 16 * (lane) + 8);                                      \
        MULTIPLY(sum[0], x[0], lane);                                                              \
        MULTIPLY(sum[1], x[1], lane);                                                              \
        MULTIPLY(sum[2], x[2], lane);                                                              \
        MULTIPLY(sum[3], x[3], lane);                                                              \
    } while (0)

/* Four rows times one tile: 16 sums of four lanes, two registers of weights, four of inputs. */
INLINE void multiply_tile(uint32_t inputs, const int16_t *weight, const int32_t *bias,
                          const int16_t *in, uint32_t in_stride, int32_t *currents,
                          uint32_t width)
{
    const int16_t *row[4] = {in, in + in_stride, in + 2 * in_stride, in + 3 * in_stride};
    int32x4_t sum[4][4];
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        sum[0][j] = sum[1][j] = sum[2][j] = sum[3][j] = vld1q_s32(bias + 4 * j);
    }
    for (size_t k = 0; k < inputs; k += ESV_DENSE_STEP, weight += ESV_DENSE_STEP * ESV_TILE) {
        int16x4_t x[4];
        UNROLL for (uint32_t r = 0; r < 4; r++) {
            x[r] = vld1_s16(row[r] + k);
        }
        MULTIPLY_ALL(0);
        MULTIPLY_ALL(1);
        MULTIPLY_ALL(2);
        MULTIPLY_ALL(3);
    }
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        UNROLL for (uint32_t j = 0; j < 4; j++) {
            vst1q_s32(currents + r * width + 4 * j, sum[r][j]);
        }
    }
}

void esv_dense_product(const esv_dense *layer, const int16_t *in, uint32_t in_stride,
                       int32_t *currents)
{
    const int16_t *weight = layer->weight;
    for (uint32_t c = 0; c < layer->width; c += ESV_TILE, weight += layer->inputs * ESV_TILE) {
        multiply_tile(layer->inputs, weight, layer->bias + c, in, in_stride, currents + c,
                      layer->width);
    }
}
#endif
