/* Runs one layer, as a program to count instructions of.
 *
 *     spike_layer ours|dense SIDE CHANNELS OUT_CHANNELS KERNEL TIME_STEPS RATE SOURCE BITS RUNS
 *                 [CODES]
 *
 * Prints three numbers: of outputs that differ from the definition, of inputs that fire in a step,
 * and of inputs that fire in any step, both in parts per million. CODES is a file of recorded codes.
 * Bare metal gets its words from the emulator, through Arm's semihosting; it takes no file.
 */
#include <stdlib.h>
#include <string.h>

#include "layer.h"

#define WORDS 11

static int read_codes(const char *path, uint8_t *codes, size_t count);

/* Writes the three numbers to `answer`; returns 0 when the words make no sense. Not inlined: bare
 * metal must not use a vector register before it has switched them on. */
static __attribute__((noinline)) int run(int count, char **words, uint32_t *answer)
{
    uint32_t n[WORDS - 2];
    for (int i = 2; i < count && i < WORDS; i++) {
        n[i - 2] = (uint32_t)atoi(words[i]);
    }
    if (count < WORDS) {
        return 0;
    }
    uint32_t bench = bench_open(&(layer_shape){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]});
    if (n[6] == RECORDED &&
        (count == WORDS || !read_codes(words[WORDS], bench_codes(bench), n[0] * n[0] * n[1]))) {
        return 0;
    }
    for (uint32_t i = 0; i < n[8]; i++) {
        if (strcmp(words[1], "ours") == 0) {
            bench_ours(bench);
        } else {
            bench_dense(bench);
        }
    }
    answer[0] = bench_mismatches(bench);
    answer[1] = bench_rate(bench, 0);
    answer[2] = bench_rate(bench, 1);
    return 1;
}

#if !defined __ARM_ARCH_PROFILE || __ARM_ARCH_PROFILE != 'M'
#include <stdio.h>

static int read_codes(const char *path, uint8_t *codes, size_t count)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        return 0;
    }
    size_t got = fread(codes, 1, count, file);
    fclose(file);
    return got == count;
}

int main(int argc, char **argv)
{
    uint32_t answer[3];
    if (!run(argc, argv, answer)) {
        return 2;
    }
    printf("%u %u %u\n", (unsigned)answer[0], (unsigned)answer[1], (unsigned)answer[2]);
    return 0;
}
#else

enum { SYS_WRITE0 = 4, SYS_GET_CMDLINE = 0x15, SYS_EXIT_EXTENDED = 0x20 };
#define APPLICATION_EXIT 0x20026u
#define CPACR (*(volatile uint32_t *)0xE000ED88)

extern char link_stack_end[];

static int read_codes(const char *path, uint8_t *codes, size_t count)
{
    (void)path, (void)codes, (void)count;
    return 0;
}

static void host(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void leave(uint32_t status)
{
    uint32_t block[2] = {APPLICATION_EXIT, status};
    host(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

static void print(uint32_t number)
{
    char text[12], *at = text + sizeof text;
    *--at = 0;
    *--at = ' ';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    host(SYS_WRITE0, at);
}

static void fault(void)
{
    leave(3);
}

void Reset_Handler(void)
{
    CPACR |= 0xFu << 20; /* floating point, and vectors */
    __asm volatile("dsb\nisb");
    static char line[256];
    char *words[WORDS + 1], *next = line;
    uint32_t answer[3], block[2] = {(uint32_t)line, sizeof line};
    host(SYS_GET_CMDLINE, block);
    int count = 0;
    for (char *word; count <= WORDS && (word = strtok(next, " ")); next = NULL) {
        words[count++] = word;
    }
    if (!run(count, words, answer)) {
        leave(2);
    }
    for (int i = 0; i < 3; i++) {
        print(answer[i]);
    }
    leave(0);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[8] = {
    link_stack_end, (void *)Reset_Handler, (void *)fault, (void *)fault,
    (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
#endif
