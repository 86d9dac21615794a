/* The power bridge: reads an INA226 or INA228 and a trigger input, sends lines (docs/meters.md).
 *
 *     #edgesvit-bridge 1 chip=... serial=... ... *CRC      answers `?`
 *     SEQUENCE,MICROSECONDS,TRIGGER,MICROVOLTS,NANOAMPERES[;NANOJOULES]*CRC
 *     @MICROSECONDS,LEVEL*CRC                              an edge of the trigger
 */
#include "bridge_board.h"
#include "commands.h"
#include "cortex_m.h"
#include "ina.h"
#include "protocol.h"
#include "uart.h"

#include <string.h>

static ina_chip chip;
static int open, sampling;
static uint32_t sequence;
static uint8_t crc; /* CRC-8, polynomial 0x07, of the line so far */

void protocol_put(uint8_t byte)
{
    uart_put(byte);
}

static void put(char byte)
{
    crc ^= (uint8_t)byte;
    for (int bit = 0; bit < 8; bit++) {
        crc = (uint8_t)(crc & 0x80 ? crc << 1 ^ 0x07 : crc << 1);
    }
    uart_put((uint8_t)byte);
}

static void put_text(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

static void put_number(int64_t value)
{
    char text[DECIMAL_BYTES];
    put_text(decimal(value, text));
}

static void put_pair(const char *key, int64_t value)
{
    put_text(key);
    put_number(value);
    put(' ');
}

static void end_line(void)
{
    uint8_t sum = crc;
    uart_put('*');
    uart_put((uint8_t)"0123456789abcdef"[sum >> 4]);
    uart_put((uint8_t)"0123456789abcdef"[sum & 15]);
    uart_put('\n');
    crc = 0;
}

static void send_header(void)
{
    open = open || ina_open(&chip); /* it may have been wired after the bridge got power */
    put_text("#edgesvit-bridge 1 chip=");
    put_text(open ? chip.name : "none");
    put_text(" serial=");
    put_text(bridge_serial());
    put(' ');
    put_pair("shunt_uohm=", chip.shunt_uohm);
    put_pair("current_lsb_na=", (chip.current_lsb_pa + 500) / 1000);
    put_pair("period_us=", chip.period_us);
    put_pair("channels=", 1);
    put_pair("emulated=", bridge_is_emulated());
    end_line();
}

static void send_sample(const ina_sample *sample, uint32_t at_us)
{
    put_number(sequence++);
    put(',');
    put_number(at_us);
    put(',');
    put_number(bridge_trigger());
    put(',');
    put_number(sample->bus_uv);
    put(',');
    put_number(sample->current_na);
    if (chip.has_energy) {
        put(';');
        put_number(sample->energy_nj);
    }
    end_line();
}

static void send_edge(void)
{
    uint32_t at_us;
    int level;
    if (bridge_edge(&at_us, &level) && sampling) {
        put('@');
        put_number(at_us);
        put(',');
        put_number(level);
        end_line();
    }
}

static void answer(const char *command)
{
    if (strcmp(command, "?") == 0) {
        send_header();
    } else if (strcmp(command, "start") == 0 && open) {
        sampling = 1;
        sequence = 0;
        ina_start(&chip);
    } else if (strcmp(command, "stop") == 0) {
        sampling = 0;
    }
}

static void listen(void)
{
    static char line[16];
    static uint32_t length;
    while (uart_ready()) {
        char byte = (char)uart_get();
        if (byte == '\n' || byte == '\r') {
            line[length] = 0;
            answer(line);
            length = 0;
        } else {
            length = length + 1 < sizeof line ? length + 1 : 1; /* too long: no command of ours */
            line[length - 1] = byte;
        }
    }
}

/* For the report of a fault (startup.c). */
uint32_t commands_number(void)
{
    return 0;
}

void SysTick_Handler(void)
{
}

int main(void)
{
    ina_sample sample = {0};
    bridge_init();
    uart_init();
    open = ina_open(&chip);
    for (;;) {
        listen();
        send_edge();
        if (sampling && ina_ready(&chip)) {
            uint32_t at_us = bridge_us();
            if (ina_read(&chip, &sample)) {
                send_sample(&sample, at_us);
            }
        } else {
            bridge_rest(!sampling);
        }
    }
}
