/* Vectors of 16 bytes, as compilers know them on processors that have them. */
#ifndef ESV_BYTES16_H
#define ESV_BYTES16_H

#if defined __aarch64__ || defined __SSE2__
#define ESV_BYTES16
#include <stdint.h>
#include <string.h>

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint16_t halves8 __attribute__((vector_size(16)));

static inline bytes16 load16(const uint8_t *from)
{
    bytes16 all;
    memcpy(&all, from, sizeof all);
    return all;
}
#endif

#endif
