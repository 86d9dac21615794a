/* What each step of a program takes: `edgesvit measure --layers`. */
#ifndef EDGESVIT_LAYERS_H
#define EDGESVIT_LAYERS_H

#include <stddef.h>

#include "esv_runtime.h"

/* Run each of images (count, input_bytes) `rounds` times step by step, and print for every run
 *
 *     layers index=I first=0,1,4,... ns=a,b,c,... instructions=a,b,c,...
 *
 * `first` are the operators at which the steps begin. `counter` is of probe_open_counter; without
 * one the instructions are -1. A counting plug-in sees each step. Ends the process when an image
 * gives other logits (count, classes) than before. */
void layers_run(const esv_program *program, uint8_t *arena, const uint8_t *images, size_t count,
                const int32_t *logits, uint32_t rounds, int counter);

#endif
