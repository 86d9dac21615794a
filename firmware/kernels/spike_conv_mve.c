/* The spiking convolution for Armv8.1-M's vector extension (Cortex-M55): packed rows are added
 * where they are. The sums of 16 channels are two vectors of int16; a load widens int8 for nothing.
 *
 * A pattern of four steps is a low pair and a high pair of bits. Its bucket is added to one sum of
 * each pair, never to four steps: steps 0 and 1 each are what both have plus what one has.
 */
#include "spike_conv.h"

#if defined(__ARM_FEATURE_MVE)

#include <arm_mve.h>
#include <string.h>

#include "after.h"
#include "weights.h"

#define HALF 8  /* channels of a vector */
#define STEPS 4 /* of a nibble */
#define MIXED 9 /* patterns with steps of both pairs */
/* Buckets of at most this many rows are dissolved, by measurement. Their rows take two entries more
 * while sorting, up to HALF - 1 are lost: ESV_LIST_SLACK must hold 2 * MIXED * DISSOLVED + 7. */
#define DISSOLVED 2

typedef struct {
    int16x8_t low, high; /* channels 0 to 7, 8 to 15 */
} sums;

/* ---- sorting ---- */

/* A counting sort in eight lanes: each lane counts its own inputs, then each has its own place in
 * every list, and scattered stores put eight inputs there at a time. */
typedef struct {
    uint16_t lane[ESV_LISTS][HALF];
} lane_table;

/* How a nibble becomes the place of its counters in the table, for each lane. */
typedef struct {
    int32_t shift;
    uint16x8_t keep, lane;
} lane_index;

static ESV_INLINE uint16x8_t counters_of(uint16x8_t some, const lane_index *index)
{
    return vaddq_u16(vandq_u16(vshlq_r_u16(some, index->shift), index->keep), index->lane);
}

static ESV_INLINE void count_eight(uint16x8_t at, uint16_t *counters)
{
    uint16x8_t n = vldrhq_gather_shifted_offset_u16(counters, at);
    vstrhq_scatter_shifted_offset_u16(counters, at, vaddq_n_u16(n, 1));
}

static ESV_INLINE void place_eight(uint16x8_t at, uint16x8_t number, uint16_t *places,
                                   uint16_t *row)
{
    uint16x8_t place = vldrhq_gather_shifted_offset_u16(places, at);
    vstrhq_scatter_shifted_offset_u16(row, place, number);
    vstrhq_scatter_shifted_offset_u16(places, at, vaddq_n_u16(place, 1));
}

static ESV_APART void count_patterns(const uint8_t *bytes, uint32_t count, lane_index index,
                                     lane_table *table)
{
    uint16_t *counters = &table->lane[0][0];
    for (uint32_t n = count / HALF; n; n--, bytes += HALF) {
        count_eight(counters_of(vldrbq_u16(bytes), &index), counters);
    }
    if (count % HALF) {
        count_eight(counters_of(vldrbq_z_u16(bytes, vctp16q(count % HALF)), &index), counters);
    }
}

static ESV_APART void place_patterns(const uint8_t *bytes, uint32_t count, lane_index index,
                                     lane_table *table, uint16_t *row)
{
    uint16_t *places = &table->lane[0][0];
    uint16x8_t number = vidupq_n_u16(0, 1);
    for (uint32_t n = count / HALF; n; n--, bytes += HALF) {
        place_eight(counters_of(vldrbq_u16(bytes), &index), number, places, row);
        number = vaddq_n_u16(number, HALF);
    }
    if (count % HALF) {
        uint16x8_t some = vldrbq_z_u16(bytes, vctp16q(count % HALF));
        place_eight(counters_of(some, &index), number, places, row);
    }
}

static int too_small(const esv_lists *lists, uint32_t pattern)
{
    return pattern & 3 && lists->count[pattern] <= DISSOLVED;
}

/* The counts of one list's lanes to places from `at` on; returns where it ends. */
static ESV_INLINE uint32_t place_lanes(uint16_t *lane, uint32_t at)
{
#pragma GCC unroll 8
    for (uint32_t i = 0; i < HALF; i++) {
        uint32_t n = lane[i];
        lane[i] = (uint16_t)at;
        at += n;
    }
    return at;
}

