#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __aarch64__
#include <arm_neon.h>
#include <stddef.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 4")

/* Four inputs in a register whose lanes can multiply; the compiler would load them one by one. */
INLINE int16x4_t four(const int16_t *in)
{
    int16x4_t x = vld1_s16(in);
    __asm__("" : "+x"(x));
    return x;
}

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
INLINE void multiply_tile(const esv_dense *layer, const int16_t *weight, const int32_t *bias,
                          const int16_t *in, uint32_t stride, int32_t *currents)
{
    int32x4_t sum[4][4];
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        sum[0][j] = sum[1][j] = sum[2][j] = sum[3][j] = vld1q_s32(bias + 4 * j);
    }
    for (uint32_t s = 0; s < layer->segments; s++, in += layer->apart) {
        for (size_t k = 0; k < layer->inputs; k += 4, weight += 4 * ESV_TILE) {
            int16x4_t x[4];
            UNROLL for (uint32_t r = 0; r < 4; r++) {
                x[r] = four(in + r * stride + k);
            }
            MULTIPLY_ALL(0);
            MULTIPLY_ALL(1);
            MULTIPLY_ALL(2);
            MULTIPLY_ALL(3);
        }
    }
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        UNROLL for (uint32_t j = 0; j < 4; j++) {
            vst1q_s32(currents + r * layer->width + 4 * j, sum[r][j]);
        }
    }
}

/* sum += w * x[lane] modulo 2^16. The intrinsic is written in C's signed arithmetic, which may not
 * wrap, and of unsigned sums GCC 12 makes separate products and additions. */
#define MULTIPLY_ADD(sum, w, x, lane)                                                              \
    __asm__("mla %0.8h, %1.8h, %2.h[%3]" : "+w"(sum) : "w"(w), "x"(x), "i"(lane))

#define MULTIPLY_NARROW(lane)                                                                      \
    UNROLL for (uint32_t j = 0; j < halves; j++) {                                                 \
        int16x8_t w = vld1q_s16(weight + 16 * (lane) + 8 * j);                                     \
        UNROLL for (uint32_t r = 0; r < 4; r++) {                                                  \
            MULTIPLY_ADD(sum[r][j], w, x[r], lane);                                                \
        }                                                                                          \
    }

/* The same with sums in int16, which may wrap on their way: twice as many at a time. Of a tile or
 * of 8 of its channels. */
INLINE void multiply_narrow(const esv_dense *layer, const int16_t *weight, const int32_t *bias,
                            const int16_t *in, uint32_t stride, const uint32_t halves,
                            int32_t *currents)
{
    int16x8_t sum[4][2];
    UNROLL for (uint32_t j = 0; j < halves; j++) {
        int16x4_t low = vmovn_s32(vld1q_s32(bias + 8 * j));
        sum[0][j] = sum[1][j] = sum[2][j] = sum[3][j] =
            vmovn_high_s32(low, vld1q_s32(bias + 8 * j + 4));
    }
    for (uint32_t s = 0; s < layer->segments; s++, in += layer->apart) {
        for (size_t k = 0; k < layer->inputs; k += 4, weight += 4 * ESV_TILE) {
            int16x4_t x[4];
            UNROLL for (uint32_t r = 0; r < 4; r++) {
                x[r] = four(in + r * stride + k);
            }
            MULTIPLY_NARROW(0)
            MULTIPLY_NARROW(1)
            MULTIPLY_NARROW(2)
            MULTIPLY_NARROW(3)
        }
    }
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        UNROLL for (uint32_t j = 0; j < halves; j++) {
            int32_t *to = currents + r * layer->width + 8 * j;
            vst1q_s32(to, vmovl_s16(vget_low_s16(sum[r][j])));
            vst1q_s32(to + 4, vmovl_high_s16(sum[r][j]));
        }
    }
}

/* halves: 0 for sums in int32. */
INLINE void multiply_rows(const esv_dense *layer, uint32_t first, const int16_t *in,
                          uint32_t stride, uint32_t rows, const uint32_t halves, int32_t *currents)
{
    uint32_t before = layer->segments * layer->inputs * first;
    const int16_t *weight = (const int16_t *)layer->weight + before;
    const int32_t *bias = layer->bias + first;
    currents += first;
    for (uint32_t i = 0; i < rows; i += 4, in += 4 * stride, currents += 4 * layer->width) {
        if (halves) {
            multiply_narrow(layer, weight, bias, in, stride, halves, currents);
        } else {
            multiply_tile(layer, weight, bias, in, stride, currents);
        }
    }
}

void esv_dense_product(const esv_dense *layer, const void *in, uint32_t stride, uint32_t rows,
                       int32_t *currents)
{
    if (layer->bytes == 1) {
        esv_dense_product_bytes(layer, in, stride, rows, currents);
        return;
    }
    for (uint32_t c = 0; c < layer->width; c += ESV_TILE) {
        if (!layer->narrow) {
            multiply_rows(layer, c, in, stride, rows, 0, currents);
        } else if (layer->channels - c <= 8) {
            multiply_rows(layer, c, in, stride, rows, 1, currents);
        } else {
            multiply_rows(layer, c, in, stride, rows, 2, currents);
        }
    }
}
#endif
