/* What the kernels trust an operator for. Offsets come from the file, so every sum of them is made in
 * 64 bits. */
#include "esv_check.h"

#include "esv_geometry.h"
#include "weights.h"

static int small(const esv_context *c, uint32_t at, uint32_t count)
{
    const int32_t *constant = (const int32_t *)(const void *)(c->file + at);
    for (uint32_t i = 0; i < count; i++) {
        if (constant[i] <= -ESV_SUM_LIMIT || constant[i] >= ESV_SUM_LIMIT) {
            return 0;
        }
    }
    return 1;
}

static int disjoint(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a + a_bytes <= b || b + b_bytes <= a;
}

static int is_conv(const esv_op *op)
{
    return op->code == ESV_ENCODE_CONV || op->code == ESV_SPIKE_CONV ||
           op->code == ESV_DEPTHWISE_CONV;
}

/* The source that the operator adds to number by number: it may write there. */
static int adds_to(const esv_context *c, uint32_t i)
{
    return (c->op.code == ESV_ADD && i == 0 && c->in[i].kind == ESV_LEVELS) ||
           (c->op.code == ESV_PUT_BACK && i == 0) || (is_conv(&c->op) && i == 1);
}

/* Output, scratch and inputs share no byte; only what is added to may lie where the output is. */
static int check_places(const esv_context *c, uint32_t sources)
{
    const esv_op *op = &c->op;
    uint8_t steps = c->header.time_steps;
    uint64_t out_bytes = esv_value_bytes(&c->out, steps);
    if (op->scratch_at % ESV_ALIGN || (uint64_t)op->scratch_at + op->scratch_bytes >
                                          c->header.arena_bytes ||
        !disjoint(op->scratch_at, op->scratch_bytes, c->out.arena_offset, out_bytes)) {
        return 0;
    }
    for (uint32_t i = 0; i < sources; i++) {
        const esv_value *in = &c->in[i];
        uint64_t bytes = esv_value_bytes(in, steps);
        int in_place = adds_to(c, i) && in->arena_offset == c->out.arena_offset;
        if (!disjoint(op->scratch_at, op->scratch_bytes, in->arena_offset, bytes) ||
            (!in_place && !disjoint(in->arena_offset, bytes, c->out.arena_offset, out_bytes))) {
            return 0;
        }
    }
    return 1;
}

/* Whether `size` gives `out` along one axis, pooling included. */
static int window_size(uint32_t size, const esv_op *op, uint32_t out)
{
    if (size + 2u * op->pad < op->kernel) {
        return 0;
    }
    size = (size + 2u * op->pad - op->kernel) / op->stride + 1;
    if (op->pool) {
        size = (size + 2u * (op->pool / 2u) - op->pool) / op->pool_stride + 1;
    }
    return size == out;
}

static int check_window(const esv_context *c)
{
    const esv_op *op = &c->op;
    return op->kernel >= 1 && op->kernel <= 16 && op->stride >= 1 && op->stride <= 16 &&
           op->pad < op->kernel && op->pool <= 16 &&
           (!op->pool || (op->pool_stride >= 1 && op->pool_stride <= 16)) &&
           window_size(c->in[0].height, op, c->out.height) &&
           window_size(c->in[0].width, op, c->out.width);
}

