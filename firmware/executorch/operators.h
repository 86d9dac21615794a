/* What the operator library tells a runner, which finds these by name (dlsym). */
#ifndef EDGESVIT_OPERATORS_H
#define EDGESVIT_OPERATORS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *kernels; /* NULL: this thread has run no program yet */
    uint32_t threads, crc, time_steps, input_bytes, classes;
    uint64_t work_bytes;
    const uint8_t *check_input;  /* (input_bytes), or NULL */
    const int32_t *check_logits; /* (classes) */
} edgesvit_description;

/* Threads for programs that are opened from now on. */
void edgesvit_set_threads(uint32_t count);

/* The number of the operator that this thread has run last, in the .esv file; -1 before any. Of
 * siblings that run as one it is the first. */
int64_t edgesvit_last_operator(void);

/* The program that this thread has run last. */
void edgesvit_describe(edgesvit_description *out);

#ifdef __cplusplus
}
#endif

#endif
