/* The spiking convolution with AVX2: up to 128 channels at a time.
 *
 * The sums of a list are in registers (see spike_conv_x86.h for the sums), those of four steps are
 * not: a list of several steps is added to theirs in memory. The sum of all steps is where each of
 * them starts from, with {0, 2} and {1, 3} in between, and the lists of a single step go into its
 * sum on the way to the neuron.
 */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include "spike_conv_x86.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET

#define UNIT 32u /* channels of a register */
#define MAX_UNITS 4u
#define UNROLL _Pragma("GCC unroll 8")

/* What the compiler makes copies of the kernels for. */
typedef struct {
    uint32_t units; /* 1 to 4 */
    uint32_t pairs; /* two rows can be added before their halves are kept apart */
    uint32_t half;  /* the last unit has 16 channels */
} shape;

typedef struct {
    __m256i pair[MAX_UNITS], odd[MAX_UNITS];
} sums;

/* Channels as they are computed with: 16 even and 16 odd ones. */
typedef struct {
    __m256i even, odd;
} split;

INLINE __m256i words(uint32_t value)
{
    return _mm256_set1_epi16((int16_t)value);
}

INLINE __m256i add(__m256i a, __m256i b)
{
    return _mm256_add_epi16(a, b);
}

/* Whether a unit has more than 16 channels. */
INLINE int both_halves(const esv_tile *tile, uint32_t u)
{
    return tile->width - u * UNIT > 16;
}

INLINE void clear(shape s, sums *sum)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        sum->pair[u] = sum->odd[u] = _mm256_setzero_si256();
    }
}

/* Not an assignment of all: that would go through memory. */
INLINE void copy(shape s, sums *to, const sums *from)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        to->pair[u] = from->pair[u];
        to->odd[u] = from->odd[u];
    }
}

INLINE void add_sums(shape s, sums *to, const sums *from)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        to->pair[u] = add(to->pair[u], from->pair[u]);
        to->odd[u] = add(to->odd[u], from->odd[u]);
    }
}

INLINE __m256i row_at(shape s, const esv_tile *tile, uint32_t number, uint32_t u)
{
    const uint8_t *at = (const uint8_t *)tile->rows + (size_t)number * tile->row_bytes + u * UNIT;
    __m256i row;
    if (s.half && u + 1 == s.units) {
        row = _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));
    } else {
        row = _mm256_loadu_si256((const __m256i *)(const void *)at);
    }
    __asm__("" : "+x"(row)); /* or the compiler loads it for each use */
    return row;
}

INLINE void add_word(sums *sum, uint32_t u, __m256i word)
{
    sum->pair[u] = add(sum->pair[u], word);
    sum->odd[u] = add(sum->odd[u], _mm256_srli_epi16(word, 8));
}

INLINE void add_row(shape s, const esv_tile *tile, uint32_t number, sums *sum)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        add_word(sum, u, row_at(s, tile, number, u));
    }
}

INLINE void add_rows(shape s, const esv_tile *tile, const uint16_t *row, uint32_t count, sums *to)
{
    sums sum;
    copy(s, &sum, to);
    const uint16_t *end = row + count;
    if (s.pairs) {
        for (; row + 1 < end; row += 2) {
            UNROLL for (uint32_t u = 0; u < s.units; u++) {
                add_word(&sum, u, add(row_at(s, tile, row[0], u), row_at(s, tile, row[1], u)));
            }
        }
    }
    _Pragma("GCC unroll 1") for (; row < end; row++) {
        add_row(s, tile, *row, &sum);
    }
    copy(s, to, &sum);
}

/* Add list p to the sum and its length to *count. */
INLINE void add_list(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t p, sums *sum,
                     uint32_t *count)
{
    *count += lists->count[p];
    add_rows(s, tile, lists->row + lists->first[p], lists->count[p], sum);
}

