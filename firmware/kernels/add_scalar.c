/* Levels are bytes that never overflow, so whole machine words of them are added at once. */
#include <stddef.h>
#include <string.h>

#include "esv_kernels.h"

#define WORD ((uint32_t)sizeof(size_t))
#define ONES ((size_t)-1 / 255) /* 1 in every byte */

static inline size_t load(const uint8_t *at)
{
    size_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Two words at a time: `out` may be `levels`, so that a compiler cannot do this by itself. */
void esv_add_to_levels(uint32_t count, uint8_t time_steps, const uint8_t *levels,
                       const uint8_t *branch, uint8_t *out)
{
    for (uint32_t t = 0; t < time_steps; t++, levels += count, out += count) {
        uint32_t i = 0;
        for (; i + 2 * WORD <= count; i += 2 * WORD) {
            size_t a = load(levels + i) + (load(branch + i) >> t & ONES);
            size_t b = load(levels + i + WORD) + (load(branch + i + WORD) >> t & ONES);
            memcpy(out + i, &a, WORD);
            memcpy(out + i + WORD, &b, WORD);
        }
        for (; i < count; i++) {
            out[i] = (uint8_t)(levels[i] + (branch[i] >> t & 1));
        }
    }
}

void esv_add_codes(uint32_t count, uint8_t time_steps, const uint8_t *codes,
                   const uint8_t *branch, uint8_t *out)
{
    for (uint32_t t = 0; t < time_steps; t++, out += count) {
        uint32_t i = 0;
        for (; i + WORD <= count; i += WORD) {
            size_t sum = (load(codes + i) >> t & ONES) + (load(branch + i) >> t & ONES);
            memcpy(out + i, &sum, WORD);
        }
        for (; i < count; i++) {
            out[i] = (uint8_t)((codes[i] >> t & 1) + (branch[i] >> t & 1));
        }
    }
}