/* Counts to places: list after list, within a list lane after lane, with room for what is
 * dissolved into it. List 0 goes last: nobody reads it, and lanes beyond the input end there. */
static void lay_out(esv_lists *lists, uint32_t mask, int dissolve, lane_table *table)
{
    uint16_t more[ESV_LISTS] = {0};
    uint32_t at = 0;
    memset(lists->count, 0, sizeof lists->count);
    for (uint32_t p = 1; p <= mask; p++) {
        lists->count[p] = (uint16_t)vaddvq_u16(vld1q_u16(table->lane[p]));
    }
    for (uint32_t p = 5; dissolve && p <= mask; p++) {
        if (too_small(lists, p)) {
            more[p & 3] = (uint16_t)(more[p & 3] + lists->count[p]);
            more[p & 12] = (uint16_t)(more[p & 12] + lists->count[p]);
        }
    }
    for (uint32_t p = 1; p < ESV_LISTS; p++) {
        lists->first[p] = (uint16_t)at;
        at = (lists->count[p] ? place_lanes(table->lane[p], at) : at) + more[p];
    }
    place_lanes(table->lane[0], at);
    lists->first[0] = 0;
}

static void append(esv_lists *lists, uint32_t list, const uint16_t *row, uint32_t count)
{
    uint16_t *to = lists->row + lists->first[list] + lists->count[list];
    for (uint32_t i = 0; i < count; i++) {
        to[i] = row[i];
    }
    lists->count[list] = (uint16_t)(lists->count[list] + count);
}

/* An input whose bucket would be too small goes to the lists of its low and of its high pair. */
static void dissolve_small(esv_lists *lists, uint32_t mask)
{
    for (uint32_t p = 5; p <= mask; p++) {
        if (lists->count[p] && too_small(lists, p)) {
            const uint16_t *row = lists->row + lists->first[p];
            append(lists, p & 3, row, lists->count[p]);
            append(lists, p & 12, row, lists->count[p]);
            lists->count[p] = 0;
        }
    }
}

static void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                 int dissolve, esv_lists *lists, void *scratch)
{
    lane_index index = {3 - 4 * (int32_t)nibble, vdupq_n_u16((uint16_t)(HALF * mask)),
                        vidupq_n_u16(0, 1)};
    lane_table table;
    (void)scratch;
    for (uint32_t p = 0; p <= mask; p++) {
        vst1q_u16(table.lane[p], vdupq_n_u16(0));
    }
    count_patterns(bytes, count, index, &table);
    lay_out(lists, mask, dissolve, &table);
    place_patterns(bytes, count, index, &table, lists->row);
    if (dissolve) {
        dissolve_small(lists, mask);
    }
}

/* ---- adding rows ---- */

/* Rows of 16 int8. The number of the next row is read and its address made while this one is added.
 * One number too many is read: lists are never full. */
static ESV_INLINE sums add_rows_8(sums s, const void *rows, const uint16_t *row, uint32_t count)
{
    uint32_t at, next;
    int16x8_t low, high;
    __asm volatile("ldrh %[next], [%[row]], #2\n"
                   "add.w %[at], %[rows], %[next], lsl #4\n"
                   "wls lr, %[count], 2f\n"
                   "1:\n"
                   "ldrh.w %[next], [%[row]], #2\n"
                   "vldrb.s16 %q[low], [%[at]]\n"
                   "vadd.i16 %q[s_low], %q[s_low], %q[low]\n"
                   "vldrb.s16 %q[high], [%[at], #8]\n"
                   "vadd.i16 %q[s_high], %q[s_high], %q[high]\n"
                   "add.w %[at], %[rows], %[next], lsl #4\n"
                   "le lr, 1b\n"
                   "2:\n"
                   : [s_low] "+w"(s.low), [s_high] "+w"(s.high), [low] "=&w"(low),
                     [high] "=&w"(high), [row] "+r"(row), [at] "=&l"(at), [next] "=&r"(next)
                   : [rows] "r"(rows), [count] "r"(count)
                   : "lr", "memory");
    return s;
}

