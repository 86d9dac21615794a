/* Memory and threads for a program on a system that has both. */
#ifndef EDGESVIT_CREW_H
#define EDGESVIT_CREW_H

#include "esv_kernels.h"
#include "esv_runtime.h"

/* The fastest spike kernels that this processor runs, or those called `name`; NULL if there are none
 * of that name here. */
const struct esv_spike_variant *crew_kernels(const char *name);

/* The names of those that this processor runs, best first; NULL from the last on. */
const char *crew_kernel_name(uint32_t index);

/* Give `program` the fastest kernels of this processor, or those called `kernels`, and `threads`
 * threads, the caller's included. Behind the name may stand `+lists`, `+dense` or
 * `+masks`: spiking convolutions then go that road alone, masks where they can and lists elsewhere.
 * Returns NULL when there are no kernels of that name here, or no memory. The program must not run
 * after crew_free. */
const esv_crew *crew_new(esv_program *program, const char *kernels, uint32_t threads);
void crew_free(const esv_crew *crew);

#endif
