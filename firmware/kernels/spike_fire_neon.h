/* The spiking convolution on AArch64: neurons on sums of int16, 16 * n at a time. */
#ifndef ESV_SPIKE_FIRE_NEON_H
#define ESV_SPIKE_FIRE_NEON_H

#include "spike_rows_neon.h"

/* Where the neurons of a step are: what is read, and what is written, from pointers of their own. A
 * load does not wait for a store to move its pointer on then. */
typedef struct {
    const int16_t *threshold, *old_membrane;
    int16_t *membrane;
    uint32_t bit; /* of the step, in a code */
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
/* Into codes e and f where they fire: bits of the step, all others as they are, or 0. MAKE_MASK
 * puts the bits of the step in the place of the first sums, which are done with. */
#define MAKE_MASK "dup %[a].16b, %w[bit]\n\t"
#define FIRST_CODE(mask)                                                                           \
    "and %[e].16b, v0.16b, %[" #mask "].16b\n\tand %[f].16b, v1.16b, %[" #mask "].16b"
#define JOIN_CODE(mask)                                                                            \
    "bit %[e].16b, v0.16b, %[" #mask "].16b\n\tbit %[f].16b, v1.16b, %[" #mask "].16b"
#define MOVED                                                                                      \
    [threshold] "+r"(at->threshold), [old_membrane] "+r"(at->old_membrane),                        \
        [membrane] "+r"(at->membrane), [e] "+w"(code[0]), [f] "+w"(code[1])
#define LEAD_32(instructions)                                                                      \
    __asm__ volatile(instructions : MOVED, [a] "+w"(s[0])                                          \
                     : [b] "w"(s[1]), [c] "w"(s[2]), [d] "w"(s[3]), [bit] "r"(at->bit)             \
                     : TAKEN, "memory")
#define FIRE_32(instructions)                                                                      \
    __asm__ volatile(instructions : MOVED                                                          \
                     : [a] "w"(s[0]), [b] "w"(s[1]), [c] "w"(s[2]), [d] "w"(s[3]),                 \
                       [mask] "w"(mask) : TAKEN, "memory")

/* The first 32 neurons of a step; s[0] becomes the mask of all others. */
INLINE void lead_32(int16x8_t *s, neurons *at, uint8x16_t *code, int first, int last)
{
    if (first && last) {
        LEAD_32(HALVE COMPARE MAKE_MASK NARROW FIRST_CODE(a));
    } else if (first) {
        LEAD_32(HALVE COMPARE RESET MAKE_MASK NARROW FIRST_CODE(a));
    } else if (last) {
        LEAD_32(LOAD_MEMBRANE DECAY COMPARE MAKE_MASK NARROW JOIN_CODE(a));
    } else {
        LEAD_32(LOAD_MEMBRANE DECAY COMPARE RESET MAKE_MASK NARROW JOIN_CODE(a));
    }
}

INLINE void fire_32(const int16x8_t *s, int16x8_t mask, neurons *at, uint8x16_t *code, int first,
                    int last)
{
    if (first && last) {
        FIRE_32(HALVE COMPARE NARROW FIRST_CODE(mask));
    } else if (first) {
        FIRE_32(HALVE COMPARE RESET NARROW FIRST_CODE(mask));
    } else if (last) {
        FIRE_32(LOAD_MEMBRANE DECAY COMPARE NARROW JOIN_CODE(mask));
    } else {
        FIRE_32(LOAD_MEMBRANE DECAY COMPARE RESET NARROW JOIN_CODE(mask));
    }
}

INLINE void fire_16(const int16x8_t *s, uint8x16_t mask, neurons *at, uint8x16_t *code, int first)
{
    int16x8_t zero = vdupq_n_s16(0);
    int16x8_t a = vhaddq_s16(first ? zero : vld1q_s16(at->old_membrane), s[0]);
    int16x8_t b = vhaddq_s16(first ? zero : vld1q_s16(at->old_membrane + 8), s[1]);
    uint16x8_t fired_a = vcgeq_s16(a, vld1q_s16(at->threshold));
    uint16x8_t fired_b = vcgeq_s16(b, vld1q_s16(at->threshold + 8));
    vst1q_s16(at->membrane, vbicq_s16(a, vreinterpretq_s16_u16(fired_a)));
    vst1q_s16(at->membrane + 8, vbicq_s16(b, vreinterpretq_s16_u16(fired_b)));
    uint8x16_t fired = vuzp1q_u8(vreinterpretq_u8_u16(fired_a), vreinterpretq_u8_u16(fired_b));
    *code = first ? vandq_u8(fired, mask) : vbslq_u8(mask, fired, *code);
}

/* One step of 16 * n neurons; the sums are lost. */
INLINE void fire_step(int16x8_t *sum, unsigned n, neurons at, uint8x16_t *code, int first, int last)
{
    if (n > 1) {
        lead_32(sum, &at, code, first, last);
    }
    UNROLL for (unsigned i = 1; i < n / 2; i++) {
        fire_32(sum + 4 * i, sum[0], &at, code + 2 * i, first, last);
    }
    if (n & 1) {
        uint8x16_t mask = n > 1 ? vreinterpretq_u8_s16(sum[0]) : vdupq_n_u8((uint8_t)at.bit);
        fire_16(sum + 2 * n - 2, mask, &at, code + n - 1, first);
    }
}

/* Step t of a tile. Codes stay in registers from step to step. */
INLINE void fire_any(int16x8_t *sum, unsigned n, const esv_tile *tile, uint32_t t,
                     int16_t *membrane, uint8x16_t *code)
{
    neurons at = {tile->threshold16, membrane, membrane, 1u << t};
    if (t + 1u < tile->time_steps) {
        if (t) {
            fire_step(sum, n, at, code, 0, 0);
        } else {
            fire_step(sum, n, at, code, 1, 0);
        }
    } else if (t) {
        fire_step(sum, n, at, code, 0, 1);
    } else {
        fire_step(sum, n, at, code, 1, 1);
    }
}

/* The codes of the steps before; of the first, which sets them all, whatever is in the registers. */
INLINE void load_codes(uint8x16_t *code, unsigned n, const uint8_t *from)
{
    UNROLL for (unsigned i = 0; i < n; i++) {
        if (from) {
            code[i] = vld1q_u8(from + 16 * i);
        } else {
            __asm__ volatile("" : "=w"(code[i])); /* else the compiler sets all to the same */
        }
    }
}

INLINE void store_codes(const uint8x16_t *code, unsigned n, uint8_t *to)
{
    UNROLL for (unsigned i = 0; i < n; i++) {
        vst1q_u8(to + 16 * i, code[i]);
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
