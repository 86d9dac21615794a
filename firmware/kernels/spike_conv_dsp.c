/* The spiking convolution for Armv7E-M's DSP extension (Cortex-M4, M7): packed rows are added where
 * they are, two channels at a time (spike_dsp.h).
 *
 * A pattern of four steps is a low pair and a high pair of bits. Its bucket is added to one sum of
 * each pair, never to four steps: steps 0 and 1 each are what both have plus what one has.
 */
#include "spike_dsp.h"

#ifdef ESV_DSP

static const sums none;

static void add_list(const esv_tile *tile, const esv_lists *lists, uint32_t list, const sums *from,
                     sums *to)
{
    esv_dsp_add_rows(tile, lists->row + lists->first[list], lists->count[list], from, to);
}

/* ---- sums in int16 ---- */

/* *to = *to + *other. */
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

/* The low halves of channels 0 and 2. */
static ESV_INLINE uint32_t pair_of(const int32_t *channel)
{
    uint32_t pair;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(channel[0]), "r"(channel[2]));
    return pair;
}

/* Channels in their order, within int16, to pairs; width: 8 or 16. */
static ESV_APART void pair_up(const int32_t *channel, uint32_t width, sums *s)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < PAIRS; i += 2, channel += 4) {
        if (i == PAIRS / 2 && width < ESV_LANES) {
            return;
        }
        s->pair[i] = pair_of(channel);
        s->pair[i + 1] = pair_of(channel + 1);
    }
}

static ESV_APART void pair_up_narrow(const int32_t *channel, uint32_t width, sums *s)
{
    int32_t all[ESV_LANES] = {0};
    memcpy(all, channel, width * sizeof *channel);
    pair_up(all, ESV_LANES, s);
}

/* What the tile has not does not matter. */
static void to_pairs(const int32_t *channel, uint32_t width, sums *s)
{
    if (width % 8 == 0) {
        pair_up(channel, width, s);
    } else {
        pair_up_narrow(channel, width, s);
    }
}

static ESV_INLINE int32_t channel_of(const sums *s, uint32_t c)
{
    return (int16_t)(s->pair[c / 4 * 2 + c % 2] >> (c % 4 / 2 * 16));
}

/* Sum the rows of the patterns with steps of both pairs and add each to what the pairs have. */
static ESV_APART void add_mixed(const esv_tile *tile, const esv_lists *lists, uint32_t mixed,
                                esv_dsp_steps *s)
{
    sums *low[] = {&s->step[0], &s->step[1], &s->both[0]};
    sums *high[] = {&s->step[2], &s->step[3], &s->both[1]};
    s->step[0] = s->step[1] = s->step[2] = s->step[3] = none;
    for (uint32_t p = 5; mixed >> p; p++) {
        if (mixed >> p & 1) {
            sums bucket;
            add_list(tile, lists, p, &none, &bucket);
            add_sums(low[(p & 3) - 1], &bucket);
            add_sums(high[(p >> 2) - 1], &bucket);
        }
    }
}

/* As esv_dsp_add_steps, of rows that have not 16 bytes. */
static ESV_APART void add_pair(const esv_tile *tile, const esv_lists *lists, uint32_t unit,
                               uint32_t mixed, sums *both, sums *step)
{
    add_list(tile, lists, 3 * unit, both, both);
    for (uint32_t i = 0; i < 2; i++) {
        if (mixed) {
            add_sums(&step[i], both);
        }
        add_list(tile, lists, (i + 1) * unit, mixed ? &step[i] : both, &step[i]);
    }
}

/* s->step, of which `steps` are used: bias and rows of the steps of one nibble. */
static void sum_steps(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                      esv_dsp_steps *s)
{
    uint32_t mixed = lists->first[0];
    to_pairs(tile->bias, tile->width, &s->both[0]);
    if (steps < 2) {
        add_list(tile, lists, 1, &s->both[0], &s->step[0]);
        return;
    }
    s->both[1] = s->both[0];
    if (mixed) {
        add_mixed(tile, lists, mixed, s);
    }
    if (tile->bits == 8 && tile->row_bytes % 8 == 0) {
        esv_dsp_add_steps(tile, lists, mixed, s);
        return;
    }
    add_pair(tile, lists, 1, mixed, &s->both[0], &s->step[0]);
    if (steps > 2) {
        add_pair(tile, lists, 4, mixed, &s->both[1], &s->step[2]);
    }
}

static uint32_t steps_in(const esv_tile *tile, uint32_t group)
{
    uint32_t left = tile->time_steps - STEPS * group;
    return left < STEPS ? left : STEPS;
}

/* Codes of four channels from their currents, which begin at pair number `pair` of each step. Bits
 * of one half that have moved into the other are dropped at the end. */
