/* The parts of spiking self-attention on AArch64: what they read, and the two products. */
#ifndef ESV_SELF_ATTENTION_NEON_H
#define ESV_SELF_ATTENTION_NEON_H

#include <stddef.h>
#include <string.h>

#include "esv_kernels.h"
#include "neon.h"

#define ESV_MAX_STEPS 8
#define BLOCK 64 /* channels at a time, of a key or query as of a value */

/* One head: pointers to token 0, a token is `stride` bytes further. */
typedef struct {
    const uint8_t *query, *key, *value;
    uint8_t *out;
    size_t query_stride, value_stride;
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