/* Rows of `width` int8, aligned to nothing. */
static sums add_narrow(sums s, const int8_t *rows, uint32_t width, const uint16_t *row,
                       uint32_t count)
{
    mve_pred16_t low = vctp16q(width), high = vctp16q(width > HALF ? width - HALF : 0);
    for (; count; count--) {
        const int8_t *at = rows + *row++ * width;
        s.low = vaddq_s16(s.low, vldrbq_z_s16(at, low));
        s.high = vaddq_s16(s.high, vldrbq_z_s16(at + HALF, high));
    }
    return s;
}

static ESV_INLINE int16x8_t add_shifted(int16x8_t sum, int16x8_t field, int32_t shift)
{
    return vaddq_s16(sum, vshlq_r_s16(field, shift));
}

/* Codes of 4 bits are summed together with what stands above them, which is summed once more. */
static sums add_4_bits(sums s, const uint8_t *field, uint32_t row_bytes, const uint16_t *row,
                       uint32_t count)
{
    uint16x8_t all = vdupq_n_u16(0), above = all;
    int16_t low[HALF], high[HALF], sorted[ESV_LANES];
    for (; count; count--) {
        uint16x8_t codes = vldrbq_u16(field + *row++ * row_bytes);
        all = vaddq_u16(all, codes);
        above = vaddq_u16(above, vshrq_n_u16(codes, 4));
    }
    vst1q_s16(low, vreinterpretq_s16_u16(vsubq_u16(all, vshlq_n_u16(above, 4))));
    vst1q_s16(high, vreinterpretq_s16_u16(above));
    for (uint32_t half = 0; half < 2; half++) {
        memcpy(sorted + HALF * half, low + 4 * half, 4 * sizeof *low);
        memcpy(sorted + HALF * half + 4, high + 4 * half, 4 * sizeof *high);
    }
    s.low = vaddq_s16(s.low, vld1q_s16(sorted));
    s.high = vaddq_s16(s.high, vld1q_s16(sorted + HALF));
    return s;
}

static sums add_2_bits(sums s, const uint8_t *field, uint32_t row_bytes, int32_t shift,
                       const uint16_t *row, uint32_t count)
{
    uint32x4_t all = vdupq_n_u32(0), above_2 = all, above_4 = all, above_6 = all;
    uint16_t sorted[ESV_LANES];
    for (; count; count--) {
        uint32x4_t codes = vldrbq_u32(field + *row++ * row_bytes);
        all = vaddq_u32(all, codes);
        above_2 = vaddq_u32(above_2, vshrq_n_u32(codes, 2));
        above_4 = vaddq_u32(above_4, vshrq_n_u32(codes, 4));
        above_6 = vaddq_u32(above_6, vshrq_n_u32(codes, 6));
    }
    vstrhq_u32(sorted, vsubq_u32(all, vshlq_n_u32(above_2, 2)));
    vstrhq_u32(sorted + 4, vsubq_u32(above_2, vshlq_n_u32(above_4, 2)));
    vstrhq_u32(sorted + 8, vsubq_u32(above_4, vshlq_n_u32(above_6, 2)));
    vstrhq_u32(sorted + 12, above_6);
    s.low = add_shifted(s.low, vreinterpretq_s16_u16(vld1q_u16(sorted)), shift);
    s.high = add_shifted(s.high, vreinterpretq_s16_u16(vld1q_u16(sorted + HALF)), shift);
    return s;
}

/* The bits of a row are a predicate of 16 bytes. Bytes hold 255 rows. */
static sums add_1_bit(sums s, const uint8_t *field, uint32_t row_bytes, int32_t shift,
                      const uint16_t *row, uint32_t count)
{
    for (uint32_t n; count; count -= n) {
        uint8x16_t sum = vdupq_n_u8(0);
        uint8_t bytes[ESV_LANES];
        n = count < 255 ? count : 255;
        for (const uint16_t *end = row + n; row < end;) {
            const uint8_t *at = field + *row++ * row_bytes;
            sum = vaddq_m_n_u8(sum, sum, 1, (mve_pred16_t)(at[0] | at[1] << 8));
        }
        vst1q_u8(bytes, sum);
        s.low = add_shifted(s.low, vreinterpretq_s16_u16(vldrbq_u16(bytes)), shift);
        s.high = add_shifted(s.high, vreinterpretq_s16_u16(vldrbq_u16(bytes + HALF)), shift);
    }
    return s;
}