static ESV_INLINE uint32_t fire_word(const esv_dsp_steps *groups, uint32_t pair, uint32_t steps,
                                     const int32_t *threshold)
{
    uint32_t even = 0, odd = 0, even_code = 0, odd_code = 0;
    uint32_t even_threshold = pair_of(threshold), odd_threshold = pair_of(threshold + 1);
#pragma GCC unroll 4
    for (uint32_t t = 0; t < steps; t++) {
        const sums *s = &groups[t / STEPS].step[t % STEPS];
        esv_dsp_lif(&even, s->pair[pair], even_threshold, &even_code);
        esv_dsp_lif(&odd, s->pair[pair + 1], odd_threshold, &odd_code);
    }
    even_code = even_code >> (8 - steps) & BOTH(0xFF);
    return even_code | (odd_code >> (8 - steps) & BOTH(0xFF)) << 8;
}

static ESV_INLINE void fire_steps(const esv_dsp_steps *groups, uint32_t steps, uint32_t words,
                                  const int32_t *threshold, uint8_t *codes)
{
    for (uint32_t i = 0; i < words; i++) {
        uint32_t code = fire_word(groups, 2 * i, steps, threshold + 4 * i);
        memcpy(codes + 4 * i, &code, sizeof code);
    }
}

static ESV_APART void fire_any(const esv_dsp_steps *groups, uint32_t steps, uint32_t words,
                               const int32_t *threshold, uint8_t *codes)
{
    if (steps == 4) {
        fire_steps(groups, 4, words, threshold, codes);
    } else if (steps == 2) {
        fire_steps(groups, 2, words, threshold, codes);
    } else {
        fire_steps(groups, steps, words, threshold, codes);
    }
}

/* The threshold of a channel that the tile has not does not matter. */
static ESV_APART void fire_narrow(const esv_tile *tile, const esv_dsp_steps *groups,
                                  uint8_t *codes)
{
    int32_t threshold[ESV_LANES] = {0};
    uint8_t all[ESV_LANES];
    memcpy(threshold, tile->threshold, tile->width * sizeof *threshold);
    fire_any(groups, tile->time_steps, WORDS, threshold, all);
    memcpy(codes, all, tile->width);
}

/* Where neurons at rest fire in their only step: 1 in each half. */
static ESV_INLINE uint32_t fire_once(uint32_t current, uint32_t threshold)
{
    uint32_t fired;
    __asm("shadd16 %[fired], %[zero], %[current]\n"
          "ssub16 %[fired], %[fired], %[threshold]\n"
          "sel %[fired], %[one], %[zero]\n"
          : [fired] "=&r"(fired)
          : [current] "r"(current), [threshold] "r"(threshold), [one] "r"(BOTH(1)), [zero] "r"(0)
          : "cc");
    return fired;
}

/* One step of 16 channels. */
static ESV_APART void fire_single(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    const int32_t *threshold = tile->threshold;
    sums s;
    pair_up(tile->bias, ESV_LANES, &s);
    add_list(tile, lists, 1, &s, &s);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++, threshold += 4) {
        uint32_t code = fire_once(s.pair[2 * i], pair_of(threshold));
        code |= fire_once(s.pair[2 * i + 1], pair_of(threshold + 1)) << 8;
        memcpy(codes + 4 * i, &code, sizeof code);
    }
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    esv_dsp_steps groups[2];
    if (tile->time_steps == 1 && tile->width == ESV_LANES) {
        fire_single(tile, lists, codes);
        return;
    }
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        sum_steps(tile, &lists[g], steps_in(tile, g), &groups[g]);
    }
    if (tile->width % 4 == 0) {
        fire_any(groups, tile->time_steps, tile->width / 4u, tile->threshold, codes);
    } else {
        fire_narrow(tile, groups, codes);
    }
}

/* Channels in their order; returns the end. */
static ESV_APART int32_t *put_narrow(const sums *s, uint32_t width, int32_t *currents)
{
    const uint32_t *pair = s->pair;
    uint32_t c = 0;
    for (; c + 4 <= width; c += 4, pair += 2, currents += 4) {
        currents[0] = (int16_t)pair[0];
        currents[1] = (int16_t)pair[1];
        currents[2] = (int32_t)pair[0] >> 16;
        currents[3] = (int32_t)pair[1] >> 16;
    }
    for (; c < width; c++) {
        *currents++ = channel_of(s, c);
    }
    return currents;
}

static void narrow_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents)
{
    esv_dsp_steps s;
    for (uint32_t g = 0; STEPS * g < tile->time_steps; g++) {
        uint32_t steps = steps_in(tile, g);
        sum_steps(tile, &lists[g], steps, &s);
        for (uint32_t t = 0; t < steps; t++) {
            currents = put_narrow(&s.step[t], tile->width, currents);
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
        for (uint32_t level = esv_top_level(&lists[g]); level > 0; level--) {
            add_list(tile, &lists[g], level, &running, &running);
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
        sums part;
        n = left < 256 ? left : 256;
        esv_dsp_add_rows(tile, row, n, &none, &part);
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
        for (uint32_t level = esv_top_level(&lists[g]); level > 0; level--) {
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
    .name = "dsp", .width = ESV_LANES, .sort = esv_dsp_sort, .fire = fire, .sum_spikes = sum_spikes,
    .sum_levels = sum_levels,
};

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
