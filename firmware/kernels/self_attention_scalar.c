/* Spiking self-attention in linear order: K^T V of each step first, then Q times it. There is no
 * softmax, so (q k^T) v and q (k^T v) are the same integers; this order costs N d d instead of
 * N N d, and its counts never exceed N. */
#include "esv_kernels.h"

#include <string.h>

#include "lif.h"

#define TILE 32

/* One head's tensors: pointers to token 0, a token is `stride` bytes further. */
typedef struct {
    const uint8_t *query, *key, *value;
    uint8_t *out;
    uint32_t query_stride, value_stride;
} head_view;

/* counts (T, query_dim, value_dim): tokens where key a and value b fired together at step t. */
static void key_value(const esv_attention *a, const head_view *head, uint16_t *counts)
{
    memset(counts, 0, esv_self_attention_scratch(a));
    for (uint32_t n = 0; n < a->tokens; n++) {
        const uint8_t *key = head->key + n * head->query_stride;
        const uint8_t *value = head->value + n * head->value_stride;
        for (uint32_t t = 0; t < a->time_steps; t++) {
            uint16_t *row = counts + t * a->query_dim * a->value_dim;
            for (uint32_t i = 0; i < a->query_dim; i++, row += a->value_dim) {
                if (key[i] >> t & 1) {
                    for (uint32_t j = 0; j < a->value_dim; j++) {
                        row[j] = (uint16_t)(row[j] + (value[j] >> t & 1));
                    }
                }
            }
        }
    }
}

/* Output channels first .. first + n of one token. */
static void attend(const esv_attention *a, const uint8_t *query, const uint16_t *counts,
                   uint32_t first, uint32_t n, uint8_t *out)
{
    int32_t membrane[TILE] = {0};
    for (uint32_t j = 0; j < n; j++) {
        out[j] = 0;
    }
    for (uint32_t t = 0; t < a->time_steps; t++) {
        int32_t acc[TILE] = {0};
        const uint16_t *row = counts + t * a->query_dim * a->value_dim + first;
        for (uint32_t i = 0; i < a->query_dim; i++, row += a->value_dim) {
            if (query[i] >> t & 1) {
                for (uint32_t j = 0; j < n; j++) {
                    acc[j] += row[j];
                }
            }
        }
        for (uint32_t j = 0; j < n; j++) {
            uint32_t fired = esv_lif32(&membrane[j], acc[j] << a->shift, a->threshold);
            out[j] = (uint8_t)(out[j] | fired << t);
        }
    }
}

uint32_t esv_self_attention_scratch(const esv_attention *a)
{
    return 2u * a->time_steps * a->query_dim * a->value_dim;
}

void esv_self_attention(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                        const uint8_t *value, uint8_t *out, void *scratch)
{
    for (uint32_t h = 0; h < a->heads; h++) {
        head_view head = {
            query + h * a->query_dim, key + h * a->query_dim, value + h * a->value_dim,
            out + h * a->value_dim, (uint32_t)a->heads * a->query_dim,
            (uint32_t)a->heads * a->value_dim,
        };
        key_value(a, &head, scratch);
        for (uint32_t n = 0; n < a->tokens; n++) {
            for (uint32_t first = 0; first < a->value_dim; first += TILE) {
                uint32_t left = a->value_dim - first;
                attend(a, head.query + n * head.query_stride, scratch, first,
                       left < TILE ? left : TILE, head.out + n * head.value_stride + first);
            }
        }
    }
}
