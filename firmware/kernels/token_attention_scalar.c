#include "after.h"
#include "lif.h"

#include "bytes16.h"
#ifdef __aarch64__
#include <arm_neon.h>
#endif

#ifdef ESV_BYTES16
#define GROUPS 16               /* neurons beside each other, one a token and head */
#define PARALLEL 4              /* steps counted at the same time */
#define MOST_COUNTED (255 * 16) /* codes of a group that 16 bytes can count */

typedef uint32_t words4 __attribute__((vector_size(16)));

/* A number a group: which group is where only those know who count and pass. */
typedef struct {
    halves8 part[2];
} groups;

/* Whether all currents, and so all membranes, are less than 1 << 15. */
static ESV_INLINE int is_narrow(const esv_attention *a)
{
    return a->shift < 15 && a->query_dim < 1 << (15 - a->shift);
}

/* What narrow membranes reach when they reach the threshold. */
static ESV_INLINE halves8 narrow_threshold(const esv_attention *a)
{
    int32_t most = a->threshold < 1 << 15 ? a->threshold : 1 << 15;
    return (halves8){0} + (uint16_t)(most > 0 ? most : 0);
}

/* esv_lif32 of narrow membranes. */
static ESV_INLINE void fire_narrow(const groups *counts, uint8_t shift, halves8 threshold,
                                   uint32_t t, groups *membrane, groups *codes)
{
    for (uint32_t j = 0; j < 2; j++) {
        halves8 v = (membrane->part[j] + (counts->part[j] << shift)) >> 1;
        halves8 silent = (halves8)(v < threshold);
        membrane->part[j] = v & silent;
        codes->part[j] |= ~silent & (uint16_t)(1u << t);
    }
}

/* The spikes at each of four steps from `step` on. A group's two codes are a half; its four are a
 * word, whose halves take two groups: of one vector in the low ones, of the next in the high. */
static ESV_INLINE void count_few(const uint8_t *query, const uint32_t dim, uint32_t step,
                                 groups *counts)
{
    for (uint32_t j = 0; j < 2; j++, query += GROUPS / 2 * dim) {
        bytes16 codes = load16(query) >> (uint8_t)step;
        bytes16 next = dim == 4 ? load16(query + 16) >> (uint8_t)step : codes;
        for (uint32_t t = 0; t < PARALLEL; t++) {
            halves8 pairs = (halves8)(codes >> (uint8_t)t & 1);
            if (dim == 4) {
                words4 low = (words4)pairs, high = (words4)(next >> (uint8_t)t & 1);
                low = (low + (low >> 16)) & 0xFFFF;
                high = (high + (high << 16)) & 0xFFFF0000u;
                pairs = (halves8)(low | high);
            }
            counts[t].part[j] = (pairs + (pairs >> 8)) & 0xFF;
        }
    }
}

static ESV_INLINE void pass_16(const uint8_t *key, bytes16 codes, uint8_t *out)
{
    bytes16 passed = load16(key) & codes;
    memcpy(out, &passed, sizeof passed);
}

static ESV_INLINE void pass_few(const uint8_t *key, const uint32_t dim, const groups *codes,
                                uint8_t *out)
{
    for (uint32_t j = 0; j < 2; j++, key += GROUPS / 2 * dim, out += GROUPS / 2 * dim) {
        halves8 pairs = codes->part[j] | codes->part[j] << 8;
        if (dim == 4) {
            words4 low = (words4)pairs & 0xFFFF, high = (words4)pairs & 0xFFFF0000u;
            pass_16(key, (bytes16)(low | low << 16), out);
            pass_16(key + 16, (bytes16)(high | high >> 16), out + 16);
        } else {
            pass_16(key, (bytes16)pairs, out);
        }
    }
}

