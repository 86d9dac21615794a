#include "weights.h"

/* The unsigned code of channel c in a packed row of fewer than 8 bits. */
static uint32_t packed_code(const uint8_t *row, uint32_t bits, uint32_t c)
{
    uint32_t code = 0, at = 0;
    if (bits & 4) {
        code = row[c / 8 * 4 + c % 4] >> (c / 4 % 2 * 4) & 15u;
        row += 8;
        at = 4;
    }
    if (bits & 2) {
        code |= (row[c % 4] >> (c / 4 * 2) & 3u) << at;
        row += 4;
        at += 2;
    }
    return bits & 1 ? code | (row[c / 8] >> (c % 8) & 1u) << at : code;
}

void esv_unpack_row(const uint8_t *row, uint32_t bits, int8_t *unpacked)
{
    for (uint32_t c = 0; c < ESV_LANES; c++) {
        unpacked[c] = (int8_t)((int32_t)packed_code(row, bits, c) - (1 << (bits - 1)));
    }
}
