/* Which tokens go on: edgesvit/program/tokens.py defines the scores. Features are made once for
 * each number of the map and kept for as many rows as a window has. A window's sums are those of
 * the window beside it, one column of tokens further, and a column's those of the row above. */
#include <string.h>

#include "after.h"

/* Where the work of one choice lies in its scratch. */
typedef struct {
    uint32_t *unlike, *change; /* (tokens) */
    int32_t *rows;             /* (kept rows, width, channels) features, summed over the steps */
    int32_t *column;           /* (width, channels) sums over the rows of the window */
    int32_t *around;           /* (channels) sums over the window */
    int32_t *zero;             /* (channels) */
} room;

static uint32_t kept_rows(uint32_t height, uint32_t window)
{
    return window < height ? window : height;
}

uint64_t esv_choose_scratch(uint32_t height, uint32_t width, uint32_t channels, uint32_t window)
{
    uint64_t rows = kept_rows(height, window) + 1ull;
    return 4 * (2ull * height * width + (rows * width + 2) * channels);
}

/* How many of the lower 8 bits are set; written so that compilers count many bytes at once. */
static inline uint8_t ones(uint8_t code)
{
    code = (uint8_t)(code - (code >> 1 & 0x55));
    code = (uint8_t)((code & 0x33) + (code >> 2 & 0x33));
    return (code + (code >> 4)) & 15;
}

/* total (n) = sums over the steps; returns the sum of changes from step to step, from 0 on. */
static uint32_t code_features(const uint8_t *restrict code, uint32_t steps, uint32_t n,
                              int32_t *restrict total)
{
    uint32_t change = 0;
    uint8_t used = (uint8_t)((1u << steps) - 1);
    for (uint32_t i = 0; i < n; i++) {
        total[i] = ones(code[i]);
        change += ones((uint8_t)((code[i] ^ code[i] << 1) & used));
    }
    return change;
}

static inline uint32_t apart(int32_t a, int32_t b)
{
    return (uint32_t)(a > b ? a - b : b - a);
}

static uint32_t level_features(const uint8_t *restrict level, uint32_t steps, uint32_t plane,
                               uint32_t n, int32_t *restrict total)
{
    uint32_t change = 0;
    for (uint32_t i = 0; i < n; i++) {
        total[i] = level[i];
        change += level[i];
    }
    for (uint32_t t = 1; t < steps; t++, level += plane) {
        const uint8_t *restrict now = level + plane;
        for (uint32_t i = 0; i < n; i++) {
            total[i] += now[i];
            change += apart(now[i], level[i]);
        }
    }
    return change;
}

static inline int32_t in_one_unit(int16_t membrane, int32_t scale)
{
    return membrane * scale >> 15;
}

static uint32_t membrane_features(const int16_t *restrict membrane, const int32_t *restrict scale,
                                  uint32_t steps, uint32_t plane, uint32_t n,
                                  int32_t *restrict total)
{
    uint32_t change = 0;
    for (uint32_t i = 0; i < n; i++) {
        total[i] = in_one_unit(membrane[i], scale[i]);
        change += apart(total[i], 0);
    }
    for (uint32_t t = 1; t < steps; t++, membrane += plane) {
        const int16_t *restrict next = membrane + plane;
        for (uint32_t i = 0; i < n; i++) {
            int32_t now = in_one_unit(next[i], scale[i]);
            total[i] += now;
            change += apart(now, in_one_unit(membrane[i], scale[i]));
        }
    }
    return change;
}

/* total (channels) of a token. */
static uint32_t features(const esv_choice *c, const void *input, uint32_t token, int32_t *total)
{
    uint32_t n = c->channels, at = token * n, plane = (uint32_t)c->height * c->width * n;
    if (c->kind == ESV_SPIKES) {
        return code_features((const uint8_t *)input + at, c->time_steps, n, total);
    }
    if (c->kind == ESV_LEVELS) {
        return level_features((const uint8_t *)input + at, c->time_steps, plane, n, total);
    }
    return membrane_features((const int16_t *)input + at, c->scale, c->time_steps, plane, n, total);
}

static int32_t *kept(const esv_choice *c, const room *r, uint32_t row, uint32_t w)
{
    return r->rows + (row % kept_rows(c->height, c->window) * c->width + w) * c->channels;
}

/* The features of a row of tokens take the place of those of the row that leaves the window. */
static void add_row(const esv_choice *c, const void *input, uint32_t row, const room *r)
{
    for (uint32_t w = 0; w < c->width; w++) {
        int32_t *restrict place = kept(c, r, row, w), *restrict new = r->around;
        int32_t *restrict column = r->column + w * c->channels;
        r->change[row * c->width + w] = features(c, input, row * c->width + w, new);
        for (uint32_t i = 0; i < c->channels; i++) {
            column[i] += new[i] - place[i];
            place[i] = new[i];
        }
    }
}

static void take_row(const esv_choice *c, uint32_t row, const room *r)
{
    const int32_t *gone = kept(c, r, row, 0);
    for (uint32_t i = 0; i < (uint32_t)c->width * c->channels; i++) {
        r->column[i] -= gone[i];
    }
}

