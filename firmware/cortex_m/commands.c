#include "commands.h"

#include <stddef.h>

#include "board.h"
#include "esv_runtime.h"
#include "protocol.h"

enum { LOGITS_PER_LINE = 8, MOST_TURNS = 100000000 };

static struct {
    protocol_line line;
    esv_program program;
    board_image image;
    const char *refused;   /* why the program cannot run, NULL when it can */
    uint32_t number;       /* of the request being answered */
    uint32_t loaded_bytes; /* of the input, from its start, since the last run */
    uint32_t turns;        /* of `loop` */
    uint32_t answered;     /* the `infer` whose logits still lie in the arena, 0 for none */
    uint64_t ticks;        /* of that run */
    esv_status status;     /* of the last run or check */
} board;

static void error(const char *word, const char *text)
{
    reply_error(board.number, word, text);
}

/* Tells the host that the request arrived and that the answer takes as long as the work. */
static void running(void)
{
    reply_begin(board.number, "running");
    reply_end();
}

static void hello(const char *arguments)
{
    board_memory memory = board_memory_now();
    (void)arguments;
    reply_begin(board.number, "hello");
    reply_count("protocol", PROTOCOL_VERSION);
    reply_pair("firmware", BOARD_FIRMWARE);
    reply_pair("board", BOARD_NAME);
    reply_hex32("model", board.program.crc);
    reply_count("T", board.program.time_steps);
    reply_count("input", board.program.input_bytes);
    reply_count("classes", board.program.classes);
    reply_count("arena", board.program.arena_bytes);
    reply_pair("timer", board_timer());
    reply_count("stack_free", memory.stack_bytes - memory.stack_used_bytes);
    reply_end();
    reply_ready(board.number);
}

static void load(const char *arguments)
{
    uint8_t bytes[PROTOCOL_DATA_BYTES];
    uint32_t offset;
    int32_t count;
    if (!protocol_number(&arguments, &offset) ||
        (count = protocol_hex(arguments, bytes, sizeof bytes)) <= 0) {
        error("argument", "load OFFSET HEX, at most 128 bytes");
        return;
    }
    if (offset > board.program.input_bytes ||
        (uint32_t)count > board.program.input_bytes - offset) {
        error("range", "past the end of the input");
        return;
    }
    if (offset != 0 && offset > board.loaded_bytes) {
        error("range", "leaves a gap before OFFSET");
        return;
    }
    uint8_t *input = esv_input(&board.program, board.image.arena);
    for (int32_t i = 0; i < count; i++) {
        input[offset + i] = bytes[i];
    }
    if (offset == 0 || offset + count > board.loaded_bytes) {
        board.loaded_bytes = offset + count;
    }
    board.answered = 0;
    reply_ready(board.number);
}

static void run(void)
{
    board.status = esv_run(&board.program, board.image.arena);
}

static void send_logits(void)
{
    const int32_t *logits = esv_logits(&board.program, board.image.arena); /* (classes,) */
    for (uint32_t i = 0; i < board.program.classes; i++) {
        if (i % LOGITS_PER_LINE == 0) {
            reply_begin(board.number, "logits");
            reply_unsigned(i);
        }
        reply_signed(logits[i]);
        if (i % LOGITS_PER_LINE == LOGITS_PER_LINE - 1 || i + 1u == board.program.classes) {
            reply_end();
        }
    }
}

static void infer(const char *arguments)
{
    (void)arguments;
    /* The same number again: the answer was lost on the way, and the logits are still there. */
    if (board.number == 0 || board.number != board.answered) {
        if (board.loaded_bytes != board.program.input_bytes) {
            error("input", "load the whole input before each infer");
            return;
        }
        running();
        board.loaded_bytes = 0;
        board.answered = 0;
        board.ticks = board_measure(run);
        if (board.status != ESV_OK) {
            error("program", esv_status_text(board.status));
            return;
        }
        board.answered = board.number;
    }
    send_logits();
    reply_begin(board.number, "ticks");
    reply_unsigned(board.ticks);
    reply_end();
    reply_ready(board.number);
}

