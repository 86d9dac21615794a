/* Spiking self-attention on AArch64, in linear order: K^T V of each step first, then Q times it, as
 * self_attention_scalar.c has it. Only what fired is touched: a key's spike adds the value's spikes
 * to a row of counts, 64 at a time, and a query's spike adds a row of counts to the sums.
 *
 * With at most 255 tokens a count is a byte. A query's rows are then added as bytes too, as many as
 * the largest count of the step lets, before the sum is widened.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include <arm_neon.h>
#include <stddef.h>
#include <string.h>

#include "esv_kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define MAX_STEPS 8
#define BLOCK 64 /* channels at a time, of a key or query as of a value */
#define MAX_BYTE_TOKENS 255

void esv_self_attention_neon(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                             const uint8_t *value, uint8_t *out, void *scratch);

/* One head: pointers to token 0, a token is `stride` bytes further. */
typedef struct {
    const uint8_t *query, *key, *value;
    uint8_t *out;
    size_t query_stride, value_stride;
} head_view;

/* Up to 64 codes; those past the end are 0. */
typedef struct {
    uint8x16_t v[4];
} codes;

INLINE codes load_codes(const uint8_t *from, unsigned count)
{
    codes c;
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
INLINE uint64_t which(codes c, uint8x16_t step)
{
    static const uint8_t bit[16] = {128, 64, 32, 16, 8, 4, 2, 1, 128, 64, 32, 16, 8, 4, 2, 1};
    uint8x16_t bits = vld1q_u8(bit), fired[4];
    UNROLL for (unsigned i = 0; i < 4; i++) {
        fired[i] = vandq_u8(vtstq_u8(c.v[i], step), bits);
    }
    uint8x16_t all = vpaddq_u8(vpaddq_u8(fired[0], fired[1]), vpaddq_u8(fired[2], fired[3]));
    all = vpaddq_u8(all, all);
    return __builtin_bswap64(vgetq_lane_u64(vreinterpretq_u64_u8(all), 0));
}

#define TOP (UINT64_C(1) << 63)

/* ---- K^T V ---- */

/* counts (channels of the key, stride) += 1 in the columns where the value fired, in each row whose
 * bit is set. n: registers of 16 columns; fired: all bits set where it did. */
INLINE void count_bytes(uint64_t keys, const uint8x16_t *fired, unsigned n, uint8_t *counts,
                        size_t stride)
{
    while (keys) {
        unsigned i = (unsigned)__builtin_clzll(keys);
        uint8_t *row = counts + i * stride;
        keys &= ~(TOP >> i);
        if (n == 4) {
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

INLINE void count_words(uint64_t keys, const uint8x16_t *fired, unsigned n, uint16_t *counts,
                        size_t stride)
{
    while (keys) {
        unsigned i = (unsigned)__builtin_clzll(keys);
        uint16_t *row = counts + i * stride;
        keys &= ~(TOP >> i);
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

/* How the counts of a head lie: (T, query_dim, stride), bytes or 16-bit words. */
typedef struct {
    void *counts;
    size_t stride;
    int bytes;
    uint8_t largest[MAX_STEPS]; /* of bytes, at each step */
} table;

/* Columns `first` to `first + 16 * n` of the counts, `columns` of which the value has. */
INLINE void count_block(const esv_attention *a, const head_view *head, const table *t,
                        uint32_t first, unsigned n, uint32_t columns, int bytes)
{
    size_t plane = a->query_dim * t->stride;
    for (uint32_t token = 0; token < a->tokens; token++) {
        codes value = load_codes(head->value + token * head->value_stride + first, columns);
        for (uint32_t i = 0; i < a->query_dim; i += BLOCK) {
            codes key = load_codes(head->key + token * head->query_stride + i, a->query_dim - i);
            uint8x16_t step = vdupq_n_u8(1);
            size_t at = i * t->stride + first;
            for (uint32_t s = 0; s < a->time_steps; s++, at += plane, step = vshlq_n_u8(step, 1)) {
                uint64_t keys = which(key, step);
                uint8x16_t fired[4];
                UNROLL for (unsigned k = 0; k < n; k++) {
                    fired[k] = vtstq_u8(value.v[k], step);
                }
                if (bytes) {
                    count_bytes(keys, fired, n, (uint8_t *)t->counts + at, t->stride);
                } else {
                    count_words(keys, fired, n, (uint16_t *)t->counts + at, t->stride);
                }
            }
        }
    }
}

/* ---- Q (K^T V) and the neurons ---- */

/* sum (16 * n) += the rows of bytes whose bit is set, `group` of them at a time as bytes. */
INLINE void add_bytes(uint64_t queries, unsigned n, const uint8_t *counts, size_t stride,
                      uint32_t group, uint16x8_t *sum)
{
    while (queries) {
        uint8x16_t some[4];
        UNROLL for (unsigned k = 0; k < n; k++) {
            some[k] = vdupq_n_u8(0);
        }
        for (uint32_t left = group; left && queries; left--) {
            unsigned i = (unsigned)__builtin_clzll(queries);
            const uint8_t *row = counts + i * stride;
            queries &= ~(TOP >> i);
            if (n == 4) {
                __asm__("ld1 {v0.16b-v3.16b}, [%[row]]\n\t"
                        "add %[a].16b, %[a].16b, v0.16b\n\tadd %[b].16b, %[b].16b, v1.16b\n\t"
                        "add %[c].16b, %[c].16b, v2.16b\n\tadd %[d].16b, %[d].16b, v3.16b\n\t"
                        : [a] "+w"(some[0]), [b] "+w"(some[1]), [c] "+w"(some[2]),
                          [d] "+w"(some[3])
                        : [row] "r"(row), "m"(*(const uint8_t(*)[64])row)
                        : "v0", "v1", "v2", "v3");
                continue;
            }
            UNROLL for (unsigned k = 0; k < n; k++) {
                some[k] = vaddq_u8(some[k], vld1q_u8(row + 16 * k));
            }
        }
        UNROLL for (unsigned k = 0; k < n; k++) {
            sum[2 * k] = vaddw_u8(sum[2 * k], vget_low_u8(some[k]));
            sum[2 * k + 1] = vaddw_high_u8(sum[2 * k + 1], some[k]);
        }
    }
}

INLINE void add_words(uint64_t queries, unsigned n, const uint16_t *counts, size_t stride,
                      uint16x8_t *sum)
{
    while (queries) {
        unsigned i = (unsigned)__builtin_clzll(queries);
        const uint16_t *row = counts + i * stride;
        queries &= ~(TOP >> i);
        UNROLL for (unsigned k = 0; k < 2 * n; k++) {
            sum[k] = vaddq_u16(sum[k], vld1q_u16(row + 8 * k));
        }
    }
}

typedef struct {
    uint16x8_t threshold;
    int16x8_t shift;
    int8x16_t last; /* T - 8 */
} neuron;

/* One step of 16 * n neurons: the newest spike becomes bit 7 of a code. Sums and membranes are not
 * negative; where a shifted sum is cut to 65535, the neuron fires either way, as no threshold is
 * above 32767. */
INLINE void fire(const uint16x8_t *sum, unsigned n, const neuron *c, uint16x8_t *membrane,
                 uint8x16_t *code)
{
    UNROLL for (unsigned k = 0; k < n; k++) {
        uint16x8_t low = vhaddq_u16(membrane[2 * k], vqshlq_u16(sum[2 * k], c->shift));
        uint16x8_t high = vhaddq_u16(membrane[2 * k + 1], vqshlq_u16(sum[2 * k + 1], c->shift));
        uint16x8_t fired_low = vcgeq_u16(low, c->threshold);
        uint16x8_t fired_high = vcgeq_u16(high, c->threshold);
        membrane[2 * k] = vbicq_u16(low, fired_low);
        membrane[2 * k + 1] = vbicq_u16(high, fired_high);
        uint8x16_t fired = vuzp1q_u8(vreinterpretq_u8_u16(fired_low),
                                     vreinterpretq_u8_u16(fired_high));
        code[k] = vsriq_n_u8(fired, code[k], 1);
    }
}

INLINE void store_codes(const uint8x16_t *code, unsigned n, int8x16_t shift, uint32_t columns,
                        uint8_t *out)
{
    uint8_t some[BLOCK];
    uint8_t *to = columns == 16 * n ? out : some;
    UNROLL for (unsigned k = 0; k < n; k++) {
        vst1q_u8(to + 16 * k, vshlq_u8(code[k], shift));
    }
    if (to == some) {
        memcpy(out, some, columns);
    }
}

/* One token's sums of a step. */
INLINE void sum_step(const esv_attention *a, const uint8_t *query, const table *t, uint32_t step,
                     uint32_t first, unsigned n, int bytes, uint16x8_t *sum)
{
    UNROLL for (unsigned k = 0; k < 2 * n; k++) {
        sum[k] = vdupq_n_u16(0);
    }
    for (uint32_t i = 0; i < a->query_dim; i += BLOCK) {
        codes c = load_codes(query + i, a->query_dim - i);
        uint64_t queries = which(c, vdupq_n_u8((uint8_t)(1u << step)));
        size_t at = ((size_t)step * a->query_dim + i) * t->stride + first;
        if (bytes) {
            add_bytes(queries, n, (const uint8_t *)t->counts + at, t->stride, t->largest[step],
                      sum);
        } else {
            add_words(queries, n, (const uint16_t *)t->counts + at, t->stride, sum);
        }
    }
}

INLINE void attend_block(const esv_attention *a, const head_view *head, const table *t,
                         uint32_t first, unsigned n, uint32_t columns, int bytes)
{
    int32_t threshold = a->threshold > 0 ? a->threshold : 0;
    neuron c = {vdupq_n_u16((uint16_t)threshold), vdupq_n_s16((int16_t)a->shift),
                vdupq_n_s8((int8_t)(a->time_steps - 8))};
    for (uint32_t token = 0; token < a->tokens; token++) {
        uint16x8_t membrane[8], sum[8];
        uint8x16_t code[4];
        UNROLL for (unsigned k = 0; k < n; k++) {
            membrane[2 * k] = membrane[2 * k + 1] = vdupq_n_u16(0);
            code[k] = vdupq_n_u8(0);
        }
        for (uint32_t step = 0; step < a->time_steps; step++) {
            sum_step(a, head->query + token * head->query_stride, t, step, first, n, bytes, sum);
            fire(sum, n, &c, membrane, code);
        }
        store_codes(code, n, c.last, columns, head->out + token * head->value_stride + first);
    }
}

/* ---- Heads ---- */

/* t->largest: how many rows of a step can be added as bytes, at least 1. */
static void find_groups(const esv_attention *a, table *t)
{
    size_t plane = a->query_dim * t->stride;
    const uint8_t *at = t->counts;
    for (uint32_t step = 0; step < a->time_steps; step++) {
        uint8x16_t most = vdupq_n_u8(1);
        for (size_t i = 0; i < plane; i += 16, at += 16) {
            most = vmaxq_u8(most, vld1q_u8(at));
        }
        t->largest[step] = (uint8_t)(255 / vmaxvq_u8(most));
    }
}

#define BLOCKS(name, bytes)                                                                        \
    static void name##_##bytes(const esv_attention *a, const head_view *head, const table *t,      \
                               uint32_t first, uint32_t columns)                                   \
    {                                                                                              \
        if (columns >= 64) {                                                                       \
            name(a, head, t, first, 4, 64, bytes);                                                 \
        } else if (columns > 32) {                                                                 \
            name(a, head, t, first, 3, columns, bytes);                                            \
        } else if (columns > 16) {                                                                 \
            name(a, head, t, first, 2, columns, bytes);                                            \
        } else {                                                                                   \
            name(a, head, t, first, 1, columns, bytes);                                            \
        }                                                                                          \
    }
BLOCKS(count_block, 0)
BLOCKS(count_block, 1)
BLOCKS(attend_block, 0)
BLOCKS(attend_block, 1)

static void run_head(const esv_attention *a, const head_view *head, table *t)
{
    memset(t->counts, 0, (size_t)(t->bytes ? 1 : 2) * a->time_steps * a->query_dim * t->stride);
    for (uint32_t first = 0; first < a->value_dim; first += BLOCK) {
        (t->bytes ? count_block_1 : count_block_0)(a, head, t, first, a->value_dim - first);
    }
    if (t->bytes) {
        find_groups(a, t);
    }
    for (uint32_t first = 0; first < a->value_dim; first += BLOCK) {
        (t->bytes ? attend_block_1 : attend_block_0)(a, head, t, first, a->value_dim - first);
    }
}

/* Whether 16-bit words do, and the counts find room in scratch with whole registers in a row. */
static int is_for_neon(const esv_attention *a, const table *t)
{
    return !a->levels && a->threshold <= INT16_MAX && a->shift < 16 &&
           (uint32_t)a->tokens * a->query_dim <= UINT16_MAX &&
           (t->bytes ? t->stride <= 2u * a->value_dim : t->stride == a->value_dim);
}

void esv_self_attention_neon(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                             const uint8_t *value, uint8_t *out, void *scratch)
{
    table t = {scratch, (a->value_dim + 15u) & ~15u, a->tokens <= MAX_BYTE_TOKENS, {0}};
    if (!is_for_neon(a, &t)) {
        esv_self_attention(a, query, key, value, out, scratch);
        return;
    }
    for (uint32_t h = 0; h < a->heads; h++) {
        head_view head = {
            query + h * a->query_dim, key + h * a->query_dim, value + h * a->value_dim,
            out + h * a->value_dim, (size_t)a->heads * a->query_dim,
            (size_t)a->heads * a->value_dim,
        };
        run_head(a, &head, &t);
    }
}

#else

typedef int esv_no_neon_attention; /* a file must not be empty */

#endif
