/* A firmware that only infers, for benchmarks/firmware_bytes.py: no port, no timer, no names. It
 * stands in for all of firmware/cortex_m but startup.c, whose fault report has nobody to tell. */
#include "cortex_m.h"
#include "esv_runtime.h"
#include "protocol.h"
#include "timer.h"
#include "commands.h"

uint32_t commands_number(void) { return 0; }
void protocol_put(uint8_t byte) { (void)byte; }
void reply_begin(uint32_t number, const char *word) { (void)number, (void)word; }
void reply_word(const char *word) { (void)word; }
void reply_hex32(const char *key, uint32_t value) { (void)key, (void)value; }
void reply_end(void) {}
void SysTick_Handler(void) {}

int main(void)
{
    esv_program program;
    uint32_t bytes = (uint32_t)(link_weights_end - link_weights_begin);
    if (esv_open(&program, link_weights_begin, bytes) != ESV_OK) {
        return 1;
    }
    for (;;) {
        esv_run(&program, link_arena_begin);
    }
}
