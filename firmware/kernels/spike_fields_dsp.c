/* Packed rows of fewer than 8 bits, summed field by field (spike_dsp.h, weights.h). */
#include "spike_dsp.h"

#ifdef ESV_DSP

/* A byte four times, in a register: operands of which one is shifted take no constant. */
static ESV_INLINE uint32_t in_register(uint32_t byte)
{
    uint32_t mask = byte * 0x01010101u;
    __asm("" : "+r"(mask));
    return mask;
}

/* Sums stay in memory while rows are added: there are no registers to keep them in. */
#define FORGET() __asm volatile("" : : : "memory")

static ESV_INLINE uint32_t add_bytes(uint32_t a, uint32_t b)
{
    __asm("uadd8 %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}

static ESV_INLINE uint32_t less_bytes(uint32_t a, uint32_t b)
{
    __asm("usub8 %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}

/* Bytes 0 and 2 of a word, or 1 and 3, as halves that are added. */
static ESV_INLINE uint32_t add_even(uint32_t sum, uint32_t word)
{
    __asm("uxtab16 %0, %0, %1" : "+r"(sum) : "r"(word));
    return sum;
}

static ESV_INLINE uint32_t add_odd(uint32_t sum, uint32_t word)
{
    __asm("uxtab16 %0, %0, %1, ror #8" : "+r"(sum) : "r"(word));
    return sum;
}

static ESV_INLINE uint32_t even_of(uint32_t word)
{
    __asm("uxtb16 %0, %0" : "+r"(word));
    return word;
}

static ESV_INLINE uint32_t odd_of(uint32_t word)
{
    __asm("uxtb16 %0, %0, ror #8" : "+r"(word));
    return word;
}

static ESV_INLINE uint32_t add_halves(uint32_t a, uint32_t b)
{
    __asm("sadd16 %0, %0, %1" : "+r"(a) : "r"(b));
    return a;
}

/* In memory, and kept from being read long before. */
static ESV_INLINE void add_to(uint32_t *pair, uint32_t more)
{
    uint32_t sum;
    __asm volatile("ldr %0, %1\n"
                   "sadd16 %0, %0, %2\n"
                   "str %0, %1\n"
                   : "=&r"(sum), "+m"(*pair)
                   : "r"(more));
}

/* The sums of up to 17 fields of 4 bits, which a byte holds: all bits of a byte are summed, and
 * those above the field once more. */
static ESV_INLINE void add_few_fours(const uint8_t *field, uint32_t row_bytes, const uint16_t *row,
                                     const uint16_t *end, uint32_t *pair)
{
    uint32_t all[2] = {0, 0}, above[2] = {0, 0}, mask = in_register(15);
    while (row < end) {
        const uint8_t *at = field + *row++ * row_bytes;
        uint32_t low = load_word(at), high = load_word(at + 4);
        all[0] = add_bytes(all[0], low);
        all[1] = add_bytes(all[1], high);
        above[0] += low >> 4 & mask;
        above[1] += high >> 4 & mask;
    }
    FORGET();
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2; i++, pair += 4) {
        uint32_t low = less_bytes(all[i], (above[i] & mask) << 4);
        pair[0] = add_even(pair[0], low);
        pair[1] = add_odd(pair[1], low);
        pair[2] = add_even(pair[2], above[i]);
        pair[3] = add_odd(pair[3], above[i]);
    }
}

static ESV_APART void add_fours(const uint8_t *field, uint32_t row_bytes, const uint16_t *row,
                                uint32_t count, sums *s)
{
    for (uint32_t n; count; count -= n, row += n) {
        n = count < 17 ? count : 17;
        add_few_fours(field, row_bytes, row, row + n, s->pair);
    }
}

/* What stands above the 4 bits. Word i of twos: channels 4 i to 4 i + 3. Nibbles of ones: channels
 * 0, 4, 8, 12, 2, 6, 10 and 14, and those that follow each. */
typedef struct {
    uint32_t twos[WORDS], ones[2];
} high_fields;

static ESV_INLINE void add_two_bits(uint32_t word, uint32_t mask, high_fields *f)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++) {
        f->twos[i] += word >> 2 * i & mask;
    }
}

static ESV_INLINE void add_one_bit(uint32_t bits, uint32_t mask, high_fields *f)
{
    __asm("pkhbt %0, %0, %0, lsl #14" : "+r"(bits));
    f->ones[0] += bits & mask;
    f->ones[1] += bits >> 1 & mask;
}

/* s += fields << shift, for the even channels of the words of a row and for the odd ones. */
static ESV_INLINE void put_high(const high_fields *f, int has_twos, uint32_t shift, uint32_t *pair)
{
    uint32_t up = has_twos ? 2 : 0, mask = in_register(15u << up);
    FORGET();
#pragma GCC unroll 4
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t even = f->ones[0], odd = f->ones[1];
        even = (i % 2 ? even >> (4 - up) : even << up) & mask;
        odd = (i % 2 ? odd >> (4 - up) : odd << up) & mask;
        even = i < 2 ? even_of(even) : odd_of(even);
        odd = i < 2 ? even_of(odd) : odd_of(odd);
        even = has_twos ? add_even(even, f->twos[i]) : even;
        odd = has_twos ? add_odd(odd, f->twos[i]) : odd;
        add_to(&pair[2 * i], even << shift);
        add_to(&pair[2 * i + 1], odd << shift);
    }
}

static ESV_INLINE void add_high(const uint8_t *field, uint32_t row_bytes, const uint16_t *row,
                                uint32_t count, uint32_t bits, uint32_t shift, sums *s)
{
    const uint32_t most = bits & 1 ? 15 : 85, two = in_register(3), one = in_register(0x11);
    for (uint32_t n; count; count -= n) {
        high_fields f = {{0}, {0}};
        n = count < most ? count : most;
        for (const uint16_t *end = row + n; row < end;) {
            const uint8_t *at = field + *row++ * row_bytes;
            if (bits & 2) {
                add_two_bits(load_word(at), two, &f);
            }
            if (bits & 1) {
                uint16_t ones;
                memcpy(&ones, at + 2 * (bits & 2), sizeof ones);
                add_one_bit(ones, one, &f);
            }
        }
        put_high(&f, bits & 2, shift, s->pair);
    }
}

#define ADD_HIGH(bits)                                                                             \
    static ESV_APART void add_high_##bits(const uint8_t *field, uint32_t row_bytes,                \
                                          const uint16_t *row, uint32_t count, uint32_t shift,     \
                                          sums *s)                                                 \
    {                                                                                              \
        add_high(field, row_bytes, row, count, bits, shift, s);                                    \
    }
ADD_HIGH(1)
ADD_HIGH(2)
ADD_HIGH(3)

/* The codes of packed rows less the code of 0, count times. */
void esv_dsp_add_packed(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s)
{
    const uint8_t *field = tile->rows;
    uint32_t bits = tile->bits, shift = bits & 4, row_bytes = 2 * bits;
    uint32_t zeros = BOTH((0u - (count << (bits - 1))) & 0xFFFFu);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < PAIRS; i++) {
        s->pair[i] = add_halves(s->pair[i], zeros);
    }
    if (shift) {
        add_fours(field, row_bytes, row, count, s);
        field += 8;
    }
    if (bits & 3) {
        static void (*const high[])(const uint8_t *, uint32_t, const uint16_t *, uint32_t, uint32_t,
                                    sums *) = {add_high_1, add_high_2, add_high_3};
        high[(bits & 3) - 1](field, row_bytes, row, count, shift, s);
    }
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
