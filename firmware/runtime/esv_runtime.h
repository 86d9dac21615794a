/* Runs a spike program (.esv file) from memory, in a caller's arena. No allocation, no libc beyond
 * memcpy and memset. The file is used in place: keep it mapped, or in flash, as long as the program
 * runs. Nothing here reads or writes outside [file, file + file_bytes) and [arena, arena +
 * esv_arena_bytes): esv_open proves it before anything runs, whatever the file holds.
 */
#ifndef ESV_RUNTIME_H
#define ESV_RUNTIME_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct esv_crew; /* esv_kernels.h */
struct esv_spike_variant;

typedef enum {
    ESV_OK = 0,
    ESV_TRUNCATED,     /* fewer bytes than the header says */
    ESV_NOT_A_PROGRAM, /* wrong magic */
    ESV_VERSION,       /* a format version this runtime does not know */
    ESV_CORRUPTED,     /* CRC-32 differs */
    ESV_MISALIGNED,    /* file or arena does not start on a 16-byte boundary */
    ESV_BAD_HEADER,
    ESV_BAD_VALUE,     /* a value's kind, shape or place in the arena is impossible */
    ESV_BAD_OPERATOR,  /* an operator's kinds, shapes, constants or scratch do not fit together */
    ESV_CHECK_FAILED,  /* the self-check vector gave other logits */
} esv_status;

typedef struct {
    const uint8_t *file;
    uint32_t file_bytes;
    uint32_t crc; /* of the file: the program's name on the wire */
    uint32_t arena_bytes;
    uint32_t input_bytes;
    uint16_t classes;
    uint16_t operators;
    uint8_t time_steps;
    const struct esv_crew *crew; /* NULL after esv_open; set it to run in more memory or threads */
    const uint8_t *const *widened; /* NULL after esv_open; see esv_widen */
} esv_program;

/* Validate the file and fill *program. Touches no byte past file_bytes. */
esv_status esv_open(esv_program *program, const void *file, uint32_t file_bytes);

/* One short English phrase for a status. */
const char *esv_status_text(esv_status status);

/* Where the input goes before esv_run, inside the arena: an image (H, W, C) uint8, or for networks
 * on events counts (T, H, W, C) uint8. It is overwritten by the run: its place is reused as soon as
 * the first convolution has read it. */
uint8_t *esv_input(const esv_program *program, void *arena);

/* Class scores (classes,) int32, valid after esv_run until the next write to the arena. */
const int32_t *esv_logits(const esv_program *program, const void *arena);

/* Run every operator, or one of them (index < program->operators). The arena must be 16-byte
 * aligned and hold program->arena_bytes. */
esv_status esv_run(const esv_program *program, void *arena);
void esv_run_operator(const esv_program *program, void *arena, uint32_t index);

/* One step of esv_run: operator `index` and those behind it that run as one with it. Where the next
 * step begins, program->operators after the last. A caller with a clock makes all steps from 0. */
uint32_t esv_run_step(const esv_program *program, void *arena, uint32_t index);

/* The same as esv_run_operator for values of the caller's: operator `index`, or it and its count - 1 siblings
 * (esv_siblings.h), which read `source` (3, as many as the file says are looked at) and
 * write `target` (count). scratch holds what the file says, 16-byte aligned. */
void esv_run_at(const esv_program *program, uint32_t index, uint32_t count,
                uint8_t *const source[3], uint8_t *const target[], void *scratch);

/* Bytes of crew->work for each member in which `kernel` works at its best; more is of no use. */
uint32_t esv_work_bytes(const esv_program *program, const struct esv_spike_variant *kernel);

/* Fill memory (esv_prepared_bytes, 64-byte aligned) with what layers compute with, made once; it is
 * then crew->prepared for as many crews of `kernel` as run the program. Without it layers are made
 * ready block by block. */
uint64_t esv_prepared_bytes(const esv_program *program, const struct esv_spike_variant *kernel);
void esv_prepare(const esv_program *program, const struct esv_spike_variant *kernel, void *memory);

/* Unpack weights of fewer than 8 bits to bytes, as many layers as `memory` (bytes, 16-byte aligned)
 * has room for, those of the most tokens first; for cores that add packed weights more slowly. The
 * memory stays the program's, whose results are the same. Returns how much of it is used. */
uint32_t esv_widen(esv_program *program, void *memory, uint32_t bytes);

/* The embedded self-check vector, NULL when the file has none. */
const uint8_t *esv_check_input(const esv_program *program);   /* (input_bytes,) uint8 */
const int32_t *esv_check_logits(const esv_program *program);  /* (classes,) int32 */

/* Run the self-check vector: ESV_OK, or ESV_CHECK_FAILED. Without a vector: ESV_OK. */
esv_status esv_check(const esv_program *program, void *arena);

#ifdef __cplusplus
}
#endif

#endif
