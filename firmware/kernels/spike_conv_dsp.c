/* The spiking convolution for Armv7E-M's DSP extension (Cortex-M4, M7): packed rows are added where
 * they are, two channels at a time.
 *
 * SXTAB16 adds bytes 0 and 2 of a word to the halves of a register, and bytes 1 and 3 once it is
 * rotated. The sums of 16 channels are 8 registers: channels (4 i, 4 i + 2) and (4 i + 1, 4 i + 3).
 *
 * A pattern of four steps is a low pair and a high pair of bits. Its bucket is added to one sum of
 * each pair, never to four steps: steps 0 and 1 each are what both have plus what one has.
 */
#include "spike_conv.h"

#if defined(__ARM_FEATURE_SIMD32) && !defined(__ARM_FEATURE_MVE) && !defined(__aarch64__) && \
    defined(__thumb2__)

#include <string.h>

#include "after.h"
#include "weights.h"

#define PAIRS 8 /* registers of 16 channels */
#define WORDS 4 /* of a row in bytes, and of 16 codes */
#define STEPS 4 /* of a nibble */
#define BOTH(x) ((uint32_t)(x) * 0x00010001u)

/* Buckets of at most this many rows are dissolved, by measurement. Dissolving takes as many entries
 * again, twice while sorting: 2 * 9 * DISSOLVED must not exceed ESV_LIST_SLACK. */
#define DISSOLVED 5
#define MIXED 9 /* patterns with steps of both pairs */

typedef struct {
    uint32_t pair[PAIRS];
} sums;

/* ---- sorting ---- */

static ESV_INLINE uint32_t load_word(const uint8_t *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* The nibbles of the last count % 4 bytes, each in its byte. */
static uint32_t last_nibbles(const uint8_t *bytes, uint32_t count, uint32_t shift, uint32_t mask)
{
    uint32_t left = count & 3;
    return left ? load_word(bytes + count - left) >> shift & mask & ((1u << 8 * left) - 1) : 0;
}

static ESV_INLINE void count_word(uint32_t word, uint16_t *occurs)
{
    if (word) {
        occurs[word & 0xFF]++;
        occurs[word >> 8 & 0xFF]++;
        occurs[word >> 16 & 0xFF]++;
        occurs[word >> 24]++;
    }
}

static ESV_APART void count_patterns(const uint8_t *bytes, uint32_t count, uint32_t shift,
                                     uint32_t mask, uint16_t *occurs)
{
    for (const uint8_t *end = bytes + (count & ~3u); bytes < end; bytes += 4) {
        count_word(load_word(bytes) >> shift & mask, occurs);
    }
    count_word(last_nibbles(bytes, count & 3, shift, mask), occurs);
}

static ESV_INLINE void place(uint32_t pattern, uint32_t k, uint16_t **to)
{
    if (pattern) {
        *to[pattern]++ = (uint16_t)k;
    }
}

static ESV_INLINE void place_word(uint32_t word, uint32_t k, uint16_t **to)
{
    if (word) {
        place(word & 0xFF, k, to);
        place(word >> 8 & 0xFF, k + 1, to);
        place(word >> 16 & 0xFF, k + 2, to);
        place(word >> 24, k + 3, to);
    }
}

static ESV_APART void place_patterns(const uint8_t *bytes, uint32_t count, uint32_t shift,
                                     uint32_t mask, uint16_t **to)
{
    uint32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        place_word(load_word(bytes + k) >> shift & mask, k, to);
    }
    place_word(last_nibbles(bytes, count, shift, mask), k, to);
}

static int is_mixed(uint32_t pattern)
{
    return pattern & 3 && pattern >> 2;
}

static int too_small(const esv_lists *lists, uint32_t pattern)
{
    return is_mixed(pattern) && lists->count[pattern] <= DISSOLVED;
}

/* Where each list begins. Dissolved ones go last: they are only read again to be copied. */
static void lay_out(esv_lists *lists, const uint16_t *occurs, int dissolve, uint16_t **to)
{
    uint16_t room[ESV_LISTS];
    uint32_t at = 0;
    for (uint32_t p = 1; p < ESV_LISTS; p++) {
        lists->count[p] = room[p] = occurs[p];
    }
    lists->first[0] = lists->count[0] = 0;
    for (uint32_t p = 5; dissolve && p < ESV_LISTS; p++) {
        if (too_small(lists, p)) {
            room[p & 3] = (uint16_t)(room[p & 3] + occurs[p]);
            room[p & 12] = (uint16_t)(room[p & 12] + occurs[p]);
        }
    }
    for (uint32_t p = 1; p < ESV_LISTS; p++) {
        to[p] = lists->row + at;
        lists->first[p] = (uint16_t)at;
        at += room[p];
    }
}

