#include "after.h"

#include <string.h>

#include "lif.h"

#if UINTPTR_MAX > UINT32_MAX
#define MOST_COUNTED (254u * 8) /* codes of a head */

/* Eight codes in a word. */
static ESV_INLINE uint64_t load(const uint8_t *from, uint32_t count)
{
    uint64_t all = 0;
    memcpy(&all, from, count < 8 ? count : 8);
    return all;
}

/* How many bytes have bit t: counted byte by byte, no more than 255 times, then pair by pair. */
static ESV_INLINE int32_t count_step(const uint8_t *query, uint32_t count, uint32_t t)
{
    const uint64_t ones = 0x0101010101010101u, pairs = 0x00FF00FF00FF00FFu;
    uint64_t sum = 0;
    for (; count >= 8; count -= 8, query += 8) {
        sum += load(query, 8) >> t & ones;
    }
    if (count) {
        sum += load(query, count) >> t & ones;
    }
    sum = (sum & pairs) + (sum >> 8 & pairs);
    return (int32_t)(sum * 0x0001000100010001u >> 48);
}

static ESV_INLINE void pass(const uint8_t *key, uint32_t count, uint8_t code, uint8_t *out)
{
    const uint64_t codes = code * (uint64_t)0x0101010101010101u;
    for (; count >= 8; count -= 8, key += 8, out += 8) {
        uint64_t passed = load(key, 8) & codes;
        memcpy(out, &passed, 8);
    }
    if (count) {
        uint64_t passed = load(key, count) & codes;
        memcpy(out, &passed, count);
    }
}

/* Several heads of one size, which compilers may know. */
static ESV_INLINE void attend(const esv_attention *a, const uint8_t *query, const uint8_t *key,
                              const uint32_t dim, uint8_t *out)
{
    for (uint32_t group = 0; group < (uint32_t)a->tokens * a->heads; group++) {
        int32_t membrane = 0;
        uint32_t code = 0;
        for (uint32_t t = 0; t < a->time_steps; t++) {
            int32_t spikes = count_step(query, dim, t);
            code |= (uint32_t)esv_lif32(&membrane, spikes << a->shift, a->threshold) << t;
        }
        pass(key, dim, (uint8_t)code, out);
        query += dim;
        key += dim;
        out += dim;
    }
}
#endif

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
#ifdef MOST_COUNTED
    switch (a->query_dim) {
    case 2: attend(a, query, key, 2, out); return;
    case 4: attend(a, query, key, 4, out); return;
    case 8: attend(a, query, key, 8, out); return;
    case 32: attend(a, query, key, 32, out); return;
    default: break;
    }
    if (a->query_dim <= MOST_COUNTED) {
        attend(a, query, key, a->query_dim, out);
        return;
    }
#endif
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
