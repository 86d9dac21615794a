/* Spiking self-attention in linear order: K^T V of each step first, then Q times it. There is no
 * softmax, so (q k^T) v and q (k^T v) are the same integers; this order costs N d d instead of
 * N N d, and its counts never exceed N, or N times the largest product for levels.
 *
 * Spikes and levels go through the same loops, compiled once for each: only how an input is read
 * and the neuron differ. */
#include <string.h>

#include "after.h"
#include "lif.h"

/* One head's tensors: pointers to token 0, a token is `stride` bytes further, and in levels a step
 * is `tokens` times as much. */
typedef struct {
    const uint8_t *query, *key, *value;
    uint8_t *out;
    uint32_t query_stride, value_stride;
} head_view;

/* The number that entry i of a token's codes or levels stands for at step t. */
static ESV_INLINE uint32_t amount(const uint8_t *token, uint32_t i, uint32_t t, uint32_t plane,
                                  int levels)
{
    return levels ? token[t * plane + i] : (uint32_t)(token[i] >> t & 1);
}

/* counts (T, query_dim, value_dim): how often, or how much, key a and value b fired together at
 * step t. */
static ESV_INLINE void key_value(const esv_attention *a, const head_view *head, int levels,
                                 uint16_t *counts)
{
    uint32_t key_plane = a->tokens * head->query_stride;
    uint32_t value_plane = a->tokens * head->value_stride;
    memset(counts, 0, esv_self_attention_scratch(a));
    for (uint32_t n = 0; n < a->tokens; n++) {
        const uint8_t *key = head->key + n * head->query_stride;
        const uint8_t *value = head->value + n * head->value_stride;
        for (uint32_t t = 0; t < a->time_steps; t++) {
            uint16_t *row = counts + t * a->query_dim * a->value_dim;
            for (uint32_t i = 0; i < a->query_dim; i++, row += a->value_dim) {
                uint32_t times = amount(key, i, t, key_plane, levels);
                if (times) {
                    for (uint32_t j = 0; j < a->value_dim; j++) {
                        uint32_t more = amount(value, j, t, value_plane, levels);
                        row[j] = (uint16_t)(row[j] + (levels ? times * more : more));
                    }
                }
            }
        }
    }
}

/* out (n) = the number of thresholds that each sum, shifted, reaches. */
static void count_thresholds(const esv_attention *a, const uint32_t *sum, uint32_t n, uint8_t *out)
{
    for (uint32_t j = 0; j < n; j++) {
        int32_t current = (int32_t)(sum[j] << a->shift);
        uint32_t level = 0;
        for (uint32_t d = 0; d < a->levels; d++) {
            level += current >= a->level_threshold[d];
        }
        out[j] = (uint8_t)level;
    }
}

/* Output channels first .. first + n of one token. Added unsigned: the sums of levels that a
 * damaged program feeds may wrap, but never overflow. */
static ESV_INLINE void attend(const esv_attention *a, const head_view *head, uint32_t token,
                              uint32_t first, uint32_t n, int levels, const uint16_t *counts)
{
    const uint8_t *query = head->query + token * head->query_stride;
    uint8_t *out = head->out + token * head->value_stride + first;
    int32_t membrane[ESV_TILE] = {0};
    for (uint32_t j = 0; j < n && !levels; j++) {
        out[j] = 0;
    }
    for (uint32_t t = 0; t < a->time_steps; t++) {
        uint32_t acc[ESV_TILE] = {0};
        const uint16_t *row = counts + t * a->query_dim * a->value_dim + first;
        for (uint32_t i = 0; i < a->query_dim; i++, row += a->value_dim) {
            uint32_t times = amount(query, i, t, a->tokens * head->query_stride, levels);
            if (times) {
                for (uint32_t j = 0; j < n; j++) {
                    acc[j] += levels ? times * row[j] : row[j];
                }
            }
        }
        if (levels) {
            count_thresholds(a, acc, n, out + t * a->tokens * head->value_stride);
            continue;
        }
        for (uint32_t j = 0; j < n; j++) {
            int32_t current = (int32_t)(acc[j] << a->shift);
            uint32_t fired = esv_lif32(&membrane[j], current, a->threshold);
            out[j] = (uint8_t)(out[j] | fired << t);
        }
    }
}

static ESV_INLINE void run_head(const esv_attention *a, const head_view *head, int levels,
                                uint16_t *counts)
{
    key_value(a, head, levels, counts);
    for (uint32_t token = 0; token < a->tokens; token++) {
        for (uint32_t first = 0; first < a->value_dim; first += ESV_TILE) {
            uint32_t left = a->value_dim - first;
            attend(a, head, token, first, left < ESV_TILE ? left : ESV_TILE, levels, counts);
        }
    }
}

static ESV_APART void run_spikes(const esv_attention *a, const head_view *head, uint16_t *counts)
{
    run_head(a, head, 0, counts);
}

static ESV_APART void run_levels(const esv_attention *a, const head_view *head, uint16_t *counts)
{
    run_head(a, head, 1, counts);
}

uint32_t esv_self_attention_scratch(const esv_attention *a)
{
    return 2u * a->time_steps * a->query_dim * a->value_dim;
}

typedef struct {
    const esv_attention *attention;
    const uint8_t *query, *key, *value;
    uint8_t *out;
    void *scratch; /* without a crew's work */
    const esv_crew *crew;
} job;

static void attend_head(void *context, uint32_t h, uint32_t member)
{
    const job *j = context;
    const esv_attention *a = j->attention;
    head_view head = {
        j->query + h * a->query_dim, j->key + h * a->query_dim, j->value + h * a->value_dim,
        j->out + h * a->value_dim, (uint32_t)a->heads * a->query_dim,
        (uint32_t)a->heads * a->value_dim,
    };
    void *counts = j->scratch;
    if (j->crew) {
        counts = (uint8_t *)j->crew->work + (size_t)member * j->crew->work_bytes;
    }
    (a->levels ? run_levels : run_spikes)(a, &head, counts);
}

void esv_self_attention(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                        const uint8_t *value, uint8_t *out, void *scratch, const esv_crew *crew)
{
    int roomy = crew && crew->work_bytes >= esv_self_attention_scratch(a);
    job j = {a, query, key, value, out, scratch, roomy ? crew : NULL};
    esv_share(j.crew, attend_head, &j, a->heads);
}
