/* The third road of the spiking convolution: masks of image rows, made once, and what the variant
 * makes of each window of them. A part of the output keeps as many image rows as a window has.
 */
#include "spike_masks.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

#define OVER_READ 8u /* behind a window's share of an image row */
#define LONGEST 64u

typedef struct {
    const esv_window *w; /* tokens without windows in rows as long as is good */
    const esv_conv *conv;
    uint32_t count;
    const uint8_t *input;
    const esv_crew *crew;
    uint32_t columns; /* of the currents, before pooling */
    uint32_t parts;
} job;

typedef struct {
    const job *job;
    const esv_conv *conv; /* the one whose currents are wanted */
    uint8_t *lines;       /* (kernel, ESV_MASKS, line_bytes) */
    uint32_t next;        /* the image row whose masks are made next */
    int32_t *currents;    /* (columns, T, width) */
    esv_dense_pool pool;
} part;

static uint32_t line_bytes(const esv_window *w)
{
    return (w->width + 2u * w->pad) * w->channels / 8 + OVER_READ;
}

static uint32_t width_of(const esv_conv *conv)
{
    return esv_dense_round(conv->after.channels, ESV_TILE);
}

static int is_apt(const esv_window *w, const esv_spike_variant *k)
{
    return k->mask && w->time_steps <= 4 && w->channels % 8 == 0 && w->kernel <= ESV_MOST_TAPS;
}

/* Tokens that have no neighbours, in rows of up to LONGEST: what begins with a row is done less
 * often. */
static esv_window reshaped(const esv_window *w)
{
    esv_window as = *w;
    uint32_t tokens = (uint32_t)w->height * w->width;
    if (w->kernel > 1 || w->stride > 1 || w->pad || w->pool) {
        return as;
    }
    for (uint32_t width = w->width + 1u; width <= LONGEST && width <= tokens; width++) {
        if (tokens % width == 0) {
            as.width = as.out_width = (uint16_t)width;
            as.height = as.out_height = (uint16_t)(tokens / width);
        }
    }
    return as;
}

/* Memory for `channels` channels of the output. */
static void take(const esv_window *w, uint32_t channels, esv_dense_memory *memory, part *p)
{
    uint32_t numbers = w->time_steps * esv_dense_round(channels, ESV_TILE);
    uint32_t columns = w->pool ? w->out_width : esv_dense_size(w->width, w);
    p->lines = esv_dense_take(memory, (uint64_t)w->kernel * ESV_MASKS * line_bytes(w));
    p->currents = esv_dense_take(memory, (uint64_t)columns * numbers * sizeof *p->currents);
    if (w->pool) {
        esv_dense_pool_take(&p->pool, memory, w, numbers);
    }
}

uint64_t esv_spike_masks_work(const esv_window *w, int levels, uint32_t channels,
                              const esv_spike_variant *k)
{
    esv_dense_memory count = {0, 0, UINT64_MAX};
    esv_window as = reshaped(w);
    part p;
    if (levels || !is_apt(w, k)) {
        return 0;
    }
    take(&as, channels, &count, &p);
    return count.used;
}

/* ---- Masks ---- */

static uint8_t *line_at(const part *p, uint32_t y)
{
    const esv_window *w = p->job->w;
    return p->lines + (size_t)(y % w->kernel) * ESV_MASKS * line_bytes(w);
}

/* Of the image rows that output row y needs and that are not there. */
static void make_lines(part *p, uint32_t y)
{
    const esv_window *w = p->job->w;
    uint32_t count = (uint32_t)w->width * w->channels, pad = w->pad * w->channels / 8u;
    uint32_t top = y * w->stride, end = top + w->kernel; /* with the padding above the image */
    end = end < w->pad ? 0 : end - w->pad < w->height ? end - w->pad : w->height;
    p->next = top > p->next + w->pad ? top - w->pad : p->next;
    for (; p->next < end; p->next++) {
        p->job->crew->kernel->mask(p->job->input + p->next * count, count, w->time_steps,
                                   line_bytes(w), line_at(p, p->next) + pad);
    }
}

/* The windows of output row y. */
static esv_masks windows_of(const part *p, uint32_t y)
{
    const esv_window *w = p->job->w;
    uint32_t taps = (uint32_t)w->kernel * w->channels;
    esv_masks m = {.bits = taps, .apart = line_bytes(w),
                   .move = (uint32_t)w->stride * w->channels / 8};
    for (uint32_t k = 0; k < w->kernel; k++) {
        uint32_t at = y * w->stride + k; /* with the padding above the image */
        if (at < w->pad || at - w->pad >= w->height) {
            m.first += m.rows ? 0 : taps;
            continue;
        }
        m.row[m.rows++] = line_at(p, at - w->pad);
    }
    return m;
}

