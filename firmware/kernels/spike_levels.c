/* Levels that fire in a window, sorted: by the patterns of steps at which they reach 1, 2, ..., or by
 * level.
 */
#include "after.h"
#include "bytes16.h"
#include "spike_layer.h"

#include <string.h>

#ifdef ESV_BYTES16
/* All ones in the first `count` bytes, fewer than 16. */
static bytes16 first_bytes(uint32_t count)
{
    const bytes16 number = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (bytes16)(number < (uint8_t)count);
}

static ESV_INLINE int pattern_in(const uint8_t *const *plane, uint32_t steps, uint32_t count,
                                 uint32_t level, uint8_t *codes)
{
    const uint8_t *from[8];
    bytes16 any = {0}, code = {0};
    uint32_t k = 0;
    for (uint32_t t = 0; t < steps; t++) {
        from[t] = plane[t];
    }
    for (; k < count; k += 16, any |= code) {
        code = (bytes16)(load16(from[0] + k) >= (uint8_t)level) & 1;
        for (uint32_t t = 1; t < steps; t++) {
            code |= (bytes16)(load16(from[t] + k) >= (uint8_t)level) & (uint8_t)(1u << t);
        }
        code = count - k < 16 ? code & first_bytes(count - k) : code;
        memcpy(codes + k, &code, sizeof code);
    }
    uint64_t half[2];
    memcpy(half, &any, sizeof half);
    return (half[0] | half[1]) != 0;
}

/* codes (count) = the steps at which each input is at least `level`; returns whether any is. May
 * write 15 bytes more. */
static int pattern_of(const uint8_t *const *plane, uint32_t steps, uint32_t count, uint32_t level,
                      uint8_t *codes)
{
    switch (steps) { /* copies whose steps the compiler knows */
    case 2: return pattern_in(plane, 2, count, level, codes);
    case 4: return pattern_in(plane, 4, count, level, codes);
    default: return pattern_in(plane, steps, count, level, codes);
    }
}

/* row (count) modulo `rows`, of which each number is less than `times`. Up to 7 more may be taken
 * with them. */
static void wrap(uint16_t *row, uint32_t count, uint32_t rows, uint32_t times)
{
    for (uint32_t e = 0; e < count; e += 8) {
        halves8 all;
        memcpy(&all, row + e, sizeof all);
        for (uint32_t i = 1; i < times; i++) {
            all -= (halves8)(all >= (uint16_t)rows) & (uint16_t)rows;
        }
        memcpy(row + e, &all, sizeof all);
    }
}
#else
/* codes (count) |= bit t where an input is at least `level`, or = instead of |= with `first`. Four
 * inputs at a time: adding lifts what reaches the level into a byte's top bit. Levels above 127 are
 * never met here. */
static inline void reach(const uint8_t *restrict plane, uint32_t count, uint32_t level, uint32_t t,
                         int first, uint8_t *restrict codes)
{
    const uint32_t ones = 0x01010101u, lift = (128 - level) * ones;
    for (size_t i = 0, words = (count + 3) / 4; i < words; i++) {
        uint32_t four, code = 0;
        memcpy(&four, plane + 4 * i, 4);
        if (!first) {
            memcpy(&code, codes + 4 * i, 4);
        }
        code |= ((four + lift) >> 7 & ones) << t;
        memcpy(codes + 4 * i, &code, 4);
    }
}

static int any(const uint8_t *codes, uint32_t count)
{
    uint8_t all = 0;
    for (uint32_t k = 0; k < count; k++) {
        all |= codes[k];
    }
    return all != 0;
}

/* codes (count) = the steps at which each input is at least `level`; returns whether any is. May
 * write 3 bytes more. */
static int pattern_of(const uint8_t *const *plane, uint32_t steps, uint32_t count, uint32_t level,
                      uint8_t *codes)
{
    reach(plane[0], count, level, 0, 1, codes);
    for (uint32_t t = 1; t < steps; t++) {
        reach(plane[t], count, level, t, 0, codes);
    }
    return any(codes, count);
}

static void wrap(uint16_t *row, uint32_t count, uint32_t rows, uint32_t times)
{
    (void)times;
    for (uint32_t e = 0; e < count; e++) {
        while (row[e] >= rows) {
            row[e] = (uint16_t)(row[e] - rows);
        }
    }
}
#endif

static uint32_t count_set(const uint8_t *codes, uint32_t count)
{
    uint32_t set = 0;
    for (uint32_t k = 0; k < count; k++) {
        set += codes[k] != 0;
    }
    return set;
}

