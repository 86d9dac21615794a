/* The spiking convolution on AArch64: currents of spikes and of levels, in int16 or int32. */
#if defined(__aarch64__) && defined(__ARM_NEON)

#include "spike_conv_neon.h"

/* Rows that can be added in int16 whatever the weights are: 256 * -128 = -32768. */
#define SAFE_ROWS 256

/* currents (width) += times * sum. */
static void add_times(int32_t *currents, const int16_t *sum, uint32_t width, int16_t times)
{
    for (uint32_t i = 0; i < width; i += 8) {
        int16x8_t s = vld1q_s16(sum + i);
        vst1q_s32(currents + i, vmlal_n_s16(vld1q_s32(currents + i), vget_low_s16(s), times));
        vst1q_s32(currents + i + 4, vmlal_high_n_s16(vld1q_s32(currents + i + 4), s, times));
    }
}

/* currents (steps, stride) += the sum of list p, `times` times, at each step whose bit in `steps`
 * is set. */
static void add_list(const esv_tile *tile, const esv_lists *lists, uint32_t p, uint32_t steps,
                     int16_t times, int32_t *currents, uint32_t stride)
{
    const uint16_t *row = lists->row + lists->first[p];
    int16_t sum[ESV_NEON_WIDTH];
    for (uint32_t left = lists->count[p]; left;) {
        uint32_t count = left < SAFE_ROWS ? left : SAFE_ROWS;
        int32_t *to = currents;
        esv_neon_find(tile)->sum_list(tile->rows, tile->row_bytes, row, count, sum);
        for (uint32_t s = steps; s; s >>= 1, to += stride) {
            if (s & 1) {
                add_times(to, sum, tile->width, times);
            }
        }
        row += count;
        left -= count;
    }
}

static void sum_spikes_wide(const esv_tile *tile, const esv_lists *lists, int32_t *currents,
                            uint32_t stride)
{
    for (uint32_t t = 0; t < tile->time_steps; t++) {
        memcpy(currents + t * stride, tile->bias, 4u * tile->width);
    }
    for (uint32_t t = 0; t < tile->time_steps; t += 4, lists++) {
        uint32_t left = tile->time_steps - t, all = left < 4 ? (1u << left) - 1 : 15;
        for (uint32_t p = 1; p <= all; p++) {
            add_list(tile, lists, p, p, 1, currents + t * stride, stride);
        }
    }
}

void esv_neon_sum_spikes(const esv_tile *tile, const esv_lists *lists, int wide, int32_t *currents)
{
    esv_tile part;
    for (uint32_t at = 0; at < tile->width; at += part.width) {
        part = esv_neon_part(tile, at);
        if (wide) {
            sum_spikes_wide(&part, lists, currents + at, tile->width);
        } else {
            esv_neon_find(&part)->run(&part, lists, NULL, currents + at, tile->width);
        }
    }
}

/* currents (width) from levels. Buckets are small enough for int32 either way; narrow sums are cut
 * at the end. */
static void sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                       int32_t *currents)
{
    memcpy(currents, tile->bias, 4u * tile->width);
    for (uint32_t g = 0; g < nibbles; g++) {
        for (uint32_t p = 1; p < ESV_LISTS; p++) {
            add_list(tile, &lists[g], p, 1, (int16_t)(p << 4 * g), currents, 0);
        }
    }
    for (uint32_t i = 0; i < tile->width && !wide; i += 4) {
        vst1q_s32(currents + i, vmovl_s16(vmovn_s32(vld1q_s32(currents + i))));
    }
}

void esv_neon_sum_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                         int32_t *currents)
{
    esv_tile part;
    for (uint32_t at = 0; at < tile->width; at += part.width) {
        part = esv_neon_part(tile, at);
        sum_levels(&part, lists, nibbles, wide, currents + at);
    }
}

/* A code moves down by a bit a step; the last step moves it to its place. */
void esv_neon_fire_wide(const esv_tile *tile, uint32_t t, const int16_t *part, const int16_t *rest,
                        int32_t *membrane, uint8_t *codes)
{
    int last = t + 1u == tile->time_steps;
    int8x16_t shift = vdupq_n_s8(last ? (int8_t)(tile->time_steps - 8) : 0);
    for (uint32_t c = 0; c < tile->width; c += 16) {
        uint16x8_t fired[2];
        UNROLL for (uint32_t i = 0; i < 2; i++) {
            uint32_t at = c + 8 * i;
            int16x8_t a = vld1q_s16(part + at), b = vld1q_s16(rest + at);
            int32x4_t sum[2] = {vaddl_s16(vget_low_s16(a), vget_low_s16(b)), vaddl_high_s16(a, b)};
            uint32x4_t over[2];
            UNROLL for (uint32_t j = 0; j < 2; j++) {
                int32x4_t v = t ? vld1q_s32(membrane + at + 4 * j) : vdupq_n_s32(0);
                v = vhaddq_s32(v, sum[j]);
                over[j] = vcgeq_s32(v, vld1q_s32(tile->threshold + at + 4 * j));
                vst1q_s32(membrane + at + 4 * j, vbicq_s32(v, vreinterpretq_s32_u32(over[j])));
            }
            fired[i] = vuzp1q_u16(vreinterpretq_u16_u32(over[0]), vreinterpretq_u16_u32(over[1]));
        }
        uint8x16_t code = vuzp1q_u8(vreinterpretq_u8_u16(fired[0]), vreinterpretq_u8_u16(fired[1]));
        code = t ? vsriq_n_u8(code, vld1q_u8(codes + c), 1) : code;
        vst1q_u8(codes + c, vshlq_u8(code, shift));
    }
}

#else

typedef int esv_no_neon_currents; /* a file must not be empty */

#endif