/* Add list p to the sums of all of its steps. */
INLINE void add_shared(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t p,
                       sums *sum, uint32_t *count)
{
    sums list;
    uint32_t n = 0;
    clear(s, &list);
    add_list(s, tile, lists, p, &list, &n);
    for (uint32_t t = 0; t < 4; t++) {
        if (p >> t & 1) {
            add_sums(s, &sum[t], &list);
            count[t] += n;
        }
    }
}

/* 32 words in two registers to even and odd ones. */
INLINE split split_words(__m256i low, __m256i high)
{
    const __m256i half = _mm256_set1_epi32(0xFFFF);
    __m256i even = _mm256_packus_epi32(_mm256_and_si256(low, half), _mm256_and_si256(high, half));
    __m256i odd = _mm256_packus_epi32(_mm256_srli_epi32(low, 16), _mm256_srli_epi32(high, 16));
    return (split){_mm256_permute4x64_epi64(even, 0xD8), _mm256_permute4x64_epi64(odd, 0xD8)};
}

/* Words 8 q to 8 q + 7 of a unit in their order. */
INLINE __m128i join_words(split x, uint32_t q)
{
    __m256i joined = q & 1 ? _mm256_unpackhi_epi16(x.even, x.odd)
                           : _mm256_unpacklo_epi16(x.even, x.odd);
    return q & 2 ? _mm256_extracti128_si256(joined, 1) : _mm256_castsi256_si128(joined);
}

/* n() of a unit's biases or thresholds. */
INLINE split turned(const esv_tile *tile, const int16_t *values, uint32_t u)
{
    const __m256i *at = (const __m256i *)(const void *)(values + u * UNIT);
    __m256i low = _mm256_loadu_si256(at), high = _mm256_setzero_si256();
    if (both_halves(tile, u)) {
        high = _mm256_loadu_si256(at + 1);
    }
    split x = split_words(low, high);
    return (split){_mm256_xor_si256(x.even, words(ESV_TURN)),
                   _mm256_xor_si256(x.odd, words(ESV_TURN))};
}

/* What unpack_sums takes to n(bias). */
INLINE void start_from_bias(shape s, const esv_tile *tile, sums *sum)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split bias = turned(tile, tile->bias16, u);
        sum->odd[u] = bias.odd;
        sum->pair[u] = add(bias.even, _mm256_slli_epi16(bias.odd, 8));
    }
}

/* The sums of even and odd channels, without the `excess` that is in each of them. */
INLINE split unpack_sums(const sums *sum, uint32_t u, __m256i excess)
{
    __m256i even = _mm256_sub_epi16(sum->pair[u], _mm256_slli_epi16(sum->odd[u], 8));
    return (split){_mm256_sub_epi16(even, excess), _mm256_sub_epi16(sum->odd[u], excess)};
}

/* n(current) of the steps of a nibble, as sums without the lists of a single step; count[t]: how
 * many rows are in them. */
INLINE void sum_shared(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                       sums *sum, uint32_t *count)
{
    uint32_t n = 0, every = (1u << steps) - 1;
    sums all, some;
    start_from_bias(s, tile, &all);
    if (steps > 1) {
        add_list(s, tile, lists, every, &all, &n);
    }
    for (uint32_t t = 0; t < steps; t++) {
        count[t] = n;
        copy(s, &some, &all);
        if (steps == 4 && t < 2) {
            add_list(s, tile, lists, 5u << t, &some, &count[t]);
        } else if (steps == 4) {
            copy(s, &some, &sum[t - 2]);
            count[t] = count[t - 2];
        }
        copy(s, &sum[t], &some);
    }
    for (uint32_t p = 3; p < every; p++) {
        int done = !(p & (p - 1)) || (steps == 4 && (p == 5 || p == 10));
        if (!done && lists->count[p]) {
            add_shared(s, tile, lists, p, sum, count);
        }
    }
}

