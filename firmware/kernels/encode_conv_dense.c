/* The first convolution where there are wide vectors: windows are gathered as int16. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

/* Copied at a time, and so more than is written to or read from behind a row. */
#define CHUNK 16

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    const uint8_t *pixels;
    const esv_crew *crew;
    uint32_t parts;
    int32_t height, width;   /* of the currents before pooling */
    uint32_t line, segment;  /* inputs of an image row with its padding, and of a window's row */
} job;

/* The memory of a part. */
typedef struct {
    esv_dense layer;
    int16_t *lines;    /* (kernel, line): image rows with their padding */
    int16_t *windows;  /* (ESV_DENSE_ROWS, stride) */
    uint32_t stride;   /* of windows */
    int32_t *currents; /* (width, channels) of one row */
    int32_t *largest;  /* the same, with pooling over rows */
} part;

static int prepare(const job *j, uint32_t member, part *p)
{
    const esv_window *w = j->window;
    esv_dense_memory memory = esv_dense_memory_of(j->crew, member);
    uint32_t inputs = w->kernel * j->segment;
    uint32_t tokens = esv_dense_round((uint32_t)j->width, ESV_DENSE_ROWS);
    p->stride = esv_dense_round(inputs, CHUNK) + CHUNK;
    uint64_t row = (uint64_t)tokens * esv_dense_round(w->out_channels, ESV_TILE) * sizeof(int32_t);
    p->lines = esv_dense_take(&memory, ((uint64_t)w->kernel * j->line + CHUNK) * sizeof(int16_t));
    p->windows = esv_dense_take(&memory, ESV_DENSE_ROWS * p->stride * sizeof(int16_t));
    p->currents = esv_dense_take(&memory, row);
    p->largest = w->pool ? esv_dense_take(&memory, row) : p->currents;
    return p->largest && esv_dense_expand(&p->layer, &memory, j->conv, inputs, w->out_channels);
}

/* Image row y as int16, with the padding's pixels left and right, or all of it outside. */
static void widen_line(const job *j, int32_t y, int16_t *restrict line)
{
    const esv_window *w = j->window;
    uint32_t inside = y >= 0 && y < w->height ? w->width : 0;
    const uint8_t *restrict pixel = j->pixels + (inside ? (uint32_t)y * w->width * w->channels : 0);
    uint32_t before = inside ? w->pad * w->channels : 0;
    uint32_t count = inside * w->channels;
    for (uint32_t i = 0; i < count; i++) {
        line[before + i] = pixel[i];
    }
    for (uint32_t i = 0; i < before; i++) {
        line[i] = j->conv->pad_pixel[i % w->channels];
    }
    for (uint32_t i = before + count; i < j->line; i++) {
        line[i] = j->conv->pad_pixel[i % w->channels];
    }
}

/* The window at column x: a stretch of every line. What is copied beyond a stretch is overwritten
 * by the next one, or meets weights of 0. */
static void gather(const job *j, const part *p, uint32_t x, int16_t *window)
{
    const int16_t *line = p->lines + x * j->window->stride * j->window->channels;
    for (uint32_t y = 0; y < j->window->kernel; y++, line += j->line, window += j->segment) {
        for (uint32_t i = 0; i < j->segment; i += CHUNK) {
            memcpy(window + i, line + i, CHUNK * sizeof *window);
        }
    }
}

/* The currents of row y, before pooling. */
static void sum_row(const job *j, const part *p, int32_t y)
{
    uint32_t width = (uint32_t)j->width;
    for (uint32_t k = 0; k < j->window->kernel; k++) {
        widen_line(j, y * j->window->stride - j->window->pad + (int32_t)k, p->lines + k * j->line);
    }
    for (uint32_t x = 0; x < width; x += ESV_DENSE_ROWS) {
        for (uint32_t r = 0; r < ESV_DENSE_ROWS && x + r < width; r++) {
            gather(j, p, x + r, p->windows + r * p->stride);
        }
        esv_dense_product(&p->layer, p->windows, p->stride, p->currents + x * p->layer.width);
    }
}

static void take_larger(uint32_t count, const int32_t *restrict from, int32_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i] > to[i] ? from[i] : to[i];
    }
}

/* p->largest = the largest currents of the rows that an output row pools over. */
static void pool_rows(const job *j, const part *p, int32_t row)
{
    const esv_window *w = j->window;
    int32_t top = row * w->pool_stride - w->pool / 2, first = top < 0 ? 0 : top;
    uint32_t count = (uint32_t)j->width * p->layer.width;
    for (int32_t y = first; y < top + w->pool && y < j->height; y++) {
        sum_row(j, p, y);
        if (y == first) {
            memcpy(p->largest, p->currents, count * sizeof *p->largest);
        } else {
            take_larger(count, p->currents, p->largest);
        }
    }
}

/* The largest of p->largest over the columns of each output token, to p->currents. */
static void pool_columns(const job *j, const part *p)
{
    const esv_window *w = j->window;
    uint32_t width = p->layer.width;
    int32_t *to = p->currents;
    for (int32_t x = 0; x < w->out_width; x++, to += width) {
        int32_t left = x * w->pool_stride - w->pool / 2, first = left < 0 ? 0 : left;
        memcpy(to, p->largest + (uint32_t)first * width, width * sizeof *to);
        for (int32_t i = first + 1; i < left + w->pool && i < j->width; i++) {
            take_larger(width, p->largest + (uint32_t)i * width, to);
        }
    }
}

static void encode_rows(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->window;
    uint32_t row = w->out_height * index / j->parts, end = w->out_height * (index + 1) / j->parts;
    part p;
    prepare(j, member, &p);
    for (; row < end; row++) {
        if (w->pool) {
            pool_rows(j, &p, (int32_t)row);
            pool_columns(j, &p);
        } else {
            sum_row(j, &p, (int32_t)row);
        }
        esv_after_rows(&j->conv->after, row * w->out_width, w->out_width, p.currents,
                       p.layer.width, 0);
    }
}

int esv_encode_conv_dense(const esv_window *w, const esv_conv *conv, const uint8_t *pixels,
                          const esv_crew *crew)
{
    if (!esv_dense_runs(crew)) {
        return 0;
    }
    job j = {w, conv, pixels, crew, esv_dense_parts(crew, w->out_height),
             (w->height + 2 * w->pad - w->kernel) / w->stride + 1,
             (w->width + 2 * w->pad - w->kernel) / w->stride + 1,
             (w->width + 2u * w->pad) * w->channels, (uint32_t)w->kernel * w->channels};
    part p;
    if (!prepare(&j, 0, &p)) {
        return 0;
    }
    esv_share(crew, encode_rows, &j, j.parts);
    return 1;
}
#endif
