/* The serial port, polled: three register layouts, one chosen with -DUART_<driver>. UART_BASE,
 * UART_BAUD and CLOCK_HZ come from the target file. The receive interrupt is on only to wake the
 * core from its sleep; it is never taken.
 */
#ifndef ESV_UART_H
#define ESV_UART_H

#include "cortex_m.h"

#define UART(offset) REG(UART_BASE + (offset))

enum { UART_DIVIDER = (CLOCK_HZ + UART_BAUD / 2) / UART_BAUD };

#if defined(UART_CMSDK) /* Arm CMSDK APB UART, DDI 0479 section 4.3 */
enum { DATA = 0x00, STATE = 0x04, CTRL = 0x08, INT = 0x0C, BAUDDIV = 0x10 };

static inline void uart_init(void)
{
    UART(BAUDDIV) = UART_DIVIDER;
    UART(CTRL) = 1u << 3 | 1u << 1 | 1u; /* receive interrupt, receiver, transmitter */
}

static inline void uart_put(uint8_t byte)
{
    while (UART(STATE) & 1) {
    }
    UART(DATA) = byte;
}

static inline int uart_ready(void)
{
    return UART(STATE) >> 1 & 1;
}

static inline uint8_t uart_get(void)
{
    UART(INT) = 1u << 1; /* cleared first: the buffer is full, so no later byte's can be lost */
    return (uint8_t)UART(DATA);
}

static inline int uart_sent(void)
{
    return !(UART(STATE) & 1);
}

#elif defined(UART_STM32_V1) /* STM32F1, F2 and F4: RM0390, USART registers */
enum { SR = 0x00, DR = 0x04, BRR = 0x08, CR1 = 0x0C };

static inline void uart_init(void)
{
    UART(BRR) = UART_DIVIDER;
    UART(CR1) = 1u << 13 | 1u << 5 | 1u << 3 | 1u << 2; /* UE, RXNEIE, TE, RE */
}

static inline void uart_put(uint8_t byte)
{
    while (!(UART(SR) & 1u << 7)) {
    }
    UART(DR) = byte;
}

static inline int uart_ready(void)
{
    return UART(SR) >> 5 & 1;
}

static inline uint8_t uart_get(void)
{
    return (uint8_t)UART(DR); /* reading SR, then DR, also clears an overrun */
}

static inline int uart_sent(void)
{
    return UART(SR) >> 6 & 1;
}

#elif defined(UART_STM32_V2) /* STM32H7: RM0433, USART registers */
enum { CR1 = 0x00, CR3 = 0x08, BRR = 0x0C, ISR = 0x1C, RDR = 0x24, TDR = 0x28 };

static inline void uart_init(void)
{
    UART(BRR) = UART_DIVIDER;
    UART(CR3) = 1u << 12; /* OVRDIS: an overrun loses a byte, it does not stop the receiver */
    UART(CR1) = 1u << 5 | 1u << 3 | 1u << 2 | 1u; /* RXNEIE, TE, RE, UE */
}

static inline void uart_put(uint8_t byte)
{
    while (!(UART(ISR) & 1u << 7)) {
    }
    UART(TDR) = byte;
}

static inline int uart_ready(void)
{
    return UART(ISR) >> 5 & 1;
}

static inline uint8_t uart_get(void)
{
    return (uint8_t)UART(RDR);
}

static inline int uart_sent(void)
{
    return UART(ISR) >> 6 & 1;
}

#else
#error "choose a UART driver: UART_CMSDK, UART_STM32_V1 or UART_STM32_V2"
#endif

/* Wait until the last byte has left the shift register, two byte times at most. */
static inline void uart_drain(void)
{
    while (!uart_sent()) {
    }
    for (volatile uint32_t i = 0; i < 20u * UART_DIVIDER / 4; i++) {
    }
}

#endif
