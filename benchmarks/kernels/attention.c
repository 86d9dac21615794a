/* One head of spiking self-attention: its spikes, our kernel, and the definition. */
#include "attention.h"

#include "esv_kernels.h"

static head opened;
static uint8_t *result; /* (tokens, dim) */
static void *ours, *dense;

/* Columns first .. first + dim of codes (tokens, 3 * dim). */
static uint8_t *columns(const uint8_t *codes, const head *h, uint32_t first)
{
    uint8_t *part = take(h->tokens * h->dim + 16); /* kernels may read a vector too far */
    for (uint32_t i = 0; i < h->tokens * h->dim; i++) {
        part[i] = codes[i / h->dim * 3 * h->dim + first + i % h->dim];
    }
    return part;
}

void head_open(uint32_t tokens, uint32_t dim, uint32_t time_steps, uint32_t rate, uint32_t source)
{
    layer_shape shape = {.channels = 3 * dim, .time_steps = time_steps, .rate = rate,
                         .source = source};
    bench_reset();
    uint8_t *codes = take(tokens * shape.channels);
    spikes(&shape, tokens, codes);
    head *h = &opened;
    *h = (head){.tokens = tokens, .dim = dim, .time_steps = time_steps, .shift = time_steps};
    h->query = columns(codes, h, 0);
    h->key = columns(codes, h, dim);
    h->value = columns(codes, h, 2 * dim);
    /* Three quarters of the mean current, which a constant current reaches at the second step. */
    uint64_t mean = (uint64_t)tokens * dim * rate * rate * rate / 1000000;
    h->threshold = 1 + (int32_t)(mean * 3 / 4 << h->shift);
    result = take(tokens * dim + 16);
    ours = head_prepare_ours(h);
    dense = head_prepare_dense(h);
}

void head_run(uint32_t program)
{
    bench_begin();
    if (program == 0) {
        head_run_ours(&opened, ours, result);
    } else {
        head_run_dense(&opened, dense, program == 2, result);
    }
    bench_end();
}

void *head_prepare_ours(const head *h)
{
    esv_attention a = {.query_dim = (uint16_t)h->dim, .value_dim = (uint16_t)h->dim,
                       .time_steps = (uint8_t)h->time_steps};
    return take(esv_self_attention_scratch(&a));
}

void head_run_ours(const head *h, void *prepared, uint8_t *out)
{
    esv_attention a = {.tokens = (uint16_t)h->tokens, .heads = 1, .query_dim = (uint16_t)h->dim,
                       .value_dim = (uint16_t)h->dim, .time_steps = (uint8_t)h->time_steps,
                       .shift = (uint8_t)h->shift, .threshold = h->threshold};
#ifdef __aarch64__
    esv_self_attention_neon(&a, h->query, h->key, h->value, out, prepared, NULL);
#else
    esv_self_attention(&a, h->query, h->key, h->value, out, prepared, NULL);
#endif
}

/* Spikes that a[x] and b[x] have in common at step t, over `dim` of them. */
static uint32_t common(const uint8_t *a, const uint8_t *b, uint32_t dim, uint32_t t)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < dim; i++) {
        count += (uint32_t)(a[i] & b[i]) >> t & 1;
    }
    return count;
}

static uint8_t plain_output(const head *h, uint32_t token, uint32_t channel)
{
    uint32_t code = 0;
    int32_t v = 0;
    for (uint32_t t = 0; t < h->time_steps; t++) {
        uint32_t sum = 0;
        for (uint32_t m = 0; m < h->tokens; m++) {
            if (h->value[m * h->dim + channel] >> t & 1) {
                sum += common(h->query + token * h->dim, h->key + m * h->dim, h->dim, t);
            }
        }
        v = (v + (int32_t)(sum << h->shift)) >> 1;
        if (v >= h->threshold) {
            code |= 1u << t;
            v = 0;
        }
    }
    return (uint8_t)code;
}

uint32_t head_mismatches(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < opened.tokens * opened.dim; i += 97) {
        count += result[i] != plain_output(&opened, i / opened.dim, i % opened.dim);
    }
    return count;
}
