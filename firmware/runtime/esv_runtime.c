#include "esv_runtime.h"

#include <string.h>

#include "esv_format.h"
#include "esv_geometry.h"
#include "esv_kernels.h"
#include "esv_siblings.h"

uint8_t *esv_input(const esv_program *program, void *arena)
{
    esv_header h = esv_read_header(program->file);
    return (uint8_t *)arena + esv_read_value(program->file, &h, h.input).arena_offset;
}

const int32_t *esv_logits(const esv_program *program, const void *arena)
{
    esv_header h = esv_read_header(program->file);
    uint32_t at = esv_read_value(program->file, &h, h.output).arena_offset;
    return (const int32_t *)(const void *)((const uint8_t *)arena + at);
}

const uint8_t *esv_check_input(const esv_program *program)
{
    uint32_t at = esv_read_header(program->file).check_input_at;
    return at ? program->file + at : NULL;
}

const int32_t *esv_check_logits(const esv_program *program)
{
    esv_header h = esv_read_header(program->file);
    return h.check_input_at ? (const int32_t *)(const void *)(program->file + h.check_logits_at)
                            : NULL;
}

static const int32_t *words(const uint8_t *file, uint32_t at)
{
    return (const int32_t *)(const void *)(file + at);
}

static esv_after after(const uint8_t *file, const esv_op *op, const esv_value *out, uint8_t steps,
                       void *target, const void *stream)
{
    esv_after a = {
        .kind = out->kind, .shift = op->shift, .time_steps = steps,
        .max_level = out->max_level, .channels = out->channels,
        .tokens = (uint32_t)out->height * out->width, .threshold = words(file, op->threshold_at),
        .scale = words(file, op->threshold_at), .stream = stream, .out = target,
    };
    return a;
}

static esv_conv constants(const esv_program *program, const esv_op *op)
{
    const uint8_t *file = program->file;
    esv_conv conv = {
        .weight = file + op->weight_at, .bits = op->bits, .bias = words(file, op->bias_at),
        .certified = file + op->extra_at, .pad_pixel = file + op->extra_at,
    };
    if (program->widened && program->widened[op->number]) {
        conv.weight = program->widened[op->number];
        conv.bits = 8;
    }
    return conv;
}

esv_conv esv_conv_of(const esv_program *program, const esv_op *op, const esv_value *out,
                     void *target, const void *stream)
{
    esv_conv conv = constants(program, op);
    if (program->crew && program->crew->prepared) {
        conv.prepared = program->crew->prepared[op->number];
    }
    conv.after = after(program->file, op, out, program->time_steps, target,
                       op->source[1] == ESV_NONE ? NULL : stream);
    return conv;
}

static void convolve(const esv_program *program, const esv_op *op, const esv_value *in,
                     const esv_value *out, uint8_t *const source[3], uint8_t *target,
                     void *scratch)
{
    esv_window w = esv_window_of(op, in, out, program->time_steps);
    esv_conv conv = esv_conv_of(program, op, out, target, source[1]);
    const void *input = source[0];
    if (op->code == ESV_ENCODE_CONV) {
        esv_encode_conv(&w, &conv, input, program->crew);
    } else if (op->code == ESV_DEPTHWISE_CONV) {
        esv_depthwise_conv(&w, &conv, (enum esv_kind)in->kind, input, program->crew);
    } else if (in->kind == ESV_MEMBRANE) {
        esv_membrane_conv(&w, &conv, input, program->crew);
    } else {
        esv_spike_conv(&w, &conv, 1, in->kind == ESV_LEVELS, input, scratch, program->crew);
    }
}

/* Spiking convolutions that share a window, as q, k and v do. */
static void run_siblings(const esv_program *program, uint32_t first, uint32_t n,
                         const uint8_t *source, uint8_t *const target[], void *scratch)
{
    esv_header h = esv_read_header(program->file);
    esv_op op = esv_read_op(program->file, &h, first);
    esv_value in = esv_read_value(program->file, &h, op.source[0]);
    esv_value out = esv_read_value(program->file, &h, op.output);
    esv_window w = esv_window_of(&op, &in, &out, h.time_steps);
    esv_conv conv[ESV_MOST_SIBLINGS];
    for (uint32_t i = 0; i < n; i++) {
        op = esv_read_op(program->file, &h, first + i);
        out = esv_read_value(program->file, &h, op.output);
        conv[i] = esv_conv_of(program, &op, &out, target[i], NULL);
    }
    esv_spike_conv(&w, conv, n, in.kind == ESV_LEVELS, source, scratch, program->crew);
}

static void pool(const esv_op *op, const esv_value *in, const esv_value *out, uint8_t steps,
                 const uint8_t *source, uint8_t *target)
{
    esv_window w = esv_window_of(op, in, out, steps);
    esv_max_pool(&w, source, target);
}

