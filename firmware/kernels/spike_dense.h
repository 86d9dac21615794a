/* The spiking convolution as a dense product, and when it is: between spike_conv.c, which asks, and
 * spike_conv_dense.c and spike_choose.c, which answer.
 */
#ifndef ESV_SPIKE_DENSE_H
#define ESV_SPIKE_DENSE_H

#include "dense.h"

/* The road that is cheapest for what is in `input`, or asked for. */
enum esv_road esv_spike_choose(const esv_window *window, const esv_conv *conv, uint32_t count,
                               int levels, const uint8_t *input, const esv_crew *crew);
/* How many entries lists have for each input, on average: one if it is not 0, of levels of several
 * steps one for each of 1, 2, ... that it reaches. */
float esv_spike_listed(const esv_window *window, int levels, const uint8_t *input);
/* Whether its weights are expanded once: where they may be the cheaper, and are small. */
int esv_spike_keeps_dense(const esv_window *window, int levels, const esv_conv *conv,
                          const esv_spike_variant *kernel);
/* The work_bytes in which they can run; 0: never. */
uint64_t esv_spike_planned_work(const esv_window *window, int levels,
                                const esv_spike_variant *kernel);

/* 0: nothing was done, there is too little memory. */
int esv_spike_conv_dense(const esv_window *window, const esv_conv *conv, uint32_t count, int levels,
                         const uint8_t *input, const esv_crew *crew);
/* The work_bytes of a crew that it takes, weights included if they are not prepared. */
uint64_t esv_spike_dense_work(const esv_window *window, int levels, uint32_t channels,
                              const esv_spike_variant *kernel, int prepared);

/* A layer made ready in `memory`, if it is kept; without a start its bytes are added up there. */
void esv_spike_dense_prepare(const esv_window *window, int levels, const esv_conv *conv,
                             const esv_spike_variant *kernel, esv_dense_memory *memory);
/* What it made, or NULL. */
const esv_dense *esv_spike_dense_prepared(const esv_window *window, const esv_conv *conv,
                                          const esv_spike_variant *kernel);

#endif
