/* Overlapping windows of codes, or of a single step's levels, where memory allows: each row of the image is sorted once, and the
 * lists of a window are put together from stretches of those of its rows.
 *
 * A list of a sorted row is in the order of its pixels, so what belongs to a window is a stretch of
 * it. A ring holds as many rows as the positions of one output token read; tokens come in order.
 */
#include "spike_layer.h"

typedef int esv_not_empty; /* where there is no memory for lines */

#if ESV_KEEPS_LINES
#include <string.h>

#define AT_ONCE 8u /* entries of a list that are copied together, the last ones in vain */

typedef uint16_t entries __attribute__((vector_size(16)));
typedef uint16_t of_lists __attribute__((vector_size(2 * ESV_LISTS)));

/* A sorted row. bound[x * ESV_LISTS + p] is where in `row` list p comes to pixel x. */
typedef struct {
    uint16_t *row, *bound;
} line;

/* The window's share of a line: of each list from where, and what takes its entries to numbers of
 * weight rows. */
typedef struct {
    const uint16_t *row, *first, *end;
    uint16_t offset;
} stretch;

static uint32_t line_entries(const esv_window *w)
{
    return (uint32_t)w->width * w->channels + AT_ONCE;
}

/* Of one line and four steps. */
static uint32_t line_bytes(const esv_window *w)
{
    return ESV_ALIGNED(2 * line_entries(w)) + 2 * ESV_LISTS * (w->width + 1u);
}

static uint32_t groups(const esv_window *w)
{
    return (w->time_steps + 3u) / 4;
}

uint32_t esv_spike_lines(const esv_window *w, int levels)
{
    int fits = line_entries(w) + ESV_LIST_SLACK <= UINT16_MAX;
    int lists = !levels || (w->time_steps == 1 && w->max_level < ESV_LISTS);
    uint32_t apart = (w->pool ? w->pool - 1u : 0) * w->stride;
    return lists && fits && w->kernel > w->stride ? apart + w->kernel : 0;
}

uint32_t esv_spike_lines_bytes(const esv_window *w, uint32_t lines)
{
    return lines * groups(w) * line_bytes(w);
}

static line line_at(const esv_spike_layer *l, const esv_spike_memory *m, uint32_t y, uint32_t group)
{
    uint8_t *at = m->lines + (y % l->lines * groups(l->w) + group) * line_bytes(l->w);
    uint16_t *row = (uint16_t *)(void *)at;
    return (line){row, row + ESV_ALIGNED(2 * line_entries(l->w)) / 2};
}

/* Where each pixel of a list begins, to every ESV_LISTS-th of `bound`. What is behind the list has
 * to give way for a moment, to an entry beyond all pixels. */
static void find_bounds(const esv_window *w, uint16_t *row, uint32_t first, uint32_t end,
                        uint16_t *bound)
{
    uint32_t pixels = w->width + 1u, channels = w->channels, limit = 0;
    const uint16_t *at = row + first, behind = row[end];
    row[end] = UINT16_MAX;
    for (uint32_t x = 0; x < pixels; x++, limit += channels, bound += ESV_LISTS) {
        while (*at < limit) {
            at++;
        }
        *bound = (uint16_t)(at - row);
    }
    row[end] = behind;
}

/* Of codes; the highest list. */
static uint32_t mask_of(const esv_spike_layer *l, uint32_t group)
{
    return l->levels ? ESV_LISTS - 1 : ((1u << l->w->time_steps) - 1) >> (4 * group) & 15;
}

static void sort_line(const esv_spike_layer *l, const esv_spike_memory *m, uint32_t y)
{
    uint32_t count = (uint32_t)l->w->width * l->w->channels;
    for (uint32_t g = 0; g < groups(l->w); g++) {
        line to = line_at(l, m, y, g);
        esv_lists lists = {.row = to.row};
        uint32_t mask = mask_of(l, g);
        l->kernel->sort(l->input + y * count, count, g, mask, 0, &lists, m->sorting);
        memset(to.bound, 0, 2 * ESV_LISTS * (l->w->width + 1u));
        for (uint32_t p = 1; p <= mask; p++) {
            if (l->levels && !lists.count[p]) {
                continue; /* most of them */
            }
            find_bounds(l->w, to.row, lists.first[p], lists.first[p] + lists.count[p],
                        to.bound + p);
        }
    }
}

/* count += the lengths of all lists of a stretch. */
static void add_lengths(const uint16_t *first, const uint16_t *end, of_lists *count)
{
    of_lists from, to;
    memcpy(&from, first, sizeof from);
    memcpy(&to, end, sizeof to);
    *count += to - from;
}

