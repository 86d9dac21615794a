/* Windows for Armv8.1-M's vector extension (Cortex-M55): bytes less 128, one row behind the other,
 * and VMLADAV multiplies 16 of them with their weights and sums the products up.
 */
#include "encode_windows.h"

typedef int esv_no_windows_mve; /* a file must not be empty */

#ifdef __ARM_FEATURE_MVE
#include <arm_mve.h>
#include <string.h>

#include "weights.h"

#define AT_ONCE 16 /* inputs */
#define CENTER 128

uint32_t esv_window_words(const esv_window *w)
{
    uint32_t inputs = (uint32_t)w->kernel * w->kernel * w->channels;
    return (inputs + AT_ONCE - 1) / AT_ONCE * (AT_ONCE / 4);
}

uint8_t *esv_window_begin(uint32_t *windows, uint32_t words, uint32_t number)
{
    return (uint8_t *)(windows + words * number);
}

uint8_t *esv_window_row(const uint8_t *from, uint32_t count, uint8_t *to)
{
    uint8_t *end = to + count;
    for (int32_t left = (int32_t)count; left > 0; left -= AT_ONCE, from += AT_ONCE, to += AT_ONCE) {
        mve_pred16_t some = vctp8q((uint32_t)left);
        vstrbq_p_u8(to, veorq_u8(vldrbq_z_u8(from, some), vdupq_n_u8(CENTER)), some);
    }
    return end;
}

/* (4, 4 * words) int8 behind the biases, which make up for what the inputs are less. */
ESV_RARE void esv_window_pack(const esv_window *w, const esv_conv *conv, uint32_t first,
                              uint32_t words, int32_t *to)
{
    uint32_t rows = (uint32_t)w->kernel * w->kernel * w->channels;
    uint32_t left = w->out_channels - first, n = left < ESV_GROUP ? left : ESV_GROUP;
    uint32_t lanes = esv_lanes_of(w->out_channels, first / ESV_LANES * ESV_LANES);
    const uint8_t *row = esv_tile_at(conv, rows, first);
    int8_t *weight = (int8_t *)(to + ESV_GROUP), unpacked[ESV_LANES];
    memset(to, 0, ESV_GROUP * (1 + words) * sizeof *to);
    memcpy(to, conv->bias + first, n * sizeof *to);
    for (uint32_t i = 0; i < rows; i++, row += esv_row_bytes(conv->bits, lanes)) {
        const int8_t *from = esv_row(row, conv->bits, unpacked) + first % ESV_LANES;
        for (uint32_t c = 0; c < n; c++) {
            weight[4 * words * c + i] = from[c];
            to[c] += CENTER * from[c];
        }
    }
}

/* At most 32 inputs: both windows stay in registers. */
static ESV_INLINE void multiply_few(const int32_t *packed, const int32_t *last,
                                    const int8_t *window, uint32_t vectors, int32_t *current)
{
    const uint32_t bytes = AT_ONCE * vectors;
    int8x16_t a = vldrbq_s8(window), b = vldrbq_s8(window + bytes - AT_ONCE);
    int8x16_t c = vldrbq_s8(window + bytes), d = vldrbq_s8(window + 2 * bytes - AT_ONCE);
    for (; packed < last; current += 2 * ESV_GROUP) {
        const int8_t *weight = (const int8_t *)(packed + ESV_GROUP);
#pragma GCC unroll 4
        for (uint32_t i = 0; i < ESV_GROUP; i++, weight += bytes) {
            int8x16_t begin = vldrbq_s8(weight);
            int32_t one = vmladavaq_s8(packed[i], begin, a);
            int32_t other = vmladavaq_s8(packed[i], begin, c);
            if (vectors > 1) {
                int8x16_t end = vldrbq_s8(weight + AT_ONCE);
                one = vmladavaq_s8(one, end, b);
                other = vmladavaq_s8(other, end, d);
            }
            current[i] = one;
            current[i + ESV_GROUP] = other;
        }
        packed += ESV_GROUP + vectors * AT_ONCE;
    }
}

static void multiply_many(const int32_t *packed, const int32_t *last, const int8_t *window,
                          uint32_t words, int32_t *current)
{
    for (; packed < last; current += 2 * ESV_GROUP) {
        const int8_t *weight = (const int8_t *)(packed + ESV_GROUP);
        for (uint32_t i = 0; i < ESV_GROUP; i++) {
            int32_t one = packed[i], other = packed[i];
            for (uint32_t k = 0; k < 4 * words; k += AT_ONCE, weight += AT_ONCE) {
                int8x16_t some = vldrbq_s8(weight);
                one = vmladavaq_s8(one, some, vldrbq_s8(window + k));
                other = vmladavaq_s8(other, some, vldrbq_s8(window + 4 * words + k));
            }
            current[i] = one;
            current[i + ESV_GROUP] = other;
        }
        packed += ESV_GROUP * (1 + words);
    }
}

void esv_window_multiply(const int32_t *packed, uint32_t groups, const uint32_t *windows,
                         uint32_t words, int32_t *currents)
{
    const int32_t *last = packed + groups * ESV_GROUP * (1 + words);
    const int8_t *window = (const int8_t *)windows;
    if (words == AT_ONCE / 4) {
        multiply_few(packed, last, window, 1, currents);
    } else if (words == AT_ONCE / 2) {
        multiply_few(packed, last, window, 2, currents);
    } else {
        multiply_many(packed, last, window, words, currents);
    }
}

/* The codes of four channels. */
static ESV_INLINE void fire(int32x4_t current, const int32_t *reach, uint32_t steps,
                            const uint8_t *codes, uint8_t *out)
{
    uint32x4_t reached = vdupq_n_u32(0);
    for (uint32_t t = 0; t < steps; t++, reach += ESV_GROUP) {
        reached = vaddq_m_n_u32(reached, reached, 1, vcmpgeq_s32(current, vldrwq_s32(reach)));
    }
    vstrbq_u32(out, vldrbq_gather_offset_u32(codes, reached));
}

void esv_window_fire(const int32_t *currents, const int32_t *reach, uint32_t groups,
                     uint32_t steps, const uint8_t *codes, uint8_t *out, uint8_t *other)
{
    for (uint32_t g = 0; g < groups; g++, currents += 2 * ESV_GROUP, reach += ESV_GROUP * steps) {
        fire(vldrwq_s32(currents + ESV_GROUP), reach, steps, codes, other + ESV_GROUP * g);
        fire(vldrwq_s32(currents), reach, steps, codes, out + ESV_GROUP * g);
    }
}
#endif
