/* From currents to what an operator writes, with AVX2: tiles of 16 channels, whose constants stay
 * in registers while the tokens pass. */
#include "after_constant.h"
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && defined __x86_64__
#include <immintrin.h>
#include <string.h>

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

/* Numbers from..from + 8 of a tile of which n exist: the others are 0, and are not read. */
INLINE __m256i constants(const int32_t *at, uint32_t from, uint32_t n)
{
    if (n == ESV_TILE) {
        return load(at + from);
    }
    __m256i left = _mm256_set1_epi32((int32_t)n - (int32_t)from);
    __m256i exist = _mm256_cmpgt_epi32(left, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_maskload_epi32(at + from, exist);
}

/* n numbers of `size` bytes, at most a tile, in pieces as large as the compiler knows. */
INLINE void copy(void *to, const void *from, uint32_t n, const uint32_t size)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    UNROLL for (uint32_t piece = ESV_TILE; piece; piece /= 2) {
        if (n & piece) {
            memcpy(out, in, piece * size);
            out += piece * size;
            in += piece * size;
        }
    }
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

/* ---- Spikes ---- */

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

/* ---- Levels ---- */

/* Every border that is not reached takes one from the number of them. */
INLINE void levels_of(const tile *k, const int32_t *token, uint8_t *out, const uint32_t n)
{
    const uint32_t channels = k->after->channels;
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += channels) {
        const int32_t *border = k->after->threshold + k->first;
        __m256i low = _mm256_set1_epi32(k->after->max_level), high = low;
        for (int32_t d = 0; d < k->after->max_level; d++, border += channels) {
            low = _mm256_add_epi32(low, _mm256_cmpgt_epi32(constants(border, 0, n), load(token)));
            high = _mm256_add_epi32(
                high, _mm256_cmpgt_epi32(constants(border, 8, n), load(token + 8)));
        }
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
        uint8_t levels[ESV_TILE];
        store_bytes(levels, _mm_packus_epi16(_mm256_castsi256_si128(words),
                                             _mm256_extracti128_si256(words, 1)));
        copy(out, levels, n, 1);
    }
}

/* ---- Membranes ---- */

/* What four products become, rounded: there is no arithmetic shift of 64 bits, so they are moved
 * up by 2^63 before it and down by as much less after it. */
INLINE __m256i rounded(__m256i product, uint32_t shift)
{
    const __m256i top = _mm256_set1_epi64x(INT64_MIN), most = _mm256_set1_epi64x(ESV_BEYOND);
    const __m256i least = _mm256_set1_epi64x(-ESV_BEYOND);
    const __m128i by = _mm_cvtsi32_si128((int)shift);
    __m256i half = _mm256_set1_epi64x((int64_t)1 << (shift - 1));
    __m256i moved = _mm256_xor_si256(_mm256_add_epi64(product, half), top);
    __m256i value = _mm256_sub_epi64(_mm256_srl_epi64(moved, by), _mm256_srl_epi64(top, by));
    value = _mm256_blendv_epi8(value, most, _mm256_cmpgt_epi64(value, most));
    return _mm256_blendv_epi8(value, least, _mm256_cmpgt_epi64(least, value));
}

/* Eight membranes before they are clamped: products of even channels, then of odd ones. */
INLINE __m256i rescale(__m256i current, __m256i scale, uint32_t shift, const int16_t *stream)
{
    __m256i even = rounded(_mm256_mul_epi32(current, scale), shift);
    __m256i odd = rounded(_mm256_mul_epi32(_mm256_srli_epi64(current, 32),
                                           _mm256_srli_epi64(scale, 32)), shift);
    __m128i before = _mm_loadu_si128((const __m128i *)(const void *)stream);
    return _mm256_add_epi32(_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA),
                            _mm256_cvtepi16_epi32(before));
}

INLINE void membranes_of(const tile *k, const int32_t *token, const int16_t *stream, int16_t *out,
                         const uint32_t n)
{
    const int32_t *scale = k->after->scale + k->first;
    const __m256i low = constants(scale, 0, n), high = constants(scale, 8, n);
    const __m256i limit = _mm256_set1_epi16((int16_t)k->after->max_level);
    const __m256i least = _mm256_sub_epi16(_mm256_setzero_si256(), limit);
    int16_t words[ESV_TILE] = {0};
    for (uint32_t i = 0; i < k->count; i++, token += k->width, out += k->after->channels) {
        if (stream) {
            copy(words, stream, n, sizeof *words);
            stream += k->after->channels;
        }
        __m256i a = rescale(load(token), low, k->after->shift, words);
        __m256i b = rescale(load(token + 8), high, k->after->shift, words + 8);
        __m256i v = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
        v = _mm256_max_epi16(_mm256_min_epi16(v, limit), least);
        int16_t result[ESV_TILE];
        _mm256_storeu_si256((__m256i *)(void *)result, v);
        copy(out, result, n, sizeof *result);
    }
}

/* ---- All of them ---- */

/* Of levels and membranes every step has its own output. */
INLINE void step_of(const tile *k, uint32_t t, uint32_t token, const uint32_t n)
{
    const esv_after *after = k->after;
    uint32_t at = (t * after->tokens + token) * after->channels + k->first;
    const int32_t *currents = k->currents + t * k->step;
    if (after->kind == ESV_LEVELS) {
        levels_of(k, currents, (uint8_t *)after->out + at, n);
    } else {
        membranes_of(k, currents, after->stream ? after->stream + at : NULL,
                     (int16_t *)after->out + at, n);
    }
}

static TARGET void one_step(const tile *k, uint32_t t, uint32_t token, uint32_t n)
{
    if (n == ESV_TILE) {
        step_of(k, t, token, ESV_TILE);
    } else {
        step_of(k, t, token, n);
    }
}

void esv_after_step(const esv_after *after, uint32_t t, uint32_t token, uint32_t first, uint32_t n,
                    const int32_t *currents, int32_t *state)
{
    (void)state;
    tile k = {after, currents, 0, 0, 1, first, NULL};
    one_step(&k, t, token, n);
}

/* Spikes of the channels that are left. */
static void rest(const tile *k, uint32_t token, uint32_t n)
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
        for (uint32_t t = 0; after->kind != ESV_SPIKES && t < after->time_steps; t++) {
            one_step(&k, t, token, n);
        }
        if (after->kind == ESV_SPIKES && n == ESV_TILE) {
            spikes(&k);
        } else if (after->kind == ESV_SPIKES) {
            rest(&k, token, n);
        }
        k.out += ESV_TILE;
    }
}
#endif
