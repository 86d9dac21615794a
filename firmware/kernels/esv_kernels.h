/* The integer spike kernels. One operator a file; edgesvit/program/interpret.py defines what each
 * computes, and every kernel here gives exactly those integers.
 *
 * Notation: T time steps (1..8), H x W tokens or pixels, C channels; tensors are channels-last.
 * codes:     (H, W, C) uint8, bit t of a byte is the spike of step t.
 * levels:    (T, H, W, C) uint8.
 * membranes: (T, H, W, C) int16.
 * index:     (K) uint16, tokens of another map, ascending.
 * Sizes are trusted here: esv_open has checked them. Nothing allocates; scratch is the caller's.
 */
#ifndef ESV_KERNELS_H
#define ESV_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ESV_LANES 16 /* channels of a stored weight tile */

/* What the numbers of a tensor mean; the .esv file stores these values. */
enum esv_kind { ESV_PIXELS, ESV_SPIKES, ESV_LEVELS, ESV_LOGITS, ESV_MEMBRANE, ESV_INDEX };

/* What becomes of the currents of an operator, and where it goes. */
typedef struct {
    uint8_t kind;  /* ESV_SPIKES: LIF. ESV_LEVELS: thresholds are counted. ESV_MEMBRANE: scaled */
    uint8_t shift; /* membranes: (current * scale + 2^(shift - 1)) >> shift, 1 to 62 */
    uint8_t time_steps;
    uint16_t max_level;       /* D of levels, the largest magnitude of membranes */
    uint16_t channels;        /* of the output */
    uint32_t tokens;          /* of the output */
    const int32_t *threshold; /* spikes (channels), levels (D, channels) */
    const int32_t *scale;     /* membranes: (channels) */
    const int16_t *stream;    /* membranes (T, tokens, channels) to add to, may be `out`; or NULL */
    void *out;                /* codes, levels or membranes of (tokens, channels) */
} esv_after;

/* Geometry of a window operator. */
typedef struct {
    uint16_t height, width, channels;             /* input */
    uint16_t out_height, out_width, out_channels; /* output */
    uint8_t kernel, stride, pad;
    uint8_t time_steps; /* T */
    uint16_t max_level; /* of the input */
    /* Convolutions only: max-pool the currents before the neuron, windows of pool x pool padded by
     * pool / 2. 0: no pooling. */
    uint8_t pool, pool_stride;
} esv_window;

/* A convolution: its constants and what becomes of its currents; K = kernel * kernel * channels. */
typedef struct {
    const uint8_t *weight;    /* (K, out_channels), tap-major, then input channel: weights.h */
    uint8_t bits;             /* of a weight, 2 to 8 */
    const int32_t *bias;      /* (out_channels) */
    const uint8_t *certified; /* (ceil(out_channels / 8)) bit c % 8 of byte c / 8: fits int16 */
    const uint8_t *pad_pixel; /* (channels) what a tap outside the image reads; pixels only */
    const void *prepared;     /* of esv_spike_prepare for the kernels of the crew, or NULL */
    esv_after after;          /* (H', W', out_channels) */
} esv_conv;

/* How spiking convolutions are computed where there is a choice. */
enum esv_road { ESV_ANY_ROAD, ESV_LISTS_ALONE, ESV_DENSE_ALONE, ESV_MASKS_FIRST };

/* Memory and threads beyond the arena, where there are some. `run` calls part(context, i, member)
 * for every i below parts, each once, at most one at a time for a member; NULL: all by member 0. */
typedef struct esv_crew {
    const struct esv_spike_variant *kernel; /* spike_conv.h */
    enum esv_road road;
    uint32_t members;                       /* 1 or more */
    void *work;                             /* (members, work_bytes), 64-byte aligned */
    uint32_t work_bytes;                    /* a multiple of 64 */
    const void *const *prepared; /* of each operator what esv_prepare made of it, or NULL; or NULL */
    uint64_t prepared_bytes;
    void (*run)(const struct esv_crew *crew,
                void (*part)(void *context, uint32_t index, uint32_t member), void *context,
                uint32_t parts);
} esv_crew;

