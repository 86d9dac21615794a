/* Mutates an .esv file again and again and gives every mutant to the loader; what the loader takes
 * is run. Built with AddressSanitizer and UndefinedBehaviorSanitizer: a bad access ends it.
 *
 *     fuzz_loader PROGRAM.esv COUNT SEED     ->  accepted=N refused=N
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "esv_format.h"
#include "esv_runtime.h"

#define MAX_ARENA (64u << 20)

static uint64_t state;

static uint32_t random32(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

/* Mostly the header and the tables, where the damage can do harm; sometimes the constants. */
static void mutate(uint8_t *file, uint32_t bytes, uint32_t tables)
{
    static const uint32_t interesting[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0xfffe, 0xffff, 0x7fffffff,
                                           0x80000000, 0xffffffff, 0x10000, 16, 64};
    for (uint32_t n = 1 + random32() % 4; n; n--) {
        uint32_t at = random32() % (random32() % 4 ? tables : bytes);
        if (random32() % 2 && at + 4 <= bytes) {
            uint32_t pick = random32() % (sizeof interesting / sizeof *interesting);
            put32(file + (at & ~3u), interesting[pick]);
        } else {
            file[at] ^= (uint8_t)(1u << random32() % 8);
        }
    }
}

static int try_mutant(const uint8_t *original, uint32_t bytes, uint32_t tables)
{
    /* Cut at the end of the allocation, so that one byte too far is seen. */
    uint32_t kept = random32() % 8 ? bytes : random32() % (bytes + 1);
    uint8_t *file = aligned_alloc(16, (bytes + 15u) & ~15u);
    uint8_t *exact;
    memcpy(file, original, bytes);
    mutate(file, bytes, tables);
    if (random32() % 16 && kept >= ESV_HEADER_BYTES) {
        uint32_t said = random32() % 8 ? kept : random32();
        put32(file + 8, said);
        uint32_t covered = said < kept ? said : kept;
        if (covered > ESV_CRC_FROM) {
            put32(file + 12, esv_crc32(file + ESV_CRC_FROM, covered - ESV_CRC_FROM));
        }
    }
    exact = malloc(kept ? kept : 1);
    memcpy(exact, file, kept);
    free(file);
    esv_program program;
    int accepted = esv_open(&program, exact, kept) == ESV_OK;
    if (accepted && program.arena_bytes <= MAX_ARENA) {
        uint8_t *arena = malloc(program.arena_bytes);
        memset(arena, 0xA5, program.arena_bytes);
        memset(esv_input(&program, arena), 200, program.input_bytes);
        esv_run(&program, arena);
        esv_check(&program, arena);
        volatile int32_t sum = 0;
        for (uint32_t i = 0; i < program.classes; i++) {
            sum = (int32_t)((uint32_t)sum + (uint32_t)esv_logits(&program, arena)[i]);
        }
        free(arena);
    }
    free(exact);
    return accepted;
}

int main(int argc, char **argv)
{
    FILE *in = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!in) {
        return 2;
    }
    static uint8_t original[1 << 20];
    uint32_t bytes = (uint32_t)fread(original, 1, sizeof original, in);
    fclose(in);
    esv_header header = esv_read_header(original);
    uint32_t tables = header.ops_at + header.ops * ESV_OP_BYTES;
    state = strtoull(argv[3], NULL, 0) * 2654435761u + 88172645463325252ull;
    int count = atoi(argv[2]), accepted = 0;
    for (int i = 0; i < count; i++) {
        accepted += try_mutant(original, bytes, tables);
    }
    printf("accepted=%d refused=%d\n", accepted, count - accepted);
    return 0;
}
