/* Dense products of bytes, with the instruction of Armv8.2 that adds four products to a sum. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && !(defined __aarch64__ && defined __linux__)
int esv_dense_has_bytes(void)
{
    return 0;
}

int esv_dense_expand_bytes(esv_dense *layer, esv_dense_memory *memory)
{
    (void)layer, (void)memory;
    return 0;
}

void esv_dense_product_bytes(const esv_dense *layer, const int8_t *in, uint32_t in_stride,
                             int32_t *currents)
{
    (void)layer, (void)in, (void)in_stride, (void)currents;
}
#elif defined ESV_DENSE
#include <arm_neon.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>

#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 4")
#define HAS_DOT_PRODUCTS (1ul << 20) /* HWCAP_ASIMDDP */

int esv_dense_has_bytes(void)
{
    return (getauxval(AT_HWCAP) & HAS_DOT_PRODUCTS) != 0;
}

/* The inputs are 128 too small: 128 * weight joins the bias. */
int esv_dense_expand_bytes(esv_dense *layer, esv_dense_memory *memory)
{
    layer->bytes = esv_dense_take(memory, (uint64_t)layer->inputs * layer->width);
    if (!layer->bytes) {
        return 0;
    }
    const int16_t *weight = layer->weight;
    for (uint32_t first = 0; first < layer->width; first += ESV_TILE) {
        int8_t *tile = layer->bytes + first * layer->inputs;
        int32_t *bias = layer->bias + first;
        for (uint32_t k = 0; k < layer->inputs; k++, weight += ESV_TILE) {
            int8_t *row = tile + k / 4 * 4 * ESV_TILE + k % 4;
            for (uint32_t c = 0; c < ESV_TILE; c++) {
                row[4 * c] = (int8_t)weight[c];
                bias[c] += 128 * weight[c];
            }
        }
    }
    return 1;
}

/* Four inputs of a row. */
INLINE int8x8_t four(const int8_t *in)
{
    uint32_t all;
    memcpy(&all, in, sizeof all);
    return vcreate_s8(all);
}

/* Four rows times one tile: 16 sums of four lanes. */
INLINE void multiply_tile(uint32_t inputs, const int8_t *weight, const int32_t *bias,
                          const int8_t *in, uint32_t in_stride, int32_t *currents, uint32_t width)
{
    const int8_t *row[4] = {in, in + in_stride, in + 2 * in_stride, in + 3 * in_stride};
    int32x4_t sum[4][4];
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        sum[0][j] = sum[1][j] = sum[2][j] = sum[3][j] = vld1q_s32(bias + 4 * j);
    }
    for (size_t k = 0; k < inputs; k += 4, weight += 4 * ESV_TILE) {
        int8x16_t w[4];
        UNROLL for (uint32_t j = 0; j < 4; j++) {
            w[j] = vld1q_s8(weight + 16 * j);
        }
        UNROLL for (uint32_t r = 0; r < 4; r++) {
            int8x8_t x = four(row[r] + k);
            UNROLL for (uint32_t j = 0; j < 4; j++) {
                sum[r][j] = vdotq_lane_s32(sum[r][j], w[j], x, 0);
            }
        }
    }
    UNROLL for (uint32_t r = 0; r < 4; r++) {
        UNROLL for (uint32_t j = 0; j < 4; j++) {
            vst1q_s32(currents + r * width + 4 * j, sum[r][j]);
        }
    }
}

TARGET void esv_dense_product_bytes(const esv_dense *layer, const int8_t *in, uint32_t in_stride,
                                    int32_t *currents)
{
    const int8_t *weight = layer->bytes;
    for (uint32_t c = 0; c < layer->width; c += ESV_TILE, weight += layer->inputs * ESV_TILE) {
        multiply_tile(layer->inputs, weight, layer->bias + c, in, in_stride, currents + c,
                      layer->width);
    }
}
#endif
