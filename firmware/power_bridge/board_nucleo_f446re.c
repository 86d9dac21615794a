/* The bridge on a NUCLEO-F446RE on its reset clock (HSI, 16 MHz). Chip on I2C1: SCL is PB8 (D15),
 * SDA is PB9 (D14), 400 kHz, pulled up on the chip's board. Trigger on PA0 (A0), an input with a
 * pull-down whose edges timer 2 stamps in hardware. The serial port is the ST-LINK's (USART2).
 * Registers: RM0390. Not run on silicon yet. */
#include "bridge_board.h"

#include "cortex_m.h"

#define RCC_AHB1ENR REG(0x40023830)
#define RCC_APB1ENR REG(0x40023840)
#define GPIOA(offset) REG(0x40020000 + (offset))
#define GPIOB(offset) REG(0x40020400 + (offset))
enum { MODER = 0x00, OTYPER = 0x04, PUPDR = 0x0C, IDR = 0x10, AFRL = 0x20, AFRH = 0x24 };
#define I2C1(offset) REG(0x40005400 + (offset))
enum { I2C_CR1 = 0x00, I2C_CR2 = 0x04, I2C_DR = 0x10, I2C_SR1 = 0x14, I2C_SR2 = 0x18,
       I2C_CCR = 0x1C, I2C_TRISE = 0x20 };
#define TIM2(offset) REG(0x40000000 + (offset))
enum { TIM_CR1 = 0x00, TIM_SR = 0x10, TIM_EGR = 0x14, TIM_CCMR1 = 0x18, TIM_CCER = 0x20,
       TIM_CNT = 0x24, TIM_PSC = 0x28, TIM_ARR = 0x2C, TIM_CCR1 = 0x34 };
#define UNIQUE_ID(word) REG(0x1FFF7A10 + 4 * (word))

enum { PE = 1 << 0, START = 1 << 8, STOP = 1 << 9, ACK = 1 << 10,         /* I2C_CR1 */
       SB = 1 << 0, ADDR = 1 << 1, BTF = 1 << 2, RXNE = 1 << 6, TXE = 1 << 7, AF = 1 << 10,
       TRIES = 4000 };                                                    /* about 2 ms */

/* Field of `bits` bits at `pin` of a port's register. */
static void set_field(volatile uint32_t *place, uint32_t pin, uint32_t bits, uint32_t value)
{
    uint32_t mask = ((1u << bits) - 1) << (pin * bits);
    *place = (*place & ~mask) | value << (pin * bits);
}

void bridge_init(void)
{
    RCC_AHB1ENR |= 1u << 0 | 1u << 1;               /* GPIOA, GPIOB */
    RCC_APB1ENR |= 1u << 0 | 1u << 17 | 1u << 21;   /* TIM2, USART2, I2C1 */
    barrier();
    (void)RCC_APB1ENR;
    for (uint32_t pin = 2; pin <= 3; pin++) {       /* USART2 */
        set_field(&GPIOA(AFRL), pin, 4, 7);
        set_field(&GPIOA(MODER), pin, 2, 2);
    }
    set_field(&GPIOA(PUPDR), 0, 2, 2);
    set_field(&GPIOA(AFRL), 0, 4, 1);               /* TIM2_CH1 */
    set_field(&GPIOA(MODER), 0, 2, 2);
    for (uint32_t pin = 8; pin <= 9; pin++) {       /* I2C1, open drain */
        set_field(&GPIOB(AFRH), pin - 8, 4, 4);
        set_field(&GPIOB(OTYPER), pin, 1, 1);
        set_field(&GPIOB(MODER), pin, 2, 2);
    }
    I2C1(I2C_CR2) = CLOCK_HZ / 1000000;
    I2C1(I2C_CCR) = 1u << 15 | (CLOCK_HZ + 3 * 400000 - 1) / (3 * 400000); /* fast mode */
    I2C1(I2C_TRISE) = CLOCK_HZ / 1000000 * 300 / 1000 + 1;
    I2C1(I2C_CR1) = PE;
    TIM2(TIM_PSC) = CLOCK_HZ / 1000000 - 1;
    TIM2(TIM_ARR) = 0xFFFFFFFF;
    TIM2(TIM_EGR) = 1;                              /* loads the prescaler */
    TIM2(TIM_CCMR1) = 1u << 0 | 3u << 4;            /* channel 1 captures its pin, 8 samples */
    TIM2(TIM_CCER) = 1u << 0 | 1u << 1 | 1u << 3;   /* both edges */
    TIM2(TIM_CR1) = 1;
    TIM2(TIM_SR) = 0;
}

