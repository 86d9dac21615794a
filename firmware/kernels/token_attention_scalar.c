#include "esv_kernels.h"

#include "lif.h"

/* The steps at which one token of one head passes, as a code. */
static uint8_t token_code(const esv_attention *a, const uint8_t *query)
{
    int32_t membrane = 0;
    uint32_t code = 0;
    for (uint32_t t = 0; t < a->time_steps; t++) {
        int32_t spikes = 0;
        for (uint32_t i = 0; i < a->query_dim; i++) {
            spikes += query[i] >> t & 1;
        }
        code |= (uint32_t)esv_lif32(&membrane, spikes << a->shift, a->threshold) << t;
    }
    return (uint8_t)code;
}

void esv_token_attention(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                         uint8_t *out)
{
    for (uint32_t group = 0; group < (uint32_t)a->tokens * a->heads; group++) {
        uint8_t code = token_code(a, query);
        for (uint32_t i = 0; i < a->query_dim; i++) {
            out[i] = key[i] & code;
        }
        query += a->query_dim;
        key += a->query_dim;
        out += a->query_dim;
    }
}
