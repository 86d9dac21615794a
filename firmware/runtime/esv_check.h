/* Shared by the loader's two halves: esv_load.c proves the file's frame, esv_check.c each operator. */
#ifndef ESV_CHECK_H
#define ESV_CHECK_H

#include "esv_format.h"

typedef struct {
    const uint8_t *file;
    esv_header header;
    esv_op op; /* the operator last looked at, with its tensors */
    esv_value in[3], out;
} esv_context;

/* `bytes` bytes at `at` lie inside the file, on an `align` boundary. */
static inline int esv_in_file(const esv_context *c, uint32_t at, uint64_t bytes, uint32_t align)
{
    return at % align == 0 && (uint64_t)at + bytes <= c->header.file_bytes;
}

/* Whether operator `index` can run: its kinds, shapes, constants and places fit together. */
int esv_check_op(esv_context *c, uint32_t index);

#endif
