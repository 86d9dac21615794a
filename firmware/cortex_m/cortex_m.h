/* The system registers that the firmware touches: Armv7-M ARM (DDI 0403) chapter B3 and C1,
 * Armv8-M ARM (DDI 0553) chapter D1; and the symbols that link.ld.in defines. */
#ifndef ESV_CORTEX_M_H
#define ESV_CORTEX_M_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(address))

/* DWT cycle counter */
#define DWT_CTRL REG(0xE0001000)
#define DWT_CYCCNT REG(0xE0001004)
#define DWT_LAR REG(0xE0001FB0) /* write 0xC5ACCE55 to unlock, Cortex-M7 */
#define DEMCR REG(0xE000EDFC)   /* bit 24 TRCENA */

/* SysTick, 24 bits, counts down */
#define SYST_CSR REG(0xE000E010) /* bit 0 enable, 1 interrupt, 2 processor clock */
#define SYST_RVR REG(0xE000E014)
#define SYST_CVR REG(0xE000E018)

/* NVIC: groups of 32 lines */
#define ICTR REG(0xE000E004) /* bits 3:0 number of groups - 1 */
#define NVIC_ISER(group) REG(0xE000E100 + 4 * (group))
#define NVIC_ICER(group) REG(0xE000E180 + 4 * (group))
#define NVIC_ICPR(group) REG(0xE000E280 + 4 * (group))

/* System control block */
#define ICSR REG(0xE000ED04) /* bit 26 PENDSTSET, 25 PENDSTCLR */
#define VTOR REG(0xE000ED08)
#define AIRCR REG(0xE000ED0C) /* 0x05FA0004 resets the system */
#define CCR REG(0xE000ED14)   /* bit 16 D-cache, 17 I-cache, 19 low-overhead branches (Armv8.1-M) */
#define SHCSR REG(0xE000ED24) /* bits 18:16 own handlers for usage, bus and memory faults */
#define CFSR REG(0xE000ED28)
#define MMFAR REG(0xE000ED34)
#define BFAR REG(0xE000ED38)
#define CLIDR REG(0xE000ED78) /* bits 2:0 = 3: separate level 1 caches */
#define CCSIDR REG(0xE000ED80)
#define CSSELR REG(0xE000ED84)
#define CPACR REG(0xE000ED88) /* bits 23:20 full access to FPU and MVE */
#define ICIALLU REG(0xE000EF50)
#define DCISW REG(0xE000EF60)

/* MPU, Armv7-M layout */
#define MPU_CTRL REG(0xE000ED94) /* bit 0 enable, 2 default map for the rest */
#define MPU_RNR REG(0xE000ED98)
#define MPU_RBAR REG(0xE000ED9C)
#define MPU_RASR REG(0xE000EDA0)

/* link.ld.in: where each part begins and ends; the *_bytes symbols' addresses are the sizes. */
extern uint8_t link_weights_begin[], link_weights_end[];
extern uint8_t link_arena_begin[], link_arena_end[], link_spare_end[];
extern uint32_t link_stack_guard[], link_stack_begin[], link_stack_end[];
extern uint32_t link_data_load[], link_data_begin[], link_data_end[];
extern uint32_t link_bss_begin[], link_bss_end[];
extern uint8_t link_code_bytes[], link_data_bytes[];

enum { STACK_PAINT = 0x5AC4ED00, ARENA_PAINT = 0xA5 };

static inline void barrier(void)
{
    __asm volatile("dsb\n isb" ::: "memory");
}

#endif
