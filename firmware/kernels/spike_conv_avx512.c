/* The spiking convolution with AVX-512 (F, BW, VL and VBMI2): up to 128 channels at a time.
 *
 * The sums of four steps fit in the registers (see spike_conv_x86.h for the sums), so that a list
 * of several steps is added to each of them without a way through memory; the lists of a single
 * step go straight into its sum. The sum of all steps is where each of them starts from, with
 * {0, 2} and {1, 3} in between.
 */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include <stdint.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")))
#define UNIT 64u /* channels of a register */
#define MAX_UNITS 2u

/* What the compiler makes copies of the kernels for. */
typedef struct {
    uint32_t units; /* 1 or 2 */
    uint32_t pairs; /* two rows can be added before their halves are kept apart */
    uint32_t full;  /* the last unit has all its channels: loads without a mask are faster */
    uint64_t last;  /* where it has */
} shape;

/* Calls f(shape, ...) with a constant shape. Macros, as f is inlined into each call. */
#define WITH_UNITS(f, units, pairs, full, last, ...)                                              \
    pairs ? f((shape){units, 1, full, last}, __VA_ARGS__)                                         \
          : f((shape){units, 0, full, last}, __VA_ARGS__)
#define WITH_SHAPE(tile, f, ...)                                                                  \
    do {                                                                                          \
        uint64_t last_ = channels_of(tile, ((tile)->width - 1) / UNIT);                           \
        uint32_t pairs_ = (tile)->bits < 8;                                                       \
        if ((tile)->width == 2 * UNIT) {                                                          \
            WITH_UNITS(f, 2, pairs_, 1, last_, __VA_ARGS__);                                      \
        } else if ((tile)->width > UNIT) {                                                        \
            WITH_UNITS(f, 2, pairs_, 0, last_, __VA_ARGS__);                                      \
        } else {                                                                                  \
            WITH_UNITS(f, 1, pairs_, 0, last_, __VA_ARGS__);                                      \
        }                                                                                         \
    } while (0)

#include "spike_sums_x86.h"

INLINE uint64_t channels_of(const esv_tile *tile, uint32_t unit)
{
    uint32_t left = tile->width - unit * UNIT;
    return left >= UNIT ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
}

#include "spike_currents_x86.h"

/* ---- What the registers' length makes different ---- */

/* Only the last unit may be narrower than a register. */
INLINE words row_at(shape s, const esv_tile *tile, uint32_t number, uint32_t u)
{
    const uint8_t *at = (const uint8_t *)tile->rows + (size_t)number * tile->row_bytes + u * UNIT;
    int whole = s.full || u + 1 < s.units;
    return (words)(whole ? _mm512_loadu_si512(at) : _mm512_maskz_loadu_epi8(s.last, at));
}

INLINE split values_at(const esv_tile *tile, const int16_t *values, uint32_t u)
{
    const __m512i ramp = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18,
                                          17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2,
                                          1, 0);
    uint64_t used = channels_of(tile, u);
    const int16_t *at = values + u * UNIT;
    __m512i low = _mm512_maskz_loadu_epi16((__mmask32)used, at);
    __m512i high = _mm512_maskz_loadu_epi16((__mmask32)(used >> 32), at + 32);
    words even = (words)ramp + (words)ramp, odd = even + 1;
    return (split){(words)_mm512_permutex2var_epi16(low, (__m512i)even, high),
                   (words)_mm512_permutex2var_epi16(low, (__m512i)odd, high)};
}

INLINE numbers quarter(split x, uint32_t q)
{
    const __m256i from = _mm256_setr_epi16(0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39);
    __m256i index = _mm256_add_epi16(from, _mm256_set1_epi16((int16_t)(8 * q)));
    __m512i joined = _mm512_permutex2var_epi16((__m512i)x.even, _mm512_castsi256_si512(index),
                                               (__m512i)x.odd);
    return (numbers)_mm512_cvtepu16_epi32(_mm512_castsi512_si256(joined));
}

/* ---- The steps of a nibble ---- */

/* sum[0], so far n(bias), to the sums of 2 or 4 steps with all lists that several of them share.
 * Each list has its own copy of the code: sums that a variable chooses would be in memory. */
