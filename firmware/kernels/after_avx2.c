/* From currents to what an operator writes, with AVX2: spikes of tiles of 16 channels, whose
 * constants stay in registers while the tokens pass. */
#include "after_constant.h"
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __x86_64__
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 8")

/* The currents of a whole tile at several tokens. */
typedef struct {
    const esv_after *after;
    const int32_t *currents; /* of the first token and step */
    uint32_t width, step;    /* from a token to the next, from a step to the next */
    uint32_t count, first;
    uint8_t *out;
} tile;

INLINE __m256i load(const int32_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* 16 numbers between -128 and 127 as bytes. */
INLINE __m128i narrow(__m256i low, __m256i high)
{
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

INLINE void store_bytes(uint8_t *out, __m128i bytes)
{
    _mm_storeu_si128((__m128i *)(void *)out, bytes);
}

/* Every reach that is not met takes one from the number of them. */
INLINE void constant_tile(const tile *k, const uint32_t steps)
{
    int32_t reach[ESV_MOST_STEPS][ESV_TILE];
    uint8_t codes[16], *out = k->out;
    const int32_t *token = k->currents;
    esv_find_reach(k->after, k->first, ESV_TILE, reach);
    esv_find_codes(steps, codes);
    const __m128i table = _mm_loadu_si128((const __m128i *)(const void *)codes);
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        __m256i low = _mm256_set1_epi32((int32_t)steps), high = low;
        UNROLL for (uint32_t t = 0; t < steps; t++) {
            low = _mm256_add_epi32(low, _mm256_cmpgt_epi32(load(reach[t]), load(token)));
            high = _mm256_add_epi32(high, _mm256_cmpgt_epi32(load(reach[t] + 8), load(token + 8)));
        }
        store_bytes(out, _mm_shuffle_epi8(table, narrow(low, high)));
    }
}

/* One step of 8 neurons: all ones where they do not fire. */
INLINE __m256i stay(__m256i *membrane, const int32_t *current, const int32_t *threshold)
{
    __m256i v = _mm256_srai_epi32(_mm256_add_epi32(*membrane, load(current)), 1);
    __m256i silent = _mm256_cmpgt_epi32(load(threshold), v);
    *membrane = _mm256_and_si256(v, silent);
    return silent;
}

INLINE void lif_tile(const tile *k, const uint32_t steps)
{
    const int32_t *threshold = k->after->threshold + k->first, *token = k->currents;
    uint8_t *out = k->out;
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        __m256i low = _mm256_setzero_si256(), high = low;
        __m128i code = _mm_setzero_si128();
        UNROLL for (uint32_t t = 0; t < steps; t++) {
            const int32_t *current = token + t * k->step;
            __m256i silent = stay(&low, current, threshold);
            __m128i bytes = narrow(silent, stay(&high, current + 8, threshold + 8));
            code = _mm_or_si128(code, _mm_andnot_si128(bytes, _mm_set1_epi8((char)(1u << t))));
        }
        store_bytes(out, code);
    }
}

INLINE void spikes_for(const tile *k, const uint32_t steps)
{
    if (k->step == 0 && k->count >= ESV_MANY_TOKENS) {
        constant_tile(k, steps);
    } else {
        lif_tile(k, steps);
    }
}

static TARGET void spikes(const tile *k)
{
    switch (k->after->time_steps) {
    case 1: spikes_for(k, 1); break;
    case 2: spikes_for(k, 2); break;
    case 4: spikes_for(k, 4); break;
    default: spikes_for(k, k->after->time_steps);
    }
}

/* Levels, membranes, and what is left of the channels. */
static void others(const tile *k, uint32_t token, uint32_t n)
{
    int32_t state[ESV_TILE];
    const int32_t *currents = k->currents;
    for (uint32_t i = 0; i < k->count; i++, currents += k->width) {
        for (uint32_t t = 0; t < k->after->time_steps; t++) {
            esv_after_currents(k->after, t, token + i, k->first, n, currents + t * k->step, state);
        }
    }
}

void esv_after_rows(const esv_after *after, uint32_t token, uint32_t count,
                    const int32_t *currents, uint32_t width, uint32_t step)
{
    tile k = {after, currents, width, step, count, 0, (uint8_t *)after->out};
    k.out += token * after->channels;
    for (; k.first < after->channels; k.first += ESV_TILE, k.currents += ESV_TILE) {
        uint32_t left = after->channels - k.first, n = left < ESV_TILE ? left : ESV_TILE;
        if (after->kind == ESV_SPIKES && n == ESV_TILE) {
            spikes(&k);
        } else {
            others(&k, token, n);
        }
        k.out += ESV_TILE;
    }
}
#endif
