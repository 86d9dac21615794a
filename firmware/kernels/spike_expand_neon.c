/* The spiking convolution on AArch64: packed weights to rows of bytes. */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "spike_conv_neon.h"

/* Which byte a weight's lowest four bits, next two and last one are in, from where these start, and
 * how far its bits are to be shifted, or which bit it is. */
typedef struct {
    uint8x16_t in_four, in_two, in_one, bit;
    int8x16_t shift_four, shift_two;
} places_of_bits;

INLINE places_of_bits places_in_row(uint32_t bits)
{
    static const uint8_t four[16] = {0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7};
    static const uint8_t two[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    static const int8_t by_four[16] = {0, 0, 0, 0, -4, -4, -4, -4, 0, 0, 0, 0, -4, -4, -4, -4};
    static const int8_t by_two[16] = {0, 0, 0, 0, -2, -2, -2, -2, -4, -4, -4, -4, -6, -6, -6, -6};
    uint32_t at_two = bits & 4 ? 8 : 0, at_one = at_two + (bits & 2 ? 4 : 0);
    places_of_bits p = {
        vld1q_u8(four), vaddq_u8(vld1q_u8(two), vdupq_n_u8((uint8_t)at_two)),
        vaddq_u8(vld1q_u8(one), vdupq_n_u8((uint8_t)at_one)), esv_neon_bits(),
        vld1q_s8(by_four), vld1q_s8(by_two),
    };
    return p;
}

/* A row of 16 weights of `bits` bits, which is at the start of `row`. What is above a weight's bits
 * on the way is rubbish; the bits of an odd number end in one that is the sign, negated. */
INLINE int8x16_t unpack(uint8x16_t row, uint32_t bits, const places_of_bits *p)
{
    uint8x16_t u = vdupq_n_u8(0), none = u;
    if (bits & 4) {
        u = vshlq_u8(vqtbl1q_u8(row, p->in_four), p->shift_four);
    }
    if (bits & 2) {
        uint8x16_t v = vshlq_u8(vqtbl1q_u8(row, p->in_two), p->shift_two);
        u = bits & 4 ? vsliq_n_u8(u, v, 4) : v;
    }
    if (bits & 1) {
        uint8x16_t sign = vceqq_u8(vandq_u8(vqtbl1q_u8(row, p->in_one), p->bit), none);
        u = bits == 7 ? vsliq_n_u8(u, sign, 6) : bits == 5 ? vsliq_n_u8(u, sign, 4)
                                                           : vsliq_n_u8(u, sign, 2);
        return vreinterpretq_s8_u8(u);
    }
    u = vandq_u8(u, vdupq_n_u8((uint8_t)((1u << bits) - 1)));
    return vreinterpretq_s8_u8(vsubq_u8(u, vdupq_n_u8((uint8_t)(1u << (bits - 1)))));
}

/* Store 16 weights and return where the next row's are. Compilers know no such store. */
INLINE int8_t *store_row(int8_t *out, int8x16_t weights, size_t row_bytes)
{
    __asm__ volatile("st1 {%1.16b}, [%0], %2"
                     : "+r"(out) : "w"(weights), "r"(row_bytes) : "memory");
    return out;
}

INLINE void expand_bits(const uint8_t *packed, uint32_t rows, uint32_t bits, int8_t *out,
                        uint32_t row_bytes)
{
    places_of_bits p = places_in_row(bits);
    uint32_t last = 16 / (2 * bits); /* rows that a load of 16 bytes would read beyond */
    uint32_t k = 0;
    for (; k + last + 4 <= rows; k += 4) {
        UNROLL for (uint32_t i = 0; i < 4; i++, packed += 2 * bits) {
            out = store_row(out, unpack(vld1q_u8(packed), bits, &p), row_bytes);
        }
    }
    for (; k < rows; k++, packed += 2 * bits, out += row_bytes) {
        uint8_t row[16] = {0};
        memcpy(row, packed, 2 * bits);
        vst1q_s8(out, unpack(vld1q_u8(row), bits, &p));
    }
}

static void expand_bytes(const uint8_t *packed, uint32_t rows, uint32_t lanes, int8_t *out,
                         uint32_t row_bytes)
{
    uint32_t k = 0;
    for (; lanes == ESV_LANES && k + 4 <= rows; k += 4, packed += 4 * ESV_LANES) {
        UNROLL for (uint32_t i = 0; i < 4; i++) {
            out = store_row(out, vld1q_s8((const int8_t *)packed + i * ESV_LANES), row_bytes);
        }
    }
    for (; k < rows; k++, packed += lanes, out += row_bytes) {
        memset(out, 0, ESV_LANES);
        memcpy(out, packed, lanes);
    }
}

void esv_neon_expand(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes, void *out,
                     uint32_t row_bytes)
{
    switch (bits) {
    case 2: expand_bits(packed, rows, 2, out, row_bytes); break;
    case 3: expand_bits(packed, rows, 3, out, row_bytes); break;
    case 4: expand_bits(packed, rows, 4, out, row_bytes); break;
    case 5: expand_bits(packed, rows, 5, out, row_bytes); break;
    case 6: expand_bits(packed, rows, 6, out, row_bytes); break;
    case 7: expand_bits(packed, rows, 7, out, row_bytes); break;
    default: expand_bytes(packed, rows, lanes, out, row_bytes);
    }
}

#else

typedef int esv_no_neon_expand; /* a file must not be empty */

#endif
