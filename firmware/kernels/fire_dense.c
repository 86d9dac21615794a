/* Neurons on membranes on processors with wide vectors: all in int16, and without regard to tokens.
 * The thresholds of neurons i, i + 1, ... repeat after a multiple of both the channels and the
 * lanes. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

#define UNROLL _Pragma("GCC unroll 8")
#define LANES 16
#define MOST_BORDERS 2048

#ifdef __aarch64__
#include "fire_neon.h"
#else
#include "fire_avx2.h"
#endif

typedef struct {
    uint32_t length; /* after which the thresholds repeat */
    int16_t border[MOST_BORDERS]; /* (D, length): reached by what is larger */
} pattern;

/* A membrane never reaches what is beyond int16, nor does the neuron's state. */
static int16_t below(int32_t threshold)
{
    threshold--;
    return (int16_t)(threshold > INT16_MAX   ? INT16_MAX
                     : threshold < INT16_MIN ? INT16_MIN
                                             : threshold);
}

static int repeat(const esv_after *after, uint32_t rows, pattern *p)
{
    uint32_t length = after->channels;
    while (length % LANES && length <= MOST_BORDERS) {
        length *= 2; /* LANES is a power of 2 */
    }
    if (length * rows > MOST_BORDERS) {
        return 0;
    }
    p->length = length;
    for (uint32_t d = 0; d < rows; d++) {
        for (uint32_t i = 0; i < length; i += after->channels) {
            for (uint32_t c = 0; c < after->channels; c++) {
                p->border[d * length + i + c] = below(after->threshold[d * after->channels + c]);
            }
        }
    }
    return 1;
}

/* The last, incomplete block goes through a copy with T = steps of LANES membranes. */
static uint32_t copy_rest(const int16_t *in, uint32_t step, uint32_t steps, uint32_t n,
                          int16_t copy[8 * LANES])
{
    memset(copy, 0, 8 * LANES * sizeof *copy);
    for (uint32_t t = 0; t < steps; t++) {
        memcpy(copy + t * LANES, in + t * step, n * sizeof *in);
    }
    return LANES;
}

INLINE void spikes_in(uint32_t steps, uint32_t count, const int16_t *in, const pattern *p,
                      uint8_t *out)
{
    uint32_t i = 0, at = 0;
    for (; i + LANES <= count; i += LANES) {
        spike_block(in + i, count, steps, p->border + at, out + i);
        at = at + LANES < p->length ? at + LANES : 0;
    }
    if (i < count) {
        int16_t copy[8 * LANES];
        uint8_t codes[LANES];
        uint32_t step = copy_rest(in + i, count, steps, count - i, copy);
        spike_block(copy, step, steps, p->border + at, codes);
        memcpy(out + i, codes, count - i);
    }
}

static TARGET void levels_in(uint32_t rows, uint32_t count, const int16_t *in, const pattern *p,
                             uint8_t *out)
{
    uint32_t i = 0, at = 0;
    for (; i + LANES <= count; i += LANES) {
        level_block(in + i, rows, p->length, p->border + at, out + i);
        at = at + LANES < p->length ? at + LANES : 0;
    }
    if (i < count) {
        int16_t copy[8 * LANES];
        uint8_t levels[LANES];
        copy_rest(in + i, 0, 1, count - i, copy);
        level_block(copy, rows, p->length, p->border + at, levels);
        memcpy(out + i, levels, count - i);
    }
}

static TARGET void spikes_of(uint32_t steps, uint32_t count, const int16_t *in, const pattern *p,
                             uint8_t *out)
{
    if (steps == 4) {
        spikes_in(4, count, in, p, out);
    } else {
        spikes_in(steps, count, in, p, out);
    }
}

int esv_fire_dense(const esv_after *after, const int16_t *membranes)
{
    pattern p;
    uint32_t count = after->tokens * after->channels, steps = after->time_steps;
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2")) {
        return 0;
    }
#endif
    if (!repeat(after, after->kind == ESV_LEVELS ? after->max_level : 1, &p)) {
        return 0;
    }
    if (after->kind == ESV_LEVELS) {
        for (uint32_t t = 0; t < steps; t++) {
            levels_in(after->max_level, count, membranes + t * count, &p,
                      (uint8_t *)after->out + t * count);
        }
    } else {
        spikes_of(steps, count, membranes, &p, after->out);
    }
    return 1;
}
#endif
