/* Packed rows of fewer than 8 bits, summed field by field (spike_dsp.h, weights.h). */
#include "spike_dsp.h"

#ifdef ESV_DSP

static ESV_INLINE void add_unsigned(sums *s, const uint32_t *word)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++) {
        __asm("uxtab16 %0, %0, %1" : "+r"(s->pair[2 * i]) : "r"(word[i]));
        __asm("uxtab16 %0, %0, %1, ror #8" : "+r"(s->pair[2 * i + 1]) : "r"(word[i]));
    }
}

/* s += fields << shift: the codes of packed rows are summed field by field. */
static ESV_INLINE void add_fields(sums *s, const uint32_t *word, uint32_t shift)
{
    sums fields = {{0}};
    uint32_t high = 0xFFFFu << shift & 0xFFFFu;
    add_unsigned(&fields, word);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < PAIRS; i++) {
        uint32_t shifted = fields.pair[i] << shift & BOTH(high);
        __asm("sadd16 %0, %0, %1" : "+r"(s->pair[i]) : "r"(shifted));
    }
}

/* Bytes hold the sum of 17 fields of 4 bits, 85 of 2 and 255 of 1. */
static ESV_APART void add_4_bits(sums *s, const uint8_t *field, uint32_t row_bytes,
                                 const uint16_t *row, uint32_t count)
{
    const uint32_t mask = 0x0F0F0F0F;
    for (uint32_t n; count; count -= n) {
        uint32_t word[WORDS] = {0};
        n = count < 16 ? count : 16;
        for (const uint16_t *end = row + n; row < end;) {
            const uint8_t *at = field + *row++ * row_bytes;
            uint32_t low = load_word(at), high = load_word(at + 4);
            word[0] += low & mask;
            word[1] += low >> 4 & mask;
            word[2] += high & mask;
            word[3] += high >> 4 & mask;
        }
        add_unsigned(s, word);
    }
}

static ESV_APART void add_2_bits(sums *s, const uint8_t *field, uint32_t row_bytes, uint32_t shift,
                                 const uint16_t *row, uint32_t count)
{
    const uint32_t mask = 0x03030303;
    for (uint32_t n; count; count -= n) {
        uint32_t word[WORDS] = {0};
        n = count < 85 ? count : 85;
        for (const uint16_t *end = row + n; row < end;) {
            uint32_t all = load_word(field + *row++ * row_bytes);
            word[0] += all & mask;
            word[1] += all >> 2 & mask;
            word[2] += all >> 4 & mask;
            word[3] += all >> 6 & mask;
        }
        add_fields(s, word, shift);
    }
}

/* The low four bits, each to its byte. */
static ESV_INLINE uint32_t spread(uint32_t bits)
{
    return (bits & 15) * 0x00204081u & 0x01010101u;
}

static ESV_APART void add_1_bit(sums *s, const uint8_t *field, uint32_t row_bytes, uint32_t shift,
                                const uint16_t *row, uint32_t count)
{
    for (uint32_t n; count; count -= n) {
        uint32_t word[WORDS] = {0};
        n = count < 255 ? count : 255;
        for (const uint16_t *end = row + n; row < end;) {
            uint16_t all;
            memcpy(&all, field + *row++ * row_bytes, sizeof all);
            word[0] += spread(all);
            word[1] += spread(all >> 4);
            word[2] += spread(all >> 8);
            word[3] += spread(all >> 12);
        }
        add_fields(s, word, shift);
    }
}

/* The codes of packed rows less the code of 0, count times. */
void esv_dsp_add_packed(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s)
{
    const uint8_t *field = tile->rows;
    uint32_t shift = 0, zeros = BOTH(count << (tile->bits - 1) & 0xFFFFu);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < PAIRS; i++) {
        __asm("ssub16 %0, %0, %1" : "+r"(s->pair[i]) : "r"(zeros));
    }
    if (tile->bits & 4) {
        add_4_bits(s, field, tile->row_bytes, row, count);
        field += 8;
        shift = 4;
    }
    if (tile->bits & 2) {
        add_2_bits(s, field, tile->row_bytes, shift, row, count);
        field += 4;
        shift += 2;
    }
    if (tile->bits & 1) {
        add_1_bit(s, field, tile->row_bytes, shift, row, count);
    }
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
