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

/* As esv_self_attention, the same bytes. */
void esv_self_attention_neon(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                             const uint8_t *value, uint8_t *out, void *scratch,
                             const esv_crew *crew);

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
typedef struct {
    uint64_t bits;
    uint32_t count; /* of those set */
} bit_set;

INLINE bit_set which(codes c, uint8x16_t step)
{
    static const uint8_t bit[16] = {128, 64, 32, 16, 8, 4, 2, 1, 128, 64, 32, 16, 8, 4, 2, 1};
    uint8x16_t bits = vld1q_u8(bit), fired[4];
    UNROLL for (unsigned i = 0; i < 4; i++) {
        fired[i] = vandq_u8(vtstq_u8(c.v[i], step), bits);
    }
    uint8x16_t all = vpaddq_u8(vpaddq_u8(fired[0], fired[1]), vpaddq_u8(fired[2], fired[3]));
    all = vpaddq_u8(all, all);
    bit_set set = {__builtin_bswap64(vgetq_lane_u64(vreinterpretq_u64_u8(all), 0)),
                   vaddv_u8(vcnt_u8(vget_low_u8(all)))};
    return set;
}

#define TOP (UINT64_C(1) << 63)

/* ---- K^T V ---- */

/* counts (channels of the key, stride) += 1 in the columns where the value fired, in each row whose
 * bit is set. n: registers of 16 columns; fired: all bits set where it did. */
