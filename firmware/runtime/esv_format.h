/* The .esv file as bytes: edgesvit/program/file.py writes it. Little-endian, read in place. */
#ifndef ESV_FORMAT_H
#define ESV_FORMAT_H

#include <stdint.h>

#include "esv_kernels.h" /* enum esv_kind */

#define ESV_HEADER_BYTES 64u
#define ESV_VALUE_BYTES 16u
#define ESV_OP_BYTES 48u
#define ESV_FORMAT_VERSION 3u
#define ESV_CRC_FROM 16u /* the CRC covers all bytes from here on */
#define ESV_NONE 0xFFFFu
#define ESV_ALIGN 16u
#define ESV_MOST_ROWS 65280u     /* inputs of a neuron: event lists count them in 16 bits */
#define ESV_SUM_LIMIT (1 << 29) /* accumulators, biases and thresholds stay below */

enum esv_code {
    ESV_ENCODE_CONV,
    ESV_SPIKE_CONV,
    ESV_MAX_POOL,
    ESV_ADD,
    ESV_SELF_ATTENTION,
    ESV_CLASSIFY,
    ESV_TOKEN_ATTENTION,
    ESV_DEPTHWISE_CONV,
    ESV_FIRE, /* `kernel` is 1 for neurons on the sum over all tokens */
    ESV_HADAMARD_ATTENTION,
    ESV_CHOOSE_TOKENS, /* `kernel` is the window, `stride` and `pad` the scores' weights */
    ESV_GATHER,
    ESV_PUT_BACK
};

typedef struct {
    uint32_t file_bytes, crc, arena_bytes;
    uint32_t values_at, ops_at, check_input_at, check_logits_at;
    uint16_t version, values, ops, input, output;
    uint8_t time_steps;
} esv_header;

typedef struct {
    uint8_t kind;
    uint16_t max_level, height, width, channels;
    uint32_t arena_offset;
} esv_value;

typedef struct {
    uint8_t code, kernel, stride, pad, pool, pool_stride;
    uint16_t source[3], output, heads, number; /* its place in the program */
    uint32_t weight_at, bias_at, threshold_at, extra_at;
    int32_t threshold;
    uint8_t shift, bits; /* bits of a weight */
    uint32_t scratch_at, scratch_bytes;
} esv_op;

esv_header esv_read_header(const uint8_t *file);
esv_value esv_read_value(const uint8_t *file, const esv_header *header, uint32_t index);
esv_op esv_read_op(const uint8_t *file, const esv_header *header, uint32_t index);

/* CRC-32 (IEEE 802.3, as zlib's). */
uint32_t esv_crc32(const uint8_t *bytes, uint32_t count);

/* Bytes a value takes in the arena. At most 65535^3 * 8: does not fit 32 bits. */
uint64_t esv_value_bytes(const esv_value *value, uint8_t time_steps);

#endif
