/* The integer spike kernels. One operator a file; edgesvit/program/interpret.py defines what each
 * computes, and every kernel here gives exactly those integers.
 *
 * Notation: T time steps (1..8), H x W tokens or pixels, C channels; tensors are channels-last.
 * codes:  (H, W, C) uint8, bit t of a byte is the spike of step t.
 * levels: (T, H, W, C) uint8.
 * Sizes are trusted here: esv_open has checked them. Nothing allocates; scratch is the caller's.
 */
#ifndef ESV_KERNELS_H
#define ESV_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Geometry of a window operator. */
typedef struct {
    uint16_t height, width, channels;             /* input */
    uint16_t out_height, out_width, out_channels; /* output */
    uint8_t kernel, stride, pad;
    uint8_t time_steps; /* T */
    /* Convolutions only: max-pool the currents before the neuron, windows of pool x pool padded by
     * pool / 2. 0: no pooling. */
    uint8_t pool, pool_stride;
} esv_window;

/* Constants of a convolution followed by LIF; K = kernel * kernel * channels. */
typedef struct {
    const int8_t *weight;     /* (K, out_channels), tap-major, then input channel */
    const int32_t *bias;      /* (out_channels) */
    const int32_t *threshold; /* (out_channels) */
    const uint8_t *certified; /* (ceil(out_channels / 8)) bit c % 8 of byte c / 8: fits int16 */
    const uint8_t *pad_pixel; /* (channels) what a tap outside the image reads; pixels only */
} esv_conv;

/* pixels (H, W, C) -> codes (H', W', C'): the current is computed once, the neuron runs T steps. */
void esv_encode_conv(const esv_window *window, const esv_conv *conv, const uint8_t *pixels,
                     uint8_t *codes);

/* codes (H, W, C) -> codes (H', W', C'). scratch: esv_spike_conv_scratch bytes, 4-byte aligned. */
void esv_spike_conv(const esv_window *window, const esv_conv *conv, const uint8_t *codes,
                    uint8_t *out, void *scratch);
uint32_t esv_spike_conv_scratch(const esv_window *window);

/* levels (T, H, W, C) -> codes (H', W', C'). scratch: esv_level_conv_scratch bytes. */
void esv_level_conv(const esv_window *window, const esv_conv *conv, const uint8_t *levels,
                    uint8_t *out, void *scratch);
uint32_t esv_level_conv_scratch(const esv_window *window);

/* codes (H, W, C) -> codes (H', W', C): OR over the window. */
void esv_max_pool(const esv_window *window, const uint8_t *codes, uint8_t *out);

/* levels (T, count) or codes (count), plus codes (count) -> levels (T, count). The levels may be
 * the output itself. */
void esv_add_to_levels(uint32_t count, uint8_t time_steps, const uint8_t *levels,
                       const uint8_t *branch, uint8_t *out);
void esv_add_codes(uint32_t count, uint8_t time_steps, const uint8_t *codes,
                   const uint8_t *branch, uint8_t *out);

/* Spiking self-attention over `tokens` tokens: per head and step ((q k^T) v) << shift, then LIF. */
typedef struct {
    uint16_t tokens, heads;
    uint16_t query_dim, value_dim; /* per head */
    uint8_t time_steps, shift;
    int32_t threshold;
} esv_attention;

/* query, key: codes (N, heads * query_dim); value, out: codes (N, heads * value_dim).
 * scratch: esv_self_attention_scratch bytes, 2-byte aligned. */
void esv_self_attention(const esv_attention *attention, const uint8_t *query, const uint8_t *key,
                        const uint8_t *value, uint8_t *out, void *scratch);
uint32_t esv_self_attention_scratch(const esv_attention *attention);

/* Token attention: a token of a head passes its key codes on where the neuron of the number of its
 * query spikes, << shift, fires. query, key, out: codes (N, heads * query_dim); value_dim unused. */
void esv_token_attention(const esv_attention *attention, const uint8_t *query, const uint8_t *key,
                         uint8_t *out);

/* Sum levels or codes over steps and tokens: sums (C) int32. */
void esv_sum_levels(uint32_t tokens, uint32_t channels, uint8_t time_steps, const uint8_t *levels,
                    int32_t *sums);
void esv_sum_codes(uint32_t tokens, uint32_t channels, const uint8_t *codes, int32_t *sums);

/* sums (C) -> logits (classes): bias + sums * weight, weight (C, classes). */
void esv_classify(uint32_t channels, uint32_t classes, const int8_t *weight, const int32_t *bias,
                  const int32_t *sums, int32_t *logits);

#ifdef __cplusplus
}
#endif

#endif
