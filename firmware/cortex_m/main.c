/* The board under the commands: sleeps until a byte arrives, measures, knows its own memory. */
#include "board.h"
#include "commands.h"
#include "cortex_m.h"
#include "protocol.h"
#include "timer.h"
#include "uart.h"

__attribute__((weak)) void board_init(void)
{
}

__attribute__((weak)) void board_trigger(int on)
{
    (void)on;
}

uint32_t board_ticks_hz(void)
{
    return CLOCK_HZ;
}

void protocol_put(uint8_t byte)
{
    uart_put(byte);
}

/* Interrupts stay masked, so an enabled line only wakes the core. The UART is the only peripheral
 * that raises one: enabling them all saves knowing its number. */
static void wake_on_any_line(int on)
{
    for (uint32_t group = 0; group <= (ICTR & 15); group++) {
        if (on) {
            NVIC_ISER(group) = 0xFFFFFFFF;
        } else {
            NVIC_ICER(group) = 0xFFFFFFFF;
        }
    }
}

static uint8_t next_byte(void)
{
    while (!uart_ready()) {
        __asm volatile("wfi");
        /* Pends again at once while the UART holds a byte, so nothing is slept through. */
        for (uint32_t group = 0; group <= (ICTR & 15); group++) {
            NVIC_ICPR(group) = 0xFFFFFFFF;
        }
    }
    return uart_get();
}

enum { PULSE_US = 4 };

void board_pulse(void)
{
    board_trigger(1);
    for (volatile uint32_t i = 0; i < CLOCK_HZ / 1000000 * PULSE_US / 4; i++) {
    }
    board_trigger(0);
}

uint64_t board_measure(void (*work)(void), int quiet)
{
    wake_on_any_line(0);
    board_trigger(!quiet);
    timer_start();
    work();
    uint64_t ticks = timer_stop();
    board_trigger(0);
    wake_on_any_line(1);
    return ticks;
}

__attribute__((noinline)) void board_spin(uint32_t turns)
{
    __asm volatile(".balign 8\n"
                   "1: subs %0, %0, #1\n"
                   "bne 1b\n"
                   : "+r"(turns)::"cc");
}

const char *board_timer(void)
{
    return timer_name();
}

board_image board_load(void)
{
    return (board_image){
        .program = link_weights_begin,
        .program_bytes = (uint32_t)(link_weights_end - link_weights_begin),
        .arena = link_arena_begin,
        .arena_bytes = (uint32_t)(link_arena_end - link_arena_begin),
        .spare = link_arena_end,
        .spare_bytes = (uint32_t)(link_spare_end - link_arena_end),
    };
}

static void paint_arena(void)
{
    for (uint8_t *byte = link_arena_begin; byte < link_arena_end; byte++) {
        *byte = ARENA_PAINT;
    }
}

static uint32_t arena_used_bytes(void)
{
    const uint8_t *end = link_arena_end;
    while (end > link_arena_begin && end[-1] == ARENA_PAINT) {
        end--;
    }
    return (uint32_t)(end - link_arena_begin);
}

static uint32_t stack_used_bytes(void)
{
    const uint32_t *word = link_stack_begin;
    while (word < link_stack_end && *word == STACK_PAINT) {
        word++;
    }
    return (uint32_t)((const uint8_t *)link_stack_end - (const uint8_t *)word);
}

board_memory board_memory_now(void)
{
    board_image image = board_load();
    return (board_memory){
        .code_bytes = (uint32_t)link_code_bytes,
        .weights_bytes = image.program_bytes,
        .data_bytes = (uint32_t)link_data_bytes,
        .arena_bytes = image.arena_bytes,
        .arena_used_bytes = arena_used_bytes(),
        .stack_bytes = 4 * (uint32_t)(link_stack_end - link_stack_begin),
        .stack_used_bytes = stack_used_bytes(),
    };
}

int main(void)
{
    board_init();
    uart_init();
    timer_init();
    paint_arena();
    wake_on_any_line(1);
    commands_start();
    for (;;) {
        commands_byte(next_byte());
    }
}
