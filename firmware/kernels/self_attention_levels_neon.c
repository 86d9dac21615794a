/* Self-attention of levels on AArch64, in the order of self_attention_scalar.c, but as dense
 * products: few levels are 0, and 8 products of 16 bits take an instruction.
 *
 * 8 or 16 columns of the value are taken at a time; the last begin so early that they end with the
 * head, and give what is there already once more.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "self_attention_neon.h"

#define KEYS 8   /* at most, whose counts are in registers */
#define TOKENS 4 /* whose sums are; past the last it is taken again */

/* Levels of one step. */
typedef struct {
    const esv_attention *attention;
    esv_head at;
    uint16_t *counts; /* (query_dim, value_dim) */
} step;

/* The thresholds of sums of 16 bits that are not shifted, but those above all sums. */
typedef struct {
    uint16_t reached_at[UINT8_MAX];
    uint32_t count;
} limits;

/* 8 levels, of which `count` are asked for and others, as far as they are before `end`, may be. */
INLINE uint16x8_t load_levels(const uint8_t *from, uint32_t count, const uint8_t *end)
{
    if (end - from >= 8) {
        return vmovl_u8(vld1_u8(from));
    }
    uint8_t some[8] = {0};
    memcpy(some, from, count < 8 ? count : 8);
    return vmovl_u8(vld1_u8(some));
}

/* Where the columns after `first` of them begin; n: in registers of 8. */
INLINE uint32_t next_columns(uint32_t dim, uint32_t first, unsigned *n)
{
    *n = dim - first > 8 && dim >= 16 ? 2 : 1;
    return first + 8 * *n <= dim ? first : dim - 8 * *n;
}

/* ---- K^T V ---- */

#define ADD_KEY(k)                                                                                 \
    if (k < keys) {                                                                                \
        sum[k][0] = vmlaq_laneq_u16(sum[k][0], low, key, k);                                       \
        if (n > 1) {                                                                               \
            sum[k][1] = vmlaq_laneq_u16(sum[k][1], high, key, k);                                  \
        }                                                                                          \
    }

/* The counts of keys i onwards and 8 * n columns. */
INLINE void count_tile(const step *s, uint32_t i, unsigned keys, uint32_t column, unsigned n)
{
    const esv_attention *a = s->attention;
    const uint8_t *at_key = s->at.key + i, *at_value = s->at.value + column;
    uint16x8_t sum[KEYS][2];
    UNROLL for (unsigned k = 0; k < keys; k++) {
        sum[k][0] = sum[k][1] = vdupq_n_u16(0);
    }
    for (uint32_t token = 0; token < a->tokens; token++) {
        uint16x8_t key = load_levels(at_key, keys, s->at.key_end);
        uint16x8_t low = vmovl_u8(vld1_u8(at_value));
        uint16x8_t high = n > 1 ? vmovl_u8(vld1_u8(at_value + 8)) : low;
        ADD_KEY(0) ADD_KEY(1) ADD_KEY(2) ADD_KEY(3)
        ADD_KEY(4) ADD_KEY(5) ADD_KEY(6) ADD_KEY(7)
        at_key += s->at.query_stride, at_value += s->at.value_stride;
    }
    uint16_t *counts = s->counts + (size_t)i * a->value_dim + column;
    UNROLL for (unsigned k = 0; k < keys; k++, counts += a->value_dim) {
        UNROLL for (unsigned j = 0; j < n; j++) {
            vst1q_u16(counts + 8 * j, sum[k][j]);
        }
    }
}

#define KEY_COUNTS(keys)                                                                           \
    case keys:                                                                                     \
        if (n > 1) {                                                                               \
            count_tile(s, i, keys, column, 2);                                                     \
        } else {                                                                                   \
            count_tile(s, i, keys, column, 1);                                                     \
        }                                                                                          \
        break;

static void count_keys(const step *s, uint32_t i, uint32_t keys, uint32_t column, unsigned n)
{
    switch (keys) {
        KEY_COUNTS(1) KEY_COUNTS(2) KEY_COUNTS(3) KEY_COUNTS(4)
        KEY_COUNTS(5) KEY_COUNTS(6) KEY_COUNTS(7) KEY_COUNTS(8)
    }
}

