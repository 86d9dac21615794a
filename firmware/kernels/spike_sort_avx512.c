/* The spiking convolution with AVX-512: what is not 0 moves together first, keys apart from
 * positions; then list after list is taken out of that, 64 inputs at a time. Small lists are not
 * dissolved: adding a list to the sums of its steps costs as little as adding another row.
 */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#include "spike_conv_x86.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define BLOCK 64u
/* Stores of whole registers end up to 63 keys and positions behind the last one, 3 bytes each:
 * within the scratch from this many inputs on. */
#define SMALL 256u

typedef struct {
    uint8_t *key;
    uint16_t *position;
    uint32_t count;
} fired_inputs;

/* The 64 positions low, high where the mask is set, put together at `to`; returns how many. Mostly
 * few are: stores of 32 bytes, as those of 64 that cross a line take twice the time. */
INLINE uint32_t take(__m512i low, __m512i high, __mmask64 mask, __m512i ramp, uint16_t *to)
{
    uint32_t n = (uint32_t)_mm_popcnt_u64(mask);
    __m512i lanes = _mm512_maskz_compress_epi8(mask, ramp);
    __m512i some = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(lanes));
    some = _mm512_permutex2var_epi16(low, some, high);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_castsi512_si256(some));
    if (n > 16) {
        _mm512_storeu_si512(to, some);
    }
    if (n > 32) {
        some = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(lanes, 1));
        _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(low, some, high));
    }
    return n;
}

/* 0 to 63. */
INLINE __m512i numbers(void)
{
    uint8_t number[BLOCK];
    for (uint32_t i = 0; i < BLOCK; i++) {
        number[i] = (uint8_t)i;
    }
    return _mm512_loadu_si512(number);
}

INLINE void move_together(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                          __m512i ramp, fired_inputs *f)
{
    const __m512i bits = _mm512_set1_epi8((int8_t)mask);
    const __m512i block = _mm512_set1_epi16(BLOCK), half = _mm512_set1_epi16(BLOCK / 2);
    __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(ramp));
    f->count = 0;
    for (uint32_t k = 0; k < count; k += BLOCK, low = _mm512_add_epi16(low, block)) {
        uint32_t left = count - k;
        __mmask64 used = left >= BLOCK ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
        __m512i key = _mm512_maskz_loadu_epi8(used, bytes + k);
        key = _mm512_and_si512(nibble ? _mm512_srli_epi16(key, 4) : key, bits);
        __mmask64 fired = _mm512_test_epi8_mask(key, key);
        if (!fired) {
            continue;
        }
        _mm512_storeu_si512(f->key + f->count, _mm512_maskz_compress_epi8(fired, key));
        f->count += take(low, _mm512_add_epi16(low, half), fired, ramp, f->position + f->count);
    }
    /* The last block's rest belongs to no list. */
    _mm512_storeu_si512(f->key + f->count, _mm512_setzero_si512());
}

/* Append the inputs with this key; returns how many. */
INLINE uint32_t take_list(const fired_inputs *f, uint32_t wanted, __m512i ramp, uint16_t *to)
{
    uint16_t *const from = to;
    for (uint32_t k = 0; k < f->count; k += BLOCK) {
        __mmask64 in = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(f->key + k),
                                              _mm512_set1_epi8((int8_t)wanted));
        const uint16_t *position = f->position + k;
        to += take(_mm512_loadu_si512(position), _mm512_loadu_si512(position + 32), in, ramp, to);
    }
    return (uint32_t)(to - from);
}

TARGET void esv_avx512_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                            int dissolve, esv_lists *lists, void *scratch)
{
    const __m512i ramp = numbers();
    uint16_t small[(SMALL + BLOCK) * 3 / 2];
    uint32_t room = count < SMALL ? SMALL + BLOCK : count + BLOCK;
    fired_inputs f = {.position = count < SMALL ? small : scratch};
    f.key = (uint8_t *)(f.position + room);
    (void)dissolve;
    memset(lists->first, 0, sizeof lists->first);
    memset(lists->count, 0, sizeof lists->count);
    move_together(bytes, count, nibble, mask, ramp, &f);
    for (uint32_t p = 1, at = 0; p <= mask; p++) {
        lists->first[p] = (uint16_t)at;
        lists->count[p] = (uint16_t)take_list(&f, p, ramp, lists->row + at);
        at += lists->count[p];
    }
}
#endif
