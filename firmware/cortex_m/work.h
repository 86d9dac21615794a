/* The program on its board, under both languages: what was loaded, what ran, how long it took. */
#ifndef ESV_WORK_H
#define ESV_WORK_H

#include "board.h"
#include "esv_runtime.h"

typedef struct {
    esv_program program;
    board_image image;
    const char *refused;   /* why the program cannot run, NULL when it can */
    uint32_t loaded_bytes; /* of the input, from its start, since the last run */
    uint32_t unpacked_bytes; /* of spare memory that hold narrow weights as bytes */
    int kept;              /* a whole input lies in the spare memory, ready to run again */
    uint32_t turns;        /* of the run going on */
    uint32_t step;         /* the operator that work_step runs next */
    uint64_t ticks;        /* of the last run, all its turns */
    uint64_t all_ticks;    /* of all runs since boot */
    esv_status status;     /* of the last run or check */
} board_work;

extern board_work work;

/* Take the linked program. */
void work_open(void);

/* Whether the memory behind the arena holds an input, so that it can run more than once. */
int work_keeps_input(void);

/* Put bytes (count,) at `offset` of the input, from 0 and without gaps; NULL, or what is wrong. */
const char *work_load(uint32_t offset, const uint8_t *bytes, uint32_t count);

/* Where the input lies: bytes (input_bytes,). */
const uint8_t *work_input(void);

/* Run the loaded input `turns` times, measured, the trigger up unless `quiet`; more than once only
 * where it is kept. */
esv_status work_run(uint32_t turns, int quiet);

/* Run one step of the loaded input, measured: the first after a whole load, then one after the other
 * until `step` is program.operators. */
void work_step(void);

/* Run the self-check vector. */
esv_status work_check(void);

#endif