INLINE void count_bytes(uint64_t keys, const uint8x16_t *fired, unsigned n, uint8_t *counts,
                        size_t stride)
{
    __asm__("" : "+r"(counts)); /* or the compiler adds its parts at every row */
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

/* What the counts are: of 16 bits, bytes, or bytes so small that no shifted sum is cut. */
enum { WORDS, BYTES, SMALL_BYTES };

/* How the counts of a head lie: (T, query_dim, stride), bytes or 16-bit words. */
typedef struct {
    void *counts;
    size_t stride;
    int bytes;
    /* Of bytes: how many can be added as such, at each step; whether no shifted sum is cut. */
    uint32_t group[MAX_STEPS];
    int fit;
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
                uint64_t keys = which(key, step).bits;
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

/* some (16 * n) += the row of the first set bit, which is cleared. */
INLINE void add_one(uint64_t *queries, unsigned n, const uint8_t *counts, size_t stride,
                    uint8x16_t *some)
{
    unsigned i = (unsigned)__builtin_clzll(*queries);
    const uint8_t *row = counts + i * stride;
    *queries &= ~(TOP >> i);
    if (n == 4) {
        __asm__("ld1 {v0.16b-v3.16b}, [%[row]]\n\t"
                "add %[a].16b, %[a].16b, v0.16b\n\tadd %[b].16b, %[b].16b, v1.16b\n\t"
                "add %[c].16b, %[c].16b, v2.16b\n\tadd %[d].16b, %[d].16b, v3.16b\n\t"
                : [a] "+w"(some[0]), [b] "+w"(some[1]), [c] "+w"(some[2]), [d] "+w"(some[3])
                : [row] "r"(row), "m"(*(const uint8_t(*)[64])row)
                : "v0", "v1", "v2", "v3");
        return;
    }
    UNROLL for (unsigned k = 0; k < n; k++) {
        some[k] = vaddq_u8(some[k], vld1q_u8(row + 16 * k));
    }
}

/* some (16 * n) = the rows of the next set bits, as many as can be added as bytes. */
INLINE void add_group(bit_set *queries, unsigned n, const uint8_t *counts, size_t stride,
                      uint32_t group, uint8x16_t *some)
{
    UNROLL for (unsigned k = 0; k < n; k++) {
        some[k] = vdupq_n_u8(0);
    }
    if (queries->count <= group) {
        while (queries->bits) {
            add_one(&queries->bits, n, counts, stride, some);
        }
        queries->count = 0;
        return;
    }
    queries->count -= group;
    for (; group; group--) {
        add_one(&queries->bits, n, counts, stride, some);
    }
}

/* sum (16 * n) += the rows of bytes whose bit is set, times `times`. first: sum is 0 so far. */
INLINE void add_bytes(bit_set queries, unsigned n, const uint8_t *counts, size_t stride,
                      uint32_t group, uint8x16_t times, int first, uint16x8_t *sum)
{
    uint8x16_t some[4];
    if (first) {
        add_group(&queries, n, counts, stride, group, some);
        UNROLL for (unsigned k = 0; k < n; k++) {
            sum[2 * k] = vmull_u8(vget_low_u8(some[k]), vget_low_u8(times));
            sum[2 * k + 1] = vmull_high_u8(some[k], times);
        }
    }
    while (queries.count) {
        add_group(&queries, n, counts, stride, group, some);
        UNROLL for (unsigned k = 0; k < n; k++) {
            sum[2 * k] = vmlal_u8(sum[2 * k], vget_low_u8(some[k]), vget_low_u8(times));
            sum[2 * k + 1] = vmlal_high_u8(sum[2 * k + 1], some[k], times);
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
    uint8x16_t times; /* 2^shift, where no sum is cut; else 1 */
    int8x16_t last;   /* T - 8 */
} neuron;

/* One step of 16 * n neurons: the newest spike becomes bit 7 of a code. Sums and membranes are not
 * negative; where a shifted sum is cut to 65535, the neuron fires either way, as no threshold is
 * above 32767. */
INLINE void fire(const uint16x8_t *sum, unsigned n, const neuron *c, int shifted,
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

/* One token's sums of a step, by the query's codes from channel i on. */
INLINE void sum_codes(const table *t, codes query, uint8x16_t bit, uint32_t step, size_t at,
                      unsigned n, int kind, const neuron *c, int first, uint16x8_t *sum)
{
    bit_set queries = which(query, bit);
    if (kind == WORDS) {
        add_words(queries.bits, n, (const uint16_t *)t->counts + at, t->stride, sum);
    } else {
        add_bytes(queries, n, (const uint8_t *)t->counts + at, t->stride, t->group[step],
                  c->times, first, sum);
    }
}

/* The codes (16 * n) of one token, except that their last shift is still to do. */
INLINE void attend_token(const esv_attention *a, const uint8_t *query, const table *t,
                         uint32_t first, unsigned n, int kind, const neuron *c, uint8x16_t *code)
{
    codes head = load_codes(query, a->query_dim);
    uint8x16_t bit = vdupq_n_u8(1);
    uint16x8_t membrane[8], zero = vdupq_n_u16(0);
    size_t at = first;
    UNROLL for (unsigned k = 0; k < n; k++) {
        membrane[2 * k] = membrane[2 * k + 1] = zero;
        code[k] = vdupq_n_u8(0);
    }
    for (uint32_t s = 0; s < a->time_steps; s++, at += a->query_dim * t->stride) {
        uint16x8_t sum[8];
        UNROLL for (unsigned k = 0; k < 2 * n; k++) {
            sum[k] = zero;
        }
        sum_codes(t, head, bit, s, at, n, kind, c, 1, sum);
        for (uint32_t i = BLOCK; i < a->query_dim; i += BLOCK) {
            codes more = load_codes(query + i, a->query_dim - i);
            sum_codes(t, more, bit, s, at + i * t->stride, n, kind, c, 0, sum);
        }
        fire(sum, n, c, kind == SMALL_BYTES, membrane, code);
        bit = vshlq_n_u8(bit, 1);
    }
}

INLINE void attend_block(const esv_attention *a, const head_view *head, const table *t,
                         uint32_t first, unsigned n, uint32_t columns, int kind)
{
    int32_t threshold = a->threshold > 0 ? a->threshold : 0;
    neuron c = {vdupq_n_u16((uint16_t)threshold), vdupq_n_s16((int16_t)a->shift),
                vdupq_n_u8(kind == SMALL_BYTES ? (uint8_t)(1u << a->shift) : 1),
                vdupq_n_s8((int8_t)(a->time_steps - 8))};
    for (uint32_t token = 0; token < a->tokens; token++) {
        uint8x16_t code[4];
        attend_token(a, head->query + token * head->query_stride, t, first, n, kind, &c, code);
        store_codes(code, n, c.last, columns, head->out + token * head->value_stride + first);
    }
}

/* ---- Heads ---- */

/* Fill in t->group, at least 1, and t->fit. */
static void find_groups(const esv_attention *a, table *t)
{
    size_t plane = a->query_dim * t->stride;
    const uint8_t *at = t->counts;
    t->fit = a->shift < 8;
    for (uint32_t step = 0; step < a->time_steps; step++) {
        uint8x16_t most = vdupq_n_u8(1);
        for (size_t i = 0; i < plane; i += 16, at += 16) {
            most = vmaxq_u8(most, vld1q_u8(at));
        }
        uint32_t largest = vmaxvq_u8(most);
        t->group[step] = 255 / largest;
        t->fit &= ((uint64_t)largest * a->query_dim) << a->shift <= UINT16_MAX;
    }
}

#define BLOCKS(name, kind)                                                                         \
    static void name##_##kind(const esv_attention *a, const head_view *head, const table *t,       \
                               uint32_t first, uint32_t columns)                                   \
    {                                                                                              \
        if (columns > 48) {                                                                        \
            name(a, head, t, first, 4, columns < 64 ? columns : 64, kind);                         \
        } else if (columns > 32) {                                                                 \
            name(a, head, t, first, 3, columns, kind);                                             \
        } else if (columns > 16) {                                                                 \
            name(a, head, t, first, 2, columns, kind);                                             \
        } else {                                                                                   \
            name(a, head, t, first, 1, columns, kind);                                             \
        }                                                                                          \
    }
BLOCKS(count_block, WORDS)
BLOCKS(count_block, BYTES)
BLOCKS(attend_block, WORDS)
BLOCKS(attend_block, BYTES)
BLOCKS(attend_block, SMALL_BYTES)

typedef void block_function(const esv_attention *a, const head_view *head, const table *t,
                            uint32_t first, uint32_t columns);

static void run_head(const esv_attention *a, const head_view *head, table *t)
{
    block_function *count = t->bytes ? count_block_BYTES : count_block_WORDS;
    block_function *attend = attend_block_WORDS;
    memset(t->counts, 0, (size_t)(t->bytes ? 1 : 2) * a->time_steps * a->query_dim * t->stride);
    for (uint32_t first = 0; first < a->value_dim; first += BLOCK) {
        count(a, head, t, first, a->value_dim - first);
    }
    if (t->bytes) {
        find_groups(a, t);
        attend = t->fit ? attend_block_SMALL_BYTES : attend_block_BYTES;
    }
    for (uint32_t first = 0; first < a->value_dim; first += BLOCK) {
        attend(a, head, t, first, a->value_dim - first);
    }
}

/* Whether 16-bit words do, and the counts find room in scratch with whole registers in a row. */
static int is_for_neon(const esv_attention *a, const table *t)
{
    return !a->levels && a->threshold <= INT16_MAX && a->shift < 16 &&
           (uint32_t)a->tokens * a->query_dim <= UINT16_MAX &&
           (t->bytes ? t->stride <= 2u * a->value_dim : t->stride == a->value_dim);
}

typedef struct {
    const esv_attention *attention;
    const uint8_t *query, *key, *value;
    uint8_t *out;
    void *scratch; /* without a crew's work */
    const esv_crew *crew;
    table counts; /* but where they are */
} job;

static void attend_head(void *context, uint32_t h, uint32_t member)
{
    const job *j = context;
    const esv_attention *a = j->attention;
    head_view head = {
        j->query + h * a->query_dim, j->key + h * a->query_dim, j->value + h * a->value_dim,
        j->out + h * a->value_dim, (size_t)a->heads * a->query_dim,
        (size_t)a->heads * a->value_dim,
    };
    table t = j->counts;
    t.counts = j->scratch;
    if (j->crew) {
        t.counts = (uint8_t *)j->crew->work + (size_t)member * j->crew->work_bytes;
    }
    run_head(a, &head, &t);
}

void esv_self_attention_neon(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                             const uint8_t *value, uint8_t *out, void *scratch,
                             const esv_crew *crew)
{
    table t = {NULL, (a->value_dim + 15u) & ~15u, a->tokens <= MAX_BYTE_TOKENS, {0}, 0};
    if (!is_for_neon(a, &t)) {
        esv_self_attention(a, query, key, value, out, scratch, crew);
        return;
    }
    int roomy = crew && crew->work_bytes >= esv_self_attention_scratch(a);
    job j = {a, query, key, value, out, scratch, roomy ? crew : NULL, t};
    esv_share(j.crew, attend_head, &j, a->heads);
}

#else

typedef int esv_no_neon_attention; /* a file must not be empty */

#endif