uint32_t bridge_us(void)
{
    return TIM2(TIM_CNT);
}

int bridge_trigger(void)
{
    return GPIOA(IDR) & 1;
}

int bridge_edge(uint32_t *at_us, int *level)
{
    if (!(TIM2(TIM_SR) & 1u << 1)) {
        return 0;
    }
    *at_us = TIM2(TIM_CCR1); /* reading it clears the flag */
    *level = bridge_trigger();
    return 1;
}

static int wait_for(uint32_t flag)
{
    for (uint32_t i = 0; i < TRIES; i++) {
        uint32_t status = I2C1(I2C_SR1);
        if (status & AF) {
            break;
        }
        if (status & flag) {
            return 1;
        }
    }
    I2C1(I2C_SR1) = 0;
    I2C1(I2C_CR1) |= STOP;
    return 0;
}

/* Address the chip to be written (way 0) or read (1). The read that clears ADDR is left to the
 * caller: with one or two bytes it must come after ACK and POS are set (RM0390, 24.3.3). */
static int address_chip(uint8_t address, uint32_t way)
{
    I2C1(I2C_CR1) |= START;
    if (!wait_for(SB)) {
        return 0;
    }
    I2C1(I2C_DR) = (uint32_t)address << 1 | way;
    return wait_for(ADDR);
}

static int send_byte(uint8_t byte)
{
    I2C1(I2C_DR) = byte;
    return wait_for(BTF);
}

int bridge_i2c_write(uint8_t address, uint8_t index, const uint8_t *bytes, uint32_t count)
{
    int sent = address_chip(address, 0);
    if (sent) {
        (void)I2C1(I2C_SR2);
        sent = send_byte(index);
    }
    for (uint32_t i = 0; sent && i < count; i++) {
        sent = send_byte(bytes[i]);
    }
    if (sent) {
        I2C1(I2C_CR1) |= STOP;
    }
    return sent;
}

/* Two bytes or more. Until the last two are on their way each is acknowledged; then the clock is
 * stretched while both wait, so that the stop comes neither early nor late. */
int bridge_i2c_read(uint8_t address, uint8_t index, uint8_t *bytes, uint32_t count)
{
    if (!address_chip(address, 0)) {
        return 0;
    }
    (void)I2C1(I2C_SR2);
    if (!send_byte(index)) {
        return 0;
    }
    I2C1(I2C_CR1) |= ACK;
    if (!address_chip(address, 1)) {
        return 0;
    }
    if (count == 2) {
        I2C1(I2C_CR1) = (I2C1(I2C_CR1) & ~(uint32_t)ACK) | 1u << 11; /* POS: not the second */
    }
    (void)I2C1(I2C_SR2);
    uint32_t at = 0;
    while (count - at > 3) {
        if (!wait_for(RXNE)) {
            return 0;
        }
        bytes[at++] = (uint8_t)I2C1(I2C_DR);
    }
    if (!wait_for(BTF)) {
        return 0;
    }
    if (count - at == 3) {
        I2C1(I2C_CR1) &= ~(uint32_t)ACK;
        bytes[at++] = (uint8_t)I2C1(I2C_DR);
        if (!wait_for(BTF)) {
            return 0;
        }
    }
    I2C1(I2C_CR1) |= STOP;
    bytes[at++] = (uint8_t)I2C1(I2C_DR);
    bytes[at] = (uint8_t)I2C1(I2C_DR);
    I2C1(I2C_CR1) &= ~(1u << 11);
    return 1;
}

void bridge_rest(int asleep)
{
    (void)asleep;
}

const char *bridge_serial(void)
{
    static char text[9];
    for (uint32_t i = 0; i < 8; i++) {
        text[i] = "0123456789abcdef"[UNIQUE_ID(0) >> (28 - 4 * i) & 15];
    }
    return text;
}

int bridge_is_emulated(void)
{
    return 0;
}