static void fire(const uint8_t *file, const esv_op *op, const esv_value *in, const esv_value *out,
                 uint8_t steps, const void *source, uint8_t *target)
{
    esv_after neurons = after(file, op, out, steps, target, NULL);
    esv_fire(&neurons, (uint32_t)in->height * in->width, op->kernel, source);
}

static void classify(const esv_program *program, const esv_op *op, const esv_value *in,
                     const esv_value *out, uint8_t steps, uint8_t *const source[3],
                     uint8_t *target, void *scratch)
{
    uint32_t tokens = (uint32_t)in->height * in->width;
    const void *input = source[0], *stream = op->source[1] == ESV_NONE ? NULL : source[1];
    if (in->kind == ESV_LEVELS) {
        esv_sum_levels(tokens, in->channels, steps, input, scratch);
    } else if (in->kind == ESV_MEMBRANE) {
        esv_sum_membranes(tokens, in->channels, steps, input, scratch);
    } else {
        esv_sum_codes(tokens, in->channels, input, scratch);
    }
    esv_conv conv = constants(program, op);
    esv_classify(in->channels, &conv, op->shift, scratch, stream, out->channels,
                 (int32_t *)(void *)target);
}

static void add(const esv_value *in, uint8_t steps, const uint8_t *source, const uint8_t *branch,
                uint8_t *target)
{
    uint32_t count = (uint32_t)in->height * in->width * in->channels;
    if (in->kind == ESV_LEVELS) {
        esv_add_to_levels(count, steps, source, branch, target);
    } else {
        esv_add_codes(count, steps, source, branch, target);
    }
}

#ifdef __aarch64__
#define SELF_ATTENTION esv_self_attention_neon
#else
#define SELF_ATTENTION esv_self_attention
#endif

static void attend(const esv_program *program, const esv_op *op, const esv_value in[3],
                   const esv_value *out, uint8_t *const source[3], uint8_t *target, void *scratch)
{
    esv_attention a = esv_attention_of(op, &in[0], &in[2], out, program->time_steps);
    a.level_threshold = words(program->file, op->threshold_at);
    SELF_ATTENTION(&a, source[0], source[1], source[2], target, scratch, program->crew);
}

static void attend_tokens(const esv_op *op, const esv_value *query, const esv_value *out,
                          uint8_t steps, uint8_t *const source[3], uint8_t *target)
{
    esv_attention a = esv_attention_of(op, query, query, out, steps);
    esv_token_attention(&a, source[0], source[1], target);
}

static void attend_hadamard(const esv_op *op, const esv_value *query, uint8_t steps,
                            uint8_t *const source[3], uint8_t *target)
{
    esv_hadamard a = {
        .tokens = (uint32_t)query->height * query->width, .channels = query->channels,
        .heads = op->heads, .time_steps = steps, .shift = op->shift, .threshold = op->threshold,
    };
    (a.heads ? esv_hadamard_spread : esv_hadamard_attention)(&a, source[0], source[1], source[2],
                                                             target);
}

static void choose(const esv_program *program, const esv_op *op, const esv_value *in,
                   const esv_value *out, const void *source, uint8_t *target, void *scratch)
{
    esv_choice c = {
        .height = in->height, .width = in->width, .channels = in->channels, .kind = in->kind,
        .time_steps = program->time_steps, .window = op->kernel, .spatial = op->stride,
        .temporal = op->pad, .kept = out->width, .scale = words(program->file, op->threshold_at),
    };
    esv_choose_tokens(&c, source, scratch, (uint16_t *)(void *)target);
}

static void move(const esv_op *op, const esv_value in[3], uint8_t steps, uint8_t *const source[3],
                 uint8_t *target)
{
    const uint16_t *index = (const uint16_t *)(const void *)source[1];
    esv_chosen c = {
        .tokens = (uint32_t)in[0].height * in[0].width, .kept = in[1].width,
        .token_bytes = in[0].channels * (in[0].kind == ESV_MEMBRANE ? 2u : 1u),
        .planes = in[0].kind == ESV_SPIKES ? 1 : steps,
    };
    if (op->code == ESV_GATHER) {
        esv_gather_tokens(&c, index, source[0], target);
    } else {
        esv_put_back_tokens(&c, index, source[0], source[2], target);
    }
}