static ESV_INLINE void attend_few(const esv_attention *a, const uint8_t *query,
                                  const uint8_t *key, const uint32_t dim, uint8_t *out)
{
    const halves8 threshold = narrow_threshold(a);
    const uint32_t last = (uint32_t)a->tokens * a->heads - GROUPS;
    for (uint32_t group = 0;; group += GROUPS) {
        /* The last ones end with the map: some of them are worked out twice. */
        group = group < last ? group : last;
        groups membrane = {{{0}}}, codes = {{{0}}};
        for (uint32_t step = 0; step < a->time_steps; step += PARALLEL) {
            groups counts[PARALLEL];
            count_few(query + group * dim, dim, step, counts);
            for (uint32_t t = 0; t < PARALLEL && step + t < a->time_steps; t++) {
                fire_narrow(&counts[t], a->shift, threshold, step + t, &membrane, &codes);
            }
        }
        pass_few(key + group * dim, dim, &codes, out + group * dim);
        if (group == last) {
            return;
        }
    }
}

/* Adds 1 where a code has the bit, the one above and so on. */
static ESV_INLINE void count_codes(bytes16 codes, bytes16 bit, bytes16 *count)
{
    for (uint8_t t = 0; t < PARALLEL; t++) {
        count[t] -= (bytes16)((codes & bit << t) != 0); /* what is true is -1 */
    }
}

static ESV_INLINE uint16_t sum_bytes(bytes16 bytes)
{
#ifdef __aarch64__
    return vaddlvq_u8(bytes); /* what compilers do not make of a loop */
#else
    halves8 pairs = ((halves8)bytes & 0xFF) + ((halves8)bytes >> 8);
    uint64_t half[2];
    memcpy(half, &pairs, sizeof half);
    return (uint16_t)((half[0] + half[1]) * 0x0001000100010001u >> 48);
#endif
}

/* n bytes and zeros, where memory ends with them. */
static ESV_RARE bytes16 load_last(const uint8_t *from, uint32_t n)
{
    bytes16 all = {0};
    memcpy(&all, from, n);
    return all;
}

/* A group's spikes at each of four steps from `step` on: counts[t * GROUPS]. There are `readable`
 * bytes, dim of which are the group's. */
static ESV_INLINE void count_many(const uint8_t *query, const uint32_t dim, uint32_t readable,
                                  uint32_t step, uint16_t *counts)
{
    const bytes16 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const bytes16 bit = (bytes16){0} + (uint8_t)(1u << step);
    const uint32_t whole = dim & ~15u, rest = dim & 15;
    bytes16 count[PARALLEL] = {{0}};
    for (uint32_t at = 0; at < whole; at += 16) {
        count_codes(load16(query + at), bit, count);
    }
    if (rest) {
        bytes16 codes = readable - whole >= 16 ? load16(query + whole)
                                               : load_last(query + whole, rest);
        count_codes(codes & (bytes16)(place < (uint8_t)rest), bit, count);
    }
    for (uint32_t t = 0; t < PARALLEL; t++) {
        counts[t * GROUPS] = sum_bytes(count[t]);
    }
}

static ESV_INLINE void pass_8(const uint8_t *key, uint8_t code, uint8_t *out)
{
    uint64_t passed;
    memcpy(&passed, key, sizeof passed);
    passed &= code * (uint64_t)0x0101010101010101u;
    memcpy(out, &passed, sizeof passed);
}

/* The last of several vectors or words may overlap the one before. */
static ESV_INLINE void pass_many(const uint8_t *key, uint32_t dim, uint8_t code, uint8_t *out)
{
    if (dim >= 16) {
        const bytes16 codes = (bytes16){0} + code;
        const uint32_t last = dim - 16;
        for (uint32_t at = 0; at < last; at += 16) {
            pass_16(key + at, codes, out + at);
        }
        pass_16(key + last, codes, out + last);
    } else if (dim >= 8) {
        pass_8(key, code, out);
        pass_8(key + dim - 8, code, out + dim - 8);
    } else {
        for (uint32_t i = 0; i < dim; i++) {
            out[i] = key[i] & code;
        }
    }
}

