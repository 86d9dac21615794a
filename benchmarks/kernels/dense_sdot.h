/* Cortex-A76 and later: 4 rows times 16 channels by dot products of four. */
#include <arm_neon.h>

enum { ROWS = 4, PANEL = 16 };

/* [K / 4][16 channels][4 inputs] */
static uint32_t panel_place(uint32_t k, uint32_t c, uint32_t inputs)
{
    (void)inputs;
    return k / 4 * 64 + c * 4 + k % 4;
}

#define FOUR_INPUTS(lane)                                                      \
    for (int j = 0; j < 4; j++) {                                              \
        int8x16_t w = vld1q_s8(weight + 64 * (lane) + 16 * j);                 \
        for (int i = 0; i < 4; i++) {                                          \
            sum[i][j] = vdotq_laneq_s32(sum[i][j], w, row[i], lane);           \
        }                                                                      \
    }

static void multiply(const int8_t *rows, const int8_t *weight, uint32_t inputs, int32_t *sums,
                     uint32_t stride)
{
    int32x4_t sum[4][4];
    for (int i = 0; i < 16; i++) {
        sum[i / 4][i % 4] = vdupq_n_s32(0);
    }
    for (uint32_t k = 0; k < inputs; k += 16, weight += 256) {
        int8x16_t row[4];
        for (uint32_t i = 0; i < 4; i++) {
            row[i] = vld1q_s8(rows + i * inputs + k);
        }
        FOUR_INPUTS(0)
        FOUR_INPUTS(1)
        FOUR_INPUTS(2)
        FOUR_INPUTS(3)
    }
    for (uint32_t i = 0; i < 16; i++) {
        vst1q_s32(sums + i / 4 * stride + i % 4 * 4, sum[i / 4][i % 4]);
    }
}
