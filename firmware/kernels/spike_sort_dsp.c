/* Sorting what fires by pattern, four inputs at a time (spike_dsp.h). */
#include "spike_dsp.h"

#ifdef ESV_DSP

/* Buckets of at most this many rows are dissolved, by measurement: their rows take twice as many
 * entries, so MIXED * DISSOLVED must not exceed ESV_LIST_SLACK. */
#define DISSOLVED 7
#define MIXED 9 /* patterns with steps of both pairs */

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

/* The numbers of the bytes of a word that are not 0, of which the first is k. */
static ESV_INLINE uint16_t *append(uint32_t word, uint32_t k, uint16_t *to)
{
    for (; word; word >>= 8, k++) {
        if (word & 0xFF) {
            *to++ = (uint16_t)k;
        }
    }
    return to;
}

/* One step: there is but one list, and it needs no counting. */
static ESV_APART void sort_single(const uint8_t *bytes, uint32_t count, uint32_t shift,
                                  esv_lists *lists)
{
    const uint32_t ones = 0x01010101u;
    uint16_t *to = lists->row;
    uint32_t k = 0;
    memset(lists->first, 0, sizeof lists->first);
    memset(lists->count, 0, sizeof lists->count);
    for (; k + 4 <= count; k += 4) {
        to = append(load_word(bytes + k) >> shift & ones, k, to);
    }
    to = append(last_nibbles(bytes, count, shift, ones), k, to);
    lists->count[1] = (uint16_t)(to - lists->row);
}

/* Rows whose buckets would be too small, until they join the lists of their low and high pairs. */
typedef struct {
    uint32_t set; /* of patterns */
    uint16_t row[MIXED * DISSOLVED];
} dissolved;

/* Small lists of patterns with steps of both pairs give way; first[0] becomes the set of others. */
static void choose_dissolved(esv_lists *lists, dissolved *d, uint16_t **to)
{
    uint16_t *row = d->row;
    uint32_t kept = 0;
    d->set = 0;
    for (uint32_t p = 5; p < ESV_LISTS; p += p % 4 == 3 ? 2 : 1) {
        uint32_t n = lists->count[p];
        if (n > DISSOLVED) {
            kept |= 1u << p;
        } else if (n) {
            d->set |= 1u << p;
            to[p] = row;
            row += n;
            lists->count[p & 3] = (uint16_t)(lists->count[p & 3] + n);
            lists->count[p & 12] = (uint16_t)(lists->count[p & 12] + n);
        }
    }
    lists->first[0] = (uint16_t)kept;
}

/* Lists in the order in which they are added; those with steps of both pairs come last. */
static const uint8_t in_memory[ESV_LISTS - 1] = {3, 1, 2, 12, 4, 8, 5, 6, 7, 9, 10, 11, 13, 14, 15};

/* Where each list begins, of all but the dissolved ones. */
static void lay_out(esv_lists *lists, uint32_t without, uint16_t **to)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < ESV_LISTS - 1; i++) {
        uint32_t p = in_memory[i];
        if (!(without >> p & 1)) {
            to[p] = lists->row + at;
            lists->first[p] = (uint16_t)at;
            at += lists->count[p];
        }
    }
}

static void dissolve_lists(esv_lists *lists, const dissolved *d, uint16_t **to)
{
    const uint16_t *row = d->row;
    for (uint32_t p = 5; d->set >> p; p++) {
        if (!(d->set >> p & 1)) {
            continue;
        }
        for (const uint16_t *end = row + lists->count[p]; row < end; row++) {
            *to[p & 3]++ = *row;
            *to[p & 12]++ = *row;
        }
        lists->count[p] = 0;
    }
}

static ESV_APART void sort_patterns(const uint8_t *bytes, uint32_t count, uint32_t shift,
                                    uint32_t mask, int dissolve, esv_lists *lists)
{
    uint16_t *to[ESV_LISTS];
    dissolved d;
    d.set = 0;
    memset(lists->count, 0, sizeof lists->count);
    count_patterns(bytes, count, shift, mask, lists->count);
    if (dissolve) {
        choose_dissolved(lists, &d, to);
    }
    lay_out(lists, d.set, to);
    place_patterns(bytes, count, shift, mask, to);
    lists->count[0] = 0;
    dissolve_lists(lists, &d, to);
}

void esv_dsp_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                  int dissolve, esv_lists *lists, void *scratch)
{
    (void)scratch;
    if (mask == 1) {
        sort_single(bytes, count, 4 * nibble, lists);
    } else {
        sort_patterns(bytes, count, 4 * nibble, mask * 0x01010101u, dissolve, lists);
    }
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
