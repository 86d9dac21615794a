/* From currents to what an operator writes, shared by the kernels of all convolutions and by the
 * neurons on membranes. Spikes that feed on spikes do not come here: spike_conv_tile.h runs their
 * neurons in the accumulators' own width.
 */
#ifndef ESV_AFTER_H
#define ESV_AFTER_H

#include "esv_kernels.h"

#define ESV_TILE ESV_LANES /* channels that kernels work on at a time, sums on the stack */

/* Beyond every limit of a membrane even when another one is added to it. */
#define ESV_BEYOND (1 << 17)
/* Inlined whatever the compiler thinks: a constant width or kind only helps where it is known. */
#define ESV_INLINE inline __attribute__((always_inline))
/* Kept apart: in one function, two loops would fight for registers and share one large frame. */
#define ESV_APART __attribute__((noinline))
/* The same for what runs once a layer or never: small before it is fast. */
#define ESV_RARE __attribute__((noinline, cold))

/* Write what becomes of current (n), channels first .. first + n of `token` at step t. Steps come
 * in order; state (n) is this function's from step 0 to T - 1. n is at most ESV_TILE; there may be
 * less than ESV_TILE of currents, but as much memory to read. */
void esv_after_currents(const esv_after *after, uint32_t t, uint32_t token, uint32_t first,
                        uint32_t n, const int32_t *current, int32_t *state);
#if defined __aarch64__ || (defined __x86_64__ && !defined ESV_PORTABLE)
/* The same, where spikes are those of a whole tile; with AVX2 not for spikes. */
void esv_after_step(const esv_after *after, uint32_t t, uint32_t token, uint32_t first, uint32_t n,
                    const int32_t *currents, int32_t *state);
#endif

#if (defined __ARM_FEATURE_SIMD32 && defined __thumb2__) || defined __ARM_FEATURE_MVE
#define ESV_FIRES_HALVES
/* esv_fire without over_tokens; 0 where it is not about spikes, or of too few channels. */
int esv_fire_halves(const esv_after *after, const int16_t *membranes);
#endif

#endif
