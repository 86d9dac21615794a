/* The rival of spiking self-attention: dense products of bytes, blind to the spikes.
 *
 * Codes are spread to one byte a step. Products are those of attention_product.h; the number of
 * tokens, where they are the inputs of a sum, is padded to a multiple of 16 by zeros.
 */
#include <string.h>

#include "attention.h"
#include "attention_product.h"

typedef struct {
    uint32_t padded;             /* tokens */
    uint8_t *query, *key;        /* (tokens, dim) of a step */
    uint8_t *key_words;          /* panels of K^T: inputs dim, columns padded */
    uint8_t *scores;             /* (tokens, padded); or K^T V (dim, dim) */
    uint8_t *key_fours, *values; /* panels of K and V: inputs padded, columns dim */
    uint8_t *mixed;              /* panels of K^T V: inputs dim, columns dim */
    int32_t *sums;               /* of the first product */
    int32_t *current;            /* (T, tokens, dim) */
} buffers;

static void *zeros(size_t bytes)
{
    return memset(take(bytes), 0, bytes);
}

void *head_prepare_dense(const head *h)
{
    buffers *b = take(sizeof *b);
    uint32_t all = b->padded = (h->tokens + 15) & ~15u, most = all > h->dim ? all : h->dim;
    b->query = take(h->tokens * h->dim);
    b->key = zeros(all * h->dim);
    b->key_words = take(all * h->dim);
    b->scores = take(most * most);
    b->key_fours = zeros(all * h->dim);
    b->values = zeros(all * h->dim);
    b->mixed = take(h->dim * h->dim);
    b->sums = take((size_t)4 * most * most);
    b->current = take((size_t)4 * h->time_steps * h->tokens * h->dim);
    return b;
}

/* out (count): 1 where a code has the step's bit. These loops are not inlined, or their pointers
 * could be aliases. */
static __attribute__((noinline)) void spread(const uint8_t *restrict codes, size_t count,
                                             uint8_t step, uint8_t *restrict out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (codes[i] & step) != 0;
    }
}

/* bytes of sums that fit. */
static __attribute__((noinline)) void narrow(const int32_t *restrict sums, size_t count,
                                             uint8_t *restrict bytes)
{
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (uint8_t)sums[i];
    }
}

/* Panels of the transpose of rows (columns, inputs): four inputs are a word of a row. */
static void pack_words(const uint8_t *rows, uint32_t inputs, uint32_t columns, uint8_t *panel)
{
    for (uint32_t c = 0; c < columns; c += PANEL) {
        for (uint32_t k = 0; k < inputs; k += 4) {
            for (uint32_t i = 0; i < PANEL; i++, panel += 4) {
                memcpy(panel, rows + (c + i) * inputs + k, 4);
            }
        }
    }
}

/* 16 columns of four rows of codes, `stride` apart, as a group of a panel. */
static __attribute__((noinline)) void pack_codes(const uint8_t *restrict codes, size_t stride,
                                                 uint8_t step, uint8_t *restrict group)
{
    for (size_t i = 0; i < PANEL; i++) {
        group[4 * i] = (codes[i] & step) != 0;
        group[4 * i + 1] = (codes[i + stride] & step) != 0;
        group[4 * i + 2] = (codes[i + 2 * stride] & step) != 0;
        group[4 * i + 3] = (codes[i + 3 * stride] & step) != 0;
    }
}

/* The same of bytes. */
static __attribute__((noinline)) void pack_bytes(const uint8_t *restrict rows, size_t stride,
                                                 uint8_t *restrict group)
{
    for (size_t i = 0; i < PANEL; i++) {
        group[4 * i] = rows[i];
        group[4 * i + 1] = rows[i + stride];
        group[4 * i + 2] = rows[i + 2 * stride];
        group[4 * i + 3] = rows[i + 3 * stride];
    }
}

/* Panels of codes (tokens, dim) at a step: inputs are the tokens. */
static void pack_step(const head *h, const buffers *b, const uint8_t *codes, uint8_t step,
                      uint8_t *panels)
{
    for (uint32_t c = 0; c < h->dim; c += PANEL) {
        uint8_t *group = panels + c * b->padded;
        for (uint32_t n = 0; n < h->tokens; n += 4, group += 4 * PANEL) {
            pack_codes(codes + n * h->dim + c, h->dim, step, group);
        }
    }
}

/* current = (Q K^T) V of one step; `values` are packed. */
static void quadratic(const head *h, buffers *b, uint8_t step, int32_t *current)
{
    spread(h->key, h->tokens * h->dim, step, b->key);
    pack_words(b->key, h->dim, b->padded, b->key_words);
    multiply(b->query, h->tokens, b->key_words, b->padded, h->dim, b->sums);
    narrow(b->sums, (size_t)h->tokens * b->padded, b->scores);
    multiply(b->scores, h->tokens, b->values, h->dim, b->padded, current);
}

/* current = Q (K^T V) of one step; `values` are packed. At most 255 tokens. */
static void linear_order(const head *h, buffers *b, uint8_t step, int32_t *current)
{
    uint8_t *bytes = b->scores;
    pack_step(h, b, h->key, step, b->key_fours);
    multiply_panels(b->key_fours, h->dim, b->values, h->dim, b->padded, b->sums);
    narrow(b->sums, h->dim * h->dim, bytes);
    for (uint32_t c = 0; c < h->dim; c += PANEL) {
        for (uint32_t k = 0; k < h->dim; k += 4) {
            pack_bytes(bytes + k * h->dim + c, h->dim, b->mixed + c * h->dim + k * PANEL);
        }
    }
    multiply(b->query, h->tokens, b->mixed, h->dim, h->dim, current);
}

typedef int32_t quad __attribute__((vector_size(16)));

/* 16 codes; currents of a step are `stride` after those of the one before. */
static void neurons(const head *h, const int32_t *current, size_t stride, uint8_t *out)
{
    quad v[4] = {0}, code[4] = {0}, threshold = (quad){0} + h->threshold;
    for (uint32_t t = 0; t < h->time_steps; t++, current += stride) {
        for (uint32_t i = 0; i < 4; i++) {
            quad more;
            memcpy(&more, current + 4 * i, sizeof more);
            quad u = (v[i] + (more << (int32_t)h->shift)) >> 1, fired = u >= threshold;
            v[i] = u & ~fired;
            code[i] |= fired & (1 << t);
        }
    }
    for (uint32_t c = 0; c < PANEL; c++) {
        out[c] = (uint8_t)code[c / 4][c % 4];
    }
}

void head_run_dense(const head *h, void *prepared, int linear, uint8_t *out)
{
    buffers *b = prepared;
    size_t outputs = (size_t)h->tokens * h->dim;
    for (uint32_t t = 0; t < h->time_steps; t++) {
        uint8_t step = (uint8_t)(1u << t);
        spread(h->query, outputs, step, b->query);
        pack_step(h, b, h->value, step, b->values);
        (linear ? linear_order : quadratic)(h, b, step, b->current + t * outputs);
    }
    for (size_t i = 0; i < outputs; i += PANEL) {
        neurons(h, b->current + i, outputs, out + i);
    }
}
