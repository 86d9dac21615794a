/* The third road of the spiking convolution, for few channels: what fires stays where it is, as bit
 * masks of image rows, and the rows of weights are added bit by bit. Nothing is sorted, and a
 * position of few inputs costs little more than the rows that it adds; but a mask is read again for
 * each tile.
 */
#ifndef ESV_SPIKE_MASKS_H
#define ESV_SPIKE_MASKS_H

#include "spike_dense.h"
#include "spike_layer.h"

/* Whether it can: whether layer and processor are for it, and there is enough memory. */
int esv_spike_takes_masks(const esv_window *window, const esv_conv *conv, uint32_t count,
                          int levels, const esv_crew *crew);
/* Where it can. */
void esv_spike_conv_masks(const esv_window *window, const esv_conv *conv, uint32_t count,
                          const uint8_t *input, const esv_crew *crew);
/* The work_bytes of a crew that it takes; 0 where it never runs. */
uint64_t esv_spike_masks_work(const esv_window *window, int levels, uint32_t channels,
                              const esv_spike_variant *kernel);

#endif
