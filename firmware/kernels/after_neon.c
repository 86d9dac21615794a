/* From currents to what an operator writes, on AArch64: tiles of 16 channels outermost, so that
 * their constants stay in registers while the tokens pass. */
#include "after_constant.h"
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef __aarch64__
#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* ---- 16 channels, or the first n of them ---- */

INLINE void store_bytes(uint8_t *out, uint8x16_t v, uint32_t n)
{
    if (n == ESV_TILE) {
        vst1q_u8(out, v);
        return;
    }
    for (uint32_t size = 8; size; size /= 2) {
        if (n & size) {
            memcpy(out, &v, size);
            out += size;
            v = size == 8 ? vextq_u8(v, v, 8) : size == 4 ? vextq_u8(v, v, 4) : vextq_u8(v, v, 2);
        }
    }
}

INLINE void load_words(const int16_t *in, int16x8_t v[2], uint32_t n)
{
    if (n == ESV_TILE) {
        v[0] = vld1q_s16(in);
        v[1] = vld1q_s16(in + 8);
        return;
    }
    int16_t words[ESV_TILE] = {0};
    uint32_t at = 0;
    for (uint32_t size = 8; size; size /= 2) {
        if (n & size) {
            memcpy(words + at, in + at, size * sizeof *in);
            at += size;
        }
    }
    v[0] = vld1q_s16(words);
    v[1] = vld1q_s16(words + 8);
}

INLINE void store_words(int16_t *out, const int16x8_t v[2], uint32_t n)
{
    if (n == ESV_TILE) {
        vst1q_s16(out, v[0]);
        vst1q_s16(out + 8, v[1]);
        return;
    }
    int16x8_t rest = v[0];
    if (n & 8) {
        vst1q_s16(out, v[0]);
        out += 8;
        rest = v[1];
    }
    for (uint32_t size = 4; size; size /= 2) {
        if (n & size) {
            memcpy(out, &rest, size * sizeof *out);
            out += size;
            rest = size == 4 ? vextq_s16(rest, rest, 4) : vextq_s16(rest, rest, 2);
        }
    }
}

/* Constants of n channels; those of others are 0. */
INLINE void load_constants(const int32_t *in, int32x4_t v[4], uint32_t n)
{
    UNROLL for (uint32_t j = 0; j < 4; j++, in += 4) {
        uint32_t left = n < 4 * j ? 0 : n - 4 * j;
        v[j] = vdupq_n_s32(0);
        if (left >= 4) {
            v[j] = vld1q_s32(in);
        } else if (left) {
            v[j] = vsetq_lane_s32(in[0], v[j], 0);
            v[j] = left > 1 ? vsetq_lane_s32(in[1], v[j], 1) : v[j];
            v[j] = left > 2 ? vsetq_lane_s32(in[2], v[j], 2) : v[j];
        }
    }
}

INLINE uint8x16_t narrow(const uint32x4_t v[4])
{
    uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(v[0]), vreinterpretq_u16_u32(v[1]));
    uint16x8_t high = vuzp1q_u16(vreinterpretq_u16_u32(v[2]), vreinterpretq_u16_u32(v[3]));
    return vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
}

/* The currents of a tile at several tokens. */
typedef struct {
    const esv_after *after;
    const int32_t *currents; /* of the first token and step */
    uint32_t width, step;    /* from a token to the next, from a step to the next */
    uint32_t count, first, n;
    uint32_t at; /* of the first token in the output */
} tile;

/* ---- Spikes ---- */

/* Halving additions do not wrap, and what `sri` moves in from the left is the step's spike: after
 * T steps step 0 is T bits from the left end. */
INLINE void lif_tile(const tile *k, const uint32_t steps)
{
    uint8_t *out = (uint8_t *)k->after->out + k->at;
    const int32_t *token = k->currents;
    int32x4_t threshold[4], down = vdupq_n_s32((int32_t)steps - 32);
    load_constants(k->after->threshold + k->first, threshold, k->n);
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        uint32x4_t code[4];
        UNROLL for (uint32_t j = 0; j < 4; j++) {
            const int32_t *current = token + 4 * j;
            int32x4_t v = vdupq_n_s32(0);
            code[j] = vdupq_n_u32(0);
            UNROLL for (uint32_t t = 0; t < steps; t++, current += k->step) {
                v = vhaddq_s32(v, vld1q_s32(current));
                uint32x4_t fired = vcgeq_s32(v, threshold[j]);
                v = vbicq_s32(v, vreinterpretq_s32_u32(fired));
                code[j] = vsriq_n_u32(fired, code[j], 1);
            }
            code[j] = vshlq_u32(code[j], down);
        }
        store_bytes(out, narrow(code), k->n);
    }
}

