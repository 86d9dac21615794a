#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#include <string.h>

#include "weights.h"

int esv_dense_runs(const esv_crew *crew)
{
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2")) {
        return 0;
    }
#endif
    return crew && crew->work && crew->kernel != &esv_spike_scalar;
}

esv_dense_memory esv_dense_memory_of(const esv_crew *crew, uint32_t member)
{
    return (esv_dense_memory){(uint8_t *)crew->work + (uint64_t)member * crew->work_bytes,
                              crew->work_bytes};
}

/* Where the weight of an input and a channel is: AVX2 multiplies pairs of inputs. */
static inline uint32_t place(uint32_t input, uint32_t c)
{
#ifdef __x86_64__
    return input / 2 * 2 * ESV_TILE + 2 * c + input % 2;
#else
    return input * ESV_TILE + c;
#endif
}

static void expand_row(const int8_t *restrict from, uint32_t n, int16_t *restrict to)
{
    for (uint32_t c = 0; c < n; c++) {
        to[place(0, c)] = from[c];
    }
}

static void expand_tile(const esv_conv *conv, const uint8_t *row, uint32_t inputs, uint32_t n,
                        int16_t *weight)
{
    int8_t unpacked[ESV_LANES];
    for (uint32_t k = 0; k < inputs; k++, row += esv_row_bytes(conv->bits, n)) {
        const int8_t *from = esv_row(row, conv->bits, unpacked);
        if (n == ESV_TILE) {
            expand_row(from, ESV_TILE, weight + place(k, 0));
        } else {
            expand_row(from, n, weight + place(k, 0));
        }
    }
}

int esv_dense_expand(esv_dense *layer, esv_dense_memory *memory, const esv_conv *conv,
                     uint32_t inputs, uint32_t channels)
{
    layer->inputs = esv_dense_round(inputs, ESV_DENSE_STEP);
    layer->width = esv_dense_round(channels, ESV_TILE);
    uint64_t bytes = (uint64_t)layer->inputs * layer->width * sizeof *layer->weight;
    layer->weight = esv_dense_take(memory, bytes);
    layer->bias = esv_dense_take(memory, layer->width * sizeof *layer->bias);
    if (!layer->bias) {
        return 0;
    }
    uint32_t last = layer->width - ESV_TILE, tile = layer->inputs * ESV_TILE;
    if (channels < layer->width || inputs < layer->inputs) {
        memset(layer->weight, 0, bytes);
    }
    memset(layer->bias + last, 0, ESV_TILE * sizeof *layer->bias);
    memcpy(layer->bias, conv->bias, channels * sizeof *layer->bias);
    for (uint32_t first = 0; first < channels; first += ESV_TILE) {
        expand_tile(conv, esv_tile_at(conv, inputs, first), inputs, esv_lanes_of(channels, first),
                    layer->weight + first / ESV_TILE * tile);
    }
    return 1;
}

uint32_t esv_dense_parts(const esv_crew *crew, uint32_t rows)
{
    uint32_t parts = crew->members > 1 ? crew->members * 4 : 1;
    return parts < rows ? parts : rows;
}
#endif
