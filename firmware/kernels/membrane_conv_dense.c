/* The linear layer on membranes where there are wide vectors. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

typedef struct {
    const esv_window *window;
    const esv_conv *conv;
    const int16_t *membranes;
    const esv_crew *crew;
    uint32_t parts;
    uint32_t block; /* tokens at a time */
} job;

typedef struct {
    esv_dense layer;
    int16_t *rows;     /* (ESV_DENSE_ROWS, inputs): what cannot be read in place */
    int32_t *currents; /* (T, block, width) */
} part;

#define BLOCK 32 /* tokens: their currents stay in the cache */

static int prepare(const job *j, uint32_t member, part *p)
{
    const esv_window *w = j->window;
    esv_dense_memory memory = esv_dense_memory_of(j->crew, member);
    uint64_t width = esv_dense_round(w->out_channels, ESV_TILE);
    p->rows = esv_dense_take(&memory, ESV_DENSE_ROWS * sizeof *p->rows *
                                          esv_dense_round(w->channels, ESV_DENSE_STEP));
    p->currents =
        esv_dense_take(&memory, w->time_steps * (uint64_t)j->block * width * sizeof *p->currents);
    p->layer = (esv_dense){.segments = 1, .bytes = sizeof *p->rows};
    esv_dense_take_layer(&p->layer, &memory, w->channels, w->out_channels);
    return esv_dense_fits(&memory);
}

/* Whole blocks of rows are read where they are, if nothing behind them is read. */
static void multiply(const job *j, const part *p, const int16_t *in, uint32_t rows,
                     int32_t *currents)
{
    uint32_t channels = j->window->channels, inputs = p->layer.inputs, left = rows;
    if (inputs == channels) {
        left = rows % ESV_DENSE_ROWS;
        esv_dense_product(&p->layer, in, channels, rows - left, currents);
    }
    in += (rows - left) * channels;
    currents += (rows - left) * p->layer.width;
    for (; left; left -= left < ESV_DENSE_ROWS ? left : ESV_DENSE_ROWS) {
        for (uint32_t r = 0; r < left && r < ESV_DENSE_ROWS; r++, in += channels) {
            memcpy(p->rows + r * inputs, in, channels * sizeof *in);
        }
        esv_dense_product(&p->layer, p->rows, inputs, ESV_DENSE_ROWS, currents);
        currents += ESV_DENSE_ROWS * p->layer.width;
    }
}

static void sum_block(const job *j, const part *p, uint32_t token, uint32_t count)
{
    const esv_window *w = j->window;
    uint32_t tokens = (uint32_t)w->height * w->width;
    for (uint32_t t = 0; t < w->time_steps; t++) {
        const int16_t *in = j->membranes + (t * tokens + token) * w->channels;
        int32_t *currents = p->currents + t * j->block * p->layer.width;
        multiply(j, p, in, count, currents);
    }
    esv_after_rows(&j->conv->after, token, count, p->currents, p->layer.width,
                   j->block * p->layer.width);
}

static void sum_tokens(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    uint64_t tokens = (uint64_t)j->window->height * j->window->width;
    uint32_t token = (uint32_t)(tokens * index / j->parts);
    uint32_t end = (uint32_t)(tokens * (index + 1) / j->parts);
    part p;
    prepare(j, member, &p);
    esv_dense_expand(&p.layer, j->conv, j->window->channels, 0);
    memset(p.rows, 0, ESV_DENSE_ROWS * p.layer.inputs * sizeof *p.rows);
    for (; token < end; token += j->block) {
        sum_block(j, &p, token, end - token < j->block ? end - token : j->block);
    }
}

int esv_membrane_conv_dense(const esv_window *w, const esv_conv *conv, const int16_t *membranes,
                            const esv_crew *crew)
{
    if (!esv_dense_runs(crew)) {
        return 0;
    }
    uint32_t tokens = (uint32_t)w->height * w->width;
    job j = {w, conv, membranes, crew, esv_dense_parts(crew, tokens),
             tokens < BLOCK ? esv_dense_round(tokens, ESV_DENSE_ROWS) : BLOCK};
    part p;
    if (!prepare(&j, 0, &p)) {
        return 0;
    }
    esv_share(crew, sum_tokens, &j, j.parts);
    return 1;
}
#endif
