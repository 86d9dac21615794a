/* Neurons under the same current at all steps, as those behind pixels: no membrane is needed. */
#ifndef ESV_AFTER_CONSTANT_H
#define ESV_AFTER_CONSTANT_H

#include <string.h>

#include "after.h"

#define ESV_MOST_STEPS 8
#define ESV_MANY_TOKENS 16 /* fewer do not pay for the values that follow */

/* Under the same current c at all steps the membrane before any spike is floor(c - c / 2^n) after
 * n steps, so that the first spike is at the first n at which c reaches
 *   threshold * 2^n / (2^n - 1), rounded up;
 * from there on every n-th step fires. Where the threshold is not positive the first step decides.
 */
static inline int32_t esv_reach(int32_t threshold, uint32_t t)
{
    int32_t parts = (2 << t) - 1;
    return threshold <= 0 ? 2 * threshold : threshold + (threshold + parts - 1) / parts;
}

static inline void esv_find_reach(const esv_after *after, uint32_t first, uint32_t n,
                                  int32_t reach[ESV_MOST_STEPS][ESV_TILE])
{
    for (uint32_t t = 0; t < after->time_steps; t++) {
        for (uint32_t c = 0; c < n; c++) {
            reach[t][c] = esv_reach(after->threshold[first + c], t);
        }
    }
}

/* By the number of values above that c reaches: the code. */
static inline void esv_find_codes(uint32_t steps, uint8_t codes[16])
{
    memset(codes, 0, 16);
    for (uint32_t reached = 1; reached <= steps; reached++) {
        uint32_t every = steps + 1 - reached;
        for (uint32_t t = every; t <= steps; t += every) {
            codes[reached] = (uint8_t)(codes[reached] | 1u << (t - 1));
        }
    }
}

#endif
