/* What the files of the spiking convolution for Armv7E-M's DSP extension (Cortex-M4, M7) share.
 *
 * SXTAB16 adds bytes 0 and 2 of a word to the halves of a register, and bytes 1 and 3 once it is
 * rotated. The sums of 16 channels are 8 registers: channels (4 i, 4 i + 2) and (4 i + 1, 4 i + 3).
 */
#ifndef ESV_SPIKE_DSP_H
#define ESV_SPIKE_DSP_H

#include "spike_conv.h"

#include "dsp_words.h"

#ifdef ESV_DSP

#define PAIRS 8 /* registers of 16 channels */
#define WORDS 4 /* of a row in bytes, and of 16 codes */
#define STEPS 4 /* of a nibble */
#define BOTH(x) ((uint32_t)(x) * 0x00010001u)

typedef struct {
    uint32_t pair[PAIRS];
} sums;

static ESV_INLINE uint32_t load_word(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* spike_sort_dsp.c. A pattern has a low and a high pair of steps; small lists with steps of both
 * are dissolved. Lists 3, 1, 2, 12, 4 and 8 follow each other without gaps; first[0] becomes the
 * set of the lists with steps of both pairs that are left. */
void esv_dsp_sort(const uint8_t *bytes, uint32_t count, uint32_t nibble, uint32_t mask,
                  int dissolve, esv_lists *lists, void *scratch);

/* spike_rows_dsp.c: *to = *from + rows, which may be none; to may be from. */
void esv_dsp_add_rows(const esv_tile *tile, const uint16_t *row, uint32_t count, const sums *from,
                      sums *to);

/* What the sums of a nibble's four steps are made of. Before: what steps 0 and 1 both have, what 2
 * and 3 both have, and with `mixed` what each has alone. After: `step` are the sums. */
typedef struct {
    sums both[2], step[STEPS];
} esv_dsp_steps;

/* spike_rows_dsp.c: the lists of patterns without steps of both pairs, rows of 16 bytes. */
void esv_dsp_add_steps(const esv_tile *tile, const esv_lists *lists, uint32_t mixed,
                       esv_dsp_steps *s);

/* spike_fields_dsp.c: *s += packed rows of fewer than 8 bits. */
void esv_dsp_add_packed(const esv_tile *tile, const uint16_t *row, uint32_t count, sums *s);

/* *to = *from + rows of 4 bits, which may be none; to may be from. */
void esv_dsp_add_fours(const esv_tile *tile, const uint16_t *row, uint32_t count, const sums *from,
                       sums *to);

#endif
#endif
