#include "ina.h"

#include "bridge_board.h"

enum {
    /* INA226 */
    A_CONFIG = 0x00, A_BUS = 0x02, A_CURRENT = 0x04, A_CALIBRATION = 0x05, A_MASK = 0x06,
    A_MAKER = 0xFE, A_DIE = 0xFF,
    /* INA228 */
    B_CONFIG = 0x00, B_ADC = 0x01, B_SHUNT_CAL = 0x02, B_BUS = 0x05, B_CURRENT = 0x07,
    B_ENERGY = 0x09, B_DIAG = 0x0B, B_MAKER = 0x3E, B_DIE = 0x3F,
    MAKER = 0x5449, /* "TI" */
};

/* Registers are sent highest byte first. */
static int read_register(uint8_t index, uint64_t *value, uint32_t bytes)
{
    uint8_t data[5];
    *value = 0;
    if (!bridge_i2c_read(INA_ADDRESS, index, data, bytes)) {
        return 0;
    }
    for (uint32_t i = 0; i < bytes; i++) {
        *value = *value << 8 | data[i];
    }
    return 1;
}

static int write_register(uint8_t index, uint32_t value)
{
    const uint8_t data[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    return bridge_i2c_write(INA_ADDRESS, index, data, 2);
}

/* Two's complement of `bits` bits. */
static int32_t signed_of(uint64_t value, uint32_t bits)
{
    return (int32_t)((uint32_t)value << (32 - bits)) >> (32 - bits);
}

static int open_226(ina_chip *chip)
{
    /* 2.5 uV of the shunt are a count: 25 uA at 0.1 ohm. 1100 us for each voltage, no mean. */
    *chip = (ina_chip){"ina226", 0, 25000000, 2200, INA_SHUNT_UOHM};
    /* CAL = 0.00512 / (LSB [A] * R [ohm]) */
    uint32_t calibration = (uint32_t)(5120000000000000ull / chip->current_lsb_pa * 1000u
                                      / chip->shunt_uohm / 1000u);
    return write_register(A_CONFIG, 0x4000 | 4u << 6 | 4u << 3 | 7u) &&
           write_register(A_CALIBRATION, calibration);
}

static int open_228(ina_chip *chip)
{
    /* 0.8 A are 2^19 counts. 1052 us for each voltage, no mean. */
    *chip = (ina_chip){"ina228", 1, 1525879, 2104, INA_SHUNT_UOHM};
    /* SHUNT_CAL = 13107.2e6 * LSB [A] * R [ohm] */
    uint32_t calibration = (uint32_t)((131072ull * chip->current_lsb_pa / 1000u
                                       * (chip->shunt_uohm / 1000u) + 5000000u) / 10000000u);
    return write_register(B_CONFIG, 0) && write_register(B_ADC, 0xBu << 12 | 5u << 9 | 5u << 6) &&
           write_register(B_SHUNT_CAL, calibration);
}

int ina_open(ina_chip *chip)
{
    uint64_t maker, die;
    if (read_register(B_MAKER, &maker, 2) && maker == MAKER && read_register(B_DIE, &die, 2) &&
        die >> 4 == 0x228) {
        return open_228(chip);
    }
    if (read_register(A_MAKER, &maker, 2) && maker == MAKER && read_register(A_DIE, &die, 2) &&
        die >> 4 == 0x226) {
        return open_226(chip);
    }
    return 0;
}

void ina_start(const ina_chip *chip)
{
    if (chip->has_energy) {
        write_register(B_CONFIG, 1u << 14); /* RSTACC: the accumulators to zero */
    }
}

int ina_ready(const ina_chip *chip)
{
    uint64_t flags;
    if (chip->has_energy) {
        return read_register(B_DIAG, &flags, 2) && flags >> 1 & 1; /* CNVRF */
    }
    return read_register(A_MASK, &flags, 2) && flags >> 3 & 1; /* CVRF */
}

int ina_read(const ina_chip *chip, ina_sample *sample)
{
    uint64_t bus, current, energy = 0;
    if (!chip->has_energy) {
        if (!read_register(A_BUS, &bus, 2) || !read_register(A_CURRENT, &current, 2)) {
            return 0;
        }
        sample->bus_uv = (int32_t)bus * 1250;
        sample->current_na = (int64_t)signed_of(current, 16) * chip->current_lsb_pa / 1000;
        return 1;
    }
    if (!read_register(B_BUS, &bus, 3) || !read_register(B_CURRENT, &current, 3) ||
        !read_register(B_ENERGY, &energy, 5)) {
        return 0;
    }
    sample->bus_uv = (int32_t)((bus >> 4) * 1953125 / 10000); /* 195.3125 uV */
    sample->current_na = (int64_t)signed_of(current >> 4, 20) * chip->current_lsb_pa / 1000;
    /* A count is 16 * 3.2 * LSB joules. */
    sample->energy_nj = (int64_t)(energy * (512ull * chip->current_lsb_pa / 10000u));
    return 1;
}
