#include "after.h"

#include <string.h>

#include "lif.h"

static ESV_INLINE void spikes(uint32_t t, uint32_t n, const int32_t *restrict current,
                              const int32_t *restrict threshold, int32_t *restrict membrane,
                              uint8_t *restrict code)
{
    if (t == 0) {
        memset(membrane, 0, n * sizeof *membrane);
        memset(code, 0, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t fired = esv_lif32(&membrane[i], current[i], threshold[i]);
        code[i] = (uint8_t)(code[i] | fired << t);
    }
}

/* Counted in int32, the width of the comparisons: narrower counts would be converted each time. */
static ESV_INLINE void levels(const esv_after *after, uint32_t n, const int32_t *restrict current,
                              const int32_t *restrict threshold, int32_t *restrict count,
                              uint8_t *restrict level)
{
    memset(count, 0, n * sizeof *count);
    for (uint32_t d = 0; d < after->max_level; d++, threshold += after->channels) {
        for (uint32_t i = 0; i < n; i++) {
            count[i] += current[i] >= threshold[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        level[i] = (uint8_t)count[i];
    }
}

/* The product stays below 2^62 and the rounding term below 2^62, whatever a damaged file holds. */
static ESV_INLINE void membranes(const esv_after *after, uint32_t n,
                                 const int32_t *restrict current, const int32_t *restrict scale,
                                 int16_t *restrict membrane)
{
    int64_t half = (int64_t)1 << (after->shift - 1), limit = after->max_level;
    for (uint32_t i = 0; i < n; i++) {
        int64_t sum = membrane[i] + (((int64_t)current[i] * scale[i] + half) >> after->shift);
        membrane[i] = (int16_t)(sum > limit ? limit : sum < -limit ? -limit : sum);
    }
}

/* What is at `out` before the currents come: the stream, which usually is there already. */
static void place_stream(const esv_after *after, uint32_t at, uint32_t n, int16_t *out)
{
    if (!after->stream) {
        memset(out, 0, n * sizeof *out);
    } else if (after->stream + at != out) {
        memcpy(out, after->stream + at, n * sizeof *out);
    }
}

static ESV_INLINE void go_on(const esv_after *after, uint32_t t, uint32_t token, uint32_t first,
                             uint32_t n, const int32_t *current, int32_t *state)
{
    uint32_t at = token * after->channels + first;
    if (after->kind == ESV_SPIKES) {
        spikes(t, n, current, after->threshold + first, state, (uint8_t *)after->out + at);
        return;
    }
    at += t * after->tokens * after->channels;
    if (after->kind == ESV_LEVELS) {
        levels(after, n, current, after->threshold + first, state, (uint8_t *)after->out + at);
        return;
    }
    int16_t *out = (int16_t *)after->out + at;
    place_stream(after, at, n, out);
    membranes(after, n, current, after->scale + first, out);
}

void esv_after_currents(const esv_after *after, uint32_t t, uint32_t token, uint32_t first,
                        uint32_t n, const int32_t *current, int32_t *state)
{
#ifdef __aarch64__
    if (after->kind != ESV_SPIKES) {
        esv_after_step(after, t, token, first, n, current);
        return;
    }
#endif
    if (n == ESV_TILE) {
        go_on(after, t, token, first, ESV_TILE, current, state);
    } else {
        go_on(after, t, token, first, n, current, state);
    }
}