/* An input whose bucket would be too small goes to the lists of its low and of its high pair. */
static void dissolve_small(esv_lists *lists, uint16_t **to)
{
    for (uint32_t p = 5; p < ESV_LISTS; p++) {
        if (!too_small(lists, p)) {
            continue;
        }
        const uint16_t *row = lists->row + lists->first[p];
        for (uint32_t i = 0; i < lists->count[p]; i++) {
            *to[p & 3]++ = row[i];
            *to[p & 12]++ = row[i];
        }
        lists->count[p & 3] = (uint16_t)(lists->count[p & 3] + lists->count[p]);
        lists->count[p & 12] = (uint16_t)(lists->count[p & 12] + lists->count[p]);
        lists->count[p] = 0;
    }
}

static void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                 int dissolve, esv_lists *lists, void *scratch)
{
    uint16_t occurs[ESV_LISTS] = {0};
    uint16_t *to[ESV_LISTS];
    (void)scratch;
    mask *= 0x01010101u;
    count_patterns(bytes, count, 4 * nibble, mask, occurs);
    lay_out(lists, occurs, dissolve, to);
    place_patterns(bytes, count, 4 * nibble, mask, to);
    if (dissolve) {
        dissolve_small(lists, to);
    }
}

static const sums none;

/* ---- adding rows ---- */

#define ADD_PAIR(op, sum, word) __asm(op " %0, %0, %1" : "+r"(sum) : "r"(word))
#define ADD_PAIR_ROTATED(op, sum, word) __asm(op " %0, %0, %1, ror #8" : "+r"(sum) : "r"(word))

/* s += rows of 16 int8. Eight rows a turn, of which the first turn skips as many as do not make
 * eight; a turn ends with a look at the end of the list, which has no register. The number of the
 * next row is read and its address made while this one is added, so that nothing waits for a load.
 * One number too many is read: lists are never full. */
static ESV_APART void add_rows_8(sums *s, const void *rows, const uint16_t *row, uint32_t count)
{
    const uint16_t *end = row + count;
    register const void *base __asm("r0") = rows;
    register const uint16_t *next __asm("r1") = row;
    register uint32_t *into __asm("r2") = s->pair;
    register uint32_t skipped __asm("r3") = 48 * ((0u - count) & 7); /* bytes of code */
    __asm volatile("ldm r2, {r4-r11}\n"
                   "adr.w r12, 1f\n"
                   "add r12, r12, r3\n"
                   "orr r12, r12, #1\n"
                   "ldrh r2, [r1], #2\n"
                   "add r3, r0, r2, lsl #4\n"
                   "bx r12\n"
                   ".p2align 2\n"
                   "1:\n"
                   ".rept 8\n"
                   "ldrd r12, lr, [r3]\n"
                   "ldrh.w r2, [r1], #2\n"
                   "sxtab16 r4, r4, r12\n"
                   "sxtab16 r5, r5, r12, ror #8\n"
                   "sxtab16 r6, r6, lr\n"
                   "sxtab16 r7, r7, lr, ror #8\n"
                   "ldrd r12, lr, [r3, #8]\n"
                   "add.w r3, r0, r2, lsl #4\n"
                   "sxtab16 r8, r8, r12\n"
                   "sxtab16 r9, r9, r12, ror #8\n"
                   "sxtab16 r10, r10, lr\n"
                   "sxtab16 r11, r11, lr, ror #8\n"
                   ".endr\n"
                   "ldr r2, %[end]\n"
                   "cmp r1, r2\n"
                   "bls 1b\n"
                   "ldr r2, %[sums]\n"
                   "stm r2, {r4-r11}\n"
                   : "+r"(next), "+r"(into), "+r"(skipped)
                   : "r"(base), [end] "m"(end), [sums] "m"(s)
                   : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

/* s += four words of bytes, signed or not. */
static ESV_INLINE void add_signed(sums *s, const uint32_t *word)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++) {
        ADD_PAIR("sxtab16", s->pair[2 * i], word[i]);
        ADD_PAIR_ROTATED("sxtab16", s->pair[2 * i + 1], word[i]);
    }
}

static ESV_INLINE void add_unsigned(sums *s, const uint32_t *word)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++) {
        ADD_PAIR("uxtab16", s->pair[2 * i], word[i]);
        ADD_PAIR_ROTATED("uxtab16", s->pair[2 * i + 1], word[i]);
    }
}

