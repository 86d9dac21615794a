/* Sorting what fires by pattern, eight inputs at a time (spike_mve.h). */
#include "spike_mve.h"

#ifdef ESV_MVE

/* Buckets of at most this many rows are dissolved, by measurement. Their rows take two entries more
 * while sorting, up to HALF - 1 are lost: ESV_LIST_SLACK must hold 2 * MIXED * DISSOLVED + 7. */
#define DISSOLVED 4
#define MIXED 9 /* patterns with steps of both pairs */

/* A counting sort in eight lanes: each lane counts its own inputs, then each has its own place in
 * every list, and scattered stores put eight inputs there at a time. */
typedef struct {
    uint16_t list[HALF][ESV_LISTS]; /* of each lane */
} lane_table;

/* How a nibble becomes the place of its counters in the table, for each lane. */
typedef struct {
    int32_t shift;
    uint16x8_t keep, lane;
} lane_index;

static ESV_INLINE uint16x8_t counters_of(uint16x8_t some, const lane_index *index, int shifted)
{
    some = shifted ? vshlq_r_u16(some, index->shift) : some;
    return vorrq_u16(vandq_u16(some, index->keep), index->lane);
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

static ESV_INLINE void count_patterns(const uint8_t *bytes, uint32_t count, lane_index index,
                                      int shifted, lane_table *table)
{
    uint16_t *counters = &table->list[0][0];
    for (uint32_t n = count / HALF; n; n--, bytes += HALF) {
        count_eight(counters_of(vldrbq_u16(bytes), &index, shifted), counters);
    }
    if (count % HALF) {
        uint16x8_t some = vldrbq_z_u16(bytes, vctp16q(count % HALF));
        count_eight(counters_of(some, &index, shifted), counters);
    }
}

static ESV_INLINE void place_patterns(const uint8_t *bytes, uint32_t count, lane_index index,
                                      int shifted, lane_table *table, uint16_t *row)
{
    uint16_t *places = &table->list[0][0];
    uint16x8_t number = vidupq_n_u16(0, 1);
    for (uint32_t n = count / HALF; n; n--, bytes += HALF) {
        place_eight(counters_of(vldrbq_u16(bytes), &index, shifted), number, places, row);
        number = vaddq_n_u16(number, HALF);
    }
    if (count % HALF) {
        uint16x8_t some = vldrbq_z_u16(bytes, vctp16q(count % HALF));
        place_eight(counters_of(some, &index, shifted), number, places, row);
    }
}

static ESV_INLINE void clear_table(lane_table *table)
{
#pragma GCC unroll 8
    for (uint32_t i = 0; i < HALF; i++) {
        vst1q_u16(&table->list[i][0], vdupq_n_u16(0));
        vst1q_u16(&table->list[i][HALF], vdupq_n_u16(0));
    }
}

/* The lanes' counts of eight lists together. */
static ESV_INLINE void sum_lanes(const lane_table *table, uint32_t first, uint16_t *counts)
{
    uint16x8_t sum = vld1q_u16(&table->list[0][first]);
#pragma GCC unroll 8
    for (uint32_t i = 1; i < HALF; i++) {
        sum = vaddq_u16(sum, vld1q_u16(&table->list[i][first]));
    }
    vst1q_u16(counts + first, sum);
}

/* Counts to places, of eight lists: lane after lane from where the list begins. */
static ESV_INLINE void place_lanes(lane_table *table, uint32_t first, const uint16_t *begin)
{
    uint16x8_t at = vld1q_u16(begin + first);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < HALF; i++) {
        uint16x8_t n = vld1q_u16(&table->list[i][first]);
        vst1q_u16(&table->list[i][first], at);
        at = vaddq_u16(at, n);
    }
}

/* Small lists of patterns with steps of both pairs are to give way: returns their set. *kept
 * becomes the set of others. */
