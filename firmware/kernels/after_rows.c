/* esv_after_rows where there is nothing better. */
#include "dense.h"

typedef int esv_not_empty; /* on other processors */

#if defined ESV_DENSE && !defined __aarch64__
void esv_after_rows(const esv_after *after, uint32_t token, uint32_t count,
                    const int32_t *currents, uint32_t width, uint32_t step)
{
    int32_t state[ESV_TILE];
    for (uint32_t i = 0; i < count; i++, currents += width) {
        for (uint32_t first = 0; first < after->channels; first += ESV_TILE) {
            uint32_t left = after->channels - first, n = left < ESV_TILE ? left : ESV_TILE;
            for (uint32_t t = 0; t < after->time_steps; t++) {
                esv_after_currents(after, t, token + i, first, n, currents + t * step + first,
                                   state);
            }
        }
    }
}
#endif
