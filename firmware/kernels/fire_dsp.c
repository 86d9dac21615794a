/* Neurons on membranes for Armv7E-M's DSP extension (Cortex-M4, M7): two channels in a register. */
#include "after.h"
#include "dsp_words.h"

typedef int esv_no_fire_dsp; /* a file must not be empty */

#ifdef ESV_DSP

#define AT_ONCE 4 /* channels */

/* Of two channels, within int16: a membrane reaches neither end of it in 8 steps from 0. */
static uint32_t threshold_of(const int32_t *threshold)
{
    int32_t one, other;
    __asm("ssat %0, #16, %1" : "=r"(one) : "r"(threshold[0]));
    __asm("ssat %0, #16, %1" : "=r"(other) : "r"(threshold[1]));
    return esv_dsp_low((uint32_t)one, (uint32_t)other);
}

/* The bytes of both halves, next to each other in the lower half. */
static ESV_INLINE uint32_t join(uint32_t code, uint32_t steps)
{
    code = code >> (8 - steps) & 0x00FF00FFu;
    return code | code >> 8;
}

/* Four channels of all tokens, from the first one's on. */
static void fire_four(const esv_after *after, const int32_t *threshold, const int16_t *from,
                      uint8_t *out)
{
    uint32_t low_threshold = threshold_of(threshold), high_threshold = threshold_of(threshold + 2);
    uint32_t channels = after->channels, steps = after->time_steps;
    uint32_t next = after->tokens * channels;
    for (uint32_t left = after->tokens; left; left--, from += channels, out += channels) {
        uint32_t low = 0, high = 0, low_code = 0, high_code = 0;
        const int16_t *at = from;
        for (uint32_t t = steps; t; t--, at += next) {
            esv_dsp_lif(&low, esv_dsp_word(at), low_threshold, &low_code);
            esv_dsp_lif(&high, esv_dsp_word(at + 2), high_threshold, &high_code);
        }
        low_code = esv_dsp_low(join(low_code, steps), join(high_code, steps));
        memcpy(out, &low_code, AT_ONCE);
    }
}

/* The last four channels may be some that have been before. */
int esv_fire_halves(const esv_after *after, const int16_t *membranes)
{
    if (after->kind != ESV_SPIKES || after->channels < AT_ONCE) {
        return 0;
    }
    uint32_t last = after->channels - AT_ONCE;
    for (uint32_t c = 0; c < after->channels; c += AT_ONCE) {
        uint32_t at = c < last ? c : last;
        fire_four(after, after->threshold + at, membranes + at, (uint8_t *)after->out + at);
    }
    return 1;
}
#endif