/* Neurons of the even or the odd channels: n(membrane); returns where they fired. */
INLINE __m256i neurons(__m256i *membrane, __m256i current, __m256i threshold)
{
    __m256i v = _mm256_avg_epu16(*membrane, current);
    __m256i fired = _mm256_cmpeq_epi16(_mm256_min_epu16(v, threshold), v);
    /* Where fired, ESV_TURN, which is all ones >> 1. */
    *membrane = _mm256_or_si256(_mm256_andnot_si256(fired, v), _mm256_srli_epi16(fired, 1));
    return fired;
}

typedef struct {
    split membrane[MAX_UNITS], threshold[MAX_UNITS];
    __m256i codes[MAX_UNITS];
} state;

/* One step of all neurons, in bit `step` of the codes. */
INLINE void fire_step(shape s, const sums *sum, __m256i excess, uint32_t step, state *at)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split x = unpack_sums(sum, u, excess);
        __m256i even = neurons(&at->membrane[u].even, x.even, at->threshold[u].even);
        __m256i odd = neurons(&at->membrane[u].odd, x.odd, at->threshold[u].odd);
        __m256i fired = _mm256_blendv_epi8(even, odd, _mm256_set1_epi16((int16_t)0xFF00));
        __m256i bit = _mm256_set1_epi8((int8_t)(1u << step));
        at->codes[u] = _mm256_or_si256(at->codes[u], _mm256_and_si256(fired, bit));
    }
}

INLINE void fire_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t first,
                        state *at)
{
    sums sum[4];
    uint32_t count[4], zero = esv_x86_zero(tile->bits), left = tile->time_steps - first;
    uint32_t steps = left < 4 ? left : 4;
    sum_shared(s, steps, tile, lists, sum, count);
    for (uint32_t t = 0; t < steps; t++) {
        sums step;
        copy(s, &step, &sum[t]);
        add_list(s, tile, lists, 1u << t, &step, &count[t]);
        fire_step(s, &step, words(count[t] * zero), first + t, at);
    }
}

INLINE void fire_shape(shape s, const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    state at;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        at.threshold[u] = turned(tile, tile->threshold16, u);
        at.membrane[u].even = at.membrane[u].odd = words(ESV_TURN);
        at.codes[u] = _mm256_setzero_si256();
    }
    for (uint32_t first = 0; first < tile->time_steps; first += 4, lists++) {
        fire_nibble(s, tile, lists, first, &at);
    }
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        __m256i *to = (__m256i *)(void *)(codes + u * UNIT);
        if (both_halves(tile, u)) {
            _mm256_storeu_si256(to, at.codes[u]);
        } else {
            _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(at.codes[u]));
        }
    }
}

/* Calls f(shape, ...) with a constant shape. */
#define WITH_UNITS(f, units, pairs, half, ...)                                                    \
    if (half) {                                                                                   \
        pairs ? f((shape){units, 1, 1}, __VA_ARGS__) : f((shape){units, 0, 1}, __VA_ARGS__);      \
    } else {                                                                                      \
        pairs ? f((shape){units, 1, 0}, __VA_ARGS__) : f((shape){units, 0, 0}, __VA_ARGS__);      \
    }
#define WITH_SHAPE(tile, f, ...)                                                                  \
    do {                                                                                          \
        uint32_t pairs_ = (tile)->bits < 8, half_ = (tile)->width % UNIT;                         \
        if ((tile)->width > 3 * UNIT) {                                                           \
            WITH_UNITS(f, 4, pairs_, half_, __VA_ARGS__)                                          \
        } else if ((tile)->width > 2 * UNIT) {                                                    \
            WITH_UNITS(f, 3, pairs_, half_, __VA_ARGS__)                                          \
        } else if ((tile)->width > UNIT) {                                                        \
            WITH_UNITS(f, 2, pairs_, half_, __VA_ARGS__)                                          \
        } else {                                                                                  \
            WITH_UNITS(f, 1, pairs_, half_, __VA_ARGS__)                                          \
        }                                                                                         \
    } while (0)

static TARGET void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    WITH_SHAPE(tile, fire_shape, tile, lists, codes);
}

