/* Packed rows of fewer than 8 bits, summed field by field, and rows of 8 bits (spike_mve.h,
 * weights.h).
 */
#include "spike_mve.h"

#ifdef ESV_MVE

/* Rows of `width` int8, aligned to nothing. */
static ESV_APART void add_narrow(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s)
{
    uint32_t width = tile->width;
    const int8_t *rows = tile->rows;
    mve_pred16_t low = vctp16q(width), high = vctp16q(width > HALF ? width - HALF : 0);
    int16x8_t s0 = s->v[0], s1 = s->v[1];
    for (; count && width == HALF; count--) {
        s0 = vaddq_s16(s0, vldrbq_s16(rows + *row++ * HALF));
    }
    for (; count; count--) {
        const int8_t *at = rows + *row++ * width;
        s0 = vaddq_s16(s0, vldrbq_z_s16(at, low));
        s1 = vaddq_s16(s1, vldrbq_z_s16(at + HALF, high));
    }
    s->v[0] = s0;
    s->v[1] = s1;
}

static ESV_APART void add_whole(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s)
{
    cursor c;
    c.rows = tile->rows;
    c.more = c.rows + tile->tile_bytes;
    c.row = row + 1;
    c.at = (uint32_t)c.rows + *row * ESV_LANES;
    c.at_more = (uint32_t)c.more + *row * ESV_LANES;
    if (tile->width > ESV_LANES) {
        add_in_two(s, &c, count);
    } else {
        add_in_one(s, &c, count);
    }
}

/* The sums of one tile while its rows are added, field by field. Codes of 4 bits are summed
 * together with what stands above them, which is summed once more; so are those of 2 bits, whose
 * bytes hold channels 0 to 3 in four shifts. The 1-bit codes of a row are a predicate of 16
 * bytes. */
typedef struct {
    uint16x8_t all, above;
    uint8x16_t twos, ones;
} fields;

static ESV_INLINE uint32_t load_word(const uint8_t *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

static ESV_INLINE uint16_t load_half(const uint8_t *from)
{
    uint16_t half;
    memcpy(&half, from, sizeof half);
    return half;
}

static ESV_INLINE void add_row(const uint8_t *at, uint32_t bits, int8x16_t shifts, fields *f)
{
    if (bits & 4) {
        uint16x8_t codes = vldrbq_u16(at);
        f->all = vaddq_u16(f->all, codes);
        f->above = vaddq_u16(f->above, vshrq_n_u16(codes, 4));
    }
    if (bits & 2) {
        uint32x4_t codes = vdupq_n_u32(load_word(at + (bits & 4) * 2));
        f->twos = vaddq_u8(f->twos, vshlq_u8(vreinterpretq_u8_u32(codes), shifts));
    }
    if (bits & 1) {
        f->ones = vaddq_m_n_u8(f->ones, f->ones, 1, load_half(at + bits * 2 - 2));
    }
}

/* s (2 vectors) += bytes << shift. */
static ESV_INLINE void add_bytes(uint8x16_t bytes, int shift, int16x8_t *s)
{
    uint8_t channel[ESV_LANES];
    vst1q_u8(channel, bytes);
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2; i++) {
        uint16x8_t some = vldrbq_u16(channel + HALF * i);
        some = shift ? vshlq_n_u16(some, shift) : some;
        s[i] = vaddq_s16(s[i], vreinterpretq_s16_u16(some));
    }
}

/* The upper half of one and the lower half of the other change places. */
static ESV_INLINE void swap_inner(uint16x8_t *one, uint16x8_t *other)
{
    uint32_t a, b, c, d;
    __asm("vmov %[a], %[b], %f[one]\n"
          "vmov %[c], %[d], %e[other]\n"
          "vmov %f[one], %[c], %[d]\n"
          "vmov %e[other], %[a], %[b]\n"
          : [one] "+w"(*one), [other] "+w"(*other), [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c),
            [d] "=&r"(d));
}

