/* The neuron, shared by all kernels that end in one. */
#ifndef ESV_LIF_H
#define ESV_LIF_H

#include <stdint.h>

/* One step of leaky integrate-and-fire (tau 2, decayed input, hard reset): updates *membrane and
 * returns the spike. The shift of a negative number is arithmetic on every compiler we build with
 * (gcc and clang document it): it rounds towards minus infinity, as the definition asks. */
static inline uint8_t esv_lif32(int32_t *membrane, int32_t current, int32_t threshold)
{
    /* Added unsigned: a damaged program's sums may wrap, but never overflow. */
    int32_t v = (int32_t)((uint32_t)*membrane + (uint32_t)current) >> 1;
    uint8_t fired = v >= threshold;
    *membrane = fired ? 0 : v;
    return fired;
}

static inline uint8_t esv_lif16(int16_t *membrane, int16_t current, int32_t threshold)
{
    int16_t v = (int16_t)((*membrane + current) >> 1);
    uint8_t fired = v >= threshold;
    *membrane = fired ? 0 : v;
    return fired;
}

#endif
