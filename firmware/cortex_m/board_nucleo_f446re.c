/* NUCLEO-F446RE on its reset clock (HSI, 16 MHz): USART2 on PA2 and PA3 is the ST-LINK's serial
 * port (UM1724, USART communication). The trigger for a meter is PA8, D7 of the Arduino header,
 * where the X-NUCLEO-LPM01A expects it. Registers: RM0390, RCC and GPIO chapters. Not run on silicon
 * yet. */
#include "board.h"
#include "cortex_m.h"

#define RCC_AHB1ENR REG(0x40023830)
#define RCC_APB1ENR REG(0x40023840)
#define GPIOA_MODER REG(0x40020000)
#define GPIOA_BSRR REG(0x40020018) /* 15:0 set, 31:16 reset */
#define GPIOA_AFRL REG(0x40020020)

void board_init(void)
{
    RCC_AHB1ENR |= 1u << 0;  /* GPIOA */
    RCC_APB1ENR |= 1u << 17; /* USART2 */
    barrier();               /* the clocks need two cycles before the first access */
    (void)RCC_APB1ENR;
    GPIOA_AFRL = (GPIOA_AFRL & ~0xFF00u) | 0x7700u;  /* pins 2 and 3: alternate function 7 */
    GPIOA_MODER = (GPIOA_MODER & ~0x300F0u) | 0x100A0u; /* 2, 3: alternate function, 8: output */
}

void board_trigger(int on)
{
    GPIOA_BSRR = on ? 1u << 8 : 1u << 24;
}