/* Rows of `width` int8, aligned to nothing. */
static ESV_INLINE void add_rows_of(sums *s, const uint8_t *rows, uint32_t width,
                                   const uint16_t *row, uint32_t count)
{
    uint32_t word[WORDS] = {0};
    for (; count; count--) {
        memcpy(word, rows + *row++ * width, width);
        add_signed(s, word);
    }
}

/* s += fields << shift: the codes of packed rows are summed field by field. */
static ESV_INLINE void add_fields(sums *s, const uint32_t *word, uint32_t shift)
{
    sums fields = {{0}};
    uint32_t high = 0xFFFFu << shift & 0xFFFFu;
    add_unsigned(&fields, word);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < PAIRS; i++) {
        uint32_t shifted = fields.pair[i] << shift & BOTH(high);
        __asm("sadd16 %0, %0, %1" : "+r"(s->pair[i]) : "r"(shifted));
    }
}

/* Bytes hold the sum of 17 fields of 4 bits, 85 of 2 and 255 of 1. */
static ESV_APART void add_4_bits(sums *s, const uint8_t *field, uint32_t row_bytes,
                                 const uint16_t *row, uint32_t count)
{
    const uint32_t mask = 0x0F0F0F0F;
    for (uint32_t n; count; count -= n) {
        uint32_t word[WORDS] = {0};
        n = count < 16 ? count : 16;
        for (const uint16_t *end = row + n; row < end;) {
            const uint8_t *at = field + *row++ * row_bytes;
            uint32_t low = load_word(at), high = load_word(at + 4);
            word[0] += low & mask;
            word[1] += low >> 4 & mask;
            word[2] += high & mask;
            word[3] += high >> 4 & mask;
        }
        add_unsigned(s, word);
    }
}

static ESV_APART void add_2_bits(sums *s, const uint8_t *field, uint32_t row_bytes, uint32_t shift,
                                 const uint16_t *row, uint32_t count)
{
    const uint32_t mask = 0x03030303;
    for (uint32_t n; count; count -= n) {
        uint32_t word[WORDS] = {0};
        n = count < 85 ? count : 85;
        for (const uint16_t *end = row + n; row < end;) {
            uint32_t all = load_word(field + *row++ * row_bytes);
            word[0] += all & mask;
            word[1] += all >> 2 & mask;
            word[2] += all >> 4 & mask;
            word[3] += all >> 6 & mask;
        }
        add_fields(s, word, shift);
    }
}

/* The low four bits, each to its byte. */
static ESV_INLINE uint32_t spread(uint32_t bits)
{
    return (bits & 15) * 0x00204081u & 0x01010101u;
}

static ESV_APART void add_1_bit(sums *s, const uint8_t *field, uint32_t row_bytes, uint32_t shift,
                                const uint16_t *row, uint32_t count)
{
    for (uint32_t n; count; count -= n) {
        uint32_t word[WORDS] = {0};
        n = count < 255 ? count : 255;
        for (const uint16_t *end = row + n; row < end;) {
            uint16_t all;
            memcpy(&all, field + *row++ * row_bytes, sizeof all);
            word[0] += spread(all);
            word[1] += spread(all >> 4);
            word[2] += spread(all >> 8);
            word[3] += spread(all >> 12);
        }
        add_fields(s, word, shift);
    }
}

/* The codes of packed rows less the code of 0, count times. */
static ESV_APART void add_packed(const esv_tile *tile, sums *s, const uint16_t *row, uint32_t count)
{
    const uint8_t *field = tile->rows;
    uint32_t shift = 0, zeros = BOTH(count << (tile->bits - 1) & 0xFFFFu);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < PAIRS; i++) {
        __asm("ssub16 %0, %0, %1" : "+r"(s->pair[i]) : "r"(zeros));
    }
    if (tile->bits & 4) {
        add_4_bits(s, field, tile->row_bytes, row, count);
        field += 8;
        shift = 4;
    }
    if (tile->bits & 2) {
        add_2_bits(s, field, tile->row_bytes, shift, row, count);
        field += 4;
        shift += 2;
    }
    if (tile->bits & 1) {
        add_1_bit(s, field, tile->row_bytes, shift, row, count);
    }
}

static ESV_APART void add_narrow(const esv_tile *tile, sums *s, const uint16_t *row, uint32_t count)
{
    if (tile->width == 8) {
        add_rows_of(s, tile->rows, 8, row, count);
    } else {
        add_rows_of(s, tile->rows, tile->width, row, count);
    }
}

static void add_rows(const esv_tile *tile, sums *s, const uint16_t *row, uint32_t count)
{
    if (tile->bits < 8) {
        add_packed(tile, s, row, count);
    } else if (tile->width == ESV_LANES) {
        add_rows_8(s, tile->rows, row, count);
    } else {
        add_narrow(tile, s, row, count);
    }
}

