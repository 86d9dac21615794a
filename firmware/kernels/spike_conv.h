/* What the variants of the spiking convolution share; spike_conv.c drives them.
 *
 * A weight row is read and added once for all steps at which its input fires: the inputs of a token
 * are sorted by firing pattern, the rows of a pattern are summed into one bucket, and the current of
 * step t is the bias plus the buckets whose pattern holds t. Levels go through the same lists: there
 * the list number is the level, and its bucket counts that many times. Both are exact, because
 * addition modulo 2^16 or 2^32 may be done in any order.
 */
#ifndef ESV_SPIKE_CONV_H
#define ESV_SPIKE_CONV_H

#include "esv_kernels.h"

#define ESV_LISTS 16      /* values of a nibble; list 0 stays empty */
#define ESV_LIST_SLACK 96 /* entries that lists may take beyond one for each input */
/* Most sort_bytes and width of a variant that expands nothing: programs have room for them. */
#define ESV_IN_PLACE_SORT_BYTES 2
#define ESV_IN_PLACE_WIDTH 32

/* The inputs of one token that are not 0, sorted by one nibble of their code or level. */
typedef struct {
    uint16_t *row; /* numbers of weight rows, (K + ESV_LIST_SLACK) */
    /* List p, from 1 on, is row[first[p]] to row[first[p] + count[p] - 1]. Lists of different p may
     * lie apart. first[0] is a variant's own to use.
     * For spikes, bit i of p is step 4 * nibble + i, and a small list of several steps may have
     * been dissolved: its rows are then in lists that have its steps together, as the variant's
     * own `fire` and `sum_spikes` read them. */
    uint16_t first[ESV_LISTS], count[ESV_LISTS];
} esv_lists;

/* The highest level of which there are any inputs; 0 without. */
static inline uint32_t esv_top_level(const esv_lists *lists)
{
    uint32_t level = ESV_LISTS - 1;
    while (level && !lists->count[level]) {
        level--;
    }
    return level;
}

/* Weights and constants of the channels that a kernel works on at a time. */
typedef struct {
    const void *rows;    /* (K, width) expanded weights; or packed tiles of the file in place */
    uint32_t row_bytes;  /* from one row to the next */
    uint32_t tile_bytes; /* from one packed tile to the next; nothing when expanded */
    uint16_t width;      /* channels: a multiple of ESV_LANES, at most the variant's width. Packed
                          * in place: the variant's width, or 1 to ESV_LANES that one tile has */
    uint8_t bits;       /* of a weight, expanded or not: -2^(bits - 1) to 2^(bits - 1) - 1 */
    uint8_t time_steps; /* T */
    const int32_t *bias;      /* (width) */
    const int32_t *threshold; /* (width) */
    /* The same as int16, 16-byte aligned, for variants that expand. In place the int32 constants
     * are the file's own: within int16 where sums are narrow. */
    const int16_t *bias16, *threshold16;
    int32_t most_rows; /* whose sum fits int16, bias included; all do where a tile is certified */
} esv_tile;

/* Where a small list goes whose rows are cheaper added apart for two others, and up to which length
 * that is so. */
typedef struct {
    uint8_t p, to[2], longest;
} esv_split;
#define ESV_SPLITS 11 /* patterns of several steps */

/* How many of a table's splits are about patterns within a mask of 1, 3, 7 or 15. */
static inline uint32_t esv_splits_within(uint32_t mask)
{
    return mask == 15 ? ESV_SPLITS : mask == 7 ? 4 : mask == 3;
}

#define ESV_MOST_TAPS 8u /* image rows of a window of masks */

/* What fires in a window, as bits: channels of a pixel and pixels of an image row behind each
 * other, lowest bit first. There are masks of seven kinds, for T up to 4: of the inputs that fire
 * at all steps (unless T is 1), of the others at steps 0 and 2 (T = 3, 4), at 1 and 3 (T = 4), and
 * what is left of steps 0, 1, 2 and 3. An input that fires is in masks of different steps, at each
 * of its steps in one. */
