/* The loader: nothing runs before everything here and in esv_check.c has been proved, so that the
 * kernels may trust their arguments. */
#include "esv_check.h"
#include "esv_runtime.h"

static uint32_t most_level(const esv_value *v)
{
    return v->kind == ESV_INDEX ? 65534 : v->kind == ESV_MEMBRANE ? 32767 : 255;
}

static int check_value(const esv_context *c, const esv_value *v)
{
    uint64_t bytes = esv_value_bytes(v, c->header.time_steps);
    return v->kind <= ESV_INDEX && v->height && v->width && v->channels && v->max_level &&
           v->max_level <= most_level(v) &&
           (v->kind != ESV_PIXELS || v->max_level == 255) &&
           (v->kind != ESV_SPIKES || v->max_level == 1) &&
           v->arena_offset % ESV_ALIGN == 0 && v->arena_offset + bytes <= c->header.arena_bytes;
}

static esv_status check_header(esv_context *c, uint32_t file_bytes)
{
    if (file_bytes < ESV_HEADER_BYTES) {
        return ESV_TRUNCATED;
    }
    if (c->file[0] != 'E' || c->file[1] != 'S' || c->file[2] != 'V' || c->file[3] != 'P') {
        return ESV_NOT_A_PROGRAM;
    }
    if ((uintptr_t)c->file % ESV_ALIGN) {
        return ESV_MISALIGNED;
    }
    esv_header *h = &c->header;
    *h = esv_read_header(c->file);
    if (h->version != ESV_FORMAT_VERSION) {
        return ESV_VERSION;
    }
    if (h->file_bytes > file_bytes || h->file_bytes < ESV_HEADER_BYTES) {
        return ESV_TRUNCATED;
    }
    if (esv_crc32(c->file + ESV_CRC_FROM, h->file_bytes - ESV_CRC_FROM) != h->crc) {
        return ESV_CORRUPTED;
    }
    if (h->time_steps < 1 || h->time_steps > 8 || !h->values || !h->ops ||
        h->input >= h->values || h->output >= h->values ||
        !esv_in_file(c, h->values_at, (uint64_t)h->values * ESV_VALUE_BYTES, 1) ||
        !esv_in_file(c, h->ops_at, (uint64_t)h->ops * ESV_OP_BYTES, 1)) {
        return ESV_BAD_HEADER;
    }
    return ESV_OK;
}

/* Only the last operator writes the output, and the check vector lies inside the file. */
static esv_status check_ends(const esv_context *c)
{
    esv_value in = esv_read_value(c->file, &c->header, c->header.input);
    esv_value out = esv_read_value(c->file, &c->header, c->header.output);
    int has_check = c->header.check_input_at != 0;
    if ((in.kind != ESV_PIXELS && in.kind != ESV_LEVELS) || out.kind != ESV_LOGITS ||
        c->op.output != c->header.output) {
        return ESV_BAD_HEADER;
    }
    if (has_check && (!esv_in_file(c, c->header.check_input_at,
                               esv_value_bytes(&in, c->header.time_steps), 1) ||
                      !esv_in_file(c, c->header.check_logits_at, 4u * out.channels, 4))) {
        return ESV_BAD_HEADER;
    }
    return ESV_OK;
}

esv_status esv_open(esv_program *program, const void *file, uint32_t file_bytes)
{
    esv_context c = {.file = file};
    esv_status status = check_header(&c, file_bytes);
    if (status != ESV_OK) {
        return status;
    }
    for (uint32_t i = 0; i < c.header.values; i++) {
        esv_value v = esv_read_value(c.file, &c.header, i);
        if (!check_value(&c, &v)) {
            return ESV_BAD_VALUE;
        }
    }
    for (uint32_t i = 0; i < c.header.ops; i++) {
        if (!esv_check_op(&c, i)) {
            return ESV_BAD_OPERATOR;
        }
    }
    status = check_ends(&c);
    if (status != ESV_OK) {
        return status;
    }
    esv_value in = esv_read_value(c.file, &c.header, c.header.input);
    esv_value out = esv_read_value(c.file, &c.header, c.header.output);
    *program = (esv_program){
        .file = c.file, .file_bytes = c.header.file_bytes, .crc = c.header.crc,
        .arena_bytes = c.header.arena_bytes,
        .input_bytes = (uint32_t)esv_value_bytes(&in, c.header.time_steps),
        .classes = out.channels, .operators = c.header.ops, .time_steps = c.header.time_steps,
    };
    return ESV_OK;
}

const char *esv_status_text(esv_status status)
{
    static const char *const text[] = {
        "ok", "truncated", "not a spike program", "unknown format version", "checksum differs",
        "not on a 16-byte boundary", "impossible header", "impossible value",
        "impossible operator", "self-check failed",
    };
    return (uint32_t)status < sizeof text / sizeof *text ? text[status] : "unknown status";
}
