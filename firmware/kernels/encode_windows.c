/* The first convolution on small cores with vectors: the windows of every token (encode_windows.h).
 */
#include "encode_windows.h"

typedef int esv_no_windows; /* a file must not be empty */

#ifdef ESV_WINDOWS
#include <string.h>

#include "after_constant.h"

#define MEMORY 704     /* words of packed weights, what they reach, and currents */
#define LONGEST 80     /* words of a window: 7 x 7 of 3 channels */
#define LONGEST_ROW 48 /* inputs of a row of a window */

/* Too large for a stack whose frames may not be larger than its guard. There is one program at a
 * time on these cores. */
static int32_t memory[MEMORY];
static uint32_t windows[2 * LONGEST];

typedef struct {
    const esv_window *w;
    const esv_conv *conv;
    const uint8_t *pixels;
    int32_t height, width; /* of the currents before pooling */
    uint32_t words;        /* of a window */
    uint32_t first, n, groups, steps; /* channels worked on; steps of spikes, else 0 */
    uint8_t codes[16];
    int32_t *packed, *reach, *currents, *largest; /* (groups, ...) */
} job;

/* A row of a window that lies in part outside of the image. */
static ESV_RARE uint8_t *clipped_row(const job *j, int32_t y, int32_t x, uint8_t *to)
{
    const esv_window *w = j->w;
    uint8_t row[LONGEST_ROW], *at = row;
    for (int32_t end = x + w->kernel; x < end; x++, at += w->channels) {
        int inside = y >= 0 && y < w->height && x >= 0 && x < w->width;
        memcpy(at, inside ? j->pixels + ((uint32_t)y * w->width + (uint32_t)x) * w->channels
                          : j->conv->pad_pixel, w->channels);
    }
    return esv_window_row(row, (uint32_t)w->kernel * w->channels, to);
}

/* The window of position (row, column) of the currents. */
static void gather(const job *j, int32_t row, int32_t column, uint8_t *to)
{
    const esv_window *w = j->w;
    int32_t y = row * w->stride - w->pad, x = column * w->stride - w->pad, end = y + w->kernel;
    int inside = y >= 0 && end <= w->height && x >= 0 && x + w->kernel <= w->width;
    const uint8_t *from = j->pixels + (y * (int32_t)w->width + x) * (int32_t)w->channels;
    for (; y < end; y++, from += (uint32_t)w->width * w->channels) {
        to = inside ? esv_window_row(from, (uint32_t)w->kernel * w->channels, to)
                    : clipped_row(j, y, x, to);
    }
}

/* j->currents of two positions of a row. */
static void sum(const job *j, int32_t row, int32_t column, int32_t other)
{
    gather(j, row, column, esv_window_begin(windows, j->words, 0));
    gather(j, row, other, esv_window_begin(windows, j->words, 1));
    esv_window_multiply(j->packed, j->groups, windows, j->words, j->currents);
}

/* Codes of the tokens from `token` on, 1 or 2. */
static void fire(const job *j, uint32_t token, uint32_t count)
{
    const esv_after *after = &j->conv->after;
    uint8_t *out = (uint8_t *)after->out + token * after->channels + j->first;
    uint8_t *other = count > 1 ? out + after->channels : out;
    if (j->n % ESV_GROUP == 0) {
        esv_window_fire(j->currents, j->reach, j->groups, j->steps, j->codes, out, other);
        return;
    }
    uint8_t codes[MEMORY / 8], more[MEMORY / 8];
    esv_window_fire(j->currents, j->reach, j->groups, j->steps, j->codes, codes, more);
    memcpy(other, more, j->n);
    memcpy(out, codes, j->n);
}

/* What becomes of the currents of window `number`, if not spikes. */
static void go_on(const job *j, uint32_t token, uint32_t number)
{
    int32_t current[ESV_TILE], state[ESV_TILE];
    const int32_t *from = j->currents + ESV_GROUP * number;
    for (uint32_t c = 0; c < j->n; c += ESV_TILE) {
        uint32_t n = j->n - c < ESV_TILE ? j->n - c : ESV_TILE;
        for (uint32_t i = 0; i < n; i += ESV_GROUP, from += 2 * ESV_GROUP) {
            memcpy(current + i, from, ESV_GROUP * sizeof *from);
        }
        for (uint32_t t = 0; t < j->w->time_steps; t++) {
            esv_after_currents(&j->conv->after, t, token, j->first + c, n, current, state);
        }
    }
}

