/* Lists before max-pooling: an output token takes the largest of several positions, which others
 * take as well. Row by row every position is sorted and summed once, for all steps.
 */
#include "dense.h"
#include "spike_layer.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
typedef struct {
    esv_spike_layer layer; /* of one convolution, a spot for each position */
    uint32_t width;        /* channels, rounded up to ESV_LANES */
    uint32_t slots;        /* positions whose lists fit at a time */
    uint32_t parts;
} job;

typedef struct {
    const job *job;
    esv_spike_memory *memory;
    esv_dense_pool pool; /* of (T, width) numbers for each position */
    int32_t *out;        /* (out_width, T, width) */
} part;

static void take(const esv_window *w, uint32_t width, esv_dense_memory *memory, part *p)
{
    uint32_t numbers = w->time_steps * width;
    esv_dense_pool_take(&p->pool, memory, w, numbers);
    p->out = esv_dense_take(memory, (uint64_t)w->out_width * numbers * sizeof *p->out);
}

uint64_t esv_spike_pooled_bytes(const esv_window *w, uint32_t channels)
{
    esv_dense_memory count = {0, 0, UINT64_MAX};
    part p;
    take(w, esv_dense_round(channels, ESV_LANES), &count, &p);
    return count.used;
}

/* currents (width before pooling, T, width) of row y. */
static void sum_row(const void *context, int32_t y, int32_t *currents)
{
    const part *p = context;
    const job *j = p->job;
    uint32_t columns = (uint32_t)p->pool.width, n;
    for (uint32_t x = 0; x < columns; x += n, currents += n * p->pool.channels) {
        n = columns - x < j->slots ? columns - x : j->slots;
        for (uint32_t slot = 0; slot < n; slot++) {
            esv_spike_gather_at(&j->layer, p->memory, y, (int32_t)(x + slot),
                                esv_spike_spot_at(&j->layer, p->memory, slot, 0));
        }
        esv_spike_sum_positions(&j->layer, p->memory, n, currents, j->width);
    }
}

static void run_part(void *context, uint32_t index, uint32_t member)
{
    const job *j = context;
    const esv_window *w = j->layer.w;
    esv_dense_memory memory = esv_dense_memory_of(j->layer.crew, member);
    esv_spike_memory lists = esv_spike_memory_of(&j->layer, member);
    uint32_t row = w->out_height * index / j->parts;
    uint32_t end = w->out_height * (index + 1) / j->parts;
    part p = {.job = j, .memory = &lists};
    take(w, j->width, &memory, &p);
    for (; row < end; row++) {
        esv_dense_pool_row(&p.pool, row, sum_row, &p, p.out);
        esv_after_rows(&j->layer.conv->after, row * w->out_width, w->out_width, p.out,
                       p.pool.channels, j->width);
    }
}

static int measure(const esv_spike_layer *l, const esv_conv *conv, job *j)
{
    uint32_t channels = conv->after.channels;
    uint64_t before = esv_spike_pooled_bytes(l->w, channels), bytes = l->crew->work_bytes;
    uint64_t fixed = before + esv_spike_fixed_bytes(l->w, l->levels, l->lines, l->kernel);
    j->layer = *l;
    j->layer.conv = conv;
    j->layer.count = 1;
    j->layer.spots = 1;
    j->layer.before = (uint32_t)before;
    j->width = esv_dense_round(channels, ESV_LANES);
    j->slots = fixed < bytes ? (uint32_t)(bytes - fixed) / l->spot_bytes : 0;
    j->parts = esv_dense_parts(l->crew, l->w->out_height);
    return j->slots > 0;
}

int esv_spike_conv_pooled(const esv_spike_layer *l)
{
    job j;
    for (uint32_t i = 0; i < l->count; i++) {
        if (!esv_dense_runs(l->crew) || !measure(l, &l->conv[i], &j)) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < l->count; i++) {
        measure(l, &l->conv[i], &j);
        esv_share(l->crew, run_part, &j, j.parts);
    }
    return 1;
}
#endif
