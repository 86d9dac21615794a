#include "mlperf.h"

#include <stddef.h>
#include <string.h>

#include "protocol.h"
#include "work.h"

enum { DEFAULT_WARMUPS = 10, BYTES_PER_LINE = 8, MOST_RUNS = 1000000 };

static uint32_t expected_bytes; /* of the `db load` going on, 0 for none */
static uint32_t received_bytes;

static void put(const char *text)
{
    while (*text) {
        protocol_put((uint8_t)*text++);
    }
}

static void put_number(int64_t value)
{
    char text[DECIMAL_BYTES];
    put(decimal(value, text));
}

static void line(const char *before, int64_t value, const char *after)
{
    put(before);
    put_number(value);
    put(after);
    put("\r\n");
}

/* Microseconds that the board spent on runs since boot: the clock stands still between them. */
static void lap(void)
{
    line("m-lap-us-", (int64_t)(work.all_ticks * 1000000 / board_ticks_hz()), "");
}

static void refuse(const char *why, const char *what)
{
    put("e-[");
    put(why);
    put(what);
    put("]\r\n");
}

static void name(const char *arguments)
{
    (void)arguments;
    put("m-name-dut-[edgesvit-" BOARD_NAME "]\r\n");
}

/* Only a task of the benchmark has one of its model names: this is image classification. */
static void profile(const char *arguments)
{
    (void)arguments;
    put("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\n");
    put(work.program.input_bytes == 32 * 32 * 3 && work.program.classes == 10
            ? "m-model-[ic01]\r\n" : "m-model-[edgesvit]\r\n");
}

static void timestamp(const char *arguments)
{
    (void)arguments;
    board_pulse();
    lap();
}

static void results(const char *arguments)
{
    const int32_t *logits = esv_logits(&work.program, work.image.arena); /* (classes,) */
    (void)arguments;
    put("m-results-[");
    for (uint32_t i = 0; i < work.program.classes; i++) {
        put(i ? "," : "");
        put_number(logits[i]);
    }
    put("]\r\n");
}

static void take_bytes(const char *hex)
{
    uint8_t bytes[PROTOCOL_LINE_BYTES / 2];
    int32_t count = protocol_hex(hex, bytes, sizeof bytes);
    if (count <= 0 || expected_bytes == 0) {
        refuse("db: no hex bytes, or none expected: ", hex);
        return;
    }
    if ((uint32_t)count > expected_bytes - received_bytes) { /* what is over does not count */
        count = (int32_t)(expected_bytes - received_bytes);
    }
    work_load(received_bytes, bytes, (uint32_t)count);
    received_bytes += (uint32_t)count;
    if (received_bytes == expected_bytes) {
        expected_bytes = 0;
        put("m-load-done\r\n");
    }
}

static void print_bytes(void)
{
    const uint8_t *bytes = work_input();
    for (uint32_t i = 0; i < work.program.input_bytes; i++) {
        put(i % BYTES_PER_LINE ? "" : "m-buffer");
        protocol_put('-');
        protocol_put((uint8_t)"0123456789abcdef"[bytes[i] >> 4]);
        protocol_put((uint8_t)"0123456789abcdef"[bytes[i] & 15]);
        put(i % BYTES_PER_LINE == BYTES_PER_LINE - 1 || i + 1 == work.program.input_bytes
                ? "\r\n" : "");
    }
}

static void data(const char *arguments)
{
    uint32_t count;
    const char *number = arguments + 5;
    if (strncmp(arguments, "load ", 5) == 0 && protocol_number(&number, &count)) {
        if (count != work.program.input_bytes) {
            refuse("db load: the input of the program has another size than ", arguments + 5);
            return;
        }
        expected_bytes = count;
        received_bytes = 0;
        line("m-[Expecting ", count, " bytes]");
    } else if (strcmp(arguments, "print") == 0) {
        print_bytes();
    } else {
        take_bytes(arguments);
    }
}

static int runs(uint32_t turns)
{
    if (turns && work_run(turns, 1) != ESV_OK) {
        refuse("infer: ", esv_status_text(work.status));
        return 0;
    }
    return 1;
}

static void infer(const char *arguments)
{
    uint32_t turns = 1, warmups = DEFAULT_WARMUPS;
    if ((*arguments && !protocol_number(&arguments, &turns)) || turns == 0 || turns > MOST_RUNS ||
        (*arguments && !protocol_number(&arguments, &warmups)) || warmups > MOST_RUNS) {
        refuse("infer N W: ", arguments);
        return;
    }
    if (!work.kept && work.loaded_bytes != work.program.input_bytes) {
        refuse("infer: ", "no complete db load before it");
        return;
    }
    if (!work_keeps_input() && turns + warmups > 1) {
        refuse("infer: ", "no room to keep the input: infer 1 0");
        return;
    }
    line("m-warmup-start-", warmups, "");
    if (!runs(warmups)) {
        return;
    }
    put("m-warmup-done\r\n");
    line("m-infer-start-", turns, "");
    lap(); /* told before the pulse: the line is not sent while a meter counts */
    board_pulse();
    if (!runs(turns)) {
        return;
    }
    board_pulse();
    lap();
    put("m-infer-done\r\n");
    results("");
}

static void help(const char *arguments);

static const struct {
    const char *name;
    int needs_program;
    void (*answer)(const char *arguments);
    const char *help;
} commands[] = {
    {"name", 0, name, "who this board is"},
    {"profile", 1, profile, "protocol version and model"},
    {"timestamp", 0, timestamp, "microseconds of all runs so far"},
    {"db", 1, data, "load N, then db HEX: an input; print: show it"},
    {"infer", 1, infer, "N W: W runs to warm up (10), then N timed ones"},
    {"results", 1, results, "class scores of the last run"},
    {"help", 0, help, "this list"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(const char *arguments)
{
    (void)arguments;
    for (uint32_t i = 0; i < COMMANDS; i++) {
        put("m-[");
        put(commands[i].name);
        put("%: ");
        put(commands[i].help);
        put("]\r\n");
    }
}

void mlperf_answer(char *text)
{
    size_t length = strcspn(text, " ");
    const char *arguments = text[length] ? text + length + 1 : text + length;
    uint32_t i = 0;
    text[length] = 0;
    while (i < COMMANDS && strcmp(text, commands[i].name) != 0) {
        i++;
    }
    if (i == COMMANDS) {
        refuse("Unknown command: ", text);
    } else if (commands[i].needs_program && work.refused) {
        refuse("program: ", work.refused);
    } else {
        commands[i].answer(arguments);
    }
    put("m-ready\r\n");
}
