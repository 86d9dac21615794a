/* The spiking convolution with AVX-512 (F, BW, VL and VBMI2): up to 128 channels at a time.
 *
 * The sums of four steps fit in the registers (see spike_conv_x86.h for the sums), so that a list
 * of several steps is added to each of them without a way through memory; the lists of a single
 * step go straight into its sum. The sum of all steps is where each of them starts from, with
 * {0, 2} and {1, 3} in between.
 */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include "spike_conv_x86.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET

#define UNIT 64u /* channels of a register */
#define MAX_UNITS 2u
#define UNROLL _Pragma("GCC unroll 8")

/* What the compiler makes copies of the kernels for. */
typedef struct {
    uint32_t units; /* 1 or 2 */
    uint32_t pairs; /* two rows can be added before their halves are kept apart */
    uint32_t full;  /* the last unit has all its channels: loads without a mask are faster */
    __mmask64 last; /* where it has */
} shape;

typedef struct {
    __m512i pair[MAX_UNITS], odd[MAX_UNITS];
} sums;

/* Channels as they are computed with: 32 even and 32 odd ones. */
typedef struct {
    __m512i even, odd;
} split;

INLINE __mmask64 channels_of(const esv_tile *tile, uint32_t unit)
{
    uint32_t left = tile->width - unit * UNIT;
    return left >= UNIT ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
}

INLINE __m512i words(uint32_t value)
{
    return _mm512_set1_epi16((int16_t)value);
}

INLINE __m512i add(__m512i a, __m512i b)
{
    return _mm512_add_epi16(a, b);
}

INLINE void clear(shape s, sums *sum)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        sum->pair[u] = sum->odd[u] = _mm512_setzero_si512();
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

/* The part of row `number` in a unit. Only the last unit may be narrower than a register. */
INLINE __m512i row_at(shape s, const esv_tile *tile, uint32_t number, uint32_t u)
{
    const uint8_t *at = (const uint8_t *)tile->rows + (size_t)number * tile->row_bytes + u * UNIT;
    int whole = s.full || u + 1 < s.units;
    __m512i row = whole ? _mm512_loadu_si512(at) : _mm512_maskz_loadu_epi8(s.last, at);
    __asm__("" : "+v"(row)); /* or the compiler loads it for each use */
    return row;
}

INLINE void add_word(sums *sum, uint32_t u, __m512i word)
{
    sum->pair[u] = add(sum->pair[u], word);
    sum->odd[u] = add(sum->odd[u], _mm512_srli_epi16(word, 8));
}

INLINE void add_rows(shape s, const esv_tile *tile, const uint16_t *row, uint32_t count, sums *sum)
{
    const uint16_t *end = row + count;
    for (; s.pairs && row + 1 < end; row += 2) {
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            add_word(sum, u, add(row_at(s, tile, row[0], u), row_at(s, tile, row[1], u)));
        }
    }
    for (; row < end; row++) {
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            add_word(sum, u, row_at(s, tile, row[0], u));
        }
    }
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
    if (!lists->count[p]) {
        return;
    }
    clear(s, &list);
    add_list(s, tile, lists, p, &list, &n);
    UNROLL for (uint32_t t = 0; t < 4; t++) {
        if (p >> t & 1) {
            add_sums(s, &sum[t], &list);
            count[t] += n;
        }
    }
}

/* 64 words in two registers to even and odd ones. */
INLINE split split_words(__m512i low, __m512i high)
{
    const __m512i ramp = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18,
                                          17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2,
                                          1, 0);
    __m512i even = add(ramp, ramp), odd = _mm512_or_si512(even, words(1));
    return (split){_mm512_permutex2var_epi16(low, even, high),
                   _mm512_permutex2var_epi16(low, odd, high)};
}

/* Words 16 q to 16 q + 15 of a unit in their order. */
INLINE __m256i join_words(split x, uint32_t q)
{
    const __m256i from = _mm256_setr_epi16(0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39);
    __m256i index = _mm256_add_epi16(from, _mm256_set1_epi16((int16_t)(8 * q)));
    return _mm512_castsi512_si256(
        _mm512_permutex2var_epi16(x.even, _mm512_castsi256_si512(index), x.odd));
}

