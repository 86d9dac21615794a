/* Runs one head of attention, as a program to count instructions of.
 *
 *     attention ours|quadratic|linear TOKENS DIM TIME_STEPS RATE SOURCE RUNS
 *
 * Prints how many outputs differ from the definition.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"

int main(int argc, char **argv)
{
    static const char *const programs[] = {"ours", "quadratic", "linear"};
    uint32_t n[6], program = 0;
    if (argc != 8) {
        return 2;
    }
    for (int i = 0; i < 6; i++) {
        n[i] = (uint32_t)atoi(argv[2 + i]);
    }
    while (program < 3 && strcmp(argv[1], programs[program]) != 0) {
        program++;
    }
    head_open(n[0], n[1], n[2], n[3], n[4]);
    for (uint32_t i = 0; i < n[5]; i++) {
        head_run(program);
    }
    printf("%u\n", (unsigned)head_mismatches());
    return 0;
}