INLINE void sum_shared(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                       sums *sum)
{
    add_list(s, tile, lists, steps == 2 ? 3 : 15, &sum[0]);
    copy(s, &sum[1], &sum[0]);
    if (steps == 2) {
        return;
    }
    add_list(s, tile, lists, 5, &sum[0]);
    add_list(s, tile, lists, 10, &sum[1]);
    copy(s, &sum[2], &sum[0]);
    copy(s, &sum[3], &sum[1]);
    add_shared(s, tile, lists, 3, sum);
    add_shared(s, tile, lists, 6, sum);
    add_shared(s, tile, lists, 7, sum);
    add_shared(s, tile, lists, 9, sum);
    add_shared(s, tile, lists, 11, sum);
    add_shared(s, tile, lists, 12, sum);
    add_shared(s, tile, lists, 13, sum);
    add_shared(s, tile, lists, 14, sum);
}

/* n(current) of steps 0 to steps - 1 of a nibble: 1, 2 or 4. */
INLINE void sum_steps(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                      sums *sum)
{
    start_from_bias(s, tile, &sum[0]);
    if (steps > 1) {
        sum_shared(s, steps, tile, lists, sum);
    }
    UNROLL for (uint32_t t = 0; t < steps; t++) {
        add_list(s, tile, lists, 1u << t, &sum[t]);
    }
}

/* Steps that there are not have no lists. */
INLINE void sum_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                       sums sum[4])
{
    (void)steps;
    sum_steps(s, 4, tile, lists, sum);
}

/* ---- Neurons ---- */

/* Neurons of the even or the odd channels: n(membrane) and the bits of their codes. */
INLINE void neurons(words *membrane, words current, words threshold, uint32_t bit, words *codes)
{
    __m512i v = _mm512_avg_epu16((__m512i)*membrane, (__m512i)current);
    __mmask32 fired = _mm512_cmple_epu16_mask(v, (__m512i)threshold);
    *membrane = (words)_mm512_mask_mov_epi16(v, fired, (__m512i)all(ESV_TURN));
    *codes = (words)_mm512_mask_add_epi16((__m512i)*codes, fired, (__m512i)*codes,
                                          (__m512i)all(bit));
}

typedef struct {
    split membrane[MAX_UNITS];
    words codes[MAX_UNITS];
} state;

INLINE void fire_nibble(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                        uint32_t first, state *at)
{
    sums sum[4];
    sum_steps(s, steps, tile, lists, sum);
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split threshold = turned(tile, tile->threshold16, u), *v = &at->membrane[u];
        UNROLL for (uint32_t t = 0; t < steps; t++) {
            if (first + t >= tile->time_steps) {
                break;
            }
            split x = unpack_sums(&sum[t], u, excess_of(tile, &sum[t]));
            neurons(&v->even, x.even, threshold.even, 1u << (first + t), &at->codes[u]);
            neurons(&v->odd, x.odd, threshold.odd, 256u << (first + t), &at->codes[u]);
        }
    }
}

INLINE void fire_shape(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                       uint8_t *codes)
{
    state at;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        at.membrane[u].even = at.membrane[u].odd = all(ESV_TURN);
        at.codes[u] = all(0);
    }
    fire_nibble(s, steps, tile, lists, 0, &at);
    if (steps == 4 && tile->time_steps > 4) {
        fire_nibble(s, 4, tile, lists + 1, 4, &at);
    }
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        _mm512_mask_storeu_epi8(codes + u * UNIT, channels_of(tile, u),
                                (__m512i)at.codes[u]);
    }
}

static TARGET void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    switch (tile->time_steps) {
    case 1: WITH_SHAPE(tile, fire_shape, 1, tile, lists, codes); break;
    case 2: WITH_SHAPE(tile, fire_shape, 2, tile, lists, codes); break;
    default: WITH_SHAPE(tile, fire_shape, 4, tile, lists, codes);
    }
}

const esv_spike_variant esv_spike_avx512 = {
    .multiplies_bytes = 1,
    .name = "avx512",
    .width = UNIT * MAX_UNITS,
    .weight_bytes = 1,
    .sort_bytes = ESV_AVX512_SORT_BYTES,
    .expand = esv_x86_expand,
    .sort = esv_avx512_sort,
    .fire = fire,
    .sum_spikes = sum_spikes,
    .sum_levels = sum_levels,
};
#endif