/* The currents of unit u from n(current). */
INLINE void store_currents(const esv_tile *tile, uint32_t u, split x, int32_t *currents)
{
    UNROLL for (uint32_t q = 0; q < 4; q++) {
        if (q < 2 || both_halves(tile, u)) {
            __m128i current = _mm_xor_si128(join_words(x, q), _mm_set1_epi16(ESV_TURN));
            _mm256_storeu_si256((__m256i *)(void *)(currents + u * UNIT + 8 * q),
                                _mm256_cvtepi16_epi32(current));
        }
    }
}

INLINE void narrow_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                          int32_t *currents)
{
    sums sum[4];
    uint32_t count[4], zero = esv_x86_zero(tile->bits);
    sum_shared(s, steps, tile, lists, sum, count);
    for (uint32_t t = 0; t < steps; t++) {
        sums step;
        copy(s, &step, &sum[t]);
        add_list(s, tile, lists, 1u << t, &step, &count[t]);
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            split x = unpack_sums(&step, u, words(count[t] * zero));
            store_currents(tile, u, x, currents + t * tile->width);
        }
    }
}

/* Rows whose even and odd sums fit in 16 bits without sign: 257 * 255 = 65535. */
#define SAFE_ROWS 256u

/* currents (width) -= factor * (sum - excess). */
INLINE void subtract_wide(shape s, const esv_tile *tile, const sums *sum, uint32_t excess,
                          uint32_t factor, int32_t *currents)
{
    __m256i factors = _mm256_set1_epi32((int32_t)factor);
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split x = unpack_sums(sum, u, _mm256_setzero_si256());
        UNROLL for (uint32_t q = 0; q < 4; q++) {
            if (q < 2 || both_halves(tile, u)) {
                __m256i *at = (__m256i *)(void *)(currents + u * UNIT + 8 * q);
                __m256i part = _mm256_cvtepu16_epi32(join_words(x, q));
                part = _mm256_sub_epi32(part, _mm256_set1_epi32((int32_t)excess));
                part = _mm256_mullo_epi32(part, factors);
                _mm256_storeu_si256(at, _mm256_sub_epi32(_mm256_loadu_si256(at), part));
            }
        }
    }
}

/* Add list p, times its factor for each step, to the currents of those steps. factor[t] = 0: not
 * of step t. */
INLINE void add_wide_list(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t p,
                          uint32_t steps, const uint32_t *factor, int32_t *currents)
{
    for (uint32_t from = 0; from < lists->count[p]; from += SAFE_ROWS) {
        uint32_t left = lists->count[p] - from, n = left < SAFE_ROWS ? left : SAFE_ROWS;
        sums sum;
        clear(s, &sum);
        add_rows(s, tile, lists->row + lists->first[p] + from, n, &sum);
        for (uint32_t t = 0; t < steps; t++) {
            if (factor[t]) {
                subtract_wide(s, tile, &sum, n * esv_x86_zero(tile->bits), factor[t],
                              currents + t * tile->width);
            }
        }
    }
}

INLINE void wide_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                        int32_t *currents)
{
    for (uint32_t t = 0; t < steps; t++) {
        memcpy(currents + t * tile->width, tile->bias, tile->width * sizeof *currents);
    }
    for (uint32_t p = 1; p < 1u << steps; p++) {
        const uint32_t factor[4] = {p & 1, p >> 1 & 1, p >> 2 & 1, p >> 3};
        add_wide_list(s, tile, lists, p, steps, factor, currents);
    }
}

static TARGET void sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide,
                              int32_t *currents)
{
    for (uint32_t first = 0; first < tile->time_steps; first += 4, lists++) {
        uint32_t left = tile->time_steps - first, steps = left < 4 ? left : 4;
        if (wide) {
            WITH_SHAPE(tile, wide_nibble, tile, lists, steps, currents + first * tile->width);
        } else {
            WITH_SHAPE(tile, narrow_nibble, tile, lists, steps, currents + first * tile->width);
        }
    }
}