static uint32_t choose_dissolved(esv_lists *lists, uint32_t *kept)
{
    uint32_t gone = 0;
#pragma GCC unroll 9
    for (uint32_t i = 0; i < MIXED; i++) {
        uint32_t p = i / 3 * 4 + i % 3 + 5, n = lists->count[p];
        if (n > DISSOLVED) {
            *kept |= 1u << p;
        } else if (n) {
            gone |= 1u << p;
            lists->count[p & 3] = (uint16_t)(lists->count[p & 3] + n);
            lists->count[p & 12] = (uint16_t)(lists->count[p & 12] + n);
        }
    }
    return gone;
}

/* Lists in the order in which they are added; those with steps of both pairs come next, and last
 * list 0: nobody reads it, and lanes beyond the input end there. */
static void lay_out(const esv_lists *lists, uint16_t *begin)
{
    static const uint8_t in_memory[ESV_LISTS] = {3, 1,  2,  12, 4,  8,  5, 6,
                                                 7, 9, 10, 11, 13, 14, 15, 0};
    uint32_t at = 0;
#pragma GCC unroll 16
    for (uint32_t i = 0; i < ESV_LISTS; i++) {
        begin[in_memory[i]] = (uint16_t)at;
        at += lists->count[in_memory[i]];
    }
}

/* Inputs of small lists go to the lists of their low and of their high pair, which hold `own`. */
static void dissolve_lists(esv_lists *lists, uint32_t gone, uint16_t *own)
{
    for (uint32_t p = 5; gone >> p; p++) {
        if (gone >> p & 1) {
            uint32_t n = lists->count[p], low = p & 3, high = p & 12;
            mve_pred16_t some = vctp16q(n);
            uint16x8_t row = vldrhq_z_u16(lists->row + lists->first[p], some);
            vstrhq_p_u16(lists->row + lists->first[low] + own[low], row, some);
            vstrhq_p_u16(lists->row + lists->first[high] + own[high], row, some);
            own[low] = (uint16_t)(own[low] + n);
            own[high] = (uint16_t)(own[high] + n);
            lists->count[p] = 0;
        }
    }
}

/* From what the lanes have counted to the lists and the lanes' places in them; own: what each list
 * holds before others are dissolved. Returns the set of those that are. */
static ESV_INLINE uint32_t plan(lane_table *table, int dissolve, esv_lists *lists, uint16_t *own)
{
    uint32_t gone = 0, kept = 0;
    sum_lanes(table, 0, lists->count);
    sum_lanes(table, HALF, lists->count);
    memcpy(own, lists->count, sizeof lists->count);
    if (dissolve) {
        gone = choose_dissolved(lists, &kept);
    }
    lay_out(lists, lists->first);
    place_lanes(table, 0, lists->first);
    place_lanes(table, HALF, lists->first);
    lists->first[0] = (uint16_t)kept;
    lists->count[0] = 0;
    return gone;
}

static ESV_INLINE void sort(const uint8_t *bytes, uint32_t count, lane_index index, int shifted,
                            int dissolve, esv_lists *lists)
{
    lane_table table;
    uint16_t own[ESV_LISTS];
    clear_table(&table);
    count_patterns(bytes, count, index, shifted, &table);
    uint32_t gone = plan(&table, dissolve, lists, own);
    place_patterns(bytes, count, index, shifted, &table, lists->row);
    dissolve_lists(lists, gone, own);
}

static ESV_APART void sort_low(const uint8_t *bytes, uint32_t count, lane_index index,
                               int dissolve, esv_lists *lists)
{
    sort(bytes, count, index, 0, dissolve, lists);
}

static ESV_APART void sort_high(const uint8_t *bytes, uint32_t count, lane_index index,
                                int dissolve, esv_lists *lists)
{
    sort(bytes, count, index, 1, dissolve, lists);
}

void esv_mve_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                  int dissolve, esv_lists *lists, void *scratch)
{
    uint16x8_t lane = vmulq_n_u16(vidupq_n_u16(0, 1), ESV_LISTS);
    lane_index index = {-4, vdupq_n_u16((uint16_t)mask), lane};
    (void)scratch;
    (nibble ? sort_high : sort_low)(bytes, count, index, dissolve, lists);
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
