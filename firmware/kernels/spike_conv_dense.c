/* The spiking convolution as a product of matrices, one for each step, where that is cheaper than
 * lists: with few channels, or where most inputs fire. Every step's input becomes a map of numbers with
 * the padding around it; a window is then a few stretches of its rows, which the product reads where
 * they are.
 */
#include "spike_dense.h"
#include "spike_layer.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

#define BLOCK 128 /* tokens at a time, or one row: their currents stay in the cache */
#define BLOCK_BYTES (128u << 10) /* of currents */
#define SLACK 64 /* bytes read behind a map, and some more rows: they come in fours */

typedef struct {
    const esv_window *w;
    const esv_conv *conv;
    const uint8_t *input;
    const esv_crew *crew;
    int levels;
    uint32_t parts;
    /* A layer without windows has rows of one token. */
    uint32_t rows, columns; /* of the output; with pooling, columns of its currents */
    uint32_t line, lines;   /* inputs of a row of a map, and its rows */
    uint32_t bytes;         /* of an input */
    uint32_t block;         /* output rows at a time */
} job;

typedef struct {
    const job *job;
    esv_dense layer;
    uint8_t *map;         /* (T, lines, line) */
    int32_t *currents;    /* (T, block, columns, width) */
    esv_dense_pool *pool; /* (T) */
    uint32_t step;        /* whose currents are pooled */
} part;

static int is_flat(const esv_window *w)
{
    return w->kernel == 1 && w->stride == 1 && !w->pad && !w->pool;
}

static uint64_t map_bytes(const job *j)
{
    return (uint64_t)j->lines * j->line * j->bytes;
}

static uint32_t token_bytes(const esv_window *w, uint32_t channels)
{
    return w->time_steps * esv_dense_round(channels, ESV_TILE) * (uint32_t)sizeof(int32_t);
}

/* Rows of the output that are computed at a time. */
static uint32_t block_rows(const job *j, uint32_t channels)
{
    uint32_t most = BLOCK_BYTES / token_bytes(j->w, channels);
    uint32_t rows = (most < BLOCK ? most : BLOCK) / j->columns;
    rows = j->w->pool || rows < 1 ? 1 : rows < j->rows ? rows : j->rows;
    return is_flat(j->w) ? esv_dense_round(rows, ESV_DENSE_ROWS) : rows;
}

static job measure(const esv_window *w, int levels, uint32_t channels, const esv_spike_variant *k)
{
    int flat = is_flat(w);
    job j = {.w = w, .levels = levels};
    j.bytes = esv_dense_has_bytes(k) && (!levels || w->max_level <= ESV_DENSE_LARGEST_BYTE) ? 1 : 2;
    j.rows = flat ? (uint32_t)w->out_height * w->out_width : w->out_height;
    j.columns = flat ? 1 : esv_dense_size(w->width, w);
    j.line = flat ? w->channels : (w->width + 2u * w->pad) * w->channels;
    j.block = block_rows(&j, channels);
    j.lines = flat ? j.block : (j.block - 1) * w->stride + w->kernel;
    return j;
}

static uint32_t stretch_of(const esv_window *w)
{
    return (uint32_t)w->kernel * w->channels;
}

static uint32_t behind(const job *j)
{
    return ESV_DENSE_ROWS * (uint32_t)j->w->stride * j->w->channels * j->bytes + SLACK;
}

static void take_layer(const job *j, uint32_t channels, esv_dense_memory *memory, esv_dense *layer)
{
    *layer = (esv_dense){.segments = is_flat(j->w) ? 1 : j->w->kernel, .bytes = j->bytes,
                         .apart = j->line};
    esv_dense_take_layer(layer, memory, stretch_of(j->w), channels);
}

static void expand(const job *j, const esv_conv *conv, esv_dense *layer)
{
    esv_dense_expand(layer, conv, stretch_of(j->w), 0);
    layer->narrow = (uint32_t)esv_spike_certified(conv, 0, conv->after.channels);
}