/* n() of a unit's biases or thresholds. */
INLINE split turned(const esv_tile *tile, const int16_t *values, uint32_t u)
{
    __mmask64 used = channels_of(tile, u);
    const int16_t *at = values + u * UNIT;
    __m512i low = _mm512_maskz_loadu_epi16((__mmask32)used, at);
    __m512i high = _mm512_maskz_loadu_epi16((__mmask32)(used >> 32), at + 32);
    split x = split_words(low, high);
    return (split){_mm512_xor_si512(x.even, words(ESV_TURN)),
                   _mm512_xor_si512(x.odd, words(ESV_TURN))};
}

/* What unpack_sums takes to n(bias). */
INLINE void start_from_bias(shape s, const esv_tile *tile, sums *sum)
{
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split bias = turned(tile, tile->bias16, u);
        sum->odd[u] = bias.odd;
        sum->pair[u] = add(bias.even, _mm512_slli_epi16(bias.odd, 8));
    }
}

/* The sums of even and odd channels, without the `excess` that is in each of them. */
INLINE split unpack_sums(const sums *sum, uint32_t u, __m512i excess)
{
    __m512i even = _mm512_sub_epi16(sum->pair[u], _mm512_slli_epi16(sum->odd[u], 8));
    return (split){_mm512_sub_epi16(even, excess), _mm512_sub_epi16(sum->odd[u], excess)};
}

/* n(current) of steps 0 to steps - 1 of a nibble, as sums; count[t]: how many rows are in them. */
INLINE void sum_steps(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                      sums *sum, uint32_t *count)
{
    sums all;
    uint32_t n = 0;
    start_from_bias(s, tile, &all);
    if (steps == 1) {
        add_list(s, tile, lists, 1, &all, &n);
        copy(s, &sum[0], &all);
        count[0] = n;
        return;
    }
    add_list(s, tile, lists, steps == 2 ? 3 : 15, &all, &n);
    copy(s, &sum[0], &all);
    copy(s, &sum[1], &all);
    count[0] = count[1] = n;
    if (steps > 2) {
        add_list(s, tile, lists, 5, &sum[0], &count[0]);
        add_list(s, tile, lists, 10, &sum[1], &count[1]);
        copy(s, &sum[2], &sum[0]);
        copy(s, &sum[3], &sum[1]);
        count[2] = count[0];
        count[3] = count[1];
        add_shared(s, tile, lists, 3, sum, count);
        add_shared(s, tile, lists, 6, sum, count);
        add_shared(s, tile, lists, 7, sum, count);
        add_shared(s, tile, lists, 9, sum, count);
        add_shared(s, tile, lists, 11, sum, count);
        add_shared(s, tile, lists, 12, sum, count);
        add_shared(s, tile, lists, 13, sum, count);
        add_shared(s, tile, lists, 14, sum, count);
    }
    UNROLL for (uint32_t t = 0; t < steps; t++) {
        add_list(s, tile, lists, 1u << t, &sum[t], &count[t]);
    }
}

/* Neurons of the even or the odd channels: n(membrane) and the bits of their codes. */
INLINE __m512i neurons(__m512i *membrane, __m512i current, __m512i threshold, __m512i codes,
                       uint32_t bit)
{
    __m512i v = _mm512_avg_epu16(*membrane, current);
    __mmask32 fired = _mm512_cmple_epu16_mask(v, threshold);
    *membrane = _mm512_mask_mov_epi16(v, fired, words(ESV_TURN));
    return _mm512_mask_add_epi16(codes, fired, codes, words(bit));
}

typedef struct {
    split membrane[MAX_UNITS];
    __m512i codes[MAX_UNITS];
} state;

INLINE void fire_nibble(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                        uint32_t first, state *at)
{
    sums sum[4];
    uint32_t count[4], zero = esv_x86_zero(tile->bits);
    sum_steps(s, steps, tile, lists, sum, count);
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split threshold = turned(tile, tile->threshold16, u);
        UNROLL for (uint32_t t = 0; t < steps; t++) {
            if (first + t >= tile->time_steps) {
                break;
            }
            split x = unpack_sums(&sum[t], u, words(count[t] * zero));
            at->codes[u] = neurons(&at->membrane[u].even, x.even, threshold.even, at->codes[u],
                                   1u << (first + t));
            at->codes[u] = neurons(&at->membrane[u].odd, x.odd, threshold.odd, at->codes[u],
                                   256u << (first + t));
        }
    }
}

