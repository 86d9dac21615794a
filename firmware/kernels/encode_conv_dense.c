/* The first convolution where there are wide vectors: windows are gathered, as int16 or, where the
 * processor multiplies bytes, as pixel - 128. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

/* Bytes copied at a time, and so more than is written to or read from behind a row. */
#define CHUNK 16

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    const uint8_t *pixels;
    const esv_crew *crew;
    uint32_t parts;
    int32_t height, width;   /* of the currents before pooling */
    uint32_t line, segment;  /* inputs of an image row with its padding, and of a window's row */
    uint32_t bytes;          /* of an input, 1 or 2 */
    uint32_t block;          /* output rows whose neurons run together; 1 with pooling */
} job;

/* The memory of a part. */
typedef struct {
    esv_dense layer;
    uint8_t *lines;    /* (kernel, line): image rows with their padding */
    uint8_t *windows;  /* (ESV_DENSE_ROWS, stride) */
    uint32_t stride;   /* bytes of a window */
    int32_t *currents; /* (block, width, channels) */
    esv_dense_pool pool;
    const job *job;
} part;

/* Bytes are signed where the processor has them so: 128 less than the pixel. */
static int centers(const job *j)
{
    return j->bytes == 1 && ESV_DENSE_LARGEST_BYTE < 255;
}

static int prepare(const job *j, uint32_t member, part *p)
{
    const esv_window *w = j->window;
    esv_dense_memory memory = esv_dense_memory_of(j->crew, member);
    uint32_t inputs = w->kernel * j->segment, channels = esv_dense_round(w->out_channels, ESV_TILE);
    uint32_t tokens = j->block * (uint32_t)j->width + ESV_DENSE_ROWS - 1;
    p->stride = esv_dense_round(inputs * j->bytes, CHUNK) + CHUNK;
    uint64_t row = (uint64_t)tokens * channels * sizeof(int32_t);
    uint64_t beyond = ESV_DENSE_ROWS * (uint32_t)w->stride * w->channels + CHUNK;
    p->job = j;
    p->lines = esv_dense_take(&memory, (w->kernel * j->line + beyond) * j->bytes);
    p->windows = esv_dense_take(&memory, ESV_DENSE_ROWS * p->stride);
    p->currents = esv_dense_take(&memory, row);
    p->layer = (esv_dense){.segments = 1, .bytes = j->bytes};
    esv_dense_take_layer(&p->layer, &memory, inputs, w->out_channels);
    if (w->pool) {
        esv_dense_pool_take(&p->pool, &memory, w, channels);
    }
    return esv_dense_fits(&memory);
}

static void widen(const uint8_t *restrict from, uint32_t count, int16_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i];
    }
}

static void center(const uint8_t *restrict from, uint32_t count, uint8_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i] ^ 128;
    }
}

/* Convert `count` pixels to inputs; returns what is behind them. */
static uint8_t *convert(const job *j, const uint8_t *from, uint32_t count, uint8_t *to)
{
    if (centers(j)) {
        center(from, count, to);
    } else if (j->bytes == 1) {
        memcpy(to, from, count);
    } else {
        widen(from, count, (int16_t *)(void *)to);
    }
    return to + count * j->bytes;
}

/* Image row y with the padding's pixels left and right, or all of it outside. */
static void fill_line(const job *j, int32_t y, uint8_t *line)
{
    const esv_window *w = j->window;
    int inside = y >= 0 && y < w->height;
    uint32_t left = inside ? w->pad : w->width + 2u * w->pad, right = inside ? w->pad : 0;
    for (; left; left--) {
        line = convert(j, j->conv->pad_pixel, w->channels, line);
    }
    if (inside) {
        uint32_t row = (uint32_t)w->width * w->channels;
        line = convert(j, j->pixels + (uint32_t)y * row, row, line);
    }
    for (; right; right--) {
        line = convert(j, j->conv->pad_pixel, w->channels, line);
    }
}