/* Call part(context, i, member) for every i below parts, by the crew if there is one. */
static inline void esv_share(const esv_crew *crew,
                             void (*part)(void *context, uint32_t index, uint32_t member),
                             void *context, uint32_t parts)
{
    if (crew && crew->run) {
        crew->run(crew, part, context, parts);
        return;
    }
    for (uint32_t i = 0; i < parts; i++) {
        part(context, i, 0);
    }
}

/* pixels (H, W, C): the current is computed once for all T steps. */
void esv_encode_conv(const esv_window *window, const esv_conv *conv, const uint8_t *pixels,
                     const esv_crew *crew);

/* codes (H, W, C), or levels (T, H, W, C), through one or more convolutions `conv` (count) that
 * share the window, as q, k and v do: what fires is sorted once. window->out_channels is not looked
 * at. scratch: esv_spike_conv_scratch bytes, 16-byte aligned, which no output may overlap; crew may
 * be NULL. */
void esv_spike_conv(const esv_window *window, const esv_conv *conv, uint32_t count, int levels,
                    const uint8_t *input, void *scratch, const esv_crew *crew);
uint32_t esv_spike_conv_scratch(const esv_window *window, int levels);
/* The work_bytes of a crew with which this layer runs at its best. */
uint32_t esv_spike_conv_work(const esv_window *window, int levels,
                             const struct esv_spike_variant *kernel);

/* What a spiking convolution computes with, made once: its weights expanded as `kernel` wants them,
 * and its constants. Bytes that it takes, 0 where nothing is expanded; memory: as many, 64-byte
 * aligned. */
uint64_t esv_spike_prepared_bytes(const esv_window *window, int levels, const esv_conv *conv,
                                  const struct esv_spike_variant *kernel);
void esv_spike_prepare(const esv_window *window, int levels, const esv_conv *conv,
                       const struct esv_spike_variant *kernel, void *memory);

/* membranes (T, H, W, C), kernel 1, stride 1: a linear layer at every token. */
void esv_membrane_conv(const esv_window *window, const esv_conv *conv, const int16_t *membranes,
                       const esv_crew *crew);

/* Codes, levels or membranes of (H, W, C) as `kind` says, every channel with its own window:
 * weight (kernel * kernel, C). A tap outside reads 0. */
void esv_depthwise_conv(const esv_window *window, const esv_conv *conv, enum esv_kind kind,
                        const void *input, const esv_crew *crew);

/* membranes (T, tokens, after->channels) are the currents of neurons; with over_tokens their sum
 * over all tokens is, and the output has one token. */
void esv_fire(const esv_after *after, uint32_t tokens, int over_tokens, const int16_t *membranes);

/* codes (H, W, C) -> codes (H', W', C): OR over the window. */
void esv_max_pool(const esv_window *window, const uint8_t *codes, uint8_t *out);

/* levels (T, count) or codes (count), plus codes (count) -> levels (T, count). The levels may be
 * the output itself. */
void esv_add_to_levels(uint32_t count, uint8_t time_steps, const uint8_t *levels,
                       const uint8_t *branch, uint8_t *out);
void esv_add_codes(uint32_t count, uint8_t time_steps, const uint8_t *codes,
                   const uint8_t *branch, uint8_t *out);

/* Spiking self-attention over `tokens` tokens: per head and step ((q k^T) v) << shift, then LIF, or
 * for levels the number of thresholds reached. */
typedef struct {
    uint16_t tokens, heads;
    uint16_t query_dim, value_dim; /* per head */
    uint8_t time_steps, shift;
    uint8_t levels;                 /* D of the output's levels; 0: everything is spikes */
    int32_t threshold;              /* of spikes */
    const int32_t *level_threshold; /* of levels: (D) */
} esv_attention;

/* query, key: (N, heads * query_dim); value, out: (N, heads * value_dim); all codes, or all levels
 * with T in front. scratch: esv_self_attention_scratch bytes, 2-byte aligned; a crew's members
 * need as much of its work. */
void esv_self_attention(const esv_attention *attention, const uint8_t *query, const uint8_t *key,
                        const uint8_t *value, uint8_t *out, void *scratch, const esv_crew *crew);
