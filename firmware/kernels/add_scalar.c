#include "esv_kernels.h"

void esv_add_to_levels(uint32_t count, uint8_t time_steps, const uint8_t *levels,
                       const uint8_t *branch, uint8_t *out)
{
    for (uint32_t t = 0; t < time_steps; t++) {
        for (uint32_t i = 0; i < count; i++) {
            out[t * count + i] = (uint8_t)(levels[t * count + i] + (branch[i] >> t & 1));
        }
    }
}

void esv_add_codes(uint32_t count, uint8_t time_steps, const uint8_t *codes,
                   const uint8_t *branch, uint8_t *out)
{
    for (uint32_t t = 0; t < time_steps; t++) {
        for (uint32_t i = 0; i < count; i++) {
            out[t * count + i] = (uint8_t)((codes[i] >> t & 1) + (branch[i] >> t & 1));
        }
    }
}
