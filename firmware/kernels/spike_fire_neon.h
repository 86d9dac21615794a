/* The spiking convolution on AArch64: neurons on sums of int16, 16 * n at a time. */
#ifndef ESV_SPIKE_FIRE_NEON_H
#define ESV_SPIKE_FIRE_NEON_H

#include "spike_rows_neon.h"

/* Where the neurons of a step are: what is read, and what is written, from pointers of their own. A
 * load does not wait for a store to move its pointer on then. */
typedef struct {
    const int16_t *threshold, *old_membrane;
    const uint8_t *old_codes;
    int16_t *membrane;
    uint8_t *codes;
    int8x16_t shift; /* at the last step: T - 8 */
} neurons;

/* v4 to v7 = (membranes + sums) >> 1, v0 to v3 = whether they fire. */
#define DECAY                                                                                      \
    "shadd v4.8h, v4.8h, %[a].8h\n\tshadd v5.8h, v5.8h, %[b].8h\n\t"                               \
    "shadd v6.8h, v6.8h, %[c].8h\n\tshadd v7.8h, v7.8h, %[d].8h\n\t"
#define HALVE                                                                                      \
    "sshr v4.8h, %[a].8h, #1\n\tsshr v5.8h, %[b].8h, #1\n\t"                                       \
    "sshr v6.8h, %[c].8h, #1\n\tsshr v7.8h, %[d].8h, #1\n\t"
#define COMPARE                                                                                    \
    "ld1 {v0.8h-v3.8h}, [%[threshold]], #64\n\t"                                                   \
    "cmge v0.8h, v4.8h, v0.8h\n\tcmge v1.8h, v5.8h, v1.8h\n\t"                                     \
    "cmge v2.8h, v6.8h, v2.8h\n\tcmge v3.8h, v7.8h, v3.8h\n\t"
#define RESET                                                                                      \
    "bic v4.16b, v4.16b, v0.16b\n\tbic v5.16b, v5.16b, v1.16b\n\t"                                 \
    "bic v6.16b, v6.16b, v2.16b\n\tbic v7.16b, v7.16b, v3.16b\n\t"                                 \
    "st1 {v4.8h-v7.8h}, [%[membrane]], #64\n\t"
#define NARROW "uzp1 v0.16b, v0.16b, v1.16b\n\tuzp1 v1.16b, v2.16b, v3.16b\n\t"
#define LOAD_MEMBRANE "ld1 {v4.8h-v7.8h}, [%[old_membrane]], #64\n\t"
#define JOIN_CODE                                                                                  \
    "ld1 {v2.16b-v3.16b}, [%[old_codes]], #32\n\t"                                                 \
    "sri v0.16b, v2.16b, #1\n\tsri v1.16b, v3.16b, #1\n\t"
#define SHIFT_CODE                                                                                 \
    "ushl v0.16b, v0.16b, %[shift].16b\n\tushl v1.16b, v1.16b, %[shift].16b\n\t"
#define STORE_CODE "st1 {v0.16b-v1.16b}, [%[codes]], #32"
#define FIRE_32(instructions)                                                                      \
    __asm__ volatile(instructions                                                                  \
            : [threshold] "+r"(at->threshold), [old_membrane] "+r"(at->old_membrane),              \
              [old_codes] "+r"(at->old_codes), [membrane] "+r"(at->membrane),                      \
              [codes] "+r"(at->codes)                                                              \
            : [a] "w"(s[0]), [b] "w"(s[1]), [c] "w"(s[2]), [d] "w"(s[3]),                          \
              [shift] "w"(at->shift) : TAKEN, "memory")

/* The spike of the last step is bit 7 of a code on the way, that of the step before bit 6, and so
 * on; the last step moves them to their places. */
INLINE void fire_32(const int16x8_t *s, neurons *at, int first, int last)
{
    if (first && last) {
        FIRE_32(HALVE COMPARE NARROW SHIFT_CODE STORE_CODE);
    } else if (first) {
        FIRE_32(HALVE COMPARE RESET NARROW STORE_CODE);
    } else if (last) {
        FIRE_32(LOAD_MEMBRANE DECAY COMPARE NARROW JOIN_CODE SHIFT_CODE STORE_CODE);
    } else {
        FIRE_32(LOAD_MEMBRANE DECAY COMPARE RESET NARROW JOIN_CODE STORE_CODE);
    }
}

INLINE void fire_16(const int16x8_t *s, neurons *at, int first, int last)
{
    int16x8_t zero = vdupq_n_s16(0);
    int16x8_t a = vhaddq_s16(first ? zero : vld1q_s16(at->old_membrane), s[0]);
    int16x8_t b = vhaddq_s16(first ? zero : vld1q_s16(at->old_membrane + 8), s[1]);
    uint16x8_t fired_a = vcgeq_s16(a, vld1q_s16(at->threshold));
    uint16x8_t fired_b = vcgeq_s16(b, vld1q_s16(at->threshold + 8));
    vst1q_s16(at->membrane, vbicq_s16(a, vreinterpretq_s16_u16(fired_a)));
    vst1q_s16(at->membrane + 8, vbicq_s16(b, vreinterpretq_s16_u16(fired_b)));
    uint8x16_t code = vuzp1q_u8(vreinterpretq_u8_u16(fired_a), vreinterpretq_u8_u16(fired_b));
    if (!first) {
        code = vsriq_n_u8(code, vld1q_u8(at->old_codes), 1);
    }
    vst1q_u8(at->codes, last ? vshlq_u8(code, at->shift) : code);
}

/* One step of 16 * n neurons. */
INLINE void fire_step(const int16x8_t *sum, unsigned n, neurons at, int first, int last)
{
    UNROLL for (unsigned i = 0; i < n / 2; i++) {
        fire_32(sum + 4 * i, &at, first, last);
    }
    if (n & 1) {
        fire_16(sum + 2 * n - 2, &at, first, last);
    }
}

INLINE void fire_any(const int16x8_t *sum, unsigned n, const esv_tile *tile, uint32_t t,
                     int16_t *membrane, uint8_t *codes)
{
    int8_t shift = (int8_t)(tile->time_steps - 8);
    neurons at = {tile->threshold16, membrane, codes, membrane, codes, vdupq_n_s8(shift)};
    if (t + 1u < tile->time_steps) {
        if (t) {
            fire_step(sum, n, at, 0, 0);
        } else {
            fire_step(sum, n, at, 1, 0);
        }
    } else if (t) {
        fire_step(sum, n, at, 0, 1);
    } else {
        fire_step(sum, n, at, 1, 1);
    }
}

INLINE void put_currents(const int16x8_t *sum, unsigned n, int32_t *currents)
{
    UNROLL for (unsigned i = 0; i < 2 * n; i++) {
        vst1q_s32(currents + 8 * i, vmovl_s16(vget_low_s16(sum[i])));
        vst1q_s32(currents + 8 * i + 4, vmovl_high_s16(sum[i]));
    }
}

#endif
