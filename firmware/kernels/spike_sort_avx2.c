/* The spiking convolution with AVX2: every input goes to the end of its list in scratch, where each
 * list has room for all; then they move together. Small lists are not dissolved: it takes longer
 * than it saves.
 */
typedef int esv_not_empty; /* on other processors */

#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#include "spike_conv_x86.h"

#define TARGET __attribute__((target("avx2")))
#define BLOCK 32u

static TARGET void append_inputs(const uint8_t *bytes, uint32_t count, uint32_t nibble,
                                 uint32_t mask, uint16_t **end)
{
    const __m256i bits = _mm256_set1_epi8((int8_t)mask);
    const __m128i shift = _mm_cvtsi32_si128((int)(4 * nibble));
    for (uint32_t k = 0; k < count; k += BLOCK) {
        uint8_t keys[BLOCK] = {0};
        if (count - k < BLOCK) {
            memcpy(keys, bytes + k, count - k);
        }
        __m256i key = _mm256_loadu_si256(
            (const __m256i *)(const void *)(count - k < BLOCK ? keys : bytes + k));
        key = _mm256_and_si256(_mm256_srl_epi16(key, shift), bits);
        _mm256_storeu_si256((__m256i *)(void *)keys, key);
        __m256i silent = _mm256_cmpeq_epi8(key, _mm256_setzero_si256());
        uint32_t fired = ~(uint32_t)_mm256_movemask_epi8(silent);
        for (; fired; fired &= fired - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(fired);
            *end[keys[i]]++ = (uint16_t)(k + i);
        }
    }
}

TARGET void esv_avx2_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                          int dissolve, esv_lists *lists, void *scratch)
{
    uint16_t *begin[ESV_LISTS], *end[ESV_LISTS];
    for (uint32_t p = 0; p < ESV_LISTS; p++) {
        begin[p] = end[p] = (uint16_t *)scratch + (p ? p - 1 : 0) * (size_t)count;
    }
    (void)dissolve;
    append_inputs(bytes, count, nibble, mask, end);
    lists->first[0] = lists->count[0] = 0;
    for (uint32_t p = 1, at = 0; p < ESV_LISTS; p++) {
        lists->first[p] = (uint16_t)at;
        lists->count[p] = (uint16_t)(end[p] - begin[p]);
        memcpy(lists->row + at, begin[p], lists->count[p] * sizeof **end);
        at += lists->count[p];
    }
}
#endif