/* The currents of window 1 are those of the token behind. */
static void finish(const job *j, uint32_t token, uint32_t count)
{
    if (j->steps) {
        fire(j, token, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        go_on(j, token + i, i);
    }
}

static ESV_APART void run_row(const job *j, uint32_t row)
{
    uint32_t width = (uint32_t)j->width;
    for (uint32_t x = 0; x < width; x += 2) {
        uint32_t count = width - x < 2 ? 1 : 2;
        sum(j, (int32_t)row, (int32_t)x, (int32_t)(x + count - 1));
        finish(j, row * width + x, count);
    }
}

/* j->largest (groups, 2, 4): no current so far is larger. */
static void take_larger(const job *j)
{
    const int32_t *current = j->currents;
    for (uint32_t i = 0; i < 2 * ESV_GROUP * j->groups; i++) {
        j->largest[i] = current[i] > j->largest[i] ? current[i] : j->largest[i];
    }
}

/* The larger of both windows, as the currents of window 0. */
static void finish_larger(const job *j, uint32_t token)
{
    const int32_t *largest = j->largest;
    for (uint32_t g = 0; g < 2 * ESV_GROUP * j->groups; g += 2 * ESV_GROUP) {
        for (uint32_t c = g; c < g + ESV_GROUP; c++) {
            j->currents[c] = largest[c] > largest[c + ESV_GROUP] ? largest[c]
                                                                 : largest[c + ESV_GROUP];
        }
    }
    finish(j, token, 1);
}

/* The largest currents over the positions that an output token pools. */
static ESV_RARE void run_pooled_row(const job *j, uint32_t row)
{
    const esv_window *w = j->w;
    int32_t top = (int32_t)row * w->pool_stride - w->pool / 2;
    for (int32_t x = 0; x < w->out_width; x++) {
        int32_t left = x * w->pool_stride - w->pool / 2, end = left + w->pool;
        end = end < j->width ? end : j->width;
        for (uint32_t i = 0; i < 2 * ESV_GROUP * j->groups; i++) {
            j->largest[i] = INT32_MIN;
        }
        for (int32_t y = top < 0 ? 0 : top; y < top + w->pool && y < j->height; y++) {
            for (int32_t i = left < 0 ? 0 : left; i < end; i += 2) {
                sum(j, y, i, i + 1 < end ? i + 1 : i);
                take_larger(j);
            }
        }
        finish_larger(j, row * w->out_width + (uint32_t)x);
    }
}

/* Weights and what currents reach of the next channels, from j->first on. */
static ESV_RARE void ready(job *j)
{
    const esv_after *after = &j->conv->after;
    j->groups = (j->n + ESV_GROUP - 1) / ESV_GROUP;
    j->reach = j->packed + ESV_GROUP * (1 + j->words) * j->groups;
    j->currents = j->reach + ESV_GROUP * j->steps * j->groups;
    j->largest = j->currents + 2 * ESV_GROUP * j->groups;
    for (uint32_t g = 0; g < j->groups; g++) {
        esv_window_pack(j->w, j->conv, j->first + ESV_GROUP * g, j->words,
                        j->packed + ESV_GROUP * (1 + j->words) * g);
    }
    for (uint32_t c = 0; c < j->n; c++) {
        int32_t *reach = j->reach + ESV_GROUP * j->steps * (c / ESV_GROUP) + c % ESV_GROUP;
        for (uint32_t t = 0; t < j->steps; t++, reach += ESV_GROUP) {
            *reach = esv_reach(after->threshold[j->first + c], t);
        }
    }
}

ESV_RARE int esv_encode_windows(const esv_window *w, const esv_conv *conv, const uint8_t *pixels)
{
    job j = {.w = w, .conv = conv, .pixels = pixels, .words = esv_window_words(w),
             .height = (w->height + 2 * w->pad - w->kernel) / w->stride + 1,
             .width = (w->width + 2 * w->pad - w->kernel) / w->stride + 1,
             .steps = conv->after.kind == ESV_SPIKES ? w->time_steps : 0u, .packed = memory};
    uint32_t numbers = 1 + j.words + j.steps + (w->pool ? 4 : 2); /* of a channel */
    uint32_t most = MEMORY / (ESV_GROUP * numbers) * ESV_GROUP;
    if (j.words > LONGEST || (uint32_t)w->kernel * w->channels > LONGEST_ROW) {
        return 0;
    }
    most = most > ESV_TILE ? most / ESV_TILE * ESV_TILE : most;
    esv_find_codes(j.steps, j.codes);
    for (; j.first < w->out_channels; j.first += j.n) {
        j.n = w->out_channels - j.first < most ? w->out_channels - j.first : most;
        ready(&j);
        for (uint32_t row = 0; row < w->out_height; row++) {
            (w->pool ? run_pooled_row : run_row)(&j, row);
        }
    }
    return 1;
}
#endif
