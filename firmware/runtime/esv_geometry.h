/* From file records to the kernels' arguments; shared by the loader's checks and the run. */
#ifndef ESV_GEOMETRY_H
#define ESV_GEOMETRY_H

#include "esv_format.h"
#include "esv_kernels.h"
#include "esv_runtime.h"

/* The constants of an operator and where its output goes, or NULL. */
esv_conv esv_conv_of(const esv_program *program, const esv_op *op, const esv_value *out,
                     void *target, const void *stream);

static inline esv_window esv_window_of(const esv_op *op, const esv_value *in, const esv_value *out,
                                       uint8_t time_steps)
{
    esv_window w = {
        .height = in->height, .width = in->width, .channels = in->channels,
        .out_height = out->height, .out_width = out->width, .out_channels = out->channels,
        .kernel = op->kernel, .stride = op->stride, .pad = op->pad,
        .time_steps = time_steps, .max_level = in->max_level, .pool = op->pool, .pool_stride = op->pool_stride,
    };
    return w;
}

static inline esv_attention esv_attention_of(const esv_op *op, const esv_value *query,
                                             const esv_value *value, const esv_value *out,
                                             uint8_t time_steps)
{
    esv_attention a = {
        .tokens = (uint16_t)(query->height * query->width), .heads = op->heads,
        .query_dim = (uint16_t)(query->channels / op->heads),
        .value_dim = (uint16_t)(value->channels / op->heads), .time_steps = time_steps,
        .shift = op->shift, .threshold = op->threshold,
        .levels = out->kind == ESV_LEVELS ? (uint8_t)out->max_level : 0,
    };
    return a;
}

#endif
