/* Counts processor clock ticks: the DWT cycle counter where it counts, else SysTick. */
#ifndef ESV_TIMER_H
#define ESV_TIMER_H

#include <stdint.h>

/* Find out which counter counts. */
void timer_init(void);

/* "dwt" or "systick" */
const char *timer_name(void);

/* Start from zero, always in the same phase, so that equal work takes equal ticks. */
void timer_start(void);

/* Stop; the ticks since timer_start. */
uint64_t timer_stop(void);

void SysTick_Handler(void);

#endif