/* The codes of packed rows less the code of 0, count times; narrow rows of 8 bits as they are. */
static ESV_APART void add_others(const esv_tile *tile, sums *s, const uint16_t *row, uint32_t count)
{
    const uint8_t *field = tile->rows;
    int16_t zeros = (int16_t)(count << (tile->bits - 1));
    int32_t shift = 0;
    if (tile->bits == 8) {
        *s = add_narrow(*s, tile->rows, tile->width, row, count);
        return;
    }
    s->low = vsubq_n_s16(s->low, zeros);
    s->high = vsubq_n_s16(s->high, zeros);
    if (tile->bits & 4) {
        *s = add_4_bits(*s, field, tile->row_bytes, row, count);
        field += 8;
        shift = 4;
    }
    if (tile->bits & 2) {
        *s = add_2_bits(*s, field, tile->row_bytes, shift, row, count);
        field += 4;
        shift += 2;
    }
    if (tile->bits & 1) {
        *s = add_1_bit(*s, field, tile->row_bytes, shift, row, count);
    }
}

static ESV_INLINE sums add_rows(const esv_tile *tile, sums s, const uint16_t *row, uint32_t count,
                                int wide_rows)
{
    if (wide_rows) {
        return add_rows_8(s, tile->rows, row, count);
    }
    if (count) {
        add_others(tile, &s, row, count);
    }
    return s;
}

static ESV_INLINE sums add_list(const esv_tile *tile, const esv_lists *lists, uint32_t list, sums s,
                                int wide_rows)
{
    return add_rows(tile, s, lists->row + lists->first[list], lists->count[list], wide_rows);
}

/* Rows of 16 bytes are those of 16 channels of 8 bits. */
static int has_wide_rows(const esv_tile *tile)
{
    return tile->row_bytes == ESV_LANES;
}

/* ---- sums in int16 ---- */

static ESV_INLINE sums none(void)
{
    return (sums){vdupq_n_s16(0), vdupq_n_s16(0)};
}

static ESV_INLINE sums add_sums(sums s, const sums *other)
{
    s.low = vaddq_s16(s.low, other->low);
    s.high = vaddq_s16(s.high, other->high);
    return s;
}

static ESV_APART void load_narrow(const int32_t *channel, uint32_t width, sums *s)
{
    int16_t all[ESV_LANES] = {0};
    for (uint32_t c = 0; c < width; c++) {
        all[c] = (int16_t)channel[c];
    }
    *s = (sums){vld1q_s16(all), vld1q_s16(all + HALF)};
}

/* The low halves of eight int32. */
static ESV_INLINE int16x8_t load_eight(const int32_t *channel)
{
    return vld2q_s16((const int16_t *)(const void *)channel).val[0];
}

/* Channels within int16. What the tile has not is 0. */
static ESV_INLINE sums load(const int32_t *channel, uint32_t width)
{
    sums s;
    if (width == ESV_LANES) {
        return (sums){load_eight(channel), load_eight(channel + HALF)};
    }
    load_narrow(channel, width, &s);
    return s;
}

/* s + the buckets of three patterns. */
static ESV_INLINE sums add_buckets(sums s, const sums *bucket, uint32_t apart,
                                   const uint16_t *count, uint32_t lists_apart)
{
#pragma GCC unroll 3
    for (uint32_t i = 0; i < 3; i++) {
        if (count[i * lists_apart]) {
            s = add_sums(s, bucket + i * apart);
        }
    }
    return s;
}

/* to (2), of which `steps` are used: bias and rows of the steps of a pair. Its patterns are `unit`,
 * 2 unit and 3 unit, each alone or mixed with those of the other pair. bucket: of pattern 0. */
