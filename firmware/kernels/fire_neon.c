/* Neurons on membranes on AArch64: all in int16, and without regard to tokens. The thresholds of
 * neurons i, i + 1, ... repeat after a multiple of both the channels and the lanes. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __aarch64__
#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define LANES 16
#define MOST_BORDERS 2048

typedef struct {
    uint32_t length; /* after which the thresholds repeat */
    int16_t border[MOST_BORDERS]; /* (D, length): reached by what is larger */
} pattern;

/* A membrane never reaches what is beyond int16, nor does the neuron's state. */
static int16_t below(int32_t threshold)
{
    threshold--;
    return (int16_t)(threshold > INT16_MAX   ? INT16_MAX
                     : threshold < INT16_MIN ? INT16_MIN
                                             : threshold);
}

static int repeat(const esv_after *after, uint32_t rows, pattern *p)
{
    uint32_t length = after->channels;
    while (length % LANES && length <= MOST_BORDERS) {
        length *= 2; /* LANES is a power of 2 */
    }
    if (length * rows > MOST_BORDERS) {
        return 0;
    }
    p->length = length;
    for (uint32_t d = 0; d < rows; d++) {
        for (uint32_t i = 0; i < length; i += after->channels) {
            for (uint32_t c = 0; c < after->channels; c++) {
                p->border[d * length + i + c] = below(after->threshold[d * after->channels + c]);
            }
        }
    }
    return 1;
}

/* codes (LANES) of all steps: halving additions do not wrap. */
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

/* The last, incomplete block goes through a copy with T = steps of LANES membranes. */
static uint32_t copy_rest(const int16_t *in, uint32_t step, uint32_t steps, uint32_t n,
                          int16_t copy[8 * LANES])
{
    memset(copy, 0, 8 * LANES * sizeof *copy);
    for (uint32_t t = 0; t < steps; t++) {
        memcpy(copy + t * LANES, in + t * step, n * sizeof *in);
    }
    return LANES;
}

INLINE void spikes_in(uint32_t steps, uint32_t count, const int16_t *in, const pattern *p,
                      uint8_t *out)
{
    uint32_t i = 0, at = 0;
    for (; i + LANES <= count; i += LANES) {
        spike_block(in + i, count, steps, p->border + at, out + i);
        at = at + LANES < p->length ? at + LANES : 0;
    }
    if (i < count) {
        int16_t copy[8 * LANES];
        uint8_t codes[LANES];
        uint32_t step = copy_rest(in + i, count, steps, count - i, copy);
        spike_block(copy, step, steps, p->border + at, codes);
        memcpy(out + i, codes, count - i);
    }
}

static void levels_in(uint32_t rows, uint32_t count, const int16_t *in, const pattern *p,
                      uint8_t *out)
{
    uint32_t i = 0, at = 0;
    for (; i + LANES <= count; i += LANES) {
        level_block(in + i, rows, p->length, p->border + at, out + i);
        at = at + LANES < p->length ? at + LANES : 0;
    }
    if (i < count) {
        int16_t copy[8 * LANES];
        uint8_t levels[LANES];
        copy_rest(in + i, 0, 1, count - i, copy);
        level_block(copy, rows, p->length, p->border + at, levels);
        memcpy(out + i, levels, count - i);
    }
}

int esv_fire_neon(const esv_after *after, const int16_t *membranes)
{
    pattern p;
    uint32_t count = after->tokens * after->channels, steps = after->time_steps;
    if (!repeat(after, after->kind == ESV_LEVELS ? after->max_level : 1, &p)) {
        return 0;
    }
    if (after->kind == ESV_LEVELS) {
        for (uint32_t t = 0; t < steps; t++) {
            levels_in(after->max_level, count, membranes + t * count, &p,
                      (uint8_t *)after->out + t * count);
        }
    } else if (steps == 4) {
        spikes_in(4, count, membranes, &p, after->out);
    } else {
        spikes_in(steps, count, membranes, &p, after->out);
    }
    return 1;
}
#endif
