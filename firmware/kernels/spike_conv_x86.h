/* What the AVX2 and AVX-512 kernels of the spiking convolution share.
 *
 * A weight w of b bits is expanded to the byte 2^(b - 1) - 1 - w, between 0 and 2^b - 1, and a row
 * is added as it lies in memory: as words of 16 bits, low + 256 * high, with an even channel in the
 * low half and an odd one in the high half. Two sums over rows, modulo 2^16, keep both apart:
 *   pair = sum of the words       high = sum of the words >> 8
 *   even = pair - 256 * high      odd = high
 * so a row of int8 costs one addition more than a row of int16 would, and half its memory traffic.
 * With 7 bits or less two words are added first: no half can carry.
 *
 * The sign is turned because the neuron then is one instruction. With n(x) = 32767 - x, which takes
 * int16 to 0..65535, the average of unsigned words that rounds up, avg(a, b) = (a + b + 1) >> 1,
 * gives avg(n(v), n(c)) = (65535 - (v + c)) >> 1 = 32767 - ((v + c) >> 1) = n((v + c) >> 1):
 * 65535 is odd, so that what is rounded down here was rounded down there. The sum has 17 bits, as
 * in esv_lif16. And v >= threshold is n(v) <= n(threshold), unsigned.
 */
#ifndef ESV_SPIKE_CONV_X86_H
#define ESV_SPIKE_CONV_X86_H

#include "spike_conv.h"

#define ESV_TURN 0x7FFF /* n(x) = ESV_TURN ^ x = ESV_TURN - x */

/* What a weight of 0 expands to: `rows` rows have that often too much in their sum. */
static inline uint32_t esv_x86_zero(uint32_t bits)
{
    return (1u << (bits - 1)) - 1;
}

/* Both variants' `expand`, and `sort` of each of them. */
void esv_x86_expand(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes, void *out,
                    uint32_t row_bytes);
void esv_avx2_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                   int dissolve, esv_lists *lists, void *scratch);
void esv_avx512_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                     int dissolve, esv_lists *lists, void *scratch);

/* Their sort_bytes. */
#define ESV_AVX2_SORT_BYTES (2 * (ESV_LISTS - 1)) /* each list has room for all inputs */
#define ESV_AVX512_SORT_BYTES 4

#endif
