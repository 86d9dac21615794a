/* What the bridge (bridge.c, ina.c) asks of the board under it. */
#ifndef BRIDGE_BOARD_H
#define BRIDGE_BOARD_H

#include <stdint.h>

/* Clocks, pins, I2C, timer; the serial port is already open. */
void bridge_init(void);

/* Registers of a chip on the bus, `index` first; 0 when nobody acknowledged. */
int bridge_i2c_read(uint8_t address, uint8_t index, uint8_t *bytes, uint32_t count);
int bridge_i2c_write(uint8_t address, uint8_t index, const uint8_t *bytes, uint32_t count);

/* Free-running microseconds, 32 bits. */
uint32_t bridge_us(void);

/* The level of the trigger input; and its last change, by the same clock, if there was a new one. */
int bridge_trigger(void);
int bridge_edge(uint32_t *at_us, int *level);

/* Called each time there was nothing to do; with `asleep` nothing is due but a command. */
void bridge_rest(int asleep);

/* Who this bridge is: letters and digits. */
const char *bridge_serial(void);

/* 1 where the chip is simulated. */
int bridge_is_emulated(void);

#endif
