/* Packed weights as bytes, where a small core has memory to spare: it adds them as they are. */
#include <string.h>

#include "esv_format.h"
#include "esv_runtime.h"
#include "weights.h"

typedef struct {
    uint32_t rows, channels, bits, tokens;
    const uint8_t *packed;
} layer;

/* Returns 0 for an operator without packed weights. */
static int layer_of(const esv_program *program, const esv_header *h, uint32_t index, layer *l)
{
    esv_op op = esv_read_op(program->file, h, index);
    esv_value in = esv_read_value(program->file, h, op.source[0]);
    esv_value out = esv_read_value(program->file, h, op.output);
    int per_channel = op.code == ESV_DEPTHWISE_CONV;
    uint32_t taps = op.code == ESV_CLASSIFY ? 1u : (uint32_t)op.kernel * op.kernel;
    l->rows = taps * (per_channel ? 1u : in.channels);
    l->channels = out.channels;
    l->bits = op.bits;
    l->tokens = (uint32_t)out.height * out.width;
    l->packed = program->file + op.weight_at;
    return (op.code == ESV_ENCODE_CONV || op.code == ESV_SPIKE_CONV || per_channel ||
            op.code == ESV_CLASSIFY) && op.bits < 8;
}

static uint64_t widened_bytes(const layer *l)
{
    return ((uint64_t)l->rows * l->channels + 15) / 16 * 16;
}

static void widen(const layer *l, uint8_t *to)
{
    const uint8_t *row = l->packed;
    int8_t unpacked[ESV_LANES];
    for (uint32_t first = 0; first < l->channels; first += ESV_LANES) {
        uint32_t lanes = esv_lanes_of(l->channels, first);
        for (uint32_t k = 0; k < l->rows; k++, to += lanes) {
            memcpy(to, esv_row(row, l->bits, unpacked), lanes);
            row += esv_row_bytes(l->bits, lanes);
        }
    }
}

/* The layer with the most tokens that still fits, and is not in the table; program->operators if
 * there is none. */
static uint32_t next(const esv_program *program, const esv_header *h, const uint8_t *const *table,
                     uint32_t left)
{
    uint32_t best = h->ops, most = 0;
    layer l;
    for (uint32_t i = 0; i < h->ops; i++) {
        if (!table[i] && layer_of(program, h, i, &l) && l.tokens > most &&
            widened_bytes(&l) <= left) {
            best = i;
            most = l.tokens;
        }
    }
    return best;
}

uint32_t esv_widen(esv_program *program, void *memory, uint32_t bytes)
{
    esv_header h = esv_read_header(program->file);
    uint32_t used = (h.ops * (uint32_t)sizeof(uint8_t *) + 15) / 16 * 16, begin = used;
    const uint8_t **table = memory;
    if (used > bytes) {
        return 0;
    }
    memset(memory, 0, used);
    for (uint32_t i; (i = next(program, &h, table, bytes - used)) < h.ops;) {
        layer l;
        layer_of(program, &h, i, &l);
        widen(&l, (uint8_t *)memory + used);
        table[i] = (uint8_t *)memory + used;
        used += (uint32_t)widened_bytes(&l);
    }
    program->widened = used > begin ? table : NULL;
    return program->widened ? used : 0;
}
