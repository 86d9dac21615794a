#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#ifdef ESV_DENSE
#ifdef __aarch64__
#include <arm_neon.h>
#endif
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
    return (esv_dense_memory){(uint8_t *)crew->work + (uint64_t)member * crew->work_bytes, 0,
                              crew->work_bytes};
}

/* One row of a packed tile of n channels; the row is 0 before. */
static void load_row(const uint8_t *packed, uint32_t bits, uint32_t n, int8_t *row)
{
    int8_t unpacked[ESV_LANES];
    memcpy(row, esv_row(packed, bits, unpacked), n);
}

static void place_bytes(int8_t (*restrict row)[ESV_TILE], int8_t *restrict to)
{
#ifdef __aarch64__ /* compilers do not see it */
    vst4q_s8(to, (int8x16x4_t){{vld1q_s8(row[0]), vld1q_s8(row[1]), vld1q_s8(row[2]),
                                vld1q_s8(row[3])}});
#else
    for (uint32_t c = 0; c < ESV_TILE; c++) {
        to[4 * c] = row[0][c];
        to[4 * c + 1] = row[1][c];
        to[4 * c + 2] = row[2][c];
        to[4 * c + 3] = row[3][c];
    }
#endif
}

/* AVX2 multiplies pairs of inputs. */
static void place_words(int8_t (*restrict row)[ESV_TILE], int16_t *restrict to)
{
#ifdef __x86_64__
    for (uint32_t pair = 0; pair < 4; pair += 2, to += 2 * ESV_TILE) {
        for (uint32_t c = 0; c < ESV_TILE; c++) {
            to[2 * c] = row[pair][c];
            to[2 * c + 1] = row[pair + 1][c];
        }
    }
#else
    for (uint32_t k = 0; k < 4; k++, to += ESV_TILE) {
        for (uint32_t c = 0; c < ESV_TILE; c++) {
            to[c] = row[k][c];
        }
    }
#endif
}

static void place(const esv_dense *layer, int8_t (*row)[ESV_TILE], uint8_t *to)
{
    if (layer->bytes == 1) {
        place_bytes(row, (int8_t *)to);
    } else {
        place_words(row, (int16_t *)(void *)to);
    }
}

/* `rows` inputs of a segment; returns what is behind them in the file. */
static const uint8_t *expand_segment(const esv_dense *layer, const uint8_t *packed, uint32_t rows,
                                     uint32_t bits, uint32_t n, uint8_t *to)
{
    uint32_t bytes = esv_row_bytes(bits, n), step = 4 * ESV_TILE * layer->bytes;
    for (uint32_t k = 0; k < layer->inputs; k += 4, to += step) {
        int8_t row[4][ESV_TILE] = {{0}};
        if (bytes == ESV_TILE && k + 4 <= rows) {
            memcpy(row, packed, sizeof row);
            packed += sizeof row;
        } else {
            for (uint32_t i = k; i < rows && i < k + 4; i++, packed += bytes) {
                load_row(packed, bits, n, row[i - k]);
            }
        }
        place(layer, row, to);
    }
    return packed;
}

/* bias (16) += what the weights of a channel add up to, `less` times. */
static void add_sums(const int8_t *weight, uint32_t fours, int32_t less, int32_t *bias)
{
    for (uint32_t k = 0; k < fours; k++, weight += 4 * ESV_TILE) {
        for (uint32_t c = 0; c < ESV_TILE; c++) {
            const int8_t *w = weight + 4 * c;
            bias[c] += less * (w[0] + w[1] + w[2] + w[3]);
        }
    }
}

static void expand_tile(const esv_dense *layer, const esv_conv *conv, uint32_t rows, uint32_t first,
                        int32_t less)
{
    uint32_t all = layer->segments * rows, n = esv_lanes_of(conv->after.channels, first);
    uint32_t bytes = layer->inputs * ESV_TILE * layer->bytes;
    const uint8_t *packed = esv_tile_at(conv, all, first);
    uint8_t *to = (uint8_t *)layer->weight + first / ESV_TILE * layer->segments * bytes;
    for (uint32_t s = 0; s < layer->segments; s++) {
        packed = expand_segment(layer, packed, rows, conv->bits, n, to + s * bytes);
    }
    for (uint32_t c = 0; c < ESV_TILE; c++) {
        layer->bias[first + c] = c < n ? conv->bias[first + c] : 0;
    }
    if (less) {
        add_sums((const int8_t *)to, layer->segments * layer->inputs / 4, less, layer->bias + first);
    }
}

void esv_dense_take_layer(esv_dense *layer, esv_dense_memory *memory, uint32_t rows,
                          uint32_t channels)
{
    layer->inputs = esv_dense_round(rows, ESV_DENSE_STEP);
    layer->channels = channels;
    layer->width = esv_dense_round(channels, ESV_TILE);
    layer->weight = esv_dense_take(memory, (uint64_t)layer->segments * layer->inputs *
                                               layer->width * layer->bytes);
    layer->bias = esv_dense_take(memory, layer->width * sizeof *layer->bias);
}

void esv_dense_expand(const esv_dense *layer, const esv_conv *conv, uint32_t rows, int32_t less)
{
    for (uint32_t first = 0; first < conv->after.channels; first += ESV_TILE) {
        expand_tile(layer, conv, rows, first, less);
    }
}

uint32_t esv_dense_parts(const esv_crew *crew, uint32_t rows)
{
    uint32_t parts = crew->members > 1 ? crew->members * 4 : 1;
    return parts < rows ? parts : rows;
}
#endif
