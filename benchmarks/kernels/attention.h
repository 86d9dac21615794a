/* One head of spiking self-attention with random spikes, for counting. */
#ifndef BENCH_ATTENTION_H
#define BENCH_ATTENTION_H

#include <stdint.h>

#include "layer.h"

/* Codes are (tokens, dim), one byte a neuron. */
typedef struct {
    uint32_t tokens, dim, time_steps; /* dim: of queries as of values, a multiple of 16 */
    uint32_t shift;
    int32_t threshold;
    uint8_t *query, *key, *value;
} head;

/* What is compared. prepare: once, off the clock. */
void *head_prepare_ours(const head *h);
void head_run_ours(const head *h, void *prepared, uint8_t *out);

/* Dense 8-bit products, blind to the spikes: (Q K^T) V, or with `linear` Q (K^T V). */
void *head_prepare_dense(const head *h);
void head_run_dense(const head *h, void *prepared, int linear, uint8_t *out);

/* Offered to programs. `program`: 0 ours, 1 dense (Q K^T) V, 2 dense Q (K^T V). */
void head_open(uint32_t tokens, uint32_t dim, uint32_t time_steps, uint32_t rate, uint32_t source);
void head_run(uint32_t program);
uint32_t head_mismatches(void); /* of every 97th output of the last run */

#endif
