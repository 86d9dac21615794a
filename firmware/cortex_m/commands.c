#include "commands.h"

#include <stddef.h>
#include <string.h>

#include "mlperf.h"
#include "protocol.h"
#include "work.h"

enum { LOGITS_PER_LINE = 8, MOST_TURNS = 100000000 };

static struct {
    protocol_line line;
    uint32_t number;   /* of the request being answered */
    uint32_t turns;    /* of `loop` */
    uint32_t answered; /* the run whose logits still lie in the arena, 0 for none */
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
    reply_hex32("model", work.program.crc);
    reply_count("T", work.program.time_steps);
    reply_count("input", work.program.input_bytes);
    reply_count("classes", work.program.classes);
    reply_count("arena", work.program.arena_bytes);
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
    const char *why = work_load(offset, bytes, (uint32_t)count);
    if (why) {
        error("range", why);
        return;
    }
    board.answered = 0;
    reply_ready(board.number);
}

static void send_logits(void)
{
    const int32_t *logits = esv_logits(&work.program, work.image.arena); /* (classes,) */
    for (uint32_t i = 0; i < work.program.classes; i++) {
        if (i % LOGITS_PER_LINE == 0) {
            reply_begin(board.number, "logits");
            reply_unsigned(i);
        }
        reply_signed(logits[i]);
        if (i % LOGITS_PER_LINE == LOGITS_PER_LINE - 1 || i + 1u == work.program.classes) {
            reply_end();
        }
    }
}

static void send_result(int with_logits)
{
    if (with_logits) {
        send_logits();
    }
    reply_begin(board.number, "ticks");
    reply_unsigned(work.ticks);
    reply_end();
    reply_ready(board.number);
}

/* The answer was lost on the way: what it said is still there. */
static int is_repeated(void)
{
    return board.number != 0 && board.number == board.answered;
}

/* Run the loaded input `turns` times, unless this number was answered before. */
static void answer_run(uint32_t turns)
{
    if (!is_repeated()) {
        running();
        board.answered = 0;
        if (work_run(turns, 0) != ESV_OK) {
            error("program", esv_status_text(work.status));
            return;
        }
        board.answered = board.number;
    }
    send_result(1);
}

static void infer(const char *arguments)
{
    (void)arguments;
    if (!is_repeated() && work.loaded_bytes != work.program.input_bytes) {
        error("input", "load the whole input before each infer");
        return;
    }
    answer_run(1);
}

static void repeat(const char *arguments)
{
    uint32_t turns;
    if (!protocol_number(&arguments, &turns) || turns == 0 || turns > MOST_TURNS) {
        error("argument", "repeat N, from 1 to 100000000");
    } else if (!work_keeps_input()) {
        error("memory", "no room behind the arena to keep the input");
    } else if (!is_repeated() && !work.kept) {
        error("input", "load the whole input before the first repeat");
    } else {
        answer_run(turns);
    }
}

/* Whether step N may run: the first after a whole load, or the one behind the last. */
static int is_next(uint32_t first)
{
    return work.loaded_bytes ? first == 0 && work.loaded_bytes == work.program.input_bytes
                             : first == work.step && first < work.program.operators && first > 0;
}

static void step(const char *arguments)
{
    uint32_t first;
    if (!protocol_number(&arguments, &first)) {
        error("argument", "step N, the operator at which it begins");
        return;
    }
    if (!is_repeated()) {
        if (!is_next(first)) {
            error("input", "load the whole input, then step 0, then what each step tells");
            return;
        }
        running();
        work_step();
        board.answered = board.number;
    }
    reply_begin(board.number, "step");
    reply_unsigned(work.step);
    reply_end();
    send_result(work.step == work.program.operators);
}

static void check(const char *arguments)
{
    const char *result = "none";
    (void)arguments;
    running();
    board.answered = 0;
    work_check();
    if (esv_check_input(&work.program) != NULL) {
        result = work.status == ESV_OK ? "pass" : "fail";
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
    uint64_t ticks = board_measure(spin, 0);
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
    reply_count("unpacked", work.unpacked_bytes);
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
    {"repeat", 1, repeat, "N: run the last loaded input N times"},
    {"step", 1, step, "N: run the loaded input up to the next operator alone"},
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
        if (strcmp(request.command, commands[i].name) != 0) {
            continue;
        }
        if (commands[i].needs_program && work.refused) {
            error("program", work.refused);
        } else {
            commands[i].answer(request.arguments);
        }
        return;
    }
    error("unknown", "try help");
}

void commands_start(void)
{
    work_open();
    reply_begin(0, "boot");
    reply_word(BOARD_NAME);
    reply_end();
}

void commands_byte(uint8_t byte)
{
    int ended = protocol_push(&board.line, byte);
    if (ended == PROTOCOL_LINE_ENDED) {
        answer();
    } else if (ended == PROTOCOL_MLPERF_ENDED) {
        board.answered = 0; /* its runs write over the logits */
        mlperf_answer(board.line.text);
    }
}

uint32_t commands_number(void)
{
    return board.number;
}