/* Keys in parts of about the same size. */
static void count_all(const step *s)
{
    uint32_t dim = s->attention->query_dim, parts = (dim + KEYS - 1) / KEYS;
    unsigned n;
    for (uint32_t first = 0; first < s->attention->value_dim; first += 8 * n) {
        first = next_columns(s->attention->value_dim, first, &n);
        for (uint32_t part = 0; part < parts; part++) {
            uint32_t i = part * dim / parts;
            count_keys(s, i, (part + 1) * dim / parts - i, first, n);
        }
    }
}

/* ---- Q times the counts ---- */

#define ADD_ROW(k)                                                                                 \
    if (i + k < a->query_dim) {                                                                    \
        UNROLL for (unsigned j = 0; j < n; j++) {                                                  \
            uint16x8_t row = vld1q_u16(counts + 8 * j);                                            \
            UNROLL for (unsigned r = 0; r < TOKENS; r++) {                                         \
                MULTIPLY(k)                                                                        \
            }                                                                                      \
        }                                                                                          \
        counts += a->value_dim;                                                                    \
    }

#define ADD_ROWS                                                                                   \
    for (uint32_t i = 0; i < a->query_dim; i += 8) {                                               \
        uint16x8_t q[TOKENS];                                                                      \
        UNROLL for (unsigned r = 0; r < TOKENS; r++) {                                             \
            q[r] = load_levels(query[r] + i, a->query_dim - i, s->at.query_end);                   \
        }                                                                                          \
        ADD_ROW(0) ADD_ROW(1) ADD_ROW(2) ADD_ROW(3)                                                \
        ADD_ROW(4) ADD_ROW(5) ADD_ROW(6) ADD_ROW(7)                                                \
    }

INLINE void put_levels(uint8x16_t level, unsigned n, uint8_t *out)
{
    if (n > 1) {
        vst1q_u8(out, level);
    } else {
        vst1_u8(out, vget_low_u8(level));
    }
}

/* 8 * n columns of TOKENS tokens whose sums fit 16 bits. */
INLINE void attend_small(const step *s, const uint8_t *const *query, const uint16_t *counts,
                         unsigned n, const limits *l, uint8_t *const *out)
{
#define MULTIPLY(k) sum[r][j] = vmlaq_laneq_u16(sum[r][j], row, q[r], k);
    const esv_attention *a = s->attention;
    uint16x8_t sum[TOKENS][2];
    uint8x16_t level[TOKENS];
    UNROLL for (unsigned r = 0; r < TOKENS; r++) {
        sum[r][0] = sum[r][1] = vdupq_n_u16(0);
        level[r] = vdupq_n_u8(0);
    }
    ADD_ROWS
    for (uint32_t d = 0; d < l->count; d++) {
        uint16x8_t limit = vld1q_dup_u16(l->reached_at + d);
        UNROLL for (unsigned r = 0; r < TOKENS; r++) {
            uint8x16_t low = vreinterpretq_u8_u16(vcgeq_u16(sum[r][0], limit)), high = low;
            if (n > 1) {
                high = vreinterpretq_u8_u16(vcgeq_u16(sum[r][1], limit));
            }
            level[r] = vsubq_u8(level[r], vuzp1q_u8(low, high));
        }
    }
    UNROLL for (unsigned r = 0; r < TOKENS; r++) {
        put_levels(level[r], n, out[r]);
    }
#undef MULTIPLY
}

/* The columns (8) of a register of sums that reach the threshold. */
INLINE uint16x8_t reached(uint32x4_t low, uint32x4_t high, int32x4_t shift, int32x4_t threshold)
{
    low = vcgeq_s32(vreinterpretq_s32_u32(vshlq_u32(low, shift)), threshold);
    high = vcgeq_s32(vreinterpretq_s32_u32(vshlq_u32(high, shift)), threshold);
    return vuzp1q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
}

