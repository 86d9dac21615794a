/* Spiking self-attention on AArch64, K^T V: how many tokens' keys and values fired together. */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "self_attention_neon.h"

/* counts (channels of the key, stride) += 1 in the columns where the value fired, in each row whose
 * bit is set. n: registers of 16 columns; fired: all bits set where it did. */
INLINE void count_bytes(uint64_t keys, const uint8x16_t *fired, unsigned n, uint8_t *counts,
                        size_t stride)
{
    __asm__("" : "+r"(counts)); /* or the compiler adds its parts at every row */
    while (keys) {
        uint8_t *row = counts + esv_take(&keys) * stride;
        if (n == 4) { /* in assembly: compilers split the load and the store */
            __asm__("ld1 {v0.16b-v3.16b}, [%[row]]\n\t"
                    "sub v0.16b, v0.16b, %[a].16b\n\tsub v1.16b, v1.16b, %[b].16b\n\t"
                    "sub v2.16b, v2.16b, %[c].16b\n\tsub v3.16b, v3.16b, %[d].16b\n\t"
                    "st1 {v0.16b-v3.16b}, [%[row]]"
                    : "+m"(*(uint8_t(*)[64])row)
                    : [row] "r"(row), [a] "w"(fired[0]), [b] "w"(fired[1]), [c] "w"(fired[2]),
                      [d] "w"(fired[3])
                    : "v0", "v1", "v2", "v3");
            continue;
        }
        UNROLL for (unsigned k = 0; k < n; k++) {
            vst1q_u8(row + 16 * k, vsubq_u8(vld1q_u8(row + 16 * k), fired[k]));
        }
    }
}

/* The same with counts of 16 bits. */
INLINE void count_words(uint64_t keys, const uint8x16_t *fired, unsigned n, uint16_t *counts,
                        size_t stride)
{
    while (keys) {
        uint16_t *row = counts + esv_take(&keys) * stride;
        UNROLL for (unsigned k = 0; k < n; k++) {
            int8x16_t f = vreinterpretq_s8_u8(fired[k]);
            int16x8_t low = vreinterpretq_s16_u16(vld1q_u16(row + 16 * k));
            int16x8_t high = vreinterpretq_s16_u16(vld1q_u16(row + 16 * k + 8));
            low = vsubw_s8(low, vget_low_s8(f)), high = vsubw_high_s8(high, f);
            vst1q_u16(row + 16 * k, vreinterpretq_u16_s16(low));
            vst1q_u16(row + 16 * k + 8, vreinterpretq_u16_s16(high));
        }
    }
}

/* What step `bit` of one token adds to the counts at `at`. */
INLINE void count_step(esv_codes key, esv_codes value, uint8x16_t bit, const esv_counts *t,
                       size_t at, unsigned n, int bytes)
{
    uint64_t keys = esv_which(key, bit).bits;
    uint8x16_t fired[4];
    UNROLL for (unsigned k = 0; k < n; k++) {
        fired[k] = vtstq_u8(value.v[k], bit);
    }
    if (bytes) {
        count_bytes(keys, fired, n, (uint8_t *)t->counts + at, t->stride);
    } else {
        count_words(keys, fired, n, (uint16_t *)t->counts + at, t->stride);
    }
}

/* Columns `first` to `first + 16 * n` of the counts, `columns` of which the value has. */
INLINE void count_block(const esv_attention *a, const esv_head *head, const esv_counts *t,
                        uint32_t first, unsigned n, uint32_t columns, int bytes)
{
    size_t plane = a->query_dim * t->stride;
    for (uint32_t token = 0; token < a->tokens; token++) {
        esv_codes value = esv_load_codes(head->value + token * head->value_stride + first, columns);
        for (uint32_t i = 0; i < a->query_dim; i += BLOCK) {
            const uint8_t *keys = head->key + token * head->query_stride + i;
            esv_codes key = esv_load_codes(keys, a->query_dim - i);
            uint8x16_t bit = vdupq_n_u8(1);
            size_t at = i * t->stride + first;
            for (uint32_t s = 0; s < a->time_steps; s++, at += plane, bit = vshlq_n_u8(bit, 1)) {
                count_step(key, value, bit, t, at, n, bytes);
            }
        }
    }
}

INLINE void count_columns(const esv_attention *a, const esv_head *head, const esv_counts *t,
                          uint32_t first, uint32_t left, int bytes)
{
    switch ((left + 15) / 16) {
    case 1: count_block(a, head, t, first, 1, left, bytes); break;
    case 2: count_block(a, head, t, first, 2, left, bytes); break;
    case 3: count_block(a, head, t, first, 3, left, bytes); break;
    default: count_block(a, head, t, first, 4, left < BLOCK ? left : BLOCK, bytes);
    }
}

void esv_neon_count(const esv_attention *a, const esv_head *head, const esv_counts *t,
                    uint32_t first, uint32_t left)
{
    if (t->kind == ESV_WORDS) {
        count_columns(a, head, t, first, left, 0);
    } else {
        count_columns(a, head, t, first, left, 1);
    }
}

#else

typedef int esv_no_neon_count; /* a file must not be empty */

#endif
