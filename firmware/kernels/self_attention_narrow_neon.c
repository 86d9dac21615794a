/* Spiking self-attention on AArch64 with heads of up to 16 channels in key and query, as small or
 * pruned models have them: a token's codes are one or two words, of which a shift and a mask leave
 * a byte for every channel that fires. Sums are of 16 bits.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "self_attention_neon.h"

#define WORD 8 /* codes */
#define ONES UINT64_C(0x0101010101010101)

/* What a token has of a head: `count` codes, of which a word more is read where the tensor goes on,
 * and a mask for those that there are. */
typedef struct {
    const uint8_t *end;
    uint32_t count;
    uint8x16_t mask;
} part;

static part part_of(const uint8_t *end, uint32_t count)
{
    static const uint8_t first[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                      255, 255, 255, 255, 255, 255, 255, 255};
    part p = {end, count, vld1q_u8(first + 16 - (count < 16 ? count : 16))};
    return p;
}

INLINE uint8x16_t load_codes(const part *p, const uint8_t *from)
{
    if (from + 16 <= p->end) {
        return vandq_u8(vld1q_u8(from), p->mask);
    }
    uint8_t some[16] = {0};
    memcpy(some, from, p->count < 16 ? p->count : 16);
    return vld1q_u8(some);
}

/* The first channel in `bits`, which is cleared. */
INLINE size_t take(uint64_t *bits)
{
    size_t channel = (size_t)__builtin_ctzll(*bits) / 8;
    *bits &= *bits - 1;
    return channel;
}

/* counts += the value's spikes in the rows of the keys in `bits`. */
INLINE void count_word(uint64_t bits, const uint8x16_t *fired, unsigned n, uint8_t *counts,
                       size_t stride)
{
    while (bits) {
        uint8_t *row = counts + take(&bits) * stride;
        UNROLL for (unsigned k = 0; k < n; k++) {
            vst1q_u8(row + 16 * k, vsubq_u8(vld1q_u8(row + 16 * k), fired[k]));
        }
    }
}

INLINE void count_tokens(const esv_attention *a, const esv_head *head, const esv_counts *t,
                         const part *keys, const part *values, unsigned n, unsigned words)
{
    size_t plane = a->query_dim * t->stride;
    for (uint32_t token = 0; token < a->tokens; token++) {
        const uint8_t *value = head->value + token * head->value_stride;
        uint8x16_t all[4], bit = vdupq_n_u8(1);
        uint64x2_t key = vreinterpretq_u64_u8(
            load_codes(keys, head->key + token * head->query_stride));
        uint64_t low = vgetq_lane_u64(key, 0), high = vgetq_lane_u64(key, 1);
        uint8_t *counts = t->counts;
        UNROLL for (unsigned k = 0; k < n; k++) {
            all[k] = k + 1 < n ? vld1q_u8(value + 16 * k) : load_codes(values, value + 16 * k);
        }
        for (uint32_t s = 0; s < a->time_steps; s++, counts += plane, low >>= 1, high >>= 1) {
            uint8x16_t fired[4];
            UNROLL for (unsigned k = 0; k < n; k++) {
                fired[k] = vtstq_u8(all[k], bit);
            }
            count_word(low & ONES, fired, n, counts, t->stride);
            if (words > 1) {
                count_word(high & ONES, fired, n, counts + WORD * t->stride, t->stride);
            }
            bit = vshlq_n_u8(bit, 1);
        }
    }
}

INLINE void add_word(uint64_t bits, unsigned n, const uint8_t *counts, size_t stride,
                     uint16x8_t *sum)
{
    while (bits) {
        const uint8_t *row = counts + take(&bits) * stride;
        UNROLL for (unsigned k = 0; k < n; k++) {
            uint8x16_t some = vld1q_u8(row + 16 * k);
            sum[2 * k] = vaddw_u8(sum[2 * k], vget_low_u8(some));
            sum[2 * k + 1] = vaddw_high_u8(sum[2 * k + 1], some);
        }
    }
}

/* The codes of `columns` channels, at most 16. */
INLINE void store_codes(uint8x16_t code, uint32_t columns, uint8_t *out)
{
    if (columns >= 16) {
        vst1q_u8(out, code);
        return;
    }
    uint64_t word = vgetq_lane_u64(vreinterpretq_u64_u8(code), 0);
    if (columns & 8) {
        memcpy(out, &word, 8);
        out += 8;
        word = vgetq_lane_u64(vreinterpretq_u64_u8(code), 1);
    }
    if (columns & 4) {
        memcpy(out, &word, 4);
        out += 4;
        word >>= 32;
    }
    if (columns & 2) {
        memcpy(out, &word, 2);
        out += 2;
        word >>= 16;
    }
    if (columns & 1) {
        *out = (uint8_t)word;
    }
}

INLINE void attend_tokens(const esv_attention *a, const esv_head *head, const esv_counts *t,
                          const part *queries, uint32_t columns, unsigned n, unsigned words)
{
    esv_neuron neuron = esv_neuron_of(a, ESV_BYTES);
    size_t plane = a->query_dim * t->stride;
    for (uint32_t token = 0; token < a->tokens; token++) {
        uint64x2_t query = vreinterpretq_u64_u8(
            load_codes(queries, head->query + token * head->query_stride));
        uint64_t low = vgetq_lane_u64(query, 0), high = vgetq_lane_u64(query, 1);
        uint8_t *out = head->out + token * head->value_stride;
        const uint8_t *counts = t->counts;
        uint16x8_t membrane[8];
        uint8x16_t code[4];
        UNROLL for (unsigned k = 0; k < n; k++) {
            membrane[2 * k] = membrane[2 * k + 1] = vdupq_n_u16(0);
            code[k] = vdupq_n_u8(0);
        }
        for (uint32_t s = 0; s < a->time_steps; s++, counts += plane, low >>= 1, high >>= 1) {
            uint16x8_t sum[8];
            UNROLL for (unsigned k = 0; k < 2 * n; k++) {
                sum[k] = vdupq_n_u16(0);
            }
            add_word(low & ONES, n, counts, t->stride, sum);
            if (words > 1) {
                add_word(high & ONES, n, counts + WORD * t->stride, t->stride, sum);
            }
            esv_neuron_step(sum, n, &neuron, 0, membrane, code);
        }
        UNROLL for (unsigned k = 0; k < n; k++) {
            store_codes(vshlq_u8(code[k], neuron.last), columns - 16 * k, out + 16 * k);
        }
    }
}

/* Each number of registers has loops of its own. */
INLINE void run(const esv_attention *a, const esv_head *head, unsigned n, unsigned words)
{
    uint8_t counts[ESV_MAX_STEPS * 16 * 32];
    esv_counts t = {counts, 16 * n, ESV_BYTES, {0}};
    part keys = part_of(head->key_end, a->query_dim);
    part queries = part_of(head->query_end, a->query_dim);
    part values = part_of(head->value_end, a->value_dim - 16 * (n - 1));
    memset(counts, 0, a->time_steps * a->query_dim * t.stride);
    count_tokens(a, head, &t, &keys, &values, n, words);
    attend_tokens(a, head, &t, &queries, a->value_dim, n, words);
}

void esv_neon_narrow_head(const esv_attention *a, const esv_head *head)
{
    if (a->value_dim > 16) {
        run(a, head, 2, 2);
    } else if (a->query_dim > WORD) {
        run(a, head, 1, 2);
    } else {
        run(a, head, 1, 1);
    }
}

#else

typedef int esv_no_neon_narrow; /* a file must not be empty */

#endif