static void check(const char *arguments)
{
    const char *result = "none";
    (void)arguments;
    running();
    board.loaded_bytes = 0;
    board.answered = 0;
    board.status = esv_check(&board.program, board.image.arena);
    if (esv_check_input(&board.program) != NULL) {
        result = board.status == ESV_OK ? "pass" : "fail";
    }
    reply_begin(board.number, "check");
    reply_word(result);
    reply_end();
    reply_ready(board.number);
}

static void spin(void)
{
    board_spin(board.turns);
}

static void loop(const char *arguments)
{
    if (!protocol_number(&arguments, &board.turns) || board.turns == 0 ||
        board.turns > MOST_TURNS) {
        error("argument", "loop N, from 1 to 100000000");
        return;
    }
    running();
    uint64_t ticks = board_measure(spin);
    reply_begin(board.number, "ticks");
    reply_unsigned(ticks);
    reply_end();
    reply_ready(board.number);
}

static void memory(const char *arguments)
{
    board_memory now = board_memory_now();
    (void)arguments;
    reply_begin(board.number, "memory");
    reply_count("code", now.code_bytes);
    reply_count("weights", now.weights_bytes);
    reply_count("data", now.data_bytes);
    reply_count("arena", now.arena_bytes);
    reply_count("arena_used", now.arena_used_bytes);
    reply_count("stack", now.stack_bytes);
    reply_count("stack_used", now.stack_used_bytes);
    reply_end();
    reply_ready(board.number);
}

static void help(const char *arguments);

static const struct {
    const char *name;
    int needs_program;
    void (*answer)(const char *arguments);
    const char *help;
} commands[] = {
    {"hello", 1, hello, "who this board is and what it runs"},
    {"load", 1, load, "OFFSET HEX: put up to 128 input bytes at OFFSET"},
    {"infer", 1, infer, "run the loaded input: class scores and timer ticks"},
    {"check", 1, check, "run the self-check vector of the program"},
    {"loop", 0, loop, "N: timer ticks of 2 N instructions"},
    {"memory", 0, memory, "bytes linked and bytes used"},
    {"help", 0, help, "this list"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void help(const char *arguments)
{
    (void)arguments;
    for (uint32_t i = 0; i < COMMANDS; i++) {
        reply_begin(board.number, "help");
        reply_word(commands[i].name);
        reply_word(commands[i].help);
        reply_end();
    }
    reply_ready(board.number);
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static void answer(void)
{
    protocol_request request;
    protocol_status status = protocol_parse(&board.line, &request);
    board.number = request.number;
    if (status == PROTOCOL_EMPTY) {
        return;
    }
    if (status != PROTOCOL_REQUEST) {
        board.number = 0; /* a number that failed its checksum names nobody */
        error(status == PROTOCOL_TOO_LONG ? "toolong" : "checksum", "not executed, send it again");
        return;
    }
    for (uint32_t i = 0; i < COMMANDS; i++) {
        if (!same(request.command, commands[i].name)) {
            continue;
        }
        if (commands[i].needs_program && board.refused) {
            error("program", board.refused);
        } else {
            commands[i].answer(request.arguments);
        }
        return;
    }
    error("unknown", "try help");
}

void commands_start(void)
{
    board.image = board_load();
    esv_status status = esv_open(&board.program, board.image.program, board.image.program_bytes);
    if (status != ESV_OK) {
        board.refused = esv_status_text(status);
    } else if (board.program.arena_bytes > board.image.arena_bytes) {
        board.refused = "needs a larger arena than was linked";
    }
    reply_begin(0, "boot");
    reply_word(BOARD_NAME);
    reply_end();
}

void commands_byte(uint8_t byte)
{
    if (protocol_push(&board.line, byte)) {
        answer();
    }
}

uint32_t commands_number(void)
{
    return board.number;
}
