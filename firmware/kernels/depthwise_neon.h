/* Sixteen channels at a time, with NEON: what depthwise_conv_dense.c adds with. */
#ifndef ESV_DEPTHWISE_NEON_H
#define ESV_DEPTHWISE_NEON_H

#include <arm_neon.h>

#define TARGET
#define INLINE static inline __attribute__((always_inline))

typedef uint8x16_t bytes16;
typedef int8x16_t weights16;
typedef struct {
    int16x8_t half[2];
} sums16;
typedef struct {
    int32x4_t quarter[4];
} sums32;

INLINE sums16 no_sums(void)
{
    return (sums16){{vdupq_n_s16(0), vdupq_n_s16(0)}};
}

INLINE bytes16 load_bytes(const uint8_t *at)
{
    return vld1q_u8(at);
}

INLINE weights16 load_weights(const int8_t *at)
{
    return vld1q_s8(at);
}

INLINE bytes16 bit_of(uint32_t step)
{
    return vdupq_n_u8((uint8_t)(1u << step));
}

/* The weights of the channels that have this bit. */
INLINE void add_fired(sums16 *sum, weights16 w, bytes16 code, bytes16 bit)
{
    int8x16_t fired = vandq_s8(w, vreinterpretq_s8_u8(vtstq_u8(code, bit)));
    sum->half[0] = vaddw_s8(sum->half[0], vget_low_s8(fired));
    sum->half[1] = vaddw_high_s8(sum->half[1], fired);
}

/* Levels below 128 whose sums fit int16. */
INLINE void add_levels16(sums16 *sum, weights16 w, const uint8_t *in)
{
    int8x16_t level = vreinterpretq_s8_u8(vld1q_u8(in));
    sum->half[0] = vmlal_s8(sum->half[0], vget_low_s8(level), vget_low_s8(w));
    sum->half[1] = vmlal_high_s8(sum->half[1], level, w);
}

INLINE void widen(const sums16 *sum, const int32_t *bias, int32_t *currents)
{
    UNROLL for (uint32_t h = 0; h < 2; h++, bias += 8, currents += 8) {
        vst1q_s32(currents, vaddw_s16(vld1q_s32(bias), vget_low_s16(sum->half[h])));
        vst1q_s32(currents + 4, vaddw_high_s16(vld1q_s32(bias + 4), sum->half[h]));
    }
}

INLINE sums32 start(const int32_t *bias)
{
    sums32 sum;
    UNROLL for (uint32_t i = 0; i < 4; i++) {
        sum.quarter[i] = vld1q_s32(bias + 4 * i);
    }
    return sum;
}

/* Membranes (words), or any levels. */
INLINE void add_wide(sums32 *sum, const int8_t *weight, const uint8_t *in, int words)
{
    int16x8_t low = vmovl_s8(vld1_s8(weight)), high = vmovl_s8(vld1_s8(weight + 8)), x[2];
    if (words) {
        x[0] = vreinterpretq_s16_u8(vld1q_u8(in));
        x[1] = vreinterpretq_s16_u8(vld1q_u8(in + 16));
    } else {
        uint8x16_t level = vld1q_u8(in);
        x[0] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(level)));
        x[1] = vreinterpretq_s16_u16(vmovl_high_u8(level));
    }
    sum->quarter[0] = vmlal_s16(sum->quarter[0], vget_low_s16(x[0]), vget_low_s16(low));
    sum->quarter[1] = vmlal_high_s16(sum->quarter[1], x[0], low);
    sum->quarter[2] = vmlal_s16(sum->quarter[2], vget_low_s16(x[1]), vget_low_s16(high));
    sum->quarter[3] = vmlal_high_s16(sum->quarter[3], x[1], high);
}

INLINE void store(const sums32 *sum, int32_t *currents)
{
    UNROLL for (uint32_t i = 0; i < 4; i++) {
        vst1q_s32(currents + 4 * i, sum->quarter[i]);
    }
}
#endif
