/* What the kernels for AArch64's vector instructions share. */
#ifndef ESV_NEON_H
#define ESV_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* Byte i: bit i % 8. */
INLINE uint8x16_t esv_neon_bits(void)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return vld1q_u8(bit);
}

/* Byte i: the bit of byte i of the 64 that is in `bits`, where that byte of `where` is all ones.
 * The result is twice in the register. */
INLINE uint8x16_t esv_neon_collect(const uint8x16_t where[4], uint8x16_t bits)
{
    uint8x16_t a = vandq_u8(where[0], bits), b = vandq_u8(where[1], bits);
    uint8x16_t c = vandq_u8(where[2], bits), d = vandq_u8(where[3], bits);
    a = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
    return vpaddq_u8(a, a);
}

#endif
