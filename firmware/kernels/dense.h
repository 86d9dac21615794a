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
#define ESV_DENSE_STEP 4 /* inputs are a multiple of this: weights beyond are 0 */

/* A layer's weights and biases as they are computed with, for all tiles of 16 channels. A row of
 * inputs is one stretch, or several `apart` from each other, as the rows of a window in an image
 * are. */
typedef struct {
    uint32_t segments, inputs; /* stretches, and inputs of one: rounded up to ESV_DENSE_STEP */
    uint32_t apart;            /* inputs from one stretch to the next */
    uint32_t channels, width;  /* the latter rounded up to ESV_TILE */
    uint32_t bytes;            /* of an input: 1 or 2 */
    uint32_t narrow;           /* sums fit int16 */
    /* (width / 16, segments, inputs, 16) as int16, or (.., inputs / 4, 16, 4) as int8; on x86 int16
     * are (.., inputs / 2, 16, 2). */
    void *weight;
    int32_t *bias; /* (width) */
} esv_dense;

/* Hands out memory, 64-byte aligned, and counts it; what does not fit is NULL, and without a start
 * all is. */
typedef struct {
    uint8_t *start;
    uint64_t used, room;
} esv_dense_memory;

static inline void *esv_dense_take(esv_dense_memory *memory, uint64_t bytes)
{
    uint8_t *at = memory->start ? memory->start + memory->used : 0;
    memory->used += (bytes + 63) / 64 * 64;
    return memory->used <= memory->room ? at : 0;
}

static inline int esv_dense_fits(const esv_dense_memory *memory)
{
    return memory->used <= memory->room;
}

static inline uint32_t esv_dense_round(uint32_t value, uint32_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Whether this processor and this crew can run dense layers at all. */
int esv_dense_runs(const esv_crew *crew);
esv_dense_memory esv_dense_memory_of(const esv_crew *crew, uint32_t member);

/* Whether this processor multiplies and adds four bytes at once, which takes a quarter of the
 * instructions, and the crew's kernels may; on Arm both are signed, on x86 inputs are not. */
int esv_dense_has_bytes(const esv_spike_variant *kernel);
#ifdef __aarch64__
#define ESV_DENSE_LARGEST_BYTE 127
#else
#define ESV_DENSE_LARGEST_BYTE 255
#endif

/* Take the memory of a layer: `layer` has its segments and bytes, `rows` is how many inputs a
 * segment really has. Then expand it there; inputs, if bytes, are `less` smaller than they should
 * be. */
void esv_dense_take_layer(esv_dense *layer, esv_dense_memory *memory, uint32_t rows,
                          uint32_t channels);
void esv_dense_expand(const esv_dense *layer, const esv_conv *conv, uint32_t rows, int32_t less);

/* currents (rows, layer->width) = bias + in (rows) * weight; rows: a multiple of ESV_DENSE_ROWS,
 * `stride` inputs from one to the next, of layer->bytes each. Beyond the layer's channels they are
 * whatever they were. */
void esv_dense_product(const esv_dense *layer, const void *in, uint32_t stride, uint32_t rows,
                       int32_t *currents);
#ifdef ESV_DENSE
void esv_dense_product_bytes(const esv_dense *layer, const void *in, uint32_t stride,
                             uint32_t rows, int32_t *currents);
#endif

/* Max-pooling of currents before the neuron, row by row: of each row the largest of every output
 * column are kept until no output row needs them. */
typedef struct {
    const esv_window *window;
    int32_t height, width; /* of the currents before pooling */
    uint32_t channels;     /* of the currents */
    int32_t *row;          /* (width, rounded up to ESV_DENSE_ROWS, channels) */
    int32_t *ring;         /* (pool, out_width, channels) */
    int32_t next;          /* the first row that is not in the ring */
} esv_dense_pool;

void esv_dense_pool_take(esv_dense_pool *pool, esv_dense_memory *memory, const esv_window *window,
                         uint32_t channels);
/* out (out_width, channels) of an output row; rows come in order. sum: the currents of row y. */
void esv_dense_pool_row(esv_dense_pool *pool, uint32_t row,
                        void (*sum)(const void *context, int32_t y, int32_t *currents),
                        const void *context, int32_t *out);

/* What becomes of currents (T, count, width), of `count` tokens from `token` on; `step` is from one
 * step's to the next, 0 if they are the same at all steps. */
void esv_after_rows(const esv_after *after, uint32_t token, uint32_t count,
                    const int32_t *currents, uint32_t width, uint32_t step);

/* Rows and columns of currents, before pooling. */
static inline uint32_t esv_dense_size(uint32_t size, const esv_window *w)
{
    return (size + 2u * w->pad - w->kernel) / w->stride + 1;
}

/* Parts that a crew does `rows` rows in: so many that the members even out, so few that what every
 * part prepares does not count. */
uint32_t esv_dense_parts(const esv_crew *crew, uint32_t rows);

/* 0: nothing was done, the scalar kernel has to. */
int esv_encode_conv_dense(const esv_window *window, const esv_conv *conv, const uint8_t *pixels,
                          const esv_crew *crew);
int esv_membrane_conv_dense(const esv_window *window, const esv_conv *conv,
                            const int16_t *membranes, const esv_crew *crew);
int esv_depthwise_conv_dense(const esv_window *window, const esv_conv *conv, enum esv_kind kind,
                             const void *input, const esv_crew *crew);
int esv_fire_dense(const esv_after *after, const int16_t *membranes);

#endif
