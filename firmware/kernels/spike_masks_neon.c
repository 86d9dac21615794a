/* The spiking convolution on AArch64 from masks: the rows of what fires at all steps are added to
 * the bias, those of steps 0 and 2 and of 1 and 3 (a neuron under constant input fires at every
 * other step) on top of that, and each step starts from there. */
#if defined(__aarch64__) && defined(__ARM_NEON)

/* As in spike_conv_neon.c. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("ira-region=one")
#endif

#include "spike_fire_neon.h"

/* Whether T steps have this kind of mask. */
INLINE int has_mask(uint32_t kind, uint32_t steps)
{
    return kind < ESV_STEP_0 ? steps > kind + 1 : kind < ESV_STEP_0 + steps;
}

/* ---- Masks ---- */

/* All ones where `v` has all bits of `steps`, which are then taken away from it. */
INLINE uint8x16_t take_steps(uint8x16_t *v, uint8_t steps)
{
    uint8x16_t bits = vdupq_n_u8(steps), have = vceqq_u8(vandq_u8(*v, bits), bits);
    *v = vbicq_u8(*v, vandq_u8(have, bits));
    return have;
}

/* Bit i of half-word n: byte i of where[n] is all ones. */
INLINE uint16x8_t collect(const uint8x16_t where[8], uint8x16_t bits)
{
    uint8x16_t pair[4];
    UNROLL for (unsigned i = 0; i < 4; i++) {
        pair[i] = vpaddq_u8(vandq_u8(where[2 * i], bits), vandq_u8(where[2 * i + 1], bits));
    }
    pair[0] = vpaddq_u8(pair[0], pair[1]);
    pair[2] = vpaddq_u8(pair[2], pair[3]);
    return vreinterpretq_u16_u8(vpaddq_u8(pair[0], pair[2]));
}

INLINE void mask_16(uint8x16_t v, const uint32_t steps, uint32_t apart, uint8_t *to)
{
    uint8x16_t where[8];
    UNROLL for (unsigned i = 0; i < 8; i++) {
        where[i] = vdupq_n_u8(0);
    }
    v = vandq_u8(v, vdupq_n_u8((uint8_t)((1u << steps) - 1)));
    if (steps > 1) {
        where[ESV_ALL_STEPS] = take_steps(&v, (uint8_t)((1u << steps) - 1));
    }
    if (steps > 2) {
        where[ESV_EVEN_STEPS] = take_steps(&v, 5);
    }
    if (steps > 3) {
        where[ESV_ODD_STEPS] = take_steps(&v, 10);
    }
    UNROLL for (unsigned t = 0; t < steps; t++) {
        where[ESV_STEP_0 + t] = vtstq_u8(v, vdupq_n_u8((uint8_t)(1u << t)));
    }
    uint16x8_t masks = collect(where, esv_neon_bits());
#define PUT(kind)                                                                                  \
    if (has_mask(kind, steps)) {                                                                   \
        uint16_t mask = vgetq_lane_u16(masks, kind);                                               \
        memcpy(to + (kind) * apart, &mask, sizeof mask);                                           \
    }
    PUT(0) PUT(1) PUT(2) PUT(3) PUT(4) PUT(5) PUT(6)
#undef PUT
}

INLINE void mask_all(const uint8_t *codes, uint32_t count, const uint32_t steps, uint32_t apart,
                     uint8_t *masks)
{
    for (; count >= 16; count -= 16, codes += 16, masks += 2) {
        mask_16(vld1q_u8(codes), steps, apart, masks);
    }
    if (count) {
        mask_16(vcombine_u8(vld1_u8(codes), vdup_n_u8(0)), steps, apart, masks);
    }
}

void esv_neon_mask(const uint8_t *codes, uint32_t count, uint32_t steps, uint32_t apart,
                   uint8_t *masks)
{
    switch (steps) {
    case 1: mask_all(codes, count, 1, apart, masks); return;
    case 2: mask_all(codes, count, 2, apart, masks); return;
    case 3: mask_all(codes, count, 3, apart, masks); return;
    default: mask_all(codes, count, 4, apart, masks);
    }
}

/* ---- Sums ---- */

INLINE void add_word(int16x8_t *sum, unsigned n, const int8_t *rows, size_t stride, uint64_t bits)
{
    for (; bits; bits &= bits - 1) {
        const int8_t *p[1] = {rows + (size_t)__builtin_ctzll(bits) * stride};
        one_row(sum, n, p);
    }
}

/* A tile, and where in memory its masks and rows are. */
typedef struct {
    const esv_tile *tile;
    const esv_masks *masks;
    const int8_t *rows; /* of the first bit */
    size_t stride, tap; /* bytes of a row of weights, and of those of an image row */
    uint64_t last;      /* the bits of the last word of an image row that are the window's */
} work;

/* sum += the rows of one kind of mask, `at` bytes on. words: of a window in an image row; 0: more
 * than 2. */