#ifdef __aarch64__
void esv_self_attention_neon(const esv_attention *attention, const uint8_t *query,
                             const uint8_t *key, const uint8_t *value, uint8_t *out,
                             void *scratch, const esv_crew *crew);
#endif
uint32_t esv_self_attention_scratch(const esv_attention *attention);

/* Token attention: a token of a head passes its key codes on where the neuron of the number of its
 * query spikes, << shift, fires. query, key, out: codes (N, heads * query_dim); value_dim unused. */
void esv_token_attention(const esv_attention *attention, const uint8_t *query, const uint8_t *key,
                         uint8_t *out);

/* Spike-driven attention: a channel's query codes pass where the neuron of the number of tokens at
 * which key and value fire, << shift, fires. query, key, value, out: codes (tokens, channels). */
typedef struct {
    uint32_t tokens, channels, heads; /* heads: of the event form only */
    uint8_t time_steps, shift;
    int32_t threshold;
} esv_hadamard;

void esv_hadamard_attention(const esv_hadamard *attention, const uint8_t *query,
                            const uint8_t *key, const uint8_t *value, uint8_t *out);

/* The same in the event form: what both fire and what passes spread to the tokens before and behind
 * and to the channels beside, within a head. */
void esv_hadamard_spread(const esv_hadamard *attention, const uint8_t *query, const uint8_t *key,
                         const uint8_t *value, uint8_t *out);

/* A choice of the tokens that go on: `spatial` times a token's unlikeness to the window x window
 * tokens around it, plus `temporal` times its change from step to step, each normalised. */
typedef struct {
    uint16_t height, width, channels;
    uint8_t kind;              /* of the input: ESV_SPIKES, ESV_LEVELS or ESV_MEMBRANE */
    uint8_t time_steps, window; /* odd */
    uint8_t spatial, temporal; /* 0 to 15 */
    uint32_t kept;
    const int32_t *scale; /* of membranes (channels), 0 to 32767: (membrane * scale) >> 15 */
} esv_choice;

#define ESV_SCORE_ONE 65536u

/* The `kept` best tokens, of equal ones the first. scratch: esv_choose_scratch bytes, 4-byte
 * aligned. */
void esv_choose_tokens(const esv_choice *choice, const void *input, void *scratch, uint16_t *index);
uint64_t esv_choose_scratch(uint32_t height, uint32_t width, uint32_t channels,
                            uint32_t window);

/* Chosen tokens of a map: codes (one plane), levels or membranes (T planes). */
typedef struct {
    uint32_t tokens, kept; /* of the map, of the index */
    uint32_t token_bytes;  /* of a token in one plane */
    uint32_t planes;
} esv_chosen;

/* input (planes, tokens) -> out (planes, kept). */
void esv_gather_tokens(const esv_chosen *chosen, const uint16_t *index, const uint8_t *input,
                       uint8_t *out);
/* out (planes, tokens) = input, which may be `out` itself, with those of branch (planes, kept). */
void esv_put_back_tokens(const esv_chosen *chosen, const uint16_t *index, const uint8_t *input,
                         const uint8_t *branch, uint8_t *out);

/* Sum levels, codes or membranes over steps and tokens: sums (C) int32. */
void esv_sum_levels(uint32_t tokens, uint32_t channels, uint8_t time_steps, const uint8_t *levels,
                    int32_t *sums);
void esv_sum_codes(uint32_t tokens, uint32_t channels, const uint8_t *codes, int32_t *sums);
void esv_sum_membranes(uint32_t tokens, uint32_t channels, uint8_t time_steps,
                       const int16_t *membranes, int32_t *sums);

/* sums (C) -> logits (out_channels): bias + (sums * weight) / 2^shift, rounded half up; K = C. Added
 * to the scores `stream` if that is not NULL. */
void esv_classify(uint32_t channels, const esv_conv *conv, uint8_t shift, const int32_t *sums,
                  const int32_t *stream, uint32_t classes, int32_t *logits);

#ifdef __cplusplus
}
#endif

#endif