INLINE void fire_shape(shape s, uint32_t steps, const esv_tile *tile, const esv_lists *lists,
                       uint8_t *codes)
{
    state at;
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        at.membrane[u].even = at.membrane[u].odd = words(ESV_TURN);
        at.codes[u] = _mm512_setzero_si512();
    }
    fire_nibble(s, steps, tile, lists, 0, &at);
    if (steps == 4 && tile->time_steps > 4) {
        fire_nibble(s, 4, tile, lists + 1, 4, &at);
    }
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        _mm512_mask_storeu_epi8(codes + u * UNIT, channels_of(tile, u), at.codes[u]);
    }
}

/* Calls f(shape, ...) with a constant shape. */
#define WITH_UNITS(f, units, pairs, full, last, ...)                                              \
    pairs ? f((shape){units, 1, full, last}, __VA_ARGS__)                                         \
          : f((shape){units, 0, full, last}, __VA_ARGS__)
#define WITH_SHAPE(tile, f, ...)                                                                  \
    do {                                                                                          \
        __mmask64 last_ = channels_of(tile, ((tile)->width - 1) / UNIT);                          \
        uint32_t pairs_ = (tile)->bits < 8;                                                       \
        if ((tile)->width == 2 * UNIT) {                                                          \
            WITH_UNITS(f, 2, pairs_, 1, last_, __VA_ARGS__);                                      \
        } else if ((tile)->width > UNIT) {                                                        \
            WITH_UNITS(f, 2, pairs_, 0, last_, __VA_ARGS__);                                      \
        } else {                                                                                  \
            WITH_UNITS(f, 1, pairs_, 0, last_, __VA_ARGS__);                                      \
        }                                                                                         \
    } while (0)

static TARGET void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    switch (tile->time_steps) {
    case 1:
        WITH_SHAPE(tile, fire_shape, 1, tile, lists, codes);
        break;
    case 2:
        WITH_SHAPE(tile, fire_shape, 2, tile, lists, codes);
        break;
    default:
        WITH_SHAPE(tile, fire_shape, 4, tile, lists, codes);
    }
}

/* currents (16 q ..) of unit u from n(current). */
INLINE void store_currents(const esv_tile *tile, uint32_t u, split x, int32_t *currents)
{
    UNROLL for (uint32_t q = 0; q < 4; q++) {
        if (u * UNIT + 16 * q < tile->width) {
            __m256i turned_back = _mm256_xor_si256(join_words(x, q), _mm256_set1_epi16(ESV_TURN));
            _mm512_storeu_si512(currents + u * UNIT + 16 * q, _mm512_cvtepi16_epi32(turned_back));
        }
    }
}

