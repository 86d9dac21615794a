/* What the files of the spiking convolution for Armv8.1-M's vector extension (Cortex-M55) share.
 * The sums of a tile are two vectors of int16; two neighbouring tiles are worked on at a time.
 */
#ifndef ESV_SPIKE_MVE_H
#define ESV_SPIKE_MVE_H

#include "spike_conv.h"

#if defined(__ARM_FEATURE_MVE)
#define ESV_MVE

#include <arm_mve.h>
#include <string.h>

#include "after.h"

#define HALF 8    /* channels of a vector */
#define VECTORS 4 /* of two tiles */
#define STEPS 4   /* of a nibble */

typedef struct {
    int16x8_t v[VECTORS]; /* channels 8 i to 8 i + 7; of one tile, two vectors are used */
} sums;

/* spike_sort_mve.c. A pattern has a low and a high pair of steps; small lists with steps of both
 * are dissolved. Lists 3, 1, 2, 12, 4 and 8 follow each other without gaps; first[0] becomes the
 * set of the lists with steps of both pairs that are left. */
void esv_mve_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                  int dissolve, esv_lists *lists, void *scratch);

/* spike_fields_mve.c: how rows of the tile's form are added to *s. */
typedef void esv_mve_adder(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s);
esv_mve_adder *esv_mve_adder_of(const esv_tile *tile);

/* spike_wide_mve.c: sums in int32. */
void esv_mve_wide_spikes(const esv_tile *tile, const esv_lists *lists, int32_t *currents);
void esv_mve_wide_levels(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles,
                         int32_t *currents);

static ESV_INLINE void clear(uint32_t vectors, sums *s)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < vectors; i++) {
        s->v[i] = vdupq_n_s16(0);
    }
}

static ESV_INLINE void copy(uint32_t vectors, const sums *from, sums *to)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < vectors; i++) {
        to->v[i] = from->v[i];
    }
}

static ESV_INLINE void add_sums(uint32_t vectors, const sums *from, sums *to)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < vectors; i++) {
        to->v[i] = vaddq_s16(to->v[i], from->v[i]);
    }
}

/* Channels in int32. */
static ESV_INLINE void widen(const sums *s, uint32_t width, int32_t *channels)
{
    const int16_t *channel = (const int16_t *)s;
    for (uint32_t c = 0; c < width; c += 4) {
        vst1q_p_s32(channels + c, vldrhq_s32(channel + c), vctp32q(width - c));
    }
}

/* Rows of 16 int8 in one tile or two, list after list: the number of the next row is read and its
 * address made while a row is added, also from one list to the next. One number too many is read:
 * lists are never full. */
typedef struct {
    const uint8_t *rows, *more; /* of the first and of the second tile */
    const uint16_t *row;
    uint32_t at, at_more;
} cursor;

static ESV_INLINE cursor cursor_at(const esv_tile *tile, const esv_lists *lists, uint32_t list)
{
    cursor c;
    c.rows = tile->rows;
    c.more = c.rows + tile->tile_bytes;
    c.row = lists->row + lists->first[list];
    uint32_t first = *c.row++ * ESV_LANES;
    c.at = (uint32_t)c.rows + first;
    c.at_more = (uint32_t)c.more + first;
    return c;
}

static ESV_INLINE void add_in_one(sums *s, cursor *c, uint32_t count)
{
    uint32_t next;
    int16x8_t low, high;
    __asm volatile("wls lr, %[count], 2f\n"
                   "1:\n"
                   "ldrh.w %[next], [%[row]], #2\n"
                   "vldrb.s16 %q[low], [%[at]]\n"
                   "vadd.i16 %q[s0], %q[s0], %q[low]\n"
                   "vldrb.s16 %q[high], [%[at], #8]\n"
                   "vadd.i16 %q[s1], %q[s1], %q[high]\n"
                   "add.w %[at], %[rows], %[next], lsl #4\n"
                   "le lr, 1b\n"
                   "2:\n"
                   : [s0] "+w"(s->v[0]), [s1] "+w"(s->v[1]), [low] "=&w"(low), [high] "=&w"(high),
                     [row] "+r"(c->row), [at] "+l"(c->at), [next] "=&r"(next)
                   : [rows] "r"(c->rows), [count] "r"(count)
                   : "lr", "memory");
}

static ESV_INLINE void add_in_two(sums *s, cursor *c, uint32_t count)
{
    uint32_t next;
    int16x8_t low, high;
    __asm volatile("wls lr, %[count], 2f\n"
                   "1:\n"
                   "ldrh.w %[next], [%[row]], #2\n"
                   "vldrb.s16 %q[low], [%[at]]\n"
                   "vadd.i16 %q[s0], %q[s0], %q[low]\n"
                   "vldrb.s16 %q[high], [%[at], #8]\n"
                   "vadd.i16 %q[s1], %q[s1], %q[high]\n"
                   "vldrb.s16 %q[low], [%[at_more]]\n"
                   "vadd.i16 %q[s2], %q[s2], %q[low]\n"
                   "add.w %[at], %[rows], %[next], lsl #4\n"
                   "vldrb.s16 %q[high], [%[at_more], #8]\n"
                   "vadd.i16 %q[s3], %q[s3], %q[high]\n"
                   "add.w %[at_more], %[more], %[next], lsl #4\n"
                   "le lr, 1b\n"
                   "2:\n"
                   : [s0] "+w"(s->v[0]), [s1] "+w"(s->v[1]), [s2] "+w"(s->v[2]),
                     [s3] "+w"(s->v[3]), [low] "=&w"(low), [high] "=&w"(high),
                     [row] "+r"(c->row), [at] "+l"(c->at), [at_more] "+l"(c->at_more),
                     [next] "=&r"(next)
                   : [rows] "r"(c->rows), [more] "r"(c->more), [count] "r"(count)
                   : "lr", "memory");
}

static ESV_INLINE void add_next(uint32_t vectors, sums *s, cursor *c, uint32_t count)
{
    if (vectors == VECTORS) {
        add_in_two(s, c, count);
    } else {
        add_in_one(s, c, count);
    }
}

#endif
#endif