static void add_list(const esv_tile *tile, const esv_lists *lists, uint32_t list, sums *s)
{
    if (lists->count[list]) {
        add_rows(tile, s, lists->row + lists->first[list], lists->count[list]);
    }
}

/* ---- sums in int16 ---- */

static ESV_INLINE void add_sums(sums *s, const sums *other)
{
    uint32_t *to = s->pair;
    const uint32_t *from = other->pair;
    for (uint32_t half = 0; half < 2; half++, to += 4) {
        __asm volatile("ldm %[from]!, {r4-r7}\n"
                       "ldm %[to], {r8-r10, r12}\n"
                       "sadd16 r4, r4, r8\n"
                       "sadd16 r5, r5, r9\n"
                       "sadd16 r6, r6, r10\n"
                       "sadd16 r7, r7, r12\n"
                       "stm %[to], {r4-r7}\n"
                       : [from] "+r"(from)
                       : [to] "r"(to)
                       : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r12", "memory");
    }
}

/* Channels in their order, within int16, to pairs. */
static ESV_APART void pair_up(const int32_t *channel, sums *s)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < PAIRS; i += 2, channel += 4) {
        __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(s->pair[i]) : "r"(channel[0]), "r"(channel[2]));
        __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(s->pair[i + 1]) : "r"(channel[1]), "r"(channel[3]));
    }
}

static ESV_APART void pair_up_narrow(const int32_t *channel, uint32_t width, sums *s)
{
    int32_t all[ESV_LANES] = {0};
    memcpy(all, channel, width * sizeof *channel);
    pair_up(all, s);
}

/* What the tile has not is 0. */
static void to_pairs(const int32_t *channel, uint32_t width, sums *s)
{
    if (width == ESV_LANES) {
        pair_up(channel, s);
    } else {
        pair_up_narrow(channel, width, s);
    }
}

static ESV_INLINE int32_t channel_of(const sums *s, uint32_t c)
{
    return (int16_t)(s->pair[c / 4 * 2 + c % 2] >> (c % 4 / 2 * 16));
}

/* s += the buckets of three patterns. */
static ESV_INLINE void add_buckets(sums *s, const sums *bucket, uint32_t apart,
                                   const uint16_t *count, uint32_t lists_apart)
{
    for (uint32_t i = 0; i < 3; i++) {
        if (count[i * lists_apart]) {
            add_sums(s, bucket + i * apart);
        }
    }
}

/* s (2), of which `steps` are used: bias and rows of the steps of a pair. Its patterns are `unit`,
 * 2 unit and 3 unit, each alone or mixed with those of the other pair, which are `other` apart. */
static ESV_INLINE void sum_two_steps(const esv_tile *tile, const esv_lists *lists, uint32_t unit,
                                     const sums *bucket, const sums *bias, uint32_t steps, sums *s)
{
    uint32_t other = 5 - unit; /* 1 and 4 */
    uint32_t apart = unit == 1 ? 3 : 1, mine = unit == 1 ? 1 : 3;
    s[0] = *bias;
    add_buckets(&s[0], bucket + 2 * mine, apart, &lists->count[3 * unit + other], other);
    add_list(tile, lists, 3 * unit, &s[0]);
    if (steps > 1) {
        s[1] = s[0];
    }
    for (uint32_t i = 0; i < steps; i++) {
        add_buckets(&s[i], bucket + i * mine, apart, &lists->count[(i + 1) * unit + other], other);
        add_list(tile, lists, (i + 1) * unit, &s[i]);
    }
}

/* s (4), of which `steps` are used: bias and rows of the steps of one nibble. */
static void sum_steps(const esv_tile *tile, const esv_lists *lists, uint32_t steps, sums *s)
{
    sums bucket[MIXED]; /* low pair 1 to 3 of high pair 1, of 2, of 3 */
    sums bias;
    to_pairs(tile->bias, tile->width, &bias);
    for (uint32_t p = 5, b = 0; b < MIXED && steps > 2; p++) {
        if (!(p & 3)) {
            continue;
        }
        if (lists->count[p]) {
            bucket[b] = none;
            add_list(tile, lists, p, &bucket[b]);
        }
        b++;
    }
    sum_two_steps(tile, lists, 1, bucket, &bias, steps < 2 ? 1 : 2, s);
    if (steps > 2) {
        sum_two_steps(tile, lists, 4, bucket, &bias, steps - 2, s + 2);
    }
}

static uint32_t steps_in(const esv_tile *tile, uint32_t group)
{
    uint32_t left = tile->time_steps - STEPS * group;
    return left < STEPS ? left : STEPS;
}