INLINE void narrow_nibble(shape s, const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                          int32_t *currents)
{
    sums sum[4];
    uint32_t count[4], zero = esv_x86_zero(tile->bits);
    sum_steps(s, 4, tile, lists, sum, count);
    UNROLL for (uint32_t t = 0; t < 4; t++) {
        if (t >= steps) {
            break;
        }
        UNROLL for (uint32_t u = 0; u < s.units; u++) {
            split x = unpack_sums(&sum[t], u, words(count[t] * zero));
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
    __m512i factors = _mm512_set1_epi32((int32_t)factor);
    UNROLL for (uint32_t u = 0; u < s.units; u++) {
        split x = unpack_sums(sum, u, _mm512_setzero_si512());
        UNROLL for (uint32_t q = 0; q < 4; q++) {
            if (u * UNIT + 16 * q < tile->width) {
                int32_t *at = currents + u * UNIT + 16 * q;
                __m512i part = _mm512_cvtepu16_epi32(join_words(x, q));
                part = _mm512_sub_epi32(part, _mm512_set1_epi32((int32_t)excess));
                part = _mm512_mullo_epi32(part, factors);
                _mm512_storeu_si512(at, _mm512_sub_epi32(_mm512_loadu_si512(at), part));
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
    sums sum;
    uint32_t excess = 0;
    start_from_bias(s, tile, &sum);
    for (uint32_t g = 0; g < nibbles; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            sums list;
            uint32_t n = 0, level = p << (4 * g);
            clear(s, &list);
            add_list(s, tile, &lists[g], p, &list, &n);
            excess += level * n;
            UNROLL for (uint32_t u = 0; u < s.units; u++) {
                list.pair[u] = _mm512_mullo_epi16(list.pair[u], words(level));
                list.odd[u] = _mm512_mullo_epi16(list.odd[u], words(level));
            }
            add_sums(s, &sum, &list);
        }
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

/* Sorting: what is not 0 moves together first, keys apart from positions; then list after list is
 * taken out of that, 64 inputs at a time. Small lists are not dissolved: adding a list to the sums
 * of its steps costs as little as adding another row. */

#define BLOCK 64u
#define SORT_BYTES 4
/* Stores of whole registers end up to 63 keys and positions behind the last one, 3 bytes each:
 * within the scratch from this many inputs on. */
#define SMALL 256u

typedef struct {
    uint8_t *key;
    uint16_t *position;
    uint32_t count;
} fired_inputs;

/* The 64 positions low, high where the mask is set, put together at `to`; returns how many. Mostly
 * few are: stores of 32 bytes, as those of 64 that cross a line take twice the time. */
INLINE uint32_t take(__m512i low, __m512i high, __mmask64 mask, __m512i ramp, uint16_t *to)
{
    uint32_t n = (uint32_t)_mm_popcnt_u64(mask);
    __m512i lanes = _mm512_maskz_compress_epi8(mask, ramp);
    __m512i some = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(lanes));
    some = _mm512_permutex2var_epi16(low, some, high);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_castsi512_si256(some));
    if (n > 16) {
        _mm512_storeu_si512(to, some);
    }
    if (n > 32) {
        some = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(lanes, 1));
        _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(low, some, high));
    }
    return n;
}

/* 0 to 63. */
INLINE __m512i numbers(void)
{
    uint8_t number[BLOCK];
    for (uint32_t i = 0; i < BLOCK; i++) {
        number[i] = (uint8_t)i;
    }
    return _mm512_loadu_si512(number);
}

INLINE void move_together(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                          __m512i ramp, fired_inputs *f)
{
    const __m512i bits = _mm512_set1_epi8((int8_t)mask);
    __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(ramp));
    f->count = 0;
    for (uint32_t k = 0; k < count; k += BLOCK, low = add(low, words(BLOCK))) {
        uint32_t left = count - k;
        __mmask64 used = left >= BLOCK ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
        __m512i key = _mm512_maskz_loadu_epi8(used, bytes + k);
        key = _mm512_and_si512(nibble ? _mm512_srli_epi16(key, 4) : key, bits);
        __mmask64 fired = _mm512_test_epi8_mask(key, key);
        if (!fired) {
            continue;
        }
        _mm512_storeu_si512(f->key + f->count, _mm512_maskz_compress_epi8(fired, key));
        f->count += take(low, add(low, words(32)), fired, ramp, f->position + f->count);
    }
    /* The last block's rest belongs to no list. */
    _mm512_storeu_si512(f->key + f->count, _mm512_setzero_si512());
}

/* Append the inputs with this key; returns how many. */
INLINE uint32_t take_list(const fired_inputs *f, uint32_t wanted, __m512i ramp, uint16_t *to)
{
    uint16_t *const from = to;
    for (uint32_t k = 0; k < f->count; k += BLOCK) {
        __mmask64 in = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(f->key + k),
                                              _mm512_set1_epi8((int8_t)wanted));
        const uint16_t *position = f->position + k;
        to += take(_mm512_loadu_si512(position), _mm512_loadu_si512(position + 32), in, ramp, to);
    }
    return (uint32_t)(to - from);
}

static TARGET void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                        int dissolve, esv_lists *lists, void *scratch)
{
    const __m512i ramp = numbers();
    uint16_t small[(SMALL + BLOCK) * 3 / 2];
    uint32_t room = count < SMALL ? SMALL + BLOCK : count + BLOCK;
    fired_inputs f = {.position = count < SMALL ? small : scratch};
    f.key = (uint8_t *)(f.position + room);
    (void)dissolve;
    memset(lists->first, 0, sizeof lists->first);
    memset(lists->count, 0, sizeof lists->count);
    move_together(bytes, count, nibble, mask, ramp, &f);
    for (uint32_t p = 1, at = 0; p <= mask; p++) {
        lists->first[p] = (uint16_t)at;
        lists->count[p] = (uint16_t)take_list(&f, p, ramp, lists->row + at);
        at += lists->count[p];
    }
}

const esv_spike_variant esv_spike_avx512 = {
    .name = "avx512",
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
