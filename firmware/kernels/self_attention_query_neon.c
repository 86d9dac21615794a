/* Spiking self-attention on AArch64, Q (K^T V): the queries' rows of counts, and the neurons.
 *
 * Rows of bytes are added as bytes too, as many as the largest count of the step lets, before the
 * sum is widened.
 */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "self_attention_neon.h"

/* some (16 * n) += the row of the first set bit, which is cleared. */
INLINE void add_one(uint64_t *queries, unsigned n, const uint8_t *counts, size_t stride,
                    uint8x16_t *some)
{
    const uint8_t *row = counts + esv_take(queries) * stride;
    if (n == 4) { /* in assembly: compilers split the load */
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
INLINE void add_group(esv_fired *queries, unsigned n, const uint8_t *counts, size_t stride,
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
INLINE void add_bytes(esv_fired queries, unsigned n, const uint8_t *counts, size_t stride,
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
        const uint16_t *row = counts + esv_take(&queries) * stride;
        UNROLL for (unsigned k = 0; k < 2 * n; k++) {
            sum[k] = vaddq_u16(sum[k], vld1q_u16(row + 8 * k));
        }
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
INLINE void sum_codes(const esv_counts *t, esv_codes query, uint8x16_t bit, uint32_t step,
                      size_t at, unsigned n, esv_count_kind kind, const esv_neuron *c, int first,
                      uint16x8_t *sum)
{
    esv_fired queries = esv_which(query, bit);
    if (kind == ESV_WORDS) {
        add_words(queries.bits, n, (const uint16_t *)t->counts + at, t->stride, sum);
    } else {
        add_bytes(queries, n, (const uint8_t *)t->counts + at, t->stride, t->group[step],
                  c->times, first, sum);
    }
}

INLINE void clear(uint16x8_t *sum, unsigned n)
{
    UNROLL for (unsigned k = 0; k < 2 * n; k++) {
        sum[k] = vdupq_n_u16(0);
    }
}

/* The codes (16 * n) of one token, except that their last shift is still to do. */
INLINE void attend_token(const esv_attention *a, const uint8_t *query, const esv_counts *t,
                         uint32_t first, unsigned n, esv_count_kind kind, const esv_neuron *c,
                         uint8x16_t *code)
{
    esv_codes head = esv_load_codes(query, a->query_dim);
    uint8x16_t bit = vdupq_n_u8(1);
    uint16x8_t membrane[8], sum[8];
    size_t at = first;
    clear(membrane, n);
    UNROLL for (unsigned k = 0; k < n; k++) {
        code[k] = vdupq_n_u8(0);
    }
    for (uint32_t s = 0; s < a->time_steps; s++, at += a->query_dim * t->stride) {
        clear(sum, n);
        sum_codes(t, head, bit, s, at, n, kind, c, 1, sum);
        for (uint32_t i = BLOCK; i < a->query_dim; i += BLOCK) {
            esv_codes more = esv_load_codes(query + i, a->query_dim - i);
            sum_codes(t, more, bit, s, at + i * t->stride, n, kind, c, 0, sum);
        }
        esv_neuron_step(sum, n, c, kind == ESV_SMALL_BYTES, membrane, code);
        bit = vshlq_n_u8(bit, 1);
    }
}

INLINE void attend_block(const esv_attention *a, const esv_head *head, const esv_counts *t,
                         uint32_t first, unsigned n, uint32_t columns, esv_count_kind kind)
{
    esv_neuron c = esv_neuron_of(a, kind);
    for (uint32_t token = 0; token < a->tokens; token++) {
        uint8x16_t code[4];
        attend_token(a, head->query + token * head->query_stride, t, first, n, kind, &c, code);
        store_codes(code, n, c.last, columns, head->out + token * head->value_stride + first);
    }
}

/* ---- 64 columns of small bytes ---- */

#define LOAD_FIRST "ld1 {v0.16b-v3.16b}, [%[p]]\n\t"
#define ADD_ROW(q)                                                                                 \
    "ld1 {v4.16b-v7.16b}, [%[" #q "]]\n\t"                                                         \
    "add v0.16b, v0.16b, v4.16b\n\tadd v1.16b, v1.16b, v5.16b\n\t"                                 \
    "add v2.16b, v2.16b, v6.16b\n\tadd v3.16b, v3.16b, v7.16b\n\t"
#define WIDEN                                                                                      \
    "umlal %[a].8h, v0.8b, %[t].8b\n\tumlal2 %[b].8h, v0.16b, %[t].16b\n\t"                        \
    "umlal %[c].8h, v1.8b, %[t].8b\n\tumlal2 %[d].8h, v1.16b, %[t].16b\n\t"                        \
    "umlal %[e].8h, v2.8b, %[t].8b\n\tumlal2 %[f].8h, v2.16b, %[t].16b\n\t"                        \
    "umlal %[g].8h, v3.8b, %[t].8b\n\tumlal2 %[h].8h, v3.16b, %[t].16b"
#define ROW(i) "m"(*(const uint8_t(*)[64])row[i])
#define ADD_ROWS(instructions, ...)                                                                \
    __asm__(instructions WIDEN                                                                     \
            : [a] "+w"(sum[0]), [b] "+w"(sum[1]), [c] "+w"(sum[2]), [d] "+w"(sum[3]),              \
              [e] "+w"(sum[4]), [f] "+w"(sum[5]), [g] "+w"(sum[6]), [h] "+w"(sum[7])               \
            : [t] "w"(times), __VA_ARGS__                                                          \
            : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7")

/* sum (64) += the rows of the next `count` set bits as bytes, 1, 2 or 4, times `times`. */
INLINE void add_some(uint64_t *queries, unsigned count, const uint8_t *counts, size_t stride,
                     uint8x16_t times, uint16x8_t *sum)
{
    const uint8_t *row[4];
    UNROLL for (unsigned i = 0; i < count; i++) {
        row[i] = counts + esv_take(queries) * stride;
    }
    if (count == 4) {
        ADD_ROWS(LOAD_FIRST ADD_ROW(q) ADD_ROW(r) ADD_ROW(s), [p] "r"(row[0]), [q] "r"(row[1]),
                 [r] "r"(row[2]), [s] "r"(row[3]), ROW(0), ROW(1), ROW(2), ROW(3));
    } else if (count == 2) {
        ADD_ROWS(LOAD_FIRST ADD_ROW(q), [p] "r"(row[0]), [q] "r"(row[1]), ROW(0), ROW(1));
    } else {
        ADD_ROWS(LOAD_FIRST, [p] "r"(row[0]), ROW(0));
    }
}

/* v (64) += what a step's queries add, at most `group` rows as bytes. */
INLINE void add_all(esv_fired queries, const uint8_t *counts, size_t stride, uint32_t group,
                    uint8x16_t times, uint16x8_t *v)
{
    for (; group >= 4 && queries.count >= 4; queries.count -= 4) {
        add_some(&queries.bits, 4, counts, stride, times, v);
    }
    for (; group >= 2 && queries.count >= 2; queries.count -= 2) {
        add_some(&queries.bits, 2, counts, stride, times, v);
    }
    for (; queries.count; queries.count--) {
        add_some(&queries.bits, 1, counts, stride, times, v);
    }
}

/* One step of 64 neurons, whose membranes have their currents added: see `esv_neuron_step`. */
INLINE void fire_added(uint16x8_t threshold, uint16x8_t *v, uint8x16_t *code)
{
    UNROLL for (unsigned k = 0; k < 4; k++) {
        uint16x8_t low = vshrq_n_u16(v[2 * k], 1), high = vshrq_n_u16(v[2 * k + 1], 1);
        uint16x8_t fired_low = vcgeq_u16(low, threshold), fired_high = vcgeq_u16(high, threshold);
        v[2 * k] = vbicq_u16(low, fired_low);
        v[2 * k + 1] = vbicq_u16(high, fired_high);
        code[k] = vsriq_n_u8(vuzp1q_u8(vreinterpretq_u8_u16(fired_low),
                                       vreinterpretq_u8_u16(fired_high)), code[k], 1);
    }
}

/* `attend_block` of 64 columns and channels: the sums grow on the membranes, and nothing leaves the
 * registers. */
static __attribute__((noinline)) void attend_64(const esv_attention *a, const esv_head *head,
                                                const esv_counts *t, uint32_t first)
{
    uint16x8_t threshold = vdupq_n_u16((uint16_t)(a->threshold > 0 ? a->threshold : 0));
    uint8x16_t times = vdupq_n_u8((uint8_t)(1u << a->shift));
    for (uint32_t token = 0; token < a->tokens; token++) {
        esv_codes query = esv_load_codes(head->query + token * head->query_stride, BLOCK);
        const uint8_t *counts = (const uint8_t *)t->counts + first;
        uint8x16_t code[4], bit = vdupq_n_u8(1);
        uint16x8_t v[8];
        clear(v, 4);
        code[0] = code[1] = code[2] = code[3] = vdupq_n_u8(0);
        for (uint32_t s = 0; s < a->time_steps; s++, counts += BLOCK * t->stride) {
            add_all(esv_which(query, bit), counts, t->stride, t->group[s], times, v);
            fire_added(threshold, v, code);
            bit = vshlq_n_u8(bit, 1);
        }
        store_codes(code, 4, vdupq_n_s8((int8_t)(a->time_steps - 8)), BLOCK,
                    head->out + token * head->value_stride + first);
    }
}

INLINE void attend_columns(const esv_attention *a, const esv_head *head, const esv_counts *t,
                           uint32_t first, uint32_t left, esv_count_kind kind)
{
    switch ((left + 15) / 16) {
    case 1: attend_block(a, head, t, first, 1, left, kind); break;
    case 2: attend_block(a, head, t, first, 2, left, kind); break;
    case 3: attend_block(a, head, t, first, 3, left, kind); break;
    default: attend_block(a, head, t, first, 4, left < BLOCK ? left : BLOCK, kind);
    }
}

/* Kept apart: in one function the kinds would fight for registers. */
#define APART static __attribute__((noinline))

APART void attend_words(const esv_attention *a, const esv_head *head, const esv_counts *t,
                        uint32_t first, uint32_t left)
{
    attend_columns(a, head, t, first, left, ESV_WORDS);
}

APART void attend_bytes(const esv_attention *a, const esv_head *head, const esv_counts *t,
                        uint32_t first, uint32_t left)
{
    attend_columns(a, head, t, first, left, ESV_BYTES);
}

APART void attend_small_bytes(const esv_attention *a, const esv_head *head, const esv_counts *t,
                              uint32_t first, uint32_t left)
{
    if (left >= BLOCK && a->query_dim == BLOCK) {
        attend_64(a, head, t, first);
    } else {
        attend_columns(a, head, t, first, left, ESV_SMALL_BYTES);
    }
}

void esv_neon_attend(const esv_attention *a, const esv_head *head, const esv_counts *t,
                     uint32_t first, uint32_t left)
{
    switch (t->kind) {
    case ESV_WORDS: attend_words(a, head, t, first, left); break;
    case ESV_BYTES: attend_bytes(a, head, t, first, left); break;
    default: attend_small_bytes(a, head, t, first, left);
    }
}

#else

typedef int esv_no_neon_attend; /* a file must not be empty */

#endif