/* The low fields are channels 0 to 3 and 8 to 11, those above 4 to 7 and 12 to 15. */
static ESV_INLINE void add_fours(const fields *f, int16x8_t *s)
{
    uint16x8_t low = vsubq_u16(f->all, vshlq_n_u16(f->above, 4)), high = f->above;
    swap_inner(&low, &high);
    s[0] = vaddq_s16(s[0], vreinterpretq_s16_u16(low));
    s[1] = vaddq_s16(s[1], vreinterpretq_s16_u16(high));
}

/* Shift number i holds fields i and above: less four times the next, it is field i. */
static ESV_INLINE uint8x16_t only_twos(uint8x16_t all)
{
    uint8_t bytes[ESV_LANES + 4];
    vst1q_u8(bytes, all);
    memset(bytes + ESV_LANES, 0, 4);
    return vsubq_u8(all, vshlq_n_u8(vld1q_u8(bytes + 4), 2));
}

/* What stands above the 4 bits, in bytes. */
static ESV_INLINE void add_high(const fields *f, uint32_t bits, int16x8_t *s)
{
    uint8x16_t sum = f->ones;
    if (bits & 2) {
        sum = bits & 1 ? vshlq_n_u8(sum, 2) : sum;
        sum = vaddq_u8(sum, only_twos(f->twos));
    }
    if (bits & 3) {
        add_bytes(sum, bits & 4, s);
    }
}

/* s (2 vectors) += the codes of one tile's packed rows, as many as bytes hold. */
static ESV_INLINE void add_chunk(const uint8_t *rows, uint32_t bits, const uint16_t *row,
                                 uint32_t count, int16x8_t *s)
{
    static const int8_t shift[ESV_LANES] = {0,  0,  0,  0,  -2, -2, -2, -2,
                                            -4, -4, -4, -4, -6, -6, -6, -6};
    int8x16_t shifts = vld1q_s8(shift);
    fields f = {vdupq_n_u16(0), vdupq_n_u16(0), vdupq_n_u8(0), vdupq_n_u8(0)};
    for (; count; count--) {
        add_row(rows + *row++ * (2 * bits), bits, shifts, &f);
    }
    if (bits & 4) {
        add_fours(&f, s);
    }
    add_high(&f, bits, s);
}

/* The codes of one tile's packed rows less the code of 0, count times. */
static ESV_INLINE void add_codes(const uint8_t *rows, uint32_t bits, const uint16_t *row,
                                 uint32_t count, int16x8_t *s)
{
    const uint32_t most = bits == 4 ? UINT16_MAX : bits & 2 ? bits & 1 ? 36 : 85 : 255;
    int16_t zeros = (int16_t)(0u - (count << (bits - 1)));
    int16x8_t sum[2] = {vaddq_n_s16(s[0], zeros), vaddq_n_s16(s[1], zeros)};
    for (; count > most; count -= most, row += most) {
        add_chunk(rows, bits, row, most, sum);
    }
    add_chunk(rows, bits, row, count, sum);
    s[0] = sum[0];
    s[1] = sum[1];
}

#define ADD_CODES(bits)                                                                            \
    static void add_##bits(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s)     \
    {                                                                                              \
        const uint8_t *rows = tile->rows;                                                          \
        add_codes(rows, bits, row, count, s->v);                                                   \
        if (tile->width > ESV_LANES) {                                                             \
            add_codes(rows + tile->tile_bytes, bits, row, count, s->v + 2);                        \
        }                                                                                          \
    }
ADD_CODES(2)
ADD_CODES(3)
ADD_CODES(4)
ADD_CODES(5)
ADD_CODES(6)
ADD_CODES(7)

esv_mve_adder *esv_mve_adder_of(const esv_tile *tile)
{
    static esv_mve_adder *const packed[] = {add_2, add_3, add_4, add_5, add_6, add_7};
    if (tile->bits < 8) {
        return packed[tile->bits - 2];
    }
    return tile->row_bytes == ESV_LANES ? add_whole : add_narrow;
}

#else
typedef int esv_not_empty; /* C wants a declaration in every file */
#endif