/* The same with sums of 32 bits. */
INLINE void attend_large(const step *s, const uint8_t *const *query, const uint16_t *counts,
                         unsigned n, uint8_t *const *out)
{
#define MULTIPLY(k)                                                                                \
    sum[r][2 * j] = vmlal_laneq_u16(sum[r][2 * j], vget_low_u16(row), q[r], k);                    \
    sum[r][2 * j + 1] = vmlal_high_laneq_u16(sum[r][2 * j + 1], row, q[r], k);
    const esv_attention *a = s->attention;
    int32x4_t shift = vdupq_n_s32(a->shift);
    uint32x4_t sum[TOKENS][4];
    UNROLL for (unsigned r = 0; r < TOKENS; r++) {
        sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = vdupq_n_u32(0);
    }
    ADD_ROWS
    UNROLL for (unsigned r = 0; r < TOKENS; r++) {
        uint8x16_t level = vdupq_n_u8(0);
        for (uint32_t d = 0; d < a->levels; d++) {
            int32x4_t threshold = vld1q_dup_s32(a->level_threshold + d);
            uint16x8_t low = reached(sum[r][0], sum[r][1], shift, threshold);
            uint16x8_t high = n > 1 ? reached(sum[r][2], sum[r][3], shift, threshold) : low;
            level = vsubq_u8(level, vuzp1q_u8(vreinterpretq_u8_u16(low),
                                              vreinterpretq_u8_u16(high)));
        }
        put_levels(level, n, out[r]);
    }
#undef MULTIPLY
}

/* l: of small sums, or NULL. */
INLINE void attend_columns(const step *s, uint32_t column, unsigned n, const limits *l)
{
    uint32_t last = s->attention->tokens - 1u;
    for (uint32_t token = 0; token <= last; token += TOKENS) {
        const uint8_t *query[TOKENS];
        uint8_t *out[TOKENS];
        UNROLL for (uint32_t r = 0; r < TOKENS; r++) {
            uint32_t t = token + r < last ? token + r : last;
            query[r] = s->at.query + t * s->at.query_stride;
            out[r] = s->at.out + t * s->at.value_stride + column;
        }
        if (l) {
            attend_small(s, query, s->counts + column, n, l, out);
        } else {
            attend_large(s, query, s->counts + column, n, out);
        }
    }
}

static void attend_all(const step *s, const limits *l)
{
    unsigned n;
    for (uint32_t first = 0; first < s->attention->value_dim; first += 8 * n) {
        first = next_columns(s->attention->value_dim, first, &n);
        if (l && n > 1) {
            attend_columns(s, first, 2, l);
        } else if (l) {
            attend_columns(s, first, 1, l);
        } else if (n > 1) {
            attend_columns(s, first, 2, NULL);
        } else {
            attend_columns(s, first, 1, NULL);
        }
    }
}

/* ---- A head ---- */

static uint32_t largest_count(const step *s)
{
    size_t count = (size_t)s->attention->query_dim * s->attention->value_dim; /* at least 8 */
    uint16x8_t most = vld1q_u16(s->counts + count - 8);
    for (size_t i = 0; i + 8 <= count; i += 8) {
        most = vmaxq_u16(most, vld1q_u16(s->counts + i));
    }
    return vmaxvq_u16(most);
}

static void find_limits(const esv_attention *a, limits *l)
{
    l->count = 0;
    for (uint32_t d = 0; d < a->levels; d++) {
        int64_t threshold = a->level_threshold[d] > 0 ? a->level_threshold[d] : 0;
        int64_t limit = (threshold + (INT64_C(1) << a->shift) - 1) >> a->shift;
        if (limit <= UINT16_MAX) {
            l->reached_at[l->count++] = (uint16_t)limit;
        }
    }
}

uint32_t esv_neon_largest_level(const uint8_t *levels, size_t count)
{
    uint8x16_t most = vdupq_n_u8(0);
    uint32_t largest = 0;
    for (; count >= 16; count -= 16, levels += 16) {
        most = vmaxq_u8(most, vld1q_u8(levels));
    }
    for (; count; count--, levels++) {
        largest = *levels > largest ? *levels : largest;
    }
    uint32_t of_whole = vmaxvq_u8(most);
    return of_whole > largest ? of_whole : largest;
}

void esv_neon_levels_head(const esv_attention *a, const esv_head *head, uint32_t largest_query,
                          uint16_t *counts)
{
    step s = {a, *head, counts};
    limits l;
    find_limits(a, &l);
    for (uint32_t t = 0; t < a->time_steps; t++) {
        count_all(&s);
        uint64_t largest = (uint64_t)largest_count(&s) * largest_query * a->query_dim;
        attend_all(&s, largest <= UINT16_MAX ? &l : NULL);
        s.at.query += a->tokens * head->query_stride, s.at.key += a->tokens * head->query_stride;
        s.at.value += a->tokens * head->value_stride, s.at.out += a->tokens * head->value_stride;
    }
}

#else

typedef int esv_no_neon_levels; /* a file must not be empty */

#endif
