/* Neurons on membranes for Armv8.1-M's vector extension (Cortex-M55): eight channels at a time. */
#include "after.h"

typedef int esv_no_fire_mve; /* a file must not be empty */

#ifdef __ARM_FEATURE_MVE
#include <arm_mve.h>

#define AT_ONCE 8 /* channels */

/* Within int16: a membrane reaches neither end of it in 8 steps from 0. */
static int16x8_t threshold_of(const int32_t *threshold, uint32_t n)
{
    int32x4_t low = vldrwq_z_s32(threshold, vctp32q(n));
    int32x4_t high = vldrwq_z_s32(threshold + 4, vctp32q(n < 4 ? 0 : n - 4));
    int16_t both[AT_ONCE];
    vstrhq_s32(both, vminq_s32(vmaxq_s32(low, vdupq_n_s32(INT16_MIN)), vdupq_n_s32(INT16_MAX)));
    vstrhq_s32(both + 4,
               vminq_s32(vmaxq_s32(high, vdupq_n_s32(INT16_MIN)), vdupq_n_s32(INT16_MAX)));
    return vldrhq_s16(both);
}

/* `n` channels of all tokens, from the first one's on. */
static void fire_some(const esv_after *after, int16x8_t threshold, uint32_t n, const int16_t *from,
                      uint8_t *out)
{
    uint32_t channels = after->channels, next = after->tokens * channels;
    mve_pred16_t there = vctp16q(n);
    for (uint32_t left = after->tokens; left; left--, from += channels, out += channels) {
        int16x8_t membrane = vdupq_n_s16(0);
        uint16x8_t code = vdupq_n_u16(0), bit = vdupq_n_u16(1);
        const int16_t *at = from;
        for (uint32_t t = after->time_steps; t; t--, at += next) {
            membrane = vhaddq_s16(membrane, vldrhq_z_s16(at, there));
            mve_pred16_t fired = vcmpgeq_s16(membrane, threshold);
            code = vorrq_m_u16(code, code, bit, fired);
            membrane = vdupq_m_n_s16(membrane, 0, fired);
            bit = vshlq_n_u16(bit, 1);
        }
        vstrbq_p_u16(out, code, there);
    }
}

int esv_fire_halves(const esv_after *after, const int16_t *membranes)
{
    if (after->kind != ESV_SPIKES) {
        return 0;
    }
    for (uint32_t c = 0; c < after->channels; c += AT_ONCE) {
        uint32_t n = after->channels - c < AT_ONCE ? after->channels - c : AT_ONCE;
        fire_some(after, threshold_of(after->threshold + c, n), n, membranes + c,
                  (uint8_t *)after->out + c);
    }
    return 1;
}
#endif
