/* One tile of output channels of a spiking convolution. Included twice by spike_conv_scalar.c, with
 *   ACC       the accumulator's type, unsigned so that it wraps by definition
 *   MEMBRANE  the same width, signed
 *   LIF       one step of the neuron in that width
 *   NAME(x)   x with the width appended
 * No include guard: that is the point.
 */

/* acc (n) += the listed weight rows. Four rows at a time, so that an accumulator is loaded and
 * stored once for four additions. */
static ESV_INLINE void NAME(add_rows)(ACC *acc, uint32_t n, const int8_t *weight, uint32_t stride,
                                      const event_list *events)
{
    const uint16_t *row = events->row;
    uint32_t e = 0;
    for (; e + 4 <= events->count; e += 4) {
        const int8_t *a = weight + row[e] * stride, *b = weight + row[e + 1] * stride;
        const int8_t *c = weight + row[e + 2] * stride, *d = weight + row[e + 3] * stride;
        for (uint32_t i = 0; i < n; i++) {
            acc[i] = (ACC)(acc[i] + (ACC)(a[i] + b[i] + c[i] + d[i]));
        }
    }
    for (; e < events->count; e++) {
        const int8_t *a = weight + row[e] * stride;
        for (uint32_t i = 0; i < n; i++) {
            acc[i] = (ACC)(acc[i] + (ACC)a[i]);
        }
    }
}

/* The same with each row times its level. */
static ESV_INLINE void NAME(add_levels)(ACC *acc, uint32_t n, const int8_t *weight,
                                        uint32_t stride, const event_list *events)
{
    const uint16_t *row = events->row;
    const uint8_t *level = events->level;
    uint32_t e = 0;
    for (; e + 4 <= events->count; e += 4) {
        const int8_t *a = weight + row[e] * stride, *b = weight + row[e + 1] * stride;
        const int8_t *c = weight + row[e + 2] * stride, *d = weight + row[e + 3] * stride;
        int16_t la = level[e], lb = level[e + 1], lc = level[e + 2], ld = level[e + 3];
        for (uint32_t i = 0; i < n; i++) {
            acc[i] = (ACC)(acc[i] + (ACC)(la * a[i] + lb * b[i] + lc * c[i] + ld * d[i]));
        }
    }
    for (; e < events->count; e++) {
        const int8_t *a = weight + row[e] * stride;
        int16_t la = level[e];
        for (uint32_t i = 0; i < n; i++) {
            acc[i] = (ACC)(acc[i] + (ACC)(la * a[i]));
        }
    }
}

/* out (n) codes of channels first .. first + n of one token, from spikes. */
static inline void NAME(tile)(const esv_window *w, const esv_conv *conv, const event_list *events,
                              uint32_t first, uint32_t n, uint8_t *out)
{
    ACC acc[ESV_TILE];
    MEMBRANE membrane[ESV_TILE] = {0};
    for (uint32_t i = 0; i < n; i++) {
        out[i] = 0;
    }
    for (uint32_t t = 0; t < w->time_steps; t++) {
        for (uint32_t i = 0; i < n; i++) {
            acc[i] = (ACC)conv->bias[first + i];
        }
        NAME(add_rows)(acc, n, conv->weight + first, w->out_channels, &events[t]);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t fired = LIF(&membrane[i], (MEMBRANE)acc[i], conv->after.threshold[first + i]);
            out[i] = (uint8_t)(out[i] | fired << t);
        }
    }
}

/* sum (n) of channels first .. first + n at the step of `events`. */
static ESV_INLINE void NAME(sum_rows)(const esv_conv *conv, uint32_t stride,
                                      const event_list *events, uint32_t first, uint32_t n,
                                      ACC *sum)
{
    for (uint32_t i = 0; i < n; i++) {
        sum[i] = (ACC)conv->bias[first + i];
    }
    if (events->level) {
        NAME(add_levels)(sum, n, conv->weight + first, stride, events);
    } else {
        NAME(add_rows)(sum, n, conv->weight + first, stride, events);
    }
}
