/* The layers of a benchmark and what runs them. */
#include "layer.h"

#ifndef MEMORY_BYTES
#define MEMORY_BYTES (256u << 20)
#endif
#define MOST 16 /* layers */

static uint8_t memory[MEMORY_BYTES] __attribute__((aligned(64)));
static size_t used;

static struct {
    layer layer;
    void *ours, *dense; /* prepared, or NULL */
    uint8_t *out;       /* (tokens, out_channels) */
} benches[MOST];
static uint32_t opened;

void *take(size_t bytes)
{
    void *start = memory + used;
    used += (bytes + 63) / 64 * 64;
    return used <= sizeof memory ? start : NULL; /* NULL faults at once */
}

static void make_constants(layer *l)
{
    random_start(3);
    for (size_t i = 0; i < (size_t)l->inputs * l->shape.out_channels; i++) {
        /* At most 97 away from 0, in fewer bits as much less. */
        l->weight[i] = (int8_t)(random_gaussian(28) / (1 << (8 - l->shape.bits)));
    }
    for (uint32_t c = 0; c < l->shape.out_channels; c++) {
        l->bias[c] = random_gaussian(100);
        l->threshold[c] = 80 + (int32_t)(random_bits() % 200);
    }
}

/* Where counting begins and ends; not static, so that their addresses can be found. With MARKS they
 * are marks for count_marks.c. */
#ifdef MARKS
#include <unistd.h>
#define MARK (void)getppid()
#else
#define MARK __asm volatile("")
#endif
__attribute__((noinline)) void bench_begin(void) { MARK; }
__attribute__((noinline)) void bench_end(void) { MARK; }

void bench_reset(void)
{
    used = 0;
    opened = 0;
}

uint32_t bench_open(const layer_shape *shape)
{
    layer *l = &benches[opened].layer;
    l->shape = *shape;
    l->tokens = shape->side * shape->side;
    l->inputs = shape->kernel * shape->kernel * shape->channels;
    l->weight = take((size_t)l->inputs * shape->out_channels);
    l->bias = take(4 * shape->out_channels);
    l->threshold = take(4 * shape->out_channels);
    l->codes = take(l->tokens * shape->channels + 16); /* kernels may read a vector too far */
    make_constants(l);
    spikes(shape, l->tokens, l->codes);
    benches[opened].out = take(l->tokens * shape->out_channels + 16);
    benches[opened].ours = benches[opened].dense = NULL;
    return opened++;
}

uint8_t *bench_codes(uint32_t number)
{
    return benches[number].layer.codes;
}

void bench_ours(uint32_t number)
{
    layer *l = &benches[number].layer;
    void **prepared = &benches[number].ours;
    *prepared = *prepared ? *prepared : ours_prepare(l);
    bench_begin();
    ours_run(l, *prepared, benches[number].out);
    bench_end();
}

void bench_dense(uint32_t number)
{
    layer *l = &benches[number].layer;
    void **prepared = &benches[number].dense;
    *prepared = *prepared ? *prepared : dense_prepare(l);
    bench_begin();
    dense_run(l, *prepared, benches[number].out);
    bench_end();
}

uint32_t bench_mismatches(uint32_t number)
{
    const layer *l = &benches[number].layer;
    uint32_t count = 0;
    for (uint32_t i = 0; i < l->tokens * l->shape.out_channels; i += 97) {
        count += benches[number].out[i] != plain_code(l, i);
    }
    return count;
}

uint32_t bench_rate(uint32_t number, int any)
{
    const layer *l = &benches[number].layer;
    uint64_t count = 0, all = (uint64_t)l->tokens * l->shape.channels;
    for (uint64_t i = 0; i < all; i++) {
        uint32_t code = l->codes[i];
        count += any ? code != 0 : (uint32_t)__builtin_popcount(code);
    }
    return (uint32_t)(count * 1000000 / (any ? all : all * l->shape.time_steps));
}
