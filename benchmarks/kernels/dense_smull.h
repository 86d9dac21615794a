/* Cortex-A72, A53: 4 rows times 4 channels; two products fit int16 before they are widened. */
#include <arm_neon.h>

enum { ROWS = 4, PANEL = 4 };

/* [4 channels][K] */
static uint32_t panel_place(uint32_t k, uint32_t c, uint32_t inputs)
{
    return c * inputs + k;
}

/* gcc would start all products at once and run out of registers. */
static __attribute__((optimize("no-schedule-insns"))) void multiply(
    const int8_t *rows, const int8_t *weight, uint32_t inputs, int32_t *sums, uint32_t stride)
{
    int32x4_t sum[4][4];
    for (int i = 0; i < 16; i++) {
        sum[i / 4][i % 4] = vdupq_n_s32(0);
    }
    for (uint32_t k = 0; k < inputs; k += 16) {
        int8x16_t row[4];
        for (uint32_t i = 0; i < 4; i++) {
            row[i] = vld1q_s8(rows + i * inputs + k);
        }
        for (uint32_t j = 0; j < 4; j++) {
            int8x16_t w = vld1q_s8(weight + j * inputs + k);
            for (int i = 0; i < 4; i++) {
                int16x8_t two = vmull_s8(vget_low_s8(row[i]), vget_low_s8(w));
                sum[i][j] = vpadalq_s16(sum[i][j], vmlal_high_s8(two, row[i], w));
            }
        }
    }
    for (uint32_t i = 0; i < 4; i++) {
        int32x4_t left = vpaddq_s32(sum[i][0], sum[i][1]);
        vst1q_s32(sums + i * stride, vpaddq_s32(left, vpaddq_s32(sum[i][2], sum[i][3])));
    }
}
