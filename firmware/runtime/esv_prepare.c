/* Layers made ready once, where there is memory beyond the arena. */
#include "esv_format.h"
#include "esv_geometry.h"
#include "esv_kernels.h"
#include "esv_runtime.h"

/* A spiking convolution on codes or levels; conv: with no output. */
typedef struct {
    esv_window window;
    int levels;
    esv_conv conv;
} layer;

static int layer_of(const esv_program *program, const esv_header *h, uint32_t index, layer *l)
{
    esv_op op = esv_read_op(program->file, h, index);
    if (op.code != ESV_SPIKE_CONV) {
        return 0;
    }
    esv_value in = esv_read_value(program->file, h, op.source[0]);
    esv_value out = esv_read_value(program->file, h, op.output);
    l->window = esv_window_of(&op, &in, &out, h->time_steps);
    l->levels = in.kind == ESV_LEVELS;
    l->conv = esv_conv_of(program, &op, &out, 0, 0);
    return in.kind != ESV_MEMBRANE;
}

static uint64_t table_bytes(const esv_header *h)
{
    return (h->ops * sizeof(void *) + 63) / 64 * 64;
}

uint64_t esv_prepared_bytes(const esv_program *program, const struct esv_spike_variant *kernel)
{
    esv_header h = esv_read_header(program->file);
    uint64_t bytes = table_bytes(&h);
    layer l;
    for (uint32_t i = 0; i < h.ops; i++) {
        bytes += layer_of(program, &h, i, &l)
                     ? esv_spike_prepared_bytes(&l.window, l.levels, &l.conv, kernel) : 0;
    }
    return bytes;
}

void esv_prepare(const esv_program *program, const struct esv_spike_variant *kernel, void *memory)
{
    esv_header h = esv_read_header(program->file);
    const void **table = memory;
    uint8_t *at = (uint8_t *)memory + table_bytes(&h);
    layer l;
    for (uint32_t i = 0; i < h.ops; i++) {
        uint64_t bytes = layer_of(program, &h, i, &l)
                             ? esv_spike_prepared_bytes(&l.window, l.levels, &l.conv, kernel) : 0;
        table[i] = bytes ? at : 0;
        if (bytes) {
            esv_spike_prepare(&l.window, l.levels, &l.conv, kernel, at);
        }
        at += bytes;
    }
}