INLINE void add_masks(int16x8_t *sum, unsigned n, unsigned words, const work *w, size_t at)
{
    const esv_masks *m = w->masks;
    const int8_t *rows = w->rows;
    uint64_t word;
    for (const uint8_t *const *line = m->row; line < m->row + m->rows; line++, rows += w->tap) {
        const uint8_t *from = *line + at;
        const int8_t *row = rows;
        uint32_t left = words == 1 ? 1 : words == 2 ? 65 : m->bits;
        for (; left > 64; left -= 64, from += 8, row += 64 * w->stride) {
            memcpy(&word, from, sizeof word);
            add_word(sum, n, row, w->stride, word);
        }
        memcpy(&word, from, sizeof word);
        add_word(sum, n, row, w->stride, word & w->last);
    }
}

/* All steps of 16 * n channels of one window, whose masks are `at` bytes on: codes, or where that
 * is NULL the currents. */
INLINE void run_window(unsigned n, unsigned words, const work *w, size_t at, uint8_t *codes,
                       int32_t *currents, uint32_t stride)
{
    const esv_tile *tile = w->tile;
    uint32_t steps = tile->time_steps, apart = w->masks->apart;
    int16_t start[ESV_STEP_0][ESV_NEON_WIDTH], membrane[ESV_NEON_WIDTH];
    const int16_t *from[2] = {tile->bias16, tile->bias16}; /* of even steps and of odd ones */
    uint8x16_t code[ESV_NEON_WIDTH / 16];
    for (uint32_t i = 0; i < ESV_STEP_0 && has_mask(i, steps); i++) {
        int16x8_t sum[VECTORS];
        load_sum(sum, n, i ? start[ESV_ALL_STEPS] : tile->bias16);
        add_masks(sum, n, words, w, at + i * apart);
        store_sum(sum, n, start[i]);
        from[0] = i == ESV_ODD_STEPS ? from[0] : start[i];
        from[1] = i == ESV_EVEN_STEPS ? from[1] : start[i];
    }
    at += ESV_STEP_0 * apart;
    load_codes(code, n, NULL);
    for (uint32_t t = 0; t < steps; t++, at += apart, currents += stride) {
        int16x8_t sum[VECTORS];
        load_sum(sum, n, from[t & 1]);
        add_masks(sum, n, words, w, at);
        if (codes) {
            fire_any(sum, n, tile, t, membrane, code);
        } else {
            put_currents(sum, n, currents);
        }
    }
    if (codes) {
        store_codes(code, n, codes);
    }
}

typedef void run_row(const esv_tile *tile, const esv_masks *m, uint32_t count, uint8_t *codes,
                     int32_t *currents, uint32_t stride);

INLINE void run_windows(unsigned n, unsigned words, const esv_tile *tile, const esv_masks *m,
                        uint32_t count, uint8_t *codes, int32_t *currents, uint32_t stride)
{
    size_t row = tile->row_bytes;
    work w = {tile, m, settled(tile->rows) + m->first * row, row, m->bits * row,
              ~(uint64_t)0 >> ((64 - m->bits % 64) % 64)};
    for (size_t at = 0; at < (size_t)count * m->move; at += m->move) {
        run_window(n, words, &w, at, codes, currents, stride);
        codes += codes ? stride : 0;
        currents += currents ? tile->time_steps * stride : 0;
    }
}

#define RUN(n, words)                                                                              \
    static void windows_##n##_##words(const esv_tile *tile, const esv_masks *m, uint32_t count,    \
                                  uint8_t *codes, int32_t *currents, uint32_t stride)              \
    {                                                                                              \
        if (codes) {                                                                               \
            run_windows(n, words, tile, m, count, codes, NULL, stride);                            \
        } else {                                                                                   \
            run_windows(n, words, tile, m, count, NULL, currents, stride);                         \
        }                                                                                          \
    }
#define WIDTH(n) RUN(n, 0) RUN(n, 1) RUN(n, 2)
WIDTH(1) WIDTH(2) WIDTH(3) WIDTH(4) WIDTH(6) WIDTH(8)

/* By words, and by the number of 16-column registers less one as the kernels of esv_neon_find. */
#define OF(words)                                                                                  \
    {windows_1_##words, windows_2_##words, windows_3_##words, windows_4_##words, NULL,             \
     windows_6_##words, NULL, windows_8_##words}
static run_row *const of_width[3][8] = {OF(0), OF(1), OF(2)};

void esv_neon_run_masks(const esv_tile *tile, const esv_masks *m, uint32_t count, uint8_t *codes,
                        int32_t *currents, uint32_t stride)
{
    run_row *const *widths = of_width[m->bits <= 64 ? 1 : m->bits <= 128 ? 2 : 0];
    run_row *whole = widths[tile->width / 16 - 1];
    if (whole) {
        whole(tile, m, count, codes, currents, stride);
        return;
    }
    esv_tile part;
    for (uint32_t at = 0; at < tile->width; at += part.width) {
        part = esv_neon_part(tile, at);
        widths[part.width / 16 - 1](&part, m, count, codes ? codes + at : NULL,
                                    codes ? NULL : currents + at, stride);
    }
}

#else

typedef int esv_no_neon_masks; /* a file must not be empty */

#endif
