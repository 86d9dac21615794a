#include "esv_siblings.h"

#include "esv_format.h"

/* A stretch of the arena. */
typedef struct {
    uint64_t at, bytes;
} stretch;

static int apart(stretch a, stretch b)
{
    return a.at + a.bytes <= b.at || b.at + b.bytes <= a.at;
}

static stretch output_of(const esv_program *program, const esv_header *h, const esv_op *op)
{
    esv_value out = esv_read_value(program->file, h, op->output);
    stretch s = {out.arena_offset, esv_value_bytes(&out, h->time_steps)};
    return s;
}

static int sorts(const esv_program *program, const esv_header *h, const esv_op *op)
{
    return op->code == ESV_SPIKE_CONV && op->source[1] == ESV_NONE &&
           esv_read_value(program->file, h, op->source[0]).kind != ESV_MEMBRANE;
}

static int same_window(const esv_op *a, const esv_op *b)
{
    return a->source[0] == b->source[0] && a->kernel == b->kernel && a->stride == b->stride &&
           a->pad == b->pad && a->pool == b->pool && a->pool_stride == b->pool_stride;
}

uint32_t esv_siblings(const esv_program *program, uint32_t index)
{
    esv_header h = esv_read_header(program->file);
    esv_op first = esv_read_op(program->file, &h, index);
    stretch taken[ESV_MOST_SIBLINGS + 1] = {{first.scratch_at, first.scratch_bytes},
                                            output_of(program, &h, &first)};
    uint32_t n = 1;
    if (!sorts(program, &h, &first)) {
        return 1;
    }
    for (; n < ESV_MOST_SIBLINGS && index + n < program->operators; n++) {
        esv_op op = esv_read_op(program->file, &h, index + n);
        if (!sorts(program, &h, &op) || !same_window(&first, &op)) {
            break;
        }
        stretch out = output_of(program, &h, &op);
        for (uint32_t i = 0; i <= n; i++) {
            if (!apart(out, taken[i])) {
                return n;
            }
        }
        taken[n + 1] = out;
    }
    return n;
}