INLINE void constant_tile(const tile *k, const uint32_t steps)
{
    int32_t reach[ESV_MOST_STEPS][ESV_TILE] = {{0}};
    uint8_t codes[16], *out = (uint8_t *)k->after->out + k->at;
    const int32_t *token = k->currents;
    esv_find_reach(k->after, k->first, k->n, reach);
    esv_find_codes(steps, codes);
    uint8x16_t table = vld1q_u8(codes);
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        uint32x4_t minus[4];
        UNROLL for (uint32_t j = 0; j < 4; j++) {
            int32x4_t current = vld1q_s32(token + 4 * j);
            minus[j] = vcgeq_s32(current, vld1q_s32(reach[0] + 4 * j));
            UNROLL for (uint32_t t = 1; t < steps; t++) {
                minus[j] = vaddq_u32(minus[j], vcgeq_s32(current, vld1q_s32(reach[t] + 4 * j)));
            }
        }
        uint8x16_t reached = vreinterpretq_u8_s8(vnegq_s8(vreinterpretq_s8_u8(narrow(minus))));
        store_bytes(out, vqtbl1q_u8(table, reached), k->n);
    }
}

INLINE void spikes_for(const tile *k, const uint32_t steps)
{
    if (k->step == 0 && k->count >= ESV_MANY_TOKENS) {
        constant_tile(k, steps);
    } else {
        lif_tile(k, steps);
    }
}

static void spikes(const tile *k)
{
    switch (k->after->time_steps) {
    case 1:
        spikes_for(k, 1);
        break;
    case 2:
        spikes_for(k, 2);
        break;
    case 4:
        spikes_for(k, 4);
        break;
    default:
        spikes_for(k, k->after->time_steps);
    }
}

/* ---- Levels ---- */

#define KEPT_LEVELS 8 /* of which the borders are loaded once for several tokens */

INLINE void reached(const int32_t *token, const int32x4_t border[4], uint32x4_t level[4])
{
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        level[j] = vsubq_u32(level[j], vcgeq_s32(vld1q_s32(token + 4 * j), border[j]));
    }
}

/* Of `levels` levels, the borders of the first `few` kept; compilers may know both. */
INLINE void levels_at(const tile *k, const int32_t *token, uint8_t *out, uint32_t n,
                      const uint32_t levels, const uint32_t few)
{
    int32x4_t kept[KEPT_LEVELS][4];
    const int32_t *threshold = k->after->threshold + k->first;
    for (uint32_t d = 0; d < few; d++) {
        load_constants(threshold + d * k->after->channels, kept[d], n);
    }
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        uint32x4_t level[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
        for (uint32_t d = 0; d < levels; d++) {
            int32x4_t border[4];
            if (d < few) {
                reached(token, kept[d], level);
            } else {
                load_constants(threshold + d * k->after->channels, border, n);
                reached(token, border, level);
            }
        }
        store_bytes(out, narrow(level), n);
    }
}

INLINE void levels_of(const tile *k, const int32_t *token, uint8_t *out, uint32_t n)
{
    uint32_t levels = k->after->max_level;
    if (k->count == 1) {
        levels_at(k, token, out, n, levels, 0);
    } else if (levels == 4) {
        levels_at(k, token, out, n, 4, 4);
    } else {
        levels_at(k, token, out, n, levels, levels < KEPT_LEVELS ? levels : KEPT_LEVELS);
    }
}

/* ---- Membranes ---- */

/* Four membranes before they are clamped; the rounding shift does not lose the carry, and what does
 * not fit int32 is beyond every limit. */
INLINE int32x4_t rescale(int32x4_t current, int32x4_t scale, int64x2_t down, int16x4_t stream)
{
    int64x2_t low = vmull_s32(vget_low_s32(current), vget_low_s32(scale));
    int64x2_t high = vmull_high_s32(current, scale);
    int32x2_t half = vqmovn_s64(vrshlq_s64(low, down));
    return vqaddq_s32(vqmovn_high_s64(half, vrshlq_s64(high, down)), vmovl_s16(stream));
}