static void run_operator(const esv_program *program, uint32_t index, uint8_t *const source[3],
                         uint8_t *target, void *scratch)
{
    const uint8_t *file = program->file;
    esv_header h = esv_read_header(file);
    esv_op op = esv_read_op(file, &h, index);
    esv_value in[3], out = esv_read_value(file, &h, op.output);
    for (uint32_t i = 0; i < 3; i++) {
        in[i] = esv_read_value(file, &h, op.source[i] < h.values ? op.source[i] : op.output);
    }
    switch (op.code) {
    case ESV_ENCODE_CONV:
    case ESV_SPIKE_CONV:
    case ESV_DEPTHWISE_CONV:
        convolve(program, &op, &in[0], &out, source, target, scratch);
        break;
    case ESV_MAX_POOL:
        pool(&op, &in[0], &out, h.time_steps, source[0], target);
        break;
    case ESV_FIRE:
        fire(file, &op, &in[0], &out, h.time_steps, source[0], target);
        break;
    case ESV_ADD:
        add(&in[0], h.time_steps, source[0], source[1], target);
        break;
    case ESV_SELF_ATTENTION:
        attend(program, &op, in, &out, source, target, scratch);
        break;
    case ESV_TOKEN_ATTENTION:
        attend_tokens(&op, &in[0], &out, h.time_steps, source, target);
        break;
    case ESV_CHOOSE_TOKENS:
        choose(program, &op, &in[0], &out, source[0], target, scratch);
        break;
    case ESV_GATHER:
    case ESV_PUT_BACK:
        move(&op, in, h.time_steps, source, target);
        break;
    case ESV_HADAMARD_ATTENTION:
        attend_hadamard(&op, &in[0], h.time_steps, source, target);
        break;
    default:
        classify(program, &op, &in[0], &out, h.time_steps, source, target, scratch);
    }
}

void esv_run_at(const esv_program *program, uint32_t index, uint32_t count,
                uint8_t *const source[3], uint8_t *const target[], void *scratch)
{
    if (count > 1) {
        run_siblings(program, index, count, source[0], target, scratch);
    } else {
        run_operator(program, index, source, target[0], scratch);
    }
}

/* `count` operators on the values as they lie in the arena. */
static void run_in(const esv_program *program, uint8_t *arena, uint32_t index, uint32_t count)
{
    esv_header h = esv_read_header(program->file);
    esv_op op = esv_read_op(program->file, &h, index);
    uint8_t *source[3], *target[ESV_MOST_SIBLINGS];
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t value = op.source[i] < h.values ? op.source[i] : op.output;
        source[i] = arena + esv_read_value(program->file, &h, value).arena_offset;
    }
    for (uint32_t i = 0; i < count; i++) {
        esv_op sibling = esv_read_op(program->file, &h, index + i);
        target[i] = arena + esv_read_value(program->file, &h, sibling.output).arena_offset;
    }
    esv_run_at(program, index, count, source, target, arena + op.scratch_at);
}

void esv_run_operator(const esv_program *program, void *arena, uint32_t index)
{
    run_in(program, arena, index, 1);
}

uint32_t esv_run_step(const esv_program *program, void *arena, uint32_t index)
{
    uint32_t count = esv_siblings(program, index);
    run_in(program, arena, index, count);
    return index + count;
}

uint32_t esv_work_bytes(const esv_program *program, const struct esv_spike_variant *kernel)
{
    esv_header h = esv_read_header(program->file);
    uint32_t most = 64;
    for (uint32_t i = 0; i < h.ops; i++) {
        esv_op op = esv_read_op(program->file, &h, i);
        esv_value in = esv_read_value(program->file, &h, op.source[0]);
        esv_value out = esv_read_value(program->file, &h, op.output);
        esv_window w = esv_window_of(&op, &in, &out, h.time_steps);
        if (op.code != ESV_SPIKE_CONV || in.kind == ESV_MEMBRANE) {
            continue;
        }
        uint32_t bytes = esv_spike_conv_work(&w, in.kind == ESV_LEVELS, kernel);
        most = bytes > most ? bytes : most;
    }
    return (most + 63u) / 64 * 64;
}

esv_status esv_run(const esv_program *program, void *arena)
{
    if ((uintptr_t)arena % ESV_ALIGN) {
        return ESV_MISALIGNED;
    }
    for (uint32_t i = 0; i < program->operators;) {
        i = esv_run_step(program, arena, i);
    }
    return ESV_OK;
}

esv_status esv_check(const esv_program *program, void *arena)
{
    const uint8_t *image = esv_check_input(program);
    if (!image) {
        return ESV_OK;
    }
    memcpy(esv_input(program, arena), image, program->input_bytes);
    esv_status status = esv_run(program, arena);
    if (status != ESV_OK) {
        return status;
    }
    for (uint32_t i = 0; i < program->classes; i++) {
        if (esv_logits(program, arena)[i] != esv_check_logits(program)[i]) {
            return ESV_CHECK_FAILED;
        }
    }
    return ESV_OK;
}
