/* INA226 and INA228 over I2C: registers, units and conversion times of their data sheets (SBOS547
 * and SBOSA20). */
#ifndef INA_H
#define INA_H

#include <stdint.h>

enum { INA_ADDRESS = 0x40, INA_SHUNT_UOHM = 100000 };

typedef struct {
    const char *name;         /* "ina226" or "ina228" */
    int has_energy;           /* the chip sums it */
    uint32_t current_lsb_pa;  /* picoamperes of a count of its current register */
    uint32_t period_us;       /* of a conversion of both voltages */
    uint32_t shunt_uohm;
} ina_chip;

typedef struct {
    int32_t bus_uv;
    int64_t current_na;
    int64_t energy_nj; /* since ina_start, where the chip sums it */
} ina_sample;

/* Find out which chip answers and set it up; 0 when none does. */
int ina_open(ina_chip *chip);

/* Clear the accumulator. */
void ina_start(const ina_chip *chip);

/* Whether a conversion has ended since the last read. */
int ina_ready(const ina_chip *chip);

/* The last conversion; 0 when the chip did not answer. */
int ina_read(const ina_chip *chip, ina_sample *sample);

#endif