enum { ESV_ALL_STEPS, ESV_EVEN_STEPS, ESV_ODD_STEPS, ESV_STEP_0, ESV_MASKS = ESV_STEP_0 + 4 };
typedef struct {
    /* The window's share of each image row; up to 8 bytes behind it are read. */
    const uint8_t *row[ESV_MOST_TAPS];
    uint32_t rows;  /* of the window that lie in the image */
    uint32_t first; /* the weight row of the first bit */
    uint32_t bits;  /* of the window in one image row */
    uint32_t apart; /* bytes from a kind of mask to the next */
    uint32_t move;  /* bytes from a window to the next of the image row */
} esv_masks;

typedef struct esv_spike_variant {
    const char *name;
    uint16_t width; /* most channels at a time, a multiple of ESV_LANES */
    /* Bytes of an expanded weight, 1 or 2; 0: the kernel reads packed tiles where they are. */
    uint8_t weight_bytes;
    uint8_t sort_bytes; /* scratch that `sort` wants for each input */
    /* Beside it dense products may be of bytes, where the processor adds up those of four at once. */
    uint8_t multiplies_bytes;

    /* One packed tile of the file, `rows` rows of `lanes` channels in `bits` bits, to 16 columns
     * of the expanded rows: out points at the first, rows are row_bytes apart, columns that the
     * tile has not are those of weight 0. Only this variant reads what it wrote. NULL without
     * expansion. */
    void (*expand)(const uint8_t *packed, uint32_t rows, uint32_t bits, uint32_t lanes, void *out,
                   uint32_t row_bytes);

    /* Sort `count` bytes by (byte >> 4 * nibble) & mask; with `dissolve` small shared lists are
     * dissolved. scratch: count * sort_bytes bytes, 16-byte aligned. bytes: may be read up to 15
     * bytes past count by a variant that runs in place. Without `dissolve` each list is in order. */
    void (*sort)(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                 int dissolve, esv_lists *lists, void *scratch);

    /* (ESV_SPLITS) how `sort` dissolves, from the last one down: first that of two steps, then those
     * of three, then the rest. NULL: it never does. */
    const esv_split *splits;

    /* codes (width) of one token from spikes, sums in int16: lists[g] holds steps 4 g to 4 g + 3.
     * Bits from T on are 0. */
    void (*fire)(const esv_tile *tile, const esv_lists *lists, uint8_t *codes);

    /* The same where sums do not fit int16; 0: not by this function, and nothing is written. NULL
     * without one. */
    int (*fire_wide)(const esv_tile *tile, const esv_lists *lists, uint8_t *codes);

    /* currents (T, width) of one token from spikes; sums in int32 if `wide`, else in int16. */
    void (*sum_spikes)(const esv_tile *tile, const esv_lists *lists, int wide, int32_t *currents);

    /* masks (ESV_MASKS, apart) of `count` codes, a multiple of 8: those that `steps` steps have. A
     * byte more than count / 8 is written. NULL: no masks. */
    void (*mask)(const uint8_t *codes, uint32_t count, uint32_t steps, uint32_t apart,
                 uint8_t *masks);

    /* Of `count` windows, each the next of a row: codes (count, stride), of which the tile's width
     * are written, or where codes is NULL currents (count, T, stride). Sums in int16. */
    void (*run_masks)(const esv_tile *tile, const esv_masks *masks, uint32_t count, uint8_t *codes,
                      int32_t *currents, uint32_t stride);

    /* currents (width) of one token and step from levels: lists[g] holds nibble g of the level, of
     * `nibbles` (1 or 2). */
    void (*sum_levels)(const esv_tile *tile, const esv_lists *lists, uint32_t nibbles, int wide,
                       int32_t *currents);
} esv_spike_variant;

/* The definition in C, on every processor, and those that only some processors run. */
extern const esv_spike_variant esv_spike_scalar;
extern const esv_spike_variant esv_spike_dsp, esv_spike_mve;
extern const esv_spike_variant esv_spike_neon, esv_spike_avx2, esv_spike_avx512;

/* What runs in the arena's scratch alone: the fastest variant of this build that reads packed rows
 * where they are. */
#if defined ESV_PORTABLE
#define ESV_SPIKE_IN_PLACE esv_spike_scalar
#elif defined __ARM_FEATURE_MVE
#define ESV_SPIKE_IN_PLACE esv_spike_mve
#elif defined __ARM_FEATURE_SIMD32 && defined __thumb2__
#define ESV_SPIKE_IN_PLACE esv_spike_dsp
#else
#define ESV_SPIKE_IN_PLACE esv_spike_scalar
#endif

#endif