static void take(const job *j, uint32_t channels, esv_dense_memory *memory, part *p)
{
    const esv_window *w = j->w;
    uint32_t steps = w->time_steps;
    uint32_t tokens = j->block * (w->pool ? w->out_width : j->columns) + ESV_DENSE_ROWS;
    p->job = j;
    p->map = esv_dense_take(memory, steps * map_bytes(j) + behind(j));
    p->currents = esv_dense_take(memory, (uint64_t)tokens * token_bytes(w, channels));
    p->pool = esv_dense_take(memory, steps * sizeof *p->pool);
    for (uint32_t t = 0; w->pool && t < steps; t++) {
        esv_dense_pool none, *pool = p->pool ? &p->pool[t] : &none;
        esv_dense_pool_take(pool, memory, w, esv_dense_round(channels, ESV_TILE));
    }
}

uint64_t esv_spike_dense_work(const esv_window *w, int levels, uint32_t channels,
                              const esv_spike_variant *k, int prepared)
{
    esv_dense_memory count = {NULL, 0, UINT64_MAX};
    job j = measure(w, levels, channels, k);
    part p;
    take(&j, channels, &count, &p);
    if (!prepared) {
        take_layer(&j, channels, &count, &p.layer);
    }
    return count.used;
}

/* The layer and where its parts are, then these; of one that is not kept, 0. */
void esv_spike_dense_prepare(const esv_window *w, int levels, const esv_conv *conv,
                             const esv_spike_variant *k, esv_dense_memory *memory)
{
    job j = measure(w, levels, conv->after.channels, k);
    esv_dense none, *layer = esv_dense_take(memory, sizeof *layer);
    if (layer) {
        *layer = (esv_dense){0};
    }
    if (!esv_spike_keeps_dense(w, levels, conv, k)) {
        return;
    }
    take_layer(&j, conv->after.channels, memory, layer ? layer : &none);
    if (layer) {
        expand(&j, conv, layer);
    }
}

const esv_dense *esv_spike_dense_prepared(const esv_window *w, const esv_conv *conv,
                                          const esv_spike_variant *k)
{
    if (!conv->prepared) {
        return NULL;
    }
    uint64_t at = esv_spike_tiles_bytes(esv_spike_rows(w), conv, k);
    const void *behind = (const uint8_t *)conv->prepared + at;
    const esv_dense *layer = behind;
    return layer->weight ? layer : NULL;
}

static void make_ready(const job *j, uint32_t member, part *p)
{
    esv_dense_memory memory = esv_dense_memory_of(j->crew, member);
    const esv_dense *prepared = esv_spike_dense_prepared(j->w, j->conv, j->crew->kernel);
    take(j, j->conv->after.channels, &memory, p);
    if (prepared) {
        p->layer = *prepared;
    } else {
        take_layer(j, j->conv->after.channels, &memory, &p->layer);
        expand(j, j->conv, &p->layer);
    }
}

/* ---- Maps ---- */

static void bits_to_bytes(const uint8_t *restrict from, uint32_t count, uint32_t t,
                          uint8_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i] >> t & 1;
    }
}

static void bits_to_words(const uint8_t *restrict from, uint32_t count, uint32_t t,
                          int16_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i] >> t & 1;
    }
}

static void widen(const uint8_t *restrict from, uint32_t count, int16_t *restrict to)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i];
    }
}

/* `count` inputs from `at` on, as numbers at step t. */
static void convert(const job *j, uint32_t t, uint32_t at, uint32_t count, uint8_t *to)
{
    uint32_t plane = (uint32_t)j->w->height * j->w->width * j->w->channels;
    const uint8_t *from = j->input + at + (j->levels ? t * plane : 0);
    if (j->levels && j->bytes == 1) {
        memcpy(to, from, count);
    } else if (j->levels) {
        widen(from, count, (int16_t *)(void *)to);
    } else if (j->bytes == 1) {
        bits_to_bytes(from, count, t, to);
    } else {
        bits_to_words(from, count, t, (int16_t *)(void *)to);
    }
}

