/* The spiking convolution's sums and neurons in plain C: the definition, and what runs where
 * nothing faster does. Packed rows are read where they are. */
#include <string.h>

#include "after.h"
#include "lif.h"
#include "spike_conv.h"
#include "weights.h"

/* A bucket costs about as much as adding this many rows: a smaller one is dissolved. With at most 4
 * steps a pattern then takes at most 5 entries more than it has inputs: ESV_LIST_SLACK is ample. */
static int too_small(uint32_t steps, uint32_t count)
{
    return steps > 1 && count * (steps - 1) <= steps + 1;
}

static uint32_t steps_of(uint32_t pattern)
{
    return (pattern & 1) + (pattern >> 1 & 1) + (pattern >> 2 & 1) + (pattern >> 3);
}

/* The lists that an input of pattern p enters, one bit each: that of p, or the single steps. */
static void choose_lists(const uint32_t *occurs, int dissolve, uint16_t *enters)
{
    for (uint32_t p = 0; p < ESV_LISTS; p++) {
        int alone = !dissolve || !too_small(steps_of(p), occurs[p]);
        enters[p] = 0;
        for (uint32_t t = 0; t < 4 && !alone; t++) {
            enters[p] = (uint16_t)(enters[p] | (p >> t & 1) << (1u << t));
        }
        if (alone && p) {
            enters[p] = (uint16_t)(1u << p);
        }
    }
}

static void place_lists(const uint32_t *occurs, const uint16_t *enters, esv_lists *lists)
{
    uint32_t at = 0;
    for (uint32_t list = 0; list < ESV_LISTS; list++) {
        lists->first[list] = (uint16_t)at;
        lists->count[list] = 0;
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            at += enters[p] >> list & 1 ? occurs[p] : 0;
        }
    }
}

static void sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                 int dissolve, esv_lists *lists, void *scratch)
{
    uint32_t occurs[ESV_LISTS] = {0};
    uint16_t enters[ESV_LISTS];
    (void)scratch;
    for (uint32_t k = 0; k < count; k++) {
        occurs[bytes[k] >> (4 * nibble) & mask]++;
    }
    choose_lists(occurs, dissolve, enters);
    place_lists(occurs, enters, lists);
    for (uint32_t k = 0; k < count; k++) {
        uint32_t into = enters[bytes[k] >> (4 * nibble) & mask];
        for (uint32_t list = 0; into; list++, into >>= 1) {
            if (into & 1) {
                lists->row[lists->first[list] + lists->count[list]++] = (uint16_t)k;
            }
        }
    }
}

/* sum (n) += the rows of a list. Sums are made in 32 bits, unsigned so that they wrap by
 * definition; a narrow sum is their lower half. */
static ESV_INLINE void add_rows(const esv_tile *tile, const esv_lists *lists, uint32_t list,
                                uint32_t n, uint32_t *sum)
{
    const uint16_t *row = lists->row + lists->first[list];
    int8_t unpacked[ESV_LANES];
    for (uint32_t e = 0; e < lists->count[list]; e++) {
        const uint8_t *packed = (const uint8_t *)tile->rows + row[e] * tile->row_bytes;
        const int8_t *weight = esv_row(packed, tile->bits, unpacked);
        for (uint32_t i = 0; i < n; i++) {
            sum[i] += (uint32_t)weight[i];
        }
    }
}

static ESV_APART void add_list(const esv_tile *tile, const esv_lists *lists, uint32_t list,
                               uint32_t *sum)
{
    if (tile->width == ESV_LANES) {
        add_rows(tile, lists, list, ESV_LANES, sum);
    } else {
        add_rows(tile, lists, list, tile->width, sum);
    }
}

static void add_all(uint32_t n, const uint32_t *bucket, uint32_t *sum)
{
    for (uint32_t i = 0; i < n; i++) {
        sum[i] += bucket[i];
    }
}

/* sums (4, ESV_LANES), of which `steps` are used: bias and rows of the steps of one nibble. */
static void sum_group(const esv_tile *tile, const esv_lists *lists, uint32_t steps,
                      uint32_t (*sums)[ESV_LANES])
{
    for (uint32_t t = 0; t < steps; t++) {
        memcpy(sums[t], tile->bias, tile->width * sizeof **sums);
        add_list(tile, lists, 1u << t, sums[t]);
    }
    for (uint32_t p = 3; p < ESV_LISTS; p++) {
        uint32_t bucket[ESV_LANES] = {0};
        if (!lists->count[p] || steps_of(p) == 1) {
            continue;
        }
        add_list(tile, lists, p, bucket);
        for (uint32_t t = 0; t < steps; t++) {
            if (p >> t & 1) {
                add_all(tile->width, bucket, sums[t]);
            }
        }
    }
}

static uint32_t steps_in(const esv_tile *tile, uint32_t group)
{
    uint32_t left = tile->time_steps - 4 * group;
    return left < 4 ? left : 4;
}

static void fire(const esv_tile *tile, const esv_lists *lists, uint8_t *codes)
{
    int16_t membrane[ESV_LANES] = {0};
    memset(codes, 0, tile->width);
    for (uint32_t g = 0; 4 * g < tile->time_steps; g++) {
        uint32_t sums[4][ESV_LANES];
        sum_group(tile, &lists[g], steps_in(tile, g), sums);
        for (uint32_t t = 0; t < steps_in(tile, g); t++) {
            for (uint32_t i = 0; i < tile->width; i++) {
                uint32_t fired = esv_lif16(&membrane[i], (int16_t)sums[t][i], tile->threshold[i]);
                codes[i] = (uint8_t)(codes[i] | fired << (4 * g + t));
            }
        }
    }
}

static int32_t narrowed(uint32_t sum, int wide)
{
    return wide ? (int32_t)sum : (int16_t)sum;
}

static void sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide, int32_t *currents)
{
    for (uint32_t g = 0; 4 * g < tile->time_steps; g++) {
        uint32_t sums[4][ESV_LANES];
        sum_group(tile, &lists[g], steps_in(tile, g), sums);
        for (uint32_t t = 0; t < steps_in(tile, g); t++) {
            for (uint32_t i = 0; i < tile->width; i++) {
                *currents++ = narrowed(sums[t][i], wide);
            }
        }
    }
}

/* From the highest level down, so that a row is added once and its bucket as often as its level:
 * `running` holds all rows of this level or a higher one. */
static void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                       int32_t *currents)
{
    uint32_t sum[ESV_LANES] = {0};
    for (uint32_t g = nibbles; g-- > 0;) {
        uint32_t running[ESV_LANES] = {0};
        for (uint32_t i = 0; i < tile->width; i++) {
            sum[i] *= 16;
        }
        for (uint32_t level = esv_top_level(&lists[g]); level > 0; level--) {
            add_list(tile, &lists[g], level, running);
            add_all(tile->width, running, sum);
        }
    }
    for (uint32_t i = 0; i < tile->width; i++) {
        currents[i] = narrowed(sum[i] + (uint32_t)tile->bias[i], wide);
    }
}

const esv_spike_variant esv_spike_scalar = {
    .name = "scalar", .width = ESV_LANES, .sort = sort, .fire = fire, .sum_spikes = sum_spikes,
    .sum_levels = sum_levels,
};
