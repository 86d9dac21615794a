/* A spiking layer by its definition: what every kernel here must equal. */
#include "layer.h"

static uint32_t code_at(const layer *l, int32_t y, int32_t x, uint32_t channel)
{
    int32_t side = (int32_t)l->shape.side;
    if (y < 0 || y >= side || x < 0 || x >= side) {
        return 0;
    }
    return l->codes[(uint32_t)(y * side + x) * l->shape.channels + channel];
}

static int32_t current(const layer *l, uint32_t token, uint32_t t, uint32_t channel)
{
    const layer_shape *s = &l->shape;
    int32_t sum = l->bias[channel], reach = (int32_t)s->kernel / 2;
    for (uint32_t k = 0; k < l->inputs; k++) {
        uint32_t tap = k / s->channels;
        int32_t y = (int32_t)(token / s->side + tap / s->kernel) - reach;
        int32_t x = (int32_t)(token % s->side + tap % s->kernel) - reach;
        if (code_at(l, y, x, k % s->channels) >> t & 1) {
            sum += l->weight[(size_t)k * s->out_channels + channel];
        }
    }
    return sum;
}

uint8_t plain_code(const layer *l, uint32_t i)
{
    uint32_t code = 0, channel = i % l->shape.out_channels;
    int32_t v = 0;
    for (uint32_t t = 0; t < l->shape.time_steps; t++) {
        v = (v + current(l, i / l->shape.out_channels, t, channel)) >> 1;
        if (v >= l->threshold[channel]) {
            code |= 1u << t;
            v = 0;
        }
    }
    return (uint8_t)code;
}
