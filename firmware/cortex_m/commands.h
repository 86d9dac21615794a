/* The commands of the serial protocol, over a board (board.h) and the runtime (esv_runtime.h). */
#ifndef ESV_COMMANDS_H
#define ESV_COMMANDS_H

#include <stdint.h>

/* Open the linked program and announce the board. */
void commands_start(void);

/* Take one received byte; a byte that ends a line is answered before this returns. */
void commands_byte(uint8_t byte);

/* The number of the request being answered, for a fault report. */
uint32_t commands_number(void);

#endif