/* A level is how many of 1, 2, ... it reaches: an input enters once for each, with the pattern of
 * the steps at which it does, and then its rows are those of spikes. The rows of each four steps
 * take the room of as many sets; returns 0 when that is too little, or when of high levels there are
 * more than rows in lists by level, at most one for each step at which an input fires. */
static int sort_patterns(const esv_spike_layer *l, const esv_spike_memory *m,
                         const uint8_t *const *plane, esv_lists *lists)
{
    uint32_t rows = l->rows, steps = l->w->time_steps, most = 0, groups = (steps + 3) / 4;
    uint32_t room = esv_spike_pattern_room(l->w, l->kernel), usual = esv_spike_room(l->w);
    uint32_t sets = l->sets / groups, counted = 0, all = 0;
    while (pattern_of(plane, steps, rows, most + 1, m->patterns + most * rows)) {
        if (++most <= usual) {
            continue;
        }
        all += count_set(m->patterns + counted * rows, (most - counted) * rows);
        counted = most;
        if (most > room || all > sets * rows || all > steps * count_set(m->patterns, rows)) {
            return 0;
        }
    }
    for (uint32_t g = 1; g < groups; g++) {
        lists[g].row = lists[g * sets].row;
    }
    esv_spike_sort_codes(l, m, m->patterns, most * rows, lists);
    for (uint32_t g = 0; most > 1 && 4 * g < steps; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            wrap(lists[g].row + lists[g].first[p], lists[g].count[p], rows, most);
        }
    }
    return 1;
}

static void sort_levels(const esv_spike_layer *l, const esv_spike_memory *m,
                        const uint8_t *const *plane, esv_lists *lists)
{
    uint32_t n = esv_spike_nibbles(l->w);
    for (uint32_t set = 0; set < l->w->time_steps * n; set++) {
        l->kernel->sort(plane[set / n], l->rows, set % n, 15, 0, &lists[set], m->sorting);
    }
}

/* Inputs of a level that are listed once more for each level above 1, at most so many for every
 * list, so that all are in one list: rows to add instead of what a list costs. */
#define MORE_ROWS(kernel) ((kernel)->weight_bytes ? 16u : 6u)

/* Append each row of lists 2 and above as often as its level is above 1. */
static void repeat_rows(const esv_lists *lists, uint32_t top, uint16_t *to)
{
    for (uint32_t p = 2; p <= top; p++) {
        const uint16_t *row = lists->row + lists->first[p], *end = row + lists->count[p];
        for (; row < end; row++) {
            for (uint32_t times = 1; times < p; times++) {
                *to++ = *row;
            }
        }
    }
}

int esv_spike_join_levels(const esv_spike_layer *l, esv_lists *lists)
{
    uint32_t top = esv_top_level(lists), all = 0, more = 0, used = 0, begin = UINT16_MAX, end = 0;
    if (top < 2) {
        lists->first[0] = 0;
        return 1;
    }
    for (uint32_t p = 1; p <= top; p++) {
        uint32_t first = lists->first[p], count = lists->count[p];
        if (count) {
            all += count;
            more += (p - 1) * count;
            used++;
            begin = first < begin ? first : begin;
            end = first + count > end ? first + count : end;
        }
    }
    if (more > MORE_ROWS(l->kernel) * used || end - begin != all ||
        end + more > l->rows + ESV_LIST_SLACK / 2) {
        return 0;
    }
    repeat_rows(lists, top, lists->row + end);
    memset(lists->count, 0, sizeof lists->count);
    lists->count[1] = (uint16_t)(all + more);
    lists->first[1] = (uint16_t)begin;
    lists->first[0] = 0;
    return 1;
}

static int has_patterns(const esv_spike_layer *l)
{
    uint32_t room = esv_spike_room(l->w);
    return room && l->w->max_level < 128 &&
           (room + 1) * l->rows <= UINT16_MAX - ESV_LIST_SLACK;
}

int esv_spike_sort_levels(const esv_spike_layer *l, const esv_spike_memory *m,
                          const uint8_t *const *plane, esv_lists *lists)
{
    if (has_patterns(l) && sort_patterns(l, m, plane, lists)) {
        return 1;
    }
    sort_levels(l, m, plane, lists);
    return l->w->time_steps == 1 && l->w->max_level < ESV_LISTS &&
           esv_spike_join_levels(l, lists);
}
