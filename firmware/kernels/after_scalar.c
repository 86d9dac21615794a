#include "after.h"

#include <string.h>

#include "dsp_words.h"
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

#ifdef ESV_DSP
/* Four thresholds, each from a pointer of its own. */
static ESV_INLINE void four_levels(uint32_t channels, uint32_t n, const int32_t *restrict current,
                                   const int32_t *restrict first, uint8_t *restrict level)
{
    const int32_t *second = first + channels, *third = second + channels;
    const int32_t *fourth = third + channels;
    for (const int32_t *end = current + n; current < end; current++) {
        uint32_t reached = *current >= *first++;
        reached += *current >= *second++;
        reached += *current >= *third++;
        reached += *current >= *fourth++;
        *level++ = (uint8_t)reached;
    }
}

/* Without vectors a count that stays in a register is faster: channel by channel. */
static ESV_INLINE void levels(const esv_after *after, uint32_t n, const int32_t *restrict current,
                              const int32_t *restrict threshold, int32_t *restrict count,
                              uint8_t *restrict level)
{
    uint32_t channels = after->channels;
    (void)count;
    if (after->max_level == 4) {
        four_levels(channels, n, current, threshold, level);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const int32_t *at = threshold + i;
        uint32_t reached = 0;
        for (uint32_t d = after->max_level; d > 0; d--, at += channels) {
            reached += current[i] >= *at;
        }
        level[i] = (uint8_t)reached;
    }
}
#else
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
#endif

static ESV_INLINE int32_t clamp(int32_t value, int32_t limit)
{
    return value > limit ? limit : value < -limit ? -limit : value;
}

/* (high * 2^32 + low) >> shift in the halves of a small processor, for shifts below 32; what does
 * not fit int32 is ESV_BEYOND. */
static ESV_INLINE int32_t shift_down(int64_t product, uint32_t shift)
{
    int32_t high = (int32_t)(product >> 32), top = high >> shift;
    int32_t low = (int32_t)((uint32_t)product >> shift | (uint32_t)high << (32 - shift));
    return top == low >> 31 ? low : top < 0 ? -ESV_BEYOND : ESV_BEYOND;
}

/* The product stays below 2^62 and the rounding term below 2^62, whatever a damaged file holds. */
static ESV_INLINE int32_t scaled(int32_t current, int32_t scale, uint32_t shift)
{
    int64_t product = (int64_t)current * scale + ((int64_t)1 << (shift - 1));
    int32_t value = shift >= 32 ? (int32_t)(product >> 32) >> (shift - 32)
                                : shift_down(product, shift);
    return clamp(value, ESV_BEYOND);
}

static ESV_INLINE void rescale(const esv_after *after, uint32_t n, const int32_t *restrict current,
                               const int32_t *restrict scale, const int16_t *stream, int16_t *out)
{
    int32_t limit = after->max_level;
#ifdef ESV_DSP
    /* The upper half of the product is enough: what is added to round it has no lower half. */
    for (uint32_t down = after->shift - 32u; down - 1 < 31 && n; n--, current++, scale++) {
        int32_t value = (esv_dsp_upper(*current, *scale) + (1 << (down - 1))) >> down;
        *out++ = (int16_t)clamp(value + *stream++, limit);
    }
    /* One multiplication gives it rounded once the current is moved up, where that loses no bit. */
    for (uint32_t up = 32u - after->shift; up < 32 && n; n--, current++, scale++) {
        int32_t moved = (int32_t)((uint32_t)*current << up);
        int32_t value = moved >> up == *current ? esv_dsp_rounded(moved, *scale)
                                                : scaled(*current, *scale, after->shift);
        *out++ = (int16_t)clamp(value + *stream++, limit);
    }
#endif
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (int16_t)clamp(scaled(current[i], scale[i], after->shift) + stream[i], limit);
    }
}

static ESV_APART void membranes(const esv_after *after, uint32_t n, const int32_t *current,
                                const int32_t *scale, uint32_t at)
{
    static const int16_t nothing[ESV_TILE];
    rescale(after, n, current, scale, after->stream ? after->stream + at : nothing,
            (int16_t *)after->out + at);
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
    membranes(after, n, current, after->scale + first, at);
}

void esv_after_currents(const esv_after *after, uint32_t t, uint32_t token, uint32_t first,
                        uint32_t n, const int32_t *current, int32_t *state)
{
#ifdef __aarch64__
    if (after->kind != ESV_SPIKES || n == ESV_TILE) {
        esv_after_step(after, t, token, first, n, current, state);
        return;
    }
#elif defined __x86_64__ && !defined ESV_PORTABLE
    if (after->kind != ESV_SPIKES && __builtin_cpu_supports("avx2")) {
        esv_after_step(after, t, token, first, n, current, state);
        return;
    }
#endif
    if (n == ESV_TILE) {
        go_on(after, t, token, first, ESV_TILE, current, state);
    } else {
        go_on(after, t, token, first, n, current, state);
    }
}