INLINE void membranes_of(const tile *k, const int32_t *token, const int16_t *stream, int16_t *out,
                         uint32_t n)
{
    int64x2_t down = vdupq_n_s64(-(int64_t)k->after->shift);
    int16x8_t limit = vdupq_n_s16((int16_t)k->after->max_level);
    int32x4_t scale[4];
    load_constants(k->after->scale + k->first, scale, n);
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        int16x8_t v[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        if (stream) {
            load_words(stream, v, n);
            stream += k->after->channels;
        }
        UNROLL for (uint32_t j = 0; j < 2; j++) {
            if (8 * j >= n) {
                continue;
            }
            const int32_t *current = token + 8 * j;
            int32x4_t low = rescale(vld1q_s32(current), scale[2 * j], down, vget_low_s16(v[j]));
            int32x4_t high = rescale(vld1q_s32(current + 4), scale[2 * j + 1], down,
                                     vget_high_s16(v[j]));
            v[j] = vqmovn_high_s32(vqmovn_s32(low), high);
            v[j] = vmaxq_s16(vminq_s16(v[j], limit), vnegq_s16(limit));
        }
        store_words(out, v, n);
    }
}

/* ---- All of them ---- */

/* What every step has its own output of. */
static void one_step(const tile *k, uint32_t t)
{
    uint32_t at = t * k->after->tokens * k->after->channels + k->at;
    const int32_t *token = k->currents + t * k->step;
    if (k->after->kind == ESV_LEVELS) {
        if (k->n == ESV_TILE) {
            levels_of(k, token, (uint8_t *)k->after->out + at, ESV_TILE);
        } else {
            levels_of(k, token, (uint8_t *)k->after->out + at, k->n);
        }
        return;
    }
    const int16_t *stream = k->after->stream ? k->after->stream + at : NULL;
    int16_t *out = (int16_t *)k->after->out + at;
    if (k->n == ESV_TILE) {
        membranes_of(k, token, stream, out, ESV_TILE);
    } else {
        membranes_of(k, token, stream, out, k->n);
    }
}

void esv_after_rows(const esv_after *after, uint32_t token, uint32_t count,
                    const int32_t *currents, uint32_t width, uint32_t step)
{
    tile k = {after, currents, width, step, count, 0, 0, token * after->channels};
    for (; k.first < after->channels; k.first += ESV_TILE) {
        uint32_t left = after->channels - k.first;
        k.n = left < ESV_TILE ? left : ESV_TILE;
        if (after->kind == ESV_SPIKES) {
            spikes(&k);
        }
        for (uint32_t t = 0; after->kind != ESV_SPIKES && t < after->time_steps; t++) {
            one_step(&k, t);
        }
        k.currents += ESV_TILE;
        k.at += ESV_TILE;
    }
}

/* One step of the neurons of a whole tile at one token. */
static void spikes_of_step(const tile *k, uint32_t t, int32_t *state)
{
    uint8_t *out = (uint8_t *)k->after->out + k->at;
    const int32_t *threshold = k->after->threshold + k->first;
    uint32x4_t fired[4];
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        int32x4_t v = t ? vld1q_s32(state + 4 * j) : vdupq_n_s32(0);
        v = vhaddq_s32(v, vld1q_s32(k->currents + 4 * j));
        fired[j] = vcgeq_s32(v, vld1q_s32(threshold + 4 * j));
        vst1q_s32(state + 4 * j, vbicq_s32(v, vreinterpretq_s32_u32(fired[j])));
    }
    uint8x16_t code = t ? vld1q_u8(out) : vdupq_n_u8(0);
    vst1q_u8(out, vbslq_u8(vdupq_n_u8((uint8_t)(1u << t)), narrow(fired), code));
}

void esv_after_step(const esv_after *after, uint32_t t, uint32_t token, uint32_t first, uint32_t n,
                    const int32_t *currents, int32_t *state)
{
    tile k = {after, currents, 0, 0, 1, first, n, token * after->channels + first};
    if (after->kind == ESV_SPIKES) {
        spikes_of_step(&k, t, state);
    } else {
        one_step(&k, t);
    }
}
#endif