/* The windows of four columns from x on, possibly beyond the last one: a stretch of every line
 * each. What is copied beyond a stretch is overwritten by the next one, or meets weights of 0. */
static void gather(const job *j, const part *p, uint32_t x)
{
    uint32_t next = (uint32_t)j->window->stride * j->window->channels * j->bytes;
    uint32_t stride = p->stride, segment = j->segment * j->bytes;
    const uint8_t *line = p->lines + x * next;
    uint8_t *window = p->windows;
    for (uint32_t y = 0; y < j->window->kernel; y++) {
        for (uint32_t i = 0; i < segment; i += CHUNK) {
            memcpy(window + i, line + i, CHUNK);
            memcpy(window + stride + i, line + next + i, CHUNK);
            memcpy(window + 2 * stride + i, line + 2 * next + i, CHUNK);
            memcpy(window + 3 * stride + i, line + 3 * next + i, CHUNK);
        }
        line += j->line * j->bytes;
        window += segment;
    }
}

/* The currents of row y, before pooling; up to ESV_DENSE_ROWS - 1 more tokens are written. */
static void sum_row(const job *j, const part *p, int32_t y, int32_t *currents)
{
    uint32_t width = (uint32_t)j->width;
    for (uint32_t k = 0; k < j->window->kernel; k++) {
        fill_line(j, y * j->window->stride - j->window->pad + (int32_t)k,
                  p->lines + k * j->line * j->bytes);
    }
    for (uint32_t x = 0; x < width; x += ESV_DENSE_ROWS) {
        gather(j, p, x);
        esv_dense_product(&p->layer, p->windows, p->stride / j->bytes, ESV_DENSE_ROWS,
                          currents + x * p->layer.width);
    }
}

static void sum_for_pool(const void *context, int32_t y, int32_t *currents)
{
    const part *p = context;
    sum_row(p->job, p, y, currents);
}

/* The neurons' currents of `rows` output rows. */
static void sum_rows(const job *j, part *p, uint32_t row, uint32_t rows)
{
    if (j->window->pool) {
        esv_dense_pool_row(&p->pool, row, sum_for_pool, p, p->currents);
        return;
    }
    for (uint32_t i = 0; i < rows; i++) {
        sum_row(j, p, (int32_t)(row + i), p->currents + i * j->window->out_width * p->layer.width);
    }
}

static void encode_rows(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->window;
    uint32_t row = w->out_height * index / j->parts, end = w->out_height * (index + 1) / j->parts;
    part p;
    prepare(j, member, &p);
    esv_dense_expand(&p.layer, j->conv, w->kernel * j->segment, centers(j) ? 128 : 0);
    for (uint32_t rows; row < end; row += rows) {
        rows = end - row < j->block ? end - row : j->block;
        sum_rows(j, &p, row, rows);
        esv_after_rows(&j->conv->after, row * w->out_width, rows * w->out_width, p.currents,
                       p.layer.width, 0);
    }
}

/* Tokens whose neurons run together: enough to pay for what their constants cost. */
#define BLOCK 128

int esv_encode_conv_dense(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                          const esv_crew *crew)
{
    if (!esv_dense_runs(crew)) {
        return 0;
    }
    job j = {w, conv, pixels, crew, esv_dense_parts(crew, w->out_height),
             (int32_t)esv_dense_size(w->height, w), (int32_t)esv_dense_size(w->width, w),
             (w->width + 2u * w->pad) * w->channels, (uint32_t)w->kernel * w->channels,
             esv_dense_has_bytes(crew->kernel) ? 1 : 2,
             w->pool || w->out_width > BLOCK ? 1 : BLOCK / w->out_width};
    part p;
    if (!prepare(&j, 0, &p)) {
        return 0;
    }
    esv_share(crew, encode_rows, &j, j.parts);
    return 1;
}
#endif
