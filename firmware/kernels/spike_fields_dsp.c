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

/* Fields of 4 bits of a row: all bits of a byte are summed, and those above the field once more. */
typedef struct {
    uint32_t all[2], above[2];
} fours;

static ESV_INLINE void add_four_row(const uint8_t *at, uint32_t mask, fours *f)
{
    uint32_t low = load_word(at), high = load_word(at + 4);
    f->all[0] = add_bytes(f->all[0], low);
    f->all[1] = add_bytes(f->all[1], high);
    f->above[0] += low >> 4 & mask;
    f->above[1] += high >> 4 & mask;
}

/* *to = *from + constant + the sums of fields, in halves. */
static ESV_INLINE void put_fours(const fours *f, uint32_t mask, uint32_t constant,
                                 const uint32_t *from, uint32_t *to)
{
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2; i++, from += 4, to += 4) {
        uint32_t low = less_bytes(f->all[i], (f->above[i] & mask) << 4);
        uint32_t a = add_even(from[0], low), b = add_odd(from[1], low);
        uint32_t c = add_even(from[2], f->above[i]), d = add_odd(from[3], f->above[i]);
        to[0] = add_halves(a, constant);
        to[1] = add_halves(b, constant);
        to[2] = add_halves(c, constant);
        to[3] = add_halves(d, constant);
        FORGET();
    }
}

#define MOST_FOURS 17 /* whose sum a byte holds */

/* Rows of 8 bytes: r0 is row 0, r1 is at the number of the next row, r3 at the row, r4 and r5 sum
 * all bits, r6 and r7 those above the field, r8 is the mask. 36 bytes of code a row. One number too
 * many is read: lists are never full. */
#define SEVENTEEN_ROWS                                                                             \
    ".rept 17\n"                                                                                   \
    "ldrd r9, r10, [r3]\n"                                                                         \
    "ldrh.w r2, [r1], #2\n"                                                                        \
    "uadd8 r4, r4, r9\n"                                                                           \
    "uadd8 r5, r5, r10\n"                                                                          \
    "and.w r9, r8, r9, lsr #4\n"                                                                   \
    "and.w r10, r8, r10, lsr #4\n"                                                                 \
    "add.w r6, r6, r9\n"                                                                           \
    "add.w r7, r7, r10\n"                                                                          \
    "add.w r3, r0, r2, lsl #3\n"                                                                   \
    ".endr\n"

/* *to = *from + constant + rows of words, at most MOST_FOURS. */
static ESV_INLINE void add_aligned_fours(const uint8_t *rows, const uint16_t *row, uint32_t count,
                                         uint32_t constant, const uint32_t *from, uint32_t *to)
{
    register const uint8_t *base __asm("r0") = rows;
    register const uint16_t *next __asm("r1") = row;
    register uint32_t skipped __asm("r3") = 36 * (MOST_FOURS - count); /* bytes of code */
    register uint32_t all_low __asm("r4") = 0, all_high __asm("r5") = 0;
    register uint32_t above_low __asm("r6") = 0, above_high __asm("r7") = 0;
    register uint32_t mask __asm("r8") = 0x0F0F0F0F;
    __asm volatile("adr.w r12, 1f\n"
                   "add r12, r12, r3\n"
                   "orr r12, r12, #1\n"
                   "ldrh r2, [r1], #2\n"
                   "add r3, r0, r2, lsl #3\n"
                   "bx r12\n"
                   ".p2align 2\n"
                   "1:\n"
                   SEVENTEEN_ROWS
                   : "+r"(next), "+r"(skipped), "+r"(all_low), "+r"(all_high), "+r"(above_low),
                     "+r"(above_high)
                   : "r"(base), "r"(mask)
                   : "r2", "r9", "r10", "r12", "memory");
    fours f = {{all_low, all_high}, {above_low, above_high}};
    put_fours(&f, mask, constant, from, to);
}

static ESV_INLINE void add_few_fours(const uint8_t *field, uint32_t row_bytes, const uint16_t *row,
                                     uint32_t count, uint32_t *pair)
{
    uint32_t mask = in_register(15);
    fours f = {{0, 0}, {0, 0}};
    for (const uint16_t *end = row + count; row < end;) {
        add_four_row(field + *row++ * row_bytes, mask, &f);
    }
    put_fours(&f, mask, 0, pair, pair);
}

/* The code of 0, count times, to be subtracted. */
static ESV_INLINE uint32_t zeros(uint32_t count, uint32_t bits)
{
    return BOTH((0u - (count << (bits - 1))) & 0xFFFFu);
}

static ESV_APART void add_fours(const uint8_t *field, uint32_t row_bytes, const uint16_t *row,
                                uint32_t count, sums *s)
{
    for (uint32_t n; count; count -= n, row += n) {
        n = count < MOST_FOURS ? count : MOST_FOURS;
        add_few_fours(field, row_bytes, row, n, s->pair);
    }
}

void esv_dsp_add_fours(const esv_tile *tile, const uint16_t *row, uint32_t count, const sums *from,
                       sums *to)
{
    uint32_t n;
    do {
        n = count < MOST_FOURS ? count : MOST_FOURS;
        add_aligned_fours(tile->rows, row, n, zeros(n, 4), from->pair, to->pair);
        row += n;
        from = to;
    } while (count -= n);
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
    uint32_t constant = zeros(count, bits);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < PAIRS; i++) {
        s->pair[i] = add_halves(s->pair[i], constant);
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
