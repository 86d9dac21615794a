/* The bridge on an emulated core: an INA226 or INA228 (SIMULATED_CHIP) that is not there, at the
 * level of its I2C registers, behind a current that alternates between 10 mA and 50 mA each 100 ms;
 * the trigger is high with the second. Time is that of the board's own counter (DAI 0386, FPGAIO).
 */
#include "bridge_board.h"

#include "cortex_m.h"

#define COUNTER REG(0x40028018) /* 25 MHz */

enum { LOW_NA = 10000000, HIGH_NA = 50000000, HALF_US = 100000, BUS_UV = 3300000,
       PERIOD_US = 2104 };

static uint32_t last_count, converted_at_us, level;
static uint64_t counts;
static uint64_t charge_na_us; /* since RSTACC */
static uint32_t charged_to_us;
static uint16_t shunt_cal, calibration;

/* Interrupts stay masked: an enabled line only wakes the core. */
void bridge_init(void)
{
    NVIC_ISER(0) = 0xFFFFFFFF;
}

uint32_t bridge_us(void)
{
    uint32_t now = COUNTER;
    counts += now - last_count; /* read far more often than the 171 s in which it wraps */
    last_count = now;
    return (uint32_t)(counts / 25);
}

static uint32_t wave_na(uint32_t at_us)
{
    return at_us / HALF_US & 1 ? HIGH_NA : LOW_NA;
}

int bridge_trigger(void)
{
    return bridge_us() / HALF_US & 1;
}

int bridge_edge(uint32_t *at_us, int *edge)
{
    uint32_t now = bridge_us();
    if ((now / HALF_US & 1) == level) {
        return 0;
    }
    level ^= 1;
    *at_us = now / HALF_US * HALF_US;
    *edge = (int)level;
    return 1;
}

/* The accumulator sums without gaps, whenever it is read. */
static void accumulate(uint32_t now)
{
    while (charged_to_us != now) {
        uint32_t border = (charged_to_us / HALF_US + 1) * HALF_US;
        uint32_t until = now - charged_to_us < border - charged_to_us ? now : border;
        charge_na_us += (uint64_t)wave_na(charged_to_us) * (until - charged_to_us);
        charged_to_us = until;
    }
}

static void send(uint8_t *bytes, uint32_t count, uint64_t value)
{
    for (uint32_t i = 0; i < count; i++) {
        bytes[i] = (uint8_t)(value >> 8 * (count - 1 - i));
    }
}

static uint64_t ready(uint32_t now, uint32_t bit)
{
    if (now - converted_at_us < PERIOD_US) {
        return 0;
    }
    converted_at_us += (now - converted_at_us) / PERIOD_US * PERIOD_US;
    return 1u << bit;
}

static uint64_t register_226(uint8_t index, uint32_t now)
{
    uint64_t lsb = calibration ? 51200000 / calibration : 0; /* 0.00512 / (CAL * 0.1 ohm) */
    switch (index) {
    case 0x02: return BUS_UV / 1250;
    case 0x04: return lsb ? wave_na(now) / lsb : 0; /* zero while it is not calibrated */
    case 0x06: return ready(now, 3);
    case 0xFE: return 0x5449;
    case 0xFF: return 0x2260;
    default: return 0;
    }
}

static uint64_t register_228(uint8_t index, uint32_t now)
{
    uint64_t lsb_pa = (uint64_t)shunt_cal * 1000000000 / 1310720; /* CAL / (13107.2e6 * 0.1 ohm) */
    switch (index) {
    case 0x05: return (uint64_t)BUS_UV * 10000 / 1953125 << 4;
    case 0x07: return lsb_pa ? wave_na(now) * 1000ull / lsb_pa << 4 : 0;
    case 0x09: /* nA s * mV = pJ; a count is 51.2 times the LSB */
        accumulate(now);
        return lsb_pa ? charge_na_us / 1000000 * (BUS_UV / 1000) * 10 / (512 * lsb_pa) : 0;
    case 0x0B: return ready(now, 1);
    case 0x3E: return 0x5449;
    case 0x3F: return 0x2281;
    default: return 0;
    }
}

int bridge_i2c_read(uint8_t address, uint8_t index, uint8_t *bytes, uint32_t count)
{
    uint32_t now = bridge_us();
    if (address != 0x40) {
        return 0;
    }
    send(bytes, count, SIMULATED_CHIP == 226 ? register_226(index, now) : register_228(index, now));
    return 1;
}

int bridge_i2c_write(uint8_t address, uint8_t index, const uint8_t *bytes, uint32_t count)
{
    uint16_t value = (uint16_t)(bytes[0] << 8 | bytes[1]);
    if (address != 0x40 || count != 2) {
        return 0;
    }
    if (SIMULATED_CHIP == 226 && index == 0x05) {
        calibration = value;
    } else if (SIMULATED_CHIP == 228 && index == 0x02) {
        shunt_cal = value;
    } else if (SIMULATED_CHIP == 228 && index == 0x00 && value & 1u << 14) {
        charged_to_us = bridge_us();
        charge_na_us = 0;
    }
    return 1;
}

/* A core that does nothing but read devices leaves the emulator no time to serve them. */
void bridge_rest(int asleep)
{
    if (asleep) {
        __asm volatile("wfi");
        NVIC_ICPR(0) = 0xFFFFFFFF; /* pends again at once while the UART holds a byte */
        return;
    }
    for (volatile uint32_t i = 0; i < 1000; i++) {
    }
}

const char *bridge_serial(void)
{
    return "simulated";
}

int bridge_is_emulated(void)
{
    return 1;
}