/* floor(sqrt(square * 4^a)) with the largest a that keeps the product below 2^62. */
static uint64_t root_of(uint64_t square, uint32_t *a)
{
    uint64_t root = 0;
    for (*a = 0; square < 1ull << 60; square <<= 2) {
        ++*a;
    }
    for (uint64_t bit = 1ull << 60; bit; bit >>= 2) {
        if (square >= root + bit) {
            square -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return root;
}

/* 2^16 (1 - cosine), of a vector x that is not 0. */
static uint32_t unlikeness(int64_t product, uint64_t square_x, uint64_t square_y)
{
    uint32_t a, b;
    if (!product || !square_y) {
        return ESV_SCORE_ONE;
    }
    uint64_t roots = root_of(square_x, &a) * root_of(square_y, &b) >> 16;
    uint64_t cosine = (uint64_t)(product < 0 ? -product : product) << (a + b);
    cosine /= roots;
    cosine = cosine < ESV_SCORE_ONE ? cosine : ESV_SCORE_ONE;
    return (uint32_t)(product < 0 ? ESV_SCORE_ONE + cosine : ESV_SCORE_ONE - cosine);
}

/* Moves the window on by one token: a column comes in, one goes out. x (channels) is the token. */
static uint32_t unlike_window(const int32_t *restrict x, const int32_t *restrict in,
                              const int32_t *restrict out, int32_t *restrict around, uint32_t n)
{
    int64_t product = 0, square_x = 0, square_y = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t y = around[i] + in[i] - out[i];
        around[i] = y;
        product += (int64_t)x[i] * y;
        square_x += (int64_t)x[i] * x[i];
        square_y += (int64_t)y * y;
    }
    return square_x ? unlikeness(product, (uint64_t)square_x, (uint64_t)square_y) : 0;
}

static void score_row(const esv_choice *c, uint32_t row, const room *r)
{
    uint32_t side = c->window / 2u, n = c->channels, first = side < c->width ? side : c->width;
    memset(r->around, 0, n * sizeof *r->around);
    for (uint32_t w = 0; w < first; w++) {
        for (uint32_t i = 0; i < n; i++) {
            r->around[i] += r->column[w * n + i];
        }
    }
    for (uint32_t w = 0; w < c->width; w++) {
        const int32_t *in = w + side < c->width ? r->column + (w + side) * n : r->zero;
        const int32_t *out = w > side ? r->column + (w - side - 1) * n : r->zero;
        r->unlike[row * c->width + w] = unlike_window(kept(c, r, row, w), in, out, r->around, n);
    }
}

static void score_map(const esv_choice *c, const void *input, const room *r)
{
    uint32_t side = c->window / 2u, height = c->height;
    for (uint32_t h = 0; h < side && h < height; h++) {
        add_row(c, input, h, r);
    }
    for (uint32_t h = 0; h < height; h++) {
        if (h + side < height) {
            add_row(c, input, h + side, r);
        } else if (h > side) {
            take_row(c, h - side - 1, r);
        }
        if (c->spatial) {
            score_row(c, h, r);
        }
    }
}

/* values (n) to 0 .. 2^16, times `weight`; all 0 when they are equal. */
static void normalise(uint32_t *values, uint32_t n, uint32_t weight)
{
    uint32_t low = values[0], high = values[0];
    for (uint32_t i = 1; i < n; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    uint32_t range = high > low ? high - low : 1;
    for (uint32_t i = 0; i < n; i++) {
        values[i] = weight * (uint32_t)(((uint64_t)(values[i] - low) << 16) / range);
    }
}

/* How many of values (n) are `limit` or more. */
static uint32_t reach(const uint32_t *values, uint32_t n, uint32_t limit)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        count += values[i] >= limit;
    }
    return count;
}

/* The `kept` highest of scores (n) in ascending order of their place; of equal ones the first. */
static void keep_best(const uint32_t *scores, uint32_t n, uint32_t kept, uint16_t *index)
{
    uint32_t last = 0; /* the lowest score that is kept */
    for (uint32_t bit = 1u << 20; bit; bit >>= 1) {
        if (reach(scores, n, last | bit) >= kept) {
            last |= bit;
        }
    }
    uint32_t ties = kept - reach(scores, n, last + 1);
    for (uint32_t i = 0; i < n; i++) {
        if (scores[i] > last || (scores[i] == last && ties && ties--)) {
            *index++ = (uint16_t)i;
        }
    }
}

void esv_choose_tokens(const esv_choice *c, const void *input, void *scratch, uint16_t *index)
{
    uint32_t tokens = (uint32_t)c->height * c->width, row = (uint32_t)c->width * c->channels;
    room r = {.unlike = scratch};
    r.change = r.unlike + tokens;
    r.rows = (int32_t *)(void *)(r.change + tokens);
    r.column = r.rows + kept_rows(c->height, c->window) * row;
    r.around = r.column + row;
    r.zero = r.around + c->channels;
    memset(r.unlike, 0, (size_t)((uint8_t *)(r.zero + c->channels) - (uint8_t *)scratch));
    score_map(c, input, &r);
    normalise(r.unlike, tokens, c->spatial);
    normalise(r.change, tokens, c->temporal);
    for (uint32_t i = 0; i < tokens; i++) {
        r.unlike[i] += r.change[i];
    }
    keep_best(r.unlike, tokens, c->kept, index);
}