static int same_shape(const esv_value *a, const esv_value *b)
{
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

static int check_neuron(const esv_context *c)
{
    uint32_t rows = c->out.kind == ESV_LEVELS ? c->out.max_level : 1;
    return (c->out.kind == ESV_SPIKES || c->out.kind == ESV_LEVELS) &&
           esv_in_file(c, c->op.threshold_at, 4ull * rows * c->out.channels, 4) &&
           small(c, c->op.threshold_at, rows * c->out.channels);
}

/* Rescaled currents go to a membrane, and a stream is one of its shape. */
static int check_membrane(const esv_context *c)
{
    const esv_op *op = &c->op;
    if (op->shift < 1 || op->shift > 62 || !esv_in_file(c, op->threshold_at, 4u * c->out.channels, 4) ||
        (op->source[1] != ESV_NONE &&
         (c->in[1].kind != ESV_MEMBRANE || !same_shape(&c->in[1], &c->out)))) {
        return 0;
    }
    const int32_t *scale = (const int32_t *)(const void *)(c->file + op->threshold_at);
    for (uint32_t i = 0; i < c->out.channels; i++) {
        if (scale[i] < 0) {
            return 0;
        }
    }
    return 1;
}

/* Packed weights of `rows` inputs and their biases. */
static int check_weights(const esv_context *c, uint64_t rows)
{
    const esv_op *op = &c->op;
    uint32_t channels = c->out.channels, whole = channels / ESV_LANES, rest = channels % ESV_LANES;
    if (op->bits < 2 || op->bits > 8) {
        return 0;
    }
    uint64_t bytes = rows * ((uint64_t)whole * esv_row_bytes(op->bits, ESV_LANES) +
                             (rest ? esv_row_bytes(op->bits, rest) : 0));
    return esv_in_file(c, op->weight_at, bytes, 1) && esv_in_file(c, op->bias_at, 4u * channels, 4);
}

/* `inputs` channels of the input reach a neuron. */
static int check_conv(const esv_context *c, uint32_t inputs, uint32_t extra_bytes)
{
    const esv_op *op = &c->op;
    uint64_t taps = (uint64_t)op->kernel * op->kernel * inputs;
    uint32_t channels = c->out.channels;
    return check_window(c) && taps <= ESV_MOST_ROWS &&
           taps * 128 * c->in[0].max_level < ESV_SUM_LIMIT && check_weights(c, taps) &&
           esv_in_file(c, op->extra_at, extra_bytes, 1) && small(c, op->bias_at, channels) &&
           (c->out.kind == ESV_MEMBRANE ? check_membrane(c)
                                        : op->source[1] == ESV_NONE && check_neuron(c));
}

/* What gathers spikes, levels or membranes. */
static int is_signal(const esv_value *v)
{
    return v->kind == ESV_SPIKES || v->kind == ESV_LEVELS || v->kind == ESV_MEMBRANE;
}

static int check_spike_conv(const esv_context *c)
{
    const esv_op *op = &c->op;
    const esv_value *in = &c->in[0];
    if (!is_signal(in) || !check_conv(c, in->channels, (c->out.channels + 7u) / 8u)) {
        return 0;
    }
    if (in->kind == ESV_MEMBRANE) {
        return op->kernel == 1 && op->stride == 1 && !op->pad && !op->pool;
    }
    esv_window w = esv_window_of(op, in, &c->out, c->header.time_steps);
    return op->scratch_bytes >=
           esv_spike_conv_scratch(&w, in->kind == ESV_LEVELS);
}

static int check_fire(const esv_context *c)
{
    const esv_value *in = &c->in[0], *out = &c->out;
    uint64_t summed = c->op.kernel ? (uint64_t)in->height * in->width : 1;
    int shapes = c->op.kernel ? out->height == 1 && out->width == 1 &&
                                    out->channels == in->channels
                              : same_shape(in, out);
    return in->kind == ESV_MEMBRANE && c->op.kernel <= 1 && shapes &&
           summed * in->max_level < ESV_SUM_LIMIT && check_neuron(c);
}

static int check_add(const esv_context *c)
{
    const esv_value *in = &c->in[0];
    return (in->kind == ESV_SPIKES || in->kind == ESV_LEVELS) && c->in[1].kind == ESV_SPIKES &&
           c->out.kind == ESV_LEVELS && same_shape(in, &c->in[1]) && same_shape(in, &c->out) &&
           c->out.max_level == in->max_level + 1;
}

static int small_threshold(const esv_op *op)
{
    return op->threshold > -ESV_SUM_LIMIT && op->threshold < ESV_SUM_LIMIT;
}

static int check_attention(const esv_context *c)
{
    const esv_op *op = &c->op;
    const esv_value *query = &c->in[0], *key = &c->in[1], *value = &c->in[2];
    uint64_t tokens = (uint64_t)query->height * query->width;
    if ((query->kind != ESV_SPIKES && query->kind != ESV_LEVELS) || key->kind != query->kind ||
        value->kind != query->kind || c->out.kind != query->kind || !same_shape(query, key) ||
        !same_shape(value, &c->out) || query->height != value->height ||
        query->width != value->width || !op->heads || query->channels % op->heads ||
        value->channels % op->heads || op->shift > 16 || !small_threshold(op)) {
        return 0;
    }
    /* In 64 bits before the kernel's own 32-bit formulas may be trusted. */
    uint64_t largest = tokens * key->max_level * value->max_level;
    uint64_t counts = 2ull * c->header.time_steps * (query->channels / op->heads) *
                      (value->channels / op->heads);
    return largest <= 65535 && op->scratch_bytes >= counts &&
           (largest * query->max_level * (query->channels / op->heads)) << op->shift <
               ESV_SUM_LIMIT &&
           (query->kind == ESV_SPIKES ||
            (esv_in_file(c, op->threshold_at, 4u * c->out.max_level, 4) &&
             small(c, op->threshold_at, c->out.max_level)));
}

static int check_hadamard_attention(const esv_context *c)
{
    const esv_value *out = &c->out;
    for (uint32_t i = 0; i < 3; i++) {
        if (c->in[i].kind != ESV_SPIKES || !same_shape(&c->in[i], out)) {
            return 0;
        }
    }
    return out->kind == ESV_SPIKES && (uint64_t)out->height * out->width <= 65535 &&
           c->op.shift <= 12 && small_threshold(&c->op) &&
           (!c->op.heads || out->channels % c->op.heads == 0);
}

static int check_token_attention(const esv_context *c)
{
    const esv_op *op = &c->op;
    const esv_value *query = &c->in[0];
    return query->kind == ESV_SPIKES && c->in[1].kind == ESV_SPIKES &&
           c->out.kind == ESV_SPIKES && same_shape(query, &c->in[1]) &&
           same_shape(query, &c->out) && op->heads && query->channels % op->heads == 0 &&
           (uint32_t)query->height * query->width <= 65535 && op->shift <= 12 &&
           small_threshold(op);
}

static int check_classify(const esv_context *c)
{
    const esv_value *in = &c->in[0];
    /* 8 steps of level 255, whatever the value declares: a channel sum fits int32. */
    uint64_t largest = (uint64_t)in->height * in->width * 8 *
                       (in->kind == ESV_MEMBRANE ? 32768 : 255);
    return is_signal(in) && c->out.kind == ESV_LOGITS && c->op.shift <= 31 &&
           (c->op.source[1] == ESV_NONE ||
            (c->in[1].kind == ESV_LOGITS && same_shape(&c->in[1], &c->out))) &&
           c->out.height == 1 && c->out.width == 1 && largest < ESV_SUM_LIMIT &&
           check_weights(c, in->channels) &&
           c->op.scratch_bytes >= 4u * in->channels;
}

/* The scores' constants and sums, trusting no declared max_level. */
static int check_scores(const esv_context *c)
{
    const esv_op *op = &c->op;
    const esv_value *in = &c->in[0];
    uint64_t highest = in->kind == ESV_MEMBRANE ? 32768 : in->kind == ESV_LEVELS ? 255 : 1;
    uint64_t largest = 8ull * op->kernel * op->kernel * highest;
    const int32_t *scale = (const int32_t *)(const void *)(c->file + op->threshold_at);
    if (op->kernel > 15 || op->kernel % 2 == 0 || op->stride > 15 || op->pad > 15 ||
        op->stride + op->pad == 0 || largest * largest >= (1ull << 62) / in->channels ||
        16 * highest * in->channels >= 1ull << 32) {
        return 0;
    }
    if (in->kind == ESV_MEMBRANE && !esv_in_file(c, op->threshold_at, 4u * in->channels, 4)) {
        return 0;
    }
    for (uint32_t i = 0; in->kind == ESV_MEMBRANE && i < in->channels; i++) {
        if (scale[i] < 0 || scale[i] > 32767) {
            return 0;
        }
    }
    return 1;
}

static int check_choice(const esv_context *c)
{
    const esv_value *in = &c->in[0], *out = &c->out;
    uint32_t tokens = (uint32_t)in->height * in->width;
    return is_signal(in) && tokens >= 2 && tokens <= 65535 && out->kind == ESV_INDEX &&
           out->max_level == tokens - 1 && out->height == 1 && out->channels == 1 &&
           out->width < tokens && check_scores(c) &&
           c->op.scratch_bytes >=
               esv_choose_scratch(in->height, in->width, in->channels, c->op.kernel);
}

/* A gathering writes the few tokens, a putting back reads them. */
static int check_moved(const esv_context *c)
{
    const esv_value *in = &c->in[0], *index = &c->in[1];
    int puts = c->op.code == ESV_PUT_BACK;
    const esv_value *few = puts ? &c->in[2] : &c->out;
    return is_signal(in) && index->kind == ESV_INDEX && few->kind == in->kind &&
           c->out.kind == in->kind && few->height == 1 && few->width == index->width &&
           index->height == 1 && index->channels == 1 && few->channels == in->channels &&
           (!puts || same_shape(in, &c->out)) &&
           index->max_level < (uint32_t)in->height * in->width;
}

/* How many sources the operator has; the second one of a convolution or a classifier is the stream,
 * if there is one. */
static uint32_t sources(const esv_op *op)
{
    static const uint8_t count[] = {1, 1, 1, 2, 3, 1, 2, 1, 1, 3, 1, 2, 3}; /* by enum esv_code */
    int streamed = is_conv(op) || op->code == ESV_CLASSIFY;
    return streamed && op->source[1] != ESV_NONE ? 2 : count[op->code];
}

int esv_check_op(esv_context *c, uint32_t index)
{
    esv_op *op = &c->op;
    *op = esv_read_op(c->file, &c->header, index);
    if (op->code > ESV_PUT_BACK || op->output >= c->header.values) {
        return 0;
    }
    for (uint32_t i = 0; i < sources(op); i++) {
        if (op->source[i] >= c->header.values) {
            return 0;
        }
        c->in[i] = esv_read_value(c->file, &c->header, op->source[i]);
    }
    c->out = esv_read_value(c->file, &c->header, op->output);
    if (!check_places(c, sources(op))) {
        return 0;
    }
    switch (op->code) {
    case ESV_ENCODE_CONV:
        return c->in[0].kind == ESV_PIXELS &&
               check_conv(c, c->in[0].channels, c->in[0].channels);
    case ESV_SPIKE_CONV:
        return check_spike_conv(c);
    case ESV_MAX_POOL:
        return c->in[0].kind == ESV_SPIKES && c->out.kind == ESV_SPIKES && !op->pool &&
               check_window(c) && c->in[0].channels == c->out.channels;
    case ESV_ADD:
        return check_add(c);
    case ESV_SELF_ATTENTION:
        return check_attention(c);
    case ESV_TOKEN_ATTENTION:
        return check_token_attention(c);
    case ESV_DEPTHWISE_CONV:
        return is_signal(&c->in[0]) && c->in[0].channels == c->out.channels && !op->pool &&
               check_conv(c, 1, 0);
    case ESV_FIRE:
        return check_fire(c);
    case ESV_HADAMARD_ATTENTION:
        return check_hadamard_attention(c);
    case ESV_CHOOSE_TOKENS:
        return check_choice(c);
    case ESV_GATHER:
    case ESV_PUT_BACK:
        return check_moved(c);
    default:
        return check_classify(c);
    }
}