static ESV_INLINE void sum_two_steps(const esv_tile *tile, const esv_lists *lists, uint32_t unit,
                                     const sums *bucket, uint32_t steps, int wide_rows,
                                     sums *to)
{
    uint32_t other = 5 - unit; /* 1 and 4 */
    sums both = load(tile->bias, wide_rows ? ESV_LANES : tile->width);
    both = add_buckets(both, bucket + 3 * unit + other, other, &lists->count[3 * unit + other],
                       other);
    both = add_list(tile, lists, 3 * unit, both, wide_rows);
#pragma GCC unroll 2
    for (uint32_t i = 0; i < steps; i++) {
        uint32_t p = (i + 1) * unit;
        sums s = add_buckets(both, bucket + p + other, other, &lists->count[p + other], other);
        to[i] = add_list(tile, lists, p, s, wide_rows);
    }
}

/* to (4), of which `steps` are used: bias and rows of the steps of one nibble. */
static ESV_INLINE void sum_some(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                int wide_rows, sums *to)
{
    sums bucket[ESV_LISTS]; /* of mixed patterns that occur */
    for (uint32_t p = 5; p < ESV_LISTS && steps > 2; p += p % 4 == 3 ? 2 : 1) {
        if (lists->count[p]) {
            bucket[p] = add_list(tile, lists, p, none(), wide_rows);
        }
    }
    sum_two_steps(tile, lists, 1, bucket, steps < 2 ? 1 : 2, wide_rows, to);
    if (steps > 2) {
        sum_two_steps(tile, lists, 4, bucket, steps - 2, wide_rows, to + 2);
    }
}

static ESV_APART void sum_wide_rows(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                    sums *to)
{
    sum_some(tile, lists, steps, 1, to);
}

static ESV_APART void sum_other_rows(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                                     sums *to)
{
    sum_some(tile, lists, steps, 0, to);
}

static void sum_steps(const esv_tile *tile, const esv_lists *lists, uint32_t steps, sums *to)
{
    if (has_wide_rows(tile)) {
        sum_wide_rows(tile, lists, steps, to);
    } else {
        sum_other_rows(tile, lists, steps, to);
    }
}

static uint32_t steps_in(const esv_tile *tile, uint32_t group)
{
    uint32_t left = tile->time_steps - STEPS * group;
    return left < STEPS ? left : STEPS;
}

/* One step of the neurons of eight channels. In asm because GCC 12 takes each predicate through a
 * core register. */
static ESV_INLINE void lif(int16x8_t current, int16x8_t threshold, uint16x8_t bit,
                           int16x8_t *membrane, uint16x8_t *code)
{
    __asm volatile("vhadd.s16 %q[v], %q[v], %q[current]\n"
                   "vptt.s16 ge, %q[v], %q[threshold]\n"
                   "vorrt %q[code], %q[code], %q[bit]\n"
                   "vmovt.i16 %q[v], #0\n"
                   : [v] "+w"(*membrane), [code] "+w"(*code)
                   : [current] "w"(current), [threshold] "w"(threshold), [bit] "w"(bit)
                   : "cc");
}

typedef struct {
    sums membrane;
    uint16x8_t low, high; /* codes */
} neurons;

static ESV_INLINE void fire_steps(const sums *current, sums threshold, uint32_t first,
                                  uint32_t steps, neurons *state)
{
    neurons n = *state;
    uint16x8_t bit = vdupq_n_u16((uint16_t)(1u << first));
    for (uint32_t t = 0; t < steps; t++) {
        lif(current[t].low, threshold.low, bit, &n.membrane.low, &n.low);
        lif(current[t].high, threshold.high, bit, &n.membrane.high, &n.high);
        bit = vaddq_u16(bit, bit);
    }
    *state = n;
}

static ESV_APART void put_narrow(const neurons *n, uint32_t width, uint8_t *codes)
{
    vstrbq_p_u16(codes, n->low, vctp16q(width));
    vstrbq_p_u16(codes + HALF, n->high, vctp16q(width > HALF ? width - HALF : 0));
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    uint32_t width = tile->width;
    sums current[STEPS];
    neurons state = {none(), vdupq_n_u16(0), vdupq_n_u16(0)};
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, &lists[g], steps, current);
        fire_steps(current, load(tile->threshold, width), STEPS * g, steps, &state);
    }
    if (width == ESV_LANES) {
        vstrbq_u16(codes, state.low);
        vstrbq_u16(codes + HALF, state.high);
    } else {
        put_narrow(&state, width, codes);
    }
}