/* Image row y at step t with its padding, or nothing but padding. */
static void fill_line(const job *j, uint32_t t, int32_t y, uint8_t *line)
{
    const esv_window *w = j->w;
    uint32_t count = (uint32_t)w->width * w->channels, pad = w->pad * (uint32_t)w->channels;
    if (y < 0 || y >= w->height) {
        memset(line, 0, j->line * j->bytes);
        return;
    }
    memset(line, 0, pad * j->bytes);
    convert(j, t, (uint32_t)y * count, count, line + pad * j->bytes);
    memset(line + (pad + count) * j->bytes, 0, pad * j->bytes);
}

/* The map of step t for `rows` rows of currents from `row` on. */
static const uint8_t *fill_map(const part *p, uint32_t t, uint32_t row, uint32_t rows)
{
    const job *j = p->job;
    const esv_window *w = j->w;
    uint8_t *map = p->map + t * map_bytes(j);
    if (is_flat(w)) {
        convert(j, t, row * w->channels, rows * w->channels, map);
        return map;
    }
    for (uint32_t i = 0; i < (rows - 1) * w->stride + w->kernel; i++) {
        int32_t y = (int32_t)(row * w->stride + i) - w->pad;
        if (i % w->stride < w->kernel) { /* else no window has it */
            fill_line(j, t, y, map + i * j->line * j->bytes);
        }
    }
    return map;
}

/* ---- Currents ---- */

/* currents (rows, columns, width) of step t; those of up to ESV_DENSE_ROWS - 1 tokens follow. */
static void sum_rows(const part *p, uint32_t t, uint32_t row, uint32_t rows, int32_t *currents)
{
    const job *j = p->job;
    const esv_window *w = j->w;
    const uint8_t *map = fill_map(p, t, row, rows);
    if (is_flat(w)) {
        esv_dense_product(&p->layer, map, w->channels, esv_dense_round(rows, ESV_DENSE_ROWS),
                          currents);
        return;
    }
    for (uint32_t i = 0; i < rows; i++) {
        esv_dense_product(&p->layer, map + i * w->stride * j->line * j->bytes,
                          (uint32_t)w->stride * w->channels,
                          esv_dense_round(j->columns, ESV_DENSE_ROWS),
                          currents + i * j->columns * p->layer.width);
    }
}

static void sum_for_pool(const void *context, int32_t y, int32_t *currents)
{
    const part *p = context;
    sum_rows(p, p->step, (uint32_t)y, 1, currents);
}

/* One block of output rows. */
static void run_rows(part *p, uint32_t row, uint32_t rows)
{
    const job *j = p->job;
    const esv_window *w = j->w;
    uint32_t columns = w->pool ? w->out_width : j->columns;
    uint32_t apart = (j->block * columns + ESV_DENSE_ROWS) * p->layer.width;
    for (uint32_t t = 0; t < w->time_steps; t++) {
        p->step = t;
        if (w->pool) {
            esv_dense_pool_row(&p->pool[t], row, sum_for_pool, p, p->currents + t * apart);
        } else {
            sum_rows(p, t, row, rows, p->currents + t * apart);
        }
    }
    esv_after_rows(&j->conv->after, row * columns, rows * columns, p->currents, p->layer.width,
                   apart);
}

static void run_part(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    uint32_t row = (uint32_t)((uint64_t)j->rows * index / j->parts);
    uint32_t end = (uint32_t)((uint64_t)j->rows * (index + 1) / j->parts);
    part p;
    make_ready(j, member, &p);
    for (uint32_t rows; row < end; row += rows) {
        rows = end - row < j->block ? end - row : j->block;
        run_rows(&p, row, rows);
    }
}

int esv_spike_conv_dense(const esv_window *w, const esv_conv *conv, uint32_t count, int levels,
                         const uint8_t *input, const esv_crew *crew)
{
    for (uint32_t i = 0; i < count; i++) {
        int prepared = esv_spike_dense_prepared(w, &conv[i], crew->kernel) != NULL;
        if (esv_spike_dense_work(w, levels, conv[i].after.channels, crew->kernel, prepared) >
            crew->work_bytes) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        job j = measure(w, levels, conv[i].after.channels, crew->kernel);
        j.conv = &conv[i];
        j.crew = crew;
        j.input = input;
        j.parts = esv_dense_parts(crew, j.rows);
        esv_share(crew, run_part, &j, j.parts);
    }
    return 1;
}
#endif