/* esv_lif32 of all others. */
static ESV_APART void fire_wide(const esv_attention *a, const uint16_t *counts, uint32_t t,
                                int32_t *membrane, groups *codes)
{
    uint16_t code[GROUPS];
    memcpy(code, codes, sizeof code);
    for (uint32_t i = 0; i < GROUPS; i++) {
        uint32_t fired = esv_lif32(&membrane[i], (int32_t)((uint32_t)counts[i] << a->shift),
                                   a->threshold);
        code[i] = (uint16_t)(code[i] | fired << t);
    }
    memcpy(codes, code, sizeof code);
}

/* n groups of no more than MOST_COUNTED codes; there are `readable` bytes of query. */
static ESV_INLINE void attend_many(const esv_attention *a, const uint8_t *query,
                                   const uint8_t *key, const uint32_t dim, uint32_t n,
                                   uint32_t readable, uint8_t *out)
{
    const halves8 threshold = narrow_threshold(a);
    int32_t wide_membrane[GROUPS] = {0};
    groups membrane = {{{0}}}, codes = {{{0}}};
    for (uint32_t step = 0; step < a->time_steps; step += PARALLEL) {
        uint16_t counts[PARALLEL * GROUPS] = {0}; /* groups that are not there have none */
        for (uint32_t at = 0, group = 0; group < n; group++, at += dim) {
            count_many(query + at, dim, readable - at, step, &counts[group]);
        }
        for (uint32_t t = 0; t < PARALLEL && step + t < a->time_steps; t++) {
            if (is_narrow(a)) {
                groups count;
                memcpy(&count, counts + t * GROUPS, sizeof count);
                fire_narrow(&count, a->shift, threshold, step + t, &membrane, &codes);
            } else {
                fire_wide(a, counts + t * GROUPS, step + t, wide_membrane, &codes);
            }
        }
    }
    uint16_t code[GROUPS];
    memcpy(code, &codes, sizeof code);
    for (uint32_t group = 0; group < n; group++, key += dim, out += dim) {
        pass_many(key, dim, (uint8_t)code[group], out);
    }
}

static ESV_INLINE void attend(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                              const uint32_t dim, uint8_t *out)
{
    for (uint32_t left = (uint32_t)a->tokens * a->heads, n; left; left -= n) {
        n = left < GROUPS ? left : GROUPS;
        attend_many(a, query, key, dim, n, left * dim, out);
        query += n * dim;
        key += n * dim;
        out += n * dim;
    }
}
#endif

/* The steps at which one token of one head passes, as a code. */
static uint8_t token_code(const esv_attention *a, const uint8_t *query)
{
    int32_t membrane = 0;
    uint32_t code = 0;
    for (uint32_t t = 0; t < a->time_steps; t++) {
        int32_t spikes = 0;
        for (uint32_t i = 0; i < a->query_dim; i++) {
            spikes += query[i] >> t & 1;
        }
        code |= (uint32_t)esv_lif32(&membrane, spikes << a->shift, a->threshold) << t;
    }
    return (uint8_t)code;
}

void esv_token_attention(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                         uint8_t *out)
{
#ifdef ESV_BYTES16
    const uint32_t dim = a->query_dim;
    const int few = (uint32_t)a->tokens * a->heads >= GROUPS && is_narrow(a);
    if (few && dim == 2) {
        attend_few(a, query, key, 2, out);
        return;
    }
    if (few && dim == 4) {
        attend_few(a, query, key, 4, out);
        return;
    }
    switch (dim) { /* compilers may know the sizes of most models */
    case 8: attend(a, query, key, 8, out); return;
    case 16: attend(a, query, key, 16, out); return;
    case 32: attend(a, query, key, 32, out); return;
    default: break;
    }
    if (dim <= MOST_COUNTED) {
        attend(a, query, key, dim, out);
        return;
    }
#endif
    for (uint32_t group = 0; group < (uint32_t)a->tokens * a->heads; group++) {
        uint8_t code = token_code(a, query);
        for (uint32_t i = 0; i < a->query_dim; i++) {
            out[i] = key[i] & code;
        }
        query += a->query_dim;
        key += a->query_dim;
        out += a->query_dim;
    }
}
