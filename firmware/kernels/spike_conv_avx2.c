/* The spiking convolution with AVX2: up to 128 channels at a time.
 *
 * The sums of a list are in registers (see spike_conv_x86.h for the sums), those of four steps are
 * not: a list of several steps is added to theirs in memory. The sum of all steps is where each of
 * them starts from, with {0, 2} and {1, 3} in between, and the lists of a single step go into its
 * sum on the way to the neuron.
 */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include <stdint.h>

#define TARGET __attribute__((target("avx2")))
#define UNIT 32u /* channels of a register */
#define MAX_UNITS 4u

/* What the compiler makes copies of the kernels for. */
typedef struct {
    uint32_t units; /* 1 to 4 */
    uint32_t pairs; /* two rows can be added before their halves are kept apart */
    uint32_t half;  /* the last unit has 16 channels */
} shape;

/* Calls f(shape, ...) with a constant shape. Macros, as f is inlined into each call. */
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

#include "spike_currents_x86.h"

/* ---- What the registers' length makes different ---- */

/* Whether a unit has more than 16 channels. */
INLINE int both_halves(const esv_tile *tile, uint32_t u)
{
    return tile->width - u * UNIT > 16;
}

INLINE words row_at(shape s, const esv_tile *tile, uint32_t number, uint32_t u)
{
    const uint8_t *at = (const uint8_t *)tile->rows + (size_t)number * tile->row_bytes + u * UNIT;
    if (s.half && u + 1 == s.units) {
        return (words)_mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));
    }
    return (words)_mm256_loadu_si256((const __m256i *)(const void *)at);
}

INLINE split values_at(const esv_tile *tile, const int16_t *values, uint32_t u)
{
    const __m256i *at = (const __m256i *)(const void *)(values + u * UNIT);
    const __m256i half = _mm256_set1_epi32(0xFFFF);
    __m256i low = _mm256_loadu_si256(at), high = _mm256_setzero_si256();
    if (both_halves(tile, u)) {
        high = _mm256_loadu_si256(at + 1);
    }
    __m256i even = _mm256_packus_epi32(_mm256_and_si256(low, half), _mm256_and_si256(high, half));
    __m256i odd = _mm256_packus_epi32(_mm256_srli_epi32(low, 16), _mm256_srli_epi32(high, 16));
    return (split){(words)_mm256_permute4x64_epi64(even, 0xD8),
                   (words)_mm256_permute4x64_epi64(odd, 0xD8)};
}

INLINE numbers quarter(split x, uint32_t q)
{
    __m256i even = (__m256i)x.even, odd = (__m256i)x.odd;
    __m256i joined = q & 1 ? _mm256_unpackhi_epi16(even, odd) : _mm256_unpacklo_epi16(even, odd);
    __m128i eight = q & 2 ? _mm256_extracti128_si256(joined, 1) : _mm256_castsi256_si128(joined);
    return (numbers)_mm256_cvtepu16_epi32(eight);
}

/* ---- The steps of a nibble ---- */

/* some = what step t starts from: all steps, and those of {0, 2} or {1, 3} of a nibble of four. */
INLINE void sum_start(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                      uint32_t t, const sums *all_steps, const sums *sum, sums *some)
{
    if (steps == 4 && t >= 2) {
        copy(s, some, &sum[t - 2]);
        return;
    }
    copy(s, some, all_steps);
    if (steps == 4) {
        add_list(s, tile, lists, 5u << t, some);
    }
}

/* n(current) of the steps of a nibble, as sums without the lists of a single step. */
INLINE void sum_shared(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                       sums *sum)
{
    uint32_t every = (1u << steps) - 1;
    sums all_steps, some;
    start_from_bias(s, tile, &all_steps);
    if (steps > 1) {
        add_list(s, tile, lists, every, &all_steps);
    }
    for (uint32_t t = 0; t < steps; t++) {
        sum_start(s, steps, tile, lists, t, &all_steps, sum, &some);
        copy(s, &sum[t], &some);
    }
    for (uint32_t p = 3; p < every; p++) {
        int done = !(p & (p - 1)) || (steps == 4 && (p == 5 || p == 10));
        if (!done) {
            add_shared(s, tile, lists, p, sum);
        }
    }
}

/* some = sum[t] with the list of that step alone. */
INLINE void sum_step(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t t,
                     const sums *sum, sums *some)
{
    copy(s, some, &sum[t]);
    add_list(s, tile, lists, 1u << t, some);
}

INLINE void sum_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                       sums sum[4])
{
    sum_shared(s, steps, tile, lists, sum);
    for (uint32_t t = 0; t < steps; t++) {
        sums some;
        sum_step(s, tile, lists, t, sum, &some);
        copy(s, &sum[t], &some);
    }
}

/* ---- Neurons ---- */

/* Neurons of the even or the odd channels: n(membrane); returns where they fired. */
INLINE __m256i neurons(words *membrane, words current, words threshold)
{
    __m256i v = _mm256_avg_epu16((__m256i)*membrane, (__m256i)current);
    __m256i fired = _mm256_cmpeq_epi16(_mm256_min_epu16(v, (__m256i)threshold), v);
    /* Where fired, ESV_TURN, which is all ones >> 1. */
    *membrane = (words)_mm256_or_si256(_mm256_andnot_si256(fired, v),
                                       _mm256_srli_epi16(fired, 1));
    return fired;
}

typedef struct {
    split membrane[MAX_UNITS], threshold[MAX_UNITS];
    __m256i codes[MAX_UNITS];
} state;

/* One step of all neurons, in bit `step` of the codes. */
INLINE void fire_step(shape s, const sums *sum, words excess, uint32_t step, state *at)
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
    sums sum[4], some;
    uint32_t left = tile->time_steps - first, steps = left < 4 ? left : 4;
    sum_shared(s, steps, tile, lists, sum);
    for (uint32_t t = 0; t < steps; t++) {
        sum_step(s, tile, lists, t, sum, &some);
        fire_step(s, &some, excess_of(tile, &some), first + t, at);
    }
}

INLINE void store_codes(shape s, const esv_tile *tile, const state *at, uint8_t *codes)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        __m256i *to = (__m256i *)(void *)(codes + u * UNIT);
        if (both_halves(tile, u)) {
            _mm256_storeu_si256(to, at->codes[u]);
        } else {
            _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(at->codes[u]));
        }
    }
}

INLINE void fire_shape(shape s, const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    state at;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        at.threshold[u] = turned(tile, tile->threshold16, u);
        at.membrane[u].even = at.membrane[u].odd = all(ESV_TURN);
        at.codes[u] = _mm256_setzero_si256();
    }
    for (uint32_t first = 0; first < tile->time_steps; first += 4, lists++) {
        fire_nibble(s, tile, lists, first, &at);
    }
    store_codes(s, tile, &at, codes);
}

static TARGET void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    WITH_SHAPE(tile, fire_shape, tile, lists, codes);
}

const esv_spike_variant esv_spike_avx2 = {
    .name = "avx2",
    .width = UNIT * MAX_UNITS,
    .weight_bytes = 1,
    .sort_bytes = ESV_AVX2_SORT_BYTES,
    .expand = esv_x86_expand,
    .sort = esv_avx2_sort,
    .fire = fire,
    .sum_spikes = sum_spikes,
    .sum_levels = sum_levels,
};
#endif
