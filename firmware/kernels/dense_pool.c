/* Max-pooling of currents on their way to the neurons of dense layers. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

void esv_dense_pool_take(esv_dense_pool *p, esv_dense_memory *memory, const esv_window *w,
                         uint32_t channels)
{
    p->window = w;
    p->height = (int32_t)esv_dense_size(w->height, w);
    p->width = (int32_t)esv_dense_size(w->width, w);
    p->channels = channels;
    p->next = 0;
    uint64_t tokens = esv_dense_round((uint32_t)p->width, ESV_DENSE_ROWS);
    p->row = esv_dense_take(memory, tokens * channels * sizeof *p->row);
    p->ring = esv_dense_take(memory, (uint64_t)w->pool * w->out_width * channels * sizeof *p->ring);
}

static void take_larger(uint32_t count, const int32_t *restrict from, int32_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i] > to[i] ? from[i] : to[i];
    }
}

static int32_t *pooled_row(const esv_dense_pool *p, int32_t y)
{
    uint32_t place = (uint32_t)y % p->window->pool;
    return p->ring + place * p->window->out_width * p->channels;
}

/* The largest of a row over the columns of each output token. */
static void pool_columns(const esv_dense_pool *p, int32_t *to)
{
    const esv_window *w = p->window;
    uint32_t n = p->channels;
    for (int32_t x = 0; x < w->out_width; x++, to += n) {
        int32_t left = x * w->pool_stride - w->pool / 2, first = left < 0 ? 0 : left;
        memcpy(to, p->row + (uint32_t)first * n, n * sizeof *to);
        for (int32_t i = first + 1; i < left + w->pool && i < p->width; i++) {
            take_larger(n, p->row + (uint32_t)i * n, to);
        }
    }
}

void esv_dense_pool_row(esv_dense_pool *p, uint32_t row,
                        void (*sum)(const void *context, int32_t y, int32_t *currents),
                        const void *context, int32_t *out)
{
    const esv_window *w = p->window;
    uint32_t count = w->out_width * p->channels;
    int32_t top = (int32_t)row * w->pool_stride - w->pool / 2, first = top < 0 ? 0 : top;
    int32_t end = top + w->pool < p->height ? top + w->pool : p->height;
    for (p->next = p->next < first ? first : p->next; p->next < end; p->next++) {
        sum(context, p->next, p->row);
        pool_columns(p, pooled_row(p, p->next));
    }
    memcpy(out, pooled_row(p, first), count * sizeof *out);
    for (int32_t y = first + 1; y < end; y++) {
        take_larger(count, pooled_row(p, y), out);
    }
}
#endif