/* One step of the neurons of two channels; returns `bits` where they fire. */
static ESV_INLINE uint32_t lif(uint32_t *membrane, uint32_t current, uint32_t threshold,
                               uint32_t bits)
{
    uint32_t fired;
    __asm("shadd16 %[v], %[v], %[current]\n"
          "ssub16 %[fired], %[v], %[threshold]\n"
          "sel %[fired], %[bits], %[zero]\n"
          "sel %[v], %[zero], %[v]\n"
          : [v] "+r"(*membrane), [fired] "=&r"(fired)
          : [current] "r"(current), [threshold] "r"(threshold), [bits] "r"(bits), [zero] "r"(0)
          : "cc");
    return fired;
}

static ESV_INLINE void fire_step(const sums *current, const sums *threshold, uint32_t t,
                                 sums *membrane, uint32_t *code)
{
    uint32_t bits = BOTH(1u << t);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t *v = &membrane->pair[2 * i];
        uint32_t even = lif(&v[0], current->pair[2 * i], threshold->pair[2 * i], bits);
        uint32_t odd = lif(&v[1], current->pair[2 * i + 1], threshold->pair[2 * i + 1], bits);
        code[i] |= even | odd << 8;
    }
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    sums s[STEPS], threshold, membrane = none;
    uint32_t code[WORDS] = {0};
    to_pairs(tile->threshold, tile->width, &threshold);
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, &lists[g], steps, s);
        for (uint32_t t = 0; t < steps; t++) {
            fire_step(&s[t], &threshold, STEPS * g + t, &membrane, code);
        }
    }
    if (tile->width == ESV_LANES) {
        memcpy(codes, code, ESV_LANES);
    } else {
        memcpy(codes, code, tile->width);
    }
}

static int32_t *put_narrow(const sums *s, uint32_t width, int32_t *currents)
{
    for (uint32_t c = 0; c < width; c++) {
        *currents++ = channel_of(s, c);
    }
    return currents;
}

static void narrow_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    sums s[STEPS];
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, &lists[g], steps, s);
        for (uint32_t t = 0; t < steps; t++) {
            currents = put_narrow(&s[t], tile->width, currents);
        }
    }
}

/* From the highest level down, so that a row is added once and its bucket as often as its level:
 * `running` holds all rows of this level or a higher one. */
static void narrow_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                          int32_t *currents)
{
    sums s = none, bias;
    to_pairs(tile->bias, tile->width, &bias);
    for (uint32_t g = nibbles; g-- > 0;) {
        sums running = {{0}};
        for (uint32_t i = 0; i < PAIRS; i++) {
            s.pair[i] = s.pair[i] << 4 & BOTH(0xFFF0);
        }
        for (uint32_t level = ESV_LISTS; level-- > 1;) {
            add_list(tile, &lists[g], level, &running);
            add_sums(&s, &running);
        }
    }
    add_sums(&s, &bias);
    put_narrow(&s, tile->width, currents);
}

/* ---- sums in int32 ---- */

/* sum (width) += the rows of a list. 256 rows cannot leave int16. */
static void add_list_wide(const esv_tile *tile, const esv_lists *lists, uint32_t list,
                          uint32_t *sum)
{
    const uint16_t *row = lists->row + lists->first[list];
    for (uint32_t left = lists->count[list], n; left; left -= n, row += n) {
        sums part = {{0}};
        n = left < 256 ? left : 256;
        add_rows(tile, &part, row, n);
        for (uint32_t c = 0; c < tile->width; c++) {
            sum[c] += (uint32_t)channel_of(&part, c);
        }
    }
}

static void add_all(uint32_t n, const uint32_t *from, int32_t *to)
{
    for (uint32_t c = 0; c < n; c++) {
        to[c] = (int32_t)((uint32_t)to[c] + from[c]);
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
            uint32_t bucket[ESV_LANES] = {0};
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
        uint32_t running[ESV_LANES] = {0};
        for (uint32_t c = 0; c < tile->width; c++) {
            currents[c] = (int32_t)((uint32_t)currents[c] << 4);
        }
        for (uint32_t level = ESV_LISTS; level-- > 1;) {
            add_list_wide(tile, &lists[g], level, running);
            add_all(tile->width, running, currents);
        }
    }
    add_all(tile->width, (const uint32_t *)tile->bias, currents);
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

const esv_spike_variant esv_spike_dsp = {
    .name = "dsp", .width = ESV_LANES, .sort = sort, .fire = fire, .sum_spikes = sum_spikes,
    .sum_levels = sum_levels,
};

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
