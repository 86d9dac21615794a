/* From reset to main, and what happens when something goes wrong: one line, then a reset. */
#include "commands.h"
#include "cortex_m.h"
#include "protocol.h"
#include "timer.h"
#include "uart.h"

int main(void);
void Reset_Handler(void);
void fault_report(const uint32_t *frame, uint32_t exception);

/* The report runs on a fresh stack: the old one may be the fault. */
static __attribute__((naked)) void Fault_Handler(void)
{
    __asm volatile("mov r0, sp\n"
                   "mrs r1, ipsr\n"
                   "ldr r2, =link_stack_end\n"
                   "mov sp, r2\n"
                   "b fault_report\n");
}

/* Only SysTick and the faults can happen: every line of the NVIC is off while interrupts are on. */
__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))link_stack_end, Reset_Handler,
    Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler,
    0, 0, 0, Fault_Handler, Fault_Handler, 0, Fault_Handler, SysTick_Handler,
};

/* Painted up to the stack pointer of the moment: nothing lives below it yet. */
static inline __attribute__((always_inline)) void paint_stack(void)
{
    uint32_t top;
    __asm volatile("mov %0, sp" : "=r"(top));
    for (volatile uint32_t *word = link_stack_begin; (uint32_t)word < top; word++) {
        *word = STACK_PAINT;
    }
}

/* A stack that grows too deep faults instead of writing over its neighbour: at the limit itself on
 * Armv8-M, in the guard below it on Armv7-M. No function's frame is larger than the guard. */
static inline void guard_stack(void)
{
#if __ARM_ARCH >= 8
    __asm volatile("msr msplim, %0" ::"r"(link_stack_begin));
#else
    MPU_RNR = 0;
    MPU_RBAR = (uint32_t)link_stack_guard;
    MPU_RASR = 1u << 28 | 8u << 1 | 1u; /* 2^(8+1) bytes, no access, never executed */
    MPU_CTRL = 1u << 2 | 1u;
#endif
    barrier();
}

static inline void enable_floating_point(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= 0xFu << 20;
    barrier();
#endif
#if __ARM_ARCH >= 8
    CCR |= 1u << 19;
    barrier();
#endif
}

/* Armv7-M ARM B2.2.7. One core and no DMA: nothing else can see stale memory. */
static void enable_caches(void)
{
    if ((CLIDR & 7) != 3) {
        return;
    }
    CSSELR = 0; /* the level 1 data cache */
    barrier();
    uint32_t size = CCSIDR, last_set = size >> 13 & 0x7FFF, last_way = size >> 3 & 0x3FF;
    uint32_t set_shift = (size & 7) + 4, way_shift = last_way ? __builtin_clz(last_way) : 0;
    for (uint32_t set = 0; set <= last_set; set++) {
        for (uint32_t way = 0; way <= last_way; way++) {
            DCISW = set << set_shift | way << way_shift;
        }
    }
    ICIALLU = 0;
    barrier();
    CCR |= 1u << 17 | 1u << 16;
    barrier();
}

void Reset_Handler(void)
{
    __asm volatile("cpsid i");
    paint_stack();
    VTOR = (uint32_t)vectors;
    SHCSR |= 7u << 16;
    enable_floating_point();
    guard_stack();
    const volatile uint32_t *load = link_data_load;
    for (volatile uint32_t *word = link_data_begin; word < link_data_end; word++) {
        *word = *load++;
    }
    for (volatile uint32_t *word = link_bss_begin; word < link_bss_end; word++) {
        *word = 0;
    }
    enable_caches();
    main();
    for (;;) {
    }
}

void fault_report(const uint32_t *frame, uint32_t exception)
{
    static const char *const names[] = {"hard", "memory", "bus", "usage", "secure"};
    uint32_t status = CFSR, pc = 0;
    if (frame >= link_stack_begin && frame + 8 <= link_stack_end) {
        pc = frame[6]; /* r0-r3, r12, lr, pc, psr */
    }
    protocol_put('\n'); /* a reply may have been cut */
    reply_begin(commands_number(), "error");
    reply_word("fault");
    reply_word(exception >= 3 && exception <= 7 ? names[exception - 3] : "exception");
    reply_hex32("pc", pc);
    reply_hex32("cfsr", status);
    reply_hex32("address", status & 1u << 15 ? BFAR : status & 1u << 7 ? MMFAR : 0);
    reply_end();
    uart_drain();
    AIRCR = 0x05FA0004;
    barrier();
    for (;;) {
    }
}
