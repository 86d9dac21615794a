/* NUCLEO-H743ZI on its reset clock (HSI, 64 MHz): USART3 on PD8 and PD9 is the ST-LINK's serial
 * port (UM1974 and UM2407, USART communication). The trigger for a meter is PD15, D9 of the
 * Arduino header. Registers: RM0433, RCC and GPIO chapters. Not run on silicon yet. */
#include "board.h"
#include "cortex_m.h"

#define RCC_AHB4ENR REG(0x580244E0)
#define RCC_APB1LENR REG(0x580244E8)
#define GPIOD_MODER REG(0x58020C00)
#define GPIOD_BSRR REG(0x58020C18) /* 15:0 set, 31:16 reset */
#define GPIOD_AFRH REG(0x58020C24)

void board_init(void)
{
    RCC_AHB4ENR |= 1u << 3;   /* GPIOD */
    RCC_APB1LENR |= 1u << 18; /* USART3, clocked from APB1: HSI with all prescalers at 1 */
    barrier();
    (void)RCC_APB1LENR; /* the clocks need a read back before the first access */
    GPIOD_AFRH = (GPIOD_AFRH & ~0xFFu) | 0x77u;           /* pins 8 and 9: alternate function 7 */
    GPIOD_MODER = (GPIOD_MODER & ~0xC00F0000u) | 0x400A0000u; /* 8, 9: alternate, 15: output */
}

void board_trigger(int on)
{
    GPIOD_BSRR = on ? 1u << 15 : 1u << 31;
}