static void widen(sums s, uint32_t width, int32_t *currents)
{
    int16_t channel[ESV_LANES];
    vst1q_s16(channel, s.low);
    vst1q_s16(channel + HALF, s.high);
    for (uint32_t c = 0; c < width; c += 4) {
        vst1q_p_s32(currents + c, vldrhq_s32(channel + c), vctp32q(width - c));
    }
}

static void narrow_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    sums s[STEPS];
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, &lists[g], steps, s);
        for (uint32_t t = 0; t < steps; t++, currents += tile->width) {
            widen(s[t], tile->width, currents);
        }
    }
}

/* From the highest level down, so that a row is added once and its bucket as often as its level:
 * `running` holds all rows of this level or a higher one. */
static void narrow_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                          int32_t *currents)
{
    sums s = none(), bias = load(tile->bias, tile->width);
    for (uint32_t g = nibbles; g-- > 0;) {
        sums running = none();
        s.low = vshlq_n_s16(s.low, 4);
        s.high = vshlq_n_s16(s.high, 4);
        for (uint32_t level = ESV_LISTS; level-- > 1;) {
            running = add_list(tile, &lists[g], level, running, has_wide_rows(tile));
            s = add_sums(s, &running);
        }
    }
    widen(add_sums(s, &bias), tile->width, currents);
}

/* ---- sums in int32 ---- */

static ESV_APART void add_all(uint32_t n, const int32_t *from, int32_t *to)
{
    for (uint32_t c = 0; c < n; c += 4) {
        mve_pred16_t some = vctp32q(n - c);
        int32x4_t sum = vaddq_s32(vldrwq_z_s32(to + c, some), vldrwq_z_s32(from + c, some));
        vst1q_p_s32(to + c, sum, some);
    }
}

/* sum (width) += the rows of a list. 256 rows cannot leave int16. */
static ESV_APART void add_list_wide(const esv_tile *tile, const esv_lists *lists, uint32_t list,
                                    int32_t *sum)
{
    const uint16_t *row = lists->row + lists->first[list];
    for (uint32_t left = lists->count[list], n; left; left -= n, row += n) {
        int32_t part[ESV_LANES];
        n = left < 256 ? left : 256;
        widen(add_rows(tile, none(), row, n, has_wide_rows(tile)), tile->width, part);
        add_all(tile->width, part, sum);
    }
}

static void wide_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    uint32_t width = tile->width;
    for (uint32_t t = 0; t < tile->time_steps; t++) {
        memcpy(currents + t * width, tile->bias, width * sizeof *currents);
    }
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++, currents += STEPS * width) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            int32_t bucket[ESV_LANES] = {0};
            add_list_wide(tile, &lists[g], p, bucket);
            for (uint32_t t = 0; p >> t; t++) {
                if (p >> t & 1 && lists[g].count[p]) {
                    add_all(width, bucket, currents + t * width);
                }
            }
        }
    }
}

static void wide_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                        int32_t *currents)
{
    memset(currents, 0, tile->width * sizeof *currents);
    for (uint32_t g = nibbles; g-- > 0;) {
        int32_t running[ESV_LANES] = {0};
        for (uint32_t c = 0; c < tile->width; c++) {
            currents[c] = (int32_t)((uint32_t)currents[c] << 4);
        }
        for (uint32_t level = ESV_LISTS; level-- > 1;) {
            add_list_wide(tile, &lists[g], level, running);
            add_all(tile->width, running, currents);
        }
    }
    add_all(tile->width, tile->bias, currents);
}

static void sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide, int32_t *currents)
{
    (wide ? wide_spikes : narrow_spikes)(tile, lists, currents);
}

static void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                       int32_t *currents)
{
    (wide ? wide_levels : narrow_levels)(tile, lists, nibbles, currents);
}

const esv_spike_variant esv_spike_mve = {
    .name = "mve", .width = ESV_LANES, .sort = sort, .fire = fire,
    .sum_spikes = sum_spikes, .sum_levels = sum_levels,
};

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
