/* What the protocol's commands (commands.c) ask of the board under them (main.c). */
#ifndef ESV_BOARD_H
#define ESV_BOARD_H

#include <stdint.h>

typedef struct {
    const uint8_t *program; /* the .esv file (program_bytes,), 16-byte aligned */
    uint32_t program_bytes;
    uint8_t *arena; /* (arena_bytes,), 16-byte aligned */
    uint32_t arena_bytes;
    uint8_t *spare; /* (spare_bytes,): memory behind the arena that nothing was linked into */
    uint32_t spare_bytes;
} board_image;

typedef struct {
    uint32_t code_bytes, weights_bytes, data_bytes;
    uint32_t arena_bytes, arena_used_bytes; /* used: up to the last byte ever written */
    uint32_t stack_bytes, stack_used_bytes; /* used: down to the deepest byte ever written */
} board_memory;

/* The linked program and the arena it runs in. */
board_image board_load(void);

/* Sizes from the linker, high-water marks from the paint laid at boot. */
board_memory board_memory_now(void);

/* Timer ticks of work() alone, with no interrupt but the timer's own wrap. The trigger is up
 * meanwhile, unless `quiet`. */
uint64_t board_measure(void (*work)(void), int quiet);

/* A pulse of a few microseconds on the trigger: its falling edge is MLPerf Tiny's time stamp. */
void board_pulse(void);

/* Exactly 2 * turns instructions: a decrement and a branch. */
void board_spin(uint32_t turns);

/* Raise or lower the pin that tells a meter when the board infers; the default does nothing. */
void board_trigger(int on);

/* Ticks of a second. */
uint32_t board_ticks_hz(void);

/* Which timer counts: "dwt" or "systick". */
const char *board_timer(void);

/* Clocks and pins of a real board; the default does nothing (an emulator needs none). */
void board_init(void);

#endif
