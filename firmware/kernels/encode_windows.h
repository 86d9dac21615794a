/* The first convolution on small cores with vectors: two windows of pixels at a time are gathered
 * as words that their weights, kept in the same order, are multiplied with; four channels, a group,
 * at a time.
 */
#ifndef ESV_ENCODE_WINDOWS_H
#define ESV_ENCODE_WINDOWS_H

#include "after.h"
#include "dsp_words.h"

#if defined ESV_DSP || defined __ARM_FEATURE_MVE
#define ESV_WINDOWS

#define ESV_GROUP 4 /* channels */

/* esv_encode_conv, but 0 where a window is too large. */
int esv_encode_windows(const esv_window *w, const esv_conv *conv, const uint8_t *pixels);

/* What each of these processors has in its own way (encode_windows_dsp.c, encode_windows_mve.c).
 *
 * Words of a window, and of a channel's weights. */
uint32_t esv_window_words(const esv_window *w);

/* The bias and the weights of channels first .. first + 3, of which conv may have fewer:
 * to (4 + 4 * words). */
void esv_window_pack(const esv_window *w, const esv_conv *conv, uint32_t first, uint32_t words,
                     int32_t *to);

/* Where window number 0 or 1 begins; and `count` inputs, a row of a window, put to its place `to`.
 * Returns the next place. */
uint8_t *esv_window_begin(uint32_t *windows, uint32_t words, uint32_t number);
uint8_t *esv_window_row(const uint8_t *from, uint32_t count, uint8_t *to);

/* currents (groups, 2, 4) of two windows and packed groups. */
void esv_window_multiply(const int32_t *packed, uint32_t groups, const uint32_t *windows,
                         uint32_t words, int32_t *currents);

/* The codes (4 * groups) of two windows from such currents under all steps, of which there may be;
 * reach (groups, steps, 4): how many steps' a current reaches says its code. */
void esv_window_fire(const int32_t *currents, const int32_t *reach, uint32_t groups,
                     uint32_t steps, const uint8_t *codes, uint8_t *out, uint8_t *other);

#endif
#endif
