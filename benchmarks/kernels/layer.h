/* One spiking layer with random weights and spikes, for timing and counting. Everything is made from
 * a fixed seed with integers alone, so that every machine gets the same layer.
 */
#ifndef BENCH_LAYER_H
#define BENCH_LAYER_H

#include <stddef.h>
#include <stdint.h>

enum { BERNOULLI, LIF_LIKE, RECORDED }; /* where the spikes come from */

typedef struct {
    uint32_t side, channels, out_channels, kernel, time_steps; /* padding keeps side x side */
    uint32_t rate;   /* of firing, percent */
    uint32_t source; /* BERNOULLI, LIF_LIKE, or RECORDED: the caller fills in the codes */
    uint32_t bits;   /* of a weight, 2 to 8 */
} layer_shape;

typedef struct {
    layer_shape shape;
    uint32_t tokens, inputs; /* side^2, K = kernel^2 * channels */
    int8_t *weight;          /* (K, out_channels), tap-major, then input channel */
    int32_t *bias, *threshold; /* (out_channels) */
    uint8_t *codes;            /* (tokens, channels), bit t of a byte is the spike of step t */
} layer;

/* 16-byte aligned memory that is never given back. */
void *take(size_t bytes);

/* The next of a fixed sequence of random numbers; gaussian: mean 0, standard deviation `sigma`. */
uint32_t random_bits(void);
void random_start(uint64_t seed);
int32_t random_gaussian(int32_t sigma);

#define ONE 4096 /* a membrane's threshold */
/* The code of a LIF neuron under a current that is about the same at all steps. */
uint32_t random_code(int32_t current, uint32_t time_steps);

/* Fill codes (tokens, channels) at the asked rate. */
void spikes(const layer_shape *shape, uint32_t tokens, uint8_t *codes);

/* What is compared. prepare: once, off the clock. run: codes (tokens, out_channels). */
void *ours_prepare(const layer *l);
void ours_run(const layer *l, void *prepared, uint8_t *out);
void *dense_prepare(const layer *l);
void dense_run(const layer *l, void *prepared, uint8_t *out);

/* Output i of (tokens, out_channels) by definition, slowly. */
uint8_t plain_code(const layer *l, uint32_t i);

/* What spike_layer.c offers to programs: layers by number, from 0 on; bench_reset forgets all. */
void bench_reset(void);
uint32_t bench_open(const layer_shape *shape);
uint8_t *bench_codes(uint32_t number); /* (tokens, channels), to be recorded */
void bench_ours(uint32_t number);
void bench_dense(uint32_t number);
uint32_t bench_mismatches(uint32_t number); /* of every 97th output of the last run */
uint32_t bench_rate(uint32_t number, int any); /* inputs that fire, in a step or in any, ppm */

/* Where counting begins and ends. */
void bench_begin(void);
void bench_end(void);

#endif
