/* The parts of spiking self-attention on AArch64: what they read, and the two products. */
#ifndef ESV_SELF_ATTENTION_NEON_H
#define ESV_SELF_ATTENTION_NEON_H

#include <stddef.h>
#include <string.h>

#include "esv_kernels.h"
#include "neon.h"

#define ESV_MAX_STEPS 8
#define BLOCK 64 /* channels at a time, of a key or query as of a value */

/* One head: pointers to token 0, a token is `stride` bytes further, and to where tensors end. */
typedef struct {
    const uint8_t *query, *key, *value;
    uint8_t *out;
    size_t query_stride, value_stride;
    const uint8_t *query_end, *key_end, *value_end;
} esv_head;

/* What the counts are: of 16 bits, bytes, or bytes so small that no shifted sum is cut, not even
 * with a membrane added. */
typedef enum { ESV_WORDS, ESV_BYTES, ESV_SMALL_BYTES } esv_count_kind;

/* The counts of a head: (T, query_dim, stride). */
typedef struct {
    void *counts;
    size_t stride;
    esv_count_kind kind;
    uint32_t group[ESV_MAX_STEPS]; /* of bytes: how many can be added as such, at each step */
} esv_counts;

/* Columns `first` to `first + 63` of a head, or the `left` that there are: K^T V into counts that
 * are 0, then Q times them and the neurons into codes. */
void esv_neon_count(const esv_attention *a, const esv_head *head, const esv_counts *t,
                    uint32_t first, uint32_t left);
void esv_neon_attend(const esv_attention *a, const esv_head *head, const esv_counts *t,
                     uint32_t first, uint32_t left);

#define ESV_MAX_BYTE_TOKENS 255

/* Heads of few channels, the whole of one; they need no counts. */
INLINE int esv_neon_is_narrow(const esv_attention *a)
{
    return a->query_dim <= 16 && a->value_dim <= 32 && a->tokens <= ESV_MAX_BYTE_TOKENS;
}

void esv_neon_narrow_head(const esv_attention *a, const esv_head *head);

#define ESV_LEVEL_COLUMNS 8 /* a value has at least, for what follows */

/* Levels: a head whose queries are at most `largest_query`. counts: (query_dim, value_dim), not 0. */
void esv_neon_levels_head(const esv_attention *a, const esv_head *head, uint32_t largest_query,
                          uint16_t *counts);
uint32_t esv_neon_largest_level(const uint8_t *levels, size_t count);

typedef struct {
    uint16x8_t threshold;
    int16x8_t shift;
    uint8x16_t times; /* 2^shift, where no sum is cut; else 1 */
    int8x16_t last;   /* T - 8 */
} esv_neuron;

INLINE esv_neuron esv_neuron_of(const esv_attention *a, esv_count_kind kind)
{
    int32_t threshold = a->threshold > 0 ? a->threshold : 0;
    esv_neuron c = {vdupq_n_u16((uint16_t)threshold), vdupq_n_s16((int16_t)a->shift),
                    vdupq_n_u8(kind == ESV_SMALL_BYTES ? (uint8_t)(1u << a->shift) : 1),
                    vdupq_n_s8((int8_t)(a->time_steps - 8))};
    return c;
}

/* One step of 16 * n neurons: the newest spike becomes bit 7 of a code. Sums and membranes are not
 * negative; where a shifted sum is cut to 65535, the neuron fires either way, as no threshold is
 * above 32767. */
INLINE void esv_neuron_step(const uint16x8_t *sum, unsigned n, const esv_neuron *c, int shifted,
                            uint16x8_t *membrane, uint8x16_t *code)
{
    UNROLL for (unsigned k = 0; k < n; k++) {
        uint16x8_t low = sum[2 * k], high = sum[2 * k + 1];
        if (!shifted) {
            low = vqshlq_u16(low, c->shift), high = vqshlq_u16(high, c->shift);
        }
        low = vhaddq_u16(membrane[2 * k], low), high = vhaddq_u16(membrane[2 * k + 1], high);
        uint16x8_t fired_low = vcgeq_u16(low, c->threshold);
        uint16x8_t fired_high = vcgeq_u16(high, c->threshold);
        membrane[2 * k] = vbicq_u16(low, fired_low);
        membrane[2 * k + 1] = vbicq_u16(high, fired_high);
        uint8x16_t fired = vuzp1q_u8(vreinterpretq_u8_u16(fired_low),
                                     vreinterpretq_u8_u16(fired_high));
        code[k] = vsriq_n_u8(fired, code[k], 1);
    }
}

/* Up to 64 codes; those past the end are 0. */
typedef struct {
    uint8x16_t v[4];
} esv_codes;

INLINE esv_codes esv_load_codes(const uint8_t *from, unsigned count)
{
    esv_codes c;
    if (count >= BLOCK) {
        UNROLL for (unsigned i = 0; i < 4; i++) {
            c.v[i] = vld1q_u8(from + 16 * i);
        }
        return c;
    }
    uint8_t some[BLOCK] = {0};
    memcpy(some, from, count);
    UNROLL for (unsigned i = 0; i < 4; i++) {
        c.v[i] = vld1q_u8(some + 16 * i);
    }
    return c;
}

/* Bit 63 - i: code i has a bit of `step`. From the top, because `clz` is one instruction. */
typedef struct {
    uint64_t bits;
    uint32_t count; /* of those set */
} esv_fired;

INLINE esv_fired esv_which(esv_codes c, uint8x16_t step)
{
    static const uint8_t bit[16] = {128, 64, 32, 16, 8, 4, 2, 1, 128, 64, 32, 16, 8, 4, 2, 1};
    uint8x16_t fired[4];
    UNROLL for (unsigned i = 0; i < 4; i++) {
        fired[i] = vtstq_u8(c.v[i], step);
    }
    uint8x16_t all = esv_neon_collect(fired, vld1q_u8(bit));
    esv_fired set = {__builtin_bswap64(vgetq_lane_u64(vreinterpretq_u64_u8(all), 0)),
                     vaddv_u8(vcnt_u8(vget_low_u8(all)))};
    return set;
}

/* The code of the first set bit, which is cleared. */
INLINE unsigned esv_take(uint64_t *bits)
{
    unsigned i = (unsigned)__builtin_clzll(*bits);
    *bits &= ~((UINT64_C(1) << 63) >> i);
    return i;
}

#endif
