/* Random numbers and spikes. */
#include "layer.h"

static uint64_t state;

void random_start(uint64_t seed)
{
    state = seed * 0x9E3779B97F4A7C15u + 1;
}

uint32_t random_bits(void) /* Marsaglia's xorshift */
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

int32_t random_gaussian(int32_t sigma)
{
    uint32_t a = random_bits(), b = random_bits();
    /* Four uniform numbers of 0..65535: standard deviation 37837. */
    int32_t sum = (int32_t)((a & 0xFFFF) + (a >> 16) + (b & 0xFFFF) + (b >> 16)) - 131070;
    return (int32_t)((int64_t)sum * sigma / 37837);
}

uint32_t random_code(int32_t current, uint32_t time_steps)
{
    uint32_t code = 0;
    int32_t v = 0;
    for (uint32_t t = 0; t < time_steps; t++) {
        v += (current + random_gaussian(ONE / 2) - v) >> 1;
        code |= (uint32_t)(v >= ONE) << t;
        v = v >= ONE ? 0 : v;
    }
    return code;
}

/* Codes of LIF neurons whose input is a mean of all neurons, one of the channel, one of the token,
 * and noise at every step: rates differ between channels, and a neuron's steps are alike. Returns
 * the number of spikes. */
static uint32_t fire(const layer_shape *s, uint32_t tokens, int32_t mean, const int32_t *of_channel,
                     uint8_t *codes)
{
    uint32_t count = 0;
    random_start(2);
    for (uint32_t i = 0; i < tokens * s->channels; i++) {
        int32_t current = mean + of_channel[i % s->channels] + random_gaussian(ONE * 8 / 10);
        codes[i] = (uint8_t)random_code(current, s->time_steps);
        count += (uint32_t)__builtin_popcount(codes[i]);
    }
    return count;
}

static void lif_like(const layer_shape *s, uint32_t tokens, uint8_t *codes)
{
    int32_t *of_channel = take(s->channels * sizeof *of_channel);
    random_start(1);
    for (uint32_t c = 0; c < s->channels; c++) {
        of_channel[c] = random_gaussian(ONE * 6 / 10);
    }
    uint32_t probe = tokens < 32 ? tokens : 32; /* enough tokens to find the mean */
    uint32_t wanted = probe * s->channels * s->time_steps / 100 * s->rate;
    int32_t low = -8 * ONE, high = 8 * ONE;
    while (high - low > 8) {
        int32_t mean = (low + high) / 2;
        if (fire(s, probe, mean, of_channel, codes) > wanted) {
            high = mean;
        } else {
            low = mean;
        }
    }
    fire(s, tokens, low, of_channel, codes);
}

static void bernoulli(const layer_shape *s, uint32_t tokens, uint8_t *codes)
{
    random_start(2);
    for (uint32_t i = 0; i < tokens * s->channels; i++) {
        codes[i] = 0;
        for (uint32_t t = 0; t < s->time_steps; t++) {
            uint32_t fired = random_bits() / 0x28F5C29 < s->rate; /* 2^32 / 100 */
            codes[i] = (uint8_t)(codes[i] | fired << t);
        }
    }
}

void spikes(const layer_shape *shape, uint32_t tokens, uint8_t *codes)
{
    if (shape->source == LIF_LIKE) {
        lif_like(shape, tokens, codes);
    } else if (shape->source == BERNOULLI) {
        bernoulli(shape, tokens, codes);
    }
}
