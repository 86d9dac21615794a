/* Sixteen neurons on membranes, all in int16, with NEON: what fire_dense.c runs. */
#ifndef ESV_FIRE_NEON_H
#define ESV_FIRE_NEON_H

#include <arm_neon.h>

#define TARGET
#define INLINE static inline __attribute__((always_inline))

/* codes (16) of all steps, `step` membranes apart: halving additions do not wrap. */
INLINE void spike_block(const int16_t *in, uint32_t step, uint32_t steps, const int16_t *border,
                        uint8_t *out)
{
    int16x8_t v[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
    uint8x16_t code = vdupq_n_u8(0), bit = vdupq_n_u8(1);
    int16x8_t low = vld1q_s16(border), high = vld1q_s16(border + 8);
    UNROLL for (uint32_t t = 0; t < steps; t++, in += step) {
        v[0] = vhaddq_s16(v[0], vld1q_s16(in));
        v[1] = vhaddq_s16(v[1], vld1q_s16(in + 8));
        uint16x8_t fired[2] = {vcgtq_s16(v[0], low), vcgtq_s16(v[1], high)};
        v[0] = vbicq_s16(v[0], vreinterpretq_s16_u16(fired[0]));
        v[1] = vbicq_s16(v[1], vreinterpretq_s16_u16(fired[1]));
        uint8x16_t both = vuzp1q_u8(vreinterpretq_u8_u16(fired[0]), vreinterpretq_u8_u16(fired[1]));
        code = vbslq_u8(bit, both, code);
        bit = vaddq_u8(bit, bit);
    }
    vst1q_u8(out, code);
}

/* levels (16): how many of the borders (rows), `length` apart, are exceeded. */
INLINE void level_block(const int16_t *in, uint32_t rows, uint32_t length, const int16_t *border,
                        uint8_t *out)
{
    int16x8_t low = vld1q_s16(in), high = vld1q_s16(in + 8);
    uint8x16_t level = vdupq_n_u8(0);
    for (uint32_t d = 0; d < rows; d++, border += length) {
        uint16x8_t a = vcgtq_s16(low, vld1q_s16(border));
        uint16x8_t b = vcgtq_s16(high, vld1q_s16(border + 8));
        uint8x16_t both = vuzp1q_u8(vreinterpretq_u8_u16(a), vreinterpretq_u8_u16(b));
        level = vsubq_u8(level, both);
    }
    vst1q_u8(out, level);
}
#endif
