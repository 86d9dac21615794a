/* The project's kernel behind the benchmark's interface: the only file that knows how to call it. */
#include <string.h>

#include "esv_kernels.h"
#include "layer.h"
#include "weights.h"

#if defined __ARM_ARCH_PROFILE && __ARM_ARCH_PROFILE == 'M'
#define FIRMWARE /* has no memory but the arena: no crew */
#else
#include "crew.h"
#endif

typedef struct {
    esv_window window;
    esv_conv conv;
    esv_crew crew;
    void *scratch;
} call;

/* Fields of `field` bits of the codes (ESV_LANES) from bit `at` on, as weights.h has them. */
static void put_field(const uint8_t *codes, uint32_t field, uint32_t at, uint8_t *row)
{
    uint32_t apart = field == 1 ? 1 : 4, group = apart * 8 / field; /* channels */
    for (uint32_t c = 0; c < ESV_LANES; c++) {
        uint32_t byte = field == 1 ? c / 8 : c / group * 4 + c % 4;
        uint32_t part = codes[c] >> at & ((1u << field) - 1);
        row[byte] = (uint8_t)(row[byte] | part << (c % group / apart * field));
    }
}

/* One row of a tile, `row` is zero before; returns its end. */
static uint8_t *put_row(const int8_t *weight, uint32_t lanes, uint32_t bits, uint8_t *row)
{
    uint8_t codes[ESV_LANES] = {0};
    for (uint32_t c = 0; c < lanes; c++) {
        codes[c] = (uint8_t)(weight[c] + (1 << (bits - 1)));
        if (bits == 8) {
            row[c] = (uint8_t)weight[c];
        }
    }
    uint8_t *next = row;
    for (uint32_t field = 4, at = 0; field && bits < 8; field /= 2) {
        if (bits & field) {
            put_field(codes, field, at, next);
            next += 2 * field;
            at += field;
        }
    }
    return row + esv_row_bytes(bits, lanes);
}

/* Weights in tiles of ESV_LANES channels, as a program file holds them. */
static uint8_t *tiles(const layer *l)
{
    uint32_t channels = l->shape.out_channels, bits = l->shape.bits;
    uint32_t padded = (channels + ESV_LANES - 1) / ESV_LANES * ESV_LANES;
    size_t bytes = (size_t)l->inputs * esv_row_bytes(bits, ESV_LANES) * padded / ESV_LANES;
    uint8_t *packed = take(bytes), *next = memset(packed, 0, bytes);
    for (uint32_t first = 0; first < channels; first += ESV_LANES) {
        for (uint32_t k = 0; k < l->inputs; k++) {
            next = put_row(l->weight + (size_t)k * channels + first,
                           esv_lanes_of(channels, first), bits, next);
        }
    }
    return packed;
}

static uint8_t *all_certified(uint32_t channels)
{
    uint8_t *bits = take((channels + 7) / 8);
    for (uint32_t i = 0; i < (channels + 7) / 8; i++) {
        bits[i] = 0xFF; /* weights of standard deviation 28 keep every sum within int16 */
    }
    return bits;
}

void *ours_prepare(const layer *l)
{
    const layer_shape *s = &l->shape;
    uint16_t side = (uint16_t)s->side;
    call *c = take(sizeof *c);
    c->window = (esv_window){.height = side, .width = side, .channels = (uint16_t)s->channels,
                             .out_height = side, .out_width = side,
                             .out_channels = (uint16_t)s->out_channels,
                             .kernel = (uint8_t)s->kernel, .stride = 1,
                             .pad = (uint8_t)(s->kernel / 2),
                             .time_steps = (uint8_t)s->time_steps, .max_level = 1};
    c->conv = (esv_conv){.weight = tiles(l), .bits = (uint8_t)s->bits, .bias = l->bias,
                         .certified = all_certified(s->out_channels)};
    c->conv.after = (esv_after){.kind = ESV_SPIKES, .time_steps = (uint8_t)s->time_steps,
                                .channels = (uint16_t)s->out_channels, .tokens = l->tokens,
                                .threshold = l->threshold};
    c->scratch = take(esv_spike_conv_scratch(&c->window, 0));
#ifndef FIRMWARE /* one member and weights expanded, as the runtime makes it */
    const struct esv_spike_variant *kernel = crew_kernels(NULL);
    uint32_t bytes = (esv_spike_conv_work(&c->window, 0, kernel) + 63u) & ~63u;
    c->crew = (esv_crew){.kernel = kernel, .members = 1, .work = take(bytes), .work_bytes = bytes};
    void *memory = take(esv_spike_prepared_bytes(&c->window, 0, &c->conv, kernel));
    esv_spike_prepare(&c->window, 0, &c->conv, kernel, memory);
    c->conv.prepared = memory;
#endif
    return c;
}

void ours_run(const layer *l, void *prepared, uint8_t *out)
{
    call *c = prepared;
    c->conv.after.out = out;
    esv_spike_conv(&c->window, &c->conv, 1, 0, l->codes, c->scratch,
                   c->crew.work ? &c->crew : NULL);
}
