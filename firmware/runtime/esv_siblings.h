/* Operators that may run as one. */
#ifndef ESV_SIBLINGS_H
#define ESV_SIBLINGS_H

#include "esv_runtime.h"

#define ESV_MOST_SIBLINGS 4

/* How many operators from `index` on are spiking convolutions of the same input and window, whose
 * outputs overlap neither each other nor the first one's scratch; 1 when it stands alone. */
uint32_t esv_siblings(const esv_program *program, uint32_t index);

#endif
