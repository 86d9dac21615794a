/* The board's commands, protocol and runtime on the host, talking over stdin and stdout. */
#include <stdio.h>
#include <stdlib.h>

#include "board.h"
#include "commands.h"
#include "protocol.h"

static board_image image;
static uint32_t spun;

void protocol_put(uint8_t byte)
{
    putchar(byte);
    if (byte == '\n') {
        fflush(stdout);
    }
}

board_image board_load(void)
{
    return image;
}

board_memory board_memory_now(void)
{
    return (board_memory){1000, image.program_bytes, 100, image.arena_bytes, 0, 8192, 512};
}

uint32_t board_ticks_hz(void)
{
    return 1000000;
}

void board_pulse(void)
{
}

uint64_t board_measure(void (*work)(void), int quiet)
{
    (void)quiet;
    spun = 0;
    work();
    return 1000u + 4u * spun;
}

void board_spin(uint32_t turns)
{
    spun = turns;
}

const char *board_timer(void)
{
    return "systick";
}

/* As much memory behind the arena as the test says, 64 KiB unless it does. */
static uint32_t program_spare(void)
{
    const char *said = getenv("HOST_BOARD_SPARE");
    return said ? (uint32_t)strtoul(said, NULL, 10) : 65536;
}

/* host_board PROGRAM.esv ARENA_BYTES: both in blocks of exactly their size, so that a sanitizer
 * sees the first byte outside. */
int main(int count, char **arguments)
{
    FILE *file = count == 3 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fseek(file, 0, SEEK_END)) {
        return 2;
    }
    long size = ftell(file);
    uint8_t *program = aligned_alloc(16, (size_t)size);
    image.arena_bytes = (uint32_t)strtoul(arguments[2], NULL, 10);
    image.arena = aligned_alloc(16, image.arena_bytes);
    rewind(file);
    image.spare_bytes = program_spare();
    image.spare = malloc(image.spare_bytes + 1);
    if (!program || !image.arena || !image.spare || fread(program, 1, (size_t)size, file) != (size_t)size) {
        return 2;
    }
    fclose(file);
    image.program = program;
    image.program_bytes = (uint32_t)size;
    commands_start();
    for (int byte; (byte = getchar()) != EOF;) {
        commands_byte((uint8_t)byte);
    }
    free(program);
    free(image.arena);
    free(image.spare);
    return 0;
}