/* ---- What becomes of them ---- */

/* codes (columns, channels) of a tile whose last channels are not there: by way of what holds
 * currents otherwise. */
static void fire_some(part *p, const esv_ready_tile *r, const esv_masks *m, uint32_t channels,
                      uint8_t *out)
{
    const job *j = p->job;
    const uint8_t *codes = (const uint8_t *)p->currents;
    j->crew->kernel->run_masks(&r->tile, m, j->columns, (uint8_t *)p->currents, NULL,
                               r->tile.width);
    for (uint32_t x = 0; x < j->columns; x++, out += channels, codes += r->tile.width) {
        memcpy(out, codes, r->n);
    }
}

static void sum_row(const void *context, int32_t y, int32_t *currents)
{
    part *p = (part *)(uintptr_t)context;
    const esv_ready_tile *r = p->conv->prepared;
    uint32_t width = width_of(p->conv);
    make_lines(p, (uint32_t)y);
    esv_masks m = windows_of(p, (uint32_t)y);
    for (uint32_t first = 0; first < p->conv->after.channels; first += r->n, r++) {
        p->job->crew->kernel->run_masks(&r->tile, &m, p->job->columns, NULL, currents + first,
                                        width);
    }
}

static void fire_row(part *p, uint32_t y)
{
    const esv_after *after = &p->conv->after;
    const esv_ready_tile *r = p->conv->prepared;
    make_lines(p, y);
    esv_masks m = windows_of(p, y);
    uint8_t *out = (uint8_t *)after->out + y * p->job->columns * after->channels;
    for (uint32_t first = 0; first < after->channels; first += r->n, r++) {
        if (r->n < r->tile.width) {
            fire_some(p, r, &m, after->channels, out + first);
        } else {
            p->job->crew->kernel->run_masks(&r->tile, &m, p->job->columns, out + first, NULL,
                                            after->channels);
        }
    }
}

static void run_row(part *p, uint32_t row)
{
    const esv_window *w = p->job->w;
    uint32_t width = width_of(p->conv), numbers = w->time_steps * width;
    if (p->conv->after.kind == ESV_SPIKES && !w->pool) {
        fire_row(p, row);
        return;
    }
    if (w->pool) {
        esv_dense_pool_row(&p->pool, row, sum_row, p, p->currents);
    } else {
        sum_row(p, (int32_t)row, p->currents);
    }
    esv_after_rows(&p->conv->after, row * w->out_width, w->out_width, p->currents, numbers, width);
}

static void run_part(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->w;
    uint32_t row = w->out_height * index / j->parts, end = w->out_height * (index + 1) / j->parts;
    uint32_t widest = 0;
    for (uint32_t i = 0; i < j->count; i++) {
        uint32_t channels = j->conv[i].after.channels;
        widest = channels > widest ? channels : widest;
    }
    esv_dense_memory memory = esv_dense_memory_of(j->crew, member);
    part p = {.job = j};
    take(w, widest, &memory, &p);
    memset(p.lines, 0, (size_t)w->kernel * ESV_MASKS * line_bytes(w)); /* the padding stays so */
    for (; row < end; row++) {
        for (p.conv = j->conv; p.conv < j->conv + j->count; p.conv++) {
            run_row(&p, row);
        }
    }
}

/* Whether the sums of all tiles fit int16, whatever fires. */
static int is_narrow(const esv_window *w, const esv_conv *conv)
{
    const esv_ready_tile *r = conv->prepared;
    uint32_t rows = esv_spike_rows(w);
    for (uint32_t first = 0; first < conv->after.channels; first += r->n, r++) {
        if (r->wide && (r->tile.most_rows < 0 || (uint32_t)r->tile.most_rows < rows)) {
            return 0;
        }
    }
    return 1;
}

int esv_spike_takes_masks(const esv_window *w, const esv_conv *conv, uint32_t count, int levels,
                          const esv_crew *crew)
{
    if (levels || !esv_dense_runs(crew) || !is_apt(w, crew->kernel)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t work = esv_spike_masks_work(w, levels, conv[i].after.channels, crew->kernel);
        if (work > crew->work_bytes || !conv[i].prepared || !is_narrow(w, &conv[i])) {
            return 0;
        }
    }
    return 1;
}

void esv_spike_conv_masks(const esv_window *w, const esv_conv *conv, uint32_t count,
                          const uint8_t *input, const esv_crew *crew)
{
    uint32_t together = w->pool ? 1 : count; /* rows are summed ahead of those that come out */
    esv_window as = reshaped(w);
    job j = {&as, conv, together, input, crew, esv_dense_size(as.width, &as),
             esv_dense_parts(crew, as.out_height)};
    for (; j.conv < conv + count; j.conv += together) {
        esv_share(crew, run_part, &j, j.parts);
    }
}
#endif