INLINE void narrow_levels(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                          int32_t *currents)
{
    sums sum, list;
    uint32_t excess = 0;
    start_from_bias(s, tile, &sum);
    for (uint32_t p = 1; p < ESV_LISTS * nibbles; p++) {
        uint32_t n = 0, g = p / ESV_LISTS, level = p % ESV_LISTS << (4 * g);
        if (!level) {
            continue;
        }
        clear(s, &list);
        add_list(s, tile, &lists[g], p % ESV_LISTS, &list, &n);
        excess += level * n;
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            list.pair[u] = _mm256_mullo_epi16(list.pair[u], words(level));
            list.odd[u] = _mm256_mullo_epi16(list.odd[u], words(level));
        }
        add_sums(s, &sum, &list);
    }
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split x = unpack_sums(&sum, u, words(excess * esv_x86_zero(tile->bits)));
        store_currents(tile, u, x, currents);
    }
}

INLINE void wide_levels(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                        int32_t *currents)
{
    memcpy(currents, tile->bias, tile->width * sizeof *currents);
    for (uint32_t g = 0; g < nibbles; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            const uint32_t level = p << (4 * g);
            add_wide_list(s, tile, &lists[g], p, 1, &level, currents);
        }
    }
}

static TARGET void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                              int wide, int32_t *currents)
{
    if (wide) {
        WITH_SHAPE(tile, wide_levels, tile, lists, nibbles, currents);
    } else {
        WITH_SHAPE(tile, narrow_levels, tile, lists, nibbles, currents);
    }
}

/* Sorting: every input goes to the end of its list in scratch, where each list has room for all;
 * then they move together. Small lists are not dissolved: it takes longer than it saves. */

#define BLOCK 32u
#define SORT_BYTES (2 * (ESV_LISTS - 1))

static TARGET void append_inputs(const uint8_t *bytes, uint32_t count, uint32_t nibble,
                                 uint32_t mask, uint16_t **end)
{
    const __m256i bits = _mm256_set1_epi8((int8_t)mask);
    const __m128i shift = _mm_cvtsi32_si128((int)(4 * nibble));
    for (uint32_t k = 0; k < count; k += BLOCK) {
        uint8_t keys[BLOCK] = {0};
        if (count - k < BLOCK) {
            memcpy(keys, bytes + k, count - k);
        }
        __m256i key = _mm256_loadu_si256(
            (const __m256i *)(const void *)(count - k < BLOCK ? keys : bytes + k));
        key = _mm256_and_si256(_mm256_srl_epi16(key, shift), bits);
        _mm256_storeu_si256((__m256i *)(void *)keys, key);
        __m256i silent = _mm256_cmpeq_epi8(key, _mm256_setzero_si256());
        uint32_t fired = ~(uint32_t)_mm256_movemask_epi8(silent);
        for (; fired; fired &= fired - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(fired);
            *end[keys[i]]++ = (uint16_t)(k + i);
        }
    }
}

static TARGET void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                        int dissolve, esv_lists *lists, void *scratch)
{
    uint16_t *begin[ESV_LISTS], *end[ESV_LISTS];
    for (uint32_t p = 0; p < ESV_LISTS; p++) {
        begin[p] = end[p] = (uint16_t *)scratch + (p ? p - 1 : 0) * (size_t)count;
    }
    (void)dissolve;
    append_inputs(bytes, count, nibble, mask, end);
    lists->first[0] = lists->count[0] = 0;
    for (uint32_t p = 1, at = 0; p < ESV_LISTS; p++) {
        lists->first[p] = (uint16_t)at;
        lists->count[p] = (uint16_t)(end[p] - begin[p]);
        memcpy(lists->row + at, begin[p], lists->count[p] * sizeof **end);
        at += lists->count[p];
    }
}

const esv_spike_variant esv_spike_avx2 = {
    .name = "avx2",
    .width = UNIT * MAX_UNITS,
    .weight_bytes = 1,
    .sort_bytes = SORT_BYTES,
    .expand = expand,
    .sort = sort,
    .fire = fire,
    .sum_spikes = sum_spikes,
    .sum_levels = sum_levels,
};
#endif