/* The stretches of the window that begins at (y, x), and in count how many entries all of them have
 * of each list; returns how many there are. */
static uint32_t find_stretches(const esv_spike_layer *l, const esv_spike_memory *m, int32_t y,
                               int32_t x, uint32_t group, stretch *found, of_lists *count)
{
    const esv_window *w = l->w;
    uint32_t tap = (uint32_t)w->kernel * w->channels, n = 0;
    int32_t left = x < 0 ? 0 : x, right = x + w->kernel < w->width ? x + w->kernel : w->width;
    *count = (of_lists){0};
    for (int32_t k = y < 0 ? -y : 0; k < w->kernel && y + k < w->height && left < right; k++) {
        line from = line_at(l, m, (uint32_t)(y + k), group);
        const uint16_t *first = from.bound + (uint32_t)left * ESV_LISTS;
        const uint16_t *end = from.bound + (uint32_t)right * ESV_LISTS;
        uint32_t offset = (uint32_t)k * tap - (uint32_t)(x * w->channels);
        found[n++] = (stretch){from.row, first, end, (uint16_t)offset};
        add_lengths(first, end, count);
    }
    return n;
}

/* Bit p of source[q]: list q takes the rows of pattern p. Small lists are dissolved; of levels, whose
 * lists are mostly empty, these are left out. */
static void choose_sources(const esv_spike_layer *l, uint32_t mask, uint16_t *count,
                           uint16_t *source)
{
    const esv_spike_variant *k = l->kernel;
    const of_lists own = {1,      1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                          1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
    memcpy(source, &own, sizeof own);
    if (l->levels) {
        for (uint32_t p = 1; p <= mask; p++) {
            source[p] = count[p] ? source[p] : 0;
        }
        return;
    }
    for (uint32_t i = k->splits ? esv_splits_within(mask) : 0; i > 0; i--) {
        const esv_split *split = &k->splits[i - 1];
        uint32_t p = split->p;
        if (count[p] && count[p] <= split->longest) {
            for (uint32_t half = 0; half < 2; half++) {
                uint32_t q = split->to[half];
                count[q] = (uint16_t)(count[q] + count[p]);
                source[q] |= source[p];
            }
            count[p] = source[p] = 0;
        }
    }
}

/* Append list p of a stretch; returns the new end. Up to AT_ONCE entries of rubbish follow. */
static inline uint16_t *append(const stretch *s, uint32_t p, uint16_t *to)
{
    const uint16_t *from = s->row + s->first[p];
    uint16_t *end = to + (s->end[p] - s->first[p]);
    entries some, offset = s->offset - (entries){0};
    do { /* at least once: a branch on an empty list costs more */
        memcpy(&some, from, sizeof some);
        some += offset;
        memcpy(to, &some, sizeof some);
        from += AT_ONCE, to += AT_ONCE;
    } while (to < end);
    return end;
}

static void join(const stretch *stretches, uint32_t n, uint32_t mask, const uint16_t *source,
                 esv_lists *lists)
{
    uint16_t *to = lists->row;
    for (uint32_t list = 1; list <= mask; list++) {
        lists->first[list] = (uint16_t)(to - lists->row);
        for (uint32_t left = source[list]; left; left &= left - 1) {
            uint32_t p = (uint32_t)__builtin_ctz(left);
            for (uint32_t i = 0; i < n; i++) {
                to = append(&stretches[i], p, to);
            }
        }
    }
}

void esv_spike_sort_window(const esv_spike_layer *l, esv_spike_memory *m, int32_t y, int32_t x,
                           esv_lists *lists)
{
    int32_t end = y + l->w->kernel < l->w->height ? y + l->w->kernel : l->w->height;
    m->next_line = m->next_line < y ? y : m->next_line;
    for (; m->next_line < end; m->next_line++) {
        sort_line(l, m, (uint32_t)m->next_line);
    }
    for (uint32_t g = 0; g < groups(l->w); g++) {
        stretch stretches[UINT8_MAX];
        uint16_t source[ESV_LISTS];
        of_lists count;
        uint32_t n = find_stretches(l, m, y, x, g, stretches, &count), mask = mask_of(l, g);
        memcpy(lists[g].count, &count, sizeof count);
        choose_sources(l, mask, lists[g].count, source);
        lists[g].first[0] = 0;
        join(stretches, n, mask, source, &lists[g]);
    }
}
#endif
