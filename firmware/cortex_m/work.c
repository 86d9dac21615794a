#include "work.h"

#include <stddef.h>
#include <string.h>

board_work work;

/* The memory behind the arena holds an input, and behind it as many unpacked weights as fit. */
static void widen(void)
{
    uint32_t kept = (work.program.input_bytes + 15) / 16 * 16;
    if (work.image.spare_bytes > kept) {
        work.unpacked_bytes = esv_widen(&work.program, work.image.spare + kept,
                                        work.image.spare_bytes - kept);
    }
}

void work_open(void)
{
    work.image = board_load();
    esv_status status = esv_open(&work.program, work.image.program, work.image.program_bytes);
    if (status != ESV_OK) {
        work.refused = esv_status_text(status);
    } else if (work.program.arena_bytes > work.image.arena_bytes) {
        work.refused = "needs a larger arena than was linked";
    } else {
        widen();
    }
}

int work_keeps_input(void)
{
    return work.image.spare_bytes >= work.program.input_bytes;
}

static uint8_t *input(void)
{
    return work_keeps_input() ? work.image.spare : esv_input(&work.program, work.image.arena);
}

const uint8_t *work_input(void)
{
    return input();
}

const char *work_load(uint32_t offset, const uint8_t *bytes, uint32_t count)
{
    if (offset > work.program.input_bytes || count > work.program.input_bytes - offset) {
        return "past the end of the input";
    }
    if (offset != 0 && offset > work.loaded_bytes) {
        return "leaves a gap before OFFSET";
    }
    memcpy(input() + offset, bytes, count);
    if (offset == 0 || offset + count > work.loaded_bytes) {
        work.loaded_bytes = offset + count;
    }
    work.kept = work_keeps_input() && work.loaded_bytes == work.program.input_bytes;
    return NULL;
}

static void restore(void)
{
    if (work_keeps_input()) {
        memcpy(esv_input(&work.program, work.image.arena), work.image.spare,
               work.program.input_bytes);
    }
}

static void run(void)
{
    work.status = esv_run(&work.program, work.image.arena);
    while (--work.turns && work.status == ESV_OK) {
        restore();
        work.status = esv_run(&work.program, work.image.arena);
    }
}

esv_status work_run(uint32_t turns, int quiet)
{
    work.turns = turns;
    work.loaded_bytes = 0;
    work.step = work.program.operators;
    restore(); /* before the clock starts: an input that was received in place is not copied */
    work.ticks = board_measure(run, quiet);
    work.all_ticks += work.ticks;
    return work.status;
}

static void step(void)
{
    work.step = esv_run_step(&work.program, work.image.arena, work.step);
}

void work_step(void)
{
    if (work.loaded_bytes) { /* the first: restored before the clock starts, as in work_run */
        work.loaded_bytes = 0;
        work.step = 0;
        restore();
    }
    work.ticks = board_measure(step, 0);
    work.all_ticks += work.ticks;
}

esv_status work_check(void)
{
    work.loaded_bytes = 0;
    work.step = work.program.operators;
    work.status = esv_check(&work.program, work.image.arena);
    return work.status;
}
