/* What the processors with wide vectors share: layers that read all of their inputs, pixels and
 * membranes, as products of matrices. Rows of inputs as int16, ESV_DENSE_ROWS at a time, times a
 * tile of weights that was expanded to int16 once; then the neurons of a whole row of tokens.
 * Everything is in the memory of a crew's member: without a crew, or where a layer does not fit
 * there, the scalar kernels run.
 */
#ifndef ESV_DENSE_H
#define ESV_DENSE_H

#include "after.h"
#include "spike_conv.h"

#if (defined __aarch64__ || defined __x86_64__) && !defined ESV_PORTABLE
#define ESV_DENSE
#endif

#define ESV_DENSE_ROWS 4
#define ESV_DENSE_STEP 4 /* inputs are a multiple of this: weights and inputs beyond are 0 */

/* A layer's weights and biases as they are computed with, for all tiles of 16 channels. */
typedef struct {
    uint32_t inputs, width; /* rounded up to ESV_DENSE_STEP and to ESV_TILE */
    int16_t *weight;        /* (width / 16, inputs, 16), or as the processor wants it */
    int8_t *bytes;          /* (width / 16, inputs / 4, 16, 4) */
    int32_t *bias;          /* (width) */
} esv_dense;

/* Hands out the memory of a member; what it gives is 64-byte aligned. Past the end it gives NULL,
 * from then on. */
typedef struct {
    uint8_t *at;
    uint64_t left;
} esv_dense_memory;

static inline void *esv_dense_take(esv_dense_memory *memory, uint64_t bytes)
{
    uint8_t *taken = memory->at;
    bytes = (bytes + 63) / 64 * 64;
    if (!taken || bytes > memory->left) {
        memory->at = 0;
        return 0;
    }
    memory->at += bytes;
    memory->left -= bytes;
    return taken;
}

static inline uint32_t esv_dense_round(uint32_t value, uint32_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Whether this processor and this crew can run dense layers at all. */
int esv_dense_runs(const esv_crew *crew);
esv_dense_memory esv_dense_memory_of(const esv_crew *crew, uint32_t member);

/* Take the memory of a layer of `inputs` rows and expand it there; 0: it does not fit. */
int esv_dense_expand(esv_dense *layer, esv_dense_memory *memory, const esv_conv *conv,
                     uint32_t inputs, uint32_t channels);

/* currents (ESV_DENSE_ROWS, layer->width) = bias + in (ESV_DENSE_ROWS, in_stride) * weight. */
void esv_dense_product(const esv_dense *layer, const int16_t *in, uint32_t in_stride,
                       int32_t *currents);

/* The same of bytes, pixel - 128, which takes a quarter of the instructions: where the processor
 * multiplies and adds four bytes at once. Expanding needs memory of its own. */
int esv_dense_has_bytes(void);
int esv_dense_expand_bytes(esv_dense *layer, esv_dense_memory *memory);
void esv_dense_product_bytes(const esv_dense *layer, const int8_t *in, uint32_t in_stride,
                             int32_t *currents);

/* What becomes of currents (T, count, width), of `count` tokens from `token` on; `step` is from one
 * step's to the next, 0 if they are the same at all steps. */
void esv_after_rows(const esv_after *after, uint32_t token, uint32_t count,
                    const int32_t *currents, uint32_t width, uint32_t step);

/* Parts that a crew does `rows` rows in: so many that the members even out, so few that what every
 * part prepares does not count. */
uint32_t esv_dense_parts(const esv_crew *crew, uint32_t rows);

/* 0: nothing was done, the scalar kernel has to. */
int esv_encode_conv_dense(const esv_window *window, const esv_conv *conv, const uint8_t *pixels,
                          const esv_crew *crew);
int esv_membrane_conv_dense(const esv_window *window, const esv_conv *conv,
                            const int16_t *membranes, const esv_crew *crew);
#ifdef __aarch64__
int esv_depthwise_conv_neon(const esv_window *window, const esv_conv *conv, enum esv_kind kind,
                            const void *input, const esv_crew *crew);
int esv_fire_neon(const esv_after *after, const int16_t *membranes);
#endif

#endif
