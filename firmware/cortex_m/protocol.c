#include "protocol.h"

#include <stddef.h>

/* ---- requests ---- */

uint16_t protocol_crc16(uint16_t crc, uint8_t byte)
{
    crc = (uint16_t)(crc ^ (byte << 8));
    for (int bit = 0; bit < 8; bit++) {
        crc = (uint16_t)((crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

/* Whether a line may still be one of MLPerf Tiny's: a host's line with a flipped byte is not. */
static int is_plain(const protocol_line *line)
{
    for (uint32_t i = 0; i < line->length; i++) {
        if (line->text[i] == '#' || line->text[i] == '~') {
            return 0;
        }
    }
    return !line->dropped;
}

int protocol_push(protocol_line *line, uint8_t byte)
{
    if (line->ended) {
        line->length = 0;
        line->dropped = 0;
        line->ended = 0;
    }
    if (byte == '\n' || byte == '\r') {
        line->text[line->length] = 0;
        line->ended = PROTOCOL_LINE_ENDED;
    } else if (byte == '%' && is_plain(line)) {
        line->text[line->length] = 0;
        line->ended = PROTOCOL_MLPERF_ENDED;
    } else if (byte == '\b' || byte == 0x7F) { /* a person corrects a typing mistake */
        line->length -= line->length > 0;
    } else if (line->length < PROTOCOL_LINE_BYTES) {
        line->text[line->length++] = (char)byte;
    } else {
        line->dropped += line->dropped < UINT32_MAX;
    }
    return line->ended;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

static void skip_blanks(const char **cursor)
{
    while (**cursor == ' ') {
        (*cursor)++;
    }
}

/* The line is `body ~CRC`: check it, cut it off, return 1. */
static int take_checksum(char *text, uint32_t length)
{
    uint16_t crc = 0xFFFF, sent = 0;
    if (length < 6 || text[length - 6] != ' ' || text[length - 5] != '~') {
        return 0;
    }
    for (uint32_t i = length - 4; i < length; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0) {
            return 0;
        }
        sent = (uint16_t)(sent << 4 | digit);
    }
    for (uint32_t i = 0; i < length - 6; i++) {
        crc = protocol_crc16(crc, (uint8_t)text[i]);
    }
    text[length - 6] = 0;
    return crc == sent;
}

/* Cut the line at its first blank: command and arguments. */
static void split(char *text, protocol_request *request)
{
    request->command = text;
    while (*text && *text != ' ') {
        text++;
    }
    if (*text) {
        *text++ = 0;
    }
    request->arguments = text;
    skip_blanks(&request->arguments);
}

protocol_status protocol_parse(protocol_line *line, protocol_request *request)
{
    const char *body = line->text;
    int numbered = 0;
    *request = (protocol_request){0, "", ""};
    if (line->dropped) {
        return PROTOCOL_TOO_LONG;
    }
    /* A host's line that lost its `#` still carries its `~`: it must not pass for a typed one. */
    for (uint32_t i = 0; i < line->length; i++) {
        if (line->text[i] == 0) {
            return PROTOCOL_CHECKSUM;
        }
        numbered |= line->text[i] == '~' || line->text[i] == '#';
    }
    if (numbered) {
        if (!take_checksum(line->text, line->length) || *body++ != '#') {
            return PROTOCOL_CHECKSUM;
        }
        if (!protocol_number(&body, &request->number) || request->number == 0) {
            return PROTOCOL_CHECKSUM;
        }
    }
    skip_blanks(&body);
    if (*body == 0) {
        return numbered ? PROTOCOL_CHECKSUM : PROTOCOL_EMPTY;
    }
    split(line->text + (body - line->text), request);
    return PROTOCOL_REQUEST;
}

int protocol_number(const char **cursor, uint32_t *value)
{
    const char *text = *cursor;
    uint32_t number = 0;
    while (*text >= '0' && *text <= '9') {
        uint32_t digit = (uint32_t)(*text++ - '0');
        if (number > (UINT32_MAX - digit) / 10) {
            return 0;
        }
        number = number * 10 + digit;
    }
    if (text == *cursor || (*text && *text != ' ')) {
        return 0;
    }
    skip_blanks(&text);
    *cursor = text;
    *value = number;
    return 1;
}

int32_t protocol_hex(const char *text, uint8_t *bytes, uint32_t capacity)
{
    uint32_t count = 0;
    for (; *text; text += 2) {
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0 || count == capacity) {
            return -1;
        }
        bytes[count++] = (uint8_t)(high << 4 | low);
    }
    return (int32_t)count;
}

/* ---- replies: sent as they are made, so that no buffer holds a line ---- */

static uint16_t reply_crc;

static void put(char byte)
{
    reply_crc = protocol_crc16(reply_crc, (uint8_t)byte);
    protocol_put((uint8_t)byte);
}

static void put_text(const char *text)
{
    while (*text) {
        put(*text++);
    }
}

const char *decimal(int64_t value, char text[DECIMAL_BYTES])
{
    char *at = text + DECIMAL_BYTES - 1;
    uint64_t rest = value < 0 ? 0u - (uint64_t)value : (uint64_t)value;
    *at = 0;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (value < 0) {
        *--at = '-';
    }
    return at;
}

static void put_number(int64_t value)
{
    char text[DECIMAL_BYTES];
    put_text(decimal(value, text));
}

static void put_hex(uint32_t value, int digits)
{
    while (digits--) {
        put("0123456789abcdef"[value >> (4 * digits) & 15]);
    }
}

static void put_key(const char *key)
{
    put(' ');
    put_text(key);
    put('=');
}

void reply_begin(uint32_t number, const char *word)
{
    reply_crc = 0xFFFF;
    put('#');
    put_number(number);
    reply_word(word);
}

void reply_word(const char *word)
{
    put(' ');
    put_text(word);
}

void reply_pair(const char *key, const char *value)
{
    put_key(key);
    put_text(value);
}

void reply_count(const char *key, uint32_t value)
{
    put_key(key);
    put_number((int64_t)value);
}

void reply_hex32(const char *key, uint32_t value)
{
    put_key(key);
    put_hex(value, 8);
}

void reply_signed(int32_t value)
{
    put(' ');
    put_number(value);
}

void reply_unsigned(uint64_t value)
{
    put(' ');
    put_number((int64_t)value);
}

void reply_end(void)
{
    uint16_t crc = reply_crc; /* of everything before the blank and the `~` */
    put_text(" ~");
    put_hex(crc, 4);
    put_text("\r\n");
}

void reply_ready(uint32_t number)
{
    reply_begin(number, "ready");
    reply_end();
}

void reply_error(uint32_t number, const char *word, const char *text)
{
    reply_begin(number, "error");
    reply_word(word);
    reply_word(text);
    reply_end();
}
